//! A spin lock for sections of a few dozen instructions inside FluxOS.

use crate::sync::{spin_loop, AtomicU32, Ordering, UnsafeCell};

/// Data behind a spin lock.
///
/// There is no guard: the section is a closure, so that it is visibly short and cannot be left
/// open across a context switch. The one section that must outlive its function, a uThread that
/// goes to sleep on a wait list, uses [`Spin::lock`] and [`Spin::unlock`].
#[derive(Debug)]
pub struct Spin<T> {
    word: AtomicU32,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached only while the lock is held, so by one vCPU at a time.
unsafe impl<T: Send> Sync for Spin<T> {}
// SAFETY: moving the lock moves its data, nothing else.
unsafe impl<T: Send> Send for Spin<T> {}

impl<T> Spin<T> {
    #[cfg(not(feature = "loom"))]
    pub const fn new(data: T) -> Spin<T> {
        Spin {
            word: AtomicU32::new(0),
            data: UnsafeCell::new(data),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new(data: T) -> Spin<T> {
        Spin {
            word: AtomicU32::new(0),
            data: UnsafeCell::new(data),
        }
    }

    /// Takes the lock. The owner is to call [`Spin::unlock`].
    pub fn lock(&self) {
        while !self.try_lock() {
            spin_loop();
            // Loom lets another thread run at the hint only; the load keeps the line shared
            // between vCPUs while the lock is taken.
            #[cfg(not(feature = "loom"))]
            while self.word.load(Ordering::Relaxed) != 0 {
                spin_loop();
            }
        }
    }

    fn try_lock(&self) -> bool {
        // Acquire pairs with the release in `unlock`: the data is as the last owner left it.
        self.word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Lets the lock go.
    ///
    /// # Safety
    /// The caller holds it, by [`Spin::lock`], and uses the data no more.
    pub unsafe fn unlock(&self) {
        self.word.store(0, Ordering::Release);
    }

    /// The data, for the owner of a lock taken with [`Spin::lock`].
    ///
    /// # Safety
    /// The caller holds the lock, and is inside no other closure on the same data.
    pub unsafe fn locked<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        // SAFETY: by the caller's promise nobody else looks at the data now.
        self.data.with_mut(|data| f(unsafe { &mut *data }))
    }

    /// Runs `f` with the lock held.
    #[inline]
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        self.lock();
        // SAFETY: the lock was taken above and is let go once `f` is done with the data.
        unsafe {
            let result = self.locked(f);
            self.unlock();
            result
        }
    }

    /// Runs `f` if the lock is free at this moment. Who holds one lock takes a second one only
    /// this way, so no two vCPUs can wait for each other.
    #[inline]
    pub fn try_with<R>(&self, f: impl FnOnce(&mut T) -> R) -> Option<R> {
        if !self.try_lock() {
            return None;
        }
        // SAFETY: as in `with`.
        unsafe {
            let result = self.locked(f);
            self.unlock();
            Some(result)
        }
    }
}
