//! The tokio rival of `hyperflux bench uthreads`.
//!
//! It reads one command a line, `<row> <samples> <ops>`, and answers with one line: `ok` and the
//! nanoseconds of each sample, or `no` and why. On one core it uses the `current_thread` runtime, on
//! several the `multi_thread` one with as many workers as there are cores: what tokio itself would
//! choose.

mod basic;
#[path = "../../../../../guest-libos/apps/src/micro/quicksort.rs"]
mod quicksort;
mod sort;
mod sync;
mod timer;

use std::future::Future;
use std::io::{self, BufRead, Write};
use std::sync::OnceLock;
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};

const SAMPLES_MAX: u64 = 4096;

/// Nanoseconds by the monotonic clock.
pub fn now() -> u64 {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// Runs `f` on a worker, so that it may spawn and be stolen from as any task.
pub fn on_worker<F>(runtime: &Runtime, f: F) -> u64
where
    F: Future<Output = u64> + Send + 'static,
{
    match runtime.block_on(runtime.spawn(f)) {
        Ok(ns) => ns,
        Err(e) => panic!("the row's task failed: {e}"),
    }
}

fn row(name: &str) -> Option<fn(&Runtime, u64) -> u64> {
    Some(match name {
        "floor" => basic::floor,
        "clock" => basic::clock,
        "spawn" => basic::spawn,
        "yield" => basic::give_way,
        "fan" => basic::fan,
        "mutex" => sync::mutex,
        "condvar" => sync::condvar,
        "wake" => sync::wake,
        "semaphore" => sync::semaphore,
        "baton" => sync::baton,
        "steal" => sync::steal,
        "timed" => timer::timed,
        "late" => timer::late,
        "sort" => sort::sort,
        _ => return None,
    })
}

fn answer(runtime: &Runtime, line: &str) -> String {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let (Some(samples @ 1..=SAMPLES_MAX), Some(ops @ 1..)) = (number(), number()) else {
        return "no such command".into();
    };
    let Some(run) = row(name) else {
        return "no row of that name".into();
    };
    let mut text = String::from("ok");
    for _ in 0..samples {
        text.push_str(&format!(" {}", run(runtime, ops)));
    }
    text
}

fn main() -> io::Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    let (mut builder, kind) = match cores {
        1 => (Builder::new_current_thread(), "current_thread"),
        _ => (Builder::new_multi_thread(), "multi_thread"),
    };
    let runtime = builder.worker_threads(cores).enable_time().build()?;
    let mut out = io::stdout().lock();
    writeln!(out, "ready tokio 1.54.1, {kind}, {cores} workers")?;
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", answer(&runtime, &line?))?;
    }
    Ok(())
}
