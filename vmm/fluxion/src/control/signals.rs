//! Signals as file events: SIGTERM and SIGINT stop the VM.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// Blocks the signals that this process takes in its own time, in the calling thread and those that it
/// starts: the ones that stop it, and the kick, which only counts inside the guest.
pub fn block() -> io::Result<()> {
    change(
        libc::SIG_BLOCK,
        &[libc::SIGTERM, libc::SIGINT, handoff::linux::kick_signal()],
    )
}

fn set_of(signals: &[libc::c_int]) -> libc::sigset_t {
    // SAFETY: an all-zero set is a valid object for sigemptyset to fill; the numbers are signals.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, *signal);
        }
        set
    }
}

fn change(how: libc::c_int, signals: &[libc::c_int]) -> io::Result<()> {
    // SAFETY: the set outlives the call; the old one is not asked for.
    match unsafe { libc::pthread_sigmask(how, &set_of(signals), ptr::null_mut()) } {
        0 => Ok(()),
        e => Err(io::Error::from_raw_os_error(e)),
    }
}

/// A descriptor that becomes readable when the process is told to stop. They must be blocked.
pub struct Signals {
    fd: OwnedFd,
}

impl Signals {
    pub fn new() -> io::Result<Signals> {
        let set = set_of(&[libc::SIGTERM, libc::SIGINT]);
        // SAFETY: the set outlives the call; the result is checked.
        let fd = unsafe { libc::signalfd(-1, &set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is fresh and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Signals { fd })
    }

    /// Takes one signal, if there is one.
    pub fn take(&self) -> bool {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the buffer has the size that is passed.
        unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) > 0 }
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
