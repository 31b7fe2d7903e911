//! The life loop over a backend that does what a test tells it.

use super::*;
use crate::context_slot::ContextSlot;
use crate::control_page::ControlPage;
use crate::cpus::CpuSet;
use crate::vm::Parts;
use handoff::bridge::{Bridge, COMMAND_WORDS, FLAG_ASK_ONLY, OP_GRANT, OP_PARK};
use std::sync::atomic::AtomicU32;

/// Runs a closure instead of a guest: it is given the number of the run.
struct Fake<F> {
    step: F,
    runs: u32,
    reentries: Arc<AtomicU32>,
    /// Where the guest was, for an upcall; `None`: it has none.
    upcall: Option<u64>,
    export_fails: bool,
}

impl<F: FnMut(u32) -> Exit + Send + 'static> Backend for Fake<F> {
    const NAME: &'static str = "fake";
    const SYSCALLS: Option<&'static [crate::confine::Allowed]> = None;

    fn run(&mut self) -> Exit {
        self.runs += 1;
        (self.step)(self.runs)
    }

    fn set_reentry(&mut self) -> Result<(), Failure> {
        self.reentries.fetch_add(1, SeqCst);
        Ok(())
    }

    fn set_upcall(&mut self) -> Option<u64> {
        self.upcall
    }

    fn export(&mut self, _: u32, slot: &ContextSlot<'_>) -> Result<(), Failure> {
        slot.put_xsave(&[1]);
        if self.export_fails {
            return Err(Failure::new("no export"));
        }
        Ok(())
    }
}

/// A VM in slot 0 of a table of its own, with an arbiter's bridge that manages core 0.
fn setup() -> (Arc<Vm>, Bridge) {
    let (table_fd, table) = Table::create(1_000_000, 8).expect("table");
    let ours = Arc::new(Table::map(&table_fd).expect("the same table"));
    table.vm(0).expect("slot").vcpus.store(2, SeqCst);
    table.vm(0).expect("slot").state.store(abi::VM_LIVE, SeqCst);
    let parts = Parts {
        name: "fake".into(),
        slot: 0,
        vcpus: 2,
        table,
        table_fd,
        seat: crate::seat::Seat::Table,
        page: Arc::new(ControlPage::create(0, 2).expect("page")),
        backend: "fake",
        memory_bytes: 0,
        cpus: CpuSet::current().expect("affinity"),
        symbols: crate::symbols::Symbols::default(),
    };
    let vm = Arc::new(Vm::new(parts).expect("VM"));
    let mut bridge = Bridge::new(ours);
    bridge.claim(1, 0, &[1, 0, 0, 0, 0, 0, 0, 0]);
    (vm, bridge)
}

fn command(bridge: &mut Bridge, op: i32, from: Handle, to: Handle) {
    let mut words = [0; COMMAND_WORDS];
    words[..5].copy_from_slice(&[op, 0, from.raw().into(), to.raw().into(), FLAG_ASK_ONLY]);
    assert_eq!(bridge.submit(&mut words), 0, "{words:?}");
}

fn fake<F: FnMut(u32) -> Exit + Send + 'static>(step: F) -> Fake<F> {
    Fake {
        step,
        runs: 0,
        reentries: Arc::default(),
        upcall: Some(0x1234_5678_9abc),
        export_fails: false,
    }
}

/// Grants vCPU 0 the core before its thread lives, and lets it live to the VM's end.
fn live_granted<F: FnMut(u32) -> Exit + Send + 'static>(vm: &Arc<Vm>, bridge: &mut Bridge, backend: Fake<F>) {
    let me = vm.handles()[0];
    handoff::vcpu::ready(&vm.table, me, 0, false);
    command(bridge, OP_GRANT, me, me);
    live(vm, 0, backend);
    assert_eq!(
        abi::vcpu_state(vm.table.vcpu_line(me).word.load(SeqCst)),
        abi::VCPU_DEAD
    );
    let word = vm.table.core_line(0).expect("core").word.load(SeqCst);
    assert_eq!(abi::core_owner(word), 0, "the core has been handed on");
}

fn door(port: u16, arg: u32) -> Exit {
    Exit::Door { port, arg }
}

fn poisoned(vm: &Vm) -> String {
    match vm.ended() {
        Some(Ended::Poisoned(what)) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_panic_poisons_the_vm_and_frees_the_core() {
    let (vm, mut bridge) = setup();
    live_granted(&vm, &mut bridge, fake(|_| panic!("a test's panic")));
    assert!(poisoned(&vm).contains("vCPU 0"));
    assert_eq!(vm.line().expect("line").state.load(SeqCst), abi::VM_POISONED);
}

#[test]
fn doors_that_are_none_poison_the_vm() {
    let (vm, mut bridge) = setup();
    live_granted(&vm, &mut bridge, fake(|_| door(0x60, 1)));
    assert!(poisoned(&vm).contains("port 0x60"));
}

#[test]
fn the_first_end_counts_and_exit_ends() {
    let (vm, mut bridge) = setup();
    live_granted(&vm, &mut bridge, fake(|_| door(abi::PORT_EXIT, 3)));
    vm.end(Ended::Poisoned("later".into()));
    assert_eq!(vm.ended(), Some(Ended::Exit(3)));
}

#[test]
fn a_vcpu_that_is_asked_before_it_entered_never_enters() {
    let (vm, mut bridge) = setup();
    let me = vm.handles()[0];
    handoff::vcpu::ready(&vm.table, me, 0, false);
    command(&mut bridge, OP_GRANT, me, me);
    command(&mut bridge, OP_PARK, me, me);
    let thread = std::thread::spawn({
        let vm = Arc::clone(&vm);
        move || live(&vm, 0, fake(|_| panic!("never run")))
    });
    let line = vm.table.vcpu_line(me);
    while abi::vcpu_state(line.word.load(SeqCst)) != abi::VCPU_PARKED {
        std::thread::yield_now();
    }
    assert_eq!(line.how.load(SeqCst), abi::HOW_ENTRY);
    vm.end(Ended::Stopped);
    thread.join().expect("ends");
    assert_eq!(vm.ended(), Some(Ended::Stopped));
}

#[test]
fn stale_news_is_settled_and_does_not_park() {
    let (vm, mut bridge) = setup();
    let me = vm.handles()[0];
    let seen = Arc::clone(&vm);
    let step = move |run| match run {
        // The arbiter's number has gone up, but the core word names no successor.
        1 => {
            seen.table.vcpu_line(me).park_req.store(7, SeqCst);
            door(abi::PORT_PARK, 0)
        }
        2 => {
            assert_eq!(seen.page.host(0).expect("host").settled.load(SeqCst), 7);
            Exit::Interrupted
        }
        _ => door(abi::PORT_EXIT, 0),
    };
    live_granted(&vm, &mut bridge, fake(step));
    assert_eq!(vm.ended(), Some(Ended::Exit(0)));
    assert_eq!(vm.table.vcpu_line(me).stale.load(SeqCst), 2);
    assert_eq!(vm.counters[0].get(Count::Stale), 2);
}

/// Asks a vCPU to leave core 0, as the bridge would, from inside its own run.
fn ask(vm: &Vm, who: Handle) {
    handoff::protocol::request(&vm.table, 0, who, None).expect("asked");
}

#[test]
fn kicks_in_the_guests_own_code_are_left_to_it() {
    let (vm, mut bridge) = setup();
    let me = vm.handles()[0];
    let seen = Arc::clone(&vm);
    let step = move |run| match run {
        1 => {
            seen.page.guest(0).expect("guest").critical.store(1, SeqCst);
            ask(&seen, me);
            Exit::Interrupted
        }
        2 => {
            assert_eq!(seen.table.vcpu_line(me).held.load(SeqCst), abi::HELD_NONE);
            door(abi::PORT_PARK, 0)
        }
        _ => panic!("the core is gone"),
    };
    let watcher = end_when_parked(&vm, me);
    live_granted(&vm, &mut bridge, fake(step));
    watcher.join().expect("watcher");
    assert_eq!(vm.ended(), Some(Ended::Stopped));
    assert_eq!(vm.counters[0].get(Count::Critical), 1);
    assert_eq!(vm.table.vcpu_line(me).how.load(SeqCst), abi::HOW_ASKED);
}

/// Ends the VM once a vCPU has left its core by a park or kick.
fn end_when_parked(vm: &Arc<Vm>, who: Handle) -> std::thread::JoinHandle<()> {
    let vm = Arc::clone(vm);
    std::thread::spawn(move || {
        while vm.table.vcpu_line(who).parks.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
        vm.end(Ended::Stopped);
    })
}

#[test]
fn application_code_is_held_and_forced_code_is_not_offered() {
    for (critical, force, held, how) in [
        (0, false, abi::HELD_HELD, abi::HOW_KICKED),
        (0, true, abi::HELD_HELD, abi::HOW_FORCED),
        (1, true, abi::HELD_FORCED, abi::HOW_FORCED),
    ] {
        let (vm, mut bridge) = setup();
        let me = vm.handles()[0];
        let seen = Arc::clone(&vm);
        let step = move |_| {
            seen.page
                .guest(0)
                .expect("guest")
                .critical
                .store(critical, SeqCst);
            ask(&seen, me);
            if force {
                let line = seen.table.vcpu_line(me);
                line.force.store(line.park_req.load(SeqCst), SeqCst);
            }
            Exit::Interrupted
        };
        let watcher = end_when_parked(&vm, me);
        live_granted(&vm, &mut bridge, fake(step));
        watcher.join().expect("watcher");
        let line = vm.table.vcpu_line(me);
        assert_eq!(
            (line.held.load(SeqCst), line.how.load(SeqCst)),
            (held, how),
            "{critical} {force}"
        );
    }
}

/// A thief on vCPU 0 asks for the context of `victim`, which vCPU 1's held word says is `held`.
fn steal(victim: u32, held: u32, export_fails: bool) -> (Arc<Vm>, u32) {
    let (vm, mut bridge) = setup();
    vm.table.vcpu_line(vm.handles()[1]).held.store(held, SeqCst);
    vm.page.host(0).expect("host").answer.store(77, SeqCst);
    let step = move |run| match run {
        1 => door(abi::PORT_STEAL, victim),
        _ => door(abi::PORT_EXIT, 0),
    };
    live_granted(
        &vm,
        &mut bridge,
        Fake {
            export_fails,
            ..fake(step)
        },
    );
    let after = vm.table.vcpu_line(vm.handles()[1]).held.load(SeqCst);
    (vm, after)
}

#[test]
fn only_a_siblings_held_context_is_given_to_a_thief() {
    let answer = |vm: &Vm| vm.page.host(0).expect("host").answer.load(SeqCst);
    let (vm, held) = steal(1, abi::HELD_HELD, false);
    assert_eq!((answer(&vm), held), (abi::STEAL_TAKEN, abi::HELD_TAKEN));
    for (victim, held) in [
        (0, abi::HELD_HELD),
        (2, abi::HELD_HELD),
        (u32::MAX, abi::HELD_HELD),
        (1, abi::HELD_NONE),
        (1, abi::HELD_RESUMING),
        (1, abi::HELD_TAKEN),
        (1, abi::HELD_FORCED),
    ] {
        let (vm, after) = steal(victim, held, false);
        assert_eq!(
            (answer(&vm), after),
            (abi::STEAL_NOTHING, held),
            "victim {victim}"
        );
    }
    let (vm, _) = steal(1, abi::HELD_HELD, true);
    assert!(poisoned(&vm).contains("no export"));
}

#[test]
fn a_robbed_vcpu_re_enters_in_its_own_code() {
    let (vm, mut bridge) = setup();
    let me = vm.handles()[0];
    vm.table.vcpu_line(me).held.store(abi::HELD_TAKEN, SeqCst);
    let seen = Arc::clone(&vm);
    let backend = fake(move |_| {
        assert_eq!(seen.page.guest(0).expect("guest").critical.load(SeqCst), 1);
        door(abi::PORT_EXIT, 0)
    });
    let reentries = Arc::clone(&backend.reentries);
    live_granted(&vm, &mut bridge, backend);
    assert_eq!(vm.ended(), Some(Ended::Exit(0)));
    assert_eq!(
        (reentries.load(SeqCst), vm.counters[0].get(Count::Reentered)),
        (1, 1)
    );
}

/// A kick that finds the guest as the closure has left it; its VM after that.
fn preempt(upcall: Option<u64>, at_kick: impl Fn(&Vm) + Send + 'static) -> Arc<Vm> {
    let (vm, mut bridge) = setup();
    let seen = Arc::clone(&vm);
    let step = move |run| {
        if run > 1 {
            return door(abi::PORT_EXIT, 0);
        }
        at_kick(&seen);
        Exit::Interrupted
    };
    live_granted(&vm, &mut bridge, Fake { upcall, ..fake(step) });
    vm
}

/// What the arbiter says of vCPU 0, and what its guest does.
fn slice(vm: &Vm, told: u32, switches: u32, critical: u32) {
    let guest = vm.page.guest(0).expect("guest");
    vm.table.vcpu_line(vm.handles()[0]).preempt.store(told, SeqCst);
    guest.switches.store(switches, SeqCst);
    guest.critical.store(critical, SeqCst);
}

#[test]
fn a_uthread_that_has_had_its_time_is_resumed_at_the_upcall() {
    let vm = preempt(Some(0x1234_5678_9abc), |vm| slice(vm, 7, 7, 0));
    let host = vm.page.host(0).expect("host");
    assert_eq!(host.upcall_lo.load(SeqCst), 0x5678_9abc);
    assert_eq!(host.upcall_hi.load(SeqCst), 0x1234);
    assert_eq!(vm.page.guest(0).expect("guest").critical.load(SeqCst), 1);
    let line = vm.table.vcpu_line(vm.handles()[0]);
    assert_eq!((line.preempts.load(SeqCst), line.stale.load(SeqCst)), (1, 0));
    assert_eq!(vm.counters[0].get(Count::Preempted), 1);
    assert_eq!(line.parks.load(SeqCst), 0, "it keeps its core");
}

#[test]
fn only_the_uthread_that_is_meant_is_resumed_at_the_upcall() {
    type Case = (&'static str, Option<u64>, [u32; 3], [u64; 3]);
    let cases: [Case; 5] = [
        // What the arbiter said, the guest's number, its critical word: preempted, critical, stale.
        ("it has switched since", Some(1), [7, 8, 0], [0, 0, 1]),
        ("across the wrap", Some(1), [u32::MAX, 0, 0], [0, 0, 1]),
        ("nothing has ever run", Some(1), [0, 0, 0], [0, 0, 1]),
        ("in FluxOS's own code", Some(1), [7, 7, 1], [0, 1, 0]),
        ("the image has no upcall", None, [7, 7, 0], [0, 0, 0]),
    ];
    for (what, upcall, [told, switches, critical], counts) in cases {
        let vm = preempt(upcall, move |vm| slice(vm, told, switches, critical));
        let of = |count| vm.counters[0].get(count);
        let found = [of(Count::Preempted), of(Count::Critical), of(Count::Stale)];
        assert_eq!(found, counts, "{what}");
        assert_eq!(
            vm.page.guest(0).expect("guest").critical.load(SeqCst),
            critical,
            "{what}"
        );
        assert_eq!(
            vm.table.vcpu_line(vm.handles()[0]).preempts.load(SeqCst),
            0,
            "{what}"
        );
    }
}

#[test]
fn a_request_for_the_core_goes_before_a_preemption() {
    let (vm, mut bridge) = setup();
    let me = vm.handles()[0];
    let seen = Arc::clone(&vm);
    let step = move |_| {
        slice(&seen, 7, 7, 0);
        ask(&seen, me);
        Exit::Interrupted
    };
    let watcher = end_when_parked(&vm, me);
    live_granted(&vm, &mut bridge, fake(step));
    watcher.join().expect("watcher");
    assert_eq!(vm.table.vcpu_line(me).how.load(SeqCst), abi::HOW_KICKED);
    assert_eq!(vm.table.vcpu_line(me).held.load(SeqCst), abi::HELD_HELD);
    assert_eq!(vm.counters[0].get(Count::Preempted), 0);
}
