//! What can be wrong with --kflux-fd, each with its error, and the table unharmed. None of it needs kFlux.

mod common;

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

use common::guest;
use flux_abi as abi;
use handoff::Table;

/// Starts Fluxion with a table as descriptor 100 and something as 101; what it says.
fn start(table: &OwnedFd, other: &OwnedFd, more: &[&str]) -> (Option<i32>, String) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = (std::process::id(), COUNT.fetch_add(1, SeqCst));
    let image = std::env::temp_dir().join(format!("fluxion-seat-{}-{}.elf", unique.0, unique.1));
    std::fs::write(&image, guest::image()).expect("image");
    let inherited = [(table.as_raw_fd(), 100), (other.as_raw_fd(), 101)];
    let mut command = Command::new(common::program());
    command.args(["--name", "seat", "--table-fd", "100", "--image"]);
    command.arg(&image).args(more);
    // SAFETY: dup2 is allowed between fork and exec; the descriptors are open meanwhile.
    unsafe {
        command.pre_exec(move || {
            for (from, to) in inherited {
                if libc::dup2(from, to) != to {
                    return Err(std::io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
    let out = command.output().expect("fluxion runs");
    let _ = std::fs::remove_file(&image);
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stderr).into_owned(),
    )
}

#[test]
fn a_table_of_kfluxs_needs_a_seat_and_another_needs_none() {
    let (fd, table) = Table::create(1_000_000, 8).expect("table");
    let (code, out) = start(&fd, &fd, &["--kflux-fd", "101"]);
    assert!(code == Some(1) && out.contains("names no kFlux domain"), "{out}");
    table.header().kflux_domain.store(7, SeqCst);
    let (code, out) = start(&fd, &fd, &[]);
    assert!(
        code == Some(1) && out.contains("kFlux (domain 7): pass the VM's descriptor with --kflux-fd"),
        "{out}"
    );
    assert_eq!(common::load(&table.vm(0).expect("slot").state), abi::VM_EMPTY);
}

#[test]
fn descriptors_that_are_no_seat_are_told_by_number() {
    let (fd, table) = Table::create(1_000_000, 8).expect("table");
    table.header().kflux_domain.store(7, SeqCst);
    let (code, out) = start(&fd, &fd, &["--kflux-fd", "101"]);
    assert!(
        code == Some(1) && out.contains("descriptor 101 is not kFlux"),
        "{out}"
    );
    let (code, out) = start(&fd, &fd, &["--kflux-fd", "77"]);
    assert!(
        code == Some(1) && out.contains("cannot use descriptor 77 as the VM's descriptor of kFlux"),
        "{out}"
    );
    assert_eq!(common::load(&table.vm(0).expect("slot").state), abi::VM_EMPTY);
}
