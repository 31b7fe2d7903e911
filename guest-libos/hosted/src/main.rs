//! The hosted guest's command: one VM as an ordinary process, with Fluxion's options.

use std::process::ExitCode;

use fluxion::args::{self, Command, Config};
use fluxion::process::{self, StartError};
use fluxion::symbols::Symbols;
use fluxion::vm::Ended;
use handoff::kflux::KfluxError;
use handoff::TableError;
use hosted::machine::HostedError;
use hosted::{panics, Boot};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const VERSION: u8 = 4;
const PERMISSION: u8 = 5;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Hosted(#[from] HostedError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Error::Start(StartError::Table(TableError::Version { .. })) => VERSION,
            Error::Start(StartError::Kflux(KfluxError::Version { .. })) => VERSION,
            Error::Start(StartError::Kflux(KfluxError::Forbidden { .. })) => PERMISSION,
            _ => FAILED,
        }
    }
}

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1), false) {
        Ok(Command::Help) => {
            print!("{}", args::help("fluxos-hosted", false));
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("fluxos-hosted {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Ok(Command::Run(config)) => {
            let name = config.name.clone();
            match run(*config) {
                Ok(Ended::Stopped) => ExitCode::SUCCESS,
                Ok(Ended::Exit(code)) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
                Ok(Ended::Poisoned(_)) => ExitCode::from(FAILED),
                Err(e) => {
                    eprintln!("error {name}: {e}");
                    ExitCode::from(e.code())
                }
            }
        }
        Err(e) => {
            eprintln!("error fluxos-hosted: {e}");
            ExitCode::from(USAGE)
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
    let vcpus = hosted::boot(&boot, &mut prepared.header)?;
    prepared.symbols = Symbols::of_this_program();
    prepared.panicked = Some(panics::in_guest);
    Ok(prepared.run(vcpus)?)
}
