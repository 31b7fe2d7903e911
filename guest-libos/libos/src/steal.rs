//! Work from elsewhere: the request ring, the queues of other vCPUs, and held contexts.

use core::sync::atomic::Ordering;

use arch::resume::{SYSTEM_FLAGS, USER_FLAGS};
use flux_abi::{PORT_STEAL, STEAL_TAKEN};
use sched::{Id, NOBODY};

use crate::kernel::step;
use crate::log::fatal;
use crate::uthread::place;
use crate::vcpu::Local;

impl Local {
    /// The other vCPUs, beginning behind this one, so that thieves spread out.
    fn others(&self) -> impl Iterator<Item = &'static Local> {
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
        let id = kernel.slots.take()?;
        let (Some(uthread), Some(work)) = (kernel.uthread(id), source.take()) else {
            kernel.slots.give(id);
            return None;
        };
        step(uthread, id, place::FREE, place::QUEUED);
        // SAFETY: the uThread was free, so its stack is unused; the closure is Send.
        unsafe { uthread.start_with(move || source.run(work)) };
        kernel.count_alive(1);
        Some(id)
    }

    /// Moves the older half of some other queue here.
    pub(crate) fn steal_queued(&self) -> bool {
        for victim in self.others() {
            // A look at the published length spares the lock of an empty queue.
            if victim.guest.runq_len.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let stolen = self.queue.steal_from(&victim.queue);
            if stolen > 0 {
                self.count_steals(stolen);
                return true;
            }
        }
        false
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
        // No current uThread: the vCPU was held at its entry, before it set `critical`. There is
        // nothing to go on with, and the victim enters again.
        (id != NOBODY).then_some(id)
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
        self.begin(id);
        let set_fs = u64::from(kernel.platform.uthreads_own_fs());
        // SAFETY: `critical` is set; `taken` is this vCPU's own. The host has written the slot and
        // does not touch it until the victim is held again, for which it must first get `busy`.
        // The context is whole and is resumed once, because the host answers TAKEN once.
        unsafe {
            let regs = self.taken.get();
            *regs = kernel.page.context(victim.id).read_volatile();
            (*regs).rflags = (*regs).rflags & USER_FLAGS | SYSTEM_FLAGS;
            arch::resume::resume(
                self.scheduler.0.as_ptr(),
                regs,
                kernel.page.xsave(victim.id),
                self.head.xsave_mask,
                victim.busy.as_ptr(),
                set_fs,
            );
        }
        self.came_back();
    }
}
