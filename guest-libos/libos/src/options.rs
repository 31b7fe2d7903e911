//! Options of FluxOS itself, which any workload's command line may have among its own.

use crate::page::Page;

/// Their keys, for whoever refuses those that nobody knows.
pub const KEYS: &[&str] = &[ON_PARK];

const ON_PARK: &str = "on_park";

/// What becomes of a vCPU's queue when it is asked to leave its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnPark {
    /// It stays, open to thieves.
    Stay,
    /// It is handed to the least loaded vCPU that has a core.
    Hand,
}

/// An option with a value that it cannot have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadOption(pub(crate) &'static str);

/// What the command line says of this; the first one counts, and workloads refuse a second.
pub(crate) fn on_park(page: Page) -> Result<OnPark, BadOption> {
    parse(page.cmdline())
}

fn parse(cmdline: &'static str) -> Result<OnPark, BadOption> {
    let given = cmdline
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .find(|(key, _)| *key == ON_PARK);
    match given {
        None | Some((_, "stay")) => Ok(OnPark::Stay),
        Some((_, "hand")) => Ok(OnPark::Hand),
        Some((_, other)) => Err(BadOption(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_unless_it_is_to_be_handed_on() {
        assert_eq!(parse("batch uthreads=3"), Ok(OnPark::Stay));
        assert_eq!(parse("batch on_park=stay uthreads=3"), Ok(OnPark::Stay));
        assert_eq!(parse("batch uthreads=3 on_park=hand"), Ok(OnPark::Hand));
        assert_eq!(parse("batch on_park=keep"), Err(BadOption("keep")));
        assert_eq!(parse("batch on_park="), Err(BadOption("")));
    }
}
