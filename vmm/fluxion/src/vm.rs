//! What the threads of one VM share.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use flux_abi as abi;
use handoff::{linux, Handle, Table};
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

use crate::control_page::ControlPage;
use crate::cpus::CpuSet;
use crate::log::Log;
use crate::seat::Seat;
use crate::stats::ExitCounters;
use crate::symbols::Symbols;

/// How a VM came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The guest left by the exit door.
    Exit(u32),
    /// It did what nobody expects; the text has the registers.
    Poisoned(String),
    /// It was told to stop.
    Stopped,
}

/// What a [`Vm`] is made of.
pub struct Parts {
    pub name: String,
    pub slot: u32,
    pub vcpus: u32,
    pub table: Table,
    pub table_fd: OwnedFd,
    pub seat: Seat,
    pub page: Arc<ControlPage>,
    pub backend: &'static str,
    pub memory_bytes: u64,
    pub cpus: CpuSet,
    pub symbols: Symbols,
}

/// One VM, as its vCPU threads and the control thread see it.
pub struct Vm {
    pub name: String,
    pub slot: u32,
    pub log: Log,
    pub table: Table,
    pub table_fd: OwnedFd,
    pub seat: Seat,
    pub page: Arc<ControlPage>,
    pub backend: &'static str,
    pub memory_bytes: u64,
    /// The affinity of vCPU threads while no arbiter places them.
    pub cpus: CpuSet,
    /// Names of the guest's functions.
    pub symbols: Symbols,
    /// One for each vCPU.
    pub counters: Box<[ExitCounters]>,
    /// Rung for the control thread when something has happened that it must act on.
    pub news: EventFd,
    handles: Box<[Handle]>,
    /// The threads of the vCPUs: this process's own knowledge, whatever stands in the table.
    tids: Box<[AtomicU32]>,
    pub(crate) managed: AtomicBool,
    ending: AtomicBool,
    ended: Mutex<Option<Ended>>,
    threads: AtomicU32,
}

impl Vm {
    /// The slot and the number of vCPUs must be ones that the table has; what does not fit is left out.
    pub fn new(parts: Parts) -> io::Result<Vm> {
        let handles: Box<[Handle]> = (0..parts.vcpus)
            .filter_map(|v| Handle::new(parts.slot, v))
            .collect();
        Ok(Vm {
            log: Log::new(&parts.name),
            name: parts.name,
            slot: parts.slot,
            table: parts.table,
            table_fd: parts.table_fd,
            seat: parts.seat,
            page: parts.page,
            backend: parts.backend,
            memory_bytes: parts.memory_bytes,
            cpus: parts.cpus,
            symbols: parts.symbols,
            counters: handles.iter().map(|_| ExitCounters::default()).collect(),
            news: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            threads: AtomicU32::new(handles.len() as u32),
            tids: handles.iter().map(|_| AtomicU32::new(0)).collect(),
            handles,
            managed: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            ended: Mutex::new(None),
        })
    }

    /// The vCPUs, in order.
    pub fn handles(&self) -> &[Handle] {
        &self.handles
    }

    /// The VM's section of the hand-off table. `None` only if the VM has no vCPU.
    pub fn line(&self) -> Option<&abi::Vm> {
        self.table.vm(self.slot)
    }

    /// Whether an arbiter manages this VM. Where kFlux keeps the lease, its words tell first when that has ended.
    pub fn managed(&self) -> bool {
        self.managed.load(SeqCst) && !(self.seat.kflux().is_some() && self.anyone_unmanaged())
    }

    fn anyone_unmanaged(&self) -> bool {
        self.handles
            .iter()
            .any(|me| abi::vcpu_state(self.table.vcpu_line(*me).word.load(SeqCst)) == abi::VCPU_UNMANAGED)
    }

    /// Whether the vCPU threads are to end. They look after every exit and before every sleep.
    pub fn ending(&self) -> bool {
        self.ending.load(SeqCst)
    }

    fn ended_lock(&self) -> MutexGuard<'_, Option<Ended>> {
        // A thread that panicked inside left a whole value behind: it is only ever replaced.
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the VM ended, if it has.
    pub fn ended(&self) -> Option<Ended> {
        self.ended_lock().clone()
    }

    /// Ends the VM. The first reason counts; every vCPU thread is made to notice.
    pub fn end(&self, why: Ended) {
        {
            let mut ended = self.ended_lock();
            if ended.is_some() {
                return;
            }
            match &why {
                Ended::Poisoned(what) => self.log.error(format_args!("poisoned: {what}")),
                Ended::Exit(code) => self.log.info(format_args!("the guest ended with code {code}")),
                Ended::Stopped => self.log.info("stopping"),
            }
            *ended = Some(why);
        }
        self.show_poisoned();
        self.table.announce();
        // Before the words are looked at. Pairs with the threads' look at `ending` after they have made
        // themselves PARKED: one of the two sees the other.
        self.ending.store(true, SeqCst);
        self.wake_all();
        self.ring_news();
    }

    /// Shows in the table that the VM is poisoned, if it is. Called after either half: becoming LIVE, and
    /// being poisoned, which may come first in a VM that starts unmanaged.
    pub fn show_poisoned(&self) {
        if let (Some(Ended::Poisoned(_)), Some(line)) = (self.ended(), self.line()) {
            let _ = line
                .state
                .compare_exchange(abi::VM_LIVE, abi::VM_POISONED, SeqCst, SeqCst);
        }
    }

    /// Makes every vCPU thread look at `ending`: sleepers are ended or woken, running ones are kicked.
    pub fn wake_all(&self) {
        self.seat.end(self);
        for id in 0..self.handles.len() {
            // Of those that were asleep, nobody minds: a kick waits for the guest's side, which they never enter again.
            self.kick(id);
        }
        self.ring_doorbell_for_all();
    }

    /// Wakes every vCPU that waits for the doorbell.
    pub fn ring_doorbell_for_all(&self) {
        if let Some(line) = self.line() {
            line.doorbell.fetch_add(1, SeqCst);
            linux::futex_wake(&line.doorbell, i32::MAX);
        }
    }

    /// The thread of a vCPU is there.
    pub fn set_tid(&self, id: usize, tid: u32) {
        if let Some(slot) = self.tids.get(id) {
            slot.store(tid, SeqCst);
        }
    }

    /// The thread of a vCPU, once it is there.
    pub fn tid(&self, id: usize) -> Option<u32> {
        self.tids
            .get(id)
            .map(|tid| tid.load(SeqCst))
            .filter(|tid| *tid != 0)
    }

    /// Kicks the thread of a vCPU, if it is there.
    pub fn kick(&self, id: usize) {
        if let Some(tid) = self.tid(id) {
            linux::kick(std::process::id(), tid);
        }
    }

    /// A vCPU thread is gone for good. Returns whether it was the last.
    pub fn thread_ended(&self) -> bool {
        let last = self.threads.fetch_sub(1, SeqCst) == 1;
        self.ring_news();
        last
    }

    /// How many vCPU threads there still are.
    pub fn threads(&self) -> u32 {
        self.threads.load(SeqCst)
    }

    pub fn ring_news(&self) {
        // Fails only if the counter is full, and then the control thread has been rung.
        let _ = self.news.write(1);
    }

    /// Counts a forced park, where no deadline thread of the arbiter's does. `descheduled`: that was the host's doing.
    pub fn add_forced(&self, descheduled: bool) {
        if let Some(line) = self.line() {
            let counter = if descheduled {
                &line.forced_descheduled
            } else {
                &line.forced
            };
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Adds to the VM's meter of time inside the guest.
    pub fn add_used(&self, ticks: u64) {
        if let Some(line) = self.line() {
            line.used_tsc.fetch_add(ticks, Relaxed);
        }
    }
}
