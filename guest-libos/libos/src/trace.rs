//! The trace: what the scheduler did, in a ring in the control page that who traces reads.
//!
//! Off, which it is unless the host says otherwise at run time, an event costs one load of a line
//! that the host hardly ever writes, and a branch that is not taken.

use core::cell::Cell;
use core::sync::atomic::{fence, Ordering};

use arch::clock::tsc;
use flux_abi::{
    TraceRecord, TRACE_AHEAD, TRACE_BACK, TRACE_BLOCK, TRACE_EXIT, TRACE_FRONT, TRACE_PREEMPT, TRACE_RECORDS,
    TRACE_TIME_SHIFT,
};
use sched::Id;

use crate::vcpu::{After, Local};

pub(crate) use flux_abi::{
    TRACE_PARK, TRACE_RESUME, TRACE_RUN, TRACE_SPAWN, TRACE_STEAL, TRACE_TAKE, TRACE_WAKE, TRACE_YIELD,
};

/// Where a vCPU is in its ring. Its own alone, so a cell.
#[derive(Debug, Default)]
pub(crate) struct Position(Cell<u32>);

impl Position {
    /// Writes a record; `record` gives the one with a number.
    fn write<'a>(&self, record: impl FnOnce(u32) -> &'a TraceRecord, now: u64, what: u32, uthread: Id) {
        let seq = self.0.get();
        self.0.set(seq.wrapping_add(1));
        let record = record(seq);
        record.seq_plus_1.store(0, Ordering::Relaxed);
        // Pairs with the reader's second look: if it has seen anything of what follows, it sees
        // the 0, or what comes after it.
        fence(Ordering::Release);
        record
            .time
            .store((now >> TRACE_TIME_SHIFT) as u32, Ordering::Relaxed);
        record.what.store(what, Ordering::Relaxed);
        record.uthread.store(uthread, Ordering::Relaxed);
        // Pairs with the reader's first look, an acquire: the record is whole.
        record.seq_plus_1.store(seq.wrapping_add(1), Ordering::Release);
    }
}

/// The place in a ring of the record with this number.
pub(crate) const fn place(seq: u32) -> usize {
    (seq % TRACE_RECORDS) as usize
}

/// Whether events are recorded at `now`, both in stamps.
const fn wanted(until: u32, now: u32) -> bool {
    let ahead = until.wrapping_sub(now);
    until != 0 && ahead != 0 && ahead < TRACE_AHEAD
}

impl Local {
    /// An event of this vCPU's, with a number of 24 bits, about a uThread or none. `critical` is
    /// set.
    #[inline(always)]
    pub(crate) fn trace(&self, event: u32, number: u32, uthread: Id) {
        let until = self.host.trace_until.load(Ordering::Relaxed);
        if until != 0 {
            self.trace_until(until, event, number, uthread);
        }
    }

    #[cold]
    #[inline(never)]
    fn trace_until(&self, until: u32, event: u32, number: u32, uthread: Id) {
        let (now, page) = (tsc(), self.kernel().page);
        if wanted(until, flux_abi::stamp(now, page.header().stamp_shift)) {
            let what = event | number << 8;
            self.traced
                .write(|seq| page.trace_record(self.id, seq), now, what, uthread);
        }
    }
}

impl After {
    /// What the trace calls it.
    pub(crate) fn event(&self) -> u32 {
        match self {
            After::Back => TRACE_BACK,
            After::Preempt => TRACE_PREEMPT,
            After::Front | After::Cede => TRACE_FRONT,
            After::Exit => TRACE_EXIT,
            _ => TRACE_BLOCK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU32;

    fn ring() -> Vec<TraceRecord> {
        let word = || AtomicU32::new(0);
        (0..TRACE_RECORDS)
            .map(|_| TraceRecord {
                seq_plus_1: word(),
                time: word(),
                what: word(),
                uthread: word(),
            })
            .collect()
    }

    #[test]
    fn the_oldest_record_is_overwritten() {
        let (ring, position) = (ring(), Position::default());
        for i in 0..TRACE_RECORDS + 3 {
            let now = u64::from(i) << TRACE_TIME_SHIFT;
            position.write(|seq| &ring[place(seq)], now, TRACE_RUN | i << 8, i);
        }
        let read = |at: usize| {
            let record = &ring[at];
            [&record.seq_plus_1, &record.time, &record.what, &record.uthread]
                .map(|word| word.load(Ordering::Relaxed))
        };
        let n = TRACE_RECORDS;
        assert_eq!(read(2), [n + 3, n + 2, TRACE_RUN | (n + 2) << 8, n + 2]);
        assert_eq!(read(3), [4, 3, TRACE_RUN | 3 << 8, 3]);
    }

    #[test]
    fn numbers_wrap() {
        let (ring, position) = (ring(), Position(Cell::new(u32::MAX)));
        for _ in 0..2 {
            position.write(|seq| &ring[place(seq)], 0, TRACE_RUN, 1);
        }
        assert_eq!(ring[0].seq_plus_1.load(Ordering::Relaxed), 1);
        assert_eq!(ring[place(u32::MAX)].seq_plus_1.load(Ordering::Relaxed), 0);
        assert_eq!(ring[place(u32::MAX)].what.load(Ordering::Relaxed), TRACE_RUN);
    }

    #[test]
    fn tracing_ends_by_itself() {
        for now in [0, 5, u32::MAX - 3, 0x8000_0000] {
            assert!(!wanted(0, now));
            assert!(!wanted(now, now));
            assert!(wanted(now.wrapping_add(1), now) || now == u32::MAX);
            assert!(wanted(now.wrapping_add(TRACE_AHEAD - 1), now));
            assert!(!wanted(now.wrapping_add(TRACE_AHEAD), now));
            assert!(!wanted(now.wrapping_sub(1), now));
        }
    }
}
