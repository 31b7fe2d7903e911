//! What a guest must not do, for guests that test that the host does not mind.

use core::arch::asm;
use core::hint::black_box;
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};

use flux_abi::{GuestVcpu, CONTROL_BYTES, MAX_VCPUS, VCPUS_OFFSET, VCPU_BYTES, VCPU_HOST_OFFSET};

use crate::sync::RawMutex;
use crate::uthread::kernel;
use crate::vcpu::{enter, leave, Local};

/// Never leaves FluxOS's code, and never looks whether it should. The vCPU must be forced.
pub fn stay_in_fluxos() -> ! {
    enter();
    loop {
        // SAFETY: GS base is set.
        unsafe { arch::gs::show_done(arch::clock::tsc()) };
    }
}

/// Stays in FluxOS's code for so many ticks, as if it had that much to do there.
pub fn linger(ticks: u64) {
    enter();
    let until = arch::clock::tsc().saturating_add(ticks);
    while arch::clock::tsc() < until {
        core::hint::spin_loop();
    }
    leave();
}

/// Goes through a door that leads nowhere: asks for the context of the vCPU that asks.
pub fn knock() {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    local.kernel().platform.door(flux_abi::PORT_STEAL, local.id);
    leave();
}

/// Goes deeper until the stack is used up; named, so that a backtrace can be looked at.
#[inline(never)]
pub fn dive(depth: u64) -> u64 {
    let room = [depth; 16];
    let deeper = match black_box(&room)[0] {
        u64::MAX => 0,
        depth => dive(depth + 1),
    };
    // After the call, so that it is one.
    deeper.wrapping_add(black_box(&room)[1])
}

/// Panics as Rust code does: by an index that is out of bounds.
#[inline(never)]
pub fn stumble(index: usize) -> u8 {
    black_box([7; 4])[black_box(index)]
}

/// As [`read`], after it has lost its frame pointer, by which its callers could be found.
#[inline(never)]
pub fn read_without_frame(address: u64, frame: u64) {
    // SAFETY: as in `read`; the frame pointer comes back, if this goes on.
    unsafe {
        asm!(
            "push rbp",
            "mov rbp, {f}",
            "mov {a}, [{a}]",
            "pop rbp",
            f = in(reg) frame,
            a = inout(reg) address => _,
        )
    }
}

/// Reads from an address that is nobody's.
#[inline(never)]
pub fn read(address: u64) {
    // SAFETY: reading is harmless where it is possible; where it is not, that is the purpose.
    unsafe { asm!("mov {a}, [{a}]", a = inout(reg) address => _, options(nostack, readonly)) }
}

/// Writes nonsense into the whole control page, again and again: the host's words too, and its own
/// `critical` words unless they are to be spared. The vCPUs' private words, without which FluxOS
/// itself would fall over, stay.
pub fn scribble(spare_critical: bool) -> ! {
    let page = kernel().page.address() as *const AtomicU32;
    let mut nonsense = 0x1234_5678u32;
    loop {
        for i in 0..CONTROL_BYTES / 4 {
            nonsense ^= nonsense << 13;
            nonsense ^= nonsense >> 17;
            nonsense ^= nonsense << 5;
            if !spared(i * 4, spare_critical) {
                // SAFETY: inside the page, which is shared memory.
                unsafe { (*page.add(i)).store(nonsense, Ordering::Relaxed) };
            }
        }
    }
}

/// Takes the next uThread from this vCPU's queue, if there is one, and forgets it: it is lost.
pub fn lose_next() {
    enter();
    // SAFETY: `critical` is set.
    let local = unsafe { Local::here() };
    let _ = local.queue.pop();
    local.queue.publish();
    leave();
}

/// Lets go a lock that the caller has, and forgets who waits for it.
pub fn unlock_without_handing_over(lock: &RawMutex) {
    enter();
    lock.forget_waiters();
    leave();
    let _ = lock.unlock();
}

fn spared(offset: usize, critical: bool) -> bool {
    let Some(offset) = offset
        .checked_sub(VCPUS_OFFSET)
        .filter(|at| *at < MAX_VCPUS * VCPU_BYTES)
    else {
        return false;
    };
    let word = offset % VCPU_BYTES;
    let private = (VCPU_HOST_OFFSET - 8..VCPU_HOST_OFFSET).contains(&word);
    private || critical && word == offset_of!(GuestVcpu, critical)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_spared() {
        let spared_words = |critical| (0..CONTROL_BYTES / 4).filter(|i| spared(i * 4, critical)).count();
        assert_eq!(spared_words(false), 2 * MAX_VCPUS);
        assert_eq!(spared_words(true), 3 * MAX_VCPUS);
    }
}
