//! What a vCPU's time went into, and what its uThreads waited for: counters in its own lines.
//!
//! All of it is free-running and written by this vCPU alone. One look at the TSC in each pass of the
//! scheduler serves all: the accounts, the stamps of what is put into the queue, and the search for
//! timers that are due.

use core::sync::atomic::{AtomicU32, Ordering};

use arch::clock::tsc;
use flux_abi::GUEST_SCHEDULING;

use crate::vcpu::Local;

/// Adds to a counter that only this vCPU writes.
pub(crate) fn count(counter: &AtomicU32, by: u32) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

/// As [`count`], for one in two words. Who reads it reads them one after the other, and may be off
/// by a carry for a moment.
fn count_long(lo: &AtomicU32, hi: &AtomicU32, by: u64) {
    let old = u64::from(lo.load(Ordering::Relaxed)) | u64::from(hi.load(Ordering::Relaxed)) << 32;
    let new = old.wrapping_add(by);
    lo.store(new as u32, Ordering::Relaxed);
    if (old ^ new) >> 32 != 0 {
        hi.store((new >> 32) as u32, Ordering::Relaxed);
    }
}

impl Local {
    /// Looks at the TSC; this is what [`Local::now`] says until the next look.
    pub(crate) fn look_at_clock(&self) -> u64 {
        let now = tsc();
        self.now.set(now);
        now
    }

    /// The TSC in this pass of the scheduler.
    pub(crate) fn now(&self) -> u64 {
        self.now.get()
    }

    /// A uThread that became runnable at `ready`, a stamp, is what runs here from now on.
    pub(crate) fn account_begin(&self, ready: u32) {
        self.began.set(self.now());
        let stamp = self.kernel().clock.stamp_of(self.now());
        // It may have been put into the queue by another vCPU a moment later.
        let waited = (stamp.wrapping_sub(ready) as i32).max(0);
        count_long(&self.guest.waited_lo, &self.guest.waited_hi, waited as u64);
    }

    /// It has left. The time that the vCPU was held in between is in it.
    pub(crate) fn account_end(&self) {
        let ran = self.look_at_clock().saturating_sub(self.began.get());
        count_long(&self.guest.ran_lo, &self.guest.ran_hi, ran);
    }

    /// The vCPU has found something to do, or gives its core back.
    pub(crate) fn idle_over(&self, since: &mut Option<u64>) {
        if let Some(since) = since.take() {
            let idle = self.look_at_clock().saturating_sub(since);
            count_long(&self.guest.spin_lo, &self.guest.spin_hi, idle);
            self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
        }
    }
}
