//! How a core changes hands.
//!
//! [`protocol`] is the whole of it: every transition of the two words that decide a
//! race, for both sides, over an abstract [`World`]. [`table`] is the world that
//! processes share (the hand-off table of `abi/handoff.h`), [`bridge`] the arbiter's
//! side on top of it: batches, kicks, the forced-park deadline. [`doorbell`] is how vCPUs
//! sleep without an arbiter. The loom models in
//! `tests/loom.rs` check the same functions over a world of model atomics.
//!
//! [`kflux`] is the same from both sides where the kernel module moves the cores; [`any`]
//! is the bridge of either kind.

pub mod any;
pub mod bridge;
pub mod deadline;
pub mod doorbell;
pub mod handle;
pub mod kflux;
pub mod linux;
mod pages;
pub mod protocol;
pub mod table;
pub mod vcpu;

pub use any::AnyBridge;
pub use handle::Handle;
pub use protocol::World;
pub use table::{Table, TableError};
pub use vcpu::{
    asked, enter, leave, poison, ready, recall_vm, ring_doorbell, unmanage_vm, wait_for_grant, Asked, Enter,
    How, Left, Woken,
};
