//! vCPUs lose and get their cores at random, by asking and by kicking, while their guests check
//! themselves: no uThread is lost, and none finds a register changed.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{until, Arbiter, On, Vm};
use flux_abi as abi;
use handoff::bridge::{FLAG_ASK_ONLY, FLAG_KICK_NOW};

const MOVES: usize = 2_000;

/// Moves cores at random between the vCPUs, then parks all and looks for every uThread.
fn storm(on: On, cmdline: &str, flags: &[i32], blocked: u32) -> Option<(Arbiter, Vm)> {
    if !on.there() {
        return None;
    }
    let mut arbiter = Arbiter::new();
    let vm = arbiter.start(on, 3, 3, cmdline, &[]);
    until("the guest to have begun", || {
        arbiter.anything(&[&vm], 0);
        vm.page.summary().flags.load(SeqCst) & abi::SUMMARY_BOOTED != 0 && vm.done() > 0
    });
    for _ in 0..MOVES {
        let which = arbiter.random(flags.len());
        arbiter.anything(&[&vm], flags[which]);
        let pause = [0, 0, 20, 50, 100][arbiter.random(5)];
        std::thread::sleep(Duration::from_micros(pause));
    }
    arbiter.park_all(&[&vm]);
    let summary = vm.page.summary();
    assert_eq!(
        summary.integrity_errors.load(SeqCst),
        0,
        "{cmdline}: a register was changed"
    );
    let alive = summary.uthreads.load(SeqCst);
    let found = arbiter.accounted_for(&vm);
    assert!(
        found <= alive && found + blocked >= alive,
        "{cmdline}: {found} of {alive} uThreads found"
    );
    assert_eq!(
        arbiter.table.vm(3).expect("slot").state.load(SeqCst),
        abi::VM_LIVE
    );
    // And they all still run.
    let before = vm.done();
    until("work to go on", || {
        arbiter.anything(&[&vm], 0);
        std::thread::sleep(Duration::from_micros(100));
        vm.done() != before
    });
    Some((arbiter, vm))
}

const ANY: &[i32] = &[0, FLAG_ASK_ONLY, FLAG_KICK_NOW];
const KICK: &[i32] = &[0, FLAG_KICK_NOW];

fn each(cmdline: &str, flags: &[i32], blocked: u32, check: impl Fn(&Vm)) {
    for on in [On::Hosted, On::Kvm] {
        if let Some((arbiter, mut vm)) = storm(on, cmdline, flags, blocked) {
            check(&vm);
            drop(arbiter);
            assert_eq!(vm.stop(), Some(0), "it stops when told to");
        }
    }
}

#[test]
fn spinning_guests_keep_their_registers() {
    // Fewer than vCPUs, so that some vCPU is always without a uThread of its own.
    each("probe mode=spin uthreads=2", KICK, 0, |vm| {
        assert!(
            vm.sum(|guest| guest.taken.load(SeqCst)) > 0,
            "no held context was ever taken over"
        );
    });
}

#[test]
fn more_uthreads_than_vcpus_are_not_lost() {
    each("probe mode=spin uthreads=7", KICK, 0, |_| ());
}

#[test]
fn yielding_guests_park_when_asked() {
    each("batch uthreads=3 yield_every=1", ANY, 0, |vm| {
        assert!(
            vm.sum(|guest| guest.parks.load(SeqCst)) > 0,
            "none parked by itself"
        );
        assert!(
            vm.sum(|guest| guest.steals.load(SeqCst)) > 0,
            "no parked vCPU's queue was robbed"
        );
    });
}

#[test]
fn guests_that_never_yield_are_kicked() {
    each("batch uthreads=2 yield_every=0", KICK, 0, |_| ());
}

#[test]
fn polling_guests_park_when_asked() {
    each("probe mode=poll", ANY, 0, |vm| {
        assert!(
            vm.sum(|guest| guest.parks.load(SeqCst)) > 0,
            "none parked by itself"
        );
    });
}

#[test]
fn held_locks_go_on() {
    // All but one of the five may be waiting for the lock.
    each("probe mode=lock uthreads=5 hold_ns=5000", ANY, 4, |_| ());
}

#[test]
fn guests_that_give_their_core_back_get_another() {
    each("probe mode=yield work_ns=2000", ANY, 0, |vm| {
        assert!(vm.sum(|guest| guest.yields.load(SeqCst)) > 0);
    });
}
