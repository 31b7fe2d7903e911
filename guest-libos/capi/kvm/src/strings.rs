//! The string functions that C programs call without thinking of a library.
//!
//! Reads are volatile: a plain loop could be recognised as what it implements and turned into a
//! call of itself.

use core::ffi::{c_char, c_int};
use core::ptr;

/// The byte at `at + i`.
///
/// # Safety
/// It is readable.
unsafe fn byte(at: *const c_char, i: usize) -> u8 {
    // SAFETY: by the caller's promise.
    unsafe { at.add(i).read_volatile() as u8 }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const c_char) -> usize {
    // SAFETY: as in C, there is a 0 before the end.
    unsafe { strnlen(text, usize::MAX) }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strnlen(text: *const c_char, most: usize) -> usize {
    let mut n = 0;
    // SAFETY: nothing is read behind the 0.
    while n < most && unsafe { byte(text, n) } != 0 {
        n += 1;
    }
    n
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcmp(a: *const c_char, b: *const c_char) -> c_int {
    // SAFETY: as in C.
    unsafe { strncmp(a, b, usize::MAX) }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strncmp(a: *const c_char, b: *const c_char, most: usize) -> c_int {
    for i in 0..most {
        // SAFETY: both were equal and not 0 up to here.
        let (x, y) = unsafe { (byte(a, i), byte(b, i)) };
        if x != y || x == 0 {
            return c_int::from(x) - c_int::from(y);
        }
    }
    0
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strchr(text: *const c_char, wanted: c_int) -> *mut c_char {
    let mut i = 0;
    loop {
        // SAFETY: nothing is read behind the 0.
        let found = unsafe { byte(text, i) };
        if found == wanted as u8 {
            return text.wrapping_add(i).cast_mut();
        }
        if found == 0 {
            return ptr::null_mut();
        }
        i += 1;
    }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strrchr(text: *const c_char, wanted: c_int) -> *mut c_char {
    // SAFETY: as in C. The 0 at the end can be looked for, too.
    let mut i = unsafe { strlen(text) } + 1;
    while i > 0 {
        i -= 1;
        // SAFETY: inside the string.
        if unsafe { byte(text, i) } == wanted as u8 {
            return text.wrapping_add(i).cast_mut();
        }
    }
    ptr::null_mut()
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memchr(bytes: *const c_char, wanted: c_int, n: usize) -> *mut c_char {
    // SAFETY: `n` bytes are readable.
    match (0..n).find(|i| unsafe { byte(bytes, *i) } == wanted as u8) {
        Some(i) => bytes.wrapping_add(i).cast_mut(),
        None => ptr::null_mut(),
    }
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcpy(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as in C, there is room for the text and its 0.
    unsafe { ptr::copy_nonoverlapping(from, to, strlen(from) + 1) };
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strncpy(to: *mut c_char, from: *const c_char, n: usize) -> *mut c_char {
    // SAFETY: as in C, `n` bytes are writable; what the text leaves of them becomes 0.
    unsafe {
        let len = strnlen(from, n);
        ptr::copy_nonoverlapping(from, to, len);
        ptr::write_bytes(to.add(len), 0, n - len);
    }
    to
}

/// # Safety
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strcat(to: *mut c_char, from: *const c_char) -> *mut c_char {
    // SAFETY: as in C, there is room behind the first text.
    unsafe { strcpy(to.add(strlen(to)), from) };
    to
}
