//! The hand-off table as one process maps it.

use crate::protocol::World;
use crate::{linux, Handle};
use flux_abi as abi;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Why a descriptor or mapping was refused as a hand-off table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("cannot map the hand-off table: {0}")]
    Io(#[from] io::Error),
    #[error("the hand-off table is {found} bytes, not {expected}: it comes from another version of HyperFlux; restart everything with one version")]
    Size { found: u64, expected: u64 },
    #[error("this is no hand-off table (magic {found:#x}): pass the descriptor that hyperfluxd made")]
    Magic { found: u32 },
    #[error("the hand-off table speaks ABI {found_major}.{found_minor}, this program {major}.{minor}: restart everything with one version", major = abi::ABI_MAJOR, minor = abi::ABI_MINOR)]
    Version { found_major: u32, found_minor: u32 },
    #[error("the hand-off table is not sealed against shrinking: it was not made by hyperfluxd")]
    Unsealed,
}

/// A mapping of the hand-off table. Every word in it is atomic; every index is
/// checked by the accessors, so no reference leaves the mapping.
pub struct Table {
    base: NonNull<u8>,
    owned: bool,
}

// SAFETY: the mapping is shared memory whose words are only reached as atomics, and
// it stays mapped until the last reference to this Table is gone.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

const SEALS: libc::c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

impl Table {
    /// Makes a new table in a sealed memfd, its header filled in for this machine.
    pub fn create(tsc_khz: u32, stamp_shift: u32) -> Result<(OwnedFd, Table), TableError> {
        // SAFETY: the name is NUL-terminated; the result is checked and owned at once.
        let fd = unsafe {
            let fd = libc::memfd_create(
                c"hyperflux-handoff".as_ptr(),
                libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
            );
            if fd < 0 {
                return Err(io::Error::last_os_error().into());
            }
            OwnedFd::from_raw_fd(fd)
        };
        let file = File::from(fd);
        file.set_len(abi::TABLE_BYTES as u64)?;
        // SAFETY: fcntl on a descriptor that we own.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, SEALS) } < 0 {
            return Err(io::Error::last_os_error().into());
        }
        let fd = OwnedFd::from(file);
        let table = Table::mmap(&fd)?;
        table.init(tsc_khz, stamp_shift);
        Ok((fd, table))
    }

    /// Maps a table that somebody else made, after checking size, seals, magic and version.
    pub fn map(fd: &OwnedFd) -> Result<Table, TableError> {
        let found = File::from(fd.try_clone()?).metadata()?.len();
        if found != abi::TABLE_BYTES as u64 {
            return Err(TableError::Size {
                found,
                expected: abi::TABLE_BYTES as u64,
            });
        }
        // SAFETY: fcntl on a descriptor that the caller holds.
        let seals = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
        if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
            return Err(TableError::Unsealed);
        }
        let table = Table::mmap(fd)?;
        table.check()?;
        Ok(table)
    }

    fn mmap(fd: &OwnedFd) -> Result<Table, TableError> {
        // SAFETY: a fresh shared mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                abi::TABLE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error().into());
        }
        Ok(Table {
            base: NonNull::new(base.cast()).expect("mmap never returns 0 here"),
            owned: true,
        })
    }

    /// Uses a mapping that the caller made.
    ///
    /// # Safety
    /// `base` must point to a shared, writable mapping of at least `TABLE_BYTES`
    /// bytes, page-aligned, that stays mapped while the Table or anything borrowed from it lives.
    pub unsafe fn borrowed(base: NonNull<u8>) -> Table {
        Table { base, owned: false }
    }

    /// Where the mapping starts in this process.
    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Writes the header of a new, zeroed table.
    pub fn init(&self, tsc_khz: u32, stamp_shift: u32) {
        let header = self.header();
        header.abi_major.store(abi::ABI_MAJOR, Relaxed);
        header.abi_minor.store(abi::ABI_MINOR, Relaxed);
        header.bytes.store(abi::TABLE_BYTES as u32, Relaxed);
        header.tsc_khz.store(tsc_khz, Relaxed);
        header.stamp_shift.store(stamp_shift, Relaxed);
        header.lease_ms.store(1000, Relaxed);
        header.deadline_us.store(10_000, Relaxed);
        header.kick_after_us.store(20, Relaxed);
        header.magic.store(abi::TABLE_MAGIC, SeqCst);
    }

    /// Whether this is a table of our version.
    pub fn check(&self) -> Result<(), TableError> {
        let header = self.header();
        let found = header.magic.load(SeqCst);
        if found != abi::TABLE_MAGIC {
            return Err(TableError::Magic { found });
        }
        let found_major = header.abi_major.load(Relaxed);
        if found_major != abi::ABI_MAJOR {
            let found_minor = header.abi_minor.load(Relaxed);
            return Err(TableError::Version {
                found_major,
                found_minor,
            });
        }
        Ok(())
    }

    /// A reference to a struct of the table.
    ///
    /// # Safety
    /// `offset + size_of::<T>()` must lie inside the table, `offset` be aligned for T,
    /// and T consist of atomics only.
    unsafe fn at<T>(&self, offset: usize) -> &T {
        debug_assert!(offset + std::mem::size_of::<T>() <= abi::TABLE_BYTES);
        // SAFETY: the caller's promise; atomics may be shared with other processes.
        unsafe { &*self.base.as_ptr().add(offset).cast::<T>() }
    }

    pub fn header(&self) -> &abi::Table {
        // SAFETY: the header is at the start of the mapping.
        unsafe { self.at(0) }
    }

    /// `None` if there is no such core.
    pub fn core_line(&self, core: u32) -> Option<&abi::Core> {
        let core = core as usize;
        // SAFETY: the index is below MAX_CORES, so the line lies before VMS_OFFSET.
        (core < abi::MAX_CORES).then(|| unsafe { self.at(abi::CORES_OFFSET + core * abi::CORE_BYTES) })
    }

    /// `None` if there is no such slot.
    pub fn vm(&self, slot: u32) -> Option<&abi::Vm> {
        let slot = slot as usize;
        // SAFETY: the index is below MAX_VMS, so the line lies inside the table.
        (slot < abi::MAX_VMS).then(|| unsafe { self.at(abi::VMS_OFFSET + slot * abi::VM_BYTES) })
    }

    pub fn vcpu_line(&self, vcpu: Handle) -> &abi::Vcpu {
        let page = abi::TVCPUS_OFFSET + vcpu.slot() as usize * abi::TVCPUS_BYTES;
        let block = vcpu.vcpu() as usize * abi::TVCPU_BYTES;
        // SAFETY: a Handle's slot and vCPU are in range, so the block lies inside the table.
        unsafe { self.at(page + block) }
    }

    /// The VM section of a handle.
    pub fn vm_of(&self, vcpu: Handle) -> &abi::Vm {
        self.vm(vcpu.slot()).expect("a Handle's slot is in range")
    }

    /// Tells everyone who watches that a VM section or load has changed.
    pub fn announce(&self) {
        let word = &self.header().vms_changed;
        word.fetch_add(1, SeqCst);
        linux::futex_wake(word, i32::MAX);
    }

    pub fn is_managed(&self, core: u32) -> bool {
        core < abi::MAX_CORES as u32
            && self.header().managed[core as usize / 32].load(Relaxed) >> (core % 32) & 1 == 1
    }

    pub fn cores(&self) -> impl Iterator<Item = u32> + '_ {
        (0..abi::MAX_CORES as u32).filter(|core| self.is_managed(*core))
    }

    /// The handles of a VM's vCPUs; clamped, because the count is another process's word.
    pub fn vcpus(&self, slot: u32) -> impl Iterator<Item = Handle> {
        let count = self
            .vm(slot)
            .map_or(0, |vm| vm.vcpus.load(Relaxed))
            .min(abi::MAX_VCPUS as u32);
        (0..count).filter_map(move |vcpu| Handle::new(slot, vcpu))
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        if self.owned {
            // SAFETY: we mapped exactly this range and no reference outlives self.
            unsafe { libc::munmap(self.base.as_ptr().cast(), abi::TABLE_BYTES) };
        }
    }
}

/// The shared table as the protocol's world. Cores are checked by the callers that
/// take them from outside; a core out of range reads as owned by nobody and never changes.
impl World for Table {
    fn core(&self, core: u32) -> u64 {
        self.core_line(core).map_or(0, |line| line.word.load(SeqCst))
    }

    fn core_cas(&self, core: u32, old: u64, new: u64) -> Result<(), u64> {
        let line = self.core_line(core).ok_or(0u64)?;
        line.word.compare_exchange(old, new, SeqCst, SeqCst)?;
        Ok(())
    }

    fn heir(&self, core: u32) -> u32 {
        self.core_line(core).map_or(0, |line| line.heir.load(SeqCst))
    }

    fn vcpu(&self, vcpu: Handle) -> u32 {
        self.vcpu_line(vcpu).word.load(SeqCst)
    }

    fn vcpu_cas(&self, vcpu: Handle, old: u32, new: u32) -> Result<(), u32> {
        self.vcpu_line(vcpu)
            .word
            .compare_exchange(old, new, SeqCst, SeqCst)
            .map(|_| ())
    }

    fn park_req(&self, vcpu: Handle) -> u32 {
        self.vcpu_line(vcpu).park_req.load(SeqCst)
    }

    fn bump_park_req(&self, vcpu: Handle) -> u32 {
        self.vcpu_line(vcpu).park_req.fetch_add(1, SeqCst).wrapping_add(1)
    }

    fn place(&self, vcpu: Handle, core: u32) {
        let line = self.vcpu_line(vcpu);
        // Only the claimer gets here, so `pinned` has one writer at a time.
        if line.pinned.load(Relaxed) != core && linux::set_affinity(line.tid.load(Relaxed), core) {
            line.pinned.store(core, Relaxed);
        }
    }

    fn wake(&self, vcpu: Handle) {
        linux::futex_wake(&self.vcpu_line(vcpu).word, 1);
    }

    fn granted(&self, vcpu: Handle, core: u32) {
        let line = self.vcpu_line(vcpu);
        let now = linux::tsc();
        // Plain stores where the claim makes this the only writer.
        line.t_granted.store(now, Relaxed);
        line.grants
            .store(line.grants.load(Relaxed).wrapping_add(1), Relaxed);
        let lost = line.lost_tsc.load(Relaxed);
        if lost != 0 {
            line.lost_tsc.store(0, Relaxed);
            self.vm_of(vcpu)
                .taken_tsc
                .fetch_add(now.saturating_sub(lost), Relaxed);
        }
        if let Some(line) = self.core_line(core) {
            line.switches
                .store(line.switches.load(Relaxed).wrapping_add(1), Relaxed);
            line.since_tsc.store(now, Relaxed);
        }
    }
}
