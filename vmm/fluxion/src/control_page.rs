//! The control page of this VM: the sealed memfd that arbiter, Fluxion and guest share.
//!
//! The guest can write every word of it at any time. So nothing here hands out plain references: shared
//! structs consist of atomics, everything else is copied once by volatile accesses. What Fluxion wrote
//! here it never reads back, except for words that are the guest's to say.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use flux_abi as abi;

use crate::context_slot::ContextSlot;
use crate::memory::{copy_in, copy_out};

#[derive(Debug, thiserror::Error)]
pub enum ControlPageError {
    #[error("cannot make the control page ({0}): {1}")]
    Make(&'static str, io::Error),
}

/// A mapping of the control page, and the descriptor to pass on.
#[derive(Debug)]
pub struct ControlPage {
    fd: OwnedFd,
    base: NonNull<u8>,
    slot: u32,
    vcpus: u32,
}

// SAFETY: the mapping lives as long as the value, and everything in it is reached through atomics or
// checked volatile copies, which any thread may do at any time.
unsafe impl Send for ControlPage {}
// SAFETY: as above.
unsafe impl Sync for ControlPage {}

impl ControlPage {
    /// Makes the page for the VM in `slot` with `vcpus` vCPUs (clamped to what the ABI has room for).
    ///
    /// Sealed against shrinking and growing, because a page that became shorter would kill whoever reads it.
    pub fn create(slot: u32, vcpus: u32) -> Result<ControlPage, ControlPageError> {
        const NAME: &CStr = c"hyperflux-control";
        const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        let failed = |step| move |e| ControlPageError::Make(step, e);
        // SAFETY: the name is a C string; the result is checked.
        let fd = unsafe { libc::memfd_create(NAME.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING) };
        if fd < 0 {
            return Err(failed("memfd_create")(io::Error::last_os_error()));
        }
        // SAFETY: the descriptor is fresh and owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(abi::CONTROL_BYTES as u64)
            .map_err(failed("ftruncate"))?;
        // SAFETY: sealing a descriptor of our own.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, SEALS) } < 0 {
            return Err(failed("seal")(io::Error::last_os_error()));
        }
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                ptr::null_mut(),
                abi::CONTROL_BYTES,
                access,
                libc::MAP_SHARED,
                fd,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(failed("mmap")(io::Error::last_os_error()));
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| failed("mmap")(io::Error::last_os_error()))?;
        let vcpus = vcpus.min(abi::MAX_VCPUS as u32);
        Ok(ControlPage {
            fd: file.into(),
            base,
            slot,
            vcpus,
        })
    }

    /// Writes the header and what the guest's half must say before the guest has said anything.
    pub fn init(&self, header: &abi::Header) {
        // SAFETY: Header is plain old data of integers and byte arrays without padding that matters; its
        // bytes are read as such. The place is inside the mapping (checked at compile time in flux-abi).
        unsafe {
            let bytes =
                std::slice::from_raw_parts(ptr::from_ref(header).cast::<u8>(), size_of::<abi::Header>());
            copy_in(self.base.as_ptr().add(abi::HEADER_OFFSET), bytes);
        }
        for v in 0..self.vcpus {
            // A vCPU that has not executed its first instruction is in FluxOS's code already: were it
            // kicked there, its context would be no uThread's, and must not be offered to thieves.
            if let Some(guest) = self.guest(v) {
                guest.critical.store(1, std::sync::atomic::Ordering::Release);
            }
        }
    }

    /// A reference to a struct of atomics in the page.
    ///
    /// # Safety
    /// `offset + size_of::<T>()` must lie inside the page, `offset` be aligned for T, and T be all atomics.
    unsafe fn at<T>(&self, offset: usize) -> &T {
        // SAFETY: the caller's promise; the mapping outlives the reference.
        unsafe { &*self.base.as_ptr().add(offset).cast::<T>() }
    }

    /// The summary line that this VM's guest writes.
    pub fn summary(&self) -> &abi::Summary {
        // SAFETY: summary_offset is a whole line below the header.
        unsafe { self.at(abi::summary_offset(self.slot)) }
    }

    /// The guest-written half of a vCPU's block. `None` if there is no such vCPU.
    pub fn guest(&self, vcpu: u32) -> Option<&abi::GuestVcpu> {
        // SAFETY: the vCPU is below MAX_VCPUS, so its block is inside the page.
        (vcpu < self.vcpus).then(|| unsafe { self.at(abi::VCPUS_OFFSET + vcpu as usize * abi::VCPU_BYTES) })
    }

    /// The host-written half of a vCPU's block.
    pub fn host(&self, vcpu: u32) -> Option<&abi::HostVcpu> {
        let offset = abi::VCPUS_OFFSET + vcpu as usize * abi::VCPU_BYTES + abi::VCPU_HOST_OFFSET;
        // SAFETY: as in `guest`.
        (vcpu < self.vcpus).then(|| unsafe { self.at(offset) })
    }

    /// Copies a vCPU's log line, once. `claimed` is the length that the guest claims; it is clamped.
    pub fn log_line(&self, vcpu: u32, claimed: u32) -> ([u8; abi::LOG_BYTES], usize) {
        let mut line = [0; abi::LOG_BYTES];
        let len = (claimed as usize).min(abi::LOG_BYTES);
        if vcpu < self.vcpus {
            // SAFETY: the line of an existing vCPU is inside the page.
            let from = unsafe {
                self.base
                    .as_ptr()
                    .add(abi::LOG_OFFSET + vcpu as usize * abi::LOG_BYTES)
            };
            // SAFETY: len is at most one line.
            unsafe { copy_out(from, &mut line[..len]) };
        }
        (line, len)
    }

    /// Where the context of a vCPU goes that was interrupted.
    pub fn context(&self, vcpu: u32) -> Option<ContextSlot<'_>> {
        // SAFETY: the slot of an existing vCPU is inside the page, and the page outlives the result.
        (vcpu < self.vcpus).then(|| unsafe {
            ContextSlot::new(
                self.base
                    .add(abi::CONTEXT_OFFSET + vcpu as usize * abi::CONTEXT_BYTES),
            )
        })
    }

    /// Where the page starts in this process.
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The seals, for tests and for whoever wants to be sure.
    pub fn seals(&self) -> i32 {
        // SAFETY: a query on our own descriptor.
        unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_GET_SEALS) }
    }
}

impl Drop for ControlPage {
    fn drop(&mut self) {
        // SAFETY: mapped by `create` with this length; no reference outlives the value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), abi::CONTROL_BYTES) };
    }
}

/// A header of zeroes, to be filled in.
pub fn empty_header() -> abi::Header {
    // SAFETY: Header consists of integers and byte arrays, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

/// Copies text into a NUL-ended field, cut at the last character that fits whole.
pub fn put_text(field: &mut [u8], text: &str) {
    let mut len = text.len().min(field.len().saturating_sub(1));
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    field.fill(0);
    field[..len].copy_from_slice(&text.as_bytes()[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn page_is_sealed_and_sized() {
        let page = ControlPage::create(3, 2).expect("memfd");
        assert_eq!(page.seals() & libc::F_SEAL_SHRINK, libc::F_SEAL_SHRINK);
        assert_eq!(page.seals() & libc::F_SEAL_SEAL, libc::F_SEAL_SEAL);
        let file = File::from(page.fd().try_clone_to_owned().expect("dup"));
        assert_eq!(file.metadata().expect("stat").len(), abi::CONTROL_BYTES as u64);
        assert!(file.set_len(4096).is_err());
    }

    #[test]
    fn header_and_lines_lie_where_the_abi_says() {
        let page = ControlPage::create(65, 2).expect("memfd");
        let mut header = empty_header();
        header.magic = abi::CONTROL_MAGIC;
        header.vcpus = 2;
        put_text(&mut header.name, "äpfel");
        page.init(&header);
        page.summary().runnable.store(7, Relaxed);
        page.host(1).expect("vCPU 1").settled.store(9, Relaxed);
        let file = File::from(page.fd().try_clone_to_owned().expect("dup"));
        let word = |at: usize| {
            let mut b = [0; 4];
            file.read_exact_at(&mut b, at as u64).expect("inside");
            u32::from_le_bytes(b)
        };
        assert_eq!(word(abi::HEADER_OFFSET), abi::CONTROL_MAGIC);
        assert_eq!(word(abi::LINE + 4), 7, "slot 65 has the second summary line");
        assert_eq!(
            word(abi::VCPUS_OFFSET + abi::VCPU_BYTES + abi::VCPU_HOST_OFFSET + 4),
            9
        );
        assert_eq!(word(abi::VCPUS_OFFSET + 4), 1, "a vCPU starts in FluxOS's code");
        assert!(page.guest(2).is_none() && page.host(16).is_none() && page.context(u32::MAX).is_none());
    }

    #[test]
    fn log_lengths_are_clamped() {
        let page = ControlPage::create(0, 1).expect("memfd");
        assert_eq!(page.log_line(0, u32::MAX).1, abi::LOG_BYTES);
        assert_eq!(page.log_line(0, 3).1, 3);
        assert_eq!(page.log_line(9, 3).0, [0; abi::LOG_BYTES]);
    }

    #[test]
    fn text_is_cut_between_characters() {
        let mut field = [0xff; 5];
        put_text(&mut field, "aä€");
        assert_eq!(&field, b"a\xc3\xa4\0\0");
        put_text(&mut field, "");
        assert_eq!(field, [0; 5]);
    }
}
