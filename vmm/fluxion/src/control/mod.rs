//! The control thread: one epoll loop over the socket, the doorbell, signals, and news from the vCPUs.
//!
//! Nothing it does waits for a client. A client gets answers as fast as it takes them, has a bounded share
//! of memory, and is closed at the first byte that is not protocol.

mod connection;
mod frame;
mod ops;
mod request;
mod signals;
mod socket;

pub use signals::{block as block_signals, Signals};
pub use socket::{Socket, SocketError};

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::Arc;
use std::time::{Duration, Instant};

use flux_abi as abi;
use handoff::kflux::KfluxError;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::lease;
use crate::resident::Resident;
use crate::vm::{Ended, Vm};
use connection::{set_nonblocking, Connection};
use ops::{Effect, Lease};

/// More clients than this are turned away.
pub const CONNECTIONS_MAX: usize = 32;
/// How long vCPU threads get to end before the process ends without them.
const PATIENCE: Duration = Duration::from_secs(2);

const LISTENER: u64 = 0;
const SIGNALS: u64 = 1;
const DOORBELL: u64 = 2;
const NEWS: u64 = 3;
const FIRST_SERIAL: u64 = 16;

/// What the control thread works with.
pub struct Control {
    vm: Arc<Vm>,
    epoll: Epoll,
    socket: Option<Socket>,
    signals: Signals,
    doorbell: EventFd,
    resident: Resident,
    connections: Vec<Connection>,
    serial: u64,
    /// The connection that is the lease, and the epoch it was taken under.
    lease: Option<(u64, u32)>,
    /// When to stop waiting for vCPU threads.
    give_up: Option<Instant>,
}

impl Control {
    pub fn new(
        vm: Arc<Vm>,
        socket: Option<Socket>,
        signals: Signals,
        doorbell: EventFd,
        resident: Resident,
    ) -> io::Result<Control> {
        let epoll = Epoll::new()?;
        let watch =
            |fd: RawFd, data: u64| epoll.ctl(ControlOperation::Add, fd, EpollEvent::new(EventSet::IN, data));
        if let Some(socket) = &socket {
            watch(socket.listener.as_raw_fd(), LISTENER)?;
        }
        watch(signals.as_raw_fd(), SIGNALS)?;
        watch(doorbell.as_raw_fd(), DOORBELL)?;
        watch(vm.news.as_raw_fd(), NEWS)?;
        Ok(Control {
            vm,
            epoll,
            socket,
            signals,
            doorbell,
            resident,
            connections: Vec::with_capacity(CONNECTIONS_MAX),
            serial: FIRST_SERIAL,
            lease: None,
            give_up: None,
        })
    }

    /// Serves until the VM has ended. A poisoned VM is served until it is stopped.
    pub fn serve(&mut self) -> io::Result<Ended> {
        self.signals.listen()?;
        let mut events = [EpollEvent::default(); 2 * CONNECTIONS_MAX];
        loop {
            if let Some(ended) = self.finished() {
                return Ok(ended);
            }
            let timeout = self.give_up.map_or(-1, |at| {
                let left = at.saturating_duration_since(Instant::now());
                i32::try_from(left.as_millis())
                    .unwrap_or(i32::MAX)
                    .saturating_add(1)
            });
            let count = match self.epoll.wait(timeout, &mut events) {
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            for event in events.iter().take(count) {
                match event.data() {
                    LISTENER => self.accept(),
                    SIGNALS => {
                        if self.signals.take() {
                            self.stop();
                        }
                    }
                    DOORBELL => {
                        // One ring stands for as many as came; one more vCPU is woken, and rings on if
                        // there is work for another.
                        let _ = self.doorbell.read();
                        handoff::ring_doorbell(&self.vm.table, self.vm.slot);
                    }
                    NEWS => {
                        let _ = self.vm.news.read();
                        lease::notice_end(&self.vm);
                    }
                    serial => self.client(serial, event.event_set()),
                }
            }
        }
    }

    /// Whether it is time to go, and how the VM ended.
    fn finished(&mut self) -> Option<Ended> {
        let ended = self.vm.ended()?;
        // Without a socket nobody could ask what happened; the log has said it.
        let stays = matches!(ended, Ended::Poisoned(_)) && self.socket.is_some();
        if stays && self.give_up.is_none() {
            return None;
        }
        let give_up = *self.give_up.get_or_insert_with(|| Instant::now() + PATIENCE);
        if self.vm.threads() > 0 && Instant::now() < give_up {
            return None;
        }
        Some(ended)
    }

    fn stop(&mut self) {
        self.give_up = Some(Instant::now() + PATIENCE);
        self.vm.end(Ended::Stopped);
        self.vm.wake_all();
    }

    fn accept(&mut self) {
        let Some(socket) = &self.socket else { return };
        let Ok((stream, _)) = socket.listener.accept() else {
            return;
        };
        // accept4 has made it close-on-exec; not to block, each call on it says itself or this does.
        if set_nonblocking(stream.as_raw_fd()).is_err() {
            return;
        }
        self.serial += 1;
        let mut connection = Connection::new(stream, self.serial);
        if self.connections.len() >= CONNECTIONS_MAX {
            let hint = "close connections that are not used";
            let error = request::error(abi::E_STATE, "this VM has as many connections as it takes", hint);
            connection.answer(&request::answer::<()>(0, Err(error)), Vec::new());
            connection.flush();
            return;
        }
        let event = EpollEvent::new(EventSet::IN, connection.serial);
        if self
            .epoll
            .ctl(ControlOperation::Add, connection.fd(), event)
            .is_ok()
        {
            self.connections.push(connection);
        }
    }

    /// Something happened on a connection.
    fn client(&mut self, serial: u64, events: EventSet) {
        let Some(at) = self.connections.iter().position(|c| c.serial == serial) else {
            return;
        };
        // Taken out, so that carrying out a request may use everything else.
        let mut connection = self.connections.swap_remove(at);
        let gone = events.intersects(EventSet::HANG_UP | EventSet::ERROR) && !events.contains(EventSet::IN);
        let alive = !gone && self.serve_client(&mut connection, events.contains(EventSet::IN));
        let done = !alive || connection.closing && !connection.is_waiting();
        if done {
            self.close(connection);
            return;
        }
        let mut wanted = EventSet::empty();
        wanted.set(EventSet::IN, connection.is_listening());
        wanted.set(EventSet::OUT, connection.is_waiting());
        let event = EpollEvent::new(wanted, serial);
        if self
            .epoll
            .ctl(ControlOperation::Modify, connection.fd(), event)
            .is_err()
        {
            self.close(connection);
            return;
        }
        self.connections.push(connection);
    }

    fn serve_client(&mut self, connection: &mut Connection, readable: bool) -> bool {
        if readable && !connection.read() {
            return false;
        }
        loop {
            while connection.is_listening() && self.next_request(connection) {}
            if !connection.flush() {
                return false;
            }
            // A client that has taken all its answers may have more requests waiting in its buffer.
            if connection.is_waiting() || !connection.incoming.has_frame() || connection.closing {
                return true;
            }
        }
    }

    /// Carries out the next request that has come whole. `false`: there is none.
    fn next_request(&mut self, connection: &mut Connection) -> bool {
        let parsed = match connection.incoming.next() {
            Ok(None) => return false,
            Ok(Some(contents)) => request::parse(contents),
            Err(e) => Err(request::bad_frame(e)),
        };
        match parsed {
            Ok(request) => self.carry_out(connection, &request),
            Err(refusal) => {
                connection.answer(&request::answer::<()>(refusal.id, Err(refusal.error)), Vec::new());
                connection.closing |= refusal.close;
            }
        }
        true
    }

    fn carry_out(&mut self, connection: &mut Connection, request: &request::Request) {
        let lease = match self.lease {
            None => Lease::Nobody,
            Some((serial, _)) if serial == connection.serial => Lease::Me,
            Some((_, epoch)) => Lease::Other(epoch),
        };
        let resident = self.resident.bytes();
        let (mut contents, effect) = ops::carry_out(&self.vm, request, connection.greeted, lease, resident);
        let mut fds = Vec::new();
        match effect {
            Effect::None => {}
            Effect::Greet => connection.greeted = true,
            Effect::Attach => {
                fds = vec![self.vm.page.fd().as_raw_fd(), self.vm.table_fd.as_raw_fd()];
            }
            Effect::Manage => {
                if let Err(e) = self.manage(connection.serial, lease) {
                    contents = ops::not_managed(request.id, &e);
                }
            }
            Effect::Unmanage => {
                self.lease = None;
                lease::unmanage(&self.vm);
            }
            Effect::Stop => self.stop(),
        }
        connection.answer(&contents, fds);
    }

    /// The connection becomes the lease.
    fn manage(&mut self, serial: u64, lease: Lease) -> Result<(), KfluxError> {
        // An earlier arbiter whose connection has not closed yet: what it granted is void.
        if let Lease::Other(_) = lease {
            self.lease = None;
            lease::unmanage(&self.vm);
        }
        // Its own may have been ended by kFlux, because the arbiter was silent for a while.
        if lease != Lease::Me || !self.vm.managed() {
            lease::manage(&self.vm)?;
        }
        let epoch = self.vm.table.header().epoch.load(SeqCst);
        self.lease = Some((serial, epoch));
        Ok(())
    }

    fn close(&mut self, connection: Connection) {
        if self.lease.is_some_and(|(serial, _)| serial == connection.serial) {
            self.lease = None;
            lease::unmanage(&self.vm);
        }
        // Closing the descriptor takes it out of the epoll set as well.
    }
}
