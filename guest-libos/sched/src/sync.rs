//! Atomics and cells: the machine's, or loom's when models are checked.

#[cfg(not(feature = "loom"))]
mod imp {
    pub use core::hint::spin_loop;
    pub use core::sync::atomic::{fence, AtomicU32, Ordering};

    /// A cell whose accesses loom can see; here it is the plain one.
    #[derive(Debug, Default)]
    pub struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub const fn new(value: T) -> UnsafeCell<T> {
            UnsafeCell(core::cell::UnsafeCell::new(value))
        }

        /// Calls `f` with a pointer to the content; what `f` does with it is its own `unsafe`.
        #[inline(always)]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(feature = "loom")]
mod imp {
    pub use loom::cell::UnsafeCell;
    pub use loom::hint::spin_loop;
    pub use loom::sync::atomic::{fence, AtomicU32, Ordering};
}

pub use imp::*;
