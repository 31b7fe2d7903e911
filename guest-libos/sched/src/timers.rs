//! The timers of a vCPU, open to all vCPUs of the VM, and the earliest deadline of them all.
//!
//! A vCPU arms timers in its own heap. Who fires them does not matter: a vCPU that has lost its
//! core cannot, so any vCPU that looks takes what is due out of any heap. A thief only tries the
//! heap's lock: who holds it fires what is due itself, or has been stopped by force in the middle
//! of it, and is then the one that gets the VM's next core.

use crate::deadlines::{Heap, NoTimer, Places, Timer};
use crate::mutant::mutant;
use crate::spin::Spin;
use crate::sync::Ordering;
use crate::sync64::{fence, AtomicU64};
use crate::Id;

/// No deadline at all.
pub const NEVER: u64 = u64::MAX;

/// The timers armed on one vCPU.
#[derive(Debug)]
pub struct Timers<'a> {
    heap: Spin<Heap<'a>>,
    /// Deadline of the first, or [`NEVER`]; written under the lock.
    next: AtomicU64,
}

impl<'a> Timers<'a> {
    pub fn new(room: &'a mut [Timer]) -> Timers<'a> {
        Timers {
            heap: Spin::new(Heap::new(room)),
            next: AtomicU64::new(NEVER),
        }
    }

    /// The first deadline, for a look from outside.
    pub fn next(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn publish(&self, heap: &Heap<'_>) {
        let next = heap.first().map_or(NEVER, |first| first.deadline);
        // Relaxed: whoever changed it goes to `Earliest` afterwards, and fences there.
        self.next.store(next, Ordering::Relaxed);
    }

    /// Arms a timer. The caller goes on to [`Earliest::lowered`].
    pub fn arm(&self, places: &impl Places, timer: Timer) -> Result<(), NoTimer> {
        self.heap.with(|heap| {
            heap.insert(places, timer)?;
            self.publish(heap);
            Ok(())
        })
    }

    /// Takes `id`'s timer off, if it is here; its deadline. The caller goes on to
    /// [`Earliest::raised`].
    pub fn disarm(&self, places: &impl Places, id: Id) -> Option<u64> {
        self.heap.with(|heap| {
            let timer = heap.remove(places, id)?;
            self.publish(heap);
            Some(timer.deadline)
        })
    }

    /// Takes out one that is due, if the lock is free at this moment. The caller goes on to
    /// [`Earliest::raised`] after the last one.
    pub fn take_due(&self, places: &impl Places, now: u64) -> Option<Timer> {
        if self.next() > now {
            return None;
        }
        self.heap
            .try_with(|heap| {
                let timer = heap.take_due(places, now)?;
                self.publish(heap);
                Some(timer)
            })
            .flatten()
    }

    /// How many are armed.
    pub fn len(&self) -> usize {
        self.heap.with(|heap| heap.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The earliest deadline of a VM, kept without a lock: a vCPU stopped by force in the middle of
/// it keeps nobody else from it.
///
/// It is never later than the first timer's deadline for longer than it takes the one who changes
/// it to look again; it may be earlier, and then it is found to be when it is due.
#[derive(Debug)]
pub struct Earliest(AtomicU64);

/// All the heaps that an [`Earliest`] stands for, and where it is shown.
pub trait Heaps {
    /// The least [`Timers::next`] of them.
    fn least(&self) -> u64;
    /// Shows a new earliest deadline to the world. Several vCPUs may come here at the same time;
    /// the one that does so last has the right one.
    fn show(&self, deadline: u64);
}

impl Default for Earliest {
    fn default() -> Earliest {
        Earliest::new()
    }
}

impl Earliest {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Earliest {
        Earliest(AtomicU64::new(NEVER))
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Earliest {
        Earliest(AtomicU64::new(NEVER))
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// A timer was armed for `deadline`. Whether it is the VM's earliest now.
    pub fn lowered(&self, heaps: &impl Heaps, deadline: u64) -> bool {
        // Pairs with the fence in `refresh`: either this load finds what that one has stored, or
        // its second look finds the heap that we have changed.
        if !mutant("no fence in lowered") {
            fence(Ordering::SeqCst);
        }
        if self.get() <= deadline {
            return false;
        }
        self.refresh(heaps);
        true
    }

    /// The timer for `deadline` is gone.
    pub fn raised(&self, heaps: &impl Heaps, deadline: u64) {
        fence(Ordering::SeqCst);
        if self.get() >= deadline {
            self.refresh(heaps);
        }
    }

    /// Finds the earliest anew.
    pub fn refresh(&self, heaps: &impl Heaps) {
        let mut least = heaps.least();
        loop {
            self.0.store(least, Ordering::Relaxed);
            heaps.show(least);
            // Pairs with the fence in `lowered`, and with this one of others. Who stores last
            // looks last, so what was stored by somebody who had looked too early is made good.
            fence(Ordering::SeqCst);
            if mutant("no second look") {
                return;
            }
            let again = heaps.least();
            if again == least && self.get() == least {
                return;
            }
            least = again;
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::deadlines::NOWHERE;
    use crate::sync::AtomicU32;
    use std::sync::atomic::AtomicBool;

    struct Vm {
        timers: Vec<Timers<'static>>,
        places: Vec<AtomicU32>,
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

    fn vm(vcpus: usize, uthreads: usize) -> Vm {
        let room = || Vec::leak(vec![Timer::default(); uthreads]);
        Vm {
            timers: (0..vcpus).map(|_| Timers::new(room())).collect(),
            places: (0..uthreads).map(|_| AtomicU32::new(NOWHERE)).collect(),
            shown: AtomicU64::new(NEVER),
        }
    }

    fn timer(deadline: u64, id: Id) -> Timer {
        Timer {
            deadline,
            id,
            number: 4,
        }
    }

    #[test]
    fn the_earliest_is_that_of_all_vcpus() {
        let (vm, earliest) = (vm(2, 4), Earliest::new());
        assert_eq!(vm.timers[0].arm(&vm, timer(20, 0)), Ok(()));
        assert!(earliest.lowered(&vm, 20));
        assert_eq!(vm.timers[1].arm(&vm, timer(30, 1)), Ok(()));
        assert!(!earliest.lowered(&vm, 30));
        assert_eq!(vm.timers[1].arm(&vm, timer(10, 2)), Ok(()));
        assert!(earliest.lowered(&vm, 10));
        assert_eq!((earliest.get(), vm.shown.load(Ordering::Relaxed)), (10, 10));
        // Another vCPU's timer is taken out as one's own.
        assert_eq!(vm.timers[1].take_due(&vm, 9), None);
        assert_eq!(vm.timers[1].take_due(&vm, 10), Some(timer(10, 2)));
        earliest.raised(&vm, 10);
        assert_eq!(earliest.get(), 20);
        assert_eq!(vm.timers[0].disarm(&vm, 0), Some(20));
        assert_eq!(vm.timers[0].disarm(&vm, 0), None);
        earliest.raised(&vm, 20);
        assert_eq!(earliest.get(), 30);
        assert_eq!(vm.timers[1].disarm(&vm, 1), Some(30));
        earliest.raised(&vm, 30);
        assert_eq!((earliest.get(), vm.shown.load(Ordering::Relaxed)), (NEVER, NEVER));
    }

    /// Threads that arm, disarm and fire: in the end nothing is armed, and that is shown.
    #[test]
    fn nothing_stays_behind() {
        const THREADS: usize = 3;
        const TURNS: u64 = 20_000;
        let vm = vm(THREADS, THREADS);
        let (earliest, stop) = (Earliest::new(), AtomicBool::new(false));
        let fired: u64 = std::thread::scope(|scope| {
            let arming: Vec<_> = (0..THREADS)
                .map(|me| {
                    let (vm, earliest) = (&vm, &earliest);
                    scope.spawn(move || {
                        let mut gone = 0;
                        for turn in 0..TURNS {
                            let deadline = 1 + turn % 7 + me as u64;
                            assert_eq!(vm.timers[me].arm(vm, timer(deadline, me as Id)), Ok(()));
                            earliest.lowered(vm, deadline);
                            if turn % 3 == 0 {
                                std::thread::yield_now();
                            }
                            match vm.timers[me].disarm(vm, me as Id) {
                                Some(found) => earliest.raised(vm, found),
                                None => gone += 1,
                            }
                        }
                        gone
                    })
                })
                .collect();
            let thief = scope.spawn(|| {
                let mut fired = 0;
                while !stop.load(Ordering::Relaxed) {
                    for timers in &vm.timers {
                        if let Some(timer) = timers.take_due(&vm, earliest.get()) {
                            earliest.raised(&vm, timer.deadline);
                            fired += 1;
                        }
                    }
                }
                fired
            });
            let gone: u64 = arming
                .into_iter()
                .map(|thread| thread.join().expect("no panic"))
                .sum();
            stop.store(true, Ordering::Relaxed);
            let fired = thief.join().expect("no panic");
            assert_eq!(gone, fired, "each was taken by one");
            fired
        });
        assert_eq!(
            (earliest.get(), vm.shown.load(Ordering::Relaxed)),
            (NEVER, NEVER),
            "{fired}"
        );
    }
}
