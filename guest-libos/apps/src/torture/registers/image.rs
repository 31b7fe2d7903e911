//! What stands in the registers of a processor.

/// Vector registers that there can be.
const VECTORS: usize = 32;
/// Carry, parity, adjust, zero, sign, direction and overflow: what code without privileges can set
/// without being interrupted for it.
const FLAGS: u64 = 0xcd5;
/// Rounding of both units, and what SSE does about denormals. Every exception stays masked.
const MXCSR: u64 = 0xe040;
const CONTROL_WORD: u64 = 0xc00;
/// MXCSR's lower bits tell what has happened, and code that is called may change them.
const CONTROL: u64 = 0xffff_0000_ffc0;

/// How much of the vector registers a processor has enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Sse,
    Avx,
    Avx512,
}

impl Level {
    /// By what the control page says that XCR0 enables: CPUID cannot be trusted everywhere.
    pub fn of(xcr0: u32) -> Level {
        match xcr0 {
            x if x & 0xe6 == 0xe6 => Level::Avx512,
            x if x & 6 == 6 => Level::Avx,
            _ => Level::Sse,
        }
    }

    /// Vector registers, and 64-bit words in each.
    fn vectors(self) -> (usize, usize) {
        match self {
            Level::Sse => (16, 2),
            Level::Avx => (16, 4),
            Level::Avx512 => (32, 8),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Image {
    /// rax, rbx, rcx, rdx, rsi, rdi, rbp, r8 to r15. rcx counts down while the others are held, to 0.
    pub general: [u64; 15],
    pub flags: u64,
    /// MXCSR, and the control word of the x87 unit above it.
    pub control: u64,
    /// Not 0 if the vCPU at the end is another one than at the beginning.
    pub moved: u64,
    pub mm: [u64; 8],
    pub masks: [u64; 8],
    /// What lies below the stack pointer, and is not to be touched by anybody.
    pub red_zone: [u64; 16],
    reserved: [u64; 14],
    pub vectors: [[u64; 8]; VECTORS],
}

const _: () = assert!(core::mem::offset_of!(Image, vectors) % 64 == 0);

const NAMES: [&str; 15] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
];
/// Those that a function leaves as they were: rbx, rbp and r12 to r15.
const KEPT: [usize; 6] = [1, 6, 11, 12, 13, 14];

/// A register with another value than it should have.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub name: &'static str,
    /// Of those that are called so.
    pub number: usize,
    pub wanted: u64,
    pub found: u64,
}

impl Image {
    pub const EMPTY: Image = Image {
        general: [0; 15],
        flags: 0,
        control: 0,
        moved: 0,
        mm: [0; 8],
        masks: [0; 8],
        red_zone: [0; 16],
        reserved: [0; 14],
        vectors: [[0; 8]; VECTORS],
    };

    /// Values that differ from register to register and from one `next` to another.
    pub fn fill(&mut self, mut next: impl FnMut() -> u64) {
        let (key, bits) = (next(), next());
        let mut at = 0u64;
        let mut word = || {
            at += 1;
            key.wrapping_mul(at | 1).rotate_left(at as u32) ^ at
        };
        let Image {
            general,
            mm,
            masks,
            red_zone,
            vectors,
            ..
        } = self;
        for part in [&mut general[..], mm, masks, red_zone, vectors.as_flattened_mut()] {
            part.iter_mut().for_each(|each| *each = word());
        }
        // What an instruction for 16 mask bits moves: there is no older one.
        self.masks.iter_mut().for_each(|mask| *mask &= 0xffff);
        self.general[2] = 0;
        self.flags = bits & FLAGS;
        self.control = 0x1f80 | bits >> 16 & MXCSR | (0x37f | bits >> 32 & CONTROL_WORD) << 32;
        self.moved = 0;
    }

    /// The first register that is not as it was in `wanted`, after it was held.
    pub fn differs(&self, wanted: &Image, level: Level) -> Option<Wrong> {
        let general = (0..15).map(|i| (NAMES[i], i, wanted.general[i], self.general[i]));
        let others = [
            ("flags", 0, wanted.flags, self.flags & FLAGS),
            ("mxcsr and control word", 0, wanted.control, self.control),
        ];
        let (registers, words) = level.vectors();
        let masks = if level == Level::Avx512 { 8 } else { 0 };
        general
            .chain(others)
            .chain((0..8).map(|i| ("mm", i, wanted.mm[i], self.mm[i])))
            .chain((0..masks).map(|i| ("k", i, wanted.masks[i], self.masks[i])))
            .chain((0..16).map(|i| ("word of the red zone", i, wanted.red_zone[i], self.red_zone[i])))
            .chain((0..registers * words).map(|i| {
                let (register, word) = (i / words, i % words);
                let values = (wanted.vectors[register][word], self.vectors[register][word]);
                ("vector register", register, values.0, values.1)
            }))
            .find(|(_, _, wanted, found)| wanted != found)
            .map(Wrong::of)
    }

    /// As [`Image::differs`], after a call: of what a function has to keep.
    pub fn kept(&self, wanted: &Image) -> Option<Wrong> {
        let control = |image: &Image| image.control & CONTROL;
        KEPT.into_iter()
            .map(|i| (NAMES[i], i, wanted.general[i], self.general[i]))
            .chain([("mxcsr and control word", 0, control(wanted), control(self))])
            .find(|(_, _, wanted, found)| wanted != found)
            .map(Wrong::of)
    }
}

impl Wrong {
    fn of((name, number, wanted, found): (&'static str, usize, u64, u64)) -> Wrong {
        Wrong {
            name,
            number,
            wanted,
            found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        let mut image = Image::EMPTY;
        let mut at = 77u64;
        image.fill(|| {
            at = super::super::super::random::mix(at);
            at
        });
        image
    }

    #[test]
    fn the_level_is_what_is_enabled() {
        assert_eq!(Level::of(3), Level::Sse);
        assert_eq!(Level::of(7), Level::Avx);
        assert_eq!(Level::of(0xe7), Level::Avx512);
        assert_eq!(Level::of(0xe3), Level::Sse, "nothing without AVX");
        assert_eq!(Level::of(0x67), Level::Avx, "only all of it");
    }

    #[test]
    fn every_register_that_changes_is_found() {
        let wanted = image();
        for level in [Level::Sse, Level::Avx, Level::Avx512] {
            assert_eq!(wanted.differs(&wanted, level), None);
            let (registers, words) = level.vectors();
            let mut spoilt = [0; 4];
            let mut spoil = |which: usize, name: &str, change: &dyn Fn(&mut Image)| {
                let mut found = wanted.clone();
                change(&mut found);
                let wrong = found.differs(&wanted, level).expect("found");
                assert_eq!(wrong.name, name);
                spoilt[which] += 1;
            };
            (0..15).for_each(|i| spoil(0, NAMES[i], &|image| image.general[i] ^= 1 << 40));
            (0..8).for_each(|i| spoil(1, "mm", &|image| image.mm[i] ^= 1));
            (0..16).for_each(|i| spoil(1, "word of the red zone", &|image| image.red_zone[i] ^= 1));
            spoil(2, "flags", &|image| image.flags ^= 0x400);
            spoil(2, "mxcsr and control word", &|image| image.control ^= 0x2000);
            for i in 0..registers * words {
                let change = |image: &mut Image| image.vectors[i / words][i % words] ^= 1 << 63;
                spoil(3, "vector register", &change);
            }
            assert_eq!(spoilt, [15, 24, 2, registers * words]);
        }
    }

    #[test]
    fn a_call_keeps_less() {
        let wanted = image();
        let mut found = wanted.clone();
        (found.general[0], found.control) = (1, wanted.control ^ 0x3f);
        assert_eq!(found.kept(&wanted), None, "rax, and what SSE has to say");
        found.general[13] = 1;
        assert_eq!(found.kept(&wanted).map(|wrong| wrong.name), Some("r14"));
    }
}
