//! The guest image of HyperFlux: FluxOS and its workloads. Which one runs, the VM's command line
//! says.

#![no_std]
#![no_main]

mod memory;
mod note;

use core::panic::PanicInfo;

use libos::boot::Boot;
use libos::platform::Guest;

static BOOT: Boot = Boot::new();
static GUEST: Guest = Guest;

arch::guest_entry!(_start, vcpu);

/// Every vCPU, first and again, on its boot stack with GS base set.
extern "C" fn vcpu(id: u32, page: *mut u8) -> ! {
    // SAFETY: Fluxion starts every vCPU with its number and the control page in these registers,
    // and the entry has done the rest.
    unsafe { libos::boot::enter(&BOOT, &GUEST, apps::main, id, page) }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    libos::log::panicked(format_args!("{}", info.message()), info.location())
}

/// The prebuilt core library refers to it when nothing is optimised; nothing here unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
