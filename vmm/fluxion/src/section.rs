//! This VM's section of the hand-off table, from the start of the process to its end.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use flux_abi as abi;
use handoff::{Handle, Table};

use crate::args::Config;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SectionError {
    #[error("slot {0} does not exist: the table has {max}", max = abi::MAX_VMS)]
    NoSlot(u32),
    #[error("slot {slot} of the hand-off table is in use (state {state}); choose another --slot")]
    InUse { slot: u32, state: u32 },
}

/// Takes the section for this process. hyperfluxd has set it STARTING and filled in what is known before
/// the process is there; without hyperfluxd that happens here. `blocks`: whether the vCPU blocks are this
/// process's to begin anew; where kFlux moves the cores they are its own, and fresh since it made the VM.
pub fn claim(table: &Table, config: &Config, blocks: bool) -> Result<(), SectionError> {
    let line = table.vm(config.slot).ok_or(SectionError::NoSlot(config.slot))?;
    let state = line.state.load(SeqCst);
    let free = state == abi::VM_EMPTY || state == abi::VM_DEAD;
    let in_use = |state| SectionError::InUse {
        slot: config.slot,
        state,
    };
    if free {
        // Two processes may be told the same slot: one of them gets it.
        line.state
            .compare_exchange(state, abi::VM_STARTING, SeqCst, SeqCst)
            .map_err(in_use)?;
        line.generation.fetch_add(1, SeqCst);
        line.vm_class.store(config.class, Relaxed);
        line.min_cores.store(config.min_cores, Relaxed);
        line.max_cores.store(config.max_cores, Relaxed);
        // hyperfluxd's to give: nobody else looks how long a uThread runs.
        line.quantum_us.store(0, Relaxed);
        let mut name = [0; abi::NAME_BYTES];
        crate::control_page::put_text(&mut name, &config.name);
        for (to, byte) in line.name.iter().zip(name) {
            to.store(byte, Relaxed);
        }
    } else if state != abi::VM_STARTING {
        return Err(in_use(state));
    }
    line.pid.store(std::process::id(), SeqCst);
    line.vcpus.store(config.vcpus, SeqCst);
    for word in [
        &line.waiters,
        &line.ring_tail,
        &line.ring_depth,
        &line.forced,
        &line.forced_descheduled,
    ] {
        word.store(0, Relaxed);
    }
    for meter in [&line.granted_tsc, &line.used_tsc, &line.taken_tsc] {
        meter.store(0, Relaxed);
    }
    if blocks {
        for handle in (0..abi::MAX_VCPUS as u32).filter_map(|v| Handle::new(config.slot, v)) {
            clear(table.vcpu_line(handle));
        }
    }
    Ok(())
}

/// Makes a vCPU block that of a vCPU whose thread is not there yet. The slot's last user is gone and reaped.
fn clear(line: &abi::Vcpu) {
    line.word
        .store(abi::vcpu_word(abi::VCPU_NEW, abi::CORE_NONE), SeqCst);
    line.pinned.store(abi::CORE_NONE, SeqCst);
    let words = [
        &line.held,
        &line.tid,
        &line.park_req,
        &line.force,
        &line.how,
        &line.grants,
        &line.parks,
        &line.yields,
        &line.kicks,
        &line.stale,
        &line.preempt,
        &line.preempts,
    ];
    for word in words {
        word.store(0, SeqCst);
    }
    let stamps = [
        &line.t_decided,
        &line.t_kicked,
        &line.t_seen,
        &line.t_parked,
        &line.t_handed,
        &line.t_granted,
        &line.t_woken,
        &line.t_enter,
        &line.lost_tsc,
    ];
    for stamp in stamps {
        stamp.store(0, Relaxed);
    }
}

/// The VM is ready for an arbiter. Release: whoever sees LIVE sees all that was written before.
pub fn live(table: &Table, slot: u32) {
    set(table, slot, abi::VM_LIVE);
}

/// The process is going, or never came to life.
pub fn dead(table: &Table, slot: u32) {
    set(table, slot, abi::VM_DEAD);
}

fn set(table: &Table, slot: u32, state: u32) {
    if let Some(line) = table.vm(slot) {
        line.state.store(state, SeqCst);
        table.announce();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{parse, Command};

    fn config(slot: u32) -> Config {
        let line = format!("--name web --slot {slot} --vcpus 3 --min-cores 1 --class lc");
        match parse(line.split(' ').map(Into::into), false) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_free_slot_is_filled_in_and_a_used_one_is_left_alone() {
        let (_fd, table) = Table::create(1_000_000, 8).expect("table");
        let line = table.vm(5).expect("slot");
        claim(&table, &config(5), true).expect("free");
        assert_eq!(line.state.load(SeqCst), abi::VM_STARTING);
        assert_eq!((line.vcpus.load(SeqCst), line.max_cores.load(SeqCst)), (3, 3));
        assert_eq!(
            line.name[..4].iter().map(|b| b.load(SeqCst)).collect::<Vec<_>>(),
            b"web\0"
        );
        assert_eq!(line.generation.load(SeqCst), 1);
        // As hyperfluxd leaves it: what it wrote stays.
        line.max_cores.store(2, SeqCst);
        line.quantum_us.store(70, SeqCst);
        claim(&table, &config(5), true).expect("starting");
        assert_eq!(
            (line.max_cores.load(SeqCst), line.generation.load(SeqCst)),
            (2, 1)
        );
        assert_eq!(line.quantum_us.load(SeqCst), 70);
        live(&table, 5);
        assert!(matches!(
            claim(&table, &config(5), true),
            Err(SectionError::InUse { slot: 5, .. })
        ));
        dead(&table, 5);
        let changed = table.header().vms_changed.load(SeqCst);
        claim(&table, &config(5), true).expect("free again");
        assert_eq!(
            (line.generation.load(SeqCst), line.quantum_us.load(SeqCst)),
            (2, 0)
        );
        live(&table, 5);
        assert!(table.header().vms_changed.load(SeqCst) != changed);
    }

    #[test]
    fn old_words_do_not_survive() {
        let (_fd, table) = Table::create(1_000_000, 8).expect("table");
        let line = table.vcpu_line(Handle::new(0, 15).expect("handle"));
        line.word.store(abi::vcpu_word(abi::VCPU_DEAD, 3), SeqCst);
        line.held.store(abi::HELD_FORCED, SeqCst);
        line.preempt.store(7, SeqCst);
        line.preempts.store(9, SeqCst);
        claim(&table, &config(0), true).expect("free");
        assert_eq!(abi::vcpu_state(line.word.load(SeqCst)), abi::VCPU_NEW);
        assert_eq!(line.held.load(SeqCst), abi::HELD_NONE);
        assert_eq!((line.preempt.load(SeqCst), line.preempts.load(SeqCst)), (0, 0));
    }

    #[test]
    fn blocks_that_are_kfluxs_are_left_alone() {
        let (_fd, table) = Table::create(1_000_000, 8).expect("table");
        let line = table.vcpu_line(Handle::new(0, 2).expect("handle"));
        line.word.store(abi::vcpu_word(abi::VCPU_PARKED, 3), SeqCst);
        claim(&table, &config(0), false).expect("free");
        assert_eq!(line.word.load(SeqCst), abi::vcpu_word(abi::VCPU_PARKED, 3));
        assert_eq!(table.vm(0).expect("slot").vcpus.load(SeqCst), 3);
    }
}
