//! The doors that carry text: log and panic.

use crate::log::{sanitize, RateLimit};
use crate::vm::Vm;

/// One vCPU's share of the log.
#[derive(Debug, Default)]
pub(crate) struct Doors {
    limit: RateLimit,
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

    /// The vCPU's line, copied once, its claimed length clamped, control characters replaced.
    pub fn line(&self, vm: &Vm, id: u32, claimed: u32) -> String {
        let (bytes, len) = vm.page.log_line(id, claimed);
        sanitize(bytes.get(..len).unwrap_or_default())
    }
}
