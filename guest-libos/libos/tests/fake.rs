//! FluxOS upon a platform that only writes down what is asked of it.
//!
//! Each test has a control page, a kernel and vCPU threads of its own. Doors that would give the
//! core away return at once; the exit door ends the test.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Mutex as StdMutex;
use std::time::Duration;

use flux_abi as abi;
use libos::boot::{exit, Boot};
use libos::page::Page;
use libos::platform::Platform;
use libos::sync::{Group, Mutex};
use libos::uthread::{cede, kernel, poll, spawn, yield_now};

const STACK: u64 = 64 << 10;
const STACKS: u32 = 16;
const ARCH_SET_GS: libc::c_int = 0x1001;

/// What a test sees: doors with their arguments, and words of its guest.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Door(u16, u32),
    Said(String),
}

struct Fake {
    page: Page,
    events: StdMutex<Sender<Event>>,
}

impl Fake {
    fn send(&self, event: Event) {
        // Fails only after the test is over.
        let _ = self.events.lock().expect("no panic").send(event);
    }
}

impl Platform for Fake {
    fn prepare(&self, _: &abi::Header) {}

    fn door(&self, port: u16, arg: u32) {
        match port {
            abi::PORT_PARK => {
                let host = self.page.host(0);
                self.send(Event::Door(port, self.page.summary().runnable.load(SeqCst)));
                host.grant_gen.fetch_add(1, SeqCst);
                host.settled.store(host.park_gen.load(SeqCst), SeqCst);
            }
            abi::PORT_LOG | abi::PORT_PANIC => {
                let line = self.page.log_line(0);
                // SAFETY: a line of the test's own page, `arg` bytes of which were just written.
                let line = unsafe { std::slice::from_raw_parts(line, arg as usize) };
                self.send(Event::Said(String::from_utf8_lossy(line).into_owned()));
            }
            _ => self.send(Event::Door(port, arg)),
        }
        // This vCPU's part is over; its stacks stay as they are.
        if port == abi::PORT_PANIC || port == abi::PORT_EXIT {
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
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0)
    };
    assert_ne!(at, libc::MAP_FAILED);
    at.cast()
}

/// Starts a guest with one vCPU that runs `main`; what it does comes out of the channel.
fn start(change: impl FnOnce(&mut abi::Header), main: fn()) -> (Page, Receiver<Event>) {
    let at = memory(abi::CONTROL_BYTES);
    // SAFETY: the page stays mapped.
    let page = unsafe { Page::new(at) };
    // SAFETY: inside the page, and this test's to write before the guest starts.
    let header = unsafe { &mut *at.add(abi::HEADER_OFFSET).cast::<abi::Header>() };
    header.magic = abi::CONTROL_MAGIC;
    (header.abi_major, header.abi_minor) = (abi::ABI_MAJOR, abi::ABI_MINOR);
    (header.vcpus, header.tsc_khz, header.stack_count) = (1, 2_000_000, STACKS);
    (header.heap_bytes, header.stack_bytes) = (1 << 20, STACK);
    header.heap_base = memory(1 << 20) as u64;
    header.stack_base = memory(STACK as usize * STACKS as usize) as u64;
    change(header);

    let (events, seen) = channel();
    let fake: &'static Fake = Box::leak(Box::new(Fake {
        page,
        events: StdMutex::new(events),
    }));
    let boot: &'static Boot = Box::leak(Box::new(Boot::new()));
    let address = at as usize;
    std::thread::spawn(move || {
        let block = address + abi::VCPUS_OFFSET;
        // SAFETY: GS is free in this process, and this thread is the guest's only vCPU.
        unsafe {
            assert_eq!(libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, block), 0);
            page.guest(0).critical.store(1, SeqCst);
            libos::boot::enter(boot, fake, main, 0, address as *mut u8)
        }
    });
    (page, seen)
}

fn said(word: &str) {
    libos::log::info(format_args!("{word}"));
}

/// All that happens until the guest ends.
fn all(seen: &Receiver<Event>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = seen
            .recv_timeout(Duration::from_secs(30))
            .expect("the guest ends");
        if event == Event::Door(abi::PORT_EXIT, 0) {
            return events;
        }
        events.push(event);
    }
}

fn words(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Said(word) => Some(word.as_str()),
            Event::Door(..) => None,
        })
        .collect()
}

#[test]
fn uthreads_take_turns_in_order() {
    let (_, seen) = start(
        |_| (),
        || {
            for name in ["a", "b", "c"] {
                let started = spawn(move || {
                    said(name);
                    yield_now();
                    said(name);
                });
                assert!(started.is_ok());
            }
            said("main");
            for _ in 0..3 {
                yield_now();
            }
            exit(0)
        },
    );
    assert_eq!(words(&all(&seen)), ["main", "a", "b", "c", "a", "b", "c"]);
}

#[test]
fn figures_tell_what_is_in_the_queue() {
    let (page, seen) = start(
        |header| header.slot = 5,
        || {
            let show = |page: Page| {
                let (guest, summary) = (page.guest(0), page.summary());
                let queued = guest.runq_len.load(SeqCst);
                assert_eq!(queued, summary.runnable.load(SeqCst));
                libos::log::info(format_args!("{queued} of {}", summary.uthreads.load(SeqCst)));
            };
            let page = kernel().page;
            show(page);
            for _ in 0..2 {
                assert!(spawn(|| ()).is_ok());
                show(page);
            }
            yield_now();
            show(page);
            exit(0)
        },
    );
    assert_eq!(words(&all(&seen)), ["0 of 1", "1 of 2", "2 of 3", "0 of 1"]);
    assert_ne!(page.summary().flags.load(SeqCst) & abi::SUMMARY_BOOTED, 0);
    assert_ne!(page.summary().seq.load(SeqCst), 0);
}

#[test]
fn a_park_request_is_honoured_at_each_scheduling_point() {
    let (page, seen) = start(
        |_| (),
        || {
            let ask = || {
                let host = kernel().page.host(0);
                host.park_gen
                    .store(host.park_gen.load(SeqCst).wrapping_add(1), SeqCst);
            };
            // A request that lies behind is none; across the wrap as well.
            kernel().page.host(0).settled.store(u32::MAX, SeqCst);
            kernel().page.host(0).park_gen.store(u32::MAX - 1, SeqCst);
            poll();
            kernel().page.host(0).park_gen.store(u32::MAX, SeqCst);
            assert!(spawn(|| said("other")).is_ok());
            for point in [poll as fn(), yield_now, || said("a log line")] {
                ask();
                point();
                said("again");
            }
            exit(0)
        },
    );
    let events = all(&seen);
    // The one that parked goes on first: it is at the head of the queue, the other behind it.
    assert_eq!(words(&events), ["again", "again", "a log line", "again"]);
    let parks: Vec<_> = events
        .iter()
        .filter(|event| matches!(event, Event::Door(..)))
        .collect();
    // While the vCPU was parked both were in its queue, for others to take.
    assert_eq!(parks, [&Event::Door(abi::PORT_PARK, 2); 3]);
    assert_eq!(page.guest(0).parks.load(SeqCst), 3);
    assert_eq!(page.guest(0).park_ack.load(SeqCst), 2);
    assert_eq!(page.guest(0).resume_gen.load(SeqCst), 3);
}

/// The time slice of the uThread that runs, or of one that is `off` switches away, is over.
fn slice_over(off: u32) {
    let page = kernel().page;
    let running = page.guest(0).switches.load(SeqCst);
    page.host(0).preempt.store(running.wrapping_add(off), SeqCst);
}

#[test]
fn a_time_slice_that_is_over_ends_at_each_scheduling_point() {
    let (page, seen) = start(
        |_| (),
        || {
            for point in [
                poll as fn(),
                || said("a log line"),
                || assert!(spawn(|| ()).is_ok()),
            ] {
                assert!(spawn(|| said("other")).is_ok());
                // News of somebody who has left is none.
                slice_over(u32::MAX);
                point();
                said("still");
                slice_over(0);
                point();
                said("again");
            }
            exit(0)
        },
    );
    let log = "a log line";
    let expected = [
        "still", "other", "again", log, "still", log, "other", "again", "still", "other", "again",
    ];
    assert_eq!(words(&all(&seen)), expected);
    assert_eq!(page.guest(0).preempts.load(SeqCst), 3);
    assert_eq!(page.guest(0).parks.load(SeqCst), 0);
}

#[test]
fn a_time_slice_ends_although_nobody_waits_and_only_once() {
    let (page, seen) = start(
        |_| (),
        || {
            let switches = || kernel().page.guest(0).switches.load(SeqCst);
            let before = switches();
            slice_over(0);
            for _ in 0..3 {
                poll();
            }
            assert_eq!(switches(), before + 1, "it came back with a new number");
            exit(0)
        },
    );
    assert_eq!(all(&seen), []);
    assert_eq!(page.guest(0).preempts.load(SeqCst), 1);
}

#[test]
fn a_park_request_goes_before_the_end_of_a_time_slice() {
    let (page, seen) = start(
        |_| (),
        || {
            assert!(spawn(|| said("other")).is_ok());
            slice_over(0);
            let host = kernel().page.host(0);
            host.park_gen.store(1, SeqCst);
            poll();
            said("first");
            yield_now();
            exit(0)
        },
    );
    assert_eq!(words(&all(&seen)), ["first", "other"]);
    assert_eq!(page.guest(0).parks.load(SeqCst), 1);
    assert_eq!(page.guest(0).preempts.load(SeqCst), 0);
}

/// Interrupts the calling uThread and resumes it at the upcall, as the host does, when its stack
/// pointer is `rsp`.
///
/// # Safety
/// `rsp` is on the uThread's stack, and nothing below it is in use.
unsafe fn upcall_at(rsp: u64) {
    // SAFETY: the upcall goes on behind the jump, with all registers as they were.
    unsafe {
        std::arch::asm!(
            "mov {old}, rsp",
            "mov rsp, {at}",
            "lea rax, [rip + 2f]",
            "mov qword ptr gs:[{upcall_word}], rax",
            "mov dword ptr gs:[{critical}], 1",
            "sub rsp, 128",
            "jmp {upcall}",
            "2:",
            "mov rsp, {old}",
            old = out(reg) _,
            at = in(reg) rsp,
            upcall_word = const abi::VCPU_HOST_OFFSET + std::mem::offset_of!(abi::HostVcpu, upcall_lo),
            critical = const std::mem::offset_of!(abi::GuestVcpu, critical),
            upcall = sym arch::upcall::upcall,
            out("rax") _,
        )
    }
}

/// Spoils what a function may spoil, and what none must: it is another uThread's.
fn spoil() {
    // SAFETY: everything that is changed is named.
    unsafe {
        std::arch::asm!(
            "cld",
            "pxor xmm13, xmm13",
            "xor ecx, ecx",
            "xor r11d, r11d",
            out("xmm13") _,
            out("rcx") _,
            out("r11") _,
        )
    }
}

#[test]
fn an_upcall_keeps_flags_and_registers_whoever_runs_meanwhile() {
    const DIRECTION_AND_CARRY: u64 = 0x401;
    let (page, seen) = start(
        |header| (header.xsave_bytes, header.xcr0_lo) = (832, 7),
        || {
            assert!(spawn(spoil).is_ok());
            let (flags, vector, rcx, r11): (u64, u64, u64, u64);
            // SAFETY: as in `upcall_at`, upon the stack that this is; what is changed is named.
            unsafe {
                std::arch::asm!(
                    "movq xmm13, {pattern}",
                    "mov rcx, {pattern}",
                    "mov r11, {pattern}",
                    "lea rax, [rip + 2f]",
                    "mov qword ptr gs:[{upcall_word}], rax",
                    "mov dword ptr gs:[{critical}], 1",
                    "lea rsp, [rsp - 256]",
                    "std",
                    "stc",
                    "jmp {upcall}",
                    "2:",
                    "pushfq",
                    "pop rax",
                    "cld",
                    "lea rsp, [rsp + 128]",
                    "movq {vector}, xmm13",
                    pattern = in(reg) 0x1234_5678_9abc_def0u64,
                    vector = lateout(reg) vector,
                    upcall_word = const abi::VCPU_HOST_OFFSET + std::mem::offset_of!(abi::HostVcpu, upcall_lo),
                    critical = const std::mem::offset_of!(abi::GuestVcpu, critical),
                    upcall = sym arch::upcall::upcall,
                    out("rax") flags,
                    out("rcx") rcx,
                    out("r11") r11,
                    out("xmm13") _,
                )
            }
            assert_eq!(flags & DIRECTION_AND_CARRY, DIRECTION_AND_CARRY);
            assert_eq!([vector, rcx, r11], [0x1234_5678_9abc_def0; 3]);
            exit(0)
        },
    );
    assert_eq!(all(&seen), []);
    assert_eq!(page.guest(0).preempts.load(SeqCst), 1);
}

/// The lowest address of the stack that this runs on.
fn stack() -> u64 {
    let here = 0u8;
    let header = kernel().page.header();
    let above = (&raw const here as u64 - header.stack_base) % header.stack_bytes;
    &raw const here as u64 - above
}

#[test]
fn an_upcall_gives_way_where_there_is_room_for_it_and_writes_nowhere_else() {
    const GUARD: u64 = 4096;
    let (page, seen) = start(
        |header| header.xsave_bytes = 832,
        || {
            let preempts = || kernel().page.guest(0).preempts.load(SeqCst);
            let guard = stack() as *mut [u8; GUARD as usize];
            // SAFETY: nothing is on this part of the stack, which is mapped here.
            unsafe { guard.write_volatile([0xa5; GUARD as usize]) };
            let mut given_way = 0;
            // Below the red zone it needs 40 bytes to look how much there is.
            for above in (168..6000).step_by(8) {
                let before = preempts();
                assert!(spawn(|| ()).is_ok());
                // SAFETY: far below what this function uses.
                unsafe { upcall_at(stack() + GUARD + above) };
                assert_eq!(kernel().page.guest(0).critical.load(SeqCst), 0);
                // SAFETY: as above.
                let untouched = unsafe { guard.read_volatile() } == [0xa5; GUARD as usize];
                assert!(untouched, "{above} bytes above the guard page it wrote into that");
                let gave = preempts() - before;
                assert!(gave == 1 || given_way == 0, "{above} bytes are enough");
                given_way += gave;
                yield_now();
            }
            assert!(given_way > 300, "{given_way}");
            // On a stack that FluxOS knows nothing of, it goes on.
            let before = preempts();
            // SAFETY: the middle of memory that nobody else uses.
            unsafe { upcall_at(memory(65536) as u64 + 32768) };
            assert_eq!(
                (preempts(), kernel().page.guest(0).critical.load(SeqCst)),
                (before, 0)
            );
            exit(0)
        },
    );
    assert_eq!(all(&seen), []);
    assert!(page.guest(0).preempts.load(SeqCst) > 300);
}

static LOCK: Mutex<u32> = Mutex::new(0);

#[test]
fn a_lock_goes_to_those_who_waited_in_order() {
    let (_, seen) = start(
        |_| (),
        || {
            let group: &'static Group = Box::leak(Box::new(Group::new(3)));
            LOCK.with(|_| {
                for name in ["first", "second", "third"] {
                    let started = spawn(move || {
                        LOCK.with(|count| {
                            *count += 1;
                            said(name);
                        });
                        group.done();
                    });
                    assert!(started.is_ok());
                }
                yield_now();
                said("unlock");
            });
            group.wait();
            LOCK.with(|count| assert_eq!(*count, 3));
            exit(0)
        },
    );
    assert_eq!(words(&all(&seen)), ["unlock", "first", "second", "third"]);
}

#[test]
fn an_idle_vcpu_gives_its_core_back() {
    let (page, seen) = start(|_| (), || said("over"));
    assert_eq!(
        seen.recv_timeout(Duration::from_secs(30)),
        Ok(Event::Said("over".into()))
    );
    for _ in 0..3 {
        assert_eq!(
            seen.recv_timeout(Duration::from_secs(30)),
            Ok(Event::Door(abi::PORT_YIELD, 0))
        );
    }
    assert!(page.guest(0).yields.load(SeqCst) >= 3);
    assert_eq!(page.summary().uthreads.load(SeqCst), 0);
}

#[test]
fn a_core_can_be_given_back_with_work_left() {
    let (_, seen) = start(
        |_| (),
        || {
            cede();
            said("back");
            exit(0)
        },
    );
    let expected = [Event::Door(abi::PORT_YIELD, 0), Event::Said("back".into())];
    assert_eq!(all(&seen), expected);
}

#[test]
fn stacks_run_out_with_an_error() {
    let (_, seen) = start(
        |_| (),
        || {
            let mut started = 0;
            while spawn(|| ()).is_ok() {
                started += 1;
            }
            libos::log::info(format_args!("{started} besides this one"));
            yield_now();
            assert!(spawn(|| ()).is_ok(), "those that ended gave theirs back");
            exit(0)
        },
    );
    assert_eq!(words(&all(&seen)), ["15 besides this one"]);
}

#[test]
fn what_is_wrong_with_a_header_is_said() {
    type Change = fn(&mut abi::Header);
    let cases: [(Change, &str); 5] = [
        (|header| header.magic = 7, "the control page begins with 0x7"),
        (|header| header.abi_major += 1, "the VMM speaks ABI 2."),
        (|header| header.vcpus = 17, "the control page names 17 vCPUs"),
        (|header| header.heap_bytes = 100, "100 bytes of heap are too few"),
        (|header| header.stack_count = 1, "the stack area has 1 stacks"),
    ];
    for (change, text) in cases {
        let (_, seen) = start(change, || ());
        match seen.recv_timeout(Duration::from_secs(30)) {
            Ok(Event::Said(line)) => assert!(line.starts_with(text), "{line}"),
            other => panic!("{other:?} instead of \"{text}\""),
        }
    }
}
