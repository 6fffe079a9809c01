//! Lines to samples. See the format's module for the grammar.
//!
//! The hot loop hashes the bytes `measurement,tags` of a line once, joins the hash of each field key to it and asks the
//! series table. Bytes that it knows were valid when they were first seen, so only values and the timestamp are parsed.
//! At first sight the names are parsed and checked in cold functions. The crate `influxdb-line-protocol` is the oracle of
//! tests and fuzzing but is not used here: it reads the grammar of InfluxDB 3, not that of the Go decoder, and spends
//! 665 ns a field.

use super::{ENDS_NAME, is_control};
use crate::model::{
    AliasHash, BatchBuilder, Denied, Label, Mark, Refusal, SampleFlags, SeriesId, SeriesSpec, TimestampNs, Value,
};
use crate::wire::{Report, quoted};
use memchr::{memchr, memchr_iter, memchr2, memrchr};
use std::borrow::Cow;

/// Longest `measurement,tags` and longest field key, in bytes: InfluxDB's own limit of a key. It bounds what the first sight
/// of a line's series can cost.
pub const NAME_BYTES_MAX: usize = 65_535;

/// The unit of the timestamps in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// 10^-9 s, the format's own.
    #[default]
    Nanoseconds,
    /// 10^-6 s.
    Microseconds,
    /// 10^-3 s.
    Milliseconds,
    /// 1 s.
    Seconds,
    /// 60 s.
    Minutes,
    /// 3600 s.
    Hours,
    /// Guessed for each line by the magnitude, as InfluxDB 3 does: below 5·10^9 seconds, below 5·10^12 milliseconds, below
    /// 5·10^15 microseconds, else nanoseconds. Right for times from 1970-02-27 to 2128, whatever their unit.
    Auto,
}

impl Precision {
    /// The `precision` parameter of InfluxDB 1's `/write`.
    pub fn from_v1(text: &str) -> Option<Self> {
        Some(match text {
            "n" | "ns" => Self::Nanoseconds,
            "u" | "us" | "µ" | "µs" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    /// The `precision` parameter of InfluxDB 2's `/api/v2/write`.
    pub fn from_v2(text: &str) -> Option<Self> {
        Some(match text {
            "ns" => Self::Nanoseconds,
            "us" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            _ => return None,
        })
    }

    /// The `precision` parameter of InfluxDB 3's `/api/v3/write_lp`.
    pub fn from_v3(text: &str) -> Option<Self> {
        Some(match text {
            "nanosecond" => Self::Nanoseconds,
            "microsecond" => Self::Microseconds,
            "millisecond" => Self::Milliseconds,
            "second" => Self::Seconds,
            "auto" => Self::Auto,
            short => return Self::from_v2(short),
        })
    }

    /// A timestamp of this unit in nanoseconds, if it fits.
    fn to_nanoseconds(self, timestamp: i64) -> Option<TimestampNs> {
        timestamp.checked_mul(match self {
            Self::Nanoseconds => 1,
            Self::Microseconds => 1_000,
            Self::Milliseconds => 1_000_000,
            Self::Seconds => 1_000_000_000,
            Self::Minutes => 60_000_000_000,
            Self::Hours => 3_600_000_000_000,
            Self::Auto => match timestamp.unsigned_abs() {
                0..5_000_000_000 => 1_000_000_000,
                5_000_000_000..5_000_000_000_000 => 1_000_000,
                5_000_000_000_000..5_000_000_000_000_000 => 1_000,
                5_000_000_000_000_000.. => 1,
            },
        })
    }
}

/// What the request says beside its body.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// The unit of timestamps.
    pub precision: Precision,
    /// The time of arrival, for lines without a timestamp. It is not rounded to the precision.
    pub now: TimestampNs,
}

/// Decodes a body: good lines become rows of samples, bad ones are refused one by one.
///
/// A refused line counts the fields read up to the mistake, at least one. The refusal's line is the one on which the row
/// began, its column counts bytes from there; [`line`] gives its text. A field whose series finds no room in the table is
/// refused alone.
pub fn decode(body: &[u8], options: &Options, out: &mut BatchBuilder<'_>) -> Report {
    let row = Row { start: 0, mark: out.mark(), fields: 0, denied: None };
    let lines = LineCounter { at: 0, line: 1 };
    let mut decoder = Decoder { body, options: *options, out, report: Report::default(), row, lines };
    decoder.run(&mut String::new());
    decoder.report
}

/// The text of the row that begins on that line (from 1), without its line end: a string field may hold further lines.
pub fn line(body: &[u8], line_number: usize) -> &[u8] {
    let start = match line_number.checked_sub(2) {
        None => 0,
        Some(nth) => memchr_iter(b'\n', body).nth(nth).map_or(body.len(), |end| end + 1),
    };
    let rest = &body[start..];
    let row = &rest[..row_end(rest, 0).unwrap_or(rest.len())];
    row.strip_suffix(b"\r").unwrap_or(row)
}

/// Length of the rows that end within the body, line ends included: where a stream can be cut. The body begins with a row.
pub fn whole_rows(body: &[u8]) -> usize {
    if memchr(b'"', body).is_none() {
        return memrchr(b'\n', body).map_or(0, |end| end + 1);
    }
    let mut at = 0;
    while let Some(end) = row_end(body, at).filter(|end| *end < body.len()) {
        at = end + 1;
    }
    at
}

/// Where the row that begins there ends: at a line feed, or at the end of the body. None when a quote stays open.
fn row_end(body: &[u8], start: usize) -> Option<usize> {
    let first = skip_spaces(body, start);
    if body.get(first) == Some(&b'#') {
        return Some(memchr(b'\n', &body[first..]).map_or(body.len(), |end| first + end));
    }
    // Only field values can hold a line end: look for `="` behind the head.
    let mut at = head_end(body, first);
    while let Some(found) = memchr2(b'"', b'\n', &body[at..]) {
        at += found;
        if body[at] == b'\n' {
            return Some(at);
        }
        let opens = body[..at].ends_with(b"=") && !body[..at].ends_with(b"\\=");
        at = if opens { closing_quote(body, at + 1)? + 1 } else { at + 1 };
    }
    Some(body.len())
}

/// Why a line is refused, and from where the next line is looked for.
struct Fault {
    at: usize,
    resume: usize,
    reason: Refusal,
    expected: &'static str,
}

impl Fault {
    #[cold]
    fn new(at: usize, reason: Refusal, expected: &'static str) -> Self {
        Self { at, resume: at, reason, expected }
    }

    /// The same, where what was read reaches further than where it went wrong.
    fn resuming(self, resume: usize) -> Self {
        Self { resume, ..self }
    }
}

/// The row being read.
struct Row {
    start: usize,
    mark: Mark,
    fields: u64,
    /// Fields that were not taken, and why the last of them.
    denied: Option<(u64, Denied)>,
}

impl Row {
    #[cold]
    fn deny(&mut self, denied: Denied) {
        self.denied = Some((self.denied.map_or(1, |(fields, _)| fields + 1), denied));
    }
}

struct Decoder<'b, 'o, 't> {
    body: &'b [u8],
    options: Options,
    out: &'o mut BatchBuilder<'t>,
    report: Report,
    row: Row,
    lines: LineCounter,
}

impl Decoder<'_, '_, '_> {
    fn run(&mut self, scratch: &mut String) {
        let mut at = 0;
        loop {
            at = skip_spaces(self.body, at);
            let Some(&first) = self.body.get(at) else { return };
            self.row = Row { start: at, mark: self.out.mark(), fields: 0, denied: None };
            let next = match first {
                b'\n' => Ok(at + 1),
                b'\r' => line_end(self.body, at).ok_or_else(|| stray_return(at)),
                b'#' => comment(self.body, at),
                _ => self.row(at, scratch),
            };
            at = next.unwrap_or_else(|fault| self.refuse(&fault));
        }
    }

    /// Reads one line and says where the next begins.
    fn row(&mut self, start: usize, scratch: &mut String) -> Result<usize, Fault> {
        let body = self.body;
        let head_end = head_end(body, start);
        let row_alias = self.out.alias(&body[start..head_end]);
        let mut head = None;
        let mut at = skip_spaces(body, head_end);
        loop {
            let key_end = name_end(body, at);
            if key_end == at || body.get(key_end) != Some(&b'=') {
                return Err(blame_head(body, start, head_end, missing_field(body, at, key_end)));
            }
            let key = &body[at..key_end];
            self.row.fields += 1;
            let alias = row_alias.then(self.out.hash(key));
            let known = self.out.recognise(alias);
            if known.is_none() {
                // Before the value is read: where names are bad, the next line begins behind the next line feed, even one
                // inside of quotes.
                check_names(&mut head, body, start, head_end, at..key_end)?;
            }
            let (value, after) = value(body, key_end + 1, scratch)?;
            let series = match (known, self.row.denied) {
                (Some(series), _) => Ok(series),
                // One new field found no room, so the others will find none: many of them must not cost much. Only its own
                // name is no fault of theirs.
                (None, Some((_, denied))) if !matches!(denied, Denied::Name { .. }) => Err(denied),
                (None, _) => define(self.out, alias, head.as_ref(), key),
            };
            match series {
                Ok(series) => {
                    let continues = self.out.samples() > self.row.mark.samples();
                    let flags = if continues { SampleFlags::ROW_CONTINUES } else { SampleFlags::NONE };
                    self.out.push(series, self.options.now, value, flags);
                }
                Err(denied) => self.row.deny(denied),
            }
            match body.get(after) {
                Some(b',') => at = after + 1,
                None | Some(b' ' | b'\r' | b'\n') => return self.end_row(after),
                Some(_) => {
                    return Err(Fault::new(after, Refusal::Syntax, "expected a comma or a space after the field"));
                }
            }
        }
    }

    /// Reads what stands behind the fields: nothing, or a timestamp.
    #[inline]
    fn end_row(&mut self, after_fields: usize) -> Result<usize, Fault> {
        let at = skip_spaces(self.body, after_fields);
        let next = if let Some(next) = line_end(self.body, at) {
            self.out.stamp(self.row.mark, self.options.now, SampleFlags::TIMESTAMP_IMPLICIT);
            next
        } else {
            let (timestamp, next) = timestamp(self.body, at, self.options.precision)?;
            self.out.stamp(self.row.mark, timestamp, SampleFlags::NONE);
            next
        };
        if let Some((fields, denied)) = self.row.denied {
            let (line, column) = self.lines.place(self.body, self.row.start, self.row.start);
            self.report.refuse(fields, line, column, denied.refusal(), || denied.to_string());
        }
        self.report.accepted += (self.out.samples() - self.row.mark.samples()) as u64;
        Ok(next)
    }

    /// Takes the line back and says where the next begins.
    #[cold]
    fn refuse(&mut self, fault: &Fault) -> usize {
        self.out.take_back(self.row.mark);
        let body = self.body;
        let (line, column) = self.lines.place(body, self.row.start, fault.at);
        self.report.refuse(self.row.fields.max(1), line, column, fault.reason, || {
            let rest = &body[fault.at..];
            match &rest[..memchr(b'\n', rest).unwrap_or(rest.len())] {
                b"" => format!("{}, found the end of the line", fault.expected),
                found => format!("{}, found {}", fault.expected, quoted(found)),
            }
        });
        memchr(b'\n', &body[fault.resume..]).map_or(body.len(), |end| fault.resume + end + 1)
    }
}

/// Counts lines as far as somebody asked, each once.
struct LineCounter {
    at: usize,
    line: usize,
}

impl LineCounter {
    /// Line on which the row that starts there stands, and column of a place in it, both from 1.
    #[cold]
    fn place(&mut self, body: &[u8], row: usize, at: usize) -> (usize, usize) {
        self.line += memchr_iter(b'\n', &body[self.at..row]).count();
        self.at = row;
        let line_start = memrchr(b'\n', &body[..row]).map_or(0, |end| end + 1);
        (self.line, at - line_start + 1)
    }
}

/// Measurement and tags of a line, parsed at first sight.
struct Head<'b> {
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
fn blame_head(body: &[u8], start: usize, head_end: usize, fault: Fault) -> Fault {
    match Head::parse(body, start, head_end) {
        Ok(_) => fault,
        Err(earlier) => earlier,
    }
}

#[cold]
fn check_names<'b>(
    head: &mut Option<Head<'b>>,
    body: &'b [u8],
    start: usize,
    head_end: usize,
    key: std::ops::Range<usize>,
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
fn define(out: &BatchBuilder<'_>, alias: AliasHash, head: Option<&Head<'_>>, key: &[u8]) -> Result<SeriesId, Denied> {
    let key = String::from_utf8_lossy(key);
    let key = unescaped(&key, b",= ");
    let (measurement, labels) = head.map_or(("", Vec::new()), |head| (&*head.measurement, head.tags.clone()));
    out.define(alias, SeriesSpec { measurement, field: Some(&key), labels, metadata: None })
}

#[cold]
fn missing_field(body: &[u8], at: usize, key_end: usize) -> Fault {
    match body.get(key_end) {
        None | Some(b'\n' | b'\r') if key_end == at => Fault::new(at, Refusal::NoValue, "expected a field"),
        _ if key_end == at => Fault::new(at, Refusal::Syntax, "expected a field key"),
        _ => Fault::new(key_end, Refusal::Syntax, "expected '=' after the field key"),
    }
}

#[cold]
fn stray_return(at: usize) -> Fault {
    Fault::new(at, Refusal::Syntax, "expected a measurement, or a line feed after the carriage return")
}

/// Reads a comment. A control character in it makes it a bad line: that is how a damaged body shows.
#[cold]
fn comment(body: &[u8], start: usize) -> Result<usize, Fault> {
    let end = memchr(b'\n', &body[start..]).map_or(body.len(), |end| start + end);
    let text = body[start..end].strip_suffix(b"\r").unwrap_or(&body[start..end]);
    match text.iter().position(|byte| is_control(*byte)) {
        None => Ok(end + 1),
        Some(at) => Err(Fault::new(start + at, Refusal::Syntax, "expected no control character in a comment")),
    }
}

fn skip_spaces(body: &[u8], mut at: usize) -> usize {
    while body.get(at) == Some(&b' ') {
        at += 1;
    }
    at
}

/// Where the next line begins, when the line ends here.
fn line_end(body: &[u8], at: usize) -> Option<usize> {
    match (body.get(at), body.get(at + 1)) {
        (None, _) => Some(at),
        (Some(b'\n'), _) | (Some(b'\r'), None) => Some(at + 1),
        (Some(b'\r'), Some(b'\n')) => Some(at + 2),
        _ => None,
    }
}

/// The end of `measurement,tags`: the first space that no backslash precedes, or the end of the line.
fn head_end(body: &[u8], start: usize) -> usize {
    let mut from = start;
    while let Some(found) = memchr2(b' ', b'\n', &body[from..]) {
        let at = from + found;
        if body[at] == b'\n' || at == start || body[at - 1] != b'\\' {
            return at;
        }
        from = at + 1;
    }
    body.len()
}

/// The end of a tag key, tag value or field key.
#[inline]
fn name_end(body: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = body.get(at) {
        if byte == b'\\' {
            at += if matches!(body.get(at + 1), Some(b',' | b'=' | b' ')) { 2 } else { 1 };
        } else if ENDS_NAME[usize::from(byte)] {
            break;
        } else {
            at += 1;
        }
    }
    at
}

fn measurement_end(body: &[u8], start: usize) -> usize {
    let mut at = name_end(body, start);
    while body.get(at) == Some(&b'=') {
        at = name_end(body, at + 1);
    }
    at
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

/// Reads a field value; also gives the place behind it.
#[inline]
fn value<'v>(body: &'v [u8], start: usize, scratch: &'v mut String) -> Result<(Value<'v>, usize), Fault> {
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

fn value_end(body: &[u8], mut at: usize) -> usize {
    while !matches!(body.get(at), None | Some(b',' | b' ' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

fn number(text: &[u8]) -> Option<Value<'static>> {
    match text {
        [digits @ .., b'i'] => integer(digits).map(Value::I64),
        [digits @ .., b'u'] => natural(digits).map(Value::U64),
        _ => fast_float2::parse(text).ok().filter(|value: &f64| value.is_finite()).map(Value::F64),
    }
}

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

/// The quote that ends a string whose inside begins there.
fn closing_quote(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', body.get(at..)?)?;
        if body[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Reads a timestamp and the end of its line.
fn timestamp(body: &[u8], start: usize, precision: Precision) -> Result<(TimestampNs, usize), Fault> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Format, SeriesTable, TableBounds};
    use influxdb_line_protocol::FieldValue;

    fn decoded(table: &SeriesTable, body: &[u8], precision: Precision) -> (Batch, Report) {
        let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
        let report = decode(body, &Options { precision, now: 77 }, &mut builder);
        (builder.finish(), report)
    }

    fn refusal(body: &str) -> String {
        let (batch, report) = decoded(&SeriesTable::default(), body.as_bytes(), Precision::Nanoseconds);
        assert!(batch.samples.is_empty(), "{body:?}");
        let [refused] = &report.first[..] else { panic!("{body:?}: {report:?}") };
        format!("{}:{} {}: {}", refused.line, refused.column, refused.reason.as_str(), refused.message)
    }

    #[test]
    fn a_line_becomes_a_row_of_typed_samples() {
        let table = SeriesTable::default();
        let body = b"cpu,host=a\\ b idle=1.5,n=-2i,u=3u,up=T,s=\"x\\\"\\n\\r\\t\\v\\\\\" 9\r\ncpu up=f";
        let (batch, report) = decoded(&table, body, Precision::Nanoseconds);
        let values: Vec<_> =
            batch.samples.iter().map(|sample| (batch.value(sample), sample.timestamp, sample.flags)).collect();
        let (first, further) = (SampleFlags::NONE, SampleFlags::ROW_CONTINUES);
        let expected = [
            (Value::F64(1.5), 9, first),
            (Value::I64(-2), 9, further),
            (Value::U64(3), 9, further),
            (Value::Bool(true), 9, further),
            (Value::Str("x\"\n\r\t\\v\\"), 9, further),
            (Value::Bool(false), 77, SampleFlags::TIMESTAMP_IMPLICIT),
        ];
        assert_eq!(values, expected);
        assert_eq!((report.accepted, report.refused()), (6, 0));
        let series = table.series(batch.samples[0].series).unwrap();
        assert_eq!((series.name.measurement(), series.name.field_key()), ("cpu", Some("idle")));
        assert_eq!(series.label("host"), Some("a b"));
    }

    #[test]
    fn refusals_say_where_and_why() {
        let cases = [
            ("\n\n  m,=b f=1", "3:5 invalid_label: expected a tag key after the comma, found \"=b f=1\""),
            (",a=b f=1", "1:1 missing_name: expected a measurement, found \",a=b f=1\""),
            ("m,a f=1", "1:4 invalid_label: expected '=' after the tag key, found \" f=1\""),
            ("m,a= f=1", "1:5 invalid_label: expected a tag value, found \" f=1\""),
            ("m,a=1,a=2 f=1", "1:1 duplicate_label: expected each tag key once, found \"m,a=1,a=2 f=1\""),
            ("m\u{1} f=1", "1:2 syntax: expected a comma or a space, found \"\\u{1} f=1\""),
            ("m\n", "1:2 no_value: expected a field, found the end of the line"),
            ("m f", "1:4 syntax: expected '=' after the field key, found the end of the line"),
            ("m f=1,\n", "1:7 no_value: expected a field, found the end of the line"),
            ("m =1", "1:3 syntax: expected a field key, found \"=1\""),
            ("m f=", "1:5 invalid_value: expected a number, a boolean or a quoted string, found the end of the line"),
            ("m f=1,g=nan", "1:9 invalid_value: expected a number, a boolean or a quoted string, found \"nan\""),
            ("m f=-inf", "1:5 invalid_value: expected a number in range, found \"-inf\""),
            ("m f=1e999", "1:5 invalid_value: expected a number in range, found \"1e999\""),
            ("m f=0x10", "1:5 invalid_value: expected a number in range, found \"0x10\""),
            (
                "m f=9223372036854775808i",
                "1:5 invalid_value: expected a number in range, found \"9223372036854775808i\"",
            ),
            ("m f=-1u", "1:5 invalid_value: expected a number in range, found \"-1u\""),
            ("m f=tRUE", "1:5 invalid_value: expected a boolean, found \"tRUE\""),
            ("m f=\"x\ny", "1:5 syntax: expected a closing quote, found \"\\\"x\""),
            ("m f=\"x\"y", "1:8 syntax: expected a comma or a space after the field, found \"y\""),
            ("m f=1 12x", "1:7 invalid_timestamp: expected a timestamp and the end of the line, found \"12x\""),
            (
                "m f=1 9223372036854775808",
                "1:7 invalid_timestamp: expected a timestamp within 64 bits of nanoseconds, found \"9223372036854775808\"",
            ),
            ("#\tx", "1:2 syntax: expected no control character in a comment, found \"\\tx\""),
            ("\rx", "1:1 syntax: expected a measurement, or a line feed after the carriage return, found \"\\rx\""),
        ];
        for (body, expected) in cases {
            assert_eq!(refusal(body), expected, "{body:?}");
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused_wherever_it_stands() {
        for body in
            [&b"\xff f=1"[..], b"m,\xff=a f=1", b"m,a=\xff f=1", b"m \xff=1", b"m f=\"\xff\"", b"m f=\"\\n\xff\""]
        {
            let (batch, report) = decoded(&SeriesTable::default(), body, Precision::Nanoseconds);
            assert_eq!((batch.samples.len(), report.refused_for(Refusal::InvalidUtf8)), (0, 1), "{body:?}");
        }
    }

    #[test]
    fn names_are_bounded() {
        let table = SeriesTable::default();
        let long = "x".repeat(NAME_BYTES_MAX);
        for (body, refused) in [
            (format!("{long} {long}=1"), 0),
            (format!("{long}x f=1"), 1),
            (format!("m,t={long} f=1"), 1),
            (format!("m {long}x=1"), 1),
        ] {
            let (_, report) = decoded(&table, body.as_bytes(), Precision::Nanoseconds);
            assert_eq!(report.refused_for(Refusal::TooLong), refused);
        }
    }

    #[test]
    fn a_bad_line_costs_its_own_fields_only() {
        let body = b"m a=1,b=2 1\nm a=3,b=4,c=x 2\nm,\xff=1 a=5\nm a=\"\xff\n\" 3\nm a=6 4x\nm b=7 5\n";
        let table = SeriesTable::default();
        for _ in 0..2 {
            let (batch, report) = decoded(&table, body, Precision::Nanoseconds);
            let values: Vec<_> = batch.samples.iter().map(|sample| batch.value(sample)).collect();
            assert_eq!(values, [1.0, 2.0, 7.0].map(Value::F64));
            assert_eq!((report.accepted, report.refused()), (3, 6));
            let places: Vec<_> = report.first.iter().map(|refused| (refused.line, refused.reason.as_str())).collect();
            let expected = [(2, "invalid_value"), (3, "invalid_utf8"), (4, "invalid_utf8"), (6, "invalid_timestamp")];
            assert_eq!(places, expected);
        }
    }

    #[test]
    fn a_row_is_found_again_by_its_line_number() {
        let body = b"a f=1\r\nb,t=\\ \" s=\"x\ny=\\\"\nz\",g=\"\n\" 5\n\nc";
        assert_eq!(line(body, 1), b"a f=1");
        assert_eq!(line(body, 2), b"b,t=\\ \" s=\"x\ny=\\\"\nz\",g=\"\n\" 5");
        assert_eq!(line(body, 6), b"");
        assert_eq!(line(body, 7), b"c");
        assert_eq!(line(body, 99), b"");
    }

    #[test]
    fn units_are_known_by_the_names_of_each_version() {
        use Precision::{Auto, Hours, Microseconds, Milliseconds, Minutes, Nanoseconds, Seconds};
        type Parse = fn(&str) -> Option<Precision>;
        type Names = [(&'static str, Option<Precision>)];
        let cases: [(Parse, &Names); 3] = [
            (
                Precision::from_v1,
                &[
                    ("n", Some(Nanoseconds)),
                    ("ns", Some(Nanoseconds)),
                    ("u", Some(Microseconds)),
                    ("us", Some(Microseconds)),
                    ("µ", Some(Microseconds)),
                    ("µs", Some(Microseconds)),
                    ("ms", Some(Milliseconds)),
                    ("s", Some(Seconds)),
                    ("m", Some(Minutes)),
                    ("h", Some(Hours)),
                    ("auto", None),
                    ("", None),
                ],
            ),
            (Precision::from_v2, &[("us", Some(Microseconds)), ("h", None), ("n", None)]),
            (
                Precision::from_v3,
                &[
                    ("nanosecond", Some(Nanoseconds)),
                    ("microsecond", Some(Microseconds)),
                    ("millisecond", Some(Milliseconds)),
                    ("second", Some(Seconds)),
                    ("auto", Some(Auto)),
                    ("ms", Some(Milliseconds)),
                    ("m", None),
                ],
            ),
        ];
        for (parse, names) in cases {
            for (name, expected) in names {
                assert_eq!(parse(name), *expected, "{name}");
            }
        }
    }

    #[test]
    fn timestamps_become_nanoseconds_or_are_refused() {
        use Precision::{Auto, Hours, Minutes, Seconds};
        let cases = [
            (Hours, "2", Some(7_200_000_000_000)),
            (Minutes, "-1", Some(-60_000_000_000)),
            (Seconds, "9223372037", None),
            (Auto, "4999999999", Some(4_999_999_999_000_000_000)),
            (Auto, "5000000000", Some(5_000_000_000_000_000)),
            (Auto, "-5000000000000", Some(-5_000_000_000_000_000)),
            (Auto, "5000000000000000", Some(5_000_000_000_000_000)),
            (Auto, "-9223372036854775808", Some(i64::MIN)),
        ];
        for (precision, text, expected) in cases {
            let table = SeriesTable::default();
            let (batch, report) = decoded(&table, format!("m f=1 {text}").as_bytes(), precision);
            assert_eq!(batch.samples.first().map(|sample| sample.timestamp), expected, "{text}");
            assert_eq!(report.refused_for(Refusal::InvalidTimestamp), u64::from(expected.is_none()), "{text}");
        }
    }

    #[test]
    fn a_full_table_refuses_the_new_fields_of_a_row_and_keeps_the_known() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1, idle_sweeps: 1, ..TableBounds::default() });
        let (batch, report) = decoded(&table, b"m a=1\nm b=2,a=3,c=4 5", Precision::Nanoseconds);
        let values: Vec<_> = batch.samples.iter().map(|sample| (batch.value(sample), sample.flags)).collect();
        assert_eq!(values, [(Value::F64(1.0), SampleFlags::TIMESTAMP_IMPLICIT), (Value::F64(3.0), SampleFlags::NONE)]);
        assert_eq!((report.accepted, report.refused_for(Refusal::SeriesLimit)), (2, 2));
        assert_eq!(report.first[0].line, 2);
    }

    #[test]
    fn agrees_with_the_crate_of_influxdb_3() {
        let lines = [
            "cpu,host=a,region=eu\\ west usage_idle=91.5,n=3i,big=18446744073709551615u,up=true 1700000000000000000",
            "disk,path=/a\\,b\\=c free=1e9,label=\"a \\\"b\\\"\" -5",
            "weather,loc=züri temp=-0.5",
        ];
        let table = SeriesTable::default();
        for text in lines {
            let (batch, _) = decoded(&table, text.as_bytes(), Precision::Nanoseconds);
            let parsed = influxdb_line_protocol::parse_lines(text).next().unwrap().unwrap();
            assert_eq!(batch.samples.len(), parsed.field_set.len());
            for (sample, (key, value)) in batch.samples.iter().zip(&parsed.field_set) {
                let series = table.series(sample.series).unwrap();
                assert_eq!(series.name.measurement(), parsed.series.measurement.as_str());
                assert_eq!(series.name.field_key(), Some(key.as_str()));
                for (key, value) in parsed.series.tag_set.iter().flatten() {
                    assert_eq!(series.label(key.as_str()), Some(value.as_str()));
                }
                assert_eq!(sample.timestamp, parsed.timestamp.unwrap_or(77));
                let expected = match value {
                    FieldValue::I64(value) => Value::I64(*value),
                    FieldValue::U64(value) => Value::U64(*value),
                    FieldValue::F64(value) => Value::F64(*value),
                    FieldValue::String(text) => Value::Str(text.as_str()),
                    FieldValue::Boolean(value) => Value::Bool(*value),
                };
                assert_eq!(batch.value(sample), expected);
            }
        }
    }
}
