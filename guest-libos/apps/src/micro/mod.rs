//! `micro`: FluxOS's part of `hyperflux bench uthreads`.
//!
//! It is told by the request ring what to measure: `due_lo` is the [`hash`] of a row's name,
//! `service_ns` the number of operations in a sample, `fanout` the number of samples. There is one
//! request at a time. The samples, each the nanoseconds of all its operations together, go where
//! other guests put completions, from entry 0 on; the last entry of all is the answer: `wait` says
//! how it went ([`OK`] and the others), and `seq_plus_1` is written last, the request's number plus 1.
//!
//! Nothing here decides how an operation is counted but the row itself, and its twins in
//! bench/uthreads/rivals do the same in the same number of steps: who changes one changes all.

mod basic;
mod locks;
mod quicksort;
mod sort;
mod timed;
mod wakes;

use core::sync::atomic::Ordering;

use flux_abi::RING_ENTRIES;
use libos::sync::JoinError;
use libos::uthread::{kernel, NoSlot};
use libos::work::{Source, Work};

use crate::cmdline::{Args, BadArgs};

/// How a request went.
pub const OK: u32 = 0;
/// There is no row whose name has that hash.
pub const NO_ROW: u32 = 1;
/// The VM has too few stacks for that row.
pub const NO_STACKS: u32 = 2;
/// The row needs two vCPUs.
pub const NO_VCPUS: u32 = 3;
/// The request makes no sense.
pub const BAD_REQUEST: u32 = 4;
/// The VM has too little memory for that row.
pub const NO_MEMORY: u32 = 5;
/// The row's own check failed: something did not happen, or happened twice.
pub const WRONG: u32 = 6;

/// Why a sample could not be taken: one of the numbers above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(u32);

impl From<NoSlot> for Refused {
    fn from(_: NoSlot) -> Refused {
        Refused(NO_STACKS)
    }
}

impl From<JoinError> for Refused {
    fn from(_: JoinError) -> Refused {
        Refused(WRONG)
    }
}

/// Takes a number of operations; the nanoseconds of all of them together.
type Row = fn(u32) -> Result<u64, Refused>;

const ROWS: &[(&str, Row)] = &[
    ("floor", basic::floor),
    ("clock", basic::clock),
    ("spawn", basic::spawn),
    ("yield", basic::give_way),
    ("fan", basic::fan),
    ("mutex", locks::mutex),
    ("condvar", locks::condvar),
    ("semaphore", locks::semaphore),
    ("baton", locks::baton),
    ("timed", timed::timed),
    ("late", timed::late),
    ("wake", wakes::wake),
    ("steal", wakes::steal),
    ("sort", sort::sort),
];

/// FNV-1a: a request has room for numbers, not for names.
pub const fn hash(name: &str) -> u32 {
    let bytes = name.as_bytes();
    let (mut hash, mut i) = (0x811c_9dc5u32, 0);
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

struct Rows;

static ROWS_SOURCE: &dyn Source = &Rows;
const ANSWER: u32 = RING_ENTRIES as u32 - 1;

/// Waits for requests; the calling uThread ends.
pub fn start(args: Args<'static>) -> Result<(), BadArgs<'static>> {
    args.only(&[])?;
    kernel().serve_from(&ROWS_SOURCE);
    Ok(())
}

impl Source for Rows {
    fn pending(&self) -> bool {
        let page = kernel().page;
        // Acquire pairs with the driver's store of the tail: the entry below it is written.
        let tail = page.ring().tail.load(Ordering::Acquire);
        tail != page.summary().ring_head.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Work> {
        let page = kernel().page;
        let summary = page.summary();
        let head = summary.ring_head.load(Ordering::Relaxed);
        // Acquire: as above.
        if page.ring().tail.load(Ordering::Acquire) == head {
            return None;
        }
        let entry = page.request(head);
        let work = [
            head,
            entry.service_ns.load(Ordering::Relaxed),
            entry.fanout.load(Ordering::Relaxed),
            entry.due_lo.load(Ordering::Relaxed),
            0,
            0,
            0,
            0,
        ];
        // Release, so that the reads stay above. Nobody waits for the entry but the driver, which
        // waits for the answer.
        summary
            .ring_head
            .compare_exchange(head, head.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
            .then(|| {
                summary.seq.fetch_add(1, Ordering::Release);
                work
            })
    }

    fn run(&self, work: Work) {
        let [seq, ops, samples, row, ..] = work;
        let outcome = match block(row, samples, ops) {
            Ok(()) => OK,
            Err(Refused(why)) => why,
        };
        let answer = kernel().page.completion(ANSWER);
        answer.wait.store(outcome, Ordering::Relaxed);
        // Release, last; pairs with the driver's load: the samples are there.
        answer.seq_plus_1.store(seq.wrapping_add(1), Ordering::Release);
    }
}

fn block(row: u32, samples: u32, ops: u32) -> Result<(), Refused> {
    if ops == 0 || samples == 0 || samples >= ANSWER {
        return Err(Refused(BAD_REQUEST));
    }
    let (_, run) = ROWS
        .iter()
        .find(|(name, _)| hash(name) == row)
        .ok_or(Refused(NO_ROW))?;
    for i in 0..samples {
        let ns = run(ops)?;
        let entry = kernel().page.completion(i);
        entry.done_lo.store(ns as u32, Ordering::Relaxed);
        entry.done_hi.store((ns >> 32) as u32, Ordering::Relaxed);
    }
    Ok(())
}

/// Nanoseconds since a stamp of the time stamp counter.
fn ns_since(start: u64) -> u64 {
    kernel().clock.ns(libos::now().saturating_sub(start))
}

/// A reference to something on a stack, for uThreads that end before it goes.
///
/// # Safety
/// What it refers to must not be used after it is gone.
unsafe fn lasting<T>(of: &T) -> &'static T {
    // SAFETY: by the caller's promise.
    unsafe { &*core::ptr::from_ref(of) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_hashes_of_their_own() {
        // The driver computes the same ones.
        assert_eq!(hash(""), 0x811c_9dc5);
        assert_eq!(hash("yield"), 0x6c96_f2ae);
        for (i, (name, _)) in ROWS.iter().enumerate() {
            let twins = ROWS.iter().filter(|(other, _)| hash(other) == hash(name));
            assert_eq!(twins.count(), 1, "row {i}");
        }
    }
}
