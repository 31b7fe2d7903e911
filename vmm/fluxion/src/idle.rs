//! A vCPU without work while no arbiter manages its VM: it blocks in the host, using no CPU, until the
//! doorbell rings or its guest's next timer is due.

use std::sync::atomic::Ordering::SeqCst;

use flux_abi as abi;
use handoff::doorbell::{self, Work};
use handoff::linux;

use crate::vm::Vm;

/// More runnable uThreads than any guest has: a guest that claims them is not believed.
const RUNNABLE_MAX: u32 = 1 << 24;
/// Sleeps are cut to this, and then the look is repeated: 1 s.
const SLEEP_MAX_NS: u64 = 1_000_000_000;

/// Waits until there is work, the vCPU's standing changes, or the VM ends.
pub(crate) fn wait_for_work(vm: &Vm, me: &abi::Vcpu) {
    if let Some(line) = vm.line() {
        doorbell::wait(line, &Idle { vm, line, me });
    }
}

/// What an idle vCPU waits for.
struct Idle<'a> {
    vm: &'a Vm,
    line: &'a abi::Vm,
    me: &'a abi::Vcpu,
}

impl Work for Idle<'_> {
    fn until(&self) -> Option<u64> {
        let unmanaged = abi::vcpu_state(self.me.word.load(SeqCst)) == abi::VCPU_UNMANAGED;
        if unmanaged && !self.vm.ending() {
            until_work(self.vm, self.line)
        } else {
            Some(0)
        }
    }

    fn take_mark(&self) {
        self.vm.page.summary().rung.store(0, SeqCst);
    }
}

/// How many nanoseconds until there may be work; 0: there is; `None`: only the doorbell will tell.
fn until_work(vm: &Vm, line: &abi::Vm) -> Option<u64> {
    let summary = vm.page.summary();
    let runnable = summary.runnable.load(SeqCst);
    if runnable != 0 && runnable <= RUNNABLE_MAX {
        return Some(0);
    }
    // The releaser's own count of what it published, against what the guest says that it took.
    if line.ring_tail.load(SeqCst) != summary.ring_head.load(SeqCst) {
        return Some(0);
    }
    if summary.flags.load(SeqCst) & abi::SUMMARY_TIMER == 0 {
        return None;
    }
    let header = vm.table.header();
    let (shift, khz) = (header.stamp_shift.load(SeqCst), header.tsc_khz.load(SeqCst));
    Some(until_stamp(
        summary.next_timer.load(SeqCst),
        linux::tsc(),
        shift,
        khz,
    ))
}

/// Nanoseconds from `tsc` to a stamp, 0 if it is over.
fn until_stamp(stamp: u32, tsc: u64, shift: u32, khz: u32) -> u64 {
    let now = abi::stamp(tsc, shift);
    if !abi::stamp_after(stamp, now) {
        return 0;
    }
    // At most 2^31 stamps of at most 2^63 ticks each: only a nonsensical header overflows, and is capped.
    let ticks = u128::from(stamp.wrapping_sub(now)) << (shift & 63);
    let ns = ticks.saturating_mul(1_000_000) / u128::from(khz.max(1));
    u64::try_from(ns).unwrap_or(SLEEP_MAX_NS).clamp(1, SLEEP_MAX_NS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_turned_into_sleeps() {
        let (shift, khz) = (8, 2_560_000); // a stamp is 100 ns
        let tsc = 1000 << shift;
        assert_eq!(until_stamp(999, tsc, shift, khz), 0);
        assert_eq!(until_stamp(1000, tsc, shift, khz), 0);
        assert_eq!(until_stamp(1001, tsc, shift, khz), 100);
        assert_eq!(until_stamp(2000, tsc, shift, khz), 100_000);
        assert_eq!(
            until_stamp(5, u64::from(u32::MAX) << shift, shift, khz),
            600,
            "across the wrap"
        );
        assert_eq!(until_stamp(1000 + (1 << 30), tsc, shift, khz), SLEEP_MAX_NS);
        assert_eq!(until_stamp(1 << 30, 0, 63, 0), SLEEP_MAX_NS, "nonsense is capped");
    }
}
