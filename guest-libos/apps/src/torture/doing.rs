//! What a uThread is doing, for the report on one that does not go on.

use super::cell::Cell;
use super::world::Crowded;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Doing {
    Nothing,
    Computing,
    Mutex,
    Owned,
    Spin,
    Reading,
    Writing,
    Semaphore,
    Putting,
    Taking,
    Sending,
    Receiving,
    Offering,
    Accepting,
    Sleeping,
    Napping,
    Once,
    Joining,
    Grouping,
    CrowdedMutex,
    CrowdedReading,
    CrowdedWriting,
    CrowdedSemaphore,
    Arriving,
    Departing,
}

const ALL: [(Doing, &str); 25] = [
    (Doing::Nothing, "has not begun, or has ended"),
    (Doing::Computing, "waits for nothing"),
    (Doing::Mutex, "waits for its cell's mutex"),
    (Doing::Owned, "waits for its cell's recursive mutex"),
    (Doing::Spin, "waits for its cell's spin lock"),
    (Doing::Reading, "waits to read"),
    (Doing::Writing, "waits to write"),
    (Doing::Semaphore, "waits for a unit of its cell's semaphore"),
    (Doing::Putting, "waits on a condition variable for room"),
    (
        Doing::Taking,
        "waits on a condition variable for something to take",
    ),
    (Doing::Sending, "waits to send"),
    (Doing::Receiving, "waits to receive"),
    (Doing::Offering, "waits for somebody to accept"),
    (Doing::Accepting, "waits for somebody to offer"),
    (Doing::Sleeping, "sleeps"),
    (Doing::Napping, "sleeps until it is interrupted"),
    (Doing::Once, "waits for what is done once"),
    (Doing::Joining, "waits for the end of its child"),
    (Doing::Grouping, "waits for its group"),
    (Doing::CrowdedMutex, "waits for everybody's mutex"),
    (Doing::CrowdedReading, "waits to read what is everybody's"),
    (Doing::CrowdedWriting, "waits to write what is everybody's"),
    (
        Doing::CrowdedSemaphore,
        "waits for a unit of everybody's semaphore",
    ),
    (Doing::Arriving, "waits for the others of its cell to be through"),
    (Doing::Departing, "waits for its cell's round to be settled"),
];

impl Doing {
    pub fn of(number: u32) -> Doing {
        ALL.get(number as usize)
            .map_or(Doing::Nothing, |(doing, _)| *doing)
    }

    pub fn text(self) -> &'static str {
        ALL.get(self as usize).map_or("", |(_, text)| *text)
    }

    /// Who has what is waited for, where that is one.
    pub fn holder(self, cell: &Cell, crowded: &Crowded) -> Option<u64> {
        match self {
            Doing::Mutex => cell.mutex_pair.holder(),
            Doing::Owned => cell.owned_pair.holder(),
            Doing::Spin => cell.spin_pair.holder(),
            Doing::Reading | Doing::Writing => cell.rwlock_pair.holder(),
            Doing::CrowdedMutex => crowded.mutex_pair.holder(),
            Doing::CrowdedReading | Doing::CrowdedWriting => crowded.rwlock_pair.holder(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_texts_belong_together() {
        for (i, (doing, text)) in ALL.iter().enumerate() {
            assert_eq!((*doing as usize, Doing::of(i as u32)), (i, *doing));
            assert_eq!(doing.text(), *text);
        }
        assert_eq!(Doing::of(9999), Doing::Nothing);
    }
}
