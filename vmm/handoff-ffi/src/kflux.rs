//! kFlux in the C face: the switch of a bridge, and what those need who make VMs or only look.

use super::{borrow, bridge, checked, flux_bridge_start_deadlines, FluxBridge};
use flux_abi as abi;
use handoff::kflux;
use std::os::fd::{BorrowedFd, IntoRawFd};

/// # Safety
/// `b` as in `bridge`, its table mapped at the same place as when it was made.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_use_kflux(b: *mut FluxBridge) -> i32 {
    // SAFETY: the caller's promise.
    let Some(b) = (unsafe { bridge(b) }) else {
        return -libc::EINVAL;
    };
    // The window may show another table by now than the one that was checked.
    match b.bridge.table().check() {
        Ok(()) => {}
        Err(handoff::TableError::Version { .. }) => return -libc::EPROTO,
        Err(_) => return -libc::EINVAL,
    }
    // It writes words that are kFlux's to write afterwards, and which this process then cannot.
    let kept = b.stop_deadlines();
    match b.bridge.use_kflux() {
        Ok(true) => 0,
        Ok(false) => -libc::EALREADY,
        Err(error) => {
            if kept {
                // SAFETY: the same bridge, which the caller has lent to this call.
                unsafe { flux_bridge_start_deadlines(b) };
            }
            error.errno()
        }
    }
}

/// # Safety
/// See `borrow`; no other thread maps or unmaps the table meanwhile.
#[no_mangle]
pub unsafe extern "C" fn flux_table_overlay(table: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { borrow(table, bytes) }.and_then(checked) {
        Ok(table) => kflux::overlay::look(&table).map_or_else(|error| error.errno(), i32::from),
        Err(errno) => errno,
    }
}

/// # Safety
/// See `borrow`.
#[no_mangle]
pub unsafe extern "C" fn flux_kflux_join(table: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { borrow(table, bytes) }.and_then(checked) {
        Ok(table) => match kflux::bridge::join(&table) {
            Ok((device, _)) => device.into_fd().into_raw_fd(),
            Err(error) => error.errno(),
        },
        Err(errno) => errno,
    }
}

#[no_mangle]
pub extern "C" fn flux_kflux_vm_create(domain_fd: i32, slot: u32, vcpus: u32) -> i32 {
    if domain_fd < 0 {
        return -libc::EBADF;
    }
    // SAFETY: used for the length of this call only; a number that is no descriptor makes the call fail.
    let domain = unsafe { BorrowedFd::borrow_raw(domain_fd) };
    match kflux::device::vm_create(domain, slot, vcpus) {
        Ok(fd) => fd.into_raw_fd(),
        Err(error) => error.errno(),
    }
}

/// # Safety
/// `answer` is null or writable.
#[no_mangle]
pub unsafe extern "C" fn flux_kflux_hello(answer: *mut abi::KfHello) -> i32 {
    // SAFETY: the caller's promise.
    let Some(answer) = (unsafe { answer.as_mut() }) else {
        return -libc::EINVAL;
    };
    let (hello, result) = kflux::hello();
    if let Some(hello) = hello {
        *answer = hello;
    }
    result.map_or_else(|error| error.errno(), |()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{flux_bridge_free, flux_bridge_new};
    use handoff::Table;
    use std::os::fd::{AsRawFd, OwnedFd};

    /// A table as the addon has it: a mapping of its own.
    fn mapped() -> (OwnedFd, *mut u8) {
        let (fd, _) = Table::create(1_000_000, 6).expect("table");
        // SAFETY: a fresh mapping of the whole table, which stays to the end of the process.
        let at = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                abi::TABLE_BYTES,
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        (fd, at.cast())
    }

    #[test]
    fn bad_arguments_are_refused() {
        let (_fd, table) = mapped();
        // SAFETY: null, too small, not aligned, or a whole table.
        unsafe {
            assert_eq!(flux_bridge_use_kflux(std::ptr::null_mut()), -libc::EINVAL);
            assert_eq!(flux_table_overlay(std::ptr::null_mut(), 0), -libc::EINVAL);
            assert_eq!(flux_table_overlay(table, 4096), -libc::EINVAL);
            assert_eq!(
                flux_kflux_join(table.wrapping_add(8), abi::TABLE_BYTES),
                -libc::EINVAL
            );
            assert_eq!(flux_kflux_hello(std::ptr::null_mut()), -libc::EINVAL);
            assert_eq!(flux_table_overlay(table, abi::TABLE_BYTES), 0, "it has no domain");
        }
        assert_eq!(flux_kflux_vm_create(-1, 0, 1), -libc::EBADF);
        assert_eq!(flux_kflux_vm_create(0x7fff_0000, 0, 1), -libc::EBADF);
    }

    #[test]
    fn without_the_module_everything_says_so_and_the_bridge_stays() {
        if kflux::hello().1.is_ok() {
            eprintln!("SKIPPED: kFlux is here");
            return;
        }
        let (_fd, table) = mapped();
        let mut errno = 0;
        let mut answer = abi::KfHello {
            abi_major: 0,
            abi_minor: 0,
            version: [0; 24],
        };
        // SAFETY: a whole table; the bridge is freed once.
        unsafe {
            let none = flux_kflux_hello(&mut answer);
            assert!(none < 0);
            let b = flux_bridge_new(table, abi::TABLE_BYTES, &mut errno);
            assert!(!b.is_null());
            assert_eq!(flux_bridge_use_kflux(b), none);
            assert_eq!(flux_kflux_join(table, abi::TABLE_BYTES), none);
            assert!((0..=1).contains(&flux_bridge_start_deadlines(b)));
            assert_eq!(flux_bridge_start_deadlines(b), -libc::EALREADY);
            assert_eq!(flux_bridge_use_kflux(b), none);
            assert_eq!(flux_bridge_start_deadlines(b), -libc::EALREADY, "it runs still");
            flux_bridge_free(b);
        }
    }
}
