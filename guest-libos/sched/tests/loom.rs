//! Models: every interleaving of a few steps of several vCPUs. Those of the run queue are in
//! loom_queue.rs, those of deadlines in loom_timers.rs.
//!
//! Run with `cargo test -p sched --features loom --test loom --release`.

#![cfg(feature = "loom")]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread;
use sched::group::{Group, Wait};
use sched::mutex::{Lock, Mutex};
use sched::waiters::{Links, Table};
use sched::Id;

/// Three vCPUs that spin for each other have too many interleavings; all with up to two
/// preemptions are looked at.
fn bounded(f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.max_branches = 20_000;
    model.check(f);
}

/// uThreads that go to sleep. A sleeper's context is its thread here; "saved" stands for the
/// switch away from its stack, and who is woken before that would run on a stack in use.
struct World {
    links: [AtomicU32; 4],
    backs: [AtomicU32; 4],
    args: [AtomicU64; 4],
    saved: [AtomicU32; 4],
    awake: [AtomicU32; 4],
    bells: [Notify; 4],
}

impl Links for World {
    fn link(&self, id: Id) -> &AtomicU32 {
        &self.links[id as usize]
    }
}

impl Table for World {
    fn back(&self, id: Id) -> &AtomicU32 {
        &self.backs[id as usize]
    }

    fn arg(&self, id: Id) -> &AtomicU64 {
        &self.args[id as usize]
    }

    fn claim(&self, _: Id) -> bool {
        true
    }

    fn settle(&self, _: Id) {}
}

impl World {
    fn new() -> World {
        let zeroes = || std::array::from_fn(|_| AtomicU32::new(0));
        World {
            links: zeroes(),
            backs: zeroes(),
            args: std::array::from_fn(|_| AtomicU64::new(0)),
            saved: zeroes(),
            awake: zeroes(),
            bells: std::array::from_fn(|_| Notify::new()),
        }
    }

    fn save(&self, me: Id) {
        self.saved[me as usize].store(1, Ordering::Relaxed);
    }

    fn wake(&self, id: Id) {
        let saved = self.saved[id as usize].load(Ordering::Relaxed);
        assert_eq!(saved, 1, "woken before its context was saved");
        self.saved[id as usize].store(0, Ordering::Relaxed);
        self.awake[id as usize].store(1, Ordering::Release);
        self.bells[id as usize].notify();
    }

    fn sleep(&self, me: Id) {
        while self.awake[me as usize].load(Ordering::Acquire) == 0 {
            self.bells[me as usize].wait();
        }
        self.awake[me as usize].store(0, Ordering::Relaxed);
    }
}

/// The lock excludes, loses nobody, and is handed over only to those that have left their stack.
#[test]
fn mutex_excludes_and_wakes() {
    bounded(|| {
        let world = Arc::new((World::new(), Mutex::new(), loom::cell::UnsafeCell::new(0u32)));
        let body = |world: &(World, Mutex, loom::cell::UnsafeCell<u32>), me: Id| {
            let (links, mutex, data) = world;
            if !mutex.try_lock() && mutex.lock(links, me) == Lock::Sleep {
                links.save(me);
                // SAFETY: follows Sleep, with the context saved.
                unsafe { mutex.asleep() };
                links.sleep(me);
            }
            data.with_mut(|data| {
                // SAFETY: the lock is ours; loom checks that nobody else is here.
                unsafe { *data += 1 }
            });
            if !mutex.try_unlock() {
                if let Some(next) = mutex.unlock(links).expect("it is locked") {
                    links.wake(next);
                }
            }
        };
        let others: Vec<_> = (1..3)
            .map(|me| {
                let world = Arc::clone(&world);
                thread::spawn(move || body(&world, me))
            })
            .collect();
        body(&world, 3);
        for other in others {
            other.join().expect("no panic");
        }
        assert!(!world.1.is_locked());
        // SAFETY: all others have ended.
        world.2.with(|data| assert_eq!(unsafe { *data }, 3));
    });
}

/// A group's waiter goes on after all parts are done, and only then; nobody touches it later.
#[test]
fn group_waits_for_all() {
    const PARTS: u32 = 1;
    bounded(|| {
        let world = Arc::new((World::new(), Group::new(PARTS), AtomicU32::new(0)));
        let parts: Vec<_> = (0..PARTS)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    world.2.fetch_add(1, Ordering::Relaxed);
                    let mut waiters = world.1.done().expect("not too many");
                    while let Some(waiter) = waiters.pop(&world.0) {
                        world.0.wake(waiter);
                    }
                })
            })
            .collect();
        if world.1.wait(&world.0, 1) == Wait::Sleep {
            world.0.save(1);
            // SAFETY: follows Sleep, with the context saved.
            unsafe { world.1.asleep() };
            world.0.sleep(1);
        }
        assert_eq!(world.2.load(Ordering::Relaxed), PARTS);
        for part in parts {
            part.join().expect("no panic");
        }
    });
}
