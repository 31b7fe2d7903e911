//! The process of one VM, from its configuration to its exit: the order in which things are set up, the
//! same for KVM guests and hosted ones.
//!
//! ```text
//!   prepare:  block signals, table, slot, control page, socket
//!   (the caller makes its backends, one per vCPU, and completes the header)
//!   run:      header, Landlock, vCPU threads (each with its filter), LIVE, own filter, serve, DEAD
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc;
use std::sync::Arc;

use flux_abi as abi;
use handoff::kflux::KfluxError;
use handoff::{Table, TableError};
use vmm_sys_util::eventfd::{EventFd, EFD_CLOEXEC, EFD_NONBLOCK};

use crate::args::Config;
use crate::backend::{Backend, Failure};
use crate::confine::{self, ConfineError, Files};
use crate::control::{block_signals, Control, Signals, Socket, SocketError};
use crate::control_page::{empty_header, put_text, ControlPage, ControlPageError};
use crate::cpus::CpuSet;
use crate::log::Log;
use crate::resident::Resident;
use crate::seat::{self, Seat};
use crate::section::{self, SectionError};
use crate::symbols::Symbols;
use crate::vm::{Ended, Parts, Vm};
use crate::{inherit, life, stats};

/// Why a VM did not come to life.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot use descriptor {0} as {1}: {2}")]
    Descriptor(i32, &'static str, io::Error),
    #[error(transparent)]
    Kflux(#[from] KfluxError),
    #[error("the cores of this table are moved by kFlux (domain {0}): pass the VM's descriptor with --kflux-fd, or choose the affinity bridge for all")]
    NoSeat(u32),
    #[error("--kflux-fd with a table that names no kFlux domain: its cores are moved by another bridge; leave the option out")]
    NoDomain,
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Section(#[from] SectionError),
    #[error(transparent)]
    Page(#[from] ControlPageError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
    #[error("vCPU {0} could not start: {1}")]
    Vcpu(u32, Failure),
}

/// A VM that has everything but vCPUs. Dropped before it runs, it gives its slot back.
pub struct Prepared {
    pub config: Config,
    /// For the backend to complete: what it alone knows of memory and extended state.
    pub header: abi::Header,
    pub page: Arc<ControlPage>,
    pub doorbell: EventFd,
    pub log: Log,
    /// Names of the guest's functions, for the caller to complete.
    pub symbols: Symbols,
    /// What is called first where this process panics: where it is the guest that did, it does not return.
    pub panicked: Option<fn(&std::panic::PanicHookInfo<'_>)>,
    table: Option<(OwnedFd, Table)>,
    seat: Seat,
    socket: Option<Socket>,
    /// Until the control thread has it.
    signals: Option<Signals>,
    resident: Resident,
    cpus: CpuSet,
}

fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |e| StartError::System(what, e)
}

/// A panic is a bug here, but must not become a forbidden system call: no backtrace is looked for, and what
/// happened is one log line.
fn log_panics(log: &Log, first: Option<fn(&std::panic::PanicHookInfo<'_>)>) {
    let log = log.clone();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(first) = first {
            first(panic);
        }
        log.error(format_args!("internal failure: {panic}"))
    }));
}

/// Sets up all that does not depend on the backend. To be called before any other thread is started.
pub fn prepare(config: Config, hosted: bool) -> Result<Prepared, StartError> {
    let log = Log::new(&config.name);
    block_signals().map_err(system("block signals"))?;
    let signals = Signals::new().map_err(system("wait for signals"))?;
    let current = CpuSet::current().map_err(system("read the affinity"))?;
    let (fd, table) = inherit::table(&config)?;
    let seat = inherit::seat(&config, &table)?;
    // Everything that can fail without having changed the table comes first.
    let page = Arc::new(ControlPage::create(config.slot, config.vcpus)?);
    let doorbell = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(system("make the doorbell"))?;
    let socket = config.socket.as_deref().map(Socket::bind).transpose()?;
    section::claim(&table, &config, seat.writes_words())?;

    let mut header = empty_header();
    header.magic = abi::CONTROL_MAGIC;
    header.abi_major = abi::ABI_MAJOR;
    header.abi_minor = abi::ABI_MINOR;
    header.bytes = abi::CONTROL_BYTES as u32;
    header.slot = config.slot;
    header.vcpus = config.vcpus;
    header.stamp_shift = table.header().stamp_shift.load(SeqCst);
    header.tsc_khz = table.header().tsc_khz.load(SeqCst);
    header.hosted = hosted.into();
    header.idle_spin_ns = config.idle_spin_ns;
    put_text(&mut header.name, &config.name);
    put_text(&mut header.cmdline, &config.cmdline);
    Ok(Prepared {
        cpus: config.cpus.unwrap_or(current),
        config,
        header,
        page,
        doorbell,
        log,
        symbols: Symbols::default(),
        panicked: None,
        table: Some((fd, table)),
        seat,
        socket,
        signals: Some(signals),
        resident: Resident::open(),
    })
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let Some((_, table)) = &self.table {
            section::dead(table, self.config.slot);
        }
    }
}

impl Prepared {
    /// Runs the VM to its end. One backend per vCPU, in order.
    pub fn run<B: Backend>(mut self, backends: Vec<B>) -> Result<Ended, StartError> {
        self.page.init(&self.header);
        let Some((table_fd, table)) = self.table.take() else {
            return Ok(Ended::Stopped);
        };
        let vm = Vm::new(Parts {
            name: self.config.name.clone(),
            slot: self.config.slot,
            vcpus: backends.len() as u32,
            table,
            table_fd,
            seat: self.seat.clone(),
            page: Arc::clone(&self.page),
            backend: B::NAME,
            memory_bytes: self.header.memory_bytes,
            cpus: self.cpus,
            symbols: std::mem::take(&mut self.symbols),
        });
        let vm = Arc::new(vm.map_err(system("make an event descriptor"))?);
        let result = self.live(&vm, backends);
        if result.is_err() {
            // Threads that are there already end by themselves.
            vm.end(Ended::Stopped);
        }
        section::dead(&vm.table, vm.slot);
        if self.config.stats {
            eprint!("{}", stats::table(&vm.counters));
        }
        result
    }

    fn live<B: Backend>(&mut self, vm: &Arc<Vm>, backends: Vec<B>) -> Result<Ended, StartError> {
        log_panics(&vm.log, self.panicked);
        let confined = self.config.confine;
        let unmanaged = self.config.unmanaged;
        for id in 0..backends.len() as u32 {
            if let Some(host) = vm.page.host(id) {
                host.unmanaged.store(unmanaged.into(), SeqCst);
            }
        }
        if confined {
            confine::report_forbidden_calls(&vm.name)?;
            // Before the threads, which inherit it.
            match confine::restrict_files(self.config.socket.as_deref())? {
                Files::Restricted => {}
                Files::Partly => vm
                    .log
                    .warn("this kernel's Landlock confines the process only in part"),
                Files::Open => vm
                    .log
                    .warn("this kernel has no Landlock: files are not out of reach"),
            }
        }
        vm.log.info(format_args!(
            "{} vCPUs, {} MiB, {}, {}{}",
            vm.handles().len(),
            vm.memory_bytes >> 20,
            vm.backend,
            if vm.seat.kflux().is_some() { "kFlux, " } else { "" },
            if unmanaged { "running unmanaged" } else { "dormant" },
        ));
        self.start_vcpus(vm, backends, confined, unmanaged)?;
        let doorbell = self.doorbell.try_clone().map_err(system("share the doorbell"))?;
        let signals = match self.signals.take() {
            Some(signals) => signals,
            None => Signals::new().map_err(system("wait for signals"))?,
        };
        let resident = std::mem::replace(&mut self.resident, Resident::none());
        let mut control = Control::new(Arc::clone(vm), self.socket.take(), signals, doorbell, resident)
            .map_err(system("start the control loop"))?;
        let filter = if confined {
            let more = vm.seat.kflux().map_or(&[][..], |_| seat::CONTROL_CALLS);
            Some(confine::filter(&[confine::CONTROL, more])?)
        } else {
            None
        };
        section::live(&vm.table, vm.slot);
        vm.show_poisoned();
        if let Some(filter) = filter {
            confine::install(&filter)?;
        }
        control.serve().map_err(system("wait for events"))
    }

    /// Starts a thread for each vCPU and waits until all are there.
    fn start_vcpus<B: Backend>(
        &self,
        vm: &Arc<Vm>,
        backends: Vec<B>,
        confined: bool,
        unmanaged: bool,
    ) -> Result<(), StartError> {
        let count = backends.len();
        let (there, arrivals) = mpsc::channel();
        for (id, mut backend) in backends.into_iter().enumerate() {
            let (vm, there) = (Arc::clone(vm), there.clone());
            let body = move || {
                let started = start_vcpu(&vm, id as u32, &mut backend, confined, unmanaged);
                let live = started.is_ok();
                // Fails only if the starter has given up, and then the VM is ending.
                let _ = there.send((id as u32, started));
                drop(there);
                if live {
                    life::live(&vm, id as u32, backend);
                }
            };
            std::thread::Builder::new()
                .name(format!("vcpu{id}"))
                .spawn(body)
                .map_err(system("start a vCPU thread"))?;
        }
        drop(there);
        for _ in 0..count {
            match arrivals.recv() {
                Ok((_, Ok(()))) => {}
                Ok((id, Err(failure))) => return Err(StartError::Vcpu(id, failure)),
                Err(_) => return Err(StartError::Vcpu(0, Failure::new("its thread ended"))),
            }
        }
        Ok(())
    }
}

/// What a vCPU's thread does before its life begins.
fn start_vcpu<B: Backend>(
    vm: &Vm,
    id: u32,
    backend: &mut B,
    confined: bool,
    unmanaged: bool,
) -> Result<(), Failure> {
    backend.attach()?;
    // SAFETY: the call takes nothing and always succeeds.
    let tid = unsafe { libc::gettid() } as u32;
    vm.set_tid(id as usize, tid);
    let seat = vm.seat.kflux();
    // What kFlux finds at REGISTER is what it gives back at the end of a lease.
    if unmanaged || seat.is_some() {
        if let Err(e) = vm.cpus.apply(0) {
            vm.log
                .warn(format_args!("cannot set the affinity of vCPU {id}: {e}"));
        }
    }
    let kvm_fd = seat.and_then(|seat| backend.take_seat(seat, id));
    vm.seat.ready(vm, id, unmanaged, kvm_fd)?;
    if let (true, Some(extra)) = (confined, B::SYSCALLS) {
        let more = seat.map_or(&[][..], |_| seat::VCPU_CALLS);
        let filter = confine::filter(&[extra, more]).map_err(|e| Failure::new(e.to_string()))?;
        confine::install(&filter).map_err(|e| Failure::new(e.to_string()))?;
    }
    Ok(())
}
