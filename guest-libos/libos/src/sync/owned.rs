//! A mutex that knows its owner, and tells what is done wrong with it.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::block::{Lapse, Until};
use super::join::current;
use super::RawMutex;

/// What a mutex makes of uThreads that lock it twice, or unlock what is not theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Does not look who has it: who locks it twice waits for itself, and everybody may unlock it.
    Normal = 0,
    /// Its owner may lock it again, and has to unlock it as often.
    Recursive = 1,
    /// Such things are errors.
    Checking = 2,
}

/// A lock without data, with an owner. All zeroes: free, and normal.
#[derive(Debug)]
#[repr(C)]
pub struct OwnedMutex {
    lock: RawMutex,
    /// Name of the uThread that has it, unless normal; 0: nobody. Written by whoever has the lock,
    /// so who finds its own name there has it, and relaxed is enough.
    owner: AtomicU64,
    kind: AtomicU32,
    /// How often it was locked again; the owner's.
    depth: AtomicU32,
}

/// Why a mutex was not had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockError {
    /// The caller has it already, and it is a checking one.
    Deadlock,
    /// The caller has it already, so often that it cannot be counted any more.
    TooDeep,
    /// Somebody has it, and it was only tried.
    Busy,
    TimedOut,
    Interrupted,
}

/// Why a mutex was not let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnlockError {
    /// The caller does not have it.
    NotMine,
    /// Nobody has it.
    NotLocked,
}

impl From<Lapse> for LockError {
    fn from(lapse: Lapse) -> LockError {
        match lapse {
            Lapse::TimedOut => LockError::TimedOut,
            Lapse::Interrupted => LockError::Interrupted,
        }
    }
}

impl OwnedMutex {
    pub const fn new(kind: Kind) -> OwnedMutex {
        OwnedMutex {
            lock: RawMutex::new(),
            owner: AtomicU64::new(0),
            kind: AtomicU32::new(kind as u32),
            depth: AtomicU32::new(0),
        }
    }

    /// Makes it what it is to be, as long as nobody uses it, or again what it is: for an API whose
    /// static initialisers cannot know where the kind is kept.
    #[inline]
    pub fn set_kind(&self, kind: Kind) {
        self.kind.store(kind as u32, Ordering::Relaxed);
    }

    #[inline]
    fn normal(&self) -> bool {
        self.kind.load(Ordering::Relaxed) == Kind::Normal as u32
    }

    /// Whether the caller, `me`, had it already, and has it once more now.
    fn again(&self, me: u64, busy: LockError) -> Result<bool, LockError> {
        if self.owner.load(Ordering::Relaxed) != me {
            return Ok(false);
        }
        if self.kind.load(Ordering::Relaxed) != Kind::Recursive as u32 {
            return Err(busy);
        }
        let depth = self.depth.load(Ordering::Relaxed);
        let depth = depth.checked_add(1).ok_or(LockError::TooDeep)?;
        self.depth.store(depth, Ordering::Relaxed);
        Ok(true)
    }

    #[inline]
    pub fn lock(&self) -> Result<(), LockError> {
        self.lock_until(Until::EVER)
    }

    #[inline]
    pub fn lock_until(&self, until: Until) -> Result<(), LockError> {
        if self.normal() {
            return Ok(self.lock.lock_until(until)?);
        }
        let me = current().raw();
        if !self.again(me, LockError::Deadlock)? {
            self.lock.lock_until(until)?;
            self.owner.store(me, Ordering::Relaxed);
        }
        Ok(())
    }

    #[inline]
    pub fn try_lock(&self) -> Result<(), LockError> {
        if self.normal() {
            return if self.lock.try_lock() {
                Ok(())
            } else {
                Err(LockError::Busy)
            };
        }
        let me = current().raw();
        if !self.again(me, LockError::Busy)? {
            if !self.lock.try_lock() {
                return Err(LockError::Busy);
            }
            self.owner.store(me, Ordering::Relaxed);
        }
        Ok(())
    }

    #[inline]
    pub fn unlock(&self) -> Result<(), UnlockError> {
        if !self.normal() {
            self.check_owner()?;
            let depth = self.depth.load(Ordering::Relaxed);
            if depth > 0 {
                self.depth.store(depth - 1, Ordering::Relaxed);
                return Ok(());
            }
            self.owner.store(0, Ordering::Relaxed);
        }
        self.lock.unlock().map_err(|_| UnlockError::NotLocked)
    }

    fn check_owner(&self) -> Result<(), UnlockError> {
        if self.owner.load(Ordering::Relaxed) == current().raw() {
            return Ok(());
        }
        Err(if self.lock.is_locked() {
            UnlockError::NotMine
        } else {
            UnlockError::NotLocked
        })
    }

    /// For a condition variable: makes the lock one that is had once and nameless, for [`RawMutex`]
    /// to let go. What comes out goes to [`OwnedMutex::owned_again`].
    pub(super) fn disown(&self) -> Result<(&RawMutex, Disowned), UnlockError> {
        if self.normal() {
            return Ok((&self.lock, Disowned { me: 0, depth: 0 }));
        }
        self.check_owner()?;
        let me = self.owner.swap(0, Ordering::Relaxed);
        let depth = self.depth.swap(0, Ordering::Relaxed);
        Ok((&self.lock, Disowned { me, depth }))
    }

    /// The caller has the lock (again), as before [`OwnedMutex::disown`].
    pub(super) fn owned_again(&self, was: Disowned) {
        if was.me != 0 {
            self.owner.store(was.me, Ordering::Relaxed);
            self.depth.store(was.depth, Ordering::Relaxed);
        }
    }

    /// Whether somebody has it.
    pub fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }
}

/// What a lock was to its owner.
pub(super) struct Disowned {
    me: u64,
    depth: u32,
}
