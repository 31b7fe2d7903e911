//! Lists of uThreads that wait for something, first come, first served.
//!
//! A uThread waits for one thing at a time, so one pair of links in each uThread is enough for all
//! lists. A list is guarded by the lock of what is waited for. Who waits with a deadline may have
//! to leave from the middle of a list, so lists are linked both ways.

use crate::sync::{AtomicU32, Ordering};
use crate::sync64::AtomicU64;
use crate::{Id, NOBODY};

/// The link of a uThread: who waits behind it.
pub trait Links {
    fn link(&self, id: Id) -> &AtomicU32;
}

/// What else wait lists need of uThreads.
pub trait Table: Links {
    /// Who waits before it; itself while it is on no list.
    fn back(&self, id: Id) -> &AtomicU32;

    /// A word about its wait, for whoever finds it on the list. Written before it is listed.
    fn arg(&self, id: Id) -> &AtomicU64;

    /// Asked with the list's lock held by whoever takes the uThread off: whether it is the asker's
    /// to make runnable. If not, its deadline was first; see [`crate::ticket`].
    fn claim(&self, id: Id) -> bool;

    /// It was claimed, but goes on to wait for something else, without a deadline.
    fn settle(&self, id: Id);
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

    // All accesses to links are relaxed: those of waiting uThreads are touched under the list's
    // lock only.

    pub fn push(&mut self, table: &impl Table, id: Id) {
        table.link(id).store(NOBODY, Ordering::Relaxed);
        table.back(id).store(self.last, Ordering::Relaxed);
        if self.is_empty() {
            self.first = id;
        } else {
            table.link(self.last).store(id, Ordering::Relaxed);
        }
        self.last = id;
    }

    /// Takes the first off, whether or not it is still to be woken.
    pub fn pop(&mut self, table: &impl Table) -> Option<Id> {
        let id = self.first;
        (id != NOBODY).then(|| {
            self.unlink(table, id);
            id
        })
    }

    /// Takes off the first that is the caller's to make runnable. Those whose deadlines were first
    /// go as well; they find themselves on no list.
    pub fn take(&mut self, table: &impl Table) -> Option<Id> {
        loop {
            let id = self.pop(table)?;
            if table.claim(id) {
                return Some(id);
            }
        }
    }

    /// As [`Waiters::take`], up to `most` of those whose word is `arg`, in one pass. They go to
    /// `taken`, which is the caller's, and have no deadline any more; how many they are.
    pub fn take_for(&mut self, table: &impl Table, arg: u64, most: u32, taken: &mut Waiters) -> u32 {
        let (mut id, mut count) = (self.first, 0);
        while id != NOBODY && count < most {
            let next = table.link(id).load(Ordering::Relaxed);
            if table.arg(id).load(Ordering::Relaxed) == arg {
                self.unlink(table, id);
                if table.claim(id) {
                    table.settle(id);
                    taken.push(table, id);
                    count += 1;
                }
            }
            id = next;
        }
        count
    }

    /// Takes `id` off, which was put here, unless somebody has taken it off already.
    pub fn remove(&mut self, table: &impl Table, id: Id) -> bool {
        if table.back(id).load(Ordering::Relaxed) == id {
            return false;
        }
        self.unlink(table, id);
        true
    }

    fn unlink(&mut self, table: &impl Table, id: Id) {
        let next = table.link(id).load(Ordering::Relaxed);
        let back = table.back(id).load(Ordering::Relaxed);
        if back == NOBODY {
            self.first = next;
        } else {
            table.link(back).store(next, Ordering::Relaxed);
        }
        if next == NOBODY {
            self.last = back;
        } else {
            table.back(next).store(back, Ordering::Relaxed);
        }
        table.back(id).store(id, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use proptest::prelude::*;

    fn all(list: &mut Waiters, table: &Fake) -> Vec<Id> {
        core::iter::from_fn(|| list.pop(table)).collect()
    }

    #[test]
    fn first_come_first_served() {
        let table = Fake::new();
        let mut list = Waiters::new();
        assert_eq!(list.pop(&table), None);
        for id in [3, 1, 5] {
            list.push(&table, id);
        }
        assert_eq!(list.pop(&table), Some(3));
        list.push(&table, 3);
        assert_eq!(all(&mut list, &table), [1, 5, 3]);
        assert!(list.is_empty());
    }

    #[test]
    fn those_whose_time_is_over_are_passed_over_and_do_not_leave_twice() {
        let table = Fake::new();
        let mut list = Waiters::new();
        for id in [1, 2, 3] {
            table.open(id);
            list.push(&table, id);
        }
        table.expire(1);
        assert_eq!(list.take(&table), Some(2));
        assert!(!list.remove(&table, 1), "it was taken off along the way");
        table.expire(3);
        assert!(list.remove(&table, 3));
        assert!(!list.remove(&table, 3));
        assert_eq!(list.take(&table), None);
    }

    #[test]
    fn those_with_another_word_stay() {
        let table = Fake::new();
        let mut list = Waiters::new();
        for (id, arg) in [(1, 10), (2, 20), (3, 10), (4, 20)] {
            table.arg(id).store(arg, Ordering::Relaxed);
            list.push(&table, id);
        }
        let mut taken = Waiters::new();
        assert_eq!(list.take_for(&table, 20, 1, &mut taken), 1);
        assert_eq!(list.take_for(&table, 20, 5, &mut taken), 1);
        assert_eq!(list.take_for(&table, 20, 5, &mut taken), 0);
        assert_eq!(all(&mut taken, &table), [2, 4]);
        assert_eq!(all(&mut list, &table), [1, 3]);
    }

    proptest! {
        #[test]
        fn it_is_a_list(steps in proptest::collection::vec((0u8..3, 1u32..8), 0..60)) {
            let table = Fake::new();
            let mut list = Waiters::new();
            let mut model: Vec<Id> = Vec::new();
            for (what, id) in steps {
                match what {
                    0 if !model.contains(&id) => {
                        list.push(&table, id);
                        model.push(id);
                    }
                    1 => {
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        prop_assert_eq!(list.pop(&table), expected);
                    }
                    2 if table.was_listed(id) => {
                        let there = model.contains(&id);
                        model.retain(|other| *other != id);
                        prop_assert_eq!(list.remove(&table, id), there);
                    }
                    _ => {}
                }
                prop_assert_eq!(list.is_empty(), model.is_empty());
            }
            prop_assert_eq!(all(&mut list, &table), model);
        }
    }
}
