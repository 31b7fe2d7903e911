//! A channel: values go from uThreads that send to uThreads that receive, each to one, in order.
//!
//! It holds up to `N` values. With none at all it is a rendezvous: a value goes from hand to hand,
//! and who sends goes on when somebody has received it.
//!
//! A uThread that sleeps here has set out a [`Cell`], on its own stack: a sender with its value in
//! it, a receiver with room for one. Who finds it on the list moves the value there and then, so
//! who wakes has sent, or received, or finds the channel closed.

use core::mem::MaybeUninit;

use crate::spin::Spin;
use crate::sync::{Ordering, UnsafeCell};
use crate::waiters::{Table, Waiters};
use crate::Id;

/// Values are moved with a spin lock held. What is larger is sent by reference.
pub const LARGEST: usize = 256;

#[derive(Debug)]
pub struct Channel<T, const N: usize> {
    inner: Spin<Inner<T, N>>,
}

#[derive(Debug)]
struct Inner<T, const N: usize> {
    ring: [MaybeUninit<T>; N],
    head: usize,
    len: usize,
    closed: bool,
    /// Not empty only while the ring is full.
    senders: Waiters,
    /// Not empty only while the ring is empty and no sender waits.
    receivers: Waiters,
}

/// Where a sleeper's value is, or is to be.
#[derive(Debug)]
pub struct Cell<T>(UnsafeCell<Option<T>>);

/// What has become of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Try<R> {
    /// It is done, and this uThread, if there is one, is to be made runnable.
    Done(R, Option<Id>),
    /// As [`crate::mutex::Lock::Sleep`], with [`Channel::asleep`]. Only where it was asked for.
    Sleep,
    /// It would have to wait.
    Would,
    /// The channel is closed (and, to receivers, empty).
    Closed,
}

impl<T> Cell<T> {
    pub fn new(value: Option<T>) -> Cell<T> {
        Cell(UnsafeCell::new(value))
    }

    /// What is in it. The caller has it to itself: it is on no channel's list.
    ///
    /// # Safety
    /// As said.
    pub unsafe fn take(&self) -> Option<T> {
        // SAFETY: by the caller's promise.
        self.0.with_mut(|cell| unsafe { (*cell).take() })
    }

    /// # Safety
    /// As [`Cell::take`].
    unsafe fn put(&self, value: T) {
        // SAFETY: by the caller's promise.
        self.0.with_mut(|cell| unsafe { *cell = Some(value) });
    }
}

impl<T, const N: usize> Inner<T, N> {
    const fn new() -> Inner<T, N> {
        Inner {
            ring: [const { MaybeUninit::uninit() }; N],
            head: 0,
            len: 0,
            closed: false,
            senders: Waiters::new(),
            receivers: Waiters::new(),
        }
    }

    /// Adds at the tail; the caller has looked that there is room.
    fn push(&mut self, value: T) {
        let at = (self.head + self.len) % N.max(1);
        self.ring[at] = MaybeUninit::new(value);
        self.len += 1;
    }

    fn pop(&mut self) -> Option<T> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: the `len` entries from the head on were written by `push`, and this one is not
        // read again.
        let value = unsafe { self.ring[self.head].assume_init_read() };
        self.head = (self.head + 1) % N;
        self.len -= 1;
        Some(value)
    }

    /// The cell that a listed uThread has set out.
    ///
    /// # Safety
    /// `id` was claimed off a list of this channel, with its lock held.
    unsafe fn cell<'a>(table: &impl Table, id: Id) -> &'a Cell<T> {
        let at = table.arg(id).load(Ordering::Relaxed) as *const Cell<T>;
        // SAFETY: `send` and `receive` ask their callers for a cell that stays until the sleep is
        // over, and this sleeper has not been woken.
        unsafe { &*at }
    }

    /// Takes a waiting sender's value.
    fn take_sent(&mut self, table: &impl Table) -> Option<(T, Id)> {
        let id = self.senders.take(table)?;
        // SAFETY: claimed just now. The cell is ours until the sender is woken.
        let value = unsafe { Self::cell(table, id).take() };
        // A sender's cell is full as long as it is listed.
        value.map(|value| (value, id))
    }

    /// The value is taken from the cell if it was sent.
    fn send(&mut self, table: &impl Table, value: &Cell<T>, me: Option<Id>) -> Try<()> {
        if self.closed {
            return Try::Closed;
        }
        // SAFETY: the cell is the caller's, and not listed yet.
        let take = || unsafe { value.take() };
        if let Some(id) = self.receivers.take(table) {
            if let Some(value) = take() {
                // SAFETY: claimed just now. The cell is ours until the receiver is woken.
                unsafe { Self::cell(table, id).put(value) };
            }
            return Try::Done((), Some(id));
        }
        if self.len < N {
            if let Some(value) = take() {
                self.push(value);
            }
            return Try::Done((), None);
        }
        let Some(me) = me else { return Try::Would };
        table
            .arg(me)
            .store(core::ptr::from_ref(value) as u64, Ordering::Relaxed);
        self.senders.push(table, me);
        Try::Sleep
    }

    fn receive(&mut self, table: &impl Table, into: Option<(Id, &Cell<T>)>) -> Try<T> {
        if let Some(value) = self.pop() {
            // There is room now for the sender that has waited longest.
            let next = self.take_sent(table).map(|(value, id)| {
                self.push(value);
                id
            });
            return Try::Done(value, next);
        }
        if let Some((value, id)) = self.take_sent(table) {
            return Try::Done(value, Some(id));
        }
        if self.closed {
            return Try::Closed;
        }
        let Some((me, cell)) = into else {
            return Try::Would;
        };
        table
            .arg(me)
            .store(core::ptr::from_ref(cell) as u64, Ordering::Relaxed);
        self.receivers.push(table, me);
        Try::Sleep
    }
}

impl<T, const N: usize> Channel<T, N> {
    const FITS: () = assert!(size_of::<T>() <= LARGEST, "send something so large by reference");

    #[cfg(not(feature = "loom"))]
    pub const fn new() -> Channel<T, N> {
        let () = Self::FITS;
        Channel {
            inner: Spin::new(Inner::new()),
        }
    }

    #[cfg(feature = "loom")]
    pub fn new() -> Channel<T, N> {
        let () = Self::FITS;
        Channel {
            inner: Spin::new(Inner::new()),
        }
    }

    /// Runs one step with the lock held; it stays held for a sleeper.
    fn step<R>(&self, f: impl FnOnce(&mut Inner<T, N>) -> Try<R>) -> Try<R> {
        self.inner.lock();
        // SAFETY: taken above; its data is not in use.
        let result = unsafe { self.inner.locked(f) };
        if !matches!(result, Try::Sleep) {
            // SAFETY: taken above.
            unsafe { self.inner.unlock() };
        }
        result
    }

    /// Sends what is in the cell, or queues `me` up with it. After a sleep that somebody ended the
    /// cell is empty if the value was received, and still full if the channel was closed.
    ///
    /// # Safety
    /// The cell holds a value, and stays where it is, untouched, until the sleep is over, if there
    /// is one.
    pub unsafe fn send(&self, table: &impl Table, me: Id, value: &Cell<T>) -> Try<()> {
        self.step(|inner| inner.send(table, value, Some(me)))
    }

    /// Sends what is in the cell, if that is possible at once.
    pub fn try_send(&self, table: &impl Table, value: &Cell<T>) -> Try<()> {
        self.step(|inner| inner.send(table, value, None))
    }

    /// Receives, or queues `me` up for it. After a sleep that somebody ended the value is in the
    /// cell, or the channel was closed.
    ///
    /// # Safety
    /// The cell stays where it is, untouched, until the sleep is over, if there is one.
    pub unsafe fn receive(&self, table: &impl Table, me: Id, into: &Cell<T>) -> Try<T> {
        self.step(|inner| inner.receive(table, Some((me, into))))
    }

    /// Receives, if that is possible at once.
    pub fn try_receive(&self, table: &impl Table) -> Try<T> {
        self.step(|inner| inner.receive(table, None))
    }

    /// Opens the lists again.
    ///
    /// # Safety
    /// Called once after each [`Try::Sleep`], on the same vCPU, with the sleeper's context saved.
    pub unsafe fn asleep(&self) {
        // SAFETY: `step` left it held for us.
        unsafe { self.inner.unlock() };
    }

    /// For a uThread whose deadline was first: it waits no more. Its cell is as it was.
    pub fn leave(&self, table: &impl Table, me: Id, sender: bool) {
        self.inner.with(|inner| {
            let list = if sender {
                &mut inner.senders
            } else {
                &mut inner.receivers
            };
            list.remove(table, me);
        });
    }

    /// From here on nothing is sent; what was sent can still be received. Adds those that waited
    /// to `woken`, some at a time: call it until it says `true`, then make them all runnable.
    pub fn close(&self, table: &impl Table, woken: &mut Waiters) -> bool {
        const BATCH: u32 = 16;
        self.inner.with(|inner| {
            inner.closed = true;
            for _ in 0..BATCH {
                let next = inner.senders.take(table).or_else(|| inner.receivers.take(table));
                match next {
                    Some(id) => {
                        table.settle(id);
                        woken.push(table, id);
                    }
                    None => return true,
                }
            }
            false
        })
    }

    /// How many values it holds.
    pub fn len(&self) -> usize {
        self.inner.with(|inner| inner.len)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T, const N: usize> Default for Channel<T, N> {
    fn default() -> Self {
        Channel::new()
    }
}

impl<T, const N: usize> Drop for Inner<T, N> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(feature = "loom")))]
#[path = "channel_tests.rs"]
mod tests;
