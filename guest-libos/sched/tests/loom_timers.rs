//! Models of waits with a deadline, and of the VM's earliest one.
//!
//! Run with `cargo test -p sched --features loom --test loom_timers --release`. Each model is also
//! run with a mistake in it, which it must find.

#![cfg(feature = "loom")]

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use sched::deadlines::{Places, Timer};
use sched::mutant;
use sched::spin::Spin;
use sched::sync64::AtomicU64;
use sched::ticket::{Ended, Ticket};
use sched::timers::{Earliest, Heaps, Timers, NEVER};
use sched::Id;

const ME: Id = 1;

/// A uThread that waits with a deadline, twice, and a list.
struct Sleeper {
    ticket: Ticket,
    /// A wait list with room for one.
    list: Spin<Option<Id>>,
    /// How often it was made runnable.
    runnable: AtomicU32,
}

impl Sleeper {
    /// Somebody has something for whoever waits; whether it has been taken.
    fn wake(&self) -> bool {
        if mutant::mutant("claims with the list open") {
            let popped = self.list.with(Option::take);
            return popped.is_some() && self.claimed();
        }
        self.list.with(|list| list.take().is_some() && self.claimed())
    }

    fn claimed(&self) -> bool {
        let claimed = self.ticket.claim();
        if claimed {
            self.runnable.fetch_add(1, Ordering::Relaxed);
        }
        claimed
    }

    fn wait(&self) -> u32 {
        let number = self.ticket.open();
        self.list.with(|list| *list = Some(ME));
        number
    }

    fn fire(&self, number: u32) {
        if self.ticket.expire(number) {
            self.runnable.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One wakes, a deadline passes: the uThread is made runnable once, and knows by whom.
fn one_of_two() {
    loom::model(|| {
        let sleeper = Arc::new(Sleeper {
            ticket: Ticket::new(),
            list: Spin::new(None),
            runnable: AtomicU32::new(0),
        });
        let number = sleeper.wait();
        let timer = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.fire(number))
        };
        let woke = sleeper.wake();
        timer.join().expect("no panic");
        assert_eq!(sleeper.runnable.load(Ordering::Relaxed), 1);
        let ended = if woke { Ended::Woken } else { Ended::Expired };
        assert_eq!(sleeper.ticket.ended(), ended);
    });
}

#[test]
fn a_wait_ends_once() {
    one_of_two();
}

#[test]
#[should_panic]
fn a_wait_that_is_claimed_without_looking_ends_twice() {
    mutant::make("claims without looking");
    one_of_two();
}

/// The uThread goes on after its deadline and waits for something else, while somebody who popped
/// it before is still at work: that one must not end the second wait.
fn the_next_wait_is_its_own() {
    loom::model(|| {
        let sleeper = Arc::new(Sleeper {
            ticket: Ticket::new(),
            list: Spin::new(None),
            runnable: AtomicU32::new(0),
        });
        let number = sleeper.wait();
        let waker = {
            let sleeper = Arc::clone(&sleeper);
            thread::spawn(move || sleeper.wake())
        };
        sleeper.fire(number);
        if sleeper.ticket.ended() == Ended::Expired {
            // It takes itself off before anything else; then it waits with a ticket, on no list
            // that the waker knows.
            sleeper.list.with(Option::take);
            sleeper.ticket.close();
            assert_eq!(
                sleeper.runnable.load(Ordering::Relaxed),
                1,
                "runnable while it runs"
            );
            sleeper.runnable.store(0, Ordering::Relaxed);
            let number = sleeper.ticket.open();
            waker.join().expect("no panic");
            assert_eq!(sleeper.runnable.load(Ordering::Relaxed), 0, "woken by a stranger");
            assert!(sleeper.ticket.expire(number));
        } else {
            waker.join().expect("no panic");
        }
    });
}

#[test]
fn a_late_waker_leaves_the_next_wait_alone() {
    the_next_wait_is_its_own();
}

#[test]
#[should_panic]
fn a_claim_with_the_list_open_hits_the_next_wait() {
    mutant::make("claims with the list open");
    the_next_wait_is_its_own();
}

struct Vm {
    timers: [Timers<'static>; 2],
    places: [AtomicU32; 2],
    earliest: Earliest,
    shown: AtomicU64,
}

impl Places for Vm {
    fn place(&self, id: Id) -> &AtomicU32 {
        &self.places[id as usize]
    }
}

impl Heaps for Vm {
    fn least(&self) -> u64 {
        self.timers.iter().map(Timers::next).min().unwrap_or(NEVER)
    }

    fn show(&self, deadline: u64) {
        self.shown.store(deadline, Ordering::Relaxed);
    }
}

fn timer(deadline: u64, id: Id) -> Timer {
    Timer {
        deadline,
        id,
        number: 4,
    }
}

/// One vCPU fires its timer, another one arms a later one at the same time.
fn fire_and_arm() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let room = || Timers::new(Vec::leak(vec![Timer::default(); 1]));
        let vm = Arc::new(Vm {
            timers: [room(), room()],
            places: [AtomicU32::new(0), AtomicU32::new(0)],
            earliest: Earliest::new(),
            shown: AtomicU64::new(NEVER),
        });
        assert!(vm.timers[0].arm(&*vm, timer(10, 0)).is_ok());
        vm.earliest.lowered(&*vm, 10);
        let other = {
            let vm = Arc::clone(&vm);
            thread::spawn(move || {
                assert!(vm.timers[1].arm(&*vm, timer(20, 1)).is_ok());
                vm.earliest.lowered(&*vm, 20);
            })
        };
        assert!(vm.timers[0].take_due(&*vm, 10).is_some());
        vm.earliest.raised(&*vm, 10);
        other.join().expect("no panic");
        assert_eq!(vm.earliest.get(), 20, "a timer that nobody would look for");
        assert_eq!(vm.shown.load(Ordering::Relaxed), 20);
    });
}

#[test]
fn the_earliest_deadline_is_never_lost() {
    fire_and_arm();
}

#[test]
#[should_panic]
fn without_a_second_look_it_is_lost() {
    mutant::make("no second look");
    fire_and_arm();
}

#[test]
#[should_panic]
fn without_the_fence_it_is_lost() {
    mutant::make("no fence in lowered");
    fire_and_arm();
}
