//! A host inside the test's own process, for a guest that is the test's own code.
//!
//! It takes vCPUs off their cores at random: by kicks at any instruction outside of FluxOS's code,
//! upon which the vCPU is held for a while, and taken over by others that are idle; and by asking, which
//! FluxOS honours at its next scheduling point.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flux_abi as abi;
use fluxion::backend::{Backend, Exit};
use fluxion::control_page::{empty_header, ControlPage};
use handoff::linux::kick_signal;
use hosted::door::Hosted;
use hosted::machine::{boot_into, Boot};
use hosted::HostedVcpu;

pub const VCPUS: u32 = 3;
const STACKS: u64 = 64;
/// How long nothing may move.
const PATIENCE: Duration = Duration::from_secs(60);

static GUEST: libos::boot::Boot = libos::boot::Boot::new();
static HOSTED: Hosted = Hosted;

arch::hosted_entry!(entry, vcpu);

extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: as in hosted::machine.
    unsafe { libos::boot::enter(&GUEST, &HOSTED, super::main, id, page) }
}

/// Goes up whenever the guest has got somewhere.
pub static PROGRESS: AtomicU64 = AtomicU64::new(0);
pub static FINISHED: AtomicBool = AtomicBool::new(false);

const NONE: u32 = 0;
const HELD: u32 = 1;
const EXPORTING: u32 = 2;
const GIVEN: u32 = 3;

struct Host {
    page: Arc<ControlPage>,
    held: [AtomicU32; VCPUS as usize],
    threads: [AtomicU64; VCPUS as usize],
    panics: AtomicU32,
    holds: AtomicU64,
    taken: AtomicU64,
    parks: AtomicU64,
    random: AtomicU64,
}

impl Host {
    fn over(&self) -> bool {
        FINISHED.load(SeqCst) || self.panics.load(SeqCst) != 0
    }

    fn random(&self, below: u64) -> u64 {
        let mut x = self.random.load(SeqCst);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        // That two threads may draw the same number does no harm.
        self.random.store(x, SeqCst);
        x % below
    }

    fn steal(&self, backend: &mut HostedVcpu, me: u32, victim: u32) {
        let host = self.page.host(me).expect("a vCPU");
        host.answer.store(abi::STEAL_NOTHING, SeqCst);
        let Some(held) = self.held.get(victim as usize) else {
            return;
        };
        if held.compare_exchange(HELD, EXPORTING, SeqCst, SeqCst).is_ok() {
            let slot = self.page.context(victim).expect("a vCPU");
            backend.export(victim, &slot).expect("a whole context");
            self.page.host(victim).expect("a vCPU").held.store(0, SeqCst);
            held.store(GIVEN, SeqCst);
            self.taken.fetch_add(1, SeqCst);
            host.answer.store(abi::STEAL_TAKEN, SeqCst);
        }
    }

    /// The vCPU was kicked.
    fn interrupted(&self, backend: &mut HostedVcpu, id: u32) {
        let (guest, host) = (
            self.page.guest(id).expect("a vCPU"),
            self.page.host(id).expect("a vCPU"),
        );
        if guest.critical.load(SeqCst) != 0 {
            // FluxOS's own code: it goes on, and leaves by itself.
            host.park_gen.fetch_add(1, SeqCst);
            return;
        }
        self.holds.fetch_add(1, SeqCst);
        let held = &self.held[id as usize];
        held.store(HELD, SeqCst);
        host.held.store(1, SeqCst);
        // Mostly until somebody has taken the uThread over; but not for long, because that somebody
        // may be computing, and waiting for this one.
        let until = Instant::now() + Duration::from_micros(self.random(300));
        loop {
            std::thread::yield_now();
            if held.load(SeqCst) == GIVEN {
                guest.critical.store(1, SeqCst);
                backend.set_reentry().expect("it was interrupted");
                held.store(NONE, SeqCst);
                return;
            }
            if Instant::now() >= until && held.compare_exchange(HELD, NONE, SeqCst, SeqCst).is_ok() {
                host.held.store(0, SeqCst);
                return;
            }
        }
    }

    fn live(&self, mut backend: HostedVcpu, id: u32) {
        backend.attach().expect("GS base");
        // SAFETY: asks for the calling thread's name.
        let me = unsafe { libc::pthread_self() };
        self.threads[id as usize].store(me, SeqCst);
        while !self.over() {
            match backend.run() {
                Exit::Interrupted => self.interrupted(&mut backend, id),
                Exit::Door {
                    port: abi::PORT_STEAL,
                    arg,
                } => self.steal(&mut backend, id, arg),
                Exit::Door {
                    port: port @ (abi::PORT_PANIC | abi::PORT_LOG),
                    arg,
                } => {
                    let (line, len) = self.page.log_line(id, arg);
                    eprintln!("{}", String::from_utf8_lossy(&line[..len]));
                    self.panics.fetch_add(u32::from(port == abi::PORT_PANIC), SeqCst);
                }
                Exit::Door {
                    port: abi::PORT_PARK, ..
                } => {
                    self.parks.fetch_add(1, SeqCst);
                    std::thread::sleep(Duration::from_micros(self.random(100)));
                    let host = self.page.host(id).expect("a vCPU");
                    host.settled.store(host.park_gen.load(SeqCst), SeqCst);
                }
                Exit::Door {
                    port: abi::PORT_YIELD,
                    ..
                } => std::thread::sleep(Duration::from_micros(20)),
                Exit::Door { .. } => {}
                Exit::Left(_) => {
                    eprintln!("a hosted vCPU does not leave its core inside run");
                    self.panics.fetch_add(1, SeqCst);
                }
                Exit::Failed(failure) => {
                    eprintln!("{failure}");
                    self.panics.fetch_add(1, SeqCst);
                }
            }
        }
        self.threads[id as usize].store(0, SeqCst);
        // The kick may be on its way still; there is nothing left that it could interrupt.
        loop {
            std::thread::park();
        }
    }

    /// Takes vCPUs off their cores until the guest is done.
    fn storm(&self) {
        let mut last = (PROGRESS.load(SeqCst), Instant::now());
        while !self.over() {
            std::thread::sleep(Duration::from_micros(20 + self.random(150)));
            let id = self.random(VCPUS.into()) as usize;
            let thread = self.threads[id].load(SeqCst);
            if thread == 0 {
                continue;
            }
            if self.random(3) == 0 {
                let host = self.page.host(id as u32).expect("a vCPU");
                host.park_gen.fetch_add(1, SeqCst);
            } else {
                // SAFETY: the vCPUs' threads do not end before the process does.
                unsafe { libc::pthread_kill(thread, kick_signal()) };
            }
            let now = PROGRESS.load(SeqCst);
            if now != last.0 {
                last = (now, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                eprintln!("nothing has moved for {PATIENCE:?}: a uThread is lost, or never woken");
                self.panics.fetch_add(1, SeqCst);
            }
        }
    }
}

/// Runs the guest, which is `super::main`, in the storm, until it says that it has finished.
pub fn run() {
    let page = Arc::new(ControlPage::create(0, VCPUS).expect("memfd"));
    let mut header = empty_header();
    header.magic = abi::CONTROL_MAGIC;
    (header.abi_major, header.abi_minor) = (abi::ABI_MAJOR, abi::ABI_MINOR);
    header.vcpus = VCPUS;
    header.tsc_khz = fluxion::clock::tsc_khz();
    header.stamp_shift = fluxion::clock::STAMP_SHIFT;
    header.idle_spin_ns = 1000;
    let boot = Boot {
        memory_mib: 16,
        vcpus: VCPUS,
        stacks: Some(STACKS),
        page: Arc::clone(&page),
    };
    let backends = boot_into(entry, &boot, &mut header).expect("memory");
    page.init(&header);
    let host = Arc::new(Host {
        page,
        held: [const { AtomicU32::new(NONE) }; VCPUS as usize],
        threads: [const { AtomicU64::new(0) }; VCPUS as usize],
        panics: AtomicU32::new(0),
        holds: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        parks: AtomicU64::new(0),
        random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
    });
    for (backend, id) in backends.into_iter().zip(0..) {
        let host = Arc::clone(&host);
        std::thread::spawn(move || host.live(backend, id));
    }
    host.storm();
    let [holds, taken, parks] = [&host.holds, &host.taken, &host.parks].map(|count| count.load(SeqCst));
    eprintln!("held {holds} times, taken over {taken} times, {parks} parks");
    assert_eq!(host.panics.load(SeqCst), 0, "the guest gave up or got stuck");
    assert!(holds > 0 && taken > 0 && parks > 0, "there was no storm");
}
