//! gdb with `gdb/fluxos.py`, upon a hosted guest that is kicked all the while, and upon its core file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use handoff::linux::kick_signal;

const PATIENCE: Duration = Duration::from_secs(120);
const KICKS: u32 = 40;

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../gdb/fluxos.py")
}

fn there() -> bool {
    let there = Command::new("gdb").arg("--version").output().is_ok();
    if !there {
        eprintln!("not run: it needs gdb");
    }
    there
}

/// A process below `pid` that runs the guest, and the threads in it that are vCPUs.
fn vcpus(pid: u32) -> Option<(i32, Vec<i32>)> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let guest: i32 = children.split_whitespace().next()?.parse().ok()?;
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{guest}/task")).ok()? {
        let path = thread.ok()?.path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        if name.starts_with("vcpu") {
            found.push(path.file_name()?.to_str()?.parse().ok()?);
        }
    }
    Some((guest, found)).filter(|(_, threads)| threads.len() == 2)
}

/// Clock ticks that the threads have run for: some, once the guest is at work.
fn ticks(guest: i32, threads: &[i32]) -> u64 {
    let of = |thread: &i32| {
        let stat = fs::read_to_string(format!("/proc/{guest}/task/{thread}/stat")).ok()?;
        // The fourteenth field; the name before it has no spaces here.
        stat.split_whitespace().nth(13)?.parse::<u64>().ok()
    };
    threads.iter().filter_map(of).sum()
}

#[test]
fn uthreads_are_listed_in_a_process_that_is_kicked_and_in_its_core() {
    if !there() {
        return;
    }
    let core = std::env::temp_dir().join(format!("fluxos-gdb-{}.core", std::process::id()));
    let program = env!("CARGO_BIN_EXE_fluxos-hosted");
    let commands = [
        "run",
        "echo INTERRUPTED\\n",
        "info uthreads",
        "uthread all bt",
        &format!("generate-core-file {}", core.display()),
        "kill",
    ];
    let gdb = Command::new("gdb")
        .args(["-q", "-nx", "-batch", "-x"])
        .arg(script())
        .args(commands.iter().flat_map(|command| ["-ex", command]))
        .args(["--args", program, "--name", "debugged", "--unmanaged"])
        .args(["--vcpus", "2", "--cmdline", "probe mode=lock uthreads=4"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gdb starts");

    let start = Instant::now();
    let (guest, threads) = loop {
        if let Some((guest, threads)) = vcpus(gdb.id()) {
            if ticks(guest, &threads) >= 10 {
                break (guest, threads);
            }
        }
        assert!(start.elapsed() < PATIENCE, "gdb does not run the guest");
        sleep(Duration::from_millis(20));
    };
    for _ in 0..KICKS {
        for thread in &threads {
            // SAFETY: a signal to a thread of a process that our child has started.
            unsafe { libc::syscall(libc::SYS_tgkill, guest, *thread, kick_signal()) };
        }
        sleep(Duration::from_millis(1));
    }
    // SAFETY: as above.
    unsafe { libc::kill(guest, libc::SIGINT) };
    let output = gdb.wait_with_output().expect("wait");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = format!("{said}\n{}", String::from_utf8_lossy(&output.stderr));

    let (before, after) = said.split_once("INTERRUPTED").unwrap_or_else(|| panic!("{all}"));
    assert!(
        before.contains("SIGINT") && !before.contains("SIGUSR2"),
        "gdb stops at kicks:\n{all}"
    );
    lists_all(after);

    let output = Command::new("gdb")
        .args(["-q", "-nx", "-batch", program])
        .arg(&core)
        .arg("-x")
        .arg(script())
        .args(["-ex", "info uthreads", "-ex", "uthread all bt"])
        .args(["-ex", "uthread 70000 bt", "-ex", "uthread x bt"])
        .output()
        .expect("gdb starts");
    fs::remove_file(&core).expect("the core file");
    lists_all(&String::from_utf8_lossy(&output.stdout));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("there is no uThread 70000"), "{errors}");
}

/// The four uThreads contend for a lock: at most two of them run, each goes back to where it began, in names.
fn lists_all(said: &str) {
    assert!(said.contains("4 in use"), "{said}");
    let traces: Vec<&str> = said
        .split("\nuThread ")
        .filter(|trace| trace.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    assert_eq!(traces.len(), 4, "{said}");
    for trace in traces {
        for function in ["libos::uthread::begin", "apps::probe::lock::contend"] {
            assert!(
                trace.contains(function),
                "no {function} in uThread {trace}\n{said}"
            );
        }
    }
    let running = said.matches("running, vCPU ").count();
    assert!(running <= 2, "{said}");
    assert!(
        said.contains(", blocked\n") || said.contains(", runnable\n"),
        "{said}"
    );
}

#[test]
fn without_a_guest_it_says_what_to_do() {
    if !there() {
        return;
    }
    for (program, text) in [
        ("/bin/true", "this program is no hosted guest"),
        (env!("CARGO_BIN_EXE_fluxos-hosted"), "run the guest first"),
    ] {
        let output = Command::new("gdb")
            .args(["-q", "-nx", "-batch", program, "-x"])
            .arg(script())
            .args(["-ex", "info uthreads"])
            .output()
            .expect("gdb starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(text), "{program}: {errors}");
    }
}
