//! The time stamp counter's rate, for a process that inherits no table which says it.

use std::time::{Duration, Instant};

use handoff::linux::tsc;

/// Stamps of a private table are TSC >> this. At 2.5 GHz a stamp is 102 ns, and two stamps compare as long
/// as they are less than 219 s apart.
pub const STAMP_SHIFT: u32 = 8;

/// Measures the rate against the clock for a hundredth of a second: good to about 0.1 %.
pub fn tsc_khz() -> u32 {
    let (start, before) = (Instant::now(), tsc());
    std::thread::sleep(Duration::from_millis(10));
    let (ticks, elapsed) = (tsc().saturating_sub(before), start.elapsed());
    let khz = u128::from(ticks) * 1_000_000 / elapsed.as_nanos().max(1);
    u32::try_from(khz).unwrap_or(u32::MAX).max(1)
}
