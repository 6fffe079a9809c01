//! Tokens, numbers and timestamps of a line, by the rules of the proxy's parser.
//!
//! A token is quoted (`"` or `'`, where only the quote itself can be escaped), or one of `=` and `#`, or runs to the next
//! space, tab or `=`. Works on bytes: whether they are UTF-8 is judged once per series, when its name and tags are parsed.

use crate::model::TimestampNs;
use std::borrow::Cow;

/// A quoted token without its closing quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnmatchedQuote;

/// One token of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    /// As written, quotes included: what names a series.
    pub(super) raw: &'a [u8],
    /// Between the quotes, escapes still in place.
    inner: &'a [u8],
    escaped: bool,
}

impl<'a> Token<'a> {
    /// Whether a timestamp begins here; the proxy looks at nothing but the first character.
    pub(super) fn begins_with_digit(&self) -> bool {
        self.inner.first().is_some_and(u8::is_ascii_digit)
    }

    /// The token's meaning: quotes gone, escaped quotes plain. None when it is not UTF-8.
    pub(super) fn text(&self) -> Option<Cow<'a, str>> {
        let text = std::str::from_utf8(self.inner).ok()?;
        if !self.escaped {
            return Some(Cow::from(text));
        }
        let quote = char::from(self.raw[0]);
        Some(Cow::from(text.replace(&format!("\\{quote}"), &quote.to_string())))
    }

    /// The bytes to be read as a number.
    pub(super) fn number(&self) -> &'a [u8] {
        self.inner
    }
}

/// Reads a line token by token.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens<'a> {
    line: &'a [u8],
    at: usize,
    /// Where the token looked at last begins.
    token: usize,
}

impl<'a> Tokens<'a> {
    /// The tokens of a line.
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self { line, at: 0, token: 0 }
    }

    /// Byte column, from 1, of the token looked at last.
    pub(super) fn column(&self) -> usize {
        self.token + 1
    }

    /// What follows, without the blanks in front.
    #[inline]
    pub(super) fn rest(&mut self) -> &'a [u8] {
        self.skip_blanks();
        self.token = self.at;
        &self.line[self.at..]
    }

    /// The next token, none at the end of the line.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Token<'a>>, UnmatchedQuote> {
        let rest = self.rest();
        let token = match rest.first() {
            None => return Ok(None),
            Some(quote @ (b'"' | b'\'')) => quoted(rest, *quote)?,
            Some(b'=' | b'#') => plain(&rest[..1]),
            Some(_) => plain(&rest[..memchr::memchr3(b' ', b'\t', b'=', rest).unwrap_or(rest.len())]),
        };
        self.at += token.raw.len();
        Ok(Some(token))
    }

    /// The next token if it is that separator; otherwise it stays.
    pub(super) fn take(&mut self, separator: u8) -> bool {
        let found = self.rest().first() == Some(&separator);
        self.at += usize::from(found);
        found
    }

    #[inline]
    fn skip_blanks(&mut self) {
        while let Some(byte) = self.line.get(self.at) {
            let length = match byte {
                b' ' | b'\t' | 0x0a..=0x0d | 0x1c..=0x1f => 1,
                0xe1..=0xe3 => wide_blank(&self.line[self.at..]),
                _ => 0,
            };
            if length == 0 {
                return;
            }
            self.at += length;
        }
    }
}

fn plain(raw: &[u8]) -> Token<'_> {
    Token { raw, inner: raw, escaped: false }
}

fn quoted(rest: &[u8], quote: u8) -> Result<Token<'_>, UnmatchedQuote> {
    let mut escaped = false;
    for end in memchr::memchr_iter(quote, &rest[1..]).map(|at| at + 1) {
        if rest[end - 1] == b'\\' {
            escaped = true;
            continue;
        }
        return Ok(Token { raw: &rest[..=end], inner: &rest[1..end], escaped });
    }
    Err(UnmatchedQuote)
}

/// Length of the blank beyond ASCII at the front, or 0.
#[cold]
fn wide_blank(bytes: &[u8]) -> usize {
    let first = std::str::from_utf8(&bytes[..bytes.len().min(3)]).ok().and_then(|text| text.chars().next());
    first.filter(|c| is_blank(*c)).map_or(0, char::len_utf8)
}

/// Java's idea of white space, which leaves out the no-break spaces.
pub(super) fn is_blank(c: char) -> bool {
    match c {
        '\t'..='\r' | '\u{1c}'..='\u{20}' => true,
        '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}' => false,
        _ => c.is_whitespace(),
    }
}

/// A value, as Java's `Double.parseDouble` reads it, hexadecimal forms left out.
#[inline]
pub(super) fn parse_value(token: &[u8]) -> Option<f64> {
    let (negative, digits) = match token.first()? {
        b'-' => (true, &token[1..]),
        b'+' => (false, &token[1..]),
        _ => (false, token),
    };
    // The first byte is looked at, since the float parser knows words (`inf`, `nan`) that Java does not.
    if begins_number(digits)
        && let Ok(value) = fast_float2::parse::<f64, _>(digits)
    {
        return Some(if negative { -value } else { value });
    }
    parse_unusual_value(token)
}

#[inline]
fn begins_number(digits: &[u8]) -> bool {
    digits.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b'.')
}

#[cold]
fn parse_unusual_value(token: &[u8]) -> Option<f64> {
    let trimmed = trim(token);
    let (sign, digits) = match trimmed.first()? {
        b'-' => (-1.0, &trimmed[1..]),
        b'+' => (1.0, &trimmed[1..]),
        _ => (1.0, trimmed),
    };
    match digits {
        b"NaN" => return Some(f64::NAN),
        b"Infinity" => return Some(sign * f64::INFINITY),
        _ => {}
    }
    if !begins_number(digits) {
        return None;
    }
    let digits = if let [digits @ .., b'd' | b'D' | b'f' | b'F'] = digits { digits } else { digits };
    let value = fast_float2::parse::<f64, _>(digits);
    value.ok().map(|value| sign * value)
}

/// The line without blanks and control characters at both ends.
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte > b' ').unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| *byte > b' ').map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A timestamp; the size of its integer part tells seconds, milliseconds, microseconds and nanoseconds apart.
#[inline]
pub(super) fn parse_timestamp(token: &[u8]) -> Option<TimestampNs> {
    const DIGITS_MAX: usize = 18;
    if token.len() > DIGITS_MAX || !token.iter().all(u8::is_ascii_digit) {
        return parse_unusual_timestamp(token);
    }
    let count = token.iter().fold(0, |count, digit| count * 10 + i64::from(digit - b'0'));
    count.checked_mul(nanoseconds_of_unit(count))
}

const fn nanoseconds_of_unit(count: i64) -> i64 {
    match count {
        ..=999_999_999_999 => 1_000_000_000,
        1_000_000_000_000..=9_999_999_999_999 => 1_000_000,
        10_000_000_000_000..=9_999_999_999_999_999 => 1_000,
        _ => 1,
    }
}

#[cold]
fn parse_unusual_timestamp(token: &[u8]) -> Option<TimestampNs> {
    let token = trim(token);
    let point = memchr::memchr(b'.', token).unwrap_or(token.len());
    let (whole, fraction) = (&token[..point], token.get(point + 1..).unwrap_or_default());
    if !whole.is_empty() && whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        let count: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        let unit = nanoseconds_of_unit(count);
        // Exact: digits beyond the nanosecond are cut, as the proxy cuts those beyond its millisecond.
        let mut rest = 0;
        let mut place = unit / 10;
        for digit in fraction {
            rest += i64::from(digit - b'0') * place;
            place /= 10;
        }
        return count.checked_mul(unit)?.checked_add(rest);
    }
    // `1.7e9`: exact to what a double holds, as the proxy has it.
    let value = parse_value(token)?;
    if !(0.0..9.3e18).contains(&value) {
        return None;
    }
    let unit = nanoseconds_of_unit(value as i64);
    let rest = (value.fract() * unit as f64) as i64;
    (value as i64).checked_mul(unit)?.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_java_reads_them() {
        let good: &[(&str, f64)] = &[
            ("93", 93.0),
            ("+1", 1.0),
            ("-93.123e-3", -0.093_123),
            ("1.", 1.0),
            (".5", 0.5),
            ("1E5", 1e5),
            ("1d", 1.0),
            ("1.5F", 1.5),
            ("-2D", -2.0),
            (" 7 ", 7.0),
            ("1e400", f64::INFINITY),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("-0", -0.0),
        ];
        for (text, value) in good {
            assert_eq!(parse_value(text.as_bytes()).map(f64::to_bits), Some(value.to_bits()), "{text}");
        }
        assert!(parse_value(b"NaN").is_some_and(f64::is_nan));
        for text in
            ["", "nan", "inf", "infinity", "1_000", "e", "1e", ".", "-", "--1", "+-1", "1fd", "1df", "x", "d", "- 1"]
        {
            assert_eq!(parse_value(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn the_size_of_a_timestamp_tells_its_unit() {
        let cases = [
            ("1700000000", Some(1_700_000_000_000_000_000)),
            ("1700000000123", Some(1_700_000_000_123_000_000)),
            ("1700000000123456", Some(1_700_000_000_123_456_000)),
            ("1700000000123456789", Some(1_700_000_000_123_456_789)),
            ("1700000000.5", Some(1_700_000_000_500_000_000)),
            ("1234567890.246", Some(1_234_567_890_246_000_000)),
            ("1700000000.", Some(1_700_000_000_000_000_000)),
            ("1700000000.1234567899", Some(1_700_000_000_123_456_789)),
            ("1700000000123.25", Some(1_700_000_000_123_250_000)),
            ("1.7e9", Some(1_700_000_000_000_000_000)),
            ("0", Some(0)),
            ("999999999999", None),
            ("99999999999999999999", None),
            ("1e30", None),
            ("5x", None),
            ("1-2", None),
        ];
        for (text, nanoseconds) in cases {
            assert_eq!(parse_timestamp(text.as_bytes()), nanoseconds, "{text}");
        }
    }
}
