//! The host that takes cores away as it likes: grants, parks, moves, forces and ends time slices at random, one to ten times as
//! far apart as parking a vCPU and granting it a core again takes here, and now and then an arbiter that goes and
//! another one that comes.

#![allow(dead_code)]

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use flux_abi as abi;
use handoff::bridge::{FLAG_ASK_ONLY, FLAG_KICK_NOW, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK};
use handoff::Handle;

use crate::common::{Arbiter, Log, On, Vm};
use crate::lease::Lease;

const SLOT: u32 = 5;
/// So often the cycle is measured.
const SAMPLES: usize = 101;
/// A VM that has cores does something in that time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the host has done.
#[derive(Debug, Default)]
pub struct Counts {
    pub grants: u64,
    pub parks: u64,
    pub moves: u64,
    pub heirs: u64,
    pub preempts: u64,
    /// Parks that a FORCE was accepted for, and those of them that ended by force.
    pub forces: u64,
    pub forced: u64,
    /// Arbiters that went and came.
    pub leases: u64,
}

pub struct Host {
    pub arbiter: Arbiter,
    pub vm: Vm,
    pub log: Log,
    pub counts: Counts,
    /// TSC ticks from a park's command to the guest's going on, in the middle of many.
    pub cycle: u64,
    socket: PathBuf,
    lease: Option<Lease>,
    /// Whether the arbiter stays: where the VM may end at any moment.
    pub keeps_lease: bool,
    khz: u64,
    last: (u64, Instant),
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Host {
    pub fn start(on: On, vcpus: u32, uthreads: u32, cmdline: &str, seed: u64) -> Host {
        let mut arbiter = Arbiter::new();
        arbiter.seed(seed);
        // Whoever is forced before that is forced by command.
        arbiter.table.header().deadline_us.store(10_000_000, SeqCst);
        let name = format!(
            "flux-torture-{}-{:?}.sock",
            std::process::id(),
            std::thread::current().id()
        );
        let socket = std::env::temp_dir().join(name.replace(['(', ')'], ""));
        // A tenth more than there are, for those that they start; and tables for all of them.
        let stacks = u64::from(uthreads) * 11 / 10 + 64;
        let mib = stacks / 16 + 160;
        let extra = [
            ("--mem", mib.to_string()),
            ("--stacks", stacks.to_string()),
            ("--socket", socket.to_string_lossy().into_owned()),
        ];
        let extra = extra.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let extra: Vec<&str> = extra.chain(["--stats"]).collect();
        let (vm, log) = arbiter.start_logged(on, SLOT, vcpus, cmdline, &extra);
        let khz = u64::from(arbiter.table.header().tsc_khz.load(SeqCst)).max(1);
        come_first();
        let mut host = Host {
            arbiter,
            vm,
            log,
            counts: Counts::default(),
            cycle: 0,
            socket,
            lease: None,
            keeps_lease: false,
            khz,
            last: (0, Instant::now()),
        };
        host.adopt();
        host
    }

    fn random(&mut self, below: u64) -> u64 {
        self.arbiter.random(below as usize) as u64
    }

    pub fn microseconds(&self, ticks: u64) -> f64 {
        ticks as f64 * 1000.0 / self.khz as f64
    }

    pub fn ticks(&self, microseconds: u64) -> u64 {
        microseconds * self.khz / 1000
    }

    /// Measures what a park and a grant take, with the guest at work.
    pub fn measure(&mut self) {
        let mut samples = Vec::with_capacity(SAMPLES);
        let (core, vcpu) = (self.arbiter.cores[0], self.vm.handle(0));
        self.park_all();
        for _ in 0..SAMPLES {
            assert_eq!(self.arbiter.grant(core, vcpu), 0);
            std::thread::sleep(Duration::from_micros(300));
            let begun = libos::now();
            if self.send(OP_PARK, core, vcpu, None, FLAG_KICK_NOW) != 0 {
                continue;
            }
            self.wait("the vCPU to park", |host| {
                host.arbiter.state(vcpu) == abi::VCPU_PARKED
            });
            let line = |host: &Host| host.arbiter.table.vcpu_line(vcpu).t_enter.load(SeqCst);
            let before = line(self);
            if self.send(OP_GRANT, core, vcpu, Some(vcpu), 0) != 0 {
                continue;
            }
            self.wait("the vCPU to go on", |host| line(host) != before);
            samples.push(libos::now().saturating_sub(begun));
            self.park_all();
        }
        samples.sort_unstable();
        self.cycle = samples[samples.len() / 2];
        (self.counts.grants, self.counts.parks) = (0, 0);
    }

    /// Waits until `done`, or until the VM is over, for which there is nothing to wait any more.
    fn wait(&mut self, what: &str, mut done: impl FnMut(&mut Host) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            self.arbiter.bridge.poll();
            self.arbiter.look_at_deadlines();
            assert!(
                begun.elapsed() < PATIENCE,
                "gave up waiting for {what}\n{}",
                self.state()
            );
            std::hint::spin_loop();
            if begun.elapsed() > Duration::from_millis(1) {
                if self.is_over() {
                    return;
                }
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }

    fn park_all(&mut self) {
        let Host { arbiter, vm, .. } = self;
        arbiter.park_all(&[vm]);
    }

    fn send(&mut self, op: i32, core: u32, from: Handle, to: Option<Handle>, flags: i32) -> i32 {
        let to = to.map_or(0, |to| u32::from(to.raw()));
        self.arbiter.command(op, core, from.raw().into(), to, flags)
    }

    /// Whoever was forced inside FluxOS and has no core: it may have something there that the others spin for, so
    /// its VM's next core is for it.
    fn stranded(&mut self) -> Option<Handle> {
        // By chance: of several, one may have what the others spin for in turn.
        let (first, vcpus) = (self.random(u64::from(self.vm.vcpus)) as u32, self.vm.vcpus);
        (0..vcpus)
            .map(|i| self.vm.handle((first + i) % vcpus))
            .find(|vcpu| {
                let held = self.arbiter.table.vcpu_line(*vcpu).held.load(SeqCst);
                held == abi::HELD_FORCED && self.arbiter.state(*vcpu) == abi::VCPU_PARKED
            })
    }

    /// A vCPU that a core can be given to.
    fn parked(&mut self) -> Option<Handle> {
        if let Some(vcpu) = self.stranded() {
            return Some(vcpu);
        }
        let (first, vcpus) = (self.random(u64::from(self.vm.vcpus)) as u32, self.vm.vcpus);
        (0..vcpus)
            .map(|i| self.vm.handle((first + i) % vcpus))
            .find(|vcpu| self.arbiter.state(*vcpu) == abi::VCPU_PARKED)
    }

    /// One thing, by chance, and a while.
    pub fn turn(&mut self) {
        let which = self.random(self.arbiter.cores.len() as u64) as usize;
        let core = self.arbiter.cores[which];
        let flags = [0, FLAG_ASK_ONLY, FLAG_KICK_NOW][self.random(3) as usize];
        match (self.arbiter.owner(core), self.random(100)) {
            (None, _) => self.grant(core),
            // Who has it may spin, and not leave when it is asked.
            (Some(owner), _) if self.help_stranded() => self.force(core, owner),
            (Some(owner), 0..=14) => {
                let sent = self.send(OP_PARK, core, owner, None, flags);
                self.counts.parks += u64::from(sent == 0);
            }
            (Some(owner), 15..=69) => {
                if let Some(to) = self.parked() {
                    let sent = self.send(OP_MOVE, core, owner, Some(to), flags);
                    self.counts.moves += u64::from(sent == 0);
                }
            }
            (Some(owner), 70..=79) => {
                let heir = if self.random(3) == 0 { None } else { self.parked() };
                let sent = self.send(OP_HEIR, core, owner, heir, 0);
                self.counts.heirs += u64::from(sent == 0);
            }
            (Some(owner), 80..=84) => self.force(core, owner),
            (Some(owner), 85..=94) => {
                let running = self.vm.page.guest(owner.vcpu()).switches.load(SeqCst);
                let sent = self.arbiter.preempt(core, owner, running);
                self.counts.preempts += u64::from(sent == 0);
            }
            _ => {}
        }
        if self.random(6000) == 0 {
            self.change_arbiters();
        }
        self.pause();
    }

    fn grant(&mut self, core: u32) {
        if let Some(to) = self.parked() {
            let granted = self.arbiter.grant(core, to);
            self.counts.grants += u64::from(granted == 0);
        }
    }

    /// From one to ten cycles, in which what is due is sent.
    fn pause(&mut self) {
        let ticks = self.cycle + self.random(9 * self.cycle + 1);
        std::thread::sleep(Duration::from_nanos(ticks * 1_000_000 / self.khz));
        self.arbiter.bridge.poll();
        self.arbiter.look_at_deadlines();
    }

    /// Asks the owner to leave, and takes the core by force if it has not left at once. The next core goes to
    /// whoever was forced inside FluxOS: it may have something there that the others spin for.
    fn force(&mut self, core: u32, owner: Handle) {
        for other in self.arbiter.cores.clone() {
            self.send(OP_HEIR, other, owner, None, 0);
        }
        // If it was asked before, it is that park that is forced.
        match self.send(OP_PARK, core, owner, None, FLAG_ASK_ONLY) {
            0 => self.counts.parks += 1,
            refused if refused == -libc::EALREADY => {}
            _ => return,
        }
        match self.send(OP_FORCE, core, owner, None, 0) {
            0 => self.counts.forces += 1,
            refused => return assert_eq!(refused, -libc::EAGAIN, "it has left by itself"),
        }
        self.wait("who is forced to leave", |host| {
            host.arbiter.state(owner) == abi::VCPU_PARKED
        });
        let line = self.arbiter.table.vcpu_line(owner);
        // Nobody's heir, so it stays as it was left.
        let (how, held) = (line.how.load(SeqCst), line.held.load(SeqCst));
        if [abi::HOW_FORCED, abi::HOW_TAKEN].contains(&how) {
            self.counts.forced += 1;
        }
        if held == abi::HELD_FORCED {
            self.pause();
        }
    }

    fn vcpus(&self) -> impl Iterator<Item = Handle> + '_ {
        (0..self.vm.vcpus).map(|vcpu| self.vm.handle(vcpu))
    }

    /// The arbiter goes, the VM runs as the ordinary scheduler likes, and another arbiter comes.
    fn change_arbiters(&mut self) {
        if self.keeps_lease {
            return;
        }
        self.lease = None;
        self.wait("the VM to be nobody's", |host| {
            host.vcpus()
                .all(|vcpu| host.arbiter.state(vcpu) == abi::VCPU_UNMANAGED)
        });
        let cycles = 1 + self.random(200);
        std::thread::sleep(Duration::from_nanos(cycles * self.cycle * 1_000_000 / self.khz));
        self.arbiter.claim();
        self.adopt();
        self.counts.leases += 1;
    }

    fn adopt(&mut self) {
        let epoch = self.arbiter.table.header().epoch.load(SeqCst);
        self.lease = Some(Lease::take(&self.socket, epoch));
        self.wait("all vCPUs to park", |host| {
            // Some may have been recalled while they spun for what one has that was parked by then.
            if host.help_stranded() {
                let core = host.arbiter.cores[0];
                if let Some(owner) = host.arbiter.owner(core) {
                    host.force(core, owner);
                }
            }
            let settled = |vcpu: Handle| {
                let cores = &host.arbiter.cores;
                host.arbiter.state(vcpu) == abi::VCPU_PARKED
                    || cores.iter().any(|core| host.arbiter.owner(*core) == Some(vcpu))
            };
            host.vcpus().all(settled)
        });
    }

    fn idle_core(&self) -> Option<u32> {
        let mut cores = self.arbiter.cores.iter().copied();
        cores.find(|core| self.arbiter.owner(*core).is_none())
    }

    /// Gives an idle core to whoever needs it most. Whether there is somebody who still does.
    fn help_stranded(&mut self) -> bool {
        let Some(vcpu) = self.stranded() else {
            return false;
        };
        let Some(core) = self.idle_core() else {
            return true;
        };
        self.counts.grants += u64::from(self.arbiter.grant(core, vcpu) == 0);
        false
    }

    /// Whether the VM has ended, in whatever way.
    pub fn is_over(&mut self) -> bool {
        let line = self.arbiter.table.vm(SLOT).expect("slot");
        let state = line.state.load(SeqCst);
        [abi::VM_POISONED, abi::VM_DEAD].contains(&state) || self.vm.exit_code().is_some()
    }

    /// Whether the guest goes on at all; the rest it finds out itself.
    pub fn look(&mut self) {
        let done = self.vm.done();
        if done != self.last.0 {
            self.last = (done, Instant::now());
        }
        assert!(
            self.last.1.elapsed() < PATIENCE,
            "nothing is done any more\n{}",
            self.state()
        );
    }

    /// Where everybody is, for the report of a failure.
    fn state(&self) -> String {
        let of = |vcpu: Handle| {
            let line = self.arbiter.table.vcpu_line(vcpu);
            let guest = self.vm.page.guest(vcpu.vcpu());
            format!(
                "vCPU {}: state {} held {} how {} park_req {} force {}; guest: state {} critical {} queue {} ack {}",
                vcpu.vcpu(),
                self.arbiter.state(vcpu),
                line.held.load(SeqCst),
                line.how.load(SeqCst),
                line.park_req.load(SeqCst),
                line.force.load(SeqCst),
                guest.state.load(SeqCst),
                guest.critical.load(SeqCst),
                guest.runq_len.load(SeqCst),
                guest.park_ack.load(SeqCst),
            )
        };
        let cores = self.arbiter.cores.iter();
        let cores = cores.map(|core| format!("core {core}: {:x}", abi_word(&self.arbiter, *core)));
        let vcpus = self.vcpus().map(of);
        cores.chain(vcpus).collect::<Vec<_>>().join("\n")
    }

    /// Goes on until the VM has ended by itself; the exit code of its process.
    pub fn until_it_ends(&mut self) -> Option<i32> {
        let begun = Instant::now();
        while !self.is_over() {
            self.turn();
            assert!(
                begun.elapsed() < PATIENCE * 3,
                "the VM does not end\n{}",
                self.state()
            );
        }
        // One that gave up would stay to be asked why.
        self.lease = None;
        self.vm.stop()
    }

    /// Tells the guest to come to an end: by a request in its ring.
    pub fn ask_to_end(&self) {
        self.vm.page.ring().tail.store(1, SeqCst);
    }

    /// Waits until the guest is at work.
    pub fn until_at_work(&mut self) {
        let begun = Instant::now();
        while self.vm.done() < 1000 && self.vm.exit_code().is_none() {
            let Host { arbiter, vm, .. } = self;
            arbiter.anything(&[vm], 0);
            std::thread::sleep(Duration::from_micros(500));
            assert!(
                begun.elapsed() < PATIENCE,
                "the guest does not begin\n{}",
                self.state()
            );
        }
    }
}

/// This thread stands for an arbiter with a core of its own, which the machine may not have to spare: its
/// sleeps end when they are to, and then it does not wait for the vCPUs' threads. Where that is not permitted, the
/// storm is a gentler one.
fn come_first() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: plain system calls about this thread.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, 1);
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &first);
    }
}

fn abi_word(arbiter: &Arbiter, core: u32) -> u64 {
    use handoff::World;
    arbiter.table.core(core)
}
