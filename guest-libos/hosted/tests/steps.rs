//! FluxOS, one instruction at a time.
//!
//! A guest's threads are single-stepped through what uThreads do: start, yield, lock, wait, end.
//! At each instruction at which `critical` is 0, the vCPU must be one that the host may hold: some
//! uThread is current, and the stack is that uThread's. And at instruction after instruction it
//! is in fact held, and taken over by another vCPU, and what the uThreads compute must come out
//! right all the same. At the same instructions, in other rounds, the uThread is made to give way by its
//! upcall instead.
//!
//! Where it is not 0 a kick is ignored, and the request waits. Junction's issue #2 was a kick inside the code
//! that changes stacks. So at each instruction of the switch, and of a resume, the vCPU is kicked and asked
//! to leave its core, which it does when it has come out.

// A sanitizer's runtime is no code that a guest may be held in.
#![cfg(not(flux_sanitizer))]

use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flux_abi as abi;
use fluxion::backend::{Backend, Exit};
use fluxion::control_page::{empty_header, ControlPage};
use hosted::cpu::{Cpu, Stop};
use hosted::door::Hosted;
use hosted::machine::{boot_into, Boot};
use hosted::HostedVcpu;
use libos::page::Page;
use libos::sync::{Group, Mutex};
use libos::uthread::{poll, spawn, yield_now};

const VCPUS: u32 = 3;
/// How often the guest goes through the scenario; every other time it is held one instruction later,
/// and between those it gives way there by its upcall.
const ROUNDS: u64 = 1000;
/// As many kicks inside of a change of stacks, each one instruction later than the one before.
const KICK_ROUNDS: u64 = 120;
/// A round that takes more instructions is not stepped to its end: an idle vCPU spins.
const LONGEST: u64 = 20_000;
/// How long the functions that change stacks are, up to where they are left, and how many instructions on the usual way
/// through them; those of `resume` without the two for FS base.
const SWITCH: (u64, usize) = (63, 25);
const SWITCH_OUT: (u64, usize) = (65, 26);
const RESUME: (u64, usize) = (172, 42);
/// No shorter than the way back into application code is that begins with clearing `critical`.
const TAIL_BYTES: u64 = 60;
/// No shorter than any of them.
const CODE_BYTES: usize = 200;
const TRAP_FLAG: i64 = 0x100;

static GUEST: libos::boot::Boot = libos::boot::Boot::new();
static HOSTED: Hosted = Hosted;

arch::hosted_entry!(entry, vcpu);

extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: as in hosted::machine.
    unsafe { libos::boot::enter(&GUEST, &HOSTED, main, id, page) }
}

// ---- the stepper ----

// What becomes of the vCPU at the instruction that is meant.
/// It is held, in application code.
const HOLD: u32 = 0;
/// Its uThread gives way by its upcall, in application code.
const UPCALL: u32 = 1;
/// A kick comes in the middle of a change of stacks, and the vCPU goes on.
const KICK: u32 = 2;
static MODE: AtomicU32 = AtomicU32::new(HOLD);
/// How each vCPU was stopped.
static STOPPED: [AtomicU32; VCPUS as usize] = [const { AtomicU32::new(KICK) }; VCPUS as usize];
/// The instruction that is meant, counting those outside `critical`, or those that change stacks, since stepping
/// began; 0: none.
static TARGET: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);
static ROUND_STEPS: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);
static HOLDS: AtomicU64 = AtomicU64::new(0);
static UPCALLS: AtomicU64 = AtomicU64::new(0);
/// Held in the last instructions of a resume, with `critical` cleared already.
static TAILS: AtomicU64 = AtomicU64::new(0);
static PARKS: AtomicU64 = AtomicU64::new(0);
static TAKEN: AtomicU64 = AtomicU64::new(0);
/// Kicks inside of a change of stacks, and at which of its bytes.
static KICKS: AtomicU64 = AtomicU64::new(0);
static SWITCHING_IN: Bytes = Bytes::new();
static SWITCHING_OUT: Bytes = Bytes::new();
static RESUMING: Bytes = Bytes::new();
/// Kicks that a vCPU found when it entered again.
static ENTRIES: AtomicU64 = AtomicU64::new(0);
/// Instruction pointer of the first instruction at which something was wrong.
static WRONG: AtomicU64 = AtomicU64::new(0);
static PAGE: AtomicUsize = AtomicUsize::new(0);

fn page() -> Page {
    // SAFETY: set by the test to a page that stays mapped.
    unsafe { Page::new(PAGE.load(SeqCst) as *mut u8) }
}

/// Which bytes of a function have been an instruction at which a kick came.
struct Bytes([AtomicBool; CODE_BYTES]);

impl Bytes {
    const fn new() -> Bytes {
        Bytes([const { AtomicBool::new(false) }; CODE_BYTES])
    }

    /// Whether `rip` is in the first `bytes` bytes of the function; with `note`, that is noted.
    fn has(&self, function: *const (), bytes: u64, rip: u64, note: bool) -> bool {
        let function = function as u64;
        let inside = (function..function + bytes).contains(&rip);
        if inside && note {
            self.0[(rip - function) as usize].store(true, Relaxed);
        }
        inside
    }

    fn instructions(&self) -> usize {
        self.0.iter().filter(|byte| byte.load(SeqCst)).count()
    }
}

/// Whether this is an instruction of a change of stacks. With `note`, a kick comes there.
fn changes_stacks(rip: u64, note: bool) -> bool {
    let switch_in = arch::switch::switch as *const ();
    let switch_out = arch::switch::switch_out as *const ();
    let resume = arch::resume::resume as *const ();
    SWITCHING_IN.has(switch_in, SWITCH.0, rip, note)
        || SWITCHING_OUT.has(switch_out, SWITCH_OUT.0, rip, note)
        || RESUMING.has(resume, RESUME.0, rip, note)
}

/// Each instruction of a stepped thread comes here.
extern "C" fn step(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let frame = context.cast::<libc::ucontext_t>();
    // SAFETY: the kernel gives a handler of this kind its frame.
    let registers = unsafe { &mut (*frame).uc_mcontext.gregs };
    let target = TARGET.load(Relaxed);
    if target == 0 || ROUND_STEPS.fetch_add(1, Relaxed) > LONGEST {
        registers[libc::REG_EFL as usize] &= !TRAP_FLAG;
        return;
    }
    let Some(cpu) = Cpu::this().filter(|cpu| cpu.in_guest()) else {
        return;
    };
    STEPS.fetch_add(1, Relaxed);
    // SAFETY: the mask of the interrupted code. A door keeps kicks out, so none comes in there.
    if unsafe { libc::sigismember(&(*frame).uc_sigmask, handoff::linux::kick_signal()) } == 1 {
        return;
    }
    let mode = MODE.load(Relaxed);
    let inside = mode == KICK;
    let rip = registers[libc::REG_RIP as usize] as u64;
    if (page().guest(cpu.id).critical.load(Relaxed) != 0) != inside || inside && !changes_stacks(rip, false) {
        return;
    }
    let count = COUNT.fetch_add(1, Relaxed) + 1;
    let rsp = registers[libc::REG_RSP as usize] as u64;
    let header = page().header();
    let stack = rsp.wrapping_sub(header.stack_base) / header.stack_bytes + 1;
    if !inside && libos::vcpu::current_of(page(), cpu.id).map(u64::from) != Some(stack) {
        let _ = WRONG.compare_exchange(0, registers[libc::REG_RIP as usize] as u64, SeqCst, SeqCst);
    }
    if count >= target {
        TARGET.store(0, Relaxed);
        registers[libc::REG_EFL as usize] &= !TRAP_FLAG;
        STOPPED[cpu.id as usize].store(mode, Relaxed);
        match mode {
            KICK => &KICKS,
            UPCALL => &UPCALLS,
            _ => &HOLDS,
        }
        .fetch_add(1, Relaxed);
        let tail = arch::upcall::go_on as *const () as u64;
        if inside {
            changes_stacks(rip, true);
        } else if (tail..tail + TAIL_BYTES).contains(&rip) {
            TAILS.fetch_add(1, Relaxed);
        }
        // SAFETY: this handler's frame. From here on it is as if a kick had come just now.
        unsafe { cpu.stop_in(frame, Stop::Kicked) };
    }
}

/// Steps this thread from here on, to the `target`-th instruction of those that `mode` is about, or soon after.
#[inline(always)]
fn step_to(target: u64, mode: u32) {
    TARGET.store(0, SeqCst);
    COUNT.store(0, Relaxed);
    MODE.store(mode, SeqCst);
    ROUND_STEPS.store(0, Relaxed);
    TARGET.store(target, SeqCst);
    // SAFETY: sets the trap flag; the handler is there.
    unsafe { std::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") }
}

// ---- the guest ----

static FINISHED: AtomicBool = AtomicBool::new(false);
static FAILED: AtomicU32 = AtomicU32::new(0);
static LOCKED: Mutex<u64> = Mutex::new(0);

/// What uThreads do, with a result that is known.
fn scenario(seed: u64) -> u64 {
    let sum = Box::new(AtomicU64::new(0));
    let sum: &'static AtomicU64 = Box::leak(sum);
    let group: &'static Group = Box::leak(Box::new(Group::new(3)));
    for part in 1..=3u64 {
        let work = move || {
            for turn in 0..3 {
                LOCKED.with(|inside| {
                    *inside += 1;
                    // So that the others find it locked.
                    yield_now();
                    *inside -= 1;
                    if *inside != 0 {
                        FAILED.fetch_add(1, SeqCst);
                    }
                });
                sum.fetch_add(seed * part + turn, SeqCst);
                poll();
            }
            group.done();
        };
        if spawn(work).is_err() {
            FAILED.fetch_add(1, SeqCst);
            group.done();
        }
    }
    yield_now();
    group.wait();
    sum.load(SeqCst)
}

/// Holds uThreads at one instruction after the other, or has them give way there.
fn outside() {
    for round in 0..ROUNDS {
        let target = 1 + round / 2;
        let held = HOLDS.load(SeqCst);
        step_to(target, if round % 2 == 0 { HOLD } else { UPCALL });
        let found = scenario(target);
        TARGET.store(0, SeqCst);
        if found != 3 * target * (1 + 2 + 3) + 3 * (1 + 2) {
            FAILED.fetch_add(1, SeqCst);
        }
        // What was held but not yet taken is still on its way; let the others see to it.
        while HOLDS.load(SeqCst) > held && TAKEN.load(SeqCst) < HOLDS.load(SeqCst) {
            yield_now();
        }
    }
}

/// Kicks a vCPU at one instruction after the other of the switches between two uThreads that take turns. The
/// other vCPUs are kept busy: they are not stepped, and would have done all there is to do long before.
fn inside() {
    static BUSY: AtomicU32 = AtomicU32::new(0);
    static OVER: AtomicBool = AtomicBool::new(false);
    static TURNS: AtomicU64 = AtomicU64::new(0);
    let keep_busy = || {
        BUSY.fetch_add(1, SeqCst);
        while !OVER.load(SeqCst) {
            std::hint::spin_loop();
        }
    };
    let take_turns = || {
        while !OVER.load(SeqCst) {
            TURNS.fetch_add(1, SeqCst);
            yield_now();
        }
    };
    let mut failed = 0;
    for _ in 1..VCPUS {
        failed += u32::from(spawn(keep_busy).is_err());
    }
    while BUSY.load(SeqCst) < VCPUS - 1 {
        yield_now();
    }
    failed += u32::from(spawn(take_turns).is_err());
    for target in 1..=KICK_ROUNDS {
        let before = TURNS.load(SeqCst);
        step_to(target, KICK);
        // There and back are some fifty instructions of those that are meant.
        while TARGET.load(SeqCst) != 0 && TURNS.load(SeqCst) < before + 8 {
            yield_now();
        }
        failed += u32::from(TARGET.swap(0, SeqCst) != 0);
    }
    OVER.store(true, SeqCst);
    FAILED.fetch_add(failed, SeqCst);
}

fn main() {
    outside();
    inside();
    FINISHED.store(true, SeqCst);
}

// ---- the host ----

const NONE: u32 = 0;
const HELD: u32 = 1;
const EXPORTING: u32 = 2;
const GIVEN: u32 = 3;

struct Host {
    page: Arc<ControlPage>,
    held: [AtomicU32; VCPUS as usize],
    panics: AtomicU32,
}

impl Host {
    fn over(&self) -> bool {
        FINISHED.load(SeqCst) || self.panics.load(SeqCst) != 0
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
            let taken = TAKEN.fetch_add(1, SeqCst);
            host.answer.store(abi::STEAL_TAKEN, SeqCst);
            // Now and then the thief is asked to park while it takes over, so that it finds the
            // request behind its last look; and it is stepped as well, and held on the way.
            if taken.is_multiple_of(3) {
                host.park_gen.fetch_add(1, SeqCst);
            }
            // Now outside, now inside: up to the last instruction of a resume.
            match taken % 4 {
                0 => step_to(1 + taken / 4 % 60, HOLD),
                2 => step_to(1 + taken / 4 % 60, KICK),
                _ => {}
            }
        }
    }

    /// A vCPU that was interrupted in application code: waits until another one has taken over.
    fn hold(&self, backend: &mut HostedVcpu, id: u32) {
        let guest = self.page.guest(id).expect("a vCPU");
        assert_eq!(guest.critical.load(SeqCst), 0, "held in FluxOS's code");
        self.held[id as usize].store(HELD, SeqCst);
        self.page.host(id).expect("a vCPU").held.store(1, SeqCst);
        while self.held[id as usize].load(SeqCst) != GIVEN {
            std::thread::yield_now();
            if self.over() {
                return;
            }
        }
        guest.critical.store(1, SeqCst);
        backend.set_reentry().expect("it was interrupted");
        self.held[id as usize].store(NONE, SeqCst);
        // The kick comes before the first instruction of the entry: it waits until kicks are let in.
        // SAFETY: a signal to this thread, which handles it.
        unsafe { libc::pthread_kill(libc::pthread_self(), handoff::linux::kick_signal()) };
        ENTRIES.fetch_add(1, SeqCst);
    }

    /// FluxOS's own code, which is not held: it goes on, and leaves its core by itself.
    fn kick(&self, id: u32) {
        let guest = self.page.guest(id).expect("a vCPU");
        assert_ne!(guest.critical.load(SeqCst), 0, "a kick that is not answered");
        self.page.host(id).expect("a vCPU").park_gen.fetch_add(1, SeqCst);
    }

    /// A vCPU whose uThread has had its time, in application code.
    fn preempt(&self, backend: &mut HostedVcpu, id: u32) {
        let guest = self.page.guest(id).expect("a vCPU");
        assert_eq!(guest.critical.load(SeqCst), 0, "preempted in FluxOS's code");
        let rip = backend.set_upcall().expect("it was interrupted");
        let host = self.page.host(id).expect("a vCPU");
        host.upcall_lo.store(rip as u32, SeqCst);
        host.upcall_hi.store((rip >> 32) as u32, SeqCst);
        guest.critical.store(1, SeqCst);
    }

    fn live(&self, mut backend: HostedVcpu, id: u32) {
        backend.attach().expect("GS base");
        while !self.over() {
            match backend.run() {
                // What nobody has stepped to is the kick before the entry.
                Exit::Interrupted => match STOPPED[id as usize].swap(KICK, SeqCst) {
                    HOLD => self.hold(&mut backend, id),
                    UPCALL => self.preempt(&mut backend, id),
                    _ => self.kick(id),
                },
                Exit::Door {
                    port: abi::PORT_STEAL,
                    arg,
                } => self.steal(&mut backend, id, arg),
                Exit::Door {
                    port: abi::PORT_PANIC,
                    arg,
                } => {
                    let (line, len) = self.page.log_line(id, arg);
                    eprintln!("{}", String::from_utf8_lossy(&line[..len]));
                    self.panics.fetch_add(1, SeqCst);
                }
                Exit::Door {
                    port: abi::PORT_PARK, ..
                } => {
                    let host = self.page.host(id).expect("a vCPU");
                    host.settled.store(host.park_gen.load(SeqCst), SeqCst);
                    PARKS.fetch_add(1, SeqCst);
                }
                Exit::Door { .. } => std::thread::sleep(Duration::from_micros(10)),
                Exit::Left(woken) => {
                    eprintln!("a hosted vCPU does not leave its core inside run: {woken:?}");
                    self.panics.fetch_add(1, SeqCst);
                }
                Exit::Failed(failure) => {
                    eprintln!("{failure}");
                    self.panics.fetch_add(1, SeqCst);
                }
            }
        }
    }
}

#[test]
fn every_instruction_outside_critical_can_be_held_and_junction_2_every_one_of_a_switch_kicked() {
    let page = Arc::new(ControlPage::create(0, VCPUS).expect("memfd"));
    PAGE.store(page.host_address() as usize, SeqCst);
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
        stacks: Some(16),
        page: Arc::clone(&page),
    };
    let backends = boot_into(entry, &boot, &mut header).expect("memory");
    page.init(&header);

    // SAFETY: a handler of our own, on the alternate stack that each vCPU's thread has.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = step as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }

    let host = Arc::new(Host {
        page,
        held: [const { AtomicU32::new(NONE) }; 3],
        panics: AtomicU32::new(0),
    });
    let threads = backends.into_iter().zip(0..).map(|(backend, id)| {
        let host = Arc::clone(&host);
        std::thread::spawn(move || host.live(backend, id))
    });
    let threads: Vec<_> = threads.collect();
    let start = Instant::now();
    let mut last = (0, start);
    while !host.over() {
        std::thread::sleep(Duration::from_millis(5));
        let steps = STEPS.load(SeqCst) + TAKEN.load(SeqCst);
        if steps != last.0 {
            last = (steps, Instant::now());
        }
        if last.1.elapsed() > Duration::from_secs(30) {
            eprintln!("nothing has moved for 30 s: a uThread is lost");
            host.panics.fetch_add(1, SeqCst);
        }
    }
    // Threads that wait in the guest for nothing end with the process; the others see `over`.
    drop(threads);
    let (steps, holds, taken) = (STEPS.load(SeqCst), HOLDS.load(SeqCst), TAKEN.load(SeqCst));
    let upcalls = UPCALLS.load(SeqCst);
    eprintln!(
        "{steps} instructions stepped, held at {holds}, {taken} taken over, {upcalls} upcalls, {} parks, {} in the last \
         instructions of a resume",
        PARKS.load(SeqCst),
        TAILS.load(SeqCst)
    );
    let kicked = [
        SWITCHING_IN.instructions(),
        SWITCHING_OUT.instructions(),
        RESUMING.instructions(),
    ];
    eprintln!(
        "kicked {} times at {kicked:?} instructions of the switches to and from a uThread and of a resume, and at {} entries",
        KICKS.load(SeqCst),
        ENTRIES.load(SeqCst)
    );
    assert_eq!(host.panics.load(SeqCst), 0, "the guest gave up or got stuck");
    assert_eq!(
        WRONG.load(SeqCst),
        0,
        "an instruction at which the vCPU may be held but must not"
    );
    assert_eq!(FAILED.load(SeqCst), 0, "a uThread computed something else");
    assert!(
        holds > ROUNDS / 8 && taken > ROUNDS / 16,
        "held {holds} times only"
    );
    assert!(upcalls > ROUNDS / 8, "preempted {upcalls} times only");
    let preempts: u32 = (0..VCPUS)
        .map(|id| host.page.guest(id).expect("a vCPU").preempts.load(SeqCst))
        .sum();
    // One that was asked to park at the same time did that instead.
    assert!(
        u64::from(preempts) > upcalls / 2 && u64::from(preempts) <= upcalls,
        "{preempts} of {upcalls}"
    );
    assert!(
        TAILS.load(SeqCst) > 0,
        "never held in the last instructions of a resume"
    );
    assert!(PARKS.load(SeqCst) > 0, "no thief was ever asked to park");
    let all = [SWITCH.1, SWITCH_OUT.1, RESUME.1];
    assert!(
        kicked.iter().zip(all).all(|(kicked, all)| *kicked >= all),
        "not every instruction of a change of stacks was kicked: {kicked:?} of {all:?}"
    );
    assert!(ENTRIES.load(SeqCst) > 0, "no kick before an entry");
}
