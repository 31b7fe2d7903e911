//! The held context of an interrupted vCPU: who may go on with it.
//!
//! The held word in the hand-off table (which the guest cannot reach) decides, by compare-and-swap:
//!
//! ```text
//!   NONE ──hold──▶ HELD ──its own thread──▶ RESUMING ──▶ NONE
//!                    └────a thief's thread──▶ EXPORTING ──▶ TAKEN ──its own thread, at the scheduler──▶ NONE
//!   NONE ──forced inside FluxOS──▶ FORCED ──its own thread──▶ NONE
//! ```
//!
//! So no uThread ever runs twice. `host_vcpu.held` only tells the guest where asking is worth while.

use std::sync::atomic::Ordering::{Release, SeqCst};

use flux_abi as abi;

use crate::backend::{Backend, Failure};
use crate::life::Life;
use crate::stats::Count;

/// Marks the context that this vCPU was interrupted with, before it leaves. `critical`: it is FluxOS's own,
/// so nobody else can go on with it.
pub(crate) fn hold<B: Backend>(life: &Life<'_, B>, critical: bool) {
    if critical {
        life.line.held.store(abi::HELD_FORCED, Release);
        return;
    }
    // The word first: a thief that sees the hint must find it. Pairs with `steal`. Release and no more: this is
    // on the way between two VMs, and the hand-over that follows orders the rest.
    life.line.held.store(abi::HELD_HELD, Release);
    life.host.held.store(1, Release);
}

/// Before the guest goes on: the vCPU's own claim to its context. `false`: the VM ends.
pub(crate) fn resume<B: Backend>(life: &mut Life<'_, B>) -> Result<bool, Failure> {
    loop {
        match life.line.held.load(SeqCst) {
            abi::HELD_NONE => return Ok(true),
            abi::HELD_HELD => {
                let mine =
                    life.line
                        .held
                        .compare_exchange(abi::HELD_HELD, abi::HELD_RESUMING, SeqCst, SeqCst);
                if mine.is_ok() {
                    life.host.held.store(0, Release);
                    life.line.held.store(abi::HELD_NONE, Release);
                    return Ok(true);
                }
            }
            abi::HELD_TAKEN => {
                // From here to the scheduler's own first store it is in FluxOS's code: a kick must not
                // take these registers for a uThread's.
                life.guest.critical.store(1, SeqCst);
                life.backend.set_reentry()?;
                life.count(Count::Reentered);
                life.line.held.store(abi::HELD_NONE, SeqCst);
                return Ok(true);
            }
            abi::HELD_EXPORTING => {
                // A thief's thread is reading the registers, which takes it microseconds, unless it was
                // descheduled: it may be waiting for this very core.
                if life.vm.ending() {
                    return Ok(false);
                }
                std::thread::yield_now();
            }
            // FORCED, or RESUMING of this thread's own.
            _ => {
                life.line.held.store(abi::HELD_NONE, SeqCst);
                return Ok(true);
            }
        }
    }
}

/// The steal door: the guest asks for the held context of vCPU `victim`. The answer stands in the host line.
pub(crate) fn steal<B: Backend>(life: &mut Life<'_, B>, victim: u32) -> Result<(), Failure> {
    life.count(Count::Steal);
    let answer = if take(life, victim)? {
        abi::STEAL_TAKEN
    } else {
        abi::STEAL_NOTHING
    };
    life.host.answer.store(answer, SeqCst);
    Ok(())
}

fn take<B: Backend>(life: &mut Life<'_, B>, victim: u32) -> Result<bool, Failure> {
    // The number is the guest's: one that names no other vCPU of this VM finds nothing.
    let Some(handle) = life.vm.handles().get(victim as usize).filter(|h| **h != life.me) else {
        return Ok(false);
    };
    let (Some(slot), Some(host)) = (life.vm.page.context(victim), life.vm.page.host(victim)) else {
        return Ok(false);
    };
    let held = &life.vm.table.vcpu_line(*handle).held;
    if held
        .compare_exchange(abi::HELD_HELD, abi::HELD_EXPORTING, SeqCst, SeqCst)
        .is_err()
    {
        return Ok(false);
    }
    let exported = life.backend.export(victim, &slot);
    host.held.store(0, SeqCst);
    // If it failed the VM is poisoned, and whichever of the two it says nobody runs it again.
    held.store(
        if exported.is_ok() {
            abi::HELD_TAKEN
        } else {
            abi::HELD_HELD
        },
        SeqCst,
    );
    exported?;
    life.count(Count::Taken);
    Ok(true)
}
