//! The scheduler of FluxOS, as far as it is data.
//!
//! What runs on which vCPU is decided here; how a context is switched, what the host is told and
//! which core there is, is not known here. So everything in this crate runs on the machine that
//! builds it, under loom as well, and the guest links the same code.
//!
//! All of it is called with the calling vCPU's `critical` word set, so the host never holds a
//! vCPU in the middle of it. The spin locks rely on that: their sections are a few dozen
//! instructions, and a holder is off its core only if the host forced it off.

#![cfg_attr(not(any(test, feature = "loom")), no_std)]

pub mod barrier;
pub mod channel;
pub mod condvar;
pub mod deadlines;
pub mod exit;
#[cfg(all(test, not(feature = "loom")))]
mod fake;
pub mod group;
pub mod interrupt;
pub mod lot;
pub mod mutant;
pub mod mutex;
pub mod overflow;
pub mod queue;
pub mod ring;
pub mod rwlock;
pub mod semaphore;
pub mod sleepers;
pub mod slots;
pub mod spin;
pub mod sync;
pub mod sync64;
pub mod ticket;
pub mod timers;
pub mod waiters;

/// Names a uThread: its place in the uThread table, counted from 1. 0 is nobody.
pub type Id = u32;

/// No uThread.
pub const NOBODY: Id = 0;
