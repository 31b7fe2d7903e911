//! What the process may still do once it is set up: nothing with files but remove its own socket
//! (Landlock), and each thread only the system calls of its trade (seccomp).
//!
//! A call that is not on a thread's list ends the process with a log line that names it. A thread's filter
//! is its own; nothing is forced on other threads.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use landlock::{
    Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, ABI,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

/// The exit status of a process that made a forbidden call: that of death by SIGSYS.
pub const FORBIDDEN_STATUS: i32 = 128 + libc::SIGSYS;

#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("cannot confine the file system access with Landlock: {0}; --no-confine runs without")]
    Landlock(#[from] landlock::RulesetError),
    #[error("cannot confine the file system access with Landlock: {0}; --no-confine runs without")]
    Path(#[from] landlock::PathFdError),
    #[error("cannot build the system call filter: {0}; --no-confine runs without")]
    Filter(#[from] seccompiler::BackendError),
    #[error("cannot install the system call filter: {0}; --no-confine runs without")]
    Install(#[from] seccompiler::Error),
    #[error("cannot watch for forbidden system calls: {0}; --no-confine runs without")]
    Handler(io::Error),
}

/// A system call that a thread may make.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    number: i64,
    only: Only,
}

#[derive(Debug, Clone, Copy)]
enum Only {
    Always,
    /// Argument 1 is this request.
    Request(fn() -> libc::c_ulong),
    /// Argument 2 has no PROT_EXEC.
    NotExecutable,
}

impl Allowed {
    /// With any arguments.
    pub const fn any(number: i64) -> Allowed {
        Allowed {
            number,
            only: Only::Always,
        }
    }

    /// `ioctl` with this request.
    pub const fn ioctl(request: fn() -> libc::c_ulong) -> Allowed {
        Allowed {
            number: libc::SYS_ioctl,
            only: Only::Request(request),
        }
    }

    /// `mmap` or `mprotect`, but never of executable memory.
    const fn data(number: i64) -> Allowed {
        Allowed {
            number,
            only: Only::NotExecutable,
        }
    }

    fn rule(&self) -> Result<Option<SeccompRule>, seccompiler::BackendError> {
        let condition = match self.only {
            Only::Always => return Ok(None),
            Only::Request(request) => {
                SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, request())?
            }
            Only::NotExecutable => {
                let mask = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
                SeccompCondition::new(2, SeccompCmpArgLen::Dword, mask, 0)?
            }
        };
        SeccompRule::new(vec![condition]).map(Some)
    }
}

/// What every thread needs: memory, waiting, logging, ending.
const COMMON: &[Allowed] = &[
    Allowed::any(libc::SYS_brk),
    Allowed::any(libc::SYS_clock_gettime),
    Allowed::any(libc::SYS_clock_nanosleep),
    Allowed::any(libc::SYS_close),
    Allowed::any(libc::SYS_exit),
    Allowed::any(libc::SYS_exit_group),
    // Closing a descriptor looks at it first in builds with debug assertions.
    Allowed::any(libc::SYS_fcntl),
    Allowed::any(libc::SYS_futex),
    Allowed::any(libc::SYS_getpid),
    Allowed::any(libc::SYS_getrandom),
    Allowed::any(libc::SYS_gettid),
    Allowed::any(libc::SYS_madvise),
    Allowed::data(libc::SYS_mmap),
    Allowed::data(libc::SYS_mprotect),
    Allowed::any(libc::SYS_mremap),
    Allowed::any(libc::SYS_munmap),
    Allowed::any(libc::SYS_restart_syscall),
    Allowed::any(libc::SYS_rseq),
    Allowed::any(libc::SYS_rt_sigaction),
    Allowed::any(libc::SYS_rt_sigprocmask),
    Allowed::any(libc::SYS_rt_sigreturn),
    Allowed::any(libc::SYS_sched_setaffinity),
    Allowed::any(libc::SYS_sched_yield),
    Allowed::any(libc::SYS_sigaltstack),
    Allowed::any(libc::SYS_tgkill),
    Allowed::any(libc::SYS_write),
];

/// What the control thread needs beyond that: its socket.
pub const CONTROL: &[Allowed] = &[
    Allowed::any(libc::SYS_accept4),
    Allowed::any(libc::SYS_epoll_ctl),
    Allowed::any(libc::SYS_epoll_pwait),
    Allowed::any(libc::SYS_epoll_wait),
    Allowed::any(libc::SYS_pread64),
    Allowed::any(libc::SYS_read),
    Allowed::any(libc::SYS_recvfrom),
    Allowed::any(libc::SYS_recvmsg),
    Allowed::any(libc::SYS_sendmsg),
    Allowed::any(libc::SYS_sendto),
    Allowed::any(libc::SYS_unlink),
];

/// The filter of a thread that makes the common calls and these.
pub fn filter(extra: &[&[Allowed]]) -> Result<BpfProgram, ConfineError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for allowed in COMMON.iter().chain(extra.iter().copied().flatten()) {
        let rules = rules.entry(allowed.number).or_default();
        rules.extend(allowed.rule()?);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )?;
    Ok(filter.try_into()?)
}

/// Installs a filter for the calling thread, for good.
pub fn install(filter: &BpfProgram) -> Result<(), ConfineError> {
    Ok(seccompiler::apply_filter(filter)?)
}

/// What `restrict_files` came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    Restricted,
    /// This kernel cannot restrict all that was asked for.
    Partly,
    /// This kernel has no Landlock.
    Open,
}

/// Takes all access to files and to TCP from the calling thread and those that it starts from now on, but
/// for removing files beside `socket`. Signals and abstract sockets of other processes are out of reach too.
pub fn restrict_files(socket: Option<&Path>) -> Result<Files, ConfineError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    if let Some(directory) = socket.and_then(Path::parent) {
        let directory = if directory.as_os_str().is_empty() {
            Path::new(".")
        } else {
            directory
        };
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(directory)?, AccessFs::RemoveFile))?;
    }
    Ok(match ruleset.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Files::Restricted,
        RulesetStatus::PartiallyEnforced => Files::Partly,
        RulesetStatus::NotEnforced => Files::Open,
    })
}

/// For the signal handler, which cannot be given anything.
static NAME: OnceLock<String> = OnceLock::new();

/// Has forbidden calls logged under the VM's name before they end the process.
pub fn report_forbidden_calls(name: &str) -> Result<(), ConfineError> {
    let _ = NAME.set(name.to_owned());
    // SAFETY: an all-zero sigaction is valid; the handler only does what a signal handler may.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_forbidden as extern "C" fn(_, _, _) as usize;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut())
    };
    if result == 0 {
        Ok(())
    } else {
        Err(ConfineError::Handler(io::Error::last_os_error()))
    }
}

extern "C" fn on_forbidden(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The layout of siginfo_t for SIGSYS on x86-64: call address at 16, number at 24.
    // SAFETY: the kernel passes a whole siginfo_t, which has 128 bytes.
    let number = unsafe { info.cast::<u8>().add(24).cast::<i32>().read() };
    let mut digits = [0u8; 12];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    let name = NAME.get().map_or("?", String::as_str);
    let text: [&[u8]; 5] = [
        b"error ",
        name.as_bytes(),
        b": system call ",
        &digits[at..],
        b" is forbidden; ends\n",
    ];
    let mut line = [0u8; 128];
    let mut len = 0;
    for byte in text.iter().flat_map(|part| part.iter()).take(line.len()) {
        line[len] = *byte;
        len += 1;
    }
    // SAFETY: write and _exit may be called in a signal handler; the buffer is ours.
    unsafe {
        libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), len);
        libc::_exit(FORBIDDEN_STATUS);
    }
}

#[cfg(test)]
#[path = "confine_tests.rs"]
mod tests;
