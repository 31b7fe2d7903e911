//! Names of functions, for addresses that a dying guest has sent.
//!
//! The symbol table is copied out of the image when the VM is made, because the process can read no file later; it
//! is looked at only when a VM dies. The image is not trusted: a table that is no good has no names.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::image::ImageError;
use crate::reader::Reader;

const SYMBOL: usize = 24;
const SHT_SYMTAB: u32 = 2;
const STT_NOTYPE: u8 = 0;
const STT_FUNC: u8 = 2;
/// What more than that is has no names: nobody reads so much for an error message.
const MAX_BYTES: u64 = 8 << 20;
/// A label without a size, as assembly has them, is no name for what lies further behind it.
const LABEL_REACH: u64 = 4096;
/// Nobody reads a longer name either.
const MAX_NAME: usize = 160;

/// Where names are to be found.
#[derive(Debug, Default)]
pub struct Symbols(Source);

#[derive(Debug, Default)]
enum Source {
    #[default]
    None,
    Table(Table),
    /// Read when it is needed: this process's own program.
    Program(File),
}

/// The two tables as they lie in the file.
#[derive(Debug)]
struct Table {
    symbols: Box<[u8]>,
    names: Box<[u8]>,
}

/// A place in the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub function: String,
    /// How far behind the function's first instruction.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{:#x}", self.function, self.offset)
    }
}

impl Symbols {
    /// Those of an image; none if it has been stripped.
    pub fn of(file: &[u8]) -> Symbols {
        match Table::of(file) {
            Ok(Some(table)) => Symbols(Source::Table(table)),
            _ => Symbols::default(),
        }
    }

    /// Those of the program that this process runs, in which a hosted guest is. To be called before the process
    /// loses its access to files.
    pub fn of_this_program() -> Symbols {
        // Nobody can write to a file that is being run, so it is the same one later.
        File::open("/proc/self/exe")
            .map_or_else(|_| Symbols::default(), |file| Symbols(Source::Program(file)))
    }

    /// What is at each of the addresses, for those that are known.
    pub fn places(&self, addresses: &[u64]) -> Vec<Option<Place>> {
        let own;
        let (table, moved) = match &self.0 {
            Source::None => (None, 0),
            Source::Table(table) => (Some(table), 0),
            Source::Program(file) => {
                let bytes = read(file);
                let bytes = bytes.as_deref().unwrap_or_default();
                own = Table::of(bytes).ok().flatten();
                (own.as_ref(), moved(bytes))
            }
        };
        addresses
            .iter()
            .map(|address| table?.place(address.wrapping_sub(moved)))
            .collect()
    }
}

/// How far from where its file says this program has been loaded.
fn moved(file: &[u8]) -> u64 {
    // SAFETY: a query of a value that the kernel gave to the process.
    let entry = unsafe { libc::getauxval(libc::AT_ENTRY) };
    let linked = Reader { file }.u64(24, "the ELF header");
    linked.map_or(0, |linked| entry.wrapping_sub(linked))
}

/// The whole file. Only by reads at an offset, which is all that a confined process may do with it.
fn read(file: &File) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        let at = bytes.len();
        if at as u64 > 16 * MAX_BYTES {
            return None;
        }
        bytes.resize(at + (1 << 20), 0);
        let got = file.read_at(&mut bytes[at..], at as u64).ok()?;
        bytes.truncate(at + got);
        if got == 0 {
            return Some(bytes);
        }
    }
}

impl Table {
    fn of(file: &[u8]) -> Result<Option<Table>, ImageError> {
        const WHAT: &str = "a section header";
        let elf = Reader { file };
        if file.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Ok(None);
        }
        let table = elf.u64(40, WHAT)?;
        let (size, count) = (elf.u16(58, WHAT)?, elf.u16(60, WHAT)?);
        if size != 64 {
            return Ok(None);
        }
        let header = |index: u32| elf.range(table.saturating_add(u64::from(index) * 64), 64, WHAT);
        let section = |index: u32| -> Result<Box<[u8]>, ImageError> {
            let header = Reader { file: header(index)? };
            let (at, len) = (header.u64(24, WHAT)?, header.u64(32, WHAT)?);
            elf.range(at, len.min(MAX_BYTES), "a section").map(Box::from)
        };
        for index in 0..u32::from(count) {
            let found = Reader { file: header(index)? };
            if found.u32(4, WHAT)? == SHT_SYMTAB {
                return Ok(Some(Table {
                    symbols: section(index)?,
                    names: section(found.u32(40, WHAT)?)?,
                }));
            }
        }
        Ok(None)
    }

    fn place(&self, address: u64) -> Option<Place> {
        let mut best: Option<(u64, bool, u32)> = None;
        for symbol in self.symbols.chunks_exact(SYMBOL) {
            let entry = Reader { file: symbol };
            let (name, value) = (entry.u32(0, "").ok()?, entry.u64(8, "").ok()?);
            let size = entry.u64(16, "").ok()?;
            let defined = entry.u16(6, "").ok()? != 0;
            let kind = symbol[4] & 0xf;
            let Some(offset) = address.checked_sub(value) else {
                continue;
            };
            let whole = kind == STT_FUNC && offset < size;
            let label = matches!(kind, STT_FUNC | STT_NOTYPE) && size == 0 && offset < LABEL_REACH;
            if !defined || name == 0 || !(whole || label) {
                continue;
            }
            // What says how long it is knows better than a label; of two labels the nearer one.
            let better = best.is_none_or(|(nearest, was_whole, _)| match whole == was_whole {
                true => offset < nearest,
                false => whole,
            });
            if better {
                best = Some((offset, whole, name));
            }
        }
        let (offset, _, name) = best?;
        let bytes = self.names.get(name as usize..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let text = std::str::from_utf8(&bytes[..end]).ok()?;
        Some(Place {
            function: readable(text),
            offset,
        })
    }
}

/// A symbol's name as people write it, fit for a log.
fn readable(symbol: &str) -> String {
    // `{:#}`: without the hash.
    let text = match rustc_demangle::try_demangle(symbol) {
        Ok(name) => format!("{name:#}"),
        Err(_) => symbol.to_owned(),
    };
    let mut text = crate::log::sanitize(text.as_bytes());
    if text.len() > MAX_NAME {
        let end = (0..=MAX_NAME)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
#[path = "symbols_tests.rs"]
mod tests;
