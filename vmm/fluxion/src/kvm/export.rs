//! Reading the context of a sibling that was interrupted.

use std::os::fd::{AsFd, OwnedFd};

use crate::backend::Failure;
use crate::context_slot::{empty_context, ContextSlot};
use crate::kvm::ioctl;
use crate::kvm::registers::ExtendedState;
use crate::kvm::run_area::RunArea;

/// The descriptors of all vCPUs of a VM, for each of them. KVM serialises requests on one vCPU, and the
/// victim is not in KVM_RUN when it is read, so this waits for nobody.
#[derive(Debug)]
pub struct Siblings {
    pub vcpus: Vec<(OwnedFd, RunArea)>,
    pub state: ExtendedState,
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
        keep_parts(&mut area, self.state.xcr0);
        slot.put_xsave(&area[..(self.state.bytes as usize).min(4096)]);
        Ok(())
    }
}

/// Where the header of an XSAVE area says which parts of the state are in it.
const XSTATE_BV: usize = 512;

/// Leaves those parts in the header that a guest with this XCR0 can restore. KVM saves with the host's XCR0:
/// where the host has protection keys, its own PKRU is in the area too, and XRSTOR faults at any part that XCR0
/// does not enable.
fn keep_parts(area: &mut [u8; 4096], xcr0: u64) {
    for (byte, kept) in area[XSTATE_BV..].iter_mut().zip(xcr0.to_le_bytes()) {
        *byte &= kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_the_guest_lacks_are_not_in_the_header() {
        let mut area = [0xffu8; 4096];
        keep_parts(&mut area, 0x107);
        assert_eq!(area[XSTATE_BV - 1], 0xff);
        assert_eq!(area[XSTATE_BV..XSTATE_BV + 8], [7, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(area[XSTATE_BV + 8], 0xff);
    }
}
