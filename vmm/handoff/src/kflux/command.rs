//! A command of the loop, as kFlux takes it.

use crate::bridge;
use crate::pages::Pages;
use crate::protocol::{CoreWord, World};
use crate::{Handle, Table};
use flux_abi as abi;
use std::sync::atomic::Ordering::Relaxed;

/// Kicks are not put off for longer than this, whatever the table's header says.
const KICK_AFTER_MAX_US: u32 = 1_000_000;

pub(super) const NOTHING: abi::KfCommand = abi::KfCommand {
    op: 0,
    core: 0,
    from: 0,
    to: 0,
    flags: 0,
    generation: 0,
    kick_after_us: 0,
    deadline_us: 0,
    decided_tsc: 0,
    result: 0,
    park_req: 0,
    reserved: [0; 4],
};

/// How long a park may take, from the table's header.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    pub kick_after_us: u32,
    pub deadline_us: u32,
}

impl Terms {
    pub fn of(table: &Table) -> Terms {
        let header = table.header();
        Terms {
            kick_after_us: header.kick_after_us.load(Relaxed).min(KICK_AFTER_MAX_US),
            deadline_us: header.deadline_us.load(Relaxed).clamp(100, 10_000_000),
        }
    }
}

/// A command of the loop's batch in kFlux's words.
#[inline]
pub(super) fn translate(table: &Table, pages: &Pages, words: &[i32], terms: Terms) -> abi::KfCommand {
    let word = |at: usize| words[at] as u32;
    let (op, core, mut flags) = (word(bridge::OP), word(bridge::CORE), word(bridge::FLAGS));
    let (mut from, mut to) = (word(bridge::FROM), word(bridge::TO));
    // Only kFlux's own flags are not the loop's to give.
    flags &= !abi::KF_FLAG_GENERATION;
    let mut generation = 0;
    let mut kick_after_us = terms.kick_after_us;
    // Words that an operation has no use for are not checked by the affinity bridge either.
    match op {
        abi::OP_GRANT | abi::OP_HEIR => (from, flags) = (0, 0),
        abi::OP_PARK => to = 0,
        // As over the table: in FluxOS's own code it sees the word by itself.
        abi::OP_PREEMPT
            if flags & abi::FLAG_KICK_NOW == 0
                && Handle::from_raw(from).is_some_and(|from| pages.in_libos(from)) =>
        {
            flags |= abi::FLAG_ASK_ONLY;
        }
        abi::OP_FORCE => {
            (to, flags) = (0, 0);
            // The request that is in flight now, whoever is the owner by the time that kFlux looks.
            generation = CoreWord::of(table.core(core)).generation;
        }
        _ => {}
    }
    if matches!(op, abi::OP_PARK | abi::OP_MOVE) {
        let ask_only = flags & abi::FLAG_ASK_ONLY != 0;
        // In application code, as far as the guest says, there is nothing to wait for. If it lies, or has gone
        // into FluxOS's code meanwhile, kFlux looks again when the kick arrives.
        let at_once = || !Handle::from_raw(from).is_some_and(|from| pages.in_libos(from));
        if ask_only {
            // As over the table: who asks for both is not kicked.
            flags &= !abi::FLAG_KICK_NOW;
            kick_after_us = abi::KF_NEVER;
        } else if flags & abi::FLAG_KICK_NOW != 0 || at_once() {
            kick_after_us = 0;
        }
    }
    abi::KfCommand {
        op,
        core,
        from,
        to,
        flags,
        generation,
        kick_after_us,
        deadline_us: terms.deadline_us,
        decided_tsc: bridge::decided(words),
        ..NOTHING
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[path = "command_tests.rs"]
mod tests;
