//! A VM's descriptor, from its own process: where its vCPUs wait for cores, run and leave.

use super::device::{call, call_bare, judge, say_hello};
use super::error::KfluxError;
use super::overlay;
use crate::vcpu::{How, Woken};
use crate::Table;
use flux_abi as abi;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What a vCPU's thread tells kFlux of itself.
#[derive(Debug, Default, Clone, Copy)]
pub struct Registration {
    pub unmanaged: bool,
    /// Address of the guest's critical word in this process; 0: there is none.
    pub critical: u64,
    /// Address of the held hint in the guest's page; 0: there is none.
    pub held_hint: u64,
    /// The vCPU's KVM descriptor, for [`Seat::run`].
    pub kvm_fd: Option<RawFd>,
}

/// The VM, as kFlux knows it. Bound to this process by the first thread that registers.
#[derive(Debug)]
pub struct Seat {
    fd: OwnedFd,
}

impl Seat {
    /// Takes a descriptor that VM_CREATE made, inherited or not.
    pub fn new(fd: OwnedFd) -> Result<Seat, KfluxError> {
        let (hello, result) = say_hello(fd.as_raw_fd());
        judge(&format!("descriptor {}", fd.as_raw_fd()), &hello, result)?;
        Ok(Seat { fd })
    }

    /// Maps what the VM may see of kFlux's pages over its process's table.
    pub fn map_over(&self, table: &Table, slot: u32) -> Result<(), KfluxError> {
        overlay::sit_down(table, self.fd.as_fd(), slot)
    }

    /// Makes the calling thread vCPU `vcpu`: PARKED, or UNMANAGED. Its affinity of now is the one that it
    /// gets back whenever no arbiter places it.
    pub fn register(&self, vcpu: u32, from: Registration) -> Result<(), KfluxError> {
        let mut register = abi::KfRegister {
            vcpu,
            flags: if from.unmanaged {
                abi::KF_REGISTER_UNMANAGED
            } else {
                0
            },
            critical: from.critical,
            held_hint: from.held_hint,
            kvm_fd: from.kvm_fd.map_or(u32::MAX, |fd| fd as u32),
            reserved: 0,
        };
        // SAFETY: REGISTER takes a KfRegister; the addresses in it are only looked at by copies that may fail.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_REGISTER, &mut register) }
            .map_err(KfluxError::refused("register a vCPU"))
    }

    /// Leaves the core, if there is one, its successor being woken on it by this very call, and sleeps until
    /// there is one. The calling thread is the vCPU's; its context is whole.
    pub fn park(&self, vcpu: u32, how: How) -> Result<Woken, KfluxError> {
        loop {
            let mut turn = turn(vcpu, how.word());
            // SAFETY: PARK takes a KfTurn.
            match unsafe { call(self.fd.as_raw_fd(), abi::KF_PARK, &mut turn) } {
                Ok(()) => {
                    return woken(&turn).ok_or_else(|| {
                        let error = io::Error::other(format!("an unknown reason {}", turn.reason));
                        KfluxError::Refused {
                            what: "say why a park ended",
                            error,
                        }
                    });
                }
                // It is still parked, and its thread off the managed cores.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(KfluxError::refused("park a vCPU")(error)),
            }
        }
    }

    /// Enters the guest by way of kFlux until user space is needed; `turn` says why and what was used.
    pub fn run(&self, vcpu: u32, turn: &mut abi::KfTurn) -> io::Result<()> {
        *turn = self::turn(vcpu, 0);
        // SAFETY: RUN takes a KfTurn.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_RUN, turn) }
    }

    /// The vCPU of the calling thread is DEAD; its core goes on.
    pub fn unregister(&self, vcpu: u32) -> Result<(), KfluxError> {
        let mut which = abi::KfVcpu {
            vcpu,
            reserved: [0; 3],
        };
        // SAFETY: UNREGISTER takes a KfVcpu.
        unsafe { call(self.fd.as_raw_fd(), abi::KF_UNREGISTER, &mut which) }
            .map_err(KfluxError::refused("unregister a vCPU"))
    }

    /// An arbiter adopts the VM: unmanaged vCPUs are to park. ESTALE without a lease.
    pub fn manage(&self) -> Result<(), KfluxError> {
        call_bare(self.fd.as_raw_fd(), abi::KF_MANAGE).map_err(KfluxError::refused("manage the VM"))
    }

    /// All vCPUs run under the ordinary scheduler from now on.
    pub fn unmanage(&self) -> Result<(), KfluxError> {
        call_bare(self.fd.as_raw_fd(), abi::KF_UNMANAGE).map_err(KfluxError::refused("unmanage the VM"))
    }

    /// Every vCPU is DEAD and woken; the VM never runs again.
    pub fn end(&self) -> Result<(), KfluxError> {
        call_bare(self.fd.as_raw_fd(), abi::KF_END).map_err(KfluxError::refused("end the VM"))
    }
}

/// What became of a vCPU that parked or left its core while it ran; `None` for the other reasons.
pub fn woken(turn: &abi::KfTurn) -> Option<Woken> {
    match turn.reason {
        abi::KF_GRANTED => Some(Woken::Granted { core: turn.core }),
        abi::KF_UNMANAGED => Some(Woken::Unmanaged),
        abi::KF_DEAD => Some(Woken::Dead),
        _ => None,
    }
}

/// PARK's and RUN's argument with nothing in it but the vCPU.
pub const fn turn(vcpu: u32, how: u32) -> abi::KfTurn {
    abi::KfTurn {
        vcpu,
        how,
        reason: 0,
        core: abi::CORE_NONE,
        kicks: 0,
        left: 0,
        guest_tsc: 0,
        seen_tsc: 0,
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_vm_is_refused_by_number() {
        let null = std::fs::File::open("/dev/null").expect("null");
        let number = null.as_raw_fd();
        let error = Seat::new(null.into()).expect_err("not a VM");
        assert!(
            error
                .to_string()
                .contains(&format!("descriptor {number} is not kFlux")),
            "{error}"
        );
        let (fd, _table) = Table::create(1_000_000, 6).expect("table");
        assert_eq!(Seat::new(fd).expect_err("a memfd").errno(), -libc::ENOTTY);
    }

    #[test]
    fn every_reason_to_wake_is_told_apart() {
        let of = |reason, core| {
            woken(&abi::KfTurn {
                reason,
                core,
                ..turn(0, 0)
            })
        };
        assert_eq!(of(abi::KF_GRANTED, 5), Some(Woken::Granted { core: 5 }));
        assert_eq!(of(abi::KF_UNMANAGED, abi::CORE_NONE), Some(Woken::Unmanaged));
        assert_eq!(of(abi::KF_DEAD, abi::CORE_NONE), Some(Woken::Dead));
        assert_eq!(of(abi::KF_EXIT, 5), None);
        assert_eq!(of(99, 5), None);
    }
}
