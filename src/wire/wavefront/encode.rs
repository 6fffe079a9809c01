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

mod options;
mod rendered;
mod sanitise;

pub use options::{Histograms, Names, Options, SOURCE_LABELS, Style};
pub use rendered::{Rendered, render};
pub use sanitise::{sanitise_name, sanitise_value, sanitise_value_quoted};

use super::validate::{validate_centroids, validate_value};
use crate::model::{
    Distribution, Granularity, Loss, LossSet, Losses, NativeHistogram, SampleFlags, TimestampNs, Value, is_stale_marker,
};
use crate::wire::classic::finite_buckets;
use crate::wire::digits::{Stamp, whole, write_shortest};
use crate::wire::lines::Lines;
use crate::wire::{Body, SampleRef};
use std::sync::Arc;

/// Longest line that proxies read from a plain connection.
pub const LINE_BYTES_MAX: usize = 32 * 1024;
const NANOSECONDS_IN_MILLISECOND: i64 = 1_000_000;

/// Writes request bodies: points in one, distributions in another.
#[derive(Debug)]
pub struct Encoder {
    points: Lines,
    distributions: Lines,
    samples: u64,
    stamps: bool,
    histograms: Histograms,
    buckets: Vec<(f64, f64)>,
    stamp: Stamp,
}

impl Encoder {
    /// An encoder with empty bodies. What the options decide of names is decided in [`render`].
    #[expect(clippy::needless_pass_by_value, reason = "the same shape for every format")]
    pub fn new(options: Options) -> Self {
        let Options { stamps, gzip, style, .. } = options;
        Self {
            points: Lines::new(gzip),
            distributions: Lines::new(gzip),
            samples: 0,
            stamps,
            histograms: style.histograms,
            buckets: Vec::new(),
            stamp: Stamp::default(),
        }
    }

    /// Takes one sample of the rendered series, or says why it cannot be sent.
    #[inline]
    pub fn push(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>, losses: &mut Losses) -> Result<(), Loss> {
        let mut altered = rendered.losses();
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
                self.points.shared(rendered.name());
                self.push_point(value, milliseconds);
                self.push_tags(rendered);
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

    /// The value of a line whose name was written, and its time.
    #[inline]
    fn push_point(&mut self, value: f64, timestamp: Option<Milliseconds>) {
        let from = self.points.text.len();
        write_value(&mut self.points.text, value);
        self.points.differs(from);
        if let Some(timestamp) = timestamp {
            self.stamp.append(timestamp.0, &mut self.points, |text| {
                text.push(b' ');
                timestamp.write(text);
            });
        }
    }

    /// Tags and the end of a line.
    #[inline]
    fn push_tags(&mut self, rendered: &Rendered) {
        /// Numbers of shared texts are lower: the line's end makes it another text.
        const ENDED: u64 = 1 << 62;
        let from = self.points.text.len();
        self.points.text.extend_from_slice(rendered.tags());
        self.points.text.push(b'\n');
        self.points.known(from, ENDED | rendered.tags().number());
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
        let line = &mut self.distributions.text;
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
            write_value(line, centroid.mean);
        }
        line.push(b' ');
        line.extend_from_slice(rendered.name().trim_ascii_end());
        line.extend_from_slice(rendered.tags());
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
        let count = finite_buckets(histogram, &mut self.buckets)?;
        let mut buckets = std::mem::take(&mut self.buckets);
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
            self.points.text.extend_from_slice(name.as_bytes());
            self.push_point(cumulative, timestamp);
            self.points.text.extend_from_slice(rendered.tags_before_bound());
            // Behind the other tags: of two `le` the proxy takes the last.
            self.points.text.extend_from_slice(b" \"le\"=\"");
            let line = &mut self.points.text;
            if bound == f64::INFINITY {
                line.extend_from_slice(b"+Inf");
            } else {
                write_shortest(line, bound);
                line.truncate(line.len() - if line.ends_with(b".0") { 2 } else { 0 });
            }
            self.points.text.extend_from_slice(b"\"\n");
        }
        self.buckets = buckets;
        for (suffix, value) in [(".count", count), (".sum", histogram.sum)] {
            if value.is_finite() {
                self.points.text.extend_from_slice(rendered.name_with(suffix).as_bytes());
                self.push_point(value, timestamp);
                self.push_tags(rendered);
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
        self.points.bytes() + self.distributions.bytes()
    }

    /// Ends the body of points: a request with `f=wavefront`. Nothing is dropped here.
    pub fn finish(&mut self, _dropped: &mut Losses) -> Body {
        let body = self.points.take();
        self.samples -= body.samples();
        body
    }

    /// Ends the body of distributions, if there are any: a request with `f=histogram`.
    pub fn finish_distributions(&mut self) -> Option<Body> {
        let body = self.distributions.take();
        self.samples -= body.samples();
        (!body.cuts.is_empty()).then_some(body)
    }
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

/// A value as it stands in a line: with a point or an exponent.
#[inline]
fn write_value(line: &mut Vec<u8>, value: f64) {
    match whole(value) {
        Some(whole) => {
            line.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes());
            line.extend_from_slice(b".0");
        }
        None => write_shortest(line, value),
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
