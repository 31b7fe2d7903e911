//! Deadlines: waits that end before theirs, and how late one is that comes.

use libos::sync::{spawn, Lapse, Semaphore, Until};
use libos::time::{deadline_in, sleep_until};
use libos::uthread::kernel;

use super::{lasting, ns_since, Refused, WRONG};

const DEADLINE_NS: u64 = 1_000_000_000;
const SLEEP_NS: u64 = 200_000;

fn wait_a_second(of: &Semaphore) -> Result<(), Lapse> {
    of.acquire_until(Until::at(deadline_in(DEADLINE_NS)))
}

/// As the semaphores' round trip, but each of the two waits has a deadline of a second.
pub fn timed(ops: u32) -> Result<u64, Refused> {
    let both = [Semaphore::new(0), Semaphore::new(0)];
    // SAFETY: the other uThread is joined. There is never more than one unit, so no release fails.
    let [there, back] = unsafe { lasting(&both) };
    let other = spawn(move || {
        for _ in 0..ops {
            wait_a_second(there)?;
            let _ = back.release();
        }
        Ok::<_, Lapse>(())
    })?;
    let mut result = Ok(());
    let at = libos::now();
    for _ in 0..ops {
        let _ = there.release();
        result = result.and(wait_a_second(back));
    }
    let took = ns_since(at);
    match result.and(other.join()?) {
        Ok(()) => Ok(took),
        Err(_) => Err(Refused(WRONG)),
    }
}

/// How late after it was due the uThread goes on.
pub fn late(ops: u32) -> Result<u64, Refused> {
    let clock = kernel().clock;
    let mut total = 0;
    for _ in 0..ops {
        let due = deadline_in(SLEEP_NS);
        sleep_until(due);
        // Too early would be wrong, and not quick.
        total += libos::now().checked_sub(due).ok_or(Refused(WRONG))?;
    }
    Ok(clock.ns(total))
}
