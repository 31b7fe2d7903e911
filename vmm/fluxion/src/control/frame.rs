//! Frames: a u32, little endian, then as many bytes of MessagePack.

use flux_abi::FRAME_MAX;

/// Why a byte stream is no longer one of frames.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("an empty frame")]
    Empty,
    #[error("a frame of {0} bytes, at most {FRAME_MAX} are possible")]
    TooLong(u32),
}

/// Bytes that have arrived, cut into frames. Holds at most one frame beyond what was pushed last: memory
/// is used for what came, never for what was announced.
#[derive(Debug, Default)]
pub struct Incoming {
    bytes: Vec<u8>,
    /// What of `bytes` has been handed out.
    used: usize,
}

impl Incoming {
    pub fn push(&mut self, bytes: &[u8]) {
        if self.used > 0 {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame's contents, if it is there.
    pub fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        let Some((head, body)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let len = u32::from_le_bytes(*head);
        if len == 0 {
            return Err(FrameError::Empty);
        }
        if len > FRAME_MAX {
            return Err(FrameError::TooLong(len));
        }
        let len = len as usize;
        if body.len() < len {
            return Ok(None);
        }
        self.used += 4 + len;
        Ok(self.bytes.get(self.used - len..self.used))
    }

    /// Whether `next` has something to say: a frame, or an error.
    pub fn has_frame(&self) -> bool {
        let rest = self.bytes.get(self.used..).unwrap_or_default();
        rest.split_first_chunk::<4>().is_some_and(|(head, body)| {
            let len = u32::from_le_bytes(*head);
            len == 0 || len > FRAME_MAX || body.len() >= len as usize
        })
    }
}

/// Puts the length before the contents. Contents of our own making are far below the limit.
pub fn frame(contents: &[u8]) -> Vec<u8> {
    let mut bytes = (contents.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(contents);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_come_whole() {
        let mut incoming = Incoming::default();
        let stream = [frame(b"one"), frame(b"three")].concat();
        incoming.push(&stream[..5]);
        assert_eq!(incoming.next(), Ok(None));
        assert!(!incoming.has_frame());
        incoming.push(&stream[5..8]);
        assert_eq!(incoming.next(), Ok(Some(&b"one"[..])));
        assert_eq!(incoming.next(), Ok(None));
        incoming.push(&stream[8..]);
        assert_eq!(incoming.next(), Ok(Some(&b"three"[..])));
        assert_eq!(incoming.next(), Ok(None));
        assert!(!incoming.has_frame());
    }

    #[test]
    fn impossible_lengths_are_refused_at_once() {
        let mut incoming = Incoming::default();
        incoming.push(&[0, 0, 0, 0]);
        assert_eq!(incoming.next(), Err(FrameError::Empty));
        let mut incoming = Incoming::default();
        incoming.push(&(FRAME_MAX + 1).to_le_bytes());
        assert_eq!(incoming.next(), Err(FrameError::TooLong(FRAME_MAX + 1)));
        let mut incoming = Incoming::default();
        incoming.push(&FRAME_MAX.to_le_bytes());
        assert_eq!(incoming.next(), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_cut_gives_the_same_frames(
            contents in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            cut in 1usize..64,
        ) {
            let stream: Vec<u8> = contents.iter().flat_map(|c| frame(c)).collect();
            let mut incoming = Incoming::default();
            let mut got = Vec::new();
            for piece in stream.chunks(cut) {
                incoming.push(piece);
                while let Ok(Some(contents)) = incoming.next() {
                    got.push(contents.to_vec());
                }
            }
            prop_assert_eq!(got, contents);
        }

        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut incoming = Incoming::default();
            incoming.push(&bytes);
            while let Ok(Some(_)) = incoming.next() {}
        }
    }
}
