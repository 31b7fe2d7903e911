//! Guests that misbehave hurt themselves only, and what they did is said.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{until, Arbiter, On};
use flux_abi as abi;

const BOTH: [On; 2] = [On::Hosted, On::Kvm];

/// A guest that never leaves is forced, its neighbour runs, and it goes on afterwards.
fn is_forced(on: On, cmdline: &str) {
    if !on.there() {
        return;
    }
    let mut arbiter = Arbiter::new();
    arbiter.table.header().deadline_us.store(2_000, SeqCst);
    let rogue = arbiter.start(on, 1, 1, cmdline, &[]);
    let good = arbiter.start(on, 2, 1, "batch", &[]);
    let core = arbiter.cores[0];
    for _ in 0..5 {
        let (rogue_vcpu, good_vcpu) = (rogue.handle(0), good.handle(0));
        assert_eq!(arbiter.grant(core, rogue_vcpu), 0, "{cmdline}");
        std::thread::sleep(Duration::from_millis(5));
        arbiter.command(
            handoff::bridge::OP_MOVE,
            core,
            rogue_vcpu.raw().into(),
            good_vcpu.raw().into(),
            0,
        );
        until("the rogue to be off the core", || {
            arbiter.bridge.poll();
            arbiter.look_at_deadlines();
            arbiter.owner(core) == Some(good_vcpu)
        });
        let before = good.done();
        until("its neighbour to run", || good.done() != before);
        arbiter.park_all(&[&good]);
    }
    assert_eq!(
        arbiter.table.vm(1).expect("slot").state.load(SeqCst),
        abi::VM_LIVE
    );
    assert_eq!(good.page.summary().integrity_errors.load(SeqCst), 0);
}

#[test]
fn stubborn_guests_are_forced() {
    BOTH.into_iter()
        .for_each(|on| is_forced(on, "probe mode=stubborn"));
}

#[test]
fn liars_hurt_themselves_only() {
    BOTH.into_iter().for_each(|on| is_forced(on, "probe mode=liar"));
    BOTH.into_iter()
        .for_each(|on| is_forced(on, "probe mode=liar spare=critical"));
}

/// What the process of a poisoned VM ends with.
const POISONED: i32 = 1;

/// The guest ends the VM; what it leaves behind.
fn ends(cmdline: &str, code: i32) {
    for on in BOTH.into_iter().filter(|on| on.there()) {
        let mut arbiter = Arbiter::new();
        let mut vm = arbiter.start(on, 7, 1, cmdline, &[]);
        assert_eq!(arbiter.grant(arbiter.cores[0], vm.handle(0)), 0);
        let state = &arbiter.table.vm(7).expect("slot").state;
        until("the VM to be over", || state.load(SeqCst) != abi::VM_LIVE);
        assert_eq!(vm.page.summary().integrity_errors.load(SeqCst), 0);
        assert!([abi::VM_POISONED, abi::VM_DEAD].contains(&state.load(SeqCst)));
        // Without a socket nobody could ask a VM that is over, so its process ends.
        until("the process to end", || vm.exit_code().is_some());
        assert_eq!(vm.exit_code(), Some(code), "{cmdline} on {on:?}");
    }
}

#[test]
fn crashes_poison_the_vm() {
    ends("probe mode=crash", POISONED);
    ends("probe mode=crash address=8070450532247928832", POISONED);
}

#[test]
fn bad_command_lines_are_refused() {
    for cmdline in [
        "",
        "srve",
        "serve fanout",
        "serve fanout=0",
        "batch uthreads=1024 yield_every=-1",
    ] {
        ends(cmdline, POISONED);
    }
    ends("batch uthreads=1024", POISONED);
}

#[test]
fn guests_can_end_their_vm() {
    ends("probe mode=exit code=7", 7);
}
