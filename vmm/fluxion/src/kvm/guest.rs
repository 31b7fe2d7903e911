//! Making a virtual machine: memory slots, tables, image, vCPUs. No interrupt controller: nothing in the
//! guest waits for an interrupt, and without one a VM is made an order of magnitude faster.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use kvm_bindings::{kvm_userspace_memory_region, CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VmFd};
use vmm_sys_util::eventfd::EventFd;

use flux_abi as abi;

use super::export::Siblings;
use super::registers::{check_cpuid, set_up, ExtendedState};
use super::run_area::RunArea;
use super::vcpu::KvmVcpu;
use super::{ioctl, KvmError};
use crate::control_page::ControlPage;
use crate::image::{self, Image};
use crate::layout::{Layout, IDT_BASE, TABLES_BASE, UTHREAD_STACK};
use crate::memory::GuestMemory;
use crate::tables::{gdt, tss, PageTables};

/// What all vCPUs of a VM hold on to.
#[derive(Debug)]
pub struct Guest {
    pub image: Image,
    pub layout: Layout,
    // Declared before the memory it uses, hence dropped first.
    _vm: VmFd,
    _memory: GuestMemory,
    _page: Arc<ControlPage>,
}

/// What a virtual machine is made from.
pub struct Boot<'a> {
    pub image: &'a [u8],
    pub memory_mib: u64,
    pub vcpus: u32,
    pub stacks: Option<u64>,
    pub page: Arc<ControlPage>,
    /// Rung by the guest's doorbell without an exit to this process.
    pub doorbell: &'a EventFd,
}

/// Makes the virtual machine with all its vCPUs and completes `header` with what only it knows.
/// The caller writes the header into the page.
pub fn boot(from: &Boot<'_>, header: &mut abi::Header) -> Result<Vec<KvmVcpu>, KvmError> {
    // First what can be wrong without any KVM.
    let memory = GuestMemory::new(from.memory_mib)?;
    let image = image::parse(from.image, memory.len(), (abi::ABI_MAJOR, abi::ABI_MINOR))?;
    let layout = Layout::new(&image, memory.len(), from.vcpus, from.stacks)?;
    fill(&memory, from.image, &image, &layout)?;

    let kvm = open()?;
    let cpuid = kvm
        .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
        .map_err(KvmError::refused("list its CPUID"))?;
    check_cpuid(&cpuid)?;
    let state = ExtendedState::of(&cpuid)?;
    let vm = kvm
        .create_vm()
        .map_err(KvmError::refused("create a virtual machine"))?;
    let control = (
        u64::from(abi::CONTROL_GPA),
        abi::CONTROL_BYTES as u64,
        from.page.host_address(),
    );
    for (slot, (gpa, size, host)) in [(0, memory.len(), memory.host_address()), control]
        .into_iter()
        .enumerate()
    {
        let region = kvm_userspace_memory_region {
            slot: slot as u32,
            flags: 0,
            guest_phys_addr: gpa,
            memory_size: size,
            userspace_addr: host,
        };
        // SAFETY: both mappings belong to values that `Guest` keeps for as long as the VM exists, and
        // everything this process does to them goes through volatile or atomic accesses.
        unsafe { vm.set_user_memory_region(region) }.map_err(KvmError::refused("add guest memory"))?;
    }
    vm.register_ioevent(
        from.doorbell,
        &IoEventAddress::Pio(abi::PORT_DOORBELL.into()),
        NoDatamatch,
    )
    .map_err(KvmError::refused("register the doorbell"))?;

    let mut fds = Vec::new();
    for id in 0..from.vcpus {
        let fd = vm
            .create_vcpu(id.into())
            .map_err(KvmError::refused("create a vCPU"))?;
        prepare(&fd, id, &cpuid, state)?;
        fds.push(fd);
    }
    let share = |fd| Ok((borrow(fd).try_clone_to_owned()?, RunArea::map(borrow(fd))?));
    let vcpus = fds.iter().map(share).collect::<io::Result<Vec<_>>>();
    let vcpus = vcpus.map_err(|e| KvmError::Refused("share its vCPUs", e))?;
    let siblings = Arc::new(Siblings { vcpus, state });

    header.xsave_bytes = state.bytes;
    header.xcr0_lo = state.xcr0 as u32;
    header.xcr0_hi = (state.xcr0 >> 32) as u32;
    header.memory_bytes = memory.len();
    header.heap_base = layout.heap;
    header.heap_bytes = layout.heap_bytes;
    header.stack_base = layout.stacks;
    header.stack_bytes = UTHREAD_STACK;
    header.stack_count = layout.stack_count as u32;
    header.idt_base = IDT_BASE;

    let page = Arc::clone(&from.page);
    let guest = Arc::new(Guest {
        image,
        layout,
        _vm: vm,
        _memory: memory,
        _page: page,
    });
    fds.into_iter()
        .enumerate()
        .map(|(id, fd)| KvmVcpu::new(fd, id as u32, Arc::clone(&guest), Arc::clone(&siblings)))
        .collect()
}

/// A vCPU's descriptor, borrowed: kvm-ioctls only gives the raw number.
pub fn borrow(fd: &kvm_ioctls::VcpuFd) -> BorrowedFd<'_> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor stays open for as long as the VcpuFd that it is borrowed from.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }
}

fn open() -> Result<Kvm, KvmError> {
    let kvm = Kvm::new().map_err(|e| {
        let hint = match e.errno() {
            libc::ENOENT => "load KVM (modprobe kvm_amd or kvm_intel), or run the guest hosted",
            libc::EACCES | libc::EPERM => "add yourself to the group kvm, or run the guest hosted",
            _ => "run the guest hosted",
        };
        KvmError::Open(io::Error::from_raw_os_error(e.errno()), hint)
    })?;
    if kvm.get_api_version() != KVM_API_VERSION as i32 {
        return Err(KvmError::Api(kvm.get_api_version()));
    }
    for (cap, name) in [
        (Cap::UserMemory, "user memory slots"),
        (Cap::Ioeventfd, "ioeventfd"),
        (Cap::SyncRegs, "synchronised registers"),
        (Cap::Xcrs, "XCRS"),
        (Cap::Xsave, "XSAVE"),
    ] {
        if !kvm.check_extension(cap) {
            return Err(KvmError::Missing(name));
        }
    }
    Ok(kvm)
}

fn prepare(fd: &kvm_ioctls::VcpuFd, id: u32, cpuid: &CpuId, state: ExtendedState) -> Result<(), KvmError> {
    fd.set_cpuid2(cpuid).map_err(KvmError::refused("set CPUID"))?;
    ioctl::zero_tsc_offset(borrow(fd)).map_err(|e| KvmError::Refused("set the TSC offset to 0", e))?;
    ioctl::unblock_only(borrow(fd), handoff::linux::kick_signal())
        .map_err(|e| KvmError::Refused("set the signal mask of KVM_RUN", e))?;
    set_up(fd, id, state)
}

/// Writes the tables and the image into fresh memory.
fn fill(memory: &GuestMemory, file: &[u8], image: &Image, layout: &Layout) -> Result<(), KvmError> {
    memory.write(TABLES_BASE, &PageTables::of(image, layout)?.bytes())?;
    for vcpu in 0..layout.vcpus {
        memory.write(Layout::gdt(vcpu), &gdt(vcpu))?;
        memory.write(Layout::tss(vcpu), &tss(layout, vcpu))?;
    }
    for segment in &image.segments {
        // The parser checked the range; what is beyond the file's bytes is 0 in fresh memory.
        memory.write(
            segment.address,
            file.get(segment.file.clone()).unwrap_or_default(),
        )?;
    }
    Ok(())
}
