//! Locks, condition variables and semaphores.

use libos::sync::{spawn, Condvar, Mutex, Semaphore};

use super::{lasting, ns_since, Refused, WRONG};

pub fn mutex(ops: u32) -> Result<u64, Refused> {
    let counter = Mutex::new(0u32);
    let at = libos::now();
    for _ in 0..ops {
        counter.with(|n| *n = core::hint::black_box(*n + 1));
    }
    let took = ns_since(at);
    match counter.with(|n| *n) == ops {
        true => Ok(took),
        false => Err(Refused(WRONG)),
    }
}

struct Table {
    turn: Mutex<usize>,
    turned: [Condvar; 2],
}

impl Table {
    fn play(&self, me: usize, rounds: u32) {
        let mut turn = self.turn.lock();
        for _ in 0..rounds {
            while *turn != me {
                self.turned[me].wait(&mut turn);
            }
            *turn = 1 - me;
            self.turned[1 - me].notify_one();
        }
    }
}

/// An operation is a round trip: two signals, two waits.
pub fn condvar(ops: u32) -> Result<u64, Refused> {
    let table = Table {
        turn: Mutex::new(1),
        turned: [Condvar::new(), Condvar::new()],
    };
    // SAFETY: the other uThread is joined.
    let shared = unsafe { lasting(&table) };
    let other = spawn(move || shared.play(1, ops))?;
    let at = libos::now();
    // The other one begins.
    table.play(0, ops);
    let took = ns_since(at);
    other.join()?;
    Ok(took)
}

pub fn semaphore(ops: u32) -> Result<u64, Refused> {
    let one = Semaphore::new(1);
    let at = libos::now();
    for _ in 0..ops {
        one.acquire();
        one.release().map_err(|_| Refused(WRONG))?;
    }
    Ok(ns_since(at))
}

/// An operation is a round trip: two releases, two waits that block.
pub fn baton(ops: u32) -> Result<u64, Refused> {
    let both = [Semaphore::new(0), Semaphore::new(0)];
    // SAFETY: the other uThread is joined. There is never more than one unit, so no release fails.
    let [there, back] = unsafe { lasting(&both) };
    let other = spawn(move || {
        for _ in 0..ops {
            there.acquire();
            let _ = back.release();
        }
    })?;
    let at = libos::now();
    for _ in 0..ops {
        let _ = there.release();
        back.acquire();
    }
    let took = ns_since(at);
    other.join()?;
    Ok(took)
}
