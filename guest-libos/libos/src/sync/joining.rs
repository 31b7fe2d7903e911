//! Waiting for the end of a uThread.

use core::cell::Cell;

use sched::exit::{Join, Life, Refused};
use sched::spin::Spin;
use sched::Id;

use super::block::{known, Bed, Sleeper, Until};
use super::join::{current, free, named, JoinError, Tid};
use crate::kernel::Kernel;
use crate::uthread::UThread;
use crate::vcpu::{enter, leave, Local};

/// A joiner's wait. There is no list: the word in the one waited for names the joiner. Where a list's
/// lock is needed, because something else may end the wait, the joiner's own spin lock stands in.
struct Joining<'a> {
    target: &'a UThread,
    life: Life,
    me: Id,
    nap: Option<&'static Spin<()>>,
    result: Cell<Result<Join, Refused>>,
}

impl Bed for Joining<'_> {
    unsafe fn asleep(&self) {
        let (nap, me) = (self.nap, self.me);
        let result = self.target.exit.join(self.life, me);
        let sleeps = result == Ok(Join::Wait);
        if !sleeps {
            // Nobody else wakes it but its deadline; and then it waits for the lock below.
            self.result.set(result);
        }
        // SAFETY: in FluxOS's code.
        let local = unsafe { Local::here() };
        // Asked with the lock held, as of any list: so it is this wait.
        let ours = !sleeps && local.kernel().claim(me);
        if let Some(nap) = nap {
            // SAFETY: taken by `wait_for`.
            unsafe { nap.unlock() };
        }
        if ours {
            local.wake(me);
        }
    }

    fn leave(&self, _: &Kernel, _: Id) {
        if let Some(nap) = self.nap {
            nap.with(|()| ());
        }
        if self.result.get() == Ok(Join::Wait) {
            self.result.set(self.target.exit.withdraw(self.life));
        }
    }
}

/// Waits for the end. Then the uThread and what it has left are the caller's, which goes on to `reap`.
pub(super) fn wait_for(who: Tid, until: Until) -> Result<&'static UThread, JoinError> {
    let target = named(who)?;
    match target.exit.look(who.life()) {
        Ok(Join::Over) => return Ok(target),
        Ok(Join::Wait) => {}
        Err(_) if who == current() => return Err(JoinError::Myself),
        Err(refused) => return Err(refused.into()),
    }
    enter();
    // SAFETY: `critical` is set, and a uThread calls this, whose lock is held when it sleeps.
    let (result, lapse) = unsafe {
        let sleeper = Sleeper::new(until);
        let me = sleeper.me;
        // It has not ended, so its place is its own.
        if me == who.id() {
            sleeper.stay();
            leave();
            return Err(JoinError::Myself);
        }
        let nap = (until != Until::EVER).then(|| &known(sleeper.kernel, me).waiting.nap);
        let joining = Joining {
            target,
            life: who.life(),
            me,
            nap,
            result: Cell::new(Ok(Join::Wait)),
        };
        if let Some(nap) = nap {
            nap.lock();
        }
        let lapse = sleeper.sleep(&joining);
        (joining.result.get(), lapse)
    };
    leave();
    match (result?, lapse) {
        (Join::Over, _) | (Join::Wait, Ok(())) => Ok(target),
        (Join::Wait, Err(lapse)) => Err(lapse.into()),
    }
}

/// Frees the place of a uThread that was waited for. The result must have been taken before.
pub(super) fn reap(target: &UThread, who: Tid) -> Result<(), JoinError> {
    target.exit.reap(who.life())?;
    enter();
    // SAFETY: `critical` is set.
    free(unsafe { Local::here() }, who.id());
    leave();
    Ok(())
}
