//! What a VM tells of its vCPUs' time and of what its uThreads wait for.

mod vm;

use std::sync::atomic::Ordering::SeqCst;

use libos::boot::exit;
use libos::sync::Group;
use libos::time::sleep_for;
use libos::uthread::{kernel, spawn, yield_now};
use vm::Vm;

const TICKS: u64 = 20_000_000;

fn long(lo: &std::sync::atomic::AtomicU32, hi: &std::sync::atomic::AtomicU32) -> u64 {
    u64::from(lo.load(SeqCst)) | u64::from(hi.load(SeqCst)) << 32
}

fn work() {
    let start = libos::now();
    while libos::now() - start < TICKS {
        std::hint::spin_loop();
    }
}

#[test]
fn running_and_waiting_are_told_apart() {
    let vm = Vm::new(1, 16, || {
        // Both work for as long, and the second one waits for the first.
        for _ in 0..2 {
            assert!(spawn(work).is_ok());
        }
        yield_now();
        let guest = kernel().page.guest(0);
        let ran = long(&guest.ran_lo, &guest.ran_hi);
        let waited = long(&guest.waited_lo, &guest.waited_hi);
        assert!(ran >= 2 * TICKS, "{ran} ticks, two times {TICKS} were worked");
        // The second one for the first, and this one for both; in whole stamps.
        let least = 3 * (TICKS >> vm::SHIFT) - 3;
        assert!(waited >= least, "{waited} stamps waited, at least {least}");
        assert!(
            (waited << vm::SHIFT) <= 2 * ran,
            "{waited} stamps waited, {ran} ticks run"
        );
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), [""; 0]);
}

#[test]
fn who_waits_is_counted() {
    static GROUP: Group = Group::new(1);
    let vm = Vm::new(1, 16, || {
        let guest = kernel().page.guest(0);
        let waiting = || guest.blocks.load(SeqCst) - guest.wakes.load(SeqCst);
        assert!(spawn(|| GROUP.wait()).is_ok());
        assert!(spawn(|| sleep_for(1_000_000)).is_ok());
        assert_eq!(waiting(), 0);
        yield_now();
        assert_eq!(waiting() + guest.timers.load(SeqCst), 2);
        GROUP.done();
        sleep_for(2_000_000);
        assert_eq!(waiting(), 0);
        assert_eq!((guest.blocks.load(SeqCst), guest.timers.load(SeqCst)), (3, 2));
        exit(0)
    });
    vm.start(0);
    assert_eq!(vm.lines(), [""; 0]);
}
