//! The arbiter's half over kFlux: the functions of the affinity bridge, each batch one call.
//!
//! kFlux decides, kicks, keeps the deadline and the lease, and moves the cores of the dead on.
//! What is left here is to say how soon a park is to be kicked, which only the guest's page
//! tells, and to write the request where that guest looks for it.

use super::command::{self, translate, Terms};
use super::device::Device;
use super::error::KfluxError;
use super::overlay;
use super::status::Status;
use crate::bridge::{self, COMMAND_WORDS};
use crate::pages::Pages;
use crate::protocol::{CoreWord, World};
use crate::{Handle, Table};
use flux_abi as abi;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::Arc;

const BATCH: usize = abi::KF_BATCH_MAX as usize;

/// A park that kFlux carries out and that has not been seen to end.
#[derive(Clone, Copy)]
struct Asked {
    core: u32,
    from: Handle,
}

pub struct KfluxBridge {
    table: Arc<Table>,
    device: Device,
    domain: u32,
    /// Since the lease, whose holder alone may write it.
    status: Option<Status>,
    pages: Pages,
    commands: Box<[abi::KfCommand]>,
    asked: Vec<Asked>,
    /// Who got each core by this bridge's last command for it, by handle; for the count of `reap`.
    given: Box<[u32]>,
    epoch: u32,
}

/// Joins the domain that the table's header names with the right to command; makes one and names it there if
/// there is none, or none any more.
pub fn join(table: &Table) -> Result<(Device, u32), KfluxError> {
    let named = &table.header().kflux_domain;
    loop {
        let domain = named.load(SeqCst);
        let device = Device::open()?;
        if domain != 0 {
            match device.join(domain, 0) {
                Ok(domain) => return Ok((device, domain)),
                // Whoever was in it has gone, VMs included: a domain lives as long as they do.
                Err(error) if error.errno() == -libc::ENOENT => {}
                Err(error) => return Err(error),
            }
        }
        let made = device.join(0, 0)?;
        // Two may find none at the same time: one domain is the table's, the other ends with its file.
        if named.compare_exchange(domain, made, SeqCst, SeqCst).is_ok() {
            return Ok((device, made));
        }
    }
}

impl KfluxBridge {
    /// Joins the table's domain and maps its pages over the table's.
    pub fn new(table: Arc<Table>) -> Result<KfluxBridge, KfluxError> {
        let (device, domain) = join(&table)?;
        overlay::look(&table)?;
        Ok(KfluxBridge {
            table,
            device,
            domain,
            status: None,
            pages: Pages::default(),
            commands: vec![command::NOTHING; BATCH].into_boxed_slice(),
            // One request in flight per core, so this never grows.
            asked: Vec::with_capacity(abi::MAX_CORES),
            given: vec![0; abi::MAX_CORES].into_boxed_slice(),
            epoch: 0,
        })
    }

    /// With the control pages that another bridge was given.
    pub(crate) fn with_pages(mut self, pages: Pages) -> KfluxBridge {
        self.pages = pages;
        self
    }

    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// The file that commands, for making VMs in this bridge's domain.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Takes the lease, from whoever has it: every core free, nobody's heir, and a new epoch in the table.
    pub fn claim(&mut self, pid: u32, arbiter_core: u32, managed: &[u32; 8]) -> Result<u32, KfluxError> {
        let header = self.table.header();
        let lease_ms = header.lease_ms.load(Relaxed).clamp(10, 60_000);
        self.device.claim(managed, lease_ms, abi::KF_CLAIM_TAKEOVER)?;
        // Anew each time: what a file that has lost its lease writes into its map is nobody's heartbeat any more.
        self.status = None;
        match Status::map(self.device.as_fd(), self.domain) {
            Ok(status) => self.status = Some(status),
            Err(error) => {
                // Without its heartbeat a lease would only end by itself, after having moved nothing.
                self.device.release()?;
                return Err(error);
            }
        }
        self.epoch = bridge::new_epoch(&self.table, pid, arbiter_core, managed);
        self.asked.clear();
        self.given.fill(0);
        self.beat();
        Ok(self.epoch)
    }

    /// Gives the lease up, if it is still ours.
    pub fn release(&mut self) -> Result<(), KfluxError> {
        let result = self.device.release();
        bridge::end_epoch(&self.table, std::mem::take(&mut self.epoch));
        result
    }

    pub fn set_page(&self, slot: u32, hot: *mut u8) -> bool {
        self.pages.set(slot, hot)
    }

    #[inline]
    pub fn beat(&self) {
        bridge::stamp_heartbeat(&self.table);
        if let Some(status) = &self.status {
            status.beat();
        }
    }

    /// Carries out a batch in place. Returns how many commands failed.
    pub fn submit(&mut self, batch: &mut [i32]) -> i32 {
        let stale = self.epoch == 0 || self.table.header().epoch.load(SeqCst) != self.epoch;
        let mut failed = 0;
        for part in batch.chunks_mut(BATCH * COMMAND_WORDS) {
            let result = if stale {
                Err(-libc::ESTALE)
            } else {
                self.carry_out(part)
            };
            for (index, words) in part.chunks_exact_mut(COMMAND_WORDS).enumerate() {
                let result = match result {
                    Ok(()) => self.done(index),
                    Err(errno) => errno,
                };
                words[bridge::RESULT] = result;
                failed += i32::from(result < 0);
            }
        }
        failed
    }

    /// Has kFlux carry out at most BATCH commands. `Err`: none of them was.
    fn carry_out(&mut self, part: &[i32]) -> Result<(), i32> {
        let terms = Terms::of(&self.table);
        let mut count = 0;
        for (to, words) in self.commands.iter_mut().zip(part.chunks_exact(COMMAND_WORDS)) {
            *to = translate(&self.table, &self.pages, words, terms);
            // Before the call, unlike a request to park, whose number the call makes: the kick must not come to a
            // guest that finds nothing. What kFlux refuses is news of no consequence: the uThread of that very
            // number gives way a little early.
            if let (abi::OP_PREEMPT, Some(from)) = (to.op, Handle::from_raw(to.from)) {
                self.pages.preempt(from, to.to);
            }
            count += 1;
        }
        if count == 0 {
            return Ok(());
        }
        let error = |error: std::io::Error| -error.raw_os_error().unwrap_or(libc::EIO);
        self.device.submit(&mut self.commands[..count]).map_err(error)
    }

    /// After the call: tells the guest that is asked to park. Returns the command's result.
    fn done(&mut self, index: usize) -> i32 {
        let command = self.commands[index];
        let result = command.result as i32;
        if result < 0 {
            return result;
        }
        let core = command.core;
        match command.op {
            abi::OP_GRANT | abi::OP_MOVE => self.give(core, command.to),
            abi::OP_PARK => self.give(core, 0),
            _ => return result,
        }
        if command.op == abi::OP_GRANT || command.park_req == 0 {
            return result;
        }
        if let Some(from) = Handle::from_raw(command.from) {
            self.pages.ask(from, command.park_req);
            self.asked.retain(|asked| asked.core != core);
            if self.asked.len() < abi::MAX_CORES {
                self.asked.push(Asked { core, from });
            }
        }
        result
    }

    fn give(&mut self, core: u32, to: u32) {
        if let Some(given) = self.given.get_mut(core as usize) {
            *given = to;
        }
    }

    /// How many parks are in flight, from what kFlux shows; it sends the kicks itself.
    pub fn poll(&mut self) -> i32 {
        if !self.asked.is_empty() {
            let table = &self.table;
            self.asked.retain(|asked| {
                let word = CoreWord::of(table.core(asked.core));
                word.owner == u32::from(asked.from.raw()) && word.successor != abi::HANDLE_NONE
            });
        }
        self.asked.len() as i32
    }

    /// A VM's process is gone: its line says so, and its page is no longer used. Its cores have been moved on by
    /// kFlux; returns how many, as far as this bridge knows.
    pub fn reap(&mut self, slot: u32) -> i32 {
        let Some(vm) = self.table.vm(slot) else {
            return -libc::EINVAL;
        };
        vm.state.store(abi::VM_DEAD, SeqCst);
        self.pages.set(slot, std::ptr::null_mut());
        let of_it = |raw: u32| Handle::from_raw(raw).is_some_and(|handle| handle.slot() == slot);
        let mut cores = 0;
        for core in 0..abi::MAX_CORES as u32 {
            let word = CoreWord::of(self.table.core(core));
            let had = of_it(self.given[core as usize]);
            if had {
                self.given[core as usize] = 0;
            }
            cores += i32::from(had || of_it(word.owner) || of_it(word.successor));
        }
        cores
    }
}
