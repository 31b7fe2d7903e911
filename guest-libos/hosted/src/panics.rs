//! A panic of the guest's side, which in an ordinary program is the standard library's to handle.

use std::panic::PanicHookInfo;

use crate::cpu::Cpu;

/// Says what happened in the guest and ends the VM, as a KVM guest's panic handler does. Returns
/// if it was not the guest that panicked, but this program's own side.
pub fn in_guest(panic: &PanicHookInfo<'_>) {
    if !Cpu::this().is_some_and(|cpu| cpu.in_guest()) {
        return;
    }
    let payload = panic.payload();
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    // The hook is on the guest's stack, and what it has called is the end.
    libos::log::panicked(
        format_args!("{}", text.unwrap_or("without a message")),
        panic.location(),
    )
}
