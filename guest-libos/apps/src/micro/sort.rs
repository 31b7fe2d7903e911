//! Parallel quicksort: what is large is parted, and the left part becomes a uThread.

use core::sync::atomic::{AtomicU32, Ordering};

use libos::sync::Group;
use libos::uthread::{kernel, spawn};

use super::quicksort::{fill, partition, sort_here, CUTOFF};
use super::{lasting, ns_since, Refused, NO_MEMORY, WRONG};

/// At least so much of the heap is left to FluxOS's tables, which are at its beginning. They take a
/// few hundred bytes for each stack.
const FOR_TABLES: u64 = 16 << 20;

/// Parts that are not sorted yet, and who waits for the last one.
struct Parts {
    open: AtomicU32,
    over: Group,
}

fn sort_parts(mut v: &'static mut [u32], parts: &'static Parts) {
    while v.len() > CUTOFF {
        let at = partition(v);
        let (left, right) = v.split_at_mut(at);
        parts.open.fetch_add(1, Ordering::Relaxed);
        let (from, len) = (left.as_mut_ptr() as usize, left.len());
        let job = move || {
            // SAFETY: the left part, which nobody else has: `left` is not used any more, and this
            // is called once.
            let left = unsafe { core::slice::from_raw_parts_mut(from as *mut u32, len) };
            sort_parts(left, parts);
        };
        // Out of stacks: this uThread does the part itself.
        if spawn(job).is_err() {
            job();
        }
        v = right;
    }
    sort_here(v);
    // AcqRel: who sees the last part done sees all of them sorted.
    if parts.open.fetch_sub(1, Ordering::AcqRel) == 1 {
        parts.over.done();
    }
}

/// Memory for the numbers: the end of the heap.
fn room(n: usize) -> Result<*mut u32, Refused> {
    let header = kernel().page.header();
    let bytes = n as u64 * 4;
    if header.heap_bytes < bytes + FOR_TABLES {
        return Err(Refused(NO_MEMORY));
    }
    Ok(((header.heap_base + header.heap_bytes - bytes) & !63) as *mut u32)
}

/// `ops` is how many numbers are sorted.
pub fn sort(ops: u32) -> Result<u64, Refused> {
    let n = ops as usize;
    let at = room(n)?;
    // SAFETY: FluxOS takes its tables from the beginning of the heap, once, and gives the rest to
    // nobody; this workload is the only one in its VM, and does one request at a time.
    let v: &'static mut [u32] = unsafe { core::slice::from_raw_parts_mut(at, n) };
    fill(v);
    let parts = Parts {
        open: AtomicU32::new(1),
        over: Group::new(1),
    };
    // SAFETY: `wait` returns when the last part is done with it.
    let shared = unsafe { lasting(&parts) };
    let start = libos::now();
    sort_parts(v, shared);
    parts.over.wait();
    let took = ns_since(start);
    // SAFETY: all uThreads that had a part of it are done.
    let v = unsafe { core::slice::from_raw_parts(at, n) };
    match v.is_sorted() {
        true => Ok(took),
        false => Err(Refused(WRONG)),
    }
}
