//! Models of the doorbell: the guest's half ([`sched::sleepers`]) and the host's ([`handoff::doorbell`]), the
//! same functions as in the product, over loom's atomics. A wake that is lost is a thread that sleeps for ever,
//! which loom reports as a deadlock. Each model is also run with a mistake in it, which it must find; in a process
//! of its own, because loom does not survive a deadlock.
//!
//! Run with `cargo test --release -p handoff --features loom --test loom_doorbell`.
#![cfg(feature = "loom")]

use handoff::doorbell::{self, Bell, Work};
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use loom::sync::{Arc, Mutex, Notify};
use loom::thread;
use sched::mutant;
use sched::sleepers::Sleepers;

/// A VM whose work is numbers: how much there is, and how much has been taken.
struct Vm {
    sleepers: Sleepers,
    rung: AtomicU32,
    runnable: AtomicU32,
    taken: AtomicU32,
    /// The futex and its queue.
    doorbell: AtomicU32,
    waiters: AtomicU32,
    queue: Mutex<Vec<Arc<Notify>>>,
    /// How many pieces of work there will have been.
    all: u32,
    /// How often somebody went through the doorbell's door.
    doors: AtomicU32,
}

impl Vm {
    fn new(all: u32) -> Arc<Vm> {
        let word = || AtomicU32::new(0);
        Arc::new(Vm {
            sleepers: Sleepers::new(),
            rung: word(),
            runnable: word(),
            taken: word(),
            doorbell: word(),
            waiters: word(),
            queue: Mutex::new(Vec::new()),
            all,
            doors: word(),
        })
    }

    fn announce(&self) {
        if self.sleepers.wants_ring(&self.rung, || true) {
            self.doors.fetch_add(1, Relaxed);
            doorbell::ring(self);
        }
    }

    fn make(&self) {
        self.runnable.fetch_add(1, Relaxed);
        self.announce();
    }

    fn in_sight(&self) -> bool {
        self.runnable.load(Relaxed) != 0
    }

    /// Takes a piece of work, if there is one. The last one ends the VM, which wakes all.
    fn take(&self) -> bool {
        let taken = self
            .runnable
            .fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1))
            .is_ok();
        if taken && self.taken.fetch_add(1, SeqCst) + 1 == self.all {
            self.bump();
            while self.wake() {}
        }
        taken
    }

    /// Wakes the first in the queue of the futex, if there is one.
    fn wake(&self) -> bool {
        let first = self.queue.lock().expect("no panic").pop();
        if let Some(first) = &first {
            first.notify();
        }
        first.is_some()
    }

    fn over(&self) -> bool {
        self.taken.load(SeqCst) == self.all
    }

    /// A vCPU that runs what it finds, until there will be no more; `Local::schedule` in short.
    fn idle(&self) {
        self.sleepers.looks();
        while !self.over() {
            if self.take() {
                self.sleepers.found();
                let forgets = mutant::mutant("who was woken does not ring on");
                if self.in_sight() && !forgets {
                    self.announce();
                }
                self.sleepers.looks();
                continue;
            }
            self.sleepers.found();
            self.sleepers.going();
            if !self.in_sight() {
                doorbell::wait(self, self);
            }
            self.sleepers.looks();
            self.sleepers.back(&self.rung);
        }
        self.sleepers.found();
    }
}

impl Bell for Vm {
    fn rings(&self) -> u32 {
        self.doorbell.load(SeqCst)
    }
    fn bump(&self) {
        self.doorbell.fetch_add(1, SeqCst);
    }
    fn waiters(&self) -> u32 {
        // A read-modify-write: loom's plain loads are not sequentially consistent, the product's are.
        self.waiters.fetch_add(0, SeqCst)
    }
    fn come(&self) {
        self.waiters.fetch_add(1, SeqCst);
    }
    fn go(&self) {
        self.waiters.fetch_sub(1, SeqCst);
    }
    fn sleep(&self, rings: u32, ns: Option<u64>) {
        assert_eq!(ns, None, "nothing here has a deadline");
        let me = Arc::new(Notify::new());
        let mut queue = self.queue.lock().expect("no panic");
        let sleeps = self.doorbell.load(SeqCst) == rings;
        if sleeps {
            queue.push(Arc::clone(&me));
        }
        drop(queue);
        if sleeps {
            me.wait();
            // Loom's may wake for no reason, as a futex does, whose queue it is not in any more then.
            let mut queue = self.queue.lock().expect("no panic");
            queue.retain(|other| !Arc::ptr_eq(other, &me));
        }
    }
    fn wake_one(&self) {
        self.wake();
    }
}

impl Work for Vm {
    fn until(&self) -> Option<u64> {
        (self.in_sight() || self.over()).then_some(0)
    }
    fn take_mark(&self) {
        if !mutant::mutant("the mark stays when a vCPU sleeps on") {
            self.rung.store(0, SeqCst);
        }
    }
}

/// All interleavings with so many preemptions.
fn check(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.max_branches = 20_000;
    model.check(f);
}

fn sleeper(vm: &Arc<Vm>) -> thread::JoinHandle<()> {
    let vm = Arc::clone(vm);
    thread::spawn(move || vm.idle())
}

/// What is made is gone before the vCPU that was rung for has seen it, and the host lets it sleep on; then
/// more is made, which nobody but that vCPU will take.
fn gone_and_more() {
    check(3, || {
        let vm = Vm::new(2);
        let other = sleeper(&vm);
        vm.make();
        vm.take();
        vm.make();
        other.join().expect("no panic");
        assert!(vm.over());
    });
}

#[test]
fn a_vcpu_that_slept_on_is_rung_for_again() {
    gone_and_more();
}

#[test]
fn a_mark_that_stays_is_a_vm_that_stands_still() {
    stands_still("gone_and_more_with", "the mark stays when a vCPU sleeps on");
}

#[test]
fn a_ringer_without_a_fence_overlooks_a_sleeper() {
    stands_still("gone_and_more_with", "the ringer has no fence");
}

/// Two make work at the same time, and one of them rings for both.
#[test]
fn one_ring_for_two_ringers() {
    check(2, || {
        let vm = Vm::new(2);
        let other = sleeper(&vm);
        let ringer = {
            let vm = Arc::clone(&vm);
            thread::spawn(move || vm.make())
        };
        vm.make();
        ringer.join().expect("no panic");
        other.join().expect("no panic");
    });
}

/// Two vCPUs sleep, and each is to take one piece: whoever is woken first keeps at its piece until the other
/// has been taken, so it must have rung on. Three threads that sleep and wake have too many interleavings with more
/// than one preemption; a mistake is found among them.
fn a_chain(preemptions: usize) {
    check(preemptions, move || {
        let vm = Vm::new(2);
        let vcpu = |vm: &Arc<Vm>| {
            let vm = Arc::clone(vm);
            thread::spawn(move || vm.once())
        };
        let both = [vcpu(&vm), vcpu(&vm)];
        vm.make();
        vm.make();
        for vcpu in both {
            vcpu.join().expect("no panic");
        }
        assert!(vm.doors.load(Relaxed) <= 3, "two pieces, and one ring on");
    });
}

impl Vm {
    /// As `idle`, of a vCPU that is busy for good with the first thing it finds.
    fn once(&self) {
        self.sleepers.looks();
        while !self.take() {
            self.sleepers.found();
            self.sleepers.going();
            if !self.in_sight() {
                doorbell::wait(self, self);
            }
            self.sleepers.looks();
            self.sleepers.back(&self.rung);
        }
        self.sleepers.found();
        if self.in_sight() && !mutant::mutant("who was woken does not ring on") {
            self.announce();
        }
    }
}

#[test]
fn who_was_woken_rings_on() {
    a_chain(1);
}

#[test]
fn who_does_not_ring_on_leaves_work_lying() {
    stands_still("a_chain_with", "who was woken does not ring on");
}

const MISTAKE: &str = "FLUX_MISTAKE";

/// Runs a model with a mistake in it, and sees it deadlock.
fn stands_still(model: &str, mistake: &str) {
    let this = std::env::current_exe().expect("a path");
    let mut child = std::process::Command::new(this);
    child
        .args(["--ignored", "--nocapture", "--exact", model])
        .env(MISTAKE, mistake);
    let output = child.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "the model does not find it");
    assert!(said.contains("deadlock"), "{said}");
}

/// Makes the mistake that the environment names.
fn with_mistake(model: fn()) {
    let mistake = std::env::var(MISTAKE).expect("the name of a mistake");
    mutant::make(mistake.leak());
    model();
}

#[test]
#[ignore = "run by the tests that look for mistakes"]
fn gone_and_more_with() {
    with_mistake(gone_and_more);
}

#[test]
#[ignore = "run by the tests that look for mistakes"]
fn a_chain_with() {
    with_mistake(|| a_chain(2));
}
