//! Memory for the guest's side: stacks with a guard page below them, and a heap.

use std::io;
use std::ptr;

pub const PAGE: usize = 4096;

/// An anonymous mapping. Pages appear when they are touched.
#[derive(Debug)]
pub struct Mapping {
    base: usize,
    len: usize,
}

impl Mapping {
    pub fn new(len: usize) -> io::Result<Mapping> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            base: at as usize,
            len,
        })
    }

    /// `count` stacks of `each` bytes, the lowest page of each not accessible.
    pub fn stacks(count: usize, each: usize) -> io::Result<Mapping> {
        let len = count.checked_mul(each).ok_or(io::ErrorKind::OutOfMemory)?;
        let area = Mapping::new(len)?;
        for stack in 0..count {
            let guard = (area.base + stack * each) as *mut libc::c_void;
            // SAFETY: a page of the mapping just made, which nothing uses yet.
            if unsafe { libc::mprotect(guard, PAGE, libc::PROT_NONE) } != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(area)
    }

    pub fn base(&self) -> u64 {
        self.base as u64
    }

    pub fn len(&self) -> u64 {
        self.len as u64
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; whoever drops it promises that no guest runs.
        unsafe { libc::munmap(self.base as *mut libc::c_void, self.len) };
    }
}
