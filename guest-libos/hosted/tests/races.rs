//! The races that are known of Caladan's ksched, each named after the commit that mended it there, as they
//! would be in FluxOS and Fluxion. `docs/debugging.md` says where each of them is looked for besides.

mod common;

use std::fs;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use common::{over_kflux, until, Arbiter, On, Vm};
use flux_abi as abi;
use handoff::bridge::{FLAG_KICK_NOW, OP_PARK};
use handoff::linux::kick_signal;

fn everywhere(race: impl Fn(On)) {
    for on in [On::Hosted, On::Kvm] {
        if on.there() {
            race(on);
        }
    }
}

/// Grants until it is not refused any more.
fn grant(arbiter: &mut Arbiter, core: u32, vm: &Vm) -> u32 {
    let mut refused = 0;
    until("a grant", || {
        arbiter.bridge.poll();
        let result = arbiter.grant(core, vm.handle(0));
        assert!(
            [0, -libc::EBUSY, -libc::ESRCH, -libc::EAGAIN, -libc::EALREADY].contains(&result),
            "{result}"
        );
        refused += u32::from(result != 0);
        result == 0
    });
    refused
}

fn works(vm: &Vm) {
    let before = vm.done();
    until("work to go on", || vm.done() != before);
    assert_eq!(vm.page.summary().integrity_errors.load(SeqCst), 0);
}

/// Waking a thread that had not fully left made a core idle for ever. A vCPU is granted again the moment it was
/// told to park, on another core if there is one, over and over: it runs each time.
#[test]
fn ksched_5c764aa_a_grant_crosses_the_park_that_it_follows() {
    everywhere(|on| {
        let mut arbiter = Arbiter::new();
        let vm = arbiter.start(on, 8, 1, "batch uthreads=8", &[]);
        let cores = arbiter.cores.clone();
        let mut refused = 0;
        for round in 0..300 {
            refused += grant(&mut arbiter, cores[round % cores.len()], &vm);
            let flags = [0, FLAG_KICK_NOW][round % 2];
            let owner = u32::from(vm.handle(0).raw());
            arbiter.command(OP_PARK, cores[round % cores.len()], owner, 0, flags);
        }
        grant(&mut arbiter, cores[0], &vm);
        eprintln!("{on:?}: {refused} grants came before the vCPU was parked, and were refused");
        works(&vm);
        arbiter.park_all(&[&vm]);
    });
}

/// A grant before the thread had come to wait lost the core: never parked is not parked. vCPUs are granted from the
/// moment on when their VM can be named.
#[test]
fn ksched_58588d7_a_grant_before_the_first_entry() {
    everywhere(|on| {
        for _ in 0..10 {
            let mut arbiter = Arbiter::new();
            let vm = arbiter.start(on, 9, 2, "batch uthreads=4", &[]);
            let core = arbiter.cores[0];
            assert_ne!(arbiter.state(vm.handle(1)), abi::VCPU_RUNNING);
            let refused = grant(&mut arbiter, core, &vm);
            works(&vm);
            assert_eq!(arbiter.owner(core), Some(vm.handle(0)), "refused {refused} times");
            arbiter.park_all(&[&vm]);
        }
    });
}

/// A signal to a task that was exiting: the vCPU is kicked while its guest ends the VM, which it does with its
/// code, and the core is free.
#[test]
fn ksched_362529a_a_kick_of_a_thread_that_ends() {
    everywhere(|on| {
        for round in 0..15 {
            let mut arbiter = Arbiter::new();
            let mut vm = arbiter.start(on, 10, 1, "probe mode=exit code=7", &[]);
            let core = arbiter.cores[0];
            grant(&mut arbiter, core, &vm);
            let owner = u32::from(vm.handle(0).raw());
            let mut code = None;
            until("the VM to end", || {
                arbiter.command(OP_PARK, core, owner, 0, FLAG_KICK_NOW);
                arbiter.bridge.poll();
                if arbiter.owner(core).is_none() {
                    arbiter.grant(core, vm.handle(0));
                }
                code = vm.exit_code();
                code.is_some()
            });
            assert_eq!(code, Some(7), "round {round} on {on:?}");
            until("the core to be free", || {
                arbiter.bridge.poll();
                arbiter.bridge.reap(10);
                arbiter.owner(core).is_none()
            });
        }
    });
}

/// The threads of a process that are vCPUs.
fn threads(vm: &Vm) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", vm.pid())).expect("our child");
    tasks
        .filter_map(|task| {
            let path = task.ok()?.path();
            let name = fs::read_to_string(path.join("comm")).ok()?;
            let id = path.file_name()?.to_str()?.parse().ok()?;
            name.starts_with("vcpu").then_some(id)
        })
        .collect()
}

fn signal(vm: &Vm, thread: i32) {
    // SAFETY: a signal to a thread of our own child.
    unsafe { libc::syscall(libc::SYS_tgkill, vm.pid(), thread, kick_signal()) };
}

/// Kicks that nobody has asked for, and such as come after what they were for is over, are recognised by the
/// request's generation: the vCPU keeps its core, and its uThread its registers.
#[test]
fn ksched_e4335b0_31101ff_a_stale_or_foreign_kick_parks_nobody() {
    if over_kflux() {
        return; // There the kick is no signal.
    }
    everywhere(|on| {
        let mut arbiter = Arbiter::new();
        let vm = arbiter.start(on, 11, 1, "probe mode=spin", &[]);
        let core = arbiter.cores[0];
        // One true request, so that a stale one has something to be confused with.
        grant(&mut arbiter, core, &vm);
        works(&vm);
        arbiter.park_all(&[&vm]);
        grant(&mut arbiter, core, &vm);
        works(&vm);
        let grants = vm.page.host(0).grant_gen.load(SeqCst);
        let threads = threads(&vm);
        assert_eq!(threads.len(), 1);
        for _ in 0..500 {
            signal(&vm, threads[0]);
            std::thread::sleep(Duration::from_micros(50));
        }
        works(&vm);
        assert_eq!(arbiter.owner(core), Some(vm.handle(0)));
        assert_eq!(arbiter.state(vm.handle(0)), abi::VCPU_RUNNING);
        assert_eq!(vm.page.host(0).grant_gen.load(SeqCst), grants, "it was parked");
        // And a parked one is not woken by them.
        arbiter.park_all(&[&vm]);
        let done = vm.done();
        for _ in 0..100 {
            signal(&vm, threads[0]);
            std::thread::sleep(Duration::from_micros(50));
        }
        assert_eq!(vm.done(), done, "a parked vCPU ran");
        assert_eq!(arbiter.state(vm.handle(0)), abi::VCPU_PARKED);
    });
}
