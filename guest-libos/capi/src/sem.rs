//! Semaphores.

use core::ffi::c_int;

use libos::sync::{Lapse, Semaphore, Until};

use crate::cancel;
use crate::clock::{deadline, Timespec};
use crate::errno::{by_errno, EAGAIN, EBUSY, EINVAL, EOVERFLOW, ETIMEDOUT};
use crate::object::{tell, Object};

const REALTIME: c_int = 0;
pub const VALUE_MAX: u32 = 0x7fff_ffff;

/// `sem_t`.
pub type Sem = Object<Semaphore>;

/// Takes a unit; a cancellation point. The deadline is looked at only if it is needed.
fn wait(sem: &Semaphore, until: impl FnOnce() -> Result<Until, c_int>) -> Result<(), c_int> {
    cancel::test();
    if sem.try_acquire() {
        return Ok(());
    }
    match sem.acquire_until(cancel::until(until()?)) {
        Ok(()) => Ok(()),
        Err(Lapse::TimedOut) => Err(ETIMEDOUT),
        Err(Lapse::Interrupted) => cancel::act(),
    }
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_init(at: *mut Sem, _shared: c_int, value: u32) -> c_int {
    if value > VALUE_MAX {
        return by_errno(Err(EINVAL));
    }
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::make(at, 0, Semaphore::new(value)) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_destroy(at: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::at(at) }.and_then(|object| {
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
pub unsafe extern "C" fn flux_posix_sem_wait(at: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::at(at) }.and_then(|object| wait(&object.inner, || Ok(Until::EVER))))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_trywait(at: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(at) };
    by_errno(object.and_then(|object| object.inner.try_acquire().then_some(()).ok_or(EAGAIN)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_timedwait(at: *mut Sem, until: *const Timespec) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { flux_posix_sem_clockwait(at, REALTIME, until) }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_clockwait(
    at: *mut Sem,
    clock: c_int,
    until: *const Timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::at(at) }.and_then(|object| {
        // SAFETY: by the caller's promise.
        wait(&object.inner, || unsafe { deadline(clock, until) }.map(Until::at))
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_post(at: *mut Sem) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::at(at) }.and_then(|object| object.inner.release().map_err(|_| EOVERFLOW)))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_posix_sem_getvalue(at: *mut Sem, value: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { Object::at(at).and_then(|object| tell(value, object.inner.units() as c_int)) })
}
