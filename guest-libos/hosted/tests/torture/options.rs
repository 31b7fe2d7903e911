//! What a run is like: by the environment, so that the same program serves `npm test`, a long run and the lab.

use std::env::var;
use std::str::FromStr;
use std::time::Duration;

use crate::common::On;

/// Without FLUX_STRESS_SECONDS: enough to see that it works.
const SECONDS: u64 = 4;

pub struct Options {
    pub time: Duration,
    pub seed: u64,
    pub vcpus: u32,
    pub uthreads: u32,
    /// Where to run; everywhere if it is not said.
    on: Option<On>,
}

fn number<T: FromStr>(name: &str, otherwise: T) -> T {
    match var(name) {
        Err(_) => otherwise,
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}={text:?}: give a whole number")),
    }
}

impl Options {
    pub fn read() -> Options {
        Options {
            time: Duration::from_secs(number("FLUX_STRESS_SECONDS", SECONDS)),
            // Another one each time, and said, so that a run can be had again.
            seed: number("FLUX_TORTURE_SEED", libos::now() % 1_000_000_007),
            vcpus: number("FLUX_TORTURE_VCPUS", 8),
            uthreads: number("FLUX_TORTURE_UTHREADS", 10_000),
            on: match var("FLUX_TORTURE_ON").as_deref() {
                Err(_) => None,
                Ok("kvm") => Some(On::Kvm),
                Ok("hosted") => Some(On::Hosted),
                Ok(other) => panic!("FLUX_TORTURE_ON={other:?}: give kvm or hosted"),
            },
        }
    }

    pub fn wants(&self, on: On) -> bool {
        self.on.is_none_or(|wanted| wanted == on)
    }
}
