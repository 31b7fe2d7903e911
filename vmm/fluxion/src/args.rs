//! The command line: the same for Fluxion and for the hosted guest library OS.

use std::ffi::OsString;
use std::path::PathBuf;

use flux_abi as abi;

use crate::cpus::CpuSet;
use crate::memory::{MAX_MIB, MIN_MIB};

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    pub name: String,
    pub slot: u32,
    pub image: Option<PathBuf>,
    pub vcpus: u32,
    pub memory_mib: u64,
    pub class: u32,
    pub min_cores: u32,
    pub max_cores: u32,
    pub socket: Option<PathBuf>,
    pub table_fd: Option<i32>,
    pub kflux_fd: Option<i32>,
    pub cmdline: String,
    pub cpus: Option<CpuSet>,
    pub unmanaged: bool,
    pub idle_spin_ns: u32,
    pub stacks: Option<u64>,
    pub stats: bool,
    pub confine: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    Run(Box<Config>),
    Help,
    Version,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ArgsError {
    #[error("unknown option {0}; --help lists all of them")]
    Unknown(String),
    #[error("unexpected argument {0:?}; options start with --")]
    Stray(String),
    #[error("{0} needs a value")]
    NoValue(String),
    #[error("{0} takes no value")]
    Value(String),
    #[error("{option} {value:?}: {needs}")]
    Bad {
        option: &'static str,
        value: String,
        needs: String,
    },
    #[error("{0} is missing; --help shows an example")]
    Missing(&'static str),
    #[error("--min-cores {min} is more than --max-cores {max}")]
    Cores { min: u32, max: u32 },
    #[error("--max-cores {max} is more than --vcpus {vcpus}: a core is used by one vCPU")]
    Vcpus { max: u32, vcpus: u32 },
    #[error("--kflux-fd needs --table-fd, the table whose domain the VM is in")]
    NoTable,
    #[error("an argument is not valid UTF-8")]
    NotText,
}

/// How an idle vCPU's search for work is limited unless the command line says otherwise.
const IDLE_SPIN_NS: u32 = 20_000;
/// What the log, the socket's name and the table have room for.
const NAME_MAX: usize = abi::NAME_BYTES - 1;
const CMDLINE_MAX: usize = 511;

pub fn help(program: &str, image: bool) -> String {
    let image_use = if image { " --image PATH" } else { "" };
    let image_line = if image {
        "  --image PATH        the guest: a static ELF file built for FluxOS\n"
    } else {
        ""
    };
    format!(
        "{program}: one HyperFlux VM

usage: {program} --name NAME{image_use} [options]

  --name NAME         letters, digits, '-', '_' and '.', at most {NAME_MAX}
{image_line}  --vcpus N           vCPUs, 1 to {max_vcpus}; all exist from the start, dormant (1)
  --mem MIB           guest memory, {MIN_MIB} to {MAX_MIB} (64)
  --cmdline TEXT      for the guest: workload and its parameters, at most {CMDLINE_MAX} bytes
  --class lc|be       latency-critical or best-effort (be)
  --min-cores N       cores that the arbiter guarantees (0)
  --max-cores N       cores that it may give (as many as vCPUs)
  --socket PATH       control socket; without it the VM cannot be managed
  --table-fd N        the hand-off table, inherited; without it a private one is made
  --kflux-fd N        the VM's descriptor of kFlux, inherited; without it the table moves the cores
  --slot N            the VM's slot in that table (0)
  --unmanaged         run at once under the ordinary scheduler, without an arbiter
  --cpus LIST         affinity while unmanaged, for example 0-1,3 (that of the start)
  --idle-spin-ns N    how long an idle vCPU looks for work before it yields ({IDLE_SPIN_NS})
  --stacks N          uThread stacks of 64 KiB (a quarter of memory, at most 4096)
  --stats             print a table of exits when the VM ends
  --no-confine        no Landlock, no seccomp
  --help, --version

example: {program} --name try{image_example} --unmanaged --vcpus 2 --cmdline \"batch\" --stats
",
        max_vcpus = abi::MAX_VCPUS,
        image_example = if image { " --image fluxos.elf" } else { "" },
    )
}

/// Reads the arguments after the program's name. `image`: whether --image is needed.
pub fn parse(args: impl IntoIterator<Item = OsString>, image: bool) -> Result<Command, ArgsError> {
    let mut config = Config {
        name: String::new(),
        slot: 0,
        image: None,
        vcpus: 1,
        memory_mib: 64,
        class: abi::CLASS_BE,
        min_cores: 0,
        max_cores: 0,
        socket: None,
        table_fd: None,
        kflux_fd: None,
        cmdline: String::new(),
        cpus: None,
        unmanaged: false,
        idle_spin_ns: IDLE_SPIN_NS,
        stacks: None,
        stats: false,
        confine: true,
    };
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let arg = arg.into_string().map_err(|_| ArgsError::NotText)?;
        let (name, mut inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg.clone(), None),
        };
        let flag = inline.is_none();
        let mut value = || match inline.take() {
            Some(value) => Ok(value),
            None => match args.next().map(OsString::into_string) {
                Some(Ok(value)) => Ok(value),
                Some(Err(_)) => Err(ArgsError::NotText),
                None => Err(ArgsError::NoValue(name.clone())),
            },
        };
        match name.as_str() {
            "--help" | "-h" if flag => return Ok(Command::Help),
            "--version" | "-V" if flag => return Ok(Command::Version),
            "--unmanaged" if flag => config.unmanaged = true,
            "--stats" if flag => config.stats = true,
            "--no-confine" if flag => config.confine = false,
            "--help" | "--version" | "--unmanaged" | "--stats" | "--no-confine" => {
                return Err(ArgsError::Value(name))
            }
            "--name" => config.name = vm_name(value()?)?,
            "--image" => config.image = Some(value()?.into()),
            "--socket" => config.socket = Some(value()?.into()),
            "--slot" => config.slot = number("--slot", value()?, 0, abi::MAX_VMS as u64 - 1)? as u32,
            "--vcpus" => config.vcpus = number("--vcpus", value()?, 1, abi::MAX_VCPUS as u64)? as u32,
            "--mem" => config.memory_mib = number("--mem", value()?, MIN_MIB, MAX_MIB)?,
            "--min-cores" => {
                config.min_cores = number("--min-cores", value()?, 0, abi::MAX_VCPUS as u64)? as u32
            }
            "--max-cores" => {
                config.max_cores = number("--max-cores", value()?, 1, abi::MAX_VCPUS as u64)? as u32
            }
            "--table-fd" => config.table_fd = Some(number("--table-fd", value()?, 3, 1 << 20)? as i32),
            "--kflux-fd" => config.kflux_fd = Some(number("--kflux-fd", value()?, 3, 1 << 20)? as i32),
            "--idle-spin-ns" => {
                config.idle_spin_ns = number("--idle-spin-ns", value()?, 0, 1_000_000_000)? as u32
            }
            "--stacks" => config.stacks = Some(number("--stacks", value()?, 1, MAX_MIB * 16)?),
            "--class" => config.class = class(value()?)?,
            "--cmdline" => config.cmdline = cmdline(value()?)?,
            "--cpus" => config.cpus = Some(cpus(value()?)?),
            _ if name.starts_with('-') => return Err(ArgsError::Unknown(name)),
            _ => return Err(ArgsError::Stray(arg)),
        }
    }
    check(config, image).map(|config| Command::Run(Box::new(config)))
}

/// What only shows once all options are known.
fn check(mut config: Config, image: bool) -> Result<Config, ArgsError> {
    if config.name.is_empty() {
        return Err(ArgsError::Missing("--name"));
    }
    if image && config.image.is_none() {
        return Err(ArgsError::Missing("--image"));
    }
    if config.max_cores == 0 {
        config.max_cores = config.vcpus;
    }
    if config.kflux_fd.is_some() && config.table_fd.is_none() {
        return Err(ArgsError::NoTable);
    }
    let (min, max, vcpus) = (config.min_cores, config.max_cores, config.vcpus);
    if min > max {
        return Err(ArgsError::Cores { min, max });
    }
    if max > vcpus {
        return Err(ArgsError::Vcpus { max, vcpus });
    }
    Ok(config)
}

fn bad(option: &'static str, value: String, needs: impl Into<String>) -> ArgsError {
    ArgsError::Bad {
        option,
        value,
        needs: needs.into(),
    }
}

fn number(option: &'static str, value: String, from: u64, to: u64) -> Result<u64, ArgsError> {
    match value.parse() {
        Ok(n) if (from..=to).contains(&n) => Ok(n),
        _ => Err(bad(option, value, format!("give a number from {from} to {to}"))),
    }
}

/// The name becomes a file name and stands in log lines, so it is held to harmless characters.
fn vm_name(value: String) -> Result<String, ArgsError> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = value.len() <= NAME_MAX && value.starts_with(|c: char| c.is_ascii_alphanumeric());
    if good && value.chars().all(harmless) {
        return Ok(value);
    }
    Err(bad(
        "--name",
        value,
        format!("give 1 to {NAME_MAX} letters, digits, '-', '_' or '.', the first a letter or digit"),
    ))
}

fn class(value: String) -> Result<u32, ArgsError> {
    match value.as_str() {
        "lc" => Ok(abi::CLASS_LC),
        "be" => Ok(abi::CLASS_BE),
        _ => Err(bad(
            "--class",
            value,
            "give lc (latency-critical) or be (best-effort)",
        )),
    }
}

fn cmdline(value: String) -> Result<String, ArgsError> {
    if value.len() > CMDLINE_MAX || value.contains('\0') {
        return Err(bad(
            "--cmdline",
            value,
            format!("give at most {CMDLINE_MAX} bytes, none of them 0"),
        ));
    }
    Ok(value)
}

fn cpus(value: String) -> Result<CpuSet, ArgsError> {
    match CpuSet::parse(&value) {
        Some(set) => Ok(set),
        None => Err(bad(
            "--cpus",
            value,
            "give CPU numbers and ranges, for example 0-1,3",
        )),
    }
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
