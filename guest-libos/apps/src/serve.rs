//! `serve`: an open-loop request server.
//!
//! Requests appear in the VM's ring; idle vCPUs take them in the order of their numbers, and each
//! becomes a uThread that works for as long as the request says, alone or split into parts.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use flux_abi::RING_ENTRIES;
use libos::sync::Group;
use libos::uthread::{count_done, kernel, spawn, NoSlot};
use libos::work::{Source, Work};

use crate::cmdline::{Args, BadArgs};
use crate::rounds::{self, Rate};

const FANOUT_MAX: u64 = 64;

/// The server. There is one in a VM, set up before its source is made known.
struct Server {
    /// Of [`Rate`], in its raw form.
    rate: AtomicU64,
    /// For requests that do not say themselves.
    fanout: AtomicU32,
    /// Requests whose entry in the ring was not the one expected.
    strays: AtomicU32,
}

static SERVER: Server = Server {
    rate: AtomicU64::new(0),
    fanout: AtomicU32::new(1),
    strays: AtomicU32::new(0),
};
static SOURCE: &dyn Source = &SERVER;

/// Starts to serve; the calling uThread ends.
pub fn start(args: Args<'static>) -> Result<(), BadArgs<'static>> {
    args.only(&["fanout"])?;
    let fanout = args.number("fanout", 1, 1, FANOUT_MAX)?;
    let rate = Rate::measure(&kernel().clock);
    SERVER.rate.store(rate.raw(), Ordering::Relaxed);
    SERVER.fanout.store(fanout as u32, Ordering::Relaxed);
    libos::log::info(format_args!(
        "serve: fan-out {fanout}, 1000 rounds of work take {} ns",
        rate.ns_per_thousand()
    ));
    kernel().serve_from(&SOURCE);
    Ok(())
}

impl Source for Server {
    fn pending(&self) -> bool {
        let page = kernel().page;
        // Acquire pairs with the releaser's release of the tail: the entries below it are written.
        let tail = page.ring().tail.load(Ordering::Acquire);
        tail != page.summary().ring_head.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Work> {
        let page = kernel().page;
        let summary = page.summary();
        let mut head = summary.ring_head.load(Ordering::Relaxed);
        loop {
            // Acquire: as above.
            let depth = page.ring().tail.load(Ordering::Acquire).wrapping_sub(head);
            // More than the ring holds means that `head` is old by now; look again later.
            if depth == 0 || depth as usize > RING_ENTRIES {
                return None;
            }
            let entry = page.request(head);
            let work = [
                head,
                entry.service_ns.load(Ordering::Relaxed),
                entry.fanout.load(Ordering::Relaxed),
                entry.due_lo.load(Ordering::Relaxed),
                entry.due_hi.load(Ordering::Relaxed),
                entry.seq.load(Ordering::Relaxed),
                0,
                0,
            ];
            // Read before it is claimed: the entry may be used again once the head has passed it.
            // Release, so that the reads stay above; pairs with the releaser's look at the head.
            let claimed = summary.ring_head.compare_exchange(
                head,
                head.wrapping_add(1),
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            match claimed {
                Ok(_) => {
                    summary.seq.fetch_add(1, Ordering::Release);
                    return Some(work);
                }
                Err(now) => head = now,
            }
        }
    }

    fn run(&self, work: Work) {
        let begun = libos::now();
        let [seq, service_ns, fanout, due_lo, due_hi, found, ..] = work;
        if found != seq && self.strays.fetch_add(1, Ordering::Relaxed) == 0 {
            libos::log::info(format_args!(
                "serve: entry {seq} of the ring holds request {found}"
            ));
        }
        let due = u64::from(due_lo) | u64::from(due_hi) << 32;
        let parts = match fanout {
            0 => self.fanout.load(Ordering::Relaxed),
            n => n.min(FANOUT_MAX as u32),
        };
        let rate = Rate::from_raw(self.rate.load(Ordering::Relaxed));
        serve(rate.rounds(u64::from(service_ns)), parts, seq);
        complete(seq, begun.saturating_sub(due));
        count_done();
    }
}

/// Does the work, in `parts` uThreads, this one included.
fn serve(all: u64, parts: u32, seed: u32) {
    if parts <= 1 {
        rounds::run(all, u64::from(seed));
        return;
    }
    let each = all / u64::from(parts);
    let group = Group::new(parts - 1);
    // The parts keep the group's address. It stays good until `wait` returns, which is when the
    // last of them has let go of it.
    let at = &raw const group as usize;
    for part in 1..parts {
        let work = move || {
            rounds::run(each, u64::from(seed) << 8 | u64::from(part));
            // SAFETY: `serve` does not return before the group's last part is done.
            unsafe { (*(at as *const Group)).done() };
        };
        // Out of stacks: this uThread does the part itself.
        if spawn(work) == Err(NoSlot) {
            work();
        }
    }
    rounds::run(all - each * u64::from(parts - 1), u64::from(seed) << 8);
    group.wait();
}

fn complete(seq: u32, waited: u64) {
    let entry = kernel().page.completion(seq);
    let done = libos::now();
    entry
        .wait
        .store(u32::try_from(waited).unwrap_or(u32::MAX), Ordering::Relaxed);
    entry.done_lo.store(done as u32, Ordering::Relaxed);
    entry.done_hi.store((done >> 32) as u32, Ordering::Relaxed);
    // Release, last; pairs with the releaser's acquire.
    entry.seq_plus_1.store(seq.wrapping_add(1), Ordering::Release);
}
