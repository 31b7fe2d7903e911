//! Ending a uThread's wait from outside: see [`sched::interrupt`]. And the wait that nothing else ends.

use sched::Id;

use super::block::{wake, Bed, Lapse, Sleeper, Until};
use super::join::Tid;
use crate::kernel::Kernel;
use crate::uthread::{with_current, UThread};
use crate::vcpu::{enter, leave, Local};

/// The uThread is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// Ends the wait that uThread `who` is in, if it is one that may be interrupted; and from now on
/// each such wait that it begins, until it calls [`clear_interrupt`].
pub fn interrupt(who: Tid) -> Result<(), Gone> {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let result = interrupt_from(local, who);
    leave();
    result
}

fn interrupt_from(local: &Local, who: Tid) -> Result<(), Gone> {
    let uthread = local.kernel().uthread(who.id()).ok_or(Gone)?;
    let interrupt = &uthread.waiting.interrupt;
    if uthread.exit.life() != who.life() {
        return Err(Gone);
    }
    let Some(shown) = interrupt.interrupt(who.life(), || uthread.exit.life()) else {
        return Ok(());
    };
    if uthread.alarm.ticket.expire(shown.number()) {
        // It is ours to wake, and does not go on before. It is in FluxOS's code until then.
        while !interrupt.is_asleep(shown) {
            core::hint::spin_loop();
        }
        wake(local, who.id());
    }
    Ok(())
}

/// The calling uThread's interrupt, if there was one, is over.
pub fn clear_interrupt() {
    with_current(|uthread| uthread.waiting.interrupt.clear());
}

/// Whether the calling uThread was interrupted.
pub fn interrupted() -> bool {
    with_current(|uthread| uthread.waiting.interrupt.happened(uthread.exit.life()))
}

/// A sleep with nothing to wait for. The uThread's own spin lock stands in for that of a list.
struct Nap(&'static UThread);

impl Bed for Nap {
    unsafe fn asleep(&self) {
        let nap = &self.0.waiting.nap;
        // SAFETY: `sleep` has taken it.
        unsafe { nap.unlock() };
    }

    fn leave(&self, _: &Kernel, _: Id) {
        self.0.waiting.nap.with(|()| ());
    }
}

/// Lets others run until then; for ever, if nothing is to end it.
pub fn sleep(until: Until) -> Lapse {
    loop {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this, whose lock is held when it sleeps.
        let lapse = unsafe {
            let sleeper = Sleeper::new(until);
            let nap = Nap(sleeper.uthread);
            nap.0.waiting.nap.lock();
            sleeper.sleep(&nap)
        };
        leave();
        if let Err(lapse) = lapse {
            return lapse;
        }
    }
}
