//! uThreads that somebody waits for, and their names.
//!
//! One that may be joined keeps its place in the uThread table and its stack when it has ended,
//! until it was joined or let go. Who does what about its end is settled by [`sched::exit`].

use core::sync::atomic::Ordering;

use sched::exit::{Ended, Join, Life, Refused};
use sched::Id;

use super::block::{known, Lapse, Until};
use crate::log::fatal;
use crate::uthread::{create_with, kernel, with_current, NoSlot, UThread};
use crate::vcpu::{enter, leave, suspend, After, Local};

pub use super::handle::{spawn, JoinHandle};

use super::joining::{reap, wait_for};

/// The name of a uThread. There has never been another one of this name, until after billions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Tid(u64);

impl Tid {
    pub(crate) fn new(id: Id, life: Life) -> Tid {
        Tid(u64::from(life) << 32 | u64::from(id))
    }

    /// As a number, which is not 0.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// Any number may be asked for; most are names of nobody.
    pub const fn from_raw(raw: u64) -> Tid {
        Tid(raw)
    }

    pub(crate) const fn id(self) -> Id {
        self.0 as Id
    }

    pub(crate) const fn life(self) -> Life {
        (self.0 >> 32) as Life
    }
}

/// The calling uThread.
pub fn current() -> Tid {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let id = local.current.load(Ordering::Relaxed);
    let tid = Tid::new(id, known(local.kernel(), id).exit.life());
    leave();
    tid
}

/// The calling uThread's own word, for APIs built upon this one. 0 when it begins.
pub fn user() -> u64 {
    with_current(|uthread| uthread.user.get())
}

pub fn set_user(word: u64) {
    with_current(|uthread| uthread.user.set(word));
}

/// What a uThread of an API built upon this one runs; it ends with what that returns.
pub type Entry = unsafe extern "C" fn(*mut ()) -> *mut ();

/// What calls a uThread's entry for an API that has something to do before and after.
pub type Through = unsafe extern "C" fn(Entry, *mut ()) -> *mut ();

/// # Safety
/// `entry(arg)` may be called.
unsafe extern "C" fn directly(entry: Entry, arg: *mut ()) -> *mut () {
    // SAFETY: by the caller's promise.
    unsafe { entry(arg) }
}

/// Where a uThread is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// On one of FluxOS's own stacks.
    Own,
    /// The same, if they have this many bytes.
    AtLeast(u64),
    /// In this memory of the caller's.
    At { base: u64, bytes: u64 },
}

/// Less is too little for FluxOS's own needs upon a uThread's stack.
pub const LEAST_STACK: u64 = 16 << 10;
/// What of FluxOS's own stacks is not for use, at their lower end.
const GUARD: u64 = 4096;

/// The bytes that each of FluxOS's own stacks has for use.
pub fn stack_bytes() -> u64 {
    kernel().page.header().stack_bytes.saturating_sub(GUARD)
}

/// Why a uThread was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpawnError {
    /// All uThreads and their stacks are in use.
    NoSlot,
    /// Such a stack is too small, or there is none so large.
    Stack,
}

impl From<NoSlot> for SpawnError {
    fn from(_: NoSlot) -> SpawnError {
        SpawnError::NoSlot
    }
}

/// What lies on top of the stack of a uThread that runs an [`Entry`].
#[derive(Clone, Copy)]
struct Start {
    through: Through,
    entry: Entry,
    arg: *mut (),
}

/// Starts a uThread that runs `entry(arg)`.
///
/// # Safety
/// `entry` may be called so on another uThread. Memory given as its stack is writable, and used
/// for nothing else until the uThread was joined, or, if nobody joins it, for good.
pub unsafe fn spawn_raw(entry: Entry, arg: *mut (), stack: Stack, joinable: bool) -> Result<Tid, SpawnError> {
    // SAFETY: by the caller's promise.
    unsafe { spawn_through(directly, entry, arg, stack, joinable) }
}

/// Starts a uThread that runs `through(entry, arg)`.
///
/// # Safety
/// As [`spawn_raw`], of `through`.
pub unsafe fn spawn_through(
    through: Through,
    entry: Entry,
    arg: *mut (),
    stack: Stack,
    joinable: bool,
) -> Result<Tid, SpawnError> {
    let top = match stack {
        Stack::Own => None,
        Stack::AtLeast(bytes) if bytes <= stack_bytes() => None,
        Stack::At { base, bytes } if bytes >= LEAST_STACK => {
            Some(base.checked_add(bytes).ok_or(SpawnError::Stack)?)
        }
        Stack::AtLeast(_) | Stack::At { .. } => return Err(SpawnError::Stack),
    };
    let start = |uthread: &UThread| {
        let top = top.unwrap_or(uthread.stack_top);
        let at = (top - size_of::<Start>() as u64) & !63;
        // SAFETY: the stack is long enough, and unused: it is a free uThread's, or the caller has
        // promised it. `run` is right about what lies there, and may be called by the caller's promise.
        unsafe {
            (at as *mut Start).write(Start { through, entry, arg });
            uthread.start_at(at, run);
        }
    };
    Ok(begin(start, joinable)?)
}

/// # Safety
/// A `Start` lies at `at`, whose entry may be called.
unsafe fn run(at: u64) {
    // SAFETY: by the caller's promise.
    let result = unsafe {
        let start = (at as *const Start).read();
        (start.through)(start.entry, start.arg)
    };
    with_current(|uthread| uthread.result.set(result as u64));
}

/// Takes a free uThread, lets `start` make its context, and makes it runnable.
pub(super) fn begin(start: impl FnOnce(&UThread), joinable: bool) -> Result<Tid, NoSlot> {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let mut life = 0;
    let id = create_with(local, |uthread| {
        uthread.user.set(0);
        uthread.result.set(0);
        life = if joinable {
            uthread.exit.joinable()
        } else {
            uthread.exit.life()
        };
        start(uthread);
    });
    leave();
    id.map(|id| Tid::new(id, life))
}

/// Ends the calling uThread with this result, from wherever it is.
///
/// # Safety
/// Nothing on its stack is dropped, and nobody may rely on it being: nothing there is lent to others.
pub unsafe fn exit(result: *mut ()) -> ! {
    with_current(|uthread| uthread.result.set(result as u64));
    enter();
    // SAFETY: `critical` is set; nothing of this stack is used after.
    unsafe { suspend(After::Exit) };
    fatal(format_args!("a uThread that had ended was run again"))
}

/// Called when a uThread has ended, on the scheduler's stack.
pub(crate) fn ended(local: &Local, id: Id, uthread: &UThread) {
    let kernel = local.kernel();
    match uthread.exit.ended() {
        Ended::Free => free(local, id),
        Ended::Keep => {}
        Ended::Tell(joiner) => {
            // The joiner's wait is this one until `told`: before that it does not get out of it.
            let ours = kernel.claim(joiner);
            uthread.exit.told();
            if ours {
                local.wake(joiner);
            }
        }
    }
}

/// With `critical` set.
pub(super) fn free(local: &Local, id: Id) {
    let kernel = local.kernel();
    if let Some(uthread) = kernel.uthread(id) {
        uthread.fibre.end();
    }
    if !kernel.slots.give(local.id, id) {
        fatal(format_args!("uThread {id} ended twice"));
    }
}

/// Why a uThread was not joined or let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// There is no uThread of this name (any more).
    Gone,
    /// It is not one to be joined: it was let go before, or was started so.
    NotJoinable,
    /// Another uThread waits for it.
    Waited,
    /// The caller is the one.
    Myself,
    /// It ended without a result: by [`exit`].
    NoResult,
    TimedOut,
    Interrupted,
}

impl From<Refused> for JoinError {
    fn from(refused: Refused) -> JoinError {
        match refused {
            Refused::Gone => JoinError::Gone,
            Refused::Alone => JoinError::NotJoinable,
            Refused::Waited => JoinError::Waited,
        }
    }
}

impl From<Lapse> for JoinError {
    fn from(lapse: Lapse) -> JoinError {
        match lapse {
            Lapse::TimedOut => JoinError::TimedOut,
            Lapse::Interrupted => JoinError::Interrupted,
        }
    }
}

pub(super) fn named(who: Tid) -> Result<&'static UThread, JoinError> {
    kernel().uthread(who.id()).ok_or(JoinError::Gone)
}

/// Waits for the end of a uThread that runs an [`Entry`]; its result.
///
/// # Safety
/// It is not one that a [`JoinHandle`] is for.
pub unsafe fn join(who: Tid, until: Until) -> Result<*mut (), JoinError> {
    let target = wait_for(who, until)?;
    // It has ended, so the cell is ours; or somebody else was faster, and `reap` finds out.
    let result = target.result.get();
    reap(target, who)?;
    Ok(result as *mut ())
}

/// As [`join`], if it has ended already; `None` if it has not.
///
/// # Safety
/// As [`join`].
pub unsafe fn try_join(who: Tid) -> Result<Option<*mut ()>, JoinError> {
    if who == current() {
        return Err(JoinError::Myself);
    }
    match named(who)?.exit.look(who.life())? {
        // SAFETY: by the caller's promise.
        Join::Over => unsafe { join(who, Until::EVER).map(Some) },
        Join::Wait => Ok(None),
    }
}

/// Nobody is going to join it: when it ends, or if it has, all of it is free.
///
/// # Safety
/// As [`join`], but for its handle itself.
pub unsafe fn detach(who: Tid) -> Result<(), JoinError> {
    if named(who)?.exit.let_go(who.life())? {
        enter();
        // SAFETY: `critical` is set.
        free(unsafe { Local::here() }, who.id());
        leave();
    }
    Ok(())
}

/// Whether there is such a uThread, ended or not.
pub fn exists(who: Tid) -> bool {
    named(who).is_ok_and(|uthread| uthread.exit.life() == who.life())
}
