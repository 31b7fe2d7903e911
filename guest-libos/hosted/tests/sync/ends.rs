//! How uThreads end, and how their waits are ended.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use libos::sync::join::{detach, exists, exit, set_user, spawn_raw, try_join, user, Stack, LEAST_STACK};
use libos::sync::{
    clear_interrupt, current, interrupt, interrupted, join, sleep, spawn, Condvar, Gone, JoinError, Lapse,
    Mutex, Semaphore, Tid, Until,
};
use libos::time::deadline_in;
use libos::uthread::yield_now;

use super::{expect, linger, result, soon, start, Random};

/// Counts how many of it have been dropped.
struct Dropped(&'static AtomicU32);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub fn join(round: u64) {
    static DROPS: AtomicU32 = AtomicU32::new(0);
    let mut random = Random(round * 83);
    let handles: [_; 8] = core::array::from_fn(|i| {
        let mut random = Random(round * 89 + i as u64 + 1);
        start(move || {
            linger(&mut random);
            [round, i as u64, round ^ i as u64]
        })
    });
    for (i, handle) in handles.into_iter().enumerate() {
        linger(&mut random);
        let (tid, i) = (handle.tid(), i as u64);
        expect("the result comes along", result(handle) == [round, i, round ^ i]);
        expect("it is gone", !exists(tid) && interrupt(tid) == Err(Gone));
    }
    // Results that nobody wants are dropped once, whoever comes last.
    let before = DROPS.load(SeqCst);
    for i in 0..6 {
        let mut inner = Random(round * 97 + i + 1);
        let handle = start(move || {
            linger(&mut inner);
            Dropped(&DROPS)
        });
        linger(&mut random);
        drop(handle);
    }
    while DROPS.load(SeqCst) != before + 6 {
        yield_now();
    }
    drop(result(start(|| Dropped(&DROPS))));
    expect(
        "a result is dropped by its owner",
        DROPS.load(SeqCst) == before + 7,
    );
    // One is handed its own handle.
    static OWN: Mutex<Option<libos::sync::JoinHandle<()>>> = Mutex::new(None);
    let mut slot = OWN.lock();
    let own = start(|| {
        let own = OWN.lock().take();
        let joined = own.map(|own| own.join());
        expect("nobody joins itself", joined == Some(Err(JoinError::Myself)));
    });
    let tid = own.tid();
    *slot = Some(own);
    drop(slot);
    while exists(tid) {
        yield_now();
    }
}

unsafe extern "C" fn doubled(arg: *mut ()) -> *mut () {
    expect("a word of one's own is 0 at first", user() == 0);
    set_user(arg as u64);
    let mut random = Random(arg as u64 + 1);
    linger(&mut random);
    if random.below(2) == 0 {
        yield_now();
    }
    let result = (user() * 2) as *mut ();
    if (arg as u64).is_multiple_of(3) {
        // SAFETY: nothing is lent to anybody here.
        unsafe { exit(result) }
    }
    result
}

pub fn raw(round: u64) {
    struct Memory(core::cell::UnsafeCell<[u8; LEAST_STACK as usize]>);
    // SAFETY: used as a stack by one uThread at a time, which is joined.
    unsafe impl Sync for Memory {}
    static MEMORY: Memory = Memory(core::cell::UnsafeCell::new([0; LEAST_STACK as usize]));
    let own = Stack::At {
        base: MEMORY.0.get() as u64,
        bytes: LEAST_STACK,
    };
    // SAFETY: `doubled` takes any argument; the memory is used by one at a time; none of these is
    // a handle's.
    unsafe {
        let started: [Result<Tid, _>; 6] = core::array::from_fn(|i| {
            let stack = if i == 0 { own } else { Stack::Own };
            spawn_raw(doubled, (round * 10 + i as u64) as *mut (), stack, true)
        });
        for (i, tid) in started.into_iter().enumerate() {
            let Ok(tid) = tid else {
                expect("there are enough", false);
                continue;
            };
            let mut found = None;
            while found.is_none() && i % 2 == 1 {
                found = try_join(tid).unwrap_or(Some(core::ptr::null_mut()));
                yield_now();
            }
            let found = found.map_or_else(|| join::join(tid, Until::EVER), Ok);
            let right = (round * 10 + i as u64) * 2;
            expect("the result comes along", found.map(|p| p as u64) == Ok(right));
            expect("once", join::join(tid, Until::EVER) == Err(JoinError::Gone));
            expect("not let go either", detach(tid) == Err(JoinError::Gone));
        }
        let alone = spawn_raw(doubled, 5 as *mut (), Stack::AtLeast(4096), false);
        if let Ok(alone) = alone {
            let refused = join::join(alone, Until::EVER);
            let known = [Err(JoinError::NotJoinable), Err(JoinError::Gone)];
            expect("it is not to be joined", known.contains(&refused));
        }
        let huge = spawn_raw(doubled, core::ptr::null_mut(), Stack::AtLeast(1 << 30), true);
        expect("no stack is so large", huge.is_err());
        let tiny = Stack::At {
            base: 4096,
            bytes: 100,
        };
        expect(
            "or so small",
            spawn_raw(doubled, core::ptr::null_mut(), tiny, true).is_err(),
        );
        let myself = join::join(current(), Until::EVER);
        expect("nobody joins itself", myself == Err(JoinError::Myself));
        for nobody in [0, 1, u64::MAX, 1 << 32, 7 << 32 | 99_999] {
            let found = join::join(Tid::from_raw(nobody), Until::EVER);
            expect("strangers are refused", found == Err(JoinError::Gone));
        }
    }
}

/// All places are taken, by some that wait and some that have ended; then they are given back.
pub fn out_of_uthreads(_: u64) {
    static GATE: Semaphore = Semaphore::new(0);
    let mut handles = [const { None }; 128];
    let mut started = 0;
    for handle in &mut handles {
        *handle = spawn(move || {
            if started % 2 == 0 {
                GATE.acquire();
            }
            started
        })
        .ok();
        if handle.is_none() {
            break;
        }
        started += 1;
    }
    expect("they run out", started < 128 && spawn(|| ()).is_err());
    for _ in 0..started {
        expect("there is room", GATE.release().is_ok());
    }
    for (i, handle) in handles.into_iter().flatten().enumerate() {
        expect("each has its result", result(handle) == i);
    }
    while GATE.try_acquire() {}
    expect("and there are some again", spawn(|| ()).is_ok());
}

pub fn join_with_deadlines(round: u64) {
    unsafe extern "C" fn nap(arg: *mut ()) -> *mut () {
        let mut random = Random(arg as u64);
        expect("it is time", sleep(soon(&mut random)) == Lapse::TimedOut);
        arg
    }
    let mut random = Random(round * 101);
    for i in 1..=6 {
        let seed = (round * 103 + i) as *mut ();
        // SAFETY: `nap` takes any argument; it is no handle's.
        unsafe {
            let Ok(tid) = spawn_raw(nap, seed, Stack::Own, true) else {
                expect("there are enough", false);
                continue;
            };
            let found = loop {
                match join::join(tid, soon(&mut random)) {
                    Err(JoinError::TimedOut) => {}
                    found => break found,
                }
            };
            expect("it has ended at last", found == Ok(seed));
            expect("it is gone", !exists(tid));
        }
    }
}

/// What somebody does that is then interrupted.
fn waits_for_ever(how: u64) -> bool {
    let ever = Until::EVER.or_interrupt();
    let far = Until::at(deadline_in(3_600_000_000_000)).or_interrupt();
    match how % 5 {
        0 => Semaphore::new(0).acquire_until(ever) == Err(Lapse::Interrupted),
        1 => Semaphore::new(0).acquire_until(far) == Err(Lapse::Interrupted),
        2 => sleep(ever) == Lapse::Interrupted,
        3 => {
            let (mutex, condvar) = (Mutex::new(()), Condvar::new());
            let mut guard = mutex.lock();
            let ended = condvar.wait_while(&mut guard, ever, |()| true);
            ended == Err(Lapse::Interrupted) && mutex.try_lock().is_none()
        }
        _ => {
            unsafe extern "C" fn stay(_: *mut ()) -> *mut () {
                sleep(Until::EVER.or_interrupt());
                core::ptr::null_mut()
            }
            // SAFETY: `stay` needs nothing, and is no handle's.
            unsafe {
                let Ok(other) = spawn_raw(stay, core::ptr::null_mut(), Stack::Own, true) else {
                    return false;
                };
                let ended = join::join(other, ever) == Err(JoinError::Interrupted);
                // It can still be joined.
                ended && interrupt(other) == Ok(()) && join::join(other, Until::EVER).is_ok()
            }
        }
    }
}

pub fn interrupts(round: u64) {
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    BEGUN.store(0, SeqCst);
    let mut random = Random(round * 107);
    let handles: [_; 5] = core::array::from_fn(|i| {
        let mut random = Random(round * 109 + i as u64);
        start(move || {
            BEGUN.fetch_add(1, SeqCst);
            linger(&mut random);
            let ended = waits_for_ever(i as u64);
            // It stays interrupted until it says otherwise; but only for what may be interrupted.
            let still = interrupted() && sleep(Until::EVER.or_interrupt()) == Lapse::Interrupted;
            let one = Semaphore::new(0);
            let timed = one.acquire_until(Until::at(deadline_in(1000))) == Err(Lapse::TimedOut);
            clear_interrupt();
            let soon = Until::at(deadline_in(1000)).or_interrupt();
            ended && still && timed && !interrupted() && sleep(soon) == Lapse::TimedOut
        })
    });
    if round.is_multiple_of(2) {
        while BEGUN.load(SeqCst) < 5 {
            yield_now();
        }
    }
    for handle in &handles {
        linger(&mut random);
        expect("it is there", interrupt(handle.tid()) == Ok(()));
    }
    for (i, handle) in handles.into_iter().enumerate() {
        let right = result(handle);
        expect(["sem", "sem, timed", "sleep", "condvar", "join"][i], right);
    }
}
