//! The bytes behind a field key to a typed value, those behind the fields to a timestamp.

use super::fault::Fault;
use super::precision::Precision;
use super::scan::{closing_quote, line_end, skip_spaces, value_end};
use crate::model::{Refusal, TimestampNs, Value};
use memchr::memchr2;

/// Reads a field value; also gives the place behind it.
#[inline]
pub(super) fn value<'v>(body: &'v [u8], start: usize, scratch: &'v mut String) -> Result<(Value<'v>, usize), Fault> {
    match body.get(start) {
        Some(b'0'..=b'9' | b'-' | b'.') => {
            let end = value_end(body, start);
            match number(&body[start..end]) {
                Some(value) => Ok((value, end)),
                None => Err(Fault::new(start, Refusal::InvalidValue, "expected a number in range")),
            }
        }
        Some(b'"') => string(body, start, scratch),
        Some(b't' | b'T' | b'f' | b'F') => {
            let end = value_end(body, start);
            match &body[start..end] {
                b"t" | b"T" | b"true" | b"True" | b"TRUE" => Ok((Value::Bool(true), end)),
                b"f" | b"F" | b"false" | b"False" | b"FALSE" => Ok((Value::Bool(false), end)),
                _ => Err(Fault::new(start, Refusal::InvalidValue, "expected a boolean")),
            }
        }
        _ => Err(Fault::new(start, Refusal::InvalidValue, "expected a number, a boolean or a quoted string")),
    }
}

#[inline]
fn number(text: &[u8]) -> Option<Value<'static>> {
    match text {
        [digits @ .., b'i'] => integer(digits).map(Value::I64),
        [digits @ .., b'u'] => natural(digits).map(Value::U64),
        _ => fast_float2::parse(text).ok().filter(|value: &f64| value.is_finite()).map(Value::F64),
    }
}

#[inline]
fn natural(digits: &[u8]) -> Option<u64> {
    let mut value: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    if digits.is_empty() { None } else { Some(value) }
}

#[inline]
fn integer(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => 0i64.checked_sub_unsigned(natural(digits)?),
        digits => i64::try_from(natural(digits)?).ok(),
    }
}

#[inline]
fn string<'v>(body: &'v [u8], start: usize, scratch: &'v mut String) -> Result<(Value<'v>, usize), Fault> {
    let inside = &body[start + 1..];
    match memchr2(b'"', b'\\', inside) {
        Some(length) if inside[length] == b'"' => {
            let end = start + length + 2;
            match std::str::from_utf8(&inside[..length]) {
                Ok(text) => Ok((Value::Str(text), end)),
                Err(_) => Err(Fault::new(start, Refusal::InvalidUtf8, "expected UTF-8").resuming(end)),
            }
        }
        _ => escaped_string(body, start, scratch),
    }
}

#[cold]
fn escaped_string<'v>(body: &'v [u8], start: usize, scratch: &'v mut String) -> Result<(Value<'v>, usize), Fault> {
    let Some(quote) = closing_quote(body, start + 1) else {
        // Behind an open quote nothing can be told from the string.
        return Err(Fault::new(start, Refusal::Syntax, "expected a closing quote").resuming(body.len()));
    };
    let Ok(text) = std::str::from_utf8(&body[start + 1..quote]) else {
        return Err(Fault::new(start, Refusal::InvalidUtf8, "expected UTF-8").resuming(quote + 1));
    };
    scratch.clear();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let escaped = rest.next_if(|next| c == '\\' && matches!(next, '"' | '\\' | 'n' | 'r' | 't'));
        scratch.push(match escaped {
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(quote_or_backslash) => quote_or_backslash,
            None => c,
        });
    }
    Ok((Value::Str(scratch), quote + 1))
}

/// Reads a timestamp and the end of its line.
#[inline]
pub(super) fn timestamp(body: &[u8], start: usize, precision: Precision) -> Result<(TimestampNs, usize), Fault> {
    let mut end = start;
    while matches!(body.get(end), Some(b'0'..=b'9' | b'-')) {
        end += 1;
    }
    let Some(next) = line_end(body, skip_spaces(body, end)) else {
        return Err(Fault::new(start, Refusal::InvalidTimestamp, "expected a timestamp and the end of the line"));
    };
    match integer(&body[start..end]).and_then(|timestamp| precision.to_nanoseconds(timestamp)) {
        Some(timestamp) => Ok((timestamp, next)),
        None => Err(Fault::new(start, Refusal::InvalidTimestamp, "expected a timestamp within 64 bits of nanoseconds")),
    }
}
