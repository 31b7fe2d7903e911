//! Makes a hosted VM: memory, vCPUs, and what the header says of them.

use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::io;
use std::sync::Arc;

use flux_abi::{Header, MAX_VCPUS};
use fluxion::control_page::ControlPage;
use libos::boot::Boot as GuestBoot;

use crate::cpu::Cpu;
use crate::door::Hosted;
use crate::memory::Mapping;
use crate::signals;
use crate::vcpu::HostedVcpu;

/// The guest's own code never needs that much; the C library never runs here.
pub(crate) const BOOT_STACK: usize = 256 << 10;
const UTHREAD_STACK: usize = if cfg!(flux_sanitizer) { 128 << 10 } else { 64 << 10 };
/// Room for the largest frame there is (AMX has 8 KiB of state) and the handler.
const SIGNAL_STACK: usize = 64 << 10;
const STACKS_MAX: u64 = 4096;

#[derive(Debug, thiserror::Error)]
pub enum HostedError {
    #[error("cannot map {0} for the guest: {1}; choose less with --mem or free some memory")]
    Map(&'static str, io::Error),
    #[error("cannot set the signal handlers of vCPUs: {0}")]
    Signals(io::Error),
    #[error("{stacks} uThread stacks leave no heap in {mib} MiB; give the VM more with --mem or fewer stacks with --stacks")]
    NoRoom { stacks: u64, mib: u64 },
    #[error("a hosted VM has 1 to {MAX_VCPUS} vCPUs, not {0}")]
    Vcpus(u32),
    #[error("this processor has no XSAVE, which FluxOS needs")]
    NoXsave,
}

/// What a hosted VM is made from.
pub struct Boot {
    pub memory_mib: u64,
    pub vcpus: u32,
    pub stacks: Option<u64>,
    pub page: Arc<ControlPage>,
}

static GUEST: GuestBoot = GuestBoot::new();
static HOSTED: Hosted = Hosted;

arch::hosted_entry!(entry, vcpu);

extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: every vCPU comes here by `entry`, with its number and the page that `boot` was given,
    // on its boot stack, after `attach` has set GS base.
    unsafe { libos::boot::enter(&GUEST, &HOSTED, apps::main, id, page) }
}

/// Where vCPUs enter the guest, first and again: with their number and the control page, on their
/// boot stack, GS base set.
pub type Entry = unsafe extern "C" fn(u32, *mut u8) -> !;

/// Makes the one VM of this process, and completes `header` with what only it knows. What it
/// makes lives as long as the process: a guest's stacks cannot be taken away from under it.
pub fn boot(from: &Boot, header: &mut Header) -> Result<Vec<HostedVcpu>, HostedError> {
    boot_into(entry, from, header)
}

/// As [`boot`], for a guest of one's own.
pub fn boot_into(entry: Entry, from: &Boot, header: &mut Header) -> Result<Vec<HostedVcpu>, HostedError> {
    if from.vcpus == 0 || from.vcpus as usize > MAX_VCPUS {
        return Err(HostedError::Vcpus(from.vcpus));
    }
    let memory = from.memory_mib << 20;
    let stacks = from
        .stacks
        .unwrap_or((memory / 4 / UTHREAD_STACK as u64).min(STACKS_MAX));
    let no_room = HostedError::NoRoom {
        stacks,
        mib: from.memory_mib,
    };
    let area = stacks
        .checked_mul(UTHREAD_STACK as u64)
        .filter(|area| *area < memory);
    let Some(area) = area else { return Err(no_room) };
    let (xcr0, xsave_bytes) = extended_state()?;

    let map = |what| move |e| HostedError::Map(what, e);
    let heap = Mapping::new((memory - area) as usize).map_err(map("the heap"))?;
    let uthreads = Mapping::stacks(stacks as usize, UTHREAD_STACK).map_err(map("uThread stacks"))?;
    let boots = Mapping::stacks(from.vcpus as usize, BOOT_STACK).map_err(map("boot stacks"))?;
    let signal = Mapping::stacks(from.vcpus as usize, SIGNAL_STACK).map_err(map("signal stacks"))?;
    signals::install().map_err(HostedError::Signals)?;

    header.hosted = 1;
    header.xsave_bytes = xsave_bytes;
    header.xcr0_lo = xcr0 as u32;
    header.xcr0_hi = (xcr0 >> 32) as u32;
    header.memory_bytes = memory;
    header.heap_base = heap.base();
    header.heap_bytes = heap.len();
    header.stack_base = uthreads.base();
    header.stack_bytes = UTHREAD_STACK as u64;
    header.stack_count = stacks as u32;
    header.idt_base = 0;

    let page = from.page.host_address();
    // The page stays mapped: a value that is never dropped holds on to it.
    std::mem::forget(Arc::clone(&from.page));
    let cpus: Vec<Cpu> = (0..from.vcpus)
        .map(|id| {
            Cpu::new(
                id,
                page,
                boots.base() + (u64::from(id) + 1) * BOOT_STACK as u64,
                entry,
            )
        })
        .collect();
    let cpus: &'static [Cpu] = Vec::leak(cpus);
    crate::debugger::show(cpus);
    let guard = crate::memory::PAGE as u64;
    let vcpus = (0..from.vcpus).map(|id| {
        let base = signal.base() + u64::from(id) * SIGNAL_STACK as u64 + guard;
        HostedVcpu {
            cpus,
            id,
            signal_stack: (base, SIGNAL_STACK as u64 - guard),
        }
    });
    let vcpus = vcpus.collect();
    for mapping in [heap, uthreads, boots, signal] {
        std::mem::forget(mapping);
    }
    Ok(vcpus)
}

/// The extended state that contexts have, of what Linux has enabled, and the size of its area.
fn extended_state() -> Result<(u64, u32), HostedError> {
    const XSAVE: u32 = 1 << 26;
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & (XSAVE | OSXSAVE) != XSAVE | OSXSAVE {
        return Err(HostedError::NoXsave);
    }
    // SAFETY: the processor has XSAVE and the kernel has enabled it.
    let xcr0 = unsafe { xgetbv() } & arch::extended::KNOWN;
    let parts = (2..63)
        .filter(|part| xcr0 >> part & 1 == 1)
        .map(|part| __cpuid_count(0xd, part));
    // Legacy part and header are 576 bytes; then each part says its size (eax) and place (ebx).
    Ok((
        xcr0,
        parts
            .map(|leaf| leaf.eax.saturating_add(leaf.ebx))
            .fold(576, u32::max),
    ))
}

/// # Safety
/// The processor has XSAVE, and the kernel has enabled it.
#[target_feature(enable = "xsave")]
unsafe fn xgetbv() -> u64 {
    // SAFETY: register 0 exists.
    unsafe { _xgetbv(0) }
}
