//! How a C program begins and ends.

use core::cell::UnsafeCell;
use core::ffi::{c_char, c_int};

use libos::uthread::kernel;

use crate::thread;

/// The program's `main`.
pub type Main = unsafe extern "C" fn(c_int, *mut *mut c_char) -> c_int;

const WORDS: usize = 64;
const BYTES: usize = 512;

struct Arguments {
    text: UnsafeCell<[u8; BYTES]>,
    words: UnsafeCell<[*mut c_char; WORDS + 1]>,
}

// SAFETY: written by the first uThread before the program runs; then they are the program's.
unsafe impl Sync for Arguments {}

static ARGUMENTS: Arguments = Arguments {
    text: UnsafeCell::new([0; BYTES]),
    words: UnsafeCell::new([core::ptr::null_mut(); WORDS + 1]),
};

/// Runs the program as the first uThread; its arguments are the words of the VM's command line,
/// the first of which is the program's name.
pub fn run(main: Main) {
    // SAFETY: this is the first uThread, and it comes here once.
    let (argc, argv) = unsafe { arguments(kernel().page.cmdline()) };
    let mut program = Program { main, argc, argv };
    // SAFETY: this is the first uThread, and the program is as `begin` wants it.
    unsafe { thread::first(begin, (&raw mut program).cast()) }
}

struct Program {
    main: Main,
    argc: c_int,
    argv: *mut *mut c_char,
}

/// # Safety
/// `program` is one.
unsafe extern "C" fn begin(program: *mut ()) -> *mut () {
    // SAFETY: by the caller's promise; main is called as C calls it.
    let code = unsafe {
        let program = &*program.cast::<Program>();
        (program.main)(program.argc, program.argv)
    };
    libos::boot::exit(code as u32)
}

/// # Safety
/// Nobody uses the words yet.
unsafe fn arguments(cmdline: &str) -> (c_int, *mut *mut c_char) {
    // SAFETY: by the caller's promise.
    let (text, words) = unsafe { (&mut *ARGUMENTS.text.get(), &mut *ARGUMENTS.words.get()) };
    let (mut at, mut count) = (0, 0);
    for word in cmdline.split_ascii_whitespace() {
        let end = at + word.len();
        if end >= BYTES || count == WORDS {
            break;
        }
        text[at..end].copy_from_slice(word.as_bytes());
        words[count] = (&raw mut text[at]).cast();
        // The 0 behind the word is there from the beginning.
        (at, count) = (end + 1, count + 1);
    }
    if count == 0 {
        // An empty name, so that argv[0] is one.
        words[0] = (&raw mut text[BYTES - 1]).cast();
        count = 1;
    }
    (count as c_int, words.as_mut_ptr())
}

/// Ends the VM at once; C's `exit`. There are no handlers to run.
#[unsafe(no_mangle)]
pub extern "C" fn flux_exit(code: c_int) -> ! {
    libos::boot::exit(code as u32)
}
