//! Thousands of uThreads that check each other and themselves, on vCPUs that lose their cores all the time: none is
//! lost, none finds a register or a word of its stack changed, none waits for ever, and nobody is forced but by the
//! test. The guest is `apps::torture`.
//!
//! FLUX_STRESS_SECONDS says how long; see `torture/options.rs` for the rest, and `npm run torture -- --help`.

mod common;
#[path = "torture/host.rs"]
mod host;
#[path = "torture/lease.rs"]
mod lease;
#[path = "torture/options.rs"]
mod options;
#[path = "torture/report.rs"]
mod report;

use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use common::On;
use flux_abi as abi;
use host::Host;
use options::Options;
use report::Report;

/// One has the machine for itself.
static TURN: Mutex<()> = Mutex::new(());

fn torture(on: On) {
    let options = Options::read();
    if !options.wants(on) || !on.there() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let Options {
        seed,
        vcpus,
        uthreads,
        time,
        ..
    } = options;
    eprintln!("torture on {on:?}: FLUX_TORTURE_SEED={seed} has it again");
    let cmdline = format!("torture uthreads={uthreads} seed={seed}");
    let mut host = Host::start(on, vcpus, uthreads, &cmdline, seed);
    host.until_at_work();
    host.measure();
    let begun = Instant::now();
    while begun.elapsed() < time && host.vm.exit_code().is_none() {
        host.turn();
        host.look();
    }
    host.ask_to_end();
    let code = host.until_it_ends();
    let report = Report::of(&mut host, on, seed, begun.elapsed());
    eprintln!("{}", report.text);
    assert_eq!(
        (code, report.findings),
        (Some(0), 0),
        "the guest found something wrong: see above"
    );
    let summary = host.vm.page.summary();
    assert_eq!(summary.integrity_errors.load(SeqCst), 0);
    // Everybody who has waited was woken, and no timer is left.
    let sum = |word: fn(&abi::GuestVcpu) -> u32| host.vm.sum(word) as u32;
    assert_eq!(
        sum(|guest| guest.blocks.load(SeqCst)),
        sum(|guest| guest.wakes.load(SeqCst))
    );
    assert_eq!(
        summary.flags.load(SeqCst) & abi::SUMMARY_TIMER,
        0,
        "a timer is left"
    );
    // Fewer: the lease may end between a command and what comes of it.
    assert!(
        report.forced <= host.counts.forced,
        "{} forced parks, of which the test forced {}",
        report.forced,
        host.counts.forced
    );
    if !common::over_kflux() {
        // What the bridge has begun, whether the vCPU had left by itself when it came to that or not.
        let line = host.arbiter.table.vm(host.vm.slot).expect("slot");
        let begun = line.forced.load(SeqCst) + line.forced_descheduled.load(SeqCst);
        assert_eq!(
            u64::from(begun),
            host.counts.forces,
            "forces that nobody commanded"
        );
    }
    let happened = [
        report.asked,
        report.kicked,
        report.taken,
        report.moved,
        host.counts.grants,
        host.counts.moves,
    ];
    assert!(
        happened.iter().all(|count| *count > 0),
        "there was no storm: {happened:?}"
    );
    // A kFlux of an earlier minor ends no time slice.
    let ended = host.counts.preempts == 0 || report.preempted > 0;
    assert!(ended, "time slices were to be ended, and none was");
}

#[test]
fn uthreads_in_a_storm_on_kvm() {
    torture(On::Kvm);
}

#[test]
fn uthreads_in_a_storm_hosted() {
    torture(On::Hosted);
}
