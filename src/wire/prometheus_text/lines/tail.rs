//! What stands behind a series to a value, a timestamp and an exemplar.

use super::words::{token, trim_start, word};
use crate::model::{Label, Refusal, TimestampNs};
use crate::wire::prometheus_text::grammar::{self, Fault, Flavour};
use crate::wire::prometheus_text::number;

/// What stands behind a series.
pub(super) struct Tail<'b> {
    pub(super) value: f64,
    pub(super) value_token: &'b [u8],
    pub(super) timestamp: Option<TimestampNs>,
    /// From its opening brace.
    pub(super) exemplar: Option<&'b [u8]>,
}

/// A timestamp as it stood behind a value, from the blank before it to the line end behind it: a body repeats it on every line.
#[derive(Clone, Copy, Default)]
pub(super) struct Stamp<'b> {
    text: &'b [u8],
    time: TimestampNs,
}

/// The tail of a line that may go on behind its end, and the length of that tail, if it has the most ordinary form: a blank and
/// a finite number, perhaps a blank and a timestamp, a line end.
#[inline]
pub(super) fn glance<'b>(rest: &'b [u8], flavour: Flavour, before: &mut Stamp<'b>) -> Option<(Tail<'b>, usize)> {
    let text = rest.strip_prefix(b" ")?;
    let (value, digits) = fast_float2::parse_partial::<f64, _>(text).ok().filter(|(value, _)| value.is_finite())?;
    let (value_token, behind) = text.split_at(digits);
    let (timestamp, length) = match behind {
        [] | [b'\n', ..] => (None, 0),
        _ if !before.text.is_empty() && behind.starts_with(before.text) => (Some(before.time), before.text.len() - 1),
        [b' ', digits @ ..] => {
            let length = digits.iter().position(|byte| !matches!(byte, b'0'..=b'9' | b'.'))?;
            let (token, b'\n') = (&digits[..length], digits[length]) else { return None };
            let time = match flavour {
                Flavour::Text => number::milliseconds(token)?,
                Flavour::OpenMetrics => number::seconds(token)?,
            };
            *before = Stamp { text: &behind[..length + 2], time };
            (Some(time), length + 1)
        }
        _ => return None,
    };
    Some((Tail { value, value_token, timestamp, exemplar: None }, 1 + value_token.len() + length))
}

#[inline]
pub(super) fn text_tail(rest: &[u8]) -> Result<Tail<'_>, Fault<'_>> {
    let rest = trim_start(rest);
    let (value_token, behind) = token(rest);
    let value = parse_value(rest, value_token)?;
    let behind = trim_start(behind);
    let (timestamp_token, end) = token(behind);
    let timestamp = match timestamp_token {
        [] => None,
        digits => Some(number::milliseconds(digits).ok_or_else(|| bad_timestamp(behind))?),
    };
    match trim_start(end) {
        [] => Ok(Tail { value, value_token, timestamp, exemplar: None }),
        spurious => Err(Fault::new(spurious, Refusal::Syntax, "the end of the line")),
    }
}

#[inline]
pub(super) fn openmetrics_tail(rest: &[u8]) -> Result<Tail<'_>, Fault<'_>> {
    let Some(rest) = rest.strip_prefix(b" ") else {
        return Err(Fault::new(rest, Refusal::NoValue, "one space and a value"));
    };
    let (value_token, behind) = word(rest);
    let value = parse_value(rest, value_token)?;
    let mut tail = Tail { value, value_token, timestamp: None, exemplar: None };
    let mut behind = behind;
    if !behind.is_empty() && !behind.starts_with(b" # {") {
        let (timestamp_token, end) = word(&behind[1..]);
        tail.timestamp = Some(number::seconds(timestamp_token).ok_or_else(|| bad_timestamp(&behind[1..]))?);
        behind = end;
    }
    match behind {
        [] => {}
        [b' ', b'#', b' ', exemplar @ ..] if exemplar.starts_with(b"{") => tail.exemplar = Some(exemplar),
        spurious => return Err(Fault::new(spurious, Refusal::Syntax, "the end of the line or ` # {`")),
    }
    Ok(tail)
}

pub(super) type ParsedExemplar<'b> = (Vec<Label<'b>>, f64, Option<TimestampNs>);

pub(super) fn parse_exemplar(text: &[u8]) -> Result<ParsedExemplar<'_>, Fault<'_>> {
    let (rest, labels) =
        grammar::exemplar_labels(text).map_err(|fault| Fault { reason: Refusal::InvalidExemplar, ..fault })?;
    let invalid = |at| Fault::new(at, Refusal::InvalidExemplar, "a space, a value and at most a timestamp");
    let (value_token, behind) = word(rest.strip_prefix(b" ").ok_or_else(|| invalid(rest))?);
    let value = number::value(value_token).ok_or_else(|| invalid(rest))?;
    let timestamp = if let [_, behind @ ..] = behind {
        let (timestamp_token, end) = word(behind);
        if !end.is_empty() {
            return Err(invalid(end));
        }
        Some(number::seconds(timestamp_token).ok_or_else(|| invalid(behind))?)
    } else {
        None
    };
    Ok((labels, value, timestamp))
}

#[inline]
fn parse_value<'b>(at: &'b [u8], token: &[u8]) -> Result<f64, Fault<'b>> {
    match number::value(token) {
        Some(value) => Ok(value),
        None if token.is_empty() => Err(Fault::new(at, Refusal::NoValue, "a value")),
        None => Err(Fault::new(at, Refusal::InvalidValue, "a number in range, NaN, +Inf or -Inf")),
    }
}

#[cold]
fn bad_timestamp(at: &[u8]) -> Fault<'_> {
    Fault::new(at, Refusal::InvalidTimestamp, "a timestamp of the format within the years 1677 to 2262")
}
