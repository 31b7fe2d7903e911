//! `serve` answers each request of its ring once, in KVM guests and hosted.

mod common;

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::time::Duration;

use common::{until, Arbiter, On, Vm};
use flux_abi as abi;

/// Publishes requests as the releaser does.
fn release(arbiter: &Arbiter, vm: &Vm, first: u32, count: u32, service_ns: u32, fanout: u32) -> u64 {
    let now = libos::now();
    for seq in first..first.wrapping_add(count) {
        let entry = vm.page.request(seq);
        entry.seq.store(seq, Relaxed);
        entry.service_ns.store(service_ns, Relaxed);
        entry.fanout.store(fanout, Relaxed);
        entry.due_lo.store(now as u32, Relaxed);
        entry.due_hi.store((now >> 32) as u32, Relaxed);
    }
    let tail = first.wrapping_add(count);
    vm.page.ring().tail.store(tail, Release);
    let line = arbiter.table.vm(vm.slot).expect("slot");
    line.ring_tail.store(tail, SeqCst);
    handoff::ring_doorbell(&arbiter.table, vm.slot);
    now
}

fn completed(vm: &Vm, seq: u32) -> bool {
    vm.page.completion(seq).seq_plus_1.load(Acquire) == seq.wrapping_add(1)
}

fn done_at(vm: &Vm, seq: u32) -> u64 {
    let entry = vm.page.completion(seq);
    u64::from(entry.done_lo.load(Relaxed)) | u64::from(entry.done_hi.load(Relaxed)) << 32
}

fn all_are_answered(on: On, fanout: u32, managed: bool) {
    if !on.there() {
        return;
    }
    let mut arbiter = Arbiter::new();
    let extra: &[&str] = if managed { &[] } else { &["--unmanaged"] };
    let vm = arbiter.start(on, 5, 2, &format!("serve fanout={fanout}"), extra);
    let turn = |arbiter: &mut Arbiter| {
        if managed {
            arbiter.anything(&[&vm], 0);
        }
        std::thread::sleep(Duration::from_micros(50));
    };
    let mut first = 0;
    // More in the end than the ring has entries.
    for (count, service_ns, parts) in [
        (1, 1000, 0),
        (200, 3000, 0),
        (4000, 200, 1),
        (300, 5000, 7),
        (1, 0, 0),
    ] {
        let released = release(&arbiter, &vm, first, count, service_ns, parts);
        for seq in first..first + count {
            until("all requests to be answered", || {
                completed(&vm, seq) || {
                    turn(&mut arbiter);
                    false
                }
            });
            let parts = if parts == 0 { fanout } else { parts };
            let least = u64::from(service_ns / parts) * u64::from(vm.page.header().tsc_khz) / 1_000_000;
            // Work takes time; half is generous to what was measured at boot.
            assert!(
                done_at(&vm, seq) >= released + least / 2,
                "request {seq} was too quick"
            );
        }
        first += count;
    }
    assert_eq!(vm.page.summary().ring_head.load(SeqCst), first);
    assert_eq!(vm.done(), u64::from(first));
    until("their uThreads to end", || {
        turn(&mut arbiter);
        vm.page.summary().uthreads.load(SeqCst) == 0
    });
    assert_eq!(vm.page.summary().runnable.load(SeqCst), 0);
    assert_eq!(
        arbiter.table.vm(5).expect("slot").state.load(SeqCst),
        abi::VM_LIVE
    );
}

#[test]
fn hosted_unmanaged() {
    all_are_answered(On::Hosted, 1, false);
    all_are_answered(On::Hosted, 4, false);
}

#[test]
fn hosted_managed() {
    all_are_answered(On::Hosted, 1, true);
    all_are_answered(On::Hosted, 4, true);
}

#[test]
fn kvm_unmanaged() {
    all_are_answered(On::Kvm, 1, false);
    all_are_answered(On::Kvm, 4, false);
}

#[test]
fn kvm_managed() {
    all_are_answered(On::Kvm, 1, true);
    all_are_answered(On::Kvm, 4, true);
}
