//! One client: bytes in, frames out, never waiting for it.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::frame::{frame, Incoming};

/// Answers that may wait for a client that does not read them. When there are more, its requests wait.
const BACKLOG_MAX: usize = 256 << 10;
/// What is read at a time, so that a client with much to say does not keep others waiting.
const READ_MAX: usize = 64 << 10;

struct Answer {
    bytes: Vec<u8>,
    sent: usize,
    /// Descriptors that go with the first byte.
    fds: Vec<RawFd>,
}

pub struct Connection {
    stream: UnixStream,
    pub incoming: Incoming,
    answers: VecDeque<Answer>,
    backlog: usize,
    /// hello was said, and accepted.
    pub greeted: bool,
    /// To be closed once the answers are out.
    pub closing: bool,
    /// Tells this connection from earlier ones with the same place.
    pub serial: u64,
}

impl Connection {
    pub fn new(stream: UnixStream, serial: u64) -> Connection {
        Connection {
            stream,
            incoming: Incoming::default(),
            answers: VecDeque::new(),
            backlog: 0,
            greeted: false,
            closing: false,
            serial,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// Reads once. `false`: the client is gone.
    pub fn read(&mut self) -> bool {
        let mut buffer = [0u8; READ_MAX];
        loop {
            return match self.stream.read(&mut buffer) {
                Ok(0) => false,
                Ok(n) => {
                    self.incoming.push(&buffer[..n]);
                    true
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e.kind() == io::ErrorKind::WouldBlock,
            };
        }
    }

    /// Queues an answer. `fds` must stay open until it is sent: they belong to the VM.
    pub fn answer(&mut self, contents: &[u8], fds: Vec<RawFd>) {
        let bytes = frame(contents);
        self.backlog += bytes.len();
        self.answers.push_back(Answer { bytes, sent: 0, fds });
    }

    /// Sends what the client takes. `false`: it is gone.
    pub fn flush(&mut self) -> bool {
        while let Some(answer) = self.answers.front_mut() {
            let rest = answer.bytes.get(answer.sent..).unwrap_or_default();
            // The stream does not block, so neither does this.
            match self.stream.send_with_fds(&[rest], &answer.fds) {
                Ok(n) => {
                    answer.sent += n;
                    answer.fds.clear();
                    self.backlog = self.backlog.saturating_sub(n);
                    if answer.sent >= answer.bytes.len() {
                        self.answers.pop_front();
                    }
                }
                Err(e) if e.errno() == libc::EINTR => {}
                Err(e) => return e.errno() == libc::EAGAIN,
            }
        }
        true
    }

    /// Whether there are answers that the client has not taken.
    pub fn is_waiting(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Whether more requests are to be looked at.
    pub fn is_listening(&self) -> bool {
        !self.closing && self.backlog < BACKLOG_MAX
    }
}

/// Makes calls on a descriptor return at once.
pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    // SAFETY: a request on a descriptor that the caller holds.
    if unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn pair() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("pair");
        ours.set_nonblocking(true).expect("nonblocking");
        (Connection::new(ours, 1), theirs)
    }

    #[test]
    fn a_client_that_does_not_read_is_not_waited_for() {
        let (mut connection, mut client) = pair();
        let mut sent = 0;
        while connection.is_listening() {
            connection.answer(&[7; 4000], Vec::new());
            assert!(connection.flush());
            sent += 4004;
        }
        assert!(connection.is_waiting());
        let mut got = 0;
        let mut buffer = vec![0; 65536];
        while got < sent {
            got += client.read(&mut buffer).expect("answers");
            assert!(connection.flush());
        }
        assert!(connection.is_listening() && !connection.is_waiting());
    }

    #[test]
    fn the_end_of_a_client_is_seen() {
        let (mut connection, mut client) = pair();
        client.write_all(b"ab").expect("write");
        assert!(connection.read() && !connection.incoming.has_frame());
        assert!(connection.read(), "nothing to read is not the end");
        drop(client);
        assert!(!connection.read());
    }
}
