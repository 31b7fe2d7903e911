//! A cell: a few uThreads that share locks and channels, in rounds. Between two rounds nobody is at
//! work, and everything has to add up.

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use libos::sync::{
    Barrier, Channel, Condvar, Kind, Mutex, Once, OwnedMutex, RawMutex, RawRwLock, Semaphore, SpinLock,
};

use super::pair::Pair;
use super::world::World;

/// uThreads of a cell.
pub const MEMBERS: usize = 16;
/// Units of its semaphore.
pub const UNITS: u32 = 3;
/// Places of its store and of its channel. One of them is taken from the beginning: see [`super::talks`].
pub const ROOM: usize = 2;

/// Values put down by some and picked up by others: a channel made by hand.
#[derive(Debug, Default)]
pub struct Store {
    pub values: [u64; ROOM],
    pub put: usize,
    pub taken: usize,
}

/// What the members of a cell have done in a round, added up by each when it is through.
#[derive(Debug, Default)]
pub struct Accounts {
    pub mutex: AtomicU64,
    pub owned: AtomicU64,
    pub spin: AtomicU64,
    pub writes: AtomicU64,
    pub once: AtomicU64,
    /// Sums of what went in and what came out.
    pub put: AtomicU64,
    pub taken: AtomicU64,
    pub sent: AtomicU64,
    pub received: AtomicU64,
    pub offered: AtomicU64,
    pub accepted: AtomicU64,
}

pub struct Cell {
    pub mutex: RawMutex,
    pub mutex_pair: Pair,
    pub owned: OwnedMutex,
    pub owned_pair: Pair,
    pub spin: SpinLock,
    pub spin_pair: Pair,
    pub rwlock: RawRwLock,
    pub rwlock_pair: Pair,
    pub readers: AtomicU32,
    pub semaphore: Semaphore,
    pub inside: AtomicU32,
    pub store: Mutex<Store>,
    pub filled: Condvar,
    pub emptied: Condvar,
    pub channel: Channel<u64, ROOM>,
    /// From hand to hand.
    pub hand: Channel<u64, 0>,
    once: UnsafeCell<Once>,
    pub done_once: AtomicU32,
    /// Who can be woken by an interrupt, by its name.
    pub napper: AtomicU64,
    pub pokes: AtomicU32,
    pub accounts: Accounts,
    pub arrive: Barrier,
    pub depart: Barrier,
    pub over: AtomicBool,
}

// SAFETY: `once` is changed by `settle` alone, between two barriers, when nobody uses it.
unsafe impl Sync for Cell {}

impl Cell {
    pub const fn new() -> Cell {
        Cell {
            mutex: RawMutex::new(),
            mutex_pair: Pair::new(),
            owned: OwnedMutex::new(Kind::Recursive),
            owned_pair: Pair::new(),
            spin: SpinLock::new(),
            spin_pair: Pair::new(),
            rwlock: RawRwLock::new(),
            rwlock_pair: Pair::new(),
            readers: AtomicU32::new(0),
            semaphore: Semaphore::new(UNITS),
            inside: AtomicU32::new(0),
            store: Mutex::new(Store {
                values: [0; ROOM],
                put: 1,
                taken: 0,
            }),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            channel: Channel::new(),
            hand: Channel::new(),
            once: UnsafeCell::new(Once::new()),
            done_once: AtomicU32::new(0),
            napper: AtomicU64::new(0),
            pokes: AtomicU32::new(0),
            accounts: Accounts {
                mutex: AtomicU64::new(0),
                owned: AtomicU64::new(0),
                spin: AtomicU64::new(0),
                writes: AtomicU64::new(0),
                once: AtomicU64::new(0),
                put: AtomicU64::new(0),
                taken: AtomicU64::new(0),
                sent: AtomicU64::new(0),
                received: AtomicU64::new(0),
                offered: AtomicU64::new(0),
                accepted: AtomicU64::new(0),
            },
            arrive: Barrier::new(MEMBERS as u32),
            depart: Barrier::new(MEMBERS as u32),
            over: AtomicBool::new(false),
        }
    }

    /// Puts the first message into the channel.
    pub fn begin(&self) {
        // It is empty.
        let _ = self.channel.try_send(0);
    }

    /// This round's.
    pub fn once(&self) -> &Once {
        // SAFETY: it is changed between two rounds only.
        unsafe { &*self.once.get() }
    }

    /// Looks whether all adds up, and makes ready for the next round.
    ///
    /// # Safety
    /// All members are between the two barriers, and this is called by one of them.
    pub unsafe fn settle(&self, number: usize, world: &World) {
        let accounts = &self.accounts;
        let of = |account: &AtomicU64| account.load(Ordering::Relaxed);
        let must = |what: &str, one: u64, other: u64| {
            if one != other {
                world.wrong(format_args!("cell {number}: {what}: {one} and {other}"));
            }
        };
        for (what, pair, counted) in [
            ("sections under the mutex", &self.mutex_pair, &accounts.mutex),
            (
                "sections under the recursive mutex",
                &self.owned_pair,
                &accounts.owned,
            ),
            ("sections under the spin lock", &self.spin_pair, &accounts.spin),
            ("sections of writers", &self.rwlock_pair, &accounts.writes),
        ] {
            must(what, pair.visits(), of(counted));
            if let Err(torn) = pair.look() {
                world.wrong(format_args!(
                    "cell {number}: {what}: {torn:?}, with nobody at work"
                ));
            }
        }
        let left = |what, value: Option<u64>| {
            value.unwrap_or_else(|| {
                world.wrong(format_args!(
                    "cell {number}: there is not one thing left that was {what}"
                ));
                0
            })
        };
        let store = self.store.lock();
        let put_down = (store.put == store.taken + 1).then(|| store.values[store.taken % ROOM]);
        drop(store);
        let put_down = of(&accounts.taken) + left("put down", put_down);
        must(
            "put down, and picked up or still there",
            of(&accounts.put),
            put_down,
        );
        let sent = Some(self.channel.len()).filter(|len| *len == 1);
        let sent = left("sent", sent.and_then(|_| self.channel.try_receive().ok()));
        must(
            "sent, and received or still there",
            of(&accounts.sent),
            of(&accounts.received) + sent,
        );
        if self.channel.try_send(sent).is_err() {
            world.wrong(format_args!("cell {number}: an empty channel has no room"));
        }
        must(
            "offered and accepted",
            of(&accounts.offered),
            of(&accounts.accepted),
        );
        must(
            "units of the semaphore",
            u64::from(self.semaphore.units()),
            u64::from(UNITS),
        );
        let waits = self.semaphore.has_waiters() || !self.hand.is_empty();
        must("somebody or something waits", u64::from(waits), 0);
        let locked = self.mutex.is_locked()
            || self.rwlock.is_locked()
            || self.owned.is_locked()
            || self.spin.is_locked();
        must("some lock is not free", u64::from(locked), 0);
        let called = of(&accounts.once) != 0;
        must(
            "done once",
            u64::from(self.done_once.load(Ordering::Relaxed)),
            u64::from(called),
        );

        accounts.once.store(0, Ordering::Relaxed);
        self.done_once.store(0, Ordering::Relaxed);
        // SAFETY: nobody uses it, by the caller's promise.
        unsafe { *self.once.get() = Once::new() };
        self.over.store(world.stops(), Ordering::Relaxed);
    }
}
