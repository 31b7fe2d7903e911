//! The lease: whether an arbiter manages this VM, and what changes when that does.
//!
//! All of it happens on the control thread. The words decide; vCPU threads act on them by themselves. Over kFlux
//! it is the kernel that changes the words, and it also ends a lease by itself, when the arbiter is silent.

use std::sync::atomic::Ordering::SeqCst;

use flux_abi as abi;
use handoff::kflux::KfluxError;
use handoff::World;

use crate::seat::Seat;
use crate::vm::Vm;

/// An arbiter adopts the VM: its vCPUs park, those in the guest as soon as they can. kFlux refuses if no arbiter
/// has its lease.
pub fn manage(vm: &Vm) -> Result<(), KfluxError> {
    if let Seat::Kflux(seat) = &vm.seat {
        seat.manage()?;
        vm.ring_doorbell_for_all();
    }
    vm.managed.store(true, SeqCst);
    if vm.seat.writes_words() {
        handoff::recall_vm(&vm.table, vm.slot);
    }
    for (id, handle) in vm.handles().iter().enumerate() {
        let Some(host) = vm.page.host(id as u32) else {
            continue;
        };
        host.unmanaged.store(0, SeqCst);
        // A recall is a park request like any other, so that a guest in FluxOS's own code sees it too. The
        // arbiter makes none meanwhile: it only asks vCPUs to which it has granted a core.
        let request = if vm.seat.writes_words() {
            vm.table.bump_park_req(*handle)
        } else {
            vm.table.park_req(*handle)
        };
        host.park_gen.store(request, SeqCst);
        // Those that waited are PARKED by now or soon, without a kick. kFlux has kicked the others, but before
        // this word stood there: one that was in FluxOS's own code then may have missed both.
        if abi::vcpu_state(vm.table.vcpu_line(*handle).word.load(SeqCst)) == abi::VCPU_CEDING {
            vm.kick(id);
        }
    }
    vm.log.info("managed by the arbiter");
    Ok(())
}

/// The lease is over: all vCPUs run under the ordinary scheduler.
pub fn unmanage(vm: &Vm) {
    vm.managed.store(false, SeqCst);
    if vm.seat.writes_words() {
        // Affinity first, so that those which are woken start where they may be.
        restore_affinity(vm);
    }
    for id in 0..vm.handles().len() as u32 {
        if let Some(host) = vm.page.host(id) {
            host.unmanaged.store(1, SeqCst);
        }
    }
    match &vm.seat {
        Seat::Table => {
            handoff::unmanage_vm(&vm.table, vm.slot);
            // Again: a grant that was on its way may have placed a thread after the first time.
            restore_affinity(vm);
        }
        Seat::Kflux(seat) => {
            // A VM that ends has no vCPU left to be set free.
            if let (Err(e), false) = (seat.unmanage(), vm.ending()) {
                vm.log.warn(e);
            }
        }
    }
    vm.ring_doorbell_for_all();
    vm.log.info("unmanaged: runs under the ordinary scheduler");
}

/// Looks whether kFlux has ended the lease: vCPUs that find themselves unmanaged ring for this.
pub fn notice_end(vm: &Vm) {
    if vm.managed.load(SeqCst) && !vm.managed() {
        vm.managed.store(false, SeqCst);
        vm.log
            .warn("unmanaged: the arbiter's lease has ended; runs under the ordinary scheduler");
    }
}

fn restore_affinity(vm: &Vm) {
    for tid in (0..vm.handles().len()).filter_map(|id| vm.tid(id)) {
        if let Err(e) = vm.cpus.apply(tid) {
            vm.log
                .warn(format_args!("cannot restore the affinity of thread {tid}: {e}"));
        }
    }
}
