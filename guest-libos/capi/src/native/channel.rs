//! Channels: items of any size, in memory of the program's.

use core::ffi::{c_int, c_void};
use core::ptr::copy_nonoverlapping;

use libos::sync::{Kind, OwnedMutex, RawCondvar, Until};

use super::at;
use super::objects::{checking, wait, Cond, Mutex};
use crate::errno::{number, EINVAL, EPIPE, ETIMEDOUT};
use crate::object::Object;

/// As much room as the header gives to an object.
type Room = [u64; 8];

/// `flux_channel_t`.
#[repr(C)]
pub struct Channel {
    lock: Room,
    room: Room,
    items: Room,
    buffer: *mut u8,
    item: usize,
    capacity: usize,
    first: usize,
    count: usize,
    closed: c_int,
}

/// As in the header.
const _: () = assert!(size_of::<Channel>() == 240 && align_of::<Channel>() == 8);

/// The objects of a channel.
struct Parts {
    lock: *mut Mutex,
    room: *mut Cond,
    items: *mut Cond,
}

/// # Safety
/// `channel` points at one.
unsafe fn parts(channel: *mut Channel) -> Parts {
    // SAFETY: by the caller's promise; only addresses are taken.
    unsafe {
        Parts {
            lock: (&raw mut (*channel).lock).cast(),
            room: (&raw mut (*channel).room).cast(),
            items: (&raw mut (*channel).items).cast(),
        }
    }
}

impl Channel {
    /// The place behind the last item, or of the first one.
    fn slot(&self, behind: usize) -> *mut u8 {
        let index = (self.first + behind) % self.capacity;
        self.buffer.wrapping_add(index * self.item)
    }
}

/// # Safety
/// As for all functions here: pointers are null or point at what the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_channel_init(
    channel: *mut Channel,
    buffer: *mut c_void,
    item: usize,
    capacity: usize,
) -> c_int {
    let fits = item.checked_mul(capacity).is_some_and(|bytes| bytes > 0);
    if channel.is_null() || buffer.is_null() || !fits {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe {
        (&raw mut (*channel).buffer).write(buffer.cast());
        (&raw mut (*channel).item).write(item);
        (&raw mut (*channel).capacity).write(capacity);
        (&raw mut (*channel).first).write(0);
        (&raw mut (*channel).count).write(0);
        (&raw mut (*channel).closed).write(0);
        let parts = parts(channel);
        Object::make(parts.lock, 0, OwnedMutex::new(Kind::Checking))
            .and_then(|()| Object::make(parts.room, 0, RawCondvar::new()))
            .and_then(|()| Object::make(parts.items, 0, RawCondvar::new()))
    })
}

/// Which of both is done, and what it waits for.
enum Way {
    Send(*const u8),
    Receive(*mut u8),
}

/// # Safety
/// See above.
unsafe fn pass(channel: *mut Channel, way: Way, until: u64) -> Result<(), c_int> {
    if channel.is_null() {
        return Err(EINVAL);
    }
    let deadline: Until = at(until);
    // SAFETY: by the caller's promise. The fields are used under the lock, by this uThread alone.
    unsafe {
        let Parts { lock, room, items } = parts(channel);
        let mutex = checking(lock)?;
        mutex.lock().map_err(crate::mutex::lock_error)?;
        let result = loop {
            let inside = &mut *channel;
            let open = inside.closed == 0;
            let on = match way {
                Way::Send(_) if !open => break Err(EPIPE),
                Way::Send(from) if inside.count < inside.capacity => {
                    copy_nonoverlapping(from, inside.slot(inside.count), inside.item);
                    inside.count += 1;
                    (*items).inner.notify_one();
                    break Ok(());
                }
                Way::Receive(to) if inside.count > 0 => {
                    copy_nonoverlapping(inside.slot(0), to, inside.item);
                    inside.first = (inside.first + 1) % inside.capacity;
                    inside.count -= 1;
                    (*room).inner.notify_one();
                    break Ok(());
                }
                Way::Receive(_) if !open => break Err(EPIPE),
                Way::Send(_) => room,
                Way::Receive(_) => items,
            };
            if until == 0 {
                break Err(ETIMEDOUT);
            }
            if let Err(error) = wait(on, lock, deadline) {
                // It may have come in the last moment; then it is taken all the same.
                let inside = &*channel;
                let ready = match way {
                    Way::Send(_) => inside.count < inside.capacity,
                    Way::Receive(_) => inside.count > 0,
                };
                if !ready || inside.closed != 0 {
                    break Err(error);
                }
            }
        };
        // It is ours, so this cannot fail.
        let _ = mutex.unlock();
        result
    }
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_channel_send(channel: *mut Channel, item: *const c_void, until: u64) -> c_int {
    if item.is_null() {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe { pass(channel, Way::Send(item.cast()), until) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_channel_receive(channel: *mut Channel, item: *mut c_void, until: u64) -> c_int {
    if item.is_null() {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe { pass(channel, Way::Receive(item.cast()), until) })
}

/// # Safety
/// See above.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn flux_channel_close(channel: *mut Channel) -> c_int {
    if channel.is_null() {
        return EINVAL;
    }
    // SAFETY: by the caller's promise.
    number(unsafe {
        let Parts { lock, room, items } = parts(channel);
        checking(lock).and_then(|mutex| {
            mutex.lock().map_err(crate::mutex::lock_error)?;
            (*channel).closed = 1;
            (*room).inner.notify_all();
            (*items).inner.notify_all();
            mutex.unlock().map_err(crate::mutex::unlock_error)
        })
    })
}
