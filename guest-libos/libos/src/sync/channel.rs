//! The channel: see [`sched::channel`].

use sched::channel::{self, Cell, Try};
use sched::waiters::Waiters;
use sched::Id;

use super::barrier::locked;
use super::block::{wake, wake_all, Bed, Lapse, Sleeper, Until};
use crate::kernel::Kernel;
use crate::uthread::kernel;
use crate::vcpu::{enter, leave, Local};

/// Holds up to `N` values; with `N` = 0 they go from hand to hand.
#[derive(Debug, Default)]
pub struct Channel<T, const N: usize>(channel::Channel<T, N>);

/// Why a value was not sent; here it is.
#[derive(Debug, PartialEq, Eq)]
pub enum SendError<T> {
    Closed(T),
    /// There is no room, or nobody to receive it, and it was only tried.
    Full(T),
    Lapsed(T, Lapse),
}

/// Why there is no value.
#[derive(Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// The channel is closed, and all that was sent has been received.
    Closed,
    /// Nothing is there, and it was only tried.
    Empty,
    Lapsed(Lapse),
}

/// Where one waits, as one of two kinds.
struct Queued<'a, T, const N: usize> {
    channel: &'a channel::Channel<T, N>,
    sender: bool,
}

impl<T, const N: usize> Bed for Queued<'_, T, N> {
    unsafe fn asleep(&self) {
        // SAFETY: by the caller's promise.
        unsafe { self.channel.asleep() }
    }

    fn leave(&self, kernel: &Kernel, me: Id) {
        self.channel.leave(kernel, me, self.sender);
    }
}

/// With `critical` set.
fn wake_if(id: Option<Id>) {
    if let Some(id) = id {
        // SAFETY: `critical` is set.
        wake(unsafe { Local::here() }, id);
    }
}

impl<T: Send, const N: usize> Channel<T, N> {
    pub const fn new() -> Channel<T, N> {
        Channel(channel::Channel::new())
    }

    /// Sends; waits for room, or, without any, for somebody to receive it.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_until(value, Until::EVER)
    }

    /// Sends, unless it takes too long.
    pub fn send_until(&self, value: T, until: Until) -> Result<(), SendError<T>> {
        let cell = Cell::new(Some(value));
        let mut lapse = None;
        enter();
        // SAFETY: `critical` is set, and a uThread calls this; it is on a list when it sleeps. The
        // cell is here until then, and not touched.
        unsafe {
            let sleeper = Sleeper::new(until);
            match self.0.send(sleeper.kernel, sleeper.me, &cell) {
                Try::Sleep => {
                    let queued = Queued {
                        channel: &self.0,
                        sender: true,
                    };
                    lapse = sleeper.sleep(&queued).err();
                }
                Try::Done((), receiver) => {
                    sleeper.stay();
                    wake_if(receiver);
                }
                Try::Would | Try::Closed => sleeper.stay(),
            }
        }
        leave();
        // SAFETY: nobody has the cell any more.
        match (unsafe { cell.take() }, lapse) {
            (None, _) => Ok(()),
            (Some(value), None) => Err(SendError::Closed(value)),
            (Some(value), Some(lapse)) => Err(SendError::Lapsed(value, lapse)),
        }
    }

    /// Sends, if that is possible at once.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let cell = Cell::new(Some(value));
        enter();
        let result = self.0.try_send(kernel(), &cell);
        let closed = result == Try::Closed;
        if let Try::Done((), receiver) = result {
            wake_if(receiver);
        }
        leave();
        // SAFETY: nobody has the cell.
        match unsafe { cell.take() } {
            None => Ok(()),
            Some(value) if closed => Err(SendError::Closed(value)),
            Some(value) => Err(SendError::Full(value)),
        }
    }

    /// Receives; waits for something to be sent.
    pub fn receive(&self) -> Result<T, ReceiveError> {
        self.receive_until(Until::EVER)
    }

    /// Receives, unless it takes too long.
    pub fn receive_until(&self, until: Until) -> Result<T, ReceiveError> {
        let cell = Cell::new(None);
        let mut lapse = None;
        enter();
        // SAFETY: as in `send_until`.
        let value = unsafe {
            let sleeper = Sleeper::new(until);
            match self.0.receive(sleeper.kernel, sleeper.me, &cell) {
                Try::Sleep => {
                    let queued = Queued {
                        channel: &self.0,
                        sender: false,
                    };
                    lapse = sleeper.sleep(&queued).err();
                    None
                }
                Try::Done(value, sender) => {
                    sleeper.stay();
                    wake_if(sender);
                    Some(value)
                }
                Try::Would | Try::Closed => {
                    sleeper.stay();
                    None
                }
            }
        };
        leave();
        // SAFETY: nobody has the cell any more.
        let value = value.or_else(|| unsafe { cell.take() });
        value.ok_or(lapse.map_or(ReceiveError::Closed, ReceiveError::Lapsed))
    }

    /// Receives, if that is possible at once.
    pub fn try_receive(&self) -> Result<T, ReceiveError> {
        enter();
        let result = self.0.try_receive(kernel());
        let result = match result {
            Try::Done(value, sender) => {
                wake_if(sender);
                Ok(value)
            }
            Try::Closed => Err(ReceiveError::Closed),
            Try::Would | Try::Sleep => Err(ReceiveError::Empty),
        };
        leave();
        result
    }

    /// From here on nothing is sent; what was sent can still be received.
    pub fn close(&self) {
        let mut woken = Waiters::new();
        while !locked(|| self.0.close(kernel(), &mut woken)) {}
        enter();
        wake_all(woken);
        leave();
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        locked(|| self.0.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
