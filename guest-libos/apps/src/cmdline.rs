//! The command line: a workload, then `key=value` pairs.

use core::fmt;

/// What is wrong with a command line.
#[derive(Debug, PartialEq, Eq)]
pub enum BadArgs<'a> {
    Empty,
    Workload(&'a str),
    NotAPair(&'a str),
    Unknown {
        key: &'a str,
        known: &'static [&'static str],
    },
    Twice(&'a str),
    NotANumber {
        key: &'a str,
        value: &'a str,
    },
    Range {
        key: &'a str,
        value: u64,
        min: u64,
        max: u64,
    },
    Choice {
        key: &'a str,
        value: &'a str,
        known: &'static [&'static str],
    },
    Missing(&'static str),
    Stacks {
        wanted: u64,
    },
}

/// Writes words with commas between them.
struct List(&'static [&'static str]);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, word) in self.0.iter().enumerate() {
            write!(f, "{}{word}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl fmt::Display for BadArgs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadArgs::Empty => write!(
                f,
                "it names no workload; begin with serve, batch, probe, micro or torture"
            ),
            BadArgs::Workload(found) => write!(
                f,
                "no workload is called {found}; there are serve, batch, probe, micro and torture"
            ),
            BadArgs::NotAPair(found) => write!(f, "{found} is not of the form key=value"),
            BadArgs::Unknown { key, known } => write!(f, "no key is called {key}; there are {}", List(known)),
            BadArgs::Twice(key) => write!(f, "{key} is given twice"),
            BadArgs::NotANumber { key, value } => write!(f, "{key}={value}: give a whole number"),
            BadArgs::Range { key, value, min, max } => write!(f, "{key}={value}: give {min} to {max}"),
            BadArgs::Choice { key, value, known } => write!(f, "{key}={value}: give one of {}", List(known)),
            BadArgs::Missing(key) => write!(f, "{key}=... is missing"),
            BadArgs::Stacks { wanted } => {
                write!(
                    f,
                    "{wanted} uThreads do not fit; give the VM more memory, or ask for fewer"
                )
            }
        }
    }
}

/// The pairs of a command line.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    pairs: &'a str,
}

impl<'a> Args<'a> {
    /// Splits the workload off.
    pub fn split(cmdline: &'a str) -> Result<(&'a str, Args<'a>), BadArgs<'a>> {
        let cmdline = cmdline.trim();
        let (workload, pairs) = cmdline.split_once(char::is_whitespace).unwrap_or((cmdline, ""));
        if workload.is_empty() {
            return Err(BadArgs::Empty);
        }
        Ok((workload, Args { pairs }))
    }

    fn pairs(&self) -> impl Iterator<Item = Result<(&'a str, &'a str), BadArgs<'a>>> {
        self.pairs
            .split_whitespace()
            .map(|pair| pair.split_once('=').ok_or(BadArgs::NotAPair(pair)))
    }

    /// Refuses keys that are not in `known`, and those given twice.
    pub fn only(&self, known: &'static [&'static str]) -> Result<(), BadArgs<'a>> {
        for (i, pair) in self.pairs().enumerate() {
            let (key, _) = pair?;
            if !known.contains(&key) && !libos::options::KEYS.contains(&key) {
                return Err(BadArgs::Unknown { key, known });
            }
            if self
                .pairs()
                .take(i)
                .any(|earlier| earlier.is_ok_and(|(other, _)| other == key))
            {
                return Err(BadArgs::Twice(key));
            }
        }
        Ok(())
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.pairs()
            .find_map(|pair| pair.ok().filter(|(found, _)| *found == key))
            .map(|(_, value)| value)
    }

    /// The number given for `key`, or `default`; from `min` to `max`.
    pub fn number(&self, key: &'a str, default: u64, min: u64, max: u64) -> Result<u64, BadArgs<'a>> {
        let Some(value) = self.text(key) else {
            return Ok(default);
        };
        let number = value.parse().map_err(|_| BadArgs::NotANumber { key, value })?;
        if !(min..=max).contains(&number) {
            return Err(BadArgs::Range {
                key,
                value: number,
                min,
                max,
            });
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["fanout", "other"];

    fn args(cmdline: &str) -> Args<'_> {
        Args::split(cmdline).map(|(_, args)| args).expect("a workload")
    }

    #[test]
    fn workload_and_pairs() {
        let (workload, args) = Args::split("  serve fanout=4\tother=x ").expect("fine");
        assert_eq!(workload, "serve");
        assert_eq!(args.only(KNOWN), Ok(()));
        let with_ours = Args::split("serve on_park=hand").map(|(_, args)| args.only(KNOWN));
        assert_eq!(with_ours, Ok(Ok(())), "an option of FluxOS's own");
        assert_eq!(args.number("fanout", 1, 0, 64), Ok(4));
        assert_eq!(args.number("missing", 7, 0, 64), Ok(7));
        assert_eq!(args.text("other"), Some("x"));
        assert!(Args::split(" \t").is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let say = |bad: BadArgs<'_>| format!("{bad}");
        assert_eq!(
            say(BadArgs::Workload("srve")),
            "no workload is called srve; there are serve, batch, probe, micro and torture"
        );
        let unknown = args("serve fanuot=4").only(KNOWN).expect_err("unknown");
        assert_eq!(say(unknown), "no key is called fanuot; there are fanout, other");
        assert_eq!(args("serve fanout").only(KNOWN), Err(BadArgs::NotAPair("fanout")));
        assert_eq!(
            args("serve fanout=1 fanout=1").only(KNOWN),
            Err(BadArgs::Twice("fanout"))
        );
        let letters = args("serve fanout=four")
            .number("fanout", 1, 0, 64)
            .expect_err("letters");
        assert_eq!(say(letters), "fanout=four: give a whole number");
        let range = args("serve fanout=65")
            .number("fanout", 1, 0, 64)
            .expect_err("range");
        assert_eq!(say(range), "fanout=65: give 0 to 64");
    }
}
