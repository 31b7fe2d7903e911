//! The control page, as the guest sees it.

use flux_abi::{Completion, Context, GuestVcpu, Header, HostVcpu, Request, Ring, Summary, TraceRecord};

/// Where the page is. What it points at lives as long as the VM, and consists of atomics but for
/// the header, which is written once before the guest starts, and the context slots.
#[derive(Clone, Copy, Debug)]
pub struct Page(*mut u8);

// SAFETY: the page is shared memory; every access through this type is to atomics, or to words
// whose owner is settled by the protocol in abi/control_page.h.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

/// Why a page is not one to start with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPage {
    Magic(u32),
    Version { major: u32, minor: u32 },
    Vcpus(u32),
}

impl Page {
    /// # Safety
    /// A control page of `CONTROL_BYTES` is mapped at `at`, readable and writable, for good.
    pub const unsafe fn new(at: *mut u8) -> Page {
        Page(at)
    }

    pub fn address(self) -> u64 {
        self.0 as u64
    }

    fn at<T>(self, offset: usize) -> &'static T {
        debug_assert!(offset + size_of::<T>() <= flux_abi::CONTROL_BYTES);
        // SAFETY: all offsets used below are inside the page and aligned for their struct; flux-abi
        // asserts the former when it is compiled.
        unsafe { &*self.0.add(offset).cast() }
    }

    /// Looks whether this is a page that this guest understands.
    pub fn check(self) -> Result<(), BadPage> {
        let header = self.header();
        if header.magic != flux_abi::CONTROL_MAGIC {
            return Err(BadPage::Magic(header.magic));
        }
        // A newer minor only adds, so the VMM's may be newer than the image's.
        let minors = flux_abi::ABI_MINOR..=u32::MAX;
        if header.abi_major != flux_abi::ABI_MAJOR || !minors.contains(&header.abi_minor) {
            return Err(BadPage::Version {
                major: header.abi_major,
                minor: header.abi_minor,
            });
        }
        if header.vcpus == 0 || header.vcpus as usize > flux_abi::MAX_VCPUS {
            return Err(BadPage::Vcpus(header.vcpus));
        }
        Ok(())
    }

    pub fn header(self) -> &'static Header {
        self.at(flux_abi::HEADER_OFFSET)
    }

    pub fn summary(self) -> &'static Summary {
        self.at(flux_abi::summary_offset(self.header().slot))
    }

    /// The half block that the guest writes.
    pub fn guest(self, vcpu: u32) -> &'static GuestVcpu {
        self.at(Self::block(vcpu))
    }

    /// The half block that the host writes.
    pub fn host(self, vcpu: u32) -> &'static HostVcpu {
        self.at(Self::block(vcpu) + flux_abi::VCPU_HOST_OFFSET)
    }

    fn block(vcpu: u32) -> usize {
        flux_abi::VCPUS_OFFSET + Self::index(vcpu) * flux_abi::VCPU_BYTES
    }

    fn index(vcpu: u32) -> usize {
        debug_assert!((vcpu as usize) < flux_abi::MAX_VCPUS);
        vcpu as usize % flux_abi::MAX_VCPUS
    }

    /// This vCPU's log line, `LOG_BYTES` long.
    pub fn log_line(self, vcpu: u32) -> *mut u8 {
        self.0
            .wrapping_add(flux_abi::LOG_OFFSET + Self::index(vcpu) * flux_abi::LOG_BYTES)
    }

    /// The registers in a vCPU's context slot. Written by the host while a thief waits for it.
    pub fn context(self, vcpu: u32) -> *const Context {
        self.0
            .wrapping_add(flux_abi::CONTEXT_OFFSET + Self::index(vcpu) * flux_abi::CONTEXT_BYTES)
            .cast()
    }

    /// The XSAVE area in a vCPU's context slot.
    pub fn xsave(self, vcpu: u32) -> *const u8 {
        self.context(vcpu)
            .cast::<u8>()
            .wrapping_add(flux_abi::CONTEXT_XSAVE_OFFSET)
    }

    /// A vCPU's trace record with this number.
    pub fn trace_record(self, vcpu: u32, seq: u32) -> &'static TraceRecord {
        let ring = flux_abi::TRACE_OFFSET + Self::index(vcpu) * flux_abi::TRACE_BYTES;
        self.at(ring + crate::trace::place(seq) * size_of::<TraceRecord>())
    }

    pub fn ring(self) -> &'static Ring {
        self.at(flux_abi::RING_OFFSET)
    }

    pub fn request(self, seq: u32) -> &'static Request {
        let entry = seq as usize % flux_abi::RING_ENTRIES;
        self.at(flux_abi::RING_ENTRIES_OFFSET + entry * size_of::<Request>())
    }

    pub fn completion(self, seq: u32) -> &'static Completion {
        let entry = seq as usize % flux_abi::RING_ENTRIES;
        self.at(flux_abi::COMPLETIONS_OFFSET + entry * size_of::<Completion>())
    }

    /// The command line, up to its end or its first byte that is not UTF-8.
    pub fn cmdline(self) -> &'static str {
        let bytes = &self.header().cmdline;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        // The generated struct has plain bytes; a char array in C may be signed, but not here.
        let bytes: &[u8] = &bytes[..end];
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""),
        }
    }
}
