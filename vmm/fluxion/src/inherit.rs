//! The descriptors that this process was started with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::Ordering::SeqCst;

use handoff::Table;

use crate::args::Config;
use crate::clock;
use crate::process::StartError;
use crate::seat::Seat;

/// The hand-off table: the one that was passed on, or one of this process's own.
pub fn table(config: &Config) -> Result<(OwnedFd, Table), StartError> {
    let Some(number) = config.table_fd else {
        return Ok(Table::create(clock::tsc_khz(), clock::STAMP_SHIFT)?);
    };
    let fd = inherited(number, "the hand-off table")?;
    let table = Table::map(&fd)?;
    Ok((fd, table))
}

/// The VM's descriptor of kFlux, if that moves the table's cores.
pub fn seat(config: &Config, table: &Table) -> Result<Seat, StartError> {
    let domain = table.header().kflux_domain.load(SeqCst);
    match config.kflux_fd {
        None if domain == 0 => Ok(Seat::Table),
        None => Err(StartError::NoSeat(domain)),
        Some(number) => {
            let fd = inherited(number, "the VM's descriptor of kFlux")?;
            // After the look at the descriptor, which may be the mistake.
            if domain == 0 {
                return Err(StartError::NoDomain);
            }
            Ok(Seat::take(fd, table, config.slot)?)
        }
    }
}

fn inherited(number: i32, what: &'static str) -> Result<OwnedFd, StartError> {
    // SAFETY: a query on a number; it fails if there is no such descriptor.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        let error = io::Error::last_os_error();
        return Err(StartError::Descriptor(number, what, error));
    }
    // SAFETY: it exists, and by the command line's contract it was inherited for this and nobody else here
    // uses it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
