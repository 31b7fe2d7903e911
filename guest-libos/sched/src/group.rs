//! A wait group: somebody waits until a number of parts are done.

use crate::spin::Spin;
use crate::waiters::{Links, Waiters};
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

/// More parts were done than there were.
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

    /// One part is done. After the last one, the uThread that waits is returned, to be made
    /// runnable; the group is not touched any more by then.
    pub fn done(&self, links: &impl Links) -> Result<Option<Id>, TooMany> {
        // Everything happens under the lock, the count to 0 included. A waiter that looks in
        // meanwhile waits for the lock, so the group's memory is its own only after the release.
        self.inner.with(|inner| {
            inner.open = inner.open.checked_sub(1).ok_or(TooMany)?;
            Ok(if inner.open == 0 {
                inner.waiters.pop(links)
            } else {
                None
            })
        })
    }

    /// Waits for the last part; one uThread at a time.
    pub fn wait(&self, links: &impl Links, me: Id) -> Wait {
        self.inner.lock();
        // SAFETY: the lock was taken above; its data is not in use.
        let over = unsafe {
            self.inner.locked(|inner| {
                if inner.open > 0 {
                    inner.waiters.push(links, me);
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
    use crate::sync::AtomicU32;

    struct Table([AtomicU32; 8]);

    impl Links for Table {
        fn link(&self, id: Id) -> &AtomicU32 {
            &self.0[id as usize]
        }
    }

    fn table() -> Table {
        Table([const { AtomicU32::new(0) }; 8])
    }

    #[test]
    fn the_last_part_wakes_the_waiter() {
        let (group, table) = (Group::new(2), table());
        assert_eq!(group.wait(&table, 4), Wait::Sleep);
        // SAFETY: follows the Sleep just asserted.
        unsafe { group.asleep() };
        assert_eq!(group.done(&table), Ok(None));
        assert_eq!(group.done(&table), Ok(Some(4)));
        assert_eq!(group.done(&table), Err(TooMany));
    }

    #[test]
    fn a_finished_group_is_not_waited_for() {
        let (group, table) = (Group::new(1), table());
        assert_eq!(group.done(&table), Ok(None));
        assert_eq!(group.wait(&table, 4), Wait::Over);
        assert_eq!(Group::new(0).wait(&table, 4), Wait::Over);
    }
}
