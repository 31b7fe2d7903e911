//! Signals as file events: SIGTERM and SIGINT stop the VM.
//!
//! By handlers that write to an eventfd and not by a signalfd: that one is woken by every signal that is
//! sent to the process, so each kick would first wake the control thread, on the arbiter's core and before
//! the kick's own interrupt is sent.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::ptr;
use std::sync::OnceLock;

use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

const STOPPING: [libc::c_int; 2] = [libc::SIGTERM, libc::SIGINT];

/// What the handlers write to. For the life of the process, because a handler may run at any time.
static TOLD: OnceLock<EventFd> = OnceLock::new();

/// Blocks the signals that this process takes in its own time, in the calling thread and those that it
/// starts: the ones that stop it, and the kick, which only counts inside the guest.
pub fn block() -> io::Result<()> {
    change(libc::SIG_BLOCK, &STOPPING)?;
    change(libc::SIG_BLOCK, &[handoff::linux::kick_signal()])
}

fn change(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    // SAFETY: an all-zero set is a valid object for sigemptyset to fill; the numbers are signals; the set
    // outlives the call; the old one is not asked for.
    let result = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        libc::pthread_sigmask(how, &set, ptr::null_mut())
    };
    match result {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

extern "C" fn on_stop(_signal: libc::c_int) {
    // Both a load of an atomic and a write are allowed in a handler.
    if let Some(told) = TOLD.get() {
        let _ = told.write(1);
    }
}

/// A descriptor that becomes readable when the process is told to stop.
#[derive(Debug)]
pub struct Signals(&'static EventFd);

impl Signals {
    /// Installs the handlers; they run once somebody listens.
    pub fn new() -> io::Result<Signals> {
        let told = EventFd::new(EFD_CLOEXEC | EFD_NONBLOCK)?;
        let told = TOLD.get_or_init(|| told);
        for signal in STOPPING {
            // SAFETY: the handler is a function of the right kind, and only does what a handler may.
            let result = unsafe {
                let mut action: libc::sigaction = mem::zeroed();
                action.sa_sigaction = on_stop as extern "C" fn(libc::c_int) as usize;
                action.sa_flags = libc::SA_RESTART;
                libc::sigaction(signal, &action, ptr::null_mut())
            };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(Signals(told))
    }

    /// From now on the calling thread, and no other, is the one that is interrupted.
    pub fn listen(&self) -> io::Result<()> {
        change(libc::SIG_UNBLOCK, &STOPPING)
    }

    /// Whether there was one since the last look.
    pub fn take(&self) -> bool {
        self.0.read().is_ok()
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
