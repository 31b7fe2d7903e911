//! Objects that lie in a program's memory.
//!
//! Each begins with a word that says what it is: 0 is a fresh one with default attributes, so that
//! static initialisers are zeroes; what was destroyed says so, and is refused until it is made anew.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::errno::EINVAL;

/// Was destroyed.
const DEAD: u32 = 0xdead_0b1e;

#[derive(Debug)]
#[repr(C)]
pub struct Object<T> {
    head: AtomicU32,
    pub inner: T,
}

impl<T> Object<T> {
    /// The object at `at`, unless there is none.
    ///
    /// # Safety
    /// `at` is null or points at such an object, which stays there while it is used.
    pub unsafe fn at<'a>(at: *mut Object<T>) -> Result<&'a Object<T>, c_int> {
        // What is larger than the header's room would reach into a program's other memory.
        const { assert!(size_of::<Object<T>>() <= 64 && align_of::<Object<T>>() <= 8) };
        if !at.is_aligned() {
            return Err(EINVAL);
        }
        // SAFETY: by the caller's promise; it consists of atomics.
        let object = unsafe { at.as_ref() }.ok_or(EINVAL)?;
        if object.head() == DEAD {
            return Err(EINVAL);
        }
        Ok(object)
    }

    pub fn head(&self) -> u32 {
        // Relaxed: who uses an object was told of it by somebody who had made it.
        self.head.load(Ordering::Relaxed)
    }

    /// Makes an object.
    ///
    /// # Safety
    /// `at` is null or can be written, and nobody uses what is there.
    pub unsafe fn make(at: *mut Object<T>, head: u32, inner: T) -> Result<(), c_int> {
        if at.is_null() || !at.is_aligned() {
            return Err(EINVAL);
        }
        let head = AtomicU32::new(head);
        // SAFETY: by the caller's promise.
        unsafe { at.write(Object { head, inner }) };
        Ok(())
    }

    /// The end of it.
    pub fn destroy(&self) {
        self.head.store(DEAD, Ordering::Relaxed);
    }
}

/// Attributes of objects: two words.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Attributes {
    made: u32,
    /// Bit 0: shared between processes; bits 8-15: what the kind of object has besides.
    bits: u32,
}

const MADE: u32 = 0x6f61_7474;
const SHARED: u32 = 1;

impl Attributes {
    /// # Safety
    /// `at` is null or points at attributes.
    pub unsafe fn at<'a>(at: *mut Attributes) -> Result<&'a mut Attributes, c_int> {
        // SAFETY: by the caller's promise.
        unsafe { at.as_mut() }
            .filter(|attributes| attributes.made == MADE)
            .ok_or(EINVAL)
    }

    /// What an object is made with that is given `at`.
    ///
    /// # Safety
    /// `at` is null or points at attributes.
    pub unsafe fn detail_of(at: *const Attributes) -> Result<u32, c_int> {
        if at.is_null() {
            return Ok(0);
        }
        // SAFETY: by the caller's promise.
        unsafe { Attributes::at(at.cast_mut()) }.map(|attributes| attributes.detail())
    }

    pub fn detail(&self) -> u32 {
        self.bits >> 8
    }

    pub fn set_detail(&mut self, detail: u32) {
        self.bits = self.bits & SHARED | detail << 8;
    }

    /// # Safety
    /// `at` is null or can be written.
    pub unsafe fn init(at: *mut Attributes) -> Result<(), c_int> {
        if at.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: by the caller's promise.
        unsafe { at.write(Attributes { made: MADE, bits: 0 }) };
        Ok(())
    }

    pub fn destroy(&mut self) {
        self.made = 0;
    }

    /// There is one process, so both kinds are the same.
    pub fn set_shared(&mut self, shared: c_int) -> Result<(), c_int> {
        match shared {
            0 => self.bits &= !SHARED,
            1 => self.bits |= SHARED,
            _ => return Err(EINVAL),
        }
        Ok(())
    }

    pub fn shared(&self) -> c_int {
        (self.bits & SHARED) as c_int
    }
}

/// Writes `value` to where a program wants it.
///
/// # Safety
/// `to` is null or can be written.
pub unsafe fn tell<T>(to: *mut T, value: T) -> Result<(), c_int> {
    if to.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: by the caller's promise.
    unsafe { to.write(value) };
    Ok(())
}

/// The functions that attributes of each kind of object have.
macro_rules! attributes {
    ($init:ident, $destroy:ident, $setpshared:ident, $getpshared:ident) => {
        /// # Safety
        /// `attr` is null or can be written.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $init(attr: *mut crate::object::Attributes) -> core::ffi::c_int {
            // SAFETY: by the caller's promise.
            crate::errno::number(unsafe { crate::object::Attributes::init(attr) })
        }

        /// # Safety
        /// `attr` is null or points at attributes; the same below.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $destroy(attr: *mut crate::object::Attributes) -> core::ffi::c_int {
            // SAFETY: by the caller's promise.
            crate::errno::number(unsafe { crate::object::Attributes::at(attr) }.map(|attr| attr.destroy()))
        }

        /// # Safety
        /// See above.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $setpshared(
            attr: *mut crate::object::Attributes,
            shared: core::ffi::c_int,
        ) -> core::ffi::c_int {
            // SAFETY: by the caller's promise.
            let attr = unsafe { crate::object::Attributes::at(attr) };
            crate::errno::number(attr.and_then(|attr| attr.set_shared(shared)))
        }

        /// # Safety
        /// See above; `shared` is null or can be written.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $getpshared(
            attr: *const crate::object::Attributes,
            shared: *mut core::ffi::c_int,
        ) -> core::ffi::c_int {
            // SAFETY: by the caller's promise.
            crate::errno::number(unsafe {
                crate::object::Attributes::at(attr.cast_mut())
                    .and_then(|attr| crate::object::tell(shared, attr.shared()))
            })
        }
    };
}
pub(crate) use attributes;
