//! The workloads of FluxOS, chosen by the VM's command line:
//!
//! ```text
//! serve [fanout=N]
//! batch [uthreads=N] [yield_every=K] [chain=N]
//! probe mode=poll|spin|yield|lock|stubborn|crash|liar [...]
//! micro
//! torture [uthreads=N] [seconds=N] [seed=N] [patience=N] [break=FAULT]
//! ```
//!
//! Each of them may also have `on_park=stay|hand`: whether the queue of a vCPU that is asked to leave its
//! core waits for thieves, or is handed to another vCPU (see `libos::options`).
//!
//! The same code runs in KVM guests and hosted.

#![cfg_attr(not(test), no_std)]

pub mod batch;
pub mod cmdline;
pub mod hash;
pub mod micro;
pub mod probe;
pub mod rounds;
pub mod serve;
pub mod torture;

use cmdline::{Args, BadArgs};

/// The first uThread of a VM.
pub fn main() {
    let cmdline = libos::uthread::kernel().page.cmdline();
    if let Err(bad) = start(cmdline) {
        libos::log::give_up(format_args!("command line \"{cmdline}\": {bad}"));
    }
}

fn start(cmdline: &'static str) -> Result<(), BadArgs<'static>> {
    let (workload, args) = Args::split(cmdline)?;
    match workload {
        "serve" => serve::start(args),
        "batch" => batch::start(args),
        "probe" => probe::start(args),
        "micro" => micro::start(args),
        "torture" => torture::start(args),
        _ => Err(BadArgs::Workload(workload)),
    }
}
