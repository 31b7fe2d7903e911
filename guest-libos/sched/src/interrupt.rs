//! Ending a wait from outside: by somebody who knows the uThread, and not what it waits for.
//!
//! An interrupt stays with its uThread until that clears it, and ends each wait that allows it: the one
//! that is under way, or the next one. It is aimed at one wait, by the number of its ticket (see
//! [`crate::ticket`]), which the uThread shows here for as long as the wait may be interrupted. None is
//! lost in between: the uThread shows the number before it looks for an interrupt, and who
//! interrupts does it the other way round.
//!
//! Who interrupts finds the uThread by its name, not under a list's lock; so it may come when the
//! uThread's context is not saved yet, and waits for that. The uThread is in FluxOS's code then, a
//! few dozen instructions from the end of it.

use crate::exit::Life;
use crate::mutant::mutant;
use crate::sync::{AtomicU32, Ordering};
use crate::sync64::fence;
use crate::ticket::Number;

/// A wait that may be interrupted: its number, told from none. Numbers are even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown(u32);

const SHOWN: u32 = 1;

impl Shown {
    pub fn number(self) -> Number {
        self.0 & !SHOWN
    }
}

/// The interrupts of one uThread.
#[derive(Debug)]
pub struct Interrupt {
    /// The wait that may be interrupted, or 0.
    open_to: AtomicU32,
    /// The same, once its context is saved.
    asleep: AtomicU32,
    /// In which of its lives the uThread was interrupted; 0: in none.
    life: AtomicU32,
}

impl Interrupt {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Interrupt {
        Interrupt {
            open_to: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            life: AtomicU32::new(0),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Interrupt {
        Interrupt {
            open_to: AtomicU32::new(0),
            asleep: AtomicU32::new(0),
            life: AtomicU32::new(0),
        }
    }

    /// By the uThread: the wait with this number may be interrupted. Before it looks whether it was.
    pub fn show(&self, number: Number) -> Shown {
        let shown = number | SHOWN;
        self.open_to.store(shown, Ordering::Relaxed);
        // Pairs with the fence in `interrupt`: either this uThread sees that it was interrupted,
        // or who interrupts sees this wait.
        if !mutant("no fence before look") {
            fence(Ordering::SeqCst);
        }
        Shown(shown)
    }

    /// Whether the uThread, in its life `life`, was interrupted.
    pub fn happened(&self, life: Life) -> bool {
        self.life.load(Ordering::Relaxed) == life
    }

    /// For the vCPU that the uThread has left, its context saved.
    pub fn asleep(&self, shown: Shown) {
        // Release pairs with the acquire in `is_asleep`.
        self.asleep.store(shown.0, Ordering::Release);
    }

    /// By the uThread: the wait is over.
    pub fn over(&self) {
        self.open_to.store(0, Ordering::Relaxed);
    }

    /// By the uThread: it is interrupted no longer.
    pub fn clear(&self) {
        self.life.store(0, Ordering::Relaxed);
    }

    /// Interrupts the uThread in its life `life`; `now` tells which one it is in. If there is a wait to
    /// be ended it is returned. It is the caller's to end if its ticket expires by the caller's
    /// doing, and then the uThread is to be made runnable once it [`Interrupt::is_asleep`].
    pub fn interrupt(&self, life: Life, now: impl Fn() -> Life) -> Option<Shown> {
        // Lives only grow: an interrupt that comes too late does not wipe out that of a later one.
        self.life.fetch_max(life, Ordering::Relaxed);
        // Pairs with the fence in `show`.
        fence(Ordering::SeqCst);
        let shown = self.open_to.load(Ordering::Acquire);
        // If it still is the same uThread, what it shows is a wait of its own.
        (shown != 0 && now() == life).then_some(Shown(shown))
    }

    /// Whether the context of a uThread in this wait is saved.
    pub fn is_asleep(&self, shown: Shown) -> bool {
        self.asleep.load(Ordering::Acquire) == shown.0
    }
}

impl Default for Interrupt {
    fn default() -> Interrupt {
        Interrupt::new()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_stays_until_it_is_cleared() {
        let it = Interrupt::new();
        assert_eq!(it.interrupt(3, || 3), None, "nothing to end");
        assert!(it.happened(3));
        assert!(!it.happened(4), "the next one in its place was not");
        it.clear();
        assert!(!it.happened(3));
    }

    #[test]
    fn it_ends_the_wait_that_is_shown() {
        let it = Interrupt::new();
        let shown = it.show(0);
        assert_eq!(it.interrupt(1, || 1), Some(shown));
        assert_eq!(shown.number(), 0);
        assert!(!it.is_asleep(shown));
        it.asleep(shown);
        assert!(it.is_asleep(shown));
        it.over();
        assert_eq!(it.interrupt(1, || 1), None);
        let next = it.show(4);
        assert!(!it.is_asleep(next), "that was the one before");
        assert_eq!(it.interrupt(1, || 2), None, "it is another uThread's wait");
    }

    #[test]
    fn a_late_one_does_not_wipe_out_a_later_life() {
        let it = Interrupt::new();
        it.interrupt(5, || 5);
        it.interrupt(4, || 5);
        assert!(it.happened(5));
    }
}
