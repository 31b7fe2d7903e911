//! Reading the context of a sibling that was interrupted.

use std::os::fd::{AsFd, OwnedFd};

use crate::backend::Failure;
use crate::context_slot::{empty_context, ContextSlot};
use crate::kvm::ioctl;
use crate::kvm::run_area::RunArea;

/// The descriptors of all vCPUs of a VM, for each of them. KVM serialises requests on one vCPU, and the
/// victim is not in KVM_RUN when it is read, so this waits for nobody.
#[derive(Debug)]
pub struct Siblings {
    pub vcpus: Vec<(OwnedFd, RunArea)>,
    pub xsave_bytes: u32,
}

impl Siblings {
    pub fn export(&self, victim: u32, slot: &ContextSlot<'_>) -> Result<(), Failure> {
        let no = |what: &str, e: std::io::Error| {
            Failure::new(format!(
                "cannot read the {what} of vCPU {victim} for a thief: {e}"
            ))
        };
        let (fd, run) = self
            .vcpus
            .get(victim as usize)
            .ok_or_else(|| Failure::new("there is no such vCPU to export"))?;
        let (regs, fs_base) = run.registers();
        let xsave = ioctl::get_xsave(fd.as_fd()).map_err(|e| no("extended state", e))?;
        let mut context = empty_context();
        context.rax = regs.rax;
        context.rbx = regs.rbx;
        context.rcx = regs.rcx;
        context.rdx = regs.rdx;
        context.rsi = regs.rsi;
        context.rdi = regs.rdi;
        context.rbp = regs.rbp;
        context.rsp = regs.rsp;
        context.r8 = regs.r8;
        context.r9 = regs.r9;
        context.r10 = regs.r10;
        context.r11 = regs.r11;
        context.r12 = regs.r12;
        context.r13 = regs.r13;
        context.r14 = regs.r14;
        context.r15 = regs.r15;
        context.rip = regs.rip;
        context.rflags = regs.rflags;
        context.fs_base = fs_base;
        slot.put_registers(&context);
        let mut area = [0u8; 4096];
        for (to, word) in area.chunks_exact_mut(4).zip(xsave.region) {
            to.copy_from_slice(&word.to_ne_bytes());
        }
        slot.put_xsave(&area[..(self.xsave_bytes as usize).min(4096)]);
        Ok(())
    }
}
