//! Lines to samples. See the format's module for the grammar.
//!
//! The hot loop hashes the bytes `measurement,tags` of a line once, joins the hash of each field key to it and asks the
//! series table. Bytes that it knows were valid when they were first seen, so only values and the timestamp are parsed.
//! At first sight the names are parsed and checked in cold functions. The crate `influxdb-line-protocol` is the oracle of
//! tests and fuzzing but is not used here: it reads the grammar of InfluxDB 3, not that of the Go decoder, and spends
//! 665 ns a field.

mod fault;
mod names;
mod precision;
mod scan;
#[cfg(test)]
mod tests;
mod value;

pub use names::NAME_BYTES_MAX;
pub use precision::Precision;
pub use scan::{line, whole_rows};

use super::is_control;
use crate::model::{BatchBuilder, Denied, Mark, Refusal, SampleFlags, TimestampNs};
use crate::wire::{Report, quoted};
use fault::Fault;
use memchr::{memchr, memchr_iter, memrchr};
use names::{blame_head, check_names, define};
use scan::{head_end, line_end, name_end, skip_spaces};
use value::{timestamp, value};

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
