use super::*;
use crate::fake::Fake;

struct World {
    lock: RwLock,
    table: Fake,
}

impl World {
    fn new() -> World {
        World::with(9)
    }

    fn with(uthreads: usize) -> World {
        World {
            lock: RwLock::new(),
            table: Fake::with(uthreads),
        }
    }

    fn slept(&self, lock: Lock) -> bool {
        let slept = lock == Lock::Sleep;
        if slept {
            // SAFETY: follows a Sleep; there is no context to save.
            unsafe { self.lock.asleep() };
        }
        slept
    }

    /// Whether `id` has to wait.
    fn read(&self, id: Id) -> bool {
        self.slept(self.lock.read(&self.table, id).expect("few readers"))
    }

    fn write(&self, id: Id) -> bool {
        self.slept(self.lock.write(&self.table, id))
    }

    fn ids(&self, mut next: Next) -> Vec<Id> {
        while next.more > 0 {
            self.lock.admit(&self.table, &mut next);
        }
        core::iter::from_fn(|| next.owners.pop(&self.table)).collect()
    }

    fn unlock(&self) -> Vec<Id> {
        self.ids(self.lock.unlock(&self.table).expect("it is locked"))
    }

    fn leave(&self, id: Id, writer: bool) -> Vec<Id> {
        self.table.expire(id);
        self.ids(self.lock.leave(&self.table, id, writer))
    }
}

#[test]
fn readers_share_and_writers_do_not() {
    let w = World::new();
    assert!(!w.read(1) && !w.read(2));
    assert_eq!(w.lock.try_read(), Ok(true));
    assert!(!w.lock.try_write());
    assert_eq!((w.unlock(), w.unlock(), w.unlock()), (vec![], vec![], vec![]));
    assert!(!w.lock.is_locked());
    assert!(!w.write(1));
    assert_eq!(w.lock.try_read(), Ok(false));
    assert!(!w.lock.try_write());
    assert_eq!(w.unlock(), []);
    assert_eq!(w.lock.unlock(&w.table).map(|_| ()), Err(Refused::NotLocked));
}

#[test]
fn writers_are_not_starved_by_readers_nor_readers_by_writers() {
    let w = World::new();
    assert!(!w.read(1));
    assert!(w.write(2) && w.write(3));
    assert!(w.read(4) && w.read(5), "a writer waits, so they do too");
    assert_eq!(w.lock.try_read(), Ok(false));
    assert_eq!(w.unlock(), [2]);
    assert!(w.read(6));
    assert_eq!(w.unlock(), [4, 5, 6], "readers come between two writers");
    assert!(w.read(7), "3 still waits");
    assert_eq!((w.unlock(), w.unlock()), (vec![], vec![]));
    assert_eq!(w.unlock(), [3]);
    assert_eq!(w.unlock(), [7]);
    assert_eq!(w.unlock(), []);
    assert!(!w.lock.is_locked());
}

#[test]
fn a_writer_that_leaves_holds_nobody_up() {
    let w = World::new();
    assert!(!w.read(1));
    w.table.open(2);
    w.table.open(3);
    assert!(w.write(2) && w.write(3));
    assert!(w.read(4) && w.read(5));
    assert_eq!(w.leave(2, true), [], "3 still waits");
    assert_eq!(w.leave(3, true), [4, 5]);
    assert_eq!((w.unlock(), w.unlock(), w.unlock()), (vec![], vec![], vec![]));
    assert!(!w.lock.is_locked());
}

#[test]
fn those_that_ran_out_of_time_are_passed_over() {
    let w = World::new();
    assert!(!w.read(1));
    for id in [2, 3] {
        w.table.open(id);
    }
    assert!(w.write(2) && w.read(3) && w.read(4));
    w.table.expire(2);
    w.table.expire(3);
    assert_eq!(w.unlock(), [4], "the writer is gone, and one of the readers");
    assert_eq!(w.ids(w.lock.leave(&w.table, 2, true)), []);
    assert_eq!(w.ids(w.lock.leave(&w.table, 3, false)), []);
    assert_eq!(w.unlock(), []);

    assert!(!w.write(1));
    w.table.open(5);
    assert!(w.read(5));
    w.table.expire(5);
    assert_eq!(w.unlock(), []);
    assert!(!w.lock.is_locked(), "nobody was left to have it");
}

/// More readers than are let in at a time.
#[test]
fn many_readers_are_let_in_some_at_a_time() {
    const READERS: u32 = 2 * BATCH + 3;
    let w = World::with(READERS as usize + 3);
    assert!(!w.write(1));
    let readers: Vec<Id> = (2..READERS + 2).collect();
    assert!(readers.iter().all(|id| w.read(*id)));
    assert!(w.write(READERS + 2));
    let mut next = w.lock.unlock(&w.table).expect("it is locked");
    assert_eq!(next.more, READERS - BATCH);
    // Some of the first could be done with it before the last have it.
    assert_eq!(w.unlock(), []);
    w.lock.admit(&w.table, &mut next);
    assert_eq!(next.more, READERS - 2 * BATCH);
    assert_eq!(w.ids(next), readers);
    for _ in 2..READERS {
        assert_eq!(w.unlock(), []);
    }
    assert_eq!(w.unlock(), [READERS + 2]);
}

/// All that were let in are done before the rest is: the writer is next, and then the rest.
#[test]
fn a_writer_may_come_between_those_let_in() {
    const READERS: u32 = BATCH + 2;
    let w = World::with(READERS as usize + 3);
    assert!(!w.write(1));
    assert!((2..READERS + 2).all(|id| w.read(id)));
    assert!(w.write(READERS + 2));
    let mut next = w.lock.unlock(&w.table).expect("it is locked");
    for _ in 1..BATCH {
        assert_eq!(w.unlock(), []);
    }
    assert_eq!(w.unlock(), [READERS + 2]);
    w.lock.admit(&w.table, &mut next);
    assert_eq!(next.more, 0);
    assert_eq!(w.unlock(), [READERS, READERS + 1]);
}
