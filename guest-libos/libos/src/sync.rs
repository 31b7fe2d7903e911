//! Locks and groups for uThreads: who waits leaves the vCPU to others.

use core::cell::UnsafeCell;
use core::sync::atomic::Ordering;

use sched::group::{self, Wait};
use sched::mutex::{self, Lock};

use crate::log::fatal;
use crate::uthread::kernel;
use crate::vcpu::{enter, leave, suspend, After, Local};

/// A lock around data. Handed over in the order of arrival; a holder that loses its core is found
/// by the VM's other vCPUs like any other uThread.
#[derive(Debug)]
pub struct Mutex<T> {
    lock: mutex::Mutex,
    data: UnsafeCell<T>,
}

// SAFETY: the data is reached by one uThread at a time, the one that has the lock.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    pub const fn new(data: T) -> Mutex<T> {
        Mutex {
            lock: mutex::Mutex::new(),
            data: UnsafeCell::new(data),
        }
    }

    /// Runs `f` with the lock held.
    pub fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        if !self.lock.try_lock() {
            self.lock_slowly();
        }
        // SAFETY: the lock is ours.
        let result = f(unsafe { &mut *self.data.get() });
        if !self.lock.try_unlock() {
            self.unlock_slowly();
        }
        result
    }

    #[cold]
    fn lock_slowly(&self) {
        enter();
        // SAFETY: `critical` is set, a uThread calls this, and `Local` is not used after the sleep.
        unsafe {
            let local = Local::here();
            let me = local.current.load(Ordering::Relaxed);
            if self.lock.lock(local.kernel(), me) == Lock::Sleep {
                suspend(After::Sleep(open_mutex, (&raw const self.lock).cast()));
            }
        }
        leave();
    }

    #[cold]
    fn unlock_slowly(&self) {
        enter();
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        match self.lock.unlock(local.kernel()) {
            Ok(Some(next)) => local.wake(next),
            Ok(None) => {}
            Err(mutex::NotLocked) => fatal(format_args!("a mutex was unlocked that nobody had locked")),
        }
        leave();
    }
}

/// # Safety
/// As [`mutex::Mutex::asleep`]; `lock` is a `sched::mutex::Mutex`.
unsafe fn open_mutex(lock: *const ()) {
    // SAFETY: passed along by `lock_slowly`, whose uThread sleeps on it.
    unsafe { (*lock.cast::<mutex::Mutex>()).asleep() }
}

/// Waits for a number of parts to be done.
#[derive(Debug)]
pub struct Group(group::Group);

impl Group {
    pub const fn new(parts: u32) -> Group {
        Group(group::Group::new(parts))
    }

    /// One part is done. The group may be gone when this returns.
    pub fn done(&self) {
        enter();
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        match self.0.done(local.kernel()) {
            Ok(Some(waiter)) => local.wake(waiter),
            Ok(None) => {}
            Err(group::TooMany) => fatal(format_args!("a wait group was told of more parts than it has")),
        }
        leave();
    }

    /// Returns when all parts are done; for one uThread.
    pub fn wait(&self) {
        enter();
        // SAFETY: as in `lock_slowly`.
        unsafe {
            let me = Local::here().current.load(Ordering::Relaxed);
            if self.0.wait(kernel(), me) == Wait::Sleep {
                suspend(After::Sleep(open_group, (&raw const self.0).cast()));
            }
        }
        leave();
    }
}

/// # Safety
/// As [`group::Group::asleep`]; `group` is a `sched::group::Group`.
unsafe fn open_group(group: *const ()) {
    // SAFETY: passed along by `wait`, whose uThread sleeps on it.
    unsafe { (*group.cast::<group::Group>()).asleep() }
}
