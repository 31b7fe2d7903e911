//! The run queue of a vCPU: first in, first out, and open to thieves.
//!
//! A bounded ring without a lock, and behind it a list for what does not fit. The owner takes from
//! the head and adds at the tail; a uThread that was interrupted, or that has just been handed a
//! lock, goes to the head. A thief takes the older half and keeps its order. What went to the head
//! is older than all else to a thief as well, so a lock holder is the first to be taken along.
//!
//! A parked vCPU's queue is a queue like any other. The host parks a vCPU in FluxOS's code by force
//! only, and even then everything in the ring is for others to take; the list is, too, unless
//! the vCPU was stopped within the few dozen instructions that hold its lock.
//!
//! # What the figures promise
//!
//! Whoever changes a queue publishes its length and the stamp of its oldest uThread, after the
//! change. Several may do so at the same time: each looks again after it has published, and
//! publishes again if the queue is not what it was.
//!
//! * When nobody is at work on a queue, its published length and oldest stamp are exact.
//! * The owner publishes once in each pass of its scheduler, before a uThread runs or the vCPU
//!   leaves its core, and when a running uThread makes another one runnable; not in between. So
//!   while a uThread runs the figures are exact but for thieves at work.
//! * A thief does not run after a queue that changes faster than it can look. It gives up after
//!   some rounds and leaves a mark, and then the figures may be those of a moment ago until
//!   the owner's next pass, or until the next thief comes by, who finds the mark.
//! * What is stolen is in no figure, or in two, for as long as it takes the thief to publish. One alone is in none:
//!   the thief is about to run it.

use crate::mutant::mutant;
use crate::overflow::{Overflow, Stranger};
use crate::ring::{Ends, Ring};
use crate::sync::{AtomicU32, Ordering};
use crate::sync64::AtomicU64;
use crate::Id;

/// One place in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub id: Id,
    /// Stamp of when it became ready. It goes along with the uThread from queue to queue.
    pub ready: u32,
}

impl Entry {
    pub(crate) fn packed(self) -> u64 {
        u64::from(self.id) << 32 | u64::from(self.ready)
    }

    pub(crate) fn unpacked(word: u64) -> Entry {
        Entry {
            id: (word >> 32) as Id,
            ready: word as u32,
        }
    }
}

/// Where a queue's figures are published.
pub trait Figures {
    /// This queue now holds `len` uThreads, and the one at its head became ready at `oldest`; the
    /// head of its ring or that of its list, whichever is older.
    ///
    /// Called by several vCPUs at the same time. It stores `oldest` first, and `len` by a
    /// read-modify-write operation, acquire and release: who comes to that word later then
    /// sees whatever the earlier ones had done before, and the last one's look is the right one.
    fn show(&self, len: u32, oldest: u32);

    /// The oldest stamp that is shown now. An earlier one's store may have come after our own,
    /// though it came to the length before us; who is last sees that here.
    fn oldest(&self) -> u32;
}

/// A run queue in memory that its maker provides.
#[derive(Debug)]
pub struct RunQueue<'a, F> {
    ring: Ring<'a>,
    overflow: Overflow<'a>,
    /// Not 0: a thief has left the figures as they were a moment ago. Only a mark, so relaxed.
    unsettled: AtomicU32,
    figures: F,
}

/// How often a thief publishes the figures of a queue that goes on changing.
const ROUNDS: u32 = 4;

/// All that is published of a queue, and what tells that it has changed.
#[derive(PartialEq, Eq)]
struct Seen {
    ends: Ends,
    overflow: (u32, u32),
}

impl<'a, F: Figures> RunQueue<'a, F> {
    /// A queue with its ring in `slots`, whose number is cut down to a power of two, and its list
    /// in `links`, which has one word for each uThread and is the same for all queues.
    pub fn new(slots: &'a [AtomicU64], links: &'a [AtomicU64], figures: F) -> RunQueue<'a, F> {
        RunQueue {
            ring: Ring::new(slots),
            overflow: Overflow::new(links),
            unsettled: AtomicU32::new(0),
            figures,
        }
    }

    /// Adds at the tail: newly ready, or done with its turn. For the owner, who publishes.
    pub fn push_back(&self, entry: Entry) -> Result<(), Stranger> {
        self.overflow.knows(entry.id)?;
        // As long as there is an overflow, it is where the tail is.
        if !self.overflow.is_empty() || !self.ring.push(entry) {
            self.overflow.with(|list| list.push_back(entry));
        }
        Ok(())
    }

    /// Adds at the head: it was interrupted, or others wait for what it holds. For the owner, who
    /// publishes.
    pub fn push_front(&self, entry: Entry) -> Result<(), Stranger> {
        self.overflow.knows(entry.id)?;
        while !self.ring.push_front(entry) {
            if self.ring.size() == 0 {
                self.overflow.with(|list| list.push_front(entry));
                break;
            }
            self.overflow
                .with(|list| self.ring.shed(|newer| list.push_front(newer)));
        }
        Ok(())
    }

    /// Takes the oldest. For the owner, who publishes.
    pub fn pop(&self) -> Option<Entry> {
        self.ring.pop().or_else(|| {
            if self.overflow.is_empty() {
                return None;
            }
            self.overflow.with(|list| {
                let first = list.pop();
                self.refill(list, self.ring.size() / 2);
                first
            })
        })
    }

    /// Moves up to `count` from the list to the ring; how many. For the ring's owner.
    fn refill(&self, list: &mut crate::overflow::Open<'_, '_>, count: u32) -> u32 {
        let count = count.min(self.ring.room());
        for moved in 0..count {
            match list.pop() {
                Some(entry) if self.ring.push(entry) => {}
                Some(entry) => {
                    list.push_front(entry);
                    return moved;
                }
                None => return moved,
            }
        }
        count
    }

    /// Moves the older half of `victim`'s ring, rounded up, to this queue's ring in its order, or
    /// of its list if the ring is empty; the number moved. For the owner of this queue. 0 as well
    /// if the list is in use at the moment: its owner comes for it, or it is somebody's already.
    pub fn steal_from(&self, victim: &RunQueue<'_, F>) -> u32 {
        if core::ptr::addr_eq(self, victim) {
            return 0;
        }
        let mut moved = self.ring.steal_from(&victim.ring);
        if moved == 0 && !victim.overflow.is_empty() {
            moved = victim
                .overflow
                .try_with(|list| self.refill(list, list.len().div_ceil(2)))
                .unwrap_or(0);
        }
        if moved > 0 {
            // First here, so that it is rather in two figures than in none. One alone is what the thief runs next,
            // as it is with one that it takes from its own queue.
            if moved > 1 {
                self.publish();
            }
            victim.unsettled.store(1, Ordering::Relaxed);
        }
        victim.mend();
        moved
    }

    /// Moves what is in this queue's ring to the end of `heir`'s, into its list; how many. For the
    /// owner of this queue, whoever `heir`'s is. 0 if that list is in use at the moment.
    pub fn hand_to(&self, heir: &RunQueue<'_, F>) -> u32 {
        if core::ptr::addr_eq(self, heir) {
            return 0;
        }
        let moved = heir.overflow.try_with(|list| {
            let mut moved = 0;
            // No more than were there: thieves may put nothing back, but the owner is us.
            while moved < self.ring.size() {
                let Some(entry) = self.ring.pop() else { break };
                list.push_back(entry);
                moved += 1;
            }
            moved
        });
        let moved = moved.unwrap_or(0);
        if moved > 0 {
            heir.unsettled.store(1, Ordering::Relaxed);
            heir.mend();
            self.publish();
        }
        moved
    }

    fn look(&self) -> Seen {
        Seen {
            ends: self.ring.ends(),
            overflow: self.overflow.look(),
        }
    }

    /// Shows this queue's figures as they are. For the owner.
    pub fn publish(&self) {
        while !self.published(ROUNDS) {}
    }

    /// For thieves: puts the figures right if somebody has left them otherwise.
    fn mend(&self) {
        if self.unsettled.load(Ordering::Relaxed) != 0 {
            self.unsettled.store(0, Ordering::Relaxed);
            if !self.published(ROUNDS) {
                self.unsettled.store(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether a look is worth a thief's while.
    pub fn is_inviting(&self) -> bool {
        !self.is_empty() || self.unsettled.load(Ordering::Relaxed) != 0
    }

    /// Publishes up to `rounds` times; whether the last time was right.
    fn published(&self, rounds: u32) -> bool {
        let mut seen = self.look();
        for _ in 0..rounds {
            let (more, ready) = seen.overflow;
            let len = seen.ends.len() + more;
            let oldest = match (len, seen.ends.is_empty()) {
                (0, _) => 0,
                (_, true) => ready,
                (_, false) => {
                    let first = self.ring.first(seen.ends).ready;
                    // What was handed on may be older than what was here.
                    let behind = more > 0 && (ready.wrapping_sub(first) as i32) < 0;
                    if behind {
                        ready
                    } else {
                        first
                    }
                }
            };
            self.figures.show(len, oldest);
            if mutant("published without a second look") {
                return true;
            }
            // Somebody may have changed the queue since we looked and published before us; then
            // we see now what it has done. Who changes it from here on publishes after us.
            let again = self.look();
            let stands = self.figures.oldest() == oldest || mutant("the stamp is not looked at again");
            if again == seen && stands {
                return true;
            }
            seen = again;
        }
        false
    }

    /// How many there are; for others a moment ago.
    pub fn len(&self) -> u32 {
        let seen = self.look();
        seen.ends.len() + seen.overflow.0
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
