//! What the scheduler costs here, for whoever changes it. Run with
//! `cargo test -p libos --release --test costs -- --ignored --nocapture`.

mod vm;

use std::time::Instant;

use libos::boot::exit;
use libos::time::sleep_until;
use libos::uthread::{kernel, spawn, yield_now};
use vm::Vm;

const TURNS: u64 = 500_000;

fn say(what: &str, begun: Instant, turns: u64) {
    let tenths = begun.elapsed().as_nanos() as u64 * 10 / turns;
    libos::log::info(format_args!("{what}: {}.{} ns", tenths / 10, tenths % 10));
}

#[test]
#[ignore = "prints times, which say nothing on a busy machine"]
fn costs() {
    let vm = Vm::new(1, 16, || {
        for _ in 0..2 {
            let other = || {
                for _ in 0..TURNS {
                    yield_now();
                }
            };
            assert!(spawn(other).is_ok());
        }
        yield_now();
        let begun = Instant::now();
        for _ in 0..TURNS / 2 {
            yield_now();
        }
        say("a switch by yielding", begun, TURNS / 2 * 3);
        while kernel()
            .page
            .summary()
            .uthreads
            .load(std::sync::atomic::Ordering::Relaxed)
            > 1
        {
            yield_now();
        }
        let begun = Instant::now();
        for _ in 0..TURNS {
            assert!(spawn(|| ()).is_ok());
            yield_now();
        }
        say("to start a uThread and see it end", begun, TURNS);
        // With somebody to run meanwhile, or it is the host's sleep that is measured.
        let other = || loop {
            yield_now();
        };
        assert!(spawn(other).is_ok());
        let begun = Instant::now();
        for _ in 0..TURNS {
            // Far enough not to have come before it sleeps.
            sleep_until(libos::now() + 500);
        }
        say(
            "to arm a timer, sleep 500 ticks beside another uThread, and be woken",
            begun,
            TURNS,
        );
        exit(0)
    });
    vm.start(0);
    vm.lines().iter().for_each(|line| println!("{line}"));
}
