//! The doorbell: how a vCPU without work sleeps in the host while no arbiter manages its VM, and is woken.
//!
//! Both sides are here, over an abstract [`Bell`]: the hand-off table and the VM's control page in the product,
//! loom's atomics in the models (`tests/loom_doorbell.rs`). The guest's half is `sched::sleepers`.
//!
//! A ring bumps a count that is the sleepers' futex, and wakes one of them. Who makes work in the guest leaves a
//! mark when it rings, and as long as the mark is there nobody else does. So whoever was rung for takes the mark
//! away and then looks for work: the guest's vCPU when it is back, or the host, below, for one that it lets sleep
//! on. The host only ever takes the mark away. A guest that leaves one behind hurts itself.

#[cfg(feature = "loom")]
use loom::sync::atomic::{fence, Ordering::SeqCst};
#[cfg(not(feature = "loom"))]
use std::sync::atomic::{fence, Ordering::SeqCst};

/// What is rung. All of it is sequentially consistent.
pub trait Bell {
    /// How often it has been rung.
    fn rings(&self) -> u32;
    fn bump(&self);
    /// How many vCPUs sleep, or are about to.
    fn waiters(&self) -> u32;
    fn come(&self);
    fn go(&self);
    /// Sleeps while `rings` is what it was, or for so many nanoseconds; it may return early.
    fn sleep(&self, rings: u32, ns: Option<u64>);
    fn wake_one(&self);
}

/// What is slept for.
pub trait Work {
    /// How many nanoseconds until there may be work; 0: there is, or the sleep is over for another reason; `None`:
    /// only the doorbell will tell.
    fn until(&self) -> Option<u64>;
    /// Takes away the mark that somebody has rung.
    fn take_mark(&self);
}

/// Work has arrived: wakes one that sleeps. The bump comes before the look at `waiters`; who sleeps has come before
/// it looks at the count, so one of the two sees the other.
pub fn ring(bell: &impl Bell) {
    bell.bump();
    if bell.waiters() != 0 {
        bell.wake_one();
    }
}

/// Waits until there is work.
///
/// The count is read before the mark is taken away. A ring by whoever set the mark before that comes before the
/// last look, and what others have made ready meanwhile, trusting in it, is seen there. A ring by whoever sets
/// the mark after it is not in the count, and ends the sleep.
pub fn wait(bell: &impl Bell, work: &impl Work) {
    loop {
        bell.come();
        let rings = bell.rings();
        let mut sleep = work.until();
        // Who goes back to the guest leaves the mark to it: until it looks there, it is not there to be rung for.
        if sleep != Some(0) {
            work.take_mark();
            // Pairs with the fence of `Sleepers::wants_ring`.
            fence(SeqCst);
            sleep = work.until();
        }
        if sleep != Some(0) {
            bell.sleep(rings, sleep);
        }
        bell.go();
        if sleep == Some(0) {
            return;
        }
    }
}
