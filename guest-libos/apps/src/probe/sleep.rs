//! Sleepers: mostly the VM has nothing to do, and somebody must wake it in time.

use libos::time::{deadline_in, sleep_until};
use libos::uthread::{count_done, kernel};

/// Sleeps for `ns`, `rounds` times. To wake too early is an integrity error.
pub fn sleep(ns: u64, rounds: u64) {
    for _ in 0..rounds {
        let deadline = deadline_in(ns);
        sleep_until(deadline);
        if libos::now() < deadline {
            kernel().count_integrity_error();
        }
        count_done();
    }
}
