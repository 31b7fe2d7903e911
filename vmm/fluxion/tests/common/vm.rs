//! A VM's process, as its parent and as an arbiter sees it.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;

use flux_abi as abi;
use handoff::{Handle, Table};

use super::{load64, until};

/// A Fluxion process. Killed when dropped.
pub struct Vm {
    pub(super) child: Child,
    pub slot: u32,
    pub socket: PathBuf,
    pub(super) log: PathBuf,
    pub(super) table: Arc<Table>,
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

impl Vm {
    /// The VM's meter of cores held, wherever it is kept.
    pub fn granted_tsc(&self) -> u64 {
        self.meter(|vm| &vm.granted_tsc, |vcpu| &vcpu.granted_tsc)
    }

    pub fn taken_tsc(&self) -> u64 {
        self.meter(|vm| &vm.taken_tsc, |vcpu| &vcpu.taken_tsc)
    }

    fn meter(&self, of_vm: fn(&abi::Vm) -> &AtomicU64, of_vcpu: fn(&abi::Vcpu) -> &AtomicU64) -> u64 {
        let vcpus = (0..abi::MAX_VCPUS as u32).map(|v| load64(of_vcpu(self.vcpu(v))));
        load64(of_vm(self.line())) + vcpus.sum::<u64>()
    }
}
