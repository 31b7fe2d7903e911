//! Lines to the host's log, and the last one.

use core::fmt::{self, Write};
use core::sync::atomic::Ordering;

use flux_abi::{LOG_BYTES, PORT_LOG, PORT_PANIC};

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

/// Tells the host what went wrong and ends the VM.
#[cold]
pub fn fatal(text: fmt::Arguments<'_>) -> ! {
    let line = Line::of(text);
    enter();
    // SAFETY: `critical` is set, and GS base: nothing of FluxOS runs before.
    match unsafe { Local::if_booted() } {
        Some(local) => end(local.kernel().page, local.kernel().platform, local.id, &line),
        // Boot reports its own errors by `fatal_at`; without a page there is nobody to tell. The
        // vCPU is forced off its core.
        None => loop {
            core::hint::spin_loop();
        },
    }
}

/// As [`fatal`], before the vCPU has its private data.
#[cold]
pub fn fatal_at(page: Page, platform: &dyn Platform, vcpu: u32, text: fmt::Arguments<'_>) -> ! {
    end(page, platform, vcpu, &Line::of(text))
}

fn end(page: Page, platform: &dyn Platform, vcpu: u32, line: &Line) -> ! {
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
    fn lines_are_cut_at_a_character() {
        let line = Line::of(format_args!("{}{}", "x".repeat(255), "é"));
        assert_eq!(line.len, 255);
        let line = Line::of(format_args!("uThread {}", 7));
        assert_eq!(&line.bytes[..line.len], b"uThread 7");
    }
}
