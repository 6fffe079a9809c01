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
//!
//! Floats are the shortest digits that read back the same, with an exponent below 10^-4 and from 10^6, as Go prints them.

use super::histogram::Parts;
use super::is_control;
use super::schema::{NativeHistograms, Schema, Style, shape, write_bound};
use crate::model::{
    Counts, Dialect, Distribution, Loss, LossSet, Losses, NativeHistogram, SampleFlags, Series, TimestampNs, Value,
    is_stale_marker,
};
use crate::wire::classic::{count_and_sum, cumulative_buckets};
use crate::wire::{Body, SampleRef};
use memchr::memchr2;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

/// What an output's destination understands.
#[derive(Clone, Debug, PartialEq, Eq)]
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
}

impl Default for Options {
    fn default() -> Self {
        Self { unsigned: true, line_bytes_max: usize::MAX, stamps: true, style: Style::default() }
    }
}

/// A series as line protocol names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// `measurement,tags field=`, escaped.
    text: Box<[u8]>,
    measurement_end: usize,
    head_end: usize,
    /// Where `,le=...` stands in `text`: buckets of native histograms bring their own.
    le: Option<Range<usize>>,
    /// Whether a sample joins the line before it when the tags are the same, and how many bytes of the field keys must be.
    shares: Option<usize>,
    losses: LossSet,
}

impl Rendered {
    /// Measurement, tags and field key: what the series is at the destination.
    pub fn identity(&self) -> &[u8] {
        &self.text
    }

    /// What every sample of the series loses.
    pub fn losses(&self) -> LossSet {
        self.losses
    }

    /// Measurement and tags: what the fields of a row share.
    pub fn row(&self) -> &[u8] {
        self.head()
    }

    fn head(&self) -> &[u8] {
        &self.text[..self.head_end]
    }

    /// The field key with its `=`.
    fn field(&self) -> &[u8] {
        &self.text[self.head_end + 1..]
    }
}

/// Names a series in line protocol. An error says why no sample of it can be sent.
pub fn render(series: &Series, options: &Options) -> Result<Rendered, Loss> {
    let mut losses = LossSet::NONE;
    if series.metadata.is_some() {
        losses.insert(Loss::Metadata);
    }
    let name = series.name.measurement();
    if series.dialect == Dialect::Wavefront {
        let plain = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
        if plain.starts_with('~') {
            return Err(Loss::InternalMetric);
        }
        if plain.len() < name.len() {
            losses.insert(Loss::DeltaTemporality);
        }
    }
    let shape = shape(series, &options.style);
    if !is_measurement(&shape.measurement) || !is_carried(&shape.field) {
        return Err(Loss::UnusableName);
    }
    let mut text = Vec::new();
    escape(&mut text, &shape.measurement, b", ");
    let measurement_end = text.len();
    let le = render_tags(series, shape.edge.as_ref(), &mut text, &mut losses);
    let head_end = text.len();
    text.push(b' ');
    escape(&mut text, &shape.field, b",= ");
    text.push(b'=');
    let shares = shape.shares.map(|family| {
        let mut shared = Vec::new();
        escape(&mut shared, &shape.field[..family], b",= ");
        shared.len()
    });
    Ok(Rendered { text: text.into(), measurement_end, head_end, le, shares, losses })
}

/// Whether a measurement reads back as itself.
pub(super) fn is_measurement(name: &str) -> bool {
    is_carried(name) && !name.starts_with('#')
}

/// Writes the tags that can be written, `edge` otherwise or not at all; says where `le` stands.
fn render_tags(
    series: &Series,
    edge: Option<&(&str, Option<String>)>,
    text: &mut Vec<u8>,
    losses: &mut LossSet,
) -> Option<Range<usize>> {
    let mut tags: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(series.labels.len());
    for pair in &series.labels {
        let value = match edge.filter(|(key, _)| *key == &*pair.name) {
            Some((_, None)) => continue,
            Some((_, Some(value))) if *value != *pair.value => {
                losses.insert(Loss::ValueSanitised);
                value
            }
            _ => &*pair.value,
        };
        let tag = (carried(&pair.name), carried(value));
        if tag.0.is_empty() || tag.1.is_empty() {
            losses.insert(Loss::LabelDropped);
            continue;
        }
        if matches!(tag.0, Cow::Owned(_)) {
            losses.insert(Loss::LabelSanitised);
        }
        if matches!(tag.1, Cow::Owned(_)) {
            losses.insert(Loss::ValueSanitised);
        }
        tags.push(tag);
    }
    if losses.contains(Loss::LabelSanitised) {
        tags.sort_by(|(left, _), (right, _)| left.cmp(right));
        let before = tags.len();
        tags.dedup_by(|(later, _), (first, _)| later == first);
        if tags.len() < before {
            losses.insert(Loss::LabelDropped);
        }
    }
    let mut le = None;
    for (key, value) in &tags {
        let start = text.len();
        text.push(b',');
        escape(text, key, b",= ");
        text.push(b'=');
        escape(text, value, b",= ");
        if key == "le" {
            le = Some(start..text.len());
        }
    }
    le
}

/// Whether a name reads back as itself.
fn is_carried(name: &str) -> bool {
    !name.is_empty() && !name.ends_with('\\') && !name.bytes().any(is_control)
}

/// A tag key or value as far as it can be carried; owned when it was altered, empty when nothing is left.
fn carried(text: &str) -> Cow<'_, str> {
    if is_carried(text) || text.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 1);
    for c in text.trim_end_matches('\\').chars() {
        match c {
            '\t' => clean.push_str("\\t"),
            '\n' => clean.push_str("\\n"),
            '\x0c' => clean.push_str("\\f"),
            '\r' => clean.push_str("\\r"),
            c if c.is_ascii_control() => clean.push('_'),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

fn escape(out: &mut Vec<u8>, text: &str, escapes: &[u8]) {
    for byte in text.bytes() {
        if escapes.contains(&byte) {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

/// The line that further fields of its row may join: everything but its timestamp is in the body.
#[derive(Debug)]
struct OpenLine {
    series: Arc<Rendered>,
    start: usize,
    timestamp: Option<TimestampNs>,
    samples: u32,
}

/// Writes samples as lines, each line a piece of the [`Body`].
#[derive(Debug)]
pub struct Encoder {
    options: Options,
    body: Body,
    open: Option<OpenLine>,
    samples: u64,
    buckets: Vec<(f64, f64)>,
    /// Where the field keys of the open line stand, if it is one that samples share.
    keys: Vec<Range<usize>>,
}

impl Encoder {
    /// An empty encoder.
    pub fn new(options: Options) -> Self {
        Self { options, body: Body::default(), open: None, samples: 0, buckets: Vec::new(), keys: Vec::new() }
    }

    /// Samples pushed since the last [`Encoder::finish`].
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Size of the body so far, but for the timestamp of a line that may grow.
    pub fn bytes(&self) -> usize {
        self.body.bytes.len()
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
        losses.count_set(rendered.losses | altered);
        if sample.start.is_some() {
            losses.count(Loss::StartTimestamp);
        }
        Ok(())
    }

    /// Ends the body. Nothing is dropped this late.
    pub fn finish(&mut self, _dropped: &mut Losses) -> Body {
        self.close();
        self.samples = 0;
        // The next body will be about as large as this one.
        let bytes = Vec::with_capacity(self.body.bytes.len());
        let cuts = Vec::with_capacity(self.body.cuts.len());
        std::mem::replace(&mut self.body, Body { prefix: Vec::new(), bytes, cuts })
    }

    /// The timestamp to be written.
    #[inline]
    fn stamp(&self, sample: &SampleRef<'_>) -> Option<TimestampNs> {
        (self.options.stamps || !sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT)).then_some(sample.timestamp)
    }

    fn field(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>) -> Result<LossSet, Loss> {
        let timestamp = self.stamp(sample);
        let joins = (sample.flags.contains(SampleFlags::ROW_CONTINUES) || self.shares(rendered))
            && self
                .open
                .as_ref()
                .is_some_and(|open| open.timestamp == timestamp && open.series.head() == rendered.head());
        if joins {
            let start = self.body.bytes.len();
            self.body.bytes.push(b',');
            self.body.bytes.extend_from_slice(rendered.field());
            let written = self.value(&sample.value, start)?;
            if self.fits() {
                self.note_key(start + 1, rendered);
                if let Some(open) = &mut self.open {
                    open.samples += 1;
                }
                return Ok(written);
            }
            self.body.bytes.truncate(start);
        }
        self.close();
        let start = self.body.bytes.len();
        self.body.bytes.extend_from_slice(&rendered.text);
        let written = self.value(&sample.value, start)?;
        self.open = Some(OpenLine { series: Arc::clone(rendered), start, timestamp, samples: 1 });
        if self.fits() {
            self.note_key(start + rendered.head_end + 1, rendered);
            return Ok(written);
        }
        self.open = None;
        self.body.bytes.truncate(start);
        Err(Loss::TooLong)
    }

    /// Whether a sample may share the open line: one of the same family, whose key the line does not have yet.
    #[inline]
    fn shares(&self, rendered: &Rendered) -> bool {
        let Some(shared) = rendered.shares else { return false };
        self.open.as_ref().is_some_and(|open| {
            let (field, other) = (rendered.field(), open.series.field());
            open.series.shares == rendered.shares && field[..shared] == other[..shared]
        }) && self.keys.iter().all(|key| self.body.bytes[key.clone()] != *rendered.field())
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
        let out = &mut self.body.bytes;
        match *value {
            Value::F64(value) if value.is_finite() => write_float(out, value),
            Value::F64(value) => {
                out.truncate(start);
                return Err(if is_stale_marker(value) { Loss::StaleMarker } else { Loss::NonFinite });
            }
            Value::I64(value) => write_integer(out, value, b'i'),
            Value::U64(value) if self.options.unsigned => write_integer(out, value, b'u'),
            Value::U64(value) => return Ok(write_as_signed(out, value)),
            Value::Bool(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
            Value::Str(text) => write_string(out, text),
            Value::Histogram(_) | Value::Distribution(_) => {
                // `push` sent these elsewhere.
                out.truncate(start);
                return Err(Loss::UnusableName);
            }
        }
        Ok(LossSet::NONE)
    }

    /// Whether the open line, with its timestamp, is within bounds.
    fn fits(&self) -> bool {
        /// A space, `-9223372036854775808`, a line feed.
        const LONGEST_END: usize = 22;
        let Some(open) = &self.open else { return true };
        let bytes = self.body.bytes.len() - open.start;
        bytes.saturating_add(LONGEST_END) <= self.options.line_bytes_max
            || bytes + open.timestamp.map_or(0, |at| itoa::Buffer::new().format(at).len() + 1)
                < self.options.line_bytes_max
    }

    fn close(&mut self) {
        self.keys.clear();
        if let Some(open) = self.open.take() {
            end_line(&mut self.body.bytes, open.timestamp);
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
        let start = self.body.bytes.len();
        self.body.bytes.extend_from_slice(rendered.head());
        self.body.bytes.extend_from_slice(b" count=");
        write_integer(&mut self.body.bytes, count, b'i');
        self.body.bytes.extend_from_slice(b",sum=");
        write_float(&mut self.body.bytes, sum);
        end_line(&mut self.body.bytes, timestamp);
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
        if histogram.is_stale_marker() {
            return Err(Loss::StaleMarker);
        }
        let count = histogram.count();
        let mut buckets = std::mem::take(&mut self.buckets);
        cumulative_buckets(histogram, &mut buckets);
        if !count.is_finite() || buckets.iter().any(|(_, cumulative)| !cumulative.is_finite()) {
            self.buckets = buckets;
            return Err(Loss::NonFinite);
        }
        self.close();
        let start = self.body.bytes.len();
        let mut losses = LossSet::NONE;
        let parts = Parts { histogram, count, buckets: &buckets };
        let unsigned = if self.options.unsigned { b'u' } else { b'i' };
        let field = rendered.field().strip_suffix(b"=").unwrap_or_default();
        let (head, out) = (rendered.head(), &mut self.body.bytes);
        match (self.options.style.native_histograms, self.options.style.schema) {
            (NativeHistograms::Fields, schema) => {
                let prefix = if schema == Schema::Single { field } else { b"" };
                parts.everything(out, head, prefix, unsigned);
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
                parts.classic(out, head);
                end_line(out, timestamp);
                losses.insert(Loss::NativeHistogram);
            }
            (NativeHistograms::Buckets, Schema::Single) => {
                parts.single(out, head, field, |out| end_line(out, timestamp));
                losses.insert(Loss::NativeHistogram);
            }
        }
        self.buckets = buckets;
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
        let (measurement, tags) = rendered.head().split_at(rendered.measurement_end);
        let out = &mut self.body.bytes;
        out.extend_from_slice(measurement);
        out.extend_from_slice(suffix.as_bytes());
        match (le, &rendered.le) {
            (Some(_), Some(own)) => {
                out.extend_from_slice(&rendered.text[rendered.measurement_end..own.start]);
                out.extend_from_slice(&rendered.text[own.end..rendered.head_end]);
            }
            _ => out.extend_from_slice(tags),
        }
        if let Some(bound) = le {
            out.extend_from_slice(b",le=");
            write_bound(out, bound);
        }
        out.extend_from_slice(b" value=");
        write_float(out, value);
        end_line(&mut self.body.bytes, timestamp);
    }

    /// Ends a piece of one sample, unless a line of it is too long.
    fn end_piece(&mut self, start: usize) -> Result<(), Loss> {
        let mut lines = 0;
        for line in self.body.bytes[start..].split_inclusive(|byte| *byte == b'\n') {
            if line.len() > self.options.line_bytes_max {
                self.body.bytes.truncate(start);
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

pub(super) fn write_integer(out: &mut Vec<u8>, value: impl itoa::Integer, suffix: u8) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(suffix);
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if memchr2(b'"', b'\\', text.as_bytes()).is_none() {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape(out, text, b"\"\\");
    }
    out.push(b'"');
}

#[cold]
fn write_as_signed(out: &mut Vec<u8>, value: u64) -> LossSet {
    let signed = i64::try_from(value);
    write_integer(out, signed.unwrap_or(i64::MAX), b'i');
    LossSet::of(if signed.is_ok() { Loss::FieldType } else { Loss::IntegerRounded })
}

/// Writes a finite float: the shortest digits, with an exponent below 10^-4 and from 10^6.
pub(super) fn write_float(out: &mut Vec<u8>, value: f64) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(value).as_bytes();
    let magnitude = value.abs();
    if value == 0.0 || (1e-4..1e6).contains(&magnitude) && !text.contains(&b'e') {
        out.extend_from_slice(text.strip_suffix(b".0").unwrap_or(text));
    } else {
        write_exponent(out, text);
    }
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
    use crate::model::{
        BatchBuilder, Centroid, Counts, Format, Granularity, Metadata, MetricType, ResetHint, STALE_MARKER_BITS,
        SeriesSpec, SeriesTable, Span,
    };
    use crate::wire::classic::CUSTOM_BOUNDS;

    type Labels<'a> = &'a [(&'a str, &'a str)];

    fn series(format: Format, name: &str, field: Option<&str>, labels: Labels<'_>) -> Result<Arc<Rendered>, Loss> {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, format, Vec::new());
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        let spec = SeriesSpec { measurement: name, field, labels, metadata: None };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        render(&table.series(id).unwrap(), &Options::default()).map(Arc::new)
    }

    fn sample(value: Value<'_>, flags: SampleFlags) -> SampleRef<'_> {
        SampleRef { timestamp: 5, value, start: None, flags }
    }

    /// Lines and losses of one sample.
    fn encoded(series: &Arc<Rendered>, value: Value<'_>, options: Options) -> Result<(String, Vec<Loss>), Loss> {
        let mut encoder = Encoder::new(options);
        let mut losses = Losses::default();
        encoder.push(series, &sample(value, SampleFlags::NONE), &mut losses)?;
        let body = encoder.finish(&mut losses);
        assert_eq!(body.samples(), 1);
        Ok((String::from_utf8(body.bytes).unwrap(), losses.iter().map(|(loss, _)| loss).collect()))
    }

    fn line(series: &Arc<Rendered>, value: Value<'_>) -> Result<(String, Vec<Loss>), Loss> {
        encoded(series, value, Options::default())
    }

    #[expect(clippy::unnecessary_wraps, reason = "to be compared with what `encoded` returns")]
    fn written(line: &str, losses: &[Loss]) -> Result<(String, Vec<Loss>), Loss> {
        Ok((line.to_owned(), losses.to_vec()))
    }

    #[test]
    fn each_dialect_is_named_by_its_rule() {
        let one = Value::F64(1.0);
        let cases = [
            (Format::RemoteWrite, "http_requests_total", "http_requests_total,le=1e+06 value=1 5\n", None),
            (Format::RemoteWrite, "a b,c=d", "a\\ b\\,c=d,le=1e+06 value=1 5\n", None),
            (Format::Wavefront, "∆hits", "∆hits,le=1e+06 value=1 5\n", Some(Loss::DeltaTemporality)),
        ];
        for (format, name, expected, loss) in cases {
            let series = series(format, name, None, &[("le", "1e+06")]).unwrap();
            assert_eq!(line(&series, one), written(expected, loss.as_slice()), "{name}");
        }
        let refused = [
            (Format::Wavefront, "~sdk.x", Loss::InternalMetric),
            (Format::Wavefront, "∆~sdk.x", Loss::InternalMetric),
            (Format::RemoteWrite, "#x", Loss::UnusableName),
            (Format::RemoteWrite, "x\\", Loss::UnusableName),
            (Format::RemoteWrite, "x\ny", Loss::UnusableName),
            (Format::RemoteWrite, "", Loss::UnusableName),
        ];
        for (format, name, loss) in refused {
            assert_eq!(series(format, name, None, &[]), Err(loss), "{name:?}");
        }
    }

    #[test]
    fn tags_lose_what_lines_cannot_carry() {
        let cases: [(Labels<'_>, &str, &[Loss]); 5] = [
            (&[("a,=b ", "c,=d ")], "m,a\\,\\=b\\ =c\\,\\=d\\  value=1 5\n", &[]),
            (&[("a", "x\ny\t\u{1}")], "m,a=x\\ny\\t_ value=1 5\n", &[Loss::ValueSanitised]),
            (&[("a\\", "1"), ("b", "C:\\")], "m,a=1,b=C: value=1 5\n", &[Loss::LabelSanitised, Loss::ValueSanitised]),
            (&[("a", "\\")], "m value=1 5\n", &[Loss::LabelDropped]),
            (&[("a", "1"), ("a\\", "2")], "m,a=1 value=1 5\n", &[Loss::LabelSanitised, Loss::LabelDropped]),
        ];
        for (labels, expected, losses) in cases {
            let series = series(Format::RemoteWrite, "m", None, labels).unwrap();
            assert_eq!(line(&series, Value::F64(1.0)), written(expected, losses), "{labels:?}");
        }
    }

    #[test]
    fn fields_of_a_row_share_a_line_and_a_cut() {
        let field = |key| series(Format::InfluxLine, "m", Some(key), &[("t", "v")]).unwrap();
        let other = series(Format::InfluxLine, "m", Some("a"), &[]).unwrap();
        let (first, further) = (SampleFlags::NONE, SampleFlags::ROW_CONTINUES);
        let mut encoder = Encoder::new(Options::default());
        let mut losses = Losses::default();
        for (series, value, flags) in [
            (&field("a"), Value::I64(1), first),
            (&field("b"), Value::Str("x\"\\\ny"), further),
            (&field("c"), Value::Bool(true), further),
            (&field("a"), Value::U64(2), first),
            (&other, Value::F64(3.0), further),
        ] {
            encoder.push(series, &sample(value, flags), &mut losses).unwrap();
        }
        let nan = encoder.push(&field("b"), &sample(Value::F64(f64::NAN), further), &mut losses);
        assert_eq!(nan, Err(Loss::NonFinite));
        assert_eq!(encoder.samples(), 5);
        let body = encoder.finish(&mut losses);
        let lines = "m,t=v a=1i,b=\"x\\\"\\\\\ny\",c=true 5\nm,t=v a=2u 5\nm a=3 5\n";
        assert_eq!(String::from_utf8_lossy(&body.bytes), lines);
        assert_eq!(body.cuts.iter().map(|cut| cut.samples).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!((losses.total(), encoder.samples(), encoder.bytes()), (0, 0, 0));
    }

    #[test]
    fn long_rows_are_split_and_long_fields_dropped() {
        let field = |key| series(Format::InfluxLine, "m", Some(key), &[]).unwrap();
        let mut encoder = Encoder::new(Options { line_bytes_max: 12, ..Options::default() });
        let mut losses = Losses::default();
        for (key, flags) in
            [("a", SampleFlags::NONE), ("b", SampleFlags::ROW_CONTINUES), ("c", SampleFlags::ROW_CONTINUES)]
        {
            encoder.push(&field(key), &sample(Value::F64(1.0), flags), &mut losses).unwrap();
        }
        let long = encoder.push(&field("d"), &sample(Value::Str("too long"), SampleFlags::NONE), &mut losses);
        assert_eq!(long, Err(Loss::TooLong));
        assert_eq!(String::from_utf8_lossy(&encoder.finish(&mut losses).bytes), "m a=1,b=1 5\nm c=1 5\n");
    }

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
        ];
        for (value, expected) in cases {
            let mut out = Vec::new();
            write_float(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn values_that_lines_cannot_carry_are_dropped_or_altered() {
        let series = series(Format::InfluxLine, "m", Some("f"), &[]).unwrap();
        let stale = f64::from_bits(STALE_MARKER_BITS);
        for (value, loss) in [(f64::INFINITY, Loss::NonFinite), (f64::NAN, Loss::NonFinite), (stale, Loss::StaleMarker)]
        {
            assert_eq!(line(&series, Value::F64(value)), Err(loss));
        }
        let signed = Options { unsigned: false, ..Options::default() };
        assert_eq!(encoded(&series, Value::U64(7), signed.clone()), written("m f=7i 5\n", &[Loss::FieldType]));
        let most = "m f=9223372036854775807i 5\n";
        assert_eq!(encoded(&series, Value::U64(u64::MAX), signed), written(most, &[Loss::IntegerRounded]));
    }

    #[test]
    fn native_histograms_become_cumulative_buckets() {
        let histogram = NativeHistogram {
            schema: 0,
            zero_threshold: 0.5,
            sum: 21.5,
            counts: Counts::Integer {
                count: 11,
                zero_count: 2,
                positive_deltas: vec![1, 2, -1],
                negative_deltas: vec![1, 1],
            },
            positive_spans: vec![Span { offset: 1, length: 2 }, Span { offset: 1, length: 1 }],
            negative_spans: vec![Span { offset: 1, length: 2 }],
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        };
        let tagged = series(Format::RemoteWrite, "h", None, &[("a", "b")]).unwrap();
        let lines = "h_bucket,a=b,le=-2 value=2 5\nh_bucket,a=b,le=-1 value=3 5\nh_bucket,a=b,le=0.5 value=5 5\n\
            h_bucket,a=b,le=2 value=6 5\nh_bucket,a=b,le=4 value=9 5\nh_bucket,a=b,le=16 value=11 5\n\
            h_bucket,a=b,le=+Inf value=11 5\nh_sum,a=b value=21.5 5\nh_count,a=b value=11 5\n";
        assert_eq!(line(&tagged, Value::Histogram(&histogram)), written(lines, &[Loss::NativeHistogram]));

        let mut encoder = Encoder::new(Options::default());
        let sample = sample(Value::Histogram(&histogram), SampleFlags::NONE);
        encoder.push(&tagged, &sample, &mut Losses::default()).unwrap();
        let cuts = encoder.finish(&mut Losses::default()).cuts;
        assert_eq!((cuts.len(), cuts[0].samples, cuts[0].on_wire), (1, 1, 9), "a server counts lines");

        let custom = NativeHistogram {
            schema: CUSTOM_BOUNDS,
            sum: f64::NAN,
            counts: Counts::Float {
                count: 3.5,
                zero_count: 0.0,
                positive_counts: vec![1.5, 2.0],
                negative_counts: vec![],
            },
            positive_spans: vec![Span { offset: 0, length: 2 }],
            negative_spans: Vec::new(),
            custom_values: vec![0.25],
            ..histogram.clone()
        };
        let le = series(Format::RemoteWrite, "h", None, &[("le", "x"), ("z", "1")]).unwrap();
        let lines =
            "h_bucket,z=1,le=0.25 value=1.5 5\nh_bucket,z=1,le=+Inf value=3.5 5\nh_count,le=x,z=1 value=3.5 5\n";
        let losses = [Loss::LabelDropped, Loss::NativeHistogram];
        assert_eq!(line(&le, Value::Histogram(&custom)), written(lines, &losses));

        let stale = NativeHistogram { sum: f64::from_bits(STALE_MARKER_BITS), ..histogram.clone() };
        assert_eq!(line(&tagged, Value::Histogram(&stale)), Err(Loss::StaleMarker));
        let short = Options { line_bytes_max: 20, ..Options::default() };
        assert_eq!(encoded(&tagged, Value::Histogram(&histogram), short), Err(Loss::TooLong));
    }

    #[test]
    fn distributions_become_count_and_sum() {
        let series = series(Format::Wavefront, "d", None, &[("source", "s")]).unwrap();
        let centroids = vec![Centroid { count: 2, mean: 1.5 }, Centroid { count: 1, mean: 4.0 }];
        let distribution = Distribution { granularity: Granularity::Minute, centroids };
        let expected = written("d,source=s count=3i,sum=7 5\n", &[Loss::Distribution]);
        assert_eq!(line(&series, Value::Distribution(&distribution)), expected);
        let endless = Distribution { centroids: vec![Centroid { count: 2, mean: f64::MAX }], ..distribution };
        assert_eq!(line(&series, Value::Distribution(&endless)), Err(Loss::NonFinite));
    }

    #[test]
    fn metadata_and_start_timestamps_are_counted_as_lost() {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::RemoteWrite2, Vec::new());
        let metadata =
            Metadata { family: "m".into(), metric_type: MetricType::Counter, help: "".into(), unit: "".into() };
        let spec = SeriesSpec { measurement: "m", field: None, labels: Vec::new(), metadata: Some(Arc::new(metadata)) };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        let rendered = Arc::new(render(&table.series(id).unwrap(), &Options::default()).unwrap());
        let mut losses = Losses::default();
        let sample = SampleRef { start: Some(1), ..sample(Value::F64(1.0), SampleFlags::NONE) };
        Encoder::new(Options::default()).push(&rendered, &sample, &mut losses).unwrap();
        assert_eq!(losses.iter().collect::<Vec<_>>(), [(Loss::Metadata, 1), (Loss::StartTimestamp, 1)]);
        assert_eq!(rendered.identity(), b"m value=");
    }
}
