//! A barrier: uThreads wait for each other until a number of them has come.

use crate::spin::Spin;
use crate::waiters::{Table, Waiters};
use crate::Id;

#[derive(Debug)]
pub struct Barrier {
    inner: Spin<Inner>,
}

#[derive(Debug)]
struct Inner {
    need: u32,
    come: u32,
    waiters: Waiters,
}

/// What a uThread that has come to the barrier has to do.
#[derive(Debug)]
pub enum Arrive {
    /// As [`crate::mutex::Lock::Sleep`], with [`Barrier::asleep`].
    Sleep,
    /// It is the last one: it makes the others runnable, and goes on. The barrier is open for the
    /// next round, and may be gone as soon as one of the others runs.
    Last(Waiters),
}

impl Barrier {
    /// For `need` uThreads; one does not wait for anybody, and none is like one.
    #[cfg(not(feature = "loom"))]
    pub const fn new(need: u32) -> Barrier {
        Barrier {
            inner: Spin::new(Inner {
                need,
                come: 0,
                waiters: Waiters::new(),
            }),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new(need: u32) -> Barrier {
        Barrier {
            inner: Spin::new(Inner {
                need,
                come: 0,
                waiters: Waiters::new(),
            }),
        }
    }

    pub fn arrive(&self, table: &impl Table, me: Id) -> Arrive {
        self.inner.lock();
        // SAFETY: taken above; its data is not in use.
        let last = unsafe {
            self.inner.locked(|inner| {
                inner.come += 1;
                if inner.come >= inner.need {
                    inner.come = 0;
                    return Some(core::mem::take(&mut inner.waiters));
                }
                inner.waiters.push(table, me);
                None
            })
        };
        match last {
            None => Arrive::Sleep,
            Some(others) => {
                // SAFETY: taken above.
                unsafe { self.inner.unlock() };
                Arrive::Last(others)
            }
        }
    }

    /// Opens the list again.
    ///
    /// # Safety
    /// Called once after each [`Arrive::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `arrive` left it held for us.
        unsafe { self.inner.unlock() };
    }

    /// How many wait at this moment.
    pub fn waiting(&self) -> u32 {
        self.inner.with(|inner| inner.come)
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn arrive(barrier: &Barrier, table: &Fake, id: Id) -> Option<Vec<Id>> {
        match barrier.arrive(table, id) {
            Arrive::Sleep => {
                // SAFETY: follows a Sleep.
                unsafe { barrier.asleep() };
                None
            }
            Arrive::Last(mut others) => Some(core::iter::from_fn(|| others.pop(table)).collect()),
        }
    }

    #[test]
    fn the_last_one_wakes_the_others_round_after_round() {
        let (barrier, table) = (Barrier::new(3), Fake::new());
        for _ in 0..3 {
            assert_eq!(arrive(&barrier, &table, 2), None);
            assert_eq!(arrive(&barrier, &table, 1), None);
            assert_eq!(barrier.waiting(), 2);
            assert_eq!(arrive(&barrier, &table, 3), Some(vec![2, 1]));
            assert_eq!(barrier.waiting(), 0);
        }
    }

    #[test]
    fn one_does_not_wait() {
        let table = Fake::new();
        assert_eq!(arrive(&Barrier::new(1), &table, 1), Some(vec![]));
        assert_eq!(arrive(&Barrier::new(0), &table, 1), Some(vec![]));
    }
}
