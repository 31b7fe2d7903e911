//! What is on a vCPU without a core is found by the others, also by those that never run out of work.

mod vm;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};

use libos::boot::exit;
use libos::uthread::{kernel, poll, spawn, yield_now};
use vm::Vm;

static BUSY: AtomicU32 = AtomicU32::new(0);
static ALONE: AtomicBool = AtomicBool::new(false);
static GO: AtomicBool = AtomicBool::new(false);

fn wait_for(what: &AtomicBool) {
    while !what.load(SeqCst) {
        std::hint::spin_loop();
    }
}

/// Runs alone on vCPU 0, loses it, and must come to the other one, which is busy.
fn lose_the_core() {
    assert_eq!(vm::vcpu(), 0);
    ALONE.store(true, SeqCst);
    wait_for(&GO);
    let host = kernel().page.host(0);
    host.park_gen
        .store(host.settled.load(SeqCst).wrapping_add(1), SeqCst);
    poll();
    assert_eq!(vm::vcpu(), 1);
    exit(0)
}

fn never_done() {
    loop {
        yield_now();
    }
}

#[test]
fn a_parked_vcpus_queue_is_not_forgotten_by_busy_ones() {
    // The main uThread is one of them, alone at first.
    for besides in [0, 1, 6] {
        BUSY.store(besides, SeqCst);
        ALONE.store(false, SeqCst);
        GO.store(false, SeqCst);
        let vm = Vm::new(2, 16, || {
            assert!(spawn(lose_the_core).is_ok());
            libos::log::info(format_args!("begun"));
            // This vCPU is not given up, so the other one takes it from here.
            wait_for(&ALONE);
            for _ in 0..BUSY.load(SeqCst) {
                assert!(spawn(never_done).is_ok());
            }
            GO.store(true, SeqCst);
            never_done()
        });
        vm.start(1);
        assert_eq!(vm.line(), "begun");
        vm.start(0);
        assert_eq!(vm.lines(), [""; 0]);
    }
}

/// With `on_park=hand` the queue goes to the vCPU that has a core when its own vCPU is parked.
#[test]
fn a_queue_is_handed_on_when_its_vcpu_is_parked() {
    static LEFT: AtomicBool = AtomicBool::new(false);
    static THERE: AtomicBool = AtomicBool::new(false);
    let vm = Vm::with_cmdline("test on_park=hand", 2, 16, || {
        let stays = || {
            THERE.store(true, SeqCst);
            // It does not give way, so it cannot steal: what comes here is handed to it.
            while kernel().page.guest(1).runq_len.load(SeqCst) != 2 {
                std::hint::spin_loop();
            }
            LEFT.store(true, SeqCst);
        };
        assert!(spawn(stays).is_ok());
        libos::log::info(format_args!("begun"));
        wait_for(&THERE);
        assert!(spawn(|| ()).is_ok());
        let host = kernel().page.host(0);
        host.park_gen
            .store(host.settled.load(SeqCst).wrapping_add(1), SeqCst);
        poll();
        assert!(LEFT.load(SeqCst));
        assert_eq!(vm::vcpu(), 1);
        assert_eq!(kernel().page.guest(0).runq_len.load(SeqCst), 0);
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.line(), "begun");
    vm.start(1);
    assert_eq!(vm.lines(), [""; 0]);
}

#[test]
fn what_is_wrong_with_an_option_is_said() {
    let vm = Vm::with_cmdline("test on_park=keep", 1, 16, || ());
    vm.start(0);
    assert_eq!(vm.line(), "on_park=keep: give one of stay, hand");
}
