//! Fluxion, the VMM of HyperFlux: one process per VM, its vCPUs dormant until they are granted a core.
//!
//! A library as well as a command: everything but what runs the guest's code ([`backend`]) is shared with
//! the hosted guest library OS, which is an ordinary Linux process with the same pages, socket and life.
//!
//! * [`args`], [`process`]: the command line; the order of setting up
//! * [`control_page`], [`section`]: the memory shared with the arbiter
//! * [`image`], [`layout`], [`tables`], [`memory`]: what a guest is made of
//! * [`kvm`]: the backend for virtual machines
//! * [`life`], [`seat`], [`lease`]: a vCPU's thread; where its cores come from; who manages it
//! * [`control`]: the socket
//! * [`confine`], [`stats`], [`log`], [`symbols`]: Landlock and seccomp; counters; lines; names of functions

pub mod args;
pub mod backend;
mod backtrace;
pub mod clock;
pub mod confine;
pub mod context_slot;
pub mod control;
pub mod control_page;
pub mod cpus;
mod doors;
mod exits;
mod idle;
pub mod image;
mod inherit;
pub mod kvm;
pub mod layout;
pub mod lease;
pub mod life;
pub mod log;
pub mod memory;
mod park;
pub mod process;
mod reader;
pub mod resident;
pub mod seat;
pub mod section;
pub mod stats;
pub mod symbols;
pub mod tables;
pub mod vm;
