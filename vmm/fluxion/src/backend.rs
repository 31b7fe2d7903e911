//! What runs a vCPU: the one seam between Fluxion's vCPU life and the machinery below it.
//!
//! Two things implement [`Backend`]: KVM (`crate::kvm`), and the hosted one of the guest library OS, where
//! a vCPU is an ordinary thread and its doors are function calls. Everything else (pages, control socket,
//! life loop, parking, lease, counters) is the same code for both.
//!
//! # The contract
//!
//! * One value per vCPU. It is moved to the vCPU's thread; `attach`, `run`, `set_reentry`, `set_upcall` and
//!   `export` are called from that thread only.
//! * **The kick** is the signal [`handoff::linux::kick_signal`], sent by `tgkill` to the vCPU's thread. It is blocked in
//!   every thread from the start of the process. A backend makes it count only while guest code runs: a
//!   kick that arrives during `run`, *or that was already pending when `run` was called*, makes `run`
//!   return [`Exit::Interrupted`] soon. The signal stays pending until `consume_kick`, which the life loop
//!   calls before it looks at the core word again, so that no kick is lost between the two; one too many
//!   does no harm, because the core word is looked at before a kick is believed.
//! * After `Interrupted` the guest's context is whole and at rest inside the backend. The next `run` goes
//!   on from there, unless `set_reentry` was called, which throws it away, or `set_upcall`, which keeps it but for
//!   where it is.
//! * `export(v)` is called by another vCPU's thread, only while the life loop's held word says that
//!   vCPU `v` was left by `Interrupted` and is out of `run`; nobody resumes it meanwhile.
//! * After `Failed` nothing is run again: the VM is poisoned.
//! * `run` makes no system calls besides the one that enters the guest, allocates nothing and logs nothing.
//! * Where kFlux moves the cores, `take_seat` is called once, after `attach`. A backend that then enters the
//!   guest by kFlux is kicked by kFlux, inside `run`: it leaves its core there, with its context whole, and
//!   comes back with [`Exit::Left`] once that has become something else.

use std::fmt;
use std::os::fd::RawFd;
use std::sync::Arc;

use flux_abi as abi;
use handoff::{kflux, Woken};

use crate::context_slot::ContextSlot;

/// Why `run` came back.
#[derive(Debug)]
pub enum Exit {
    /// The guest left by itself: `out` to one of the FLUX_PORT_* ports, or the hosted equivalent. Ports
    /// that are not doors are reported here as well; the life loop knows what to make of them.
    Door { port: u16, arg: u32 },
    /// A kick arrived (or something that looks like one). The context is whole.
    Interrupted,
    /// kFlux: the vCPU left its core inside `run`, or its standing changed there, and this became of it.
    Left(Woken),
    /// The guest did what it cannot be continued from, or the machinery itself failed.
    Failed(Box<Failure>),
}

/// What went wrong in a vCPU, with its registers where they could be read.
#[derive(Debug, Clone, Default)]
pub struct Failure {
    /// One sentence: what was not expected.
    pub what: String,
    pub registers: Option<Registers>,
}

/// The registers that tell most about a crash.
#[derive(Debug, Clone, Copy, Default)]
pub struct Registers {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub cr2: u64,
}

impl Failure {
    pub fn new(what: impl Into<String>) -> Failure {
        Failure {
            what: what.into(),
            registers: None,
        }
    }

    pub fn with(mut self, registers: Option<Registers>) -> Failure {
        self.registers = registers;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if let Some(r) = self.registers {
            write!(
                f,
                " (rip {:#x}, rsp {:#x}, cr2 {:#x}, rflags {:#x})",
                r.rip, r.rsp, r.cr2, r.rflags
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// What runs one vCPU. See the module's text for the contract.
pub trait Backend: Send + 'static {
    /// How `status` names this kind of backend: "kvm", "hosted".
    const NAME: &'static str;

    /// System calls that this backend makes on a vCPU thread beyond the life loop's own, for the thread's
    /// seccomp filter. `None`: the vCPU threads get no filter, because guest code makes calls of its own.
    const SYSCALLS: Option<&'static [crate::confine::Allowed]>;

    /// Called once, first, on the vCPU's own thread, before that thread is confined.
    fn attach(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// The VM's cores are kFlux's to move, and this is its vCPU `vcpu`. Returns the KVM descriptor by which kFlux
    /// can run it; `None`: guest code is entered without kFlux, which then only lets it wait.
    fn take_seat(&mut self, _seat: &Arc<kflux::Seat>, _vcpu: u32) -> Option<RawFd> {
        None
    }

    /// Runs guest code until there is a reason to stop.
    fn run(&mut self) -> Exit;

    /// What kFlux says of the last `run`, if it was by kFlux.
    fn turn(&self) -> Option<abi::KfTurn> {
        None
    }

    /// What the guest wanted to read or write when it had its last page fault; `None`: not known.
    fn fault_address(&mut self) -> Option<u64> {
        None
    }

    /// Takes the kick that ended `run`, so that the next `run` does not end at once. Not in `run` itself,
    /// because a vCPU that is to leave first hands its core over. Nothing to do where the signal's handler
    /// has run.
    fn consume_kick(&mut self) {}

    /// The next `run` starts at the image's re-entry point with the registers of a first entry (vCPU id,
    /// control page, top of the boot stack) instead of where the guest was: its context was taken.
    fn set_reentry(&mut self) -> Result<(), Failure>;

    /// The next `run` starts at the guest's upcall, with everything in registers as the interrupted uThread has
    /// it, but the stack pointer below its red zone. Returns where the guest was; `None`: it has no upcall, and
    /// nothing has changed. Called between an `Interrupted` and the next `run`.
    fn set_upcall(&mut self) -> Option<u64> {
        None
    }

    /// Copies the context that vCPU `victim` was interrupted with into its context slot: general
    /// registers, FS base and the XSAVE area in standard format.
    fn export(&mut self, victim: u32, slot: &ContextSlot<'_>) -> Result<(), Failure>;
}

/// What a function that calls no other may use below its stack pointer.
pub const RED_ZONE: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_the_registers() {
        let r = Registers {
            rip: 0x400123,
            rsp: 0x7000,
            rflags: 0x3002,
            cr2: 0xdead0000,
        };
        let text = Failure::new("it broke").with(Some(r)).to_string();
        assert_eq!(
            text,
            "it broke (rip 0x400123, rsp 0x7000, cr2 0xdead0000, rflags 0x3002)"
        );
        assert_eq!(Failure::new("it broke").to_string(), "it broke");
    }
}
