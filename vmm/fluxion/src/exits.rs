//! What a vCPU does about an exit of its guest: the doors, and the kick.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use flux_abi as abi;
use handoff::{Asked, How};

use crate::backend::{Backend, Failure};
use crate::life::{Life, Next};
use crate::stats::Count;
use crate::vm::Ended;
use crate::{idle, park};

impl<B: Backend> Life<'_, B> {
    pub(crate) fn door(&mut self, port: u16, arg: u32, seen: u64) -> Next {
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
                let backend = &mut self.backend;
                let text = self
                    .doors
                    .panic(self.vm, self.id, arg, || backend.fault_address());
                self.fail(&Failure::new(format!("the guest gave up: {text}")))
            }
            abi::PORT_BACKTRACE => {
                self.doors.backtrace(self.vm, self.id, arg);
                Next::Run
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
                self.seen(seen);
                self.leave(How::Asked)
            }
            Asked::No => {
                self.stale();
                self.settle(settled);
                Next::Run
            }
            Asked::Unmanaged => {
                self.unmanaged(settled);
                Next::Run
            }
            Asked::Dead => Next::End,
        }
    }

    /// The guest has nothing to run.
    fn yield_door(&mut self, seen: u64) -> Next {
        self.count(Count::Yield);
        let settled = self.line.park_req.load(SeqCst);
        if abi::vcpu_state(self.line.word.load(SeqCst)) != abi::VCPU_UNMANAGED {
            self.seen(seen);
            return self.leave(How::Yield);
        }
        self.unmanaged(settled);
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
    pub(crate) fn interrupted(&mut self, seen: u64) -> Next {
        self.count(Count::Interrupted);
        if self.rests() {
            self.backend.consume_kick();
            return Next::Wait;
        }
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
                if !self.preempt(critical) {
                    self.stale();
                }
                self.settle(settled);
                Next::Run
            }
            Asked::Unmanaged => {
                self.unmanaged(settled);
                Next::Run
            }
            Asked::Dead => Next::End,
        }
    }

    /// The core stays, but the uThread that runs may have had its time slice: then the guest is resumed at its
    /// upcall, or will see that by itself. `false`: it has not, so the kick was for something else.
    fn preempt(&mut self, critical: bool) -> bool {
        // Pairs with the bridge's store before its kick. It is our own table's word: what the guest can write is
        // only the number that it is compared with.
        let meant = self.line.preempt.load(SeqCst);
        // 0: no uThread has ever run there, and nobody was preempted.
        if meant == 0 || meant != self.guest.switches.load(Relaxed) {
            return false;
        }
        // In FluxOS's own code it sees the word on its way out.
        if critical {
            self.count(Count::Critical);
            return true;
        }
        let Some(rip) = self.backend.set_upcall() else {
            return true;
        };
        // From here on it is FluxOS's code, which reads this first: the next kick must not take it for a uThread's.
        self.guest.critical.store(1, SeqCst);
        self.host.upcall_lo.store(rip as u32, Relaxed);
        self.host.upcall_hi.store((rip >> 32) as u32, Relaxed);
        self.count(Count::Preempted);
        if self.writes_words {
            self.line.preempts.fetch_add(1, Relaxed);
        }
        true
    }

    /// Whether kFlux has parked the vCPU inside `run`, and something has ended that sleep. Its context was held
    /// there, and may be somebody else's by now, so it is not to be held again.
    fn rests(&self) -> bool {
        let asleep = || {
            let state = abi::vcpu_state(self.line.word.load(SeqCst));
            matches!(state, abi::VCPU_PARKED | abi::VCPU_GRANTING)
        };
        self.backend.turn().is_some_and(|turn| turn.left != 0 || asleep())
    }

    /// When the guest was left for a park; where kFlux writes the stamps, it knows.
    fn seen(&self, seen: u64) {
        if self.writes_words {
            self.line.t_seen.store(seen, Relaxed);
        }
    }

    /// News that was over when it arrived.
    fn stale(&self) {
        self.count(Count::Stale);
        if self.writes_words {
            self.line.stale.fetch_add(1, Relaxed);
        }
    }

    /// Parks the vCPU where it stands.
    fn kicked(&mut self, seen: u64, how: How, critical: bool) -> Next {
        self.seen(seen);
        park::hold(self, critical);
        // Taken when the thread runs again, before it looks at the core word: until it sleeps, this thread is
        // in the way of its successor on the same core.
        self.kick_pending = true;
        let next = self.leave(how);
        if self.writes_words {
            self.line.kicks.fetch_add(1, Relaxed);
        }
        self.count(if how == How::Forced {
            Count::Forced
        } else {
            Count::Kicked
        });
        next
    }
}
