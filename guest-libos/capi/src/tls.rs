//! Thread-local variables (`__thread`) of C programs that are KVM guests.
//!
//! FS base belongs to uThreads there. The image says what a fresh copy looks like; each uThread
//! gets one at the top of its own stack, below it nothing but the uThread's life. In an ordinary
//! process FS base is the C library's, and there is none of this.

use core::cell::UnsafeCell;
use core::ptr;
use core::sync::atomic::{AtomicBool, Ordering};

/// What the linker made of the program's thread-local variables.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub start: *const u8,
    pub file_bytes: usize,
    pub bytes: usize,
    pub align: usize,
}

struct Announced(UnsafeCell<Image>);

// SAFETY: written once, by the first uThread before there is another one, and read afterwards.
unsafe impl Sync for Announced {}

static IMAGE: Announced = Announced(UnsafeCell::new(Image {
    start: ptr::null(),
    file_bytes: 0,
    bytes: 0,
    align: 16,
}));
static THERE: AtomicBool = AtomicBool::new(false);

/// Once, by the first uThread, before any C code runs.
pub fn announce(image: Image) {
    // SAFETY: by the first uThread, as said.
    unsafe { *IMAGE.0.get() = image };
    // Release pairs with the acquire in `image`: the uThreads that read it were started by this
    // one, so it is there in any case.
    THERE.store(true, Ordering::Release);
}

fn image() -> Option<Image> {
    // SAFETY: never written again once THERE is set.
    THERE.load(Ordering::Acquire).then(|| unsafe { *IMAGE.0.get() })
}

/// Bytes behind the thread pointer: its own address, where compiled code looks for it, and the
/// place of the stack protector's value, for programs compiled with one.
const CONTROL_BYTES: usize = 64;

/// How much of a uThread's stack its copy takes.
pub fn bytes() -> usize {
    match image() {
        Some(image) => image.bytes.next_multiple_of(image.align.max(16)) + CONTROL_BYTES + image.align,
        None => 0,
    }
}

/// Makes the calling uThread's copy in `bytes()` bytes of its stack that end at `top`.
///
/// # Safety
/// They are the caller's for as long as it lives.
pub unsafe fn adopt(top: u64) {
    let Some(image) = image() else { return };
    let align = image.align.max(16);
    // The ABI's variant II: the variables lie right below the thread pointer, which is as aligned
    // as the most demanding of them.
    let pointer = (top as usize - CONTROL_BYTES) & !(align - 1);
    let variables = (pointer - image.bytes.next_multiple_of(align)) as *mut u8;
    // SAFETY: both lie in the range that the caller gave; the image is the linker's.
    unsafe {
        ptr::copy_nonoverlapping(image.start, variables, image.file_bytes);
        ptr::write_bytes(variables.add(image.file_bytes), 0, image.bytes - image.file_bytes);
        ptr::write_bytes(pointer as *mut u8, 0, CONTROL_BYTES);
        (pointer as *mut usize).write(pointer);
        libos::uthread::set_fs(pointer as u64);
    }
}
