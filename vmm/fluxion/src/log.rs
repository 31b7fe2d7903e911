//! Log lines: `<level> <vm name>: text` on stderr, one write each, so that lines of several processes that
//! share a file do not mix.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

/// Where a VM's log lines go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Log {
    name: Arc<str>,
}

impl Log {
    pub fn new(name: &str) -> Log {
        Log { name: name.into() }
    }

    pub fn info(&self, text: impl fmt::Display) {
        self.line("info", text);
    }

    pub fn warn(&self, text: impl fmt::Display) {
        self.line("warn", text);
    }

    pub fn error(&self, text: impl fmt::Display) {
        self.line("error", text);
    }

    fn line(&self, level: &str, text: impl fmt::Display) {
        let line = format!("{level} {}: {text}\n", self.name);
        // SAFETY: the pointer and length are the line's. A failed or short write is nobody's to repair: the
        // guest must not stop because nobody reads its log.
        unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    }
}

/// Makes text that a guest wrote fit for a log: valid UTF-8, one line, nothing that moves a terminal's cursor.
pub fn sanitize(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches(['\n', '\r', '\0']);
    text.chars()
        .map(|c| {
            if c.is_control() || is_format(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// Invisible characters that change how the rest of a line is shown.
fn is_format(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// Limits the lines of one vCPU: a burst is let through, then so many a second. Used by one thread.
#[derive(Debug, Default)]
pub struct RateLimit {
    /// When the bucket would be full again, in the units of the clock.
    full_at: AtomicU64,
    dropped: AtomicU64,
}

/// Lines that may come at once.
const BURST: u64 = 100;
/// Lines a second after that.
const PER_SECOND: u64 = 20;

impl RateLimit {
    /// Whether a line may be written now, and how many were dropped before it. `now` and `second` are in
    /// the same unit.
    pub fn allow(&self, now: u64, second: u64) -> Option<u64> {
        let cost = (second / PER_SECOND).max(1);
        let full_at = self.full_at.load(Ordering::Relaxed).max(now);
        if full_at - now > cost * (BURST - 1) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        self.full_at.store(full_at + cost, Ordering::Relaxed);
        Some(self.dropped.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_text_is_tamed() {
        assert_eq!(sanitize(b"hello\n"), "hello");
        assert_eq!(sanitize(b"a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(sanitize(b"\xff\xfe"), "\u{fffd}\u{fffd}");
        assert_eq!(sanitize("x\u{202e}y".as_bytes()), "x\u{fffd}y");
        assert_eq!(sanitize(&[0; 9]), "");
    }

    #[test]
    fn a_flood_is_limited_and_counted() {
        let (limit, second) = (RateLimit::default(), 1_000_000);
        let passed = (0..1000).filter(|_| limit.allow(5, second).is_some()).count();
        assert_eq!(passed as u64, BURST);
        assert_eq!(limit.allow(5 + second, second), Some(1000 - BURST));
        let passed = (0..1000)
            .filter(|_| limit.allow(5 + second, second).is_some())
            .count();
        assert_eq!(passed as u64, PER_SECOND - 1);
        assert_eq!(
            limit.allow(5 + 1000 * second, second),
            Some(1000 - (PER_SECOND - 1))
        );
    }
}
