//! The lease: whether an arbiter manages this VM, and what changes when that does.
//!
//! All of it happens on the control thread. The words decide; vCPU threads act on them by themselves.

use std::sync::atomic::Ordering::SeqCst;

use flux_abi as abi;
use handoff::{linux, World};

use crate::vm::Vm;

/// An arbiter adopts the VM: its vCPUs park, those in the guest as soon as they can.
pub fn manage(vm: &Vm) {
    vm.managed.store(true, SeqCst);
    handoff::recall_vm(&vm.table, vm.slot);
    for (id, handle) in vm.handles().iter().enumerate() {
        let Some(host) = vm.page.host(id as u32) else {
            continue;
        };
        host.unmanaged.store(0, SeqCst);
        // A recall is a park request like any other, so that a guest in FluxOS's own code sees it too. The
        // arbiter makes none meanwhile: it only asks vCPUs to which it has granted a core.
        let request = vm.table.bump_park_req(*handle);
        host.park_gen.store(request, SeqCst);
        // Those that waited are PARKED by now or soon, without a kick.
        if abi::vcpu_state(vm.table.vcpu_line(*handle).word.load(SeqCst)) == abi::VCPU_CEDING {
            vm.kick(id);
        }
    }
    vm.log.info("managed by the arbiter");
}

/// The lease is over: all vCPUs run under the ordinary scheduler.
pub fn unmanage(vm: &Vm) {
    vm.managed.store(false, SeqCst);
    // Affinity first, so that those which are woken start where they may be.
    restore_affinity(vm);
    for id in 0..vm.handles().len() as u32 {
        if let Some(host) = vm.page.host(id) {
            host.unmanaged.store(1, SeqCst);
        }
    }
    handoff::unmanage_vm(&vm.table, vm.slot);
    // Again: a grant that was on its way may have placed a thread after the first time.
    restore_affinity(vm);
    if let Some(line) = vm.line() {
        line.doorbell.fetch_add(1, SeqCst);
        linux::futex_wake(&line.doorbell, i32::MAX);
    }
    vm.log.info("unmanaged: runs under the ordinary scheduler");
}

fn restore_affinity(vm: &Vm) {
    for tid in (0..vm.handles().len()).filter_map(|id| vm.tid(id)) {
        if let Err(e) = vm.cpus.apply(tid) {
            vm.log
                .warn(format_args!("cannot restore the affinity of thread {tid}: {e}"));
        }
    }
}
