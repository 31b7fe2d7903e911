//! FS base: in a KVM guest it belongs to uThreads, whose compiled code finds its thread-local
//! variables by it.

use core::arch::asm;

/// Sets FS base.
///
/// # Safety
/// FS base belongs to uThreads here, `critical` is set, and the uThread that runs on this vCPU is
/// the one whose base this is.
#[inline(always)]
pub unsafe fn set_base(at: u64) {
    // SAFETY: CR4.FSGSBASE is set in every guest, whose entry uses it already.
    unsafe { asm!("wrfsbase {}", in(reg) at, options(nostack, preserves_flags)) }
}
