//! The condition variable. Who is notified gets the mutex handed over; see [`sched::condvar`].

use sched::condvar::{self, hand_over};
use sched::mutex::NotLocked;
use sched::waiters::Waiters;
use sched::Id;

use super::block::{wake, Bed, Lapse, Sleeper, Until};
use super::mutex::{MutexGuard, RawMutex};
use super::owned::{OwnedMutex, UnlockError};
use crate::kernel::Kernel;
use crate::log::fatal;
use crate::vcpu::{enter, leave, Local};

/// For any mutexes. All zeroes: nobody waits.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct RawCondvar(condvar::Condvar);

impl Bed for condvar::Condvar {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { condvar::Condvar::asleep(self) }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        condvar::Condvar::leave(self, kernel, me);
    }
}

impl RawCondvar {
    pub const fn new() -> RawCondvar {
        RawCondvar(condvar::Condvar::new())
    }

    /// Lets the mutex go, waits to be notified, and has the mutex again, in any case. A wait may end
    /// without a notification. `NotLocked` if the mutex is not taken at all.
    pub fn wait(&self, mutex: &RawMutex, until: Until) -> Result<Result<(), Lapse>, NotLocked> {
        enter();
        // SAFETY: `critical` is set, and a uThread calls this. The mutex is borrowed for as long as
        // the wait lasts. The uThread is on the list when it sleeps.
        let result = unsafe {
            let sleeper = Sleeper::new(until);
            match self.0.wait(sleeper.kernel, sleeper.me, &mutex.0) {
                Ok(next) => {
                    if let Some(next) = next {
                        wake(Local::here(), next);
                    }
                    Ok(sleeper.sleep(&self.0))
                }
                Err(not_locked) => {
                    sleeper.stay();
                    Err(not_locked)
                }
            }
        };
        leave();
        if let Ok(Err(_)) = result {
            mutex.lock();
        }
        result
    }

    /// As [`RawCondvar::wait`]; the mutex is afterwards what it was to its owner before.
    pub fn wait_owned(&self, mutex: &OwnedMutex, until: Until) -> Result<Result<(), Lapse>, UnlockError> {
        let (lock, was) = mutex.disown()?;
        let result = self.wait(lock, until);
        if result.is_ok() {
            mutex.owned_again(was);
        }
        result.map_err(|NotLocked| UnlockError::NotLocked)
    }

    /// Notifies the one that has waited longest, if one waits.
    #[inline]
    pub fn notify_one(&self) {
        if !self.0.has_waiters() {
            return;
        }
        enter();
        // SAFETY: `critical` is set.
        let local = unsafe { Local::here() };
        // The condition variable's memory may be somebody else's after this.
        if let Some(id) = self.0.notify_one(local.kernel()) {
            wake(local, id);
        }
        leave();
    }

    /// Notifies all that wait.
    #[inline]
    pub fn notify_all(&self) {
        if self.0.has_waiters() {
            self.notify_many();
        }
    }

    #[cold]
    fn notify_many(&self) {
        let kernel = crate::uthread::kernel();
        let mut notified = Waiters::new();
        enter();
        let mut more = self.0.len();
        while more > 0 {
            more = self.0.collect(kernel, &mut notified, more);
            // They may be many, and the host may want this core.
            leave();
            enter();
        }
        // The condition variable is not touched any more.
        let mut handed = 0;
        while let Some(id) = notified.pop(kernel) {
            if hand_over(kernel, id) {
                // SAFETY: `critical` is set.
                wake(unsafe { Local::here() }, id);
            }
            handed += 1;
            if handed % 16 == 0 {
                leave();
                enter();
            }
        }
        leave();
    }

    /// Whether somebody waits.
    pub fn has_waiters(&self) -> bool {
        self.0.has_waiters()
    }
}

/// For [`super::Mutex`]es.
#[derive(Debug, Default)]
pub struct Condvar(RawCondvar);

impl Condvar {
    pub const fn new() -> Condvar {
        Condvar(RawCondvar::new())
    }

    /// Lets the mutex go, waits to be notified, and has it again. A wait may end without a notification.
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        // Nothing ends this wait but a notification.
        let _ = self.wait_until(guard, Until::EVER);
    }

    /// As [`Condvar::wait`], but not for too long. The mutex is had again in any case.
    pub fn wait_until<T>(&self, guard: &mut MutexGuard<'_, T>, until: Until) -> Result<(), Lapse> {
        match self.0.wait(&guard.0.lock, until) {
            Ok(result) => result,
            Err(NotLocked) => fatal(format_args!("a mutex was let go behind its guard's back")),
        }
    }

    /// Waits as long as `unchanged` says yes. Whether it says no at last.
    pub fn wait_while<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        until: Until,
        mut unchanged: impl FnMut(&mut T) -> bool,
    ) -> Result<(), Lapse> {
        while unchanged(guard) {
            if let Err(lapse) = self.wait_until(guard, until) {
                // It may have changed in the last moment.
                return if unchanged(guard) { Err(lapse) } else { Ok(()) };
            }
        }
        Ok(())
    }

    #[inline]
    pub fn notify_one(&self) {
        self.0.notify_one();
    }

    #[inline]
    pub fn notify_all(&self) {
        self.0.notify_all();
    }
}
