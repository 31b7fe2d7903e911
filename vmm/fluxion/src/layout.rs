//! Where things lie in the guest's RAM.
//!
//! ```text
//!   0x00000000  null page, never mapped
//!   0x00001000  GDT per vCPU, TSS per vCPU, IDT             read only, but for the IDT
//!   0x00010000  page tables, up to the image                 not mapped for the guest
//!   0x00400000  image                                       code read only, data not executable
//!               boot stacks, 64 KiB a vCPU                  lowest page of each not mapped
//!               exception stacks, 16 KiB a vCPU             lowest page of each not mapped
//!               heap
//!               stack area: count x 64 KiB, to the end of RAM, lowest page of each not mapped
//!   0x40000000  control page (a memory slot of its own)
//! ```

use crate::image::Image;

pub const PAGE: u64 = 4096;
pub const GDT_BASE: u64 = 0x1000;
pub const GDT_STRIDE: u64 = 128;
pub const TSS_BASE: u64 = 0x2000;
pub const TSS_STRIDE: u64 = 256;
pub const IDT_BASE: u64 = 0x3000;
pub const TABLES_BASE: u64 = 0x1_0000;
/// Room for the tables of all RAM in small pages: each stack has one that is not mapped.
pub const TABLES_END: u64 = 0x40_0000;
pub const BOOT_STACK: u64 = 64 << 10;
pub const EXCEPTION_STACK: u64 = 16 << 10;
pub const UTHREAD_STACK: u64 = 64 << 10;
/// More stacks than this are not set aside unless asked for.
pub const DEFAULT_STACKS_MAX: u64 = 4096;
/// A guest without some heap cannot even start its scheduler.
const MIN_HEAP: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    #[error("the image, {vcpus} vCPUs' stacks and {stacks} uThread stacks leave no heap in {mib} MiB; give the VM more with --mem or fewer stacks with --stacks")]
    NoRoom { vcpus: u32, stacks: u64, mib: u64 },
}

/// The addresses of everything that depends on the image and the VM's size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub memory: u64,
    pub vcpus: u32,
    pub boot_stacks: u64,
    pub exception_stacks: u64,
    pub heap: u64,
    pub heap_bytes: u64,
    pub stacks: u64,
    pub stack_count: u64,
}

impl Layout {
    /// Lays the guest out. `stacks`: how many uThread stacks, or `None` for a quarter of RAM's worth.
    pub fn new(image: &Image, memory: u64, vcpus: u32, stacks: Option<u64>) -> Result<Layout, LayoutError> {
        let stack_count = stacks.unwrap_or((memory / 4 / UTHREAD_STACK).min(DEFAULT_STACKS_MAX));
        let no_room = LayoutError::NoRoom {
            vcpus,
            stacks: stack_count,
            mib: memory >> 20,
        };
        let boot_stacks = image.end.next_multiple_of(PAGE);
        let exception_stacks = boot_stacks + u64::from(vcpus) * BOOT_STACK;
        let heap = exception_stacks + u64::from(vcpus) * EXCEPTION_STACK;
        let area = stack_count.checked_mul(UTHREAD_STACK);
        let Some(area_start) = area.and_then(|area| memory.checked_sub(area)) else {
            return Err(no_room);
        };
        match area_start.checked_sub(heap) {
            Some(heap_bytes) if heap_bytes >= MIN_HEAP => Ok(Layout {
                memory,
                vcpus,
                boot_stacks,
                exception_stacks,
                heap,
                heap_bytes,
                stacks: area_start,
                stack_count,
            }),
            _ => Err(no_room),
        }
    }

    /// The initial stack pointer of a vCPU.
    pub fn boot_stack_top(&self, vcpu: u32) -> u64 {
        self.boot_stacks + (u64::from(vcpu) + 1) * BOOT_STACK
    }

    pub fn exception_stack_top(&self, vcpu: u32) -> u64 {
        self.exception_stacks + (u64::from(vcpu) + 1) * EXCEPTION_STACK
    }

    pub fn gdt(vcpu: u32) -> u64 {
        GDT_BASE + u64::from(vcpu) * GDT_STRIDE
    }

    pub fn tss(vcpu: u32) -> u64 {
        TSS_BASE + u64::from(vcpu) * TSS_STRIDE
    }

    /// Every stack as (start, length): its lowest page is a hole.
    pub fn guarded_stacks(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let boot = (0..u64::from(self.vcpus)).map(|v| (self.boot_stacks + v * BOOT_STACK, BOOT_STACK));
        let exception = (0..u64::from(self.vcpus))
            .map(|v| (self.exception_stacks + v * EXCEPTION_STACK, EXCEPTION_STACK));
        let uthread = (0..self.stack_count).map(|s| (self.stacks + s * UTHREAD_STACK, UTHREAD_STACK));
        boot.chain(exception).chain(uthread)
    }
}

const _: () = {
    let vcpus = flux_abi::MAX_VCPUS as u64;
    assert!(GDT_BASE + vcpus * GDT_STRIDE <= TSS_BASE);
    assert!(TSS_BASE + vcpus * TSS_STRIDE <= IDT_BASE);
    assert!(IDT_BASE + PAGE <= TABLES_BASE);
    assert!(TABLES_END <= crate::image::IMAGE_BASE);
};

#[cfg(test)]
mod tests {
    use super::*;

    fn image(end: u64) -> Image {
        Image {
            entry: 0x40_0000,
            reentry: 0x40_0000,
            upcall: None,
            segments: Vec::new(),
            end,
        }
    }

    #[test]
    fn regions_follow_each_other() {
        let l = Layout::new(&image(0x52_3000), 64 << 20, 3, None).expect("fits");
        assert_eq!(l.boot_stacks, 0x52_3000);
        assert_eq!(l.exception_stacks, l.boot_stacks + 3 * BOOT_STACK);
        assert_eq!(l.heap, l.exception_stacks + 3 * EXCEPTION_STACK);
        assert_eq!(l.heap + l.heap_bytes, l.stacks);
        assert_eq!(l.stack_count, 256);
        assert_eq!(l.stacks + l.stack_count * UTHREAD_STACK, 64 << 20);
        assert_eq!(l.boot_stack_top(2), l.exception_stacks);
        assert_eq!(l.exception_stack_top(2), l.heap);
        assert_eq!(l.guarded_stacks().count(), 3 + 3 + 256);
    }

    #[test]
    fn too_much_is_refused() {
        assert!(Layout::new(&image(0xfe_0000), 16 << 20, 1, None).is_err());
        assert!(Layout::new(&image(0x50_0000), 64 << 20, 1, Some(u64::MAX)).is_err());
        assert!(Layout::new(&image(0x50_0000), 64 << 20, 1, Some(1024)).is_err());
        assert!(Layout::new(&image(0x50_0000), 64 << 20, 16, Some(900)).is_ok());
    }
}
