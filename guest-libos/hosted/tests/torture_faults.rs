//! A torture that cannot fail proves nothing: each fault that can be planted in its guest is found, and named.

mod common;
#[path = "torture/host.rs"]
mod host;
#[path = "torture/lease.rs"]
mod lease;

use common::On;
use host::Host;

/// What the guest ends with, see `apps::torture`.
const FOUND: &str = "the guest ended with code 3";
const STUCK: &str = "the guest ended with code 4";

/// Runs a small torture with a fault in it, on some cores that come and go; how it must end, and what must be said.
fn is_found(on: On, fault: &str, end: &str, said: &[&str]) {
    if !on.there() {
        return;
    }
    // Everybody has many turns while the watch has one, so nobody is stuck after so few of them who is not lost.
    let cmdline = format!("torture uthreads=160 seed=7 patience=80 break={fault}");
    let mut host = Host::start(on, 4, 160, &cmdline, 7);
    // Measured by others; here a gentle storm will do.
    host.cycle = host.ticks(200);
    host.keeps_lease = true;
    assert_ne!(host.until_it_ends(), Some(0), "break={fault} on {on:?}");
    let log = host.log.whole();
    for text in said.iter().chain([&end]) {
        assert!(
            log.contains(text),
            "break={fault} on {on:?}: nothing about {text:?}"
        );
    }
}

fn everywhere(fault: &str, end: &str, said: &[&str]) {
    for on in [On::Hosted, On::Kvm] {
        is_found(on, fault, end, said);
    }
}

#[test]
fn a_register_that_a_switch_loses() {
    everywhere(
        "register",
        FOUND,
        &[
            "WRONG: uThread ",
            "r14 (number 13) is ",
            "across a call of FluxOS",
        ],
    );
}

#[test]
fn a_vector_register_that_comes_back_changed() {
    everywhere(
        "vector",
        FOUND,
        &["vector register (number 15) is ", "while it was off its core"],
    );
}

#[test]
fn a_word_of_a_stack_that_somebody_wrote_to() {
    everywhere(
        "stack",
        FOUND,
        &["1 words at the bottom of its stack have changed"],
    );
}

#[test]
fn a_wake_up_that_does_not_come() {
    everywhere(
        "wake",
        STUCK,
        &["STUCK: uThread ", "waits on a condition variable for "],
    );
}

#[test]
fn a_lock_that_is_let_go_and_not_handed_over() {
    everywhere(
        "unlock",
        STUCK,
        &["STUCK: uThread ", "waits for its cell's mutex"],
    );
}

#[test]
fn a_lock_that_is_never_let_go() {
    everywhere("lock", STUCK, &["STUCK: uThread ", "waits for its cell's mutex"]);
}

#[test]
fn a_uthread_that_is_lost_from_its_queue() {
    everywhere("queue", STUCK, &["STUCK: uThread ", "uThreads in all"]);
}

#[test]
fn a_message_that_is_thrown_away() {
    everywhere("message", FOUND, &["sent, and received or still there: "]);
}

#[test]
fn a_lock_that_is_not_asked_for() {
    everywhere("barge", FOUND, &["mutex: Held("]);
}

#[test]
fn a_sleep_that_is_too_short() {
    everywhere("early", FOUND, &["ticks less than it was to"]);
}

#[test]
fn what_cannot_be_broken_is_refused() {
    for on in [On::Hosted, On::Kvm].into_iter().filter(|on| on.there()) {
        let mut host = Host::start(on, 1, 16, "torture uthreads=16 break=heart", 1);
        host.cycle = host.ticks(200);
        host.keeps_lease = true;
        assert_ne!(host.until_it_ends(), Some(0));
        let log = host.log.whole();
        assert!(
            log.contains("break=heart: give one of register, vector, stack"),
            "{log}"
        );
    }
}
