//! What can be wrong with kFlux, and what to do about it.

use flux_abi as abi;
use std::io;

#[derive(Debug, thiserror::Error)]
pub enum KfluxError {
    #[error("there is no {0}: load the module (hyperflux kmod load), or move cores by the affinity bridge")]
    NoDevice(String),
    #[error("{0} is not for this user: join its group, or run as root")]
    NoRight(String),
    #[error("{0} is not kFlux: it does not answer to HELLO")]
    NotKflux(String),
    #[error(
        "the loaded kFlux {version} speaks ABI {major}.{minor}, this program {}.{}: \
         load the module of the same release (hyperflux kmod unload, install, load)",
        abi::ABI_MAJOR,
        abi::ABI_MINOR
    )]
    Version { major: u32, minor: u32, version: String },
    #[error("kFlux refused to {what}: it needs CAP_SYS_NICE in the initial user namespace, or this is not the VM's own thread")]
    Forbidden { what: &'static str },
    #[error("kFlux refused to {what}: {error}")]
    Refused { what: &'static str, error: io::Error },
    #[error("cannot map kFlux's {what}: {error}")]
    Map { what: &'static str, error: io::Error },
    #[error("the pages of this descriptor are not those of kFlux domain {0}: it comes from another version of HyperFlux")]
    NotTheDomain(u32),
}

impl KfluxError {
    /// The same as a negative errno, for the C face.
    pub fn errno(&self) -> i32 {
        let of = |error: &io::Error| -error.raw_os_error().unwrap_or(libc::EIO);
        match self {
            KfluxError::NoDevice(_) => -libc::ENOENT,
            KfluxError::NoRight(_) => -libc::EACCES,
            KfluxError::NotKflux(_) => -libc::ENOTTY,
            KfluxError::Version { .. } => -libc::EPROTO,
            KfluxError::Forbidden { .. } => -libc::EPERM,
            KfluxError::Refused { error, .. } | KfluxError::Map { error, .. } => of(error),
            KfluxError::NotTheDomain(_) => -libc::EPROTO,
        }
    }

    /// A call on an open descriptor that failed.
    pub(super) fn refused(what: &'static str) -> impl Fn(io::Error) -> KfluxError {
        move |error| match error.raw_os_error() {
            Some(libc::EPERM) => KfluxError::Forbidden { what },
            _ => KfluxError::Refused { what, error },
        }
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_module_is_told_with_both_versions() {
        let error = KfluxError::Version {
            major: 7,
            minor: 3,
            version: "0.9.0".into(),
        };
        let ours = format!("this program {}.{}", abi::ABI_MAJOR, abi::ABI_MINOR);
        let text = error.to_string();
        assert!(
            text.contains("kFlux 0.9.0 speaks ABI 7.3") && text.contains(&ours),
            "{text}"
        );
        assert_eq!(error.errno(), -libc::EPROTO);
    }

    #[test]
    fn what_is_forbidden_names_the_right() {
        let error = KfluxError::refused("join")(io::Error::from_raw_os_error(libc::EPERM));
        assert!(error.to_string().contains("CAP_SYS_NICE"));
        assert_eq!(error.errno(), -libc::EPERM);
        let error = KfluxError::refused("claim the cores")(io::Error::from_raw_os_error(libc::EBUSY));
        assert!(error.to_string().contains("claim the cores"));
        assert_eq!(error.errno(), -libc::EBUSY);
    }
}
