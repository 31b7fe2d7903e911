//! Work from elsewhere: the request ring, the queues of other vCPUs, and held contexts.

use core::sync::atomic::Ordering;

use arch::fibre;
use arch::resume::{SYSTEM_FLAGS, USER_FLAGS};
use flux_abi::{PORT_STEAL, STEAL_TAKEN};
use sched::{Id, NOBODY};

use crate::kernel::step;
use crate::log::fatal;
use crate::trace::{TRACE_SPAWN, TRACE_STEAL, TRACE_TAKE};
use crate::uthread::place;
use crate::vcpu::Local;

impl Local {
    /// The other vCPUs, beginning behind this one, so that thieves spread out.
    pub(crate) fn others(&self) -> impl Iterator<Item = &'static Local> {
        let locals = self.kernel().locals;
        let (id, n) = (self.id as usize, locals.len());
        (1..n).filter_map(move |i| locals.get((id + i) % n))
    }

    /// Takes one request from the ring and makes it a uThread, which is in no queue.
    pub(crate) fn take_work(&self) -> Option<Id> {
        let kernel = self.kernel();
        let source = kernel.source()?;
        if !source.pending() {
            return None;
        }
        // The uThread first: a request that was taken must be served.
        let id = kernel.slots.take(self.id)?;
        let (Some(uthread), Some(work)) = (kernel.uthread(id), source.take()) else {
            kernel.slots.give(self.id, id);
            return None;
        };
        step(uthread, id, place::FREE, place::QUEUED);
        uthread.unfold(kernel.page.header().stack_bytes);
        // SAFETY: the uThread was free, so its stack is unused; the closure is Send.
        unsafe { uthread.start_with(move || source.run(work)) };
        kernel.count_alive(1);
        self.trace(TRACE_SPAWN, 0, id);
        Some(id)
    }

    /// Moves the older half of some other queue here.
    pub(crate) fn steal_queued(&self) -> bool {
        for victim in self.others() {
            if !victim.queue.is_inviting() {
                continue;
            }
            let stolen = self.queue.steal_from(&victim.queue);
            if stolen > 0 {
                self.count_steals(stolen);
                self.trace(TRACE_STEAL, stolen, NOBODY);
                // While it was on its way here, others may have found nothing and gone to sleep.
                if stolen > 1 {
                    self.kernel().announce(self.id);
                }
                return true;
            }
        }
        false
    }

    /// Whether this vCPU has a core, as far as can be seen from others: a moment ago.
    fn has_core(&self) -> bool {
        self.away.load(Ordering::Relaxed) == 0 && self.host.held.load(Ordering::Relaxed) == 0
    }

    /// Hands the queue to the vCPU with the shortest one of those that have a core, if there are any.
    /// It finds it behind what it has itself.
    pub(crate) fn hand_over(&self) {
        let kernel = self.kernel();
        let heir = self
            .others()
            .filter(|other| other.has_core())
            .min_by_key(|other| other.queue.len());
        if let Some(heir) = heir {
            if self.queue.hand_to(&heir.queue) > 0 {
                // It may have looked into its queue for the last time before it gives its core
                // back: then it, or another one, is woken if nobody else sees to that.
                kernel.announce(self.id);
            }
        }
    }

    /// As [`Local::steal_queued`], from a vCPU that has no core and so does not come for it itself.
    pub(crate) fn steal_from_absent(&self) {
        for victim in self.others() {
            if !victim.has_core() && victim.queue.is_inviting() {
                let stolen = self.queue.steal_from(&victim.queue);
                self.count_steals(stolen);
                if stolen > 0 {
                    return self.trace(TRACE_STEAL, stolen, NOBODY);
                }
            }
        }
    }

    /// Takes over the interrupted uThread of a vCPU that was parked by the host, and runs it
    /// until it leaves this vCPU. `found` is called before it runs.
    pub(crate) fn steal_held(&self, found: impl FnOnce()) -> bool {
        let kernel = self.kernel();
        for victim in self.others() {
            if kernel.page.host(victim.id).held.load(Ordering::Acquire) == 0 {
                continue;
            }
            // One thief at a time, and the victim does not go on before the slot is read out.
            // Acquire pairs with the plain store that ends `resume`'s use of the slot.
            if victim
                .busy
                .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_err()
            {
                continue;
            }
            let Some(id) = self.take_held(victim) else {
                victim.busy.store(0, Ordering::Release);
                continue;
            };
            found();
            self.resume_taken(victim, id);
            return true;
        }
        false
    }

    /// Asks the host for the context that `victim` is held with; the uThread it belongs to. The
    /// caller owns `victim.busy`.
    fn take_held(&self, victim: &'static Local) -> Option<Id> {
        let kernel = self.kernel();
        kernel.platform.door(PORT_STEAL, victim.id);
        if self.host.answer.load(Ordering::Acquire) != STEAL_TAKEN {
            return None;
        }
        // The context is ours. The victim, if it was granted a core meanwhile, is at its entry
        // and waits for `busy`, so `current` is as it was when the vCPU was held.
        let id = victim.current.swap(NOBODY, Ordering::Relaxed);
        // It was held, and now it is not, but still without a core; it says so when it enters.
        victim.away.store(1, Ordering::Relaxed);
        // No current uThread: the vCPU was held at its entry, before it set `critical`. There is
        // nothing to go on with, and the victim enters again.
        if id == NOBODY {
            fibre::taken(self.id).gone();
            return None;
        }
        Some(id)
    }

    fn resume_taken(&self, victim: &'static Local, id: Id) {
        let kernel = self.kernel();
        let Some(uthread) = kernel.uthread(id) else {
            fatal(format_args!(
                "vCPU {} was held with uThread {id}, which does not exist",
                victim.id
            ));
        };
        step(uthread, id, place::RUNNING, place::RUNNING);
        self.count_taken();
        self.trace(TRACE_TAKE, victim.id, id);
        // Since when its vCPU was held is for the host to know.
        self.begin(id, kernel.clock.stamp_of(self.now()));
        let set_fs = u64::from(kernel.platform.uthreads_own_fs());
        // SAFETY: `critical` is set; `taken` is this vCPU's own. The host has written the slot and
        // does not touch it until the victim is held again, for which it must first get `busy`.
        // The context is whole and is resumed once, because the host answers TAKEN once.
        unsafe {
            let regs = self.taken.get();
            *regs = kernel.page.context(victim.id).read_volatile();
            (*regs).rflags = (*regs).rflags & USER_FLAGS | SYSTEM_FLAGS;
            fibre::released(&victim.busy);
            fibre::switch(&self.fibre, fibre::taken(self.id));
            arch::resume::resume(
                self.scheduler.0.as_ptr(),
                regs,
                kernel.page.xsave(victim.id),
                self.head.xsave_mask(),
                victim.busy.as_ptr(),
                set_fs,
            );
        }
        self.came_back();
    }
}
