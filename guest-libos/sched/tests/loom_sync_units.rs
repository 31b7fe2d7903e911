//! Models of semaphores, plain words and channels.
//!
//! Run with `cargo test -p sched --features loom --test loom_sync_units --release`. Most models are also run
//! with a mistake in them, which they must find.

#![cfg(feature = "loom")]

mod sync_world;

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use sched::channel::{Cell, Channel, Try};
use sched::lot::{address, Lot, Wait};
use sched::mutant;
use sched::semaphore::{Acquire, Semaphore};
use sched::ticket::Ended;
use sched::waiters::Waiters;
use sync_world::{bounded, sleep_until, World};

/// A unit goes to the one that waits for it, also if another one runs out of time; none is lost.
fn semaphore() {
    bounded(2, || {
        let world = Arc::new(World::new());
        let semaphore = Arc::new(Semaphore::new(0));
        let giver = {
            let (world, semaphore) = (Arc::clone(&world), Arc::clone(&semaphore));
            thread::spawn(move || {
                if let Some(id) = semaphore.release(&*world).expect("not too many") {
                    world.wake(id);
                }
            })
        };
        world.tickets[1].open();
        let mine = match semaphore.acquire(&*world, 1) {
            Acquire::Mine => {
                world.tickets[1].close();
                true
            }
            Acquire::Sleep => {
                // SAFETY: follows Sleep, with the context saved.
                let (ended, timer) = sleep_until(&world, 1, || unsafe { semaphore.asleep() });
                if ended == Ended::Expired {
                    semaphore.leave(&*world, 1);
                    world.tickets[1].close();
                }
                timer.join().expect("no panic");
                ended == Ended::Woken
            }
        };
        giver.join().expect("no panic");
        assert_eq!(semaphore.units(), u32::from(!mine));
        assert_eq!(semaphore.try_acquire(), !mine);
    });
}

#[test]
fn a_semaphore_loses_no_unit() {
    semaphore();
}

/// As above, without a deadline: nobody sleeps on while there is a unit.
fn semaphore_for_ever() {
    bounded(3, || {
        let world = Arc::new(World::new());
        let semaphore = Arc::new(Semaphore::new(0));
        let giver = {
            let (world, semaphore) = (Arc::clone(&world), Arc::clone(&semaphore));
            thread::spawn(move || {
                if let Some(id) = semaphore.release(&*world).expect("not too many") {
                    world.wake(id);
                }
            })
        };
        let sleeps = semaphore.acquire(&*world, 1) == Acquire::Sleep;
        if sleeps {
            // SAFETY: follows Sleep, with the context saved.
            world.lie_down(1, || unsafe { semaphore.asleep() });
        }
        giver.join().expect("no panic");
        if sleeps {
            world.was_woken(1);
        }
        assert_eq!(semaphore.units(), 0);
    });
}

#[test]
fn a_semaphore_wakes() {
    semaphore_for_ever();
}

#[test]
#[should_panic]
fn a_semaphore_without_a_mark_does_not() {
    mutant::make("no mark");
    semaphore_for_ever();
}

/// One changes the word and wakes; the other waits as long as it is unchanged.
fn word() {
    loom::model(|| {
        let world = Arc::new((World::new(), Lot::<1>::new(), AtomicU32::new(0)));
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                world.2.store(1, Ordering::Release);
                let mut woken = Waiters::new();
                world.1.wake(&world.0, address(&world.2), 1, &mut woken);
                while let Some(id) = woken.pop(&world.0) {
                    world.0.wake(id);
                }
            })
        };
        let (table, lot, word) = &*world;
        let sleeps = lot.wait(table, 1, word, 0) == Wait::Sleep;
        if sleeps {
            // SAFETY: follows Sleep, with the context saved.
            table.lie_down(1, || unsafe { lot.asleep(address(word)) });
        }
        other.join().expect("no panic");
        if sleeps {
            table.was_woken(1);
        }
    });
}

#[test]
fn a_change_is_not_slept_through() {
    word();
}

#[test]
#[should_panic]
fn a_look_before_the_list_is_slept_through() {
    mutant::make("look outside");
    word();
}

/// From hand to hand, with a sender that may run out of time: it has sent, or has its value back.
#[test]
fn a_rendezvous_with_a_deadline() {
    bounded(2, || {
        let world = Arc::new(World::new());
        let channel = Arc::new(Channel::<u32, 0>::new());
        let receiver = {
            let (world, channel) = (Arc::clone(&world), Arc::clone(&channel));
            thread::spawn(move || match channel.try_receive(&*world) {
                Try::Done(value, sender) => {
                    world.wake(sender.expect("it has waited"));
                    Some(value)
                }
                _ => None,
            })
        };
        let cell = Cell::new(Some(7));
        world.tickets[1].open();
        // SAFETY: the cell stays where it is until the sleep is over.
        assert!(unsafe { channel.send(&*world, 1, &cell) } == Try::Sleep);
        // SAFETY: follows Sleep, with the context saved.
        let (ended, timer) = sleep_until(&world, 1, || unsafe { channel.asleep() });
        if ended == Ended::Expired {
            channel.leave(&*world, 1, true);
        }
        // SAFETY: it is on no list any more.
        let left = unsafe { cell.take() };
        timer.join().expect("no panic");
        let received = receiver.join().expect("no panic");
        assert_eq!(received.or(left), Some(7));
        assert_ne!(received.is_some(), left.is_some(), "it is in one place");
        assert_eq!(ended == Ended::Woken, received.is_some());
    });
}
