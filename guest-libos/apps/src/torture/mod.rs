//! `torture`: thousands of uThreads that do everything FluxOS offers, and look all the time whether it is done right,
//! while the host takes cores away as it likes.
//!
//! | key | what |
//! |---|---|
//! | `uthreads` | how many; a multiple of 16 |
//! | `seconds` | when to end; 0: when the host publishes a request in the ring |
//! | `seed` | of everything that is chosen by chance |
//! | `patience` | rounds of the watch, of 50 ms and more, after which a uThread that does not go on is stuck |
//! | `break` | plants a fault, which must be found: see [`faults`] |
//!
//! Each uThread does one thing after the other, by chance: it holds known values in all of its registers, goes deep
//! into its stack, takes and lets go locks, sends and receives, sleeps, starts others and joins them. What a lock guards is a
//! pair of words that agree whenever nobody has it; what is sent is received once; no deadline comes early; a stack that
//! was filled stays as it was. Sixteen of them are a [`cell`], and after each round of a cell its accounts must add up.
//!
//! The VM ends with 0, with 3 if something was found wrong, or with 4 if uThreads are stuck; what and who is in the log.

mod cell;
mod children;
mod doing;
pub mod faults;
mod locks;
mod member;
mod pair;
mod random;
mod registers;
mod stack;
mod talks;
mod waits;
mod watch;
mod world;

use libos::uthread::kernel;

use crate::cmdline::{Args, BadArgs};
use faults::Fault;
use watch::Terms;
use world::World;

/// Runs it on the calling uThread, to the VM's end.
pub fn start(args: Args<'static>) -> Result<(), BadArgs<'static>> {
    args.only(&["uthreads", "seconds", "seed", "patience", "break"])?;
    let uthreads = args.number("uthreads", 10_000, 16, 65_536)?;
    let seconds = args.number("seconds", 0, 0, 86_400)?;
    let seed = args.number("seed", 1, 0, u64::MAX)?;
    let patience = args.number("patience", 1200, 2, 1_000_000)? as u32;
    let planted = match args.text("break") {
        None => None,
        Some(value) => Some(Fault::named(value).ok_or(BadArgs::Choice {
            key: "break",
            value,
            known: faults::NAMES,
        })?),
    };
    let cells = (uthreads as usize).div_ceil(cell::MEMBERS);
    let stacks = BadArgs::Stacks { wanted: uthreads };
    let world = World::make(cells, seed, planted).map_err(|_| stacks)?;
    let (registers, members) = (world.level, world.members.len());
    libos::log::info(format_args!(
        "torture: {members} uThreads, seed {seed}, registers up to {registers:?}"
    ));
    let until = match seconds {
        0 => u64::MAX,
        seconds => libos::now().saturating_add(kernel().clock.ticks(seconds * 1_000_000_000)),
    };
    watch::run(world, Terms { until, patience })
}
