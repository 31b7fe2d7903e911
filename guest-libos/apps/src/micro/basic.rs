//! Calls, the clock, uThreads that begin and end, and uThreads that give way.

use core::hint::black_box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libos::sync::{self, Group};
use libos::uthread::{self, yield_now};

use super::{lasting, ns_since, Refused, WRONG};

const PARTS: u32 = 64;

#[inline(never)]
fn empty(x: u32) -> u32 {
    black_box(x)
}

pub fn floor(ops: u32) -> Result<u64, Refused> {
    let at = libos::now();
    for i in 0..ops {
        empty(i);
    }
    Ok(ns_since(at))
}

pub fn clock(ops: u32) -> Result<u64, Refused> {
    let at = libos::now();
    for _ in 0..ops {
        black_box(libos::now());
    }
    Ok(ns_since(at))
}

pub fn spawn(ops: u32) -> Result<u64, Refused> {
    let counter = AtomicU64::new(0);
    // SAFETY: each uThread is joined before the next one begins.
    let shared = unsafe { lasting(&counter) };
    let at = libos::now();
    for _ in 0..ops {
        let one = sync::spawn(move || {
            shared.fetch_add(1, Ordering::Relaxed);
        })?;
        one.join()?;
    }
    let took = ns_since(at);
    all_ran(&counter, u64::from(ops))?;
    Ok(took)
}

pub fn fan(ops: u32) -> Result<u64, Refused> {
    let counter = AtomicU64::new(0);
    // SAFETY: all uThreads are waited for, also if there are too few stacks.
    let shared = unsafe { lasting(&counter) };
    let at = libos::now();
    for _ in 0..ops {
        let group = Group::new(PARTS);
        // SAFETY: as above.
        let of = unsafe { lasting(&group) };
        let mut result = Ok(());
        for _ in 0..PARTS {
            let part = move || {
                shared.fetch_add(1, Ordering::Relaxed);
                of.done();
            };
            if let Err(no_slot) = uthread::spawn(part) {
                result = Err(no_slot);
                of.done();
            }
        }
        group.wait();
        result?;
    }
    let took = ns_since(at);
    all_ran(&counter, u64::from(ops) * u64::from(PARTS))?;
    Ok(took)
}

fn all_ran(counter: &AtomicU64, wanted: u64) -> Result<(), Refused> {
    match counter.load(Ordering::Relaxed) == wanted {
        true => Ok(()),
        false => Err(Refused(WRONG)),
    }
}

/// Two uThreads give way in turns; half of the operations each.
pub fn give_way(ops: u32) -> Result<u64, Refused> {
    let ready = AtomicU32::new(0);
    // SAFETY: the other uThread is joined.
    let told = unsafe { lasting(&ready) };
    let other = sync::spawn(move || {
        told.store(1, Ordering::Relaxed);
        for _ in 0..ops / 2 {
            yield_now();
        }
    })?;
    while ready.load(Ordering::Relaxed) == 0 {
        yield_now();
    }
    let at = libos::now();
    for _ in 0..ops / 2 {
        yield_now();
    }
    let took = ns_since(at);
    other.join()?;
    Ok(took)
}
