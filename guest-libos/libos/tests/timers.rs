//! Sleeping uThreads: they wake in order, not too early, and whatever becomes of the vCPU that they
//! fell asleep on.

mod vm;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32};

use flux_abi as abi;
use libos::boot::exit;
use libos::time::{deadline_in, sleep_for, sleep_until};
use libos::uthread::{kernel, poll, spawn, yield_now};
use vm::Vm;

const MS: u64 = 1_000_000;

fn say(line: &str) {
    libos::log::info(format_args!("{line}"));
}

/// What the summary line shows of timers: whether there is one, and its stamp.
fn shown() -> (bool, u32) {
    let summary = kernel().page.summary();
    let flags = summary.flags.load(SeqCst);
    (flags & abi::SUMMARY_TIMER != 0, summary.next_timer.load(SeqCst))
}

#[test]
fn sleepers_wake_in_the_order_of_their_deadlines() {
    let vm = Vm::new(1, 16, || {
        let base = deadline_in(5 * MS);
        for (name, ms) in [("c", 3), ("a", 1), ("d", 4), ("b", 2)] {
            let deadline = base + kernel().clock.ticks(ms * MS);
            let sleeper = move || {
                sleep_until(deadline);
                assert!(libos::now() >= deadline, "woken too early");
                say(name);
                if name == "d" {
                    exit(0)
                }
            };
            assert!(spawn(sleeper).is_ok());
        }
    });
    vm.start(0);
    assert_eq!(vm.lines(), ["a", "b", "c", "d"]);
    assert_ne!(
        vm.woken_by_timer.load(SeqCst),
        0,
        "the VM was idle, and nobody but the host could wake it"
    );
}

#[test]
fn the_earliest_deadline_is_shown_to_the_host() {
    let vm = Vm::new(1, 16, || {
        assert!(!shown().0);
        let base = deadline_in(20 * MS);
        let later = base + kernel().clock.ticks(20 * MS);
        for deadline in [later, base] {
            assert!(spawn(move || sleep_until(deadline)).is_ok());
        }
        let stamp = |tsc: u64| (true, abi::stamp(tsc + (1 << vm::SHIFT) - 1, vm::SHIFT));
        yield_now();
        let first = shown();
        // A machine that stood still for so long has fired it already.
        assert!(first == stamp(base) || libos::now() >= base, "the first of two");
        sleep_until(base + 1);
        let second = shown();
        assert!(second == stamp(later) || libos::now() >= later, "the other one");
        sleep_until(later + 1);
        assert!(!shown().0, "none is left");
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), [""; 0]);
}

#[test]
fn a_deadline_far_away_is_not_taken_for_one_in_the_past() {
    let vm = Vm::new(1, 16, || {
        // More than half the range of stamps, and for ever.
        let far = libos::now() + (3u64 << (30 + vm::SHIFT));
        assert!(spawn(move || sleep_until(far)).is_ok());
        assert!(spawn(move || sleep_for(u64::MAX)).is_ok());
        yield_now();
        let (armed, stamp) = shown();
        let now = abi::stamp(libos::now(), vm::SHIFT);
        assert!(armed && abi::stamp_after(stamp, now));
        sleep_for(MS);
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), [""; 0]);
}

#[test]
fn thousands_of_timers_are_all_fired() {
    const SLEEPERS: u32 = 3000;
    static LEFT: AtomicU32 = AtomicU32::new(SLEEPERS);
    let vm = Vm::new(2, SLEEPERS + 2, || {
        for i in 0..u64::from(SLEEPERS) {
            let sleeper = move || {
                for turn in 0..3 {
                    let deadline = deadline_in(i * 7919 % 1000 * 1000 + turn * 1000);
                    sleep_until(deadline);
                    assert!(libos::now() >= deadline, "woken too early");
                }
                LEFT.fetch_sub(1, SeqCst);
            };
            assert!(spawn(sleeper).is_ok());
        }
        while LEFT.load(SeqCst) != 0 {
            sleep_for(MS);
        }
        exit(0)
    });
    vm.start(0);
    vm.start(1);
    assert_eq!(vm.lines(), [""; 0]);
}

/// The vCPU on which a timer was armed loses its core for good; another one of the VM fires it.
#[test]
fn a_parked_vcpus_timers_are_fired_by_others() {
    static WOKEN_ON: AtomicU32 = AtomicU32::new(u32::MAX);
    let vm = Vm::new(2, 16, || {
        assert_eq!(vm::vcpu(), 0, "the other one has not begun");
        let sleeper = || {
            sleep_for(MS);
            WOKEN_ON.store(vm::vcpu(), SeqCst);
            say("woken");
        };
        assert!(spawn(sleeper).is_ok());
        yield_now();
        assert!(shown().0, "it sleeps");
        say("asleep");
        let host = kernel().page.host(0);
        host.park_gen
            .store(host.settled.load(SeqCst).wrapping_add(1), SeqCst);
        poll();
        assert_eq!(vm::vcpu(), 1, "taken from the queue of the parked one");
        while WOKEN_ON.load(SeqCst) == u32::MAX {
            yield_now();
        }
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.line(), "asleep");
    vm.start(1);
    assert_eq!(vm.lines(), ["woken"]);
    assert_eq!(WOKEN_ON.load(SeqCst), 1);
    assert_eq!(vm.page.guest(0).state.load(SeqCst), abi::GUEST_PARKED);
}

/// A uThread that only ever gives way finds nobody to give way to but those whose time has come.
#[test]
fn giving_way_lets_what_is_due_run() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let vm = Vm::new(1, 16, || {
        let sleeper = || {
            sleep_for(MS);
            OVER.store(true, SeqCst);
        };
        assert!(spawn(sleeper).is_ok());
        while !OVER.load(SeqCst) {
            yield_now();
        }
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), [""; 0]);
}

#[test]
fn a_deadline_in_the_past_is_a_turn_for_the_others() {
    let vm = Vm::new(1, 16, || {
        assert!(spawn(|| say("other")).is_ok());
        sleep_until(0);
        say("back");
        assert!(!shown().0);
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), ["other", "back"]);
}
