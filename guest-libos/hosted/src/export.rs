//! An interrupted context, out of its signal frame.

use flux_abi::{Context, CONTEXT_XSAVE_OFFSET};
use fluxion::context_slot::{empty_context, ContextSlot};

/// Where the kernel says what follows the legacy part of the frame's extended state.
const SOFTWARE: usize = 464;
const MAGIC: u32 = 0x4650_5853;
/// The part that every frame has.
const LEGACY: usize = 512;
const HEADER: usize = 64;
const ROOM: usize = flux_abi::CONTEXT_BYTES - CONTEXT_XSAVE_OFFSET;

/// Copies the context into the slot.
///
/// # Safety
/// `frame` is the frame of a signal handler that does not return meanwhile.
pub unsafe fn export(frame: *const libc::ucontext_t, slot: &ContextSlot<'_>) -> Result<(), &'static str> {
    // SAFETY: by the caller's promise.
    let (context, area) = unsafe { (registers(&*frame), (*frame).uc_mcontext.fpregs.cast::<u8>()) };
    slot.put_registers(&context);
    if area.is_null() {
        return Err("the signal frame has no extended state");
    }
    // SAFETY: the kernel's frame has the legacy part, and as much more as it says there.
    unsafe {
        let word = |at: usize| area.add(at).cast::<u32>().read_unaligned();
        if word(SOFTWARE) != MAGIC {
            // FXSAVE only. An XSAVE header makes it an area with x87 and SSE state.
            let mut bytes = [0; LEGACY + HEADER];
            area.copy_to_nonoverlapping(bytes.as_mut_ptr(), LEGACY);
            bytes[LEGACY] = 3;
            slot.put_xsave(&bytes);
            return Ok(());
        }
        // magic, size with the trailing mark, features (64 bits), size without it.
        let size = word(SOFTWARE + 16) as usize;
        if !(LEGACY + HEADER..=ROOM).contains(&size) {
            return Err("the signal frame's extended state does not fit a context slot");
        }
        slot.put_xsave(std::slice::from_raw_parts(area, size));
    }
    Ok(())
}

fn registers(frame: &libc::ucontext_t) -> Context {
    let of = |which: libc::c_int| frame.uc_mcontext.gregs[which as usize] as u64;
    Context {
        rax: of(libc::REG_RAX),
        rbx: of(libc::REG_RBX),
        rcx: of(libc::REG_RCX),
        rdx: of(libc::REG_RDX),
        rsi: of(libc::REG_RSI),
        rdi: of(libc::REG_RDI),
        rbp: of(libc::REG_RBP),
        rsp: of(libc::REG_RSP),
        r8: of(libc::REG_R8),
        r9: of(libc::REG_R9),
        r10: of(libc::REG_R10),
        r11: of(libc::REG_R11),
        r12: of(libc::REG_R12),
        r13: of(libc::REG_R13),
        r14: of(libc::REG_R14),
        r15: of(libc::REG_R15),
        rip: of(libc::REG_RIP),
        rflags: of(libc::REG_EFL),
        // FS base is the thread's C library's and stays with the thread.
        ..empty_context()
    }
}
