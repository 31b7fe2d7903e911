//! A parking lot: uThreads wait on plain words of 32 bits, which know nothing of it.
//!
//! For locks so small, or so seldom waited for, that they have no wait list of their own. Words
//! that share a list cost each other a few steps, nothing else.

use crate::mutant::mutant;
use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::sync64::fence;
use crate::waiters::{Table, Waiters};
use crate::Id;

/// A number of wait lists, a power of two.
#[derive(Debug)]
pub struct Lot<const LISTS: usize> {
    lists: [Spin<Waiters>; LISTS],
}

/// What a uThread that wants to wait has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// The word is another already.
    Changed,
    /// As [`crate::mutex::Lock::Sleep`], with [`Lot::asleep`].
    Sleep,
}

impl<const LISTS: usize> Lot<LISTS> {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Lot<LISTS> {
        assert!(LISTS.is_power_of_two());
        Lot {
            lists: [const { Spin::new(Waiters::new()) }; LISTS],
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Lot<LISTS> {
        Lot {
            lists: core::array::from_fn(|_| Spin::new(Waiters::new())),
        }
    }

    /// Multiplication spreads addresses that differ in few bits.
    fn list(&self, word: u64) -> &Spin<Waiters> {
        let mixed = (word >> 2).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.lists[mixed as usize & (LISTS - 1)]
    }

    /// Waits on `word` if it is still `expected`.
    pub fn wait(&self, table: &impl Table, me: Id, word: &AtomicU32, expected: u32) -> Wait {
        let at = address(word);
        let list = self.list(at);
        list.lock();
        if !mutant("look outside") {
            // The list's lock orders us and who wakes: if we come first, it finds us; if it comes
            // first, we see the word as it was changed before. Relaxed, therefore.
            if word.load(Ordering::Relaxed) != expected {
                // SAFETY: taken above.
                unsafe { list.unlock() };
                return Wait::Changed;
            }
        }
        table.arg(me).store(at, Ordering::Relaxed);
        // SAFETY: taken above, and held until `asleep`; its data is not in use.
        unsafe { list.locked(|list| list.push(table, me)) };
        Wait::Sleep
    }

    /// Opens the list again.
    ///
    /// # Safety
    /// Called once after each [`Wait::Sleep`] on `word`, on the same vCPU, with the sleeper's context
    /// saved.
    pub unsafe fn asleep(&self, word: u64) {
        // SAFETY: `wait` left it held for us.
        unsafe { self.list(word).unlock() };
    }

    /// For a uThread whose deadline was first: it waits no more.
    pub fn leave(&self, table: &impl Table, me: Id, word: u64) {
        self.list(word).with(|list| list.remove(table, me));
    }

    /// Takes off up to `most` of those that wait on the word at this address, which need not be
    /// there any more, and adds them to `woken`, to be made runnable. How many more are to be asked
    /// for: a spin lock is held for a few at a time.
    pub fn wake(&self, table: &impl Table, word: u64, most: u32, woken: &mut Waiters) -> u32 {
        const BATCH: u32 = 16;
        // Pairs with the lock of `wait`: the word was changed before the list is looked at.
        fence(Ordering::SeqCst);
        let batch = most.min(BATCH);
        let taken = self
            .list(word)
            .with(|list| list.take_for(table, word, batch, woken));
        if taken < batch {
            return 0;
        }
        most - taken
    }
}

impl<const LISTS: usize> Default for Lot<LISTS> {
    fn default() -> Self {
        Lot::new()
    }
}

/// What a word is known by.
pub fn address(word: &AtomicU32) -> u64 {
    core::ptr::from_ref(word) as u64
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn sleep<const N: usize>(lot: &Lot<N>, table: &Fake, id: Id, word: &AtomicU32) {
        assert_eq!(lot.wait(table, id, word, 0), Wait::Sleep);
        // SAFETY: follows the Sleep just asserted.
        unsafe { lot.asleep(address(word)) };
    }

    fn wake<const N: usize>(lot: &Lot<N>, table: &Fake, word: &AtomicU32, most: u32) -> Vec<Id> {
        let (mut woken, mut more) = (Waiters::new(), most);
        while more > 0 {
            more = lot.wake(table, address(word), more, &mut woken);
        }
        core::iter::from_fn(|| woken.pop(table)).collect()
    }

    #[test]
    fn words_that_share_a_list_are_told_apart() {
        let (lot, table) = (Lot::<1>::new(), Fake::new());
        let words = [const { AtomicU32::new(0) }; 2];
        for (id, word) in [(1, 0), (2, 1), (3, 0), (4, 1), (5, 0)] {
            sleep(&lot, &table, id, &words[word]);
        }
        assert_eq!(wake(&lot, &table, &words[1], 1), [2]);
        assert_eq!(wake(&lot, &table, &words[0], 2), [1, 3]);
        assert_eq!(wake(&lot, &table, &words[1], u32::MAX), [4]);
        assert_eq!(wake(&lot, &table, &words[1], u32::MAX), []);
        assert_eq!(wake(&lot, &table, &words[0], 0), []);
        assert_eq!(wake(&lot, &table, &words[0], u32::MAX), [5]);
    }

    #[test]
    fn a_word_that_has_changed_is_not_waited_for() {
        let (lot, table) = (Lot::<4>::new(), Fake::new());
        let word = AtomicU32::new(1);
        assert_eq!(lot.wait(&table, 1, &word, 0), Wait::Changed);
        assert_eq!(wake(&lot, &table, &word, 1), []);
    }

    #[test]
    fn those_that_ran_out_of_time_are_passed_over() {
        let (lot, table) = (Lot::<4>::new(), Fake::new());
        let word = AtomicU32::new(0);
        for id in [1, 2, 3] {
            table.open(id);
            sleep(&lot, &table, id, &word);
        }
        table.expire(1);
        assert_eq!(wake(&lot, &table, &word, 1), [2]);
        lot.leave(&table, 1, address(&word));
        table.expire(3);
        lot.leave(&table, 3, address(&word));
        assert_eq!(wake(&lot, &table, &word, 1), []);
    }
}
