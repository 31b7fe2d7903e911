//! The registers that a vCPU starts with: long mode, ring 3, everything set up by the host, so that the
//! guest's first instruction is already its own.

use kvm_bindings::{kvm_msr_entry, kvm_regs, kvm_segment, kvm_sregs, kvm_xcr, kvm_xcrs, CpuId, Msrs};
use kvm_ioctls::VcpuFd;

use flux_abi as abi;

use super::KvmError;
use crate::layout::{self, Layout};
use crate::tables::{self, PageTables};

const CR0: u64 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
const CR4: u64 = 1 << 5 | 1 << 9 | 1 << 10 | 1 << 16 | 1 << 18; // PAE, OSFXSR, OSXMMEXCPT, FSGSBASE, OSXSAVE
const EFER: u64 = 1 | 1 << 8 | 1 << 10 | 1 << 11; // SCE, LME, LMA, NXE
const MSR_STAR: u32 = 0xc000_0081;
const RFLAGS: u64 = 2 | 3 << 12; // IOPL 3, for hosts that honour it; the others go by the I/O bitmap
/// x87, SSE, AVX and AVX-512: what fits into 4 KiB and needs no permission of its own.
const XCR0_USED: u64 = 0xe7;

/// The extended state that guests get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtendedState {
    pub xcr0: u64,
    /// Bytes of the XSAVE area in standard format.
    pub bytes: u32,
}

impl ExtendedState {
    /// Reads from the CPUID that KVM supports which state there is and where it ends.
    pub fn of(cpuid: &CpuId) -> Result<ExtendedState, KvmError> {
        let leaf = |sub: u32| {
            cpuid
                .as_slice()
                .iter()
                .find(|e| e.function == 0xd && e.index == sub)
        };
        let Some(first) = leaf(0) else {
            return Err(KvmError::Missing("XSAVE"));
        };
        let xcr0 = (u64::from(first.eax) | u64::from(first.edx) << 32) & XCR0_USED;
        if xcr0 & 3 != 3 {
            return Err(KvmError::Missing("XSAVE of SSE state"));
        }
        let parts = (2..63).filter(|part| xcr0 >> part & 1 == 1).filter_map(leaf);
        // Legacy area and header are 576 bytes; then each part says its size (eax) and place (ebx).
        let bytes = parts.map(|e| e.eax.saturating_add(e.ebx)).fold(576, u32::max);
        if bytes > 4096 {
            return Err(KvmError::Missing("extended state of the expected size"));
        }
        Ok(ExtendedState { xcr0, bytes })
    }
}

/// What must be there for ring-3 guests. FSGSBASE is not asked for here: some hosts have it without saying
/// so, and setting CR4 tells.
pub fn check_cpuid(cpuid: &CpuId) -> Result<(), KvmError> {
    let extended = cpuid.as_slice().iter().find(|e| e.function == 0x8000_0001);
    if extended.is_none_or(|e| e.edx & 1 << 20 == 0) {
        return Err(KvmError::Missing("no-execute pages"));
    }
    Ok(())
}

/// The general registers of a first entry or a re-entry at `rip`.
pub fn general(layout: &Layout, vcpu: u32, rip: u64) -> kvm_regs {
    kvm_regs {
        rip,
        rdi: vcpu.into(),
        rsi: abi::CONTROL_GPA.into(),
        rsp: layout.boot_stack_top(vcpu),
        rflags: RFLAGS,
        ..Default::default()
    }
}

fn system(before: kvm_sregs, vcpu: u32) -> kvm_sregs {
    let code = kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector: tables::USER_CODE,
        type_: 11,
        present: 1,
        dpl: 3,
        s: 1,
        l: 1,
        g: 1,
        ..Default::default()
    };
    let data = kvm_segment {
        selector: tables::USER_DATA,
        type_: 3,
        l: 0,
        db: 1,
        ..code
    };
    let task = kvm_segment {
        base: Layout::tss(vcpu),
        limit: tables::TSS_BYTES as u32 - 1,
        selector: tables::TASK,
        type_: 11,
        present: 1,
        ..Default::default()
    };
    let mut sregs = kvm_sregs {
        cs: code,
        ds: data,
        es: data,
        fs: data,
        gs: data,
        ss: data,
        tr: task,
        ..before
    };
    sregs.gdt.base = Layout::gdt(vcpu);
    sregs.gdt.limit = tables::GDT_BYTES as u16 - 1;
    sregs.idt.base = layout::IDT_BASE;
    sregs.idt.limit = 0xfff;
    sregs.cr0 = CR0;
    sregs.cr3 = PageTables::root();
    sregs.cr4 = CR4;
    sregs.efer = EFER;
    sregs
}

/// Sets everything but the general registers. CPUID must have been set: it decides what is allowed here.
pub fn set_up(fd: &VcpuFd, vcpu: u32, state: ExtendedState) -> Result<(), KvmError> {
    let sregs = fd
        .get_sregs()
        .map_err(KvmError::refused("read the system registers"))?;
    fd.set_sregs(&system(sregs, vcpu)).map_err(|e| match e.errno() {
        // The rest of these registers is what every x86-64 has.
        libc::EINVAL => KvmError::Missing("FSGSBASE"),
        _ => KvmError::refused("set the system registers")(e),
    })?;
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..Default::default()
    };
    xcrs.xcrs[0] = kvm_xcr {
        xcr: 0,
        value: state.xcr0,
        ..Default::default()
    };
    fd.set_xcrs(&xcrs)
        .map_err(KvmError::refused("enable the extended state"))?;
    let star = (0x23 << 48) | u64::from(tables::KERNEL_CODE) << 32;
    let star = kvm_msr_entry {
        index: MSR_STAR,
        data: star,
        ..Default::default()
    };
    let msrs = Msrs::from_entries(&[star]).map_err(|_| KvmError::Missing("STAR"))?;
    match fd
        .set_msrs(&msrs)
        .map_err(KvmError::refused("set the system call registers"))?
    {
        1 => Ok(()),
        _ => Err(KvmError::Missing("STAR")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_cpuid_entry2;

    fn entry(function: u32, index: u32, eax: u32, ebx: u32, edx: u32) -> kvm_cpuid_entry2 {
        kvm_cpuid_entry2 {
            function,
            index,
            eax,
            ebx,
            edx,
            ..Default::default()
        }
    }

    fn state(entries: &[kvm_cpuid_entry2]) -> Result<ExtendedState, KvmError> {
        ExtendedState::of(&CpuId::from_entries(entries).expect("few entries"))
    }

    #[test]
    fn extended_state_is_measured_from_cpuid() {
        let avx = [entry(0xd, 0, 7, 0, 0), entry(0xd, 2, 256, 576, 0)];
        assert_eq!(state(&avx).expect("AVX"), ExtendedState { xcr0: 7, bytes: 832 });
        // AMX (bit 18) is left out: its state is larger than 4 KiB.
        let amx = [
            entry(0xd, 0, 0x6_0007, 0, 0),
            entry(0xd, 2, 256, 576, 0),
            entry(0xd, 18, 8192, 2816, 0),
        ];
        assert_eq!(state(&amx).expect("AMX"), ExtendedState { xcr0: 7, bytes: 832 });
        assert_eq!(state(&[entry(0xd, 0, 3, 0, 0)]).expect("SSE").bytes, 576);
        assert!(state(&[]).is_err());
        assert!(state(&[entry(0xd, 0, 1, 0, 0)]).is_err());
        assert!(state(&[entry(0xd, 0, 7, 0, 0), entry(0xd, 2, u32::MAX, 576, 0)]).is_err());
    }

    #[test]
    fn missing_features_are_named() {
        let cpuid = CpuId::from_entries(&[entry(0x8000_0001, 0, 0, 0, 0)]).expect("one entry");
        assert!(check_cpuid(&cpuid)
            .expect_err("nothing there")
            .to_string()
            .contains("no-execute"));
        let cpuid = CpuId::from_entries(&[entry(0x8000_0001, 0, 0, 0, 1 << 20)]);
        assert!(check_cpuid(&cpuid.expect("one entry")).is_ok());
    }
}
