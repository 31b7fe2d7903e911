//! The place in the control page where the context of an interrupted vCPU is put for a thief to take.

use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use flux_abi as abi;

use crate::memory::copy_in;

/// How many bytes of extended state fit behind the registers.
pub const XSAVE_ROOM: usize = abi::CONTEXT_BYTES - abi::CONTEXT_XSAVE_OFFSET;

/// One vCPU's context slot. Written by whoever won the held word (HELD to EXPORTING), read by the guest
/// after the host has said TAKEN.
pub struct ContextSlot<'a> {
    base: NonNull<u8>,
    page: PhantomData<&'a ()>,
}

impl ContextSlot<'_> {
    /// # Safety
    /// `base` must be the start of a mapped, shared context slot of CONTEXT_BYTES that outlives the value.
    pub unsafe fn new<'a>(base: NonNull<u8>) -> ContextSlot<'a> {
        ContextSlot {
            base,
            page: PhantomData,
        }
    }

    pub fn put_registers(&self, context: &abi::Context) {
        // SAFETY: Context is 32 plain u64 without padding; the slot starts with room for it.
        unsafe {
            let bytes =
                std::slice::from_raw_parts(ptr::from_ref(context).cast::<u8>(), size_of::<abi::Context>());
            copy_in(self.base.as_ptr(), bytes);
        }
    }

    /// Puts the XSAVE area there, in standard format, cut to the room that there is.
    pub fn put_xsave(&self, area: &[u8]) {
        let len = area.len().min(XSAVE_ROOM);
        // SAFETY: the area starts after the registers and len ends it inside the slot.
        unsafe { copy_in(self.base.as_ptr().add(abi::CONTEXT_XSAVE_OFFSET), &area[..len]) };
    }
}

/// A context of zeroes, to be filled in.
pub fn empty_context() -> abi::Context {
    // SAFETY: Context consists of integers, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_and_state_go_to_their_places() {
        let mut slot = vec![0u64; abi::CONTEXT_BYTES / 8];
        let base = NonNull::new(slot.as_mut_ptr().cast()).expect("not null");
        // SAFETY: the vector is a whole slot and outlives the value.
        let place = unsafe { ContextSlot::new(base) };
        let mut context = empty_context();
        context.rbx = 0x1122;
        place.put_registers(&context);
        place.put_xsave(&[7; XSAVE_ROOM + 100]);
        assert_eq!(slot[1], 0x1122);
        assert_eq!(slot[abi::CONTEXT_XSAVE_OFFSET / 8 - 1], 0);
        assert_eq!(slot[abi::CONTEXT_XSAVE_OFFSET / 8], 0x0707070707070707);
        assert_eq!(slot[abi::CONTEXT_BYTES / 8 - 1], 0x0707070707070707);
    }
}
