//! FluxOS as an ordinary Linux process.
//!
//! The guest crates are linked into a normal program together with Fluxion's library. A vCPU is a
//! thread with two sides: Fluxion's life loop on the thread's own stack, and the guest on stacks
//! of its own. `run` switches to the guest, a door switches back, and the kick is a signal whose
//! handler switches back from wherever the guest was. The interrupted context then lies in the
//! signal frame, on the thread's alternate stack, until the handler returns into it, or another
//! vCPU has taken it over and the handler returns to FluxOS's entry instead.

pub mod cpu;
pub mod debugger;
pub mod door;
pub mod export;
pub mod machine;
pub mod memory;
pub mod panics;
mod sanitizer;
pub mod signals;
pub mod vcpu;

pub use machine::{boot, Boot};
pub use vcpu::HostedVcpu;
