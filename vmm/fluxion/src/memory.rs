//! Guest RAM: one private, bounded, lazily filled mapping that starts at guest-physical 0.
//!
//! The guest changes it at any time, so no Rust reference into it is ever made: bytes are copied in and
//! out by volatile accesses after the range was checked.

use std::io;
use std::ptr::{self, NonNull};

/// The largest RAM: guest-physical 0x40000000 upward belongs to the control page, with room to spare below.
pub const MAX_MIB: u64 = 1008;
/// The smallest RAM that an image, its stacks and a little heap fit into.
pub const MIN_MIB: u64 = 16;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("guest memory of {0} MiB is not possible; choose {MIN_MIB} to {MAX_MIB} MiB with --mem")]
    Size(u64),
    #[error("cannot map {0} MiB of guest memory: {1}; choose less with --mem or free some memory")]
    Map(u64, io::Error),
    #[error("guest range {start:#x}+{len:#x} is outside its {size:#x} bytes of RAM")]
    Range { start: u64, len: u64, size: u64 },
}

/// The RAM of one guest. Unmapped when dropped, so it must outlive the VM that uses it.
#[derive(Debug)]
pub struct GuestMemory {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to this value alone, and every access to it is a volatile copy through a
// checked range; nothing in it depends on the thread.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; concurrent copies can tear, which for memory that a guest writes at will is expected.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// Maps `mib` MiB. No page is there until it is touched, and no swap is set aside for it.
    pub fn new(mib: u64) -> Result<GuestMemory, MemoryError> {
        if !(MIN_MIB..=MAX_MIB).contains(&mib) {
            return Err(MemoryError::Size(mib));
        }
        let len = (mib << 20) as usize;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choosing touches nothing else.
        let p = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if p == libc::MAP_FAILED {
            return Err(MemoryError::Map(mib, io::Error::last_os_error()));
        }
        // SAFETY: the range is the mapping just made. A core dump of Fluxion needs no guest RAM.
        unsafe { libc::madvise(p, len, libc::MADV_DONTDUMP) };
        let base = NonNull::new(p.cast()).ok_or_else(|| MemoryError::Map(mib, io::Error::last_os_error()))?;
        Ok(GuestMemory { base, len })
    }

    pub fn len(&self) -> u64 {
        self.len as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the RAM starts in this process, for the memory slot.
    pub fn host_address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    fn at(&self, start: u64, len: usize) -> Result<*mut u8, MemoryError> {
        match start.checked_add(len as u64) {
            // SAFETY: start + len is inside the mapping, so the offset is too.
            Some(end) if end <= self.len as u64 => Ok(unsafe { self.base.as_ptr().add(start as usize) }),
            _ => Err(MemoryError::Range {
                start,
                len: len as u64,
                size: self.len as u64,
            }),
        }
    }

    /// Copies bytes into the guest.
    pub fn write(&self, start: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let to = self.at(start, bytes.len())?;
        // SAFETY: `at` checked the whole range.
        unsafe { copy_in(to, bytes) };
        Ok(())
    }

    /// Copies bytes out of the guest.
    pub fn read(&self, start: u64, into: &mut [u8]) -> Result<(), MemoryError> {
        let from = self.at(start, into.len())?;
        // SAFETY: `at` checked the whole range.
        unsafe { copy_out(from, into) };
        Ok(())
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length and nothing points into it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// Copies into memory that somebody else may be reading or writing.
///
/// # Safety
/// `to` must be valid for writes of `bytes.len()` bytes and not overlap `bytes`.
pub unsafe fn copy_in(to: *mut u8, bytes: &[u8]) {
    let (mut at, words) = (
        0,
        if to.align_offset(8) == 0 {
            bytes.chunks_exact(8)
        } else {
            [].chunks_exact(8)
        },
    );
    for word in words {
        let value = u64::from_ne_bytes([
            word[0], word[1], word[2], word[3], word[4], word[5], word[6], word[7],
        ]);
        // SAFETY: `at` counts whole words of `bytes`, so it stays inside; the start is aligned to 8.
        unsafe { to.add(at).cast::<u64>().write_volatile(value) };
        at += 8;
    }
    for (i, byte) in bytes.iter().enumerate().skip(at) {
        // SAFETY: i < bytes.len().
        unsafe { to.add(i).write_volatile(*byte) };
    }
}

/// Copies out of memory that somebody else may be writing: once, so that what is checked is what is used.
///
/// # Safety
/// `from` must be valid for reads of `into.len()` bytes and not overlap `into`.
pub unsafe fn copy_out(from: *const u8, into: &mut [u8]) {
    for (i, byte) in into.iter_mut().enumerate() {
        // SAFETY: i < into.len().
        *byte = unsafe { from.add(i).read_volatile() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bounded() {
        assert!(matches!(GuestMemory::new(0), Err(MemoryError::Size(0))));
        assert!(matches!(GuestMemory::new(MAX_MIB + 1), Err(MemoryError::Size(_))));
        assert!(GuestMemory::new(u64::MAX).is_err());
    }

    #[test]
    fn copies_are_checked() {
        let m = GuestMemory::new(16).expect("16 MiB");
        let end = m.len();
        let text = b"seventeen letters";
        for start in [0, 1, 7, 8, end - text.len() as u64] {
            m.write(start, text).expect("inside");
            let mut back = [0u8; 17];
            m.read(start, &mut back).expect("inside");
            assert_eq!(&back, text);
        }
        assert!(m.write(end - 16, text).is_err());
        assert!(m.write(u64::MAX - 3, text).is_err());
        assert!(m.read(end, &mut [0]).is_err());
        assert!(m.read(end, &mut []).is_ok());
    }
}
