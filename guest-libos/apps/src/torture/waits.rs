//! Giving way, sleeping, and being woken from it.

use core::sync::atomic::Ordering;

use libos::sync::{clear_interrupt, current, interrupt, Lapse, Tid, Until};
use libos::time::{deadline_in, sleep_for, sleep_until};
use libos::uthread::{kernel, yield_now};

use super::doing::Doing;
use super::faults::Fault;
use super::member::Me;
use super::registers::keep;

unsafe extern "C" fn gives_way(_: u64) {
    yield_now();
}

unsafe extern "C" fn naps(ns: u64) {
    sleep_for(ns);
}

/// As `gives_way`, by a switch that loses a register.
#[unsafe(naked)]
unsafe extern "C" fn loses_r14(_: u64) {
    core::arch::naked_asm!(
        "sub rsp, 8",
        "call {gives_way}",
        "mov r14, rsp",
        "add rsp, 8",
        "ret",
        gives_way = sym gives_way
    )
}

/// Lets others run.
pub fn give_way(me: &mut Me) {
    let call = if me.is_planted(Fault::Register) {
        loses_r14
    } else {
        gives_way
    };
    keep(me, call, 0);
}

/// Sleeps for as long as locks may be held.
pub fn nap_briefly(me: &mut Me) {
    let ns = me.random.below(150_000);
    keep(me, naps, ns);
}

/// Sleeps until a deadline; seldom for long, so that thousands of timers are armed.
pub fn sleep(me: &mut Me) {
    me.doing(Doing::Sleeping);
    let most = if me.random.once_in(8) {
        60_000_000
    } else {
        2_000_000
    };
    let deadline = deadline_in(me.random.below(most));
    let wakes_at = match me.is_planted(Fault::Early) {
        true => deadline.saturating_sub(kernel().clock.ticks(1_000_000)),
        false => deadline,
    };
    sleep_until(wakes_at);
    me.tally.sleeps += 1;
    let early = deadline.saturating_sub(libos::now());
    if early > 0 {
        me.wrong(format_args!("it slept {early} ticks less than it was to"));
    }
    me.doing(Doing::Computing);
}

/// Sleeps until it is interrupted, or too long.
pub fn nap(me: &mut Me) {
    let cell = me.cell;
    me.doing(Doing::Napping);
    let deadline = deadline_in(me.random.below(1_000_000));
    // One at a time is known to those who might interrupt it.
    let mine = current().raw();
    let known = cell
        .napper
        .compare_exchange(0, mine, Ordering::Relaxed, Ordering::Relaxed)
        .is_ok();
    let lapse = libos::sync::sleep(Until::at(deadline).or_interrupt());
    let early = libos::now() < deadline;
    if known {
        cell.napper.store(0, Ordering::Relaxed);
    }
    match lapse {
        Lapse::TimedOut if early => me.wrong(format_args!("a nap ran out of time too early")),
        Lapse::Interrupted if cell.pokes.load(Ordering::Relaxed) == 0 => {
            me.wrong(format_args!("a nap was interrupted by nobody"));
        }
        _ => {}
    }
    clear_interrupt();
    me.doing(Doing::Computing);
}

/// Interrupts whoever naps.
pub fn poke(me: &mut Me) {
    let cell = me.cell;
    let napper = cell.napper.load(Ordering::Relaxed);
    if napper == 0 {
        return super::registers::hold(me);
    }
    cell.pokes.fetch_add(1, Ordering::Relaxed);
    // It does not end before this round is over.
    if interrupt(Tid::from_raw(napper)).is_err() {
        me.wrong(format_args!("who takes a nap is gone"));
    }
}
