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

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::Arc;

use flux_abi as abi;
use handoff::{linux, Asked, Enter, Handle, How, Left, Table, Woken};

use crate::backend::{Backend, Exit, Failure};
use crate::doors::Doors;
use crate::stats::Count;
use crate::vm::{Ended, Vm};
use crate::{idle, park};

/// What to do after an exit.
pub(crate) enum Next {
    /// Into the guest again.
    Run,
    /// The core is gone, or the thread's standing has changed: wait.
    Wait,
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
    kick_pending: bool,
}

/// Lives the life of vCPU `id`, on the calling thread, until the VM ends.
///
/// The thread must have said `handoff::ready`. On return its vCPU is DEAD and its core, if it had one, has
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
    };
    // The state that a panic could leave half-changed is this thread's own and is not looked at again.
    if panic::catch_unwind(AssertUnwindSafe(|| life.go())).is_err() {
        vm.end(Ended::Poisoned(format!(
            "the thread of vCPU {id} failed inside Fluxion; please report this"
        )));
    }
    handoff::poison(&vm.table, me);
    host.held.store(0, SeqCst);
    vm.thread_ended();
}

impl<B: Backend> Life<'_, B> {
    fn table(&self) -> &Table {
        &self.vm.table
    }

    fn go(&mut self) {
        // Looked at after this thread became PARKED and before it sleeps; pairs with Vm::end.
        while !self.vm.ending() {
            match handoff::wait_for_grant(self.table(), self.me) {
                Woken::Dead => return,
                Woken::Unmanaged => {}
                Woken::Granted { core } => {
                    self.grants = self.grants.wrapping_add(1);
                    self.host.core.store(core, Relaxed);
                    // Release, so that the guest that reads the number sees the core that goes with it.
                    self.host.grant_gen.store(self.grants, Release);
                }
            }
            if let Next::End = self.tenure() {
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
        match handoff::enter(self.table(), self.me) {
            Enter::Go { settled } => self.settle(settled),
            Enter::Leave => return self.leave(How::Entry),
            Enter::Unmanaged => self.settle_all(),
            Enter::Dead => return Next::End,
        }
        // After the look: a vCPU that is to leave at once leaves its held context for others to take.
        match park::resume(self) {
            Ok(true) => {}
            Ok(false) => return Next::End,
            Err(failure) => return self.fail(&failure),
        }
        let mut entered = linux::tsc();
        self.line.t_enter.store(entered, Relaxed);
        loop {
            // For whoever asks how long it has run: a guest that spins makes no exits.
            self.line.entered_tsc.store(entered, Relaxed);
            let exit = self.backend.run();
            let seen = linux::tsc();
            self.line.entered_tsc.store(0, Relaxed);
            self.vm.add_used(seen.saturating_sub(entered));
            self.count(Count::Entries);
            let next = match exit {
                Exit::Door { port, arg } => self.door(port, arg, seen),
                Exit::Interrupted => self.interrupted(seen),
                Exit::Failed(failure) => self.fail(&failure),
            };
            match next {
                Next::Run if self.vm.ending() => return Next::End,
                Next::Run => entered = linux::tsc(),
                other => return other,
            }
        }
    }

    pub fn count(&self, what: Count) {
        if let Some(counters) = self.vm.counters.get(self.id as usize) {
            counters.count(what);
        }
    }

    /// Tells the guest that all park requests up to this one are over.
    fn settle(&mut self, settled: u32) {
        if settled != self.settled {
            self.settled = settled;
            // Pairs with the guest's look at park_gen and settled, which comes after this thread has entered it.
            self.host.settled.store(settled, Release);
        }
    }

    /// As `settle`, for all requests so far: for a vCPU that no arbiter manages.
    fn settle_all(&mut self) {
        self.settle(self.line.park_req.load(SeqCst));
    }

    fn leave(&mut self, how: How) -> Next {
        match handoff::leave(self.table(), self.me, how) {
            Left::Parked | Left::Unmanaged => Next::Wait,
            Left::Dead => Next::End,
        }
    }

    fn fail(&mut self, failure: &Failure) -> Next {
        self.count(Count::Failed);
        self.vm
            .end(Ended::Poisoned(format!("vCPU {}: {failure}", self.id)));
        Next::End
    }

    fn door(&mut self, port: u16, arg: u32, seen: u64) -> Next {
        match port {
            abi::PORT_PARK => self.park_door(seen),
            abi::PORT_YIELD => self.yield_door(seen),
            abi::PORT_STEAL => match park::steal(self, arg) {
                Ok(()) => Next::Run,
                Err(failure) => self.fail(&failure),
            },
            abi::PORT_LOG => {
                self.count(Count::Log);
                self.doors.log(self.vm, self.id, arg, seen);
                Next::Run
            }
            abi::PORT_PANIC => {
                self.count(Count::Panic);
                let text = self.doors.line(self.vm, self.id, arg);
                self.fail(&Failure::new(format!("the guest gave up: {text}")))
            }
            abi::PORT_EXIT => {
                self.count(Count::Exit);
                self.vm.end(Ended::Exit(arg));
                Next::End
            }
            abi::PORT_DOORBELL => {
                self.count(Count::Doorbell);
                handoff::ring_doorbell(self.table(), self.vm.slot);
                Next::Run
            }
            _ => self.fail(&Failure::new(format!(
                "an output to port {port:#x}, which is no door"
            ))),
        }
    }

    /// The guest honours a request to park.
    fn park_door(&mut self, seen: u64) -> Next {
        self.count(Count::Park);
        // Before the look, in the order of handoff::enter: a request that the look misses is above it.
        let settled = self.line.park_req.load(SeqCst);
        match handoff::asked(self.table(), self.me) {
            Asked::Park | Asked::Force => {
                self.line.t_seen.store(seen, Relaxed);
                self.leave(How::Asked)
            }
            Asked::No => {
                self.count(Count::Stale);
                self.line.stale.fetch_add(1, Relaxed);
                self.settle(settled);
                Next::Run
            }
            Asked::Unmanaged => {
                self.settle_all();
                Next::Run
            }
            Asked::Dead => Next::End,
        }
    }

    /// The guest has nothing to run.
    fn yield_door(&mut self, seen: u64) -> Next {
        self.count(Count::Yield);
        if abi::vcpu_state(self.line.word.load(SeqCst)) != abi::VCPU_UNMANAGED {
            self.line.t_seen.store(seen, Relaxed);
            return self.leave(How::Yield);
        }
        self.settle_all();
        self.count(Count::Blocked);
        idle::wait_for_work(self.vm, self.line);
        match handoff::asked(self.table(), self.me) {
            Asked::Unmanaged | Asked::No => Next::Run,
            // Recalled while it waited: it parks here, with nothing to hand over.
            Asked::Park | Asked::Force => self.leave(How::Yield),
            Asked::Dead => Next::End,
        }
    }

    /// A kick, or something like it. Where there is a hand-over the signal is taken long after it (a system
    /// call less between the two VMs), and otherwise before another look, which then sees whatever that
    /// signal stood for.
    fn interrupted(&mut self, seen: u64) -> Next {
        self.count(Count::Interrupted);
        // The guest's word; if it lies, its own uThreads suffer. Pairs with its store before it touches
        // anything of FluxOS's.
        let critical = self.guest.critical.load(SeqCst) != 0;
        match handoff::asked(self.table(), self.me) {
            Asked::Park if !critical => return self.kicked(seen, How::Kicked, critical),
            Asked::Force => return self.kicked(seen, How::Forced, critical),
            _ => self.backend.consume_kick(),
        }
        let settled = self.line.park_req.load(SeqCst);
        match handoff::asked(self.table(), self.me) {
            Asked::Park if !critical => self.kicked(seen, How::Kicked, critical),
            // In FluxOS's own code: it has seen the request, or will within instructions, and leaves by the door.
            Asked::Park => {
                self.count(Count::Critical);
                Next::Run
            }
            Asked::Force => self.kicked(seen, How::Forced, critical),
            Asked::No => {
                self.count(Count::Stale);
                self.line.stale.fetch_add(1, Relaxed);
                self.settle(settled);
                Next::Run
            }
            Asked::Unmanaged => {
                self.settle_all();
                Next::Run
            }
            Asked::Dead => Next::End,
        }
    }

    /// Parks the vCPU where it stands.
    fn kicked(&mut self, seen: u64, how: How, critical: bool) -> Next {
        self.line.t_seen.store(seen, Relaxed);
        park::hold(self, critical);
        // Taken when the thread runs again, before it looks at the core word: until it sleeps, this thread is
        // in the way of its successor on the same core.
        self.kick_pending = true;
        let next = self.leave(how);
        self.line.kicks.fetch_add(1, Relaxed);
        self.count(if how == How::Forced {
            Count::Forced
        } else {
            Count::Kicked
        });
        next
    }
}
