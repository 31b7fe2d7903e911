//! Signals and fibres of a vCPU's thread.

use std::arch::naked_asm;
use std::cell::Cell;
use std::mem::offset_of;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use arch::fibre::{taken, Fibre};
use handoff::linux::kick_signal;

use super::runtime;
use crate::cpu::Cpu;
use crate::machine::BOOT_STACK;

/// Those of a vCPU's thread.
#[derive(Debug)]
pub struct Fibres {
    /// Fluxion's side while the guest runs, and the guest's while Fluxion runs.
    pub fluxion: Fibre,
    pub guest: Fibre,
    /// The signal handler's while it does not run.
    handler: Fibre,
    /// What the handler stands upon.
    interrupted: Fibre,
    /// What it returns to if that was taken.
    again: Fibre,
    entered_again: Cell<bool>,
}

impl Fibres {
    pub fn new(boot_stack_top: u64) -> Fibres {
        let fibres = Fibres {
            fluxion: Fibre::new(),
            guest: Fibre::new(),
            handler: Fibre::new(),
            interrupted: Fibre::new(),
            again: Fibre::new(),
            entered_again: Cell::new(false),
        };
        fibres
            .guest
            .begin(boot_stack_top - BOOT_STACK as u64, BOOT_STACK as u64);
        fibres
    }

    /// The calling thread is the vCPU's, and handles its signals on this stack.
    pub fn attach(&self, base: u64, len: u64) {
        self.handler.begin(base, len);
    }

    /// The interrupted context was taken; its vCPU enters again.
    pub fn enter_again(&self, boot_stack_top: u64) {
        self.again
            .begin(boot_stack_top - BOOT_STACK as u64, BOOT_STACK as u64);
        self.entered_again.set(true);
    }

    /// By the thief's thread, which the held word has given the right to.
    pub fn hand_to(&self, thief: u32) {
        self.interrupted.hand_to(taken(thief));
    }
}

/// Where guest code is, and where the sanitizer's is among it. Written once, before any signal.
struct Code {
    start: AtomicU64,
    end: AtomicU64,
    runtime_start: AtomicU64,
    runtime_end: AtomicU64,
    switch_start: AtomicU64,
    switch_end: AtomicU64,
}

static CODE: Code = Code {
    start: AtomicU64::new(0),
    end: AtomicU64::new(0),
    runtime_start: AtomicU64::new(0),
    runtime_end: AtomicU64::new(0),
    switch_start: AtomicU64::new(0),
    switch_end: AtomicU64::new(0),
};

impl Code {
    fn set(&self) -> Result<(), &'static str> {
        let runtime::Found {
            program,
            runtime,
            switch,
        } = runtime::find()?;
        let put = |start: &AtomicU64, end: &AtomicU64, range: Range<u64>| {
            start.store(range.start, Ordering::SeqCst);
            end.store(range.end, Ordering::SeqCst);
        };
        put(&self.start, &self.end, program);
        put(&self.runtime_start, &self.runtime_end, runtime);
        put(&self.switch_start, &self.switch_end, switch);
        Ok(())
    }
}

/// As the C library's, but past the sanitizer.
///
/// # Safety
/// As the C library's.
pub unsafe fn sigaction(signal: libc::c_int, action: &libc::sigaction) -> libc::c_int {
    /// `struct kernel_sigaction`.
    #[repr(C)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    const SA_RESTORER: u64 = 0x0400_0000;
    if signal == kick_signal() {
        if let Err(why) = CODE.set() {
            eprintln!("error: {why}");
            std::process::abort();
        }
        KICKED.store(action.sa_sigaction as u64, Ordering::SeqCst);
    }
    if signal == libc::SIGTRAP {
        TRAPPED.store(action.sa_sigaction as u64, Ordering::SeqCst);
    }
    let handler = match signal {
        libc::SIGTRAP => stepped as *const () as usize,
        signal if signal == kick_signal() => kicked as *const () as usize,
        _ => action.sa_sigaction,
    };
    let action = Action {
        handler,
        flags: action.sa_flags as u64 | SA_RESTORER,
        restorer: restore as *const () as usize,
        // SAFETY: the kernel's mask is the first word of the library's.
        mask: unsafe { (&raw const action.sa_mask).cast::<u64>().read() },
    };
    let at: *const Action = &action;
    // SAFETY: the kernel copies it.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, at, 0, size_of::<u64>()) };
    result as libc::c_int
}

/// The handlers that were to be set.
static KICKED: AtomicU64 = AtomicU64::new(0);
static TRAPPED: AtomicU64 = AtomicU64::new(0);

#[unsafe(naked)]
extern "C" fn restore() {
    naked_asm!("mov eax, 15", "syscall")
}

/// The fibre of the handler; null if there is none, or no change to be made.
extern "C" fn begin_handler() -> *mut () {
    match Cpu::this() {
        Some(cpu) if cpu.in_guest() => {
            cpu.fibres.entered_again.set(false);
            arch::fibre::save(&cpu.fibres.interrupted, &cpu.fibres.handler)
        }
        _ => std::ptr::null_mut(),
    }
}

/// The fibre that the handler returns to; null as above.
extern "C" fn end_handler() -> *mut () {
    match Cpu::this() {
        Some(cpu) if cpu.in_guest() => {
            let to = match cpu.fibres.entered_again.replace(false) {
                true => &cpu.fibres.again,
                false => &cpu.fibres.interrupted,
            };
            arch::fibre::save(&cpu.fibres.handler, to)
        }
        _ => std::ptr::null_mut(),
    }
}

/// As [`arch::fibre::go`], to be called. Naked: it must not note on one fibre that it was entered, and on
/// another one that it was left.
#[cfg(flux_sanitizer = "thread")]
#[unsafe(naked)]
extern "C" fn go(_fibre: *mut (), _flags: u64) {
    naked_asm!("jmp __tsan_switch_to_fiber")
}

#[cfg(flux_sanitizer = "address")]
extern "C" fn go(_fibre: *mut (), _flags: u64) {}

const TRAP_FLAG: u32 = 0x100;
const RIP: usize = gregs(libc::REG_RIP);
const FLAGS: usize = gregs(libc::REG_EFL);

const fn gregs(which: libc::c_int) -> usize {
    offset_of!(libc::ucontext_t, uc_mcontext) + offset_of!(libc::mcontext_t, gregs) + 8 * which as usize
}

/// The kick's handler: in the runtime, it makes the thread step.
#[unsafe(naked)]
unsafe extern "C" fn kicked() {
    naked_asm!(
        "mov rcx, [rip + {kicked}]",
        "jmp {handle}",
        kicked = sym KICKED,
        handle = sym handle,
    )
}

/// The handler of the step after an instruction, and of breakpoints.
#[unsafe(naked)]
unsafe extern "C" fn stepped() {
    naked_asm!(
        "test dword ptr [rdx + {flags}], {trap}",
        "mov rcx, [rip + {kicked}]",
        "jnz {handle}",
        "mov rcx, [rip + {trapped}]",
        "jmp rcx",
        flags = const FLAGS,
        trap = const TRAP_FLAG,
        kicked = sym KICKED,
        trapped = sym TRAPPED,
        handle = sym handle,
    )
}

/// A runtime that takes more instructions writes a report. It would take thousands of times as long, so kicks are kept
/// out of the thread instead, until its guest comes to a door.
const MOST_STEPS: u32 = 20_000;

/// rdi, rsi, rdx: what a signal handler is given; rcx: the one to be called.
///
/// Not instrumented, because the runtime may be what was interrupted.
#[unsafe(naked)]
unsafe extern "C" fn handle() {
    naked_asm!(
        "mov rax, [rdx + {rip}]",
        "mov r8, [rdx + {stack}]", // the lowest word of the signal stack: steps so far
        "cmp rax, [rip + {code} + {start}]",
        "jb 2f",
        "cmp rax, [rip + {code} + {end}]",
        "jae 2f",
        "cmp rax, [rip + {code} + {switch_start}]",
        "jb 3f",
        "cmp rax, [rip + {code} + {switch_end}]",
        "jb 2f",
        "3:",
        "cmp rax, [rip + {code} + {runtime_start}]",
        "jb 4f",
        "cmp rax, [rip + {code} + {runtime_end}]",
        "jae 4f",
        "2:", // not yet
        "inc dword ptr [r8]",
        "cmp dword ptr [r8], {most}",
        "ja 7f",
        "or dword ptr [rdx + {flags}], {trap}",
        "ret",
        "7:", // no more of them until the next door
        "mov dword ptr [r8], 0",
        "and dword ptr [rdx + {flags}], ~{trap}",
        "or dword ptr [rdx + {mask}], {kick}",
        "ret",
        "4:",
        "mov dword ptr [r8], 0",
        "and dword ptr [rdx + {flags}], ~{trap}",
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "mov rbx, rdi",
        "mov r12, rsi",
        "mov r13, rdx",
        "mov r14, rcx",
        "call {begin}",
        "test rax, rax",
        "jz 5f",
        "mov rdi, rax",
        "xor esi, esi",
        "call {go}",
        "5:",
        "mov rdi, rbx",
        "mov rsi, r12",
        "mov rdx, r13",
        "call r14",
        "call {finish}",
        "test rax, rax",
        "jz 6f",
        "mov rdi, rax",
        "xor esi, esi",
        "call {go}",
        "6:",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
        rip = const RIP,
        flags = const FLAGS,
        trap = const TRAP_FLAG,
        mask = const offset_of!(libc::ucontext_t, uc_sigmask),
        kick = const 1 << (libc::SIGUSR2 - 1),
        stack = const offset_of!(libc::ucontext_t, uc_stack) + offset_of!(libc::stack_t, ss_sp),
        most = const MOST_STEPS,
        code = sym CODE,
        start = const offset_of!(Code, start),
        end = const offset_of!(Code, end),
        runtime_start = const offset_of!(Code, runtime_start),
        runtime_end = const offset_of!(Code, runtime_end),
        switch_start = const offset_of!(Code, switch_start),
        switch_end = const offset_of!(Code, switch_end),
        begin = sym begin_handler,
        finish = sym end_handler,
        go = sym go,
    )
}
