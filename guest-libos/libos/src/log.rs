//! Lines to the host's log, and the last one.

use core::fmt::{self, Write};
use core::panic::Location;
use core::sync::atomic::Ordering;

use flux_abi::{LOG_BYTES, PORT_LOG, PORT_PANIC};

use crate::backtrace::Backtrace;
use crate::page::Page;
use crate::platform::Platform;
use crate::vcpu::{enter, leave, Local};

/// One line, cut off where the host's line ends.
#[derive(Debug)]
pub struct Line {
    bytes: [u8; LOG_BYTES],
    len: usize,
}

impl Line {
    pub fn of(text: fmt::Arguments<'_>) -> Line {
        let mut line = Line {
            bytes: [0; LOG_BYTES],
            len: 0,
        };
        // The only error is a full line, and then it is cut off.
        let _ = line.write_fmt(text);
        line
    }

    /// Puts it into the vCPU's log line; the door's argument.
    fn put(&self, page: Page, vcpu: u32) -> u32 {
        let to = page.log_line(vcpu);
        for (i, byte) in self.bytes[..self.len].iter().enumerate() {
            // SAFETY: inside this vCPU's own log line, which is LOG_BYTES long. Volatile: the host
            // reads it.
            unsafe { to.add(i).write_volatile(*byte) };
        }
        self.len as u32
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let mut fits = text.len().min(room.len());
        while !text.is_char_boundary(fits) {
            fits -= 1;
        }
        room[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits < text.len() {
            return Err(fmt::Error);
        }
        Ok(())
    }
}

/// Logs a line; for uThreads.
pub fn info(text: fmt::Arguments<'_>) {
    let line = Line::of(text);
    enter();
    // SAFETY: `critical` is set, and uThreads run only on vCPUs that have their private data.
    let local = unsafe { Local::here() };
    let kernel = local.kernel();
    kernel.platform.door(PORT_LOG, line.put(kernel.page, local.id));
    leave();
}

/// Logs a line from FluxOS's code.
pub(crate) fn info_critical(local: &Local, text: fmt::Arguments<'_>) {
    let kernel = local.kernel();
    kernel
        .platform
        .door(PORT_LOG, Line::of(text).put(kernel.page, local.id));
}

/// Tells the host what went wrong and where it came from, and ends the VM.
#[cold]
#[inline(never)]
pub fn fatal(text: fmt::Arguments<'_>) -> ! {
    let line = Line::of(text);
    let local = last_entry();
    // SAFETY: `stack_at` knows how much of this stack is mapped.
    let backtrace = unsafe {
        let mapped = local.stack_at(here()).mapped;
        Backtrace::here(mapped.end)
    };
    let kernel = local.kernel();
    end(kernel.page, kernel.platform, local.id, &line, &backtrace)
}

/// A Rust panic: who, where and why.
#[cold]
#[inline(never)]
pub fn panicked(message: fmt::Arguments<'_>, at: Option<&Location<'_>>) -> ! {
    let who = last_entry().who();
    match at {
        Some(at) => {
            let (file, line, column) = (last_parts(at.file()), at.line(), at.column());
            fatal(format_args!(
                "{who} panicked at {file}:{line}:{column}: {message}"
            ))
        }
        None => fatal(format_args!("{who} panicked: {message}")),
    }
}

/// A crate's name, folder and file, of a path that may begin where the program was built.
fn last_parts(path: &str) -> &str {
    let slash = path.rmatch_indices('/').nth(2);
    slash.map_or(path, |(at, _)| path.get(at + 1..).unwrap_or(path))
}

/// Tells the host what is wrong with what it asked for, and ends the VM.
#[cold]
pub fn give_up(text: fmt::Arguments<'_>) -> ! {
    let line = Line::of(text);
    let local = last_entry();
    let kernel = local.kernel();
    end(kernel.page, kernel.platform, local.id, &line, &Backtrace::NONE)
}

/// Enters FluxOS's code for good.
fn last_entry() -> &'static Local {
    enter();
    // SAFETY: `critical` is set, and GS base: nothing of FluxOS runs before.
    match unsafe { Local::if_booted() } {
        Some(local) => local,
        // Boot reports its own errors by `fatal_at`; without a page there is nobody to tell. The
        // vCPU is forced off its core.
        None => loop {
            core::hint::spin_loop();
        },
    }
}

/// Somewhere on the stack that this runs on.
#[inline(always)]
fn here() -> u64 {
    let rsp;
    // SAFETY: reads a register.
    unsafe {
        core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags));
    }
    rsp
}

/// As [`fatal`], before the vCPU has its private data.
#[cold]
pub fn fatal_at(page: Page, platform: &dyn Platform, vcpu: u32, text: fmt::Arguments<'_>) -> ! {
    end(page, platform, vcpu, &Line::of(text), &Backtrace::NONE)
}

/// The last words of the VM.
pub(crate) fn end(page: Page, platform: &dyn Platform, vcpu: u32, line: &Line, backtrace: &Backtrace) -> ! {
    // First, because both go by the vCPU's log line.
    backtrace.send(page, platform, vcpu);
    let len = line.put(page, vcpu);
    loop {
        // The host does not run a poisoned VM again.
        core::sync::atomic::fence(Ordering::SeqCst);
        platform.door(PORT_PANIC, len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_cut_to_what_says_where() {
        for (path, kept) in [
            ("/home/me/guest-libos/libos/src/rogue.rs", "libos/src/rogue.rs"),
            ("libos/src/rogue.rs", "libos/src/rogue.rs"),
            ("main.rs", "main.rs"),
            ("", ""),
        ] {
            assert_eq!(last_parts(path), kept);
        }
    }

    #[test]
    fn lines_are_cut_at_a_character() {
        let line = Line::of(format_args!("{}{}", "x".repeat(255), "é"));
        assert_eq!(line.len, 255);
        let line = Line::of(format_args!("uThread {}", 7));
        assert_eq!(&line.bytes[..line.len], b"uThread 7");
    }
}
