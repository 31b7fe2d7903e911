//! uThreads that take turns, and fans of them, each of which leaves a record: what a park does to a VM's queues.
//!
//! Records lie where other guests put completions, which a probe does not have: `seq_plus_1` counts them, `wait` is
//! a duration in TSC ticks, `done_lo` the low word of the TSC at its end, `done_hi` says which vCPUs: bits 0-7 the
//! one where it began, 8-15 where it ended.

use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::Group;
use libos::uthread::{count_done, kernel, spawn, vcpu, yield_now};

use crate::rounds;

static RECORDS: AtomicU32 = AtomicU32::new(0);

fn record(from: u64, began_on: u32, at: u64) {
    // Relaxed: whoever has the number has the entry, until the ring comes round.
    let seq = RECORDS.fetch_add(1, Ordering::Relaxed);
    let entry = kernel().page.completion(seq);
    let took = u32::try_from(at.saturating_sub(from)).unwrap_or(u32::MAX);
    entry.wait.store(took, Ordering::Relaxed);
    entry.done_lo.store(at as u32, Ordering::Relaxed);
    entry
        .done_hi
        .store(began_on & 0xff | (vcpu() & 0xff) << 8, Ordering::Relaxed);
    // Release, last; pairs with the acquire of whoever reads the records.
    entry.seq_plus_1.store(seq.wrapping_add(1), Ordering::Release);
}

/// Works, lets the others have their turns, and records how long those took, for ever.
pub fn take_turns(work: u64) {
    loop {
        rounds::run(work, 1);
        count_done();
        let (from, on) = (libos::now(), vcpu());
        yield_now();
        record(from, on, libos::now());
    }
}

/// Starts `parts` uThreads that work, waits for all of them, and records how long it took, for ever.
pub fn fan_out(parts: u32, work: u64) {
    loop {
        let group = Group::new(parts);
        // SAFETY: all parts are waited for before the group goes.
        let of: &'static Group = unsafe { &*core::ptr::from_ref(&group) };
        let (from, on) = (libos::now(), vcpu());
        for _ in 0..parts {
            let part = move || {
                rounds::run(work, 1);
                count_done();
                of.done();
            };
            // Out of stacks: this uThread does the part itself.
            if spawn(part).is_err() {
                part();
            }
        }
        group.wait();
        record(from, on, libos::now());
    }
}
