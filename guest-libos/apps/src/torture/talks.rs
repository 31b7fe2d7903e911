//! uThreads that give each other something: what goes in comes out, once.
//!
//! There are two places, and one of them is full when everybody has done with it. Some put something down and then pick
//! something up, the others do it the other way round. So there is always somebody who can go on: if both places are
//! full, those who wait for room are waited for by nobody, and somebody is on the way to pick something up; if both are empty,
//! somebody is on the way to put something down. And the last one of a cell is not left waiting.

use libos::sync::{Condvar, MutexGuard, ReceiveError, SendError};

use super::cell::{Store, ROOM};
use super::doing::Doing;
use super::faults::Fault;
use super::member::Me;

/// Waits as long as `unchanged` says yes, sometimes in short spells.
fn wait(
    me: &mut Me,
    condvar: &Condvar,
    guard: &mut MutexGuard<'_, Store>,
    unchanged: impl Fn(&Store) -> bool,
) {
    while unchanged(guard) {
        if !me.random.once_in(4) {
            condvar.wait(guard);
            continue;
        }
        let (until, deadline) = me.soon();
        if let Err(lapse) = condvar.wait_until(guard, until) {
            me.lapsed("condition variable", lapse, deadline);
        }
    }
}

/// Tells one that waits, with the lock or after it.
fn notify(me: &mut Me, condvar: &Condvar, guard: MutexGuard<'_, Store>) {
    let early = me.random.once_in(2);
    let all = me.random.once_in(8);
    let kept = (!early).then_some(guard);
    if me.is_planted(Fault::Wake) {
        return;
    }
    if all {
        condvar.notify_all();
    } else {
        condvar.notify_one();
    }
    drop(kept);
}

/// Both, in an order by chance, with something in between now and then.
fn both(me: &mut Me, give: fn(&mut Me), take: fn(&mut Me)) {
    let (first, second) = if me.random.once_in(2) {
        (give, take)
    } else {
        (take, give)
    };
    first(me);
    me.doing(Doing::Computing);
    me.linger();
    second(me);
    me.doing(Doing::Computing);
}

/// A channel made by hand, of a mutex and two condition variables.
pub fn store(me: &mut Me) {
    both(me, put, take);
}

fn put(me: &mut Me) {
    let cell = me.cell;
    let value = me.random.next() >> 32;
    me.doing(Doing::Putting);
    let mut store = cell.store.lock();
    wait(me, &cell.emptied, &mut store, |store| {
        store.put - store.taken == ROOM
    });
    let at = store.put % ROOM;
    store.values[at] = value;
    store.put += 1;
    me.tally.put += value;
    notify(me, &cell.filled, store);
}

fn take(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Taking);
    let mut store = cell.store.lock();
    wait(me, &cell.filled, &mut store, |store| store.put == store.taken);
    let at = store.taken % ROOM;
    me.tally.taken += store.values[at];
    store.taken += 1;
    notify(me, &cell.emptied, store);
}

pub fn channel(me: &mut Me) {
    both(me, send, receive);
}

fn send(me: &mut Me) {
    let channel = &me.cell.channel;
    let value = me.random.next() >> 32;
    me.doing(Doing::Sending);
    let mut unsent = value;
    loop {
        let limit = me.random.once_in(4).then(|| me.soon());
        let result = match limit {
            None => channel.send(unsent),
            Some((until, _)) => channel.send_until(unsent, until),
        };
        match (result, limit) {
            (Ok(()), _) => break,
            (Err(SendError::Lapsed(back, lapse)), Some((_, deadline))) if back == value => {
                me.lapsed("channel, to send", lapse, deadline);
                unsent = back;
            }
            (Err(error), _) => return me.wrong(format_args!("channel, to send {value}: {error:?}")),
        }
    }
    me.tally.sent += value;
}

fn receive(me: &mut Me) {
    let channel = &me.cell.channel;
    me.doing(Doing::Receiving);
    loop {
        let limit = me.random.once_in(4).then(|| me.soon());
        let result = match limit {
            None => channel.receive(),
            Some((until, _)) => channel.receive_until(until),
        };
        match (result, limit) {
            (Ok(_), _) if me.is_planted(Fault::Message) => break,
            (Ok(value), _) => {
                me.tally.received += value;
                break;
            }
            (Err(ReceiveError::Lapsed(lapse)), Some((_, deadline))) => {
                me.lapsed("channel, to receive", lapse, deadline);
            }
            (Err(error), _) => return me.wrong(format_args!("channel, to receive: {error:?}")),
        }
    }
}

/// From hand to hand, if both are there at the same time.
pub fn hand(me: &mut Me) {
    let hand = &me.cell.hand;
    let (until, deadline) = me.soon();
    if me.random.once_in(2) {
        me.doing(Doing::Offering);
        let value = me.random.next() >> 32;
        match hand.send_until(value, until) {
            Ok(()) => me.tally.offered += value,
            Err(SendError::Lapsed(back, lapse)) if back == value => me.lapsed("an offer", lapse, deadline),
            Err(error) => me.wrong(format_args!("an offer of {value}: {error:?}")),
        }
    } else {
        me.doing(Doing::Accepting);
        match hand.receive_until(until) {
            Ok(value) => me.tally.accepted += value,
            Err(ReceiveError::Lapsed(lapse)) => me.lapsed("acceptance", lapse, deadline),
            Err(error) => me.wrong(format_args!("acceptance: {error:?}")),
        }
    }
    me.doing(Doing::Computing);
}
