//! How much of the process is in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// /proc/self/statm, opened before files are out of reach.
#[derive(Debug)]
pub struct Resident {
    statm: Option<File>,
}

impl Resident {
    pub fn open() -> Resident {
        Resident {
            statm: File::open("/proc/self/statm").ok(),
        }
    }

    /// One that cannot tell.
    pub fn none() -> Resident {
        Resident { statm: None }
    }

    /// Bytes in memory now, guest RAM included; 0 if that cannot be told.
    pub fn bytes(&self) -> u64 {
        let mut text = [0; 128];
        let Some(Ok(len)) = self.statm.as_ref().map(|f| f.read_at(&mut text, 0)) else {
            return 0;
        };
        let text = std::str::from_utf8(text.get(..len).unwrap_or_default()).unwrap_or_default();
        text.split_whitespace()
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
            .map_or(0, |pages| pages * 4096)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn something_is_resident() {
        assert!(super::Resident::open().bytes() > 4096);
    }
}
