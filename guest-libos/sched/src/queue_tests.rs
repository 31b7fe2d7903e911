use super::*;
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::Arc;

#[derive(Default)]
struct Recorded {
    len: Cell<u32>,
    oldest: Cell<u32>,
    runnable: Cell<i64>,
    changes: Cell<u32>,
}

impl Figures for Recorded {
    fn queue(&self, len: u32, oldest: u32) {
        self.len.set(len);
        self.oldest.set(oldest);
    }

    fn changed(&self, delta: i32) {
        self.runnable.set(self.runnable.get() + i64::from(delta));
        self.changes.set(self.changes.get() + 1);
    }
}

fn entry(id: Id) -> Entry {
    Entry { id, ready: 1000 + id }
}

fn queue<F: Figures + Default>(size: usize) -> RunQueue<'static, F> {
    RunQueue::new(Vec::leak(vec![Entry::default(); size]), F::default())
}

fn drain<F: Figures>(queue: &RunQueue<'_, F>) -> Vec<Id> {
    core::iter::from_fn(|| queue.pop())
        .map(|entry| entry.id)
        .collect()
}

#[test]
fn first_in_first_out_but_for_the_head() {
    let q = queue::<Recorded>(8);
    for id in 1..=3 {
        assert_eq!(q.push_back(entry(id)), Ok(()));
    }
    assert_eq!(q.push_front(entry(4)), Ok(()));
    assert_eq!((q.figures().len.get(), q.figures().oldest.get()), (4, 1004));
    assert_eq!(drain(&q), [4, 1, 2, 3]);
    assert_eq!((q.figures().len.get(), q.figures().runnable.get()), (0, 0));
    assert_eq!(q.figures().changes.get(), 8);
}

#[test]
fn a_full_queue_says_so() {
    let q = queue::<Recorded>(5);
    for id in 1..=4 {
        assert_eq!(q.push_back(entry(id)), Ok(()));
    }
    assert_eq!(
        q.push_back(entry(5)),
        Err(Overflow),
        "5 is cut to 4, a power of two"
    );
    assert_eq!(q.push_front(entry(5)), Err(Overflow));
    assert_eq!(queue::<Recorded>(0).push_back(entry(1)), Err(Overflow));
}

#[test]
fn thieves_take_the_older_half_in_order() {
    let (mine, theirs) = (queue::<Recorded>(8), queue::<Recorded>(8));
    for id in 1..=5 {
        assert_eq!(theirs.push_back(entry(id)), Ok(()));
    }
    assert_eq!(mine.steal_from(&theirs), 3);
    assert_eq!((mine.figures().len.get(), mine.figures().oldest.get()), (3, 1001));
    assert_eq!(
        (theirs.figures().len.get(), theirs.figures().oldest.get()),
        (2, 1004)
    );
    assert_eq!(drain(&mine), [1, 2, 3]);
    assert_eq!(mine.steal_from(&theirs), 1);
    assert_eq!(mine.steal_from(&mine), 0, "not from oneself");
    assert_eq!(drain(&theirs), [5]);
    assert_eq!(mine.steal_from(&theirs), 0);
}

proptest! {
    /// Whatever is done, the queues hold what two plain deques would hold.
    #[test]
    fn queues_are_deques(steps in proptest::collection::vec(0u8..8, 1..300)) {
        let queues = [queue::<Recorded>(64), queue::<Recorded>(64)];
        let mut model = [VecDeque::new(), VecDeque::new()];
        let mut next = 0;
        for step in steps {
            let (which, op) = (usize::from(step & 1), step >> 1);
            let full = model[which].len() == 64;
            match op {
                0 | 1 => {
                    next += 1;
                    let pushed = if op == 0 { queues[which].push_back(entry(next)) } else { queues[which].push_front(entry(next)) };
                    prop_assert_eq!(pushed.is_err(), full);
                    match op {
                        _ if full => {}
                        0 => model[which].push_back(next),
                        _ => model[which].push_front(next),
                    }
                }
                2 => prop_assert_eq!(queues[which].pop().map(|e| e.id), model[which].pop_front()),
                _ => {
                    let half = model[1 - which].len().div_ceil(2).min(64 - model[which].len());
                    prop_assert_eq!(queues[which].steal_from(&queues[1 - which]), half as u32);
                    let taken: Vec<_> = model[1 - which].drain(..half).collect();
                    model[which].extend(taken);
                }
            }
            for (queue, model) in queues.iter().zip(&model) {
                prop_assert_eq!(queue.len() as usize, model.len());
                prop_assert_eq!(queue.figures().len.get() as usize, model.len());
            }
        }
        let total: i64 = queues.iter().map(|q| q.figures().runnable.get()).sum();
        prop_assert_eq!(total as usize, model[0].len() + model[1].len());
    }
}

#[derive(Default)]
struct Shared {
    runnable: AtomicI64,
    len: AtomicU32,
}

impl Figures for Shared {
    fn queue(&self, len: u32, _oldest: u32) {
        self.len.store(len, Ordering::Relaxed);
    }

    fn changed(&self, delta: i32) {
        self.runnable.fetch_add(i64::from(delta), Ordering::Relaxed);
    }
}

/// Threads that push, pop and rob each other: every uThread comes out exactly once.
#[test]
fn nothing_is_lost_or_doubled() {
    const THREADS: usize = 4;
    const EACH: u32 = 20_000;
    let queues: Arc<Vec<_>> = Arc::new((0..THREADS).map(|_| queue::<Shared>(1 << 17)).collect());
    let left = Arc::new(AtomicI64::new(i64::from(EACH) * THREADS as i64));
    let threads = (0..THREADS).map(|me| {
        let (queues, left) = (Arc::clone(&queues), Arc::clone(&left));
        std::thread::spawn(move || {
            let (mut got, mut next) = (Vec::new(), me as u32 * EACH);
            while left.load(Ordering::Relaxed) > 0 {
                if next < (me as u32 + 1) * EACH {
                    next += 1;
                    assert_eq!(queues[me].push_back(entry(next)), Ok(()));
                }
                if next.is_multiple_of(3) || next == (me as u32 + 1) * EACH {
                    match queues[me].pop() {
                        Some(entry) => {
                            left.fetch_sub(1, Ordering::Relaxed);
                            got.push(entry.id);
                        }
                        None => {
                            let victim = (me + 1 + next as usize) % THREADS;
                            queues[me].steal_from(&queues[victim]);
                            next = next.max(1);
                        }
                    }
                }
            }
            got
        })
    });
    let threads: Vec<_> = threads.collect();
    let mut all: Vec<_> = threads
        .into_iter()
        .flat_map(|t| t.join().expect("no panic"))
        .collect();
    all.sort_unstable();
    assert_eq!(all, (1..=EACH * THREADS as u32).collect::<Vec<_>>());
    let runnable: i64 = queues
        .iter()
        .map(|q| q.figures().runnable.load(Ordering::Relaxed))
        .sum();
    assert_eq!(runnable, 0);
}
