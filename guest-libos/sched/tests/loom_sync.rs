//! Models of mutexes and condition variables.
//!
//! Run with `cargo test -p sched --features loom --test loom_sync --release`. Most models are also run
//! with a mistake in them, which they must find.

#![cfg(feature = "loom")]

mod sync_world;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use sched::condvar::{hand_over, Condvar};
use sched::mutant;
use sched::mutex::{Lock, Mutex};
use sched::ticket::Ended;
use sched::waiters::Waiters;
use sched::Id;
use sync_world::{bounded, sleep_until, World};

type Guarded = (Arc<World>, Mutex, UnsafeCell<u32>);

fn guarded() -> Arc<Guarded> {
    Arc::new((Arc::new(World::new()), Mutex::new(), UnsafeCell::new(0)))
}

fn lock(world: &Guarded, me: Id) {
    let (table, mutex, _) = world;
    if !mutex.try_lock() && mutex.lock(&**table, me) == Lock::Sleep {
        // SAFETY: follows Sleep, with the context saved.
        table.sleep(me, || unsafe { mutex.asleep() });
    }
}

fn unlock(world: &Guarded) {
    if let Some(next) = world.1.unlock(&*world.0).expect("it is locked") {
        world.0.wake(next);
    }
}

fn add_one(world: &Guarded) {
    world.2.with_mut(|data| {
        // SAFETY: the lock is ours; loom checks that nobody else is here.
        unsafe { *data += 1 }
    });
}

fn sum(world: &Guarded) -> u32 {
    // SAFETY: all others have ended.
    world.2.with(|data| unsafe { *data })
}

// ---- mutex ----

/// The lock excludes, loses nobody, and is handed over only to those that have left their stack.
#[test]
fn a_mutex_excludes_and_wakes() {
    bounded(2, || {
        let world = guarded();
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                lock(&world, 1);
                add_one(&world);
                unlock(&world);
            })
        };
        lock(&world, 2);
        add_one(&world);
        unlock(&world);
        other.join().expect("no panic");
        assert!(!world.1.is_locked());
        assert_eq!(sum(&world), 2);
    });
}

/// One lets the lock go, another comes for it: it has the lock at once, or is woken with it.
fn handed_over() {
    loom::model(|| {
        let world = guarded();
        let (table, mutex, _) = &*world;
        assert!(mutex.try_lock());
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || unlock(&world))
        };
        if !mutex.try_lock() && mutex.lock(&**table, 2) == Lock::Sleep {
            // SAFETY: follows Sleep, with the context saved.
            table.lie_down(2, || unsafe { mutex.asleep() });
            other.join().expect("no panic");
            table.was_woken(2);
        } else {
            other.join().expect("no panic");
        }
        assert!(mutex.is_locked());
        unlock(&world);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn a_mutex_is_handed_over() {
    handed_over();
}

#[test]
#[should_panic]
fn a_mutex_without_a_mark_loses_a_waiter() {
    mutant::make("no mark");
    handed_over();
}

#[test]
#[should_panic]
fn a_list_that_is_opened_too_early_is_found_out() {
    mutant::make("opens before it sleeps");
    handed_over();
}

/// One may run out of time while it waits: it has the lock or has not, and nobody is lost, or woken
/// while it runs.
fn mutex_with_deadline() {
    bounded(2, || {
        let world = guarded();
        assert!(world.1.try_lock());
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                add_one(&world);
                unlock(&world);
            })
        };
        let (table, mutex, _) = &*world;
        table.tickets[2].open();
        let mine = match mutex.lock(&**table, 2) {
            Lock::Mine => {
                table.tickets[2].close();
                true
            }
            Lock::Sleep => {
                // SAFETY: follows Sleep, with the context saved.
                let (ended, timer) = sleep_until(table, 2, || unsafe { mutex.asleep() });
                if ended == Ended::Expired {
                    mutex.leave(&**table, 2);
                    table.tickets[2].close();
                }
                timer.join().expect("no panic");
                ended == Ended::Woken
            }
        };
        if mine {
            add_one(&world);
            unlock(&world);
        }
        other.join().expect("no panic");
        assert!(!world.1.is_locked());
        assert_eq!(sum(&world), 1 + u32::from(mine));
    });
}

#[test]
fn a_mutex_is_left_in_time() {
    mutex_with_deadline();
}

#[test]
#[should_panic]
fn a_waiter_that_is_over_before_it_has_left_is_woken_running() {
    mutant::make("closes before it leaves");
    mutex_with_deadline();
}

// ---- condition variable ----

/// One waits for the number not to be 0, the other makes it 1 and says so. Nobody waits for ever.
fn condvar() {
    bounded(3, || {
        let world = guarded();
        let condvar = Arc::new(Condvar::new());
        let other = {
            let (world, condvar) = (Arc::clone(&world), Arc::clone(&condvar));
            thread::spawn(move || {
                lock(&world, 1);
                add_one(&world);
                unlock(&world);
                if condvar.has_waiters() {
                    if let Some(id) = condvar.notify_one(&*world.0) {
                        world.0.wake(id);
                    }
                }
            })
        };
        lock(&world, 2);
        let (table, mutex, _) = &*world;
        while sum(&world) == 0 {
            // SAFETY: the mutex stays where it is.
            let next = unsafe { condvar.wait(&**table, 2, mutex).expect("it is locked") };
            if let Some(next) = next {
                table.wake(next);
            }
            // SAFETY: follows a wait, with the context saved.
            table.sleep(2, || unsafe { condvar.asleep() });
        }
        unlock(&world);
        other.join().expect("no panic");
        assert!(!world.1.is_locked());
    });
}

#[test]
fn a_condvar_loses_no_notification() {
    condvar();
}

#[test]
#[should_panic]
fn a_condvar_that_lets_the_mutex_go_first_does() {
    mutant::make("mutex before list");
    condvar();
}

/// Two wait, one of them with a deadline, and one is notified: exactly one of them has a
/// notification, and it is not the one that ran out of time.
fn notification_and_deadline() {
    bounded(3, || {
        let world = guarded();
        let (table, mutex, _) = &*world;
        let condvar = Arc::new(Condvar::new());
        let number = table.tickets[1].open();
        for id in [1, 2] {
            assert!(mutex.try_lock());
            // SAFETY: the mutex stays where it is; the context counts as saved.
            unsafe {
                condvar.wait(&**table, id, mutex).expect("it is locked");
                condvar.asleep();
            }
        }
        let timer = {
            let (world, condvar) = (Arc::clone(&world), Arc::clone(&condvar));
            thread::spawn(move || {
                let expired = world.0.tickets[1].expire(number);
                if expired {
                    condvar.leave(&*world.0, 1);
                }
                expired
            })
        };
        let first = condvar.notify_one(&**table);
        let expired = timer.join().expect("no panic");
        assert_eq!(first, Some(if expired { 2 } else { 1 }));
        assert!(mutex.is_locked(), "whoever was notified has it");
        assert_eq!(condvar.has_waiters(), !expired);
    });
}

#[test]
fn a_notification_goes_to_one_that_still_waits() {
    notification_and_deadline();
}

#[test]
#[should_panic]
fn a_notification_without_looking_is_eaten() {
    mutant::make("claims without looking");
    notification_and_deadline();
}

/// All that wait are notified at once, and have the mutex one after the other.
#[test]
fn all_are_notified() {
    bounded(2, || {
        let world = guarded();
        let condvar = Arc::new(Condvar::new());
        let other = {
            let (world, condvar) = (Arc::clone(&world), Arc::clone(&condvar));
            thread::spawn(move || {
                lock(&world, 1);
                let (table, mutex, _) = &*world;
                while sum(&world) == 0 {
                    // SAFETY: as above.
                    let next = unsafe { condvar.wait(&**table, 1, mutex).expect("it is locked") };
                    if let Some(next) = next {
                        table.wake(next);
                    }
                    // SAFETY: as above.
                    table.sleep(1, || unsafe { condvar.asleep() });
                }
                unlock(&world);
            })
        };
        lock(&world, 2);
        add_one(&world);
        let mut notified = Waiters::new();
        let mut more = condvar.len();
        while more > 0 {
            more = condvar.collect(&*world.0, &mut notified, more);
        }
        while let Some(id) = notified.pop(&*world.0) {
            if hand_over(&*world.0, id) {
                world.0.wake(id);
            }
        }
        unlock(&world);
        other.join().expect("no panic");
        assert!(!world.1.is_locked());
    });
}
