//! A VM without an arbiter whose vCPUs sleep whenever they have nothing to do, and are woken by each other: it
//! must never stand still. Work is often gone before the vCPU that was rung for has come.

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{until, Arbiter, On};

const SLOT: u32 = 9;
const VCPUS: u32 = 3;

/// Runs fans of short uThreads until so many of them are done.
fn goes_on(cmdline: &str, idle_spin_ns: &str, wanted: u64) {
    for on in [On::Hosted, On::Kvm] {
        if !on.there() {
            continue;
        }
        let mut arbiter = Arbiter::new();
        let extra = ["--unmanaged", "--idle-spin-ns", idle_spin_ns];
        let vm = arbiter.start(on, SLOT, VCPUS, cmdline, &extra);
        until("all parts to be done", || vm.done() >= wanted);
        let summary = vm.page.summary();
        assert_eq!(summary.integrity_errors.load(SeqCst), 0);
        assert!(
            vm.sum(|guest| guest.yields.load(SeqCst)) > 0,
            "nobody has slept, so nothing was tried"
        );
    }
}

#[test]
fn who_sleeps_at_once_is_woken_again_and_again() {
    goes_on("probe mode=fan uthreads=8 work_ns=0", "0", 100_000);
}

#[test]
fn who_looks_for_a_while_is_woken_again_and_again() {
    goes_on("probe mode=fan uthreads=4 work_ns=20000", "10000", 20_000);
}
