//! Parallel quicksort: what is large is parted, and the left part becomes a task.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::{now, on_worker};

const CUTOFF: usize = 8192;
const INSERTION: usize = 24;

/// Hoare's partition around the median of three; both parts are smaller than `v`.
fn partition(v: &mut [u32]) -> usize {
    let n = v.len();
    let (mut i, mut j) = (0, n - 1);
    if v[n / 2] < v[0] {
        v.swap(n / 2, 0);
    }
    if v[n - 1] < v[0] {
        v.swap(n - 1, 0);
    }
    if v[n - 1] < v[n / 2] {
        v.swap(n - 1, n / 2);
    }
    let pivot = v[n / 2];
    loop {
        i += 1;
        while v[i] < pivot {
            i += 1;
        }
        j -= 1;
        while v[j] > pivot {
            j -= 1;
        }
        if i >= j {
            return j + 1;
        }
        v.swap(i, j);
    }
}

fn insertion(v: &mut [u32]) {
    for i in 1..v.len() {
        let x = v[i];
        let mut j = i;
        while j > 0 && v[j - 1] > x {
            v[j] = v[j - 1];
            j -= 1;
        }
        v[j] = x;
    }
}

fn sort_here(mut v: &mut [u32]) {
    while v.len() > INSERTION {
        let at = partition(v);
        let (left, right) = v.split_at_mut(at);
        if left.len() < right.len() {
            sort_here(left);
            v = right;
        } else {
            sort_here(right);
            v = left;
        }
    }
    insertion(v);
}

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

fn fill(v: &mut [u32]) {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for to in v {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *to = (x >> 32) as u32;
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
