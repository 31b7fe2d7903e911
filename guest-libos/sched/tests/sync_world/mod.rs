//! uThreads that go to sleep and are woken, for models of what they wait for.

#![allow(dead_code)]

use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use loom::sync::{Arc, Notify};
use loom::thread::{self, JoinHandle};
use sched::mutant::mutant;
use sched::ticket::{Ended, Ticket};
use sched::waiters::{Links, Table};
use sched::Id;

/// Several vCPUs that spin for each other have too many interleavings; all with up to so many
/// preemptions are looked at.
pub fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(f);
}

/// uThreads that go to sleep. A sleeper's context is its thread here; "saved" stands for the
/// switch away from its stack, and who is woken before that would run on a stack in use.
pub struct World {
    links: [AtomicU32; 4],
    backs: [AtomicU32; 4],
    args: [AtomicU64; 4],
    pub tickets: [Ticket; 4],
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

    fn claim(&self, id: Id) -> bool {
        self.tickets[id as usize].claim()
    }

    fn settle(&self, id: Id) {
        self.tickets[id as usize].settle();
    }
}

impl World {
    pub fn new() -> World {
        let zeroes = || std::array::from_fn(|_| AtomicU32::new(0));
        World {
            links: zeroes(),
            backs: zeroes(),
            args: std::array::from_fn(|_| AtomicU64::new(0)),
            tickets: std::array::from_fn(|_| Ticket::new()),
            saved: zeroes(),
            awake: zeroes(),
            bells: std::array::from_fn(|_| Notify::new()),
        }
    }

    /// As [`World::sleep`], for models that look themselves whether `me` was woken. That makes a failed
    /// check of what loom else finds to be a deadlock, after which it cannot clean up.
    pub fn lie_down(&self, me: Id, open: impl FnOnce()) {
        if mutant("opens before it sleeps") {
            open();
            self.saved[me as usize].store(1, Ordering::Relaxed);
        } else {
            self.saved[me as usize].store(1, Ordering::Relaxed);
            open();
        }
    }

    pub fn was_woken(&self, me: Id) {
        let awake = self.awake[me as usize].load(Ordering::Acquire);
        assert_eq!(awake, 1, "nobody has woken it");
        self.awake[me as usize].store(0, Ordering::Relaxed);
    }

    /// Saves the context of `me`, opens the list, and sleeps.
    pub fn sleep(&self, me: Id, open: impl FnOnce()) {
        self.lie_down(me, open);
        while self.awake[me as usize].load(Ordering::Acquire) == 0 {
            self.bells[me as usize].wait();
        }
        self.awake[me as usize].store(0, Ordering::Relaxed);
    }

    pub fn wake(&self, id: Id) {
        let saved = self.saved[id as usize].load(Ordering::Relaxed);
        assert_eq!(saved, 1, "woken before its context was saved, or twice");
        self.saved[id as usize].store(0, Ordering::Relaxed);
        self.awake[id as usize].store(1, Ordering::Release);
        self.bells[id as usize].notify();
    }
}

/// As [`World::sleep`], with a deadline that passes at some time.
pub fn sleep_until(table: &Arc<World>, me: Id, open: impl FnOnce()) -> (Ended, JoinHandle<()>) {
    let mut timer = None;
    table.sleep(me, || {
        // Armed with the context saved and the list not yet open.
        let world = Arc::clone(table);
        let number = table.tickets[me as usize].number();
        timer = Some(thread::spawn(move || {
            if world.tickets[me as usize].expire(number) {
                world.wake(me);
            }
        }));
        open();
    });
    let ended = table.tickets[me as usize].ended();
    if mutant("closes before it leaves") {
        table.tickets[me as usize].close();
    }
    (ended, timer.expect("armed"))
}
