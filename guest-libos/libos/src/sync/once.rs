//! Something that is done once. One word, so that it fits where C has an `int`.

use core::sync::atomic::{AtomicU32, Ordering};

use super::block::Until;
use super::words;

const NEW: u32 = 0;
const UNDER_WAY: u32 = 1;
const WAITED_FOR: u32 = 2;
const DONE: u32 = 3;

/// All zeroes: it is still to be done.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct Once(AtomicU32);

impl Once {
    pub const fn new() -> Once {
        Once(AtomicU32::new(NEW))
    }

    /// Whether it was done, and what was done can be seen.
    #[inline]
    pub fn is_done(&self) -> bool {
        // Acquire pairs with the release in `over`.
        self.0.load(Ordering::Acquire) == DONE
    }

    /// Runs `f` unless somebody has; returns when it is done. `f` must not come here again.
    #[inline]
    pub fn call(&self, f: impl FnOnce()) {
        if !self.is_done() && self.begin() {
            f();
            self.finish();
        }
    }

    /// Whether it is the caller's to do now. Else it is done when this returns. The caller goes on
    /// to [`Once::finish`], or to [`Once::give_up`].
    pub fn begin(&self) -> bool {
        loop {
            match self
                .0
                .compare_exchange(NEW, UNDER_WAY, Ordering::Acquire, Ordering::Acquire)
            {
                Ok(_) => return true,
                Err(DONE) => return false,
                Err(UNDER_WAY) => {
                    // A failure means that it has gone on, and the next look says how.
                    let _ =
                        self.0
                            .compare_exchange(UNDER_WAY, WAITED_FOR, Ordering::Relaxed, Ordering::Relaxed);
                }
                Err(_) => {
                    // Woken or not, the next look says.
                    let _ = words::wait(&self.0, WAITED_FOR, Until::EVER);
                }
            }
        }
    }

    /// It is done.
    pub fn finish(&self) {
        self.over(DONE);
    }

    /// It was not done, and is somebody else's to do.
    pub fn give_up(&self) {
        self.over(NEW);
    }

    fn over(&self, state: u32) {
        // Release pairs with the acquires above: what was done can be seen.
        if self.0.swap(state, Ordering::Release) == WAITED_FOR {
            words::wake(&raw const self.0, u32::MAX);
        }
    }
}
