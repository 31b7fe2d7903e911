//! The life of a vCPU's thread, generic over what runs the guest.
//!
//! ```text
//!   wait for a core ──▶ look (enter) ──▶ held context ──▶ run ──▶ door or kick ──▶ run again
//!        ▲                 │ asked already                            │ yield, park, force
//!        └─────────────────┴──────────────── leave ◀──────────────────┘
//! ```
//!
//! Between being woken and the guest, and between the guest and the hand-over, there is no system call
//! but those of the backend's `run` and of the hand-over itself, no allocation and no log line.
//!
//! Where kFlux moves the cores, a kick's way through this picture is inside `run`: the kernel holds the context,
//! hands the core over and sleeps, and what comes back is what the wait for a core would have said.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::Arc;

use flux_abi as abi;
use handoff::{linux, Enter, Handle, How, Left, Table, Woken};

use crate::backend::{Backend, Exit, Failure};
use crate::doors::Doors;
use crate::park;
use crate::stats::Count;
use crate::vm::{Ended, Vm};

/// What to do after an exit.
pub(crate) enum Next {
    /// Into the guest again.
    Run,
    /// The core is gone, or the thread's standing has changed: wait.
    Wait,
    /// It was waited for inside `run` already, and this came of it.
    Left(Woken),
    /// The VM ends.
    End,
}

/// One vCPU with its thread's private state.
pub(crate) struct Life<'a, B> {
    pub vm: &'a Vm,
    pub me: Handle,
    pub id: u32,
    pub host: &'a abi::HostVcpu,
    pub guest: &'a abi::GuestVcpu,
    pub line: &'a abi::Vcpu,
    pub backend: B,
    pub doors: Doors,
    /// What `host.settled` was last set to; the line itself is not read back.
    settled: u32,
    grants: u32,
    /// The kick that this vCPU left its core for is still to be taken.
    pub kick_pending: bool,
    /// Whether the words and stamps of `line` are this thread's to write.
    pub writes_words: bool,
    /// How it left its core last, for the call that waits for the next one.
    left_by: How,
    /// The kicks that kFlux had found stale by the last look at them.
    stale_seen: u32,
    /// Since it was last woken, the guest was told that no arbiter manages it.
    told_unmanaged: bool,
}

/// Lives the life of vCPU `id`, on the calling thread, until the VM ends.
///
/// The thread must have said `Seat::ready`. On return its vCPU is DEAD and its core, if it had one, has
/// been handed on, whatever happened, a panic included.
pub fn live<B: Backend>(vm: &Arc<Vm>, id: u32, backend: B) {
    let Some(&me) = vm.handles().get(id as usize) else {
        return;
    };
    let (Some(host), Some(guest)) = (vm.page.host(id), vm.page.guest(id)) else {
        return;
    };
    let line = vm.table.vcpu_line(me);
    let doors = Doors::default();
    let mut life = Life {
        vm,
        me,
        id,
        host,
        guest,
        line,
        backend,
        doors,
        settled: 0,
        grants: 0,
        kick_pending: false,
        writes_words: vm.seat.writes_words(),
        left_by: How::Entry,
        stale_seen: 0,
        told_unmanaged: false,
    };
    // The state that a panic could leave half-changed is this thread's own and is not looked at again.
    if panic::catch_unwind(AssertUnwindSafe(|| life.go())).is_err() {
        vm.end(Ended::Poisoned(format!(
            "the thread of vCPU {id} failed inside Fluxion; please report this"
        )));
    }
    vm.seat.poison(vm, me);
    host.held.store(0, SeqCst);
    vm.thread_ended();
}

impl<B: Backend> Life<'_, B> {
    pub(crate) fn table(&self) -> &Table {
        &self.vm.table
    }

    fn go(&mut self) {
        let mut next = Next::Wait;
        // Looked at after this thread became PARKED and before it sleeps; pairs with Vm::end.
        while !self.vm.ending() {
            let woken = match next {
                Next::Left(woken) => woken,
                _ => match self.vm.seat.wait(self.table(), self.me, self.left_by) {
                    Ok(woken) => woken,
                    Err(e) => {
                        self.fail(&Failure::new(e.to_string()));
                        return;
                    }
                },
            };
            self.told_unmanaged = false;
            match woken {
                Woken::Dead => return,
                Woken::Unmanaged => {}
                Woken::Granted { core } => {
                    self.grants = self.grants.wrapping_add(1);
                    self.host.core.store(core, Relaxed);
                    // Release, so that the guest that reads the number sees the core that goes with it.
                    self.host.grant_gen.store(self.grants, Release);
                }
            }
            next = self.tenure();
            if let Next::End = next {
                return;
            }
        }
    }

    /// From the moment there is a core, or no arbiter, until that changes.
    fn tenure(&mut self) -> Next {
        if std::mem::take(&mut self.kick_pending) {
            self.backend.consume_kick();
        }
        if self.vm.ending() {
            return Next::End;
        }
        let before = self.line.park_req.load(SeqCst);
        match handoff::enter(self.table(), self.me) {
            Enter::Go { settled } => self.settle(settled),
            Enter::Leave => return self.leave(How::Entry),
            Enter::Unmanaged => self.unmanaged(before),
            Enter::Dead => return Next::End,
        }
        // After the look: a vCPU that is to leave at once leaves its held context for others to take.
        match park::resume(self) {
            Ok(true) => {}
            Ok(false) => return Next::End,
            Err(failure) => return self.fail(&failure),
        }
        let mut entered = linux::tsc();
        if self.writes_words {
            self.line.t_enter.store(entered, Relaxed);
        }
        loop {
            if self.writes_words {
                // For whoever asks how long it has run: a guest that spins makes no exits.
                self.line.entered_tsc.store(entered, Relaxed);
            }
            let exit = self.backend.run();
            let seen = linux::tsc();
            self.book(entered, seen);
            let next = match exit {
                Exit::Door { port, arg } => self.door(port, arg, seen),
                Exit::Interrupted => self.interrupted(seen),
                Exit::Left(woken) => Next::Left(woken),
                Exit::Failed(failure) => self.fail(&failure),
            };
            match next {
                Next::Run if self.vm.ending() => return Next::End,
                Next::Run => entered = linux::tsc(),
                other => return other,
            }
        }
    }

    /// Books what a run came to: by this thread's own clock, or by what kFlux says of it, which then also keeps
    /// the meter of time in the guest.
    fn book(&mut self, entered: u64, seen: u64) {
        match self.backend.turn() {
            Some(turn) => self.book_turn(&turn),
            None => {
                if self.writes_words {
                    self.line.entered_tsc.store(0, Relaxed);
                }
                self.vm.add_used(seen.saturating_sub(entered));
                self.count(Count::Entries);
            }
        }
    }

    fn book_turn(&mut self, turn: &abi::KfTurn) {
        if turn.guest_tsc != 0 {
            self.add(Count::Entries, 1 + u64::from(turn.kicks));
        }
        if turn.kicks != 0 {
            self.add(Count::Interrupted, turn.kicks.into());
            // Those that were over when they came are counted in its page as well; the others met FluxOS's code.
            let stale = self.line.stale.load(Relaxed);
            let over = stale.wrapping_sub(self.stale_seen).min(turn.kicks);
            self.stale_seen = stale;
            self.add(Count::Stale, over.into());
            self.add(Count::Critical, (turn.kicks - over).into());
        }
        match turn.left {
            abi::HOW_KICKED => self.count(Count::Kicked),
            abi::HOW_FORCED => {
                self.count(Count::Forced);
                self.vm.add_forced(false);
            }
            // Its thread was not on a core to hear of the deadline.
            abi::HOW_TAKEN => {
                self.count(Count::Forced);
                self.vm.add_forced(true);
            }
            _ => return,
        }
        self.count(Count::Interrupted);
    }

    pub fn add(&self, what: Count, n: u64) {
        if let Some(counters) = self.vm.counters.get(self.id as usize) {
            counters.add(what, n);
        }
    }

    pub fn count(&self, what: Count) {
        self.add(what, 1);
    }

    /// Tells the guest that all park requests up to this one are over.
    pub(crate) fn settle(&mut self, settled: u32) {
        if settled != self.settled {
            self.settled = settled;
            // Pairs with the guest's look at park_gen and settled, which comes after this thread has entered it.
            self.host.settled.store(settled, Release);
        }
    }

    /// No arbiter manages this vCPU: no request up to `settled` counts any more. That was read before the look
    /// that said so: one that recalls the vCPU changes its word first (see `lease::manage`), so a request that
    /// comes after the look has a higher number, and the guest sees it. Read after it, the number could be that
    /// request's, and a guest in FluxOS's own code would never leave.
    ///
    /// Where kFlux keeps the lease, its end is news to this process, and the guest is told of it here.
    pub(crate) fn unmanaged(&mut self, settled: u32) {
        if !self.writes_words && !self.told_unmanaged {
            self.told_unmanaged = true;
            self.host.unmanaged.store(1, SeqCst);
            // An arbiter may have taken the VM over since the word was read: then `lease::manage` says 0 after
            // kFlux has changed the word, so that either it comes after this store or this look sees its reason.
            if abi::vcpu_state(self.line.word.load(SeqCst)) != abi::VCPU_UNMANAGED {
                self.host.unmanaged.store(0, SeqCst);
            }
            self.vm.ring_news();
        }
        self.settle(settled);
    }

    pub(crate) fn leave(&mut self, how: How) -> Next {
        self.left_by = how;
        match self.vm.seat.leave(self.table(), self.me, how) {
            Left::Parked | Left::Unmanaged => Next::Wait,
            Left::Dead => Next::End,
        }
    }

    pub(crate) fn fail(&mut self, failure: &Failure) -> Next {
        self.count(Count::Failed);
        self.vm
            .end(Ended::Poisoned(format!("vCPU {}: {failure}", self.id)));
        Next::End
    }
}
