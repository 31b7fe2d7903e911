//! What a command of the loop becomes for kFlux.

use super::*;
use std::sync::atomic::Ordering::SeqCst;

use crate::bridge::{
    FLAG_ASK_ONLY, FLAG_KICK_NOW, OP_FORCE, OP_GRANT, OP_HEIR, OP_MOVE, OP_PARK, OP_PREEMPT,
};

const TERMS: Terms = Terms {
    kick_after_us: 20,
    deadline_us: 10_000,
};

fn table() -> Table {
    Table::create(1_000_000, 6).expect("table").1
}

fn of(table: &Table, pages: &Pages, op: i32, flags: i32) -> abi::KfCommand {
    let words = [op, 3, 17, 33, flags, 0x2000_0001_u32 as i32, 1, 0];
    translate(table, pages, &words, TERMS)
}

#[test]
fn words_go_to_their_places() {
    let (table, pages) = (table(), Pages::default());
    let command = of(&table, &pages, OP_MOVE, 0);
    assert_eq!(
        (command.op, command.core, command.from, command.to),
        (abi::OP_MOVE, 3, 17, 33)
    );
    assert_eq!(
        (command.deadline_us, command.decided_tsc),
        (10_000, 0x1_2000_0001)
    );
    let command = of(&table, &pages, OP_GRANT, FLAG_KICK_NOW);
    assert_eq!((command.from, command.to, command.flags), (0, 33, 0));
    assert_eq!(of(&table, &pages, OP_PARK, 0).to, 0);
    assert_eq!(of(&table, &pages, OP_HEIR, 0).from, 0);
    let words = [OP_PARK, -1, -1, 0, -1, 0, 0, 0];
    let command = translate(&table, &pages, &words, TERMS);
    assert_eq!(
        (command.core, command.from),
        (u32::MAX, u32::MAX),
        "kFlux refuses it"
    );
    assert_eq!(command.flags & abi::KF_FLAG_GENERATION, 0);
}

#[test]
fn when_to_kick_is_the_flags_and_then_the_guests_word() {
    let (table, pages) = (table(), Pages::default());
    let after = |pages: &Pages, flags| of(&table, pages, OP_MOVE, flags).kick_after_us;
    assert_eq!(after(&pages, 0), 0, "a guest without a page is not waited for");
    assert_eq!(after(&pages, FLAG_ASK_ONLY), abi::KF_NEVER);
    let mut hot = vec![0u64; abi::HOT_BYTES / 8];
    assert!(pages.set(1, hot.as_mut_ptr().cast()));
    assert_eq!(after(&pages, 0), 0, "in application code");
    // Handle 17 is vCPU 0 of slot 1.
    hot[abi::VCPUS_OFFSET / 8] = 1 << 32;
    assert_eq!(after(&pages, 0), 20, "in FluxOS's own");
    assert_eq!(after(&pages, FLAG_KICK_NOW), 0);
    assert_eq!(after(&pages, FLAG_ASK_ONLY), abi::KF_NEVER);
    let both = of(&table, &pages, OP_PARK, FLAG_ASK_ONLY | FLAG_KICK_NOW);
    assert_eq!(
        (both.kick_after_us, both.flags),
        (abi::KF_NEVER, abi::FLAG_ASK_ONLY)
    );
}

#[test]
fn what_the_header_says_is_held_to_sense() {
    let table = table();
    let of = |kick, deadline| {
        table.header().kick_after_us.store(kick, SeqCst);
        table.header().deadline_us.store(deadline, SeqCst);
        let terms = Terms::of(&table);
        (terms.kick_after_us, terms.deadline_us)
    };
    assert_eq!(of(20, 10_000), (20, 10_000));
    assert_eq!(of(u32::MAX, u32::MAX), (1_000_000, 10_000_000));
    assert_eq!(of(0, 0), (0, 100));
}

#[test]
fn a_force_names_the_request_that_is_in_flight() {
    let (table, pages) = (table(), Pages::default());
    let word = abi::core_word(17, 33, 0x8000_0007);
    table.core_line(3).expect("core").word.store(word, SeqCst);
    let command = of(&table, &pages, OP_FORCE, FLAG_KICK_NOW);
    assert_eq!((command.op, command.generation), (abi::OP_FORCE, 0x8000_0007));
    assert_eq!((command.from, command.to, command.flags), (17, 0, 0));
}

#[test]
fn a_preemption_carries_its_number_and_kicks_application_code_only() {
    let (table, pages) = (table(), Pages::default());
    let words = [OP_PREEMPT, 3, 17, -5, 0, 0, 0, 0];
    let of = |pages: &Pages, flags| {
        let mut words = words;
        words[4] = flags;
        translate(&table, pages, &words, TERMS)
    };
    let command = of(&pages, 0);
    assert_eq!(
        (command.op, command.from, command.to),
        (abi::OP_PREEMPT, 17, -5i32 as u32)
    );
    let flags = |pages: &Pages, flags| of(pages, flags).flags;
    assert_eq!(flags(&pages, 0), 0);
    let mut hot = vec![0u64; abi::HOT_BYTES / 8];
    assert!(pages.set(1, hot.as_mut_ptr().cast()));
    assert_eq!(flags(&pages, 0), 0, "in application code");
    hot[abi::VCPUS_OFFSET / 8] = 1 << 32;
    assert_eq!(flags(&pages, 0), abi::FLAG_ASK_ONLY, "in FluxOS's own");
    assert_eq!(flags(&pages, FLAG_KICK_NOW), abi::FLAG_KICK_NOW);
}
