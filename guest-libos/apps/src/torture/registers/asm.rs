//! Code that has a known value in every register for as long as it is told to, and does nothing else.

use core::arch::global_asm;
use core::mem::offset_of;

use super::image::Image;

unsafe extern "C" {
    /// Loads all registers from `want`, lets rcx count down from `spins`, and writes all registers to
    /// `got`. The loop is one instruction, which changes nothing but rcx and rip: wherever the vCPU
    /// is held in it, all registers are live, and the flags.
    pub fn flux_hold_sse(want: *const Image, got: *mut Image, spins: u64);
    pub fn flux_hold_avx(want: *const Image, got: *mut Image, spins: u64);
    pub fn flux_hold_avx512(want: *const Image, got: *mut Image, spins: u64);
    /// Calls `call(with)` with known values in the registers that a function keeps.
    pub fn flux_keep(want: *const Image, got: *mut Image, call: unsafe extern "C" fn(u64), with: u64);
}

// The frame, from rsp up: 0: the caller's rsp, 8: where the image goes, 16: MXCSR and 20: the control
// word of the caller, 24: whose vCPU it was. rsp itself is checked by everything that is found
// through it.
global_asm!(
    ".pushsection .text.flux_hold, \"ax\", @progbits",
    r"
    .macro flux_hold name, level
    .globl \name
    \name:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        mov rax, rsp
        sub rsp, 64
        and rsp, -64
        mov [rsp], rax
        mov [rsp + 8], rsi
        stmxcsr [rsp + 16]
        fnstcw [rsp + 20]
        mov rax, qword ptr gs:[{private}]
        mov [rsp + 24], rax
        ldmxcsr [rdi + {control}]
        fldcw [rdi + {control} + 4]
        .irp i, 0,1,2,3,4,5,6,7
        movq mm\i, [rdi + {mm} + 8 * \i]
        .endr
        .irp k, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        mov rax, [rdi + {red} + 8 * \k]
        mov [rsp - 8 - 8 * \k], rax
        .endr
        .if \level == 0
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqa xmm\i, [rdi + {vectors} + 64 * \i]
        .endr
        .elseif \level == 1
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqa ymm\i, [rdi + {vectors} + 64 * \i]
        .endr
        .else
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovdqa64 zmm\i, [rdi + {vectors} + 64 * \i]
        .endr
        .irp i, 0,1,2,3,4,5,6,7
        kmovw k\i, [rdi + {masks} + 8 * \i]
        .endr
        .endif
        // The flags go through memory below the red zone, and what follows does not change them.
        lea rsp, [rsp - 128]
        push qword ptr [rdi + {flags}]
        popfq
        lea rsp, [rsp + 128]
        mov rcx, rdx
        mov rax, [rdi + {general}]
        mov rbx, [rdi + {general} + 8]
        mov rdx, [rdi + {general} + 24]
        mov rsi, [rdi + {general} + 32]
        mov rbp, [rdi + {general} + 48]
        mov r8, [rdi + {general} + 56]
        mov r9, [rdi + {general} + 64]
        mov r10, [rdi + {general} + 72]
        mov r11, [rdi + {general} + 80]
        mov r12, [rdi + {general} + 88]
        mov r13, [rdi + {general} + 96]
        mov r14, [rdi + {general} + 104]
        mov r15, [rdi + {general} + 112]
        mov rdi, [rdi + {general} + 40]
    2:
        loop 2b
        lea rsp, [rsp - 128]
        pushfq
        cld
        push rax
        mov rax, [rsp + 152]
        pop qword ptr [rax + {general}]
        pop qword ptr [rax + {flags}]
        lea rsp, [rsp + 128]
        mov [rax + {general} + 8], rbx
        mov [rax + {general} + 16], rcx
        mov [rax + {general} + 24], rdx
        mov [rax + {general} + 32], rsi
        mov [rax + {general} + 40], rdi
        mov [rax + {general} + 48], rbp
        mov [rax + {general} + 56], r8
        mov [rax + {general} + 64], r9
        mov [rax + {general} + 72], r10
        mov [rax + {general} + 80], r11
        mov [rax + {general} + 88], r12
        mov [rax + {general} + 96], r13
        mov [rax + {general} + 104], r14
        mov [rax + {general} + 112], r15
        .irp k, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        mov rbx, [rsp - 8 - 8 * \k]
        mov [rax + {red} + 8 * \k], rbx
        .endr
        .if \level == 0
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        movdqa [rax + {vectors} + 64 * \i], xmm\i
        .endr
        .elseif \level == 1
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
        vmovdqa [rax + {vectors} + 64 * \i], ymm\i
        .endr
        vzeroupper
        .else
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
        vmovdqa64 [rax + {vectors} + 64 * \i], zmm\i
        .endr
        .irp i, 0,1,2,3,4,5,6,7
        kmovw [rax + {masks} + 8 * \i], k\i
        .endr
        vzeroupper
        .endif
        .irp i, 0,1,2,3,4,5,6,7
        movq [rax + {mm} + 8 * \i], mm\i
        .endr
        stmxcsr [rax + {control}]
        fnstcw [rax + {control} + 4]
        mov word ptr [rax + {control} + 6], 0
        emms
        mov rbx, qword ptr gs:[{private}]
        xor rbx, [rsp + 24]
        mov [rax + {moved}], rbx
        ldmxcsr [rsp + 16]
        fldcw [rsp + 20]
        mov rsp, [rsp]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret
    .endm
    flux_hold flux_hold_sse, 0
    flux_hold flux_hold_avx, 1
    flux_hold flux_hold_avx512, 2

    .globl flux_keep
    flux_keep:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        sub rsp, 24
        mov [rsp], rsi
        stmxcsr [rsp + 8]
        fnstcw [rsp + 12]
        ldmxcsr [rdi + {control}]
        fldcw [rdi + {control} + 4]
        mov rbx, [rdi + {general} + 8]
        mov rbp, [rdi + {general} + 48]
        mov r12, [rdi + {general} + 88]
        mov r13, [rdi + {general} + 96]
        mov r14, [rdi + {general} + 104]
        mov r15, [rdi + {general} + 112]
        mov rdi, rcx
        call rdx
        mov rax, [rsp]
        mov [rax + {general} + 8], rbx
        mov [rax + {general} + 48], rbp
        mov [rax + {general} + 88], r12
        mov [rax + {general} + 96], r13
        mov [rax + {general} + 104], r14
        mov [rax + {general} + 112], r15
        stmxcsr [rax + {control}]
        fnstcw [rax + {control} + 4]
        mov word ptr [rax + {control} + 6], 0
        ldmxcsr [rsp + 8]
        fldcw [rsp + 12]
        add rsp, 24
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret
    .popsection
    ",
    private = const libos::vcpu::PRIVATE,
    general = const offset_of!(Image, general),
    flags = const offset_of!(Image, flags),
    control = const offset_of!(Image, control),
    moved = const offset_of!(Image, moved),
    mm = const offset_of!(Image, mm),
    masks = const offset_of!(Image, masks),
    red = const offset_of!(Image, red_zone),
    vectors = const offset_of!(Image, vectors),
);
