//! Application code that never calls FluxOS, with a known value in every register.

use core::arch::global_asm;
use core::sync::atomic::AtomicU32;

use libos::uthread::kernel;

/// A value for each vector register that is checked, 32 bytes apart.
#[repr(C, align(64))]
struct Patterns([[u64; 4]; 16]);

/// What [`spin`] finds wrong.
const WRONG: [&str; 6] = [
    "",
    "a general register",
    "the red zone",
    "a vector register",
    "a control word",
    "a flag",
];

/// Turns between two visits to Rust code.
const TURNS: u64 = 1 << 22;

unsafe extern "C" {
    /// Spins for `turns` turns. In each it writes the TSC to where this vCPU counts its work, and to
    /// `shown`, and checks that 13 general registers, 14 or 15 vector registers, the red zone, the
    /// control words and the direction flag are as they were; 0, or an index of `WRONG`.
    fn flux_spin_sse(patterns: *const Patterns, turns: u64, shown: *const AtomicU32) -> u64;
    fn flux_spin_avx(patterns: *const Patterns, turns: u64, shown: *const AtomicU32) -> u64;
}

/// Spins for ever, and counts what is found wrong as integrity errors. Where other guests put
/// completions, which a probe does not have, the one with the number `which` shows when this uThread ran
/// last (`done`, TSC).
pub fn spin(which: u64) {
    let header = kernel().page.header();
    let shown = &raw const kernel().page.completion(which as u32).done_lo;
    let avx = header.xcr0_lo & 4 != 0;
    // The address of the stack makes the values of one uThread different from another's.
    let mut patterns = Patterns([[0; 4]; 16]);
    let own = &raw const patterns as u64;
    for (i, pattern) in patterns.0.iter_mut().enumerate() {
        for (j, word) in pattern.iter_mut().enumerate() {
            *word = own
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left((i * 4 + j) as u32);
        }
    }
    let mut told = false;
    loop {
        // SAFETY: both keep what a function must keep, read the patterns, and write to `shown` eight
        // bytes that lie in the page.
        let wrong = unsafe {
            match avx {
                true => flux_spin_avx(&patterns, TURNS, shown),
                false => flux_spin_sse(&patterns, TURNS, shown),
            }
        };
        if wrong != 0 {
            kernel().count_integrity_error();
            if !told {
                told = true;
                let what = WRONG.get(wrong as usize).unwrap_or(&"something");
                libos::log::info(format_args!(
                    "probe: {what} was changed while the uThread was off its core"
                ));
            }
        }
    }
}

// The frame, from rsp up: 512 bytes of patterns, 640: turns left, 648: the caller's rsp, 656:
// MXCSR, 660: the x87 control word, 664 and 668: room to look at them, 672: `shown`. rsp itself is checked by
// everything that is found through it.
global_asm!(
    ".pushsection .text.flux_spin, \"ax\", @progbits",
    r"
    .macro flux_spin name, avx
    .globl \name
    \name:
        push rbp
        push rbx
        push r12
        push r13
        push r14
        push r15
        mov rax, rsp
        sub rsp, 704
        and rsp, -64
        mov [rsp + 648], rax
        mov [rsp + 640], rsi
        mov [rsp + 672], rdx
        xor ecx, ecx
    2:
        mov rax, [rdi + rcx]
        mov [rsp + rcx], rax
        add rcx, 8
        cmp rcx, 512
        jb 2b
        mov dword ptr [rsp + 656], 0x7f80
        ldmxcsr [rsp + 656]
        mov word ptr [rsp + 660], 0x0f7f
        fldcw [rsp + 660]
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
        .if \avx
        vmovdqa ymm\i, [rsp + 32 * \i]
        .else
        movdqa xmm\i, [rsp + 32 * \i]
        .endif
        .endr
        .irp k, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
        mov qword ptr [rsp - 8 * \k], -0x5a5a0000 - \k
        .endr
        std
        mov rbx, -0x11110000
        mov rcx, 0x22220001
        mov rsi, -0x33330002
        mov rdi, 0x44440003
        mov rbp, -0x55550004
        .irp r, 8,9,10,11,12,13,14,15
        mov r\r, -0x66660000 - \r
        .endr
    3:
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov qword ptr gs:[{done}], rax
        mov rdx, [rsp + 672]
        mov [rdx], rax
        mov eax, 1
        cmp rbx, -0x11110000
        jne 4f
        cmp rcx, 0x22220001
        jne 4f
        cmp rsi, -0x33330002
        jne 4f
        cmp rdi, 0x44440003
        jne 4f
        cmp rbp, -0x55550004
        jne 4f
        .irp r, 8,9,10,11,12,13,14,15
        cmp r\r, -0x66660000 - \r
        jne 4f
        .endr
        mov eax, 2
        .irp k, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16
        cmp qword ptr [rsp - 8 * \k], -0x5a5a0000 - \k
        jne 4f
        .endr
        .irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14
        .if \avx
        vpxor ymm15, ymm\i, [rsp + 32 * \i]
        mov eax, 3
        vptest ymm15, ymm15
        jnz 4f
        .else
        movdqa xmm15, xmm\i
        pcmpeqd xmm15, [rsp + 32 * \i]
        pmovmskb edx, xmm15
        mov eax, 3
        cmp edx, 0xffff
        jne 4f
        .endif
        .endr
        mov eax, 4
        stmxcsr [rsp + 664]
        mov edx, [rsp + 664]
        cmp edx, [rsp + 656]
        jne 4f
        fnstcw [rsp + 668]
        mov dx, [rsp + 668]
        cmp dx, [rsp + 660]
        jne 4f
        // Backwards, as long as the direction flag is set: from here to eight bytes below.
        mov eax, 5
        lea rsi, [rsp + 640]
        mov rdx, rax
        lodsq
        mov rax, rdx
        lea rdx, [rsp + 632]
        cmp rsi, rdx
        jne 4f
        mov rsi, -0x33330002
        xor eax, eax
        dec qword ptr [rsp + 640]
        jnz 3b
    4:
        cld
        .if \avx
        vzeroupper
        .endif
        mov dword ptr [rsp + 656], 0x1f80
        ldmxcsr [rsp + 656]
        mov word ptr [rsp + 660], 0x037f
        fldcw [rsp + 660]
        mov rsp, [rsp + 648]
        pop r15
        pop r14
        pop r13
        pop r12
        pop rbx
        pop rbp
        ret
    .endm
    flux_spin flux_spin_sse, 0
    flux_spin flux_spin_avx, 1
    .popsection
    ",
    done = const libos::vcpu::DONE,
);
