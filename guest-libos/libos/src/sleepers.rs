//! How many vCPUs sleep, so that nobody rings for nobody.
//!
//! No wake is lost: a vCPU that goes to sleep says so, has a full fence, then looks for work. Who
//! has made work has a full fence, then looks for sleepers. So either the one finds the work, or
//! the other finds the sleeper and rings.
//!
//! A ring is a way out of the guest, and each uThread that becomes ready while somebody sleeps costs
//! one. It would not do to ring once and leave a mark until somebody is back: Fluxion lets a vCPU that
//! finds the work gone sleep on without telling the guest, and the mark would stay.

use core::sync::atomic::{fence, AtomicU32, Ordering};

/// vCPUs that have gone, or are about to go, through the yield door. Relaxed: the fences order it.
#[derive(Debug)]
pub(crate) struct Sleepers(AtomicU32);

impl Sleepers {
    pub(crate) const fn new() -> Sleepers {
        Sleepers(AtomicU32::new(0))
    }

    /// Before the last look for work.
    pub(crate) fn going(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        // Pairs with the fence in `any`.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn back(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// After work was made ready.
    pub(crate) fn any(&self) -> bool {
        // Pairs with the fence in `going`.
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != 0
    }
}
