//! Locks: each guards something that shows if two have it, and is passed on if somebody waits.

use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::{Lapse, LockError, Semaphore, Until};

use super::doing::Doing;
use super::faults::Fault;
use super::member::Me;
use super::pair::{Pair, Torn};
use super::world::EVERYWHERE;
use super::{cell, registers};

fn visit(me: &mut Me, what: &str, pair: &Pair, between: impl FnOnce(&mut Me)) {
    let (who, value) = (me.number, me.random.next());
    me.doing(Doing::Computing);
    tell(me, what, |me| pair.visit(who, value, || between(me)));
}

fn tell(me: &mut Me, what: &str, work: impl FnOnce(&mut Me) -> Result<(), Torn>) {
    if let Err(torn) = work(me) {
        me.wrong(format_args!("{what}: {torn:?}"));
    }
}

pub fn mutex(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Mutex);
    if me.is_planted(Fault::Barge) {
        visit(me, "mutex", &cell.mutex_pair, Me::linger);
        me.tally.mutex += 1;
        return;
    }
    match me.random.below(4) {
        0 => {
            let (until, deadline) = me.soon();
            if let Err(lapse) = cell.mutex.lock_until(until) {
                return me.lapsed("mutex", lapse, deadline);
            }
        }
        1 if !cell.mutex.try_lock() => return,
        1 => {}
        _ => cell.mutex.lock(),
    }
    visit(me, "mutex", &cell.mutex_pair, Me::linger);
    me.tally.mutex += 1;
    if me.is_planted(Fault::Lock) {
        return;
    }
    if me.is_planted(Fault::Unlock) {
        return libos::rogue::unlock_without_handing_over(&cell.mutex);
    }
    if cell.mutex.unlock().is_err() {
        me.wrong(format_args!("mutex: it was had, and is not locked"));
    }
}

pub fn owned(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Owned);
    if me.random.once_in(4) {
        let (until, deadline) = me.soon();
        match cell.owned.lock_until(until) {
            Ok(()) => {}
            Err(LockError::TimedOut) => return me.lapsed("recursive mutex", Lapse::TimedOut, deadline),
            Err(error) => return me.wrong(format_args!("recursive mutex: {error:?}")),
        }
    } else if let Err(error) = cell.owned.lock() {
        return me.wrong(format_args!("recursive mutex: {error:?}"));
    }
    let depth = me.random.below(3);
    for _ in 0..depth {
        if let Err(error) = cell.owned.lock() {
            me.wrong(format_args!("recursive mutex, again: {error:?}"));
        }
    }
    visit(me, "recursive mutex", &cell.owned_pair, Me::linger);
    me.tally.owned += 1;
    for _ in 0..=depth {
        if let Err(error) = cell.owned.unlock() {
            me.wrong(format_args!("recursive mutex, let go: {error:?}"));
        }
    }
    if cell.owned.unlock() == Ok(()) {
        me.wrong(format_args!("recursive mutex: let go once too often"));
    }
}

pub fn spin(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Spin);
    if me.random.once_in(4) {
        if !cell.spin.try_lock() {
            return;
        }
    } else {
        cell.spin.lock();
    }
    // For very short sections; but their owner may lose its core as well.
    visit(me, "spin lock", &cell.spin_pair, |me| {
        if me.random.once_in(4) {
            registers::hold(me);
        }
    });
    me.tally.spin += 1;
    if cell.spin.unlock().is_err() {
        me.wrong(format_args!("spin lock: it was had, and is not locked"));
    }
}

pub fn rwlock(me: &mut Me) {
    let cell = me.cell;
    let until = |me: &mut Me| match me.random.below(4) {
        0 => Some(me.soon()),
        _ => None,
    };
    let (limit, writes) = (until(me), me.random.once_in(4));
    let (patience, deadline) = limit.unwrap_or((Until::EVER, 0));
    if writes {
        me.doing(Doing::Writing);
        if let Err(lapse) = cell.rwlock.write(patience) {
            return me.lapsed("rwlock, to write", lapse, deadline);
        }
        if cell.readers.load(Ordering::Relaxed) != 0 {
            me.wrong(format_args!("rwlock: there are readers besides a writer"));
        }
        visit(me, "rwlock", &cell.rwlock_pair, Me::linger);
        me.tally.writes += 1;
    } else {
        me.doing(Doing::Reading);
        match cell.rwlock.read(patience) {
            Ok(Ok(())) => {}
            Ok(Err(lapse)) => return me.lapsed("rwlock, to read", lapse, deadline),
            Err(refused) => return me.wrong(format_args!("rwlock: {refused:?}")),
        }
        me.doing(Doing::Computing);
        cell.readers.fetch_add(1, Ordering::Relaxed);
        tell(me, "rwlock, as a reader", |_| cell.rwlock_pair.look());
        me.linger();
        tell(me, "rwlock, as a reader", |_| cell.rwlock_pair.look());
        cell.readers.fetch_sub(1, Ordering::Relaxed);
    }
    if cell.rwlock.unlock().is_err() {
        me.wrong(format_args!("rwlock: it was had, and is not locked"));
    }
}

fn unit(me: &mut Me, semaphore: &Semaphore, inside: &AtomicU32, units: u32) {
    match me.random.below(4) {
        0 => {
            let (until, deadline) = me.soon();
            if let Err(lapse) = semaphore.acquire_until(until) {
                return me.lapsed("semaphore", lapse, deadline);
            }
        }
        1 if !semaphore.try_acquire() => return,
        1 => {}
        _ => semaphore.acquire(),
    }
    me.doing(Doing::Computing);
    let found = inside.fetch_add(1, Ordering::Relaxed);
    if found >= units {
        me.wrong(format_args!(
            "semaphore: {found} have one of {units} units already"
        ));
    }
    me.linger();
    inside.fetch_sub(1, Ordering::Relaxed);
    if semaphore.release().is_err() {
        me.wrong(format_args!("semaphore: it has too many units"));
    }
}

pub fn semaphore(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Semaphore);
    unit(me, &cell.semaphore, &cell.inside, cell::UNITS);
}

/// What is done once a round, by whoever comes first, while the others wait.
pub fn once(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Once);
    cell.once().call(|| {
        me.doing(Doing::Computing);
        me.linger();
        cell.done_once.fetch_add(1, Ordering::Relaxed);
    });
    me.tally.once += 1;
    let times = cell.done_once.load(Ordering::Relaxed);
    if times != 1 {
        me.wrong(format_args!("once: it was done {times} times"));
    }
}

/// Locks that very many want, and few have for long.
pub fn crowded(me: &mut Me) {
    let crowded = &me.world.crowded;
    match me.random.below(4) {
        0 => {
            me.doing(Doing::CrowdedMutex);
            crowded.mutex.lock();
            visit(me, "everybody's mutex", &crowded.mutex_pair, seldom);
            me.tally.crowded_mutex += 1;
            if crowded.mutex.unlock().is_err() {
                me.wrong(format_args!("everybody's mutex: it was had, and is not locked"));
            }
        }
        1 => {
            me.doing(Doing::CrowdedWriting);
            // Nothing ends this wait but the lock.
            let _ = crowded.rwlock.write(Until::EVER);
            visit(me, "everybody's rwlock", &crowded.rwlock_pair, seldom);
            me.tally.crowded_writes += 1;
            let _ = crowded.rwlock.unlock();
        }
        2 => {
            me.doing(Doing::CrowdedReading);
            if let Err(refused) = crowded.rwlock.read(Until::EVER) {
                return me.wrong(format_args!("everybody's rwlock: {refused:?}"));
            }
            tell(me, "everybody's rwlock", |_| crowded.rwlock_pair.look());
            seldom(me);
            tell(me, "everybody's rwlock", |_| crowded.rwlock_pair.look());
            let _ = crowded.rwlock.unlock();
        }
        _ => {
            me.doing(Doing::CrowdedSemaphore);
            unit(me, &crowded.semaphore, &crowded.inside, EVERYWHERE);
        }
    }
}

fn seldom(me: &mut Me) {
    if me.random.once_in(8) {
        me.linger();
    }
}
