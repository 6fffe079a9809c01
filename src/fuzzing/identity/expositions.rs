//! Expositions in the form in which sluicegate writes them.

use super::number;
use proptest::prelude::*;

/// What stands between the quotes of a label's value.
fn label_value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "é", " ", "\\\\", "\\\"", "\\n", "a=b,c}"]).prop_map(str::to_owned)
}

/// What stands behind the beginning of a family's name, escaped: plain, or what makes the name stand in quotes.
fn tail() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", "_x:y", ".b", " é", "{}=,#", "\\\\", "\\\"", "\\n_created"])
}

/// The name of a label, as written.
fn label_name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["a", "_", "\"a.b\"", "\"a:b\"", "\"1\"", "\"\\\"=,}\"", "\"\\\\\\n \""])
}

#[derive(Clone, Debug)]
struct Point {
    numbers: Vec<String>,
    label: String,
    timestamp: Option<i64>,
    start: Option<u32>,
    exemplar: Option<String>,
}

fn point() -> impl Strategy<Value = Point> {
    let parts = (
        prop::collection::vec(number(), 8),
        label_value(),
        prop::option::of(-9_000_000_000_000_i64..9_000_000_000_000),
        prop::option::of(1_u32..),
        prop::option::of(label_value()),
    );
    parts.prop_map(|(numbers, label, timestamp, start, exemplar)| Point { numbers, label, timestamp, start, exemplar })
}

/// Bounds and quantiles in spellings that a number would lose.
fn edges(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(texts, 0..texts.len())
}

const TYPES: [&str; 8] = ["unknown", "gauge", "counter", "histogram", "gaugehistogram", "summary", "info", "stateset"];

#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) metric_type: &'static str,
    tail: &'static str,
    label: &'static str,
    help: &'static str,
    unit: bool,
    bounds: Vec<&'static str>,
    quantiles: Vec<&'static str>,
    points: Vec<Point>,
}

pub(super) fn families() -> impl Strategy<Value = Vec<Family>> {
    let parts = (
        (prop::sample::select(&TYPES), tail(), label_name()),
        prop::sample::select(vec!["", "h", "a \\\\ b\\nc é"]),
        any::<bool>(),
        edges(&["-1", "0.10", "0.25", "1", "1.50", "1e1"]),
        edges(&["0", "0.50", "0.9", "0.990", "1.0"]),
        prop::collection::vec(point(), 1..4),
    );
    let family = parts.prop_map(|((metric_type, tail, label), help, unit, bounds, quantiles, points)| Family {
        metric_type,
        tail,
        label,
        help,
        unit,
        bounds,
        quantiles,
        points,
    });
    prop::collection::vec(family, 0..5)
}

/// What stands behind the family's name, a label of its own, whether it may have an exemplar.
type Line = (&'static str, Option<(&'static str, &'static str)>, bool);

/// The lines of a point.
fn lines(family: &Family, openmetrics: bool) -> Vec<Line> {
    let buckets = || family.bounds.iter().chain([&"+Inf"]).map(|bound| ("_bucket", Some(("le", *bound)), true));
    match family.metric_type {
        "counter" => vec![(if openmetrics { "_total" } else { "" }, None, true)],
        "histogram" => buckets().chain([("_count", None, false), ("_sum", None, false)]).collect(),
        "gaugehistogram" => buckets().chain([("_gcount", None, false), ("_gsum", None, false)]).collect(),
        "summary" => {
            let quantiles = family.quantiles.iter().map(|quantile| ("", Some(("quantile", *quantile)), false));
            quantiles.chain([("_count", None, false), ("_sum", None, false)]).collect()
        }
        "info" => vec![("_info", None, false)],
        _ => vec![("", None, false)],
    }
}

pub(super) fn exposition(families: &[Family], openmetrics: bool) -> String {
    let mut text = String::new();
    for (number, family) in families.iter().enumerate() {
        let unit = openmetrics && family.unit;
        let stem = format!("f{number}{}{}", family.tail, if unit { "_seconds" } else { "" });
        let plain = family.tail.chars().all(|c| c.is_alphanumeric() && c.is_ascii() || ['_', ':'].contains(&c));
        let name = if plain { stem.clone() } else { format!("\"{stem}\"") };
        if !family.help.is_empty() {
            text += &format!("# HELP {name} {}\n", family.help);
        }
        let untyped = !openmetrics && family.metric_type == "unknown";
        text += &format!("# TYPE {name} {}\n", if untyped { "untyped" } else { family.metric_type });
        if unit {
            text += &format!("# UNIT {name} seconds\n");
        }
        for (at, point) in family.points.iter().enumerate() {
            let series = |suffix: &str, own: Option<(&str, &str)>| {
                let own = own.map_or(String::new(), |(name, value)| format!(",{name}=\"{value}\""));
                let labels = format!("{}=\"{at}{}\"{own}", family.label, point.label);
                if plain { format!("{stem}{suffix}{{{labels}}}") } else { format!("{{\"{stem}{suffix}\",{labels}}}") }
            };
            let timestamp = match point.timestamp {
                None => String::new(),
                Some(milliseconds) if openmetrics => format!(" {}", seconds(milliseconds)),
                Some(milliseconds) => format!(" {milliseconds}"),
            };
            for ((suffix, own, may), number) in lines(family, openmetrics).into_iter().zip(&point.numbers) {
                text += &format!("{} {number}{timestamp}", series(suffix, own));
                if let (true, Some(exemplar)) = (may && openmetrics, &point.exemplar) {
                    text += &format!(" # {{{}=\"{exemplar}\"}} {number}{timestamp}", family.label);
                }
                text.push('\n');
            }
            let can_start = openmetrics && ["counter", "histogram", "summary"].contains(&family.metric_type);
            if let (true, Some(start)) = (can_start, point.start) {
                text += &format!("{} {}{timestamp}\n", series("_created", None), seconds(i64::from(start)));
            }
        }
    }
    if openmetrics { text + "# EOF\n" } else { text }
}

fn seconds(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let (whole, rest) = (milliseconds.unsigned_abs() / 1000, milliseconds.unsigned_abs() % 1000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}") };
    format!("{sign}{whole}{}", fraction.trim_end_matches('0'))
}
