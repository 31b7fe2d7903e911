//! kFlux's pages over a mapped hand-off table, so that the table's accessors read them.

use super::device::Device;
use super::error::KfluxError;
use crate::Table;
use flux_abi as abi;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::Ordering::SeqCst;

/// All core lines.
const CORES: (usize, usize) = (abi::CORES_OFFSET, abi::VMS_OFFSET - abi::CORES_OFFSET);
/// The vCPU blocks of all VMs.
const VCPUS: (usize, usize) = (abi::TVCPUS_OFFSET, abi::TABLE_BYTES - abi::TVCPUS_OFFSET);

/// A fresh mapping that is to go over a part of a table. Unmapped if it does not get there.
struct Staged {
    at: *mut libc::c_void,
    bytes: usize,
}

impl Staged {
    fn new(fd: Option<BorrowedFd<'_>>, access: i32, (offset, bytes): (usize, usize)) -> io::Result<Staged> {
        let (flags, fd, offset) = match fd {
            Some(fd) => (libc::MAP_SHARED, fd.as_raw_fd(), offset as libc::off_t),
            None => (
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            ),
        };
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, fd, offset) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Staged { at, bytes })
    }

    /// Moves it over the table at `offset`, in one step: a reader sees the old page or the new one. All that
    /// can be wrong with the pages themselves has shown when they were mapped, so a table is not left in two.
    fn put(mut self, table: &Table, offset: usize) -> io::Result<()> {
        debug_assert!(offset + self.bytes <= abi::TABLE_BYTES);
        // SAFETY: the range lies inside the table's mapping, whose references are to atomics only and go on
        // to mean the same words; the staged mapping is ours and nobody points into it.
        let at = unsafe {
            let to = table.base().add(offset).cast::<libc::c_void>();
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            libc::mremap(self.at, self.bytes, self.bytes, flags, to)
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        self.bytes = 0;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // SAFETY: mapped by `new`, and moved nowhere.
            unsafe { libc::munmap(self.at, self.bytes) };
        }
    }
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> KfluxError {
    move |error| KfluxError::Map { what, error }
}

/// Maps the pages of the table's domain over it, to look at. `false`: it has none.
///
/// By a file of its own, which the mappings alone keep open: the end of the file that commands is the end of
/// the lease, and must not wait for a table to be unmapped. They go when the table's own mapping does.
pub fn look(table: &Table) -> Result<bool, KfluxError> {
    let domain = table.header().kflux_domain.load(SeqCst);
    if domain == 0 {
        return Ok(false);
    }
    let device = Device::open()?;
    device.join(domain, abi::KF_JOIN_VIEW)?;
    let access = libc::PROT_READ;
    let cores = Staged::new(Some(device.as_fd()), access, CORES).map_err(failed("cores"))?;
    let vcpus = Staged::new(Some(device.as_fd()), access, VCPUS).map_err(failed("vCPU blocks"))?;
    cores.put(table, CORES.0).map_err(failed("cores"))?;
    vcpus.put(table, VCPUS.0).map_err(failed("vCPU blocks"))?;
    Ok(true)
}

/// Maps what a VM's descriptor shows over its process's table: the cores, to look at, and its own page of
/// vCPU blocks, whose held words it writes. The blocks of other VMs are not in this process from then on.
pub fn sit_down(table: &Table, vm: BorrowedFd<'_>, slot: u32) -> Result<(), KfluxError> {
    if slot as usize >= abi::MAX_VMS {
        return Err(failed("vCPU blocks")(io::Error::from_raw_os_error(libc::EINVAL)));
    }
    let own = (
        abi::TVCPUS_OFFSET + slot as usize * abi::TVCPUS_BYTES,
        abi::TVCPUS_BYTES,
    );
    let cores = Staged::new(Some(vm), libc::PROT_READ, CORES).map_err(failed("cores"))?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let mine = Staged::new(Some(vm), access, own).map_err(failed("vCPU blocks of this slot"))?;
    let others = Staged::new(None, libc::PROT_NONE, VCPUS).map_err(failed("vCPU blocks"))?;
    cores.put(table, CORES.0).map_err(failed("cores"))?;
    others.put(table, VCPUS.0).map_err(failed("vCPU blocks"))?;
    mine.put(table, own.0).map_err(failed("vCPU blocks of this slot"))
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::Handle;

    #[test]
    fn a_table_without_a_domain_is_left_alone() {
        let (_fd, table) = Table::create(1_000_000, 6).expect("table");
        assert!(!look(&table).expect("nothing to do"));
    }

    #[test]
    fn pages_that_cannot_be_had_leave_the_table_whole() {
        let (_fd, table) = Table::create(1_000_000, 6).expect("table");
        let line = table.core_line(7).expect("core");
        line.word.store(5, SeqCst);
        let null = std::fs::File::open("/dev/null").expect("null");
        let error = sit_down(&table, null.as_fd(), 3).expect_err("no pages there");
        assert!(error.to_string().contains("cannot map kFlux's cores"), "{error}");
        assert!(sit_down(&table, null.as_fd(), abi::MAX_VMS as u32).is_err());
        assert_eq!(line.word.load(SeqCst), 5);
    }

    /// With the table's own file in the place of kFlux's: the offsets are the same.
    #[test]
    fn the_pages_lie_where_the_table_has_them() {
        let (fd, other) = Table::create(1_000_000, 6).expect("table");
        let (_fd, table) = Table::create(1_000_000, 6).expect("table");
        sit_down(&table, fd.as_fd(), 3).expect("mapped");
        let mine = Handle::new(3, 15).expect("handle");
        other.core_line(255).expect("core").word.store(9, SeqCst);
        other.vcpu_line(mine).word.store(4, SeqCst);
        assert_eq!(table.core_line(255).expect("core").word.load(SeqCst), 9);
        assert_eq!(table.vcpu_line(mine).word.load(SeqCst), 4);
        table.vcpu_line(mine).held.store(1, SeqCst);
        assert_eq!(other.vcpu_line(mine).held.load(SeqCst), 1);
        table.vm(1023).expect("slot").pid.store(8, SeqCst);
        assert_eq!(
            other.vm(1023).expect("slot").pid.load(SeqCst),
            0,
            "VM lines stay the table's"
        );
    }
}
