//! Reading numbers out of a file that may be anything.

use crate::image::ImageError;

/// Little-endian reads that never leave the file.
pub(crate) struct Reader<'a> {
    pub file: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn range(&self, start: u64, len: u64, what: &'static str) -> Result<&'a [u8], ImageError> {
        let cut = ImageError::Truncated(what, self.file.len());
        let Some(end) = start.checked_add(len) else {
            return Err(cut);
        };
        match (usize::try_from(start), usize::try_from(end)) {
            (Ok(start), Ok(end)) => self.file.get(start..end).ok_or(cut),
            _ => Err(cut),
        }
    }

    pub fn byte(&self, at: usize) -> Result<u8, ImageError> {
        self.file
            .get(at)
            .copied()
            .ok_or(ImageError::Truncated("the ELF header", self.file.len()))
    }

    pub fn array<const N: usize>(&self, at: usize, what: &'static str) -> Result<[u8; N], ImageError> {
        let bytes = self.range(at as u64, N as u64, what)?;
        bytes
            .try_into()
            .map_err(|_| ImageError::Truncated(what, self.file.len()))
    }

    pub fn u16(&self, at: usize, what: &'static str) -> Result<u16, ImageError> {
        self.array(at, what).map(u16::from_le_bytes)
    }

    pub fn u32(&self, at: usize, what: &'static str) -> Result<u32, ImageError> {
        self.array(at, what).map(u32::from_le_bytes)
    }

    pub fn u64(&self, at: usize, what: &'static str) -> Result<u64, ImageError> {
        self.array(at, what).map(u64::from_le_bytes)
    }
}
