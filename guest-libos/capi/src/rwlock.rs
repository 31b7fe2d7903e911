//! Read-write locks. Waiting writers go before readers that come later.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU64, Ordering};

use libos::sync::{current, Lapse, RawRwLock, Until};

use crate::clock::{deadline, Timespec};
use crate::errno::{number, EAGAIN, EBUSY, EDEADLK, EPERM, ETIMEDOUT};
use crate::object::{attributes, Attributes, Object};

const REALTIME: c_int = 0;

/// `pthread_rwlock_t`.
pub type PthreadRwLock = Object<Inner>;

#[derive(Debug)]
#[repr(C)]
pub struct Inner {
    lock: RawRwLock,
    /// The thread that has it for writing; 0: none. Written by whoever has it for writing, so who
    /// finds itself there has it, and relaxed is enough.
    writer: AtomicU64,
}

impl Inner {
    const fn new() -> Inner {
        Inner {
            lock: RawRwLock::new(),
            writer: AtomicU64::new(0),
        }
    }

    fn is_mine(&self) -> bool {
        self.writer.load(Ordering::Relaxed) == current().raw()
    }

    fn try_read(&self) -> Result<bool, c_int> {
        self.lock.try_read().map_err(|_| EAGAIN)
    }

    fn try_write(&self) -> bool {
        let mine = self.lock.try_write();
        if mine {
            self.writer.store(current().raw(), Ordering::Relaxed);
        }
        mine
    }

    /// Takes it, looking at the deadline only if it is needed.
    fn read(&self, until: impl FnOnce() -> Result<Until, c_int>) -> Result<(), c_int> {
        if self.try_read()? {
            return Ok(());
        }
        if self.is_mine() {
            return Err(EDEADLK);
        }
        self.lock
            .read(until()?)
            .map_err(|_| EAGAIN)?
            .map_err(|(Lapse::TimedOut | Lapse::Interrupted)| ETIMEDOUT)
    }

    fn write(&self, until: impl FnOnce() -> Result<Until, c_int>) -> Result<(), c_int> {
        if self.try_write() {
            return Ok(());
        }
        if self.is_mine() {
            return Err(EDEADLK);
        }
        self.lock
            .write(until()?)
            .map_err(|(Lapse::TimedOut | Lapse::Interrupted)| ETIMEDOUT)?;
        self.writer.store(current().raw(), Ordering::Relaxed);
        Ok(())
    }

    fn unlock(&self) -> Result<(), c_int> {
        let writer = self.writer.load(Ordering::Relaxed);
        if writer != 0 {
            if writer != current().raw() {
                return Err(EPERM);
            }
            self.writer.store(0, Ordering::Relaxed);
        }
        self.lock.unlock().map_err(|_| EPERM)
    }
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_init(at: *mut PthreadRwLock, attr: *const Attributes) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::detail_of(attr).and_then(|_| Object::make(at, 0, Inner::new())) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_destroy(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        if object.inner.lock.is_locked() {
            return Err(EBUSY);
        }
        object.destroy();
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_rdlock(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| object.inner.read(|| Ok(Until::EVER))))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_tryrdlock(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(at) };
    number(object.and_then(|object| object.inner.try_read()?.then_some(()).ok_or(EBUSY)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_timedrdlock(
    at: *mut PthreadRwLock,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        object
            .inner
            // SAFETY: by the caller's promise.
            .read(|| unsafe { deadline(REALTIME, until) }.map(Until::at))
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_wrlock(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| object.inner.write(|| Ok(Until::EVER))))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_trywrlock(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(at) };
    number(object.and_then(|object| object.inner.try_write().then_some(()).ok_or(EBUSY)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_timedwrlock(
    at: *mut PthreadRwLock,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        object
            .inner
            // SAFETY: by the caller's promise.
            .write(|| unsafe { deadline(REALTIME, until) }.map(Until::at))
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_rwlock_unlock(at: *mut PthreadRwLock) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| object.inner.unlock()))
}

attributes!(
    flux_pthread_rwlockattr_init,
    flux_pthread_rwlockattr_destroy,
    flux_pthread_rwlockattr_setpshared,
    flux_pthread_rwlockattr_getpshared
);
