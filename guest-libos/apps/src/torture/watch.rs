//! The first uThread: it starts the members, looks whether they go on, and adds up at the end.
//!
//! Its clock is its own rounds. Each is a sleep and then a turn at the end of a queue, so it counts only while
//! the VM has cores, and more slowly the more there is to run: who has not gone on for so many rounds was passed over, or waits
//! for what does not come.

use core::sync::atomic::Ordering;

use libos::time::{deadline_in, sleep_until};
use libos::uthread::kernel;

use super::cell::MEMBERS;
use super::member::{self, Member};
use super::world::{Sums, World};

/// Between two looks.
const ROUND_NS: u64 = 50_000_000;
/// Between two lines that say how it goes.
const TELL_NS: u64 = 5_000_000_000;
/// Those that are told of one by one.
const TOLD: u32 = 24;

/// What the VM ends with.
pub const FINE: u32 = 0;
pub const FOUND: u32 = 3;
pub const STUCK: u32 = 4;

/// When a run ends, and what is too long.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// TSC; the host may end it before.
    pub until: u64,
    /// Rounds of the watch.
    pub patience: u32,
}

pub fn run(world: &'static World, terms: Terms) -> ! {
    let begun = libos::now();
    for (number, member) in world.members.iter().enumerate() {
        match libos::sync::spawn(move || member::live(world, number)) {
            // SAFETY: nobody else looks at the handles.
            Ok(handle) => unsafe { *member.handle.get() = Some(handle) },
            Err(_) => libos::log::give_up(format_args!(
                "there are stacks for {number} of {} uThreads only; start the VM with more --stacks and --mem",
                world.members.len()
            )),
        }
    }
    let mut told = begun;
    let mut round = 0;
    loop {
        sleep_until(deadline_in(ROUND_NS));
        round += 1;
        let now = libos::now();
        if now >= terms.until
            || kernel().page.ring().tail.load(Ordering::Acquire) != 0
            || world.findings() > 0
        {
            world.stopping.store(true, Ordering::Relaxed);
        }
        let (left, stuck) = look(world, round, terms.patience);
        if stuck > 0 {
            tell(world, begun, left);
            report(world, round, terms.patience);
            libos::boot::exit(STUCK);
        }
        if left == 0 {
            break;
        }
        if kernel().clock.ns(now.saturating_sub(told)) >= TELL_NS {
            told = now;
            tell(world, begun, left);
        }
    }
    join_all(world, round, terms.patience);
    settle(world);
    tell(world, begun, 0);
    libos::boot::exit(if world.findings() == 0 { FINE } else { FOUND })
}

/// How many are left, and how many of them have not gone on for too long.
fn look(world: &World, round: u32, patience: u32) -> (u32, u32) {
    let (mut left, mut stuck) = (0, 0);
    for member in world.members {
        if member.ended.load(Ordering::Acquire) != 0 {
            continue;
        }
        left += 1;
        let steps = member.steps.load(Ordering::Relaxed);
        if steps != member.seen.load(Ordering::Relaxed) || round == 1 {
            member.seen.store(steps, Ordering::Relaxed);
            member.seen_at.store(round, Ordering::Relaxed);
        }
        stuck += u32::from(is_stuck(member, round, patience));
    }
    (left, stuck)
}

fn is_stuck(member: &Member, round: u32, patience: u32) -> bool {
    round - member.seen_at.load(Ordering::Relaxed) > patience
}

/// Who does not go on, and for whom it waits.
#[cold]
fn report(world: &World, round: u32, patience: u32) {
    let mut told = 0;
    let stuck =
        |member: &&Member| member.ended.load(Ordering::Relaxed) == 0 && is_stuck(member, round, patience);
    for (number, member) in world
        .members
        .iter()
        .enumerate()
        .filter(|(_, member)| stuck(member))
    {
        told += 1;
        if told > TOLD {
            continue;
        }
        let (cell, doing) = (number / MEMBERS, member.doing());
        let text = doing.text();
        let rounds = round - member.seen_at.load(Ordering::Relaxed);
        match doing.holder(&world.cells[cell], &world.crowded) {
            Some(holder) => libos::log::info(format_args!(
                "torture: STUCK: uThread {number} of cell {cell} {text}, which {holder} has, for {rounds} rounds"
            )),
            None => libos::log::info(format_args!(
                "torture: STUCK: uThread {number} of cell {cell} {text}, for {rounds} rounds"
            )),
        }
    }
    libos::log::info(format_args!("torture: STUCK: {told} uThreads in all"));
}

/// Every member is joined, and their children have ended.
fn join_all(world: &'static World, mut round: u32, patience: u32) {
    for (number, member) in world.members.iter().enumerate() {
        // SAFETY: as above.
        let handle = unsafe { (*member.handle.get()).take() };
        let wanted = member::result(world, number as u64);
        match handle.map(|handle| handle.join()) {
            Some(Ok(found)) if found == wanted => {}
            other => world.wrong(format_args!("uThread {number} ended with {other:?}")),
        }
    }
    let last = round + patience;
    let summary = kernel().page.summary();
    while summary.uthreads.load(Ordering::Acquire) > 1 {
        sleep_until(deadline_in(ROUND_NS));
        round += 1;
        if round > last {
            let alive = summary.uthreads.load(Ordering::Acquire) - 1;
            libos::log::info(format_args!("torture: STUCK: {alive} children have not ended"));
            libos::boot::exit(STUCK);
        }
    }
}

/// What must hold when nobody is left.
fn settle(world: &World) {
    let (sums, crowded) = (&world.sums, &world.crowded);
    let (started, ended) = (Sums::get(&sums.started), Sums::get(&sums.ended));
    if started != ended {
        world.wrong(format_args!(
            "{started} children have begun, and {ended} have ended"
        ));
    }
    for (what, pair, counted) in [
        ("everybody's mutex", &crowded.mutex_pair, &sums.mutex),
        ("everybody's rwlock", &crowded.rwlock_pair, &sums.writes),
    ] {
        if pair.visits() != Sums::get(counted) || pair.look().is_err() {
            let (visits, counted) = (pair.visits(), Sums::get(counted));
            world.wrong(format_args!(
                "{what}: {visits} sections, and {counted} were counted"
            ));
        }
    }
    if crowded.mutex.is_locked() || crowded.rwlock.is_locked() || crowded.semaphore.has_waiters() {
        world.wrong(format_args!("something of everybody's is not free"));
    }
}

/// One line that says how it goes, or went.
fn tell(world: &World, begun: u64, left: u32) {
    let of = Sums::get;
    let sums = &world.sums;
    let steps = world
        .members
        .iter()
        .map(|member| u64::from(member.steps.load(Ordering::Relaxed)))
        .sum::<u64>();
    let ms = kernel().clock.ns(libos::now().saturating_sub(begun)) / 1_000_000;
    libos::log::info(format_args!(
        "torture: ms={ms} uthreads={} left={left} steps={steps} rounds={} holds={} moved={} dives={} sleeps={} \
         lapses={} children={} refused={} findings={}",
        world.members.len(),
        of(&sums.rounds),
        of(&sums.holds),
        of(&sums.moved),
        of(&sums.dives),
        of(&sums.sleeps),
        of(&sums.lapses),
        of(&sums.started),
        of(&sums.refused),
        world.findings(),
    ));
}
