//! Fluxion's command: one KVM virtual machine.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use fluxion::args::{self, Command, Config};
use fluxion::image::ImageError;
use fluxion::kvm::{self, Boot, KvmError};
use fluxion::memory::MAX_MIB;
use fluxion::process::{self, StartError};
use fluxion::symbols::Symbols;
use fluxion::vm::Ended;
use handoff::kflux::KfluxError;
use handoff::TableError;

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const VERSION: u8 = 4;
const PERMISSION: u8 = 5;

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("cannot read the image {0}: {1}; check --image")]
    Image(String, io::Error),
    #[error(transparent)]
    Kvm(#[from] KvmError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl Error {
    fn code(&self) -> u8 {
        match self {
            Error::Kvm(KvmError::Image(ImageError::Version { .. })) => VERSION,
            Error::Start(StartError::Table(TableError::Version { .. })) => VERSION,
            Error::Start(StartError::Kflux(KfluxError::Version { .. })) => VERSION,
            Error::Start(StartError::Kflux(KfluxError::Forbidden { .. })) => PERMISSION,
            Error::Image(_, e) | Error::Kvm(KvmError::Open(e, _))
                if e.kind() == io::ErrorKind::PermissionDenied =>
            {
                PERMISSION
            }
            _ => FAILED,
        }
    }
}

fn main() -> ExitCode {
    match args::parse(std::env::args_os().skip(1), true) {
        Ok(Command::Help) => {
            print!("{}", args::help("fluxion", true));
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("fluxion {}", env!("CARGO_PKG_VERSION"));
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
            eprintln!("error fluxion: {e}");
            ExitCode::from(USAGE)
        }
    }
}

/// Reads the file, but no more than can be an image: the path may name anything.
fn read_image(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take((MAX_MIB << 20) + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_MIB << 20 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it is larger than any guest's memory",
        ));
    }
    Ok(bytes)
}

fn run(config: Config) -> Result<Ended, Error> {
    let path = config.image.clone().unwrap_or_default();
    let image = read_image(&path).map_err(|e| Error::Image(path.display().to_string(), e))?;
    let mut prepared = process::prepare(config, false)?;
    let boot = Boot {
        image: &image,
        memory_mib: prepared.config.memory_mib,
        vcpus: prepared.config.vcpus,
        stacks: prepared.config.stacks,
        page: prepared.page.clone(),
        doorbell: &prepared.doorbell,
    };
    let vcpus = kvm::boot(&boot, &mut prepared.header)?;
    prepared.symbols = Symbols::of(&image);
    drop(image);
    Ok(prepared.run(vcpus)?)
}
