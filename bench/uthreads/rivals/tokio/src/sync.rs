//! Locks, notifications, semaphores, and tasks that are made to run on another worker.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, Semaphore};

use crate::{now, on_worker};

/// How long a waiter is left to itself before it is woken, so that it really waits.
const SETTLE_NS: u64 = 2000;

fn settle() {
    let until = now() + SETTLE_NS;
    while now() < until {
        spin_loop();
    }
}

pub fn mutex(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let counter = Mutex::new(0u64);
        let start = now();
        for _ in 0..ops {
            *counter.lock().await += 1;
        }
        let took = now() - start;
        assert_eq!(*counter.lock().await, ops);
        took
    })
}

/// tokio has no condition variable; a lock and a `Notify` for each side is what stands for it.
#[derive(Default)]
struct Table {
    turn: Mutex<usize>,
    turned: [Notify; 2],
}

impl Table {
    async fn play(&self, me: usize, rounds: u64) {
        let mut turn = self.turn.lock().await;
        for _ in 0..rounds {
            while *turn != me {
                // A notification that comes in between is kept, so none is lost.
                drop(turn);
                self.turned[me].notified().await;
                turn = self.turn.lock().await;
            }
            *turn = 1 - me;
            self.turned[1 - me].notify_one();
        }
    }
}

/// An operation is a round trip: two notifications, two waits.
pub fn condvar(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let table = Arc::new(Table {
            turn: Mutex::new(1),
            ..Table::default()
        });
        let other = tokio::spawn({
            let table = Arc::clone(&table);
            async move { table.play(1, ops).await }
        });
        let start = now();
        // The other one begins.
        table.play(0, ops).await;
        let took = now() - start;
        other.await.expect("the task ran");
        took
    })
}

#[derive(Default)]
struct Bed {
    turn: Mutex<bool>,
    woken: Notify,
    /// Rounds that the sleeper has begun to wait in, and been woken in, and when.
    waits: AtomicU64,
    ran: AtomicU64,
    at: AtomicU64,
}

/// From the notification to the woken task's first look at the clock. What a worker makes ready goes
/// to a slot that others do not steal from, so the one that notifies is the thread in `block_on`.
pub fn wake(runtime: &Runtime, ops: u64) -> u64 {
    let bed = Arc::new(Bed::default());
    let sleeper = runtime.spawn({
        let bed = Arc::clone(&bed);
        async move {
            for i in 1..=ops {
                bed.waits.store(i, Ordering::SeqCst);
                let mut turn = bed.turn.lock().await;
                while !*turn {
                    drop(turn);
                    bed.woken.notified().await;
                    turn = bed.turn.lock().await;
                }
                *turn = false;
                bed.at.store(now(), Ordering::SeqCst);
                bed.ran.store(i, Ordering::SeqCst);
            }
        }
    });
    let total = runtime.block_on(async {
        let mut total = 0;
        for i in 1..=ops {
            while bed.waits.load(Ordering::SeqCst) != i {
                spin_loop();
            }
            settle();
            *bed.turn.lock().await = true;
            let start = now();
            bed.woken.notify_one();
            while bed.ran.load(Ordering::SeqCst) != i {
                spin_loop();
            }
            total += bed.at.load(Ordering::SeqCst).saturating_sub(start);
        }
        total
    });
    runtime.block_on(sleeper).expect("the task ran");
    total
}

pub fn semaphore(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let sem = Semaphore::new(1);
        let start = now();
        for _ in 0..ops {
            drop(sem.acquire().await.expect("it is open"));
        }
        now() - start
    })
}

/// An operation is a round trip: two posts, two waits that block.
pub fn baton(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let both = Arc::new((Semaphore::new(0), Semaphore::new(0)));
        let other = tokio::spawn({
            let both = Arc::clone(&both);
            async move {
                for _ in 0..ops {
                    both.0.acquire().await.expect("it is open").forget();
                    both.1.add_permits(1);
                }
            }
        });
        let start = now();
        for _ in 0..ops {
            both.0.add_permits(1);
            both.1.acquire().await.expect("it is open").forget();
        }
        let took = now() - start;
        other.await.expect("the task ran");
        took
    })
}

/// Two tasks are made ready, and their maker keeps its worker until the first of them has begun:
/// from before the first is made to that.
pub fn steal(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let mut total = 0;
        for _ in 0..ops {
            let begun = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let start = now();
            let tasks = [0, 1].map(|k| {
                let begun = Arc::clone(&begun);
                tokio::spawn(async move { begun[k].store(now(), Ordering::SeqCst) })
            });
            while begun[0].load(Ordering::SeqCst) == 0 {
                spin_loop();
            }
            total += begun[0].load(Ordering::SeqCst) - start;
            for task in tasks {
                task.await.expect("the task ran");
            }
            settle();
        }
        total
    })
}
