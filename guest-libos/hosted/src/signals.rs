//! The signals of a hosted vCPU: the kick, and what the processor refuses.

use std::io;
use std::mem;
use std::ptr;

use handoff::linux::kick_signal;

use libos::trap::{self, Fault};

use crate::cpu::{Cpu, Stop};

type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);

const FAULTS: [libc::c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGTRAP,
];

/// The kernel's word for a signal that has no address, which the libc crate does not name.
const SI_KERNEL: libc::c_int = 0x80;

fn name(signal: libc::c_int) -> &'static str {
    match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "invalid instruction, SIGILL",
        libc::SIGFPE => "arithmetic error, SIGFPE",
        libc::SIGTRAP => "breakpoint, SIGTRAP",
        _ => "a signal",
    }
}

/// Sets the handlers of this process.
pub fn install() -> io::Result<()> {
    handle(kick_signal(), kicked, &[])?;
    for signal in FAULTS {
        // One that comes while another is described must be seen too, or it ends the process.
        handle(signal, fault, &FAULTS)?;
    }
    Ok(())
}

/// Sets a handler that only the signals in `within` interrupt.
fn handle(signal: libc::c_int, handler: Handler, within: &[libc::c_int]) -> io::Result<()> {
    // SAFETY: sigaction consists of integers and a mask, for which zeroes are a value.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // On the alternate stack: a uThread whose context is taken over goes on upon its own stack
    // while this handler still stands here.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    if within.contains(&signal) {
        action.sa_flags |= libc::SA_NODEFER;
    }
    // SAFETY: the mask and the action are our own; the handler keeps to what a handler may do.
    let result = unsafe {
        libc::sigfillset(&mut action.sa_mask);
        for signal in within {
            libc::sigdelset(&mut action.sa_mask, *signal);
        }
        crate::sanitizer::sigaction(signal, &action)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives the calling thread its alternate stack.
///
/// # Safety
/// `[base, base + len)` is writable, used by nobody else, and outlives the thread.
pub unsafe fn use_stack(base: u64, len: u64) -> io::Result<()> {
    let stack = libc::stack_t {
        ss_sp: base as *mut libc::c_void,
        ss_flags: 0,
        ss_size: len as usize,
    };
    // SAFETY: by the caller's promise.
    if unsafe { libc::sigaltstack(&stack, ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// From here on a kick interrupts this thread, one that is pending at once.
pub fn let_kicks_in() {
    mask(libc::SIG_UNBLOCK);
}

/// From here on kicks wait.
pub fn keep_kicks_out() {
    mask(libc::SIG_BLOCK);
}

fn mask(how: libc::c_int) {
    // SAFETY: a set of our own with one signal; the call cannot fail with these arguments.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigaddset(&mut set, kick_signal());
        libc::pthread_sigmask(how, &set, ptr::null_mut());
    }
}

/// The kick. It is let in on the guest's side only, so what it interrupts is the guest, whole:
/// application code, or FluxOS's own, as far as its `critical` word tells.
extern "C" fn kicked(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    if let Some(cpu) = Cpu::this().filter(|cpu| cpu.in_guest()) {
        // SAFETY: the kernel gives a handler of this kind its frame.
        unsafe { cpu.stop_in(context.cast(), Stop::Kicked) };
    }
}

/// The guest did what the processor refuses, and the VM is over; or this program did, and it is.
extern "C" fn fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let Some(cpu) = Cpu::this().filter(|cpu| cpu.in_guest()) else {
        // SAFETY: back to what the signal does by itself; the instruction is repeated and does it.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    };
    let frame = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler of this kind both, filled in. The guest's side is this
    // thread's, whose GS base is set.
    unsafe {
        let register = |which: libc::c_int| (*frame).uc_mcontext.gregs[which as usize] as u64;
        // FluxOS says it, as it says of an exception; unless it was just doing that.
        if !cpu.dying.replace(true) {
            let address = (*info).si_addr() as u64;
            let segv = matches!(signal, libc::SIGSEGV | libc::SIGBUS);
            // SI_KERNEL: a general protection fault, which has no address.
            let page = segv && (*info).si_code != SI_KERNEL;
            let fault = Fault {
                rip: register(libc::REG_RIP),
                rsp: register(libc::REG_RSP),
                rbp: register(libc::REG_RBP),
                address: page.then_some(address),
                page,
            };
            match page {
                true => trap::signal(
                    &fault,
                    format_args!("page fault ({}, address {address:#x})", name(signal)),
                ),
                false if segv => trap::signal(&fault, format_args!("general protection fault, SIGSEGV")),
                false => trap::signal(&fault, format_args!("{}", name(signal))),
            }
        }
        let why = Stop::Fault {
            signal,
            rip: register(libc::REG_RIP),
            rsp: register(libc::REG_RSP),
            rflags: register(libc::REG_EFL),
            address: (*info).si_addr() as u64,
        };
        cpu.stop_in(frame, why);
    }
}
