//! Names and labels to bytes: bare where every reader takes them so, else in double quotes, as Prometheus 3 reads them.
//!
//! What is in quotes is escaped as label values are: backslash, double quote and line end.

use crate::wire::prometheus_names::is_plain;

/// Writes a series: `name{label="value"}`, or `{"quoted name","quoted label"="value"}`.
pub(super) fn put_series<'l, N: AsRef<str> + 'l, V: AsRef<str> + 'l>(
    out: &mut Vec<u8>,
    name: &str,
    labels: impl Iterator<Item = &'l (N, V)>,
) {
    let mut labels = labels.peekable();
    let (plain, labelled) = (is_plain(name, true), labels.peek().is_some());
    if !plain {
        out.push(b'{');
    }
    put_metric_name(out, name);
    if labelled {
        out.push(if plain { b'{' } else { b',' });
    }
    put_labels(out, labels);
    if labelled || !plain {
        out.push(b'}');
    }
}

/// Writes labels without the braces around them.
pub(super) fn put_labels<'l, N: AsRef<str> + 'l, V: AsRef<str> + 'l>(
    out: &mut Vec<u8>,
    labels: impl Iterator<Item = &'l (N, V)>,
) {
    for (at, (name, value)) in labels.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put_name(out, name.as_ref(), false);
        out.push(b'=');
        put_quoted(out, value.as_ref());
    }
}

/// Writes the name of a metric or family.
pub(super) fn put_metric_name(out: &mut Vec<u8>, name: &str) {
    put_name(out, name, true);
}

fn put_name(out: &mut Vec<u8>, name: &str, colons: bool) {
    if is_plain(name, colons) {
        out.extend_from_slice(name.as_bytes());
    } else {
        put_quoted(out, name);
    }
}

fn put_quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = memchr::memchr3(b'\\', b'"', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(match rest[at] {
            b'\n' => b"\\n",
            b'"' => b"\\\"",
            _ => b"\\\\",
        });
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
