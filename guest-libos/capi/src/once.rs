//! Initialisation that happens once.

use core::ffi::{c_int, c_void};

use libos::sync::Once;

use crate::block::{flux_cleanup_pop, flux_cleanup_push, Cleanup};
use crate::errno::{number, EINVAL};
use crate::object::Object;

/// `pthread_once_t`.
pub type PthreadOnce = Object<Once>;

const _: () = assert!(size_of::<PthreadOnce>() <= 32);

/// Called if the routine does not come back: the thread ends in it.
unsafe extern "C" fn give_up(once: *mut c_void) {
    // SAFETY: pushed below with the object, which a call of `flux_pthread_once` still uses.
    unsafe { (*once.cast::<Once>()).give_up() };
}

/// # Safety
/// `at` is null or points at a `pthread_once_t`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_once(at: *mut PthreadOnce, init: Option<extern "C" fn()>) -> c_int {
    let Some(init) = init else { return EINVAL };
    // SAFETY: by the caller's promise.
    number(unsafe { Object::at(at) }.map(|object| {
        let once = &object.inner;
        if once.is_done() || !once.begin() {
            return;
        }
        let mut cleanup = Cleanup::new(give_up, (&raw const *once).cast_mut().cast());
        // SAFETY: it is popped below. If the thread ends in the routine, this frame is still there
        // when the handler is called, and is not gone back to.
        unsafe {
            flux_cleanup_push(&raw mut cleanup);
            init();
            flux_cleanup_pop(&raw mut cleanup, 0);
        }
        once.finish();
    }))
}
