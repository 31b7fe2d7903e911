//! A lock for many readers or one writer.
//!
//! # Policy
//!
//! Phases take turns. A reader that comes while a writer waits queues up behind it, so writers do
//! not starve; when a writer lets the lock go, all readers that wait have it next, before another
//! writer, so readers do not starve either. Writers follow each other in the order of arrival. The
//! lock is handed over: who is woken has it.

use crate::spin::Spin;
use crate::waiters::{Table, Waiters};
use crate::Id;

#[derive(Debug)]
pub struct RwLock {
    inner: Spin<Inner>,
}

/// While nobody has the lock, nobody waits for it.
#[derive(Debug)]
struct Inner {
    /// Readers that have the lock, or [`WRITTEN`].
    holders: u32,
    readers: Waiters,
    /// How many are on that list.
    waiting: u32,
    writers: Waiters,
}

/// A writer has it. The number is one that readers, who are uThreads of one table, never come to.
const WRITTEN: u32 = u32::MAX;
/// The most readers there can be at a time.
const MOST: u32 = WRITTEN - 1;

/// What a uThread that wants the lock has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Lock {
    Mine,
    /// As [`crate::mutex::Lock::Sleep`], with [`RwLock::asleep`].
    Sleep,
}

/// Why a lock could not be let go or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Nobody has it.
    NotLocked,
    /// More readers have it than can be counted.
    TooMany,
}

impl Inner {
    const fn new() -> Inner {
        Inner {
            holders: 0,
            readers: Waiters::new(),
            waiting: 0,
            writers: Waiters::new(),
        }
    }

    fn readable(&self) -> bool {
        self.holders != WRITTEN && self.writers.is_empty()
    }

    /// Lets readers in that wait, up to `most`. No writer has the lock.
    fn admit(&mut self, table: &impl Table, most: u32) -> Next {
        let mut next = Next::nobody();
        let batch = most.min(BATCH);
        for _ in 0..batch {
            // By hand instead of `take`: everybody who goes is counted.
            let id = loop {
                let Some(id) = self.readers.pop(table) else {
                    return next;
                };
                self.waiting -= 1;
                if table.claim(id) {
                    break id;
                }
            };
            table.settle(id);
            self.holders += 1;
            next.owners.push(table, id);
        }
        next.more = (most - batch).min(self.waiting);
        next
    }

    /// Gives the lock, which nobody has, to those whose turn it is.
    fn next(&mut self, table: &impl Table, readers_first: bool) -> Next {
        if readers_first {
            let readers = self.admit(table, self.waiting);
            if !readers.owners.is_empty() {
                return readers;
            }
        }
        if let Some(id) = self.writers.take(table) {
            table.settle(id);
            self.holders = WRITTEN;
            let mut next = Next::nobody();
            next.owners.push(table, id);
            return next;
        }
        // All writers had run out of time; those that waited behind them need not wait any more.
        self.admit(table, self.waiting)
    }
}

/// How many readers are let in at a time: a spin lock is held for a few dozen instructions.
const BATCH: u32 = 16;

/// Who has the lock now, and is to be made runnable.
#[derive(Debug)]
pub struct Next {
    pub owners: Waiters,
    /// So many more readers may have it as well, by [`RwLock::admit`]. Before any of the owners is made
    /// runnable: as long as one of them has the lock and does not run, the lock is there.
    pub more: u32,
}

impl Next {
    const fn nobody() -> Next {
        Next {
            owners: Waiters::new(),
            more: 0,
        }
    }
}

impl RwLock {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> RwLock {
        RwLock {
            inner: Spin::new(Inner::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> RwLock {
        RwLock {
            inner: Spin::new(Inner::new()),
        }
    }

    /// Whether the caller has the lock for reading now. Not if a writer waits.
    pub fn try_read(&self) -> Result<bool, Refused> {
        self.inner.with(|inner| {
            if !inner.readable() {
                return Ok(false);
            }
            if inner.holders == MOST {
                return Err(Refused::TooMany);
            }
            inner.holders += 1;
            Ok(true)
        })
    }

    /// Whether the caller has the lock for writing now.
    pub fn try_write(&self) -> bool {
        self.inner.with(|inner| {
            let free = inner.holders == 0;
            if free {
                inner.holders = WRITTEN;
            }
            free
        })
    }

    /// Takes the lock for reading or queues up for it.
    pub fn read(&self, table: &impl Table, me: Id) -> Result<Lock, Refused> {
        self.lock(|inner| {
            if !inner.readable() {
                inner.readers.push(table, me);
                inner.waiting += 1;
                return Ok(false);
            }
            if inner.holders == MOST {
                return Err(Refused::TooMany);
            }
            inner.holders += 1;
            Ok(true)
        })
    }

    /// Takes the lock for writing or queues up for it.
    pub fn write(&self, table: &impl Table, me: Id) -> Lock {
        let lock = self.lock(|inner| {
            let free = inner.holders == 0;
            if free {
                inner.holders = WRITTEN;
            } else {
                inner.writers.push(table, me);
            }
            Ok(free)
        });
        // The closure refuses nobody.
        lock.unwrap_or(Lock::Sleep)
    }

    /// `f` says whether the lock is had, or has queued the caller up.
    fn lock(&self, f: impl FnOnce(&mut Inner) -> Result<bool, Refused>) -> Result<Lock, Refused> {
        self.inner.lock();
        // SAFETY: taken above; its data is not in use.
        let mine = unsafe { self.inner.locked(f) };
        if mine == Ok(false) {
            return Ok(Lock::Sleep);
        }
        // SAFETY: taken above.
        unsafe { self.inner.unlock() };
        mine.map(|_| Lock::Mine)
    }

    /// Opens the lists again.
    ///
    /// # Safety
    /// Called once after each [`Lock::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `lock` left it held for us.
        unsafe { self.inner.unlock() };
    }

    /// For a uThread whose deadline was first: it waits no more, and does not have the lock. Those that
    /// had waited behind this writer may have it now.
    pub fn leave(&self, table: &impl Table, me: Id, writer: bool) -> Next {
        self.inner.with(|inner| {
            let list = if writer {
                &mut inner.writers
            } else {
                &mut inner.readers
            };
            let listed = list.remove(table, me);
            if listed && !writer {
                inner.waiting -= 1;
            }
            if listed && writer && inner.readable() {
                return inner.admit(table, inner.waiting);
            }
            Next::nobody()
        })
    }

    /// Lets the lock go, as whichever kind of holder the caller is. The lock is not touched any more
    /// when the next owners are made runnable.
    pub fn unlock(&self, table: &impl Table) -> Result<Next, Refused> {
        self.inner.with(|inner| match inner.holders {
            0 => Err(Refused::NotLocked),
            WRITTEN => {
                inner.holders = 0;
                Ok(inner.next(table, true))
            }
            1 => {
                inner.holders = 0;
                Ok(inner.next(table, false))
            }
            _ => {
                inner.holders -= 1;
                Ok(Next::nobody())
            }
        })
    }

    /// Goes on with what `unlock` or `leave` has begun, until there are no more.
    pub fn admit(&self, table: &impl Table, next: &mut Next) {
        let mut more = self.inner.with(|inner| {
            if inner.holders == WRITTEN {
                // The phase is over already. They are let in when the writer is done.
                return Next::nobody();
            }
            inner.admit(table, next.more)
        });
        next.more = more.more;
        while let Some(id) = more.owners.pop(table) {
            next.owners.push(table, id);
        }
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.inner.with(|inner| inner.holders != 0)
    }
}

impl Default for RwLock {
    fn default() -> RwLock {
        RwLock::new()
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[path = "rwlock_tests.rs"]
mod tests;
