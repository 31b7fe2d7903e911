//! The mutex: handed over in the order of arrival.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};

use sched::mutex::{self, Lock, NotLocked};
use sched::Id;

use super::block::{wake, Bed, Lapse, Sleeper, Until};
use crate::kernel::Kernel;
use crate::log::fatal;
use crate::vcpu::{enter, leave, Local};

/// A lock without data. It does not know who has it; see [`super::OwnedMutex`].
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RawMutex(pub(super) mutex::Mutex);

impl Bed for mutex::Mutex {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { mutex::Mutex::asleep(self) }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        mutex::Mutex::leave(self, kernel, me);
    }
}

impl RawMutex {
    pub const fn new() -> RawMutex {
        RawMutex(mutex::Mutex::new())
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.0.try_lock()
    }

    /// Takes the lock.
    #[inline]
    pub fn lock(&self) {
        if !self.0.try_lock() {
            // Nothing ends this wait but the lock.
            let _ = self.lock_slowly(Until::EVER);
        }
    }

    /// Takes the lock, unless it takes too long.
    #[inline]
    pub fn lock_until(&self, until: Until) -> Result<(), Lapse> {
        if self.0.try_lock() {
            return Ok(());
        }
        self.lock_slowly(until)
    }

    #[cold]
    fn lock_slowly(&self, until: Until) -> Result<(), Lapse> {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on the list of the lock when it
        // sleeps.
        let result = unsafe {
            let sleeper = Sleeper::new(until);
            match self.0.lock(sleeper.kernel, sleeper.me) {
                Lock::Mine => {
                    sleeper.stay();
                    Ok(())
                }
                Lock::Sleep => sleeper.sleep(&self.0),
            }
        };
        leave();
        result
    }

    /// Lets the lock go. `Err` if nobody has it.
    #[inline]
    pub fn unlock(&self) -> Result<(), NotLocked> {
        if self.0.try_unlock() {
            return Ok(());
        }
        self.unlock_slowly()
    }

    #[cold]
    fn unlock_slowly(&self) -> Result<(), NotLocked> {
        enter();
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        let next = self.0.unlock(local.kernel());
        // The lock's memory may be somebody else's from here on.
        if let Ok(Some(next)) = next {
            wake(local, next);
        }
        leave();
        next.map(|_| ())
    }

    /// For [`crate::rogue`], with `critical` set: those who wait do so for ever.
    pub(crate) fn forget_waiters(&self) {
        self.0.forget_waiters();
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

/// A lock around data.
#[derive(Debug, Default)]
pub struct Mutex<T> {
    pub(super) lock: RawMutex,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one uThread at a time, the one that has the lock.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    pub const fn new(data: T) -> Mutex<T> {
        Mutex {
            lock: RawMutex::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// Takes the lock, until the guard is dropped.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.lock.lock();
        MutexGuard(self)
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.lock.try_lock().then(|| MutexGuard(self))
    }

    /// Takes the lock, unless it takes too long.
    pub fn lock_until(&self, until: Until) -> Result<MutexGuard<'_, T>, Lapse> {
        self.lock.lock_until(until).map(|()| MutexGuard(self))
    }

    /// Runs `f` with the lock held.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.lock())
    }

    pub fn get_mut(&mut self) -> &mut T {
        self.data.get_mut()
    }

    pub fn into_inner(self) -> T {
        self.data.into_inner()
    }
}

/// The right to a mutex's data. It may be dropped by another uThread.
#[derive(Debug)]
#[must_use]
pub struct MutexGuard<'a, T>(pub(super) &'a Mutex<T>);

// SAFETY: a shared guard gives shared access to the data only. (That it may be sent to others follows
// from the mutex, which is Sync if the data may be sent.)
unsafe impl<T: Sync> Sync for MutexGuard<'_, T> {}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the lock is ours.
        unsafe { &*self.0.data.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the lock is ours, and this guard is the only one.
        unsafe { &mut *self.0.data.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.0.lock.unlock().is_err() {
            fatal(format_args!("a mutex was let go behind its guard's back"));
        }
    }
}
