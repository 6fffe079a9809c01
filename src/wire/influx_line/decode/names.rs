//! The names of a line to a series: measurement, tags and field keys, parsed and checked at first sight.

use super::fault::Fault;
use super::scan::{measurement_end, name_end};
use crate::model::{AliasHash, BatchBuilder, Denied, Label, Refusal, SeriesId, SeriesSpec};
use memchr::memchr;
use std::borrow::Cow;
use std::ops::Range;

/// Longest `measurement,tags` and longest field key, in bytes: InfluxDB's own limit of a key. It bounds what the first sight
/// of a line's series can cost.
pub const NAME_BYTES_MAX: usize = 65_535;

/// Measurement and tags of a line, parsed at first sight.
pub(super) struct Head<'b> {
    measurement: Cow<'b, str>,
    tags: Vec<Label<'b>>,
}

impl<'b> Head<'b> {
    #[cold]
    fn parse(body: &'b [u8], start: usize, end: usize) -> Result<Self, Fault> {
        if end - start > NAME_BYTES_MAX {
            return Err(Fault::new(start, Refusal::TooLong, "expected at most 65535 bytes of measurement and tags"));
        }
        let body = &body[..end];
        let mut at = measurement_end(body, start);
        if at == start {
            return Err(Fault::new(at, Refusal::MissingName, "expected a measurement"));
        }
        let measurement = unescape(body, start, at, b", ")?;
        let mut tags: Vec<Label<'b>> = Vec::new();
        while at < end {
            if body[at] != b',' {
                return Err(Fault::new(at, Refusal::Syntax, "expected a comma or a space"));
            }
            let key_end = name_end(body, at + 1);
            if key_end == at + 1 {
                return Err(Fault::new(key_end, Refusal::InvalidLabel, "expected a tag key after the comma"));
            }
            if body.get(key_end) != Some(&b'=') {
                return Err(Fault::new(key_end, Refusal::InvalidLabel, "expected '=' after the tag key"));
            }
            let value_end = name_end(body, key_end + 1);
            if value_end == key_end + 1 {
                return Err(Fault::new(value_end, Refusal::InvalidLabel, "expected a tag value"));
            }
            let key = unescape(body, at + 1, key_end, b",= ")?;
            tags.push((key, unescape(body, key_end + 1, value_end, b",= ")?));
            at = value_end;
        }
        tags.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        if tags.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(Fault::new(start, Refusal::DuplicateLabel, "expected each tag key once"));
        }
        Ok(Self { measurement, tags })
    }
}

/// The head's own mistake, if it has one, comes before what is wrong behind it.
#[cold]
pub(super) fn blame_head(body: &[u8], start: usize, head_end: usize, fault: Fault) -> Fault {
    match Head::parse(body, start, head_end) {
        Ok(_) => fault,
        Err(earlier) => earlier,
    }
}

#[cold]
pub(super) fn check_names<'b>(
    head: &mut Option<Head<'b>>,
    body: &'b [u8],
    start: usize,
    head_end: usize,
    key: Range<usize>,
) -> Result<(), Fault> {
    if head.is_none() {
        *head = Some(Head::parse(body, start, head_end)?);
    }
    if key.len() > NAME_BYTES_MAX {
        return Err(Fault::new(key.start, Refusal::TooLong, "expected a field key of at most 65535 bytes"));
    }
    unescape(body, key.start, key.end, b",= ").map(|_| ())
}

#[cold]
pub(super) fn define(
    out: &BatchBuilder<'_>,
    alias: AliasHash,
    head: Option<&Head<'_>>,
    key: &[u8],
) -> Result<SeriesId, Denied> {
    let key = String::from_utf8_lossy(key);
    let key = unescaped(&key, b",= ");
    let (measurement, labels) = head.map_or(("", Vec::new()), |head| (&*head.measurement, head.tags.clone()));
    out.define(alias, SeriesSpec { measurement, field: Some(&key), labels, metadata: None })
}

/// A name as text. A backslash goes only where it stands before one of `escapes`.
fn unescape<'b>(body: &'b [u8], start: usize, end: usize, escapes: &[u8]) -> Result<Cow<'b, str>, Fault> {
    match std::str::from_utf8(&body[start..end]) {
        Ok(text) => Ok(unescaped(text, escapes)),
        Err(_) => Err(Fault::new(start, Refusal::InvalidUtf8, "expected UTF-8")),
    }
}

fn unescaped<'b>(text: &'b str, escapes: &[u8]) -> Cow<'b, str> {
    if memchr(b'\\', text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let escaped = rest.next_if(|next| c == '\\' && next.is_ascii() && escapes.contains(&(*next as u8)));
        plain.push(escaped.unwrap_or(c));
    }
    Cow::Owned(plain)
}
