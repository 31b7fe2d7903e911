//! Where in this program the sanitizer's runtime is: between the first and the last of its functions, because
//! the linker lays out an archive's objects one after the other.

use std::ops::Range;

pub struct Found {
    pub program: Range<u64>,
    pub runtime: Range<u64>,
    /// The calls of a change of stacks.
    pub switch: Range<u64>,
}

const SHT_SYMTAB: u32 = 2;
const STT_FUNC: u8 = 2;
/// Functions that only the runtime has.
const RUNTIME: [&str; 6] = [
    "__tsan_",
    "__asan_",
    "__sanitizer_",
    "_ZN6__tsan",
    "_ZN6__asan",
    "_ZN11__sanitizer",
];
const SWITCH: &str = "flux_fibre_switch";

/// What the program gives to the runtime is not the runtime's.
fn is_runtime(name: &str) -> bool {
    RUNTIME.iter().any(|prefix| name.starts_with(prefix)) && !name.contains("_default_")
}

/// Reads this program's symbol table.
pub fn find() -> Result<Found, &'static str> {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let program = (&raw const __executable_start) as u64..(&raw const etext) as u64;
    let file = std::fs::read("/proc/self/exe").map_err(|_| "cannot read /proc/self/exe")?;
    let symbols = symbols(&file).ok_or("this program has no symbol table: do not strip it")?;
    let mut found = Found {
        program,
        runtime: u64::MAX..0,
        switch: 0..0,
    };
    // Linked where it runs, as .cargo/config.toml has it (relocation-model=static).
    for (name, at, size) in &symbols {
        if is_runtime(name) {
            found.runtime.start = found.runtime.start.min(*at);
            found.runtime.end = found.runtime.end.max(at + size);
        }
        if *name == SWITCH {
            found.switch = *at..at + size;
        }
    }
    if found.runtime.is_empty() {
        return Err("the sanitizer's runtime is not in this program");
    }
    let ours = |name: &str| !is_runtime(name) && (name.starts_with("_R") || name.contains("17h"));
    if symbols
        .iter()
        .any(|(name, at, _)| ours(name) && found.runtime.contains(at))
    {
        return Err("the linker has mixed the sanitizer's runtime with other code");
    }
    Ok(found)
}

/// Functions: name, address, size.
fn symbols(file: &[u8]) -> Option<Vec<(&str, u64, u64)>> {
    let bytes = |at: usize, n: usize| file.get(at..at.checked_add(n)?);
    let half = |at| Some(u16::from_le_bytes(bytes(at, 2)?.try_into().ok()?));
    let word = |at| Some(u32::from_le_bytes(bytes(at, 4)?.try_into().ok()?));
    let long = |at| Some(u64::from_le_bytes(bytes(at, 8)?.try_into().ok()?));
    let (sections, each, count) = (long(40)? as usize, half(58)? as usize, half(60)? as usize);
    let section = |i: usize| sections + i * each;
    let table = (0..count)
        .map(section)
        .find(|at| word(at + 4) == Some(SHT_SYMTAB))?;
    let names = long(section(word(table + 40)? as usize) + 24)? as usize;
    let (start, len) = (long(table + 24)? as usize, long(table + 32)? as usize);
    let mut found = Vec::new();
    for at in (start..start + len).step_by(24) {
        let (name, info, value, size) = (word(at)?, *file.get(at + 4)?, long(at + 8)?, long(at + 16)?);
        if info & 0xf != STT_FUNC || value == 0 {
            continue;
        }
        let name = file.get(names + name as usize..)?;
        let name = name.get(..name.iter().position(|b| *b == 0)?)?;
        found.push((std::str::from_utf8(name).ok()?, value, size));
    }
    Some(found)
}
