//! A uThread of the torture, and what is known of it from outside.

use core::cell::UnsafeCell;
use core::fmt;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libos::sync::{JoinHandle, Lapse, Until};
use libos::time::deadline_in;

use super::cell::{Cell, MEMBERS};
use super::doing::Doing;
use super::faults::Fault;
use super::random::{mix, Random};
use super::registers::Wrong;
use super::stack::Canary;
use super::world::{Sums, World};
use super::{children, locks, registers, stack, talks, waits};

/// What the watch knows of a member.
#[derive(Debug)]
#[repr(align(64))]
pub struct Member {
    /// What it has done. Written by itself, read by the watch; relaxed, as all here.
    pub steps: AtomicU32,
    doing: AtomicU32,
    pub ended: AtomicU32,
    /// The watch's: the steps that it has seen, and in which of its rounds.
    pub seen: AtomicU32,
    pub seen_at: AtomicU32,
    /// Where its FS base points; holds its own address.
    fs: AtomicU64,
    /// The first uThread's alone, which starts the members and joins them.
    pub handle: UnsafeCell<Option<JoinHandle<u64>>>,
}

// SAFETY: `handle` is used by one uThread; all else is atomic.
unsafe impl Sync for Member {}

impl Member {
    pub const fn new() -> Member {
        Member {
            steps: AtomicU32::new(0),
            doing: AtomicU32::new(Doing::Nothing as u32),
            ended: AtomicU32::new(0),
            seen: AtomicU32::new(0),
            seen_at: AtomicU32::new(0),
            fs: AtomicU64::new(0),
            handle: UnsafeCell::new(None),
        }
    }

    pub fn doing(&self) -> Doing {
        Doing::of(self.doing.load(Ordering::Relaxed))
    }
}

/// What a uThread has done since it last added it to what its cell or its world has.
#[derive(Debug, Default)]
pub struct Tally {
    pub mutex: u64,
    pub owned: u64,
    pub spin: u64,
    pub writes: u64,
    pub once: u64,
    pub put: u64,
    pub taken: u64,
    pub sent: u64,
    pub received: u64,
    pub offered: u64,
    pub accepted: u64,
    pub crowded_mutex: u64,
    pub crowded_writes: u64,
    pub holds: u64,
    pub moved: u64,
    pub dives: u64,
    pub sleeps: u64,
    pub lapses: u64,
}

/// A uThread, to itself.
pub struct Me {
    pub world: &'static World,
    pub cell: &'static Cell,
    /// `None` for children, whom nobody watches but their parents.
    member: Option<&'static Member>,
    /// Among all members; a child's is its own.
    pub number: u64,
    pub random: Random,
    pub tally: Tally,
}

/// What member `number` ends with.
pub fn result(world: &World, number: u64) -> u64 {
    mix(world.seed ^ number)
}

/// The life of a member.
pub fn live(world: &'static World, number: usize) -> u64 {
    let (at, member) = (number / MEMBERS, &world.members[number]);
    let cell = &world.cells[at];
    let mut me = Me::new(world, cell, number as u64);
    me.member = Some(member);
    me.set_fs();
    let mut canary = Canary::<64>::new();
    canary.lay(me.number);
    loop {
        for _ in 0..3 + me.random.below(8) {
            act(&mut me);
            if me.is_planted(Fault::Stack) {
                canary.spoil();
            }
            let spoilt = canary.spoilt(me.number);
            if spoilt != 0 {
                me.wrong(format_args!(
                    "{spoilt} words at the bottom of its stack have changed"
                ));
                canary.lay(me.number);
            }
            me.step();
        }
        me.add_up();
        me.doing(Doing::Arriving);
        if cell.arrive.wait() {
            // SAFETY: all have arrived, and none departs before this one does.
            unsafe { cell.settle(at, world) };
            Sums::add(&world.sums.rounds, 1);
        }
        me.doing(Doing::Departing);
        let _ = cell.depart.wait();
        me.step();
        if cell.over.load(Ordering::Relaxed) {
            break;
        }
    }
    me.doing(Doing::Nothing);
    member.ended.store(1, Ordering::Release);
    result(world, me.number)
}

/// Something, by chance.
fn act(me: &mut Me) {
    match me.random.below(100) {
        0..=21 => registers::hold(me),
        22..=26 => stack::dive(me),
        27..=35 => locks::mutex(me),
        36..=39 => locks::owned(me),
        40..=43 => locks::spin(me),
        44..=51 => locks::rwlock(me),
        52..=56 => locks::semaphore(me),
        57..=63 => talks::store(me),
        64..=70 => talks::channel(me),
        71..=74 => talks::hand(me),
        75..=83 => waits::sleep(me),
        84..=85 => waits::nap(me),
        86..=87 => waits::poke(me),
        88..=89 => locks::once(me),
        90..=92 => children::one(me),
        93 => children::some(me),
        94..=96 => locks::crowded(me),
        _ => waits::give_way(me),
    }
}

impl Me {
    pub fn new(world: &'static World, cell: &'static Cell, number: u64) -> Me {
        Me {
            world,
            cell,
            member: None,
            number,
            random: Random::new(world.seed, number),
            tally: Tally::default(),
        }
    }

    pub fn doing(&self, what: Doing) {
        if let Some(member) = self.member {
            member.doing.store(what as u32, Ordering::Relaxed);
        }
    }

    /// Something is done.
    fn step(&mut self) {
        self.doing(Doing::Computing);
        if let Some(member) = self.member {
            member.steps.fetch_add(1, Ordering::Relaxed);
        }
        libos::uthread::count_done();
        if self.is_planted(Fault::Queue) {
            libos::rogue::lose_next();
        }
    }

    /// Whether this is where the planted fault is to happen.
    pub fn is_planted(&mut self, fault: Fault) -> bool {
        self.world.planted == Some(fault) && self.random.once_in(16)
    }

    #[cold]
    pub fn wrong(&self, what: fmt::Arguments<'_>) {
        self.world.wrong(format_args!("uThread {}: {what}", self.number));
    }

    #[cold]
    pub fn spoilt(&self, when: &str, wrong: &Wrong) {
        let Wrong {
            name,
            number,
            wanted,
            found,
        } = wrong;
        self.wrong(format_args!(
            "{name} (number {number}) is {found:#x} instead of {wanted:#x}, changed {when}"
        ));
    }

    /// A deadline so near that it is sometimes over before what it is for.
    pub fn soon(&mut self) -> (Until, u64) {
        let deadline = deadline_in(self.random.below(400_000));
        (Until::at(deadline), deadline)
    }

    /// A wait has run out of time: looks whether it was its time.
    pub fn lapsed(&mut self, what: &str, lapse: Lapse, deadline: u64) {
        self.tally.lapses += 1;
        let now = libos::now();
        if lapse != Lapse::TimedOut || now < deadline {
            let early = deadline.saturating_sub(now);
            self.wrong(format_args!("{what}: {lapse:?}, {early} ticks before its time"));
        }
    }

    /// What somebody may do who has a lock that others want.
    pub fn linger(&mut self) {
        match self.random.below(16) {
            0 => waits::give_way(self),
            1 => waits::nap_briefly(self),
            2 | 3 => registers::hold(self),
            4 | 5 => (0..self.random.below(2_000)).for_each(|_| core::hint::spin_loop()),
            _ => {}
        }
    }

    fn set_fs(&self) {
        if let Some(member) = self.member.filter(|_| self.world.own_fs) {
            let at = (&raw const member.fs) as u64;
            member.fs.store(at, Ordering::Relaxed);
            libos::uthread::set_fs(at);
        }
    }

    /// Whether FS base is this uThread's.
    pub fn check_fs(&self) {
        let Some(member) = self.member.filter(|_| self.world.own_fs) else {
            return;
        };
        let (at, found): (_, u64) = ((&raw const member.fs) as u64, fs_word());
        if found != at {
            self.wrong(format_args!("FS base leads to {found:#x} instead of {at:#x}"));
        }
    }

    /// Adds what was done to the accounts.
    pub fn add_up(&mut self) {
        let tally = core::mem::take(&mut self.tally);
        let (to, sums) = (&self.cell.accounts, &self.world.sums);
        for (account, n) in [
            (&to.mutex, tally.mutex),
            (&to.owned, tally.owned),
            (&to.spin, tally.spin),
            (&to.writes, tally.writes),
            (&to.once, tally.once),
            (&to.put, tally.put),
            (&to.taken, tally.taken),
            (&to.sent, tally.sent),
            (&to.received, tally.received),
            (&to.offered, tally.offered),
            (&to.accepted, tally.accepted),
            (&sums.mutex, tally.crowded_mutex),
            (&sums.writes, tally.crowded_writes),
            (&sums.holds, tally.holds),
            (&sums.moved, tally.moved),
            (&sums.dives, tally.dives),
            (&sums.sleeps, tally.sleeps),
            (&sums.lapses, tally.lapses),
        ] {
            if n != 0 {
                Sums::add(account, n);
            }
        }
    }
}

/// The word that FS base points to.
fn fs_word() -> u64 {
    let word;
    // SAFETY: called where FS base was set to a word of the uThread's own.
    unsafe {
        core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) word, options(nostack, preserves_flags, readonly));
    }
    word
}
