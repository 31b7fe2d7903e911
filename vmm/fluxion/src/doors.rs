//! The doors that carry text: log and panic, and where the latter came from.

use flux_abi as abi;

use crate::backtrace::Backtrace;
use crate::log::{sanitize, RateLimit};
use crate::vm::Vm;

/// One vCPU's share of the log.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    limit: RateLimit,
    /// What the backtrace door has brought last; the panic that it belongs to comes next.
    backtrace: Backtrace,
}

impl Doors {
    /// The log door: the vCPU's line, as far as the rate allows. `now` is TSC.
    pub fn log(&self, vm: &Vm, id: u32, claimed: u32, now: u64) {
        let second = u64::from(
            vm.table
                .header()
                .tsc_khz
                .load(std::sync::atomic::Ordering::Relaxed),
        ) * 1000;
        let Some(dropped) = self.limit.allow(now, second.max(1)) else {
            return;
        };
        if dropped > 0 {
            vm.log.warn(format_args!(
                "[vCPU {id}] {dropped} log lines dropped: too many at once"
            ));
        }
        vm.log
            .info(format_args!("[vCPU {id}] {}", self.line(vm, id, claimed)));
    }

    /// The backtrace door. Nothing is shown yet: a guest that goes on was not at its end.
    pub fn backtrace(&mut self, vm: &Vm, id: u32, arg: u32) {
        let (bytes, _) = vm.page.log_line(id, abi::LOG_BYTES as u32);
        self.backtrace = Backtrace::of(arg, &bytes);
    }

    /// The panic door: logs where it came from, and returns what is the matter. `address`: what the processor
    /// says of the last page fault, asked for only if it was one.
    pub fn panic(&mut self, vm: &Vm, id: u32, claimed: u32, address: impl FnOnce() -> Option<u64>) -> String {
        let mut text = self.line(vm, id, claimed);
        if text.is_empty() {
            text = "it failed, and once more when it was to say how".to_owned();
        }
        let backtrace = std::mem::take(&mut self.backtrace);
        if let Some(address) = backtrace.page.then(address).flatten() {
            text.push_str(&format!(", address {address:#x}"));
        }
        let (lines, sentence) = backtrace.describe(&vm.symbols);
        if !lines.is_empty() {
            vm.log.error(format_args!("[vCPU {id}] backtrace:"));
        }
        for line in lines {
            vm.log.error(format_args!("[vCPU {id}] {line}"));
        }
        text + &sentence
    }

    /// The vCPU's line, copied once, its claimed length clamped, control characters replaced.
    pub fn line(&self, vm: &Vm, id: u32, claimed: u32) -> String {
        let (bytes, len) = vm.page.log_line(id, claimed);
        sanitize(bytes.get(..len).unwrap_or_default())
    }
}
