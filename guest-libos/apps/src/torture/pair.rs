//! Two words that agree whenever nobody is at work on them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a lock guards. All accesses are relaxed: that they are ordered is the lock's promise, which is
/// what is on trial here.
#[derive(Debug)]
pub struct Pair {
    one: AtomicU64,
    /// The complement of `one`.
    other: AtomicU64,
    /// Who is at work, as its number plus 1.
    holder: AtomicU64,
    /// Times that it was worked on: plainly read and written, so that one that is lost is missed.
    visits: AtomicU64,
}

/// What was found in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Torn {
    /// Somebody else is at work: this number.
    Held(u64),
    Differ,
    /// It changed under the hands of who has the lock.
    Changed,
}

impl Pair {
    pub const fn new() -> Pair {
        Pair {
            one: AtomicU64::new(0),
            other: AtomicU64::new(u64::MAX),
            holder: AtomicU64::new(0),
            visits: AtomicU64::new(0),
        }
    }

    /// The work of number `who`, which has the lock: `value` is written in two halves, `between`
    /// which it may lose its core.
    pub fn visit(&self, who: u64, value: u64, between: impl FnOnce()) -> Result<(), Torn> {
        let found = self.look();
        let visits = self.visits.load(Relaxed);
        self.holder.store(who + 1, Relaxed);
        self.one.store(value, Relaxed);
        between();
        let same = self.holder.load(Relaxed) == who + 1 && self.one.load(Relaxed) == value;
        self.other.store(!value, Relaxed);
        self.visits.store(visits + 1, Relaxed);
        self.holder.store(0, Relaxed);
        found.and(if same { Ok(()) } else { Err(Torn::Changed) })
    }

    /// A look, by somebody who may look while nobody works.
    pub fn look(&self) -> Result<(), Torn> {
        match self.holder.load(Relaxed) {
            0 if self.one.load(Relaxed) == !self.other.load(Relaxed) => Ok(()),
            0 => Err(Torn::Differ),
            holder => Err(Torn::Held(holder - 1)),
        }
    }

    /// Who is at work.
    pub fn holder(&self) -> Option<u64> {
        self.holder.load(Relaxed).checked_sub(1)
    }

    pub fn visits(&self) -> u64 {
        self.visits.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_tells_who_is_in_the_way() {
        let pair = Pair::new();
        assert_eq!(pair.visit(3, 77, || ()), Ok(()));
        assert_eq!((pair.visits(), pair.look(), pair.holder()), (1, Ok(()), None));
        let outer = pair.visit(3, 1, || {
            assert_eq!(pair.holder(), Some(3));
            assert_eq!(pair.look(), Err(Torn::Held(3)));
            assert_eq!(pair.visit(4, 2, || ()), Err(Torn::Held(3)));
        });
        assert_eq!(outer, Err(Torn::Changed));
        assert_eq!(pair.visits(), 2, "one of the three was lost");
        pair.one.store(9, Relaxed);
        assert_eq!(pair.look(), Err(Torn::Differ));
    }
}
