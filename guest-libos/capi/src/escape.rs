//! A call that can be left from anywhere below it: what `pthread_exit` needs.

use core::arch::naked_asm;

/// Calls `f(arg, room)` with `bytes` bytes of room on this stack above its frames, 64-byte aligned.
/// What `f` returns, or what [`escape`] is given with the value stored at `*save`.
///
/// To whoever walks the stack it is an ordinary frame.
///
/// # Safety
/// As calling `f`. There is that much room on the stack. An escape leaves frames behind without
/// running anything of theirs, so they are C's, or hold nothing.
#[unsafe(naked)]
pub unsafe extern "C" fn call(
    save: *mut u64,
    bytes: usize,
    f: unsafe extern "C" fn(u64, *mut u8) -> u64,
    arg: u64,
) -> u64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rbp",
        "mov rdi, rcx",
        "sub rsp, rsi",
        "and rsp, -64",
        "mov rsi, rsp",
        "call rdx",
        "lea rsp, [rbp - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

/// Returns from the [`call`] that stored `saved`, with `value`.
///
/// # Safety
/// That call has not returned, and this is its uThread.
#[unsafe(naked)]
pub unsafe extern "C" fn escape(saved: u64, value: u64) -> ! {
    naked_asm!(
        "mov rax, rsi",
        "lea rsp, [rdi - 40]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    extern "C" fn doubled(arg: u64, room: *mut u8) -> u64 {
        assert_eq!(room as usize % 64, 0);
        // SAFETY: the room that the caller asked for.
        unsafe { room.write_bytes(0xff, 1000) };
        arg * 2
    }

    extern "C" fn left(arg: u64, _: *mut u8) -> u64 {
        // SAFETY: `arg` is where the call stored its mark.
        unsafe { escape(*(arg as *const u64), 7) }
    }

    #[test]
    fn it_returns_both_ways() {
        let mut mark = 0;
        let kept = [1u64, 2, 3];
        // SAFETY: both functions are harmless, and stacks of tests are large.
        unsafe {
            assert_eq!(call(&mut mark, 1000, doubled, 21), 42);
            let at = &raw mut mark;
            assert_eq!(call(at, 0, left, at as u64), 7);
        }
        assert_eq!(kept, [1, 2, 3]);
    }
}
