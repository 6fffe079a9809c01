//! Samples to Wavefront lines that every proxy takes.
//!
//! ```text
//! "name" value milliseconds source="..." "key"="value" ...
//! !M milliseconds #count mean ... "name" source="..." "key"="value" ...
//! ```
//!
//! A proxy answers 202 whether it takes a line or not, so a line must be right before it leaves: everything is quoted, the
//! time is written (but for a filter), and what the parser could misread is not written at all.
//!
//! * Names: `measurement.field` (the field `value` is the measurement itself); each character outside of the alphabet
//!   becomes one `-`. `∆` and `~` in front keep their meaning only where they had it: in series that came as Wavefront.
//! * Source: the first of the source labels that is there, else the configured one. Only `source` and `host` are used up by
//!   it. A `host` that is left is sent as `host.name` and `tag` as `_tag`, since the proxy renames both otherwise.
//! * Values of tags: only the quote is escaped; line ends and tabs become a space, other control characters go, a backslash
//!   at the end becomes `_`: it would escape the closing quote.
//! * What is longer than a limit is cut between characters and ends in a hash of the whole, so that two long values stay two.
//! * Numbers are doubles. NaN and the infinities are dropped: one of them can cost its whole batch in the backend.
//! * Distributions are lines of their own and belong in requests of their own ([`Encoder::finish_distributions`]).
//! * A native histogram becomes `name.bucket{le}` (cumulative), `name.count` and `name.sum`; the buckets a distribution of
//!   what is new, where that is asked for.

use super::decode::SOURCE_LABEL;
use super::observed::Before;
use super::validate::{
    Limits, TAG_LENGTH_MAX, is_all_blank, is_delta_name, is_legal_byte, split_marks, utf16_length, validate_centroids,
    validate_value,
};
use crate::model::{
    Dialect, Distribution, Granularity, Loss, LossSet, Losses, NativeHistogram, SampleFlags, Series, TimestampNs,
    Value, is_stale_marker,
};
use crate::wire::classic::cumulative_buckets;
use crate::wire::style::{self, Preset, one_of};
use crate::wire::{Body, SampleRef};
use std::borrow::Cow;
use std::sync::Arc;

/// Longest line that proxies read from a plain connection.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
const NANOSECONDS_IN_MILLISECOND: i64 = 1_000_000;

/// Labels that customarily name where a sample comes from.
pub const SOURCE_LABELS: [&str; 6] = [SOURCE_LABEL, "host", "hostname", "instance", "node", "pod"];

/// What may be chosen of names and shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// How metrics of other dialects are named.
    pub names: Names,
    /// How native histograms are written.
    pub histograms: Histograms,
}

/// `histograms`: how native histograms are written, beside their count and sum. Classic ones are series with `le` in any
/// case: their buckets arrive one by one, and perhaps apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// As cumulative buckets, points with a tag `le`.
    #[default]
    LeSeries,
    /// As distributions of one minute, of what was observed since the sample before.
    Distributions,
}

/// `names`: how metrics of other dialects are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As they are, as far as the alphabet allows.
    #[default]
    Kept,
    /// As Telegraf does: every `_` becomes a dot, `/` and `,` become `-`.
    Dotted,
}

impl style::Style for Style {
    const KEYS: &'static [&'static str] = &["names", "histograms"];

    fn of(preset: Preset) -> Option<Self> {
        matches!(preset, Preset::TelegrafV1 | Preset::TelegrafV2)
            .then_some(Self { names: Names::Dotted, ..Self::default() })
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        if key == "names" {
            self.names = one_of(&[("kept", Names::Kept), ("dotted", Names::Dotted)], text)?;
        } else {
            let spellings = [("le_series", Histograms::LeSeries), ("distributions", Histograms::Distributions)];
            self.histograms = one_of(&spellings, text)?;
        }
        Ok(())
    }
}

/// How an output writes Wavefront lines.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source of series without any of the source labels; not blank.
    pub default_source: String,
    /// Labels that give the source, the first one that is there.
    pub source_labels: Vec<String>,
    /// What the destination takes.
    pub limits: Limits,
    /// Whether samples that came without a timestamp are written with the time of their arrival. A destination that gets
    /// them later needs it; a filter leaves them as they were.
    pub stamps: bool,
    /// How names and shapes are chosen.
    pub style: Style,
}

impl Options {
    /// The customary source labels and the limits of the vendor's service.
    pub fn new(default_source: String) -> Self {
        Self {
            default_source,
            source_labels: SOURCE_LABELS.map(str::to_owned).to_vec(),
            limits: Limits::SAAS,
            stamps: true,
            style: Style::default(),
        }
    }
}

/// A series as it stands in every one of its lines.
#[derive(Debug)]
pub struct Rendered {
    /// `"name"`, then ` source="..." "key"="value"` and so on, without a line end.
    text: Box<[u8]>,
    /// Where the name ends.
    name_end: usize,
    /// Where the last tag begins, if there are as many as the destination takes: a bucket's `le` takes its place.
    last_tag: Option<usize>,
    name_length_max: usize,
    is_delta: bool,
    losses: LossSet,
    /// For histograms that become distributions.
    before: Before,
}

impl Rendered {
    /// What names the series at the destination.
    pub fn identity(&self) -> &[u8] {
        &self.text
    }

    /// What every sample of the series loses.
    pub fn losses(&self) -> LossSet {
        self.losses
    }

    fn name(&self) -> &[u8] {
        &self.text[..self.name_end]
    }

    fn tags(&self) -> &[u8] {
        &self.text[self.name_end..]
    }

    /// The tags, with room for one more.
    fn tags_before_bound(&self) -> &[u8] {
        &self.text[self.name_end..self.last_tag.unwrap_or(self.text.len())]
    }

    /// The name with something behind it, still within the limit.
    fn name_with(&self, suffix: &str) -> String {
        let name = String::from_utf8_lossy(&self.text[1..self.name_end - 1]);
        let room = self.name_length_max.saturating_sub(suffix.len());
        format!("\"{}{suffix}\"", fitted(&name, room).unwrap_or(name))
    }
}

/// Names a series for Wavefront. An error says why no sample of it can be sent.
pub fn render(series: &Series, options: &Options) -> Result<Rendered, Loss> {
    let mut losses = LossSet::NONE;
    if series.metadata.is_some() {
        losses.insert(Loss::Metadata);
    }
    let name_length_max = options.limits.metric_length_max.min(options.limits.histogram_length_max);
    let name = render_name(series, options.style.names, name_length_max, &mut losses)?;
    let source = source_of(series, options, &mut losses)?;
    let tags = render_tags(series, source.used_up, &options.limits, &mut losses);

    let mut text = Vec::with_capacity(64 + 32 * tags.len());
    push_quoted(&mut text, &name);
    let name_end = text.len();
    text.extend_from_slice(b" source=");
    push_quoted(&mut text, &source.text);
    let mut last_tag = None;
    for (key, value) in &tags {
        last_tag = Some(text.len());
        text.push(b' ');
        push_quoted(&mut text, key);
        text.push(b'=');
        push_quoted(&mut text, value);
    }
    Ok(Rendered {
        text: text.into(),
        name_end,
        last_tag: last_tag.filter(|_| tags.len() >= options.limits.tags_max),
        name_length_max,
        is_delta: is_delta_name(&name),
        losses,
        before: Before::default(),
    })
}

fn render_name(series: &Series, names: Names, length_max: usize, losses: &mut LossSet) -> Result<String, Loss> {
    let measurement = series.name.measurement();
    let whole = match series.name.field_key() {
        None | Some("value") => Cow::from(measurement),
        Some(field) => Cow::from(format!("{measurement}.{field}")),
    };
    if whole.is_empty() {
        return Err(Loss::UnusableName);
    }
    let clean = match series.dialect {
        Dialect::Wavefront => sanitise_name(&whole),
        Dialect::Prometheus | Dialect::Influx if names == Names::Dotted => dotted(&whole),
        Dialect::Prometheus | Dialect::Influx => sanitise_plain(&whole),
    };
    if clean != whole {
        losses.insert(Loss::NameSanitised);
    }
    Ok(within(clean, length_max, losses).into_owned())
}

struct Source<'a> {
    text: Cow<'a, str>,
    /// The label that is the source now and no tag any more.
    used_up: Option<&'a str>,
}

fn source_of<'a>(series: &'a Series, options: &'a Options, losses: &mut LossSet) -> Result<Source<'a>, Loss> {
    for wanted in &options.source_labels {
        let Some(value) = series.label(wanted) else { continue };
        let text = sanitise_value(value);
        if is_all_blank(&text) {
            continue;
        }
        if text != value {
            losses.insert(Loss::ValueSanitised);
        }
        let used_up = (wanted == SOURCE_LABEL || wanted == "host").then_some(wanted.as_str());
        return Ok(Source { text: within(text, options.limits.source_length_max, losses), used_up });
    }
    let text = sanitise_value(&options.default_source);
    if is_all_blank(&text) {
        return Err(Loss::UnusableName);
    }
    let mut unseen = LossSet::NONE;
    Ok(Source { text: within(text, options.limits.source_length_max, &mut unseen), used_up: None })
}

fn render_tags<'a>(
    series: &'a Series,
    used_up: Option<&str>,
    limits: &Limits,
    losses: &mut LossSet,
) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let mut tags = Vec::with_capacity(series.labels.len());
    for label in series.labels.iter().filter(|label| Some(&*label.name) != used_up) {
        let value = sanitise_value(&label.value);
        // A `source` that is not the source has nowhere to go: the proxy would take it for one.
        if is_all_blank(&value) || label.name.is_empty() || &*label.name == SOURCE_LABEL {
            losses.insert(Loss::LabelDropped);
            continue;
        }
        if value != *label.value {
            losses.insert(Loss::ValueSanitised);
        }
        let key = match (&*label.name, series.dialect) {
            ("host", _) => Cow::from("host.name"),
            ("tag", _) => Cow::from("_tag"),
            (name, Dialect::Wavefront) => sanitise_name(name),
            (name, Dialect::Prometheus | Dialect::Influx) => sanitise_plain(name),
        };
        if key != *label.name {
            losses.insert(Loss::LabelSanitised);
        }
        let key = within(key, limits.key_length_max, losses);
        let room = TAG_LENGTH_MAX.saturating_sub(utf16_length(&key));
        let value = within(value, limits.value_length_max.min(room), losses);
        tags.push((key, value));
    }
    tags.sort_by(|(left, _), (right, _)| left.cmp(right));
    let before = tags.len();
    tags.dedup_by(|(later, _), (first, _)| later == first);
    tags.truncate(limits.tags_max);
    if tags.len() < before {
        losses.insert(Loss::LabelDropped);
    }
    tags
}

/// A name in Wavefront's alphabet, with the marks `∆` and `~` that may stand in front; other characters become `-`.
pub fn sanitise_name(name: &str) -> Cow<'_, str> {
    let (marks, rest) = split_marks(name);
    if marks.is_empty() || rest.is_empty() && !marks.ends_with('~') {
        return sanitise_plain(name);
    }
    match sanitise_plain(rest) {
        Cow::Borrowed(_) => Cow::from(name),
        Cow::Owned(clean) => Cow::from(format!("{marks}{clean}")),
    }
}

/// A name in Wavefront's alphabet, marks not included: outside of Wavefront they mean nothing.
fn sanitise_plain(name: &str) -> Cow<'_, str> {
    if name.bytes().all(is_legal_byte) {
        return Cow::from(name);
    }
    let legal = |c: char| u8::try_from(c).is_ok_and(is_legal_byte);
    Cow::from(name.chars().map(|c| if legal(c) { c } else { '-' }).collect::<String>())
}

/// The same as Telegraf writes it.
fn dotted(name: &str) -> Cow<'_, str> {
    let telegraf = |c| match c {
        '_' => '.',
        '/' | ',' => '-',
        other => other,
    };
    Cow::from(sanitise_plain(name).chars().map(telegraf).collect::<String>())
}

/// A tag value (or source) that can stand between quotes.
pub fn sanitise_value(value: &str) -> Cow<'_, str> {
    if !value.ends_with('\\') && !value.contains(char::is_control) {
        return Cow::from(value);
    }
    let characters = value.chars().filter_map(|c| match c {
        '\n' | '\t' => Some(' '),
        c if c.is_control() => None,
        c => Some(c),
    });
    let mut clean: String = characters.collect();
    if clean.ends_with('\\') {
        clean.pop();
        clean.push('_');
    }
    Cow::from(clean)
}

/// A value between quotes, as it stands in a line.
pub fn sanitise_value_quoted(value: &str) -> String {
    let mut text = Vec::with_capacity(value.len() + 2);
    push_quoted(&mut text, &sanitise_value(value));
    String::from_utf8(text).unwrap_or_default()
}

fn push_quoted(text: &mut Vec<u8>, value: &str) {
    text.push(b'"');
    for byte in value.bytes() {
        if byte == b'"' {
            text.push(b'\\');
        }
        text.push(byte);
    }
    text.push(b'"');
}

fn within<'a>(text: Cow<'a, str>, length_max: usize, losses: &mut LossSet) -> Cow<'a, str> {
    match fitted(&text, length_max) {
        None => text,
        Some(cut) => {
            losses.insert(Loss::Truncated);
            Cow::from(cut.into_owned())
        }
    }
}

/// The text cut to a number of UTF-16 code units, a hash of the whole at its end; none when it fits.
fn fitted(text: &str, length_max: usize) -> Option<Cow<'static, str>> {
    const HASH_LENGTH: usize = 9;
    if utf16_length(text) <= length_max {
        return None;
    }
    let mut room = length_max.saturating_sub(HASH_LENGTH);
    let mut cut: String = text
        .chars()
        .take_while(|c| {
            let fits = c.len_utf16() <= room;
            room = if fits { room - c.len_utf16() } else { 0 };
            fits
        })
        .collect();
    // Unkeyed: the same text must get the same end in every run and on every gateway.
    let hash = xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as u32;
    cut.push_str(&format!("-{hash:08x}")[..HASH_LENGTH.min(length_max)]);
    Some(Cow::from(cut))
}

/// Writes request bodies: points in one, distributions in another.
#[derive(Debug)]
pub struct Encoder {
    points: Body,
    distributions: Body,
    samples: u64,
    stamps: bool,
    histograms: Histograms,
    buckets: Vec<(f64, f64)>,
}

impl Encoder {
    /// An encoder with empty bodies. What the options decide of names is decided in [`render`].
    #[expect(clippy::needless_pass_by_value, reason = "the same shape for every format")]
    pub fn new(options: Options) -> Self {
        let (points, distributions) = (Body::default(), Body::default());
        let histograms = options.style.histograms;
        Self { points, distributions, samples: 0, stamps: options.stamps, histograms, buckets: Vec::new() }
    }

    /// Takes one sample of the rendered series, or says why it cannot be sent.
    #[inline]
    pub fn push(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>, losses: &mut Losses) -> Result<(), Loss> {
        let mut altered = rendered.losses;
        let implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
        let milliseconds = if implicit && !self.stamps { None } else { Some(Milliseconds::try_new(sample.timestamp)?) };
        // The precision of a time that the gateway's clock gave is nobody's.
        if !implicit && sample.timestamp % NANOSECONDS_IN_MILLISECOND != 0 {
            altered.insert(Loss::TimestampTruncated);
        }
        match sample.value {
            Value::Histogram(histogram) => self.push_native(rendered, histogram, milliseconds, &mut altered)?,
            Value::Distribution(distribution) => {
                self.push_distribution(rendered, distribution, milliseconds)?;
                self.distributions.cut(1);
            }
            value => {
                let value = number_of(value, &mut altered)?;
                validate_value(rendered.is_delta, value).map_err(|_| Loss::DeltaNotPositive)?;
                self.push_line(rendered.name(), value, milliseconds, rendered.tags());
                self.points.bytes.push(b'\n');
                self.points.cut(1);
            }
        }
        if sample.start.is_some() {
            altered.insert(Loss::StartTimestamp);
        }
        if sample.flags.contains(SampleFlags::ROW_CONTINUES) {
            altered.insert(Loss::RowSplit);
        }
        losses.count_set(altered);
        self.samples += 1;
        Ok(())
    }

    /// A line without its end.
    #[inline]
    fn push_line(&mut self, name: &[u8], value: f64, timestamp: Option<Milliseconds>, tags: &[u8]) {
        let line = &mut self.points.bytes;
        line.extend_from_slice(name);
        line.push(b' ');
        line.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
        if let Some(timestamp) = timestamp {
            line.push(b' ');
            timestamp.write(line);
        }
        line.extend_from_slice(tags);
    }

    #[cold]
    fn push_distribution(
        &mut self,
        rendered: &Rendered,
        distribution: &Distribution,
        timestamp: Option<Milliseconds>,
    ) -> Result<(), Loss> {
        // A distribution of nothing, or around something that is no number, is refused by every proxy.
        let finite = distribution.centroids.iter().all(|centroid| centroid.mean.is_finite());
        if !finite || validate_centroids(&distribution.centroids).is_err() {
            return Err(Loss::NonFinite);
        }
        let line = &mut self.distributions.bytes;
        let start = line.len();
        line.extend_from_slice(match distribution.granularity {
            Granularity::Minute => b"!M",
            Granularity::Hour => b"!H",
            Granularity::Day => b"!D",
        });
        if let Some(timestamp) = timestamp {
            line.push(b' ');
            timestamp.write(line);
        }
        for centroid in &distribution.centroids {
            line.extend_from_slice(b" #");
            line.extend_from_slice(itoa::Buffer::new().format(centroid.count).as_bytes());
            line.push(b' ');
            line.extend_from_slice(ryu::Buffer::new().format_finite(centroid.mean).as_bytes());
        }
        line.push(b' ');
        line.extend_from_slice(rendered.identity());
        if line.len() - start > LINE_BYTES_MAX {
            line.truncate(start);
            return Err(Loss::TooLong);
        }
        line.push(b'\n');
        Ok(())
    }

    #[cold]
    fn push_native(
        &mut self,
        rendered: &Rendered,
        histogram: &NativeHistogram,
        timestamp: Option<Milliseconds>,
        altered: &mut LossSet,
    ) -> Result<(), Loss> {
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
        altered.insert(Loss::NativeHistogram);
        if self.histograms == Histograms::Distributions {
            buckets.clear();
            if let Some(centroids) = rendered.before.since(histogram) {
                let distribution = Distribution { granularity: Granularity::Minute, centroids };
                match self.push_distribution(rendered, &distribution, timestamp) {
                    // The sample is counted with its points.
                    Ok(()) => self.distributions.cut_as(0, 1),
                    Err(_) => altered.insert(Loss::Distribution),
                }
            }
        }
        let name = rendered.name_with(".bucket");
        let last = (self.histograms == Histograms::LeSeries).then_some((f64::INFINITY, count));
        for (bound, cumulative) in buckets.drain(..).chain(last) {
            self.push_line(name.as_bytes(), cumulative, timestamp, rendered.tags_before_bound());
            // Behind the other tags: of two `le` the proxy takes the last.
            self.points.bytes.extend_from_slice(b" \"le\"=\"");
            let mut digits = ryu::Buffer::new();
            let bound = if bound == f64::INFINITY { "+Inf" } else { digits.format(bound) };
            self.points.bytes.extend_from_slice(bound.strip_suffix(".0").unwrap_or(bound).as_bytes());
            self.points.bytes.extend_from_slice(b"\"\n");
        }
        self.buckets = buckets;
        for (suffix, value) in [(".count", count), (".sum", histogram.sum)] {
            if value.is_finite() {
                self.push_line(rendered.name_with(suffix).as_bytes(), value, timestamp, rendered.tags());
                self.points.bytes.push(b'\n');
            }
        }
        self.points.cut(1);
        Ok(())
    }

    /// Samples taken since the last finish, of both kinds.
    pub fn samples(&self) -> u64 {
        self.samples
    }

    /// Size of both bodies.
    pub fn bytes(&self) -> usize {
        self.points.bytes.len() + self.distributions.bytes.len()
    }

    /// Ends the body of points: a request with `f=wavefront`. Nothing is dropped here.
    pub fn finish(&mut self, _dropped: &mut Losses) -> Body {
        let body = renewed(&mut self.points);
        self.samples -= body.samples();
        body
    }

    /// Ends the body of distributions, if there are any: a request with `f=histogram`.
    pub fn finish_distributions(&mut self) -> Option<Body> {
        let body = renewed(&mut self.distributions);
        self.samples -= body.samples();
        (!body.bytes.is_empty()).then_some(body)
    }
}

/// Takes the body and leaves one of the same capacity in its place.
fn renewed(body: &mut Body) -> Body {
    let empty = Body {
        prefix: Vec::new(),
        bytes: Vec::with_capacity(body.bytes.len()),
        cuts: Vec::with_capacity(body.cuts.len()),
    };
    std::mem::replace(body, empty)
}

/// The double that stands for a value.
#[inline]
fn number_of(value: Value<'_>, altered: &mut LossSet) -> Result<f64, Loss> {
    match value {
        Value::F64(value) if value.is_finite() => Ok(value),
        Value::F64(value) if is_stale_marker(value) => Err(Loss::StaleMarker),
        Value::F64(_) | Value::Histogram(_) | Value::Distribution(_) => Err(Loss::NonFinite),
        Value::I64(value) => {
            altered.insert(integer_loss(value as f64 as i128 == i128::from(value)));
            Ok(value as f64)
        }
        Value::U64(value) => {
            altered.insert(integer_loss(value as f64 as i128 == i128::from(value)));
            Ok(value as f64)
        }
        Value::Bool(value) => {
            altered.insert(Loss::FieldType);
            Ok(f64::from(u8::from(value)))
        }
        Value::Str(_) => Err(Loss::StringValue),
    }
}

const fn integer_loss(exact: bool) -> Loss {
    if exact { Loss::FieldType } else { Loss::IntegerRounded }
}

/// A timestamp that the parser will read as what it is.
#[derive(Clone, Copy, Debug)]
struct Milliseconds(i64);

impl Milliseconds {
    #[inline]
    fn try_new(timestamp: TimestampNs) -> Result<Self, Loss> {
        if timestamp < 0 {
            // `-5` would be read as a tag key.
            return Err(Loss::TimestampOutOfRange);
        }
        Ok(Self(timestamp / NANOSECONDS_IN_MILLISECOND))
    }

    #[inline]
    fn write(self, line: &mut Vec<u8>) {
        /// Below, the parser takes a number for seconds.
        const MILLISECONDS_FROM: i64 = 1_000_000_000_000;
        let mut digits = itoa::Buffer::new();
        if self.0 >= MILLISECONDS_FROM {
            line.extend_from_slice(digits.format(self.0).as_bytes());
            return;
        }
        line.extend_from_slice(digits.format(self.0 / 1000).as_bytes());
        let fraction = self.0 % 1000;
        if fraction != 0 {
            line.push(b'.');
            for divisor in [100, 10, 1] {
                line.push(b'0' + (fraction / divisor % 10) as u8);
            }
        }
    }
}
