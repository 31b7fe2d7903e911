//! A VM of several vCPUs upon a host that lets them sleep as Fluxion does without an arbiter: until
//! there is work, or the timer that the summary line shows is due.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex;
use std::time::Duration;

use flux_abi as abi;
use libos::boot::Boot;
use libos::page::Page;
use libos::platform::Platform;

const STACK: u64 = 64 << 10;
const HEAP: usize = 8 << 20;
const ARCH_SET_GS: libc::c_int = 0x1001;
pub const SHIFT: u32 = 8;

thread_local! {
    static VCPU: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// The vCPU that this runs on. Not inlined: a uThread may go on upon another thread after each call.
#[inline(never)]
pub fn vcpu() -> u32 {
    VCPU.get()
}

pub struct Vm {
    pub page: Page,
    /// How often a vCPU was let out of the yield door because of a timer alone.
    pub woken_by_timer: AtomicU32,
    boot: Boot,
    main: fn(),
    lines: Mutex<Sender<String>>,
    seen: Mutex<Receiver<String>>,
}

const OVER: &str = "(over)";

impl Vm {
    /// A VM that has not begun yet.
    pub fn new(vcpus: u32, stacks: u32, main: fn()) -> &'static Vm {
        Vm::with_cmdline("test", vcpus, stacks, main)
    }

    pub fn with_cmdline(cmdline: &str, vcpus: u32, stacks: u32, main: fn()) -> &'static Vm {
        let at = memory(abi::CONTROL_BYTES);
        // SAFETY: the page stays mapped.
        let page = unsafe { Page::new(at) };
        // SAFETY: inside the page, and this test's to write before the guest starts.
        let header = unsafe { &mut *at.add(abi::HEADER_OFFSET).cast::<abi::Header>() };
        header.magic = abi::CONTROL_MAGIC;
        (header.abi_major, header.abi_minor) = (abi::ABI_MAJOR, abi::ABI_MINOR);
        (header.vcpus, header.stack_count) = (vcpus, stacks);
        (header.tsc_khz, header.stamp_shift) = (2_000_000, SHIFT);
        (header.heap_bytes, header.stack_bytes) = (HEAP as u64, STACK);
        header.heap_base = memory(HEAP) as u64;
        header.stack_base = memory(STACK as usize * stacks as usize) as u64;
        header.cmdline[..cmdline.len()].copy_from_slice(cmdline.as_bytes());
        let (lines, seen) = channel();
        for vcpu in 0..vcpus {
            page.host(vcpu).unmanaged.store(1, SeqCst);
        }
        Box::leak(Box::new(Vm {
            page,
            woken_by_timer: AtomicU32::new(0),
            boot: Boot::new(),
            main,
            lines: Mutex::new(lines),
            seen: Mutex::new(seen),
        }))
    }

    /// Gives a vCPU its thread.
    pub fn start(&'static self, vcpu: u32) {
        std::thread::spawn(move || {
            VCPU.set(vcpu);
            let page = self.page.address() as *mut u8;
            let block = page as usize + abi::VCPUS_OFFSET + vcpu as usize * abi::VCPU_BYTES;
            // SAFETY: GS is free in this process, and this thread is that vCPU.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block), 0);
                self.page.guest(vcpu).critical.store(1, SeqCst);
                libos::boot::enter(&self.boot, self, self.main, vcpu, page)
            }
        });
    }

    /// The next thing that the guest says.
    pub fn line(&self) -> String {
        let seen = self.seen.lock().expect("no panic");
        seen.recv_timeout(Duration::from_secs(60))
            .expect("the guest says something")
    }

    /// All that it says until it ends.
    pub fn lines(&self) -> Vec<String> {
        let next = || Some(self.line()).filter(|line| line != OVER);
        std::iter::from_fn(next).collect()
    }

    fn say(&self, line: String) {
        // Fails only after the test is over.
        let _ = self.lines.lock().expect("no panic").send(line);
    }

    fn timer_due(&self) -> bool {
        let summary = self.page.summary();
        let now = abi::stamp(libos::now(), SHIFT);
        summary.flags.load(SeqCst) & abi::SUMMARY_TIMER != 0
            && !abi::stamp_after(summary.next_timer.load(SeqCst), now)
    }

    fn idle(&self) {
        loop {
            if self.page.summary().runnable.load(SeqCst) != 0 {
                return;
            }
            if self.timer_due() {
                self.woken_by_timer.fetch_add(1, SeqCst);
                return;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Platform for Vm {
    fn prepare(&self, _: &abi::Header) {}

    fn door(&self, port: u16, arg: u32) {
        match port {
            abi::PORT_YIELD => self.idle(),
            abi::PORT_LOG | abi::PORT_PANIC => {
                let line = self.page.log_line(vcpu());
                // SAFETY: a line of the test's own page, `arg` bytes of which were just written.
                let line = unsafe { std::slice::from_raw_parts(line, arg as usize) };
                self.say(String::from_utf8_lossy(line).into_owned());
            }
            abi::PORT_EXIT => self.say(OVER.into()),
            _ => {}
        }
        // A vCPU that is parked here stays so, and so does one whose part is over.
        if [abi::PORT_PANIC, abi::PORT_EXIT, abi::PORT_PARK].contains(&port) {
            loop {
                std::thread::park();
            }
        }
    }

    fn uthreads_own_fs(&self) -> bool {
        false
    }
}

fn memory(bytes: usize) -> *mut u8 {
    // SAFETY: a fresh mapping, never unmapped: guests do not end.
    let at = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0)
    };
    assert_ne!(at, libc::MAP_FAILED);
    at.cast()
}
