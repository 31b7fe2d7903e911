//! The lock for many readers or one writer. Who has it when: see [`sched::rwlock`].

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use sched::rwlock::{self, Lock, Next};
use sched::Id;

use super::barrier::locked;
use super::block::{wake_all, Bed, Lapse, Sleeper, Until};
use crate::kernel::Kernel;
use crate::log::fatal;
use crate::vcpu::{enter, leave};

pub use sched::rwlock::Refused;

/// A lock without data. It does not know who has it. All zeroes: nobody.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RawRwLock(rwlock::RwLock);

/// Where one waits for it, as one of its two kinds.
struct Queued<'a> {
    lock: &'a rwlock::RwLock,
    writer: bool,
}

impl Bed for Queued<'_> {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { self.lock.asleep() }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        pass_on(self.lock, self.lock.leave(kernel, me, self.writer));
    }
}

/// Makes the lock's next owners runnable. With `critical` set, which it may clear in between if they
/// are many.
fn pass_on(lock: &rwlock::RwLock, mut next: Next) {
    while next.more > 0 {
        leave();
        enter();
        lock.admit(crate::uthread::kernel(), &mut next);
    }
    // The lock's memory may be somebody else's from here on.
    wake_all(next.owners);
}

impl RawRwLock {
    pub const fn new() -> RawRwLock {
        RawRwLock(rwlock::RwLock::new())
    }

    /// Takes the lock for reading if no writer has it or waits for it. `Err` if more readers have
    /// it than can be counted.
    pub fn try_read(&self) -> Result<bool, Refused> {
        locked(|| self.0.try_read())
    }

    /// Takes the lock for writing if nobody has it.
    pub fn try_write(&self) -> bool {
        locked(|| self.0.try_write())
    }

    /// Takes the lock for reading. As [`RawRwLock::try_read`] otherwise.
    pub fn read(&self, until: Until) -> Result<Result<(), Lapse>, Refused> {
        self.lock(until, false)
    }

    /// Takes the lock for writing.
    pub fn write(&self, until: Until) -> Result<(), Lapse> {
        // Writers are not refused.
        self.lock(until, true).unwrap_or(Err(Lapse::TimedOut))
    }

    fn lock(&self, until: Until, writer: bool) -> Result<Result<(), Lapse>, Refused> {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on a list when it sleeps.
        let result = unsafe {
            let sleeper = Sleeper::new(until);
            let lock = if writer {
                Ok(self.0.write(sleeper.kernel, sleeper.me))
            } else {
                self.0.read(sleeper.kernel, sleeper.me)
            };
            match lock {
                Ok(Lock::Sleep) => Ok(sleeper.sleep(&Queued {
                    lock: &self.0,
                    writer,
                })),
                Ok(Lock::Mine) => {
                    sleeper.stay();
                    Ok(Ok(()))
                }
                Err(refused) => {
                    sleeper.stay();
                    Err(refused)
                }
            }
        };
        leave();
        result
    }

    /// Lets the lock go, as whichever kind of holder the caller is. `Err` if nobody has it.
    pub fn unlock(&self) -> Result<(), Refused> {
        enter();
        let next = self.0.unlock(crate::uthread::kernel());
        let result = next.map(|next| pass_on(&self.0, next));
        leave();
        result
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        locked(|| self.0.is_locked())
    }
}

/// A lock around data.
#[derive(Debug, Default)]
pub struct RwLock<T> {
    lock: RawRwLock,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one uThread that may change it, or by several that may not.
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}

impl<T> RwLock<T> {
    pub const fn new(data: T) -> RwLock<T> {
        RwLock {
            lock: RawRwLock::new(),
            data: UnsafeCell::new(data),
        }
    }

    pub fn read(&self) -> ReadGuard<'_, T> {
        match self.lock.read(Until::EVER) {
            Ok(_) => ReadGuard(self),
            Err(_) => fatal(format_args!("a lock has more readers than can be counted")),
        }
    }

    pub fn write(&self) -> WriteGuard<'_, T> {
        // Nothing ends this wait but the lock.
        let _ = self.lock.write(Until::EVER);
        WriteGuard(self)
    }

    pub fn try_read(&self) -> Option<ReadGuard<'_, T>> {
        (self.lock.try_read() == Ok(true)).then(|| ReadGuard(self))
    }

    pub fn try_write(&self) -> Option<WriteGuard<'_, T>> {
        self.lock.try_write().then(|| WriteGuard(self))
    }

    fn unlock(&self) {
        if self.lock.unlock().is_err() {
            fatal(format_args!("a lock was let go behind its guard's back"));
        }
    }
}

/// The right to read a lock's data.
#[derive(Debug)]
#[must_use]
pub struct ReadGuard<'a, T>(&'a RwLock<T>);

/// The right to a lock's data.
#[derive(Debug)]
#[must_use]
pub struct WriteGuard<'a, T>(&'a RwLock<T>);

// SAFETY: a shared guard gives shared access to the data only.
unsafe impl<T: Sync> Sync for WriteGuard<'_, T> {}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is ours for reading.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is ours.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is ours, and this guard is the only one.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.0.unlock();
    }
}
