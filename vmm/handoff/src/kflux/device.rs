//! A file of `/dev/kflux` and the calls on it: thin, each checked.

use super::error::KfluxError;
use flux_abi as abi;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const PATH: &str = "/dev/kflux";

/// One ioctl of abi/kflux.h.
///
/// # Safety
/// `T` must be the struct that the request's number was made of.
pub(super) unsafe fn call<T>(fd: RawFd, request: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: the caller's promise; the module reads and writes one T, which the reference keeps alive.
    check(unsafe { libc::ioctl(fd, libc::c_ulong::from(request), std::ptr::from_mut(argument)) })
}

/// One ioctl without an argument.
pub(super) fn call_bare(fd: RawFd, request: u32) -> io::Result<()> {
    // SAFETY: the request takes no pointer.
    check(unsafe { libc::ioctl(fd, libc::c_ulong::from(request), 0) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Says HELLO on a descriptor, which comes before all else. The answer is the module's also if it is
/// an error.
pub(super) fn say_hello(fd: RawFd) -> (abi::KfHello, io::Result<()>) {
    let mut hello = abi::KfHello {
        abi_major: abi::ABI_MAJOR,
        abi_minor: abi::ABI_MINOR,
        version: [0; 24],
    };
    // SAFETY: HELLO takes a KfHello.
    let result = unsafe { call(fd, abi::KF_HELLO, &mut hello) };
    (hello, result)
}

/// What HELLO on `name` came to.
pub(super) fn judge(name: &str, hello: &abi::KfHello, result: io::Result<()>) -> Result<(), KfluxError> {
    let Err(error) = result else { return Ok(()) };
    Err(match error.raw_os_error() {
        Some(libc::EPROTO) => KfluxError::Version {
            major: hello.abi_major,
            minor: hello.abi_minor,
            version: text(&hello.version),
        },
        Some(libc::ENOTTY | libc::EINVAL | libc::EBADF) => KfluxError::NotKflux(name.to_owned()),
        _ => KfluxError::refused("say hello")(error),
    })
}

fn text(bytes: &[u8]) -> String {
    let len = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

/// What is there: the module's answer to HELLO, and what is wrong, if anything is.
pub fn hello() -> (Option<abi::KfHello>, Result<(), KfluxError>) {
    match open_file(PATH) {
        Err(error) => (None, Err(error)),
        Ok(file) => {
            let (hello, result) = say_hello(file.as_raw_fd());
            let verdict = judge(PATH, &hello, result);
            let answered = !matches!(verdict, Err(KfluxError::NotKflux(_)));
            (answered.then_some(hello), verdict)
        }
    }
}

fn open_file(path: &str) -> Result<OwnedFd, KfluxError> {
    match File::options().read(true).write(true).open(path) {
        Ok(file) => Ok(file.into()),
        Err(error) => Err(match error.raw_os_error() {
            // ENXIO and ENODEV: a node that the module has left behind.
            Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => KfluxError::NoDevice(path.to_owned()),
            Some(libc::EACCES | libc::EPERM) => KfluxError::NoRight(path.to_owned()),
            _ => KfluxError::refused("open /dev/kflux")(error),
        }),
    }
}

/// A file of the device, greeted. It joins one domain, and is that domain's from then on.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

impl Device {
    pub fn open() -> Result<Device, KfluxError> {
        Device::open_at(PATH)
    }

    fn open_at(path: &str) -> Result<Device, KfluxError> {
        let fd = open_file(path)?;
        let (hello, result) = say_hello(fd.as_raw_fd());
        judge(path, &hello, result)?;
        Ok(Device { fd })
    }

    /// Joins a domain; 0 makes a new one. Returns its number.
    pub fn join(&self, domain: u32, flags: u32) -> Result<u32, KfluxError> {
        let mut join = abi::KfJoin {
            domain,
            flags,
            reserved: [0; 2],
        };
        // SAFETY: JOIN takes a KfJoin.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_JOIN, &mut join) }
            .map_err(KfluxError::refused("join a domain"))?;
        Ok(join.domain)
    }

    /// Takes the lease on these cores. Returns kFlux's own epoch.
    pub fn claim(&self, managed: &[u32; 8], lease_ms: u32, flags: u32) -> Result<u32, KfluxError> {
        let mut claim = abi::KfClaim {
            managed: *managed,
            lease_ms,
            flags,
            epoch: 0,
            reserved: [0; 3],
        };
        // SAFETY: CLAIM takes a KfClaim.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_CLAIM, &mut claim) }
            .map_err(KfluxError::refused("claim the cores"))?;
        Ok(claim.epoch)
    }

    /// Gives the lease back.
    pub fn release(&self) -> Result<(), KfluxError> {
        call_bare(self.fd.as_raw_fd(), abi::KF_RELEASE).map_err(KfluxError::refused("release the cores"))
    }

    /// Carries out commands in order, at most KF_BATCH_MAX; each gets its result.
    pub fn submit(&self, commands: &mut [abi::KfCommand]) -> io::Result<()> {
        let mut submit = abi::KfSubmit {
            commands: commands.as_mut_ptr() as u64,
            count: commands.len() as u32,
            failed: 0,
        };
        // SAFETY: SUBMIT takes a KfSubmit; the module reads and writes `count` commands at the address,
        // which the slice is.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_SUBMIT, &mut submit) }
    }

    /// Makes the VM of a slot. The descriptor is close-on-exec; its end is the VM's.
    pub fn vm_create(&self, slot: u32, vcpus: u32) -> Result<OwnedFd, KfluxError> {
        vm_create(self.fd.as_fd(), slot, vcpus)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// As [`Device::vm_create`], on a descriptor that was joined earlier.
pub fn vm_create(domain: BorrowedFd<'_>, slot: u32, vcpus: u32) -> Result<OwnedFd, KfluxError> {
    let mut vm = abi::KfVm {
        slot,
        vcpus,
        flags: 0,
        fd: 0,
    };
    // SAFETY: VM_CREATE takes a KfVm.
    unsafe { call(domain.as_raw_fd(), abi::KF_VM_CREATE, &mut vm) }
        .map_err(KfluxError::refused("make a VM"))?;
    // SAFETY: the module has just made the descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(vm.fd as RawFd) })
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn no_device_is_said_with_the_way_out() {
        let error = Device::open_at("/dev/no-such-kflux").expect_err("absent");
        assert_eq!(error.errno(), -libc::ENOENT);
        assert!(error.to_string().contains("hyperflux kmod load"), "{error}");
    }

    #[test]
    fn a_device_that_is_not_kflux_is_not_taken_for_it() {
        let error = Device::open_at("/dev/null").expect_err("another device");
        assert_eq!(error.errno(), -libc::ENOTTY);
        assert!(error.to_string().contains("/dev/null is not kFlux"), "{error}");
    }

    #[test]
    fn answers_to_hello_become_errors_with_both_versions() {
        let mut hello = abi::KfHello {
            abi_major: 9,
            abi_minor: 2,
            version: [0; 24],
        };
        hello.version[..5].copy_from_slice(b"3.1.4");
        let error = |errno| Err(io::Error::from_raw_os_error(errno));
        let text = judge("it", &hello, error(libc::EPROTO))
            .expect_err("foreign")
            .to_string();
        let ours = format!("{}.{}", abi::ABI_MAJOR, abi::ABI_MINOR);
        assert!(
            text.contains("3.1.4") && text.contains("9.2") && text.contains(&ours),
            "{text}"
        );
        assert!(judge("it", &hello, Ok(())).is_ok());
        assert!(matches!(
            judge("it", &hello, error(libc::ENOTTY)),
            Err(KfluxError::NotKflux(_))
        ));
    }

    #[test]
    fn a_descriptor_that_is_none_is_refused() {
        let file = File::open("/dev/null").expect("null");
        let error = vm_create(file.as_fd(), 0, 1).expect_err("not a domain");
        assert!(error.to_string().contains("make a VM"), "{error}");
        assert_eq!(error.errno(), -libc::ENOTTY);
    }
}
