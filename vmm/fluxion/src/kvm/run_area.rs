//! A vCPU's shared run area as its siblings see it: the registers that KVM leaves there at each exit.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{addr_of, NonNull};
use std::{io, mem};

use kvm_bindings::{kvm_regs, kvm_run};

/// A second, read-only mapping of the area, so that a thief needs no request to read the registers of a
/// vCPU that it does not run: each costs loading that vCPU and putting it back.
#[derive(Debug)]
pub struct RunArea {
    run: NonNull<kvm_run>,
}

// SAFETY: the mapping is only read, by volatile loads, and stays until the value is dropped.
unsafe impl Send for RunArea {}
// SAFETY: as above.
unsafe impl Sync for RunArea {}

impl RunArea {
    pub fn map(vcpu: BorrowedFd<'_>) -> io::Result<RunArea> {
        // SAFETY: a fresh mapping at an address of the kernel's choice; KVM's area is at least a kvm_run.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                mem::size_of::<kvm_run>(),
                libc::PROT_READ,
                libc::MAP_SHARED,
                vcpu.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(at.cast()) {
            Some(run) if at != libc::MAP_FAILED => Ok(RunArea { run }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// General registers and FS base as they were at the vCPU's last exit. They stay so while its held word
    /// says EXPORTING: the word was read after the exit had written them, and nobody enters the guest.
    pub fn registers(&self) -> (kvm_regs, u64) {
        let run = self.run.as_ptr();
        // SAFETY: the mapping lives as long as self; both members of the union are plain integers, which
        // KVM fills at each exit because kvm_valid_regs asks for them.
        unsafe {
            let regs = addr_of!((*run).s.regs.regs).read_volatile();
            let fs_base = addr_of!((*run).s.regs.sregs.fs.base).read_volatile();
            (regs, fs_base)
        }
    }
}

impl Drop for RunArea {
    fn drop(&mut self) {
        // SAFETY: we mapped exactly this, and no reference into it is ever made.
        unsafe { libc::munmap(self.run.as_ptr().cast(), mem::size_of::<kvm_run>()) };
    }
}
