//! Guests that are hardly ever in application code: where a kick must not stop them.

use libos::sync::{Mutex, Semaphore};
use libos::uthread::{count_done, yield_now};

static LOCK: Mutex<u64> = Mutex::new(0);
static UNITS: Semaphore = Semaphore::new(1);

/// Takes and gives, which is FluxOS's code but for a few instructions.
pub fn call() {
    loop {
        LOCK.with(|count| *count += 1);
        UNITS.acquire();
        // There is room for the unit that was just taken.
        let _ = UNITS.release();
        count_done();
    }
}

/// Gives way to others that do the same: the scheduler's code and the switch.
pub fn switch() {
    loop {
        yield_now();
        count_done();
    }
}

/// Goes through a door that leads nowhere: the host's code.
pub fn knock() {
    loop {
        libos::rogue::knock();
        count_done();
    }
}
