//! Words of this vCPU, reached through GS in one instruction.
//!
//! GS base points at the vCPU's half block in the control page. A uThread in application code may
//! be held at any instruction and go on upon another vCPU, so "find my vCPU's block, then write to
//! it" in two steps would write to somebody else's. One instruction with a GS prefix cannot be
//! split: it means the vCPU that executes it.
//!
//! The last two words of the half block are the guest's own: they keep the address of
//! the vCPU's private data.

use core::arch::asm;
use core::mem::offset_of;

use flux_abi::{GuestVcpu, HostVcpu, VCPU_HOST_OFFSET};

pub(crate) const CRITICAL: usize = offset_of!(GuestVcpu, critical);
/// Offset of the count of work done.
pub const DONE: usize = offset_of!(GuestVcpu, done_lo);
/// Offset of the guest's own pointer to the data of the vCPU.
pub const PRIVATE: usize = offset_of!(GuestVcpu, private_lo);
pub(crate) const PARK_GEN: usize = VCPU_HOST_OFFSET + offset_of!(HostVcpu, park_gen);
pub(crate) const SETTLED: usize = VCPU_HOST_OFFSET + offset_of!(HostVcpu, settled);
pub(crate) const SWITCHES: usize = offset_of!(GuestVcpu, switches);
pub(crate) const PREEMPT: usize = VCPU_HOST_OFFSET + offset_of!(HostVcpu, preempt);
pub(crate) const UPCALL: usize = VCPU_HOST_OFFSET + offset_of!(HostVcpu, upcall_lo);

const _: () = assert!(PRIVATE + 8 == VCPU_HOST_OFFSET && PRIVATE.is_multiple_of(8) && DONE.is_multiple_of(8));
const _: () = assert!(UPCALL.is_multiple_of(8));

/// From here on the host does not hold this vCPU: it is in FluxOS's code.
///
/// # Safety
/// GS base is set.
#[inline(always)]
pub unsafe fn set_critical() {
    // SAFETY: writes the vCPU's own word. No `nomem`: nothing moves above it.
    unsafe { asm!("mov dword ptr gs:[{o}], 1", o = const CRITICAL, options(nostack, preserves_flags)) }
}

/// From here on the host may hold this vCPU at any instruction.
///
/// # Safety
/// GS base is set, the vCPU's `current` says which uThread is running, and the stack is that
/// uThread's. Nothing learnt about "this vCPU" before may be used after.
#[inline(always)]
pub unsafe fn clear_critical() {
    // SAFETY: as above. No `nomem`: nothing moves below it.
    unsafe { asm!("mov dword ptr gs:[{o}], 0", o = const CRITICAL, options(nostack, preserves_flags)) }
}

/// Whether this vCPU is asked to leave its core.
///
/// Two loads; between them a uThread that is not in FluxOS's code may move to another vCPU. Then
/// the answer may be wrong for the new vCPU, which is harmless: a wrong yes is looked at again
/// under `critical`, and a wrong no is made good by whoever resumed the uThread there, who looks
/// once more after the move (see [`crate::resume`]).
///
/// # Safety
/// GS base is set.
#[inline(always)]
pub unsafe fn park_asked() -> bool {
    let (asked, settled): (u32, u32);
    // SAFETY: reads the vCPU's own host line.
    unsafe {
        asm!(
            "mov {a:e}, dword ptr gs:[{park_gen}]",
            "mov {s:e}, dword ptr gs:[{settled}]",
            a = out(reg) asked,
            s = out(reg) settled,
            park_gen = const PARK_GEN,
            settled = const SETTLED,
            options(nostack, preserves_flags, readonly)
        )
    }
    flux_abi::stamp_after(asked, settled)
}

/// Whether the uThread that runs on this vCPU has had its time slice: the host names it by the
/// number of switches it began with, and the vCPU has not switched since.
///
/// Two loads, as in [`park_asked`], and as harmless: a wrong yes takes two vCPUs with the same
/// number, and costs a uThread the rest of its slice.
///
/// # Safety
/// GS base is set.
#[inline(always)]
pub unsafe fn slice_over() -> bool {
    let (meant, running): (u32, u32);
    // SAFETY: reads the vCPU's own lines.
    unsafe {
        asm!(
            "mov {m:e}, dword ptr gs:[{preempt}]",
            "mov {r:e}, dword ptr gs:[{switches}]",
            m = out(reg) meant,
            r = out(reg) running,
            preempt = const PREEMPT,
            switches = const SWITCHES,
            options(nostack, preserves_flags, readonly)
        )
    }
    meant == running
}

/// Address of the vCPU's private data; 0 before it was set.
///
/// # Safety
/// GS base is set. The result is this vCPU's only while `critical` is.
#[inline(always)]
pub unsafe fn private() -> u64 {
    let at;
    // SAFETY: reads the guest's own words. Not `pure`: after a context switch it is another's.
    unsafe {
        asm!("mov {a}, qword ptr gs:[{o}]", a = out(reg) at, o = const PRIVATE, options(nostack, preserves_flags, readonly))
    }
    at
}

/// # Safety
/// GS base is set and `critical` too.
#[inline(always)]
pub unsafe fn set_private(at: u64) {
    // SAFETY: writes the guest's own words.
    unsafe {
        asm!("mov qword ptr gs:[{o}], {a}", a = in(reg) at, o = const PRIVATE, options(nostack, preserves_flags))
    }
}

/// One more unit of work is done on this vCPU, whichever it is: both halves in one instruction.
///
/// # Safety
/// GS base is set.
#[inline(always)]
pub unsafe fn count_done() {
    // SAFETY: writes the vCPU's own line, which no other vCPU writes.
    unsafe { asm!("inc qword ptr gs:[{o}]", o = const DONE, options(nostack)) }
}

/// Puts a stamp where units of work are counted, for guests that show when they ran last.
///
/// # Safety
/// GS base is set.
#[inline(always)]
pub unsafe fn show_done(value: u64) {
    // SAFETY: as `count_done`.
    unsafe {
        asm!("mov qword ptr gs:[{o}], {v}", v = in(reg) value, o = const DONE, options(nostack, preserves_flags))
    }
}
