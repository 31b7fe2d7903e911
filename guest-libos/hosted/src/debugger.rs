//! What a debugger needs besides `libos::debugger`: where the context of a vCPU is that Fluxion's side of
//! its thread has taken the place of.

use std::mem::offset_of;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::cpu::Cpu;

#[derive(Debug)]
#[repr(C)]
pub struct Table {
    version: u64,
    cpus: AtomicU64,
    cpu_bytes: u64,
    /// From the beginning of a vCPU's entry: whether the guest runs, its saved stack pointer if not, and
    /// the frame of the signal that interrupted it, if one has.
    in_guest: u64,
    guest: u64,
    frame: u64,
    /// From the beginning of a signal frame's `ucontext_t`.
    registers: u64,
}

#[unsafe(no_mangle)]
#[used]
pub static FLUX_DEBUGGER_HOSTED: Table = Table {
    version: 1,
    cpus: AtomicU64::new(0),
    cpu_bytes: size_of::<Cpu>() as u64,
    in_guest: Cpu::IN_GUEST as u64,
    guest: Cpu::GUEST as u64,
    frame: Cpu::FRAME as u64,
    registers: (offset_of!(libc::ucontext_t, uc_mcontext) + offset_of!(libc::mcontext_t, gregs)) as u64,
};

/// Shows the debugger the vCPUs of this process's VM.
pub fn show(cpus: &'static [Cpu]) {
    FLUX_DEBUGGER_HOSTED
        .cpus
        .store(cpus.as_ptr() as u64, Ordering::Relaxed);
}
