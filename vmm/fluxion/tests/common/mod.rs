//! What the integration tests share: real Fluxion processes, and a small arbiter made of the same crate
//! that the real one uses.
//!
//! The same tests run over both bridges: over kFlux where /dev/kflux can be used, else by affinity. The variable
//! HYPERFLUX_BRIDGE (kflux or affinity) asks for one of them, and then the other is no way out.

#![allow(dead_code)] // each test file uses its part

pub mod client;
pub mod guest;
pub mod vm;

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use client::{Client, Page};
use flux_abi as abi;
use handoff::bridge::{COMMAND_WORDS, OP_PREEMPT};
use handoff::deadline::Deadlines;
use handoff::{kflux, AnyBridge, Handle, Table};
pub use vm::Vm;

/// Long enough for any machine: it only ends tests that would hang.
const HANG: Duration = Duration::from_secs(60);

/// The descriptor that a VM inherits the table as: out of the way of those that std uses while it starts one.
const TABLE_FD: i32 = 100;
const KFLUX_FD: i32 = 101;

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HANG, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Fluxion itself: the one that FLUXION names, that cargo has built for these tests, or, where they were carried to
/// another machine, that came with them: tests in target/<profile>/<folder>, Fluxion in target/<profile>.
pub fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("FLUXION") {
        return named.into();
    }
    let built = PathBuf::from(env!("CARGO_BIN_EXE_fluxion"));
    if built.exists() {
        return built;
    }
    let here = std::env::current_exe().expect("this program");
    let profile = here.ancestors().nth(2).expect("a folder of a folder");
    profile.join("fluxion")
}

/// Whether guests can run here; says so if not.
pub fn kvm_or_skip() -> bool {
    let usable = kvm_ioctls::Kvm::new().and_then(|kvm| kvm.create_vm()).is_ok();
    if !usable {
        eprintln!("SKIPPED: /dev/kvm is not usable here, so no guest was run");
    }
    usable
}

/// Whether these tests run over kFlux.
pub fn over_kflux() -> bool {
    let usable = kflux::hello().1;
    match std::env::var("HYPERFLUX_BRIDGE").as_deref() {
        Ok("affinity") => false,
        Ok("kflux") => {
            usable.expect("HYPERFLUX_BRIDGE=kflux");
            true
        }
        Ok(other) => panic!("HYPERFLUX_BRIDGE is kflux or affinity, not {other}"),
        Err(_) => usable.is_ok(),
    }
}

/// As `over_kflux`, for tests of what only kFlux does; says so if they are not run.
pub fn kflux_or_skip() -> bool {
    let there = over_kflux();
    if !there {
        eprintln!("SKIPPED: kFlux is not here or not asked for; `hyperflux lab` has it");
    }
    there
}

/// A core is claimed by one domain, so tests over kFlux take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A directory, a table and an arbiter's bridge.
pub struct Lab {
    pub dir: PathBuf,
    pub table: Arc<Table>,
    pub bridge: AnyBridge,
    pub epoch: u32,
    /// The core that guests are granted: the last one that this process may use.
    pub core: u32,
    pub managed: [u32; 8],
    table_fd: OwnedFd,
    deadlines: Option<Deadlines>,
    // Last, so that the bridge has gone, and the lease with it, when the next test begins.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Lab {
    pub fn new() -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("fluxion-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let (table_fd, table) = Table::create(fluxion::clock::tsc_khz(), 8).expect("table");
        let table = Arc::new(table);
        let mut bridge = AnyBridge::new(Arc::clone(&table));
        let turn = over_kflux().then(|| {
            let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody beats here, and nobody is to be forced because the machine is slow: leases that end and deadlines
            // that pass are tests of their own.
            table.header().lease_ms.store(60_000, SeqCst);
            table.header().deadline_us.store(10_000_000, SeqCst);
            bridge.use_kflux().expect("kFlux");
            turn
        });
        let cpus = fluxion::cpus::CpuSet::current().expect("affinity");
        let core = (0..abi::MAX_CORES)
            .rev()
            .find(|c| cpus.contains(*c))
            .expect("a core") as u32;
        let mut managed = [0; 8];
        managed[core as usize / 32] |= 1 << (core % 32);
        let epoch = bridge.claim(std::process::id(), 0, &managed).expect("the lease");
        let deadlines = bridge
            .affinity()
            .map(|bridge| Deadlines::new(Arc::clone(&table), Arc::clone(bridge.in_flight())));
        Lab {
            dir,
            table,
            bridge,
            epoch,
            core,
            managed,
            table_fd,
            deadlines,
            _turn: turn,
        }
    }

    /// As another arbiter that comes after this one.
    pub fn claim(&mut self) -> u32 {
        let claimed = self.bridge.claim(std::process::id(), 0, &self.managed);
        self.epoch = claimed.expect("the lease");
        self.epoch
    }

    /// A look at the deadline, where no kernel keeps it.
    pub fn look_at_deadlines(&mut self) {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.look();
        }
    }

    /// The VM's descriptor of kFlux, if that moves the cores. Its last copy is the VM's life.
    fn seat(&self, slot: u32, vcpus: u32) -> Option<OwnedFd> {
        let device = self.bridge.kflux()?.device();
        Some(device.vm_create(slot, vcpus).expect("kFlux makes the VM"))
    }

    /// Starts a VM with the test guest; `mode` is its command line.
    pub fn start(&self, name: &str, slot: u32, mode: &str, more: &[&str]) -> Vm {
        let image = self.dir.join(format!("{name}.elf"));
        std::fs::write(&image, guest::image()).expect("image");
        self.start_image(name, slot, &image, mode, more)
    }

    pub fn start_image(&self, name: &str, slot: u32, image: &Path, mode: &str, more: &[&str]) -> Vm {
        let socket = self.dir.join(format!("{name}.sock"));
        let log = self.dir.join(format!("{name}.log"));
        let mut command = Command::new(program());
        command.args([
            "--name",
            name,
            "--slot",
            &slot.to_string(),
            "--cmdline",
            mode,
            "--table-fd",
        ]);
        command.arg(TABLE_FD.to_string());
        command
            .arg("--image")
            .arg(image)
            .arg("--socket")
            .arg(&socket)
            .args(more)
            .args(["--stats"]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("log"));
        let vcpus = more.iter().position(|option| *option == "--vcpus");
        let vcpus = vcpus.map_or(1, |at| more[at + 1].parse().expect("a number"));
        let seat = self.seat(slot, vcpus);
        if seat.is_some() {
            command.arg("--kflux-fd").arg(KFLUX_FD.to_string());
        }
        let inherited = [
            (self.table_fd.as_raw_fd(), TABLE_FD),
            (seat.as_ref().map_or(-1, AsRawFd::as_raw_fd), KFLUX_FD),
        ];
        // SAFETY: dup2 is allowed between fork and exec; the descriptors are open until the process has started.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in inherited.iter().filter(|(from, _)| *from >= 0) {
                    if libc::dup2(*from, *to) != *to {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let child = command.spawn().expect("fluxion starts");
        Vm {
            child,
            slot,
            socket,
            log,
            table: Arc::clone(&self.table),
        }
    }

    /// As an arbiter takes a VM over: attach, manage. The returned connection is the lease.
    pub fn adopt(&mut self, vm: &Vm) -> (Client, Page) {
        vm.live();
        let mut client = Client::greeted(&vm.socket);
        let page = client.attach();
        self.bridge.set_page(vm.slot, page.base());
        client.manage(self.epoch).expect("the current epoch");
        (client, page)
    }

    /// One command; gives its result.
    pub fn command(&mut self, op: i32, from: Option<Handle>, to: Option<Handle>, flags: i32) -> i32 {
        let raw = |h: Option<Handle>| h.map_or(0, |h| i32::from(h.raw()));
        let mut words = [0; COMMAND_WORDS];
        words[..5].copy_from_slice(&[op, self.core as i32, raw(from), raw(to), flags]);
        self.bridge.submit(&mut words);
        words[7]
    }

    /// The uThread that began as switch number `n` of this vCPU has had its time.
    pub fn preempt(&mut self, of: Handle, n: u32) -> i32 {
        let from = i32::from(of.raw());
        let mut words = [OP_PREEMPT, self.core as i32, from, n as i32, 0, 0, 0, 0];
        self.bridge.submit(&mut words);
        words[7]
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Whether a vCPU lost its core by force: by the kick that ignores what the guest says, or, where kFlux keeps the
/// deadline and that kick takes too long, without a word.
pub fn was_forced(vcpu: &abi::Vcpu) -> bool {
    matches!(load(&vcpu.how), abi::HOW_FORCED | abi::HOW_TAKEN)
}

/// The units of work that a vCPU says it has done.
pub fn done(page: &Page, vcpu: u32) -> u32 {
    page.guest(vcpu).done_lo.load(SeqCst)
}

/// Waits until a vCPU has done something since now.
pub fn until_progress(page: &Page, vcpu: u32) {
    let before = done(page, vcpu);
    until("the guest to make progress", || done(page, vcpu) != before);
}

/// Whether a thread sleeps, from /proc.
pub fn is_asleep(pid: u32, tid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).expect("stat");
    text.rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('S'))
}

pub fn load(word: &AtomicU32) -> u32 {
    word.load(SeqCst)
}

pub fn load64(word: &AtomicU64) -> u64 {
    word.load(SeqCst)
}
