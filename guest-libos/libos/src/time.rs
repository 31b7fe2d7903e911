//! TSC ticks, nanoseconds and stamps.

use flux_abi::Header;

/// How this machine's TSC counts.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    khz: u32,
    shift: u32,
}

impl Clock {
    pub fn new(header: &Header) -> Clock {
        // 0 would be a broken header; with 1 times are wrong, but nothing divides by 0.
        Clock {
            khz: header.tsc_khz.max(1),
            shift: header.stamp_shift,
        }
    }

    /// The 32-bit stamp of now.
    pub fn stamp(&self) -> u32 {
        flux_abi::stamp(arch::clock::tsc(), self.shift)
    }

    pub fn ticks(&self, ns: u64) -> u64 {
        (u128::from(ns) * u128::from(self.khz) / 1_000_000) as u64
    }

    pub fn ns(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000 / u128::from(self.khz)) as u64
    }
}
