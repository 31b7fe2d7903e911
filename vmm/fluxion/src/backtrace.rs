//! Where a guest was when it gave up, in words.
//!
//! The guest sends addresses through the backtrace door, and then goes through the panic door. What it sends is
//! numbers and nothing else: they are copied once, counted here, and looked up in the image's symbol table.

use std::fmt::Write;

use flux_abi as abi;

use crate::symbols::{Place, Symbols};

/// As much as a guest may send.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backtrace {
    addresses: Vec<u64>,
    left_out: u32,
    /// The first address is an instruction, not where a call returns to.
    fault: bool,
    /// It was a page fault.
    pub page: bool,
}

/// Functions that a panic goes through after the one that it is about. They are not news.
const MACHINERY: [&str; 4] = [
    "core::panicking::",
    "core::slice::index::",
    "unwrap_failed",
    "expect_failed",
];
/// How deep the machinery is at most.
const MACHINERY_DEPTH: usize = 16;
/// Functions that the sentence names.
const NAMED: usize = 4;

impl Backtrace {
    /// What the door's argument and the vCPU's log line say.
    pub fn of(arg: u32, line: &[u8; abi::LOG_BYTES]) -> Backtrace {
        let count = ((arg & 0xff) as usize).min(abi::BACKTRACE_FRAMES as usize);
        let words = line.chunks_exact(8).take(count);
        Backtrace {
            addresses: words
                .map(|bytes| {
                    bytes
                        .iter()
                        .rev()
                        .fold(0, |word, byte| word << 8 | u64::from(*byte))
                })
                .collect(),
            left_out: arg >> 8 & 0xffff,
            fault: arg & abi::BACKTRACE_FAULT != 0,
            page: arg & abi::BACKTRACE_PAGE != 0,
        }
    }

    /// A line for each frame, and the end of a sentence that names the functions that matter.
    pub fn describe(&self, symbols: &Symbols) -> (Vec<String>, String) {
        // A call returns behind itself, perhaps already to the next function.
        let asked: Vec<u64> = self
            .addresses
            .iter()
            .enumerate()
            .map(|(i, address)| address.saturating_sub(u64::from(i > 0 || !self.fault)))
            .collect();
        let places = symbols.places(&asked);
        (self.lines(&places), sentence(&places))
    }

    fn lines(&self, places: &[Option<Place>]) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        let mut repeated = 0;
        let outer = self.addresses.len().saturating_sub(abi::BACKTRACE_OUTER as usize);
        let function = |i: usize| places[i].as_ref().map(|place| &place.function);
        for (i, (address, place)) in self.addresses.iter().zip(places).enumerate() {
            let gap = self.left_out > 0 && i == outer;
            let again = i > 0 && place.is_some() && function(i) == function(i - 1);
            if gap || !again {
                flush(&mut lines, &mut repeated);
            }
            if gap {
                lines.push(format!("     ... {} frames", self.left_out));
            }
            // Recursion is shown by its innermost call.
            if again && !gap {
                repeated += 1;
                continue;
            }
            let mut line = format!("{i:>4} {address:#014x}");
            if let Some(place) = place {
                let _ = write!(line, " {place}");
            }
            lines.push(line);
        }
        flush(&mut lines, &mut repeated);
        lines
    }
}

fn flush(lines: &mut Vec<String>, repeated: &mut u32) {
    if *repeated > 0 {
        lines.push(format!("     ... {repeated} more of the same"));
    }
    *repeated = 0;
}

/// "; in a, called by b, c": empty if no function is known.
fn sentence(places: &[Option<Place>]) -> String {
    let machinery = places
        .iter()
        .take(MACHINERY_DEPTH)
        .rposition(|place| {
            let name = place.as_ref().map_or("", |place| &place.function);
            MACHINERY.iter().any(|part| name.contains(part))
        })
        .map_or(0, |last| last + 1);
    let mut names: Vec<&str> = places
        .iter()
        .skip(machinery)
        .flatten()
        .map(|place| place.function.as_str())
        .collect();
    names.dedup();
    match names.split_first() {
        None => String::new(),
        Some((first, [])) => format!("; in {first}"),
        Some((first, callers)) => {
            let shown = &callers[..callers.len().min(NAMED - 1)];
            format!("; in {first}, called by {}", shown.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(function: &str) -> Option<Place> {
        Some(Place {
            function: function.to_owned(),
            offset: 4,
        })
    }

    fn sent(count: u32, more: u32) -> Backtrace {
        let mut line = [0; abi::LOG_BYTES];
        for (i, bytes) in line.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&(0x40_0000 + i as u64).to_le_bytes());
        }
        Backtrace::of(count | more, &line)
    }

    #[test]
    fn what_is_sent_is_clamped() {
        let all = sent(0xff, 0xffff_ff00);
        assert_eq!(all.addresses.len(), abi::BACKTRACE_FRAMES as usize);
        assert_eq!((all.left_out, all.fault, all.page), (0xffff, true, true));
        assert_eq!(all.addresses[31], 0x40_001f);
        assert_eq!(sent(0, 0), Backtrace::default());
        let (lines, sentence) = all.describe(&Symbols::default());
        assert_eq!(lines.len(), 33);
        assert_eq!(sentence, "");
    }

    #[test]
    fn recursion_is_folded() {
        let names = ["dive"; 5]
            .map(place)
            .into_iter()
            .chain(["call", "begin"].map(place));
        let places: Vec<_> = names.collect();
        let lines = sent(7, 0).lines(&places);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert!(lines[0].ends_with("0x000000400000 dive+0x4"), "{lines:?}");
        assert_eq!(lines[1], "     ... 4 more of the same");
        assert_eq!(sentence(&places), "; in dive, called by call, begin");
        let places = vec![place("dive"); 32];
        let lines = sent(32, 7 << 8).lines(&places);
        assert_eq!(lines[2], "     ... 7 frames");
        assert_eq!(lines.len(), 5, "{lines:?}");
    }

    #[test]
    fn a_panic_is_about_its_caller() {
        let names = [
            "libos::log::panicked",
            "core::panicking::panic_fmt",
            "core::panicking::panic_bounds_check",
            "libos::rogue::stumble",
            "apps::main",
        ];
        let mut places: Vec<_> = names.map(place).into();
        assert_eq!(
            sentence(&places),
            "; in libos::rogue::stumble, called by apps::main"
        );
        places.truncate(4);
        places.push(None);
        assert_eq!(sentence(&places), "; in libos::rogue::stumble");
        assert_eq!(sentence(&[None]), "");
    }
}
