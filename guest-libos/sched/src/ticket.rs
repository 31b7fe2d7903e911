//! Who ends a wait that two may end: the one waited for, or a timer.
//!
//! A uThread that waits with a deadline is on a wait list and has a timer. Both may come to make
//! it runnable at the same time, and exactly one must. Its ticket decides: a word that goes from
//! open to woken or to expired by compare-and-swap, once. It is numbered, so that a timer that
//! comes late, when the uThread waits for something else already, finds that its number is over.

use crate::mutant::mutant;
use crate::sync::{AtomicU32, Ordering};

const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const WOKEN: u32 = 2;
const EXPIRED: u32 = 3;
const STATE: u32 = 3;

/// The ticket of one uThread. All accesses are relaxed: the word only decides who is first. What
/// the winner needs to see of the uThread it sees by the lock of the list, or of the timers, under
/// which it found it.
#[derive(Debug)]
pub struct Ticket(AtomicU32);

/// The number of one wait. It returns after 2^30 waits; a timer is taken off before its uThread
/// waits again, so no number is ever looked for that long.
pub type Number = u32;

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By whoever was waited for.
    Woken,
    /// By its deadline.
    Expired,
}

impl Default for Ticket {
    fn default() -> Ticket {
        Ticket::new()
    }
}

impl Ticket {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Ticket {
        Ticket(AtomicU32::new(CLOSED))
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Ticket {
        Ticket(AtomicU32::new(CLOSED))
    }

    /// Begins a wait with a deadline. By the uThread that is to wait, before it is on any list.
    pub fn open(&self) -> Number {
        let next = (self.0.load(Ordering::Relaxed) & !STATE).wrapping_add(STATE + 1);
        self.0.store(next | OPEN, Ordering::Relaxed);
        next
    }

    /// The number of the wait that is open.
    pub fn number(&self) -> Number {
        self.0.load(Ordering::Relaxed) & !STATE
    }

    /// For whoever takes the uThread off a wait list, with the list's lock still held: whether it
    /// is the caller's to make runnable. Always so for a wait without a deadline.
    pub fn claim(&self) -> bool {
        let now = self.0.load(Ordering::Relaxed);
        if mutant("claims without looking") {
            self.0.store(now & !STATE | WOKEN, Ordering::Relaxed);
            return true;
        }
        match now & STATE {
            CLOSED => true,
            OPEN => self
                .0
                .compare_exchange(now, now & !STATE | WOKEN, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok(),
            _ => false,
        }
    }

    /// For a timer: whether the wait with this number was still open, and the uThread is the
    /// caller's to make runnable.
    pub fn expire(&self, number: Number) -> bool {
        self.0
            .compare_exchange(
                number | OPEN,
                number | EXPIRED,
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }

    /// For the claimer of a uThread that it does not wake, but puts on another list: from here on
    /// the wait has no deadline.
    pub fn settle(&self) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now & !STATE, Ordering::Relaxed);
    }

    /// How the wait was decided; by the uThread, running again. Whoever has expired is still on a
    /// list, where others find it and claim in vain. So it takes itself off first, and then comes
    /// [`Ticket::close`]: a claim on a closed ticket would make a running uThread runnable.
    pub fn ended(&self) -> Ended {
        let now = self.0.load(Ordering::Relaxed);
        match now & STATE {
            EXPIRED => Ended::Expired,
            _ => {
                self.close();
                Ended::Woken
            }
        }
    }

    /// Ends the wait; by the uThread, which is on no list any more.
    pub fn close(&self) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now & !STATE, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn the_first_ends_it_and_the_second_does_not() {
        let ticket = Ticket::new();
        let number = ticket.open();
        assert!(ticket.claim());
        assert!(!ticket.claim());
        assert!(!ticket.expire(number));
        assert_eq!(ticket.ended(), Ended::Woken);
        let number = ticket.open();
        assert!(ticket.expire(number));
        assert!(!ticket.expire(number));
        assert!(!ticket.claim());
        assert_eq!(ticket.ended(), Ended::Expired);
        assert!(!ticket.claim(), "it is still on its list");
        ticket.close();
        assert!(ticket.claim());
    }

    #[test]
    fn a_late_timer_finds_another_number() {
        let ticket = Ticket::new();
        let old = ticket.open();
        assert!(ticket.claim());
        ticket.close();
        assert!(!ticket.expire(old), "nothing is open");
        let new = ticket.open();
        assert!(!ticket.expire(old), "another wait is open");
        assert!(ticket.expire(new));
    }

    #[test]
    fn who_waits_without_a_deadline_belongs_to_the_list() {
        let ticket = Ticket::new();
        assert!(ticket.claim());
        assert!(ticket.claim());
    }
}
