//! The control pages of the VMs as the arbiter maps them: where a bridge tells a guest that
//! it is asked to park, and reads whether it is in FluxOS's own code.

use crate::Handle;
use flux_abi as abi;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{Acquire, Release};

/// The hot part of each VM's control page in this process, or null.
pub struct Pages {
    hot: Box<[AtomicPtr<u8>]>,
}

impl Default for Pages {
    fn default() -> Pages {
        Pages {
            hot: (0..abi::MAX_VMS).map(|_| AtomicPtr::default()).collect(),
        }
    }
}

impl Pages {
    /// `hot`: null, or HOT_BYTES of shared mapping that stay until this is called again. `false`: no such slot.
    pub fn set(&self, slot: u32, hot: *mut u8) -> bool {
        match self.hot.get(slot as usize) {
            Some(page) => {
                page.store(hot, Release);
                true
            }
            None => false,
        }
    }

    /// Both halves of a vCPU's block; `None` without a page.
    #[inline]
    fn block(&self, vcpu: Handle) -> Option<(&abi::GuestVcpu, &abi::HostVcpu)> {
        // Pairs with the Release in set.
        let page = self.hot[vcpu.slot() as usize].load(Acquire);
        if page.is_null() {
            return None;
        }
        let block = abi::VCPUS_OFFSET + vcpu.vcpu() as usize * abi::VCPU_BYTES;
        // SAFETY: set's caller promised HOT_BYTES of shared mapping there until it says
        // otherwise; the block lies inside; the structs are atomics only.
        unsafe {
            Some((
                &*page.add(block).cast::<abi::GuestVcpu>(),
                &*page.add(block + abi::VCPU_HOST_OFFSET).cast::<abi::HostVcpu>(),
            ))
        }
    }

    /// Writes a request where the guest polls for it.
    #[inline]
    pub fn ask(&self, vcpu: Handle, park_req: u32) {
        if let Some((_, host)) = self.block(vcpu) {
            // Pairs with the guest's load at its scheduling points and whenever it clears `critical`.
            host.park_gen.store(park_req, Release);
        }
    }

    /// Writes where the guest looks for it that the uThread of its switch number `n` has had its time slice.
    #[inline]
    pub fn preempt(&self, vcpu: Handle, n: u32) {
        if let Some((_, host)) = self.block(vcpu) {
            // Pairs with the guest's load, as above.
            host.preempt.store(n, Release);
        }
    }

    /// Whether the guest says that it is in FluxOS's own code; without a page, no.
    #[inline]
    pub fn in_libos(&self, vcpu: Handle) -> bool {
        // Pairs with the guest's store before it touches anything of FluxOS's.
        self.block(vcpu)
            .is_some_and(|(guest, _)| guest.critical.load(Acquire) != 0)
    }
}
