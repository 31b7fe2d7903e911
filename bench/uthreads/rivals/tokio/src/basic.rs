//! Calls, the clock, tasks that begin and end, and tasks that give way.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::task::yield_now;

use crate::{now, on_worker};

const PARTS: usize = 64;

#[inline(never)]
fn empty(x: u64) -> u64 {
    black_box(x)
}

pub fn floor(_: &Runtime, ops: u64) -> u64 {
    let start = now();
    for i in 0..ops {
        empty(i);
    }
    now() - start
}

pub fn clock(_: &Runtime, ops: u64) -> u64 {
    let start = now();
    let mut last = start;
    for _ in 0..ops {
        last = now();
    }
    last - start
}

pub fn spawn(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let counter = Arc::new(AtomicU64::new(0));
        let start = now();
        for _ in 0..ops {
            let counter = Arc::clone(&counter);
            let task = tokio::spawn(async move {
                counter.fetch_add(1, Ordering::Relaxed);
            });
            task.await.expect("the task ran");
        }
        let took = now() - start;
        assert_eq!(counter.load(Ordering::Relaxed), ops);
        took
    })
}

pub fn fan(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let counter = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::with_capacity(PARTS);
        let start = now();
        for _ in 0..ops {
            for _ in 0..PARTS {
                let counter = Arc::clone(&counter);
                tasks.push(tokio::spawn(async move {
                    counter.fetch_add(1, Ordering::Relaxed);
                }));
            }
            for task in tasks.drain(..) {
                task.await.expect("the task ran");
            }
        }
        let took = now() - start;
        assert_eq!(counter.load(Ordering::Relaxed), ops * PARTS as u64);
        took
    })
}

/// Two tasks give way in turns; half of the operations each.
pub fn give_way(runtime: &Runtime, ops: u64) -> u64 {
    on_worker(runtime, async move {
        let ready = Arc::new(AtomicBool::new(false));
        let other = tokio::spawn({
            let ready = Arc::clone(&ready);
            async move {
                ready.store(true, Ordering::Relaxed);
                for _ in 0..ops / 2 {
                    yield_now().await;
                }
            }
        });
        while !ready.load(Ordering::Relaxed) {
            yield_now().await;
        }
        let start = now();
        for _ in 0..ops / 2 {
            yield_now().await;
        }
        let took = now() - start;
        other.await.expect("the task ran");
        took
    })
}
