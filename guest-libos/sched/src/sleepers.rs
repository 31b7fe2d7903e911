//! Which vCPUs sleep and which look for work, so that nobody rings in vain.
//!
//! A ring of the doorbell is a way out of the guest, and costs more than a uThread that begins and ends. So
//! there is one only if somebody sleeps, nobody is looking, and no other ring is under way.
//!
//! # No wake is lost
//!
//! Who has made work has a full fence, then looks at the words here ([`Sleepers::wants_ring`]). Whoever is a
//! reason not to ring changes its word, has a full fence, and then looks for work:
//!
//! * Nobody sleeps. A vCPU that is about to sleep says so ([`Sleepers::going`]) before its last look.
//! * Somebody is looking. Who has found something stops to count ([`Sleepers::found`]), looks once more,
//!   and rings if there is work for another; who has not, goes to sleep as above.
//! * The mark `rung` is there: somebody has rung, or is about to. It is taken away by whoever comes back
//!   ([`Sleepers::back`]) and then looks, and by the host, which may let a vCPU sleep on that finds the work
//!   gone, before the host's own last look. See `handoff::doorbell`.
//!
//! In each case one of the two fences comes first: either the one sees the other's word as it has become, or the
//! other finds the work. handoff's `tests/loom_doorbell.rs` has the models.

use crate::mutant::mutant;
use crate::sync::{fence, AtomicU32, Ordering};

/// Counts of vCPUs, of which each is in one at most. Relaxed: the fences order them.
#[derive(Debug)]
pub struct Sleepers(AtomicU32);

/// Those that have gone, or are about to go, through the yield door are counted in the lower half of the word.
const ASLEEP: u32 = 1;
/// Those that are on a core and look for work are in the upper half.
const LOOKING: u32 = 1 << 16;

#[cfg(not(feature = "loom"))]
impl Sleepers {
    pub const fn new() -> Sleepers {
        Sleepers(AtomicU32::new(0))
    }
}

#[cfg(feature = "loom")]
impl Sleepers {
    /// Loom's atomics cannot be made at compile time.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Sleepers {
        Sleepers(AtomicU32::new(0))
    }
}

#[cfg(not(feature = "loom"))]
impl Default for Sleepers {
    fn default() -> Sleepers {
        Sleepers::new()
    }
}

impl Sleepers {
    /// Before the last look for work.
    pub fn going(&self) {
        self.0.fetch_add(ASLEEP, Ordering::Relaxed);
        // Pairs with the fence in `wants_ring`.
        fence(Ordering::SeqCst);
    }

    /// Before the first look for work. `rung` is the VM's mark.
    pub fn back(&self, rung: &AtomicU32) {
        self.0.fetch_sub(ASLEEP, Ordering::Relaxed);
        rung.store(0, Ordering::Relaxed);
        // Pairs with the fence in `wants_ring`.
        fence(Ordering::SeqCst);
    }

    /// From here on the caller finds what is made ready; it ends with `found`, or with the last look of one that
    /// goes to sleep.
    pub fn looks(&self) {
        self.0.fetch_add(LOOKING, Ordering::Relaxed);
    }

    /// It does not look any more. If it is not about to sleep it looks once more after this, and rings if there
    /// is something for another.
    pub fn found(&self) {
        self.0.fetch_sub(LOOKING, Ordering::Relaxed);
        // Pairs with the fence in `wants_ring`.
        fence(Ordering::SeqCst);
    }

    /// After work was made ready: whether the caller is the one who has to ring, if a ring is `heard` at all.
    pub fn wants_ring(&self, rung: &AtomicU32, heard: impl FnOnce() -> bool) -> bool {
        // Pairs with the fences of those that look for work after it, here and in the host.
        if !mutant("the ringer has no fence") {
            fence(Ordering::SeqCst);
        }
        let word = self.0.load(Ordering::Relaxed);
        word != 0
            && word < LOOKING
            && rung.load(Ordering::Relaxed) == 0
            && heard()
            && rung.swap(1, Ordering::Relaxed) == 0
    }

    /// After something was made ready that not only work is, such as an earlier deadline, which everybody who
    /// sleeps must be told: whether anybody does.
    pub fn any(&self) -> bool {
        // Pairs with the fence in `going`.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) & (LOOKING - 1) != 0
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn one_ring_until_somebody_has_come_back() {
        let (sleepers, rung) = (Sleepers::new(), AtomicU32::new(0));
        let wants = || sleepers.wants_ring(&rung, || true);
        assert!(!wants(), "nobody sleeps");
        sleepers.going();
        sleepers.going();
        assert!(!sleepers.wants_ring(&rung, || false), "nobody hears it");
        assert!(wants());
        assert!(!wants(), "it was rung");
        sleepers.back(&rung);
        assert!(wants(), "for the other one");
        rung.store(0, Ordering::Relaxed);
        assert!(wants(), "the host has let it sleep on");
        sleepers.back(&rung);
        assert!(!wants(), "nobody sleeps");
    }

    #[test]
    fn no_ring_while_somebody_looks() {
        let (sleepers, rung) = (Sleepers::new(), AtomicU32::new(0));
        let wants = || sleepers.wants_ring(&rung, || true);
        sleepers.looks();
        assert!(!wants() && !sleepers.any());
        sleepers.going();
        assert!(!wants(), "the other one looks");
        assert!(sleepers.any(), "but there is one to be told of a deadline");
        sleepers.found();
        assert!(wants());
    }
}
