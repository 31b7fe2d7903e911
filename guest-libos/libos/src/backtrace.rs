//! Where a failure came from: the return addresses on a stack, by its chain of frame pointers.
//!
//! What failed may have written anything anywhere, so nothing on the stack is believed: a frame
//! counts only if it lies, aligned, between the stack pointer and the end of that very stack, all
//! of which is mapped, and above the frame before it. So the walk ends, and cannot fault.

use core::ops::Range;

use flux_abi::{
    BACKTRACE_FAULT, BACKTRACE_FRAMES, BACKTRACE_OUTER, BACKTRACE_PAGE, LOG_BYTES, PORT_BACKTRACE,
};

use crate::page::Page;
use crate::platform::Platform;

const FRAMES: usize = BACKTRACE_FRAMES as usize;
const OUTER: usize = BACKTRACE_OUTER as usize;
const _: () = assert!(FRAMES * 8 <= LOG_BYTES);

/// The frames of a stack, from the inside out.
struct Walk {
    frame: u64,
    /// What is left of the stack: a frame is above the one before.
    left: Range<u64>,
}

impl Walk {
    /// # Safety
    /// All of `stack` is mapped and readable.
    unsafe fn new(frame: u64, stack: Range<u64>) -> Walk {
        Walk { frame, left: stack }
    }
}

impl Iterator for Walk {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        let end = self.frame.checked_add(16)?;
        if !self.frame.is_multiple_of(8) || self.frame < self.left.start || end > self.left.end {
            return None;
        }
        let at = self.frame as *const u64;
        // SAFETY: two aligned words inside the stack, which is mapped by the promise to `new`.
        // Volatile: they are whatever the program has made of them.
        let (next, ret) = unsafe { (at.read_volatile(), at.add(1).read_volatile()) };
        self.left.start = end;
        self.frame = next;
        (ret != 0).then_some(ret)
    }
}

/// Code addresses: the innermost ones, and the outermost if there are more than fit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Backtrace {
    addresses: [u64; FRAMES],
    len: usize,
    left_out: u32,
    flags: u32,
}

impl Backtrace {
    /// Of a failure that nothing is known of.
    pub const NONE: Backtrace = Backtrace {
        addresses: [0; FRAMES],
        len: 0,
        left_out: 0,
        flags: 0,
    };

    /// Walks up from the frame at `frame`. `fault`: the instruction that was refused, and whether
    /// it was a page fault.
    ///
    /// # Safety
    /// All of `stack` is mapped and readable.
    pub unsafe fn walk(fault: Option<(u64, bool)>, frame: u64, stack: Range<u64>) -> Backtrace {
        let mut found = Backtrace::NONE;
        let all = || {
            let first = fault.map(|(rip, _)| rip);
            // SAFETY: by the caller's promise.
            first
                .into_iter()
                .chain(unsafe { Walk::new(frame, stack.clone()) })
        };
        let count = all().count();
        let (inner, outer) = match count > FRAMES {
            true => (FRAMES - OUTER, count - OUTER),
            false => (FRAMES, 0),
        };
        let kept = all().enumerate().filter(|(i, _)| *i < inner || *i >= outer);
        for (to, (_, address)) in found.addresses.iter_mut().zip(kept) {
            *to = address;
            found.len += 1;
        }
        found.left_out = count.saturating_sub(FRAMES) as u32;
        found.flags = match fault {
            Some((_, true)) => BACKTRACE_FAULT | BACKTRACE_PAGE,
            Some((_, false)) => BACKTRACE_FAULT,
            None => 0,
        };
        found
    }

    /// Of the caller of whoever calls this, up to the end of its stack.
    ///
    /// # Safety
    /// All of the stack between here and `top` is mapped.
    #[inline(always)]
    pub unsafe fn here(top: u64) -> Backtrace {
        let (frame, rsp): (u64, u64);
        // SAFETY: reads two registers.
        unsafe {
            core::arch::asm!(
                "mov {f}, rbp",
                "mov {s}, rsp",
                f = out(reg) frame,
                s = out(reg) rsp,
                options(nomem, nostack, preserves_flags)
            );
            Backtrace::walk(None, frame, rsp..top.max(rsp))
        }
    }

    /// Gives it to the host, which waits for the panic that follows.
    pub fn send(&self, page: Page, platform: &dyn Platform, vcpu: u32) {
        if self.len == 0 {
            return;
        }
        let to = page.log_line(vcpu);
        for (i, address) in self.addresses[..self.len].iter().enumerate() {
            for (j, byte) in address.to_le_bytes().iter().enumerate() {
                // SAFETY: inside this vCPU's own log line, which has room for FRAMES addresses.
                // Volatile: the host reads it.
                unsafe { to.add(i * 8 + j).write_volatile(*byte) };
            }
        }
        let arg = self.len as u32 | self.left_out.min(0xffff) << 8 | self.flags;
        platform.door(PORT_BACKTRACE, arg);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stack of `n` frames of 4 words; frame `i` returns to 1000 + i.
    fn stack(n: usize) -> Vec<u64> {
        let mut words = vec![0; n * 4];
        let base = words.as_ptr() as u64;
        for i in 0..n {
            words[i * 4] = if i + 1 < n { base + (i as u64 + 1) * 32 } else { 0 };
            words[i * 4 + 1] = 1000 + i as u64;
        }
        words
    }

    fn walk(words: &[u64], fault: Option<(u64, bool)>) -> Backtrace {
        let base = words.as_ptr() as u64;
        // SAFETY: the whole vector is readable.
        unsafe { Backtrace::walk(fault, base, base..base + words.len() as u64 * 8) }
    }

    #[test]
    fn frames_come_from_the_inside_out() {
        let found = walk(&stack(3), Some((77, true)));
        assert_eq!(found.addresses[..found.len], [77, 1000, 1001, 1002]);
        assert_eq!(
            (found.left_out, found.flags),
            (0, BACKTRACE_FAULT | BACKTRACE_PAGE)
        );
    }

    #[test]
    fn of_a_deep_stack_both_ends_are_kept() {
        let found = walk(&stack(500), None);
        assert_eq!(
            (found.len, found.left_out, found.flags),
            (FRAMES, 500 - FRAMES as u32, 0)
        );
        let inner: Vec<u64> = (1000..1000 + (FRAMES - OUTER) as u64).collect();
        let outer: Vec<u64> = (1500 - OUTER as u64..1500).collect();
        assert_eq!(found.addresses[..], [inner, outer].concat()[..]);
        // As many as fit: nothing is left out.
        assert_eq!(walk(&stack(FRAMES), None).left_out, 0);
    }

    #[test]
    fn nothing_outside_the_stack_is_read() {
        let good = stack(6);
        let base = good.as_ptr() as u64;
        let bad = [
            0,
            8,
            base + 1,
            base - 16,
            base,
            base + 32,
            base + 6 * 32 - 8,
            base + 6 * 32,
            u64::MAX,
            u64::MAX - 7,
            1 << 63,
        ];
        for next in bad {
            let mut words = good.clone();
            // The copy lies elsewhere, so its links are set anew.
            let here = words.as_ptr() as u64;
            words[0] = here + 32;
            words[4] = match next {
                n if (base..base + 1000).contains(&n) => n - base + here,
                n => n,
            };
            let found = walk(&words, None);
            assert_eq!(found.addresses[..found.len], [1000, 1001], "{next:#x}");
        }
    }
}
