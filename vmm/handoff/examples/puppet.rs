//! A VM without a guest, for tests of bridges: threads that wait for cores, hold them
//! and leave them exactly as Fluxion's do, and obey commands on standard input:
//!
//!   yield V          vCPU V gives its core back when it next runs
//!   mode V spin      leaves when kicked (the default)
//!   mode V poll      leaves as soon as it is asked, without a kick
//!   mode V stubborn  leaves by force only
//!   quit             ends the process without a word, as a crash would
//!
//! Usage: puppet SLOT VCPUS [unmanaged], the hand-off table as descriptor 3. Prints
//! "ready" once its vCPUs can be granted cores.

use flux_abi as abi;
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

thread_local! {
    /// Set by the kick's handler in the thread that was kicked.
    static KICKED: AtomicBool = const { AtomicBool::new(false) };
}

extern "C" fn on_kick(_signal: i32) {
    KICKED.with(|kicked| kicked.store(true, SeqCst));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| arguments.get(at).and_then(|text| text.parse::<u32>().ok());
    let (Some(slot), Some(vcpus)) = (number(1), number(2)) else {
        eprintln!("usage: puppet SLOT VCPUS [unmanaged] with the hand-off table as descriptor 3");
        std::process::exit(2);
    };
    let unmanaged = arguments.get(3).is_some_and(|text| text == "unmanaged");
    // SAFETY: the parent passed descriptor 3 and nothing else here uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(3) };
    let table = match Table::map(&fd) {
        Ok(table) => Arc::new(table),
        Err(error) => {
            eprintln!("puppet: {error}");
            std::process::exit(1);
        }
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
    vm.pid.store(std::process::id(), SeqCst);
    vm.vcpus.store(vcpus, SeqCst);
    let strings: Arc<Vec<Strings>> = Arc::new((0..vcpus).map(|_| Strings::default()).collect());
    let there = Arc::new(AtomicU32::new(0));
    for index in 0..vcpus {
        let (table, strings, there) = (table.clone(), strings.clone(), there.clone());
        std::thread::spawn(move || {
            let me = Handle::new(slot, index).expect("checked by the parent");
            // SAFETY: a plain system call.
            let tid = unsafe { libc::gettid() } as u32;
            vcpu::ready(&table, me, tid, unmanaged);
            there.fetch_add(1, SeqCst);
            live(&table, me, &strings[index as usize]);
        });
    }
    while there.load(SeqCst) != vcpus {
        std::thread::yield_now();
    }
    vm.state.store(abi::VM_LIVE, SeqCst);
    table.announce();
    println!("ready");
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
    std::process::exit(0);
}

/// One vCPU thread's life, as Fluxion's without KVM in the middle.
fn live(table: &Table, me: Handle, strings: &Strings) {
    loop {
        match vcpu::wait_for_grant(table, me) {
            Woken::Granted { .. } => {}
            Woken::Unmanaged => {
                std::thread::sleep(std::time::Duration::from_millis(1));
                continue;
            }
            Woken::Dead => return,
        }
        let how = match vcpu::enter(table, me) {
            Enter::Leave => How::Entry,
            Enter::Go { .. } => hold(table, me, strings),
            Enter::Unmanaged => continue,
            Enter::Dead => return,
        };
        if vcpu::leave(table, me, how) == Left::Dead {
            return;
        }
    }
}

/// Holds the core until there is a reason to leave it.
fn hold(table: &Table, me: Handle, strings: &Strings) -> How {
    loop {
        std::hint::spin_loop();
        if strings.yields.swap(false, SeqCst) {
            return How::Yield;
        }
        let mode = strings.mode.load(SeqCst);
        let kicked = KICKED.with(|kicked| kicked.swap(false, SeqCst));
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
