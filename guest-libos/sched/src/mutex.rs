//! A lock that puts its waiters to sleep and is handed over directly.
//!
//! The word says all in the common case: free, taken, or taken with waiters. The lock goes from
//! the one who lets it go straight to the one who has waited longest, so nobody can overtake, and
//! a woken uThread never finds the lock gone again.

use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::waiters::{Links, Waiters};
use crate::Id;

const FREE: u32 = 0;
const TAKEN: u32 = 1;
const CONTENDED: u32 = 2;

/// The lock itself; what it guards is the caller's.
#[derive(Debug)]
pub struct Mutex {
    word: AtomicU32,
    waiters: Spin<Waiters>,
}

/// What a uThread that wants the lock has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Lock {
    /// It has the lock.
    Mine,
    /// It is on the wait list, whose spin lock is still held: the caller puts the uThread to
    /// sleep and calls [`Mutex::asleep`] once its context is saved. Not before: the one who lets
    /// the lock go may make it runnable at that very moment. When it runs again it has the lock.
    Sleep,
}

impl Mutex {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Mutex {
        Mutex {
            word: AtomicU32::new(FREE),
            waiters: Spin::new(Waiters::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Mutex {
        Mutex {
            word: AtomicU32::new(FREE),
            waiters: Spin::new(Waiters::new()),
        }
    }

    /// Takes the lock if it is free. Touches nothing of the scheduler, so application code calls
    /// it as it is; a uThread held by the host right behind it simply has the lock.
    #[inline]
    pub fn try_lock(&self) -> bool {
        // Acquire pairs with the release in `try_unlock`, or in `unlock` by way of the spin lock.
        self.word
            .compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock or queues up for it.
    pub fn lock(&self, links: &impl Links, me: Id) -> Lock {
        self.waiters.lock();
        // The word says CONTENDED from here on unless it was free, so the owner comes to the
        // spin lock to let go, and finds the waiter.
        // Acquire: as in `try_lock`. A failure changed nothing but the mark.
        if self.word.swap(CONTENDED, Ordering::Acquire) == FREE {
            // A free lock has no waiters, so the mark goes again. Only the owner and those under
            // the spin lock change the word, and both are us.
            self.word.store(TAKEN, Ordering::Relaxed);
            // SAFETY: the spin lock was taken above.
            unsafe { self.waiters.unlock() };
            return Lock::Mine;
        }
        // SAFETY: the spin lock was taken above and stays held until `asleep`.
        unsafe { self.waiters.locked(|list| list.push(links, me)) };
        Lock::Sleep
    }

    /// Opens the wait list again.
    ///
    /// # Safety
    /// Called once after each [`Lock::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `lock` left it held for us.
        unsafe { self.waiters.unlock() };
    }

    /// Lets the lock go if nobody waits; `false` if somebody does, or the lock is not taken.
    #[inline]
    pub fn try_unlock(&self) -> bool {
        self.word
            .compare_exchange(TAKEN, FREE, Ordering::Release, Ordering::Relaxed)
            .is_ok()
    }

    /// Lets the lock go; the uThread that owns it now, if one waited, is to be made runnable.
    /// `Err` if the lock was not taken at all.
    pub fn unlock(&self, links: &impl Links) -> Result<Option<Id>, NotLocked> {
        self.waiters.with(|list| {
            if self.word.load(Ordering::Relaxed) == FREE {
                return Err(NotLocked);
            }
            let next = list.pop(links);
            if next.is_none() {
                self.word.store(FREE, Ordering::Release);
            } else if list.is_empty() {
                // The mark goes with the last waiter. Nobody changes the word but under this
                // lock while it says CONTENDED. Release: the data goes along with the lock.
                self.word.store(TAKEN, Ordering::Release);
            }
            Ok(next)
        })
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.word.load(Ordering::Relaxed) != FREE
    }
}

impl Default for Mutex {
    fn default() -> Mutex {
        Mutex::new()
    }
}

/// A lock was let go that nobody had.
#[derive(Debug, PartialEq, Eq)]
pub struct NotLocked;

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    struct Table([AtomicU32; 8]);

    impl Links for Table {
        fn link(&self, id: Id) -> &AtomicU32 {
            &self.0[id as usize]
        }
    }

    fn table() -> Table {
        Table([const { AtomicU32::new(0) }; 8])
    }

    fn sleep(mutex: &Mutex, table: &Table, id: Id) {
        assert_eq!(mutex.lock(table, id), Lock::Sleep);
        // SAFETY: follows the Sleep just asserted; there is no context to save in a test.
        unsafe { mutex.asleep() };
    }

    #[test]
    fn uncontended_it_is_one_word() {
        let (mutex, table) = (Mutex::new(), table());
        assert!(mutex.try_lock());
        assert!(!mutex.try_lock());
        assert!(mutex.try_unlock());
        assert!(!mutex.try_unlock());
        assert_eq!(mutex.unlock(&table), Err(NotLocked));
        assert_eq!(mutex.lock(&table, 1), Lock::Mine);
        assert!(mutex.try_unlock());
    }

    #[test]
    fn it_is_handed_over_in_order() {
        let (mutex, table) = (Mutex::new(), table());
        assert!(mutex.try_lock());
        sleep(&mutex, &table, 2);
        sleep(&mutex, &table, 3);
        assert!(!mutex.try_unlock(), "there are waiters");
        assert_eq!(mutex.unlock(&table), Ok(Some(2)));
        assert!(!mutex.try_lock(), "it went to 2, not to whoever comes by");
        assert_eq!(mutex.unlock(&table), Ok(Some(3)));
        assert!(mutex.try_unlock(), "nobody waits any more");
        assert!(!mutex.is_locked());
    }
}
