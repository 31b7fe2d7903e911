//! Real work of a given length: rounds of a mixing function, each of which needs the one before.

use core::hint::black_box;

use libos::time::Clock;

/// One round of a 64-bit mix: two multiplications that cannot overlap.
#[inline(always)]
fn round(mut x: u64) -> u64 {
    x ^= x >> 32;
    x = x.wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^= x >> 29;
    x.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// Does `n` rounds; the result depends on all of them.
#[inline(never)]
pub fn run(n: u64, seed: u64) -> u64 {
    let mut x = seed | 1;
    for _ in 0..n {
        x = round(x);
    }
    black_box(x)
}

/// How many rounds a nanosecond has, in 2^-20.
#[derive(Clone, Copy, Debug)]
pub struct Rate(u64);

const SCALE: u32 = 20;
/// Long enough against the cost of reading the clock, short enough not to be interrupted.
const SAMPLE: u64 = 20_000;
const SAMPLES: u64 = 25;

impl Rate {
    /// Measures: the fastest of several runs is the one that nothing disturbed.
    pub fn measure(clock: &Clock) -> Rate {
        let mut best = u64::MAX;
        for sample in 0..SAMPLES {
            let start = libos::now();
            run(SAMPLE, sample);
            best = best.min(libos::now().saturating_sub(start));
        }
        Rate((SAMPLE << SCALE) / clock.ns(best).max(1))
    }

    /// To keep it in an atomic.
    pub fn raw(self) -> u64 {
        self.0
    }

    pub fn from_raw(raw: u64) -> Rate {
        Rate(raw)
    }

    pub fn rounds(&self, ns: u64) -> u64 {
        ((u128::from(ns) * u128::from(self.0)) >> SCALE) as u64
    }

    /// A thousand rounds, in nanoseconds.
    pub fn ns_per_thousand(&self) -> u64 {
        (1000 << SCALE) / self.0.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_differ_by_seed_and_number() {
        assert_ne!(run(10, 1), run(10, 3));
        assert_ne!(run(10, 1), run(11, 1));
        assert_eq!(run(1000, 5), run(1000, 5));
    }

    #[test]
    fn a_rate_scales() {
        let rate = Rate(1 << (SCALE - 1)); // half a round a nanosecond
        assert_eq!(rate.rounds(1000), 500);
        assert_eq!(rate.rounds(0), 0);
        assert_eq!(rate.ns_per_thousand(), 2000);
    }
}
