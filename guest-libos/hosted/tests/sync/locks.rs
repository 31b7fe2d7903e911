//! Locks, and what is counted and met at.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};

use libos::sync::{
    Barrier, Kind, Lapse, LockError, Mutex, Once, OwnedMutex, RwLock, Semaphore, SpinLock, UnlockError, Until,
};
use libos::time::deadline_in;
use libos::uthread::yield_now;

use super::{each, expect, linger, soon, Random};

const TURNS: u64 = 50;

pub fn mutex(round: u64) {
    let lock = Mutex::new((0u64, 0u64));
    each::<6>(|i| {
        let mut random = Random(round * 31 + i as u64 + 1);
        for _ in 0..TURNS {
            let mut data = lock.lock();
            data.0 += 1;
            linger(&mut random);
            data.1 += 1;
            expect("a mutex excludes", data.0 == data.1);
        }
    });
    expect("a mutex loses nothing", *lock.lock() == (6 * TURNS, 6 * TURNS));
}

pub fn mutex_with_deadlines(round: u64) {
    let lock = Mutex::new(0u64);
    let had = AtomicU64::new(0);
    each::<6>(|i| {
        let mut random = Random(round * 37 + i as u64 + 1);
        for _ in 0..TURNS {
            let until = if random.below(3) == 0 {
                Until::EVER
            } else {
                soon(&mut random)
            };
            match lock.lock_until(until) {
                Ok(mut data) => {
                    *data += 1;
                    had.fetch_add(1, SeqCst);
                    linger(&mut random);
                }
                Err(lapse) => expect("only time runs out", lapse == Lapse::TimedOut),
            }
        }
    });
    expect(
        "who ran out of time had nothing",
        *lock.lock() == had.load(SeqCst),
    );
    expect("a mutex is free at last", lock.try_lock().is_some());
    let held = lock.lock();
    let late = lock.lock_until(Until::at(deadline_in(1000))).err();
    expect("a deadline passes", late == Some(Lapse::TimedOut));
    drop(held);
    let past = lock.lock_until(Until::at(1)).is_ok();
    expect("what can be had at once is had", past);
}

/// Errors that are the caller's, on vCPUs that change all the time.
pub fn owners(_: u64) {
    let checking = OwnedMutex::new(Kind::Checking);
    let recursive = OwnedMutex::new(Kind::Recursive);
    let normal = OwnedMutex::new(Kind::Normal);
    for lock in [&checking, &recursive, &normal] {
        expect("nobody has it", lock.unlock() == Err(UnlockError::NotLocked));
        expect("it is had", lock.lock() == Ok(()));
    }
    expect("locked twice", checking.lock() == Err(LockError::Deadlock));
    expect("tried twice", checking.try_lock() == Err(LockError::Busy));
    expect(
        "locked again",
        recursive.lock() == Ok(()) && recursive.try_lock() == Ok(()),
    );
    expect("tried while had", normal.try_lock() == Err(LockError::Busy));
    each::<2>(|_| {
        for lock in [&checking, &recursive] {
            expect("another one's", lock.unlock() == Err(UnlockError::NotMine));
            expect("another one has it", lock.try_lock() == Err(LockError::Busy));
            let late = lock.lock_until(Until::at(deadline_in(100)));
            expect("another one keeps it", late == Err(LockError::TimedOut));
        }
    });
    for _ in 0..3 {
        expect("as often as it was locked", recursive.unlock() == Ok(()));
    }
    expect("and no more", recursive.unlock() == Err(UnlockError::NotLocked));
    expect("once", checking.unlock() == Ok(()) && normal.unlock() == Ok(()));
    let inside = AtomicU32::new(0);
    each::<5>(|_| {
        for _ in 0..TURNS {
            expect(
                "it is had in the end",
                recursive.lock() == Ok(()) && recursive.lock() == Ok(()),
            );
            expect("by one", inside.fetch_add(1, SeqCst) == 0);
            yield_now();
            inside.fetch_sub(1, SeqCst);
            expect(
                "it is mine",
                recursive.unlock() == Ok(()) && recursive.unlock() == Ok(()),
            );
        }
    });
}

pub fn rwlock(round: u64) {
    let lock = RwLock::new((0u64, 0u64));
    let readers = AtomicU32::new(0);
    let together = AtomicU32::new(0);
    each::<7>(|i| {
        let mut random = Random(round * 41 + i as u64 + 1);
        for _ in 0..TURNS {
            if i < 2 {
                let mut data = lock.write();
                expect("writers are alone", readers.load(SeqCst) == 0);
                data.0 += 1;
                linger(&mut random);
                data.1 += 1;
            } else {
                let data = lock.read();
                let others = readers.fetch_add(1, SeqCst);
                together.fetch_max(others, SeqCst);
                linger(&mut random);
                expect("readers see what is whole", data.0 == data.1);
                readers.fetch_sub(1, SeqCst);
            }
        }
    });
    expect("no writer is lost", lock.read().0 == 2 * TURNS);
    let read = lock.read();
    expect(
        "readers share",
        lock.try_read().is_some() && lock.try_write().is_none(),
    );
    drop(read);
    expect("it is free at last", lock.try_write().is_some());
}

pub fn spin_lock(round: u64) {
    let lock = SpinLock::new();
    let inside = AtomicU32::new(0);
    each::<6>(|i| {
        let mut random = Random(round * 43 + i as u64 + 1);
        for _ in 0..TURNS {
            lock.lock();
            expect("a spin lock excludes", inside.fetch_add(1, SeqCst) == 0);
            linger(&mut random);
            inside.fetch_sub(1, SeqCst);
            expect("it was mine", lock.unlock().is_ok());
        }
    });
    expect("it is free at last", !lock.is_locked());
    expect("nobody has it", lock.unlock().is_err());
}

pub fn once(round: u64) {
    let once = Once::new();
    let done = AtomicU32::new(0);
    let tries = AtomicU32::new(0);
    each::<6>(|i| {
        let mut random = Random(round * 47 + i as u64 + 1);
        if once.begin() {
            // The first one gives up.
            linger(&mut random);
            if tries.fetch_add(1, SeqCst) == 0 {
                once.give_up();
            } else {
                done.fetch_add(1, SeqCst);
                once.finish();
            }
        }
        once.call(|| {
            linger(&mut random);
            done.fetch_add(1, SeqCst);
        });
        expect("it is done when this returns", done.load(SeqCst) == 1);
    });
    expect("it is done once", done.load(SeqCst) == 1 && once.is_done());
}

pub fn semaphore(round: u64) {
    let semaphore = Semaphore::new(2);
    let inside = AtomicU32::new(0);
    each::<6>(|i| {
        let mut random = Random(round * 53 + i as u64 + 1);
        for _ in 0..TURNS {
            let until = if random.below(2) == 0 {
                Until::EVER
            } else {
                soon(&mut random)
            };
            if semaphore.acquire_until(until).is_ok() {
                expect("no more than there are", inside.fetch_add(1, SeqCst) < 2);
                linger(&mut random);
                inside.fetch_sub(1, SeqCst);
                expect("there is room", semaphore.release().is_ok());
            }
        }
    });
    expect("no unit is lost, and none is made", semaphore.units() == 2);
}

pub fn barrier(round: u64) {
    const ALL: usize = 5;
    let barrier = Barrier::new(ALL as u32);
    let (come, last) = (AtomicU64::new(0), AtomicU64::new(0));
    each::<ALL>(|i| {
        let mut random = Random(round * 59 + i as u64 + 1);
        for turn in 1..=TURNS / 2 {
            come.fetch_add(1, SeqCst);
            linger(&mut random);
            if barrier.wait() {
                last.fetch_add(1, SeqCst);
            }
            expect("all have come", come.load(SeqCst) >= turn * ALL as u64);
            // Nobody comes for the next turn before all have looked.
            barrier.wait();
            expect(
                "none has come twice",
                come.load(SeqCst) <= (turn + 1) * ALL as u64,
            );
        }
    });
    expect("one is last", last.load(SeqCst) == TURNS / 2);
}
