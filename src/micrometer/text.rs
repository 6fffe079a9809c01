//! Names, tags and bounds as each of Micrometer's registries spells them.

use crate::micrometer::statistics::Edge;
use crate::model::Dialect;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Tags that together tell that a series is of Spring Cloud Data Flow, dots as `_`. One alone may be somebody else's: streams and
/// applications have many systems.
pub(super) const DATA_FLOW_TAGS: [&[&str]; 3] =
    [&["application_guid"], &["application_name", "stream_name"], &["task_execution_id", "task_name"]];

/// Beginnings of tag keys that are dotted where Micrometer writes dots: Data Flow's and its platforms', Spring's, Kafka's.
const DOTTED_KEYS: [&str; 14] = [
    "application_",
    "cf_",
    "client_",
    "instance_",
    "job_",
    "kafka_",
    "node_",
    "organization_",
    "processor_",
    "space_",
    "spring_",
    "stream_",
    "task_",
    "thread_",
];

/// A name with its dots as `_` and nothing beyond Prometheus's alphabet.
pub(super) fn prometheus_name(name: &str) -> String {
    beginning_with_letter(replaced(name, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':'), '_'))
}

/// A name as a measurement.
pub(super) fn influx_name(name: &str) -> String {
    name.chars().map(|c| if matches!(c, '.' | '=') { '_' } else { c }).collect()
}

/// A name as Wavefront's registry and its library leave it.
pub(super) fn wavefront_name(name: &str) -> String {
    let convention = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ',');
    replaced(name, convention, '_').replace('/', "-")
}

fn replaced(name: &str, legal: impl Fn(char) -> bool, by: char) -> String {
    name.chars().map(|c| if legal(c) { c } else { by }).collect()
}

fn beginning_with_letter(name: String) -> String {
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("m_{name}") }
}

/// The key of a tag in that dialect.
pub(super) fn key(key: &str, to: Dialect, all_dotted: bool) -> String {
    match to {
        Dialect::Prometheus => beginning_with_letter(replaced(key, |c| c.is_ascii_alphanumeric() || c == '_', '_')),
        Dialect::Influx => influx_name(key),
        Dialect::Wavefront => {
            let key = wavefront_name(key);
            if all_dotted || DOTTED_KEYS.iter().any(|start| key.starts_with(start)) {
                key.replace('_', ".")
            } else {
                key
            }
        }
    }
}

/// The value of a tag as the application gave it.
pub(super) fn plain_value(value: &str, from: Dialect) -> Cow<'_, str> {
    match from {
        // Of what its registry escapes, line protocol has no escape for the quote.
        Dialect::Influx if value.contains("\\\"") => Cow::from(value.replace("\\\"", "\"")),
        Dialect::Prometheus | Dialect::Influx => Cow::from(value),
        Dialect::Wavefront => json_unescaped(value),
    }
}

/// The value of a tag in that dialect, owned where it is not the same.
pub(super) fn value(value: &str, to: Dialect) -> Cow<'_, str> {
    match to {
        Dialect::Influx if value.contains(['"', '\n']) => Cow::from(value.replace('"', "\\\"").replace('\n', " ")),
        Dialect::Prometheus | Dialect::Influx => Cow::from(value),
        Dialect::Wavefront => {
            let value = value.strip_suffix('\\').map_or(Cow::from(value), |rest| Cow::from(format!("{rest}_")));
            json_escaped(value)
        }
    }
}

/// Text without what JSON escapes. What is no escape stays.
fn json_unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::from(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let behind = &rest[at + 1..];
        let (meant, length) = match behind.chars().next() {
            Some(c @ ('"' | '\\' | '/')) => (c, 1),
            Some('n') => ('\n', 1),
            Some('r') => ('\r', 1),
            Some('t') => ('\t', 1),
            Some('b') => ('\u{8}', 1),
            Some('f') => ('\u{c}', 1),
            Some('u') => {
                match behind.get(1..5).and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32) {
                    Some(c) => (c, 5),
                    None => ('\\', 0),
                }
            }
            _ => ('\\', 0),
        };
        plain.push(meant);
        rest = &behind[length..];
    }
    plain.push_str(rest);
    Cow::from(plain)
}

fn json_escaped(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.contains(|c: char| matches!(c, '"' | '\\') || c.is_ascii_control()) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            '\u{8}' => escaped.push_str("\\b"),
            '\u{c}' => escaped.push_str("\\f"),
            c if c.is_ascii_control() => drop(write!(escaped, "\\u{:04x}", u32::from(c))),
            c => escaped.push(c),
        }
    }
    Cow::from(escaped)
}

/// The label of an edge in that dialect.
pub(super) const fn edge_label(edge: Edge, dialect: Dialect) -> &'static str {
    match (edge, dialect) {
        (Edge::Bound, _) => "le",
        (Edge::Percentile, Dialect::Prometheus) => "quantile",
        (Edge::Percentile, _) => "phi",
    }
}

/// Whether that is the bound of all.
pub(super) fn is_infinite(bound: &str) -> bool {
    bound.parse().is_ok_and(|bound: f64| bound == f64::INFINITY)
}

/// The text of an edge in that dialect, its decimal point moved by some digits, and whether that says the same. What is no
/// number stays as it is.
pub(super) fn edge(text: &str, edge: Edge, digits: i32, to: Dialect) -> (Cow<'_, str>, bool) {
    let Some(number) = text.parse().ok().filter(|number: &f64| number.is_finite()) else {
        return (Cow::from(text), true);
    };
    let number = shifted(number, digits);
    let text = match (to, edge) {
        (Dialect::Prometheus, _) => java_double(number),
        (_, Edge::Bound) => decimal(number, 0),
        (_, Edge::Percentile) => decimal(number, 1),
    };
    let is_same = text.parse() == Ok(number);
    (Cow::from(text), is_same)
}

/// A number with its decimal point moved, exactly where dividing would round.
fn shifted(number: f64, digits: i32) -> f64 {
    if digits == 0 {
        return number;
    }
    let text = format!("{number:e}");
    let moved = text.split_once('e').and_then(|(mantissa, exponent)| {
        let exponent = exponent.parse::<i32>().ok()?.checked_add(digits)?;
        format!("{mantissa}e{exponent}").parse().ok()
    });
    moved.unwrap_or(number)
}

/// A number as Java prints a double.
fn java_double(number: f64) -> String {
    let size = number.abs();
    if size == 0.0 || (1e-3..1e7).contains(&size) {
        return format!("{number:?}");
    }
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) if mantissa.contains('.') => format!("{mantissa}E{exponent}"),
        Some((mantissa, exponent)) => format!("{mantissa}.0E{exponent}"),
        None => text,
    }
}

/// A number with at most six decimals and at least so many.
fn decimal(number: f64, least: usize) -> String {
    const MOST: usize = 6;
    let mut text = number.to_string();
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > MOST) {
        text = format!("{number:.MOST$}");
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let fraction = fraction.trim_end_matches('0');
    match fraction.len().max(least) {
        0 => whole.to_owned(),
        length => format!("{whole}.{fraction:0<length$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_spelled_as_micrometer_prints_them() {
        let cases = [
            ("50", Edge::Bound, -3, Dialect::Prometheus, "0.05"),
            ("1.048576", Edge::Bound, -3, Dialect::Prometheus, "0.001048576"),
            ("1000", Edge::Bound, -3, Dialect::Prometheus, "1.0"),
            ("0.5", Edge::Bound, -3, Dialect::Prometheus, "5.0E-4"),
            ("0.001048576", Edge::Bound, 3, Dialect::Influx, "1.048576"),
            ("30.0", Edge::Bound, 3, Dialect::Influx, "30000"),
            ("5.0E-4", Edge::Bound, 0, Dialect::Wavefront, "0.0005"),
            ("0.001398101", Edge::Bound, 0, Dialect::Wavefront, "0.001398"),
            ("4.611686018427388E18", Edge::Bound, 0, Dialect::Influx, "4611686018427388000"),
            ("1048576", Edge::Bound, 0, Dialect::Prometheus, "1048576.0"),
            ("10000000", Edge::Bound, 0, Dialect::Prometheus, "1.0E7"),
            ("12345678", Edge::Bound, 0, Dialect::Prometheus, "1.2345678E7"),
            ("0", Edge::Bound, 0, Dialect::Prometheus, "0.0"),
            ("+Inf", Edge::Bound, -3, Dialect::Prometheus, "+Inf"),
            ("soon", Edge::Bound, -3, Dialect::Prometheus, "soon"),
            ("0.95", Edge::Percentile, 0, Dialect::Influx, "0.95"),
            ("1.0", Edge::Percentile, 0, Dialect::Wavefront, "1.0"),
            ("1", Edge::Percentile, 0, Dialect::Prometheus, "1.0"),
        ];
        for (text, kind, digits, to, expected) in cases {
            let (written, is_same) = edge(text, kind, digits, to);
            assert_eq!((&*written, is_same), (expected, text != "0.001398101"), "{text} to {to:?}");
        }
    }

    #[test]
    fn values_of_tags_are_escaped_as_each_registry_does() {
        let said = "a\"b\\c\nd\u{1}é";
        assert_eq!(value(said, Dialect::Prometheus), said);
        assert_eq!(value(said, Dialect::Influx), "a\\\"b\\c d\u{1}é");
        assert_eq!(value(said, Dialect::Wavefront), "a\\\"b\\\\c\\nd\\u0001é");
        for to in [Dialect::Prometheus, Dialect::Wavefront] {
            assert_eq!(plain_value(&value(said, to), to), said);
        }
        assert_eq!(plain_value("a\\\"b\\c", Dialect::Influx), "a\"b\\c");
        assert_eq!(value("val\"q\\", Dialect::Wavefront), "val\\\"q_");
        for untouched in ["\\", "\\x", "\\u12", "\\uzzzz", "\\ud800", "a\\"] {
            assert_eq!(plain_value(untouched, Dialect::Wavefront), untouched);
        }
    }

    #[test]
    fn keys_are_those_of_each_registry() {
        let cases = [
            ("stream.name", Dialect::Prometheus, "stream_name"),
            ("tag-key.x", Dialect::Prometheus, "tag_key_x"),
            ("1st", Dialect::Prometheus, "m_1st"),
            ("tag-key.x", Dialect::Influx, "tag-key_x"),
            ("stream_name", Dialect::Wavefront, "stream.name"),
            ("task_execution_id", Dialect::Wavefront, "task.execution.id"),
            ("tag_key", Dialect::Wavefront, "tag_key"),
            ("a/b c", Dialect::Wavefront, "a-b_c"),
        ];
        for (from, to, expected) in cases {
            assert_eq!(key(from, to, false), expected, "{from} to {to:?}");
        }
        assert_eq!(key("tag_key", Dialect::Wavefront, true), "tag.key");
    }
}
