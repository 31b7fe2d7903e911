//! Which uThreads, and so which stacks, are free.
//!
//! Last in, first out: the stack that was used last is the one whose pages are in the caches. They are in
//! those of the vCPU that used it, so each vCPU keeps a few for itself, and gives and gets many at once.

use crate::spin::Spin;
use crate::{Id, NOBODY};

/// As many as a vCPU keeps for itself, and half of it, which it gives or gets at once.
const NEAR: usize = 32;
const BATCH: usize = NEAR / 2;

/// The free uThreads of a table, in memory that its maker provides.
#[derive(Debug)]
pub struct Slots<'a> {
    /// How many there are in all.
    count: usize,
    free: Spin<Stack<'a>>,
    near: &'a [Near],
}

#[derive(Debug)]
struct Stack<'a> {
    ids: &'a mut [Id],
    len: usize,
}

/// The free uThreads that a vCPU keeps for itself. Others come for one only when there are no more elsewhere.
#[derive(Debug)]
#[repr(align(128))]
pub struct Near(Spin<Few>);

#[derive(Debug)]
struct Few {
    ids: [Id; NEAR],
    len: usize,
}

impl Near {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Near {
        Near(Spin::new(Few {
            ids: [NOBODY; NEAR],
            len: 0,
        }))
    }
}

#[cfg(not(feature = "loom"))]
impl Default for Near {
    fn default() -> Near {
        Near::new()
    }
}

impl Stack<'_> {
    fn pop(&mut self) -> Option<Id> {
        self.len = self.len.checked_sub(1)?;
        Some(self.ids[self.len])
    }

    /// `false` if the table is full.
    fn push(&mut self, id: Id) -> bool {
        let room = self.len < self.ids.len();
        if room {
            self.ids[self.len] = id;
            self.len += 1;
        }
        room
    }
}

impl Few {
    fn pop(&mut self) -> Option<Id> {
        self.len = self.len.checked_sub(1)?;
        Some(self.ids[self.len])
    }

    fn push(&mut self, id: Id) {
        self.ids[self.len] = id;
        self.len += 1;
    }
}

impl<'a> Slots<'a> {
    /// All of `ids.len()` uThreads are free; the first to be taken are the lowest numbers. `near` has one for each
    /// vCPU.
    pub fn new(ids: &'a mut [Id], near: &'a [Near]) -> Slots<'a> {
        let len = ids.len();
        for (i, id) in ids.iter_mut().enumerate() {
            *id = (len - i) as Id;
        }
        Slots {
            count: len,
            free: Spin::new(Stack { ids, len }),
            near,
        }
    }

    /// Takes a free uThread, for a vCPU; `None` if all are in use.
    pub fn take(&self, vcpu: u32) -> Option<Id> {
        let Some(near) = self.near.get(vcpu as usize) else {
            return self.free.with(Stack::pop);
        };
        let mine = near.0.with(|few| few.pop().or_else(|| self.fetch(few)));
        // What others keep is not to be had for nothing, but no uThread is refused while one is free.
        mine.or_else(|| self.near.iter().find_map(|other| other.0.with(Few::pop)))
    }

    /// One for its vCPU, and more for itself.
    fn fetch(&self, few: &mut Few) -> Option<Id> {
        self.free.with(|stack| {
            let first = stack.pop()?;
            let from = stack.len.saturating_sub(BATCH - 1);
            // In their order: what was given back last is taken first.
            for id in &stack.ids[from..stack.len] {
                few.push(*id);
            }
            stack.len = from;
            Some(first)
        })
    }

    /// Gives one back, on a vCPU. `false` if the table is full or the number is none of its: it was given
    /// back too often, or never taken.
    pub fn give(&self, vcpu: u32, id: Id) -> bool {
        if id == NOBODY || id as usize > self.count {
            return false;
        }
        let Some(near) = self.near.get(vcpu as usize) else {
            return self.free.with(|stack| stack.push(id));
        };
        near.0.with(|few| {
            if few.len == NEAR {
                let older = &few.ids[..BATCH];
                if !self.free.with(|stack| older.iter().all(|id| stack.push(*id))) {
                    return false;
                }
                few.ids.copy_within(BATCH.., 0);
                few.len = NEAR - BATCH;
            }
            few.push(id);
            true
        })
    }

    /// How many are free.
    pub fn free(&self) -> usize {
        let near: usize = self.near.iter().map(|near| near.0.with(|few| few.len)).sum();
        near + self.free.with(|stack| stack.len)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    fn near<const N: usize>() -> [Near; N] {
        [const { Near::new() }; N]
    }

    #[test]
    fn all_are_taken_once() {
        let (mut ids, near) = ([0; 100], near::<2>());
        let slots = Slots::new(&mut ids, &near);
        let mut taken: Vec<_> = core::iter::from_fn(|| slots.take(0)).collect();
        assert_eq!(slots.take(1), None);
        assert_eq!(slots.free(), 0);
        assert!(taken.iter().all(|id| slots.give(1, *id)));
        assert_eq!(slots.free(), 100);
        taken.sort_unstable();
        assert!(taken.into_iter().eq(1..=100));
    }

    #[test]
    fn what_another_vcpu_keeps_is_found() {
        let (mut ids, near) = ([0; 3], near::<2>());
        let slots = Slots::new(&mut ids, &near);
        let taken: Vec<_> = core::iter::from_fn(|| slots.take(0)).collect();
        assert_eq!(taken.len(), 3);
        assert!(taken.iter().all(|id| slots.give(0, *id)));
        assert_eq!(core::iter::from_fn(|| slots.take(1)).count(), 3);
        assert_eq!(slots.take(7), None, "and a vCPU that keeps none");
    }

    #[test]
    fn the_last_given_is_the_next_taken() {
        let (mut ids, near) = ([0; 3], near::<1>());
        let slots = Slots::new(&mut ids, &near);
        let (a, b) = (slots.take(0), slots.take(0));
        assert!(slots.give(0, a.unwrap_or(0)));
        assert_eq!(slots.take(0), a);
        assert_ne!(a, b);
    }

    #[test]
    fn a_vcpu_gives_back_the_older_half_of_what_it_keeps() {
        let (mut ids, near) = ([0; 2 * NEAR], near::<2>());
        let slots = Slots::new(&mut ids, &near);
        let taken: Vec<_> = core::iter::from_fn(|| slots.take(0)).collect();
        assert!(taken[..=NEAR].iter().all(|id| slots.give(0, *id)));
        // The other one gets them, the latest of them first.
        let theirs: Vec<_> = (0..BATCH).filter_map(|_| slots.take(1)).collect();
        let mut older = taken[..BATCH].to_vec();
        older.reverse();
        assert_eq!(theirs, older);
    }

    #[test]
    fn strangers_are_refused() {
        for near in [&[][..], &near::<1>()] {
            let mut ids = [0; 2];
            let slots = Slots::new(&mut ids, near);
            assert!(!slots.give(0, NOBODY));
            assert!(!slots.give(0, 3));
            assert_eq!(slots.free(), 2);
        }
    }
}
