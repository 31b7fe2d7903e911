//! Cancellation: asked for by others, acted upon where the thread waits or says so.
//!
//! A request is an interrupt of the uThread: it stays until it is acted upon, and ends a wait that
//! allows it. Such waits allow it only while cancellation is enabled.

use core::ffi::{c_int, c_void};

use libos::sync::{interrupt, interrupted, sleep, Lapse, Until};
use libos::uthread::kernel;

use crate::block::Block;
use crate::clock::{deadline, known, Timespec};
use crate::errno::{by_errno, number, EINVAL, ESRCH};
use crate::thread;

const ENABLE: c_int = 0;
const DISABLE: c_int = 1;
const DEFERRED: c_int = 0;
const ASYNCHRONOUS: c_int = 1;
const ABSTIME: c_int = 1;
const MONOTONIC: c_int = 1;
const CANCELED: *mut c_void = usize::MAX as *mut c_void;

/// How a wait that is a cancellation point waits just now.
pub fn until(until: Until) -> Until {
    if Block::mine().cancel_disabled.get() {
        until
    } else {
        until.or_interrupt()
    }
}

/// Acts upon a request, if there is one and it may.
pub fn test() {
    if !Block::mine().cancel_disabled.get() && interrupted() {
        act();
    }
}

/// Ends the thread, which was cancelled.
pub fn act() -> ! {
    thread::exit(CANCELED)
}

/// The thread is ending: from here on no request matters, and the one that may be there goes with
/// the uThread's life.
pub fn no_more(block: &Block) {
    block.cancel_disabled.set(true);
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_cancel(thread: u64) -> c_int {
    number(thread::named(thread).and_then(|who| interrupt(who).map_err(|_| ESRCH)))
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_testcancel() {
    test();
}

/// Changes a word of two values, and tells the old one.
///
/// # Safety
/// `old` is null or can be written.
unsafe fn change(word: &core::cell::Cell<bool>, no: c_int, yes: c_int, to: c_int, old: *mut c_int) -> c_int {
    if to != no && to != yes {
        return EINVAL;
    }
    let was = word.replace(to == yes);
    if !old.is_null() {
        // SAFETY: by the caller's promise.
        unsafe { old.write(if was { yes } else { no }) };
    }
    0
}

/// # Safety
/// `old` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int {
    let block = Block::mine();
    if block.ending.get() && state == ENABLE {
        // Handlers and destructors may ask for it, but a thread is not cancelled twice.
        // SAFETY: by the caller's promise.
        return unsafe { change(&core::cell::Cell::new(true), ENABLE, DISABLE, state, old) };
    }
    // SAFETY: by the caller's promise.
    unsafe { change(&block.cancel_disabled, ENABLE, DISABLE, state, old) }
}

/// Both types act at cancellation points only.
///
/// # Safety
/// `old` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_setcanceltype(kind: c_int, old: *mut c_int) -> c_int {
    let word = &Block::mine().cancel_asynchronous;
    // SAFETY: by the caller's promise.
    unsafe { change(word, DEFERRED, ASYNCHRONOUS, kind, old) }
}

/// Sleeps until the TSC is there; a cancellation point.
fn sleep_until(tsc: u64) {
    test();
    match sleep(until(Until::at(tsc))) {
        Lapse::TimedOut => {}
        Lapse::Interrupted => act(),
    }
}

/// The TSC after `length`.
///
/// # Safety
/// `length` is null or points at a timespec.
unsafe fn after(length: *const Timespec) -> Result<u64, c_int> {
    // SAFETY: by the caller's promise.
    let length = unsafe { length.as_ref() }.ok_or(EINVAL)?;
    if length.sec < 0 {
        return Err(EINVAL);
    }
    // A tick more: what is rounded down must not become shorter than asked for.
    let ticks = kernel().clock.ticks(length.ns()?).saturating_add(1);
    Ok(libos::now().saturating_add(ticks))
}

/// # Safety
/// `length` is null or points at a timespec. `left` is not used: nothing but cancellation ends a
/// sleep early.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_nanosleep(length: *const Timespec, _left: *mut Timespec) -> c_int {
    // SAFETY: by the caller's promise.
    by_errno(unsafe { after(length) }.map(sleep_until))
}

/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_clock_nanosleep(
    clock: c_int,
    flags: c_int,
    when: *const Timespec,
    _left: *mut Timespec,
) -> c_int {
    let tsc = known(clock).and_then(|()| match flags {
        // SAFETY: by the caller's promise.
        0 => unsafe { after(when) },
        // SAFETY: by the caller's promise.
        ABSTIME => unsafe { deadline(MONOTONIC, when) },
        _ => Err(EINVAL),
    });
    number(tsc.map(sleep_until))
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_sched_yield() -> c_int {
    libos::uthread::yield_now();
    0
}
