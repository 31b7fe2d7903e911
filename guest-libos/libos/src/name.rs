//! Names of uThreads: for people who read logs, traces and the last words of a VM.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a name; what is longer is cut. As many as Linux gives to a thread's name.
pub const NAME_BYTES: usize = 15;

/// A name that one uThread may write while another one, or a vCPU that is about to give up, reads
/// it. A reader may then see half of each, but never anything that is not text.
#[derive(Debug, Default)]
pub(crate) struct Name([AtomicU64; 2]);

impl Name {
    pub fn new() -> Name {
        Name::default()
    }

    pub fn clear(&self) {
        self.set("");
    }

    pub fn set(&self, name: &str) {
        let mut end = name.len().min(NAME_BYTES);
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        let mut bytes = [0; 16];
        bytes[..end].copy_from_slice(&name.as_bytes()[..end]);
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact(8)) {
            let mut value = [0; 8];
            value.copy_from_slice(bytes);
            // Relaxed: a name is only shown.
            word.store(u64::from_le_bytes(value), Ordering::Relaxed);
        }
    }

    /// The name's bytes, up to its first 0.
    pub fn get(&self) -> Copied {
        let mut bytes = [0; 16];
        for (word, bytes) in self.0.iter().zip(bytes.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        Copied(bytes)
    }
}

/// What a name was at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Copied([u8; 16]);

impl Copied {
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(NAME_BYTES);
        let bytes = self.0.get(..end).unwrap_or_default();
        match core::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => core::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""),
        }
    }
}

impl fmt::Display for Copied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_kept_and_cut_between_characters() {
        let name = Name::new();
        assert_eq!(name.get().as_str(), "");
        for (given, kept) in [
            ("worker", "worker"),
            ("exactly 15 byte", "exactly 15 byte"),
            ("longer than fifteen", "longer than fif"),
            ("fourteen bytesäö", "fourteen bytes"),
            ("", ""),
        ] {
            name.set(given);
            assert_eq!(name.get().as_str(), kept);
        }
        name.set("x");
        name.clear();
        assert_eq!(name.get().as_str(), "");
    }
}
