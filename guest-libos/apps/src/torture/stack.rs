//! Stacks with known contents.

use core::hint::black_box;

use super::member::Me;
use super::random::mix;
use super::{registers, waits};

/// Words on a stack that nobody but their owner has anything to do with. Where they lie is part of
/// what they are, so that a stack cannot be taken for another one.
#[derive(Debug)]
pub struct Canary<const N: usize>([u64; N]);

impl<const N: usize> Canary<N> {
    pub const fn new() -> Canary<N> {
        Canary([0; N])
    }

    /// Where it is to stay.
    #[inline(never)]
    pub fn lay(&mut self, key: u64) {
        let key = mix(key ^ (&raw const self.0) as u64);
        for (i, word) in self.0.iter_mut().enumerate() {
            *word = key.wrapping_mul(2 * i as u64 + 1);
        }
        black_box(&mut self.0);
    }

    /// How many words are not what they were.
    #[inline(never)]
    pub fn spoilt(&self, key: u64) -> usize {
        let key = mix(key ^ (&raw const self.0) as u64);
        let words = black_box(&self.0).iter().enumerate();
        words
            .filter(|(i, word)| **word != key.wrapping_mul(2 * *i as u64 + 1))
            .count()
    }

    /// As a stray write would, for a fault that is to be found.
    pub fn spoil(&mut self) {
        self.0[N / 2] ^= 0x100;
        black_box(&mut self.0);
    }
}

/// Deep enough for most of a stack of 60 KiB, with what the bottom needs.
const DEEPEST: u64 = 72;

/// Goes down, does something there, and looks at every frame on the way up.
pub fn dive(me: &mut Me) {
    // Few go far: each page that a stack has once used stays.
    let deepest = if me.number % 16 == 5 { DEEPEST } else { 12 };
    let depth = 1 + me.random.below(deepest);
    go_down(me, depth);
    me.tally.dives += 1;
}

#[inline(never)]
fn go_down(me: &mut Me, depth: u64) {
    let mut canary = Canary::<48>::new();
    let key = me.random.next();
    canary.lay(key);
    match depth {
        0 => match me.random.below(3) {
            0 => registers::hold(me),
            1 => waits::give_way(me),
            _ => waits::nap_briefly(me),
        },
        _ => go_down(me, depth - 1),
    }
    let spoilt = canary.spoilt(key);
    if spoilt != 0 {
        me.wrong(format_args!(
            "{spoilt} words of its stack have changed, {depth} frames from the bottom"
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_changes_is_missed() {
        let mut canary = Canary::<48>::new();
        canary.lay(5);
        assert_eq!(canary.spoilt(5), 0);
        assert_ne!(canary.spoilt(6), 0, "another one's");
        canary.spoil();
        assert_eq!(canary.spoilt(5), 1);
        let moved = Canary(canary.0);
        assert_eq!(moved.spoilt(5), 48, "it lies elsewhere");
    }
}
