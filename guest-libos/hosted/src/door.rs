//! Doors of a hosted guest: from its side of the thread to Fluxion's.

use flux_abi::Header;
use libos::platform::Platform;

use crate::cpu::{Cpu, Stop};
use crate::signals;

/// An ordinary process.
#[derive(Debug)]
pub struct Hosted;

impl Platform for Hosted {
    fn prepare(&self, _header: &Header) {}

    fn door(&self, port: u16, arg: u32) {
        // Doors are used by vCPUs only; a guest that is on no vCPU cannot go on.
        let Some(cpu) = Cpu::this() else {
            std::process::abort()
        };
        // The kick is blocked on Fluxion's side. It is blocked and let in here, on the guest's
        // side, so that a kick finds the guest's context whole at every instruction where it can
        // arrive, and none is lost: one that was sent meanwhile arrives with `let_kicks_in`.
        signals::keep_kicks_out();
        cpu.stop(Stop::Door { port, arg });
        signals::let_kicks_in();
    }

    fn uthreads_own_fs(&self) -> bool {
        false
    }
}
