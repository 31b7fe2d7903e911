//! Attributes of threads that are to be made.

mod sched;

use core::ffi::c_int;

use libos::sync::join::Stack;

use crate::errno::{number, EINVAL};
use crate::thread::{default_stack, GUARD, STACK_MIN};

pub const JOINABLE: c_int = 0;
pub const DETACHED: c_int = 1;

/// Says that the attributes were initialised.
const MADE: u32 = 0x6174_7472;

/// `pthread_attr_t`.
#[repr(C)]
pub struct Attr {
    made: u32,
    detach: c_int,
    stack: usize,
    guard: usize,
    /// Where a stack of the program's own begins, or 0.
    base: usize,
    inherit: c_int,
}

const _: () = assert!(size_of::<Attr>() <= 64);

/// Attributes that a program hands in.
///
/// # Safety
/// `attr` is null or points at a `pthread_attr_t`.
unsafe fn made<'a>(attr: *mut Attr) -> Result<&'a mut Attr, c_int> {
    // SAFETY: by the caller's promise; a program does not change attributes while they are used.
    unsafe { attr.as_mut() }
        .filter(|attr| attr.made == MADE)
        .ok_or(EINVAL)
}

/// What a thread is made with.
#[derive(Clone, Copy, Debug)]
pub struct Made {
    pub detached: bool,
    pub stack: Stack,
}

impl Made {
    /// With these attributes, or those that there are without.
    ///
    /// # Safety
    /// `attr` is null or points at a `pthread_attr_t`.
    pub unsafe fn by(attr: *const Attr) -> Result<Made, c_int> {
        if attr.is_null() {
            return Ok(Made::default());
        }
        // SAFETY: by the caller's promise.
        let attr = unsafe { made(attr.cast_mut()) }?;
        let stack = if attr.base == 0 {
            Stack::Own
        } else {
            Stack::At {
                base: attr.base as u64,
                bytes: attr.stack as u64,
            }
        };
        Ok(Made {
            detached: attr.detach == DETACHED,
            stack,
        })
    }
}

/// Changes attributes by `change`, which refuses what cannot be.
///
/// # Safety
/// As for [`made`].
unsafe fn set(attr: *mut Attr, change: impl FnOnce(&mut Attr) -> Result<(), c_int>) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { made(attr) }.and_then(change))
}

/// Tells what an attribute is.
///
/// # Safety
/// As for [`made`]; `to` is null or can be written.
unsafe fn get<T>(attr: *const Attr, to: *mut T, value: impl FnOnce(&Attr) -> T) -> c_int {
    // SAFETY: by the caller's promise.
    let attr = unsafe { made(attr.cast_mut()) };
    number(attr.and_then(|attr| {
        if to.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: by the caller's promise.
        unsafe { to.write(value(attr)) };
        Ok(())
    }))
}

/// The one of `known` that `value` must be.
fn one_of(value: c_int, known: &[c_int]) -> Result<(), c_int> {
    known.contains(&value).then_some(()).ok_or(EINVAL)
}

/// # Safety
/// `attr` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_init(attr: *mut Attr) -> c_int {
    if attr.is_null() {
        return EINVAL;
    }
    let fresh = Attr {
        made: MADE,
        detach: JOINABLE,
        stack: default_stack(),
        guard: GUARD,
        base: 0,
        inherit: sched::INHERIT,
    };
    // SAFETY: by the caller's promise.
    unsafe { attr.write(fresh) };
    0
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_destroy(attr: *mut Attr) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            attr.made = 0;
            Ok(())
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setdetachstate(attr: *mut Attr, state: c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            one_of(state, &[JOINABLE, DETACHED])?;
            attr.detach = state;
            Ok(())
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getdetachstate(attr: *const Attr, state: *mut c_int) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, state, |attr| attr.detach) }
}

/// All stacks of a VM are of one size; what fits into it is accepted.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setstacksize(attr: *mut Attr, bytes: usize) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            if !(STACK_MIN..=default_stack()).contains(&bytes) {
                return Err(EINVAL);
            }
            attr.stack = bytes;
            attr.base = 0;
            Ok(())
        })
    }
}

/// A stack of the program's own may be of any size, and has no guard.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setstack(attr: *mut Attr, base: *mut u8, bytes: usize) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            let fits = (base as usize).checked_add(bytes).is_some();
            let aligned = (base as usize).is_multiple_of(16) && bytes.is_multiple_of(16);
            if bytes < STACK_MIN || base.is_null() || !aligned || !fits {
                return Err(EINVAL);
            }
            (attr.base, attr.stack) = (base as usize, bytes);
            Ok(())
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getstack(
    attr: *const Attr,
    base: *mut *mut u8,
    bytes: *mut usize,
) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        match get(attr, base, |attr| attr.base as *mut u8) {
            0 => get(attr, bytes, |attr| attr.stack),
            error => error,
        }
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getstacksize(attr: *const Attr, bytes: *mut usize) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, bytes, |attr| attr.stack) }
}

/// Each stack has a guard of one page, also if less is asked for.
///
/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_setguardsize(attr: *mut Attr, bytes: usize) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe {
        set(attr, |attr| {
            if bytes > GUARD {
                return Err(EINVAL);
            }
            attr.guard = bytes;
            Ok(())
        })
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_attr_getguardsize(attr: *const Attr, bytes: *mut usize) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { get(attr, bytes, |attr| attr.guard) }
}
