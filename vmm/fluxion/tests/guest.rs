//! Real guests under KVM, moved, kicked, stolen from, and misbehaving.

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::{done, kvm_or_skip, load, load64, until, until_progress, was_forced, Lab};
use flux_abi as abi;
use handoff::bridge::{FLAG_ASK_ONLY, FLAG_KICK_NOW, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK};

#[test]
fn a_guest_boots_logs_and_exits() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let mut vm = lab.start("hello", 0, "l", &["--unmanaged"]);
    assert_eq!(vm.wait().code(), Some(0));
    let log = vm.log();
    // The control character has been made harmless.
    assert!(
        log.contains("info hello: [vCPU 0] chi\u{fffd} fromring 3\n"),
        "{log}"
    );
    assert_eq!(vm.counted("log"), 1);
    assert!(!vm.socket.exists());
    assert_eq!(load(&vm.line().state), abi::VM_DEAD);

    let mut vm = lab.start("seven", 1, "e", &["--unmanaged"]);
    assert_eq!(vm.wait().code(), Some(7));
}

#[test]
fn the_header_tells_the_guest_what_there_is() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("head", 70, "y", &["--vcpus", "3", "--mem", "128"]);
    let (_lease, page) = lab.adopt(&vm);
    let h = page.header();
    assert_eq!(
        (h.magic, h.abi_major, h.slot, h.vcpus, h.hosted),
        (abi::CONTROL_MAGIC, abi::ABI_MAJOR, 70, 3, 0)
    );
    assert_eq!(h.memory_bytes, 128 << 20);
    assert_eq!(h.heap_base + h.heap_bytes, h.stack_base);
    assert_eq!(
        h.stack_base + u64::from(h.stack_count) * h.stack_bytes,
        h.memory_bytes
    );
    assert!(h.xcr0_lo & 3 == 3 && h.xsave_bytes >= 576);
    assert!(h.name.starts_with(b"head\0") && h.cmdline.starts_with(b"y\0"));
}

#[test]
fn dormant_vcpus_wait_for_a_core_and_yields_go_to_the_heir() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("yield", 3, "y", &["--vcpus", "2"]);
    let (_lease, page) = lab.adopt(&vm);
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    assert_eq!(
        (done(&page, 0), done(&page, 1)),
        (0, 0),
        "dormant means that nothing has run"
    );
    let (a, b) = (vm.handle(0), vm.handle(1));
    // With each as the other's heir there is always one that runs; without an heir the core falls idle.
    assert_eq!(lab.command(OP_HEIR, None, Some(b), 0), 0);
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until("both to have run", || done(&page, 0) >= 1 && done(&page, 1) >= 1);
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    assert_eq!((done(&page, 0), done(&page, 1)), (1, 1));
    for v in [0, 1] {
        assert_eq!(load(&vm.vcpu(v).how), abi::HOW_YIELD);
        assert_eq!((load(&vm.vcpu(v).grants), load(&page.host(v).grant_gen)), (1, 1));
        assert_eq!(load(&page.host(v).core), lab.core);
        let t = vm.vcpu(v);
        // The last stamp comes after PARKED: a vCPU can be granted again while its thread is on its way.
        until("the hand-over to be stamped", || load64(&t.t_handed) != 0);
        let stages = [
            &t.t_granted,
            &t.t_woken,
            &t.t_enter,
            &t.t_seen,
            &t.t_parked,
            &t.t_handed,
        ]
        .map(load64);
        assert!(stages.is_sorted(), "{stages:?}");
    }
    assert!(vm.granted_tsc() > load64(&vm.line().used_tsc));
}

#[test]
fn an_asked_guest_parks_by_itself() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("ask", 0, "p", &["--vcpus", "2"]);
    let (_lease, page) = lab.adopt(&vm);
    let handles = [vm.handle(0), vm.handle(1)];
    assert_eq!(lab.command(OP_GRANT, None, Some(handles[0]), 0), 0);
    for round in 0..50 {
        let (from, to) = (round % 2, 1 - round % 2);
        until_progress(&page, from);
        let (f, t) = (handles[from as usize], handles[to as usize]);
        assert_eq!(lab.command(OP_MOVE, Some(f), Some(t), FLAG_ASK_ONLY), 0);
        until("the move to be over", || lab.bridge.poll() == 0);
        vm.until_state(from, abi::VCPU_PARKED);
        assert_eq!(load(&vm.vcpu(from).how), abi::HOW_ASKED);
    }
    until_progress(&page, 0);
    assert_eq!(load(&page.guest(0).parks), 25, "each request was honoured once");
    assert_eq!(load(&page.guest(0).resume_gen), load(&page.host(0).grant_gen));
    assert_eq!(load(&vm.vcpu(0).kicks), 0);
}

#[test]
fn kicked_guests_lose_nothing() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    // Two VMs on one core, so that each one's registers meet the other's.
    let (a, b) = (lab.start("kick-a", 0, "s", &[]), lab.start("kick-b", 1, "s", &[]));
    let (_lease_a, page_a) = lab.adopt(&a);
    let (_lease_b, page_b) = lab.adopt(&b);
    assert_eq!(lab.command(OP_GRANT, None, Some(a.handle(0)), 0), 0);
    for round in 0..200 {
        let (from, to, page) = if round % 2 == 0 {
            (&a, &b, &page_a)
        } else {
            (&b, &a, &page_b)
        };
        until_progress(page, 0);
        assert_eq!(
            lab.command(OP_MOVE, Some(from.handle(0)), Some(to.handle(0)), FLAG_KICK_NOW),
            0
        );
        until("the move to be over", || lab.bridge.poll() == 0);
        assert_eq!(load(&from.vcpu(0).how), abi::HOW_KICKED);
        assert_eq!(load(&from.vcpu(0).held), abi::HELD_HELD);
        assert_eq!(load(&page.host(0).held), 1);
    }
    until_progress(&page_a, 0);
    assert_eq!(load(&a.vcpu(0).held), abi::HELD_NONE);
    assert_eq!(
        load(&page_a.summary(0).integrity_errors) + load(&page_b.summary(1).integrity_errors),
        0
    );
    assert_eq!(load(&a.vcpu(0).kicks), 100);
    assert!(a.taken_tsc() > 0);
}

#[test]
fn a_preempted_guest_is_resumed_at_its_upcall_and_loses_nothing() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("slice", 5, "s", &[]);
    let (_lease, page) = lab.adopt(&vm);
    assert_eq!(lab.command(OP_GRANT, None, Some(vm.handle(0)), 0), 0);
    until_progress(&page, 0);
    let guest = page.guest(0);
    let line = vm.vcpu(0);
    for round in 1..=200 {
        let running = load(&guest.switches);
        assert_eq!(running, round, "each upcall gave the uThread a new number");
        // Again and again: this guest does not look for the word itself, as FluxOS does, when it leaves its
        // own code, where a kick may find it.
        until("the upcall", || {
            assert_eq!(lab.preempt(vm.handle(0), running), 0);
            load(&guest.switches) != running
        });
    }
    until_progress(&page, 0);
    assert_eq!((load(&guest.preempts), load(&line.preempts)), (200, 200));
    // News of a uThread that has left by itself finds its vCPU, and changes nothing.
    for _ in 0..20 {
        let stale = load(&line.stale);
        assert_eq!(lab.preempt(vm.handle(0), load(&guest.switches) - 1), 0);
        until("the kick to be found stale", || load(&line.stale) != stale);
    }
    until_progress(&page, 0);
    assert_eq!((load(&guest.preempts), load(&line.preempts)), (200, 200));
    assert_eq!((load(&line.kicks), load(&line.parks)), (0, 0), "it kept its core");
    assert_eq!(load(&page.summary(5).integrity_errors), 0);
    // Asked to leave at the same moment, it leaves, by the one or the other door, and is whole.
    for _ in 0..100 {
        assert_eq!(lab.preempt(vm.handle(0), load(&guest.switches)), 0);
        assert_eq!(lab.command(OP_PARK, Some(vm.handle(0)), None, FLAG_KICK_NOW), 0);
        until("the park to be over", || lab.bridge.poll() == 0);
        assert_eq!(load(&line.held), abi::HELD_HELD);
        assert_eq!(lab.command(OP_GRANT, None, Some(vm.handle(0)), 0), 0);
        until_progress(&page, 0);
    }
    assert_eq!(load(&page.summary(5).integrity_errors), 0);
}

#[test]
fn a_held_context_is_stolen_and_goes_on_elsewhere() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("steal", 9, "x", &["--vcpus", "2"]);
    let (_lease, page) = lab.adopt(&vm);
    let (a, b) = (vm.handle(0), vm.handle(1));
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until_progress(&page, 0);
    assert_eq!(lab.command(OP_MOVE, Some(a), Some(b), FLAG_KICK_NOW), 0);
    until("the context to be taken", || load(&page.guest(1).taken) == 1);
    // vCPU 0's uThread counts where it always did, but now on vCPU 1.
    until_progress(&page, 0);
    assert_eq!(load(&page.host(1).answer), abi::STEAL_TAKEN);
    assert_eq!(
        (load(&vm.vcpu(0).held), load(&page.host(0).held)),
        (abi::HELD_TAKEN, 0)
    );
    assert_eq!(load(&page.summary(9).integrity_errors), 0);
    // The robbed vCPU comes back at its scheduler, and the uThread, kicked again, goes on where it is.
    assert_eq!(lab.command(OP_MOVE, Some(b), Some(a), FLAG_KICK_NOW), 0);
    until("vCPU 0 to re-enter", || load(&page.guest(0).yields) == 1);
    vm.until_state(0, abi::VCPU_PARKED);
    let before = done(&page, 0);
    assert_eq!(load(&vm.vcpu(1).held), abi::HELD_HELD);
    assert_eq!(lab.command(OP_GRANT, None, Some(b), 0), 0);
    until("the uThread to go on", || done(&page, 0) != before);
    assert_eq!(load(&page.summary(9).integrity_errors), 0);
    let mut client = common::client::Client::greeted(&vm.socket);
    client.stop();
    let mut vm = vm;
    vm.wait();
    assert_eq!(
        (vm.counted("taken"), vm.counted("reentered")),
        (1, 1),
        "{}",
        vm.log()
    );
}

#[test]
fn a_guest_that_never_parks_is_forced_and_goes_on_later() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let (vm, next) = (lab.start("stuck", 0, "c", &[]), lab.start("next", 1, "s", &[]));
    let (_lease, page) = lab.adopt(&vm);
    let (_lease2, page2) = lab.adopt(&next);
    lab.table.header().deadline_us.store(1000, SeqCst);
    assert_eq!(lab.command(OP_GRANT, None, Some(vm.handle(0)), 0), 0);
    until_progress(&page, 0);
    assert_eq!(
        lab.command(OP_MOVE, Some(vm.handle(0)), Some(next.handle(0)), FLAG_KICK_NOW),
        0
    );
    until("the kick to find it in its own code", || {
        lab.bridge.poll();
        lab.look_at_deadlines();
        was_forced(vm.vcpu(0)) && vm.state_of(0) == abi::VCPU_PARKED
    });
    assert_eq!(
        (load(&vm.vcpu(0).held), load(&page.host(0).held)),
        (abi::HELD_FORCED, 0)
    );
    until_progress(&page2, 0);
    until("the bridge to have seen it", || lab.bridge.poll() == 0);
    assert_eq!(
        lab.command(OP_MOVE, Some(next.handle(0)), Some(vm.handle(0)), FLAG_KICK_NOW),
        0
    );
    until_progress(&page, 0);
    assert_eq!(load(&vm.vcpu(0).held), abi::HELD_NONE);
    assert_eq!(load(&page2.summary(1).integrity_errors), 0);
}

#[test]
fn a_bad_guest_is_poisoned_and_its_core_goes_on() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    for (mode, slot, text) in [
        ("w", 0, "triple fault"),
        ("i", 1, "input from port 0xe0"),
        ("n", 2, "gave up: give"),
        ("b", 3, "gave up: give"),
    ] {
        let (mut bad, good) = (
            lab.start("bad", slot, mode, &["--vcpus", "2"]),
            lab.start("good", 8 + slot, "s", &[]),
        );
        let (mut lease, _) = lab.adopt(&bad);
        let (_lease, page) = lab.adopt(&good);
        assert_eq!(lab.command(OP_HEIR, None, Some(good.handle(0)), 0), 0);
        assert_eq!(lab.command(OP_GRANT, None, Some(bad.handle(0)), 0), 0);
        until_progress(&page, 0);
        until("the VM to be poisoned", || {
            load(&bad.line().state) == abi::VM_POISONED
        });
        bad.until_state(0, abi::VCPU_DEAD);
        bad.until_state(1, abi::VCPU_DEAD);
        let status = lease.status();
        assert_eq!(status.state, "poisoned");
        assert!(status.error.contains(text), "{}", status.error);
        // AMD's KVM resets a vCPU that shuts down: what is left to show is where a processor starts.
        let reset = mode == "w" && status.error.contains("rip 0xfff0");
        let shown = status.error.contains("rip 0x400") || reset;
        assert_eq!(shown, !text.contains("gave up"), "{}", status.error);
        assert_eq!(lease.manage(lab.epoch).expect_err("poisoned").code, abi::E_STATE);
        assert!(bad.is_running());
        lease.stop();
        assert_eq!(bad.wait().code(), Some(1));
        assert!(bad.log().contains(text));
        // Claimed 65,535 frames more than it sent, which nobody believes or looks for.
        assert_eq!(bad.log().contains("... 65535 frames"), mode == "b");
        assert_eq!(lab.command(OP_HEIR, None, None, 0), 0);
        assert_eq!(lab.command(OP_PARK, Some(good.handle(0)), None, FLAG_KICK_NOW), 0);
        until("the core to be free", || lab.bridge.poll() == 0);
        assert_eq!(load(&page.summary(8 + slot).integrity_errors), 0);
    }
}
