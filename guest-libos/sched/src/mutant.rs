//! Mistakes made on purpose, for models that must find them.
//!
//! A model that cannot fail proves nothing. So where an order or a second look matters, the code
//! asks here whether it is to be left out. Outside of models the answer is a constant.

/// Whether the mistake called `name` is to be made.
#[cfg(not(feature = "loom"))]
#[inline(always)]
pub const fn mutant(_name: &str) -> bool {
    false
}

#[cfg(feature = "loom")]
mod imp {
    use std::cell::Cell;

    // Of the thread that runs a model: loom runs all threads of one model on it.
    std::thread_local!(static MUTANT: Cell<&'static str> = const { Cell::new("") });

    pub fn mutant(name: &str) -> bool {
        MUTANT.with(|mutant| mutant.get() == name)
    }

    /// From here on this thread's models make the mistake called `name`.
    pub fn make(name: &'static str) {
        MUTANT.with(|mutant| mutant.set(name));
    }
}

#[cfg(feature = "loom")]
pub use imp::{make, mutant};
