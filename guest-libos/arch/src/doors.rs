//! Doors out of a KVM guest.

use core::arch::asm;

/// Goes through a door: a 32-bit `out`, which the VMM sees as an exit. Returns when the vCPU is
/// run again, possibly much later and on another core, but always on the same vCPU.
#[inline]
pub fn out(port: u16, arg: u32) {
    // SAFETY: the ports of FluxOS's doors are open to ring 3 by the TSS's I/O bitmap, and the VMM
    // keeps all registers. The memory clobber is there because the host writes the control page.
    unsafe { asm!("out dx, eax", in("dx") port, in("eax") arg, options(nostack, preserves_flags)) }
}
