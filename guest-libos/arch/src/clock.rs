//! The time stamp counter. The VMM gives the guest the host's, so stamps of both sides compare.

use core::arch::x86_64::_rdtsc;

/// The counter now. Not ordered against the loads around it; no stamp here needs to be.
#[inline(always)]
pub fn tsc() -> u64 {
    // SAFETY: rdtsc is there on every x86-64, and neither Linux nor Fluxion forbids it at ring 3.
    unsafe { _rdtsc() }
}
