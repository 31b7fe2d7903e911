//! A VM without a guest, for tests of bridges: threads that wait for cores, hold them
//! and leave them exactly as Fluxion's do, and obey commands on standard input:
//!
//!   yield V          vCPU V gives its core back when it next runs
//!   mode V spin      leaves when kicked (the default)
//!   mode V poll      leaves as soon as it is asked, without a kick
//!   mode V stubborn  leaves by force only
//!   quit             ends the process without a word, as a crash would
//!
//! Usage: puppet SLOT VCPUS [unmanaged] [--kflux-fd N], the hand-off table as descriptor 3.
//! Prints "ready" once its vCPUs can be granted cores.
//!
//! Where kFlux moves the table's cores (the table names a domain, and the VM's descriptor is
//! N, or 4 without the option), a vCPU has no guest that a kick could interrupt: kFlux lets it wait,
//! and it spins in user space and looks at its words. A stubborn one never looks: it loses its core to the
//! deadline, finds that out once it is told to be otherwise, and parks.

use flux_abi as abi;
use handoff::kflux::{self, seat::Registration};
use handoff::{linux, vcpu, Asked, Enter, Handle, How, Left, Table, Woken};
use std::io::BufRead;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::Arc;

const SPIN: u32 = 0;
const POLL: u32 = 1;
const STUBBORN: u32 = 2;

#[derive(Default)]
struct Strings {
    mode: AtomicU32,
    yields: AtomicBool,
}

/// What moves the cores.
enum Seat {
    Table,
    Kflux(kflux::Seat),
}

thread_local! {
    /// Set by the kick's handler in the thread that was kicked.
    static KICKED: AtomicBool = const { AtomicBool::new(false) };
}

extern "C" fn on_kick(_signal: i32) {
    KICKED.with(|kicked| kicked.store(true, SeqCst));
}

fn give_up(why: impl std::fmt::Display) -> ! {
    eprintln!("puppet: {why}");
    std::process::exit(1)
}

struct Arguments {
    slot: u32,
    vcpus: u32,
    unmanaged: bool,
    kflux_fd: Option<i32>,
}

fn arguments() -> Option<Arguments> {
    let mut words = std::env::args().skip(1);
    let mut found = Arguments {
        slot: words.next()?.parse().ok()?,
        vcpus: words.next()?.parse().ok()?,
        unmanaged: false,
        kflux_fd: None,
    };
    while let Some(word) = words.next() {
        match word.as_str() {
            "unmanaged" => found.unmanaged = true,
            "--kflux-fd" => found.kflux_fd = Some(words.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(found)
}

fn seat(table: &Table, from: &Arguments) -> Seat {
    let named = table.header().kflux_domain.load(SeqCst) != 0;
    let Some(number) = from.kflux_fd.or(named.then_some(4)) else {
        return Seat::Table;
    };
    // SAFETY: the parent passed it for this and nothing else here uses it; if it did not, HELLO fails.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let seat = kflux::Seat::new(fd).and_then(|seat| seat.map_over(table, from.slot).map(|()| seat));
    match seat {
        Ok(seat) => Seat::Kflux(seat),
        Err(error) => give_up(error),
    }
}

fn main() {
    let Some(from) = arguments() else {
        eprintln!(
            "usage: puppet SLOT VCPUS [unmanaged] [--kflux-fd N] with the hand-off table as descriptor 3"
        );
        std::process::exit(2);
    };
    let (slot, vcpus, unmanaged) = (from.slot, from.vcpus, from.unmanaged);
    // SAFETY: the parent passed descriptor 3 and nothing else here uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(3) };
    let table = match Table::map(&fd) {
        Ok(table) => Arc::new(table),
        Err(error) => give_up(error),
    };
    // SAFETY: the handler only stores to an atomic of its own thread.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_kick as extern "C" fn(i32) as usize;
        libc::sigaction(linux::kick_signal(), &action, std::ptr::null_mut());
    }
    let Some(vm) = table.vm(slot) else {
        eprintln!("puppet: slot {slot} is out of range");
        std::process::exit(2);
    };
    let seat = Arc::new(seat(&table, &from));
    vm.pid.store(std::process::id(), SeqCst);
    vm.vcpus.store(vcpus, SeqCst);
    let strings: Arc<Vec<Strings>> = Arc::new((0..vcpus).map(|_| Strings::default()).collect());
    let there = Arc::new(AtomicU32::new(0));
    for index in 0..vcpus {
        let (table, seat, strings) = (table.clone(), seat.clone(), strings.clone());
        let there = there.clone();
        std::thread::spawn(move || {
            let me = Handle::new(slot, index).expect("checked by the parent");
            ready(&table, &seat, me, unmanaged);
            there.fetch_add(1, SeqCst);
            live(&table, &seat, me, &strings[index as usize]);
        });
    }
    while there.load(SeqCst) != vcpus {
        std::thread::yield_now();
    }
    vm.state.store(abi::VM_LIVE, SeqCst);
    table.announce();
    println!("ready");
    obey(&strings);
    std::process::exit(0);
}

/// Carries out what standard input says, until its end.
fn obey(strings: &[Strings]) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let on = words.get(1).and_then(|text| text.parse::<usize>().ok());
        let on = on.and_then(|index| strings.get(index));
        match (words.as_slice(), on) {
            (["yield", ..], Some(on)) => on.yields.store(true, SeqCst),
            (["mode", _, "spin"], Some(on)) => on.mode.store(SPIN, SeqCst),
            (["mode", _, "poll"], Some(on)) => on.mode.store(POLL, SeqCst),
            (["mode", _, "stubborn"], Some(on)) => on.mode.store(STUBBORN, SeqCst),
            (["quit"], _) => break,
            _ => eprintln!("puppet: what is {line:?}?"),
        }
    }
}

fn ready(table: &Table, seat: &Seat, me: Handle, unmanaged: bool) {
    match seat {
        Seat::Table => {
            // SAFETY: a plain system call.
            let tid = unsafe { libc::gettid() } as u32;
            vcpu::ready(table, me, tid, unmanaged);
        }
        Seat::Kflux(seat) => {
            let from = Registration {
                unmanaged,
                ..Registration::default()
            };
            if let Err(error) = seat.register(me.vcpu(), from) {
                give_up(error);
            }
        }
    }
}

/// Leaves the core that there may be, and waits for the next.
fn wait(table: &Table, seat: &Seat, me: Handle, how: Option<How>) -> Woken {
    match (seat, how) {
        (Seat::Table, Some(how)) if vcpu::leave(table, me, how) == Left::Dead => Woken::Dead,
        (Seat::Table, _) => vcpu::wait_for_grant(table, me),
        (Seat::Kflux(seat), how) => match seat.park(me.vcpu(), how.unwrap_or(How::Entry)) {
            Ok(woken) => woken,
            Err(error) => give_up(error),
        },
    }
}

/// One vCPU thread's life, as Fluxion's without KVM in the middle.
fn live(table: &Table, seat: &Seat, me: Handle, strings: &Strings) {
    let mut how = None;
    loop {
        match wait(table, seat, me, how.take()) {
            Woken::Granted { .. } => {}
            Woken::Unmanaged => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            Woken::Dead => return,
        }
        how = match vcpu::enter(table, me) {
            Enter::Leave => Some(How::Entry),
            Enter::Go { .. } => Some(hold(table, seat, me, strings)),
            Enter::Unmanaged => None,
            Enter::Dead => return,
        };
    }
}

/// Holds the core until there is a reason to leave it.
fn hold(table: &Table, seat: &Seat, me: Handle, strings: &Strings) -> How {
    let looks = matches!(seat, Seat::Kflux(_));
    loop {
        std::hint::spin_loop();
        if strings.yields.swap(false, SeqCst) {
            return How::Yield;
        }
        let mode = strings.mode.load(SeqCst);
        let kicked = match looks {
            true => mode == SPIN,
            false => KICKED.with(|kicked| kicked.swap(false, SeqCst)),
        };
        if !kicked && mode != POLL {
            continue;
        }
        match vcpu::asked(table, me) {
            Asked::Force => return How::Forced,
            Asked::Park if kicked && mode != STUBBORN => return How::Kicked,
            Asked::Park if mode == POLL => return How::Asked,
            Asked::Unmanaged | Asked::Dead => return How::Yield,
            _ => {}
        }
    }
}
