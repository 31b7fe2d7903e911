use super::*;
use crate::sync::Ordering::{AcqRel, Relaxed};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::Arc;

#[derive(Default)]
struct Shown {
    len: AtomicU32,
    oldest: AtomicU32,
    shows: AtomicU32,
}

impl Figures for Shown {
    fn show(&self, len: u32, oldest: u32) {
        self.shows.fetch_add(1, Relaxed);
        self.oldest.store(oldest, Relaxed);
        self.len.swap(len, AcqRel);
    }

    fn oldest(&self) -> u32 {
        self.oldest.load(Relaxed)
    }
}

type Queue = RunQueue<'static, Shown>;

fn words(n: usize) -> &'static [AtomicU64] {
    Vec::leak((0..n).map(|_| AtomicU64::new(0)).collect())
}

fn queues<const N: usize>(slots: usize, uthreads: usize) -> [Queue; N] {
    let links = words(uthreads);
    std::array::from_fn(|_| RunQueue::new(words(slots), links, Shown::default()))
}

fn entry(id: Id) -> Entry {
    Entry { id, ready: 1000 + id }
}

fn shown(queue: &Queue) -> (u32, u32) {
    let figures = queue.figures();
    (figures.len.load(Relaxed), figures.oldest.load(Relaxed))
}

fn drain(queue: &Queue) -> Vec<Id> {
    core::iter::from_fn(|| queue.pop())
        .map(|entry| entry.id)
        .collect()
}

#[test]
fn first_in_first_out_but_for_the_head() {
    let [q] = queues(8, 8);
    for id in 1..=3 {
        assert_eq!(q.push_back(entry(id)), Ok(()));
    }
    assert_eq!(q.push_front(entry(4)), Ok(()));
    q.publish();
    assert_eq!(shown(&q), (4, 1004));
    assert_eq!(drain(&q), [4, 1, 2, 3]);
    q.publish();
    assert_eq!(shown(&q), (0, 0));
}

#[test]
fn what_does_not_fit_waits_behind_the_ring() {
    let [q] = queues(5, 20);
    for id in 1..=10 {
        assert_eq!(q.push_back(entry(id)), Ok(()));
    }
    q.publish();
    assert_eq!(shown(&q), (10, 1001));
    // The ring of 4 (5 is cut down) is full: its newer half makes room.
    assert_eq!(q.push_front(entry(11)), Ok(()));
    assert_eq!(q.push_front(entry(12)), Ok(()));
    assert_eq!(q.push_front(entry(13)), Ok(()));
    assert_eq!(q.len(), 13);
    assert_eq!(drain(&q), [13, 12, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn without_a_ring_there_is_a_list() {
    let [q] = queues(1, 4);
    assert_eq!(q.push_back(entry(1)), Ok(()));
    assert_eq!(q.push_back(entry(2)), Ok(()));
    assert_eq!(q.push_front(entry(3)), Ok(()));
    assert_eq!(drain(&q), [3, 1, 2]);
}

#[test]
fn strangers_are_refused() {
    let [q] = queues(4, 3);
    assert_eq!(q.push_back(entry(4)), Err(Stranger));
    assert_eq!(q.push_front(entry(crate::NOBODY)), Err(Stranger));
    assert!(q.is_empty());
}

#[test]
fn thieves_take_the_older_half_in_order() {
    let [mine, theirs] = queues(8, 8);
    for id in 1..=5 {
        assert_eq!(theirs.push_back(entry(id)), Ok(()));
    }
    theirs.publish();
    assert_eq!(mine.steal_from(&theirs), 3);
    assert_eq!(shown(&mine), (3, 1001));
    assert_eq!(shown(&theirs), (2, 1004), "the thief publishes for its victim");
    assert_eq!(drain(&mine), [1, 2, 3]);
    assert_eq!(mine.steal_from(&theirs), 1);
    assert_eq!(mine.steal_from(&mine), 0, "not from oneself");
    assert_eq!(drain(&theirs), [5]);
    assert_eq!(mine.steal_from(&theirs), 0);
}

#[test]
fn a_queue_is_handed_on_in_order() {
    let [mine, heir] = queues(4, 12);
    for id in 1..=6 {
        assert_eq!(mine.push_back(entry(id)), Ok(()));
    }
    assert_eq!(heir.push_back(entry(7)), Ok(()));
    assert_eq!(mine.hand_to(&mine), 0, "not to oneself");
    assert_eq!(mine.hand_to(&heir), 4, "what is in the ring");
    assert_eq!((shown(&mine), shown(&heir)), ((2, 1005), (5, 1001)));
    assert_eq!(heir.push_back(entry(8)), Ok(()));
    assert_eq!(drain(&heir), [7, 1, 2, 3, 4, 8]);
    assert_eq!(drain(&mine), [5, 6]);
}

#[test]
fn a_list_whose_ring_is_empty_is_robbed_too() {
    let [mine, theirs] = queues(4, 12);
    for id in 1..=9 {
        assert_eq!(theirs.push_back(entry(id)), Ok(()));
    }
    // 4 in the ring, 5 behind it: the thieves empty the ring, its owner does not come.
    assert_eq!(mine.steal_from(&theirs), 2);
    assert_eq!(drain(&mine), [1, 2]);
    assert_eq!((mine.steal_from(&theirs), drain(&mine)), (1, vec![3]));
    assert_eq!((mine.steal_from(&theirs), drain(&mine)), (1, vec![4]));
    assert_eq!((mine.steal_from(&theirs), drain(&mine)), (3, vec![5, 6, 7]));
    assert_eq!(shown(&theirs), (2, 1008));
    assert_eq!(drain(&theirs), [8, 9]);
}

proptest! {
    /// Whatever is done, the queues hold what two plain deques would hold, and show it.
    #[test]
    fn queues_are_deques(steps in proptest::collection::vec(0u8..12, 1..300), size in 2u32..5) {
        let size = 1usize << size;
        let queues: [Queue; 2] = queues(size, 400);
        // What is in the ring is what thieves take from first.
        let mut model: [(VecDeque<Id>, VecDeque<Id>); 2] = Default::default();
        let mut next = 0;
        for step in steps {
            let (which, op) = (usize::from(step & 1), step >> 1);
            let (ring, list) = &mut model[which];
            match op {
                0..=2 => {
                    next += 1;
                    prop_assert_eq!(queues[which].push_back(entry(next)), Ok(()));
                    if list.is_empty() && ring.len() < size { ring.push_back(next) } else { list.push_back(next) }
                }
                3 => {
                    next += 1;
                    prop_assert_eq!(queues[which].push_front(entry(next)), Ok(()));
                    if ring.len() == size {
                        let newer = ring.split_off(size / 2);
                        newer.into_iter().rev().for_each(|id| list.push_front(id));
                    }
                    ring.push_front(next);
                }
                4 => {
                    let expected = ring.pop_front().or_else(|| {
                        let first = list.pop_front();
                        ring.extend(list.drain(..list.len().min(size / 2)));
                        first
                    });
                    prop_assert_eq!(queues[which].pop().map(|e| e.id), expected);
                }
                _ => {
                    let room = size - ring.len();
                    let (ring, list) = &mut model[1 - which];
                    let from = if ring.is_empty() || room == 0 { list } else { ring };
                    let half = from.len().div_ceil(2).min(room);
                    let taken: Vec<_> = from.drain(..half).collect();
                    prop_assert_eq!(queues[which].steal_from(&queues[1 - which]), half as u32);
                    model[which].0.extend(taken);
                }
            }
            for (queue, (ring, list)) in queues.iter().zip(&model) {
                queue.publish();
                let oldest = ring.front().into_iter().chain(list.front()).min().map_or(0, |id| 1000 + id);
                prop_assert_eq!(shown(queue), ((ring.len() + list.len()) as u32, oldest));
            }
        }
    }
}

/// Threads that push at both ends, pop and rob each other: every uThread comes out exactly once,
/// and the figures are right in the end, though thieves wrote them as well.
#[test]
fn nothing_is_lost_or_doubled() {
    const THREADS: usize = 4;
    const EACH: u32 = 20_000;
    let queues: Arc<[Queue; THREADS]> = Arc::new(queues(16, EACH as usize * THREADS));
    let left = Arc::new(AtomicI64::new(i64::from(EACH) * THREADS as i64));
    let threads = (0..THREADS).map(|me| {
        let (queues, left) = (Arc::clone(&queues), Arc::clone(&left));
        std::thread::spawn(move || {
            let (mut got, mut next, mut turn) = (Vec::new(), me as u32 * EACH, 0usize);
            let end = (me as u32 + 1) * EACH;
            while left.load(Relaxed) > 0 {
                turn += 1;
                if next < end {
                    next += 1;
                    let pushed = if next % 5 == 0 {
                        queues[me].push_front(entry(next))
                    } else {
                        queues[me].push_back(entry(next))
                    };
                    assert_eq!(pushed, Ok(()));
                    queues[me].publish();
                }
                if next.is_multiple_of(3) || next == end {
                    match queues[me].pop() {
                        Some(entry) => {
                            left.fetch_sub(1, Relaxed);
                            got.push(entry.id);
                            queues[me].publish();
                        }
                        None => {
                            queues[me].steal_from(&queues[(me + turn) % THREADS]);
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
    for queue in queues.iter() {
        queue.mend();
        assert_eq!(shown(queue), (0, 0));
    }
}

/// What a step costs. Run with `cargo test -p sched --release -- --ignored --nocapture costs`.
#[test]
#[ignore = "prints times, which say nothing on a busy machine"]
fn costs() {
    const TURNS: u32 = 2_000_000;
    let [mine, theirs] = queues::<2>(256, 4096);
    let per = |turns: u32, start: std::time::Instant| start.elapsed().as_nanos() as f64 / f64::from(turns);
    let turn = |publish: bool| {
        for id in 1..=8 {
            assert_eq!(mine.push_back(entry(id)), Ok(()));
        }
        let start = std::time::Instant::now();
        for _ in 0..TURNS {
            if let Some(entry) = mine.pop() {
                assert_eq!(mine.push_back(entry), Ok(()));
            }
            if publish {
                mine.publish();
            }
        }
        let ns = per(TURNS, start);
        drain(&mine);
        ns
    };
    let steal = |each: u32| {
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..TURNS / 100 {
            (1..=each).for_each(|id| assert_eq!(theirs.push_back(entry(id)), Ok(())));
            let start = std::time::Instant::now();
            assert_eq!(mine.steal_from(&theirs), each.div_ceil(2));
            spent += start.elapsed();
            drain(&mine);
            drain(&theirs);
        }
        spent.as_nanos() as f64 / f64::from(TURNS / 100)
    };
    for _ in 0..3 {
        println!(
            "push and pop {:.1} ns, published {:.1} ns; steal 1: {:.0} ns, 16 of 32: {:.0} ns, 100 of 200: {:.0} ns",
            turn(false),
            turn(true),
            steal(1),
            steal(32),
            steal(200)
        );
    }
    // The same with a thief that has nothing else to do.
    let stop = Arc::new(AtomicBool::new(false));
    let pair: Arc<[Queue; 2]> = Arc::new(queues(256, 4096));
    let thief = {
        let (stop, pair) = (Arc::clone(&stop), Arc::clone(&pair));
        std::thread::spawn(move || {
            let mut stolen = 0u64;
            while !stop.load(Relaxed) {
                stolen += u64::from(pair[1].steal_from(&pair[0]));
                while pair[1].pop().is_some() {}
            }
            stolen
        })
    };
    let start = std::time::Instant::now();
    for turn in 0..TURNS {
        assert_eq!(pair[0].push_back(entry(1 + turn % 4096)), Ok(()));
        pair[0].pop();
        pair[0].publish();
    }
    let ns = per(TURNS, start);
    stop.store(true, Relaxed);
    let stolen = thief.join().expect("no panic");
    println!("push, pop and publish beside a thief {ns:.1} ns, {stolen} stolen");
}
