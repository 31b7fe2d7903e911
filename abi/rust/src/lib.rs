// SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note OR Apache-2.0
//! The shared contract in Rust.
//!
//! Layouts and messages are generated from the headers in `abi/`, where they are explained; only
//! the helpers below are written by hand. They are the few places where a word is packed or
//! unpacked, or a stamp compared, and `arbiter/abi/words.ts` has the same ones.
//!
//! Structs whose words several parties use at once consist of atomics, so they are made by
//! mapping memory and never by value.

#![no_std]

#[cfg(feature = "protocol")]
extern crate alloc;

mod generated;
#[cfg(feature = "protocol")]
pub mod protocol;

pub use generated::*;

/// The headers place things by hand; a struct that grows into its neighbour must not compile.
const _: () = {
    use core::mem::size_of;

    assert!(size_of::<Summary>() * SUMMARY_LINES <= HEADER_OFFSET);
    assert!(HEADER_OFFSET + size_of::<Header>() <= VCPUS_OFFSET);
    assert!(size_of::<GuestVcpu>() <= VCPU_HOST_OFFSET);
    assert!(VCPU_HOST_OFFSET + size_of::<HostVcpu>() <= VCPU_BYTES);
    assert!(VCPUS_OFFSET + MAX_VCPUS * VCPU_BYTES <= HOT_BYTES);
    assert!(LOG_OFFSET + MAX_VCPUS * LOG_BYTES <= CONTEXT_OFFSET);
    assert!(CONTEXT_OFFSET + MAX_VCPUS * CONTEXT_BYTES <= RING_OFFSET);
    assert!(RING_OFFSET + size_of::<Ring>() <= RING_ENTRIES_OFFSET);
    assert!(RING_ENTRIES_OFFSET + RING_ENTRIES * size_of::<Request>() <= COMPLETIONS_OFFSET);
    assert!(COMPLETIONS_OFFSET + RING_ENTRIES * size_of::<Completion>() <= TRACE_OFFSET);
    assert!(TRACE_OFFSET + MAX_VCPUS * TRACE_BYTES <= CONTROL_BYTES);
    assert!(
        TRACE_RECORDS as usize * size_of::<TraceRecord>() == TRACE_BYTES && TRACE_RECORDS.is_power_of_two()
    );
    assert!(BACKTRACE_FRAMES as usize * 8 <= LOG_BYTES && BACKTRACE_OUTER < BACKTRACE_FRAMES);

    assert!(size_of::<Table>() <= CORES_OFFSET);
    assert!(CORES_OFFSET + MAX_CORES * size_of::<Core>() <= VMS_OFFSET);
    assert!(size_of::<Vm>() == VM_BYTES && size_of::<Vcpu>() == TVCPU_BYTES);
    assert!(VMS_OFFSET + MAX_VMS * VM_BYTES <= TVCPUS_OFFSET);
    // A VM's vCPUs are a page, so that kFlux can map one VM's alone.
    assert!(TVCPUS_OFFSET.is_multiple_of(4096) && TVCPUS_BYTES == 4096);
    assert!(TVCPUS_BYTES == MAX_VCPUS * TVCPU_BYTES);
    assert!(TVCPUS_OFFSET + MAX_VMS * TVCPUS_BYTES == TABLE_BYTES);

    assert!(MAX_VMS * MAX_VCPUS < HANDLE_IDLE as usize && MAX_CORES <= CORE_NONE as usize);
};

/// The handle of a vCPU: `slot * MAX_VCPUS + vcpu + 1`.
///
/// Out of range gives `HANDLE_NONE`: the numbers may come from a guest, and any other answer would
/// name a vCPU of somebody else.
pub const fn handle(slot: u32, vcpu: u32) -> u16 {
    if slot as usize >= MAX_VMS || vcpu as usize >= MAX_VCPUS {
        return HANDLE_NONE as u16;
    }
    (slot * MAX_VCPUS as u32 + vcpu + 1) as u16
}

/// Slot and vCPU of a handle; `None` if it names nobody, idle included.
pub const fn handle_parts(h: u16) -> Option<(u32, u32)> {
    let h = h as u32;
    if h == HANDLE_NONE || h > (MAX_VMS * MAX_VCPUS) as u32 {
        return None;
    }
    let index = h - 1;
    Some((index / MAX_VCPUS as u32, index % MAX_VCPUS as u32))
}

/// The 32-bit stamp of a TSC value. Takes the shift modulo 64, so that a bad one read from shared
/// memory cannot panic.
pub const fn stamp(tsc: u64, shift: u32) -> u32 {
    tsc.wrapping_shr(shift) as u32
}

/// Whether stamp `a` is later than `b`, right as long as they are less than half the range apart.
pub const fn stamp_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// Where in the control page the summary line of the VM in this slot lies.
///
/// Slots get different lines because equal page offsets would fall into the same cache sets, and
/// the arbiter looks at the summaries of all VMs in turn.
pub const fn summary_offset(slot: u32) -> usize {
    LINE * (slot as usize % SUMMARY_LINES)
}

/// `Vcpu::word`: `state : 8 | core : 16 << 8`.
pub const fn vcpu_word(state: u32, core: u32) -> u32 {
    (state & 0xff) | ((core & 0xffff) << 8)
}

/// The state (`VCPU_*`) in a `Vcpu::word`.
pub const fn vcpu_state(word: u32) -> u32 {
    word & 0xff
}

/// The core in a `Vcpu::word`.
pub const fn vcpu_core(word: u32) -> u32 {
    (word >> 8) & 0xffff
}

/// `Core::word`: `owner : 16 | successor : 16 << 16 | generation : 32 << 32`.
pub const fn core_word(owner: u16, successor: u16, generation: u32) -> u64 {
    owner as u64 | (successor as u64) << 16 | (generation as u64) << 32
}

/// The handle of the owner in a `Core::word`.
pub const fn core_owner(word: u64) -> u16 {
    word as u16
}

/// The handle of the successor in a `Core::word`; not 0 means that the owner is asked to park.
pub const fn core_successor(word: u64) -> u16 {
    (word >> 16) as u16
}

/// The generation in a `Core::word`.
pub const fn core_generation(word: u64) -> u32 {
    (word >> 32) as u32
}

/// Owner, successor and generation of a `Core::word`.
pub const fn core_parts(word: u64) -> (u16, u16, u32) {
    (core_owner(word), core_successor(word), core_generation(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_go_there_and_back() {
        for slot in 0..MAX_VMS as u32 {
            for vcpu in 0..MAX_VCPUS as u32 {
                assert_eq!(handle_parts(handle(slot, vcpu)), Some((slot, vcpu)));
            }
        }
        assert_eq!(handle(0, 0), 1);
        assert_eq!(handle(1, 2), 19);
        assert_eq!(handle(1023, 15), 16384);
    }

    #[test]
    fn handles_out_of_range_are_nobody() {
        assert_eq!(handle_parts(HANDLE_NONE as u16), None);
        assert_eq!(handle_parts(HANDLE_IDLE as u16), None);
        assert_eq!(handle_parts(16385), None);
        assert_eq!(handle(MAX_VMS as u32, 0), 0);
        assert_eq!(handle(0, MAX_VCPUS as u32), 0);
        assert_eq!(handle(u32::MAX, u32::MAX), 0);
    }

    #[test]
    fn stamps_compare_across_the_wrap() {
        assert_eq!(stamp(0x1_2345_6789_abcd, 16), 0x2345_6789);
        assert_eq!(stamp(u64::MAX, 0), u32::MAX);
        assert_eq!(stamp(7, 64), 7);
        assert!(stamp_after(1, 0));
        assert!(!stamp_after(0, 0));
        assert!(!stamp_after(0, 1));
        assert!(stamp_after(3, u32::MAX - 3));
        assert!(!stamp_after(u32::MAX - 3, 3));
    }

    #[test]
    fn summaries_repeat_after_64_slots() {
        assert_eq!(summary_offset(0), 0);
        assert_eq!(summary_offset(63), 63 * 64);
        assert_eq!(summary_offset(64), 0);
        assert!(summary_offset(1023) + LINE <= HEADER_OFFSET);
    }

    #[test]
    fn vcpu_words_hold_state_and_core() {
        let word = vcpu_word(VCPU_RUNNING, CORE_NONE);
        assert_eq!(word, 0x00ff_ff03);
        assert_eq!(vcpu_state(word), VCPU_RUNNING);
        assert_eq!(vcpu_core(word), CORE_NONE);
        assert_eq!(vcpu_core(0xff00_0102), 1);
        assert_eq!(vcpu_word(VCPU_PARKED, 0), VCPU_PARKED);
    }

    #[test]
    fn core_words_hold_owner_successor_and_generation() {
        let word = core_word(0x1234, 0xffff, 0x89ab_cdef);
        assert_eq!(word, 0x89ab_cdef_ffff_1234);
        assert_eq!(core_parts(word), (0x1234, 0xffff, 0x89ab_cdef));
        assert_eq!(core_parts(core_word(0, 1, 0)), (0, 1, 0));
        assert_eq!(core_parts(0), (0, 0, 0));
    }
}
