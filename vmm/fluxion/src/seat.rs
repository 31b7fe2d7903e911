//! Where this VM's vCPUs get their cores from: the words of the hand-off table, or kFlux.
//!
//! The two differ in who acts. Over the table this process changes the words, its own and its successors';
//! over kFlux it says what its vCPUs do, and the kernel changes them. The words are read alike in both: kFlux
//! shows its own where the table has them.

use std::os::fd::{OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;

use flux_abi as abi;
use handoff::kflux::{self, seat::Registration, KfluxError};
use handoff::{linux, Handle, How, Left, Table, Woken};

use crate::backend::Failure;
use crate::confine::Allowed;
use crate::vm::Vm;

#[derive(Debug, Clone)]
pub enum Seat {
    Table,
    Kflux(Arc<kflux::Seat>),
}

impl Seat {
    /// Takes the VM's descriptor and maps what it shows over the table.
    pub fn take(fd: OwnedFd, table: &Table, slot: u32) -> Result<Seat, KfluxError> {
        let seat = kflux::Seat::new(fd)?;
        seat.map_over(table, slot)?;
        Ok(Seat::Kflux(Arc::new(seat)))
    }

    /// kFlux's, if it moves the cores.
    pub fn kflux(&self) -> Option<&Arc<kflux::Seat>> {
        match self {
            Seat::Table => None,
            Seat::Kflux(seat) => Some(seat),
        }
    }

    /// Whether the words and stamps of the vCPU blocks are this process's to write, all but the held word, which
    /// always is.
    pub fn writes_words(&self) -> bool {
        matches!(self, Seat::Table)
    }

    /// The calling thread is there, as vCPU `id`. `kvm_fd`: what kFlux is to run it by.
    pub(crate) fn ready(
        &self,
        vm: &Vm,
        id: u32,
        unmanaged: bool,
        kvm_fd: Option<RawFd>,
    ) -> Result<(), Failure> {
        let me: Handle = *vm
            .handles()
            .get(id as usize)
            .ok_or_else(|| Failure::new("the table has no room for it"))?;
        let Seat::Kflux(seat) = self else {
            let tid = vm.tid(id as usize).unwrap_or_default();
            handoff::vcpu::ready(&vm.table, me, tid, unmanaged);
            return Ok(());
        };
        let address =
            |word: Option<&std::sync::atomic::AtomicU32>| word.map_or(0, |w| ptr::from_ref(w) as u64);
        let from = Registration {
            unmanaged,
            critical: address(vm.page.guest(id).map(|guest| &guest.critical)),
            held_hint: address(vm.page.host(id).map(|host| &host.held)),
            kvm_fd,
        };
        seat.register(id, from).map_err(|e| Failure::new(e.to_string()))
    }

    /// Hands the core over. Over kFlux that is for `wait` to do, in the same call as it sleeps in.
    pub(crate) fn leave(&self, table: &Table, me: Handle, how: How) -> Left {
        match self {
            Seat::Table => handoff::leave(table, me, how),
            Seat::Kflux(_) => Left::Parked,
        }
    }

    /// Sleeps until there is a core, no arbiter, or no life for the vCPU. `how`: that of the last `leave`.
    pub(crate) fn wait(&self, table: &Table, me: Handle, how: How) -> Result<Woken, KfluxError> {
        match self {
            Seat::Table => Ok(handoff::wait_for_grant(table, me)),
            Seat::Kflux(seat) => seat.park(me.vcpu(), how),
        }
    }

    /// The vCPU of the calling thread leaves for good, and its core goes on.
    pub(crate) fn poison(&self, vm: &Vm, me: Handle) {
        match self {
            Seat::Table => handoff::poison(&vm.table, me),
            Seat::Kflux(seat) => {
                if let Err(e) = seat.unregister(me.vcpu()) {
                    // Its end, which comes now, does the same.
                    vm.log.warn(format_args!("vCPU {}: {e}", me.vcpu()));
                }
            }
        }
    }

    /// Ends those vCPUs that sleep; those that run are kicked by the caller.
    pub(crate) fn end(&self, vm: &Vm) {
        match self {
            Seat::Table => {
                for handle in vm.handles() {
                    let line = vm.table.vcpu_line(*handle);
                    let parked = abi::vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE);
                    let dead = abi::vcpu_word(abi::VCPU_DEAD, abi::CORE_NONE);
                    if line.word.compare_exchange(parked, dead, SeqCst, SeqCst).is_ok() {
                        linux::futex_wake(&line.word, i32::MAX);
                    }
                }
            }
            Seat::Kflux(seat) => {
                if let Err(e) = seat.end() {
                    vm.log.warn(e);
                }
            }
        }
    }
}

/// What a vCPU's thread asks of kFlux after it was confined.
pub const VCPU_CALLS: &[Allowed] = &[
    Allowed::ioctl(|| abi::KF_PARK.into()),
    Allowed::ioctl(|| abi::KF_RUN.into()),
    Allowed::ioctl(|| abi::KF_UNREGISTER.into()),
    Allowed::ioctl(|| abi::KF_END.into()),
];

/// What the control thread asks of kFlux.
pub const CONTROL_CALLS: &[Allowed] = &[
    Allowed::ioctl(|| abi::KF_MANAGE.into()),
    Allowed::ioctl(|| abi::KF_UNMANAGE.into()),
    Allowed::ioctl(|| abi::KF_END.into()),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_that_is_no_vm_leaves_the_table_alone() {
        let (fd, table) = Table::create(1_000_000, 8).expect("table");
        let error = Seat::take(fd, &table, 0).expect_err("a memfd");
        assert!(error.to_string().contains("is not kFlux"), "{error}");
        let me = Handle::new(5, 1).expect("handle");
        table.vcpu_line(me).word.store(abi::VCPU_NEW, SeqCst);
        assert!(Seat::Table.kflux().is_none() && Seat::Table.writes_words());
    }
}
