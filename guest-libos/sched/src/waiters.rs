//! Lists of uThreads that wait for something, first come, first served.
//!
//! A uThread waits for one thing at a time, so one link in each uThread is enough for all lists.
//! A list is guarded by the lock of what is waited for.

use crate::sync::{AtomicU32, Ordering};
use crate::{Id, NOBODY};

/// The link of a uThread: who waits behind it.
pub trait Links {
    fn link(&self, id: Id) -> &AtomicU32;
}

/// A first-come list. Empty when made.
#[derive(Debug, Default)]
pub struct Waiters {
    first: Id,
    last: Id,
}

impl Waiters {
    pub const fn new() -> Waiters {
        Waiters {
            first: NOBODY,
            last: NOBODY,
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.first == NOBODY
    }

    pub fn push(&mut self, links: &impl Links, id: Id) {
        // Relaxed: the links of waiting uThreads are touched under the list's lock only.
        links.link(id).store(NOBODY, Ordering::Relaxed);
        if self.is_empty() {
            self.first = id;
        } else {
            links.link(self.last).store(id, Ordering::Relaxed);
        }
        self.last = id;
    }

    pub fn pop(&mut self, links: &impl Links) -> Option<Id> {
        if self.is_empty() {
            return None;
        }
        let id = self.first;
        self.first = links.link(id).load(Ordering::Relaxed);
        Some(id)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    struct Table([AtomicU32; 8]);

    impl Links for Table {
        fn link(&self, id: Id) -> &AtomicU32 {
            &self.0[id as usize]
        }
    }

    #[test]
    fn first_come_first_served() {
        let table = Table([const { AtomicU32::new(7) }; 8]);
        let mut list = Waiters::new();
        assert_eq!(list.pop(&table), None);
        for id in [3, 1, 5] {
            list.push(&table, id);
        }
        assert_eq!(list.pop(&table), Some(3));
        list.push(&table, 3);
        let rest: Vec<_> = core::iter::from_fn(|| list.pop(&table)).collect();
        assert_eq!(rest, [1, 5, 3]);
        assert!(list.is_empty());
    }
}
