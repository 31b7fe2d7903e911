//! Where a vCPU enters FluxOS: the first time, and again after its context was taken.
//!
//! Both are the same place, because both know the same: the vCPU's number and its control page.
//! Until the `critical` word is set the host may still hold the vCPU here. Then there is nothing
//! to save: the vCPU has no current uThread, a thief that gets such a context drops it, and the
//! vCPU enters once more.

/// Defines `$name`, the entry of a KVM guest: rdi = vCPU, rsi = control page, rsp = top of a
/// stack of its own. It calls `$main(vcpu, page) -> !`.
#[macro_export]
macro_rules! guest_entry {
    ($name:ident, $main:path) => {
        /// Entry and re-entry of every vCPU.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".text.boot")]
        pub unsafe extern "C" fn $name() -> ! {
            ::core::arch::naked_asm!(
                "mov eax, edi",
                "shl eax, {shift}",
                "lea rax, [rsi + rax + {vcpus}]",
                "mov dword ptr [rax + {critical}], 1", // from here on the host does not hold us
                "wrgsbase rax",
                "xor eax, eax",
                "wrfsbase rax", // FS base may still be that of the uThread that was taken
                "push 2", // direction flag and alignment check may be, too
                "popfq",
                "xor ebp, ebp",
                "and rsp, -16",
                "call {main}",
                "ud2",
                shift = const $crate::entry::VCPU_SHIFT,
                vcpus = const $crate::entry::VCPUS,
                critical = const $crate::entry::CRITICAL,
                main = sym $main,
            )
        }
    };
}

/// Defines `$name`, the entry in an ordinary process: as above, but GS base is set already and FS
/// base is the C library's.
#[macro_export]
macro_rules! hosted_entry {
    ($name:ident, $main:path) => {
        /// Entry and re-entry of every vCPU.
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name(_vcpu: u32, _page: *mut u8) -> ! {
            ::core::arch::naked_asm!(
                "mov dword ptr gs:[{critical}], 1", // from here on we are not held
                "push 2",
                "popfq",
                "xor ebp, ebp",
                "and rsp, -16",
                "call {main}",
                "ud2",
                critical = const $crate::entry::CRITICAL,
                main = sym $main,
            )
        }
    };
}

pub const VCPU_SHIFT: u32 = flux_abi::VCPU_BYTES.trailing_zeros();
pub const VCPUS: usize = flux_abi::VCPUS_OFFSET;
pub const CRITICAL: usize = crate::gs::CRITICAL;

const _: () = assert!(flux_abi::VCPU_BYTES.is_power_of_two());
