//! Names, strings and numbers to bytes as lines carry them.
//!
//! Floats are the shortest digits that read back the same, with an exponent below 10^-4 and from 10^6, as Go prints them.

use super::is_control;
use crate::wire::digits::whole;
use memchr::memchr2;

/// Whether a measurement reads back as itself.
pub(super) fn is_measurement(name: &str) -> bool {
    is_carried(name) && !name.starts_with('#')
}

/// Whether a name reads back as itself.
pub(super) fn is_carried(name: &str) -> bool {
    !name.is_empty() && !name.ends_with('\\') && !name.bytes().any(is_control)
}

pub(super) fn escape(out: &mut Vec<u8>, text: &str, escapes: &[u8]) {
    for byte in text.bytes() {
        if escapes.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[inline]
pub(super) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if memchr2(b'"', b'\\', text.as_bytes()).is_none() {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape(out, text, b"\"\\");
    }
    out.push(b'"');
}

#[inline]
pub(super) fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer, suffix: u8) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(suffix);
}

/// Writes a finite float: the shortest digits, with an exponent below 10^-4 and from 10^6.
#[inline]
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    // All their digits are the fewest that read back the same.
    if let Some(whole) = whole(value) {
        return write_whole(out, whole);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&magnitude) && !text.contains(&b'e') {
        out.extend_from_slice(text.strip_suffix(b".0").unwrap_or(text));
    } else {
        write_exponent(out, text);
    }
}

#[inline]
fn write_whole(out: &mut Vec<u8>, value: i64) {
    let mut buffer = itoa::Buffer::new();
    let magnitude = value.unsigned_abs();
    if value < 0 {
        out.push(b'-');
    }
    let digits = buffer.format(magnitude).as_bytes();
    if magnitude < 1_000_000 {
        out.extend_from_slice(digits);
        return;
    }
    let exponent = digits.len() as u8 - 1;
    let zeros = digits.iter().rev().take_while(|digit| **digit == b'0').count();
    out.push(digits[0]);
    if let [_, fraction @ ..] = &digits[..digits.len() - zeros]
        && !fraction.is_empty()
    {
        out.push(b'.');
        out.extend_from_slice(fraction);
    }
    out.extend_from_slice(&[b'e', b'+', b'0' + exponent / 10, b'0' + exponent % 10]);
}

/// Rewrites a float's text as `d.ddde+XX`.
fn write_exponent(out: &mut Vec<u8>, text: &[u8]) {
    let (mantissa, exponent) = match text.iter().position(|byte| *byte == b'e') {
        Some(at) => (&text[..at], std::str::from_utf8(&text[at + 1..]).map_or(0, |text| text.parse().unwrap_or(0))),
        None => (text, 0i32),
    };
    let (sign, mantissa) = match mantissa {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let mut digits = [0u8; 32];
    let mut length = 0;
    let mut leading_zeros = 0;
    for byte in mantissa.iter().filter(|byte| **byte != b'.') {
        if length == 0 && *byte == b'0' {
            leading_zeros += 1;
        } else if length < digits.len() {
            digits[length] = *byte;
            length += 1;
        }
    }
    while length > 1 && digits[length - 1] == b'0' {
        length -= 1;
    }
    let exponent = exponent + point as i32 - leading_zeros - 1;
    if sign {
        out.push(b'-');
    }
    out.push(digits[0]);
    if length > 1 {
        out.push(b'.');
        out.extend_from_slice(&digits[1..length]);
    }
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    if exponent.abs() < 10 {
        out.push(b'0');
    }
    out.extend_from_slice(itoa::Buffer::new().format(exponent.abs()).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_the_shortest_that_read_back() {
        let cases = [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (-42.5, "-42.5"),
            (0.0001, "0.0001"),
            (0.000_012_5, "1.25e-05"),
            (999_999.0, "999999"),
            (1e6, "1e+06"),
            (6_632_243.0, "6.632243e+06"),
            (-123_456_789.125, "-1.23456789125e+08"),
            (1e21, "1e+21"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (-2e15, "-2e+15"),
            (9_007_199_254_740_991.0, "9.007199254740991e+15"),
            (9_007_199_254_740_992.0, "9.007199254740992e+15"),
            (1.5e16, "1.5e+16"),
            (1_234_567.875, "1.234567875e+06"),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            write_float(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
