//! A guest that dies says of what, of which uThread, and where that was, in names of functions.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::On;

/// Runs the guest to its end, without an arbiter; what it has left in the log.
fn last_words(on: On, cmdline: &str) -> Option<String> {
    if !on.there() {
        return None;
    }
    let (program, first) = on.command()?;
    Some(last_words_of(on, program, first, cmdline))
}

/// As above, of a program of its own.
fn last_words_of(on: On, program: PathBuf, first: Vec<OsString>, cmdline: &str) -> String {
    let output = Command::new(program)
        .args(first)
        .args(["--name", "dying", "--unmanaged", "--cmdline", cmdline])
        .stdin(Stdio::null())
        .output()
        .expect("the VM's process starts");
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    // Ended as a poisoned VM without a socket does: not by a signal, not by its own panic.
    assert_eq!(output.status.code(), Some(1), "{cmdline} on {on:?}: {log}");
    log
}

/// A program linked with `libfluxos`, and its first arguments.
fn c_program(on: On, name: &str) -> Option<(PathBuf, Vec<OsString>)> {
    if !on.there() {
        return None;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/capi");
    let folder = std::env::var_os("FLUXOS_CAPI").map_or(root, PathBuf::from);
    let kind = if on == On::Kvm { "kvm" } else { "hosted" };
    let program = folder.join(kind).join(name);
    if on == On::Hosted {
        return Some((program, Vec::new()));
    }
    let (fluxion, _) = on.command()?;
    Some((fluxion, vec!["--image".into(), program.into()]))
}

/// Each guest's end has all of these texts in its last line, and its log all of those.
fn dies(cmdline: &str, last: &[&str], log: &[&str]) {
    for on in [On::Hosted, On::Kvm] {
        if let Some(said) = last_words(on, cmdline) {
            says(on, cmdline, &said, last, log);
        }
    }
}

fn says(on: On, cmdline: &str, said: &str, last: &[&str], log: &[&str]) {
    let end = said
        .lines()
        .find(|line| line.contains("poisoned: "))
        .unwrap_or("");
    for text in last {
        assert!(end.contains(text), "{cmdline} on {on:?}: no {text:?} in\n{said}");
    }
    for text in log {
        assert!(said.contains(text), "{cmdline} on {on:?}: no {text:?} in\n{said}");
    }
}

#[test]
fn a_c_programs_end_is_told_in_its_functions_names() {
    for on in [On::Hosted, On::Kvm] {
        let ends: [(&str, &[&str]); 2] = [
            (
                "dies overflow",
                &[
                    "stack overflow: uThread ",
                    "\"c diver\" has used up its stack of ",
                    "; in dive",
                ],
            ),
            (
                "dies null",
                &["page fault (", "\"c poker\"", "; in poke", "called by poker"],
            ),
        ];
        for (cmdline, last) in ends {
            if let Some((program, first)) = c_program(on, "dies") {
                let said = last_words_of(on, program, first, cmdline);
                says(on, cmdline, &said, last, &[]);
            }
        }
    }
}

#[test]
fn a_stack_overflow_is_named_as_such_with_its_uthread() {
    dies(
        "probe mode=overflow",
        &[
            "stack overflow: uThread ",
            "\"diver\" has used up its stack of ",
            " KiB",
            "; in libos::rogue::dive, called by ",
        ],
        // The innermost frames and the outermost.
        &[
            "libos::rogue::dive+0x",
            "more of the same",
            " frames",
            "libos::uthread::",
        ],
    );
}

#[test]
fn a_panic_has_its_message_its_line_and_its_callers() {
    dies(
        "probe mode=panic",
        &[
            "uThread 1 \"main\" panicked at libos/src/rogue.rs:",
            "index out of bounds: the len is 4 but the index is 9",
            "; in libos::rogue::stumble, called by apps::probe::start",
        ],
        &["core::panicking::panic_bounds_check", "apps::main+0x"],
    );
}

#[test]
fn a_page_fault_has_its_address_and_its_callers() {
    dies(
        "probe mode=crash",
        &[
            "page fault (",
            "in uThread 1 \"main\" at rip 0x",
            "address 0x0",
            "; in libos::rogue::read, called by apps::probe::start",
        ],
        &["apps::main+0x"],
    );
    dies(
        "probe mode=crash address=8070450532247928832",
        &["general protection fault", "; in libos::rogue::read"],
        &[],
    );
}

#[test]
fn a_frame_pointer_that_leads_nowhere_is_not_followed() {
    // Null, misaligned, not mapped, not canonical, at the end of the address space.
    for frame in [0, 8, 0x40_0001, 0x3f_f000, 1 << 63, u64::MAX - 7, u64::MAX] {
        dies(
            &format!("probe mode=crash frame={frame}"),
            &["page fault (", "; in libos::rogue::read_without_frame"],
            &[],
        );
    }
}

#[test]
fn a_bad_command_line_is_no_crash() {
    for on in [On::Hosted, On::Kvm] {
        let said = last_words(on, "nonsense").unwrap_or_default();
        assert!(!said.contains("backtrace"), "{said}");
    }
}
