//! Barriers.

use core::ffi::c_int;

use libos::sync::Barrier;

use crate::errno::{number, EBUSY, EINVAL};
use crate::object::{attributes, Attributes, Object};

const SERIAL: c_int = -1;
/// There is no static initialiser: one that is all zeroes was never made.
const MADE: u32 = 0x6261_7272;

/// `pthread_barrier_t`.
pub type PthreadBarrier = Object<Barrier>;

/// # Safety
/// `at` is null or points at a `pthread_barrier_t`.
unsafe fn made<'a>(at: *mut PthreadBarrier) -> Result<&'a PthreadBarrier, c_int> {
    // SAFETY: by the caller's promise.
    let object = unsafe { Object::at(at) }?;
    if object.head() == MADE {
        Ok(object)
    } else {
        Err(EINVAL)
    }
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_barrier_init(
    at: *mut PthreadBarrier,
    attr: *const Attributes,
    count: u32,
) -> c_int {
    if count == 0 {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe { Attributes::detail_of(attr).and_then(|_| Object::make(at, MADE, Barrier::new(count))) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_barrier_destroy(at: *mut PthreadBarrier) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { made(at) }.and_then(|object| {
        if object.inner.waiting() > 0 {
            return Err(EBUSY);
        }
        object.destroy();
        Ok(())
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_barrier_wait(at: *mut PthreadBarrier) -> c_int {
    // SAFETY: by the caller's promise. The barrier may be gone when the wait is over.
    match unsafe { made(at) } {
        Ok(object) if object.inner.wait() => SERIAL,
        Ok(_) => 0,
        Err(error) => error,
    }
}

attributes!(
    flux_pthread_barrierattr_init,
    flux_pthread_barrierattr_destroy,
    flux_pthread_barrierattr_setpshared,
    flux_pthread_barrierattr_getpshared
);
