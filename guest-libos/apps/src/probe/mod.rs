//! `probe`: guests for benchmarks and tests, one behaviour each.
//!
//! | mode | what it does | keys |
//! |---|---|---|
//! | `poll` | calls the scheduling point all the time, so it leaves when asked; shows the TSC | `uthreads` |
//! | `spin` | application code only, known values in all registers: must be kicked; each shows when it ran last | `uthreads` |
//! | `yield` | on each grant does a little, shows the TSC, gives the core back | `uthreads`, `work_ns` |
//! | `lock` | uThreads contend for a lock; gaps in its progress are recorded | `uthreads`, `hold_ns`, `gap_ns` |
//! | `call` | is in FluxOS's code nearly all the time, for so long at once | `uthreads`, `hold_ns` |
//! | `switch` | gives way to others that do the same | `uthreads` |
//! | `knock` | goes through a door that leads nowhere | `uthreads` |
//! | `turns` | works, gives way, and records how long it had to wait for its next turn | `uthreads`, `work_ns` |
//! | `fan` | has so many uThreads work and waits for them; records how long it took | `uthreads`, `work_ns` |
//! | `sleep` | uThreads sleep, each for a time of its own, so many times, and end | `uthreads`, `sleep_ns`, `rounds` |
//! | `stubborn` | stays in FluxOS's code for ever: must be forced | |
//! | `crash` | reads an address that is not mapped | `address`, `frame` |
//! | `overflow` | uses up its stack | |
//! | `panic` | panics as Rust code does | |
//! | `liar` | writes nonsense into its whole control page | `spare` |
//! | `exit` | ends the VM | `code` |
//!
//! `uthreads` is the number in the whole VM; as many as there are vCPUs unless given (`lock`, `switch`: at
//! least two).

mod calls;
mod lock;
mod sleep;
mod spin;
mod turns;

use libos::uthread::{cede, kernel, poll, show_now, spawn, spawn_named};

use crate::cmdline::{Args, BadArgs};
use crate::rounds::{self, Rate};

const MODES: &[&str] = &[
    "poll", "spin", "yield", "lock", "call", "switch", "knock", "turns", "fan", "sleep", "stubborn", "crash",
    "overflow", "panic", "liar", "exit",
];

/// Starts the mode; the calling uThread ends, or is the one that misbehaves.
pub fn start(args: Args<'static>) -> Result<(), BadArgs<'static>> {
    let mode = args.text("mode").ok_or(BadArgs::Missing("mode"))?;
    match mode {
        "poll" => {
            args.only(&["mode", "uthreads"])?;
            each(uthreads(args, 1)?, || loop {
                poll();
                show_now();
            })
        }
        "spin" => {
            args.only(&["mode", "uthreads"])?;
            let wanted = uthreads(args, 1)?;
            for which in 0..wanted {
                spawn(move || spin::spin(which)).map_err(|_| BadArgs::Stacks { wanted })?;
            }
            Ok(())
        }
        "yield" => {
            args.only(&["mode", "uthreads", "work_ns"])?;
            let work = work(args, 0)?;
            each(uthreads(args, 1)?, move || loop {
                rounds::run(work, 1);
                show_now();
                cede();
            })
        }
        "lock" => {
            args.only(&["mode", "uthreads", "hold_ns", "gap_ns"])?;
            let hold = kernel()
                .clock
                .ticks(args.number("hold_ns", 20_000, 0, 1_000_000_000)?);
            let gap = kernel()
                .clock
                .ticks(args.number("gap_ns", 2_000, 0, 1_000_000_000)?);
            each(uthreads(args, 2)?, move || lock::contend(hold, gap))
        }
        "call" => {
            args.only(&["mode", "uthreads", "hold_ns"])?;
            let hold = kernel()
                .clock
                .ticks(args.number("hold_ns", 2_000, 0, 1_000_000_000)?);
            each(uthreads(args, 1)?, move || calls::call(hold))
        }
        "switch" => {
            args.only(&["mode", "uthreads"])?;
            each(uthreads(args, 2)?, calls::switch)
        }
        "knock" => {
            args.only(&["mode", "uthreads"])?;
            each(uthreads(args, 1)?, calls::knock)
        }
        "turns" => {
            args.only(&["mode", "uthreads", "work_ns"])?;
            let work = work(args, 20_000)?;
            each(uthreads(args, 1)?, move || turns::take_turns(work))
        }
        "fan" => {
            args.only(&["mode", "uthreads", "work_ns"])?;
            let (parts, work) = (args.number("uthreads", 64, 1, 65_536)?, work(args, 20_000)?);
            each(1, move || turns::fan_out(parts as u32, work))
        }
        "sleep" => {
            args.only(&["mode", "uthreads", "sleep_ns", "rounds"])?;
            let ns = args.number("sleep_ns", 100_000, 1, 1_000_000_000)?;
            let rounds = args.number("rounds", 100, 1, u64::from(u32::MAX))?;
            let wanted = uthreads(args, 1)?;
            for which in 0..wanted {
                // From half of it to all of it, so that they do not all wake together.
                let ns = ns - ns / 2 * which / wanted;
                spawn(move || sleep::sleep(ns, rounds)).map_err(|_| BadArgs::Stacks { wanted })?;
            }
            Ok(())
        }
        "stubborn" => {
            args.only(&["mode"])?;
            libos::rogue::stay_in_fluxos()
        }
        "crash" => {
            args.only(&["mode", "address", "frame"])?;
            let address = args.number("address", 0, 0, u64::MAX)?;
            match args.text("frame") {
                None => libos::rogue::read(address),
                Some(_) => libos::rogue::read_without_frame(address, args.number("frame", 0, 0, u64::MAX)?),
            }
            Ok(())
        }
        "overflow" => {
            args.only(&["mode"])?;
            spawn_named("diver", || {
                libos::rogue::dive(0);
            })
            .map_err(|_| BadArgs::Stacks { wanted: 1 })?;
            Ok(())
        }
        "panic" => {
            args.only(&["mode"])?;
            libos::rogue::stumble(9);
            Ok(())
        }
        "liar" => {
            args.only(&["mode", "spare"])?;
            match args.text("spare") {
                None => libos::rogue::scribble(false),
                Some("critical") => libos::rogue::scribble(true),
                Some(value) => Err(BadArgs::Choice {
                    key: "spare",
                    value,
                    known: &["critical"],
                }),
            }
        }
        "exit" => {
            args.only(&["mode", "code"])?;
            libos::boot::exit(args.number("code", 0, 0, 255)? as u32)
        }
        value => Err(BadArgs::Choice {
            key: "mode",
            value,
            known: MODES,
        }),
    }
}

/// Rounds that take as long as the key `work_ns` says.
fn work(args: Args<'static>, unless_given: u64) -> Result<u64, BadArgs<'static>> {
    Ok(match args.number("work_ns", unless_given, 0, 1_000_000_000)? {
        0 => 0,
        ns => Rate::measure(&kernel().clock).rounds(ns),
    })
}

/// How many uThreads are wanted.
fn uthreads(args: Args<'static>, least: u64) -> Result<u64, BadArgs<'static>> {
    args.number("uthreads", u64::from(kernel().vcpus()).max(least), least, 65_536)
}

fn each<F: FnOnce() + Copy + Send + 'static>(wanted: u64, f: F) -> Result<(), BadArgs<'static>> {
    for _ in 0..wanted {
        spawn(f).map_err(|_| BadArgs::Stacks { wanted })?;
    }
    Ok(())
}
