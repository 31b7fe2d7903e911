//! The barrier.

use sched::barrier::{self, Arrive};
use sched::Id;

use super::block::{wake_all, Bed, Sleeper, Until};
use crate::kernel::Kernel;
use crate::vcpu::{enter, leave};

#[derive(Debug)]
#[repr(transparent)]
pub struct Barrier(barrier::Barrier);

impl Bed for barrier::Barrier {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { barrier::Barrier::asleep(self) }
    }

    // Nothing ends a wait here but the last one's arrival.
    fn leave(&self, _: &Kernel, _: Id) {}
}

impl Barrier {
    /// For `need` uThreads.
    pub const fn new(need: u32) -> Barrier {
        Barrier(barrier::Barrier::new(need))
    }

    /// Waits until as many have come as are needed. `true` for one of them. The barrier may be gone
    /// as soon as one of them has gone on.
    pub fn wait(&self) -> bool {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on the list when it sleeps.
        let last = unsafe {
            let sleeper = Sleeper::new(Until::EVER);
            match self.0.arrive(sleeper.kernel, sleeper.me) {
                Arrive::Sleep => {
                    // Always woken: it sleeps until it is over.
                    let _ = sleeper.sleep(&self.0);
                    false
                }
                Arrive::Last(others) => {
                    sleeper.stay();
                    wake_all(others);
                    true
                }
            }
        };
        leave();
        last
    }

    /// How many wait at this moment.
    pub fn waiting(&self) -> u32 {
        locked(|| self.0.waiting())
    }
}

/// Runs `f`, which takes a spin lock for a moment, in FluxOS's code.
pub(super) fn locked<R>(f: impl FnOnce() -> R) -> R {
    enter();
    let result = f();
    leave();
    result
}
