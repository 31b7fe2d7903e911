//! Mutexes.

use core::ffi::c_int;

use libos::sync::{Kind, LockError, OwnedMutex, UnlockError, Until};

use crate::clock::{deadline, Timespec};
use crate::errno::{number, EAGAIN, EBUSY, EDEADLK, EINVAL, ENOTSUP, EPERM, ETIMEDOUT};
use crate::object::{attributes, tell, Attributes, Object};

const REALTIME: c_int = 0;
const PRIO_NONE: c_int = 0;
const PRIO_INHERIT: c_int = 1;
const PRIO_PROTECT: c_int = 2;
const STALLED: c_int = 0;
const ROBUST: c_int = 1;

/// `pthread_mutex_t`; its head is its kind.
pub type PthreadMutex = Object<OwnedMutex>;

fn kind(number: u32) -> Result<Kind, c_int> {
    match number {
        0 => Ok(Kind::Normal),
        1 => Ok(Kind::Recursive),
        2 => Ok(Kind::Checking),
        _ => Err(EINVAL),
    }
}

/// The mutex at `at`.
///
/// # Safety
/// `at` is null or points at a `pthread_mutex_t`.
pub unsafe fn mutex<'a>(at: *mut PthreadMutex) -> Result<&'a OwnedMutex, c_int> {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(at) }?;
    if object.head() != 0 {
        // A static initialiser knows the head only; for others it is told once more what it is.
        object.inner.set_kind(kind(object.head())?);
    }
    Ok(&object.inner)
}

pub fn lock_error(error: LockError) -> c_int {
    match error {
        LockError::Deadlock => EDEADLK,
        LockError::TooDeep => EAGAIN,
        LockError::Busy => EBUSY,
        LockError::TimedOut | LockError::Interrupted => ETIMEDOUT,
    }
}

pub fn unlock_error(error: UnlockError) -> c_int {
    match error {
        UnlockError::NotMine | UnlockError::NotLocked => EPERM,
    }
}

/// Locks with a deadline that is looked at only if it is needed.
pub fn lock_by(mutex: &OwnedMutex, until: impl FnOnce() -> Result<u64, c_int>) -> Result<(), c_int> {
    match mutex.try_lock() {
        Err(LockError::Busy) => {}
        other => return other.map_err(lock_error),
    }
    mutex.lock_until(Until::at(until()?)).map_err(lock_error)
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_init(at: *mut PthreadMutex, attr: *const Attributes) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::detail_of(attr) }.and_then(|detail| {
        let inner = OwnedMutex::new(kind(detail)?);
        // SAFETY: by the caller's promise.
        unsafe { Object::make(at, detail, inner) }
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_destroy(at: *mut PthreadMutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        if object.inner.is_locked() {
            return Err(EBUSY);
        }
        object.destroy();
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_lock(at: *mut PthreadMutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { mutex(at) }.and_then(|mutex| mutex.lock().map_err(lock_error)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_trylock(at: *mut PthreadMutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { mutex(at) }.and_then(|mutex| mutex.try_lock().map_err(lock_error)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_timedlock(
    at: *mut PthreadMutex,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { flux_pthread_mutex_clocklock(at, REALTIME, until) }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_clocklock(
    at: *mut PthreadMutex,
    clock: c_int,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { mutex(at) }.and_then(|mutex| {
        // SAFETY: by the caller's promise.
        lock_by(mutex, || unsafe { deadline(clock, until) })
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutex_unlock(at: *mut PthreadMutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { mutex(at) }.and_then(|mutex| mutex.unlock().map_err(unlock_error)))
}

attributes!(
    flux_pthread_mutexattr_init,
    flux_pthread_mutexattr_destroy,
    flux_pthread_mutexattr_setpshared,
    flux_pthread_mutexattr_getpshared
);

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_settype(attr: *mut Attributes, wanted: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr) }.and_then(|attr| {
        kind(wanted as u32)?;
        attr.set_detail(wanted as u32);
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_gettype(attr: *const Attributes, to: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr.cast_mut()).and_then(|attr| tell(to, attr.detail() as c_int)) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_setprotocol(attr: *mut Attributes, protocol: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr) }.and(match protocol {
        PRIO_NONE => Ok(()),
        PRIO_INHERIT | PRIO_PROTECT => Err(ENOTSUP),
        _ => Err(EINVAL),
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_getprotocol(
    attr: *const Attributes,
    to: *mut c_int,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr.cast_mut()).and_then(|_| tell(to, PRIO_NONE)) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_setrobust(attr: *mut Attributes, robust: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr) }.and(match robust {
        STALLED => Ok(()),
        ROBUST => Err(ENOTSUP),
        _ => Err(EINVAL),
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_mutexattr_getrobust(attr: *const Attributes, to: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr.cast_mut()).and_then(|_| tell(to, STALLED)) })
}
