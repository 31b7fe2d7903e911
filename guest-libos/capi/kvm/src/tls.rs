//! What the linker script says of the program: its thread-local variables and its constructors.

use capi::tls::{self, Image};

unsafe extern "C" {
    // Addresses; there is nothing to read behind the last two, whose "address" is a number.
    static __flux_tls_start: u8;
    static __flux_tls_file_bytes: u8;
    static __flux_tls_bytes: u8;
    static __flux_tls_align: u8;
    static __flux_init_start: [extern "C" fn(); 0];
    static __flux_init_end: [extern "C" fn(); 0];
}

/// Tells the C faces what each uThread gets a copy of.
pub fn announce() {
    tls::announce(Image {
        start: &raw const __flux_tls_start,
        file_bytes: (&raw const __flux_tls_file_bytes) as usize,
        bytes: (&raw const __flux_tls_bytes) as usize,
        align: (&raw const __flux_tls_align) as usize,
    });
}

/// Runs the program's constructors, in the order of the linker script.
pub fn constructors() {
    let mut at = (&raw const __flux_init_start).cast::<extern "C" fn()>();
    let end = (&raw const __flux_init_end).cast::<extern "C" fn()>();
    while at < end {
        // SAFETY: the linker laid function pointers between the two symbols.
        unsafe {
            (*at)();
            at = at.add(1);
        }
    }
}
