//! What can be wrong before a guest runs: each with its error and its exit code, and the table unharmed.

mod common;

use std::process::Command;

use common::{guest, kvm_or_skip, Lab};
use flux_abi as abi;

fn fluxion(args: &[&str]) -> (Option<i32>, String) {
    let out = Command::new(common::program())
        .args(args)
        .output()
        .expect("fluxion runs");
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout),
    )
}

#[test]
fn usage_errors_are_code_2() {
    for (args, text) in [
        (&["--wings"][..], "unknown option --wings"),
        (&["--name", "a"], "--image is missing"),
        (&["--name", "a", "--image", "x", "--vcpus", "0"], "1 to 16"),
        (&["--name", "a/b", "--image", "x"], "--name"),
    ] {
        let (code, out) = fluxion(args);
        assert_eq!(code, Some(2), "{out}");
        assert!(out.contains(text), "{out}");
    }
    let (code, out) = fluxion(&["--help"]);
    assert!(code == Some(0) && out.contains("--idle-spin-ns"));
    assert_eq!(fluxion(&["--version"]).0, Some(0));
}

#[test]
fn bad_images_are_refused_with_a_reason() {
    let lab = Lab::new();
    let write = |name: &str, bytes: &[u8]| {
        let path = lab.dir.join(name);
        std::fs::write(&path, bytes).expect("image");
        path.to_string_lossy().into_owned()
    };
    let mut cut = guest::image();
    cut.truncate(4100);
    let mut high = guest::image();
    high[64 + 16..64 + 24].copy_from_slice(&(1u64 << 40).to_le_bytes());
    for (image, code, text) in [
        (write("script", b"#!/bin/sh\n"), 1, "not an ELF file"),
        (write("empty", b""), 1, "not an ELF file"),
        (write("cut", &cut), 1, "cut short"),
        (write("high", &high), 1, "outside the room"),
        (
            write("newer", &guest::image_of(abi::ABI_MAJOR, abi::ABI_MINOR + 1)),
            4,
            &format!("built for ABI {}.{}", abi::ABI_MAJOR, abi::ABI_MINOR + 1),
        ),
        (
            write("foreign", &guest::image_of(9, 0)),
            4,
            &format!(
                "built for ABI 9.0, this Fluxion speaks {}.{}",
                abi::ABI_MAJOR,
                abi::ABI_MINOR
            ),
        ),
        (lab.dir.to_string_lossy().into_owned(), 1, "cannot read the image"),
        ("/nowhere/image".to_owned(), 1, "check --image"),
        ("/dev/zero".to_owned(), 1, "larger than any guest"),
    ] {
        let (got, out) = fluxion(&["--name", "bad", "--image", &image]);
        assert_eq!(got, Some(code), "{out}");
        assert!(
            out.contains("error bad: ") && out.contains(text),
            "{image}: {out}"
        );
    }
}

#[test]
fn bad_tables_and_places_are_refused() {
    let lab = Lab::new();
    let image = lab.dir.join("good.elf");
    std::fs::write(&image, guest::image()).expect("image");
    let image = image.to_string_lossy().into_owned();
    let (code, out) = fluxion(&["--name", "t", "--image", &image, "--table-fd", "77"]);
    assert!(code == Some(1) && out.contains("descriptor 77"), "{out}");
    let nowhere = lab.dir.join("no/such/dir/vm.sock").to_string_lossy().into_owned();
    let (code, out) = fluxion(&["--name", "t", "--image", &image, "--socket", &nowhere]);
    assert!(code == Some(1) && out.contains("cannot listen on"), "{out}");
}

#[test]
fn a_failed_start_gives_its_slot_back_and_a_used_slot_is_refused() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let bad = lab.dir.join("bad.elf");
    std::fs::write(&bad, b"no image").expect("image");
    let mut vm = lab.start_image("bad", 6, &bad, "", &[]);
    assert_eq!(vm.wait().code(), Some(1));
    assert_eq!(common::load(&vm.line().state), abi::VM_DEAD);
    assert!(!vm.socket.exists());
    let first = lab.start("first", 6, "s", &["--unmanaged"]);
    first.live();
    if common::over_kflux() {
        // kFlux knows that the slot is taken before there is a process.
        assert_eq!(
            lab.bridge
                .kflux()
                .expect("kFlux")
                .device()
                .vm_create(6, 1)
                .expect_err("taken")
                .errno(),
            -libc::EEXIST
        );
        return;
    }
    let mut second = lab.start("second", 6, "s", &["--unmanaged"]);
    assert_eq!(second.wait().code(), Some(1));
    assert!(
        second.log().contains("slot 6 of the hand-off table is in use"),
        "{}",
        second.log()
    );
    assert_eq!(common::load(&first.line().state), abi::VM_LIVE);
}

#[test]
fn wrong_tables_name_both_versions() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    lab.table
        .header()
        .abi_major
        .store(8, std::sync::atomic::Ordering::SeqCst);
    let minor = abi::ABI_MINOR;
    let mut vm = lab.start("old", 0, "s", &[]);
    assert_eq!(vm.wait().code(), Some(4), "{}", vm.log());
    assert!(
        vm.log().contains(&format!("8.{minor}")) && vm.log().contains(&format!("1.{minor}")),
        "{}",
        vm.log()
    );
    lab.table
        .header()
        .magic
        .store(1, std::sync::atomic::Ordering::SeqCst);
    let mut vm = lab.start("none", 0, "s", &[]);
    assert_eq!(vm.wait().code(), Some(1), "{}", vm.log());
    assert!(vm.log().contains("no hand-off table"), "{}", vm.log());
}
