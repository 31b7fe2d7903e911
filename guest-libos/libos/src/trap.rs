//! Exceptions: what happened, to whom and where it came from, to the host, and the end.

use core::fmt;
use core::sync::atomic::Ordering;

use arch::trap::Frame;
use flux_abi::PORT_PANIC;
use sched::NOBODY;

use crate::backtrace::Backtrace;
use crate::log::{end, info_critical, Line};
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

const PAGE_FAULT: u64 = 14;
/// What is unmapped below each stack.
pub(crate) const GUARD: u64 = 4096;
/// How far below the stack pointer compiled code writes at most: a call's return address, and what
/// code that has one puts into its red zone.
const BELOW: u64 = 128;

/// Where something was refused.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub rip: u64,
    pub rsp: u64,
    pub rbp: u64,
    /// What was to be read or written, where that is known.
    pub address: Option<u64>,
    /// Whether it may be an access to an address that is not mapped.
    pub page: bool,
}

/// All exceptions of a KVM guest lead here, on the vCPU's exception stack, `critical` set.
pub extern "C" fn exception(f: &Frame) -> ! {
    // SAFETY: `critical` was set by the stub, and GS base at the entry.
    let Some(local) = (unsafe { Local::if_booted() }) else {
        // Nothing is there yet that could say more. The door needs nothing.
        loop {
            arch::doors::out(PORT_PANIC, 0);
        }
    };
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
            "r9 {:#x} r10 {:#x} r11 {:#x} r12 {:#x} r13 {:#x} r14 {:#x} r15 {:#x} rflags {:#x}",
            f.r9, f.r10, f.r11, f.r12, f.r13, f.r14, f.r15, f.rflags
        ),
    );
    let fault = Fault {
        rip: f.rip,
        rsp: f.rsp,
        rbp: f.rbp,
        // Only ring 0 can read it; the host adds it.
        address: None,
        page: f.vector == PAGE_FAULT,
    };
    let name = NAMES.get(f.vector as usize).unwrap_or(&"unknown exception");
    local.refused(
        &fault,
        format_args!("{name} ({}, error {:#x})", f.vector, f.error),
    )
}

/// Something like an exception in a hosted guest, on the vCPU's signal stack. Returns if nothing
/// can be said, because the vCPU has not come to its scheduler.
///
/// # Safety
/// GS base is set, and `fault` is what this vCPU's guest side was doing.
pub unsafe fn signal(fault: &Fault, name: fmt::Arguments<'_>) {
    // SAFETY: by the caller's promise; the guest's side does not go on.
    unsafe {
        arch::gs::set_critical();
        if let Some(local) = Local::if_booted() {
            local.refused(fault, name);
        }
    }
}

impl Local {
    /// The stack that `rsp` is on, as far as it is mapped above `rsp`, and whether it is used up.
    /// Empty if it is no stack of this vCPU's.
    pub(crate) fn stack_at(&self, rsp: u64) -> Stack {
        let kernel = self.kernel();
        let id = self.current.load(Ordering::Relaxed);
        if let Some(uthread) = kernel.uthread(id) {
            let (top, bytes) = (uthread.stack_top(), kernel.page.header().stack_bytes);
            let guard = top.saturating_sub(bytes);
            let lowest = guard.saturating_add(GUARD);
            if (guard..=top).contains(&rsp) {
                return Stack {
                    mapped: rsp.max(lowest)..top,
                    guard: guard..lowest,
                };
            }
        }
        // The scheduler's stack is known by its end only. It is all mapped above any frame on it.
        let top = self.boot_top.load(Ordering::Relaxed);
        let mapped = if rsp < top && top - rsp < SCHEDULER_STACK {
            rsp..top
        } else {
            0..0
        };
        Stack { mapped, guard: 0..0 }
    }

    fn refused(&'static self, fault: &Fault, name: fmt::Arguments<'_>) -> ! {
        let stack = self.stack_at(fault.rsp);
        // SAFETY: what `stack_at` calls mapped is.
        let backtrace =
            unsafe { Backtrace::walk(Some((fault.rip, fault.page)), fault.rbp, stack.mapped.clone()) };
        let who = self.who();
        let (rip, rsp) = (fault.rip, fault.rsp);
        let line = if fault.page && stack.overflown(fault) {
            let kib = (self.kernel().page.header().stack_bytes - GUARD) >> 10;
            Line::of(format_args!(
                "stack overflow: {who} has used up its stack of {kib} KiB, at rip {rip:#x}, rsp {rsp:#x}"
            ))
        } else {
            Line::of(format_args!("{name} in {who} at rip {rip:#x}, rsp {rsp:#x}"))
        };
        let kernel = self.kernel();
        end(kernel.page, kernel.platform, self.id, &line, &backtrace)
    }

    /// Who runs here, for a failure's message.
    pub(crate) fn who(&self) -> Who {
        Who {
            vcpu: self.id,
            uthread: self.current.load(Ordering::Relaxed),
        }
    }
}

/// No stack of FluxOS's own is larger: that of a hosted vCPU.
const SCHEDULER_STACK: u64 = 256 << 10;

/// A stack that something went wrong on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stack {
    /// From the stack pointer to the end.
    pub mapped: core::ops::Range<u64>,
    guard: core::ops::Range<u64>,
}

impl Stack {
    /// Whether a page fault means that the stack is used up. By the address where it is known, and
    /// else by where the stack pointer is: in the guard page, or so close to it that what is
    /// written below the stack pointer lies in there.
    fn overflown(&self, fault: &Fault) -> bool {
        match fault.address {
            Some(address) => self.guard.contains(&address),
            None => (self.guard.start..self.guard.end.saturating_add(BELOW)).contains(&fault.rsp),
        }
    }
}

/// Who runs on a vCPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who {
    vcpu: u32,
    uthread: u32,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.uthread == NOBODY {
            return write!(f, "the scheduler of vCPU {}", self.vcpu);
        }
        write!(f, "uThread {}", self.uthread)?;
        // SAFETY: whoever describes this has come to its scheduler.
        let kernel = unsafe { crate::kernel::Kernel::here() };
        match kernel.uthread(self.uthread).map(|uthread| uthread.name.get()) {
            Some(name) if !name.as_str().is_empty() => write!(f, " \"{name}\""),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overflow_is_told_from_other_page_faults() {
        let stack = Stack {
            mapped: 0x11000..0x20000,
            guard: 0x10000..0x11000,
        };
        let at = |rsp, address| {
            stack.overflown(&Fault {
                rip: 1,
                rsp,
                rbp: 0,
                address,
                page: true,
            })
        };
        for rsp in [0x10000, 0x10ff8, 0x11000, 0x11000 + BELOW - 8] {
            assert!(at(rsp, None), "{rsp:#x}");
        }
        for rsp in [0xfff8, 0x11000 + BELOW, 0x18000] {
            assert!(!at(rsp, None), "{rsp:#x}");
        }
        assert!(at(0x18000, Some(0x10800)) && at(0x10800, Some(0x10800)));
        assert!(!at(0x10800, Some(0)) && !at(0x11000, Some(0x11000)));
    }
}
