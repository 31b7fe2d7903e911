//! Sanitizers find what is planted in a guest, and nothing where nothing is: `npm run sanitize`.
//!
//! Each test runs its guest in a process of its own, in the storm of `sync`, because what is found
//! ends it.
#![cfg(flux_sanitizer)]

#[path = "sync/host.rs"]
mod host;

use std::hint::black_box;
use std::process::Command;
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU64};

use libos::sync::{spawn, JoinHandle, Mutex};
use libos::uthread::yield_now;

const PLANT: &str = "FLUX_PLANT";
const ROUNDS: u64 = 300_000;

fn start(f: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    match spawn(f) {
        Ok(handle) => handle,
        Err(_) => libos::log::fatal(format_args!("there are no uThreads left")),
    }
}

/// Two uThreads do the same thing often, with and without a scheduling point in between.
fn twice(each: fn()) {
    let both = [(); 2].map(|()| {
        start(move || {
            for round in 0..ROUNDS {
                each();
                // Relaxed: it orders nothing between the two.
                host::PROGRESS.fetch_add(1, Relaxed);
                if round % 64 == 0 {
                    yield_now();
                }
            }
        })
    });
    both.into_iter().for_each(|handle| handle.join().unwrap_or(()));
}

static mut PLAIN: u64 = 0;
static LOCK: Mutex<()> = Mutex::new(());

/// Not for several uThreads at once.
#[inline(never)]
fn add_to_plain() {
    let at = &raw mut PLAIN;
    // SAFETY: it is not, and that is to be found; a torn count does no harm.
    unsafe { at.write(black_box(at.read()) + 1) }
}

/// What the address of a boxed value is after it was dropped.
#[inline(never)]
fn read_dropped() {
    let dropped = ptr::from_ref(Box::leak(Box::new(7u64))).cast_mut();
    // SAFETY: made by a box just now.
    drop(unsafe { Box::from_raw(dropped) });
    // SAFETY: it is not, and that is to be found.
    black_box(unsafe { dropped.read_volatile() });
}

/// An address on the stack of a uThread that has ended.
#[inline(never)]
fn read_ended() {
    static WHERE: AtomicPtr<u64> = AtomicPtr::new(ptr::null_mut());
    let handle = start(|| {
        let mut local = black_box(7u64);
        WHERE.store(&mut local, SeqCst);
        black_box(&local);
    });
    handle.join().unwrap_or(());
    // SAFETY: it is not, and that is to be found.
    black_box(unsafe { WHERE.load(SeqCst).read_volatile() });
}

static COUNT: AtomicU64 = AtomicU64::new(0);

pub fn main() {
    match std::env::var(PLANT).as_deref() {
        Ok("race") => twice(add_to_plain),
        Ok("use after free") => read_dropped(),
        Ok("use after end") => read_ended(),
        _ => {
            twice(|| LOCK.with(|()| add_to_plain()));
            twice(|| {
                COUNT.fetch_add(1, Relaxed);
            });
        }
    }
    host::FINISHED.store(true, SeqCst);
}

/// The guest; run by the tests below, in a process of its own. What is planted is found before there
/// was a storm.
#[test]
#[ignore]
fn guest() {
    host::run();
}

/// Whether the guest's process ended well, and what it said.
fn run(plant: &str) -> (bool, String) {
    let output = Command::new(std::env::current_exe().expect("a program"))
        .args(["--ignored", "--exact", "guest", "--nocapture"])
        .env(PLANT, plant)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), said)
}

fn finds(plant: &str, texts: &[&str]) {
    let (well, said) = run(plant);
    for text in texts {
        assert!(said.contains(text), "{plant}: no {text:?} in\n{said}");
    }
    assert!(!well, "{plant}: the process ended well\n{said}");
}

#[test]
fn nothing_is_found_where_nothing_is() {
    let (well, said) = run("nothing");
    assert!(well && !said.contains("Sanitizer"), "{said}");
}

#[cfg(flux_sanitizer = "thread")]
#[test]
fn a_data_race_between_uthreads_is_found() {
    finds("race", &["ThreadSanitizer: data race", "add_to_plain"]);
}

#[cfg(flux_sanitizer = "address")]
#[test]
fn a_use_after_free_is_found() {
    finds("use after free", &["heap-use-after-free", "read_dropped"]);
}

#[cfg(flux_sanitizer = "address")]
#[test]
fn a_use_of_an_ended_uthreads_stack_is_found() {
    finds("use after end", &["use-after-poison", "read_ended"]);
}
