//! How a vCPU comes to its scheduler, the first one by making everything that is shared.

use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use arch::clock::tsc;
use arch::extended;
use arch::gs;
use flux_abi::{PORT_EXIT, PORT_PARK, PORT_YIELD, SUMMARY_BOOTED};
use sched::sleepers::Sleepers;
use sched::NOBODY;

use crate::kernel::Kernel;
use crate::log::{fatal, fatal_at};
use crate::make::{make, xsave_mask, Failed};
use crate::page::Page;
use crate::platform::Platform;
use crate::time::Clock;
use crate::uthread;
use crate::vcpu::Local;

/// How far the VM's boot has come; shared by its vCPUs, any of which may be the first to get a core.
#[derive(Debug)]
pub struct Boot {
    state: AtomicU32,
    kernel: AtomicPtr<Kernel>,
    /// vCPUs that have gone, or are about to go, through the yield door, from the very first.
    pub(crate) sleepers: Sleepers,
}

const NEW: u32 = 0;
const UNDER_WAY: u32 = 1;
const DONE: u32 = 2;

impl Boot {
    pub const fn new() -> Boot {
        Boot {
            state: AtomicU32::new(NEW),
            kernel: AtomicPtr::new(core::ptr::null_mut()),
            sleepers: Sleepers::new(),
        }
    }
}

impl Default for Boot {
    fn default() -> Boot {
        Boot::new()
    }
}

/// Every vCPU comes here, first and again after its context was taken. `critical` and GS base are
/// set, and it is on its own boot stack.
///
/// # Safety
/// As said; the page is a control page mapped at `page`, whose header tells the truth about heap and
/// stacks; `vcpu` is this vCPU's number. `boot` is the VM's, the same for all its vCPUs.
pub unsafe fn enter(
    boot: &'static Boot,
    platform: &'static dyn Platform,
    main: fn(),
    vcpu: u32,
    page: *mut u8,
) -> ! {
    let at = tsc();
    // What a walk up the scheduler's stack comes to last is this function's frame.
    let top = (&raw const at) as u64 & !7;
    // SAFETY: by the caller's promise.
    let page = unsafe { Page::new(page) };
    let header = page.header();
    let mask = xsave_mask(page);
    // SAFETY: the mask is what the host enabled. FluxOS's code may use vector registers, and must
    // not with what a taken uThread left in the control words.
    unsafe { extended::initialise(mask) };

    // Acquire pairs with the release below: the kernel is complete.
    match boot
        .state
        .compare_exchange(NEW, UNDER_WAY, Ordering::Acquire, Ordering::Acquire)
    {
        Ok(_) => {
            // SAFETY: only one vCPU gets here, once.
            match unsafe { make(&boot.sleepers, page, platform) } {
                Ok(kernel) => {
                    boot.kernel
                        .store((&raw const *kernel).cast_mut(), Ordering::Relaxed);
                    // SAFETY: `vcpu` is this vCPU's number.
                    let local = unsafe { arrive(kernel, vcpu, top) };
                    let named = move || {
                        uthread::set_name("main");
                        main()
                    };
                    if uthread::create(local, named).is_err() {
                        fatal_at(
                            page,
                            platform,
                            vcpu,
                            format_args!("{}", Failed::Stacks(header.stack_count)),
                        );
                    }
                    page.summary().flags.fetch_or(SUMMARY_BOOTED, Ordering::Relaxed);
                    page.summary().seq.fetch_add(1, Ordering::Release);
                    boot.state.store(DONE, Ordering::Release);
                }
                Err(why) => fatal_at(page, platform, vcpu, format_args!("{why}")),
            }
        }
        Err(DONE) => {}
        Err(_) => wait_for_boot(boot, page, platform, vcpu),
    }
    // SAFETY: DONE was seen or stored, so the kernel is there and complete.
    unsafe {
        let kernel = &*boot.kernel.load(Ordering::Relaxed);
        let local = arrive(kernel, vcpu, top);
        local.entered(at);
        local.wait_for_slot();
        local.schedule()
    }
}

/// Makes the private data this vCPU's.
///
/// # Safety
/// `critical` and GS base are set; `vcpu` is this vCPU's number. All of the stack below `top` that
/// is in use is mapped.
unsafe fn arrive(kernel: &'static Kernel, vcpu: u32, top: u64) -> &'static Local {
    match kernel.locals.get(vcpu as usize) {
        Some(local) => {
            local.boot_top.store(top, Ordering::Relaxed);
            local.fibre.gone();
            // SAFETY: by the caller's promise; the data lives for good.
            unsafe { gs::set_private((&raw const *local) as u64) };
            local
        }
        None => fatal_at(
            kernel.page,
            kernel.platform,
            0,
            format_args!(
                "vCPU {vcpu} started, but the control page names {}",
                kernel.vcpus()
            ),
        ),
    }
}

/// Another vCPU is making the kernel. It may have lost its core; then this one is of no use, and
/// gives its own back.
fn wait_for_boot(boot: &Boot, page: Page, platform: &dyn Platform, vcpu: u32) {
    let (guest, host) = (page.guest(vcpu), page.host(vcpu));
    let spin = Clock::new(page.header()).ticks(u64::from(page.header().idle_spin_ns));
    let mut since = tsc();
    while boot.state.load(Ordering::Acquire) != DONE {
        // SAFETY: GS base is set.
        if unsafe { gs::park_asked() } {
            guest
                .park_ack
                .store(host.park_gen.load(Ordering::Relaxed), Ordering::Relaxed);
            platform.door(PORT_PARK, 0);
        } else if tsc().saturating_sub(since) >= spin {
            // The first uThread is announced after it was made.
            boot.sleepers.going();
            if page.summary().runnable.load(Ordering::Relaxed) == 0 {
                platform.door(PORT_YIELD, 0);
            }
            boot.sleepers.back(&page.summary().rung);
        } else {
            core::hint::spin_loop();
            continue;
        }
        since = tsc();
    }
}

impl Local {
    /// Entered again after its context was taken: the thief may still be reading the slot. It is
    /// in FluxOS's code and has the host's answer already, so this is short, unless the thief was
    /// forced off its core; then this vCPU gives its own back, because the grants that follow go
    /// to the forced one first.
    fn wait_for_slot(&self) {
        let mut since = tsc();
        // Acquire pairs with the thief's release: `current` is as the thief left it.
        while self.busy.load(Ordering::Acquire) != 0 {
            // SAFETY: GS base is set.
            let asked = unsafe { gs::park_asked() };
            if asked {
                self.park();
            } else if tsc().saturating_sub(since) >= self.kernel().idle_ticks {
                self.yield_core(true);
            } else {
                core::hint::spin_loop();
                continue;
            }
            since = tsc();
        }
        self.away.store(0, Ordering::Relaxed);
        let current = self.current.load(Ordering::Relaxed);
        if current != NOBODY {
            fatal(format_args!(
                "vCPU {} entered again with uThread {current} not taken",
                self.id
            ));
        }
    }
}

/// Ends the VM; for uThreads.
pub fn exit(code: u32) -> ! {
    crate::vcpu::enter();
    let kernel = uthread::kernel();
    loop {
        // The host does not run the VM again.
        kernel.platform.door(PORT_EXIT, code);
    }
}
