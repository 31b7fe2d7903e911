//! What uThreads wait for each other with. Who waits leaves the vCPU to others.
//!
//! A holder of any of these locks may lose its core at any instruction; it is found by the VM's
//! other vCPUs like any other uThread, and goes on. Nobody spins for an application's lock.
//!
//! There are two layers. The plain ones ([`RawMutex`], [`RawCondvar`], [`Semaphore`], [`Barrier`], [`RawRwLock`], ...)
//! are for APIs built upon this one: a fresh one is all zeroes, they stay where they were put, and
//! what callers do wrong with them comes back as an error. Those with data in them ([`Mutex`], [`RwLock`],
//! [`Channel`]) and [`JoinHandle`] are for Rust.

mod barrier;
pub mod block;
mod channel;
mod condvar;
mod group;
mod handle;
mod interrupt;
pub mod join;
mod joining;
mod mutex;
mod once;
mod owned;
mod rwlock;
mod semaphore;
mod spinlock;
pub mod words;

pub use barrier::Barrier;
pub use block::{Lapse, Until};
pub use channel::{Channel, ReceiveError, SendError};
pub use condvar::{Condvar, RawCondvar};
pub use group::Group;
pub use interrupt::{clear_interrupt, interrupt, interrupted, sleep, Gone};
pub use join::{current, spawn, JoinError, JoinHandle, Tid};
pub use mutex::{Mutex, MutexGuard, RawMutex};
pub use once::Once;
pub use owned::{Kind, LockError, OwnedMutex, UnlockError};
pub use rwlock::Refused;
pub use rwlock::{RawRwLock, ReadGuard, RwLock, WriteGuard};
pub use sched::mutex::NotLocked;
pub use semaphore::{Semaphore, TooMany};
pub use spinlock::SpinLock;

#[cfg(test)]
mod tests {
    use super::*;

    /// C programs have room for so much, the least of what the objects of POSIX have.
    const LEAST_ROOM: usize = 32;

    fn is_zero<T>(fresh: T) -> bool {
        let bytes = (&raw const fresh).cast::<u8>();
        // SAFETY: inside the value; it is all words of 32 bits, so there is no padding to be read.
        let zero = (0..size_of::<T>()).all(|i| unsafe { bytes.add(i).read_volatile() } == 0);
        core::mem::forget(fresh);
        zero
    }

    #[test]
    fn what_is_fresh_is_zero_and_small() {
        assert!(is_zero(RawMutex::new()) && is_zero(RawCondvar::new()));
        assert!(is_zero(Semaphore::new(0)) && is_zero(RawRwLock::new()));
        assert!(is_zero(Once::new()) && is_zero(SpinLock::new()));
        let (owned, kind) = (OwnedMutex::new(Kind::Normal), Kind::Normal as u32);
        assert!(!owned.is_locked() && kind == 0);
        let sizes = [
            size_of::<OwnedMutex>(),
            size_of::<RawCondvar>(),
            size_of::<Semaphore>(),
            size_of::<RawRwLock>(),
            size_of::<Barrier>(),
        ];
        assert!(sizes.iter().all(|size| *size <= LEAST_ROOM), "{sizes:?}");
        assert_eq!((size_of::<Once>(), size_of::<SpinLock>()), (4, 4));
    }
}
