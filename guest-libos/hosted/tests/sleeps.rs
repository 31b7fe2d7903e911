//! Sleeping uThreads in VMs that lose their cores: each wakes as often as it is to, whoever looks
//! after the VM.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{until, Arbiter, On, Vm};
use flux_abi as abi;
use handoff::bridge::{FLAG_ASK_ONLY, FLAG_KICK_NOW};

const SLOT: u32 = 6;
const VCPUS: u32 = 3;
const CMDLINE: &str = "probe mode=sleep uthreads=40 rounds=50 sleep_ns=300000";
const WAKES: u64 = 40 * 50;

/// Runs a VM of sleepers to their end; `turn` looks after it.
fn all_wake(on: On, cmdline: &str, extra: &[&str], turn: impl Fn(&mut Arbiter, &Vm)) {
    if !on.there() {
        return;
    }
    let mut arbiter = Arbiter::new();
    let vm = arbiter.start(on, SLOT, VCPUS, cmdline, extra);
    let summary = vm.page.summary();
    until("all to have slept", || {
        turn(&mut arbiter, &vm);
        vm.done() == WAKES && summary.uthreads.load(SeqCst) == 0
    });
    assert_eq!(summary.integrity_errors.load(SeqCst), 0, "woken too early");
    // Who was held for too long before it slept found its deadline in the past.
    let slept = vm.sum(|guest| guest.blocks.load(SeqCst));
    assert!(slept > 0 && slept <= WAKES, "{slept} times");
    assert_eq!(vm.sum(|guest| guest.timers.load(SeqCst)), slept);
    assert_eq!(vm.sum(|guest| guest.wakes.load(SeqCst)), slept);
    assert_eq!(
        summary.flags.load(SeqCst) & abi::SUMMARY_TIMER,
        0,
        "no timer is left"
    );
}

fn everywhere(cmdline: &str, extra: &[&str], turn: impl Fn(&mut Arbiter, &Vm) + Copy) {
    for on in [On::Hosted, On::Kvm] {
        all_wake(on, cmdline, extra, turn);
    }
}

/// Nobody grants anything: the VM sleeps in the host and must be woken when its time has come.
#[test]
fn without_an_arbiter() {
    everywhere(CMDLINE, &["--unmanaged"], |_, _| ());
}

/// Whether the VM says that it wants a core.
fn wants(vm: &Vm) -> bool {
    let summary = vm.page.summary();
    let flags = summary.flags.load(SeqCst);
    let now = abi::stamp(libos::now(), vm.page.header().stamp_shift);
    let due = flags & abi::SUMMARY_TIMER != 0 && !abi::stamp_after(summary.next_timer.load(SeqCst), now);
    due || flags & abi::SUMMARY_BOOTED == 0 || summary.runnable.load(SeqCst) != 0
}

/// An arbiter that goes by what the VM says: it has a core while it says that there is something
/// to do, and is dormant else. What it does not say it does not get.
#[test]
fn with_a_core_only_when_something_is_due() {
    everywhere(CMDLINE, &[], |arbiter, vm| {
        arbiter.bridge.poll();
        let core = arbiter.cores[0];
        if arbiter.owner(core).is_none() && wants(vm) {
            let vcpu = arbiter.random(VCPUS as usize) as u32;
            arbiter.grant(core, vm.handle(vcpu));
        }
    });
}

fn storm(cmdline: &str) {
    everywhere(cmdline, &[], |arbiter, vm| {
        let flags = [0, FLAG_ASK_ONLY, FLAG_KICK_NOW][arbiter.random(3)];
        arbiter.anything(&[vm], flags);
        std::thread::sleep(Duration::from_micros([0, 20, 50, 100][arbiter.random(4)]));
    });
}

#[test]
fn with_cores_that_come_and_go() {
    storm(CMDLINE);
}

#[test]
fn with_queues_that_are_handed_on() {
    storm(&format!("{CMDLINE} on_park=hand"));
}
