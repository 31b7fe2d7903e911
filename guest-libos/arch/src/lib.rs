//! What of FluxOS is x86-64.
//!
//! Everything runs at ring 3, in a KVM guest and in an ordinary process alike: no `cli`, no `hlt`,
//! no control registers. GS base is the vCPU's own half block in the control page, so that the
//! words that must be reached in one instruction are (see [`gs`]). FS base is left to uThreads.

#![cfg_attr(not(test), no_std)]

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
compile_error!("FluxOS is built for x86_64-unknown-linux-gnu; pass --target x86_64-unknown-linux-gnu");

pub mod clock;
pub mod doors;
pub mod entry;
pub mod extended;
pub mod fibre;
pub mod fs;
pub mod gs;
pub mod resume;
pub mod switch;
pub mod trap;
pub mod upcall;
