//! FluxOS, the library OS of a HyperFlux guest.
//!
//! It runs uThreads on vCPUs that may lose their core at any instruction. One word per vCPU
//! divides the world: while `critical` is not 0 the vCPU is in FluxOS's own code and leaves its
//! core only by itself; while it is 0 a uThread's own code runs, and the host may hold the vCPU as
//! it stands, or let another vCPU of the VM take the uThread over.
//!
//! # No uThread is lost
//!
//! A uThread is, at every moment, in exactly one of these places:
//!
//! * **queued**: in one run queue, its context saved on its stack by a switch. Any vCPU may take it,
//!   also from the queue of a parked one.
//! * **running**: `current` of exactly one vCPU. If that vCPU is on a core, it runs. If the vCPU
//!   is held, its context is in the host's hands, and `current` goes along with it: back with the
//!   vCPU, or to the thief that the host answered TAKEN, once (the host's held word decides).
//! * **blocked**: on one wait list, or handed by whoever let it go from there to a run queue.
//! * **free**, or ended and not joined yet: on no list, its place and its stack kept for the joiner.
//!
//! What moves it, and why nothing is in between when the host looks:
//!
//! * *A switch away* (yield, park on request, block, exit): the uThread's code calls in, sets
//!   `critical`, saves its context and goes on upon the scheduler's stack, which only then puts it
//!   into its next place ([`vcpu::Local::settle`]). Until the scheduler is back at its loop
//!   `critical` stays set, so the vCPU cannot be held with the uThread in no place. And no other
//!   vCPU sees the uThread before its context is whole, because it is made visible after.
//! * *A park on request* is a switch away whose next place is the head of the vCPU's queue. So
//!   when the vCPU goes through the park door, its uThread is queued and may be stolen.
//! * *Held*: nothing moves. The vCPU's `current` names the uThread, and the host has its context.
//!   Whoever gets that context (the vCPU itself, or one thief) has `current`.
//! * *Taken*: the thief moves `current` from the victim to itself while it owns the victim's slot;
//!   the victim, when it enters again, waits for the slot before it runs anything. A context
//!   without a `current` is that of a vCPU that had just entered, and is dropped: the victim
//!   enters again.
//! * *Forced* inside FluxOS: the vCPU stops where it is, and goes on from there, alone.

#![cfg_attr(not(test), no_std)]

mod account;
mod backtrace;
pub mod boot;
pub mod debugger;
mod heap;
pub mod kernel;
pub mod log;
mod make;
mod name;
pub mod options;
pub mod page;
pub mod platform;
pub mod rogue;
mod scheduler;
mod steal;
pub mod sync;
pub mod time;
mod timer;
mod trace;
pub mod trap;
pub mod uthread;
pub mod vcpu;
pub mod work;

pub use arch::clock::tsc as now;
