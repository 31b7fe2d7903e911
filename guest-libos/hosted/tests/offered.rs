//! Every function that the headers offer has conformance cases, its errors included:
//! `capi/conformance/offered.txt` says which errors those are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn guest() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files in a folder with this ending, without comments.
fn sources(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(guest().join(folder)).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|e| e == ending) {
            found.push(without_comments(&fs::read_to_string(path).expect("a source")));
        }
    }
    assert!(!found.is_empty(), "{folder}: nothing ends in {ending}");
    found
}

fn without_comments(text: &str) -> String {
    let mut left = String::new();
    for (i, part) in text.split("/*").enumerate() {
        left += match (i, part.split_once("*/")) {
            (0, _) => part,
            (_, Some((_, code))) => code,
            (_, None) => panic!("a comment has no end"),
        };
    }
    left
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether the text calls the function: its name as a whole word, before a parenthesis.
fn calls(text: &str, function: &str) -> bool {
    text.match_indices(function)
        .any(|(at, _)| !text[..at].ends_with(is_word) && text[at + function.len()..].starts_with('('))
}

/// Whether the text has this as a whole word.
fn names(text: &str, word: &str) -> bool {
    text.split(|c| !is_word(c)).any(|found| found == word)
}

/// What a header declares: the word before the first parenthesis of a line that begins at its margin, and
/// macros that take the place of functions.
fn declared(header: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in header.lines() {
        let macro_ = line.strip_prefix("#define ");
        let Some((head, _)) = macro_.unwrap_or(line).split_once('(') else {
            continue;
        };
        let name = head.rsplit(|c| !is_word(c)).next().unwrap_or("");
        let declaration = line.starts_with(|c: char| c.is_ascii_lowercase())
            && !line.starts_with("typedef")
            && head.len() > name.len();
        let function_like = macro_.is_some() && name.starts_with("pthread_");
        if declaration || function_like {
            found.insert(name.to_owned());
        }
    }
    found
}

/// The list: functions with their errors, and the case that has one where that is said.
fn offered() -> BTreeMap<String, Vec<(String, Option<String>)>> {
    let text = fs::read_to_string(guest().join("capi/conformance/offered.txt")).expect("the list");
    let mut found = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let Some(function) = words.next() else {
            continue;
        };
        let errors: Vec<(String, Option<String>)> = words
            .filter(|word| *word != "-")
            .map(|word| match word.split_once('=') {
                Some((error, case)) => (error.to_owned(), Some(case.to_owned())),
                None => (word.to_owned(), None),
            })
            .collect();
        assert!(
            !errors.is_empty() || line.trim_end().ends_with(" -"),
            "{function}: say its errors, or - if it has none"
        );
        let before = found.insert(function.to_owned(), errors);
        assert!(before.is_none(), "{function} is listed twice");
    }
    found
}

/// The helpers with which `pthread_cleanup_push` is made.
const INNER: [&str; 2] = ["flux_cleanup_push", "flux_cleanup_pop"];

#[test]
fn the_list_names_what_the_headers_offer() {
    let mut there: BTreeSet<String> = sources("include", "h").iter().flat_map(|h| declared(h)).collect();
    INNER
        .iter()
        .for_each(|inner| assert!(there.remove(*inner), "{inner}"));
    let listed: BTreeSet<String> = offered().into_keys().collect();
    let missing: Vec<_> = there.difference(&listed).collect();
    let stale: Vec<_> = listed.difference(&there).collect();
    assert!(missing.is_empty(), "offered, but not in offered.txt: {missing:?}");
    assert!(stale.is_empty(), "in offered.txt, but in no header: {stale:?}");
    assert!(listed.len() > 100);
}

#[test]
fn every_function_has_a_case() {
    let cases = sources("capi/conformance", "c");
    // What the harness is made of is called by every program.
    let harness = sources("capi/conformance", "h");
    let missing: Vec<String> = offered()
        .into_keys()
        .filter(|function| !cases.iter().chain(&harness).any(|text| calls(text, function)))
        // `errno` is how C says it.
        .filter(|function| function != "flux_errno" || !cases.iter().any(|text| names(text, "errno")))
        .collect();
    assert!(missing.is_empty(), "no case calls {missing:?}");
}

#[test]
fn every_error_has_a_case() {
    let cases = sources("capi/conformance", "c");
    let mut missing = Vec::new();
    for (function, errors) in offered() {
        for (error, case) in errors {
            let has = match &case {
                // The case is there, and its program calls the function and expects the error.
                Some(case) => cases
                    .iter()
                    .any(|text| names(text, case) && calls(text, &function) && names(text, &error)),
                // One statement calls the function and names the error.
                None => cases.iter().any(|text| {
                    text.split(';')
                        .any(|statement| calls(statement, &function) && names(statement, &error))
                }),
            };
            if !has {
                missing.push(format!("{function} {error}"));
            }
        }
    }
    assert!(missing.is_empty(), "no case expects {missing:#?}");
}

#[test]
fn what_takes_an_object_lists_what_it_says_of_none() {
    // The README's rule: null pointers are EINVAL. What a function only reads as text or memory is no object.
    let list = offered();
    let mut missing = Vec::new();
    for header in sources("include", "h") {
        for statement in header.split(';') {
            for (function, errors) in &list {
                let object = calls(statement, function)
                    && ["_t *", "_t *__restrict"]
                        .iter()
                        .any(|kind| statement.contains(kind));
                if object
                    && errors.iter().all(|(error, _)| error != "EINVAL")
                    && !NO_OBJECT.contains(&function.as_str())
                {
                    missing.push(function.clone());
                }
            }
        }
    }
    assert!(
        missing.is_empty(),
        "they take objects, and have no EINVAL: {missing:?}"
    );
}

/// They are given one more object, which is what is looked at.
const NO_OBJECT: [&str; 1] = ["flux_cond_wait_until"];
