//! A vCPU thread's side: wait for a core, look before entering the guest, leave.

use crate::doorbell::{self, Bell};
use crate::protocol::{self, vcpu_core, vcpu_state, vcpu_word, World};
use crate::{linux, Handle, Table};
use flux_abi as abi;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// How a vCPU comes to leave its core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// The guest had nothing to run.
    Yield,
    /// The guest saw the request and parked itself.
    Asked,
    /// Parked by the host, at an instruction of application code.
    Kicked,
    /// The deadline passed: parked by the host wherever it was.
    Forced,
    /// Asked to leave before it had entered the guest.
    Entry,
}

impl How {
    pub(crate) fn word(self) -> u32 {
        match self {
            How::Yield => abi::HOW_YIELD,
            How::Asked => abi::HOW_ASKED,
            How::Kicked => abi::HOW_KICKED,
            How::Forced => abi::HOW_FORCED,
            How::Entry => abi::HOW_ENTRY,
        }
    }
}

/// What ended the wait for a core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    Granted {
        core: u32,
    },
    /// The lease ended: run under the ordinary scheduler.
    Unmanaged,
    /// The VM is being stopped or poisoned: the thread ends.
    Dead,
}

/// What the look before the guest says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enter {
    /// Write `settled` into the host line, then enter.
    Go {
        settled: u32,
    },
    /// The core has been asked for already: `leave(How::Entry)`.
    Leave,
    Unmanaged,
    Dead,
}

/// What a kick or a park door finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Asked {
    /// Nobody wants the core: the news was stale. Settle and go on.
    No,
    Park,
    /// The deadline has passed: the critical word does not count any more.
    Force,
    Unmanaged,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Left {
    /// The core is handed over; wait for the next one.
    Parked,
    Unmanaged,
    Dead,
}

/// The thread is there: NEW becomes PARKED, or UNMANAGED for a VM that starts without an arbiter.
pub fn ready(table: &Table, me: Handle, tid: u32, unmanaged: bool) {
    let line = table.vcpu_line(me);
    line.tid.store(tid, SeqCst);
    line.pinned.store(abi::CORE_NONE, SeqCst);
    let state = if unmanaged {
        abi::VCPU_UNMANAGED
    } else {
        abi::VCPU_PARKED
    };
    line.word.store(vcpu_word(state, abi::CORE_NONE), SeqCst);
}

/// Sleeps until the vCPU is granted a core, set free or ended. Uses no CPU meanwhile.
pub fn wait_for_grant(table: &Table, me: Handle) -> Woken {
    let line = table.vcpu_line(me);
    loop {
        let word = line.word.load(SeqCst);
        match vcpu_state(word) {
            abi::VCPU_RUNNING | abi::VCPU_CEDING => {
                line.t_woken.store(linux::tsc(), Relaxed);
                return Woken::Granted {
                    core: vcpu_core(word),
                };
            }
            abi::VCPU_UNMANAGED => return Woken::Unmanaged,
            abi::VCPU_DEAD => return Woken::Dead,
            // Pairs with the wake in protocol::deliver: the word was changed before it.
            _ => linux::futex_wait(&line.word, word, None),
        }
    }
}

/// The look before the guest is entered. The order of the two loads is the point:
/// `park_req` first, the core word second, as protocol::request writes them the other
/// way round. A request that the second load misses has a number above `settled`.
pub fn enter(table: &Table, me: Handle) -> Enter {
    let settled = table.park_req(me);
    match asked(table, me) {
        Asked::No => Enter::Go { settled },
        Asked::Park | Asked::Force => Enter::Leave,
        Asked::Unmanaged => Enter::Unmanaged,
        Asked::Dead => Enter::Dead,
    }
}

/// Whether the core that this vCPU holds is wanted back.
pub fn asked(table: &Table, me: Handle) -> Asked {
    let line = table.vcpu_line(me);
    let word = line.word.load(SeqCst);
    match vcpu_state(word) {
        abi::VCPU_UNMANAGED => Asked::Unmanaged,
        abi::VCPU_DEAD => Asked::Dead,
        // Recalled from unmanaged life: it holds no core and is to park.
        abi::VCPU_CEDING if vcpu_core(word) == abi::CORE_NONE => Asked::Park,
        // kFlux: the core has gone on without this thread, which slept in the host or did not leave.
        abi::VCPU_BLOCKED | abi::VCPU_PARKED => Asked::Park,
        _ if !protocol::requested(table, me, vcpu_core(word)) => Asked::No,
        // `force` names the request it was meant for, so it dies with that request.
        _ if line.force.load(SeqCst) == table.park_req(me) && table.park_req(me) != 0 => Asked::Force,
        _ => Asked::Park,
    }
}

/// Hands the core over. The caller's context must be whole: from the moment the word
/// says PARKED the vCPU may be granted another core, even while this thread is still
/// on its way to sleep.
pub fn leave(table: &Table, me: Handle, how: How) -> Left {
    let line = table.vcpu_line(me);
    let now = linux::tsc();
    line.t_parked.store(now, Relaxed);
    line.how.store(how.word(), Relaxed);
    let mut word = line.word.load(SeqCst);
    let core = vcpu_core(word);
    match vcpu_state(word) {
        abi::VCPU_RUNNING | abi::VCPU_CEDING => {}
        abi::VCPU_DEAD => return Left::Dead,
        _ => return Left::Unmanaged,
    }
    let managed = core != abi::CORE_NONE;
    // Read now: once this vCPU is PARKED its next grant may overwrite it.
    let tenure = now.saturating_sub(line.t_granted.load(Relaxed));
    // None: a new arbiter has cleared the table; there is nobody to hand over to.
    let next = protocol::pass_on(table, core, me).flatten();
    if managed && how != How::Yield {
        // Before PARKED, after which it is the next claimer's; see World::granted.
        line.lost_tsc.store(now, Relaxed);
    }
    // Before the wake: see the protocol. RUNNING may turn CEDING under our hands, and
    // either may turn UNMANAGED if the lease ends just now.
    let parked = vcpu_word(abi::VCPU_PARKED, abi::CORE_NONE);
    let left = loop {
        match table.vcpu_cas(me, word, parked) {
            Ok(()) => break Left::Parked,
            Err(found) => match vcpu_state(found) {
                abi::VCPU_RUNNING | abi::VCPU_CEDING => word = found,
                abi::VCPU_DEAD => break Left::Dead,
                _ => break Left::Unmanaged,
            },
        }
    };
    if let Some(next) = next {
        protocol::hand_to(table, next, core);
    }
    line.t_handed.store(linux::tsc(), Relaxed);
    if managed {
        account(table, me, how, tenure);
    }
    left
}

/// Books the tenure that has ended. After the successor was woken: every atomic addition
/// waits for the stores before it, some of which fetch a line from the arbiter's core.
fn account(table: &Table, me: Handle, how: How, tenure: u64) {
    let line = table.vcpu_line(me);
    table.vm_of(me).granted_tsc.fetch_add(tenure, Relaxed);
    let counter = if how == How::Yield {
        &line.yields
    } else {
        &line.parks
    };
    // This thread is the only writer.
    counter.store(counter.load(Relaxed).wrapping_add(1), Relaxed);
}

/// Leaves for good: the vCPU is DEAD, its core goes on.
pub fn poison(table: &Table, me: Handle) {
    let line = table.vcpu_line(me);
    let was = line.word.swap(vcpu_word(abi::VCPU_DEAD, abi::CORE_NONE), SeqCst);
    if matches!(
        vcpu_state(was),
        abi::VCPU_RUNNING | abi::VCPU_CEDING | abi::VCPU_GRANTING
    ) {
        protocol::evict(table, vcpu_core(was), me);
    }
    linux::futex_wake(&line.word, i32::MAX);
}

/// The lease has ended: every vCPU of the VM goes UNMANAGED, from any state but DEAD,
/// and is woken. Affinity is the caller's, who knows what it was.
pub fn unmanage_vm(table: &Table, slot: u32) {
    let unmanaged = vcpu_word(abi::VCPU_UNMANAGED, abi::CORE_NONE);
    for vcpu in table.vcpus(slot) {
        let line = table.vcpu_line(vcpu);
        let mut word = line.word.load(SeqCst);
        while !matches!(
            vcpu_state(word),
            abi::VCPU_DEAD | abi::VCPU_NEW | abi::VCPU_UNMANAGED
        ) {
            match table.vcpu_cas(vcpu, word, unmanaged) {
                Ok(()) => {
                    end_tenure(table, vcpu, word);
                    break;
                }
                Err(found) => word = found,
            }
        }
        line.pinned.store(abi::CORE_NONE, SeqCst);
        line.lost_tsc.store(0, Relaxed);
        linux::futex_wake(&line.word, i32::MAX);
    }
}

/// Books the tenure of a vCPU that is taken out of `word`'s state from outside: by the end
/// of the lease or by the reaper. Whoever wins the word books it.
pub(crate) fn end_tenure(table: &Table, vcpu: Handle, word: u32) {
    let held = matches!(vcpu_state(word), abi::VCPU_RUNNING | abi::VCPU_CEDING);
    if held && vcpu_core(word) != abi::CORE_NONE {
        let since = table.vcpu_line(vcpu).t_granted.load(Relaxed);
        let tenure = linux::tsc().saturating_sub(since);
        table.vm_of(vcpu).granted_tsc.fetch_add(tenure, Relaxed);
    }
}

/// An arbiter adopts the VM: unmanaged vCPUs are to park, with no core to hand over.
/// The caller kicks those that are in the guest; those that wait for the doorbell are rung.
pub fn recall_vm(table: &Table, slot: u32) {
    for vcpu in table.vcpus(slot) {
        let line = table.vcpu_line(vcpu);
        let _ = line.word.compare_exchange(
            vcpu_word(abi::VCPU_UNMANAGED, abi::CORE_NONE),
            vcpu_word(abi::VCPU_CEDING, abi::CORE_NONE),
            SeqCst,
            SeqCst,
        );
    }
    if let Some(vm) = table.vm(slot) {
        vm.doorbell.fetch_add(1, SeqCst);
        linux::futex_wake(&vm.doorbell, i32::MAX);
    }
}

impl Bell for abi::Vm {
    fn rings(&self) -> u32 {
        self.doorbell.load(SeqCst)
    }
    fn bump(&self) {
        self.doorbell.fetch_add(1, SeqCst);
    }
    fn waiters(&self) -> u32 {
        self.waiters.load(SeqCst)
    }
    fn come(&self) {
        self.waiters.fetch_add(1, SeqCst);
    }
    fn go(&self) {
        self.waiters.fetch_sub(1, SeqCst);
    }
    fn sleep(&self, rings: u32, ns: Option<u64>) {
        linux::futex_wait(&self.doorbell, rings, ns);
    }
    fn wake_one(&self) {
        linux::futex_wake(&self.doorbell, 1);
    }
}

/// Work has arrived for a VM: wakes one idle, unmanaged vCPU if one waits.
pub fn ring_doorbell(table: &Table, slot: u32) {
    if let Some(vm) = table.vm(slot) {
        doorbell::ring(vm);
    }
}
