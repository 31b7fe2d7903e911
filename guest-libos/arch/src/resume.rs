//! The full resume: a context that the host exported goes on, on another vCPU.

use core::arch::naked_asm;
use core::mem::offset_of;

use flux_abi::Context;

use crate::upcall::go_on;

/// The flags of a context that application code may own. The others (interrupts, I/O privilege,
/// single step) stay as they are on this vCPU.
pub const USER_FLAGS: u64 = 0x0024_0cd5;
/// The others as FluxOS runs with them; at ring 3 most of them cannot be changed anyway.
pub const SYSTEM_FLAGS: u64 = 2;

/// Saves the running context at `*save`, as [`crate::switch::switch`] does, and goes on with an
/// exported one.
///
/// What is still to be loaded when this vCPU's own data is not needed any more lies on the
/// uThread's stack, below the red zone; the rest is [`go_on`], which every way back into the middle
/// of application code shares. (An `iretq` from a frame of the vCPU's own would not do: a thief
/// could find the frame overwritten.)
///
/// # Safety
/// `critical` is set, and GS base; `current` names the uThread to go on with. `regs` and `xsave`
/// are a context of it that nobody else resumes; `regs` is this vCPU's own copy, its flags made
/// of [`USER_FLAGS`] and [`SYSTEM_FLAGS`]. `xsave` is 64-byte aligned and valid for `mask`. `busy`
/// is set to 0 once `xsave` is not needed any more.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(
    save: *mut u64,
    regs: *const Context,
    xsave: *const u8,
    mask: u64,
    busy: *const u32,
    set_fs: u64,
) {
    naked_asm!(
        // The scheduler's context, for the uThread's next `switch` back to it.
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "fnstcw [rsp + 4]",
        "mov [rdi], rsp",
        "test r9, r9",
        "jz 2f",
        "mov rax, [rsi + {fs_base}]",
        "wrfsbase rax",
        "2:",
        "mov r10, rdx",
        "mov eax, ecx",
        "mov rdx, rcx",
        "shr rdx, 32",
        "xrstor64 [r10]",
        // The slot is free: its vCPU may be interrupted and exported again. Plain stores are
        // released in order on x86; pairs with the acquire of whoever waits for the slot.
        "mov dword ptr [r8], 0",
        // On to the uThread's stack, below its red zone: rax, flags, instruction pointer.
        "mov rdi, rsi",
        "mov rsp, [rdi + {rsp_}]",
        "lea rsp, [rsp - 152]",
        "mov rax, [rdi + {rax}]",
        "mov [rsp], rax",
        "mov rax, [rdi + {rflags}]",
        "mov [rsp + 8], rax",
        "mov rax, [rdi + {rip}]",
        "mov [rsp + 16], rax",
        "mov rbx, [rdi + {rbx}]",
        "mov rcx, [rdi + {rcx}]",
        "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]",
        "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]",
        "mov r9, [rdi + {r9}]",
        "mov r10, [rdi + {r10}]",
        "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]",
        "mov r13, [rdi + {r13}]",
        "mov r14, [rdi + {r14}]",
        "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        // Nothing of this vCPU's is used any more.
        "jmp {go_on}",
        fs_base = const offset_of!(Context, fs_base),
        rax = const offset_of!(Context, rax),
        rbx = const offset_of!(Context, rbx),
        rcx = const offset_of!(Context, rcx),
        rdx = const offset_of!(Context, rdx),
        rsi = const offset_of!(Context, rsi),
        rdi = const offset_of!(Context, rdi),
        rbp = const offset_of!(Context, rbp),
        rsp_ = const offset_of!(Context, rsp),
        r8 = const offset_of!(Context, r8),
        r9 = const offset_of!(Context, r9),
        r10 = const offset_of!(Context, r10),
        r11 = const offset_of!(Context, r11),
        r12 = const offset_of!(Context, r12),
        r13 = const offset_of!(Context, r13),
        r14 = const offset_of!(Context, r14),
        r15 = const offset_of!(Context, r15),
        rip = const offset_of!(Context, rip),
        rflags = const offset_of!(Context, rflags),
        go_on = sym go_on,
    )
}
