//! The C face of the bridges; `include/flux_handoff.h` documents each function.
//! Pointers come from the addon, which keeps its mappings until the bridge is freed.

mod kflux;

use handoff::bridge::COMMAND_WORDS;
use handoff::deadline::Deadlines;
use handoff::{AnyBridge, Table, TableError};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

pub struct FluxBridge {
    bridge: AnyBridge,
    stop: Arc<AtomicBool>,
    deadlines: Option<std::thread::JoinHandle<()>>,
}

impl FluxBridge {
    /// Ends the deadline thread, which works from the caller's mapping. Returns whether there was one.
    fn stop_deadlines(&mut self) -> bool {
        let Some(thread) = self.deadlines.take() else {
            return false;
        };
        self.stop.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        // It only fails by a panic, which has said what it was.
        let _ = thread.join();
        self.stop.store(false, Ordering::SeqCst);
        true
    }
}

/// # Safety
/// `table` must be 0 or a shared mapping of `bytes` bytes that outlives the result.
unsafe fn borrow(table: *mut u8, bytes: usize) -> Result<Table, i32> {
    match NonNull::new(table) {
        Some(base) if bytes >= flux_abi::TABLE_BYTES && (table as usize).is_multiple_of(4096) => {
            // SAFETY: size and alignment were checked, the lifetime is the caller's promise.
            Ok(unsafe { Table::borrowed(base) })
        }
        _ => Err(-libc::EINVAL),
    }
}

fn checked(table: Table) -> Result<Table, i32> {
    match table.check() {
        Ok(()) => Ok(table),
        Err(TableError::Version { .. }) => Err(-libc::EPROTO),
        Err(_) => Err(-libc::EINVAL),
    }
}

/// # Safety
/// See `borrow`.
#[no_mangle]
pub unsafe extern "C" fn flux_table_init(table: *mut u8, bytes: usize, tsc_khz: u32, shift: u32) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { borrow(table, bytes) } {
        Ok(table) => {
            table.init(tsc_khz, shift);
            0
        }
        Err(errno) => errno,
    }
}

/// # Safety
/// See `borrow`.
#[no_mangle]
pub unsafe extern "C" fn flux_table_check(table: *mut u8, bytes: usize) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { borrow(table, bytes) }.and_then(checked) {
        Ok(_) => 0,
        Err(errno) => errno,
    }
}

/// # Safety
/// `table` as in `borrow`; `err` null or writable.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_new(table: *mut u8, bytes: usize, err: *mut i32) -> *mut FluxBridge {
    // SAFETY: the caller's promise.
    match unsafe { borrow(table, bytes) }.and_then(checked) {
        Ok(table) => Box::into_raw(Box::new(FluxBridge {
            bridge: AnyBridge::new(Arc::new(table)),
            stop: Arc::default(),
            deadlines: None,
        })),
        Err(errno) => {
            if !err.is_null() {
                // SAFETY: the caller's promise.
                unsafe { *err = errno };
            }
            std::ptr::null_mut()
        }
    }
}

/// # Safety
/// `b` null or from `flux_bridge_new`, not used afterwards.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_free(b: *mut FluxBridge) {
    if b.is_null() {
        return;
    }
    // SAFETY: the caller gives the box back.
    let mut b = unsafe { Box::from_raw(b) };
    b.stop_deadlines();
}

/// # Safety
/// `b` from `flux_bridge_new`; only the loop's thread calls, or others while it is elsewhere.
unsafe fn bridge<'a>(b: *mut FluxBridge) -> Option<&'a mut FluxBridge> {
    // SAFETY: the caller's promise.
    unsafe { b.as_mut() }
}

/// # Safety
/// See `bridge`; `managed` points to 8 words.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_claim(
    b: *mut FluxBridge,
    pid: u32,
    core: u32,
    managed: *const [u32; 8],
) -> i64 {
    // SAFETY: the caller's promise.
    match unsafe { (bridge(b), managed.as_ref()) } {
        (Some(b), Some(managed)) => match b.bridge.claim(pid, core, managed) {
            Ok(epoch) => epoch.into(),
            Err(error) => error.errno().into(),
        },
        _ => -libc::EINVAL as i64,
    }
}

/// # Safety
/// See `bridge`.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_release(b: *mut FluxBridge) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { bridge(b) } {
        Some(b) => b.bridge.release().err().unwrap_or(0),
        None => -libc::EINVAL,
    }
}

/// # Safety
/// See `bridge`; `hot` null or a mapping of HOT_BYTES that stays until it is replaced.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_set_page(b: *mut FluxBridge, slot: u32, hot: *mut u8) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { bridge(b) } {
        Some(b) if b.bridge.set_page(slot, hot) => 0,
        _ => -libc::EINVAL,
    }
}

/// # Safety
/// See `bridge`; `batch` points to `count` commands.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_submit(b: *mut FluxBridge, batch: *mut i32, count: u32) -> i32 {
    // SAFETY: the caller's promise.
    match unsafe { bridge(b) } {
        Some(b) if !batch.is_null() => {
            // SAFETY: the caller's promise about the batch.
            let batch = unsafe { std::slice::from_raw_parts_mut(batch, count as usize * COMMAND_WORDS) };
            b.bridge.submit(batch)
        }
        _ => -libc::EINVAL,
    }
}

/// # Safety
/// See `bridge`.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_poll(b: *mut FluxBridge) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { bridge(b) }.map_or(-libc::EINVAL, |b| b.bridge.poll())
}

/// # Safety
/// See `bridge`.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_beat(b: *mut FluxBridge) {
    // SAFETY: the caller's promise.
    if let Some(b) = unsafe { bridge(b) } {
        b.bridge.beat();
    }
}

/// # Safety
/// See `bridge`.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_reap(b: *mut FluxBridge, slot: u32) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { bridge(b) }.map_or(-libc::EINVAL, |b| b.bridge.reap(slot))
}

/// # Safety
/// See `bridge`.
#[no_mangle]
pub unsafe extern "C" fn flux_bridge_start_deadlines(b: *mut FluxBridge) -> i32 {
    // SAFETY: the caller's promise.
    let Some(b) = (unsafe { bridge(b) }) else {
        return -libc::EINVAL;
    };
    if b.deadlines.is_some() {
        return -libc::EALREADY;
    }
    let Some(affinity) = b.bridge.affinity() else {
        // kFlux keeps the deadlines itself.
        return 0;
    };
    let mut deadlines = Deadlines::new(affinity.table().clone(), affinity.in_flight().clone());
    let stop = b.stop.clone();
    let (tell, told) = std::sync::mpsc::channel();
    let body = move || {
        let _ = tell.send(be_fifo());
        while !stop.load(Ordering::SeqCst) {
            deadlines.look();
            std::thread::park_timeout(deadlines.period());
        }
    };
    match std::thread::Builder::new()
        .name("flux-deadline".into())
        .spawn(body)
    {
        Ok(thread) => {
            b.deadlines = Some(thread);
            told.recv().unwrap_or(false) as i32
        }
        Err(error) => -error.raw_os_error().unwrap_or(libc::EAGAIN),
    }
}

/// SCHED_FIFO 1 for this thread, so that a busy core does not keep it from its looks.
fn be_fifo() -> bool {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: plain numbers; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &param) == 0 }
}
