//! C programs upon FluxOS: the conformance cases of `capi/conformance`, as KVM guests and hosted,
//! at rest and while their cores come and go.
//!
//! They are linked by `capi/build.mjs`, a step of the set-up.

mod common;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::mpsc::channel;
use std::time::Duration;

use common::{until, Arbiter, On};

/// Longer than any of them takes; one that is not over by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAMS: &[&str] = &[
    "attributes",
    "barrier",
    "cancel",
    "channels",
    "cleanup",
    "clock",
    "cond",
    "condwait",
    "detach",
    "ends",
    "errors",
    "exits",
    "keys",
    "mutex",
    "native",
    "once",
    "program",
    "rwlock",
    "semaphore",
    "spin",
    "threads",
    "timedlock",
    "tls",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The command that runs a conformance program; `None` if this machine cannot.
fn command(on: On, name: &str) -> Option<(PathBuf, Vec<OsString>)> {
    if !on.there() {
        return None;
    }
    let folder = std::env::var_os("FLUXOS_CAPI").map_or_else(|| root().join("target/capi"), PathBuf::from);
    let kind = if on == On::Kvm { "kvm" } else { "hosted" };
    let program = folder.join(kind).join(name);
    assert!(
        program.exists(),
        "{} is not there; run: node scripts/setup.mjs capi",
        program.display()
    );
    if on == On::Hosted {
        return Some((program, Vec::new()));
    }
    let (fluxion, _) = on.command()?;
    Some((fluxion, vec!["--image".into(), program.into()]))
}

/// What a VM says until it ends, and its exit code.
fn run(on: On, name: &str, vcpus: u32) -> Option<(String, Option<i32>)> {
    let (program, first) = command(on, name)?;
    let child = Command::new(program)
        .args(first)
        .args(["--name", name, "--cmdline", name, "--unmanaged"])
        .args(["--vcpus", &vcpus.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the VM's process starts");
    let pid = child.id() as libc::pid_t;
    let (send, over) = channel();
    std::thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = over.recv_timeout(PATIENCE) else {
        // SAFETY: a signal to our own child, which the thread still waits for.
        unsafe { libc::kill(pid, libc::SIGTERM) };
        let output = over.recv().expect("the thread").expect("wait");
        panic!(
            "{name} on {on:?} with {vcpus} vCPUs hangs; it said:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let output = output.expect("wait");
    Some((
        String::from_utf8_lossy(&output.stderr).into_owned(),
        output.status.code(),
    ))
}

/// All cases that the program announces are well, each once.
fn conforms(on: On, name: &str) {
    for vcpus in [1, 2] {
        let Some((said, code)) = run(on, name, vcpus) else {
            return;
        };
        let lines: Vec<&str> = said
            .lines()
            .filter_map(|line| line.split_once("] ").map(|(_, text)| text))
            .collect();
        let planned = lines.iter().find_map(|line| line.strip_prefix("1.."));
        let planned: usize = planned
            .and_then(|n| n.parse().ok())
            .unwrap_or_else(|| panic!("{name} on {on:?} with {vcpus} vCPUs did not end:\n{said}"));
        for case in 1..=planned {
            let good = format!("ok {case} - ");
            let found = lines.iter().filter(|line| line.starts_with(&good)).count();
            assert_eq!(
                found, 1,
                "case {case} of {name} on {on:?} with {vcpus} vCPUs:\n{said}"
            );
        }
        assert!(planned > 0 && !said.contains("not ok"), "{said}");
        assert_eq!(code, Some(0), "{name} on {on:?}:\n{said}");
    }
}

/// Runs the program, each case `rounds` times, while vCPUs lose and get their cores at random. How
/// often they got one; `None` if nothing can be run here.
fn storm(on: On, name: &str, rounds: u32) -> Option<u32> {
    let (program, first) = command(on, name)?;
    let mut arbiter = Arbiter::new();
    let cmdline = format!("{name} {rounds}");
    let mut vm = arbiter.start_program(program, first, 4, 3, &cmdline, &[]);
    until("the program to end", || {
        for _ in 0..20 {
            arbiter.anything(&[&vm], 0);
            std::thread::sleep(Duration::from_micros([0, 20, 100, 300][arbiter.random(4)]));
        }
        vm.exit_code().is_some()
    });
    assert_eq!(vm.exit_code(), Some(0), "{name} on {on:?}: see what it said");
    let grants = |vcpu| vm.page.host(vcpu).grant_gen.load(SeqCst);
    Some((0..vm.vcpus).map(grants).sum())
}

/// All cases are well in a storm, which is repeated, longer each time, until it was one: on a quiet machine a
/// program may be done before its cores have moved.
fn conforms_in_a_storm(on: On, name: &str, rounds: u32) {
    const ENOUGH: u32 = 10;
    for longer in [1, 4, 16, 64] {
        match storm(on, name, rounds * longer) {
            Some(grants) if grants < ENOUGH => {}
            _ => return,
        }
    }
    panic!("the cores of {name} on {on:?} hardly moved");
}

macro_rules! programs {
    ($($name:ident)*) => {
        mod hosted {
            $(#[test]
            fn $name() {
                super::conforms(super::On::Hosted, stringify!($name));
            })*
        }
        mod kvm {
            $(#[test]
            fn $name() {
                super::conforms(super::On::Kvm, stringify!($name));
            })*
        }
        #[test]
        fn every_program_is_run() {
            let mut here: Vec<&str> = vec![$(stringify!($name)),*];
            here.sort_unstable();
            assert_eq!(here, PROGRAMS);
            let mut there: Vec<String> = std::fs::read_dir(root().join("capi/conformance"))
                .expect("the folder")
                .filter_map(|entry| entry.expect("an entry").file_name().into_string().ok())
                .filter_map(|name| name.strip_suffix(".c").map(str::to_owned))
                .collect();
            there.sort_unstable();
            assert_eq!(there, PROGRAMS);
        }
    };
}

programs! {
    attributes barrier cancel channels cleanup clock cond condwait detach ends errors exits
    keys mutex native once program rwlock semaphore spin threads timedlock tls
}

/// Programs, and how often they go through their cases: so often that it takes a while.
fn storms(programs: &[(&str, u32)]) {
    for (name, rounds) in programs {
        for on in [On::Hosted, On::Kvm] {
            conforms_in_a_storm(on, name, *rounds);
        }
    }
}

#[test]
fn threads_in_a_storm() {
    storms(&[("threads", 50), ("detach", 20), ("keys", 3000)]);
    // Hosted programs have none.
    conforms_in_a_storm(On::Kvm, "tls", 200);
}

#[test]
fn locks_in_a_storm() {
    storms(&[("mutex", 100), ("timedlock", 30), ("rwlock", 100), ("spin", 200)]);
}

#[test]
fn waits_in_a_storm() {
    storms(&[
        ("cond", 100),
        ("condwait", 50),
        ("semaphore", 50),
        ("barrier", 200),
        ("native", 50),
        ("channels", 50),
    ]);
}

#[test]
fn cancellation_in_a_storm() {
    storms(&[("cancel", 100), ("cleanup", 200)]);
}
