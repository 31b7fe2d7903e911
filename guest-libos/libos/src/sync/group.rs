//! The wait group.

use sched::group::{self, Wait};
use sched::Id;

use super::barrier::locked;
use super::block::{wake_all, Bed, Sleeper, Until};
use crate::kernel::Kernel;
use crate::log::fatal;
use crate::vcpu::{enter, leave};

/// Waits for a number of parts to be done.
#[derive(Debug)]
pub struct Group(group::Group);

impl Bed for group::Group {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { group::Group::asleep(self) }
    }

    // Nothing ends a wait here but the last part.
    fn leave(&self, _: &Kernel, _: Id) {}
}

impl Group {
    pub const fn new(parts: u32) -> Group {
        Group(group::Group::new(parts))
    }

    /// There are more parts. Those that wait already may go on before these are done, unless the
    /// caller is a part itself.
    pub fn add(&self, parts: u32) {
        if locked(|| self.0.add(parts)).is_err() {
            fatal(format_args!("a wait group has more parts than can be counted"));
        }
    }

    /// One part is done. The group may be gone when this returns.
    pub fn done(&self) {
        enter();
        match self.0.done() {
            Ok(waiters) => wake_all(waiters),
            Err(group::TooMany) => fatal(format_args!("a wait group was told of more parts than it has")),
        }
        leave();
    }

    /// Returns when all parts are done.
    pub fn wait(&self) {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on the list when it sleeps.
        unsafe {
            let sleeper = Sleeper::new(Until::EVER);
            match self.0.wait(sleeper.kernel, sleeper.me) {
                // Always woken: it sleeps until it is over.
                Wait::Sleep => drop(sleeper.sleep(&self.0)),
                Wait::Over => sleeper.stay(),
            }
        }
        leave();
    }
}
