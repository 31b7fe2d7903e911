//! Faults that are planted on purpose: a torture that does not find them proves nothing.

/// `break=` of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A register that a function keeps is another one after the uThread was off its core.
    Register,
    /// A vector register comes back with a bit changed.
    Vector,
    /// A word of a stack is written to by somebody else.
    Stack,
    /// Whoever puts something down does not tell those who wait for it.
    Wake,
    /// A lock is let go and not handed to those who wait for it.
    Unlock,
    /// A lock is not let go at all.
    Lock,
    /// A runnable uThread is taken from its queue and forgotten.
    Queue,
    /// What was received is thrown away.
    Message,
    /// A lock is taken without being asked for.
    Barge,
    /// A sleep ends before its time.
    Early,
}

pub const NAMES: &[&str] = &[
    "register", "vector", "stack", "wake", "unlock", "lock", "queue", "message", "barge", "early",
];

const ALL: [Fault; 10] = [
    Fault::Register,
    Fault::Vector,
    Fault::Stack,
    Fault::Wake,
    Fault::Unlock,
    Fault::Lock,
    Fault::Queue,
    Fault::Message,
    Fault::Barge,
    Fault::Early,
];

impl Fault {
    pub fn named(name: &str) -> Option<Fault> {
        let at = NAMES.iter().position(|known| *known == name)?;
        ALL.get(at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_its_name() {
        assert_eq!(NAMES.len(), ALL.len());
        for (name, fault) in NAMES.iter().zip(ALL) {
            assert_eq!(Fault::named(name), Some(fault));
            assert_eq!(format!("{fault:?}").to_lowercase(), *name);
        }
        assert_eq!(Fault::named("nothing"), None);
    }
}
