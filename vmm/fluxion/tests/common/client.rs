//! A client of the control socket, and its view of the control page.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use flux_abi::{self as abi, protocol};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

#[derive(Serialize)]
struct Request<'a, T> {
    id: u32,
    op: &'a str,
    #[serde(flatten)]
    body: T,
}

#[derive(Deserialize)]
struct Verdict {
    id: u32,
    ok: bool,
}

pub struct Client {
    pub stream: UnixStream,
    id: u32,
}

impl Client {
    pub fn connect(path: &Path) -> Client {
        let mut stream = None;
        super::until("the socket to be there", || {
            stream = UnixStream::connect(path).ok();
            stream.is_some()
        });
        let stream = stream.expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("timeout");
        Client { stream, id: 0 }
    }

    pub fn greeted(path: &Path) -> Client {
        let mut client = Client::connect(path);
        client.hello(abi::PROTOCOL, abi::ABI_MAJOR).expect("hello");
        client
    }

    pub fn hello(&mut self, protocol: u32, abi_major: u32) -> Result<protocol::HelloReply, protocol::Error> {
        self.call(
            "hello",
            protocol::Hello {
                protocol,
                abi_major,
                abi_minor: 0,
            },
        )
    }

    pub fn manage(&mut self, epoch: u32) -> Result<protocol::ManageReply, protocol::Error> {
        self.call("manage", protocol::Manage { epoch })
    }

    pub fn status(&mut self) -> protocol::StatusReply {
        self.call("status", protocol::Status {}).expect("status")
    }

    pub fn stop(&mut self) {
        let _: protocol::StopReply = self.call("stop", protocol::Stop {}).expect("stop");
    }

    pub fn send<T: Serialize>(&mut self, op: &str, body: T) {
        self.id += 1;
        let bytes = rmp_serde::to_vec_named(&Request {
            id: self.id,
            op,
            body,
        })
        .expect("bytes");
        self.send_frame(&bytes);
    }

    pub fn send_frame(&mut self, contents: &[u8]) {
        let mut bytes = (contents.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(contents);
        self.stream.write_all(&bytes).expect("send");
    }

    /// The next frame's contents; `None` at the end of the stream.
    pub fn receive(&mut self) -> Option<Vec<u8>> {
        let mut head = [0; 4];
        self.stream.read_exact(&mut head).ok()?;
        let mut contents = vec![0; u32::from_le_bytes(head) as usize];
        self.stream.read_exact(&mut contents).ok()?;
        Some(contents)
    }

    pub fn call<T: Serialize, R: DeserializeOwned>(
        &mut self,
        op: &str,
        body: T,
    ) -> Result<R, protocol::Error> {
        self.send(op, body);
        let contents = self.receive().expect("an answer");
        self.read(&contents)
    }

    pub fn read<R: DeserializeOwned>(&self, contents: &[u8]) -> Result<R, protocol::Error> {
        let verdict: Verdict = rmp_serde::from_slice(contents).expect("a map");
        if verdict.ok {
            assert_eq!(verdict.id, self.id);
            Ok(rmp_serde::from_slice(contents).expect("the answer's fields"))
        } else {
            Err(rmp_serde::from_slice(contents).expect("an error's fields"))
        }
    }

    /// attach: the control page, mapped.
    pub fn attach(&mut self) -> Page {
        self.send("attach", protocol::Attach {});
        let (mut bytes, mut fds) = ([0u8; 4096], [0; 2]);
        let mut iov = [libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        }];
        // SAFETY: the vector points to a buffer of our own.
        let (len, count) = unsafe { self.stream.recv_with_fds(&mut iov, &mut fds) }.expect("attach");
        assert_eq!(count, 2, "the control page and the table");
        let reply: protocol::AttachReply = self.read(&bytes[4..len]).expect("attached");
        assert!(reply.vcpus >= 1);
        // SAFETY: the kernel has just given them to us.
        let [page, table] = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        handoff::Table::map(&table).expect("the second descriptor is the table");
        Page::map(&page)
    }
}

/// The control page as the arbiter sees it. Mapped for as long as the test runs.
pub struct Page {
    base: *mut u8,
}

impl Page {
    fn map(fd: &OwnedFd) -> Page {
        // SAFETY: a fresh shared mapping of a sealed file of this size.
        let base = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(
                std::ptr::null_mut(),
                abi::CONTROL_BYTES,
                access,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Page { base: base.cast() }
    }

    pub fn base(&self) -> *mut u8 {
        self.base
    }

    fn at<T>(&self, offset: usize) -> &T {
        assert!(offset + size_of::<T>() <= abi::CONTROL_BYTES);
        // SAFETY: inside the mapping, which is never undone; T is all atomics where this is called.
        unsafe { &*self.base.add(offset).cast::<T>() }
    }

    pub fn guest(&self, vcpu: u32) -> &abi::GuestVcpu {
        self.at(abi::VCPUS_OFFSET + vcpu as usize * abi::VCPU_BYTES)
    }

    pub fn host(&self, vcpu: u32) -> &abi::HostVcpu {
        self.at(abi::VCPUS_OFFSET + vcpu as usize * abi::VCPU_BYTES + abi::VCPU_HOST_OFFSET)
    }

    pub fn summary(&self, slot: u32) -> &abi::Summary {
        self.at(abi::summary_offset(slot))
    }

    pub fn header(&self) -> abi::Header {
        // SAFETY: inside the mapping; plain integers; nobody writes it any more.
        unsafe {
            self.base
                .add(abi::HEADER_OFFSET)
                .cast::<abi::Header>()
                .read_volatile()
        }
    }
}

impl Client {
    /// Says hello; whether it was let in.
    pub fn hello_or_closed(&mut self) -> bool {
        self.id += 1;
        let body = protocol::Hello {
            protocol: abi::PROTOCOL,
            abi_major: abi::ABI_MAJOR,
            abi_minor: 0,
        };
        let bytes = rmp_serde::to_vec_named(&Request {
            id: self.id,
            op: "hello",
            body,
        })
        .expect("bytes");
        let mut frame = (bytes.len() as u32).to_le_bytes().to_vec();
        frame.extend(bytes);
        if self.stream.write_all(&frame).is_err() {
            return false;
        }
        let Some(answer) = self.receive() else {
            return false;
        };
        rmp_serde::from_slice::<Verdict>(&answer).is_ok_and(|verdict| verdict.ok)
    }
}
