//! The affinity bridge, arbiter's side: carries out batches of commands on the table,
//! kicks those who do not leave by themselves, and buries the dead.
//!
//! One thread (the loop's) owns a Bridge. The deadline thread works from the table and
//! from the [`InFlight`] marks alone, so a loop that is stuck does not stop it.

use crate::deadline;
use crate::pages::Pages;
use crate::protocol::{self, vcpu_word, CoreWord, Moved, Refused, World};
use crate::vcpu::end_tenure;
use crate::{linux, Handle, Table};
use flux_abi as abi;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::Arc;

// The words of a command as the C interface has them: signed, in a batch of ints.
pub const COMMAND_WORDS: usize = abi::CMD_WORDS as usize;
pub(crate) const OP: usize = abi::CMD_OP as usize;
pub(crate) const CORE: usize = abi::CMD_CORE as usize;
pub(crate) const FROM: usize = abi::CMD_FROM as usize;
pub(crate) const TO: usize = abi::CMD_TO as usize;
pub(crate) const FLAGS: usize = abi::CMD_FLAGS as usize;
const TSC_LO: usize = abi::CMD_TSC_LO as usize;
const TSC_HI: usize = abi::CMD_TSC_HI as usize;
pub(crate) const RESULT: usize = abi::CMD_RESULT as usize;

pub const OP_GRANT: i32 = abi::OP_GRANT as i32;
pub const OP_PARK: i32 = abi::OP_PARK as i32;
pub const OP_MOVE: i32 = abi::OP_MOVE as i32;
pub const OP_HEIR: i32 = abi::OP_HEIR as i32;
pub const OP_FORCE: i32 = abi::OP_FORCE as i32;
pub const OP_PREEMPT: i32 = abi::OP_PREEMPT as i32;
pub const FLAG_ASK_ONLY: i32 = abi::FLAG_ASK_ONLY as i32;
pub const FLAG_KICK_NOW: i32 = abi::FLAG_KICK_NOW as i32;

/// When the park that is in flight on each core was asked for: TSC, 0 for none.
/// Written by the loop's thread, read by the deadline thread.
pub struct InFlight {
    since: [AtomicU64; abi::MAX_CORES],
}

impl Default for InFlight {
    fn default() -> Self {
        InFlight {
            since: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl InFlight {
    pub fn since(&self, core: u32) -> u64 {
        // Pairs with the Release in begin(): whoever sees the stamp sees the request.
        self.since[core as usize].load(Acquire)
    }

    fn begin(&self, core: u32, now: u64) {
        self.since[core as usize].store(now, Release);
    }

    fn end(&self, core: u32) {
        self.since[core as usize].store(0, Release);
    }
}

/// A park that has been asked for and not been seen to end.
#[derive(Clone, Copy)]
struct Asked {
    core: u32,
    from: Handle,
    /// The request, by the victim's count.
    park_req: u32,
    /// When to kick next; `u64::MAX`: leave it to the deadline.
    kick_at: u64,
    /// How long to wait after that kick, doubled each time.
    patience: u64,
}

pub struct Bridge {
    table: Arc<Table>,
    in_flight: Arc<InFlight>,
    asked: Vec<Asked>,
    pages: Pages,
    epoch: u32,
}

/// Takes the lease in the table's header: a new epoch, who has it, and which cores it is about.
pub(crate) fn new_epoch(table: &Table, pid: u32, arbiter_core: u32, managed: &[u32; 8]) -> u32 {
    let header = table.header();
    // 0 is "never claimed", so the wrap skips it.
    let bump = |epoch: u32| Some(epoch.wrapping_add(1).max(1));
    let before = header
        .epoch
        .fetch_update(SeqCst, SeqCst, bump)
        .unwrap_or_default();
    header.arbiter_pid.store(pid, SeqCst);
    header.arbiter_core.store(arbiter_core, Relaxed);
    for (word, mask) in header.managed.iter().zip(managed) {
        word.store(*mask, Relaxed);
    }
    before.wrapping_add(1).max(1)
}

/// Ends the lease of `epoch` in the table's header, if it is that one's still.
pub(crate) fn end_epoch(table: &Table, epoch: u32) -> bool {
    let header = table.header();
    let next = epoch.wrapping_add(1).max(1);
    let ours = epoch != 0 && header.epoch.compare_exchange(epoch, next, SeqCst, SeqCst).is_ok();
    if ours {
        header.arbiter_pid.store(0, SeqCst);
    }
    ours
}

#[inline]
pub(crate) fn stamp_heartbeat(table: &Table) {
    let header = table.header();
    let shift = header.stamp_shift.load(Relaxed);
    header
        .heartbeat
        .store((linux::tsc() >> (shift & 63)) as u32, Relaxed);
}

impl Bridge {
    pub fn new(table: Arc<Table>) -> Bridge {
        Bridge {
            table,
            in_flight: Arc::default(),
            // One request in flight per core, so this never grows.
            asked: Vec::with_capacity(abi::MAX_CORES),
            pages: Pages::default(),
            epoch: 0,
        }
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    pub fn in_flight(&self) -> &Arc<InFlight> {
        &self.in_flight
    }

    /// Takes the lease: a new epoch, every core free, nobody's heir. VMs of an earlier
    /// arbiter are unmanaged by now or soon, and are adopted one by one.
    pub fn claim(&mut self, pid: u32, arbiter_core: u32, managed: &[u32; 8]) -> u32 {
        self.epoch = new_epoch(&self.table, pid, arbiter_core, managed);
        for core in 0..abi::MAX_CORES as u32 {
            self.clear_core(core);
            self.in_flight.end(core);
        }
        self.asked.clear();
        self.beat();
        self.epoch
    }

    fn clear_core(&self, core: u32) {
        if let Some(line) = self.table.core_line(core) {
            line.heir.store(abi::HANDLE_NONE, SeqCst);
            let mut was = line.word.load(SeqCst);
            loop {
                let generation = CoreWord::of(was).generation.wrapping_add(1);
                let free = CoreWord {
                    owner: 0,
                    successor: 0,
                    generation,
                }
                .word();
                match self.table.core_cas(core, was, free) {
                    Ok(()) => break,
                    Err(found) => was = found,
                }
            }
        }
    }

    /// Gives the lease up, if it is still ours.
    pub fn release(&mut self) -> bool {
        end_epoch(&self.table, std::mem::take(&mut self.epoch))
    }

    pub fn set_page(&self, slot: u32, hot: *mut u8) -> bool {
        self.pages.set(slot, hot)
    }

    /// Gives the control pages away, to the bridge that takes this one's place.
    pub(crate) fn into_pages(self) -> Pages {
        self.pages
    }

    pub fn beat(&self) {
        stamp_heartbeat(&self.table);
    }

    /// Carries out a batch in place. Returns how many commands failed.
    pub fn submit(&mut self, batch: &mut [i32]) -> i32 {
        let stale = self.epoch == 0 || self.table.header().epoch.load(SeqCst) != self.epoch;
        let mut failed = 0;
        for command in batch.chunks_exact_mut(COMMAND_WORDS) {
            let result = if stale {
                -libc::ESTALE
            } else {
                self.command(command)
            };
            command[RESULT] = result;
            failed += (result < 0) as i32;
        }
        failed
    }

    fn command(&mut self, command: &[i32]) -> i32 {
        let core = command[CORE] as u32;
        let Some(line) = self.table.core_line(core).filter(|_| self.table.is_managed(core)) else {
            return -libc::EINVAL;
        };
        let from = Handle::from_raw(command[FROM] as u32);
        if command[OP] == OP_PREEMPT {
            return self.preempt(core, from, command);
        }
        let to = Handle::from_raw(command[TO] as u32);
        if let Some(to) = to {
            if self.table.vm_of(to).state.load(Relaxed) != abi::VM_LIVE {
                return -libc::ESRCH;
            }
        }
        match (command[OP], from, to) {
            (OP_GRANT, _, Some(to)) => match protocol::grant(&*self.table, core, to) {
                Ok(()) => self.stamp(to, command),
                Err(why) => errno(why),
            },
            (OP_PARK, Some(from), _) => self.request(core, from, None, command),
            (OP_MOVE, Some(from), Some(to)) if from != to => {
                match self.request(core, from, Some(to), command) {
                    0 => self.stamp(to, command),
                    failed => failed,
                }
            }
            (OP_FORCE, Some(from), _) => self.force(core, from),
            (OP_HEIR, _, to) => {
                line.heir.store(to.map_or(0, |to| to.raw() as u32), SeqCst);
                0
            }
            _ => -libc::EINVAL,
        }
    }

    /// When it was decided that a vCPU get a core. An heir's stamps are those of the hand-over it was in.
    fn stamp(&self, to: Handle, command: &[i32]) -> i32 {
        self.table
            .vcpu_line(to)
            .t_decided
            .store(decided(command), Relaxed);
        0
    }

    fn request(&mut self, core: u32, from: Handle, to: Option<Handle>, command: &[i32]) -> i32 {
        let park_req = match protocol::request(&*self.table, core, from, to) {
            Err(why) => return errno(why),
            Ok(Moved::Granted) => return 0,
            Ok(Moved::Asked { park_req }) => park_req,
        };
        let in_libos = self.ask(from, park_req);
        let flags = command[FLAGS];
        let now = linux::tsc();
        let line = self.table.vcpu_line(from);
        // The kick first, everything that is only written down behind it: the interrupt takes
        // longer to arrive than the rest takes to write.
        let kick_now = flags & FLAG_ASK_ONLY == 0 && (flags & FLAG_KICK_NOW != 0 || !in_libos);
        if kick_now {
            self.kick(from);
        }
        line.t_kicked.store(if kick_now { now } else { 0 }, Relaxed);
        line.t_decided.store(decided(command), Relaxed);
        self.in_flight.begin(core, now);
        let header = self.table.header();
        let patience = header.kick_after_us.load(Relaxed) as u64 * header.tsc_khz.load(Relaxed) as u64 / 1000;
        let wait = if kick_now { patience.max(1) * 4 } else { patience };
        let kick_at = if flags & FLAG_ASK_ONLY != 0 {
            u64::MAX
        } else {
            now.saturating_add(wait)
        };
        // A park of this core that has ended without poll() having seen it: forgotten now, or
        // else poll() would later end the mark of the new one.
        self.asked.retain(|asked| asked.core != core);
        if self.asked.len() < abi::MAX_CORES {
            let patience = patience.max(1) * 4;
            self.asked.push(Asked {
                core,
                from,
                park_req,
                kick_at,
                patience,
            });
        }
        0
    }

    /// The park in flight on the core is forced now, as the deadline thread would force it at its deadline.
    fn force(&self, core: u32, from: Handle) -> i32 {
        // Requests begin on this thread alone, so the one that is seen is the one that `force` will name; if its
        // owner leaves meanwhile, the mark dies with it.
        if !protocol::requested(&*self.table, from, core) {
            return -libc::EAGAIN;
        }
        if deadline::force(&self.table, from) {
            deadline::count_forced(&self.table, core, from);
        }
        0
    }

    /// Tells the guest, and Fluxion, that the uThread which began as the vCPU's switch number `n` has had its
    /// time slice. The core stays, so no word that decides anything is changed.
    fn preempt(&self, core: u32, from: Option<Handle>, command: &[i32]) -> i32 {
        let Some(from) = from else {
            return -libc::EINVAL;
        };
        let word = CoreWord::of(self.table.core(core));
        if word.owner != u32::from(from.raw()) {
            return -libc::EAGAIN;
        }
        // Whoever is to leave the core gives way by that.
        if word.successor != abi::HANDLE_NONE {
            return -libc::EALREADY;
        }
        let n = command[TO] as u32;
        // Pairs with the look of Fluxion at a kick, which comes after both.
        self.table.vcpu_line(from).preempt.store(n, SeqCst);
        self.pages.preempt(from, n);
        let flags = command[FLAGS];
        // No fence, as in `ask`: if the guest misses the word and we believe that it is in FluxOS, the loop
        // finds the same uThread running later and says it again.
        let kick = flags & FLAG_KICK_NOW != 0 || !self.pages.in_libos(from);
        if flags & FLAG_ASK_ONLY == 0 && kick {
            self.kick(from);
        }
        0
    }

    /// Writes the request where the guest polls for it. Returns whether the guest says
    /// that it is in FluxOS's own code, where it will see it soon; without a page, no.
    fn ask(&self, from: Handle, park_req: u32) -> bool {
        // No fence between the two: if the guest misses the first and we believe that it is in FluxOS,
        // the kick that follows soon settles it.
        self.pages.ask(from, park_req);
        self.pages.in_libos(from)
    }

    fn kick(&self, vcpu: Handle) {
        let pid = self.table.vm_of(vcpu).pid.load(Relaxed);
        linux::kick(pid, self.table.vcpu_line(vcpu).tid.load(Relaxed));
    }

    /// Sends the kicks that are due; forgets the parks that have ended. Returns how many are in flight.
    pub fn poll(&mut self) -> i32 {
        if self.asked.is_empty() {
            return 0;
        }
        let now = linux::tsc();
        let mut at = 0;
        while at < self.asked.len() {
            let Asked {
                core,
                from,
                park_req,
                kick_at,
                patience,
            } = self.asked[at];
            let word = CoreWord::of(self.table.core(core));
            // Not by the core word's generation: it also goes up when the successor dies, and
            // the owner still has to leave.
            let owes = word.owner == from.raw() as u32
                && word.successor != abi::HANDLE_NONE
                && self.table.park_req(from) == park_req;
            if !owes {
                self.in_flight.end(core);
                self.asked.swap_remove(at);
                continue;
            }
            if now >= kick_at {
                self.kick(from);
                self.table.vcpu_line(from).t_kicked.store(now, Relaxed);
                self.asked[at].kick_at = now.saturating_add(patience);
                self.asked[at].patience = patience.saturating_mul(2);
            }
            at += 1;
        }
        self.asked.len() as i32
    }

    /// A VM's process is gone: its vCPUs are DEAD and its cores go on to whoever is next.
    /// Returns how many cores it had a part in.
    pub fn reap(&mut self, slot: u32) -> i32 {
        let Some(vm) = self.table.vm(slot) else {
            return -libc::EINVAL;
        };
        vm.state.store(abi::VM_DEAD, SeqCst);
        self.set_page(slot, std::ptr::null_mut());
        // All of them: the count that the VM wrote does not bound what stands in core words.
        let vcpus = (0..abi::MAX_VCPUS as u32).filter_map(|vcpu| Handle::new(slot, vcpu));
        let mut cores = 0;
        for vcpu in vcpus {
            let line = self.table.vcpu_line(vcpu);
            let dead = vcpu_word(abi::VCPU_DEAD, abi::CORE_NONE);
            // Before the cores are looked at: a claim that comes later fails, one that
            // came earlier is undone by hand_to when it finds DEAD.
            let was = line.word.swap(dead, SeqCst);
            end_tenure(&self.table, vcpu, was);
            for core in 0..abi::MAX_CORES as u32 {
                cores += protocol::evict(&*self.table, core, vcpu) as i32;
                if let Some(line) = self.table.core_line(core) {
                    let _ = line.heir.compare_exchange(vcpu.raw() as u32, 0, SeqCst, SeqCst);
                }
            }
        }
        // A leaver of the dead VM may have gone between handing the core on and the wake.
        for core in 0..abi::MAX_CORES as u32 {
            protocol::repair(&*self.table, core);
        }
        cores
    }
}

pub(crate) fn decided(command: &[i32]) -> u64 {
    command[TSC_LO] as u32 as u64 | (command[TSC_HI] as u32 as u64) << 32
}

fn errno(why: Refused) -> i32 {
    match why {
        Refused::NotParked => -libc::EBUSY,
        Refused::OwnerChanged => -libc::EAGAIN,
        Refused::InFlight => -libc::EALREADY,
    }
}
