//! The hosted vCPU as what Fluxion's life loop runs.

use std::io;

use flux_abi::{VCPUS_OFFSET, VCPU_BYTES};
use fluxion::backend::{Backend, Exit, Failure, Registers, RED_ZONE};
use fluxion::confine::Allowed;
use fluxion::context_slot::ContextSlot;

use crate::cpu::{Cpu, Stop};
use crate::export::export;
use crate::signals;

/// One vCPU; moved to its thread.
#[derive(Debug)]
pub struct HostedVcpu {
    pub(crate) cpus: &'static [Cpu],
    pub(crate) id: u32,
    pub(crate) signal_stack: (u64, u64),
}

/// `arch_prctl(ARCH_SET_GS)`, which the libc crate does not name.
const ARCH_SET_GS: libc::c_int = 0x1001;

impl HostedVcpu {
    fn cpu(&self) -> Result<&'static Cpu, Failure> {
        self.cpus
            .get(self.id as usize)
            .ok_or_else(|| Failure::new(format!("there is no vCPU {}", self.id)))
    }
}

impl Backend for HostedVcpu {
    const NAME: &'static str = "hosted";
    /// Guest code runs on these threads as it is, and no filter tells its calls from ours.
    const SYSCALLS: Option<&'static [Allowed]> = None;

    fn attach(&mut self) -> Result<(), Failure> {
        let cpu = self.cpu()?;
        let (base, len) = self.signal_stack;
        // SAFETY: the stack was made for this vCPU and lives as long as the process.
        unsafe { signals::use_stack(base, len) }
            .map_err(|e| Failure::new(format!("cannot set the signal stack: {e}")))?;
        let block = cpu.page + (VCPUS_OFFSET + cpu.id as usize * VCPU_BYTES) as u64;
        // SAFETY: GS is not used by the C library or by Rust on x86-64 Linux.
        if unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block) } != 0 {
            return Err(Failure::new(format!(
                "cannot set GS base: {}",
                io::Error::last_os_error()
            )));
        }
        cpu.fibres.attach(base, len);
        cpu.adopt();
        Ok(())
    }

    fn run(&mut self) -> Exit {
        let cpu = match self.cpu() {
            Ok(cpu) => cpu,
            Err(failure) => return Exit::Failed(Box::new(failure)),
        };
        match cpu.run() {
            Stop::Door { port, arg } => Exit::Door { port, arg },
            Stop::Kicked => Exit::Interrupted,
            Stop::Fault {
                signal,
                rip,
                rsp,
                rflags,
                address,
            } => {
                let what = format!("the guest was stopped by signal {signal}");
                let registers = Registers {
                    rip,
                    rsp,
                    rflags,
                    cr2: address,
                };
                Exit::Failed(Box::new(Failure::new(what).with(Some(registers))))
            }
        }
    }

    fn set_reentry(&mut self) -> Result<(), Failure> {
        let cpu = self.cpu()?;
        let Some(frame) = cpu.frame() else {
            return Err(Failure::new(
                "a context was taken of a vCPU that was not interrupted",
            ));
        };
        // The handler still stands on the alternate stack. It returns to the entry instead: the
        // kernel then restores the signal mask of the guest's side along with the registers.
        // SAFETY: the frame is this thread's own, and its handler does not return before `run`.
        let registers = unsafe { &mut (*frame).uc_mcontext.gregs };
        registers[libc::REG_RIP as usize] = cpu.entry as usize as i64;
        registers[libc::REG_RSP as usize] = cpu.boot_stack_top as i64;
        registers[libc::REG_RDI as usize] = i64::from(cpu.id);
        registers[libc::REG_RSI as usize] = cpu.page as i64;
        registers[libc::REG_RBP as usize] = 0;
        registers[libc::REG_EFL as usize] = 2;
        cpu.fibres.enter_again(cpu.boot_stack_top);
        Ok(())
    }

    fn set_upcall(&mut self) -> Option<u64> {
        let frame = self.cpu().ok()?.frame()?;
        // As above: the handler returns to the upcall, and the kernel restores everything else that the
        // interrupted uThread has in registers, extended state included.
        // SAFETY: the frame is this thread's own, and its handler does not return before `run`.
        let registers = unsafe { &mut (*frame).uc_mcontext.gregs };
        let interrupted = registers[libc::REG_RIP as usize];
        registers[libc::REG_RIP as usize] = arch::upcall::upcall as *const () as i64;
        registers[libc::REG_RSP as usize] -= RED_ZONE as i64;
        Some(interrupted as u64)
    }

    fn export(&mut self, victim: u32, slot: &ContextSlot<'_>) -> Result<(), Failure> {
        let held = self
            .cpus
            .get(victim as usize)
            .and_then(|cpu| Some((cpu, cpu.frame()?)));
        let Some((held, frame)) = held else {
            return Err(Failure::new(format!(
                "vCPU {victim} is held but was not interrupted"
            )));
        };
        held.fibres.hand_to(self.id);
        // SAFETY: the held word has given us the victim's context; it does not run meanwhile.
        unsafe { export(frame, slot) }.map_err(Failure::new)
    }
}
