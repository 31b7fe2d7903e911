//! A condition variable: uThreads wait until others say that something they both guard with a
//! mutex has changed.
//!
//! Who is notified is not woken to fight for the mutex. It is given the mutex if that is free, and
//! else put on the mutex's own wait list, still asleep; so a notification of many wakes one after
//! the other, each with the mutex in its hands.
//!
//! Each waiter brings its mutex along, in the word that the uThread table keeps of its wait: what
//! callers do with different mutexes at the same time is their own business, and does no harm.

use crate::mutant::mutant;
use crate::mutex::{Mutex, NotLocked};
use crate::spin::Spin;
use crate::sync::{AtomicU32, Ordering};
use crate::waiters::{Table, Waiters};
use crate::Id;

/// How many are taken off the list at a time: a spin lock is held for a few dozen instructions.
const BATCH: u32 = 16;

#[derive(Debug)]
pub struct Condvar {
    /// How many are on the list; written under its lock, looked at without.
    len: AtomicU32,
    waiters: Spin<Waiters>,
}

impl Condvar {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Condvar {
        Condvar {
            len: AtomicU32::new(0),
            waiters: Spin::new(Waiters::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Condvar {
        Condvar {
            len: AtomicU32::new(0),
            waiters: Spin::new(Waiters::new()),
        }
    }

    /// Whether somebody waits. Needs no lock: who has changed something under the mutex has the
    /// mutex from, or after, everybody who looked at it before the change and found it wanting; and
    /// those were counted before they let the mutex go.
    #[inline]
    pub fn has_waiters(&self) -> bool {
        self.len.load(Ordering::Relaxed) != 0
    }

    /// Puts `me` on the list, and lets the mutex go. The list stays locked: the caller makes the
    /// mutex's next owner runnable, if one is returned, puts the uThread to sleep, and calls
    /// [`Condvar::asleep`] once its context is saved. When the uThread runs again it has the mutex,
    /// unless its deadline was first. `Err` if the mutex is not taken; then nothing was done.
    ///
    /// # Safety
    /// `mutex` is not moved and lives until the wait is over.
    pub unsafe fn wait(&self, table: &impl Table, me: Id, mutex: &Mutex) -> Result<Option<Id>, NotLocked> {
        if mutant("mutex before list") {
            let next = mutex.unlock(table)?;
            self.waiters.lock();
            self.list(table, me, mutex);
            return Ok(next);
        }
        self.waiters.lock();
        self.list(table, me, mutex);
        // On the list first: who takes the mutex now and notifies finds us. The list's lock is
        // taken before the mutex's own here, and nowhere the other way round.
        let next = mutex.unlock(table);
        if next.is_err() {
            // SAFETY: taken above; its data is not in use.
            unsafe {
                self.waiters.locked(|list| list.remove(table, me));
                self.count(-1);
                self.waiters.unlock();
            }
        }
        next
    }

    /// The caller holds the list's lock.
    fn list(&self, table: &impl Table, me: Id, mutex: &Mutex) {
        let at = core::ptr::from_ref(mutex) as u64;
        table.arg(me).store(at, Ordering::Relaxed);
        // SAFETY: by `wait`, which has taken the lock.
        unsafe { self.waiters.locked(|list| list.push(table, me)) };
        self.count(1);
    }

    /// The caller holds the list's lock, so nobody else writes.
    fn count(&self, by: i32) {
        let len = self.len.load(Ordering::Relaxed).wrapping_add_signed(by);
        self.len.store(len, Ordering::Relaxed);
    }

    /// Opens the list again.
    ///
    /// # Safety
    /// Called once after each [`Condvar::wait`] that went well, on the same vCPU, with the
    /// sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `wait` left it held for us.
        unsafe { self.waiters.unlock() };
    }

    /// For a uThread whose deadline was first: it waits no more, and does not have the mutex.
    pub fn leave(&self, table: &impl Table, me: Id) {
        self.waiters.with(|list| {
            if list.remove(table, me) {
                self.count(-1);
            }
        });
    }

    /// Notifies the one that has waited longest; it is to be made runnable if it is returned.
    pub fn notify_one(&self, table: &impl Table) -> Option<Id> {
        let mut one = Waiters::new();
        self.collect(table, &mut one, 1);
        one.pop(table).filter(|id| hand_over(table, *id))
    }

    /// Takes some that wait off the list and adds them to `notified`, which is the caller's; `more`
    /// is how many at most. Returns how many more there may be. All of them are then to go through
    /// [`hand_over`]. Before the first one does nobody who waits here can return, so the condition
    /// variable is there as long as this is called.
    pub fn collect(&self, table: &impl Table, notified: &mut Waiters, more: u32) -> u32 {
        self.waiters.with(|list| {
            let batch = more.min(BATCH);
            for _ in 0..batch {
                // By hand instead of `take`: everybody who goes is counted.
                let id = loop {
                    let Some(id) = list.pop(table) else {
                        return 0;
                    };
                    self.count(-1);
                    if table.claim(id) {
                        break id;
                    }
                };
                table.settle(id);
                notified.push(table, id);
            }
            (more - batch).min(self.len.load(Ordering::Relaxed))
        })
    }

    /// How many wait at this moment.
    pub fn len(&self) -> u32 {
        self.waiters.with(|_| self.len.load(Ordering::Relaxed))
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Condvar {
    fn default() -> Condvar {
        Condvar::new()
    }
}

/// Gives a notified uThread its mutex, or puts it on the mutex's wait list. Whether it has the
/// mutex and is to be made runnable.
pub fn hand_over(table: &impl Table, id: Id) -> bool {
    let mutex = table.arg(id).load(Ordering::Relaxed) as *const Mutex;
    // SAFETY: `id` was collected and still waits, in `Condvar::wait`, whose caller has promised
    // that the mutex it gave is there until the wait is over.
    unsafe { (*mutex).lock_for(table, id) }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;
    use crate::mutex::Lock;

    struct World {
        condvar: Condvar,
        mutex: Mutex,
        table: Fake,
    }

    fn world() -> World {
        World {
            condvar: Condvar::new(),
            mutex: Mutex::new(),
            table: Fake::new(),
        }
    }

    impl World {
        fn wait(&self, id: Id) {
            assert!(self.mutex.try_lock());
            // SAFETY: the mutex outlives the test's waits; there is no context to save.
            unsafe {
                assert_eq!(self.condvar.wait(&self.table, id, &self.mutex), Ok(None));
                self.condvar.asleep();
            }
        }
    }

    #[test]
    fn one_is_notified_and_has_the_mutex() {
        let w = world();
        w.wait(1);
        w.wait(2);
        assert!(!w.mutex.is_locked());
        assert_eq!(w.condvar.notify_one(&w.table), Some(1));
        assert!(!w.mutex.try_lock(), "1 has it");
        assert_eq!(
            w.condvar.notify_one(&w.table),
            None,
            "2 has to wait for the mutex"
        );
        assert!(!w.condvar.has_waiters());
        assert_eq!(w.mutex.unlock(&w.table), Ok(Some(2)));
        assert_eq!(w.condvar.notify_one(&w.table), None);
    }

    #[test]
    fn those_that_ran_out_of_time_do_not_eat_notifications() {
        let w = world();
        w.table.open(1);
        w.wait(1);
        w.wait(2);
        w.table.expire(1);
        assert_eq!(w.condvar.notify_one(&w.table), Some(2));
        assert_eq!(w.condvar.len(), 0);
        w.condvar.leave(&w.table, 1);
        assert_eq!(w.condvar.len(), 0, "it was taken off before");
        assert_eq!(w.mutex.unlock(&w.table), Ok(None));
        w.table.open(3);
        w.wait(3);
        w.table.expire(3);
        w.condvar.leave(&w.table, 3);
        assert_eq!(w.condvar.notify_one(&w.table), None);
        assert!(w.condvar.is_empty());
    }

    #[test]
    fn who_was_notified_with_a_deadline_gets_the_mutex_all_the_same() {
        let w = world();
        w.table.open(1);
        w.wait(1);
        assert_eq!(w.mutex.lock(&w.table, 2), Lock::Mine);
        assert_eq!(w.condvar.notify_one(&w.table), None);
        assert_eq!(w.mutex.unlock(&w.table), Ok(Some(1)));
    }

    #[test]
    fn all_are_collected_in_order() {
        let w = world();
        for id in 1..=5 {
            w.wait(id);
        }
        let mut all = Waiters::new();
        assert_eq!(w.condvar.collect(&w.table, &mut all, 2), 0, "two were asked for");
        assert_eq!(w.condvar.collect(&w.table, &mut all, 3), 0);
        let woken: Vec<_> = core::iter::from_fn(|| all.pop(&w.table))
            .map(|id| (id, hand_over(&w.table, id)))
            .collect();
        assert_eq!(woken, [(1, true), (2, false), (3, false), (4, false), (5, false)]);
    }

    #[test]
    fn a_mutex_that_nobody_has_is_refused() {
        let w = world();
        // SAFETY: as above.
        let refused = unsafe { w.condvar.wait(&w.table, 1, &w.mutex) };
        assert_eq!(refused, Err(NotLocked));
        assert!(!w.condvar.has_waiters());
        assert_eq!(w.condvar.notify_one(&w.table), None);
    }
}
