//! The serial half of the parallel quicksort. The tokio rival of `hyperflux bench uthreads` compiles this very
//! file, so that the two differ in nothing but who runs the parts.

/// Parts up to this are sorted by whoever has them.
pub const CUTOFF: usize = 8192;
const INSERTION: usize = 24;

/// Hoare's partition around the median of three; both parts are smaller than `v`.
pub fn partition(v: &mut [u32]) -> usize {
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

/// Sorts a part by itself.
pub fn sort_here(mut v: &mut [u32]) {
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

/// The numbers that everybody sorts.
pub fn fill(v: &mut [u32]) {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    for to in v {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *to = (x >> 32) as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_parted_and_sorted() {
        for n in [2usize, 3, 25, 1000, 100_000] {
            let mut v = vec![0; n];
            fill(&mut v);
            let mut expected = v.clone();
            expected.sort_unstable();
            let at = partition(&mut v);
            assert!(at > 0 && at < n);
            let most = v[..at].iter().max();
            assert!(v[at..].iter().min() >= most);
            sort_here(&mut v);
            assert_eq!(v, expected);
        }
        // All alike, and sorted already.
        for mut v in [vec![7; 1000], (0..1000).collect::<Vec<u32>>()] {
            let expected = v.clone();
            sort_here(&mut v);
            assert_eq!(v, expected);
        }
    }
}
