//! uThreads that are started, do something and end, all the time.

use libos::sync::join::{join, spawn_raw, JoinError, Stack};
use libos::sync::{spawn, Group};

use super::cell::Cell;
use super::doing::Doing;
use super::member::{result, Me};
use super::world::{Sums, World};
use super::{registers, stack, waits};

/// A number for a child, which no member has.
fn name(me: &mut Me) -> u64 {
    me.random.next() | 1 << 63
}

/// The life of a child.
fn live(world: &'static World, cell: &'static Cell, number: u64) -> u64 {
    let mut me = Me::new(world, cell, number);
    match me.random.below(4) {
        0 => registers::hold(&mut me),
        1 => waits::give_way(&mut me),
        2 => waits::nap_briefly(&mut me),
        _ => stack::dive(&mut me),
    }
    me.add_up();
    Sums::add(&world.sums.ended, 1);
    result(world, number)
}

/// Where a child that is started with one word finds what else it needs.
struct Raw {
    world: &'static World,
    cell: &'static Cell,
    number: u64,
}

unsafe extern "C" fn raw(arg: *mut ()) -> *mut () {
    // SAFETY: the parent waits for this uThread, and what it has handed down stays until then.
    let Raw { world, cell, number } = unsafe { &*arg.cast::<Raw>() };
    live(world, cell, *number) as *mut ()
}

/// Starts one, and joins it, or lets it go.
pub fn one(me: &mut Me) {
    let (world, cell, number) = (me.world, me.cell, name(me));
    let kind = me.random.below(4);
    if kind == 0 {
        return one_by_name(me, number);
    }
    let Ok(child) = spawn(move || live(world, cell, number)) else {
        return Sums::add(&world.sums.refused, 1);
    };
    Sums::add(&world.sums.started, 1);
    if kind == 1 {
        return child.detach();
    }
    me.linger();
    me.doing(Doing::Joining);
    match child.join() {
        Ok(found) if found == result(world, number) => {}
        other => me.wrong(format_args!("a child ended with {other:?}")),
    }
    me.doing(Doing::Computing);
}

/// As a C program would: with a word, a name, and now and then too little patience.
fn one_by_name(me: &mut Me, number: u64) {
    let (world, cell) = (me.world, me.cell);
    let down = Raw { world, cell, number };
    // SAFETY: `down` stays until the child was joined, which is below.
    let child = unsafe { spawn_raw(raw, (&raw const down).cast_mut().cast(), Stack::Own, true) };
    let Ok(child) = child else {
        return Sums::add(&world.sums.refused, 1);
    };
    Sums::add(&world.sums.started, 1);
    me.doing(Doing::Joining);
    loop {
        let (until, deadline) = me.soon();
        // SAFETY: it was started by `spawn_raw`.
        match unsafe { join(child, until) } {
            Ok(found) if found as u64 == result(world, number) => break,
            Err(JoinError::TimedOut) => me.lapsed("join", libos::sync::Lapse::TimedOut, deadline),
            // It must not be lost sight of while it may use `down`; so this is the end.
            other => libos::log::fatal(format_args!("torture: a raw child ended with {other:?}")),
        }
    }
    me.doing(Doing::Computing);
}

/// Starts some, and waits for all of them at once.
pub fn some(me: &mut Me) {
    let (world, cell) = (me.world, me.cell);
    let group = Group::new(1);
    let at = &raw const group as usize;
    for _ in 0..1 + me.random.below(4) {
        let number = name(me);
        group.add(1);
        let child = spawn(move || {
            let _ = live(world, cell, number);
            // SAFETY: the group stays until all of its parts are done.
            unsafe { (*(at as *const Group)).done() };
        });
        match child {
            Ok(child) => {
                child.detach();
                Sums::add(&world.sums.started, 1);
            }
            Err(_) => {
                group.done();
                Sums::add(&world.sums.refused, 1);
            }
        }
    }
    me.doing(Doing::Grouping);
    group.done();
    group.wait();
    me.doing(Doing::Computing);
}
