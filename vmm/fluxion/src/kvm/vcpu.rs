//! One vCPU under KVM.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::{fmt, io, mem, ptr};

use flux_abi as abi;
use handoff::kflux;
use kvm_bindings::{kvm_regs, kvm_run, KVM_SYNC_X86_REGS};
use kvm_ioctls::{SyncReg, VcpuFd};

use super::exit::{self, Reason};
use super::export::Siblings;
use super::guest::{borrow, Guest};
use super::{ioctl, registers, KvmError};
use crate::backend::{Backend, Exit, Failure, Registers, RED_ZONE};
use crate::confine::Allowed;
use crate::context_slot::ContextSlot;

#[derive(Debug)]
pub struct KvmVcpu {
    fd: VcpuFd,
    /// The registers of a re-entry, prepared: setting them is then a copy.
    reentry: kvm_regs,
    /// The image's upcall.
    upcall: Option<u64>,
    siblings: Arc<Siblings>,
    /// How kFlux runs it, if it does.
    place: Option<Place>,
    // After the descriptor, so dropped after it: the VM and the memory that the vCPU runs on.
    _guest: Arc<Guest>,
}

struct Place {
    seat: Arc<kflux::Seat>,
    vcpu: u32,
    /// What the last call said.
    turn: abi::KfTurn,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "vCPU {} of {:?}", self.vcpu, self.seat)
    }
}

impl KvmVcpu {
    pub(super) fn new(
        mut fd: VcpuFd,
        id: u32,
        guest: Arc<Guest>,
        siblings: Arc<Siblings>,
    ) -> Result<KvmVcpu, KvmError> {
        let entry = registers::general(&guest.layout, id, guest.image.entry);
        fd.set_regs(&entry)
            .map_err(KvmError::refused("set the registers"))?;
        // From now on the registers stand in the shared run area after each exit, without a request.
        fd.set_sync_valid_reg(SyncReg::Register);
        // These for a thief, which needs FS base; a vCPU without siblings has none.
        if siblings.vcpus.len() > 1 {
            fd.set_sync_valid_reg(SyncReg::SystemRegister);
        }
        let reentry = registers::general(&guest.layout, id, guest.image.reentry);
        Ok(KvmVcpu {
            fd,
            reentry,
            upcall: guest.image.upcall,
            siblings,
            place: None,
            _guest: guest,
        })
    }

    /// A failure with the registers: the general ones stand in the run area, CR2 is asked for.
    fn failed(&mut self, what: String) -> Exit {
        let cr2 = ioctl::get_sregs(borrow(&self.fd)).map_or(0, |sregs| sregs.cr2);
        let run = self.fd.get_kvm_run();
        // SAFETY: plain integers; KVM filled them at the exit because kvm_valid_regs asks for them.
        let regs = unsafe { run.s.regs.regs };
        let registers = Registers {
            rip: regs.rip,
            rsp: regs.rsp,
            rflags: regs.rflags,
            cr2,
        };
        Exit::Failed(Box::new(Failure::new(what).with(Some(registers))))
    }

    /// What to make of a guest that came out.
    fn exit(&mut self) -> Exit {
        let run: *const kvm_run = self.fd.get_kvm_run();
        // SAFETY: the run area of this vCPU, which `fd` keeps mapped whole; KVM_RUN has gone through.
        match unsafe { exit::reason(run) } {
            Reason::Door { port, arg } => Exit::Door { port, arg },
            Reason::Interrupted => Exit::Interrupted,
            Reason::Unexpected(what) => self.failed(what),
        }
    }
}

/// A call that entered the guest, or did not: what it left to look at.
enum Ran {
    Exit,
    Interrupted,
    Left(handoff::Woken),
    Failed(String),
}

fn ran(result: io::Result<()>) -> Ran {
    match result {
        Ok(()) => Ran::Exit,
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => Ran::Interrupted,
        Err(e) => Ran::Failed(format!("KVM_RUN failed: {e}")),
    }
}

impl Place {
    fn run(&mut self) -> Ran {
        match self.seat.run(self.vcpu, &mut self.turn) {
            Ok(()) => match self.turn.reason {
                abi::KF_EXIT => Ran::Exit,
                // Whom a PREEMPT is meant for is looked for at every interruption.
                abi::KF_SIGNAL | abi::KF_PREEMPT => Ran::Interrupted,
                reason => match kflux::seat::woken(&self.turn) {
                    Some(woken) => Ran::Left(woken),
                    None => Ran::Failed(format!("kFlux came back for a reason that is none: {reason}")),
                },
            },
            result => ran(result),
        }
    }
}

impl Backend for KvmVcpu {
    const NAME: &'static str = "kvm";
    const SYSCALLS: Option<&'static [Allowed]> = Some(&[
        Allowed::ioctl(ioctl::KVM_RUN),
        Allowed::ioctl(ioctl::KVM_GET_SREGS),
        Allowed::ioctl(ioctl::KVM_GET_XSAVE),
        Allowed::any(libc::SYS_rt_sigtimedwait),
    ]);

    fn take_seat(&mut self, seat: &Arc<kflux::Seat>, vcpu: u32) -> Option<RawFd> {
        self.place = Some(Place {
            seat: Arc::clone(seat),
            vcpu,
            turn: kflux::seat::turn(vcpu, 0),
        });
        Some(self.fd.as_raw_fd())
    }

    fn run(&mut self) -> Exit {
        let ran = match &mut self.place {
            None => ran(ioctl::run(borrow(&self.fd))),
            Some(place) => place.run(),
        };
        match ran {
            Ran::Exit => self.exit(),
            Ran::Interrupted => Exit::Interrupted,
            Ran::Left(woken) => Exit::Left(woken),
            Ran::Failed(what) => self.failed(what),
        }
    }

    fn turn(&self) -> Option<abi::KfTurn> {
        self.place.as_ref().map(|place| place.turn)
    }

    fn fault_address(&mut self) -> Option<u64> {
        ioctl::get_sregs(borrow(&self.fd)).ok().map(|sregs| sregs.cr2)
    }

    fn consume_kick(&mut self) {
        let none = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the set is built from an empty one on the stack; a null info is allowed; the
        // time-out outlives the call. However many kicks were sent, one is pending.
        unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&mut set, handoff::linux::kick_signal());
            libc::sigtimedwait(&set, ptr::null_mut(), &none);
        }
    }

    fn set_reentry(&mut self) -> Result<(), Failure> {
        let run = self.fd.get_kvm_run();
        run.s.regs.regs = self.reentry;
        run.kvm_dirty_regs |= u64::from(KVM_SYNC_X86_REGS);
        Ok(())
    }

    fn set_upcall(&mut self) -> Option<u64> {
        let upcall = self.upcall?;
        let run = self.fd.get_kvm_run();
        // SAFETY: plain integers; KVM filled them at the exit because kvm_valid_regs asks for them. An
        // interruption leaves no instruction half done: what an earlier exit had begun, KVM has finished before
        // it looks for signals.
        let regs = unsafe { &mut run.s.regs.regs };
        let interrupted = regs.rip;
        regs.rip = upcall;
        // The guest's own, and nothing is written there: if it is no stack, the guest finds that out.
        regs.rsp = regs.rsp.wrapping_sub(RED_ZONE);
        run.kvm_dirty_regs |= u64::from(KVM_SYNC_X86_REGS);
        Some(interrupted)
    }

    fn export(&mut self, victim: u32, slot: &ContextSlot<'_>) -> Result<(), Failure> {
        self.siblings.export(victim, slot)
    }
}
