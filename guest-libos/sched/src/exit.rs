//! The end of a uThread, and who is told.
//!
//! A uThread that somebody may join keeps its place in the table, and its stack, when it ends,
//! until it was joined or everybody has lost interest. One word decides who does what: the uThread
//! that ends, one that wants to wait for it, one that lets it go. The word also says which of the
//! many uThreads that one place has in its time is meant, so that an old name is an error and not
//! another uThread.

use crate::mutant::mutant;
use crate::sync::{spin_loop, Ordering};
use crate::sync64::AtomicU64;
use crate::Id;

/// Nobody is told. Also while the place is free, and for the uThreads that were never to be joined.
const ALONE: u64 = 0;
/// It may be joined.
const JOINABLE: u64 = 1;
/// It is waited for, by the uThread whose number is next to this.
const WAITED_FOR: u64 = 2;
/// It has ended, and whoever is next to this is being told.
const TELLING: u64 = 3;
/// It has ended, its context is gone, and its place waits for whoever wants to know.
const ENDED: u64 = 4;
const STATE: u64 = 7;
const WAITER_SHIFT: u32 = 3;
const LIFE_SHIFT: u32 = 32;

/// Counts the uThreads of one place; 0 is none.
pub type Life = u32;

#[derive(Debug)]
pub struct Exit(AtomicU64);

/// Why a uThread cannot be joined or let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such uThread any more.
    Gone,
    /// It is not to be joined: it was let go, or was never joinable.
    Alone,
    /// Another uThread waits for it.
    Waited,
}

/// What somebody who wants to join has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// It has ended: take what it has left, then call [`Exit::reap`].
    Over,
    /// It is told when the uThread ends, and then as above.
    Wait,
}

/// What is to happen to the place of a uThread that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It is free.
    Free,
    /// It stays as it is, until somebody joins.
    Keep,
    /// It stays, and this uThread waits for it. It is to be claimed (see [`crate::ticket`]), then
    /// comes [`Exit::told`], and then it is to be made runnable if the claim went well.
    Tell(Id),
}

fn life_of(word: u64) -> Life {
    (word >> LIFE_SHIFT) as Life
}

fn with(word: u64, state: u64) -> u64 {
    word >> LIFE_SHIFT << LIFE_SHIFT | state
}

/// The word after the place became free: another life begins.
fn reborn(word: u64) -> u64 {
    u64::from(life_of(word).checked_add(1).unwrap_or(1)) << LIFE_SHIFT | ALONE
}

impl Exit {
    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Exit {
        Exit(AtomicU64::new(1 << LIFE_SHIFT | ALONE))
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Exit {
        Exit(AtomicU64::new(1 << LIFE_SHIFT | ALONE))
    }

    /// Which uThread of its place it is.
    pub fn life(&self) -> Life {
        life_of(self.0.load(Ordering::Relaxed))
    }

    /// For whoever makes the uThread, before it is runnable: it may be joined.
    pub fn joinable(&self) -> Life {
        let word = self.0.load(Ordering::Relaxed);
        self.0.store(with(word, JOINABLE), Ordering::Relaxed);
        life_of(word)
    }

    /// Changes the word of life `life` as `f` says, until that has happened or `f` refuses.
    fn change<R>(&self, life: Life, f: impl Fn(u64) -> Result<(u64, R), Refused>) -> Result<R, Refused> {
        // Acquire, here and below: who finds that it has ended sees what it has left behind. Pairs
        // with the release in `ended`.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            if life_of(word) != life {
                return Err(Refused::Gone);
            }
            let (next, result) = f(word)?;
            if next == word {
                return Ok(result);
            }
            // Release pairs with the acquire in `ended`: who is told, or whoever is not, is whole.
            match self
                .0
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Ok(result),
                Err(now) => word = now,
            }
        }
    }

    /// Has `me` told of the end. With the context of `me` saved, if it is to sleep meanwhile.
    pub fn join(&self, life: Life, me: Id) -> Result<Join, Refused> {
        self.change(life, |word| match word & STATE {
            ENDED => Ok((word, Join::Over)),
            JOINABLE => Ok((with(word, u64::from(me) << WAITER_SHIFT | WAITED_FOR), Join::Wait)),
            ALONE => Err(Refused::Alone),
            _ => Err(Refused::Waited),
        })
    }

    /// Whether it has ended, or may be waited for.
    pub fn look(&self, life: Life) -> Result<Join, Refused> {
        self.change(life, |word| match word & STATE {
            ENDED => Ok((word, Join::Over)),
            JOINABLE => Ok((word, Join::Wait)),
            ALONE => Err(Refused::Alone),
            _ => Err(Refused::Waited),
        })
    }

    /// For the one whom [`Exit::join`] has made the waiter, and whose wait was ended by something
    /// else: it is not told any more. `Over` if it was too late for that. Before this it must not begin another wait: who tells it could take
    /// that one for this.
    pub fn withdraw(&self, life: Life) -> Result<Join, Refused> {
        loop {
            let done = self.change(life, |word| match word & STATE {
                WAITED_FOR => Ok((with(word, JOINABLE), Some(Join::Wait))),
                ENDED => Ok((word, Some(Join::Over))),
                TELLING if !mutant("no wait for teller") => Ok((word, None)),
                TELLING => Ok((word, Some(Join::Over))),
                _ => Err(Refused::Waited),
            })?;
            match done {
                Some(done) => return Ok(done),
                // Whoever tells is in FluxOS's code, a few instructions from the end of it.
                None => spin_loop(),
            }
        }
    }

    /// Nobody is to be told. `true` if it has ended already, and its place is the caller's to free.
    pub fn let_go(&self, life: Life) -> Result<bool, Refused> {
        self.change(life, |word| match word & STATE {
            JOINABLE => Ok((with(word, ALONE), false)),
            ENDED => Ok((reborn(word), true)),
            ALONE => Err(Refused::Alone),
            _ => Err(Refused::Waited),
        })
    }

    /// For the joiner, when it has taken what is left: the place is its to free. There is one who
    /// is told so.
    pub fn reap(&self, life: Life) -> Result<(), Refused> {
        self.change(life, |word| match word & STATE {
            ENDED => Ok((reborn(word), ())),
            _ => Err(Refused::Waited),
        })
    }

    /// The uThread has ended, and its context is not used any more.
    pub fn ended(&self) -> Ended {
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let (next, ended) = match word & STATE {
                ALONE => (reborn(word), Ended::Free),
                JOINABLE => (with(word, ENDED), Ended::Keep),
                _ => {
                    let waiter = (word & ((1 << LIFE_SHIFT) - 1)) >> WAITER_SHIFT;
                    (with(word, TELLING), Ended::Tell(waiter as Id))
                }
            };
            if mutant("end without look") {
                self.0.store(next, Ordering::Release);
                return ended;
            }
            // Acquire pairs with the release of a joiner: it is whole and can be told. Release: as
            // said in `change`.
            match self
                .0
                .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return ended,
                Err(now) => word = now,
            }
        }
    }

    /// The waiter that [`Exit::ended`] named was claimed, or was found to wait no more.
    pub fn told(&self) {
        let word = self.0.load(Ordering::Relaxed);
        // Nobody changes the word while it says TELLING. Release: as said in `change`.
        self.0.store(with(word, ENDED), Ordering::Release);
    }
}

impl Default for Exit {
    fn default() -> Exit {
        Exit::new()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_joinable_leaves_nothing() {
        let exit = Exit::new();
        let life = exit.life();
        assert_eq!(exit.join(life, 7), Err(Refused::Alone));
        assert_eq!(exit.let_go(life), Err(Refused::Alone));
        assert_eq!(exit.ended(), Ended::Free);
        assert_eq!(exit.join(life, 7), Err(Refused::Gone));
        assert_ne!(exit.life(), life);
    }

    #[test]
    fn joined_after_its_end() {
        let exit = Exit::new();
        let life = exit.joinable();
        assert_eq!(exit.look(life), Ok(Join::Wait));
        assert_eq!(exit.ended(), Ended::Keep);
        assert_eq!(exit.join(life, 7), Ok(Join::Over));
        assert_eq!(exit.reap(life), Ok(()));
        assert_eq!(exit.reap(life), Err(Refused::Gone));
        assert_eq!(exit.join(life, 7), Err(Refused::Gone));
    }

    #[test]
    fn joined_before_its_end_by_one() {
        let exit = Exit::new();
        let life = exit.joinable();
        assert_eq!(exit.join(life, 7), Ok(Join::Wait));
        assert_eq!(exit.join(life, 8), Err(Refused::Waited));
        assert_eq!(exit.let_go(life), Err(Refused::Waited));
        assert_eq!(exit.reap(life), Err(Refused::Waited));
        assert_eq!(exit.ended(), Ended::Tell(7));
        assert_eq!(exit.join(life, 8), Err(Refused::Waited), "7 is told");
        exit.told();
        assert_eq!(exit.reap(life), Ok(()));
    }

    #[test]
    fn let_go_before_and_after_its_end() {
        let exit = Exit::new();
        let life = exit.joinable();
        assert_eq!(exit.let_go(life), Ok(false));
        assert_eq!(exit.let_go(life), Err(Refused::Alone));
        assert_eq!(exit.ended(), Ended::Free);
        let next = exit.joinable();
        assert_ne!(life, next);
        assert_eq!(exit.ended(), Ended::Keep);
        assert_eq!(exit.let_go(next), Ok(true));
        assert_eq!(exit.let_go(next), Err(Refused::Gone));
    }

    #[test]
    fn joiners_may_withdraw() {
        let exit = Exit::new();
        let life = exit.joinable();
        assert_eq!(exit.join(life, 7), Ok(Join::Wait));
        assert_eq!(exit.withdraw(life), Ok(Join::Wait));
        assert_eq!(exit.join(life, u32::MAX >> 3), Ok(Join::Wait));
        assert_eq!(exit.ended(), Ended::Tell(u32::MAX >> 3));
        exit.told();
        assert_eq!(exit.withdraw(life), Ok(Join::Over), "too late");
        assert_eq!(exit.reap(life), Ok(()));
    }

    #[test]
    fn lives_are_counted_past_their_end() {
        let exit = Exit(AtomicU64::new(u64::from(u32::MAX) << LIFE_SHIFT));
        assert_eq!(exit.ended(), Ended::Free);
        assert_eq!(exit.life(), 1, "0 is none");
    }
}
