//! The five functions that compiled Rust code expects of its surroundings.
//!
//! String instructions, written as such: a loop in Rust could be turned into a call of the very
//! function that it implements. Processors of the last ten years move whole lines with them.

use core::arch::naked_asm;

/// # Safety
/// As in C: both ranges are valid and do not overlap.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!("mov rax, rdi", "mov rcx, rdx", "rep movsb", "ret")
}

/// # Safety
/// As in C: both ranges are valid.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "mov rcx, rdx",
        "mov r8, rdi",
        "sub r8, rsi",
        "cmp r8, rdx", // unsigned: below n only if `to` lies inside `from`'s range
        "jb 2f",
        "rep movsb",
        "ret",
        // Backwards: whole words from the end, then the bytes that are left at the beginning.
        "2:",
        "sub rcx, 8",
        "jb 4f",
        "3:",
        "mov r9, [rsi + rcx]",
        "mov [rdi + rcx], r9",
        "sub rcx, 8",
        "jae 3b",
        "4:",
        "add rcx, 8",
        "jz 6f",
        "5:",
        "mov r9b, [rsi + rcx - 1]",
        "mov [rdi + rcx - 1], r9b",
        "dec rcx",
        "jnz 5b",
        "6:",
        "ret",
    )
}

/// # Safety
/// As in C: the range is valid.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, n: usize) -> *mut u8 {
    naked_asm!(
        "mov r8, rdi",
        "mov eax, esi",
        "mov rcx, rdx",
        "rep stosb",
        "mov rax, r8",
        "ret"
    )
}

/// # Safety
/// As in C: both ranges are valid.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!(
        "xor ecx, ecx",
        "2:",
        "cmp rcx, rdx",
        "je 3f",
        "movzx eax, byte ptr [rdi + rcx]",
        "movzx r8d, byte ptr [rsi + rcx]",
        "inc rcx",
        "sub eax, r8d",
        "je 2b",
        "ret",
        "3:",
        "xor eax, eax",
        "ret",
    )
}

/// As `memcmp`, for those who only ask whether the ranges are equal.
///
/// # Safety
/// As in C: both ranges are valid.
#[unsafe(naked)]
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    naked_asm!("jmp {memcmp}", memcmp = sym memcmp)
}
