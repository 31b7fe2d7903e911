//! Parallel quicksort: what is large is parted, and the left part becomes a task.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::quicksort::{fill, partition, sort_here, CUTOFF};
use crate::{now, on_worker};

/// Parts that are not sorted yet, and who waits for the last one.
struct Group {
    open: AtomicUsize,
    over: Notify,
}

fn sort_parts(mut v: &'static mut [u32], group: &Arc<Group>) {
    while v.len() > CUTOFF {
        let at = partition(v);
        let (left, right) = v.split_at_mut(at);
        let of = Arc::clone(group);
        group.open.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move { sort_parts(left, &of) });
        v = right;
    }
    sort_here(v);
    // AcqRel: who sees the last part done sees all of them sorted.
    if group.open.fetch_sub(1, Ordering::AcqRel) == 1 {
        group.over.notify_one();
    }
}

/// `ops` is how many numbers are sorted.
pub fn sort(runtime: &Runtime, ops: u64) -> u64 {
    let data = vec![0u32; ops as usize].leak();
    let at = data.as_mut_ptr();
    fill(data);
    let took = on_worker(runtime, async move {
        let group = Arc::new(Group {
            open: AtomicUsize::new(1),
            over: Notify::new(),
        });
        let start = now();
        sort_parts(data, &group);
        group.over.notified().await;
        now() - start
    });
    // SAFETY: leaked above as a boxed slice of this length; all tasks that had a part are done.
    let data = unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(at, ops as usize)) };
    assert!(data.is_sorted(), "the numbers are not sorted");
    took
}
