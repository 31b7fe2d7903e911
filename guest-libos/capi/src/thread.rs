//! Threads: how they begin, end, and are waited for.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::join::{self, spawn_through, stack_bytes, Entry, SpawnError, Stack};
use libos::sync::{JoinError, Tid, Until};
use libos::uthread::kernel;

use crate::attr::{Attr, Made};
use crate::block::Block;
use crate::cancel;
use crate::errno::{number, EAGAIN, EDEADLK, EINVAL, ESRCH, ETIMEDOUT};
use crate::escape::{call, escape};
use crate::{keys, tls};

pub const STACK_MIN: usize = 16384;
/// What lies below each stack and cannot be touched.
pub const GUARD: usize = 4096;
/// Frames of ours, and of FluxOS when it is called.
const FRAMES: usize = 2048;

type Routine = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// Threads that have not ended. With the last one the program ends.
static ALIVE: AtomicU32 = AtomicU32::new(1);

/// How much of its stack a program's thread may use: what is not ours and FluxOS's, which may have to
/// keep all registers there.
pub fn default_stack() -> usize {
    let ours = size_of::<Block>() + tls::bytes() + FRAMES;
    (stack_bytes() as usize).saturating_sub(ours + kernel().page.header().xsave_bytes as usize)
}

/// What runs inside the frame that [`exit`] goes back to.
struct Job {
    entry: Entry,
    arg: *mut (),
}

/// What every thread runs: everything of its own lies in this frame.
///
/// # Safety
/// `entry(arg)` may be called; once on each uThread.
unsafe extern "C" fn life(entry: Entry, arg: *mut ()) -> *mut () {
    let block = Block::new();
    let job = Job { entry, arg };
    // SAFETY: the block stays here until the thread has ended. There is room: stacks are larger.
    // Nobody but `exit` escapes, with nothing of Rust's in between that must be dropped.
    let value = unsafe {
        block.adopt();
        call(
            block.way_out.as_ptr(),
            tls::bytes(),
            inside,
            &raw const job as u64,
        )
    };
    if ALIVE.fetch_sub(1, Ordering::AcqRel) == 1 {
        libos::boot::exit(0);
    }
    value as *mut ()
}

/// # Safety
/// `job` is one, and `room` is room for thread-local variables.
unsafe extern "C" fn inside(job: u64, room: *mut u8) -> u64 {
    // SAFETY: by the caller's promise.
    let value = unsafe {
        tls::adopt(room as u64 + tls::bytes() as u64);
        let job = &*(job as *const Job);
        (job.entry)(job.arg)
    };
    let block = Block::mine();
    // Handlers that were not popped lie in frames that are gone.
    block.cleanup.set(core::ptr::null_mut());
    wind_up(block);
    value as u64
}

/// The thread's last steps in the program's own code.
fn wind_up(block: &Block) {
    block.ending.set(true);
    cancel::no_more(block);
    block.clean_up();
    keys::destroy(block);
}

/// Ends the calling thread.
pub fn exit(value: *mut c_void) -> ! {
    let block = Block::mine();
    wind_up(block);
    // SAFETY: `life` of this thread waits there.
    unsafe { escape(block.way_out.get(), value as u64) }
}

/// Runs `program` as the first thread.
///
/// # Safety
/// `program(arg)` may be called; this is the first uThread.
pub unsafe fn first(program: Entry, arg: *mut ()) {
    // SAFETY: by the caller's promise.
    unsafe { life(program, arg) };
}

pub fn named(thread: u64) -> Result<Tid, c_int> {
    let who = Tid::from_raw(thread);
    join::exists(who).then_some(who).ok_or(ESRCH)
}

/// Starts a thread.
///
/// # Safety
/// `routine(arg)` may be called on another thread, whose stack is as promised.
pub unsafe fn start(routine: Routine, arg: *mut c_void, made: Made) -> Result<Tid, c_int> {
    // SAFETY: both take and give a pointer.
    let entry = unsafe { core::mem::transmute::<Routine, Entry>(routine) };
    ALIVE.fetch_add(1, Ordering::Relaxed);
    // SAFETY: by the caller's promise.
    let result = unsafe { spawn_through(life, entry, arg.cast(), made.stack, !made.detached) };
    result.map_err(|error| {
        // The caller is still there, so it is not the last one.
        ALIVE.fetch_sub(1, Ordering::Relaxed);
        match error {
            SpawnError::NoSlot => EAGAIN,
            SpawnError::Stack => EINVAL,
        }
    })
}

/// Waits for a thread's end.
///
/// # Safety
/// `value` is null or can be written.
pub unsafe fn wait_for(thread: u64, value: *mut *mut c_void, until: Until) -> Result<(), c_int> {
    // SAFETY: C programs have no handles.
    let result = unsafe { join::join(Tid::from_raw(thread), until) };
    let given = result.map_err(|error| match error {
        JoinError::Gone => ESRCH,
        JoinError::NotJoinable | JoinError::Waited | JoinError::NoResult => EINVAL,
        JoinError::Myself => EDEADLK,
        JoinError::TimedOut => ETIMEDOUT,
        JoinError::Interrupted => cancel::act(),
    })?;
    if !value.is_null() {
        // SAFETY: by the caller's promise.
        unsafe { value.write(given.cast()) };
    }
    Ok(())
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_create(
    thread: *mut u64,
    attr: *const Attr,
    routine: Option<Routine>,
    arg: *mut c_void,
) -> c_int {
    let Some(routine) = routine.filter(|_| !thread.is_null()) else {
        return EINVAL;
    };
    // SAFETY: by the caller's promise.
    number(unsafe { Made::by(attr) }.and_then(|made| {
        // SAFETY: by the caller's promise.
        unsafe { start(routine, arg, made).map(|who| thread.write(who.raw())) }
    }))
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_join(thread: u64, value: *mut *mut c_void) -> c_int {
    cancel::test();
    // SAFETY: by the caller's promise.
    number(unsafe { wait_for(thread, value, cancel::until(Until::EVER)) })
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_detach(thread: u64) -> c_int {
    // SAFETY: C programs have no handles.
    number(
        unsafe { join::detach(Tid::from_raw(thread)) }.map_err(|error| match error {
            JoinError::Gone => ESRCH,
            _ => EINVAL,
        }),
    )
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_self() -> u64 {
    join::current().raw()
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_equal(a: u64, b: u64) -> c_int {
    c_int::from(a == b)
}

#[unsafe(no_mangle)]
pub extern "C" fn flux_pthread_exit(value: *mut c_void) -> ! {
    exit(value)
}

impl Default for Made {
    fn default() -> Made {
        Made {
            detached: false,
            stack: Stack::Own,
        }
    }
}
