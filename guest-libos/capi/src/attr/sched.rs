//! Attributes that say how a thread is scheduled. There is one policy with one priority, and all
//! threads of a VM contend with each other.

use core::ffi::c_int;

use super::{get, one_of, set, Attr};
use crate::errno::{EINVAL, ENOTSUP};

pub(super) const INHERIT: c_int = 0;
const EXPLICIT: c_int = 1;
const SCOPE_SYSTEM: c_int = 0;
const SCOPE_PROCESS: c_int = 1;
const SCHED_OTHER: c_int = 0;
const SCHED_FIFO: c_int = 1;
const SCHED_RR: c_int = 2;

/// `struct sched_param`.
#[repr(C)]
pub struct Param {
    priority: c_int,
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setscope(attr: *mut Attr, scope: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |_| match scope {
            SCOPE_PROCESS => Ok(()),
            SCOPE_SYSTEM => Err(ENOTSUP),
            _ => Err(EINVAL),
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getscope(attr: *const Attr, scope: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, scope, |_| SCOPE_PROCESS) }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setinheritsched(attr: *mut Attr, inherit: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            one_of(inherit, &[INHERIT, EXPLICIT])?;
            attr.inherit = inherit;
            Ok(())
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getinheritsched(attr: *const Attr, inherit: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, inherit, |attr| attr.inherit) }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setschedpolicy(attr: *mut Attr, policy: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |_| match policy {
            SCHED_OTHER => Ok(()),
            SCHED_FIFO | SCHED_RR => Err(ENOTSUP),
            _ => Err(EINVAL),
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getschedpolicy(attr: *const Attr, policy: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, policy, |_| SCHED_OTHER) }
}

/// `SCHED_OTHER` knows one priority.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setschedparam(attr: *mut Attr, param: *const Param) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |_| match param.as_ref() {
            Some(Param { priority: 0 }) => Ok(()),
            _ => Err(EINVAL),
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getschedparam(attr: *const Attr, param: *mut Param) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, param, |_| Param { priority: 0 }) }
}
