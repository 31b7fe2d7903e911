//! The requests of KVM that a running vCPU's thread makes, by number: for those that kvm-ioctls lacks or does
//! more for than is wanted, for those that are made on a sibling's descriptor, and for the seccomp filter, which admits no others.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{kvm_device_attr, kvm_sregs, kvm_xsave, KVMIO, KVM_VCPU_TSC_CTRL, KVM_VCPU_TSC_OFFSET};
use vmm_sys_util::ioctl::{ioctl, ioctl_with_mut_ref, ioctl_with_ref};
use vmm_sys_util::{ioctl_io_nr, ioctl_ior_nr, ioctl_iow_nr};

ioctl_io_nr!(KVM_RUN, KVMIO, 0x80);
ioctl_ior_nr!(KVM_GET_SREGS, KVMIO, 0x83, kvm_sregs);
ioctl_iow_nr!(KVM_SET_SIGNAL_MASK, KVMIO, 0x8b, u32);
ioctl_ior_nr!(KVM_GET_XSAVE, KVMIO, 0xa4, kvm_xsave);
ioctl_iow_nr!(KVM_SET_DEVICE_ATTR, KVMIO, 0xe1, kvm_device_attr);

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Enters the guest. What it came out for stands in its run area.
pub fn run(vcpu: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    check(unsafe { ioctl(&vcpu.as_raw_fd(), KVM_RUN()) })
}

pub fn get_sregs(vcpu: BorrowedFd<'_>) -> io::Result<kvm_sregs> {
    let mut sregs = kvm_sregs::default();
    // SAFETY: the request fills one kvm_sregs.
    check(unsafe { ioctl_with_mut_ref(&vcpu.as_raw_fd(), KVM_GET_SREGS(), &mut sregs) })?;
    Ok(sregs)
}

/// The first 4 KiB of the XSAVE area: all there is, because XCR0 is limited to what fits (see registers).
pub fn get_xsave(vcpu: BorrowedFd<'_>) -> io::Result<kvm_xsave> {
    let mut xsave = kvm_xsave::default();
    // SAFETY: the request fills one kvm_xsave.
    check(unsafe { ioctl_with_mut_ref(&vcpu.as_raw_fd(), KVM_GET_XSAVE(), &mut xsave) })?;
    Ok(xsave)
}

/// Makes the guest's time stamp counter the host's, so that stamps of both compare.
pub fn zero_tsc_offset(vcpu: BorrowedFd<'_>) -> io::Result<()> {
    let offset = 0u64;
    let attribute = kvm_device_attr {
        flags: 0,
        group: KVM_VCPU_TSC_CTRL,
        attr: KVM_VCPU_TSC_OFFSET.into(),
        addr: std::ptr::from_ref(&offset) as u64,
    };
    // SAFETY: the attribute points to a u64 that outlives the call; the request only reads it.
    check(unsafe { ioctl_with_ref(&vcpu.as_raw_fd(), KVM_SET_DEVICE_ATTR(), &attribute) })
}

/// Inside KVM_RUN, and only there, `signal` is not blocked; every other one is.
pub fn unblock_only(vcpu: BorrowedFd<'_>, signal: libc::c_int) -> io::Result<()> {
    #[repr(C)]
    struct SignalMask {
        len: u32,
        set: [u8; 8],
    }
    let blocked = !(1u64 << (signal - 1));
    let mask = SignalMask {
        len: 8,
        set: blocked.to_le_bytes(),
    };
    // SAFETY: KVM reads the length and as many bytes of set after it as the length says.
    check(unsafe { ioctl_with_ref(&vcpu.as_raw_fd(), KVM_SET_SIGNAL_MASK(), &mask) })
}
