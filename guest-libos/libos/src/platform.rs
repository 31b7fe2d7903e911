//! What differs between a KVM guest and an ordinary process.

use arch::trap::Gate;
use flux_abi::Header;

use crate::trap::exception;

/// How FluxOS reaches the host below it.
pub trait Platform: Sync {
    /// Called once, by the first vCPU, before anything else is made.
    fn prepare(&self, header: &Header);

    /// Goes through a door (`FLUX_PORT_*`). Returns when the vCPU is run again. Called with
    /// `critical` set.
    fn door(&self, port: u16, arg: u32);

    /// Whether FS base belongs to uThreads. In an ordinary process it is the C library's, and a
    /// context from another thread must not bring that thread's along.
    fn uthreads_own_fs(&self) -> bool;
}

/// A KVM guest: doors are `out` instructions.
#[derive(Debug)]
pub struct Guest;

impl Platform for Guest {
    fn prepare(&self, header: &Header) {
        // SAFETY: Fluxion has set the table aside for this, and made it every vCPU's.
        unsafe { arch::trap::install(header.idt_base as *mut Gate, exception) };
    }

    fn door(&self, port: u16, arg: u32) {
        arch::doors::out(port, arg);
    }

    fn uthreads_own_fs(&self) -> bool {
        true
    }
}
