//! VMs without an arbiter: unmanaged from the start, after the arbiter's end, and adopted again.

mod common;

use std::sync::atomic::Ordering::SeqCst;

use common::client::Client;
use common::{done, is_asleep, kvm_or_skip, load, until, until_progress, Lab};
use flux_abi as abi;
use handoff::bridge::{FLAG_KICK_NOW, OP_GRANT, OP_MOVE};

#[test]
fn a_vm_outlives_its_arbiter_and_is_adopted_again() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("survivor", 2, "s", &["--vcpus", "2"]);
    let (lease, page) = lab.adopt(&vm);
    let (a, b) = (vm.handle(0), vm.handle(1));
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until_progress(&page, 0);
    assert_eq!(lab.command(OP_MOVE, Some(a), Some(b), FLAG_KICK_NOW), 0);
    until_progress(&page, 1);
    assert_eq!(load(&vm.vcpu(0).held), abi::HELD_HELD);

    // The arbiter dies: both run, the held one too, where they please.
    drop(lease);
    vm.until_state(0, abi::VCPU_UNMANAGED);
    vm.until_state(1, abi::VCPU_UNMANAGED);
    until_progress(&page, 0);
    until_progress(&page, 1);
    assert_eq!(load(&page.host(0).unmanaged), 1);
    assert_eq!(load(&vm.vcpu(1).pinned), abi::CORE_NONE);

    // A new one comes: all park, in application code, and go on when they are granted.
    lab.claim();
    let (lease, page) = lab.adopt(&vm);
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    assert_eq!(load(&page.host(0).unmanaged), 0);
    let before = (done(&page, 0), done(&page, 1));
    assert_eq!(lab.command(OP_GRANT, None, Some(a), 0), 0);
    until_progress(&page, 0);
    assert_eq!(done(&page, 1), before.1, "vCPU 1 has no core");

    // While it lives, one with the same epoch is refused, an older epoch is stale, a newer one takes over.
    let mut other = Client::greeted(&vm.socket);
    assert_eq!(other.manage(lab.epoch).expect_err("held").code, abi::E_STATE);
    let stale = other.manage(lab.epoch - 1).expect_err("stale");
    assert_eq!(stale.code, abi::E_STALE);
    assert!(
        stale.message.contains(&lab.epoch.to_string()),
        "{}",
        stale.message
    );
    let refused: Result<abi::protocol::UnmanageReply, _> = other.call("unmanage", abi::protocol::Unmanage {});
    assert_eq!(refused.expect_err("not the lease").code, abi::E_STATE);
    lab.claim();
    other.manage(lab.epoch).expect("a newer epoch");
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    drop(lease);
    assert!(other.status().managed, "the old connection was the lease no more");
    assert_eq!(lab.command(OP_GRANT, None, Some(b), 0), 0);
    until_progress(&page, 1);
    let _: abi::protocol::UnmanageReply = other
        .call("unmanage", abi::protocol::Unmanage {})
        .expect("the lease");
    until_progress(&page, 0);
    assert_eq!(load(&page.summary(2).integrity_errors), 0);
}

#[test]
fn a_guest_in_its_own_code_honours_a_recall() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let vm = lab.start("polite", 0, "p", &["--unmanaged"]);
    vm.until_state(0, abi::VCPU_UNMANAGED);
    let (_lease, page) = lab.adopt(&vm);
    vm.until_state(0, abi::VCPU_PARKED);
    // kFlux books how a core was left, and here there was none.
    if !common::over_kflux() {
        assert_eq!(load(&vm.vcpu(0).how), abi::HOW_ASKED);
    }
    assert_eq!(load(&page.guest(0).park_ack), load(&vm.vcpu(0).park_req));
}

#[test]
fn idle_unmanaged_vcpus_block_until_there_is_work() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    let mut vm = lab.start("idle", 4, "y", &["--vcpus", "2", "--unmanaged"]);
    vm.live();
    let mut client = Client::greeted(&vm.socket);
    let page = client.attach();
    until("both to have yielded once", || {
        done(&page, 0) == 1 && done(&page, 1) == 1
    });
    until("both to wait", || load(&vm.line().waiters) == 2);

    // No work, no CPU time, not a nanosecond of it.
    let used =
        || [0, 1].map(|v| handoff::linux::cpu_time_ns(vm.pid(), load(&vm.vcpu(v).tid)).expect("alive"));
    until("both to be asleep", || {
        [0, 1].iter().all(|v| is_asleep(vm.pid(), load(&vm.vcpu(*v).tid)))
    });
    let before = used();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(used(), before);
    handoff::ring_doorbell(&lab.table, vm.slot);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(
        (done(&page, 0), done(&page, 1)),
        (1, 1),
        "a ring without work wakes nobody into the guest"
    );

    // A request in the ring.
    vm.line().ring_tail.store(1, SeqCst);
    handoff::ring_doorbell(&lab.table, vm.slot);
    until("one to have come back", || done(&page, 0) + done(&page, 1) > 2);
    page.summary(4).ring_head.store(1, SeqCst);
    until("both to wait again", || load(&vm.line().waiters) == 2);

    // A timer that is due soon, then one that is over: a stamp in the past counts as work.
    let before = done(&page, 0) + done(&page, 1);
    let shift = load(&lab.table.header().stamp_shift);
    page.summary(4)
        .next_timer
        .store(abi::stamp(handoff::linux::tsc(), shift), SeqCst);
    page.summary(4).flags.store(abi::SUMMARY_TIMER, SeqCst);
    handoff::ring_doorbell(&lab.table, vm.slot);
    until("the timer to wake one", || {
        done(&page, 0) + done(&page, 1) > before
    });
    page.summary(4).flags.store(0, SeqCst);
    until("both to wait again", || load(&vm.line().waiters) == 2);

    // An arbiter's recall finds them waiting.
    client.manage(lab.epoch).expect("managed");
    vm.until_state(0, abi::VCPU_PARKED);
    vm.until_state(1, abi::VCPU_PARKED);
    assert_eq!(load(&vm.line().waiters), 0);
    lab.bridge.set_page(vm.slot, page.base());
    let before = done(&page, 1);
    assert_eq!(lab.command(OP_GRANT, None, Some(vm.handle(1)), 0), 0);
    until("it to have run", || done(&page, 1) == before + 1);
    vm.signal(libc::SIGTERM);
    assert_eq!(vm.wait().code(), Some(0));
    assert!(vm.counted("blocked") >= 2, "{}", vm.log());
}

#[test]
fn a_guests_doorbell_wakes_a_sibling_without_an_exit() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let mut vm = lab.start("bell", 0, "d", &["--vcpus", "2", "--unmanaged"]);
    vm.live();
    let mut client = Client::greeted(&vm.socket);
    let page = client.attach();
    until("both to wait", || load(&vm.line().waiters) == 2);
    // vCPU 0 has rung once before it yielded, and nobody else has.
    until("its ring to have been heard", || load(&vm.line().doorbell) == 1);
    // As a guest with a full queue would: whoever is woken works, and vCPU 0's rings wake the other.
    page.summary(0).runnable.store(5, SeqCst);
    until("both to work", || {
        handoff::ring_doorbell(&lab.table, vm.slot);
        done(&page, 0) > 10 && done(&page, 1) > 10
    });
    page.summary(0).runnable.store(0, SeqCst);
    until("both to wait again", || load(&vm.line().waiters) == 2);
    client.stop();
    vm.wait();
    assert_eq!(vm.counted("doorbell"), 0, "{}", vm.log());
}
