//! Extended state: vector registers and what else XSAVE knows.

use core::arch::asm;

/// x87, SSE, AVX and AVX-512: what application code has in registers. Protection keys and the
/// like stay as the vCPU has them.
pub const KNOWN: u64 = 0xe7;

/// An XSAVE area whose header says that every component is in its initial state.
#[repr(C, align(64))]
struct Initial {
    legacy: [u32; 128],
    header: [u64; 8],
}

static INITIAL: Initial = {
    let mut legacy = [0; 128];
    legacy[0] = 0x37f; // FCW, which the header makes unimportant
    legacy[6] = 0x1f80; // MXCSR, which is always loaded
    Initial {
        legacy,
        header: [0; 8],
    }
};

/// Puts the components in `mask` into their initial state. A vCPU whose context was taken enters
/// with the old one's still in its registers, exceptions unmasked perhaps.
///
/// # Safety
/// `mask` is a part of XCR0.
pub unsafe fn initialise(mask: u64) {
    let area = &raw const INITIAL;
    // SAFETY: the area is aligned, its header is valid for any mask, and no component beyond the
    // legacy ones is read. Vector registers hold nothing across this call.
    unsafe {
        asm!(
            "xrstor64 [{area}]",
            area = in(reg) area,
            in("eax") mask as u32,
            in("edx") (mask >> 32) as u32,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
            options(nostack)
        )
    }
}
