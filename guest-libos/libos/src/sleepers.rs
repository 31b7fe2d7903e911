//! Who sleeps, and whether somebody has been rung for already.
//!
//! One ring of the doorbell is enough until whoever it wakes has come back and looked for work: it
//! rings on if there is work for another. A ring is a way out of the guest, so one for each uThread
//! that becomes ready would cost more than to run it.
//!
//! # No wake is lost
//!
//! A vCPU that goes to sleep, and one that comes back, takes the mark `rung` away, then has a full
//! fence, then looks for work. Who has made work has a full fence, then looks at the mark. If it
//! finds none, it rings. If it finds one, it came before somebody took it away, or before
//! whoever set it has rung: then somebody who slept is woken, takes it away and looks, and by the
//! two fences finds the work. A mark that was left when nobody slept any more is gone as soon as
//! anybody is about to sleep.

use core::sync::atomic::{fence, AtomicU32, Ordering};

/// All relaxed: the fences order them, see above.
#[derive(Debug)]
pub(crate) struct Sleepers {
    /// vCPUs that have gone, or are about to go, through the yield door.
    asleep: AtomicU32,
    /// Not 0: somebody has rung, or is about to.
    rung: AtomicU32,
}

impl Sleepers {
    pub(crate) const fn new() -> Sleepers {
        Sleepers {
            asleep: AtomicU32::new(0),
            rung: AtomicU32::new(0),
        }
    }

    /// Before the last look for work.
    pub(crate) fn going(&self) {
        self.asleep.fetch_add(1, Ordering::Relaxed);
        self.rung.store(0, Ordering::Relaxed);
        // Pairs with the fence in `wants_ring`.
        fence(Ordering::SeqCst);
    }

    /// Before the first look for work.
    pub(crate) fn back(&self) {
        self.asleep.fetch_sub(1, Ordering::Relaxed);
        self.rung.store(0, Ordering::Relaxed);
        // Pairs with the fence in `wants_ring`.
        fence(Ordering::SeqCst);
    }

    /// After work was made ready: whether the caller is the one who has to ring, if a ring is
    /// `heard` at all.
    pub(crate) fn wants_ring(&self, heard: impl FnOnce() -> bool) -> bool {
        // Pairs with the fences in `going` and `back`.
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed) != 0
            && self.rung.load(Ordering::Relaxed) == 0
            && heard()
            && self.rung.swap(1, Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_ring_until_somebody_has_come_back() {
        let sleepers = Sleepers::new();
        assert!(!sleepers.wants_ring(|| true), "nobody sleeps");
        sleepers.going();
        sleepers.going();
        assert!(!sleepers.wants_ring(|| false), "nobody hears it");
        assert!(sleepers.wants_ring(|| true));
        assert!(!sleepers.wants_ring(|| true), "it was rung");
        sleepers.back();
        assert!(sleepers.wants_ring(|| true), "for the other one");
        sleepers.going();
        assert!(
            sleepers.wants_ring(|| true),
            "who goes to sleep may have missed it"
        );
        sleepers.back();
        sleepers.back();
        assert!(!sleepers.wants_ring(|| true), "nobody sleeps");
    }
}
