//! Page 0 of a domain: its heartbeat is the arbiter's word, the rest is kFlux's.

use super::error::KfluxError;
use flux_abi as abi;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

const BYTES: usize = 4096;

/// The page, mapped for as long as the value lives.
#[derive(Debug)]
pub struct Status {
    page: NonNull<abi::KfStatus>,
}

// SAFETY: the page is shared memory whose words are only reached as atomics, and it stays mapped until
// the value is dropped.
unsafe impl Send for Status {}
// SAFETY: as above.
unsafe impl Sync for Status {}

impl Status {
    /// For the holder of the lease, who may write it.
    pub fn map(device: BorrowedFd<'_>, domain: u32) -> Result<Status, KfluxError> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                access,
                libc::MAP_SHARED,
                device.as_raw_fd(),
                0,
            )
        };
        let page = match NonNull::new(at.cast()) {
            Some(page) if at != libc::MAP_FAILED => page,
            _ => {
                let error = io::Error::last_os_error();
                return Err(KfluxError::Map {
                    what: "status page",
                    error,
                });
            }
        };
        let status = Status { page };
        let words = status.words();
        let known = words.magic.load(SeqCst) == abi::KF_MAGIC
            && words.abi_major.load(SeqCst) == abi::ABI_MAJOR
            && words.domain.load(SeqCst) == domain;
        if !known {
            return Err(KfluxError::NotTheDomain(domain));
        }
        Ok(status)
    }

    pub fn words(&self) -> &abi::KfStatus {
        // SAFETY: the page is mapped as long as self; the struct is atomics only and smaller than the page.
        unsafe { self.page.as_ref() }
    }

    /// Any change says that the arbiter is alive; there is one writer.
    #[inline]
    pub fn beat(&self) {
        let heartbeat = &self.words().heartbeat;
        heartbeat.store(heartbeat.load(Relaxed).wrapping_add(1), Relaxed);
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; no reference outlives self.
        unsafe { libc::munmap(self.page.as_ptr().cast(), BYTES) };
    }
}
