//! Which uThreads, and so which stacks, are free.
//!
//! Last in, first out: the stack that was used last is the one whose pages are in the caches.

use crate::spin::Spin;
use crate::{Id, NOBODY};

/// The free uThreads of a table, in memory that its maker provides.
#[derive(Debug)]
pub struct Slots<'a> {
    free: Spin<Stack<'a>>,
}

#[derive(Debug)]
struct Stack<'a> {
    ids: &'a mut [Id],
    len: usize,
}

impl<'a> Slots<'a> {
    /// All of `ids.len()` uThreads are free; the first to be taken is number 1.
    pub fn new(ids: &'a mut [Id]) -> Slots<'a> {
        let len = ids.len();
        for (i, id) in ids.iter_mut().enumerate() {
            *id = (len - i) as Id;
        }
        Slots {
            free: Spin::new(Stack { ids, len }),
        }
    }

    /// Takes a free uThread; `None` if all are in use.
    pub fn take(&self) -> Option<Id> {
        self.free.with(|stack| {
            stack.len = stack.len.checked_sub(1)?;
            Some(stack.ids[stack.len])
        })
    }

    /// Gives one back. `false` if the table is full or the number is none of its: it was given
    /// back twice, or never taken.
    pub fn give(&self, id: Id) -> bool {
        self.free.with(|stack| {
            let known = id != NOBODY && id as usize <= stack.ids.len();
            if !known || stack.len >= stack.ids.len() {
                return false;
            }
            stack.ids[stack.len] = id;
            stack.len += 1;
            true
        })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        self.free.with(|stack| stack.len)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn all_are_taken_once() {
        let mut ids = [0; 5];
        let slots = Slots::new(&mut ids);
        let mut taken: Vec<_> = core::iter::from_fn(|| slots.take()).collect();
        assert_eq!(taken, [1, 2, 3, 4, 5]);
        assert_eq!(slots.take(), None);
        taken.reverse();
        assert!(taken.iter().all(|id| slots.give(*id)));
        assert_eq!(slots.free(), 5);
    }

    #[test]
    fn the_last_given_is_the_next_taken() {
        let mut ids = [0; 3];
        let slots = Slots::new(&mut ids);
        let (a, b) = (slots.take(), slots.take());
        assert!(slots.give(a.unwrap_or(0)));
        assert_eq!(slots.take(), a);
        assert_ne!(a, b);
    }

    #[test]
    fn strangers_are_refused() {
        let mut ids = [0; 2];
        let slots = Slots::new(&mut ids);
        assert!(!slots.give(NOBODY));
        assert!(!slots.give(3));
        assert!(!slots.give(1), "none is out, so none can come back");
        assert_eq!(slots.free(), 2);
    }
}
