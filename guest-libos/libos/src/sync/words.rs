//! Waiting on plain words of 32 bits: for locks so small that they have no list of their own.

use core::sync::atomic::AtomicU32;

use sched::lot::{address, Lot, Wait};
use sched::waiters::Waiters;
use sched::Id;

use super::block::{wake_all, Bed, Lapse, Sleeper, Until};
use crate::kernel::Kernel;
use crate::vcpu::{enter, leave};

/// Enough that words seldom share a list.
static LOT: Lot<256> = Lot::new();

struct Word(u64);

impl Bed for Word {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise; the word is the one that was waited on.
        unsafe { LOT.asleep(self.0) }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        LOT.leave(kernel, me, self.0);
    }
}

/// Waits to be woken if `word` is still `expected`; `false` if it is not. Who waits may be woken
/// without reason, and looks again.
pub fn wait(word: &AtomicU32, expected: u32, until: Until) -> Result<bool, Lapse> {
    enter();
    // SAFETY: `critical` is set, and a uThread calls this; it is on the list when it sleeps.
    let result = unsafe {
        let sleeper = Sleeper::new(until);
        match LOT.wait(sleeper.kernel, sleeper.me, word, expected) {
            Wait::Sleep => sleeper.sleep(&Word(address(word))).map(|()| true),
            Wait::Changed => {
                sleeper.stay();
                Ok(false)
            }
        }
    };
    leave();
    result
}

/// Wakes up to `most` of those that wait on `word`. It may be gone already: it is not read.
pub fn wake(word: *const AtomicU32, most: u32) {
    let kernel = crate::uthread::kernel();
    let (mut woken, mut more) = (Waiters::new(), most);
    enter();
    while more > 0 {
        more = LOT.wake(kernel, word as u64, more, &mut woken);
        if more > 0 {
            // They may be many, and the host may want this core.
            leave();
            enter();
        }
    }
    wake_all(woken);
    leave();
}
