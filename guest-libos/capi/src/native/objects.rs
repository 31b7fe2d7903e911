//! Mutexes, condition variables and semaphores without pthread's ceremony: a mutex knows its owner,
//! and nothing here is a cancellation point.

use core::ffi::c_int;

use libos::sync::{Kind, Lapse, OwnedMutex, RawCondvar, Semaphore, Until};

use super::at;
use crate::errno::{number, EAGAIN, EINVAL, EOVERFLOW, ETIMEDOUT};
use crate::mutex::{lock_error, unlock_error};
use crate::object::Object;
use crate::sem::VALUE_MAX;

pub type Mutex = Object<OwnedMutex>;
pub type Cond = Object<RawCondvar>;
pub type Sem = Object<Semaphore>;

/// # Safety
/// `mutex` is null or points at a `flux_mutex_t`.
pub unsafe fn checking<'a>(mutex: *mut Mutex) -> Result<&'a OwnedMutex, c_int> {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(mutex) }?;
    // All zeroes would be a normal one.
    object.inner.set_kind(Kind::Checking);
    Ok(&object.inner)
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_mutex_lock(mutex: *mut Mutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { checking(mutex) }.and_then(|mutex| mutex.lock().map_err(lock_error)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_mutex_trylock(mutex: *mut Mutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { checking(mutex) }.and_then(|mutex| mutex.try_lock().map_err(lock_error)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_mutex_lock_until(mutex: *mut Mutex, until: u64) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { checking(mutex) }.and_then(|mutex| mutex.lock_until(at(until)).map_err(lock_error)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_mutex_unlock(mutex: *mut Mutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { checking(mutex) }.and_then(|mutex| mutex.unlock().map_err(unlock_error)))
}

/// Waits; the mutex is the caller's when this returns.
///
/// # Safety
/// See above.
pub unsafe fn wait(cond: *mut Cond, mutex: *mut Mutex, until: Until) -> Result<(), c_int> {
    // SAFETY: by the caller's promise.
    let (cond, mutex) = unsafe { (&Object::at(cond)?.inner, checking(mutex)?) };
    match cond.wait_owned(mutex, until) {
        Err(error) => Err(unlock_error(error)),
        Ok(result) => result.map_err(|(Lapse::TimedOut | Lapse::Interrupted)| ETIMEDOUT),
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cond_wait(cond: *mut Cond, mutex: *mut Mutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { wait(cond, mutex, Until::EVER) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cond_wait_until(cond: *mut Cond, mutex: *mut Mutex, until: u64) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { wait(cond, mutex, at(until)) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cond_signal(cond: *mut Cond) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(cond) }.map(|cond| cond.inner.notify_one()))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cond_broadcast(cond: *mut Cond) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(cond) }.map(|cond| cond.inner.notify_all()))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_sem_init(sem: *mut Sem, units: u32) -> c_int {
    if units > VALUE_MAX {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe { Object::make(sem, 0, Semaphore::new(units)) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_sem_acquire(sem: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(sem) }.map(|sem| sem.inner.acquire()))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_sem_tryacquire(sem: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(sem) }.and_then(|sem| sem.inner.try_acquire().then_some(()).ok_or(EAGAIN)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_sem_acquire_until(sem: *mut Sem, until: u64) -> c_int {
    // SAFETY: by the caller's promise.
    let sem = unsafe { Object::at(sem) };
    number(sem.and_then(|sem| sem.inner.acquire_until(at(until)).map_err(|_| ETIMEDOUT)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_sem_release(sem: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(sem) }.and_then(|sem| sem.inner.release().map_err(|_| EOVERFLOW)))
}
