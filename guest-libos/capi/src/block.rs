//! What each thread keeps for the C faces: its `errno`, its values, how it can be cancelled. It
//! lies on the thread's own stack, for as long as the thread runs.

use core::cell::Cell;
use core::ffi::{c_int, c_void};

use libos::sync::join;

use crate::keys::{Value, KEYS};

/// `struct flux_cleanup`: a handler, on the stack of the function that pushed it.
#[derive(Debug)]
#[repr(C)]
pub struct Cleanup {
    routine: Option<unsafe extern "C" fn(*mut c_void)>,
    arg: *mut c_void,
    outer: *mut Cleanup,
}

impl Cleanup {
    pub fn new(routine: unsafe extern "C" fn(*mut c_void), arg: *mut c_void) -> Cleanup {
        Cleanup {
            routine: Some(routine),
            arg,
            outer: core::ptr::null_mut(),
        }
    }
}

#[derive(Debug)]
pub struct Block {
    pub errno: Cell<c_int>,
    pub values: [Value; KEYS],
    /// The innermost handler.
    pub cleanup: Cell<*mut Cleanup>,
    pub cancel_disabled: Cell<bool>,
    pub cancel_asynchronous: Cell<bool>,
    /// The thread is on its way out: it is not cancelled any more.
    pub ending: Cell<bool>,
    /// Where [`crate::escape::escape`] goes.
    pub way_out: Cell<u64>,
}

impl Block {
    pub const fn new() -> Block {
        Block {
            errno: Cell::new(0),
            values: [const { Value::none() }; KEYS],
            cleanup: Cell::new(core::ptr::null_mut()),
            cancel_disabled: Cell::new(false),
            cancel_asynchronous: Cell::new(false),
            ending: Cell::new(false),
            way_out: Cell::new(0),
        }
    }

    /// The calling thread's.
    pub fn mine<'a>() -> &'a Block {
        // SAFETY: C code runs in threads only, and a thread's first step is `adopt`. The reference
        // is used by this thread, before its function returns to the frame that has the block.
        unsafe { &*(join::user() as *const Block) }
    }

    /// Makes it the calling thread's.
    ///
    /// # Safety
    /// It stays where it is until the thread has ended.
    pub unsafe fn adopt(&self) {
        join::set_user(&raw const *self as u64);
    }

    /// Calls the handlers that are there, the innermost first.
    pub fn clean_up(&self) {
        loop {
            let at = self.cleanup.get();
            if at.is_null() {
                return;
            }
            // SAFETY: pushed by a function of this thread that has not returned. Handlers may push
            // and pop others.
            unsafe {
                self.cleanup.set((*at).outer);
                if let Some(routine) = (*at).routine {
                    routine((*at).arg);
                }
            }
        }
    }
}

impl Default for Block {
    fn default() -> Block {
        Block::new()
    }
}

/// Behind `pthread_cleanup_push`.
///
/// # Safety
/// `cleanup` is filled in, and popped before it goes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cleanup_push(cleanup: *mut Cleanup) {
    let block = Block::mine();
    // SAFETY: by the caller's promise.
    unsafe { (*cleanup).outer = block.cleanup.get() };
    block.cleanup.set(cleanup);
}

/// Behind `pthread_cleanup_pop`.
///
/// # Safety
/// `cleanup` is the one pushed last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_cleanup_pop(cleanup: *mut Cleanup, execute: c_int) {
    // SAFETY: by the caller's promise.
    unsafe {
        Block::mine().cleanup.set((*cleanup).outer);
        if let Some(routine) = (*cleanup).routine.filter(|_| execute != 0) {
            routine((*cleanup).arg);
        }
    }
}
