//! What a debugger needs to find uThreads, in a form that needs no debug information: `gdb/fluxos.py`
//! reads it, in a process or in a core file.

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::kernel::Kernel;
use crate::uthread::UThread;
use crate::vcpu::Local;

/// Changes with what the fields mean.
const VERSION: u64 = 1;

/// Addresses are 0 until the VM has booted.
#[derive(Debug)]
#[repr(C)]
pub struct Table {
    version: u64,
    uthreads: AtomicU64,
    uthread_count: AtomicU64,
    uthread_bytes: u64,
    /// From the beginning of a uThread's entry.
    rsp: u64,
    place: u64,
    name: u64,
    stack_top: u64,
    locals: AtomicU64,
    local_count: AtomicU64,
    local_bytes: u64,
    /// From the beginning of a vCPU's private data.
    current: u64,
    /// The address of the vCPU's half block, which is also its GS base.
    guest: u64,
}

#[unsafe(no_mangle)]
#[used]
pub static FLUX_DEBUGGER: Table = Table {
    version: VERSION,
    uthreads: AtomicU64::new(0),
    uthread_count: AtomicU64::new(0),
    uthread_bytes: size_of::<UThread>() as u64,
    rsp: offset_of!(UThread, rsp) as u64,
    place: offset_of!(UThread, place) as u64,
    name: offset_of!(UThread, name) as u64,
    stack_top: offset_of!(UThread, stack_top) as u64,
    locals: AtomicU64::new(0),
    local_count: AtomicU64::new(0),
    local_bytes: size_of::<Local>() as u64,
    current: offset_of!(Local, current) as u64,
    guest: offset_of!(Local, guest) as u64,
};

/// Shows the debugger this VM; a process has one.
pub(crate) fn show(kernel: &Kernel) {
    let put = |to: &AtomicU64, value: u64| to.store(value, Ordering::Relaxed);
    put(&FLUX_DEBUGGER.uthread_count, kernel.uthreads.len() as u64);
    put(&FLUX_DEBUGGER.uthreads, kernel.uthreads.as_ptr() as u64);
    put(&FLUX_DEBUGGER.local_count, kernel.locals.len() as u64);
    put(&FLUX_DEBUGGER.locals, kernel.locals.as_ptr() as u64);
}
