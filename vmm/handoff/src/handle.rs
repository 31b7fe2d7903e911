//! A vCPU's name in 16 bits, checked once so that the rest need not.

use flux_abi as abi;

/// A valid vCPU handle: slot below `MAX_VMS`, vCPU below `MAX_VCPUS`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Handle(u16);

impl Handle {
    /// `None` if the slot or the vCPU is out of range.
    pub const fn new(slot: u32, vcpu: u32) -> Option<Handle> {
        if (slot as usize) < abi::MAX_VMS && (vcpu as usize) < abi::MAX_VCPUS {
            Some(Handle(
                (slot as usize * abi::MAX_VCPUS + vcpu as usize + 1) as u16,
            ))
        } else {
            None
        }
    }

    /// Reads a raw handle, as it stands in a core word or in a command.
    pub const fn from_raw(raw: u32) -> Option<Handle> {
        if raw >= 1 && raw as usize <= abi::MAX_VMS * abi::MAX_VCPUS {
            Some(Handle(raw as u16))
        } else {
            None
        }
    }

    pub const fn raw(self) -> u16 {
        self.0
    }

    pub const fn slot(self) -> u32 {
        (self.0 as u32 - 1) / abi::MAX_VCPUS as u32
    }

    pub const fn vcpu(self) -> u32 {
        (self.0 as u32 - 1) % abi::MAX_VCPUS as u32
    }
}

#[cfg(all(test, not(feature = "loom")))]
mod tests {
    use super::*;

    #[test]
    fn every_handle_names_its_slot_and_vcpu() {
        for slot in [0, 1, 63, 64, abi::MAX_VMS as u32 - 1] {
            for vcpu in [0, abi::MAX_VCPUS as u32 - 1] {
                let handle = Handle::new(slot, vcpu).unwrap();
                assert_eq!((handle.slot(), handle.vcpu()), (slot, vcpu));
                assert_eq!(Handle::from_raw(handle.raw() as u32), Some(handle));
            }
        }
    }

    #[test]
    fn nobody_idle_and_the_far_end_are_no_handles() {
        assert_eq!(Handle::from_raw(abi::HANDLE_NONE), None);
        assert_eq!(Handle::from_raw(abi::HANDLE_IDLE), None);
        assert_eq!(Handle::from_raw((abi::MAX_VMS * abi::MAX_VCPUS) as u32 + 1), None);
        assert_eq!(Handle::new(abi::MAX_VMS as u32, 0), None);
        assert_eq!(Handle::new(0, abi::MAX_VCPUS as u32), None);
    }
}
