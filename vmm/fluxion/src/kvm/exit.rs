//! Why a guest came out of `KVM_RUN`, read from the vCPU's shared run area: the same whoever made the call.

use kvm_bindings::{
    kvm_run, KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO,
    KVM_EXIT_IO_OUT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN,
};

/// What the run area says.
#[derive(Debug, PartialEq, Eq)]
pub enum Reason {
    /// `out` of 4 bytes.
    Door { port: u16, arg: u32 },
    /// A signal: the guest is whole and may go on.
    Interrupted,
    /// Nothing that a guest of ours does; one sentence.
    Unexpected(String),
}

/// Reads the run area after a `KVM_RUN` that went through.
///
/// # Safety
/// `run` must be the run area of a vCPU, mapped whole, as KVM left it.
pub unsafe fn reason(run: *const kvm_run) -> Reason {
    // SAFETY: by the caller's promise; plain integers throughout.
    let (reason, details) = unsafe { ((*run).exit_reason, &raw const (*run).__bindgen_anon_1) };
    let text = match reason {
        KVM_EXIT_IO => {
            // SAFETY: the exit reason says that this member is the valid one.
            let io = unsafe { (*details).io };
            let bytes = io.count.saturating_mul(io.size.into());
            let port = io.port;
            if u32::from(io.direction) != KVM_EXIT_IO_OUT {
                format!("an input from port {port:#x}; there is nothing to read")
            } else if bytes == 4 {
                // SAFETY: KVM says where in the area it has put so many bytes.
                let arg = unsafe {
                    run.cast::<u8>()
                        .add(io.data_offset as usize)
                        .cast::<u32>()
                        .read_unaligned()
                };
                return Reason::Door { port, arg };
            } else {
                format!("an output of {bytes} bytes to port {port:#x}; doors take 4")
            }
        }
        KVM_EXIT_INTR => return Reason::Interrupted,
        KVM_EXIT_MMIO => {
            // SAFETY: as above.
            let mmio = unsafe { (*details).mmio };
            let gpa = mmio.phys_addr;
            if mmio.is_write != 0 {
                format!("a write to guest-physical {gpa:#x}, where nothing is")
            } else {
                format!("a read of guest-physical {gpa:#x}, where nothing is")
            }
        }
        KVM_EXIT_SHUTDOWN => "a triple fault: an exception without a usable handler for it".to_owned(),
        KVM_EXIT_HLT => "a halt; FluxOS leaves by the yield door instead".to_owned(),
        KVM_EXIT_FAIL_ENTRY => {
            // SAFETY: as above.
            let entry = unsafe { (*details).fail_entry };
            let (reason, cpu) = (entry.hardware_entry_failure_reason, entry.cpu);
            format!("the processor refused to enter the guest, reason {reason:#x} on cpu {cpu}")
        }
        KVM_EXIT_INTERNAL_ERROR => {
            // SAFETY: as above.
            let suberror = unsafe { (*details).internal.suberror };
            let text = match suberror {
                1 => "an instruction could not be emulated",
                2 => "two faults met while a third was delivered",
                3 => "an exit while an event was delivered",
                4 => "the processor left the guest for an unexpected reason",
                _ => "no explanation",
            };
            format!("KVM failed inside, suberror {suberror}: {text}")
        }
        other => format!("an exit that nobody expects, KVM's reason {other}"),
    };
    Reason::Unexpected(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::{kvm_run__bindgen_ty_1__bindgen_ty_4, KVM_EXIT_IO_IN};

    /// A run area with room for data behind it, as KVM has it.
    #[repr(C)]
    struct Area {
        run: kvm_run,
        data: u32,
    }

    fn area(exit_reason: u32) -> Area {
        // SAFETY: plain integers, for which all zeroes is a value.
        let mut run: kvm_run = unsafe { std::mem::zeroed() };
        run.exit_reason = exit_reason;
        Area {
            run,
            data: 0x1234_5678,
        }
    }

    fn of(area: &Area) -> Reason {
        // SAFETY: the whole of what the tests point to.
        unsafe { reason(std::ptr::from_ref(area).cast()) }
    }

    fn io(direction: u32, size: u8, count: u32) -> Area {
        let mut area = area(KVM_EXIT_IO);
        area.run.__bindgen_anon_1.io = kvm_run__bindgen_ty_1__bindgen_ty_4 {
            direction: direction as u8,
            size,
            port: 0xe1,
            count,
            data_offset: std::mem::offset_of!(Area, data) as u64,
        };
        area
    }

    #[test]
    fn doors_are_outputs_of_four_bytes() {
        let door = Reason::Door {
            port: 0xe1,
            arg: 0x1234_5678,
        };
        assert_eq!(of(&io(KVM_EXIT_IO_OUT, 4, 1)), door);
        for (area, text) in [
            (io(KVM_EXIT_IO_OUT, 1, 1), "an output of 1 bytes to port 0xe1"),
            (io(KVM_EXIT_IO_OUT, 4, u32::MAX), "doors take 4"),
            (io(KVM_EXIT_IO_IN, 4, 1), "an input from port 0xe1"),
        ] {
            assert!(matches!(of(&area), Reason::Unexpected(what) if what.contains(text)));
        }
    }

    #[test]
    fn other_reasons_are_told_in_words() {
        assert_eq!(of(&area(KVM_EXIT_INTR)), Reason::Interrupted);
        let mut mmio = area(KVM_EXIT_MMIO);
        mmio.run.__bindgen_anon_1.mmio.phys_addr = 0xf000;
        mmio.run.__bindgen_anon_1.mmio.is_write = 1;
        let mut internal = area(KVM_EXIT_INTERNAL_ERROR);
        internal.run.__bindgen_anon_1.internal.suberror = 1;
        for (area, text) in [
            (mmio, "a write to guest-physical 0xf000"),
            (internal, "suberror 1: an instruction"),
            (area(KVM_EXIT_SHUTDOWN), "triple fault"),
            (area(KVM_EXIT_HLT), "a halt"),
            (area(KVM_EXIT_FAIL_ENTRY), "refused to enter"),
            (area(77), "KVM's reason 77"),
        ] {
            assert!(matches!(of(&area), Reason::Unexpected(what) if what.contains(text)));
        }
    }
}
