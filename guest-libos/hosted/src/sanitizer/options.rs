//! What the runtimes are told unless the environment says otherwise (`ASAN_OPTIONS`, `TSAN_OPTIONS`).

use std::arch::naked_asm;

// addr2line is there wherever gcc is, and names functions and lines if llvm-symbolizer is not there.

/// Leaks are not looked for: what a hosted VM consists of lives as long as the process. The signal stacks
/// are the guest's own, and the sanitizer has none.
#[cfg(flux_sanitizer = "address")]
static TEXT: [u8; 51] = *b"allow_addr2line=1:detect_leaks=0:use_sigaltstack=0\0";

#[cfg(flux_sanitizer = "thread")]
static TEXT: [u8; 18] = *b"allow_addr2line=1\0";

/// Naked, because it is called before the runtime is there.
#[unsafe(no_mangle)]
#[unsafe(naked)]
#[cfg(flux_sanitizer = "address")]
extern "C" fn __asan_default_options() {
    naked_asm!("lea rax, [rip + {text}]", "ret", text = sym TEXT)
}

#[unsafe(no_mangle)]
#[unsafe(naked)]
#[cfg(flux_sanitizer = "thread")]
extern "C" fn __tsan_default_options() {
    naked_asm!("lea rax, [rip + {text}]", "ret", text = sym TEXT)
}

/// The harness of Rust's tests is not instrumented, so what its threads hand to each other looks like a race.
#[cfg(flux_sanitizer = "thread")]
static NOT_THESE: [u8; 32] = *b"race:test::event::CompletedTest\0";

#[unsafe(no_mangle)]
#[unsafe(naked)]
#[cfg(flux_sanitizer = "thread")]
extern "C" fn __tsan_default_suppressions() {
    naked_asm!("lea rax, [rip + {text}]", "ret", text = sym NOT_THESE)
}
