//! Values as Go's `ParseFloat` reads them, without hexadecimal and underscores as in Prometheus; timestamps exactly.

use crate::model::TimestampNs;

/// The one NaN that text can express, with Prometheus's bits for it.
pub(crate) const NAN_BITS: u64 = 0x7ff8_0000_0000_0001;

/// A sample's value.
#[inline]
pub(crate) fn value(token: &[u8]) -> Option<f64> {
    match fast_float2::parse::<f64, _>(token) {
        Ok(value) if value.is_finite() => Some(value),
        _ => special(token),
    }
}

/// NaN and the infinities by their names only: a decimal beyond the range is a mistake, as in Go.
#[cold]
fn special(token: &[u8]) -> Option<f64> {
    if token.eq_ignore_ascii_case(b"nan") {
        return Some(f64::from_bits(NAN_BITS));
    }
    let (sign, name) = match token.split_first()? {
        (b'-', name) => (-1.0, name),
        (b'+', name) => (1.0, name),
        _ => (1.0, token),
    };
    let infinite = name.eq_ignore_ascii_case(b"inf") || name.eq_ignore_ascii_case(b"infinity");
    infinite.then_some(sign * f64::INFINITY)
}

/// A timestamp of text 0.0.4: whole milliseconds.
pub(crate) fn milliseconds(token: &[u8]) -> Option<TimestampNs> {
    let digits = token.strip_prefix(b"-").unwrap_or(token);
    if digits.is_empty() {
        return None;
    }
    let mut milliseconds: i64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        milliseconds = milliseconds.checked_mul(10)?.checked_sub(i64::from(digit))?;
    }
    let signed = if digits.len() < token.len() { milliseconds } else { milliseconds.checked_neg()? };
    signed.checked_mul(1_000_000)
}

/// A timestamp of OpenMetrics: seconds as a decimal, cut to nanoseconds.
pub(crate) fn seconds(token: &[u8]) -> Option<TimestampNs> {
    const DIGITS_MAX: i128 = i128::MAX / 100;
    let (negative, mut rest) = match token.split_first()? {
        (b'-', rest) => (true, rest),
        (b'+', rest) => (false, rest),
        _ => (false, token),
    };
    let (mut digits, mut scale, mut any, mut fraction) = (0_i128, 9_i32, false, false);
    while let Some((byte, behind)) = rest.split_first() {
        match byte {
            b'0'..=b'9' => {
                any = true;
                let kept = digits < DIGITS_MAX;
                if kept {
                    digits = digits * 10 + i128::from(byte - b'0');
                }
                // A kept digit behind the point shifts down; a digit too many before it shifts up.
                scale = scale.saturating_add(i32::from(!kept && !fraction) - i32::from(kept && fraction));
            }
            b'.' if !fraction => fraction = true,
            b'e' | b'E' if any => {
                scale = scale.saturating_add(exponent(behind)?);
                break;
            }
            _ => return None,
        }
        rest = behind;
    }
    if !any {
        return None;
    }
    let nanoseconds = match u32::try_from(scale) {
        _ if digits == 0 => 0,
        Ok(up) => digits.checked_mul(10_i128.checked_pow(up)?)?,
        Err(_) => 10_i128.checked_pow(scale.unsigned_abs()).map_or(0, |down| digits / down),
    };
    i64::try_from(if negative { -nanoseconds } else { nanoseconds }).ok()
}

fn exponent(token: &[u8]) -> Option<i32> {
    // Far beyond any timestamp, and far from overflow.
    const EXPONENT_MAX: i64 = 1_000_000;
    let text = std::str::from_utf8(token).ok()?;
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse::<i64>().unwrap_or(EXPONENT_MAX).min(EXPONENT_MAX) as i32;
    Some(if text.starts_with('-') { -size } else { size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_go_reads_them() {
        let cases: [(&str, Option<f64>); 20] = [
            ("1", Some(1.0)),
            ("+1", Some(1.0)),
            ("-.5", Some(-0.5)),
            ("1.", Some(1.0)),
            ("1e+06", Some(1e6)),
            ("1.23456789125E8", Some(123_456_789.125)),
            ("0000001", Some(1.0)),
            ("1e-400", Some(0.0)),
            ("1e400", None),
            ("+Inf", Some(f64::INFINITY)),
            ("-infinity", Some(f64::NEG_INFINITY)),
            ("inf", Some(f64::INFINITY)),
            ("-nan", None),
            ("+NaN", None),
            ("", None),
            (".", None),
            ("1e", None),
            ("0x1p-3", None),
            ("1_2", None),
            ("1 ", None),
        ];
        for (text, expected) in cases {
            assert_eq!(value(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(value(b"Nan").map(f64::to_bits), Some(NAN_BITS));
    }

    #[test]
    fn timestamps_are_exact() {
        let cases: [(&str, Option<i64>); 20] = [
            ("1520879607.789", Some(1_520_879_607_789_000_000)),
            ("1520879607.123456789", Some(1_520_879_607_123_456_789)),
            ("1520879607.1234567899", Some(1_520_879_607_123_456_789)),
            ("1.520879607123456789e9", Some(1_520_879_607_123_456_789)),
            ("15208796071234567890E-10", Some(1_520_879_607_123_456_789)),
            ("-1.5", Some(-1_500_000_000)),
            ("0", Some(0)),
            ("0e999999999999", Some(0)),
            ("1e-999999999999", Some(0)),
            (".5", Some(500_000_000)),
            ("5.", Some(5_000_000_000)),
            ("9223372036.854775807", Some(i64::MAX)),
            ("9223372036.854775808", None),
            ("1e400", None),
            ("NaN", None),
            ("1_2", None),
            ("1.1.1", None),
            (".", None),
            ("1e", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text.as_bytes()), expected, "{text}");
        }
        let cases: [(&str, Option<i64>); 7] = [
            ("1395066363000", Some(1_395_066_363_000_000_000)),
            ("-3982045", Some(-3_982_045_000_000)),
            ("0", Some(0)),
            ("9223372036855", None),
            ("99999999999999999999", None),
            ("1.5", None),
            ("-", None),
        ];
        for (text, expected) in cases {
            assert_eq!(milliseconds(text.as_bytes()), expected, "{text}");
        }
    }
}
