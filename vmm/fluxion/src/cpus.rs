//! Sets of host CPUs, for the affinity of vCPU threads while no arbiter places them.

use std::io;

use flux_abi as abi;

/// CPUs 0 to MAX_CORES - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuSet {
    bits: [u64; abi::MAX_CORES / 64],
}

impl CpuSet {
    /// Reads a list such as "0-1,3". `None` if it is not one, or empty.
    pub fn parse(text: &str) -> Option<CpuSet> {
        let mut set = CpuSet {
            bits: [0; abi::MAX_CORES / 64],
        };
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let (from, to): (usize, usize) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
            if from > to || to >= abi::MAX_CORES {
                return None;
            }
            for cpu in from..=to {
                set.bits[cpu / 64] |= 1 << (cpu % 64);
            }
        }
        Some(set)
    }

    /// The affinity that this thread has now.
    pub fn current() -> io::Result<CpuSet> {
        let mut set = CpuSet {
            bits: [0; abi::MAX_CORES / 64],
        };
        // SAFETY: an all-zero cpu_set_t is the empty set, the call fills it, and CPU_ISSET is given
        // numbers below its 1,024 only.
        unsafe {
            let mut raw: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of_val(&raw), &mut raw) != 0 {
                return Err(io::Error::last_os_error());
            }
            for cpu in (0..abi::MAX_CORES).filter(|cpu| libc::CPU_ISSET(*cpu, &raw)) {
                set.bits[cpu / 64] |= 1 << (cpu % 64);
            }
        }
        Ok(set)
    }

    pub fn contains(&self, cpu: usize) -> bool {
        self.bits
            .get(cpu / 64)
            .is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }

    /// Lets thread `tid` (0: this one) run on these CPUs.
    pub fn apply(&self, tid: u32) -> io::Result<()> {
        // SAFETY: as in `current`; the call only reads the set.
        let result = unsafe {
            let mut raw: libc::cpu_set_t = std::mem::zeroed();
            for cpu in (0..abi::MAX_CORES).filter(|cpu| self.contains(*cpu)) {
                libc::CPU_SET(cpu, &mut raw);
            }
            libc::sched_setaffinity(tid as libc::pid_t, size_of_val(&raw), &raw)
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read() {
        let set = CpuSet::parse("0-1,3,200").expect("good");
        let there: Vec<usize> = (0..300).filter(|c| set.contains(*c)).collect();
        assert_eq!(there, [0, 1, 3, 200]);
        for bad in [
            "",
            "a",
            "1-",
            "-1",
            "2-1",
            "256",
            "0,,1",
            "0-99999999999999999999",
        ] {
            assert_eq!(CpuSet::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn own_affinity_goes_there_and_back() {
        let set = CpuSet::current().expect("readable");
        set.apply(0).expect("what we have we may keep");
        assert_eq!(CpuSet::current().expect("readable"), set);
    }
}
