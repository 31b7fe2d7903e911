//! uThreads that are made to run on another vCPU, because the one that made them runnable keeps its own.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use libos::sync::{self, Condvar, Group, Mutex};
use libos::uthread::{kernel, spawn};

use super::{lasting, Refused, NO_VCPUS};

/// How long others are left to themselves, so that they have nothing to do when it goes on.
const SETTLE_NS: u64 = 2000;

fn settle() {
    let until = libos::now().saturating_add(kernel().clock.ticks(SETTLE_NS));
    while libos::now() < until {
        spin_loop();
    }
}

/// Two uThreads are made, and their maker keeps its vCPU until the first of them has begun: from
/// before the first is made to that.
pub fn steal(ops: u32) -> Result<u64, Refused> {
    if kernel().vcpus() < 2 {
        return Err(Refused(NO_VCPUS));
    }
    let mut total = 0;
    for _ in 0..ops {
        let begun = [AtomicU64::new(0), AtomicU64::new(0)];
        let group = Group::new(2);
        // SAFETY: both are waited for, as far as they were made.
        let (shared, of) = unsafe { (lasting(&begun), lasting(&group)) };
        let mut result = Ok(());
        let start = libos::now();
        for at in shared {
            let show = move || {
                at.store(libos::now(), Ordering::SeqCst);
                of.done();
            };
            if let Err(no_slot) = spawn(show) {
                result = Err(no_slot);
                show();
            }
        }
        while begun[0].load(Ordering::SeqCst) == 0 {
            spin_loop();
        }
        total += begun[0].load(Ordering::SeqCst).saturating_sub(start);
        group.wait();
        result?;
        settle();
    }
    Ok(kernel().clock.ns(total))
}

struct Bed {
    turn: Mutex<bool>,
    woken: Condvar,
    /// Rounds that the sleeper has begun to wait in, and been woken in, and when.
    waits: AtomicU64,
    ran: AtomicU64,
    at: AtomicU64,
}

impl Bed {
    fn sleep(&self, rounds: u64) {
        for i in 1..=rounds {
            let mut turn = self.turn.lock();
            self.waits.store(i, Ordering::SeqCst);
            while !*turn {
                self.woken.wait(&mut turn);
            }
            *turn = false;
            self.at.store(libos::now(), Ordering::SeqCst);
            self.ran.store(i, Ordering::SeqCst);
        }
    }
}

/// From the signal to the woken uThread's first look at the clock, while the one that signals keeps
/// its vCPU: only another one can run what was woken.
pub fn wake(ops: u32) -> Result<u64, Refused> {
    if kernel().vcpus() < 2 {
        return Err(Refused(NO_VCPUS));
    }
    let bed = Bed {
        turn: Mutex::new(false),
        woken: Condvar::new(),
        waits: AtomicU64::new(0),
        ran: AtomicU64::new(0),
        at: AtomicU64::new(0),
    };
    // SAFETY: the other uThread is joined.
    let shared = unsafe { lasting(&bed) };
    let rounds = u64::from(ops);
    let other = sync::spawn(move || shared.sleep(rounds))?;
    let mut total = 0;
    for i in 1..=rounds {
        while bed.waits.load(Ordering::SeqCst) != i {
            spin_loop();
        }
        settle();
        *bed.turn.lock() = true;
        let start = libos::now();
        bed.woken.notify_one();
        while bed.ran.load(Ordering::SeqCst) != i {
            spin_loop();
        }
        total += bed.at.load(Ordering::SeqCst).saturating_sub(start);
    }
    other.join()?;
    Ok(kernel().clock.ns(total))
}
