//! Makes what all vCPUs share, from what the control page says.

use core::cell::{Cell, UnsafeCell};
use core::fmt;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use arch::extended;
use arch::fibre::Fibre;
use arch::upcall::Head;
use flux_abi::Context;
use sched::deadlines::Timer;
use sched::queue::RunQueue;
use sched::sleepers::Sleepers;
use sched::slots::{Near, Slots};
use sched::timers::Earliest;
use sched::NOBODY;

use crate::heap::{Heap, NoMemory};
use crate::kernel::{Kernel, PageFigures, SavedRsp};
use crate::options::{self, BadOption, OnPark};
use crate::page::{BadPage, Page};
use crate::platform::Platform;
use crate::time::Clock;
use crate::timer;
use crate::trace::Position;
use crate::trap;
use crate::uthread::{self, UThread};
use crate::vcpu::{After, Local};

/// Room in the part of a run queue that needs no lock. As much as Go and tokio have: what a thief
/// takes at once is then at most half as much, a few lines of memory.
const RING_SLOTS: usize = 256;

/// Why a VM cannot start.
#[derive(Debug)]
pub(crate) enum Failed {
    Page(BadPage),
    Memory(u64),
    Stacks(u32),
    Option(BadOption),
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failed::Page(BadPage::Magic(found)) => {
                write!(f, "the control page begins with {found:#x} instead of its magic number; start the image with Fluxion")
            }
            Failed::Page(BadPage::Version { major, minor }) => write!(
                f,
                "the VMM speaks ABI {major}.{minor}, this image {}.{}; build both from one release",
                flux_abi::ABI_MAJOR,
                flux_abi::ABI_MINOR
            ),
            Failed::Page(BadPage::Vcpus(n)) => {
                write!(
                    f,
                    "the control page names {n} vCPUs, 1 to {} are possible",
                    flux_abi::MAX_VCPUS
                )
            }
            Failed::Option(BadOption(found)) => {
                write!(f, "on_park={found}: give one of stay, hand")
            }
            Failed::Memory(bytes) => {
                write!(f, "{bytes} bytes of heap are too few for the scheduler's tables; give the VM more memory with --mem")
            }
            Failed::Stacks(n) => {
                write!(f, "the stack area has {n} stacks, at least 2 are needed; give the VM more memory with --mem")
            }
        }
    }
}

/// The components of extended state that contexts have here.
pub(crate) fn xsave_mask(page: Page) -> u64 {
    let header = page.header();
    let enabled = u64::from(header.xcr0_lo) | u64::from(header.xcr0_hi) << 32;
    // Every x86-64 has the first two.
    enabled & extended::KNOWN | 3
}

/// Makes everything that is shared.
///
/// # Safety
/// Called once; heap and stack area are as the header says, and unused.
pub(crate) unsafe fn make(
    sleepers: &'static Sleepers,
    page: Page,
    platform: &'static dyn Platform,
) -> Result<&'static Kernel, Failed> {
    page.check().map_err(Failed::Page)?;
    let on_park = options::on_park(page).map_err(Failed::Option)?;
    let header = page.header();
    platform.prepare(header);
    if header.stack_count < 2 || header.stack_bytes < 8192 {
        return Err(Failed::Stacks(header.stack_count));
    }
    // SAFETY: by the caller's promise.
    let mut heap = unsafe { Heap::new(header.heap_base, header.heap_bytes) };
    fill(&mut heap, sleepers, page, platform, on_park).map_err(|NoMemory| Failed::Memory(header.heap_bytes))
}

fn fill(
    heap: &mut Heap,
    sleepers: &'static Sleepers,
    page: Page,
    platform: &'static dyn Platform,
    on_park: OnPark,
) -> Result<&'static Kernel, NoMemory> {
    let header = page.header();
    let count = header.stack_count as usize;
    let clock = Clock::new(header);
    let links: &'static [AtomicU64] = heap.slice(count, |_| AtomicU64::new(0))?;
    let mut rings: [&'static [AtomicU64]; flux_abi::MAX_VCPUS] = [&[]; flux_abi::MAX_VCPUS];
    for ring in rings.iter_mut().take(header.vcpus as usize) {
        *ring = heap.slice(RING_SLOTS, |_| AtomicU64::new(0))?;
    }
    let mut timers = [const { None }; flux_abi::MAX_VCPUS];
    for room in timers.iter_mut().take(header.vcpus as usize) {
        *room = Some(heap.slice(count, |_| Timer::default())?);
    }
    let locals: &'static [Local] = heap.slice(header.vcpus as usize, |i| {
        let vcpu = i as u32;
        let guest = page.guest(vcpu);
        let figures = PageFigures::new(page, vcpu, &clock);
        Local {
            head: Head::new(
                // A header that says less than the legacy area and the header is a mistake.
                (xsave_mask(page), u64::from(header.xsave_bytes).max(576)),
                uthread::scheduling_point,
                (header.stack_base, count as u64, header.stack_bytes),
                trap::GUARD,
            ),
            id: vcpu,
            current: AtomicU32::new(NOBODY),
            busy: AtomicU32::new(0),
            scheduler: SavedRsp::default(),
            fibre: Fibre::new(),
            after: Cell::new(After::Back),
            away: AtomicU32::new(1),
            looking: Cell::new(false),
            woken: Cell::new(false),
            passes: Cell::new(0),
            now: Cell::new(0),
            began: Cell::new(0),
            boot_top: AtomicU64::new(0),
            // SAFETY: plain integers, all zero.
            taken: UnsafeCell::new(unsafe { core::mem::zeroed::<Context>() }),
            queue: RunQueue::new(rings[i], links, figures),
            timers: timer::timers(timers[i].take()),
            owes_ring: Cell::new(false),
            traced: Position::default(),
            kernel: Cell::new(core::ptr::null()),
            guest,
            host: page.host(vcpu),
        }
    })?;
    let uthreads = heap.slice(count, |i| {
        UThread::new(header.stack_base + (i as u64 + 1) * header.stack_bytes)
    })?;
    let near: &'static [Near] = heap.slice(header.vcpus as usize, |_| Near::new())?;
    let slots = Slots::new(heap.slice(count, |_| NOBODY)?, near);
    let kernel = heap.value(Kernel {
        page,
        platform,
        clock,
        idle_ticks: clock.ticks(u64::from(header.idle_spin_ns)),
        on_park,
        locals,
        uthreads,
        slots,
        earliest: Earliest::new(),
        sleepers,
        source: AtomicPtr::new(core::ptr::null_mut()),
    })?;
    for local in locals {
        local.kernel.set(kernel);
    }
    crate::debugger::show(kernel);
    Ok(kernel)
}
