//! Timers: each a uThread that sleeps until its time.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::join::Tid;
use libos::sync::{interrupt, sleep, Lapse, Until};
use libos::uthread::yield_now;

use super::at;
use crate::attr::Made;
use crate::errno::{number, EBUSY, EDEADLK, EINVAL, ESRCH};
use crate::thread::{start, wait_for};

/// `flux_timer_t`.
#[repr(C)]
pub struct Timer {
    thread: u64,
    fire: Option<unsafe extern "C" fn(*mut c_void)>,
    arg: *mut c_void,
    when: u64,
    state: AtomicU32,
}

/// As in the header.
const _: () = assert!(size_of::<Timer>() == 40 && align_of::<Timer>() == 8);

const IDLE: u32 = 0;
/// Its uThread is being made; only whoever arms it goes on from here.
const ARMING: u32 = 1;
const ARMED: u32 = 2;
/// It is firing, or has.
const FIRED: u32 = 3;
/// Somebody waits for its uThread to end.
const ENDING: u32 = 4;

/// Moves a timer on from one state to another, if it is there.
fn step(timer: &Timer, from: u32, to: u32) -> bool {
    // AcqRel: what belongs to the timer goes along with its state.
    timer
        .state
        .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
        .is_ok()
}

/// What a timer's uThread runs.
///
/// # Safety
/// `timer` is one, and stays where it is until the uThread was joined.
unsafe extern "C" fn run(timer: *mut c_void) -> *mut c_void {
    // SAFETY: by the caller's promise.
    let timer = unsafe { &*timer.cast::<Timer>() };
    while timer.state.load(Ordering::Acquire) == ARMING {
        yield_now();
    }
    if sleep(at(timer.when).or_interrupt()) == Lapse::TimedOut && step(timer, ARMED, FIRED) {
        if let Some(fire) = timer.fire {
            // SAFETY: the program's, to be called so.
            unsafe { fire(timer.arg) };
        }
    }
    core::ptr::null_mut()
}

/// # Safety
/// `timer` is null or points at a `flux_timer_t` that is zero or was armed before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_timer_arm(
    timer: *mut Timer,
    when: u64,
    fire: Option<unsafe extern "C" fn(*mut c_void)>,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: by the caller's promise.
    let state = match unsafe { timer.as_ref() } {
        Some(timer) if fire.is_some() => timer,
        _ => return EINVAL,
    };
    if step(state, FIRED, ENDING) {
        // SAFETY: its uThread is on its way out.
        let ended = unsafe { wait_for(state.thread, core::ptr::null_mut(), Until::EVER) };
        if ended == Err(EDEADLK) {
            // Armed again by what it fires: the old uThread goes its way alone.
            crate::thread::flux_pthread_detach(state.thread);
        }
        state.state.store(IDLE, Ordering::Release);
    }
    if !step(state, IDLE, ARMING) {
        return EBUSY;
    }
    // SAFETY: arming is ours alone; nobody looks at these fields before it is armed.
    number(unsafe {
        (&raw mut (*timer).fire).write(fire);
        (&raw mut (*timer).arg).write(arg);
        (&raw mut (*timer).when).write(when);
        match start(run, timer.cast(), Made::default()) {
            Ok(who) => {
                (&raw mut (*timer).thread).write(who.raw());
                (*timer).state.store(ARMED, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                (*timer).state.store(IDLE, Ordering::Release);
                Err(error)
            }
        }
    })
}

/// # Safety
/// As above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_timer_disarm(timer: *mut Timer) -> c_int {
    // SAFETY: by the caller's promise.
    let Some(timer) = (unsafe { timer.as_ref() }) else {
        return EINVAL;
    };
    while timer.state.load(Ordering::Acquire) == ARMING {
        yield_now();
    }
    let in_time = step(timer, ARMED, ENDING);
    if !in_time && !step(timer, FIRED, ENDING) {
        return ESRCH;
    }
    if in_time {
        // It is not joined yet, so it is there.
        let _ = interrupt(Tid::from_raw(timer.thread));
    }
    // SAFETY: null may be given.
    let ended = unsafe { wait_for(timer.thread, core::ptr::null_mut(), Until::EVER) };
    if ended == Err(EDEADLK) {
        // Called by what it fires: it has fired.
        crate::thread::flux_pthread_detach(timer.thread);
    }
    timer.state.store(IDLE, Ordering::Release);
    if in_time {
        0
    } else {
        ESRCH
    }
}
