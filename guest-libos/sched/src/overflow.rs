//! What does not fit into a run queue's ring: a list behind a lock, without a bound.
//!
//! It is a chain through a table with one word for each uThread, so it never runs out of room: a
//! uThread is in one queue at a time. All in it became ready after all in the ring.

use crate::queue::Entry;
use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::sync64::AtomicU64;
use crate::{Id, NOBODY};

/// A uThread whose number is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger;

/// The list.
#[derive(Debug)]
pub struct Overflow<'a> {
    chain: Spin<Chain>,
    /// Length, and when the first one became ready; written under the lock, for looks without it.
    len: AtomicU32,
    oldest: AtomicU32,
    /// For each uThread, who is behind it.
    links: &'a [AtomicU64],
}

#[derive(Debug)]
struct Chain {
    first: Entry,
    last: Id,
    len: u32,
}

/// The list while its lock is held.
pub struct Open<'c, 'a> {
    chain: &'c mut Chain,
    list: &'c Overflow<'a>,
}

impl<'a> Overflow<'a> {
    /// A list for uThreads 1 to `links.len()`; all lists of a VM share the table.
    pub fn new(links: &'a [AtomicU64]) -> Overflow<'a> {
        Overflow {
            chain: Spin::new(Chain {
                first: Entry::default(),
                last: NOBODY,
                len: 0,
            }),
            len: AtomicU32::new(0),
            oldest: AtomicU32::new(0),
            links,
        }
    }

    /// Length and oldest stamp, without the lock. The owner sees what it has put in itself, and
    /// what others have handed to it a little later.
    pub fn look(&self) -> (u32, u32) {
        (
            self.len.load(Ordering::Relaxed),
            self.oldest.load(Ordering::Relaxed),
        )
    }

    /// Whether there is nothing in it, without the lock.
    pub fn is_empty(&self) -> bool {
        self.len.load(Ordering::Relaxed) == 0
    }

    /// Whether `id` can be in it.
    pub fn knows(&self, id: Id) -> Result<(), Stranger> {
        self.link(id).map(|_| ()).ok_or(Stranger)
    }

    fn link(&self, id: Id) -> Option<&'a AtomicU64> {
        self.links.get((id as usize).wrapping_sub(1))
    }

    /// Runs `f` with the lock held.
    pub fn with<R>(&self, f: impl FnOnce(&mut Open<'_, 'a>) -> R) -> R {
        self.chain.with(|chain| self.opened(chain, f))
    }

    /// Runs `f` if the lock is free at this moment.
    pub fn try_with<R>(&self, f: impl FnOnce(&mut Open<'_, 'a>) -> R) -> Option<R> {
        self.chain.try_with(|chain| self.opened(chain, f))
    }

    fn opened<R>(&self, chain: &mut Chain, f: impl FnOnce(&mut Open<'_, 'a>) -> R) -> R {
        let mut open = Open { chain, list: self };
        let result = f(&mut open);
        // Relaxed: whoever changes the list publishes its queue's figures afterwards, and there
        // it is seen by all who do so later.
        self.len.store(open.chain.len, Ordering::Relaxed);
        self.oldest.store(open.chain.first.ready, Ordering::Relaxed);
        result
    }
}

// The links of queued uThreads are touched under the lock of the list they are in, so relaxed.
impl Open<'_, '_> {
    pub fn len(&self) -> u32 {
        self.chain.len
    }

    pub fn is_empty(&self) -> bool {
        self.chain.len == 0
    }

    pub fn push_back(&mut self, entry: Entry) {
        if self.chain.len == 0 {
            return self.push_front(entry);
        }
        if let Some(link) = self.list.link(self.chain.last) {
            link.store(entry.packed(), Ordering::Relaxed);
        }
        self.chain.last = entry.id;
        self.chain.len += 1;
    }

    pub fn push_front(&mut self, entry: Entry) {
        if let Some(link) = self.list.link(entry.id) {
            link.store(self.chain.first.packed(), Ordering::Relaxed);
        }
        if self.chain.len == 0 {
            self.chain.last = entry.id;
        }
        self.chain.first = entry;
        self.chain.len += 1;
    }

    pub fn pop(&mut self) -> Option<Entry> {
        self.chain.len = self.chain.len.checked_sub(1)?;
        let first = self.chain.first;
        self.chain.first = match self.list.link(first.id) {
            Some(link) if self.chain.len > 0 => Entry::unpacked(link.load(Ordering::Relaxed)),
            _ => Entry::default(),
        };
        Some(first)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn both_ends_and_their_figures() {
        let links: Vec<_> = (0..4).map(|_| AtomicU64::new(0)).collect();
        let list = Overflow::new(&links);
        let entry = |id| Entry { id, ready: 10 + id };
        assert_eq!(list.knows(4), Ok(()));
        assert_eq!(list.knows(5), Err(Stranger));
        assert_eq!(list.knows(NOBODY), Err(Stranger));
        list.with(|open| {
            open.push_back(entry(2));
            open.push_back(entry(3));
            open.push_front(entry(1));
        });
        assert_eq!(list.look(), (3, 11));
        assert_eq!(list.try_with(|open| open.pop()), Some(Some(entry(1))));
        assert_eq!(list.look(), (2, 12));
        list.with(|open| {
            open.push_back(entry(4));
            let rest: Vec<_> = core::iter::from_fn(|| open.pop()).collect();
            assert_eq!(rest, [entry(2), entry(3), entry(4)]);
            assert!(open.is_empty());
        });
        assert_eq!(list.look(), (0, 0));
    }
}
