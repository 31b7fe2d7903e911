//! `libfluxos_hosted.a`: what a C program is linked with to run upon FluxOS as an ordinary process.
//!
//! The process's own `main` is Fluxion's: it takes Fluxion's options and makes a VM whose first
//! uThread is the program's `main`. To tell the two apart the linker is told `--wrap=main`.

use std::ffi::{c_char, c_int};

use fluxion::args::{self, Command, Config};
use fluxion::process::{self, StartError};
use fluxion::symbols::Symbols;
use fluxion::vm::Ended;
use hosted::door::Hosted;
use hosted::machine::{boot_into, Boot, HostedError};
use hosted::panics;
use libos::boot::Boot as GuestBoot;

const FAILED: c_int = 1;
const USAGE: c_int = 2;

static GUEST: GuestBoot = GuestBoot::new();
static HOSTED: Hosted = Hosted;

unsafe extern "C" {
    /// The program's `main`.
    fn __real_main(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

arch::hosted_entry!(entry, vcpu);

extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: every vCPU comes here by `entry`, with its number and the page that `boot_into` was
    // given, on its boot stack, after GS base was set.
    unsafe { libos::boot::enter(&GUEST, &HOSTED, || capi::program::run(__real_main), id, page) }
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Hosted(#[from] HostedError),
    #[error(transparent)]
    Start(#[from] StartError),
}

/// What the C library starts instead of the program's `main`.
#[unsafe(no_mangle)]
extern "C" fn __wrap_main(_argc: c_int, _argv: *mut *mut c_char) -> c_int {
    // As Rust's own start does: a reader that goes away is an error, not the end.
    // SAFETY: no other thread is there yet.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    match args::parse(std::env::args_os().skip(1), false) {
        Ok(Command::Help) => {
            print!("{}", args::help("a program linked with libfluxos_hosted", false));
            0
        }
        Ok(Command::Version) => {
            println!("libfluxos_hosted {}", env!("CARGO_PKG_VERSION"));
            0
        }
        Ok(Command::Run(config)) => {
            let name = config.name.clone();
            match run(*config) {
                Ok(Ended::Stopped) => 0,
                Ok(Ended::Exit(code)) => c_int::from(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(Ended::Poisoned(_)) => FAILED,
                Err(e) => {
                    eprintln!("error {name}: {e}");
                    FAILED
                }
            }
        }
        Err(e) => {
            eprintln!("error: {e}");
            USAGE
        }
    }
}

fn run(config: Config) -> Result<Ended, Error> {
    let mut prepared = process::prepare(config, true)?;
    let boot = Boot {
        memory_mib: prepared.config.memory_mib,
        vcpus: prepared.config.vcpus,
        stacks: prepared.config.stacks,
        page: prepared.page.clone(),
    };
    let vcpus = boot_into(entry, &boot, &mut prepared.header)?;
    prepared.symbols = Symbols::of_this_program();
    prepared.panicked = Some(panics::in_guest);
    Ok(prepared.run(vcpus)?)
}
