//! What only kFlux does: it keeps the lease and the deadline itself, and knows of a VM's end. Run in the lab; the
//! other tests of this folder run over it as well.

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::client::Client;
use common::{done, kflux_or_skip, kvm_or_skip, load, load64, until, until_progress, was_forced, Lab};
use flux_abi as abi;
use handoff::bridge::{FLAG_ASK_ONLY, FLAG_KICK_NOW, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK};

fn here() -> bool {
    kflux_or_skip() && kvm_or_skip()
}

/// The arbiter is silent, though its connections are open: kFlux ends the lease, guests are told and go on, and
/// the same connection manages the VM again once the arbiter is back.
#[test]
fn a_silent_arbiter_loses_its_vms_and_gets_them_back() {
    if !here() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("lapse", 2, "s", &["--vcpus", "2"]);
    let (mut lease, page) = lab.adopt(&vm);
    let (a, b) = (vm.handle(0), vm.handle(1));
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until_progress(&page, 0);
    assert_eq!(lab.command(OP_MOVE, Some(a), Some(b), FLAG_KICK_NOW), 0);
    until_progress(&page, 1);
    assert!(lease.status().managed);
    // A lease that is short enough to end here, and one command that it is needed for.
    lab.table.header().lease_ms.store(200, SeqCst);
    lab.claim();
    lease.manage(lab.epoch).expect("its own connection, anew");
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    vm.until_state(0, abi::VCPU_UNMANAGED);
    vm.until_state(1, abi::VCPU_UNMANAGED);
    until_progress(&page, 0);
    until_progress(&page, 1);
    for v in [0, 1] {
        until("the guest to be told", || load(&page.host(v).unmanaged) == 1);
        assert_eq!(load(&vm.vcpu(v).pinned), abi::CORE_NONE);
    }
    assert!(!lease.status().managed);
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), -libc::ESTALE);
    let refused = lease.manage(lab.epoch).expect_err("nobody has the lease");
    assert_eq!(refused.code, abi::E_STALE, "{}", refused.message);

    lab.table.header().lease_ms.store(60_000, SeqCst);
    lab.claim();
    lease.manage(lab.epoch).expect("the new epoch");
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    assert_eq!(
        (load(&page.host(0).unmanaged), load(&page.host(1).unmanaged)),
        (0, 0)
    );
    assert!(lease.status().managed);
    let before = done(&page, 1);
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until_progress(&page, 0);
    assert_eq!(done(&page, 1), before);
    assert_eq!(load(&page.summary(2).integrity_errors), 0);
}

#[test]
fn the_kernel_forces_at_the_deadline_and_on_command() {
    if !here() {
        return;
    }
    let mut lab = Lab::new();
    let (mut stuck, next) = (lab.start("stuck", 0, "c", &[]), lab.start("next", 1, "s", &[]));
    let (mut lease, page) = lab.adopt(&stuck);
    let (_lease, next_page) = lab.adopt(&next);
    for round in 0..6 {
        // By the deadline, then by FORCE long before it.
        let deadline_us = if round % 2 == 0 { 1000 } else { 10_000_000 };
        lab.table.header().deadline_us.store(deadline_us, SeqCst);
        assert_eq!(lab.command(OP_GRANT, None, Some(stuck.handle(0)), 0), 0);
        until_progress(&page, 0);
        let (from, to) = (Some(stuck.handle(0)), Some(next.handle(0)));
        assert_eq!(lab.command(OP_MOVE, from, to, FLAG_ASK_ONLY), 0);
        if round % 2 == 1 {
            assert_eq!(lab.bridge.poll(), 1, "it never leaves by itself");
            assert_eq!(lab.command(OP_FORCE, from, None, 0), 0);
        }
        until_progress(&next_page, 0);
        until("the bridge to have seen it", || lab.bridge.poll() == 0);
        assert!(was_forced(stuck.vcpu(0)));
        // Its thread marks that before it sleeps.
        stuck.until_state(0, abi::VCPU_PARKED);
        assert_eq!(load(&stuck.vcpu(0).held), abi::HELD_FORCED);
        assert_eq!(lab.command(OP_FORCE, from, None, 0), -libc::EAGAIN, "it is over");
        assert_eq!(lab.command(OP_PARK, to, None, FLAG_KICK_NOW), 0);
        next.until_state(0, abi::VCPU_PARKED);
    }
    assert_eq!(load(&next_page.summary(1).integrity_errors), 0);
    lease.stop();
    assert_eq!(stuck.wait().code(), Some(0));
    assert_eq!(stuck.counted("forced"), 6, "{}", stuck.log());
    let line = stuck.line();
    assert_eq!(load(&line.forced) + load(&line.forced_descheduled), 6);
}

#[test]
fn a_killed_vms_core_goes_to_the_heir_without_the_arbiter() {
    if !here() {
        return;
    }
    let mut lab = Lab::new();
    for round in 0..10 {
        let victim = lab.start("victim", 2 * round, "s", &["--vcpus", "2"]);
        let heir = lab.start("heir", 2 * round + 1, "s", &[]);
        let (_a, page) = lab.adopt(&victim);
        let (_b, heir_page) = lab.adopt(&heir);
        assert_eq!(lab.command(OP_GRANT, None, Some(victim.handle(0)), 0), 0);
        assert_eq!(lab.command(OP_HEIR, None, Some(heir.handle(0)), 0), 0);
        until_progress(&page, 0);
        victim.signal(libc::SIGKILL);
        until_progress(&heir_page, 0);
        victim.until_state(0, abi::VCPU_DEAD);
        victim.until_state(1, abi::VCPU_DEAD);
        assert_eq!(lab.bridge.reap(victim.slot), 1);
        assert_eq!(
            lab.command(OP_MOVE, Some(heir.handle(0)), Some(victim.handle(1)), 0),
            -libc::ESRCH
        );
        assert_eq!(load(&heir_page.summary(heir.slot).integrity_errors), 0);
        let word = || load64(&lab.table.core_line(lab.core).expect("core").word);
        assert_eq!(abi::core_owner(word()), heir.handle(0).raw());
        drop(heir);
        until("the core to be free", || abi::core_owner(word()) == 0);
    }
}

/// The counters of --stats come from what RUN says.
#[test]
fn kicks_are_counted_from_what_the_kernel_says() {
    if !here() {
        return;
    }
    let mut lab = Lab::new();
    let mut vm = lab.start("count", 0, "s", &["--vcpus", "2"]);
    let (mut lease, page) = lab.adopt(&vm);
    let handles = [vm.handle(0), vm.handle(1)];
    assert_eq!(lab.command(OP_GRANT, None, Some(handles[0]), 0), 0);
    for round in 0..40u32 {
        let (from, to) = (round % 2, 1 - round % 2);
        until_progress(&page, from);
        let (f, t) = (handles[from as usize], handles[to as usize]);
        assert_eq!(lab.command(OP_MOVE, Some(f), Some(t), FLAG_KICK_NOW), 0);
        until("the move to be over", || lab.bridge.poll() == 0);
    }
    until_progress(&page, 0);
    assert!(load64(&vm.vcpu(0).used_tsc) > 0 && vm.granted_tsc() > load64(&vm.vcpu(0).used_tsc));
    assert_eq!(load64(&vm.line().used_tsc), 0, "kFlux keeps that meter");
    lease.stop();
    assert_eq!(vm.wait().code(), Some(0));
    assert_eq!(vm.counted("kicked"), 40, "{}", vm.log());
    assert_eq!(load(&page.summary(0).integrity_errors), 0);
}

/// A VM that was made before there is an arbiter starts unmanaged, and is told so.
#[test]
fn without_a_lease_a_vm_runs_by_itself() {
    if !here() {
        return;
    }
    let mut lab = Lab::new();
    lab.bridge.release().expect("ours");
    let vm = lab.start("early", 0, "s", &[]);
    vm.until_state(0, abi::VCPU_UNMANAGED);
    vm.live();
    let mut client = Client::greeted(&vm.socket);
    let page = client.attach();
    until_progress(&page, 0);
    assert_eq!(load(&page.host(0).unmanaged), 1);
    lab.claim();
    client.manage(lab.epoch).expect("managed");
    vm.until_state(0, abi::VCPU_PARKED);
    assert_eq!(load(&page.host(0).unmanaged), 0);
}
