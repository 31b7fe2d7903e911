//! What a vCPU does when no uThread runs on it.

use core::sync::atomic::Ordering;

use arch::gs;
use flux_abi::{GUEST_IDLE, GUEST_PARKED, GUEST_RUNNING, GUEST_SCHEDULING, PORT_PARK, PORT_YIELD};
use sched::queue::Entry;
use sched::timers::NEVER;
use sched::{Id, NOBODY};

use crate::account::count;
use crate::kernel::step;
use crate::log::fatal;
use crate::options::OnPark;
use crate::trace::{TRACE_PARK, TRACE_RESUME, TRACE_RUN, TRACE_YIELD};
use crate::uthread::place;
use crate::vcpu::Local;

/// In one of so many passes a vCPU looks first for what nobody else comes by, so that its own queue,
/// if it never gets empty, does not keep it from that for ever. The number is Go's, for the same
/// end, and prime, so that it does not beat with a program's own turns.
const LOOK_AROUND: u32 = 61;

/// The order in which a vCPU that needs something to run looks for it:
///
/// 1. a request to leave the core, which goes before everything;
/// 2. timers that are due, its own and then those of the other vCPUs; they go to its own queue;
/// 3. once in [`LOOK_AROUND`] passes, contexts that the host holds, and half of the queue of a vCPU
///    that has no core;
/// 4. its own queue, from the head: the ring, then what did not fit into it;
/// 5. the request ring;
/// 6. the queues of the other vCPUs, beginning behind itself: the older half of the first one that
///    has something, whether its vCPU has a core or not;
/// 7. contexts that the host holds of vCPUs which it parked in application code; last, because
///    that is a door and the export of a whole context.
///
/// If there is nothing it goes on looking for `idle_spin_ns` of the control page's header, which the VM's owner
/// sets (0: not at all), and then gives its core back.
impl Local {
    /// The scheduler's loop. `critical` is set all through it; it is cleared by the uThreads.
    pub(crate) fn schedule(&self) -> ! {
        let kernel = self.kernel();
        let mut idle_since = None;
        self.looks();
        loop {
            // SAFETY: GS base is set.
            if unsafe { gs::park_asked() } {
                self.idle_over(&mut idle_since);
                self.park();
                continue;
            }
            self.fire_due();
            if self.is_turn_for_others() {
                if self.steal_held(|| self.idle_over(&mut idle_since)) {
                    continue;
                }
                self.steal_from_absent();
            }
            if let Some(entry) = self.find() {
                self.idle_over(&mut idle_since);
                self.run(entry);
                continue;
            }
            if self.steal_held(|| self.idle_over(&mut idle_since)) {
                continue;
            }
            let now = self.look_at_clock();
            match idle_since {
                None => {
                    self.looks();
                    self.queue.publish();
                    self.guest.state.store(GUEST_IDLE, Ordering::Relaxed);
                    idle_since = Some(now);
                }
                Some(since) if now.saturating_sub(since) >= kernel.idle_ticks => {
                    self.idle_over(&mut idle_since);
                    self.yield_core(false);
                }
                Some(_) => core::hint::spin_loop(),
            }
        }
    }

    fn is_turn_for_others(&self) -> bool {
        let pass = self.passes.get().wrapping_add(1);
        self.passes.set(pass);
        pass.is_multiple_of(LOOK_AROUND)
    }

    /// Finds something to run: here, in the request ring, in the queues of others.
    fn find(&self) -> Option<Entry> {
        if let Some(entry) = self.queue.pop() {
            return Some(entry);
        }
        if let Some(id) = self.take_work() {
            let ready = self.kernel().clock.stamp_of(self.now());
            return Some(Entry { id, ready });
        }
        if self.steal_queued() {
            return self.queue.pop();
        }
        None
    }

    /// Runs a uThread that is in no queue any more, until it leaves the vCPU.
    fn run(&self, Entry { id, ready }: Entry) {
        let Some(uthread) = self.kernel().uthread(id) else {
            fatal(format_args!(
                "vCPU {} is to run uThread {id}, which does not exist",
                self.id
            ));
        };
        step(uthread, id, place::QUEUED, place::RUNNING);
        self.begin(id, ready);
        // SAFETY: `critical` is set. The uThread's context was saved by a switch before it came
        // into the queue it was taken from, and it is in no queue now, so it is used once.
        unsafe {
            arch::fibre::switch(&self.fibre, &uthread.fibre);
            arch::switch::switch_in(self.scheduler.0.as_ptr(), uthread.rsp.0.get());
        }
        self.came_back();
    }

    /// `id`, runnable since `ready`, is what runs here from now on.
    pub(crate) fn begin(&self, id: Id, ready: u32) {
        self.found();
        self.queue.publish();
        self.ring_for_timer();
        self.current.store(id, Ordering::Relaxed);
        self.account_begin(ready);
        count(&self.guest.switches, 1);
        self.trace(TRACE_RUN, 0, id);
        self.guest.state.store(GUEST_RUNNING, Ordering::Relaxed);
    }

    /// The uThread has left.
    pub(crate) fn came_back(&self) {
        self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
        self.account_end();
        self.settle();
    }

    /// Leaves the core because the host asked. No uThread is current: the one that ran is in the
    /// queue, where the VM's other vCPUs find it.
    pub(crate) fn park(&self) {
        if self.kernel().on_park == OnPark::Hand {
            self.hand_over();
        }
        self.queue.publish();
        let asked = self.host.park_gen.load(Ordering::Acquire);
        self.guest.park_ack.store(asked, Ordering::Relaxed);
        count(&self.guest.parks, 1);
        self.trace(TRACE_PARK, 0, NOBODY);
        self.guest.state.store(GUEST_PARKED, Ordering::Release);
        self.away.store(1, Ordering::Relaxed);
        self.kernel().platform.door(PORT_PARK, 0);
        self.resumed(self.look_at_clock());
    }

    /// Gives the core back. Unless it is meant in any case, only if there is nothing to do.
    pub(crate) fn yield_core(&self, in_any_case: bool) {
        let kernel = self.kernel();
        self.queue.publish();
        if self.looking.replace(false) {
            kernel.sleepers.found();
        }
        kernel.sleepers.going();
        if in_any_case || !self.work_in_sight() {
            count(&self.guest.yields, 1);
            self.trace(TRACE_YIELD, 0, NOBODY);
            // Who gives its core back sleeps no longer than until its own timers are due.
            self.owes_ring.set(false);
            kernel.show_far_timer();
            self.guest.state.store(GUEST_IDLE, Ordering::Release);
            self.away.store(1, Ordering::Relaxed);
            kernel.platform.door(PORT_YIELD, 0);
            self.resumed(self.look_at_clock());
        }
        self.woken.set(true);
        self.looks();
        kernel.sleepers.back(&kernel.page.summary().rung);
    }

    /// Until [`Local::found`] others need not ring for what they make ready.
    fn looks(&self) {
        if !self.looking.replace(true) {
            self.kernel().sleepers.looks();
        }
    }

    /// There is something to do here. What others have made ready meanwhile, and did not ring for because this
    /// vCPU was looking or because a ring for it was under way, is shown to whoever sleeps.
    fn found(&self) {
        if !self.looking.replace(false) {
            return;
        }
        let kernel = self.kernel();
        // What is about to run here is nobody else's work.
        self.queue.publish();
        kernel.sleepers.found();
        if self.work_in_sight() {
            kernel.announce(self.id);
        }
        // The ring may have been for a deadline, which whoever sleeps on does not know of.
        if self.woken.take() && kernel.earliest.get() != NEVER {
            kernel.announce_timer(self.id);
        }
    }

    fn work_in_sight(&self) -> bool {
        let kernel = self.kernel();
        kernel.page.summary().runnable.load(Ordering::Relaxed) != 0
            || kernel.timer_due()
            || kernel.source().is_some_and(|source| source.pending())
    }

    /// The first thing after a door that gave the core away.
    fn resumed(&self, at: u64) {
        self.away.store(0, Ordering::Relaxed);
        self.guest.resume_lo.store(at as u32, Ordering::Relaxed);
        self.guest.resume_hi.store((at >> 32) as u32, Ordering::Relaxed);
        // Release, last: who sees the grant's number sees its stamp.
        let grant = self.host.grant_gen.load(Ordering::Relaxed);
        self.guest.resume_gen.store(grant, Ordering::Release);
        self.trace(TRACE_RESUME, self.host.core.load(Ordering::Relaxed), NOBODY);
        self.guest.state.store(GUEST_SCHEDULING, Ordering::Relaxed);
    }

    /// A vCPU begins, or begins again after its context was taken.
    pub(crate) fn entered(&self, at: u64) {
        self.look_at_clock();
        self.resumed(at);
    }

    pub(crate) fn count_steals(&self, n: u32) {
        count(&self.guest.steals, n);
    }

    pub(crate) fn count_taken(&self) {
        count(&self.guest.taken, 1);
    }
}
