//! The guest's image: a static ELF64 executable, read with every bound checked.
//!
//! The file is not trusted more than the guest is: a bad one gives an error that says what is wrong with
//! it. What the loader needs of it is small: the loadable segments, the entry point, and notes under the name
//! "HyperFlux": the ABI it was built for (type 1), its re-entry point (type 2) and its upcall (type 3), which an
//! image may lack.

use std::ops::Range;

use crate::reader::Reader;

/// Where an image begins at the earliest; everything below belongs to the VMM's tables.
pub const IMAGE_BASE: u64 = 0x40_0000;
const PAGE: u64 = 4096;
const NOTE_NAME: &[u8] = b"HyperFlux\0";
const NOTE_ABI: u32 = 1;
const NOTE_REENTRY: u32 = 2;
const NOTE_UPCALL: u32 = 3;
const MAX_HEADERS: usize = 64;

const EM_X86_64: u16 = 62;
const ET_EXEC: u16 = 2;
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const PT_NOTE: u32 = 4;
const PF_X: u32 = 1;
const PF_W: u32 = 2;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ImageError {
    #[error("the image is not an ELF file; give --image a guest built for FluxOS")]
    NotElf,
    #[error("the image is cut short or damaged: {0} lies outside its {1} bytes; build it again")]
    Truncated(&'static str, usize),
    #[error(
        "the image is not for x86-64 (ELF class {class}, data {data}, machine {machine}, needs 2, 1, 62)"
    )]
    Machine { class: u8, data: u8, machine: u16 },
    #[error("the image is not a static, position-dependent executable ({0}); link it with -static -no-pie")]
    NotStatic(&'static str),
    #[error("the image has {0} program headers of {1} bytes, 1 to {MAX_HEADERS} of 56 are possible")]
    Headers(usize, usize),
    #[error("the image has no loadable segment")]
    Empty,
    #[error("segment {start:#x}+{len:#x} of the image is outside the room for it, {from:#x} to {to:#x}; give the VM more with --mem or link the image lower")]
    Outside {
        start: u64,
        len: u64,
        from: u64,
        to: u64,
    },
    #[error("segment {0:#x} of the image has more bytes in the file than in memory")]
    FileSize(u64),
    #[error("segment {0:#x} of the image is writable and executable; separate code from data in its linker script")]
    WriteExecute(u64),
    #[error(
        "segments of the image share the page at {0:#x}; link it with -z max-page-size=4096 -z separate-code"
    )]
    SharedPage(u64),
    #[error("the image's {0} {1:#x} is not in an executable segment")]
    Entry(&'static str, u64),
    #[error("the image has no HyperFlux note of type {0} ({1}); it was not built for FluxOS")]
    NoNote(u32, &'static str),
    #[error("the image was built for ABI {image_major}.{image_minor}, this Fluxion speaks {major}.{minor}; build both from one release")]
    Version {
        image_major: u32,
        image_minor: u32,
        major: u32,
        minor: u32,
    },
}

/// One loadable segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    /// Bytes in memory; those after the file's are 0.
    pub size: u64,
    /// Which bytes of the file.
    pub file: Range<usize>,
    pub write: bool,
    pub execute: bool,
}

impl Segment {
    /// The pages it touches.
    pub fn pages(&self) -> Range<u64> {
        self.address & !(PAGE - 1)..(self.address + self.size).next_multiple_of(PAGE)
    }
}

/// What was found in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    pub entry: u64,
    /// Where a vCPU goes whose context was taken over by another one.
    pub reentry: u64,
    /// Where a vCPU is resumed whose uThread is to give way. Without one its uThreads give way only where they
    /// look for that themselves.
    pub upcall: Option<u64>,
    pub segments: Vec<Segment>,
    /// First address after the image, a whole page.
    pub end: u64,
}

/// Reads an image that must fit below `limit`, and must be for ABI `abi` = (major, minor).
pub fn parse(file: &[u8], limit: u64, abi: (u32, u32)) -> Result<Image, ImageError> {
    let elf = Reader { file };
    if file.get(..4) != Some(b"\x7fELF") {
        return Err(ImageError::NotElf);
    }
    let (class, data) = (elf.byte(4)?, elf.byte(5)?);
    let machine = elf.u16(18, "the ELF header")?;
    if class != 2 || data != 1 || machine != EM_X86_64 {
        return Err(ImageError::Machine { class, data, machine });
    }
    if elf.u16(16, "the ELF header")? != ET_EXEC {
        return Err(ImageError::NotStatic("it is not of type EXEC"));
    }
    let entry = elf.u64(24, "the ELF header")?;
    let table = elf.u64(32, "the ELF header")?;
    let size = usize::from(elf.u16(54, "the ELF header")?);
    let count = usize::from(elf.u16(56, "the ELF header")?);
    if size != 56 || count == 0 || count > MAX_HEADERS {
        return Err(ImageError::Headers(count, size));
    }

    let mut segments = Vec::new();
    let mut notes = Notes::default();
    for i in 0..count {
        let at = usize::try_from(table)
            .ok()
            .and_then(|t| t.checked_add(i * 56))
            .ok_or(ImageError::Truncated("a program header", file.len()))?;
        let header = Header::read(&elf, at)?;
        match header.kind {
            PT_LOAD if header.memory_size > 0 => segments.push(header.segment(&elf, limit)?),
            PT_NOTE => notes.scan(elf.range(header.offset, header.file_size, "a note segment")?)?,
            PT_INTERP => return Err(ImageError::NotStatic("it wants an interpreter")),
            PT_DYNAMIC => return Err(ImageError::NotStatic("it has a dynamic section")),
            _ => {}
        }
    }
    segments.sort_by_key(|s| s.address);
    for pair in segments.windows(2) {
        if pair[0].pages().end > pair[1].pages().start {
            return Err(ImageError::SharedPage(pair[1].pages().start));
        }
    }
    let end = segments.last().ok_or(ImageError::Empty)?.pages().end;

    let (image_major, image_minor) = notes.abi.ok_or(ImageError::NoNote(NOTE_ABI, "its ABI version"))?;
    let (major, minor) = abi;
    // A newer minor only adds, so an image may be older than Fluxion but not newer.
    if image_major != major || image_minor > minor {
        return Err(ImageError::Version {
            image_major,
            image_minor,
            major,
            minor,
        });
    }
    let reentry = notes
        .reentry
        .ok_or(ImageError::NoNote(NOTE_REENTRY, "its re-entry point"))?;
    let points = [("entry point", entry), ("re-entry point", reentry)].into_iter();
    for (name, address) in points.chain(notes.upcall.map(|address| ("upcall", address))) {
        let inside = |s: &Segment| s.execute && address >= s.address && address - s.address < s.size;
        if !segments.iter().any(inside) {
            return Err(ImageError::Entry(name, address));
        }
    }
    Ok(Image {
        entry,
        reentry,
        upcall: notes.upcall,
        segments,
        end,
    })
}

struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
}

impl Header {
    fn read(elf: &Reader<'_>, at: usize) -> Result<Header, ImageError> {
        let what = "a program header";
        Ok(Header {
            kind: elf.u32(at, what)?,
            flags: elf.u32(at.saturating_add(4), what)?,
            offset: elf.u64(at.saturating_add(8), what)?,
            address: elf.u64(at.saturating_add(16), what)?,
            file_size: elf.u64(at.saturating_add(32), what)?,
            memory_size: elf.u64(at.saturating_add(40), what)?,
        })
    }

    fn segment(&self, elf: &Reader<'_>, limit: u64) -> Result<Segment, ImageError> {
        let (start, len) = (self.address, self.memory_size);
        let end = start
            .checked_add(len)
            .filter(|end| start >= IMAGE_BASE && *end <= limit);
        if end.is_none() {
            return Err(ImageError::Outside {
                start,
                len,
                from: IMAGE_BASE,
                to: limit,
            });
        }
        if self.file_size > len {
            return Err(ImageError::FileSize(start));
        }
        let (write, execute) = (self.flags & PF_W != 0, self.flags & PF_X != 0);
        if write && execute {
            return Err(ImageError::WriteExecute(start));
        }
        elf.range(self.offset, self.file_size, "a segment")?;
        let from = self.offset as usize;
        let file = from..from + self.file_size as usize;
        Ok(Segment {
            address: start,
            size: len,
            file,
            write,
            execute,
        })
    }
}

#[derive(Default)]
struct Notes {
    abi: Option<(u32, u32)>,
    reentry: Option<u64>,
    upcall: Option<u64>,
}

impl Notes {
    /// Goes through one note segment; foreign notes are skipped.
    fn scan(&mut self, bytes: &[u8]) -> Result<(), ImageError> {
        let notes = Reader { file: bytes };
        let mut at = 0;
        while bytes.len() - at >= 12 {
            let name_size = notes.u32(at, "a note")? as usize;
            let data_size = notes.u32(at + 4, "a note")? as usize;
            let kind = notes.u32(at + 8, "a note")?;
            let data_at = at + 12 + name_size.next_multiple_of(4);
            let end = data_at + data_size.next_multiple_of(4);
            let name = notes.range((at + 12) as u64, name_size as u64, "a note")?;
            notes.range(data_at as u64, data_size as u64, "a note")?;
            if name == NOTE_NAME && kind == NOTE_ABI {
                self.abi = Some((
                    notes.u32(data_at, "the ABI note")?,
                    notes.u32(data_at + 4, "the ABI note")?,
                ));
            }
            if name == NOTE_NAME && kind == NOTE_REENTRY {
                self.reentry = Some(notes.u64(data_at, "the re-entry note")?);
            }
            if name == NOTE_NAME && kind == NOTE_UPCALL {
                self.upcall = Some(notes.u64(data_at, "the upcall note")?);
            }
            at = end.min(bytes.len());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
