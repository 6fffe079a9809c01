//! What two sides say of the same meters, and what is excused in which they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A series: its name, or measurement and field, and its labels.
pub(crate) type Key = (String, BTreeMap<String, String>);
/// The one value of each series.
pub(crate) type Values = BTreeMap<Key, f64>;

/// Tags that every series has.
const COMMON: [&str; 5] = ["stream_name", "application_name", "application_type", "application_guid", "instance_index"];

/// Reasons for differences: each with how those begin that it excuses.
pub(crate) type Excuses<'a> = &'a [(&'a str, &'a [&'a str])];

/// Whether the two say the same but for what is excused, and every excuse is needed. `tolerance` is how much a value may be off
/// by rounding, beside a billionth of it.
pub(crate) fn compare(got: &Values, expected: &Values, tolerance: f64, excuses: Excuses<'_>) -> Result<(), String> {
    let mut unused: BTreeSet<&str> = excuses.iter().flat_map(|(_, beginnings)| beginnings.iter().copied()).collect();
    let mut problems = Vec::new();
    for difference in differences(got, expected, tolerance) {
        let excused = excuses.iter().flat_map(|(_, all)| *all).find(|beginning| difference.starts_with(*beginning));
        match excused {
            Some(beginning) => _ = unused.remove(beginning),
            None => problems.push(difference),
        }
    }
    problems.extend(unused.into_iter().map(|beginning| format!("no longer differs: {beginning}")));
    if problems.is_empty() { Ok(()) } else { Err(format!("{} problems:\n{}", problems.len(), problems.join("\n"))) }
}

fn differences(got: &Values, expected: &Values, tolerance: f64) -> Vec<String> {
    let mut differences = Vec::new();
    let keys: BTreeSet<&Key> = got.keys().chain(expected.keys()).collect();
    for key in keys {
        match (got.get(key), expected.get(key)) {
            (Some(got), Some(expected)) if close(*got, *expected, tolerance) => {}
            (Some(got), Some(expected)) => differences.push(format!("{} is {got}, not {expected}", shown(key))),
            (Some(got), None) => differences.push(format!("more: {} is {got}", shown(key))),
            (None, Some(expected)) => differences.push(format!("less: {} is {expected}", shown(key))),
            (None, None) => {}
        }
    }
    differences
}

fn close(got: f64, expected: f64, tolerance: f64) -> bool {
    (got - expected).abs() <= tolerance.max(1e-9 * expected.abs()) || (got.is_nan() && expected.is_nan())
}

fn shown((name, labels): &Key) -> String {
    let own = labels.iter().filter(|(name, _)| !COMMON.contains(&name.as_str()));
    own.fold(name.clone(), |mut text, (name, value)| {
        let _ = write!(text, " {name}={value}");
        text
    })
}
