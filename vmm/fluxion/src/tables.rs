//! The guest's page tables, descriptor tables and task state, built by the host before the guest starts.
//!
//! Everything runs in ring 3, so every mapping is a user mapping. Pages are of 2 MiB where a region allows
//! it and of 4 KiB elsewhere; 1 GiB pages are not used because some hosts' KVM has none. Nothing is both
//! writable and executable. The tables themselves are not mapped: the guest has no business there.

use flux_abi as abi;

use crate::image::Image;
use crate::layout::{self, Layout, PAGE};

const PRESENT: u64 = 1;
const WRITE: u64 = 2;
const USER: u64 = 4;
/// Accessed and dirty, so that the processor need not write to the tables.
const TOUCHED: u64 = 0x60;
const LARGE: u64 = 0x80;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGE_PAGE: u64 = 2 << 20;
const ENTRIES: usize = 512;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TablesError {
    #[error("the page tables do not fit below 4 MiB; make the image smaller or set aside fewer stacks with --stacks")]
    Full,
    #[error("page {0:#x} would be mapped twice; the image's segments overlap the VM's own regions")]
    Twice(u64),
}

/// What may be done with a mapping. Reading is always allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    pub write: bool,
    pub execute: bool,
}

const READ: Access = Access {
    write: false,
    execute: false,
};
const DATA: Access = Access {
    write: true,
    execute: false,
};

/// Four-level page tables in an arena that will lie at TABLES_BASE; the first page is the root.
pub struct PageTables {
    arena: Vec<u64>,
}

impl PageTables {
    /// The tables of a whole guest.
    pub fn of(image: &Image, layout: &Layout) -> Result<PageTables, TablesError> {
        let mut tables = PageTables {
            arena: vec![0; ENTRIES],
        };
        tables.map(layout::GDT_BASE, layout::IDT_BASE - layout::GDT_BASE, READ)?;
        tables.map(layout::IDT_BASE, PAGE, DATA)?;
        for segment in &image.segments {
            let pages = segment.pages();
            let access = Access {
                write: segment.write,
                execute: segment.execute,
            };
            tables.map(pages.start, pages.end - pages.start, access)?;
        }
        for (start, len) in layout.guarded_stacks() {
            tables.map(start + PAGE, len - PAGE, DATA)?;
        }
        tables.map(layout.heap, layout.heap_bytes, DATA)?;
        tables.map(u64::from(abi::CONTROL_GPA), abi::CONTROL_BYTES as u64, DATA)?;
        Ok(tables)
    }

    /// Where the processor finds the root.
    pub fn root() -> u64 {
        layout::TABLES_BASE
    }

    /// The tables as bytes for TABLES_BASE.
    pub fn bytes(&self) -> Vec<u8> {
        self.arena.iter().flat_map(|entry| entry.to_le_bytes()).collect()
    }

    /// Maps `[start, start + len)` to itself; both in whole pages.
    fn map(&mut self, start: u64, len: u64, access: Access) -> Result<(), TablesError> {
        let mut flags = PRESENT | USER | TOUCHED;
        if access.write {
            flags |= WRITE;
        }
        if !access.execute {
            flags |= NO_EXECUTE;
        }
        let (mut at, end) = (start, start + len);
        while at < end {
            let large = at.is_multiple_of(LARGE_PAGE) && end - at >= LARGE_PAGE;
            let (level, flags, size) = if large {
                (2, flags | LARGE, LARGE_PAGE)
            } else {
                (1, flags, PAGE)
            };
            let entry = self.entry(at, level)?;
            if self.arena[entry] != 0 {
                return Err(TablesError::Twice(at));
            }
            self.arena[entry] = at | flags;
            at += size;
        }
        Ok(())
    }

    /// The index of the entry for `address` in its table of `level` (1: 4 KiB pages), making the tables
    /// on the way to it.
    fn entry(&mut self, address: u64, level: u32) -> Result<usize, TablesError> {
        let mut table = 0;
        for upper in (level + 1..=4).rev() {
            let entry = table + index(address, upper);
            if self.arena[entry] & LARGE != 0 {
                return Err(TablesError::Twice(address));
            }
            if self.arena[entry] == 0 {
                let next = self.arena.len();
                let at = layout::TABLES_BASE + next as u64 * 8;
                if at + PAGE > layout::TABLES_END {
                    return Err(TablesError::Full);
                }
                self.arena.resize(next + ENTRIES, 0);
                self.arena[entry] = at | PRESENT | WRITE | USER | TOUCHED;
            }
            table = ((self.arena[entry] & ADDRESS) - layout::TABLES_BASE) as usize / 8;
        }
        Ok(table + index(address, level))
    }

    /// Translates as the processor would: for tests and for error messages.
    pub fn walk(&self, address: u64) -> Option<(u64, Access)> {
        let mut table = 0;
        for level in (1..=4).rev() {
            let entry = *self.arena.get(table + index(address, level))?;
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                let offset = address & (if level == 1 { PAGE } else { LARGE_PAGE } - 1);
                let access = Access {
                    write: entry & WRITE != 0,
                    execute: entry & NO_EXECUTE == 0,
                };
                return Some(((entry & ADDRESS) + offset, access));
            }
            table = usize::try_from((entry & ADDRESS).checked_sub(layout::TABLES_BASE)?).ok()? / 8;
        }
        None
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

/// Linux's selectors: on hosts where ring-3 code runs with the host's real segments, only with these is
/// `iretq` from ring 3 to ring 3 native.
pub const USER_CODE: u16 = 0x33;
pub const USER_DATA: u16 = 0x2b;
pub const KERNEL_CODE: u16 = 0x10;
pub const TASK: u16 = 0x40;
pub const GDT_BYTES: usize = 0x50;
/// The task state ends with an I/O bitmap for ports 0 to 255 and the byte of ones that must follow it.
const IO_MAP: usize = 104;
const IO_MAP_BYTES: usize = 32;
pub const TSS_BYTES: usize = IO_MAP + IO_MAP_BYTES + 1;

/// The descriptor table of a vCPU. Accessed and busy bits are set already, so that nobody writes to it.
pub fn gdt(vcpu: u32) -> [u8; GDT_BYTES] {
    let base = Layout::tss(vcpu);
    let limit = TSS_BYTES as u64 - 1;
    let task_low = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
    let entries: [u64; GDT_BYTES / 8] = [
        0,
        0,
        0x00af_9b00_0000_ffff, // 0x10 kernel code
        0x00cf_9300_0000_ffff, // 0x18 kernel data
        0x00cf_fb00_0000_ffff, // 0x20 user code, 32 bits
        0x00cf_f300_0000_ffff, // 0x28 user data
        0x00af_fb00_0000_ffff, // 0x30 user code
        0,
        task_low,
        base >> 32,
    ];
    let mut bytes = [0; GDT_BYTES];
    for (to, entry) in bytes.chunks_exact_mut(8).zip(entries) {
        to.copy_from_slice(&entry.to_le_bytes());
    }
    bytes
}

/// The task state of a vCPU: where exceptions get their stack, and which ports ring 3 may use. All that the
/// bitmap covers are allowed; what is no door is refused by the host, which then poisons the VM.
pub fn tss(layout: &Layout, vcpu: u32) -> [u8; TSS_BYTES] {
    let mut bytes = [0; TSS_BYTES];
    let stack = layout.exception_stack_top(vcpu).to_le_bytes();
    bytes[4..12].copy_from_slice(&stack); // RSP0
    bytes[36..44].copy_from_slice(&stack); // IST1
    bytes[102..104].copy_from_slice(&(IO_MAP as u16).to_le_bytes());
    bytes[IO_MAP + IO_MAP_BYTES] = 0xff;
    bytes
}

const _: () = {
    assert!(GDT_BYTES as u64 <= layout::GDT_STRIDE);
    assert!(TSS_BYTES as u64 <= layout::TSS_STRIDE);
};

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
