//! Condition variables.

use core::ffi::c_int;

use libos::sync::{Lapse, OwnedMutex, RawCondvar, Until};

use crate::cancel;
use crate::clock::{deadline, known, Timespec};
use crate::errno::{number, EBUSY, ETIMEDOUT};
use crate::mutex::{mutex, unlock_error, PthreadMutex};
use crate::object::{attributes, tell, Attributes, Object};

/// `pthread_cond_t`; its head is its clock.
pub type PthreadCond = Object<RawCondvar>;

/// Waits; a cancellation point. The mutex is the caller's when this returns, and also when the
/// thread is cancelled.
pub fn wait(cond: &RawCondvar, mutex: &OwnedMutex, until: Until) -> Result<(), c_int> {
    match cond.wait_owned(mutex, cancel::until(until)) {
        Err(error) => Err(unlock_error(error)),
        Ok(Ok(())) => Ok(()),
        Ok(Err(Lapse::TimedOut)) => Err(ETIMEDOUT),
        Ok(Err(Lapse::Interrupted)) => cancel::act(),
    }
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_init(at: *mut PthreadCond, attr: *const Attributes) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe {
        Attributes::detail_of(attr).and_then(|clock| Object::make(at, clock, RawCondvar::new()))
    })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_destroy(at: *mut PthreadCond) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        if object.inner.has_waiters() {
            return Err(EBUSY);
        }
        object.destroy();
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_wait(at: *mut PthreadCond, lock: *mut PthreadMutex) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        // SAFETY: by the caller's promise.
        wait(&object.inner, unsafe { mutex(lock) }?, Until::EVER)
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_timedwait(
    at: *mut PthreadCond,
    lock: *mut PthreadMutex,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        // SAFETY: by the caller's promise.
        let until = unsafe { deadline(object.head() as c_int, until) }?;
        // SAFETY: by the caller's promise.
        wait(&object.inner, unsafe { mutex(lock) }?, Until::at(until))
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_clockwait(
    at: *mut PthreadCond,
    lock: *mut PthreadMutex,
    clock: c_int,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.and_then(|object| {
        // SAFETY: by the caller's promise.
        let until = unsafe { deadline(clock, until) }?;
        // SAFETY: by the caller's promise.
        wait(&object.inner, unsafe { mutex(lock) }?, Until::at(until))
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_signal(at: *mut PthreadCond) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.map(|object| object.inner.notify_one()))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_cond_broadcast(at: *mut PthreadCond) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.map(|object| object.inner.notify_all()))
}

attributes!(
    flux_pthread_condattr_init,
    flux_pthread_condattr_destroy,
    flux_pthread_condattr_setpshared,
    flux_pthread_condattr_getpshared
);

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_condattr_setclock(attr: *mut Attributes, clock: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr) }.and_then(|attr| {
        known(clock)?;
        attr.set_detail(clock as u32);
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_condattr_getclock(attr: *const Attributes, to: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::at(attr.cast_mut()).and_then(|attr| tell(to, attr.detail() as c_int)) })
}
