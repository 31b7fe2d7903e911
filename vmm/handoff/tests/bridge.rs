//! The affinity bridge against the words: results, marks, the deadline.
#![cfg(not(feature = "loom"))]

use flux_abi as abi;
use handoff::bridge::{
    Bridge, FLAG_ASK_ONLY, FLAG_KICK_NOW, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK, OP_PREEMPT,
};
use handoff::deadline::Deadlines;
use handoff::protocol::{vcpu_state, CoreWord, World};
use handoff::{linux, vcpu, Asked, Handle, How, Table, Woken};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use std::time::Duration;

const CORE: u32 = 3;

fn lab(vms: u32) -> (Arc<Table>, Bridge) {
    let (_fd, table) = Table::create(1_000_000, 6).unwrap();
    let table = Arc::new(table);
    for slot in 0..vms {
        let vm = table.vm(slot).unwrap();
        vm.vcpus.store(1, SeqCst);
        vm.state.store(abi::VM_LIVE, SeqCst);
        vcpu::ready(&table, handle(slot), 0, false);
    }
    let mut bridge = Bridge::new(table.clone());
    bridge.claim(1, 0, &[1 << CORE, 0, 0, 0, 0, 0, 0, 0]);
    (table, bridge)
}

fn handle(slot: u32) -> Handle {
    Handle::new(slot, 0).unwrap()
}

fn send(bridge: &mut Bridge, op: i32, core: u32, from: u32, to: u32) -> i32 {
    let mut batch = [op, core as i32, from as i32, to as i32, FLAG_ASK_ONLY, 0, 0, 0];
    bridge.submit(&mut batch);
    batch[7]
}

fn raw(slot: u32) -> u32 {
    handle(slot).raw() as u32
}

#[test]
fn commands_that_cannot_be_carried_out_say_why_and_change_nothing() {
    let (table, mut bridge) = lab(3);
    assert_eq!(
        send(&mut bridge, OP_GRANT, CORE + 1, 0, raw(0)),
        -libc::EINVAL,
        "not managed"
    );
    assert_eq!(
        send(&mut bridge, OP_GRANT, 9999, 0, raw(0)),
        -libc::EINVAL,
        "no such core"
    );
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, 0), -libc::EINVAL, "nobody");
    assert_eq!(
        send(&mut bridge, 77, CORE, 0, raw(0)),
        -libc::EINVAL,
        "no such command"
    );
    assert_eq!(
        send(&mut bridge, OP_MOVE, CORE, raw(0), raw(0)),
        -libc::EINVAL,
        "to itself"
    );
    assert_eq!(
        send(&mut bridge, OP_GRANT, CORE, 0, raw(7)),
        -libc::ESRCH,
        "no such VM"
    );
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(
        send(&mut bridge, OP_GRANT, CORE, 0, raw(1)),
        -libc::EAGAIN,
        "the core has an owner"
    );
    assert_eq!(
        send(&mut bridge, OP_GRANT, CORE, 0, raw(0)),
        -libc::EBUSY,
        "it runs"
    );
    assert_eq!(
        send(&mut bridge, OP_MOVE, CORE, raw(2), raw(1)),
        -libc::EAGAIN,
        "wrong owner"
    );
    assert_eq!(
        vcpu_state(table.vcpu(handle(1))),
        abi::VCPU_PARKED,
        "the refused are let go"
    );
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    assert_eq!(send(&mut bridge, OP_PARK, CORE, raw(0), 0), -libc::EALREADY);
    assert_eq!(CoreWord::of(table.core(CORE)).successor, raw(1));
}

/// A page for slot 0 that nobody else has; it stays until the process ends.
fn page(bridge: &Bridge) -> (&'static abi::GuestVcpu, &'static abi::HostVcpu) {
    let hot: &'static mut [u64] = Vec::leak(vec![0u64; abi::HOT_BYTES / 8]);
    let base = hot.as_mut_ptr().cast::<u8>();
    assert!(bridge.set_page(0, base));
    // SAFETY: the first vCPU's block lies inside, and consists of atomics.
    unsafe {
        (
            &*base.add(abi::VCPUS_OFFSET).cast(),
            &*base.add(abi::VCPUS_OFFSET + abi::VCPU_HOST_OFFSET).cast(),
        )
    }
}

#[test]
fn a_preemption_tells_guest_and_fluxion_and_moves_nothing() {
    let (table, mut bridge) = lab(2);
    let (guest, host) = page(&bridge);
    let line = table.vcpu_line(handle(0));
    let told = || (line.preempt.load(SeqCst), host.preempt.load(SeqCst));
    let n = 0xffff_fffe;
    assert_eq!(send(&mut bridge, OP_PREEMPT, CORE, 0, n), -libc::EINVAL, "nobody");
    assert_eq!(
        send(&mut bridge, OP_PREEMPT, CORE, raw(0), n),
        -libc::EAGAIN,
        "no owner"
    );
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(
        send(&mut bridge, OP_PREEMPT, CORE, raw(1), n),
        -libc::EAGAIN,
        "another owner"
    );
    assert_eq!(told(), (0, 0), "the refused change nothing");
    let words = (table.core(CORE), table.vcpu(handle(0)), table.park_req(handle(0)));
    // The number is no handle: that no such VM is there does not matter.
    assert_eq!(send(&mut bridge, OP_PREEMPT, CORE, raw(0), n), 0);
    assert_eq!(told(), (n, n));
    assert_eq!(
        (table.core(CORE), table.vcpu(handle(0)), table.park_req(handle(0))),
        words
    );
    assert_eq!(bridge.poll(), 0, "nothing is in flight");
    assert_eq!(host.park_gen.load(SeqCst), 0);
    assert_eq!(guest.critical.load(SeqCst), 0);
    // Who is to leave the core gives way by that.
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    assert_eq!(send(&mut bridge, OP_PREEMPT, CORE, raw(0), 7), -libc::EALREADY);
    assert_eq!(told(), (n, n));
    bridge.set_page(0, std::ptr::null_mut());
}

thread_local! {
    /// Kicks that this thread got. Constant and without a destructor, so the handler may use it.
    static KICKS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

extern "C" fn count_kick(_signal: i32) {
    KICKS.set(KICKS.get() + 1);
}

#[test]
fn a_preemption_kicks_application_code_only() {
    let (table, mut bridge) = lab(1);
    let (guest, _) = page(&bridge);
    // To this thread, on which a signal that it sends itself is handled before the call is over.
    // SAFETY: the handler only counts; the others are plain system calls.
    let tid = unsafe {
        libc::signal(linux::kick_signal(), count_kick as extern "C" fn(i32) as usize);
        libc::gettid()
    };
    table.vm(0).unwrap().pid.store(std::process::id(), SeqCst);
    table.vcpu_line(handle(0)).tid.store(tid as u32, SeqCst);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    let mut kicks = |critical, flags| {
        guest.critical.store(critical, SeqCst);
        let before = KICKS.get();
        let mut command = [OP_PREEMPT, CORE as i32, raw(0) as i32, 3, flags, 0, 0, 0];
        assert_eq!(bridge.submit(&mut command), 0);
        KICKS.get() - before
    };
    assert_eq!(kicks(0, 0), 1);
    assert_eq!(kicks(1, 0), 0, "FluxOS sees the word by itself");
    assert_eq!(kicks(0, FLAG_ASK_ONLY), 0);
    assert_eq!(kicks(1, FLAG_KICK_NOW), 1);
    bridge.set_page(0, std::ptr::null_mut());
}

#[test]
fn an_arbiter_whose_lease_is_over_is_told_so() {
    let (table, mut bridge) = lab(1);
    let mut other = Bridge::new(table.clone());
    let epoch = other.claim(2, 0, &[1 << CORE, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(epoch, 2);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), -libc::ESTALE);
    assert!(!bridge.release(), "it has nothing to give back");
    assert_eq!(send(&mut other, OP_GRANT, CORE, 0, raw(0)), 0);
}

/// The park of one request ends and the next begins before poll() has looked: the mark
/// that the deadline thread goes by must be the second one's.
#[test]
fn a_park_that_has_ended_does_not_hide_the_next_from_the_deadline() {
    let (table, mut bridge) = lab(2);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    vcpu::leave(&table, handle(0), How::Asked);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(1), raw(0)), 0);
    assert_eq!(bridge.poll(), 1);
    assert_ne!(bridge.in_flight().since(CORE), 0);
    vcpu::leave(&table, handle(1), How::Asked);
    assert_eq!(bridge.poll(), 0);
    assert_eq!(bridge.in_flight().since(CORE), 0);
}

#[test]
fn a_dead_vms_cores_go_to_the_heir_and_its_claims_are_void() {
    let (table, mut bridge) = lab(3);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(send(&mut bridge, OP_HEIR, CORE, 0, raw(2)), 0);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    // The successor dies, then the owner: neither keeps the core, the heir is not asked
    // for the first (the owner was asked to leave, and its place stays empty).
    assert_eq!(bridge.reap(1), 1);
    assert_eq!(CoreWord::of(table.core(CORE)).successor, abi::HANDLE_IDLE);
    assert_eq!(bridge.reap(0), 1);
    assert_eq!(CoreWord::of(table.core(CORE)).owner, 0);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(1)), -libc::ESRCH);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(2)), 0);
}

/// The successor dies while the owner is asked to leave: the owner still has to, so the
/// request stays in flight, for the next kick and for the deadline.
#[test]
fn a_successor_that_dies_does_not_end_the_owners_request() {
    let (table, mut bridge) = lab(2);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    bridge.reap(1);
    assert_eq!(bridge.poll(), 1);
    assert_ne!(bridge.in_flight().since(CORE), 0);
    vcpu::leave(&table, handle(0), How::Asked);
    assert_eq!(bridge.poll(), 0);
}

#[test]
fn a_tenure_that_the_lease_ends_is_booked() {
    let (table, mut bridge) = lab(1);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    vcpu::unmanage_vm(&table, 0);
    assert_ne!(table.vm(0).unwrap().granted_tsc.load(SeqCst), 0);
}

/// A vCPU that leaves only by force, on the core, and asked to leave it for vCPU 1.
fn stubborn(table: &Arc<Table>, bridge: &mut Bridge) -> std::thread::JoinHandle<()> {
    // SAFETY: the handler only counts, which keeps the kick from ending the process.
    unsafe { libc::signal(linux::kick_signal(), count_kick as extern "C" fn(i32) as usize) };
    table.vm(0).unwrap().pid.store(std::process::id(), SeqCst);
    let thread = {
        let table = table.clone();
        std::thread::spawn(move || {
            let me = handle(0);
            // SAFETY: a plain system call.
            vcpu::ready(&table, me, unsafe { libc::gettid() } as u32, false);
            assert!(matches!(vcpu::wait_for_grant(&table, me), Woken::Granted { .. }));
            while vcpu::asked(&table, me) != Asked::Force {
                std::hint::spin_loop();
            }
            vcpu::leave(&table, me, How::Forced);
        })
    };
    // Its thread makes it ready anew, so it is not granted a core before that.
    while table.vcpu_line(handle(0)).tid.load(SeqCst) == 0 || table.vcpu(handle(0)) & 0xff != abi::VCPU_PARKED
    {
        std::thread::yield_now();
    }
    while send(bridge, OP_GRANT, CORE, 0, raw(0)) != 0 {
        std::thread::yield_now();
    }
    assert_eq!(send(bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    thread
}

/// It was forced, counted once, and its successor runs.
fn was_forced_once(table: &Table) {
    let vm = table.vm(0).unwrap();
    let (forced, late) = (vm.forced.load(SeqCst), vm.forced_descheduled.load(SeqCst));
    assert_eq!(forced + late, 1, "counted once, as one or the other");
    assert_eq!(vcpu_state(table.vcpu(handle(1))), abi::VCPU_RUNNING);
    assert_eq!(table.vcpu_line(handle(0)).how.load(SeqCst), abi::HOW_FORCED);
}

#[test]
fn who_does_not_leave_is_forced_once() {
    let (table, mut bridge) = lab(2);
    table.header().deadline_us.store(1000, SeqCst);
    let stubborn = stubborn(&table, &mut bridge);
    let mut deadlines = Deadlines::new(table.clone(), bridge.in_flight().clone());
    while !stubborn.is_finished() {
        deadlines.look();
        std::thread::sleep(Duration::from_micros(500));
    }
    stubborn.join().unwrap();
    deadlines.look();
    was_forced_once(&table);
}

#[test]
fn who_does_not_leave_is_forced_by_command_long_before_the_deadline() {
    let (table, mut bridge) = lab(3);
    table.header().deadline_us.store(10_000_000, SeqCst);
    let stubborn = stubborn(&table, &mut bridge);
    for (core, from) in [(CORE, raw(1)), (CORE, raw(2))] {
        let refused = send(&mut bridge, OP_FORCE, core, from, 0);
        assert_eq!(refused, -libc::EAGAIN, "it owes nothing");
    }
    assert_eq!(send(&mut bridge, OP_FORCE, CORE, 0, 0), -libc::EINVAL, "nobody");
    assert_eq!(table.vm(0).unwrap().forced.load(SeqCst), 0);
    assert_eq!(send(&mut bridge, OP_FORCE, CORE, raw(0), 0), 0);
    // Once more, if it has not left yet, is another kick and no more.
    let again = send(&mut bridge, OP_FORCE, CORE, raw(0), 0);
    assert!([0, -libc::EAGAIN].contains(&again), "{again}");
    stubborn.join().unwrap();
    was_forced_once(&table);
    assert_eq!(table.core_line(CORE).unwrap().forced.load(SeqCst), 1);
    // The park is over, and with it what it was forced by: the next one begins unforced.
    assert_eq!(send(&mut bridge, OP_FORCE, CORE, raw(0), 0), -libc::EAGAIN);
    assert_eq!(send(&mut bridge, OP_FORCE, CORE, raw(1), 0), -libc::EAGAIN);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(1), raw(0)), 0);
    assert_ne!(
        table.vcpu_line(handle(1)).force.load(SeqCst),
        table.park_req(handle(1))
    );
    assert_eq!(table.vm(0).unwrap().forced.load(SeqCst), 1);
}

/// What the deadline finds forced by command already it does not count again.
#[test]
fn a_commanded_force_that_runs_into_the_deadline_is_one_force() {
    let (table, mut bridge) = lab(2);
    table.header().deadline_us.store(1000, SeqCst);
    assert_eq!(send(&mut bridge, OP_GRANT, CORE, 0, raw(0)), 0);
    assert_eq!(send(&mut bridge, OP_MOVE, CORE, raw(0), raw(1)), 0);
    assert_eq!(send(&mut bridge, OP_FORCE, CORE, raw(0), 0), 0);
    let mut deadlines = Deadlines::new(table.clone(), bridge.in_flight().clone());
    for _ in 0..4 {
        deadlines.look();
        std::thread::sleep(Duration::from_millis(1));
    }
    let vm = table.vm(0).unwrap();
    assert_eq!(
        (vm.forced.load(SeqCst), vm.forced_descheduled.load(SeqCst)),
        (1, 0)
    );
}
