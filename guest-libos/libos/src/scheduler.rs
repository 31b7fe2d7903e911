//! What a vCPU does when no uThread runs on it.

use core::sync::atomic::{fence, Ordering};

use arch::clock::tsc;
use arch::gs;
use flux_abi::{GUEST_IDLE, GUEST_PARKED, GUEST_RUNNING, GUEST_SCHEDULING, PORT_PARK, PORT_YIELD};
use sched::Id;

use crate::kernel::step;
use crate::log::fatal;
use crate::uthread::place;
use crate::vcpu::Local;

/// Adds to a counter that only this vCPU writes.
fn count(counter: &core::sync::atomic::AtomicU32, by: u32) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(by),
        Ordering::Relaxed,
    );
}

impl Local {
    /// The scheduler's loop. `critical` is set all through it; it is cleared by the uThreads.
    pub(crate) fn schedule(&self) -> ! {
        let kernel = self.kernel();
        let mut idle_since = None;
        let mut woken = true;
        loop {
            // SAFETY: GS base is set.
            if unsafe { gs::park_asked() } {
                self.idle_over(&mut idle_since);
                self.park();
                continue;
            }
            if let Some(id) = self.find() {
                self.idle_over(&mut idle_since);
                // One ring of the doorbell stands for all that came before it was answered, and
                // wakes one vCPU. So who was woken rings on if there is work for another.
                if core::mem::take(&mut woken) && self.work_in_sight() {
                    kernel.announce(self.id);
                }
                self.run(id);
                continue;
            }
            if self.steal_held(|| self.idle_over(&mut idle_since)) {
                continue;
            }
            let now = tsc();
            match idle_since {
                None => {
                    self.guest.state.store(GUEST_IDLE, Ordering::Relaxed);
                    idle_since = Some(now);
                }
                Some(since) if now.saturating_sub(since) >= kernel.idle_ticks => {
                    self.idle_over(&mut idle_since);
                    self.yield_core(false);
                    woken = true;
                }
                Some(_) => core::hint::spin_loop(),
            }
        }
    }

    /// Finds something to run: here, in the request ring, in the queues of others.
    fn find(&self) -> Option<Id> {
        if let Some(entry) = self.queue.pop() {
            return Some(entry.id);
        }
        if let Some(id) = self.take_work() {
            return Some(id);
        }
        if self.steal_queued() {
            return self.queue.pop().map(|entry| entry.id);
        }
        None
    }

    /// Runs a uThread that is in no queue any more, until it leaves the vCPU.
    fn run(&self, id: Id) {
        let Some(uthread) = self.kernel().uthread(id) else {
            fatal(format_args!(
                "vCPU {} is to run uThread {id}, which does not exist",
                self.id
            ));
        };
        step(uthread, id, place::QUEUED, place::RUNNING);
        self.begin(id);
        // SAFETY: `critical` is set. The uThread's context was saved by a switch before it came
        // into the queue it was taken from, and it is in no queue now, so it is used once.
        unsafe { arch::switch::switch(self.scheduler.0.as_ptr(), uthread.rsp.0.get()) };
        self.came_back();
    }

    /// `id` is what runs here from now on.
    pub(crate) fn begin(&self, id: Id) {
        self.current.store(id, Ordering::Relaxed);
        count(&self.guest.switches, 1);
        self.guest.state.store(GUEST_RUNNING, Ordering::Relaxed);
    }

    /// The uThread has left.
    pub(crate) fn came_back(&self) {
        self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
        self.settle();
    }

    pub(crate) fn idle_over(&self, since: &mut Option<u64>) {
        if let Some(since) = since.take() {
            let (lo, hi) = (&self.guest.spin_lo, &self.guest.spin_hi);
            let old = u64::from(lo.load(Ordering::Relaxed)) | u64::from(hi.load(Ordering::Relaxed)) << 32;
            let new = old.wrapping_add(tsc().saturating_sub(since));
            lo.store(new as u32, Ordering::Relaxed);
            hi.store((new >> 32) as u32, Ordering::Relaxed);
            self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
        }
    }

    /// Leaves the core because the host asked. No uThread is current: the one that ran is in the
    /// queue, where the VM's other vCPUs find it.
    pub(crate) fn park(&self) {
        let asked = self.host.park_gen.load(Ordering::Acquire);
        self.guest.park_ack.store(asked, Ordering::Relaxed);
        count(&self.guest.parks, 1);
        self.guest.state.store(GUEST_PARKED, Ordering::Release);
        self.kernel().platform.door(PORT_PARK, 0);
        self.resumed(tsc());
    }

    /// Gives the core back. Unless it is meant in any case, only if there is nothing to do.
    pub(crate) fn yield_core(&self, in_any_case: bool) {
        let kernel = self.kernel();
        kernel.sleepers.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `Kernel::announce`.
        fence(Ordering::SeqCst);
        if in_any_case || !self.work_in_sight() {
            count(&self.guest.yields, 1);
            self.guest.state.store(GUEST_IDLE, Ordering::Release);
            kernel.platform.door(PORT_YIELD, 0);
            self.resumed(tsc());
        }
        kernel.sleepers.fetch_sub(1, Ordering::Relaxed);
    }

    fn work_in_sight(&self) -> bool {
        let kernel = self.kernel();
        kernel.page.summary().runnable.load(Ordering::Relaxed) != 0
            || kernel.source().is_some_and(|source| source.pending())
    }

    /// The first thing after a door that gave the core away.
    fn resumed(&self, at: u64) {
        self.guest.resume_lo.store(at as u32, Ordering::Relaxed);
        self.guest.resume_hi.store((at >> 32) as u32, Ordering::Relaxed);
        // Release, last: who sees the grant's number sees its stamp.
        let grant = self.host.grant_gen.load(Ordering::Relaxed);
        self.guest.resume_gen.store(grant, Ordering::Release);
        self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
    }

    /// A vCPU begins, or begins again after its context was taken.
    pub(crate) fn entered(&self, at: u64) {
        self.resumed(at);
    }

    pub(crate) fn count_steals(&self, n: u32) {
        count(&self.guest.steals, n);
    }

    pub(crate) fn count_taken(&self) {
        count(&self.guest.taken, 1);
    }
}
