//! The native functions of `fluxos.h`.

mod channel;
mod objects;
mod timer;

use core::ffi::{c_char, c_int, c_void, CStr};
use core::fmt;

use libos::sync::{sleep, Until};
use libos::uthread::kernel;

use crate::attr::Made;
use crate::clock::now_ns;
use crate::errno::{number, EINVAL};
use crate::thread::{start, wait_for};

type Routine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// The TSC at a time of `flux_now_ns`.
fn at(ns: u64) -> Until {
    match ns {
        u64::MAX => Until::EVER,
        // A tick more: what is rounded down must not come before its time.
        ns => Until::at(kernel().clock.ticks(ns).saturating_add(1)),
    }
}

/// # Safety
/// `thread` is null or can be written; `routine(arg)` may be called on another thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_spawn(thread: *mut u64, routine: Option<Routine>, arg: *mut c_void) -> c_int {
    let Some(routine) = routine else { return EINVAL };
    let made = Made {
        detached: thread.is_null(),
        ..Made::default()
    };
    // SAFETY: by the caller's promise.
    number(unsafe { start(routine, arg, made) }.map(|who| {
        if !thread.is_null() {
            // SAFETY: by the caller's promise.
            unsafe { thread.write(who.raw()) };
        }
    }))
}

/// # Safety
/// `value` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_join(thread: u64, value: *mut *mut c_void) -> c_int {
    // SAFETY: by the caller's promise.
    number(unsafe { wait_for(thread, value, Until::EVER) })
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_self() -> u64 {
    libos::sync::current().raw()
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_yield() {
    libos::uthread::yield_now();
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_poll() {
    libos::uthread::poll();
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_vcpus() -> u32 {
    kernel().vcpus()
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_now_ns() -> u64 {
    now_ns()
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_sleep_ns(length: u64) {
    flux_sleep_until_ns(now_ns().saturating_add(length));
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_sleep_until_ns(when: u64) {
    sleep(at(when));
}

/// Text that a program gives, whatever bytes are in it.
struct Text<'a>(&'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.utf8_chunks() {
            f.write_str(part.valid())?;
            if !part.invalid().is_empty() {
                f.write_str("\u{fffd}")?;
            }
        }
        Ok(())
    }
}

/// # Safety
/// `text` is null or a string.
unsafe fn text<'a>(text: *const c_char) -> Text<'a> {
    if text.is_null() {
        return Text(b"");
    }
    // SAFETY: by the caller's promise.
    Text(unsafe { CStr::from_ptr(text) }.to_bytes())
}

/// # Safety
/// `line` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_log(line: *const c_char) {
    // SAFETY: by the caller's promise.
    let line = unsafe { text(line) };
    libos::log::info(format_args!("{line}"));
}

/// # Safety
/// `name` is null or a string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_set_name(name: *const c_char) {
    // SAFETY: by the caller's promise.
    let Text(bytes) = unsafe { text(name) };
    let valid = match core::str::from_utf8(bytes) {
        Ok(name) => name,
        Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""),
    };
    libos::uthread::set_name(valid);
}
