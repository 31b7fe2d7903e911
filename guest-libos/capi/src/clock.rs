//! Time as C programs see it.
//!
//! There is one clock, the TSC since the host was started: a VM is told of no calendar.

use core::ffi::c_int;

use libos::uthread::kernel;

use crate::errno::{by_errno, EINVAL};

const REALTIME: c_int = 0;
const MONOTONIC: c_int = 1;
const SECOND: i64 = 1_000_000_000;

/// `struct timespec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

impl Timespec {
    pub fn of(ns: u64) -> Timespec {
        Timespec {
            sec: (ns / SECOND as u64) as i64,
            nsec: (ns % SECOND as u64) as i64,
        }
    }

    /// Nanoseconds; what is before the clock's beginning is 0, what is beyond its end the end.
    pub fn ns(self) -> Result<u64, c_int> {
        if !(0..SECOND).contains(&self.nsec) {
            return Err(EINVAL);
        }
        let ns = i128::from(self.sec) * i128::from(SECOND) + i128::from(self.nsec);
        Ok(u64::try_from(ns.max(0)).unwrap_or(u64::MAX))
    }
}

/// Whether there is such a clock.
pub fn known(clock: c_int) -> Result<(), c_int> {
    match clock {
        REALTIME | MONOTONIC => Ok(()),
        _ => Err(EINVAL),
    }
}

pub fn now_ns() -> u64 {
    kernel().clock.ns(libos::now())
}

/// The TSC at the time `until` of a clock.
///
/// # Safety
/// `until` is null or points at a timespec.
pub unsafe fn deadline(clock: c_int, until: *const Timespec) -> Result<u64, c_int> {
    known(clock)?;
    // SAFETY: by the caller's promise.
    let until = unsafe { until.as_ref() }.ok_or(EINVAL)?;
    // A tick more: what is rounded down must not come before its time.
    Ok(kernel().clock.ticks(until.ns()?).saturating_add(1))
}

/// # Safety
/// `now` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_clock_gettime(clock: c_int, now: *mut Timespec) -> c_int {
    by_errno(known(clock).and_then(|()| {
        if now.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: by the caller's promise.
        unsafe { now.write(Timespec::of(now_ns())) };
        Ok(())
    }))
}

/// # Safety
/// `resolution` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_clock_getres(clock: c_int, resolution: *mut Timespec) -> c_int {
    by_errno(known(clock).map(|()| {
        if !resolution.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { resolution.write(Timespec::of(1)) };
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_checked_and_clamped() {
        let ns = |sec, nsec| Timespec { sec, nsec }.ns();
        assert_eq!(ns(2, 5), Ok(2_000_000_005));
        assert_eq!(ns(0, SECOND), Err(EINVAL));
        assert_eq!(ns(0, -1), Err(EINVAL));
        assert_eq!(ns(-1, 0), Ok(0));
        assert_eq!(ns(i64::MAX, 0), Ok(u64::MAX));
        assert_eq!(Timespec::of(3_000_000_007), Timespec { sec: 3, nsec: 7 });
    }
}
