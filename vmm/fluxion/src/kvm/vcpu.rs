//! One vCPU under KVM.

use std::sync::Arc;
use std::{mem, ptr};

use kvm_bindings::{kvm_regs, KVM_SYNC_X86_REGS};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};

use super::export::Siblings;
use super::guest::{borrow, Guest};
use super::{ioctl, registers, KvmError};
use crate::backend::{Backend, Exit, Failure, Registers};
use crate::confine::Allowed;
use crate::context_slot::ContextSlot;

#[derive(Debug)]
pub struct KvmVcpu {
    fd: VcpuFd,
    /// The registers of a re-entry, prepared: setting them is then a copy.
    reentry: kvm_regs,
    siblings: Arc<Siblings>,
    // After the descriptor, so dropped after it: the VM and the memory that the vCPU runs on.
    _guest: Arc<Guest>,
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
            siblings,
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

    fn internal_error(&mut self) -> String {
        // SAFETY: the exit reason said that this member of the union is the valid one.
        let internal = unsafe { self.fd.get_kvm_run().__bindgen_anon_1.internal };
        let text = match internal.suberror {
            1 => "an instruction could not be emulated",
            2 => "two faults met while a third was delivered",
            3 => "an exit while an event was delivered",
            4 => "the processor left the guest for an unexpected reason",
            _ => "no explanation",
        };
        format!("KVM failed inside, suberror {}: {text}", internal.suberror)
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

    fn run(&mut self) -> Exit {
        let what = match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => match data.try_into() {
                Ok(bytes) => {
                    return Exit::Door {
                        port,
                        arg: u32::from_le_bytes(bytes),
                    }
                }
                Err(_) => format!(
                    "an output of {} bytes to port {port:#x}; doors take 4",
                    data.len()
                ),
            },
            Ok(VcpuExit::Intr) => return Exit::Interrupted,
            Err(e) if e.errno() == libc::EINTR || e.errno() == libc::EAGAIN => return Exit::Interrupted,
            Ok(VcpuExit::IoIn(port, _)) => format!("an input from port {port:#x}; there is nothing to read"),
            Ok(VcpuExit::MmioRead(gpa, _)) => format!("a read of guest-physical {gpa:#x}, where nothing is"),
            Ok(VcpuExit::MmioWrite(gpa, _)) => {
                format!("a write to guest-physical {gpa:#x}, where nothing is")
            }
            Ok(VcpuExit::Shutdown) => {
                "a triple fault: an exception without a usable handler for it".to_owned()
            }
            Ok(VcpuExit::Hlt) => "a halt; FluxOS leaves by the yield door instead".to_owned(),
            Ok(VcpuExit::FailEntry(reason, cpu)) => {
                format!("the processor refused to enter the guest, reason {reason:#x} on cpu {cpu}")
            }
            Ok(VcpuExit::InternalError) => String::new(),
            Ok(exit) => format!("an exit that nobody expects: {exit:?}"),
            Err(e) => format!("KVM_RUN failed: {e}"),
        };
        // The run area is only free to be read once the exit no longer borrows it.
        let what = if what.is_empty() {
            self.internal_error()
        } else {
            what
        };
        self.failed(what)
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

    fn export(&mut self, victim: u32, slot: &ContextSlot<'_>) -> Result<(), Failure> {
        self.siblings.export(victim, slot)
    }
}
