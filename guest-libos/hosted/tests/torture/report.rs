//! What a run came to.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use crate::common::On;
use crate::host::Host;

/// The sum over all vCPUs of one of Fluxion's counters, of the table that it prints when the VM ends.
pub fn counted(log: &str, name: &str) -> u64 {
    log.lines()
        .filter_map(|line| {
            let at = line.find(&format!("{name} "))?;
            let words: Vec<&str> = line[at..].split_whitespace().collect();
            let numbers = words.iter().skip(1).map(|word| word.parse::<u64>().ok());
            let numbers: Option<Vec<u64>> = numbers.collect();
            numbers.filter(|numbers| numbers.len() > 1)?.last().copied()
        })
        .next_back()
        .unwrap_or(0)
}

/// A figure of the guest's last line about itself.
pub fn told(log: &str, name: &str) -> u64 {
    let line = log
        .lines()
        .rfind(|line| line.contains("torture: ms="))
        .unwrap_or("");
    let word = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix(&format!("{name}=")));
    word.and_then(|value| value.parse().ok()).unwrap_or(0)
}

pub struct Report {
    pub forced: u64,
    pub kicked: u64,
    pub asked: u64,
    pub taken: u64,
    pub moved: u64,
    pub preempted: u64,
    pub findings: u64,
    pub text: String,
}

impl Report {
    pub fn of(host: &mut Host, on: On, seed: u64, took: Duration) -> Report {
        let log = host.log.whole();
        let vm = &host.vm;
        let sum = |word: fn(&flux_abi::GuestVcpu) -> u32| vm.sum(word);
        let (asked, taken) = (
            sum(|guest| guest.parks.load(SeqCst)),
            sum(|guest| guest.taken.load(SeqCst)),
        );
        let preempted = sum(|guest| guest.preempts.load(SeqCst));
        let (kicked, forced) = (counted(&log, "kicked"), counted(&log, "forced"));
        let counts = &host.counts;
        let text = format!(
            "torture on {on:?}, seed {seed}: {} uThreads on {} vCPUs and {} cores, {:.0} s, a cycle of {:.1} us\n\
             \x20 host:  {} grants, {} parks, {} moves, {} heirs, {} forces, {} preemptions, {} arbiters\n\
             \x20 parks: {asked} asked, {kicked} kicked, {forced} forced ({} by the test), {} yields\n\
             \x20 guest: {} steps, {} register holds ({} moved in between), {} dives, {} sleeps, {} time-outs, {} \
             children, {taken} taken, {} steals, {} gave way, {} switches, {} timers\n\
             \x20 wrong: {} findings, {} integrity errors",
            told(&log, "uthreads"),
            vm.vcpus,
            host.arbiter.cores.len(),
            took.as_secs_f64(),
            host.microseconds(host.cycle),
            counts.grants,
            counts.parks,
            counts.moves,
            counts.heirs,
            counts.forces,
            counts.preempts,
            counts.leases,
            counts.forced,
            sum(|guest| guest.yields.load(SeqCst)),
            told(&log, "steps"),
            told(&log, "holds"),
            told(&log, "moved"),
            told(&log, "dives"),
            told(&log, "sleeps"),
            told(&log, "lapses"),
            told(&log, "children"),
            sum(|guest| guest.steals.load(SeqCst)),
            preempted,
            sum(|guest| guest.switches.load(SeqCst)),
            sum(|guest| guest.timers.load(SeqCst)),
            told(&log, "findings"),
            vm.page.summary().integrity_errors.load(SeqCst),
        );
        Report {
            forced,
            kicked,
            asked,
            taken,
            moved: told(&log, "moved"),
            preempted,
            findings: told(&log, "findings"),
            text,
        }
    }
}
