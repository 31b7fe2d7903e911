//! Exceptions: the registers to the log, and the end.

use core::sync::atomic::Ordering;

use arch::trap::Frame;

use crate::log::{fatal, info_critical};
use crate::vcpu::Local;

const NAMES: [&str; 32] = [
    "division error",
    "debug",
    "non-maskable interrupt",
    "breakpoint",
    "overflow",
    "bound range",
    "invalid instruction",
    "no coprocessor",
    "double fault",
    "exception 9",
    "invalid TSS",
    "segment not present",
    "stack segment fault",
    "general protection fault",
    "page fault",
    "exception 15",
    "x87 error",
    "alignment check",
    "machine check",
    "SIMD error",
    "virtualisation exception",
    "control protection",
    "exception 22",
    "exception 23",
    "exception 24",
    "exception 25",
    "exception 26",
    "exception 27",
    "hypervisor injection",
    "VMM communication",
    "security exception",
    "exception 31",
];

/// All exceptions of a KVM guest lead here, on the vCPU's exception stack, `critical` set.
pub extern "C" fn exception(f: &Frame) -> ! {
    // SAFETY: `critical` was set by the stub, and GS base at the entry.
    let local = unsafe { Local::if_booted() };
    let name = NAMES.get(f.vector as usize).unwrap_or(&"unknown exception");
    let mut current = 0;
    if let Some(local) = local {
        current = local.current.load(Ordering::Relaxed);
        info_critical(
            local,
            format_args!(
                "rax {:#x} rbx {:#x} rcx {:#x} rdx {:#x} rsi {:#x} rdi {:#x} rbp {:#x} r8 {:#x}",
                f.rax, f.rbx, f.rcx, f.rdx, f.rsi, f.rdi, f.rbp, f.r8
            ),
        );
        info_critical(
            local,
            format_args!(
                "r9 {:#x} r10 {:#x} r11 {:#x} r12 {:#x} r13 {:#x} r14 {:#x} r15 {:#x}",
                f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15
            ),
        );
    }
    fatal(format_args!(
        "{name} ({}) in uThread {current} at rip {:#x}, rsp {:#x}, error {:#x}, rflags {:#x}",
        f.vector, f.rip, f.rsp, f.error, f.rflags
    ))
}
