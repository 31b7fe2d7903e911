//! Whether a running VM really is confined, as the kernel sees it.

mod common;

use common::{kvm_or_skip, Lab, Vm};

/// A field of the status of each thread of a process, with the thread's name.
fn of_each_thread(vm: &Vm, field: &str) -> Vec<(String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", vm.pid())).expect("tasks");
    let status = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.expect("task").path().join("status")).expect("status")
    };
    let get = |text: &str, field: &str| {
        let line = text.lines().find(|l| l.starts_with(field)).expect("field");
        line.split_whitespace().nth(1).expect("value").to_owned()
    };
    tasks
        .map(status)
        .map(|text| (get(&text, "Name:"), get(&text, field)))
        .collect()
}

#[test]
fn every_thread_has_its_filter() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let vm = lab.start("jailed", 0, "s", &["--vcpus", "3"]);
    vm.live();
    // The control thread installs its own as the last step, after the VM is live.
    common::until("all to be filtered", || {
        of_each_thread(&vm, "Seccomp:")
            .iter()
            .all(|(_, mode)| mode == "2")
    });
    let threads = of_each_thread(&vm, "NoNewPrivs:");
    assert!(threads.iter().all(|(_, value)| value == "1"), "{threads:?}");
    let mut names: Vec<&str> = threads.iter().map(|(name, _)| name.as_str()).collect();
    names.sort();
    let program = common::program();
    let program = program
        .file_name()
        .and_then(|name| name.to_str())
        .expect("a name");
    assert_eq!(names, [program, "vcpu0", "vcpu1", "vcpu2"]);

    let open = lab.start("open", 1, "s", &["--no-confine"]);
    open.live();
    assert!(of_each_thread(&open, "Seccomp:")
        .iter()
        .all(|(_, mode)| mode == "0"));
}
