//! The cooperative switch: a call that returns on another stack.

use core::arch::{asm, naked_asm};

/// Bytes that [`switch`] leaves below a saved stack pointer: control words, six registers, and
/// the return address.
const FRAME_WORDS: usize = 8;
/// The control words that a context starts with: every exception masked, round to nearest.
const CONTROL: u64 = 0x1f80 | 0x37f << 32;

/// The switch itself, up to the return address on the new stack; `$then` goes there.
///
/// To the compiler this is a function call, so it has saved what a call may destroy; what a call
/// must keep is pushed here: six registers and the control bits of MXCSR and the x87 unit, which are only
/// loaded if they are others, because that is slow. Vector registers are all the caller's to save.
macro_rules! switch_and {
    ($($then:literal),+) => {
        naked_asm!(
            "push rbp",
            "push rbx",
            "push r12",
            "push r13",
            "push r14",
            "push r15",
            "sub rsp, 8",
            "stmxcsr [rsp]",
            "fnstcw [rsp + 4]",
            "mov eax, [rsp]",
            "movzx ecx, word ptr [rsp + 4]",
            "mov [rdi], rsp", // the old context is whole, but nobody knows of it yet
            "mov rsp, rsi",   // from here on this is the new stack
            "cmp eax, [rsp]",
            "jne 2f",
            "cmp cx, [rsp + 4]",
            "jne 2f",
            "3:",
            "add rsp, 8",
            "pop r15",
            "pop r14",
            "pop r13",
            "pop r12",
            "pop rbx",
            "pop rbp",
            $($then,)+
            "2:",
            "ldmxcsr [rsp]",
            "fldcw [rsp + 4]",
            "jmp 3b",
        )
    };
}

/// Saves the running context at `*save` and goes on with the one saved as `to`.
///
/// `critical` is set before and after and in between, so the host never holds a vCPU that stands
/// between two stacks.
///
/// # Safety
/// `critical` is set. `to` was saved by one of this module's switches or [`crate::resume::resume`], or made by
/// [`prepare`], and is used once. `*save` is not read by another vCPU before this one runs on `to`'s stack.
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut u64, to: u64) {
    switch_and!("ret")
}

/// As [`switch`], from a scheduler to a uThread, which gives it back by [`switch_out`].
///
/// A processor foretells returns by the calls that it has seen. So this one is no call, and the way out below
/// is no return: what the uThread's predecessor has called is what the processor has in mind when the uThread
/// returns from there, and most of them have called the same.
///
/// # Safety
/// As for [`switch`].
#[inline(always)]
pub unsafe fn switch_in(save: *mut u64, to: u64) {
    // SAFETY: as a call of `switch`, whose return address lies where a call puts it. What a call may destroy
    // is named, and the stack is said to be used.
    unsafe {
        asm!(
            "lea rax, [rip + 2f]",
            "push rax",
            "jmp {switch}",
            "2:",
            switch = sym switch,
            inout("rdi") save => _,
            inout("rsi") to => _,
            clobber_abi("C"),
        )
    }
}

/// As [`switch`], from a uThread to a scheduler, which came here by [`switch_in`].
///
/// # Safety
/// As for [`switch`].
#[unsafe(naked)]
pub unsafe extern "C" fn switch_out(save: *mut u64, to: u64) {
    switch_and!("pop rcx", "jmp rcx")
}

/// Makes a context that starts at `entry` upon the stack that ends at `top`; what [`switch`] takes
/// as `to`.
///
/// # Safety
/// The words below `top` are writable and unused.
pub unsafe fn prepare(top: u64, entry: extern "C" fn() -> !) -> u64 {
    // A function expects its stack as a call leaves it: 8 off a multiple of 16. The word above
    // the return address stays 0, for whoever walks the stack.
    let rsp = (top & !15) - 16 - FRAME_WORDS as u64 * 8 + 8;
    let frame = rsp as *mut u64;
    // SAFETY: the frame lies below `top`, which the caller promises to be writable.
    unsafe {
        frame.write(CONTROL);
        for word in 1..FRAME_WORDS - 1 {
            frame.add(word).write(0);
        }
        frame.add(FRAME_WORDS - 1).write(entry as usize as u64);
        frame.add(FRAME_WORDS).write(0);
    }
    rsp
}
