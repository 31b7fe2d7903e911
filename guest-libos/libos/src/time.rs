//! TSC ticks, nanoseconds and stamps; sleeping.

use flux_abi::Header;

use crate::timer;
use crate::uthread::{kernel, yield_now};
use crate::vcpu::{enter, leave, Local};

/// How this machine's TSC counts.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    khz: u32,
    shift: u32,
}

impl Clock {
    pub fn new(header: &Header) -> Clock {
        // 0 would be a broken header; with 1 times are wrong, but nothing divides by 0.
        Clock {
            khz: header.tsc_khz.max(1),
            shift: header.stamp_shift,
        }
    }

    /// The 32-bit stamp of now.
    pub fn stamp(&self) -> u32 {
        self.stamp_of(arch::clock::tsc())
    }

    pub(crate) fn stamp_of(&self, tsc: u64) -> u32 {
        flux_abi::stamp(tsc, self.shift)
    }

    /// So many nanoseconds in stamps, rounded down.
    pub(crate) fn stamps(&self, ns: u64) -> u32 {
        let stamps = self.ticks(ns).checked_shr(self.shift).unwrap_or(0);
        u32::try_from(stamps).unwrap_or(u32::MAX)
    }

    /// The first stamp that is not before `tsc`: who has seen it come has seen `tsc` come.
    pub(crate) fn stamp_not_before(&self, tsc: u64) -> u32 {
        let unit = 1u64.wrapping_shl(self.shift);
        flux_abi::stamp(tsc.saturating_add(unit - 1), self.shift)
    }

    /// A quarter of the range of stamps, in ticks.
    pub(crate) fn horizon(&self) -> u64 {
        (1u64 << 30)
            .checked_shl(self.shift)
            .filter(|ticks| ticks.wrapping_shr(self.shift) == 1 << 30)
            .unwrap_or(u64::MAX)
    }

    /// The ticks of so many nanoseconds; too many of them are as many as there are.
    pub fn ticks(&self, ns: u64) -> u64 {
        let ticks = u128::from(ns) * u128::from(self.khz) / 1_000_000;
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    pub fn ns(&self, ticks: u64) -> u64 {
        let ns = u128::from(ticks) * 1_000_000 / u128::from(self.khz);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }
}

/// The TSC in so many nanoseconds, rounded up: a wait is never shorter than it was to be.
pub fn deadline_in(ns: u64) -> u64 {
    arch::clock::tsc()
        .saturating_add(kernel().clock.ticks(ns))
        .saturating_add(1)
}

/// Lets others run until the TSC has come to `deadline`; at once if it has already.
pub fn sleep_until(deadline: u64) {
    if arch::clock::tsc() >= deadline {
        return yield_now();
    }
    enter();
    // SAFETY: `critical` is set, a uThread calls this, and `Local` is not used after the sleep. Its
    // ticket is open, and it is on no list.
    unsafe {
        timer::open(Local::here());
        timer::suspend_until(deadline, timer::nothing_to_open, core::ptr::null());
        timer::close(Local::here());
    }
    leave();
}

/// Lets others run for at least so many nanoseconds.
pub fn sleep_for(ns: u64) {
    sleep_until(deadline_in(ns));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(khz: u32, shift: u32) -> Clock {
        Clock { khz, shift }
    }

    #[test]
    fn times_that_are_too_long_are_long() {
        let clock = clock(4_000_000, 8);
        assert_eq!(clock.ticks(1_000), 4_000);
        assert_eq!(clock.ns(4_000), 1_000);
        assert_eq!(clock.ticks(u64::MAX), u64::MAX);
    }

    #[test]
    fn stamps_of_deadlines_are_rounded_up() {
        let c = clock(1, 8);
        assert_eq!(c.stamp_not_before(0), 0);
        assert_eq!(c.stamp_not_before(1), 1);
        assert_eq!(c.stamp_not_before(256), 1);
        assert_eq!(c.stamp_not_before(257), 2);
        assert_eq!(clock(1, 0).stamp_not_before(77), 77);
        assert_eq!(c.horizon(), 1 << 38);
        assert_eq!(clock(1, 60).horizon(), u64::MAX, "a header out of its mind");
    }
}
