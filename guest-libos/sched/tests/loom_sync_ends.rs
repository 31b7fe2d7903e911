//! Models of how uThreads end, and how their waits are ended.
//!
//! Run with `cargo test -p sched --features loom --test loom_sync_ends --release`. Most models are also run
//! with a mistake in them, which they must find.

#![cfg(feature = "loom")]

mod sync_world;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use sched::exit::{Ended as End, Exit, Join};
use sched::interrupt::Interrupt;
use sched::mutant;
use sched::ticket::Ended;
use sched::waiters::Table;
use sync_world::World;

/// The end, told to a joiner that sleeps or is about to. What was left behind can be seen, and the
/// place is freed once.
fn end_and_join() {
    loom::model(|| {
        let world = Arc::new((World::new(), Exit::new(), UnsafeCell::new(0u32)));
        let life = world.1.joinable();
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                // SAFETY: nobody looks before the end.
                world.2.with_mut(|left| unsafe { *left = 7 });
                match world.1.ended() {
                    End::Keep => {}
                    End::Tell(joiner) => {
                        let ours = world.0.claim(joiner);
                        world.1.told();
                        if ours {
                            world.0.wake(joiner);
                        }
                    }
                    End::Free => panic!("somebody joins"),
                }
            })
        };
        let (table, exit, left) = &*world;
        if exit.look(life) == Ok(Join::Wait) {
            table.lie_down(1, || {
                if exit.join(life, 1) == Ok(Join::Over) {
                    table.wake(1);
                }
            });
            other.join().expect("no panic");
            table.was_woken(1);
        } else {
            // SAFETY: it has ended.
            left.with(|left| assert_eq!(unsafe { *left }, 7));
            assert_eq!(exit.reap(life), Ok(()));
            other.join().expect("no panic");
            return;
        }
        // SAFETY: it has ended.
        left.with(|left| assert_eq!(unsafe { *left }, 7));
        assert_eq!(exit.reap(life), Ok(()));
    });
}

#[test]
fn an_end_is_told() {
    end_and_join();
}

#[test]
#[should_panic]
fn an_end_without_a_second_look_is_not() {
    mutant::make("end without look");
    end_and_join();
}

/// The joiner runs out of time just when it is told, and waits for something else then: that wait
/// is not taken for the one before.
fn end_and_deadline() {
    loom::model(|| {
        let world = Arc::new((World::new(), Exit::new(), AtomicU32::new(0)));
        let life = world.1.joinable();
        let number = world.0.tickets[1].open();
        assert_eq!(world.1.join(life, 1), Ok(Join::Wait));
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                if let End::Tell(joiner) = world.1.ended() {
                    let ours = world.0.claim(joiner);
                    world.1.told();
                    if ours {
                        world.2.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        };
        let (table, exit, woken) = &*world;
        if table.tickets[1].expire(number) {
            exit.withdraw(life).expect("it is ours to withdraw");
            table.tickets[1].close();
            let number = table.tickets[1].open();
            other.join().expect("no panic");
            assert_eq!(woken.load(Ordering::Relaxed), 0, "told in another wait");
            assert!(table.tickets[1].expire(number));
            assert_eq!(exit.look(life), Ok(Join::Over));
        } else {
            other.join().expect("no panic");
            assert_eq!(woken.load(Ordering::Relaxed), 1);
        }
        assert_eq!(exit.reap(life), Ok(()));
    });
}

#[test]
fn a_joiner_may_run_out_of_time() {
    end_and_deadline();
}

#[test]
#[should_panic]
fn a_joiner_that_does_not_wait_for_the_teller_is_told_elsewhere() {
    mutant::make("no wait for teller");
    end_and_deadline();
}

/// An interrupt ends the wait that is under way, or does not let it begin.
fn interrupt() {
    const LIFE: u32 = 1;
    loom::model(|| {
        let world = Arc::new((World::new(), Interrupt::new()));
        let other = {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let (table, interrupt) = &*world;
                let Some(shown) = interrupt.interrupt(LIFE, || LIFE) else {
                    return;
                };
                if table.tickets[1].expire(shown.number()) {
                    while !interrupt.is_asleep(shown) {
                        loom::thread::yield_now();
                    }
                    table.wake(1);
                }
            })
        };
        let (table, interrupt) = &*world;
        let number = table.tickets[1].open();
        let shown = interrupt.show(number);
        if interrupt.happened(LIFE) && table.tickets[1].expire(number) {
            table.tickets[1].close();
        } else {
            table.lie_down(1, || interrupt.asleep(shown));
            other.join().expect("no panic");
            table.was_woken(1);
            assert_eq!(table.tickets[1].ended(), Ended::Expired);
            return;
        }
        interrupt.over();
        assert!(interrupt.happened(LIFE));
        other.join().expect("no panic");
    });
}

#[test]
fn no_interrupt_is_lost() {
    interrupt();
}

#[test]
#[should_panic]
fn without_an_order_one_is() {
    mutant::make("no fence before look");
    interrupt();
}
