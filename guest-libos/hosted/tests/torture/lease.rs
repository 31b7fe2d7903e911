//! The arbiter's side of a VM's control socket, as far as it takes to hold the VM's lease.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use flux_abi as abi;

use crate::common::until;

/// The lease: it ends when this is dropped.
pub struct Lease {
    stream: UnixStream,
    id: u32,
}

impl Lease {
    /// Takes the VM behind this socket over.
    pub fn take(socket: &Path, epoch: u32) -> Lease {
        let mut stream = None;
        until("the socket to be there", || {
            stream = UnixStream::connect(socket).ok();
            stream.is_some()
        });
        let mut lease = Lease {
            stream: stream.expect("connected"),
            id: 0,
        };
        lease.call(
            "hello",
            &[
                ("protocol", abi::PROTOCOL),
                ("abi_major", abi::ABI_MAJOR),
                ("abi_minor", abi::ABI_MINOR),
            ],
        );
        lease.call("manage", &[("epoch", epoch)]);
        lease
    }

    /// A request whose arguments are numbers, in MessagePack; it must not be refused.
    fn call(&mut self, op: &str, numbers: &[(&str, u32)]) {
        self.id += 1;
        let mut body = vec![0x80 | (2 + numbers.len()) as u8];
        put_text(&mut body, "op");
        put_text(&mut body, op);
        for (name, value) in [("id", self.id)].iter().chain(numbers) {
            put_text(&mut body, name);
            body.push(0xce);
            body.extend_from_slice(&value.to_be_bytes());
        }
        let mut frame = (body.len() as u32).to_le_bytes().to_vec();
        frame.extend(body);
        self.stream.write_all(&frame).expect("send");
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).expect("an answer");
        let mut answer = vec![0; u32::from_le_bytes(head) as usize];
        self.stream.read_exact(&mut answer).expect("an answer");
        // "ok", a text of two letters, and true behind it.
        let granted = answer.windows(4).any(|bytes| bytes == b"\xa2ok\xc3");
        assert!(granted, "{op} was refused: {}", String::from_utf8_lossy(&answer));
    }
}

/// Names are short.
fn put_text(to: &mut Vec<u8>, text: &str) {
    to.push(0xa0 | text.len() as u8);
    to.extend_from_slice(text.as_bytes());
}
