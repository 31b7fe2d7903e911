//! The thread that keeps the forced-park deadline, so that no JavaScript has to.
//!
//! It looks a few times per deadline, from the table and the in-flight marks alone. A
//! park that is overdue is forced: the same kick, with the critical word ignored. A
//! victim that the host itself had kept off its core meanwhile is counted apart,
//! because that lateness is not the guest's doing. A park that was forced by command
//! before is kicked again, but counted once.

use crate::bridge::InFlight;
use crate::protocol::{self, CoreWord, World};
use crate::{linux, Handle, Table};
use flux_abi as abi;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;
use std::time::Duration;

/// A park that the thread has seen before, with the victim's CPU time at that look.
#[derive(Clone, Copy)]
struct Watched {
    since: u64,
    seen_at: u64,
    cpu_ns: Option<u64>,
}

/// Forces the park that `owner` has been asked for: the same kick as ever, with the critical word ignored.
/// Whether it is the first to force this one.
///
/// `force` names the request it is meant for. If the owner leaves and another request comes before this store,
/// that one is forced early: it was asked in the same look, and forcing harms nobody but the guest that was late
/// before.
pub(crate) fn force(table: &Table, owner: Handle) -> bool {
    let line = table.vcpu_line(owner);
    let park_req = table.park_req(owner);
    let first = line.force.swap(park_req, SeqCst) != park_req;
    linux::kick(table.vm_of(owner).pid.load(Relaxed), line.tid.load(Relaxed));
    first
}

/// Books a forced park that is the guest's own doing, or was commanded.
pub(crate) fn count_forced(table: &Table, core: u32, owner: Handle) {
    table.vm_of(owner).forced.fetch_add(1, Relaxed);
    if let Some(line) = table.core_line(core) {
        line.forced.fetch_add(1, Relaxed);
    }
}

pub struct Deadlines {
    table: Arc<Table>,
    in_flight: Arc<InFlight>,
    watched: Vec<Option<Watched>>,
}

impl Deadlines {
    pub fn new(table: Arc<Table>, in_flight: Arc<InFlight>) -> Deadlines {
        Deadlines {
            table,
            in_flight,
            watched: vec![None; abi::MAX_CORES],
        }
    }

    fn deadline_us(&self) -> u64 {
        (self.table.header().deadline_us.load(Relaxed) as u64).clamp(100, 10_000_000)
    }

    /// How long to sleep between looks: a force comes at most this much after the deadline.
    pub fn period(&self) -> Duration {
        Duration::from_micros((self.deadline_us() / 4).clamp(250, 50_000))
    }

    /// One look over the managed cores.
    pub fn look(&mut self) {
        let table = self.table.clone();
        for core in table.cores() {
            // Somebody died between handing this core on and waking its new owner: the
            // second delivery is harmless if the first is merely under way.
            protocol::repair(&*table, core);
            self.look_at(core);
        }
    }

    fn look_at(&mut self, core: u32) {
        let since = self.in_flight.since(core);
        let word = CoreWord::of(self.table.core(core));
        let owner = Handle::from_raw(word.owner).filter(|_| word.successor != abi::HANDLE_NONE);
        let (Some(owner), true) = (owner, since != 0) else {
            self.watched[core as usize] = None;
            return;
        };
        let now = linux::tsc();
        let line = self.table.vcpu_line(owner);
        let vm = self.table.vm_of(owner);
        let (pid, tid) = (vm.pid.load(Relaxed), line.tid.load(Relaxed));
        let seen = match self.watched[core as usize] {
            Some(seen) if seen.since == since => seen,
            _ => {
                let cpu_ns = linux::cpu_time_ns(pid, tid);
                self.watched[core as usize] = Some(Watched {
                    since,
                    seen_at: now,
                    cpu_ns,
                });
                return;
            }
        };
        let khz = self.table.header().tsc_khz.load(Relaxed).max(1) as u64;
        if now.saturating_sub(since) * 1000 / khz < self.deadline_us() {
            return;
        }
        if !force(&self.table, owner) {
            return;
        }
        let elapsed_ns = now.saturating_sub(seen.seen_at) * 1_000_000 / khz;
        let ran_ns = match (seen.cpu_ns, linux::cpu_time_ns(pid, tid)) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => return,
        };
        // Half of the time is generous to the guest: a spinning one has nearly all of it.
        if ran_ns < elapsed_ns / 2 {
            vm.forced_descheduled.fetch_add(1, Relaxed);
        } else {
            count_forced(&self.table, core, owner);
        }
    }
}
