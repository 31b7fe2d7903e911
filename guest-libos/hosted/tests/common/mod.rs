//! VMs as processes of their own, and a small arbiter that drives them through the bridge: kFlux's if
//! HYPERFLUX_BRIDGE=kflux asks for it, as the lab does.

#![allow(dead_code)]

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use flux_abi as abi;
use handoff::bridge::{COMMAND_WORDS, OP_GRANT, OP_MOVE, OP_PARK, OP_PREEMPT};
use handoff::deadline::Deadlines;
use handoff::{AnyBridge, Handle, Table, World};
use libos::page::Page;

/// How long anything may take that must happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a guest runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    Hosted,
    Kvm,
}

impl On {
    /// The program and its first arguments; `None` if this machine does not have it.
    pub fn command(self) -> Option<(PathBuf, Vec<OsString>)> {
        let hosted = PathBuf::from(env!("CARGO_BIN_EXE_fluxos-hosted"));
        if self == On::Hosted {
            return Some((hosted, Vec::new()));
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let fluxion = std::env::var_os("FLUXION")
            .map_or_else(|| root.join("vmm/target/release/fluxion"), PathBuf::from);
        let image = std::env::var_os("FLUXOS").map_or_else(
            || root.join("guest-libos/target/x86_64-unknown-linux-gnu/release/fluxos"),
            PathBuf::from,
        );
        let usable = |path: &Path| std::fs::File::open(path).is_ok();
        let kvm = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok();
        (kvm && usable(&fluxion) && usable(&image)).then(|| (fluxion, vec!["--image".into(), image.into()]))
    }

    /// Says so if a test cannot run on this.
    pub fn there(self) -> bool {
        if self == On::Hosted && over_kflux() {
            eprintln!("not run on {self:?}: kFlux kicks what runs under KVM");
            return false;
        }
        let there = self.command().is_some();
        if !there {
            eprintln!("not run on {self:?}: it needs /dev/kvm, Fluxion and the guest image");
        }
        there
    }
}

/// Whether these tests run over kFlux.
pub fn over_kflux() -> bool {
    std::env::var_os("HYPERFLUX_BRIDGE").is_some_and(|bridge| bridge == "kflux")
}

/// A core is claimed by one domain, so tests over kFlux take turns.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Waits until `done`, which must happen some time.
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A VM in a process of its own, killed when dropped.
pub struct Vm {
    child: Child,
    pub slot: u32,
    pub vcpus: u32,
    pub page: Page,
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Vm {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn handle(&self, vcpu: u32) -> Handle {
        Handle::new(self.slot, vcpu).expect("a vCPU that exists")
    }

    pub fn done(&self) -> u64 {
        (0..self.vcpus)
            .map(|vcpu| {
                let guest = self.page.guest(vcpu);
                u64::from(guest.done_lo.load(SeqCst)) | u64::from(guest.done_hi.load(SeqCst)) << 32
            })
            .fold(0, u64::wrapping_add)
    }

    /// The sum over all vCPUs of one of their words.
    pub fn sum(&self, word: impl Fn(&abi::GuestVcpu) -> u32) -> u64 {
        (0..self.vcpus)
            .map(|vcpu| u64::from(word(self.page.guest(vcpu))))
            .sum()
    }

    pub fn exit_code(&mut self) -> Option<i32> {
        self.child
            .try_wait()
            .expect("wait")
            .and_then(|status| status.code())
    }

    /// Tells it to stop unless it has ended; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        if self.child.try_wait().expect("wait").is_none() {
            // SAFETY: a signal to our own child, which has not been waited for.
            unsafe { libc::kill(self.child.id() as libc::pid_t, libc::SIGTERM) };
        }
        self.child.wait().expect("wait").code()
    }
}

/// What a VM has said, as far as it has come.
pub struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Log {
    fn of(from: std::process::ChildStderr) -> Log {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                eprintln!("{line}");
                to.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Log {
            lines,
            reader: Some(reader),
        }
    }

    /// All of it; the VM has ended.
    pub fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log's reader");
        }
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .join("\n")
    }
}

/// The table, the bridge upon it, and the cores that are managed.
pub struct Arbiter {
    fd: OwnedFd,
    pub table: Arc<Table>,
    pub bridge: AnyBridge,
    pub cores: Vec<u32>,
    managed: [u32; 8],
    random: u64,
    deadlines: Option<Deadlines>,
    // Last, so that the bridge has gone when the next test begins.
    _turn: Option<MutexGuard<'static, ()>>,
}

impl Arbiter {
    pub fn new() -> Arbiter {
        let (fd, table) =
            Table::create(fluxion::clock::tsc_khz(), fluxion::clock::STAMP_SHIFT).expect("table");
        let table = Arc::new(table);
        table.header().kick_after_us.store(20, SeqCst);
        let mut bridge = AnyBridge::new(Arc::clone(&table));
        let turn = over_kflux().then(|| {
            let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            // Nobody beats here, and nobody is to be forced because the machine is slow.
            table.header().lease_ms.store(60_000, SeqCst);
            table.header().deadline_us.store(10_000_000, SeqCst);
            bridge.use_kflux().expect("kFlux");
            turn
        });
        let allowed = fluxion::cpus::CpuSet::current().expect("affinity");
        let mut cores: Vec<u32> = (0..32)
            .filter(|core| allowed.contains(*core as usize))
            .take(4)
            .collect();
        let mut managed = [0; 8];
        for core in &cores {
            managed[*core as usize / 32] |= 1 << (core % 32);
        }
        // kFlux wants a core left for those that it sends away.
        if turn.is_some() && cores.len() > 1 {
            managed[cores[0] as usize / 32] &= !(1 << (cores[0] % 32));
            cores.remove(0);
        }
        bridge.claim(std::process::id(), 0, &managed).expect("the lease");
        let deadlines = bridge
            .affinity()
            .map(|bridge| Deadlines::new(Arc::clone(&table), Arc::clone(bridge.in_flight())));
        Arbiter {
            fd,
            table,
            bridge,
            cores,
            managed,
            random: 0x9e37_79b9_7f4a_7c15,
            deadlines,
            _turn: turn,
        }
    }

    /// Starts a VM, dormant unless `extra` says otherwise.
    pub fn start(&mut self, on: On, slot: u32, vcpus: u32, cmdline: &str, extra: &[&str]) -> Vm {
        let (program, first) = on.command().expect("looked for by the test");
        self.start_program(program, first, slot, vcpus, cmdline, extra)
    }

    /// As [`Arbiter::start`], a VM that is this program with these first arguments.
    pub fn start_program(
        &mut self,
        program: PathBuf,
        first: Vec<OsString>,
        slot: u32,
        vcpus: u32,
        cmdline: &str,
        extra: &[&str],
    ) -> Vm {
        self.launch(program, first, slot, vcpus, cmdline, extra, Stdio::inherit())
    }

    /// As [`Arbiter::start`], its log kept as well as shown.
    pub fn start_logged(
        &mut self,
        on: On,
        slot: u32,
        vcpus: u32,
        cmdline: &str,
        extra: &[&str],
    ) -> (Vm, Log) {
        let (program, first) = on.command().expect("looked for by the test");
        let mut vm = self.launch(program, first, slot, vcpus, cmdline, extra, Stdio::piped());
        let log = Log::of(vm.child.stderr.take().expect("piped"));
        (vm, log)
    }

    #[allow(clippy::too_many_arguments)]
    fn launch(
        &mut self,
        program: PathBuf,
        first: Vec<OsString>,
        slot: u32,
        vcpus: u32,
        cmdline: &str,
        extra: &[&str],
        log: Stdio,
    ) -> Vm {
        let fd = self.fd.as_raw_fd();
        let mut command = Command::new(program);
        command
            .args(first)
            .args(["--table-fd", "100", "--slot", &slot.to_string()]);
        command.args([
            "--name",
            &format!("vm{slot}"),
            "--vcpus",
            &vcpus.to_string(),
            "--cmdline",
            cmdline,
        ]);
        command.args(extra).stdout(Stdio::null()).stderr(log);
        let seat = self.bridge.kflux().map(|bridge| {
            let made = bridge.device().vm_create(slot, vcpus);
            made.expect("kFlux makes the VM")
        });
        if seat.is_some() {
            command.args(["--kflux-fd", "101"]);
        }
        let seat_fd = seat.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        // SAFETY: dup2 is all that happens between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in [(fd, 100), (seat_fd, 101)] {
                    if from >= 0 && libc::dup2(from, to) != to {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut child = command.spawn().expect("the VM's process starts");
        // The process has its own, and its end is to be the VM's.
        drop(seat);
        let line = self.table.vm(slot).expect("the slot exists");
        until("the VM to be live", || {
            assert!(child.try_wait().expect("wait").is_none(), "the VM ended at once");
            line.state.load(SeqCst) != abi::VM_EMPTY && line.state.load(SeqCst) != abi::VM_STARTING
        });
        let base = map_page(child.id());
        assert!(self.bridge.set_page(slot, base));
        // SAFETY: just mapped, and never unmapped.
        let page = unsafe { Page::new(base) };
        Vm {
            child,
            slot,
            vcpus,
            page,
        }
    }

    /// Takes the lease anew, as the arbiter that comes after this one; the epoch.
    pub fn claim(&mut self) -> u32 {
        let claimed = self.bridge.claim(std::process::id(), 0, &self.managed);
        claimed.expect("the lease")
    }

    /// From here on what is chosen by chance depends on this.
    pub fn seed(&mut self, seed: u64) {
        self.random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    }

    /// A look at the deadline, where no kernel keeps it.
    pub fn look_at_deadlines(&mut self) {
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.look();
        }
    }

    /// One command; 0 or a negative error number.
    pub fn command(&mut self, op: i32, core: u32, from: u32, to: u32, flags: i32) -> i32 {
        let mut command = [0; COMMAND_WORDS];
        (command[0], command[1]) = (op, core as i32);
        (command[2], command[3], command[4]) = (from as i32, to as i32, flags);
        self.bridge.submit(&mut command);
        command[COMMAND_WORDS - 1]
    }

    pub fn grant(&mut self, core: u32, to: Handle) -> i32 {
        self.command(OP_GRANT, core, 0, to.raw().into(), 0)
    }

    /// The uThread that began as switch number `n` of this vCPU, whose core it is, has had its time.
    pub fn preempt(&mut self, core: u32, of: Handle, n: u32) -> i32 {
        self.command(OP_PREEMPT, core, of.raw().into(), n, 0)
    }

    /// Ends the time slice of whatever runs on a random core; refused, or over already, as it may be.
    pub fn preempt_any(&mut self, vms: &[&Vm]) {
        let core = self.random(self.cores.len());
        let core = self.cores[core];
        if let Some(owner) = self.owner(core) {
            if let Some(vm) = vms.iter().find(|vm| vm.slot == owner.slot()) {
                let running = vm.page.guest(owner.vcpu()).switches.load(SeqCst);
                self.preempt(core, owner, running);
            }
        }
    }

    pub fn owner(&self, core: u32) -> Option<Handle> {
        Handle::from_raw(abi::core_owner(self.table.core(core)).into())
    }

    pub fn state(&self, vcpu: Handle) -> u32 {
        abi::vcpu_state(self.table.vcpu(vcpu))
    }

    pub fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below.max(1) as u64) as usize
    }

    /// Moves a random core to a random vCPU, or takes it away. What cannot be done just now is
    /// refused by the bridge, and that is fine.
    pub fn anything(&mut self, vms: &[&Vm], flags: i32) {
        let (core, vm) = (self.random(self.cores.len()), self.random(vms.len()));
        let (core, vm) = (self.cores[core], vms[vm]);
        let to = u32::from(vm.handle(self.random(vm.vcpus as usize) as u32).raw());
        let park = self.random(4) == 0;
        match self.owner(core) {
            None => self.command(OP_GRANT, core, 0, to, 0),
            Some(from) if park => self.command(OP_PARK, core, from.raw().into(), 0, flags),
            Some(from) => self.command(OP_MOVE, core, from.raw().into(), to, flags),
        };
        self.bridge.poll();
    }

    /// Takes all cores back.
    pub fn park_all(&mut self, vms: &[&Vm]) {
        until("all vCPUs to park", || {
            for core in self.cores.clone() {
                if let Some(owner) = self.owner(core) {
                    self.command(OP_PARK, core, owner.raw().into(), 0, 0);
                }
            }
            self.bridge.poll();
            let parked = |vm: &&Vm| (0..vm.vcpus).all(|v| self.state(vm.handle(v)) == abi::VCPU_PARKED);
            vms.iter().all(parked)
        });
    }

    /// With all vCPUs parked: the uThreads that are runnable or held. None is anywhere else but
    /// on a wait list.
    pub fn accounted_for(&self, vm: &Vm) -> u32 {
        let held = (0..vm.vcpus)
            .filter(|v| {
                let held = self.table.vcpu_line(vm.handle(*v)).held.load(SeqCst);
                let running = vm.page.guest(*v).state.load(SeqCst) == abi::GUEST_RUNNING;
                held == abi::HELD_HELD || held == abi::HELD_FORCED && running
            })
            .count();
        vm.page.summary().runnable.load(SeqCst) + held as u32
    }
}

/// Maps the control page of a process by way of its descriptor.
fn map_page(pid: u32) -> *mut u8 {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process is ours");
    let is_page = |path: &PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("hyperflux-control"))
    };
    let path = fds
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(is_page)
        .expect("it has a page");
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open the page");
    // SAFETY: a fresh shared mapping; the file is as long as that, and sealed.
    let at = unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        libc::mmap(
            std::ptr::null_mut(),
            abi::CONTROL_BYTES,
            access,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED, "map the page");
    at.cast()
}
