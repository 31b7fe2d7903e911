//! Spin locks of programs.
//!
//! The word names the uThread that has the lock. Its holder may be off its core, or waiting to run
//! on this very vCPU, so who spins lets others run now and then.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};

use libos::uthread::yield_now;

use crate::errno::{EBUSY, EDEADLK, EINVAL, EPERM};

const FREE: u32 = 0;
/// Looks between two turns for others.
const SPINS: u32 = 64;

/// # Safety
/// `lock` is null or points at a `pthread_spinlock_t`.
unsafe fn word<'a>(lock: *mut u32) -> Result<&'a AtomicU32, c_int> {
    if lock.is_null() || !lock.is_aligned() {
        return Err(EINVAL);
    }
    // SAFETY: by the caller's promise; C programs touch it by these functions only.
    Ok(unsafe { AtomicU32::from_ptr(lock) })
}

fn me() -> u32 {
    libos::sync::current().raw() as u32
}

/// # Safety
/// `lock` is null or can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_spin_init(lock: *mut u32, shared: c_int) -> c_int {
    if !(0..=1).contains(&shared) {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    match unsafe { word(lock) } {
        Ok(word) => {
            word.store(FREE, Ordering::Relaxed);
            0
        }
        Err(error) => error,
    }
}

/// # Safety
/// `lock` is null or points at a `pthread_spinlock_t`; the same below.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_spin_destroy(lock: *mut u32) -> c_int {
    // SAFETY: by the caller's promise.
    match unsafe { word(lock) } {
        Ok(word) if word.load(Ordering::Relaxed) != FREE => EBUSY,
        Ok(_) => 0,
        Err(error) => error,
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_spin_lock(lock: *mut u32) -> c_int {
    // SAFETY: by the caller's promise.
    let word = match unsafe { word(lock) } {
        Ok(word) => word,
        Err(error) => return error,
    };
    let me = me();
    let mut looks = 0;
    loop {
        // Acquire pairs with the release in `unlock`.
        match word.compare_exchange(FREE, me, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return 0,
            Err(owner) if owner == me => return EDEADLK,
            Err(_) => {}
        }
        while word.load(Ordering::Relaxed) != FREE {
            looks += 1;
            if looks % SPINS == 0 {
                yield_now();
            } else {
                core::hint::spin_loop();
            }
        }
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_spin_trylock(lock: *mut u32) -> c_int {
    // SAFETY: by the caller's promise.
    match unsafe { word(lock) } {
        Ok(word) => match word.compare_exchange(FREE, me(), Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => 0,
            Err(_) => EBUSY,
        },
        Err(error) => error,
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_pthread_spin_unlock(lock: *mut u32) -> c_int {
    // SAFETY: by the caller's promise.
    match unsafe { word(lock) } {
        Ok(word) => match word.compare_exchange(me(), FREE, Ordering::Release, Ordering::Relaxed) {
            Ok(_) => 0,
            Err(_) => EPERM,
        },
        Err(error) => error,
    }
}
