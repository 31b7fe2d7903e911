//! Timers in the order of their deadlines: a heap whose nodes have four children.
//!
//! Four, because the children of a node are then one line of 64 bytes, and a heap of thousands is
//! half as deep as one with two. Each timer's place is kept where its uThread can find it, so that
//! a wait that ends early takes its timer along, and none is left to be fired for nothing.

use crate::sync::{AtomicU32, Ordering};
use crate::ticket::Number;
use crate::Id;

const CHILDREN: usize = 4;
/// Not in the heap.
pub const NOWHERE: u32 = 0;

/// One timer: `id`'s wait `number` ends at `deadline`, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    pub deadline: u64,
    pub id: Id,
    pub number: Number,
}

/// Where the timer of a uThread lies: its index plus 1, or [`NOWHERE`]. Written under the heap's
/// lock only, so relaxed.
pub trait Places {
    fn place(&self, id: Id) -> &AtomicU32;
}

/// There is no room for another timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoTimer;

/// A heap in memory that its maker provides.
#[derive(Debug)]
pub struct Heap<'a> {
    timers: &'a mut [Timer],
    len: usize,
}

impl<'a> Heap<'a> {
    pub fn new(timers: &'a mut [Timer]) -> Heap<'a> {
        Heap { timers, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one that is due first.
    pub fn first(&self) -> Option<&Timer> {
        self.timers[..self.len].first()
    }

    pub fn insert(&mut self, places: &impl Places, timer: Timer) -> Result<(), NoTimer> {
        if self.len >= self.timers.len() {
            return Err(NoTimer);
        }
        self.len += 1;
        self.up(places, self.len - 1, timer);
        Ok(())
    }

    /// Takes the first out if it is due at `now`.
    pub fn take_due(&mut self, places: &impl Places, now: u64) -> Option<Timer> {
        let first = *self.first().filter(|first| first.deadline <= now)?;
        self.take(places, 0);
        Some(first)
    }

    /// Takes the timer of `id` out, if it is here.
    pub fn remove(&mut self, places: &impl Places, id: Id) -> Option<Timer> {
        let at = (places.place(id).load(Ordering::Relaxed) as usize).wrapping_sub(1);
        let timer = *self.timers[..self.len].get(at)?;
        // A place that belongs to another heap: the uThread's timer is not here.
        if timer.id != id {
            return None;
        }
        self.take(places, at);
        Some(timer)
    }

    fn take(&mut self, places: &impl Places, at: usize) {
        places.place(self.timers[at].id).store(NOWHERE, Ordering::Relaxed);
        self.len -= 1;
        if at < self.len {
            // The last one fills the gap, and goes to where it belongs from there.
            let last = self.timers[self.len];
            let at = self.down(places, at);
            self.up(places, at, last);
        }
    }

    /// Moves the gap at `at` down to where there are no children; where it is then.
    fn down(&mut self, places: &impl Places, mut at: usize) -> usize {
        loop {
            let first = at * CHILDREN + 1;
            let children = first..(first + CHILDREN).min(self.len);
            let Some(least) = children.min_by_key(|child| self.timers[*child].deadline) else {
                return at;
            };
            self.put(places, at, self.timers[least]);
            at = least;
        }
    }

    /// Puts `timer` into the gap at `at`, or above it.
    fn up(&mut self, places: &impl Places, mut at: usize, timer: Timer) {
        while at > 0 {
            let parent = (at - 1) / CHILDREN;
            if self.timers[parent].deadline <= timer.deadline {
                break;
            }
            self.put(places, at, self.timers[parent]);
            at = parent;
        }
        self.put(places, at, timer);
    }

    fn put(&mut self, places: &impl Places, at: usize, timer: Timer) {
        self.timers[at] = timer;
        places.place(timer.id).store(at as u32 + 1, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    struct Table(Vec<AtomicU32>);

    impl Places for Table {
        fn place(&self, id: Id) -> &AtomicU32 {
            &self.0[id as usize]
        }
    }

    fn table(n: usize) -> Table {
        Table((0..n).map(|_| AtomicU32::new(NOWHERE)).collect())
    }

    fn timer(deadline: u64, id: Id) -> Timer {
        Timer {
            deadline,
            id,
            number: id << 2,
        }
    }

    #[test]
    fn room_is_bounded_and_said_to_be() {
        let mut room = [Timer::default(); 2];
        let (mut heap, table) = (Heap::new(&mut room), table(4));
        assert_eq!(heap.insert(&table, timer(9, 1)), Ok(()));
        assert_eq!(heap.insert(&table, timer(8, 2)), Ok(()));
        assert_eq!(heap.insert(&table, timer(7, 3)), Err(NoTimer));
        assert_eq!(heap.take_due(&table, 7), None);
        assert_eq!(heap.take_due(&table, 8), Some(timer(8, 2)));
        assert_eq!(heap.remove(&table, 2), None, "it has been taken");
        assert_eq!(heap.remove(&table, 1), Some(timer(9, 1)));
        assert!(heap.is_empty());
    }

    #[test]
    fn a_place_in_another_heap_is_not_taken_for_one_here() {
        let (mut here, mut there) = ([Timer::default(); 4], [Timer::default(); 4]);
        let (mut here, mut there) = (Heap::new(&mut here), Heap::new(&mut there));
        let table = table(4);
        assert_eq!(here.insert(&table, timer(5, 1)), Ok(()));
        assert_eq!(there.insert(&table, timer(5, 2)), Ok(()));
        assert_eq!(here.remove(&table, 2), None);
        assert_eq!((here.len(), there.len()), (1, 1));
    }

    proptest! {
        /// Whatever is armed and taken off, what is due comes in the order of the deadlines.
        #[test]
        fn a_heap_is_a_sorted_map(steps in proptest::collection::vec((0u8..4, 0u64..50, 0u32..40), 1..400)) {
            let mut room = vec![Timer::default(); 40];
            let (mut heap, table) = (Heap::new(&mut room), table(40));
            let mut model: BTreeMap<(u64, Id), ()> = BTreeMap::new();
            for (step, deadline, id) in steps {
                let armed = model.keys().find(|key| key.1 == id).copied();
                match (step, armed) {
                    (0 | 1, None) => {
                        prop_assert_eq!(heap.insert(&table, timer(deadline, id)), Ok(()));
                        model.insert((deadline, id), ());
                    }
                    (0..=2, armed) => {
                        prop_assert_eq!(heap.remove(&table, id), armed.map(|(deadline, id)| timer(deadline, id)));
                        armed.map(|key| model.remove(&key));
                    }
                    _ => {
                        let due = heap.take_due(&table, deadline);
                        let least = model.keys().next().map(|key| key.0).filter(|least| *least <= deadline);
                        prop_assert_eq!(due.map(|timer| timer.deadline), least);
                        if let Some(timer) = due {
                            prop_assert_eq!(model.remove(&(timer.deadline, timer.id)), Some(()));
                        }
                    }
                }
                prop_assert_eq!(heap.len(), model.len());
                prop_assert_eq!(heap.first().map(|first| first.deadline), model.keys().next().map(|key| key.0));
            }
        }
    }
}
