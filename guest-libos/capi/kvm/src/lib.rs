//! `libfluxos.a`: what a C program is linked with to become the image of a KVM guest.
//!
//! There is no C library in it. The program's `main` is the first uThread; what compiled code takes
//! for granted (`memcpy` and the like, a few string functions) is here.

#![no_std]

#[path = "../../../fluxos/src/memory.rs"]
mod memory;
#[path = "../../../fluxos/src/note.rs"]
mod note;
mod strings;
mod tls;

use core::ffi::{c_char, c_int};
use core::panic::PanicInfo;

use libos::boot::Boot;
use libos::platform::Guest;

static BOOT: Boot = Boot::new();
static GUEST: Guest = Guest;

unsafe extern "C" {
    /// The program's.
    fn main(argc: c_int, argv: *mut *mut c_char) -> c_int;
}

arch::guest_entry!(_start, vcpu);

/// Every vCPU, first and again, on its boot stack with GS base set.
extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: Fluxion starts every vCPU with its number and the control page in these registers,
    // and the entry has done the rest.
    unsafe { libos::boot::enter(&BOOT, &GUEST, first, id, page) }
}

/// The first uThread.
fn first() {
    tls::announce();
    tls::constructors();
    capi::program::run(main)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    libos::log::panicked(format_args!("{}", info.message()), info.location())
}

/// The prebuilt core library refers to it when nothing is optimised; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
