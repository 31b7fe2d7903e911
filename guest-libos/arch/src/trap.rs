//! Exceptions: gates that lead to ring 3, so that nothing of FluxOS runs at ring 0.

use core::arch::global_asm;
use core::sync::atomic::{AtomicUsize, Ordering};

use crate::gs;

/// What `critical` says while a vCPU describes an exception.
pub const DYING: u32 = 2;
/// Vectors that are exceptions.
pub const VECTORS: usize = 32;
const GATES: usize = 256;

/// One entry of the interrupt descriptor table.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Gate {
    offset_low: u16,
    selector: u16,
    ist: u8,
    kind: u8,
    offset_middle: u16,
    offset_high: u32,
    reserved: u32,
}

const _: () = assert!(size_of::<Gate>() == 16);

impl Gate {
    const ABSENT: Gate = Gate {
        offset_low: 0,
        selector: 0,
        ist: 0,
        kind: 0,
        offset_middle: 0,
        offset_high: 0,
        reserved: 0,
    };

    /// A trap gate (an interrupt gate would lose the virtual interrupt flag under PVM) into the
    /// ring-3 code segment, on IST 1, because the interrupted code may be using its red zone.
    fn to(handler: u64) -> Gate {
        Gate {
            offset_low: handler as u16,
            selector: 0x33,
            ist: 1,
            kind: 0xef, // present, DPL 3, 64-bit trap gate
            offset_middle: (handler >> 16) as u16,
            offset_high: (handler >> 32) as u32,
            reserved: 0,
        }
    }
}

/// What an exception finds, in the order in which it was pushed, last first.
#[derive(Debug)]
#[repr(C)]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    pub vector: u64,
    /// 0 for exceptions that have none.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

/// Address of the handler that all stubs go to.
static HANDLER: AtomicUsize = AtomicUsize::new(0);

unsafe extern "C" {
    /// 32 stubs of 16 bytes.
    static flux_trap_stubs: [[u8; 16]; VECTORS];
}

/// Fills the table: exceptions lead to `handler`, everything else is absent.
///
/// # Safety
/// `table` is the vCPUs' interrupt descriptor table, 256 gates, writable, and no vCPU is using it
/// for anything else.
pub unsafe fn install(table: *mut Gate, handler: extern "C" fn(&Frame) -> !) {
    HANDLER.store(handler as usize, Ordering::Relaxed);
    let stubs = (&raw const flux_trap_stubs) as u64;
    for vector in 0..GATES {
        let gate = if vector < VECTORS {
            Gate::to(stubs + 16 * vector as u64)
        } else {
            Gate::ABSENT
        };
        // SAFETY: inside the table, by the caller's promise. Volatile: the processor reads it.
        unsafe { table.add(vector).write_volatile(gate) };
    }
}

// Each stub brings the stack to one shape, an error code and the vector, and goes on to the
// common part, which never comes back: FluxOS has no exception yet that it can continue from.
global_asm!(
    ".pushsection .text.flux_trap, \"ax\", @progbits",
    ".balign 16",
    "flux_trap_stubs:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    ".balign 16",
    ".if (\\n == 8) || (\\n >= 10 && \\n <= 14) || (\\n == 17) || (\\n == 21) || (\\n == 29) || (\\n == 30)",
    ".else",
    "push 0",
    ".endif",
    "push \\n",
    "jmp flux_trap_common",
    ".endr",
    ".balign 16",
    "flux_trap_common:",
    // A second exception is one in the description of the first: the end, without a word. The
    // stack that the first one stood on is overwritten by now.
    "cmp dword ptr gs:[{critical}], {dying}",
    "je 2f",
    "mov dword ptr gs:[{critical}], {dying}",
    "push rax",
    "push rbx",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push rbp",
    "push r8",
    "push r9",
    "push r10",
    "push r11",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov rdi, rsp",
    "and rsp, -16",
    "cld",
    "call qword ptr [rip + {handler}]",
    "ud2",
    "2:",
    "mov edx, {panic}",
    "xor eax, eax",
    "out dx, eax",
    "jmp 2b",
    ".popsection",
    dying = const DYING,
    panic = const flux_abi::PORT_PANIC,
    critical = const gs::CRITICAL,
    handler = sym HANDLER,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_splits_its_address() {
        let gate = Gate::to(0x1234_5678_9abc_def0);
        assert_eq!(
            (gate.offset_low, gate.offset_middle, gate.offset_high),
            (0xdef0, 0x9abc, 0x1234_5678)
        );
        assert_eq!((gate.selector, gate.ist, gate.kind), (0x33, 1, 0xef));
    }
}
