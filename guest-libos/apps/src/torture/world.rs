//! What all uThreads of a run share.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use libos::sync::{RawMutex, RawRwLock, Semaphore};
use libos::uthread::kernel;

use super::cell::{Cell, MEMBERS};
use super::faults::Fault;
use super::member::Member;
use super::pair::Pair;
use super::registers::Level;

/// At least so much of the heap is left to FluxOS's tables, which are at its beginning.
const FOR_TABLES: u64 = 16 << 20;
/// Findings that are told one by one; the others are counted.
const TOLD: u32 = 24;
/// Units of the semaphore that everybody asks for.
pub const EVERYWHERE: u32 = 7;

/// Locks that any uThread may want, so that very many wait.
#[derive(Debug)]
pub struct Crowded {
    pub mutex: RawMutex,
    pub mutex_pair: Pair,
    pub rwlock: RawRwLock,
    pub rwlock_pair: Pair,
    pub semaphore: Semaphore,
    pub inside: AtomicU32,
}

/// Sums over a run, added up when a uThread ends or a cell begins its next round.
#[derive(Debug, Default)]
pub struct Sums {
    /// Sections under the crowded locks, as their users have counted them.
    pub mutex: AtomicU64,
    pub writes: AtomicU64,
    pub rounds: AtomicU64,
    pub holds: AtomicU64,
    /// Of those, in which the uThread was moved to another vCPU.
    pub moved: AtomicU64,
    pub dives: AtomicU64,
    pub sleeps: AtomicU64,
    pub lapses: AtomicU64,
    /// uThreads started by others, those that were refused for want of a stack, and those that have ended.
    pub started: AtomicU64,
    pub refused: AtomicU64,
    pub ended: AtomicU64,
}

pub struct World {
    pub seed: u64,
    pub level: Level,
    /// Whether uThreads have an FS base of their own.
    pub own_fs: bool,
    pub planted: Option<Fault>,
    pub cells: &'static [Cell],
    pub members: &'static [Member],
    pub crowded: Crowded,
    pub sums: Sums,
    /// The cells are to end after this round.
    pub stopping: AtomicBool,
    told: AtomicU32,
}

/// There is no memory for it.
#[derive(Debug)]
pub struct NoMemory;

impl World {
    /// Makes the one world of a VM, at the end of the heap, of which FluxOS has taken its tables from
    /// the beginning, once, and gives the rest to nobody.
    pub fn make(cells: usize, seed: u64, planted: Option<Fault>) -> Result<&'static World, NoMemory> {
        let header = kernel().page.header();
        let end = header.heap_base + header.heap_bytes;
        let lowest = header.heap_base + FOR_TABLES;
        let members = room(end, lowest, cells * MEMBERS, |_| Member::new())?;
        let cells = room(members.as_ptr() as u64, lowest, cells, |_| Cell::new())?;
        cells.iter().for_each(Cell::begin);
        let world = World {
            seed,
            level: Level::of(header.xcr0_lo),
            own_fs: header.hosted == 0,
            planted,
            cells,
            members,
            crowded: Crowded {
                mutex: RawMutex::new(),
                mutex_pair: Pair::new(),
                rwlock: RawRwLock::new(),
                rwlock_pair: Pair::new(),
                semaphore: Semaphore::new(EVERYWHERE),
                inside: AtomicU32::new(0),
            },
            sums: Sums::default(),
            stopping: AtomicBool::new(false),
            told: AtomicU32::new(0),
        };
        let mut world = Some(world);
        let at = room(cells.as_ptr() as u64, lowest, 1, |_| world.take())?;
        at[0].as_ref().ok_or(NoMemory)
    }

    /// Something is not as it must be: counts it, and says so.
    #[cold]
    pub fn wrong(&self, what: fmt::Arguments<'_>) {
        kernel().count_integrity_error();
        if self.told.fetch_add(1, Ordering::Relaxed) < TOLD {
            libos::log::info(format_args!("torture: WRONG: {what}"));
        }
    }

    /// How many findings there are.
    pub fn findings(&self) -> u32 {
        self.told.load(Ordering::Relaxed)
    }

    pub fn stops(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Room for `count` values below `end`.
fn room<T>(
    end: u64,
    lowest: u64,
    count: usize,
    mut make: impl FnMut(usize) -> T,
) -> Result<&'static [T], NoMemory> {
    let bytes = (size_of::<T>() * count) as u64;
    let base = end.saturating_sub(bytes) & !(align_of::<T>().max(64) as u64 - 1);
    if base < lowest {
        return Err(NoMemory);
    }
    let at = base as *mut T;
    for i in 0..count {
        // SAFETY: memory of the heap that nobody has, by `make`'s word, aligned above.
        unsafe { at.add(i).write(make(i)) };
    }
    // SAFETY: written above, and nobody else gets this memory.
    Ok(unsafe { core::slice::from_raw_parts(at, count) })
}

impl Sums {
    pub fn add(to: &AtomicU64, n: u64) {
        to.fetch_add(n, Ordering::Relaxed);
    }

    pub fn get(of: &AtomicU64) -> u64 {
        of.load(Ordering::Relaxed)
    }
}
