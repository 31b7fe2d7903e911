//! A uThread gives way in the middle of application code, with all its registers live, and goes on
//! there.
//!
//! It happens where the host resumes the guest at its [`upcall`], because a uThread has had its time
//! slice, and at the end of a resume, where a request may have come in the meantime. Both have the
//! same things on the uThread's stack, below the red zone: rax, flags and instruction pointer.

use core::arch::naked_asm;
use core::mem::offset_of;

use crate::gs;

/// What the assembly here needs of a vCPU's private data, which begins with this. It is the same in
/// all vCPUs.
#[derive(Debug)]
#[repr(C)]
pub struct Head {
    /// Components of extended state that contexts have.
    xsave_mask: u64,
    /// Bytes of an XSAVE area with them.
    xsave_bytes: u64,
    /// FluxOS's scheduling point, for a uThread that must give way with all its registers live. It is
    /// told whether this is an upcall, and comes back with `critical` set.
    scheduling_point: extern "C" fn(u32),
    /// Where the stack area begins, its size, and a stack's size less 1.
    stacks: u64,
    area: u64,
    stack_mask: u64,
    /// How far above the lowest address of its stack a uThread must be to give way here.
    room: u64,
}

impl Head {
    /// `xsave`: mask and bytes. `stacks`: where the area begins, how many there are, and the size of one
    /// with its guard page, which is `guard`.
    pub fn new(
        xsave: (u64, u64),
        scheduling_point: extern "C" fn(u32),
        stacks: (u64, u64, u64),
        guard: u64,
    ) -> Head {
        let (xsave_mask, xsave_bytes) = xsave;
        let (stacks, count, stack_bytes) = stacks;
        Head {
            xsave_mask,
            xsave_bytes,
            scheduling_point,
            stacks,
            area: count.saturating_mul(stack_bytes),
            // Of a size that is no power of two it is not known how far up a uThread is; then all
            // of them have room.
            stack_mask: match stack_bytes.is_power_of_two() {
                true => stack_bytes - 1,
                false => u64::MAX,
            },
            room: guard + PUSHED + xsave_bytes + 64 + FRAMES,
        }
    }

    pub fn xsave_mask(&self) -> u64 {
        self.xsave_mask
    }
}

/// What [`give_way`] pushes after its look at the stack.
const PUSHED: u64 = 7 * 8;
/// The frames of the scheduling point, which are some hundred bytes, and a good deal more.
const FRAMES: u64 = 1024;

/// Where the host resumes a guest that it has interrupted in application code, so that the uThread
/// there gives way to the next one. It has set `critical`, has written down where the guest was,
/// and has set the stack pointer below the red zone; all other registers are the uThread's.
///
/// # Safety
/// For the host alone.
#[unsafe(naked)]
pub unsafe extern "C" fn upcall() {
    naked_asm!(
        "push qword ptr gs:[{upcall}]",
        "pushfq",
        "push rax",
        "mov eax, 1",
        "jmp {give_way}",
        upcall = const gs::UPCALL,
        give_way = sym give_way,
    )
}

/// The last instructions on the way back into application code are the heart of the matter.
/// `critical` must be cleared last, yet a jump to an arbitrary context takes several instructions
/// after which no register is free. So the tail of the restore is made a piece of the uThread's own
/// life: what is still to be loaded lies on the uThread's stack, below the red zone, and once
/// `critical` is 0 only that stack and the registers are used. Held in there, the uThread is exported
/// with an instruction pointer in this function and a stack pointer 136 to 280 bytes lower than it
/// was, and whoever resumes it, any number of times, lets it finish here first. If its upcall comes
/// in there, it gives way from there, some hundred bytes deeper; that takes two kicks within
/// these few instructions, so it does not add up.
///
/// After the clear it looks whether it is to give way, as every way out of FluxOS does: a kick that
/// came before the clear was ignored by the host, which relies on us to see what it was for.
///
/// # Safety
/// Jumped to with rax, flags and instruction pointer on a uThread's stack, 128 bytes below which they
/// are taken off; the other registers are that uThread's, which is current on this vCPU.
#[unsafe(naked)]
pub unsafe extern "C" fn go_on() {
    naked_asm!(
        // From the next instruction on the uThread may be held, here or anywhere.
        "mov dword ptr gs:[{critical}], 0",
        "mov eax, dword ptr gs:[{park_gen}]",
        "sub eax, dword ptr gs:[{settled}]",
        "jg 2f",
        "mov eax, dword ptr gs:[{preempt}]",
        "cmp eax, dword ptr gs:[{switches}]",
        "je 2f",
        "pop rax",
        "popfq",
        "ret 128", // over the red zone
        "2:",
        "xor eax, eax",
        "jmp {give_way}",
        critical = const gs::CRITICAL,
        park_gen = const gs::PARK_GEN,
        settled = const gs::SETTLED,
        preempt = const gs::PREEMPT,
        switches = const gs::SWITCHES,
        give_way = sym give_way,
    )
}

/// The uThread gives way as one that calls a scheduling point, except that every register it has is
/// live: they go onto its stack. eax: whether this is the upcall.
///
/// A uThread that is so deep in its stack that this does not fit does not give way, nor does one that
/// has gone to a stack of its own making, of which it is not known what is left. It has done nothing
/// wrong, and would not have overflown by itself. It is asked again, and gives way where it
/// has come up a little, or at its next call of FluxOS's. Until then a park takes it where it
/// stands, on the host's side, which needs no stack.
///
/// # Safety
/// As for [`go_on`]. `critical` may be set or not: then the uThread can be held here too.
#[unsafe(naked)]
unsafe extern "C" fn give_way() {
    naked_asm!(
        "push rcx",
        "push rdx",
        // The private data of whichever vCPU this is: what is read there is the same in all.
        "mov rcx, qword ptr gs:[{private}]",
        "mov rdx, rsp",
        "sub rdx, [rcx + {stacks}]",
        "cmp rdx, [rcx + {area}]",
        "jae 2f",
        "and rdx, [rcx + {stack_mask}]",
        "cmp rdx, [rcx + {room}]",
        "jb 2f",
        "push rbp",
        "mov rbp, rsp",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "push r11",
        "cld",
        "mov edi, eax",
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
        "lea rsp, [rbp - 48]",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rbp",
        "pop rdx",
        "pop rcx",
        "jmp {go_on}",
        "2:",
        "pop rdx",
        "pop rcx",
        "mov dword ptr gs:[{critical}], 0",
        "pop rax",
        "popfq",
        "ret 128",
        private = const gs::PRIVATE,
        critical = const gs::CRITICAL,
        stacks = const offset_of!(Head, stacks),
        area = const offset_of!(Head, area),
        stack_mask = const offset_of!(Head, stack_mask),
        room = const offset_of!(Head, room),
        xsave_mask = const offset_of!(Head, xsave_mask),
        xsave_bytes = const offset_of!(Head, xsave_bytes),
        point = const offset_of!(Head, scheduling_point),
        go_on = sym go_on,
    )
}
