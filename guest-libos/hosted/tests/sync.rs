//! uThreads that wait for each other, on vCPUs that lose their cores at any instruction.
//!
//! The guest goes through one scenario after the other, each of them many times, with more uThreads than vCPUs.
//! Each knows what must come out. A wake that is lost, or a holder that is stranded, is a guest that gets
//! stuck, and the host says so.

#[path = "sync/ends.rs"]
mod ends;
#[path = "sync/host.rs"]
mod host;
#[path = "sync/locks.rs"]
mod locks;
#[path = "sync/talks.rs"]
mod talks;

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use libos::sync::{spawn, JoinHandle, Until};
use libos::time::deadline_in;
use libos::uthread::yield_now;

/// How often the guest goes through each scenario.
const ROUNDS: u64 = if cfg!(flux_sanitizer) { 40 } else { 400 };

static FAILED: AtomicU32 = AtomicU32::new(0);

/// What a scenario finds wrong. It goes on: a guest's panic would end the process.
pub fn expect(what: &str, right: bool) {
    if !right && FAILED.fetch_add(1, SeqCst) < 20 {
        libos::log::info(format_args!("wrong: {what}"));
    }
}

/// Starts a uThread; there are enough.
pub fn start<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match spawn(f) {
        Ok(handle) => handle,
        Err(_) => libos::log::fatal(format_args!("there are no uThreads left")),
    }
}

/// The result of one that has one.
pub fn result<T>(handle: JoinHandle<T>) -> T {
    match handle.join() {
        Ok(value) => value,
        Err(e) => libos::log::fatal(format_args!("not joined: {e:?}")),
    }
}

/// Runs `body` in `N` uThreads at once, each with its number, and waits for all. `body` is lent to
/// them for that long.
pub fn each<const N: usize>(body: impl Fn(usize) + Sync) {
    let at = (&raw const body).cast::<()>() as usize;
    fn call<F: Fn(usize)>(at: usize, i: usize) {
        // SAFETY: `each` does not return before all of them have ended.
        unsafe { (*(at as *const F))(i) }
    }
    fn of<F: Fn(usize)>(_: &F) -> fn(usize, usize) {
        call::<F>
    }
    let call = of(&body);
    let handles: [_; N] = core::array::from_fn(|i| start(move || call(at, i)));
    handles.into_iter().for_each(result);
}

/// Numbers that look random, from a seed.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// A deadline so near that it is sometimes over before what it is for.
pub fn soon(random: &mut Random) -> Until {
    Until::at(deadline_in(random.below(60_000)))
}

/// Something that is not a lock's, to be seen by whoever has no right to.
pub fn linger(random: &mut Random) {
    match random.below(8) {
        0 => yield_now(),
        1 => (0..random.below(3_000)).for_each(|_| core::hint::spin_loop()),
        _ => {}
    }
}

/// One go at something; which one it is comes along.
type Scenario = fn(u64);

pub fn main() {
    let scenarios: [(&str, Scenario); 19] = [
        ("mutex", locks::mutex),
        ("mutex with deadlines", locks::mutex_with_deadlines),
        ("mutexes with owners", locks::owners),
        ("rwlock", locks::rwlock),
        ("spin lock", locks::spin_lock),
        ("once", locks::once),
        ("semaphore", locks::semaphore),
        ("barrier", locks::barrier),
        ("condvar", talks::condvar),
        ("condvar, all at once", talks::broadcast),
        ("condvar with deadlines", talks::condvar_with_deadlines),
        ("channel", talks::channel),
        ("rendezvous", talks::rendezvous),
        ("wait group", talks::group),
        ("join", ends::join),
        ("raw uThreads", ends::raw),
        ("out of uThreads", ends::out_of_uthreads),
        ("join with deadlines", ends::join_with_deadlines),
        ("interrupts", ends::interrupts),
    ];
    for (name, scenario) in scenarios {
        let failed = FAILED.load(SeqCst);
        for round in 1..=ROUNDS {
            scenario(round);
            host::PROGRESS.fetch_add(1, SeqCst);
        }
        let wrong = FAILED.load(SeqCst) - failed;
        libos::log::info(format_args!("{name}: {wrong} wrong"));
    }
    host::FINISHED.store(true, SeqCst);
}

#[test]
fn uthreads_wait_for_each_other_in_a_storm() {
    host::run();
    assert_eq!(FAILED.load(SeqCst), 0, "see above");
}
