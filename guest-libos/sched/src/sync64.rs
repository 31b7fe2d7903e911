//! The 64-bit atomics and fences of [`crate::sync`]'s kind: the machine's, or loom's in models.

#[cfg(not(feature = "loom"))]
pub use core::sync::atomic::{fence, AtomicU64};
#[cfg(feature = "loom")]
pub use loom::sync::atomic::{fence, AtomicU64};
