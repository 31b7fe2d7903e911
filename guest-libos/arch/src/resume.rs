//! The full resume: a context that the host exported goes on, on another vCPU.

use core::arch::naked_asm;
use core::mem::offset_of;

use flux_abi::Context;

use crate::gs;

/// What the assembly below needs of a vCPU's private data, which begins with this.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    /// Components of extended state that contexts have.
    pub xsave_mask: u64,
    /// Bytes of an XSAVE area with them.
    pub xsave_bytes: u64,
    /// FluxOS's scheduling point, for a uThread that must give way with all its registers live.
    pub scheduling_point: extern "C" fn(),
}

/// The flags of a context that application code may own. The others (interrupts, I/O privilege,
/// single step) stay as they are on this vCPU.
pub const USER_FLAGS: u64 = 0x0024_0cd5;
/// The others as FluxOS runs with them; at ring 3 most of them cannot be changed anyway.
pub const SYSTEM_FLAGS: u64 = 2;

/// Saves the running context at `*save`, as [`crate::switch::switch`] does, and goes on with an
/// exported one.
///
/// The last instructions of a resume are the heart of the matter. `critical` must be cleared last,
/// yet a jump to an arbitrary context takes several instructions after which no register is free.
/// So the tail of the restore is made a piece of the uThread's own life: what is still to be
/// loaded lies on the uThread's stack, below the red zone, and once `critical` is 0 only that
/// stack and the registers are used. Held in there, the uThread is exported with an instruction
/// pointer in this function and a stack pointer 136 to 280 bytes lower than it was, and whoever
/// resumes it, any number of times, lets it finish here first. (An `iretq` from a frame of the vCPU's own would not
/// do: a thief could find the frame overwritten.)
///
/// After the clear it looks for a park request, as every way out of FluxOS does: a kick that came
/// before the clear was ignored by the host, which relies on us to see the request.
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
        // Nothing of this vCPU's is used any more. From the next instruction on the uThread may
        // be held, here or anywhere.
        "mov dword ptr gs:[{critical}], 0",
        "mov eax, dword ptr gs:[{park_gen}]",
        "sub eax, dword ptr gs:[{settled}]",
        "jg 4f",
        "3:",
        "pop rax",
        "popfq",
        "ret 128", // over the red zone
        // Asked to park in the meantime. The uThread gives way as one that calls a scheduling
        // point, except that every register it has is live: they go onto its stack.
        "4:",
        "push rbp",
        "mov rbp, rsp",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "cld",
        // The private data of whichever vCPU this is: what is read there is the same in all.
        "mov rcx, qword ptr gs:[{private}]",
        "sub rsp, [rcx + {xsave_bytes}]",
        "and rsp, -64",
        // XSAVE writes the first word of the header only, and the rest must be 0 for XRSTOR.
        "xor eax, eax",
        "mov [rsp + 512], rax",
        "mov [rsp + 520], rax",
        "mov [rsp + 528], rax",
        "mov [rsp + 536], rax",
        "mov [rsp + 544], rax",
        "mov [rsp + 552], rax",
        "mov [rsp + 560], rax",
        "mov [rsp + 568], rax",
        "mov eax, [rcx + {xsave_mask}]",
        "mov edx, [rcx + {xsave_mask} + 4]",
        "xsave64 [rsp]",
        "call [rcx + {point}]",
        "mov rcx, qword ptr gs:[{private}]",
        "mov eax, [rcx + {xsave_mask}]",
        "mov edx, [rcx + {xsave_mask} + 4]",
        "xrstor64 [rsp]",
        "lea rsp, [rbp - 64]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbp",
        "jmp 3b",
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
        critical = const gs::CRITICAL,
        park_gen = const gs::PARK_GEN,
        settled = const gs::SETTLED,
        private = const gs::PRIVATE,
        xsave_mask = const offset_of!(Head, xsave_mask),
        xsave_bytes = const offset_of!(Head, xsave_bytes),
        point = const offset_of!(Head, scheduling_point),
    )
}
