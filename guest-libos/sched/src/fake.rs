//! Some uThreads for unit tests of what they wait for.

use crate::sync::{AtomicU32, Ordering};
use crate::sync64::AtomicU64;
use crate::ticket::Ticket;
use crate::waiters::{Links, Table};
use crate::Id;

pub struct Fake {
    links: Vec<AtomicU32>,
    backs: Vec<AtomicU32>,
    args: Vec<AtomicU64>,
    tickets: Vec<Ticket>,
}

impl Fake {
    /// Eight of them.
    pub fn new() -> Fake {
        Fake::with(9)
    }

    /// With numbers below `size`.
    pub fn with(size: usize) -> Fake {
        Fake {
            links: (0..size).map(|_| AtomicU32::new(7)).collect(),
            backs: (0..size).map(|_| AtomicU32::new(u32::MAX)).collect(),
            args: (0..size).map(|_| AtomicU64::new(0)).collect(),
            tickets: (0..size).map(|_| Ticket::new()).collect(),
        }
    }

    /// `id` begins a wait with a deadline.
    pub fn open(&self, id: Id) {
        self.tickets[id as usize].open();
    }

    /// Its deadline is over before anybody has claimed it.
    pub fn expire(&self, id: Id) {
        let ticket = &self.tickets[id as usize];
        assert!(ticket.expire(ticket.number()), "it waits");
    }

    pub fn was_listed(&self, id: Id) -> bool {
        self.backs[id as usize].load(Ordering::Relaxed) != u32::MAX
    }
}

impl Links for Fake {
    fn link(&self, id: Id) -> &AtomicU32 {
        &self.links[id as usize]
    }
}

impl Table for Fake {
    fn back(&self, id: Id) -> &AtomicU32 {
        &self.backs[id as usize]
    }

    fn arg(&self, id: Id) -> &AtomicU64 {
        &self.args[id as usize]
    }

    fn claim(&self, id: Id) -> bool {
        self.tickets[id as usize].claim()
    }

    fn settle(&self, id: Id) {
        self.tickets[id as usize].settle();
    }
}
