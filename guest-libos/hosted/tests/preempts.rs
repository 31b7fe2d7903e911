//! Time slices: a uThread that never gives way by itself is made to, wherever it stands, and finds
//! every register as it was.

mod common;

use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use common::{until, Arbiter, On, Vm};
use flux_abi as abi;

/// When spinner `which` ran last, TSC; 0: never.
fn ran(vm: &Vm, which: u32) -> u64 {
    let shown = vm.page.completion(which);
    u64::from(shown.done_lo.load(SeqCst)) | u64::from(shown.done_hi.load(SeqCst)) << 32
}

fn switches(vm: &Vm, vcpu: u32) -> u32 {
    vm.page.guest(vcpu).switches.load(SeqCst)
}

fn errors(vm: &Vm) -> u32 {
    vm.page.summary().integrity_errors.load(SeqCst)
}

/// A VM of one vCPU that has the last core and spins with so many uThreads; the core.
fn spinning(on: On, uthreads: u32) -> Option<(Arbiter, Vm, u32)> {
    if !on.there() {
        return None;
    }
    let mut arbiter = Arbiter::new();
    let vm = arbiter.start(on, 2, 1, &format!("probe mode=spin uthreads={uthreads}"), &[]);
    let core = *arbiter.cores.last()?;
    until("the vCPU to be there", || {
        arbiter.state(vm.handle(0)) == abi::VCPU_PARKED
    });
    assert_eq!(arbiter.grant(core, vm.handle(0)), 0);
    until("the first to run", || ran(&vm, 0) != 0);
    Some((arbiter, vm, core))
}

/// Preempts whoever runs, once: until the vCPU has switched. What is lost is said again, as the loop
/// does.
fn preempt(arbiter: &mut Arbiter, vm: &Vm, core: u32) {
    let running = switches(vm, 0);
    let start = Instant::now();
    while switches(vm, 0) == running {
        assert!(start.elapsed() < Duration::from_secs(60), "nobody gives way");
        assert_eq!(arbiter.preempt(core, vm.handle(0), running), 0);
        let sent = Instant::now();
        while switches(vm, 0) == running && sent.elapsed() < Duration::from_millis(2) {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn uthreads_that_never_yield_share_a_vcpu_when_preempted_and_not_otherwise() {
    for on in [On::Hosted, On::Kvm] {
        let Some((mut arbiter, mut vm, core)) = spinning(on, 2) else {
            continue;
        };
        for _ in 0..20 {
            let before = ran(&vm, 0);
            until("the first to go on", || ran(&vm, 0) != before);
        }
        assert_eq!(
            ran(&vm, 1),
            0,
            "the second has no turn as long as nobody is preempted"
        );
        for _ in 0..50 {
            for which in [1, 0] {
                let (it, other) = (ran(&vm, which), ran(&vm, 1 - which));
                preempt(&mut arbiter, &vm, core);
                until("the other one to run", || ran(&vm, which) != it);
                assert!(ran(&vm, 1 - which) >= other);
            }
        }
        assert_eq!(vm.page.guest(0).preempts.load(SeqCst), 100);
        assert_eq!(errors(&vm), 0, "a register was changed");
        assert_eq!(arbiter.owner(core), Some(vm.handle(0)), "the core stays");
        assert_eq!(arbiter.table.vcpu_line(vm.handle(0)).parks.load(SeqCst), 0);
        assert_eq!(vm.stop(), Some(0));
    }
}

#[test]
fn registers_survive_ten_thousand_preemptions() {
    const PREEMPTIONS: u32 = 10_000;
    for on in [On::Hosted, On::Kvm] {
        let Some((mut arbiter, mut vm, core)) = spinning(on, 3) else {
            continue;
        };
        for _ in 0..PREEMPTIONS {
            preempt(&mut arbiter, &vm, core);
            let pause = Duration::from_nanos(arbiter.random(10_000) as u64);
            let now = Instant::now();
            while now.elapsed() < pause {
                std::hint::spin_loop();
            }
        }
        for which in 0..3 {
            let before = ran(&vm, which);
            until("each to go on", || {
                preempt(&mut arbiter, &vm, core);
                ran(&vm, which) != before
            });
        }
        assert!(vm.page.guest(0).preempts.load(SeqCst) >= PREEMPTIONS);
        let upcalls = arbiter.table.vcpu_line(vm.handle(0)).preempts.load(SeqCst);
        // The others were seen on the way out of FluxOS's code.
        assert!(upcalls > PREEMPTIONS / 2, "{upcalls} in application code");
        assert_eq!(errors(&vm), 0, "a register was changed");
        assert_eq!(vm.page.summary().uthreads.load(SeqCst), 3);
        assert_eq!(vm.stop(), Some(0));
    }
}

#[test]
fn news_of_a_uthread_that_has_left_does_nothing() {
    for on in [On::Hosted, On::Kvm] {
        let Some((mut arbiter, mut vm, core)) = spinning(on, 2) else {
            continue;
        };
        for off in [1, 2, 1 << 31, u32::MAX] {
            let running = switches(&vm, 0);
            for _ in 0..20 {
                let number = running.wrapping_sub(off);
                assert_eq!(arbiter.preempt(core, vm.handle(0), number), 0);
                let before = ran(&vm, 0);
                until("it to go on", || ran(&vm, 0) != before);
            }
            assert_eq!(switches(&vm, 0), running, "{off}");
        }
        // A number that was said too early is that of a uThread to come, if nothing else is said meanwhile:
        // the one before it is still there.
        assert_eq!(ran(&vm, 1), 0);
        assert_eq!(vm.page.guest(0).preempts.load(SeqCst), 0);
        assert_eq!(vm.stop(), Some(0));
    }
}

/// Preempts, parks, kicks and moves at random; then every uThread is there, and all go on.
fn storm(cmdline: &str, blocked: u32, check: impl Fn(&Vm)) {
    const STEPS: usize = 3_000;
    for on in [On::Hosted, On::Kvm] {
        if !on.there() {
            continue;
        }
        let mut arbiter = Arbiter::new();
        let mut vm = arbiter.start(on, 3, 3, cmdline, &[]);
        until("the guest to have begun", || {
            arbiter.anything(&[&vm], 0);
            vm.page.summary().flags.load(SeqCst) & abi::SUMMARY_BOOTED != 0 && vm.done() > 0
        });
        for _ in 0..STEPS {
            // At the same moment, in either order, or alone.
            let which = arbiter.random(4);
            if which != 0 {
                arbiter.preempt_any(&[&vm]);
            }
            if which < 2 {
                arbiter.anything(&[&vm], 0);
            }
            if which == 0 {
                arbiter.preempt_any(&[&vm]);
            }
            let pause = [0, 0, 20, 50, 100][arbiter.random(5)];
            std::thread::sleep(Duration::from_micros(pause));
        }
        arbiter.park_all(&[&vm]);
        assert_eq!(errors(&vm), 0, "{cmdline}: a register was changed");
        let alive = vm.page.summary().uthreads.load(SeqCst);
        let found = arbiter.accounted_for(&vm);
        assert!(
            found <= alive && found + blocked >= alive,
            "{cmdline}: {found} of {alive} uThreads found"
        );
        assert!(vm.sum(|guest| guest.preempts.load(SeqCst)) > 0);
        let before = vm.done();
        until("work to go on", || {
            arbiter.anything(&[&vm], 0);
            vm.done() != before
        });
        check(&vm);
        drop(arbiter);
        assert_eq!(vm.stop(), Some(0), "it stops when told to");
    }
}

#[test]
fn preempted_contexts_are_held_taken_and_whole() {
    storm("probe mode=spin uthreads=4", 0, |vm| {
        assert!(
            vm.sum(|guest| guest.taken.load(SeqCst)) > 0,
            "no held context was ever taken over"
        );
    });
}

#[test]
fn preempted_lock_holders_go_on_elsewhere() {
    // All but one of the five may be waiting for the lock.
    storm("probe mode=lock uthreads=5 hold_ns=50000", 4, |vm| {
        assert!(
            vm.sum(|guest| guest.steals.load(SeqCst)) > 0,
            "nobody was ever taken from a queue"
        );
    });
}

#[test]
fn preemption_and_yielding_do_not_get_in_each_others_way() {
    storm("batch uthreads=3 yield_every=1", 0, |_| ());
}

/// What a preemption costs the core that it happens on, for whoever chooses a quantum: from where one
/// uThread stops to where the other one goes on. Run with
/// `cargo test --release --test preempts -- --ignored --nocapture`.
#[test]
#[ignore = "prints times, which say nothing on a busy machine"]
fn costs() {
    for on in [On::Hosted, On::Kvm] {
        let Some((mut arbiter, vm, core)) = spinning(on, 2) else {
            continue;
        };
        // With two of them, each switch is to the other one.
        let (mut runs, mut waits) = (0, 1);
        let mut gaps: Vec<u64> = (0..4000)
            .map(|_| {
                let before = ran(&vm, waits);
                preempt(&mut arbiter, &vm, core);
                (runs, waits) = (waits, runs);
                let mut now = before;
                while now == before {
                    now = ran(&vm, runs);
                }
                now.saturating_sub(ran(&vm, waits))
            })
            .collect();
        gaps.sort_unstable();
        let us = |ticks: u64| ticks as f64 * 1e3 / f64::from(fluxion::clock::tsc_khz());
        let at = |share: usize| us(gaps[gaps.len() * share / 100]);
        eprintln!(
            "{on:?}: from one uThread to the other {:.1} us p10, {:.1} p50, {:.1} p90 ({} times)",
            at(10),
            at(50),
            at(90),
            gaps.len()
        );
    }
}
