//! Cores moved by the kernel module: `/dev/kflux` (abi/kflux.h) from both sides.
//!
//! The words are kFlux's own here and the table's pages of cores and vCPUs are its pages
//! ([`overlay`]), so whoever reads the table reads what kFlux decided. [`bridge`] is the
//! arbiter's half behind the same functions as the affinity bridge, [`seat`] the half of a
//! VM's process, [`device`] the calls that both make.

pub mod bridge;
mod command;
pub mod device;
pub mod error;
pub mod overlay;
pub mod seat;
mod status;

pub use bridge::KfluxBridge;
pub use device::{hello, Device};
pub use error::KfluxError;
pub use seat::Seat;
