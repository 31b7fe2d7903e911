//! A wait group: uThreads wait until a number of parts are done.

use crate::spin::Spin;
use crate::waiters::{Table, Waiters};
use crate::Id;

/// Counts parts that are not done yet. It may live on the waiter's stack: once [`Group::wait`]
/// or the sleep it asks for is over, nobody touches the group any more.
#[derive(Debug)]
pub struct Group {
    inner: Spin<Inner>,
}

#[derive(Debug)]
struct Inner {
    open: u32,
    waiters: Waiters,
}

/// What a uThread that waits for a group has to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Wait {
    /// All parts are done.
    Over,
    /// As [`crate::mutex::Lock::Sleep`]: save the context, then call [`Group::asleep`].
    Sleep,
}

/// More parts were done than there were, or more added than can be counted.
#[derive(Debug, PartialEq, Eq)]
pub struct TooMany;

impl Group {
    #[cfg(not(feature = "loom"))]
    pub const fn new(parts: u32) -> Group {
        Group {
            inner: Spin::new(Inner {
                open: parts,
                waiters: Waiters::new(),
            }),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new(parts: u32) -> Group {
        Group {
            inner: Spin::new(Inner {
                open: parts,
                waiters: Waiters::new(),
            }),
        }
    }

    /// There are more parts. `Err` if there are more than can be counted.
    pub fn add(&self, parts: u32) -> Result<(), TooMany> {
        self.inner.with(|inner| {
            inner.open = inner.open.checked_add(parts).ok_or(TooMany)?;
            Ok(())
        })
    }

    /// One part is done. After the last one, the uThreads that waited are returned, to be made
    /// runnable; the group is not touched any more by then.
    pub fn done(&self) -> Result<Waiters, TooMany> {
        // Everything happens under the lock, the count to 0 included. A waiter that looks in
        // meanwhile waits for the lock, so the group's memory is its own only after the release.
        self.inner.with(|inner| {
            inner.open = inner.open.checked_sub(1).ok_or(TooMany)?;
            Ok(if inner.open == 0 {
                core::mem::take(&mut inner.waiters)
            } else {
                Waiters::new()
            })
        })
    }

    /// Waits for the last part.
    pub fn wait(&self, table: &impl Table, me: Id) -> Wait {
        self.inner.lock();
        // SAFETY: the lock was taken above; its data is not in use.
        let over = unsafe {
            self.inner.locked(|inner| {
                if inner.open > 0 {
                    inner.waiters.push(table, me);
                }
                inner.open == 0
            })
        };
        if over {
            // SAFETY: taken above.
            unsafe { self.inner.unlock() };
            return Wait::Over;
        }
        Wait::Sleep
    }

    /// Opens the group again.
    ///
    /// # Safety
    /// Called once after each [`Wait::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `wait` left it held for us.
        unsafe { self.inner.unlock() };
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;
    use crate::fake::Fake;

    fn sleep(group: &Group, table: &Fake, id: Id) {
        assert_eq!(group.wait(table, id), Wait::Sleep);
        // SAFETY: follows the Sleep just asserted.
        unsafe { group.asleep() };
    }

    fn done(group: &Group, table: &Fake) -> Result<Vec<Id>, TooMany> {
        let mut woken = group.done()?;
        Ok(core::iter::from_fn(|| woken.pop(table)).collect())
    }

    #[test]
    fn the_last_part_wakes_the_waiters() {
        let (group, table) = (Group::new(2), Fake::new());
        sleep(&group, &table, 4);
        assert_eq!(done(&group, &table), Ok(vec![]));
        sleep(&group, &table, 2);
        assert_eq!(done(&group, &table), Ok(vec![4, 2]));
        assert_eq!(done(&group, &table), Err(TooMany));
    }

    #[test]
    fn a_finished_group_is_not_waited_for() {
        let (group, table) = (Group::new(1), Fake::new());
        assert_eq!(done(&group, &table), Ok(vec![]));
        assert_eq!(group.wait(&table, 4), Wait::Over);
        assert_eq!(Group::new(0).wait(&table, 4), Wait::Over);
    }

    #[test]
    fn parts_can_be_added() {
        let (group, table) = (Group::new(0), Fake::new());
        assert_eq!(group.add(2), Ok(()));
        assert_eq!(group.add(u32::MAX), Err(TooMany));
        assert_eq!(done(&group, &table), Ok(vec![]));
        sleep(&group, &table, 1);
        assert_eq!(done(&group, &table), Ok(vec![1]));
    }
}
