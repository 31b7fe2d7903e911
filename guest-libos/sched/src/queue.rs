//! The run queue of a vCPU: first in, first out, and open to thieves.
//!
//! A ring with room for every uThread there is, so it never overflows, behind a spin lock. The
//! owner takes from the head and adds at the tail; a uThread that was interrupted, or that has
//! just been handed a lock, goes to the head. A thief takes the older half and keeps its order.
//! A parked vCPU's queue is a queue like any other: its lock is free, because the host parks a
//! vCPU only where it holds none.

use crate::spin::Spin;
use crate::Id;

/// One place in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub id: Id,
    /// Stamp of when it became ready. It goes along with the uThread from queue to queue.
    pub ready: u32,
}

/// Where a queue's figures are published. Called with the queue's lock held, so that figures and
/// content change as one for whoever takes the lock.
pub trait Figures {
    /// This queue now holds `len` uThreads, and the one at its head became ready at `oldest`.
    fn queue(&self, len: u32, oldest: u32);
    /// This many more (or fewer) uThreads are runnable in the VM, and some figure has changed.
    fn changed(&self, delta: i32);
}

/// A run queue whose ring lies in memory that its maker provides.
#[derive(Debug)]
pub struct RunQueue<'a, F> {
    ring: Spin<Ring<'a>>,
    figures: F,
}

#[derive(Debug)]
struct Ring<'a> {
    entries: &'a mut [Entry],
    head: u32,
    len: u32,
}

impl Ring<'_> {
    /// Index of the `i`-th entry. The ring's size is a power of two.
    fn at(&self, i: u32) -> usize {
        self.head.wrapping_add(i) as usize & (self.entries.len() - 1)
    }

    fn full(&self) -> bool {
        self.len as usize >= self.entries.len()
    }

    fn push_back(&mut self, entry: Entry) {
        let at = self.at(self.len);
        self.entries[at] = entry;
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Entry> {
        if self.len == 0 {
            return None;
        }
        let entry = self.entries[self.at(0)];
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
        Some(entry)
    }

    fn publish(&self, figures: &impl Figures) {
        figures.queue(
            self.len,
            if self.len == 0 {
                0
            } else {
                self.entries[self.at(0)].ready
            },
        );
    }
}

/// The queue holds as many uThreads as it has room for: some uThread is in it twice.
#[derive(Debug, PartialEq, Eq)]
pub struct Overflow;

impl<'a, F: Figures> RunQueue<'a, F> {
    /// A queue in `entries`, whose number is cut down to a power of two.
    pub fn new(entries: &'a mut [Entry], figures: F) -> RunQueue<'a, F> {
        let size = match entries.len() {
            0 => 0,
            n => 1 << n.ilog2(),
        };
        let entries = &mut entries[..size];
        RunQueue {
            ring: Spin::new(Ring {
                entries,
                head: 0,
                len: 0,
            }),
            figures,
        }
    }

    /// Adds at the tail: newly ready, or done with its turn.
    pub fn push_back(&self, entry: Entry) -> Result<(), Overflow> {
        self.push(entry, Ring::push_back)
    }

    /// Adds at the head: it was interrupted, or others wait for what it holds.
    pub fn push_front(&self, entry: Entry) -> Result<(), Overflow> {
        self.push(entry, |ring, entry| {
            ring.head = ring.head.wrapping_sub(1);
            let at = ring.at(0);
            ring.entries[at] = entry;
            ring.len += 1;
        })
    }

    fn push(&self, entry: Entry, how: impl FnOnce(&mut Ring<'a>, Entry)) -> Result<(), Overflow> {
        self.ring.with(|ring| {
            if ring.full() {
                return Err(Overflow);
            }
            how(ring, entry);
            ring.publish(&self.figures);
            self.figures.changed(1);
            Ok(())
        })
    }

    /// Takes the oldest.
    pub fn pop(&self) -> Option<Entry> {
        self.ring.with(|ring| {
            let entry = ring.pop()?;
            ring.publish(&self.figures);
            self.figures.changed(-1);
            Some(entry)
        })
    }

    /// Moves the older half of `victim`'s queue, rounded up, to this queue's tail in its order;
    /// the number moved. 0 as well if the victim's lock is taken at the moment: two vCPUs that
    /// rob each other must not wait for each other.
    pub fn steal_from(&self, victim: &RunQueue<'_, F>) -> u32 {
        if core::ptr::addr_eq(self, victim) {
            return 0;
        }
        self.ring.with(|mine| {
            let moved = victim.ring.try_with(|theirs| {
                let half = theirs.len.div_ceil(2);
                let room = mine.entries.len() as u32 - mine.len;
                let count = half.min(room);
                for _ in 0..count {
                    if let Some(entry) = theirs.pop() {
                        mine.push_back(entry);
                    }
                }
                if count > 0 {
                    theirs.publish(&victim.figures);
                    mine.publish(&self.figures);
                    self.figures.changed(0);
                }
                count
            });
            moved.unwrap_or(0)
        })
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.ring.with(|ring| ring.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn figures(&self) -> &F {
        &self.figures
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[path = "queue_tests.rs"]
mod tests;
