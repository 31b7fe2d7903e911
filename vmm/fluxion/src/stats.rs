//! Exit counters, per vCPU and reason: what a guest costs its host, and why.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use flux_abi::protocol::VcpuStats;

/// Why a vCPU came out of the guest, or what became of it then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Entries,
    Park,
    Yield,
    Steal,
    Taken,
    Log,
    Doorbell,
    Interrupted,
    Stale,
    Critical,
    Preempted,
    Kicked,
    Forced,
    Reentered,
    Blocked,
    Exit,
    Panic,
    Failed,
}

/// Every counter with its name, in the order of `Count`.
const NAMES: [&str; 18] = [
    "entries",     // times the guest was entered
    "park",        // park doors
    "yield",       // yield doors
    "steal",       // steal doors
    "taken",       // of those, answered with a context
    "log",         // log doors
    "doorbell",    // doorbells that came as an exit
    "interrupted", // kicks that found the guest
    "stale",       // of those, over when they arrived
    "critical",    // of those, left to the guest to honour
    "preempted",   // of those, resumed at the upcall: a time slice was over
    "kicked",      // of those, parked by the host
    "forced",      // of those, parked by force
    "reentered",   // returns to the scheduler after the context was taken
    "blocked",     // waits for the doorbell while unmanaged
    "exit",        // exit doors
    "panic",       // panic doors
    "failed",      // exits that poisoned the VM
];

/// The counters of one vCPU. Written by its thread, read by anyone.
#[derive(Debug)]
pub struct ExitCounters {
    counts: [AtomicU64; NAMES.len()],
}

impl Default for ExitCounters {
    fn default() -> Self {
        ExitCounters {
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl ExitCounters {
    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub fn add(&self, what: Count, n: u64) {
        let counter = &self.counts[what as usize];
        // One writer, so no read-modify-write is needed; readers only want a recent value.
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub fn get(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    pub fn message(&self) -> VcpuStats {
        VcpuStats {
            reasons: NAMES.map(String::from).to_vec(),
            counts: self.counts.iter().map(|c| c.load(Ordering::Relaxed)).collect(),
        }
    }
}

/// A table of all counters that are not 0, a column for each vCPU.
pub fn table(vcpus: &[ExitCounters]) -> String {
    let mut text = format!("{:<12}", "exits");
    for v in 0..vcpus.len() {
        let _ = write!(text, "{:>12}", format!("vCPU {v}"));
    }
    text.push_str("       total\n");
    for (i, name) in NAMES.iter().enumerate() {
        let row: Vec<u64> = vcpus
            .iter()
            .map(|v| v.counts[i].load(Ordering::Relaxed))
            .collect();
        let total: u64 = row.iter().sum();
        if total == 0 {
            continue;
        }
        let _ = write!(text, "{name:<12}");
        for count in row.iter().chain([&total]) {
            let _ = write!(text, "{count:>12}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_have_their_names() {
        let counters = ExitCounters::default();
        counters.count(Count::Failed);
        counters.count(Count::Yield);
        counters.count(Count::Yield);
        let message = counters.message();
        let of = |name| message.counts[message.reasons.iter().position(|r| r == name).expect("named")];
        assert_eq!((of("failed"), of("yield"), of("park")), (1, 2, 0));
        let text = table(&[counters, ExitCounters::default()]);
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(
            text.contains("vCPU 1") && text.lines().nth(1).is_some_and(|l| l.starts_with("yield")),
            "{text}"
        );
    }
}
