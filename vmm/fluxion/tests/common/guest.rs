//! A tiny guest for the tests: hand-written assembly, wrapped into an ELF image. The first letter of the
//! command line says what it does.
//!
//!   l  logs a line with a control character in it, then exits with code 0
//!   e  exits with code 7
//!   n  gives up by the panic door
//!   b  as n, after a backtrace that claims all that one can claim, and has nothing
//!   y  counts (done_lo) and yields, again and again
//!   p  counts, and parks by itself when it is asked
//!   c  counts and never parks, always in "FluxOS's code"
//!   s  counts in application code, checking its SSE registers, its red zone, its flags and its FS base all the
//!      time; as the vCPU's first uThread, which has the number 1
//!   x  as s on vCPU 0; the others steal vCPU 0's context when it is held, and go on with it
//!   w  reads address 0
//!   i  reads a port
//!   d  vCPU 0 rings the doorbell and yields; the others count and yield
//!
//! At its upcall (vCPU 0 only) it counts that (preempts), gives its uThread the next number, spoils all registers
//! that it saved before and goes on.

use std::arch::global_asm;

use flux_abi as abi;

pub const BASE: u64 = 0x40_0000;

global_asm!(
    r#"
    .pushsection .rodata.fluxion_test_guest, "a"
    .globl fluxion_test_guest, fluxion_test_guest_reentry, fluxion_test_guest_upcall, fluxion_test_guest_end
fluxion_test_guest:
    // r12: this vCPU's block; rsi: the control page; rdi: the vCPU's number
    mov r12, rdi
    shl r12, 8
    lea r12, [r12 + rsi + 0x2000]
    mov dword ptr [r12 + 4], 1
    mov al, byte ptr [rsi + 0x1088]
    cmp al, 'l'
    je 10f
    cmp al, 'e'
    je 20f
    cmp al, 'n'
    je 25f
    cmp al, 'b'
    je 24f
    cmp al, 'y'
    je 30f
    cmp al, 'p'
    je 40f
    cmp al, 'c'
    je 50f
    cmp al, 's'
    je 60f
    cmp al, 'x'
    je 70f
    cmp al, 'w'
    je 80f
    cmp al, 'i'
    je 85f
    cmp al, 'd'
    je 90f
    mov eax, 99
    out 0xe5, eax

10: mov rbx, rdi
    shl rbx, 8
    lea rbx, [rbx + rsi + 0x4000]
    mov rax, 0x6f72662007696863 // "chi\x07 fro"
    mov qword ptr [rbx], rax
    mov rax, 0x0a3320676e69726d // "mring 3\n"
    mov qword ptr [rbx + 8], rax
    mov eax, 16
    out 0xe3, eax
    xor eax, eax
    out 0xe5, eax

20: mov eax, 7
    out 0xe5, eax

24: mov eax, 0xffffffff
    out 0xe6, eax

25: mov rbx, rdi
    shl rbx, 8
    mov dword ptr [rbx + rsi + 0x4000], 0x65766967 // "give"
    mov eax, 4
    out 0xe4, eax

30: add dword ptr [r12 + 64], 1
    out 0xe1, eax
    jmp 30b

    // asked? (int)(park_gen - settled) > 0
40: add dword ptr [r12 + 64], 1
    mov eax, dword ptr [r12 + 128]
    sub eax, dword ptr [r12 + 132]
    cmp eax, 0
    jle 41f
    add dword ptr [r12 + 40], 1
    mov eax, dword ptr [r12 + 128]
    mov dword ptr [r12 + 8], eax
    out 0xe0, eax
    mov eax, dword ptr [r12 + 136]
    mov dword ptr [r12 + 20], eax
41: pause
    jmp 40b

50: add dword ptr [r12 + 64], 1
    pause
    jmp 50b

    // The uThread. r11: where it counts, the same wherever it runs. Patterns from r12's block.
60: mov r11, r12
    mov rax, 0x1122334455667788
    mov rbx, 0x99aabbccddeeff00
    mov rbp, 0x0f0e0d0c0b0a0908
    mov qword ptr [rsp - 8], rbp
    lea rcx, [r12 + 0x100000]
    wrfsbase rcx
    movq xmm0, rax
    movq xmm7, rbx
    movq xmm15, rbp
    mov r15, rsi
    std
    add dword ptr [r12 + 32], 1
    mov dword ptr [r12 + 4], 0
61: add dword ptr [r11 + 64], 1
    movq r8, xmm0
    cmp r8, rax
    jne 69f
    movq r8, xmm7
    cmp r8, rbx
    jne 69f
    movq r8, xmm15
    cmp r8, rbp
    jne 69f
    cmp qword ptr [rsp - 8], rbp
    jne 69f
    rdfsbase r8
    cmp r8, rcx
    jne 69f
    // Backwards: from the red zone's first word to what lies below it.
    lea rdi, [rsp - 8]
    scasq
    lea rdi, [rdi + 16]
    cmp rdi, rsp
    je 61b
69: lock add dword ptr [r15 + 24], 1
    jmp 61b

70: cmp rdi, 0
    je 60b
    // A thief: vCPU 0's hint, the door, the answer.
71: cmp dword ptr [rsi + 0x2000 + 144], 0
    je 72f
    add dword ptr [r12 + 36], 1
    xor eax, eax
    out 0xe2, eax
    cmp dword ptr [r12 + 148], 1
    je 73f
72: pause
    jmp 71b
73: add dword ptr [r12 + 48], 1
    // From the context slot of vCPU 0, at 0x8000: extended state first, then an iretq frame, then registers.
    lea r10, [rsi + 0x8000]
    mov eax, dword ptr [rsi + 0x1028]
    mov edx, dword ptr [rsi + 0x102c]
    xrstor64 [r10 + 256]
    mov rax, qword ptr [r10 + 144]
    wrfsbase rax
    push 0x2b
    push qword ptr [r10 + 56]
    push qword ptr [r10 + 136]
    push 0x33
    push qword ptr [r10 + 128]
    mov rax, qword ptr [r10 + 0]
    mov rbx, qword ptr [r10 + 8]
    mov rcx, qword ptr [r10 + 16]
    mov rdx, qword ptr [r10 + 24]
    mov rdi, qword ptr [r10 + 40]
    mov rbp, qword ptr [r10 + 48]
    mov r8, qword ptr [r10 + 64]
    mov r9, qword ptr [r10 + 72]
    mov r11, qword ptr [r10 + 88]
    mov r13, qword ptr [r10 + 104]
    mov r14, qword ptr [r10 + 112]
    mov r15, qword ptr [r10 + 120]
    mov rsi, qword ptr [r10 + 32]
    mov r10, qword ptr [r10 + 80]
    mov dword ptr [r12 + 4], 0
    iretq

80: mov eax, dword ptr [0]
    jmp 80b

85: in eax, 0xe0
    jmp 85b

90: cmp rdi, 0
    jne 30b
91: add dword ptr [r12 + 64], 1
    out 0xe8, eax
    out 0xe1, eax
    jmp 91b

    // Resumed here: below the red zone, with everything live, and in FluxOS's code.
fluxion_test_guest_upcall:
    push qword ptr ds:[0x400020a8]
    pushfq
    push rax
    push r8
    cld
    sub rsp, 16
    movdqu [rsp], xmm0
    pxor xmm0, xmm0
    cmp dword ptr ds:[0x40002004], 1
    jne 32f
    add dword ptr ds:[0x40002064], 1
32: add dword ptr ds:[0x40002020], 1
    movdqu xmm0, [rsp]
    add rsp, 16
    pop r8
    pop rax
    mov dword ptr ds:[0x40002004], 0
    popfq
    ret 128

    // The context was taken: count it, then yield for ever.
fluxion_test_guest_reentry:
    mov r12, rdi
    shl r12, 8
    lea r12, [r12 + rsi + 0x2000]
    add dword ptr [r12 + 44], 1
31: out 0xe1, eax
    jmp 31b
fluxion_test_guest_end:
    .popsection
    "#
);

extern "C" {
    static fluxion_test_guest: u8;
    static fluxion_test_guest_reentry: u8;
    static fluxion_test_guest_upcall: u8;
    static fluxion_test_guest_end: u8;
}

/// The code, and the addresses in it of the re-entry point and of the upcall.
fn code() -> (&'static [u8], u64, u64) {
    // SAFETY: the four symbols are of one section, and what lies between the first and the last is constant.
    unsafe {
        let start = &raw const fluxion_test_guest;
        let len = (&raw const fluxion_test_guest_end).offset_from(start) as usize;
        let at = |symbol: *const u8| BASE + symbol.offset_from(start) as u64;
        let (reentry, upcall) = (
            at(&raw const fluxion_test_guest_reentry),
            at(&raw const fluxion_test_guest_upcall),
        );
        (std::slice::from_raw_parts(start, len), reentry, upcall)
    }
}

fn note(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [10, data.len() as u32, kind] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(b"HyperFlux\0\0\0");
    bytes.extend(data);
    bytes
}

/// The guest as an image of this ABI version.
pub fn image_of(major: u32, minor: u32) -> Vec<u8> {
    let (code, reentry, upcall) = code();
    let notes = [
        note(1, &[major.to_le_bytes(), minor.to_le_bytes()].concat()),
        note(2, &reentry.to_le_bytes()),
        note(3, &upcall.to_le_bytes()),
    ]
    .concat();
    let mut file = vec![0; 64];
    file[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    file[16..18].copy_from_slice(&2u16.to_le_bytes());
    file[18..20].copy_from_slice(&62u16.to_le_bytes());
    file[24..32].copy_from_slice(&BASE.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[54..56].copy_from_slice(&56u16.to_le_bytes());
    file[56..58].copy_from_slice(&2u16.to_le_bytes());
    let len = code.len() as u64;
    for (kind, flags, offset, address, size) in [
        (1u32, 5u32, 4096u64, BASE, len),
        (4, 4, 256, 0, notes.len() as u64),
    ] {
        file.extend(kind.to_le_bytes());
        file.extend(flags.to_le_bytes());
        for word in [offset, address, address, size, size, 4096] {
            file.extend(word.to_le_bytes());
        }
    }
    file.resize(256, 0);
    file.extend(notes);
    file.resize(4096, 0);
    file.extend(code);
    file
}

pub fn image() -> Vec<u8> {
    image_of(abi::ABI_MAJOR, abi::ABI_MINOR)
}
