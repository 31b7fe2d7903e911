//! The control socket against good, bad and greedy clients.

mod common;

use std::io::Write;
use std::net::Shutdown;

use common::client::Client;
use common::{kvm_or_skip, until, until_progress, Lab};
use flux_abi::{self as abi, protocol};

#[test]
fn hello_comes_first_and_versions_must_match() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let vm = lab.start("polite", 7, "s", &["--vcpus", "2"]);
    vm.live();
    let mut client = Client::connect(&vm.socket);
    let early: Result<protocol::StatusReply, _> = client.call("status", protocol::Status {});
    let early = early.expect_err("hello was not said");
    assert!(early.code == abi::E_REQUEST && early.hint.contains("hello"));
    for (protocol, major, both) in [
        (abi::PROTOCOL + 1, abi::ABI_MAJOR, "protocol 2"),
        (abi::PROTOCOL, 9, "ABI 9.0"),
    ] {
        let no = client.hello(protocol, major).expect_err("foreign");
        assert!(
            no.code == abi::E_VERSION && no.message.contains(both),
            "{}",
            no.message
        );
        assert!(no.message.contains("this Fluxion 1"), "{}", no.message);
    }
    let reply = client.hello(abi::PROTOCOL, abi::ABI_MAJOR).expect("hello");
    assert_eq!(
        (reply.name.as_str(), reply.slot, reply.pid),
        ("polite", 7, vm.pid())
    );
    let status = client.status();
    assert_eq!(
        (status.state.as_str(), status.backend.as_str(), status.vcpus),
        ("live", "kvm", 2)
    );
    assert!(!status.managed && status.error.is_empty());
    assert!(status.memory_bytes == 64 << 20 && status.resident_bytes > 0);
    let stats: protocol::StatsReply = client.call("stats", protocol::Stats {}).expect("stats");
    assert_eq!(stats.vcpus.len(), 2);
    assert_eq!(stats.vcpus[0].reasons.len(), stats.vcpus[0].counts.len());
    let unknown: Result<protocol::StopReply, _> = client.call("fly", protocol::Stop {});
    assert!(unknown.expect_err("unknown").message.contains("\"fly\""));
    let missing: Result<protocol::ManageReply, _> = client.call("manage", protocol::Stop {});
    assert!(missing.expect_err("no epoch").message.contains("epoch"));
}

#[test]
fn bad_frames_close_their_connection_and_nothing_else() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let mut vm = lab.start("robust", 0, "s", &["--unmanaged"]);
    vm.live();
    let mut good = Client::greeted(&vm.socket);
    let page = good.attach();
    let bad: [&[u8]; 5] = [
        &[0, 0, 0, 0],
        &(abi::FRAME_MAX + 1).to_le_bytes(),
        b"GET / HTTP/1.1\r\n\r\n",
        &[3, 0, 0, 0, 0xc1, 0xc1, 0xc1],
        &[2, 0, 0, 0, 1, 1],
    ];
    for bytes in bad {
        let mut client = Client::connect(&vm.socket);
        client.stream.write_all(bytes).expect("send");
        let answer = client.receive().expect("an error");
        let error = client.read::<protocol::StopReply>(&answer).expect_err("refused");
        assert!(
            error.code == abi::E_FRAME && !error.hint.is_empty(),
            "{bytes:?}: {error:?}"
        );
        assert_eq!(client.receive(), None, "closed");
    }
    // A map that is no request is answered, and the connection goes on.
    let mut client = Client::greeted(&vm.socket);
    client.send_frame(b"\x81\xa2id\x05");
    let answer = client.receive().expect("an error");
    assert_eq!(
        client
            .read::<protocol::StopReply>(&answer)
            .expect_err("refused")
            .code,
        abi::E_REQUEST
    );
    client.status();
    // A frame that never ends is closed with its client.
    let mut cut = Client::connect(&vm.socket);
    cut.stream.write_all(&[200, 0, 0, 0, 0x81]).expect("send");
    cut.stream.shutdown(Shutdown::Write).expect("shutdown");
    assert_eq!(cut.receive(), None);
    assert_eq!(good.status().state, "live");
    until_progress(&page, 0);
    assert!(vm.is_running());
}

#[test]
fn greedy_clients_do_not_keep_others_waiting() {
    if !kvm_or_skip() {
        return;
    }
    let lab = Lab::new();
    let vm = lab.start("patient", 0, "s", &["--unmanaged", "--vcpus", "16"]);
    vm.live();
    // One asks without end and reads nothing: it stops being able to send, because it is no longer read.
    let mut greedy = Client::greeted(&vm.socket);
    greedy.stream.set_nonblocking(true).expect("nonblocking");
    let mut request = vec![14, 0, 0, 0, 0x82];
    request.extend(b"\xa2id\x01\xa2op\xa5stats");
    until("the greedy client to be held back", || {
        let refused = (0..1000).find_map(|_| greedy.stream.write_all(&request).err());
        refused.is_some_and(|e| {
            assert_eq!(e.kind(), std::io::ErrorKind::WouldBlock);
            true
        })
    });
    // One has sent half a frame.
    let mut slow = Client::connect(&vm.socket);
    slow.stream.write_all(&[0, 0, 16, 0, 1, 2, 3]).expect("send");
    let mut good = Client::greeted(&vm.socket);
    for _ in 0..100 {
        good.status();
    }
    // And many do nothing at all; the one too many is told so.
    let mut idle: Vec<Client> = (0..29).map(|_| Client::greeted(&vm.socket)).collect();
    let mut turned_away = Client::connect(&vm.socket);
    let answer = turned_away.receive().expect("an error");
    let error = turned_away
        .read::<protocol::StopReply>(&answer)
        .expect_err("full");
    assert!(
        error.code == abi::E_STATE && error.hint.contains("close"),
        "{error:?}"
    );
    assert_eq!(turned_away.receive(), None);
    idle.truncate(3);
    until("there to be room again", || {
        Client::connect(&vm.socket).hello_or_closed()
    });
    good.status();
}

#[test]
fn stopping_is_clean() {
    if !kvm_or_skip() {
        return;
    }
    let mut lab = Lab::new();
    for (slot, signal) in [(0, Some(libc::SIGTERM)), (1, Some(libc::SIGINT)), (2, None)] {
        let mut vm = lab.start("stop", slot, "s", &["--vcpus", "3"]);
        let (mut lease, page) = lab.adopt(&vm);
        assert_eq!(
            lab.command(handoff::bridge::OP_GRANT, None, Some(vm.handle(1)), 0),
            0
        );
        until_progress(&page, 1);
        match signal {
            Some(signal) => vm.signal(signal),
            None => lease.stop(),
        }
        assert_eq!(vm.wait().code(), Some(0), "{}", vm.log());
        assert!(!vm.socket.exists(), "the socket is gone");
        assert_eq!(common::load(&vm.line().state), abi::VM_DEAD);
        // It left its core by itself: nothing is left to reap.
        let word = common::load64(&lab.table.core_line(lab.core).expect("core").word);
        assert_eq!(abi::core_owner(word), 0);
    }
}
