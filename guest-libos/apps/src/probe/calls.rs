//! Guests that are hardly ever in application code: where a kick must not stop them.

use libos::uthread::{count_done, yield_now};

/// Is in FluxOS's code for `hold` ticks at a time, and between two times in its own for a few instructions.
pub fn call(hold: u64) {
    loop {
        libos::rogue::linger(hold);
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
