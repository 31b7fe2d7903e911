//! Guests under KVM: the virtual machine, and its vCPUs as a [`crate::backend::Backend`].

mod exit;
mod export;
mod guest;
pub mod ioctl;
mod registers;
mod run_area;
mod vcpu;

pub use guest::{boot, Boot, Guest};
pub use vcpu::KvmVcpu;

use std::io;

use crate::image::ImageError;
use crate::layout::LayoutError;
use crate::memory::MemoryError;
use crate::tables::TablesError;

/// Why there is no virtual machine.
#[derive(Debug, thiserror::Error)]
pub enum KvmError {
    #[error("cannot open /dev/kvm: {0}; {1}")]
    Open(io::Error, &'static str),
    #[error("/dev/kvm speaks API version {0}, needs 12: this kernel's KVM is too old")]
    Api(i32),
    #[error("this host's KVM has no {0}, which Fluxion needs; run the guest hosted instead")]
    Missing(&'static str),
    #[error("KVM refused to {0}: {1}")]
    Refused(&'static str, io::Error),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Layout(#[from] LayoutError),
    #[error(transparent)]
    Tables(#[from] TablesError),
}

impl KvmError {
    fn refused(what: &'static str) -> impl Fn(kvm_ioctls::Error) -> KvmError {
        move |e| KvmError::Refused(what, io::Error::from_raw_os_error(e.errno()))
    }
}
