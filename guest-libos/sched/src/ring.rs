//! The fast part of a run queue: a bounded ring that nobody has to wait for.
//!
//! One vCPU owns it: it adds at both ends. Everybody takes from the head, the owner one at a time,
//! a thief the older half. One word decides who has taken what: it holds the head's index and
//! counts its changes, so a compare-and-swap on it fails if anything was taken, or put in front,
//! since it was read. A thief reads what it wants first and claims it after, into slots of its own
//! ring that nobody looks at yet. So a vCPU that is stopped at any instruction here, for however
//! long, keeps nobody else from anything, and what it has not claimed is for others to take.
//!
//! The slots are written by the owner alone. A slot between head and tail keeps its content: a
//! writer uses slots outside only, having seen (acquire) that those who read them have claimed
//! them (release), or will find the head changed.

use crate::mutant::mutant;
use crate::queue::Entry;
use crate::sync::{AtomicU32, Ordering};
use crate::sync64::AtomicU64;

/// On a pair of lines of its own: what is next to it changes hands at other times.
#[derive(Debug)]
#[repr(align(128))]
struct Apart<T>(T);

/// The head: an index, and a count of the changes above it. The count returns after 2^48 of them,
/// which takes a month of doing nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head(u64);

const INDEX_BITS: u32 = 16;
/// So that a full ring is told from an empty one.
pub const MAX_SLOTS: usize = 1 << (INDEX_BITS - 1);

impl Head {
    fn index(self) -> u16 {
        self.0 as u16
    }

    /// The next head, its index further by `by`, or back by as much as `by` is below 0.
    fn moved(self, by: u16) -> Head {
        let changes = self.0 >> INDEX_BITS;
        let changes = if mutant("the head does not count") {
            changes
        } else {
            changes + 1
        };
        Head(changes << INDEX_BITS | u64::from(self.index().wrapping_add(by)))
    }
}

/// Head and tail at one moment, for who publishes figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    head: Head,
    tail: u16,
}

impl Ends {
    pub fn len(self) -> u32 {
        // A tail that was read before a head that has passed it meanwhile: nothing is there.
        let len = self.tail.wrapping_sub(self.head.index());
        if usize::from(len) > MAX_SLOTS {
            0
        } else {
            u32::from(len)
        }
    }

    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// The ring, in memory that its maker provides.
#[derive(Debug)]
pub struct Ring<'a> {
    head: Apart<AtomicU64>,
    /// Written by the owner only.
    tail: Apart<AtomicU32>,
    slots: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// A ring in `slots`, whose number is cut down to a power of two; one alone is of no use.
    pub fn new(slots: &'a [AtomicU64]) -> Ring<'a> {
        let size = match slots.len().min(MAX_SLOTS) {
            0 | 1 => 0,
            n => 1 << n.ilog2(),
        };
        Ring {
            head: Apart(AtomicU64::new(0)),
            tail: Apart(AtomicU32::new(0)),
            slots: &slots[..size],
        }
    }

    pub fn size(&self) -> u32 {
        self.slots.len() as u32
    }

    fn slot(&self, index: u16) -> Option<&AtomicU64> {
        // Never `None`: a ring without slots is always full, and the size is a power of two.
        self.slots
            .get(usize::from(index) & self.slots.len().wrapping_sub(1))
    }

    /// Slots are relaxed; what orders them is said at the head and at the tail.
    fn read(&self, index: u16) -> Entry {
        Entry::unpacked(self.slot(index).map_or(0, |slot| slot.load(Ordering::Relaxed)))
    }

    fn write(&self, index: u16, entry: Entry) {
        if let Some(slot) = self.slot(index) {
            slot.store(entry.packed(), Ordering::Relaxed);
        }
    }

    /// Acquire pairs with the release of all who change it: what they read of the slots before is
    /// read, what the owner put in front is there, and so is a tail that is not behind it.
    fn head(&self) -> Head {
        Head(self.head.0.load(Ordering::Acquire))
    }

    fn change(&self, from: Head, to: Head) -> bool {
        self.head
            .0
            .compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// The owner's look at its own tail.
    fn my_tail(&self) -> u16 {
        self.tail.0.load(Ordering::Relaxed) as u16
    }

    fn set_tail(&self, tail: u16) {
        // Release pairs with the acquire of thieves: the slots below it are written.
        let order = if mutant("the tail is relaxed") {
            Ordering::Relaxed
        } else {
            Ordering::Release
        };
        self.tail.0.store(u32::from(tail), order);
    }

    /// Head and tail, for anybody.
    pub fn ends(&self) -> Ends {
        let head = self.head();
        Ends {
            head,
            tail: self.tail.0.load(Ordering::Acquire) as u16,
        }
    }

    /// The first one's entry, if `ends` is still what is there; else anything.
    pub fn first(&self, ends: Ends) -> Entry {
        self.read(ends.head.index())
    }

    /// How many more the owner can add.
    pub fn room(&self) -> u32 {
        self.size()
            - Ends {
                head: self.head(),
                tail: self.my_tail(),
            }
            .len()
    }

    /// Adds at the tail; `false` if it is full. For the owner.
    pub fn push(&self, entry: Entry) -> bool {
        if self.room() == 0 {
            return false;
        }
        let tail = self.my_tail();
        self.write(tail, entry);
        self.set_tail(tail.wrapping_add(1));
        true
    }

    /// Adds at the head; `false` if it is full. For the owner.
    pub fn push_front(&self, entry: Entry) -> bool {
        loop {
            let head = self.head();
            let tail = self.my_tail();
            if (Ends { head, tail }).len() >= self.size() {
                return false;
            }
            // Outside of what anybody may claim, until the head is there.
            self.write(head.index().wrapping_sub(1), entry);
            if self.change(head, head.moved(u16::MAX)) {
                return true;
            }
        }
    }

    /// Takes the oldest. For the owner.
    pub fn pop(&self) -> Option<Entry> {
        loop {
            let head = self.head();
            if head.index() == self.my_tail() {
                return None;
            }
            let entry = self.read(head.index());
            if self.change(head, head.moved(1)) {
                return Some(entry);
            }
        }
    }

    /// Moves the older half of `victim`, rounded up, to the tail of this ring, as far as there is
    /// room; how many. For the owner of this ring.
    pub fn steal_from(&self, victim: &Ring<'_>) -> u32 {
        let tail = self.my_tail();
        let room = self.room();
        loop {
            let head = victim.head();
            // After the head: the tail of then, or a later one.
            let theirs = Ends {
                head,
                tail: victim.tail.0.load(Ordering::Acquire) as u16,
            };
            let half = theirs.len().div_ceil(2);
            // A tail far ahead of an old head: the claim below fails.
            let count = half.min(room).min(victim.size() / 2) as u16;
            if count == 0 {
                return 0;
            }
            for i in 0..count {
                let entry = victim.read(head.index().wrapping_add(i));
                self.write(tail.wrapping_add(i), entry);
            }
            // What was read is what is there if the head has not changed since. It fails only if
            // somebody else has got something, or put something in front.
            if victim.change(head, head.moved(count)) {
                self.set_tail(tail.wrapping_add(count));
                return u32::from(count);
            }
        }
    }

    /// Takes the newer half of a full ring off, the oldest of it last: `each` gets them. For the
    /// owner, who changes the head next.
    ///
    /// A thief may have read the tail before, and claim after; it claims from the older half. And
    /// since the owner changes the head before it uses the slots again, it fails if it is later.
    pub fn shed(&self, mut each: impl FnMut(Entry)) {
        let tail = self.my_tail();
        let most = if mutant("the ring sheds too much") {
            self.size() as u16
        } else {
            self.size() as u16 / 2
        };
        let ends = Ends {
            head: self.head(),
            tail,
        };
        // Others may have taken some meanwhile, and then there is room without this.
        if ends.len() < self.size() {
            return;
        }
        for i in 1..=most {
            each(self.read(tail.wrapping_sub(i)));
        }
        self.set_tail(tail.wrapping_sub(most));
    }
}
