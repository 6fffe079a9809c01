//! Metric families in protobuf, each preceded by its length: what current Spring Boot pushes to a Pushgateway.
//!
//! `application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited`. A family becomes the
//! series that its text exposition would have: `_bucket`, `_sum`, `_count`, `quantile`. Bounds are spelled as Prometheus
//! spells them when it reads this format (`1.0`, `+Inf`). A native histogram becomes one sample beside its classic buckets,
//! or instead of them when it has none. Created timestamps become start timestamps.
//!
//! Decoding only, and not a hot path: pushes come once a minute. A family is walked metric by metric, so that a message
//! costs no more memory than the largest of its metrics, which is bounded ([`METRIC_BYTES_MAX`]).
//!
//! Specification: <https://prometheus.io/docs/instrumenting/exposition_formats/>, message `io.prometheus.client`.

use super::Report;
use super::protobuf::{Damage, DecodeError, Fault, Fields, read_varint};
use super::remote_write;
use super::remote_write::histogram::Message as HistogramMessage;
use crate::model::{
    BatchBuilder, Denied, Exemplar, Metadata, MetricType, NativeHistogram, Refusal, SampleFlags, SeriesId, SeriesSpec,
    TimestampNs, Value,
};
use messages::{Bucket, Histogram, LabelPair, Metric, Summary, Timestamp};
use prost::Message as _;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The generated messages.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.client.rs"));
}

/// Bytes of one metric: some ten thousand buckets. Generated messages take many times the memory of their bytes.
pub const METRIC_BYTES_MAX: usize = 1 << 20;

/// How a body is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// For metrics without timestamp.
    pub now: TimestampNs,
}

/// Decodes a body. An error means that the bytes are not families; nothing of them is in the batch then. Refusals name the
/// family by its index from 0.
pub fn decode(body: &[u8], options: &Options, out: &mut BatchBuilder<'_>) -> Result<Report, DecodeError> {
    let start = out.mark();
    let mut decoder = Decoder { out, report: Report::default(), now: options.now, index: 0, key: Vec::new() };
    match decoder.walk(body) {
        Ok(()) => Ok(decoder.report),
        Err(damage) => {
            let part = Some(("family", decoder.index));
            out.take_back(start);
            Err(damage.within(body, part))
        }
    }
}

struct Decoder<'d, 't> {
    out: &'d mut BatchBuilder<'t>,
    report: Report,
    now: TimestampNs,
    index: usize,
    key: Vec<u8>,
}

/// One point of a family: what all its series share.
#[derive(Clone, Copy)]
struct Point<'m> {
    metadata: &'m Arc<Metadata>,
    labels: &'m [LabelPair],
    timestamp: TimestampNs,
    flags: SampleFlags,
    start: Option<TimestampNs>,
}

impl Decoder<'_, '_> {
    fn walk(&mut self, body: &[u8]) -> Result<(), Damage> {
        let mut at = 0;
        while at < body.len() {
            let place = &body[at..];
            let length = read_varint(body, &mut at).map_err(|fault| fault.at(place))?;
            let missing = length.saturating_sub((body.len() - at) as u64);
            if missing > 0 {
                return Err(Fault::truncated(missing).at(place));
            }
            let family = &body[at..at + length as usize];
            at += family.len();
            self.family(family)?;
            self.index += 1;
        }
        Ok(())
    }

    fn family(&mut self, bytes: &[u8]) -> Result<(), Damage> {
        let (mut name, mut help, mut unit, mut metric_type) = (&b""[..], &b""[..], &b""[..], 0);
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => name = field.bytes()?,
                2 => help = field.bytes()?,
                3 => metric_type = field.varint()?,
                5 => unit = field.bytes()?,
                _ => {}
            }
        }
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let (Some(name), Some(help), Some(unit)) = (text(name), text(help), text(unit)) else {
            self.refuse(Refusal::InvalidUtf8, "expected name, help and unit in UTF-8, found other bytes");
            return Ok(());
        };
        if name.is_empty() {
            self.refuse(Refusal::MissingName, "expected a family with a name, found one without");
            return Ok(());
        }
        let metric_type = match metric_type {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            _ => MetricType::Unknown,
        };
        let metadata = Arc::new(Metadata { family: name.into(), metric_type, help: help.into(), unit: unit.into() });
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            if field.number == 4 {
                self.metric(field.bytes()?, &metadata);
            }
        }
        Ok(())
    }

    fn metric(&mut self, bytes: &[u8], metadata: &Arc<Metadata>) {
        if bytes.len() > METRIC_BYTES_MAX {
            return self.refuse(Refusal::TooLong, &format!("a metric of more than {METRIC_BYTES_MAX} bytes"));
        }
        let metric = match Metric::decode(bytes) {
            Ok(metric) => metric,
            Err(error) => return self.refuse(Refusal::Syntax, &error.to_string()),
        };
        if let Err(message) = check_labels(&metric.label) {
            return self.refuse(Refusal::InvalidLabel, &message);
        }
        let (timestamp, flags) = match metric.timestamp_ms.map(|ms| ms.checked_mul(1_000_000)) {
            None => (self.now, SampleFlags::TIMESTAMP_IMPLICIT),
            Some(Some(timestamp)) => (timestamp, SampleFlags::NONE),
            Some(None) => return self.refuse(Refusal::InvalidTimestamp, "a timestamp beyond the years 1677 to 2262"),
        };
        let point = Point { metadata, labels: &metric.label, timestamp, flags, start: None };
        match metadata.metric_type {
            MetricType::Counter => {
                let counter = metric.counter.unwrap_or_default();
                let point = Point { start: nanoseconds(counter.created_timestamp.as_ref()), ..point };
                let series = self.push(point, "", None, Value::F64(counter.value()));
                self.exemplar(series, counter.exemplar);
            }
            MetricType::Gauge => {
                self.push(point, "", None, Value::F64(metric.gauge.unwrap_or_default().value()));
            }
            MetricType::Summary => self.summary(point, &metric.summary.unwrap_or_default()),
            MetricType::Histogram | MetricType::GaugeHistogram => {
                self.histogram(point, metric.histogram.unwrap_or_default());
            }
            _ => {
                self.push(point, "", None, Value::F64(metric.untyped.unwrap_or_default().value()));
            }
        }
    }

    fn summary(&mut self, point: Point<'_>, summary: &Summary) {
        let point = Point { start: nanoseconds(summary.created_timestamp.as_ref()), ..point };
        for quantile in &summary.quantile {
            let label = ("quantile", number(quantile.quantile()));
            self.push(point, "", Some(label), Value::F64(quantile.value()));
        }
        self.push(point, "_sum", None, Value::F64(summary.sample_sum()));
        self.push(point, "_count", None, Value::F64(summary.sample_count() as f64));
    }

    fn histogram(&mut self, point: Point<'_>, mut histogram: Histogram) {
        let point = Point { start: nanoseconds(histogram.created_timestamp.as_ref()), ..point };
        let buckets = std::mem::take(&mut histogram.bucket);
        let exemplars = std::mem::take(&mut histogram.exemplars);
        let is_native = histogram.zero_threshold() > 0.0
            || histogram.zero_count() > 0
            || histogram.zero_count_float() > 0.0
            || !histogram.positive_span.is_empty()
            || !histogram.negative_span.is_empty();
        if is_native {
            match native(&histogram, point.metadata.metric_type) {
                Ok(native) => {
                    let series = self.push(point, "", None, Value::Histogram(&native));
                    for exemplar in exemplars {
                        self.exemplar(series, Some(exemplar));
                    }
                }
                Err(message) => self.refuse(Refusal::InvalidHistogram, &message),
            }
            if buckets.is_empty() {
                return;
            }
        }
        let count = histogram.sample_count_float.unwrap_or(histogram.sample_count() as f64);
        let needs_last = buckets.last().is_none_or(|last| last.upper_bound() != f64::INFINITY);
        let last = needs_last.then(|| Bucket {
            cumulative_count_float: Some(count),
            upper_bound: Some(f64::INFINITY),
            ..Bucket::default()
        });
        for bucket in buckets.into_iter().chain(last) {
            let value = bucket.cumulative_count_float.unwrap_or(bucket.cumulative_count() as f64);
            let series = self.push(point, "_bucket", Some(("le", number(bucket.upper_bound()))), Value::F64(value));
            self.exemplar(series, bucket.exemplar);
        }
        self.push(point, "_sum", None, Value::F64(histogram.sample_sum()));
        self.push(point, "_count", None, Value::F64(count));
    }

    fn push(
        &mut self,
        point: Point<'_>,
        suffix: &str,
        label: Option<(&'static str, String)>,
        value: Value<'_>,
    ) -> Option<SeriesId> {
        let series = match self.series(point, suffix, label) {
            Ok(series) => series,
            Err(denied) => {
                self.refuse(denied.refusal(), &denied.to_string());
                return None;
            }
        };
        self.out.push(series, point.timestamp, value, point.flags);
        if let Some(start) = point.start {
            self.out.start_timestamp(start);
        }
        self.report.accepted += 1;
        Some(series)
    }

    fn series(
        &mut self,
        point: Point<'_>,
        suffix: &str,
        label: Option<(&'static str, String)>,
    ) -> Result<SeriesId, Denied> {
        // 0xff occurs in no text, so that no two series share a key.
        let metadata = point.metadata;
        let kind = [metadata.metric_type as u8];
        self.key.clear();
        let head =
            [metadata.family.as_bytes(), metadata.help.as_bytes(), metadata.unit.as_bytes(), &kind, suffix.as_bytes()];
        let own = point.labels.iter().flat_map(|pair| [pair.name().as_bytes(), pair.value().as_bytes()]);
        let added = label.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]);
        for part in head.into_iter().chain(own).chain(added) {
            self.key.extend_from_slice(part);
            self.key.push(0xff);
        }
        let alias = self.out.alias(&self.key);
        if let Some(known) = self.out.recognise(alias) {
            return Ok(known);
        }
        let name = format!("{}{suffix}", metadata.family);
        let added_name = label.as_ref().map(|(name, _)| *name);
        let kept = point.labels.iter().filter(|pair| !pair.value().is_empty() && Some(pair.name()) != added_name);
        let mut labels: Vec<_> = kept.map(|pair| (Cow::from(pair.name()), Cow::from(pair.value()))).collect();
        labels.extend(label.map(|(name, value)| (Cow::from(name), Cow::from(value))));
        let spec = SeriesSpec { measurement: &name, field: None, labels, metadata: Some(Arc::clone(metadata)) };
        self.out.define(alias, spec)
    }

    fn exemplar(&mut self, series: Option<SeriesId>, exemplar: Option<messages::Exemplar>) {
        let (Some(series), Some(exemplar)) = (series, exemplar) else { return };
        let timestamp = nanoseconds(exemplar.timestamp.as_ref());
        let value = exemplar.value();
        let labels = exemplar.label.iter().map(|pair| (pair.name().into(), pair.value().into())).collect();
        self.out.exemplar(Exemplar { series, sample: None, labels, value, timestamp });
    }

    fn refuse(&mut self, reason: Refusal, message: &str) {
        self.report.refuse(1, self.index, 0, reason, || message.to_owned());
    }
}

fn check_labels(labels: &[LabelPair]) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for name in labels.iter().map(LabelPair::name) {
        if name.is_empty() || name == "__name__" {
            return Err(format!("a label of the name {name:?}"));
        }
        if !names.insert(name) {
            return Err(format!("the label {name:?} twice"));
        }
    }
    Ok(())
}

fn nanoseconds(timestamp: Option<&Timestamp>) -> Option<TimestampNs> {
    let timestamp = timestamp?;
    timestamp.seconds().checked_mul(1_000_000_000)?.checked_add(i64::from(timestamp.nanos()))
}

/// A native histogram, checked as remote write checks its own: it is put into that message.
fn native(histogram: &Histogram, metric_type: MetricType) -> Result<NativeHistogram, String> {
    use remote_write::messages::{BucketSpan, Histogram as Wire, histogram};
    let is_float = histogram.sample_count_float() > 0.0 || histogram.zero_count_float() > 0.0;
    let spans = |spans: &[messages::BucketSpan]| {
        spans.iter().map(|span| BucketSpan { offset: span.offset(), length: span.length() }).collect()
    };
    let (count, zero_count) = if is_float {
        let zero_count = histogram::ZeroCount::ZeroCountFloat(histogram.zero_count_float());
        (histogram::Count::CountFloat(histogram.sample_count_float()), zero_count)
    } else {
        let zero_count = histogram::ZeroCount::ZeroCountInt(histogram.zero_count());
        (histogram::Count::CountInt(histogram.sample_count()), zero_count)
    };
    let is_gauge = metric_type == MetricType::GaugeHistogram;
    let hint = if is_gauge { histogram::ResetHint::Gauge } else { histogram::ResetHint::Unknown };
    let wire = Wire {
        count: Some(count),
        sum: histogram.sample_sum(),
        schema: histogram.schema(),
        zero_threshold: histogram.zero_threshold(),
        zero_count: Some(zero_count),
        negative_spans: spans(&histogram.negative_span),
        negative_deltas: histogram.negative_delta.clone(),
        negative_counts: histogram.negative_count.clone(),
        positive_spans: spans(&histogram.positive_span),
        positive_deltas: histogram.positive_delta.clone(),
        positive_counts: histogram.positive_count.clone(),
        reset_hint: hint as i32,
        ..Wire::default()
    };
    HistogramMessage::parse(&wire.encode_to_vec(), false).map_err(|error| error.to_string())?.validate()
}

/// A bound as Prometheus spells it: shortest, with a point or an exponent, infinities with their sign.
fn number(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => match exponent.strip_prefix('-') {
                Some(exponent) => format!("{digits}e-{exponent:0>2}"),
                None => format!("{digits}e+{exponent:0>2}"),
            },
            None => text,
        };
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}

#[cfg(test)]
mod tests {
    use super::messages::{BucketSpan, Counter, Gauge, MetricFamily, MetricType as Type, Quantile};
    use super::*;
    use crate::model::{Batch, Format, SeriesTable};

    fn pair(name: &str, value: &str) -> LabelPair {
        LabelPair { name: Some(name.into()), value: Some(value.into()) }
    }

    fn family(name: &str, kind: Type, metric: Metric) -> Vec<u8> {
        let family = MetricFamily {
            name: Some(name.into()),
            help: Some("helps".into()),
            r#type: Some(kind as i32),
            metric: vec![metric],
            ..MetricFamily::default()
        };
        family.encode_length_delimited_to_vec()
    }

    fn decoded(body: &[u8]) -> (SeriesTable, Report, Batch) {
        let table = SeriesTable::default();
        let mut out = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        let report = decode(body, &Options { now: 7 }, &mut out).unwrap();
        let batch = out.finish();
        (table, report, batch)
    }

    fn shown(body: &[u8]) -> Vec<String> {
        let (table, report, batch) = decoded(body);
        assert_eq!(report.refused(), 0, "{report:?}");
        let line = |(at, sample): (usize, &crate::model::Sample)| {
            let series = table.series(sample.series).unwrap();
            let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
            let value = match batch.value(sample) {
                Value::F64(value) => value.to_string(),
                other => format!("{other:?}"),
            };
            let start = batch.start_of(at).map_or(String::new(), |start| format!(" since {start}"));
            format!("{}{{{}}} {value} @{}{start}", series.name.measurement(), labels.join(","), sample.timestamp)
        };
        batch.samples.iter().enumerate().map(line).collect()
    }

    #[test]
    fn families_become_the_series_of_their_exposition() {
        let created = Some(Timestamp { seconds: Some(1), nanos: Some(5) });
        let counter = Counter { value: Some(2.0), created_timestamp: created, ..Counter::default() };
        let metric = Metric { label: vec![pair("a", "1"), pair("b", "")], counter: Some(counter), ..Metric::default() };
        assert_eq!(shown(&family("c_total", Type::Counter, metric)), ["c_total{a=1} 2 @7 since 1000000005"]);

        let gauge = Some(Gauge { value: Some(1.5) });
        let metric = Metric { gauge, timestamp_ms: Some(3), ..Metric::default() };
        assert_eq!(shown(&family("g", Type::Gauge, metric)), ["g{} 1.5 @3000000"]);

        let quantile = vec![Quantile { quantile: Some(0.5), value: Some(9.0) }];
        let summary = Summary { sample_count: Some(2), sample_sum: Some(3.0), quantile, ..Summary::default() };
        let metric = Metric { summary: Some(summary), ..Metric::default() };
        assert_eq!(
            shown(&family("s", Type::Summary, metric)),
            ["s{quantile=0.5} 9 @7", "s_sum{} 3 @7", "s_count{} 2 @7"]
        );

        let bucket = vec![Bucket { cumulative_count: Some(1), upper_bound: Some(1.0), ..Bucket::default() }];
        let histogram = Histogram { sample_count: Some(2), sample_sum: Some(3.0), bucket, ..Histogram::default() };
        let metric = Metric { histogram: Some(histogram), ..Metric::default() };
        assert_eq!(
            shown(&family("h", Type::Histogram, metric)),
            ["h_bucket{le=1.0} 1 @7", "h_bucket{le=+Inf} 2 @7", "h_sum{} 3 @7", "h_count{} 2 @7"]
        );
    }

    fn native_metric(count: u64) -> Metric {
        let histogram = Histogram {
            sample_count: Some(count),
            sample_sum: Some(3.0),
            schema: Some(0),
            zero_threshold: Some(0.001),
            positive_span: vec![BucketSpan { offset: Some(0), length: Some(2) }],
            positive_delta: vec![1, 1],
            exemplars: vec![messages::Exemplar {
                label: vec![pair("trace_id", "x")],
                value: Some(1.0),
                timestamp: None,
            }],
            ..Histogram::default()
        };
        Metric { histogram: Some(histogram), ..Metric::default() }
    }

    #[test]
    fn a_native_histogram_is_one_sample_with_its_exemplars() {
        let (_, report, batch) = decoded(&family("n", Type::Histogram, native_metric(3)));
        assert_eq!((report.accepted, report.refused()), (1, 0));
        assert!(matches!(batch.value(&batch.samples[0]), Value::Histogram(_)));
        assert_eq!(batch.exemplars.len(), 1);
        let (_, report, _) = decoded(&family("n", Type::Histogram, native_metric(4)));
        assert_eq!(report.refused_for(Refusal::InvalidHistogram), 1, "count and buckets differ");
    }

    #[test]
    fn refuses_what_is_no_series() {
        let twice = Metric { label: vec![pair("a", "1"), pair("a", "2")], ..Metric::default() };
        let cases = [
            (family("", Type::Gauge, Metric::default()), Refusal::MissingName),
            (family("m", Type::Gauge, twice), Refusal::InvalidLabel),
            (
                family("m", Type::Gauge, Metric { timestamp_ms: Some(i64::MAX), ..Metric::default() }),
                Refusal::InvalidTimestamp,
            ),
        ];
        for (body, reason) in cases {
            let (_, report, batch) = decoded(&body);
            assert_eq!((report.refused_for(reason), batch.samples.len()), (1, 0), "{reason:?}");
        }
    }

    #[test]
    fn a_damaged_body_is_an_error_and_leaves_nothing() {
        let good = family("g", Type::Gauge, Metric { gauge: Some(Gauge { value: Some(1.0) }), ..Metric::default() });
        let body = [good.clone(), good].concat();
        for cut in 1..body.len() {
            let table = SeriesTable::default();
            let mut out = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
            if decode(&body[..cut], &Options { now: 7 }, &mut out).is_err() {
                assert!(out.finish().is_empty(), "cut at {cut}");
            } else {
                assert_eq!(cut, body.len() / 2);
            }
        }
    }

    #[test]
    fn bounds_are_spelled_as_prometheus_spells_them() {
        for (value, text) in [
            (1.0, "1.0"),
            (0.005, "0.005"),
            (0.0, "0.0"),
            (-2.5, "-2.5"),
            (1e6, "1000000.0"),
            (1e-7, "1e-07"),
            (2.5e300, "2.5e+300"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
