use super::*;

/// Runs a closure in a forked child and gives its exit status.
fn in_child(work: impl FnOnce() -> i32) -> i32 {
    // SAFETY: the child makes only calls that need no other thread, and ends by _exit.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(work());
        }
        let mut status = 0;
        libc::waitpid(pid, &mut status, 0);
        libc::WEXITSTATUS(status)
    }
}

#[test]
fn allowed_calls_pass_and_others_end_the_process() {
    let filter = filter(&[]).expect("builds");
    let status = in_child(|| {
        if report_forbidden_calls("test").is_err() || install(&filter).is_err() {
            return 1;
        }
        // SAFETY: a call without effects.
        unsafe { libc::syscall(libc::SYS_getpid) };
        0
    });
    assert_eq!(status, 0);
    let status = in_child(|| {
        if report_forbidden_calls("test").is_err() || install(&filter).is_err() {
            return 1;
        }
        // SAFETY: forbidden, so it never happens.
        unsafe { libc::syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0) };
        0
    });
    assert_eq!(status, FORBIDDEN_STATUS);
}

#[test]
fn arguments_count() {
    let filter = filter(&[&[Allowed::ioctl(crate::kvm::ioctl::KVM_RUN)]]).expect("builds");
    let status = in_child(|| {
        if report_forbidden_calls("test").is_err() || install(&filter).is_err() {
            return 1;
        }
        // SAFETY: fails on a descriptor that is not there, but passes the filter.
        unsafe { libc::syscall(libc::SYS_ioctl, -1, crate::kvm::ioctl::KVM_RUN(), 0) };
        // SAFETY: forbidden, so it never happens.
        unsafe { libc::syscall(libc::SYS_mmap, 0, 4096, libc::PROT_EXEC, 0x22, -1, 0) };
        0
    });
    assert_eq!(status, FORBIDDEN_STATUS);
}

/// A vCPU's thread of a VM that kFlux moves may park and run, and may not make itself another vCPU.
#[test]
fn kflux_calls_are_those_of_the_trade() {
    let vcpu = filter(&[crate::seat::VCPU_CALLS]).expect("builds");
    for (request, status) in [
        (flux_abi::KF_PARK, 0),
        (flux_abi::KF_RUN, 0),
        (flux_abi::KF_UNREGISTER, 0),
        (flux_abi::KF_REGISTER, FORBIDDEN_STATUS),
        (flux_abi::KF_MANAGE, FORBIDDEN_STATUS),
    ] {
        let got = in_child(|| {
            if report_forbidden_calls("test").is_err() || install(&vcpu).is_err() {
                return 1;
            }
            // SAFETY: fails on a descriptor that is not there, if the filter lets it.
            unsafe { libc::syscall(libc::SYS_ioctl, -1, libc::c_ulong::from(request), 0) };
            0
        });
        assert_eq!(got, status, "{request:#x}");
    }
}

#[test]
fn files_are_out_of_reach() {
    let status = in_child(|| match restrict_files(None) {
        Ok(Files::Open) => 42,
        Ok(_) => i32::from(std::fs::read("/proc/self/statm").is_ok()),
        Err(_) => 3,
    });
    if status == 42 {
        eprintln!("SKIPPED: this kernel has no Landlock");
        return;
    }
    assert_eq!(status, 0);
}
