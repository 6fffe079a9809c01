//! Samples to lines with nanosecond timestamps. See the format's module for the grammar.
//!
//! Line protocol's own series are written as they came: the fields of a row on one line, in their order, with their types.
//! Series of other dialects are one line a sample: the metric name verbatim as measurement, the labels as tags (the text of
//! `le` and `quantile` untouched), the value as field `value`. A native histogram becomes cumulative `<name>_bucket` lines
//! with `le`, `<name>_sum` and `<name>_count`; a distribution becomes fields `count` and `sum`. Other customs for series of
//! Prometheus are in [`schema`](super::schema).
//!
//! What the grammar cannot carry, following Telegraf for tags and the Go encoder for names:
//!
//! * Tags: backslashes at the end are cut; tab, line feed, form feed and carriage return become `\t`, `\n`, `\f`, `\r` and
//!   other control characters `_`; a tag of which nothing is left is dropped.
//! * Measurements and field keys with a control character, a backslash at the end, or nothing at all, and measurements
//!   that would read as a comment, are not written ([`Loss::UnusableName`]).
//! * String fields escape `"` and `\` only. Line ends go as they are, as Telegraf writes them: `\n` is a line end to the Go
//!   decoder but two characters to every InfluxDB.

mod rendered;
#[cfg(test)]
mod tests;

pub use rendered::{Rendered, render};

use super::histogram::Parts;
use super::schema::{NativeHistograms, OfMean, Schema, Style, write_bound};
use super::token::{write_float, write_integer, write_string};
use crate::model::{
    Counts, Distribution, Loss, LossSet, Losses, NativeHistogram, SampleFlags, TimestampNs, Value, is_stale_marker,
};
use crate::wire::classic::{count_and_sum, finite_buckets};
use crate::wire::digits::Stamp;
use crate::wire::lines::Lines;
use crate::wire::shared::SharedTexts;
use crate::wire::{Body, SampleRef};
use std::ops::Range;
use std::sync::Arc;

/// What an output's destination understands.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether it has unsigned integers. InfluxDB 1 has none unless built for them: they are written as signed ones, and
    /// those beyond 2^63-1 as 2^63-1, as Telegraf does, since a float would conflict with the field's type.
    pub unsigned: bool,
    /// Longest line, line feed included. Rows are split to fit; a single field that does not fit is dropped.
    pub line_bytes_max: usize,
    /// Whether samples that came without a timestamp are written with the time of their arrival. A destination that gets
    /// them later needs it; a filter leaves them as they were.
    pub stamps: bool,
    /// How series of Prometheus become rows.
    pub style: Style,
    /// Whether bodies are compressed when they end.
    pub gzip: bool,
    /// Names and tags of renderings.
    pub texts: SharedTexts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            unsigned: true,
            line_bytes_max: usize::MAX,
            stamps: true,
            style: Style::default(),
            gzip: false,
            texts: SharedTexts::default(),
        }
    }
}

/// Numbers of shared texts are lower: the comma makes it another text.
const FURTHER_FIELDS: u64 = 1 << 62;

/// The line that further fields of its row may join: everything but its timestamp is in the body.
#[derive(Debug)]
struct OpenLine {
    start: usize,
    head_end: usize,
    shares: Option<u32>,
    timestamp: Option<TimestampNs>,
    samples: u32,
    /// Sum and count, where the line is to get their mean.
    sum: Option<f64>,
    count: Option<f64>,
}

impl OpenLine {
    fn note(&mut self, rendered: &Rendered, value: &Value<'_>) {
        match (rendered.of_mean, value) {
            (Some(OfMean::Sum), Value::F64(sum)) => self.sum = Some(*sum),
            (Some(OfMean::Count), Value::F64(count)) => self.count = Some(*count),
            _ => {}
        }
    }

    /// Of nothing, it is 0, as in Micrometer.
    fn mean(&self) -> Option<f64> {
        let (sum, count) = (self.sum?, self.count?);
        Some(if count == 0.0 { 0.0 } else { sum / count }).filter(|mean| mean.is_finite())
    }
}

/// Writes samples as lines, each line a piece of the [`Body`].
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    body: Lines,
    open: Option<OpenLine>,
    stamp: Stamp,
    samples: u64,
    buckets: Vec<(f64, f64)>,
    /// Measurement and tags of a histogram.
    head: Vec<u8>,
    /// Where the field keys of the open line stand, if it is one that samples share.
    keys: Vec<Range<usize>>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new(options: Options) -> Self {
        Self {
            body: Lines::new(options.gzip),
            options,
            open: None,
            stamp: Stamp::default(),
            samples: 0,
            buckets: Vec::new(),
            head: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Samples pushed since the last [`Encoder::finish`].
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Size of the body so far, but for the timestamp of a line that may grow.
    pub fn bytes(&self) -> usize {
        self.body.bytes()
    }

    /// Writes one sample, as a further field of the line before where it belongs to its row. An error says why it was
    /// dropped. What it loses otherwise is counted in `losses`.
    pub fn push(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>, losses: &mut Losses) -> Result<(), Loss> {
        let altered = match sample.value {
            Value::Histogram(histogram) => self.histogram(rendered, histogram, self.stamp(sample))?,
            Value::Distribution(distribution) => self.distribution(rendered, distribution, self.stamp(sample))?,
            _ => self.field(rendered, sample)?,
        };
        self.samples += 1;
        losses.count_set(rendered.losses() | altered);
        if sample.start.is_some() {
            losses.count(Loss::StartTimestamp);
        }
        Ok(())
    }

    /// Ends the body. Nothing is dropped this late.
    pub fn finish(&mut self, _dropped: &mut Losses) -> Body {
        self.close();
        self.samples = 0;
        self.body.take()
    }

    /// The timestamp to be written.
    #[inline]
    fn stamp(&self, sample: &SampleRef<'_>) -> Option<TimestampNs> {
        (self.options.stamps || !sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT)).then_some(sample.timestamp)
    }

    fn field(&mut self, rendered: &Rendered, sample: &SampleRef<'_>) -> Result<LossSet, Loss> {
        let timestamp = self.stamp(sample);
        if self.continues(rendered, sample) {
            let start = self.body.text.len();
            self.body.text.push(b',');
            self.body.text.extend_from_slice(rendered.field());
            self.body.known(start, FURTHER_FIELDS | rendered.first_field.number());
            let written = self.value(&sample.value, start)?;
            if self.fits() {
                self.note_key(start + 1, rendered);
                if let Some(open) = &mut self.open {
                    open.samples += 1;
                    open.note(rendered, &sample.value);
                }
                return Ok(written);
            }
            self.body.truncate(start);
        }
        self.close();
        let start = self.body.text.len();
        self.body.shared(&rendered.measurement);
        self.body.shared(&rendered.tags);
        let head_end = self.body.text.len();
        self.body.shared(&rendered.first_field);
        let written = self.value(&sample.value, start)?;
        let mut open =
            OpenLine { start, head_end, shares: rendered.shares, timestamp, samples: 1, sum: None, count: None };
        open.note(rendered, &sample.value);
        self.open = Some(open);
        if self.fits() {
            self.note_key(head_end + 1, rendered);
            return Ok(written);
        }
        self.open = None;
        self.body.truncate(start);
        Err(Loss::TooLong)
    }

    /// Whether a sample becomes a further field of the open line, if there is room.
    #[inline]
    pub fn continues(&self, rendered: &Rendered, sample: &SampleRef<'_>) -> bool {
        (sample.flags.contains(SampleFlags::ROW_CONTINUES) || self.shares(rendered))
            && self.open.as_ref().is_some_and(|open| {
                open.timestamp == self.stamp(sample) && rendered.is_of(&self.body.text[open.start..open.head_end])
            })
    }

    /// Whether a sample may share the open line: one of the same family, whose key the line does not have yet.
    #[inline]
    fn shares(&self, rendered: &Rendered) -> bool {
        let Some(shared) = rendered.shares else { return false };
        self.open.as_ref().is_some_and(|open| {
            let first = &self.body.text[open.head_end + 1..];
            open.shares == rendered.shares && first.starts_with(&rendered.field()[..shared as usize])
        }) && self.keys.iter().all(|key| self.body.text[key.clone()] != *rendered.field())
    }

    /// Remembers where the open line has a key, if it is a line that samples share.
    #[inline]
    fn note_key(&mut self, start: usize, rendered: &Rendered) {
        if rendered.shares.is_some() {
            self.keys.push(start..start + rendered.field().len());
        }
    }

    /// Writes a field's value; on an error the body is cut back to `start`.
    #[inline]
    fn value(&mut self, value: &Value<'_>, start: usize) -> Result<LossSet, Loss> {
        let (mut losses, from) = (LossSet::NONE, self.body.text.len());
        let out = &mut self.body.text;
        match *value {
            Value::F64(value) if value.is_finite() => write_float(out, value),
            Value::F64(value) => {
                self.body.truncate(start);
                return Err(if is_stale_marker(value) { Loss::StaleMarker } else { Loss::NonFinite });
            }
            Value::I64(value) => write_integer(out, value, b'i'),
            Value::U64(value) if self.options.unsigned => write_integer(out, value, b'u'),
            Value::U64(value) => losses = write_as_signed(out, value),
            Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Str(text) => {
                write_string(out, text);
                return Ok(losses);
            }
            Value::Histogram(_) | Value::Distribution(_) => {
                // `push` sent these elsewhere.
                self.body.truncate(start);
                return Err(Loss::UnusableName);
            }
        }
        self.body.differs(from);
        Ok(losses)
    }

    /// Whether the open line, with its timestamp, is within bounds.
    fn fits(&self) -> bool {
        /// A space, `-9223372036854775808`, a line feed.
        const LONGEST_END: usize = 22;
        let Some(open) = &self.open else { return true };
        let bytes = self.body.text.len() - open.start;
        bytes.saturating_add(LONGEST_END) <= self.options.line_bytes_max
            || bytes + open.timestamp.map_or(0, |at| itoa::Buffer::new().format(at).len() + 1)
                < self.options.line_bytes_max
    }

    fn close(&mut self) {
        self.keys.clear();
        if let Some(mean) = self.open.as_ref().and_then(OpenLine::mean) {
            let end = self.body.text.len();
            self.body.text.extend_from_slice(b",mean=");
            let from = self.body.text.len();
            write_float(&mut self.body.text, mean);
            self.body.differs(from);
            if !self.fits() {
                self.body.truncate(end);
            }
        }
        if let Some(open) = self.open.take() {
            match open.timestamp {
                Some(timestamp) => self.stamp.append(timestamp, &mut self.body, |out| end_line(out, Some(timestamp))),
                None => end_line(&mut self.body.text, None),
            }
            self.body.cut_as(open.samples, 1);
        }
    }

    #[cold]
    fn distribution(
        &mut self,
        rendered: &Rendered,
        distribution: &Distribution,
        timestamp: Option<TimestampNs>,
    ) -> Result<LossSet, Loss> {
        let (count, sum) = count_and_sum(distribution);
        if !sum.is_finite() {
            return Err(Loss::NonFinite);
        }
        self.close();
        let start = self.body.text.len();
        rendered.append_head(&mut self.body.text);
        self.body.text.extend_from_slice(b" count=");
        write_integer(&mut self.body.text, count, b'i');
        self.body.text.extend_from_slice(b",sum=");
        write_float(&mut self.body.text, sum);
        end_line(&mut self.body.text, timestamp);
        self.end_piece(start)?;
        Ok(LossSet::of(Loss::Distribution))
    }

    /// Writes a histogram as classic series, all lines in one piece.
    #[cold]
    fn histogram(
        &mut self,
        rendered: &Rendered,
        histogram: &NativeHistogram,
        timestamp: Option<TimestampNs>,
    ) -> Result<LossSet, Loss> {
        let count = finite_buckets(histogram, &mut self.buckets)?;
        let buckets = std::mem::take(&mut self.buckets);
        self.close();
        let start = self.body.text.len();
        let mut losses = LossSet::NONE;
        let parts = Parts { histogram, count, buckets: &buckets };
        let unsigned = if self.options.unsigned { b'u' } else { b'i' };
        let field = rendered.field().strip_suffix(b"=").unwrap_or_default();
        let mut head = std::mem::take(&mut self.head);
        head.clear();
        rendered.append_head(&mut head);
        let out = &mut self.body.text;
        match (self.options.style.native_histograms, self.options.style.schema) {
            (NativeHistograms::Fields, schema) => {
                let prefix = if schema == Schema::Single { field } else { b"" };
                parts.everything(out, &head, prefix, unsigned);
                end_line(out, timestamp);
                if matches!(histogram.counts, Counts::Integer { .. }) {
                    losses.insert(Loss::FieldType);
                }
            }
            (NativeHistograms::Buckets, Schema::Flat) => {
                self.classic_lines(rendered, histogram.sum, count, &buckets, timestamp);
                losses.insert(Loss::NativeHistogram);
                if rendered.le.is_some() {
                    losses.insert(Loss::LabelDropped);
                }
            }
            (NativeHistograms::Buckets, Schema::Family) => {
                parts.classic(out, &head);
                end_line(out, timestamp);
                losses.insert(Loss::NativeHistogram);
            }
            (NativeHistograms::Buckets, Schema::Single) => {
                parts.single(out, &head, field, |out| end_line(out, timestamp));
                losses.insert(Loss::NativeHistogram);
            }
        }
        (self.buckets, self.head) = (buckets, head);
        self.end_piece(start)?;
        Ok(losses)
    }

    /// A histogram as classic series, a line each.
    fn classic_lines(
        &mut self,
        rendered: &Rendered,
        sum: f64,
        count: f64,
        buckets: &[(f64, f64)],
        timestamp: Option<TimestampNs>,
    ) {
        for (bound, cumulative) in buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            self.part(rendered, "_bucket", Some(bound), cumulative, timestamp);
        }
        if sum.is_finite() {
            self.part(rendered, "_sum", None, sum, timestamp);
        }
        self.part(rendered, "_count", None, count, timestamp);
    }

    /// One line of an expanded histogram.
    fn part(&mut self, rendered: &Rendered, suffix: &str, le: Option<f64>, value: f64, timestamp: Option<TimestampNs>) {
        let out = &mut self.body.text;
        out.extend_from_slice(&rendered.measurement);
        out.extend_from_slice(suffix.as_bytes());
        match (le, &rendered.le) {
            (Some(_), Some(own)) => {
                out.extend_from_slice(&rendered.tags[..own.start as usize]);
                out.extend_from_slice(&rendered.tags[own.end as usize..]);
            }
            _ => out.extend_from_slice(&rendered.tags),
        }
        if let Some(bound) = le {
            out.extend_from_slice(b",le=");
            write_bound(out, bound);
        }
        out.extend_from_slice(b" value=");
        write_float(out, value);
        end_line(&mut self.body.text, timestamp);
    }

    /// Ends a piece of one sample, unless a line of it is too long.
    fn end_piece(&mut self, start: usize) -> Result<(), Loss> {
        let mut lines = 0;
        for line in self.body.text[start..].split_inclusive(|byte| *byte == b'\n') {
            if line.len() > self.options.line_bytes_max {
                self.body.truncate(start);
                return Err(Loss::TooLong);
            }
            lines += 1;
        }
        self.body.cut_as(1, lines);
        Ok(())
    }
}

/// Ends a line, with its timestamp if it has one.
fn end_line(out: &mut Vec<u8>, timestamp: Option<TimestampNs>) {
    if let Some(timestamp) = timestamp {
        out.push(b' ');
        out.extend_from_slice(itoa::Buffer::new().format(timestamp).as_bytes());
    }
    out.push(b'\n');
}

#[cold]
fn write_as_signed(out: &mut Vec<u8>, value: u64) -> LossSet {
    let signed = i64::try_from(value);
    write_integer(out, signed.unwrap_or(i64::MAX), b'i');
    LossSet::of(if signed.is_ok() { Loss::FieldType } else { Loss::IntegerRounded })
}
