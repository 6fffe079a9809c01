//! Numbers as text.

use super::lines::Lines;
use crate::model::TimestampNs;

/// Appends the fewest digits that read back as the same finite number: `1.0`, `-2.5e-7`, `1e16`.
#[inline]
pub(crate) fn write_shortest(out: &mut Vec<u8>, value: f64) {
    /// From here on with an exponent.
    const LARGE: f64 = 1e16;
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    match if value.abs() < LARGE { None } else { text.split_once('+') } {
        Some((digits, exponent)) => [digits, exponent].iter().for_each(|part| out.extend_from_slice(part.as_bytes())),
        None => out.extend_from_slice(text.as_bytes()),
    }
}

/// A number as the whole number that it is; none for those so large that not every whole number is a float, and for -0.
#[inline]
pub(crate) fn whole(value: f64) -> Option<i64> {
    const EXACT_MAX: u64 = 1 << f64::MANTISSA_DIGITS;
    let whole = value as i64;
    ((whole as f64).to_bits() == value.to_bits() && whole.unsigned_abs() < EXACT_MAX).then_some(whole)
}

/// The text of a timestamp, kept for the samples behind it: most of a body have the same.
#[derive(Debug, Default)]
pub(crate) struct Stamp {
    of: TimestampNs,
    text: Vec<u8>,
    /// How many texts there were before.
    number: u64,
}

impl Stamp {
    /// Appends what `write` makes of the timestamp, which is never nothing and always the same.
    #[inline]
    pub(crate) fn append(&mut self, timestamp: TimestampNs, out: &mut Lines, write: impl FnOnce(&mut Vec<u8>)) {
        /// Shared texts have lower numbers.
        const STAMPS: u64 = 1 << 63;
        if self.of != timestamp || self.text.is_empty() {
            self.of = timestamp;
            self.text.clear();
            write(&mut self.text);
            self.number += 1;
        }
        let from = out.text.len();
        out.text.extend_from_slice(&self.text);
        out.known(from, STAMPS | self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_the_fewest_digits_and_no_plus() {
        let cases = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-2.5e-7, "-2.5e-7"),
            (0.1, "0.1"),
            (123_456_789.25, "123456789.25"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e16, "1e16"),
            (-1.5e300, "-1.5e300"),
            (5e-324, "5e-324"),
            (f64::MAX, "1.7976931348623157e308"),
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            write_shortest(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn whole_numbers_are_those_of_which_none_is_missing() {
        let cases = [
            (0.0, Some(0)),
            (-0.0, None),
            (-7.0, Some(-7)),
            (0.5, None),
            (9_007_199_254_740_991.0, Some((1 << 53) - 1)),
            (9_007_199_254_740_992.0, None),
            (1e300, None),
            (f64::MIN, None),
            (f64::NAN, None),
        ];
        for (value, expected) in cases {
            assert_eq!(whole(value), expected, "{value}");
        }
    }
}
