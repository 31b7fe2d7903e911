//! What the integration tests share: real Fluxion processes, and a small arbiter made of the same crate
//! that the real one uses.

#![allow(dead_code)] // each test file uses its part

pub mod client;
pub mod guest;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::Arc;
use std::time::{Duration, Instant};

use client::{Client, Page};
use flux_abi as abi;
use handoff::bridge::{Bridge, COMMAND_WORDS};
use handoff::{Handle, Table};

/// Long enough for any machine: it only ends tests that would hang.
const HANG: Duration = Duration::from_secs(60);

/// The descriptor that a VM inherits the table as: out of the way of those that std uses while it starts one.
const TABLE_FD: i32 = 100;

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < HANG, "gave up waiting: {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Whether guests can run here; says so if not.
pub fn kvm_or_skip() -> bool {
    let usable = kvm_ioctls::Kvm::new().and_then(|kvm| kvm.create_vm()).is_ok();
    if !usable {
        eprintln!("SKIPPED: /dev/kvm is not usable here, so no guest was run");
    }
    usable
}

/// A directory, a table and an arbiter's bridge.
pub struct Lab {
    pub dir: PathBuf,
    pub table: Arc<Table>,
    pub bridge: Bridge,
    pub epoch: u32,
    /// The core that guests are granted: the last one that this process may use.
    pub core: u32,
    table_fd: OwnedFd,
}

impl Lab {
    pub fn new() -> Lab {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("fluxion-{}-{}", std::process::id(), COUNT.fetch_add(1, SeqCst));
        let dir = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&dir).expect("temporary directory");
        let (table_fd, table) = Table::create(fluxion::clock::tsc_khz(), 8).expect("table");
        let table = Arc::new(table);
        let mut bridge = Bridge::new(Arc::clone(&table));
        let cpus = fluxion::cpus::CpuSet::current().expect("affinity");
        let core = (0..abi::MAX_CORES)
            .rev()
            .find(|c| cpus.contains(*c))
            .expect("a core") as u32;
        let mut managed = [0; 8];
        managed[core as usize / 32] |= 1 << (core % 32);
        let epoch = bridge.claim(std::process::id(), 0, &managed);
        Lab {
            dir,
            table,
            bridge,
            epoch,
            core,
            table_fd,
        }
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_fluxion"));
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
        let fd = self.table_fd.as_raw_fd();
        // SAFETY: dup2 is allowed between fork and exec; the descriptor is open for as long as self is.
        unsafe {
            command.pre_exec(move || match libc::dup2(fd, TABLE_FD) {
                TABLE_FD => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
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
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A Fluxion process. Killed when dropped.
pub struct Vm {
    child: Child,
    pub slot: u32,
    pub socket: PathBuf,
    log: PathBuf,
    table: Arc<Table>,
}

impl Vm {
    pub fn handle(&self, vcpu: u32) -> Handle {
        Handle::new(self.slot, vcpu).expect("handle")
    }

    pub fn line(&self) -> &abi::Vm {
        self.table.vm(self.slot).expect("slot")
    }

    pub fn vcpu(&self, vcpu: u32) -> &abi::Vcpu {
        self.table.vcpu_line(self.handle(vcpu))
    }

    pub fn state_of(&self, vcpu: u32) -> u32 {
        abi::vcpu_state(self.vcpu(vcpu).word.load(SeqCst))
    }

    pub fn until_state(&self, vcpu: u32, state: u32) {
        until(
            &format!("vCPU {vcpu} to be in state {state}, log:\n{}", self.log()),
            || self.state_of(vcpu) == state,
        );
    }

    pub fn live(&self) {
        until("the VM to be live", || {
            let state = self.line().state.load(SeqCst);
            matches!(state, abi::VM_LIVE | abi::VM_POISONED) && self.line().pid.load(SeqCst) == self.pid()
        });
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("wait").is_none()
    }

    pub fn wait(&mut self) -> ExitStatus {
        until(&format!("the process to end, log:\n{}", self.log()), || {
            self.child.try_wait().expect("wait").is_some()
        });
        self.child.wait().expect("wait")
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a signal to our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        if let Ok(mut file) = File::open(&self.log) {
            let _ = file.read_to_string(&mut text);
        }
        text
    }

    /// The value of one counter, from the table that --stats printed.
    pub fn counted(&self, what: &str) -> u64 {
        let log = self.log();
        let line = log.lines().find(|l| l.split_whitespace().next() == Some(what));
        line.and_then(|l| l.split_whitespace().last())
            .map_or(0, |n| n.parse().expect("number"))
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
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
