//! How long a held lock makes no progress because its holder lost the core.
//!
//! The holder stamps the lock again and again. When the distance between two stamps is more than a
//! turn of the loop takes, the holder was off its core, or the lock was on its way to the next
//! holder. Such gaps are recorded where other guests put completions, which a probe does not have:
//! `seq_plus_1` counts them, `wait` is the gap in TSC ticks, `done` the TSC at its end.

use core::sync::atomic::Ordering;

use libos::sync::Mutex;
use libos::uthread::{count_done, kernel};

struct Progress {
    last: u64,
    gaps: u32,
}

static LOCK: Mutex<Progress> = Mutex::new(Progress { last: 0, gaps: 0 });

/// Takes the lock for `hold` ticks, lets it go, and so on. Records gaps of `least` ticks and more.
pub fn contend(hold: u64, least: u64) {
    loop {
        LOCK.with(|progress| {
            let until = libos::now().saturating_add(hold);
            loop {
                let now = libos::now();
                let gap = now.saturating_sub(progress.last);
                if progress.last != 0 && gap >= least {
                    record(progress.gaps, gap, now);
                    progress.gaps = progress.gaps.wrapping_add(1);
                }
                progress.last = now;
                if now >= until {
                    break;
                }
                core::hint::spin_loop();
            }
        });
        count_done();
    }
}

fn record(seq: u32, gap: u64, at: u64) {
    let entry = kernel().page.completion(seq);
    entry
        .wait
        .store(u32::try_from(gap).unwrap_or(u32::MAX), Ordering::Relaxed);
    entry.done_lo.store(at as u32, Ordering::Relaxed);
    entry.done_hi.store((at >> 32) as u32, Ordering::Relaxed);
    // Release, last; pairs with the acquire of whoever reads the records.
    entry.seq_plus_1.store(seq.wrapping_add(1), Ordering::Release);
}
