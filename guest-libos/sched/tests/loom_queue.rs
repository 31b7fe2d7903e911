//! Models of the run queue: its owner against thieves.
//!
//! Run with `cargo test -p sched --features loom --test loom_queue --release`. Each is also run with
//! a mistake in it, which it must find.

#![cfg(feature = "loom")]

use loom::sync::atomic::{AtomicU32, Ordering};
use loom::sync::Arc;
use loom::thread;
use sched::mutant;
use sched::queue::{Entry, Figures, RunQueue};
use sched::sync64::AtomicU64;
use sched::Id;

struct Shown {
    len: AtomicU32,
    oldest: AtomicU32,
}

impl Figures for Shown {
    fn show(&self, len: u32, oldest: u32) {
        self.oldest.store(oldest, Ordering::Relaxed);
        self.len.swap(len, Ordering::AcqRel);
    }

    fn oldest(&self) -> u32 {
        self.oldest.load(Ordering::Relaxed)
    }
}

type Queue = RunQueue<'static, Shown>;

fn words(n: usize) -> &'static [AtomicU64] {
    Vec::leak((0..n).map(|_| AtomicU64::new(0)).collect())
}

/// Queues of one VM, with rings of `slots`.
fn queues<const N: usize>(slots: usize) -> Arc<[Queue; N]> {
    let links = words(8);
    Arc::new(std::array::from_fn(|_| {
        let shown = Shown {
            len: AtomicU32::new(0),
            oldest: AtomicU32::new(0),
        };
        RunQueue::new(words(slots), links, shown)
    }))
}

fn entry(id: Id) -> Entry {
    Entry { id, ready: 100 + id }
}

fn back(queue: &Queue, ids: impl IntoIterator<Item = Id>) {
    for id in ids {
        queue.push_back(entry(id)).expect("known");
    }
}

fn rest(queues: &[Queue]) -> Vec<Id> {
    let mut all: Vec<Id> = queues
        .iter()
        .flat_map(|queue| core::iter::from_fn(|| queue.pop()))
        .map(|entry| entry.id)
        .collect();
    all.sort_unstable();
    all
}

/// A thief of the first queue, on a vCPU of its own with the `me`-th.
fn thief<const N: usize>(queues: &Arc<[Queue; N]>, me: usize) -> thread::JoinHandle<u32> {
    let queues = Arc::clone(queues);
    thread::spawn(move || queues[me].steal_from(&queues[0]))
}

fn bounded(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(f);
}

/// The owner takes one, and puts another one in its place in front, while thieves come by.
fn front_and_thieves<const VCPUS: usize>(preemptions: usize) {
    bounded(preemptions, || {
        let queues = queues::<VCPUS>(2);
        back(&queues[0], 1..=2);
        let thieves: Vec<_> = (1..VCPUS).map(|me| thief(&queues, me)).collect();
        let popped = queues[0].pop().map(|entry| entry.id);
        queues[0].push_front(entry(3)).expect("known");
        for thief in thieves {
            assert!(thief.join().expect("no panic") <= 1);
        }
        let mut all = rest(&queues[..]);
        all.extend(popped);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn each_is_taken_once() {
    front_and_thieves::<2>(4);
}

#[test]
fn each_is_taken_once_by_one_of_two_thieves() {
    front_and_thieves::<3>(2);
}

#[test]
#[should_panic]
fn with_a_head_that_does_not_count_one_is_taken_twice() {
    mutant::make("the head does not count");
    front_and_thieves::<2>(4);
}

/// The owner adds while thieves take: they see what is written, or nothing.
fn adding_under_a_thief() {
    bounded(3, || {
        let queues = queues::<2>(2);
        let thief = thief(&queues, 1);
        back(&queues[0], 1..=2);
        let popped = queues[0].pop().map(|entry| entry.id);
        // Where the first one was, if there is room already.
        back(&queues[0], [3]);
        thief.join().expect("no panic");
        let mut all = rest(&queues[..]);
        all.extend(popped);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
    });
}

#[test]
fn what_is_added_is_whole() {
    adding_under_a_thief();
}

#[test]
#[should_panic]
fn with_a_relaxed_tail_it_is_not() {
    mutant::make("the tail is relaxed");
    adding_under_a_thief();
}

/// A full ring has to make room in front, while a thief takes from it and another one from what it
/// has put aside.
fn full_and_robbed() {
    bounded(3, || {
        let queues = queues::<2>(2);
        back(&queues[0], 1..=3);
        let other = thief(&queues, 1);
        queues[0].push_front(entry(4)).expect("known");
        let first = queues[0].pop().map(|entry| entry.id);
        other.join().expect("no panic");
        let mut all = rest(&queues[..]);
        all.extend(first);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4]);
    });
}

#[test]
fn a_full_ring_makes_room_under_a_thief() {
    full_and_robbed();
}

#[test]
#[should_panic]
fn a_ring_that_sheds_too_much_loses() {
    mutant::make("the ring sheds too much");
    full_and_robbed();
}

/// The ring is empty and the list is not: its owner and a thief come for it together.
#[test]
fn the_list_is_shared_out() {
    bounded(3, || {
        let queues = queues::<2>(2);
        back(&queues[0], 1..=5);
        assert_eq!(queues[0].pop().map(|entry| entry.id), Some(1));
        assert_eq!(queues[0].pop().map(|entry| entry.id), Some(2));
        let other = thief(&queues, 1);
        let first = queues[0].pop().map(|entry| entry.id);
        back(&queues[0], [6]);
        other.join().expect("no panic");
        let mut all = rest(&queues[..]);
        all.extend(first);
        all.sort_unstable();
        assert_eq!(all, [3, 4, 5, 6]);
    });
}

/// A vCPU hands its queue on before it leaves its core, while its heir and a thief are at work.
#[test]
fn a_queue_is_handed_on_whole() {
    bounded(2, || {
        let queues = queues::<3>(2);
        back(&queues[0], [1, 2]);
        back(&queues[1], [3]);
        let other = thief(&queues, 2);
        let heir = {
            let queues = Arc::clone(&queues);
            thread::spawn(move || {
                let popped = queues[1].pop().map(|entry| entry.id);
                back(&queues[1], [4]);
                popped
            })
        };
        queues[0].hand_to(&queues[1]);
        other.join().expect("no panic");
        let popped = heir.join().expect("no panic");
        let mut all = rest(&queues[..]);
        all.extend(popped);
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3, 4]);
    });
}

/// Neither waits for the other, and nothing is lost between them.
#[test]
fn mutual_thieves() {
    bounded(3, || {
        let queues = queues::<2>(4);
        back(&queues[0], [1, 2]);
        back(&queues[1], [3]);
        let other = thief(&queues, 1);
        queues[0].steal_from(&queues[1]);
        other.join().expect("no panic");
        assert_eq!(rest(&queues[..]), [1, 2, 3]);
    });
}

/// A thief publishes for its victim, which publishes for itself: the last word is right.
fn figures_under_a_thief() {
    bounded(3, || {
        let queues = queues::<2>(4);
        back(&queues[0], 1..=3);
        queues[0].publish();
        let other = {
            let queues = Arc::clone(&queues);
            thread::spawn(move || {
                queues[1].steal_from(&queues[0]);
                // As each pass of a scheduler does.
                queues[1].publish();
            })
        };
        queues[0].pop();
        back(&queues[0], [4]);
        queues[0].publish();
        other.join().expect("no panic");
        for queue in queues.iter() {
            let shown = queue.figures();
            let (len, oldest) = (
                shown.len.load(Ordering::Relaxed),
                shown.oldest.load(Ordering::Relaxed),
            );
            assert_eq!(len, queue.len());
            let first = queue.pop().map_or(0, |entry| entry.ready);
            assert_eq!(oldest, first);
        }
    });
}

#[test]
fn the_last_figures_are_right() {
    figures_under_a_thief();
}

#[test]
#[should_panic]
fn without_a_look_at_the_stamp_they_are_not() {
    mutant::make("the stamp is not looked at again");
    figures_under_a_thief();
}

#[test]
#[should_panic]
fn without_a_second_look_they_are_not() {
    mutant::make("published without a second look");
    figures_under_a_thief();
}
