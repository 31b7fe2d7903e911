//! Registers with known contents, held for a while and looked at.

mod asm;
mod image;

pub use image::{Image, Level, Wrong};

use super::faults::Fault;
use super::member::Me;
use super::random::Random;

/// Turns of one instruction with all registers live: mostly some microseconds, now and then as long
/// as a core is left to a vCPU at all.
fn spins(random: &mut Random) -> u64 {
    let most = match random.below(64) {
        0 => 400_000,
        1..=8 => 40_000,
        _ => 4_000,
    };
    1 + random.below(most)
}

/// Holds values in all registers, in application code.
#[inline(never)]
pub fn hold(me: &mut Me) {
    let (mut want, mut got) = (Image::EMPTY, Image::EMPTY);
    want.fill(|| me.random.next());
    let spins = spins(&mut me.random);
    let level = me.world.level;
    let mut loaded = &want;
    let mut other = Image::EMPTY;
    if me.is_planted(Fault::Vector) {
        other = want.clone();
        other.vectors[15][1] ^= 1 << 17;
        loaded = &other;
    }
    // SAFETY: the level is one that the processor has enabled, and both images are of our own.
    unsafe {
        match level {
            Level::Sse => asm::flux_hold_sse(loaded, &mut got, spins),
            Level::Avx => asm::flux_hold_avx(loaded, &mut got, spins),
            Level::Avx512 => asm::flux_hold_avx512(loaded, &mut got, spins),
        }
    }
    core::hint::black_box(&mut other);
    me.tally.holds += 1;
    me.tally.moved += u64::from(got.moved != 0);
    if let Some(wrong) = got.differs(&want, level) {
        me.spoilt("while it was off its core", &wrong);
    }
    me.check_fs();
}

/// Calls `call`, which may leave the core, with values in the registers that it has to keep.
#[inline(never)]
pub fn keep(me: &mut Me, call: unsafe extern "C" fn(u64), with: u64) {
    let (mut want, mut got) = (Image::EMPTY, Image::EMPTY);
    want.fill(|| me.random.next());
    // SAFETY: both images are of our own, and `call` takes any number.
    unsafe { asm::flux_keep(&want, &mut got, call, with) };
    if let Some(wrong) = got.kept(&want) {
        me.spoilt("across a call of FluxOS", &wrong);
    }
    me.check_fs();
}
