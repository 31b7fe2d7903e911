//! The few system calls of a hand-over. All of them return at once; a thread or
//! process that is gone by then is an ordinary outcome, not an error.

use std::sync::atomic::AtomicU32;

/// The signal that makes `KVM_RUN` return. Blocked everywhere but inside `KVM_RUN`. A classic
/// signal, not a real-time one: however many were sent, one is pending, and one look takes it.
pub fn kick_signal() -> i32 {
    libc::SIGUSR2
}

/// Waits while `*word == expected`, at most `timeout_ns` if given. Returns on any wake, signal or time-out.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout_ns: Option<u64>) {
    let timeout = timeout_ns.map(|ns| libc::timespec {
        tv_sec: (ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (ns % 1_000_000_000) as libc::c_long,
    });
    let timeout_ptr = timeout
        .as_ref()
        .map_or(std::ptr::null(), |t| t as *const libc::timespec);
    // SAFETY: the word outlives the call by its reference, the time-out by its binding;
    // not FUTEX_PRIVATE because the waker is another process.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout_ptr,
        );
    }
}

/// Wakes at most `count` threads that wait on the word.
pub fn futex_wake(word: &AtomicU32, count: i32) {
    // SAFETY: FUTEX_WAKE only uses the address, which the reference keeps mapped.
    unsafe {
        libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count);
    }
}

/// Restricts a thread to one core. `false` if it is gone or the core is not allowed to it.
pub fn set_affinity(tid: u32, core: u32) -> bool {
    // 0 would be the caller: a vCPU whose thread is not there yet has no affinity to set.
    if tid == 0 {
        return false;
    }
    // SAFETY: an all-zero cpu_set_t is the empty set; CPU_SET stays inside it because
    // core is below MAX_CORES (256) and the set has 1,024 bits.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core as usize, &mut set);
        libc::sched_setaffinity(tid as libc::pid_t, std::mem::size_of_val(&set), &set) == 0
    }
}

/// Sends the kick. `false` if the thread is gone.
pub fn kick(pid: u32, tid: u32) -> bool {
    if pid == 0 || tid == 0 {
        return false;
    }
    // SAFETY: tgkill takes numbers only; it checks that the thread belongs to the process.
    unsafe { libc::syscall(libc::SYS_tgkill, pid, tid, kick_signal()) == 0 }
}

/// The time stamp counter; constant-rate and synchronised wherever KVM guests may use it.
pub fn tsc() -> u64 {
    // SAFETY: RDTSC is available on every x86-64.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds that a thread has spent on a CPU, from schedstat. `None` if it is gone.
pub fn cpu_time_ns(pid: u32, tid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")).ok()?;
    text.split_ascii_whitespace().next()?.parse().ok()
}
