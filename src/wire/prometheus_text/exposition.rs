//! Samples of many series as one exposition, for both text formats.
//!
//! Families are contiguous, sorted by name, and declared once; the points of a metric stand in the order of their timestamps,
//! the samples of one point together, buckets and quantiles in numeric order. Samples that came without a timestamp are
//! written without one. Of two samples of a series that would have the same timestamp here, the one that came later is
//! written; of two series that would have the same name and labels here, the one that was updated last. Nothing is streamed.

use super::grammar::Flavour;
use crate::model::is_stale_marker;
use crate::model::{Exemplar, Loss, LossSet, Losses, Metadata, MetricType, SampleFlags, Series, TimestampNs, Value};
use crate::wire::SampleRef;
use crate::wire::classic::{count_and_sum, cumulative_buckets};
use crate::wire::prometheus_names::{Alphabet, PrometheusSeries, translate};
use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;

/// Characters that the labels of an exemplar may have together, names and values.
const EXEMPLAR_CHARS_MAX: usize = 128;
const NANOSECONDS: u64 = 1_000_000_000;
const NANOSECONDS_IN_MILLISECOND: i64 = 1_000_000;

/// One sample with its series.
#[derive(Clone, Copy, Debug)]
pub struct Exposed<'a> {
    /// Who it is.
    pub series: &'a Series,
    /// What was measured.
    pub sample: SampleRef<'a>,
    /// The exemplar that belongs to it.
    pub exemplar: Option<&'a Exemplar>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    F64(f64),
    I64(i64),
    U64(u64),
}

/// One line to be.
struct Row<'a> {
    family: String,
    kind: MetricType,
    name: String,
    suffix: &'static str,
    labels: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    value: Number,
    exposed: Exposed<'a>,
    metadata: Option<Arc<Metadata>>,
    losses: LossSet,
    /// The timestamp as it will be written: in the flavour's unit, none for a sample that came without.
    written: Option<i64>,
    /// The first line of its sample, for which the sample is counted.
    first: bool,
}

type Families<'f> = &'f dyn Fn(&str) -> Option<Arc<Metadata>>;

/// Writes an exposition in that flavour.
pub(crate) fn write(
    samples: &mut Vec<Exposed<'_>>,
    families: Families<'_>,
    flavour: Flavour,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    // One declaration a family: the first holds for all its samples, and for those that came without.
    let mut declarations: HashMap<&str, &Arc<Metadata>> = HashMap::new();
    for metadata in samples.iter().filter_map(|exposed| exposed.series.metadata.as_ref()) {
        declarations.entry(&metadata.family).or_insert(metadata);
    }
    let known = |name: &str| declarations.get(name).map(|known| Arc::clone(known)).or_else(|| families(name));
    let mut rows = Vec::with_capacity(samples.len());
    for exposed in samples.drain(..) {
        if let Err(loss) = expand(exposed, &known, flavour, &mut rows) {
            dropped.count(loss);
        }
    }
    collapse(&mut rows, dropped);
    rows.sort_by(Row::order);
    let mut writer = Writer { flavour, out, losses };
    for family in rows.chunk_by(|left, right| left.family == right.family) {
        writer.family(family);
    }
    if flavour == Flavour::OpenMetrics {
        writer.put("# EOF\n");
    }
}

/// Of the rows with the same name and labels, keeps those of one series, and of those one a timestamp.
fn collapse(rows: &mut Vec<Row<'_>>, dropped: &mut Losses) {
    // The sort is stable: with this, what came later stands first among equals.
    rows.reverse();
    rows.sort_by(|left, right| {
        let identity = (&left.name, &left.labels).cmp(&(&right.name, &right.labels));
        identity.then(Reverse(left.exposed.sample.timestamp).cmp(&Reverse(right.exposed.sample.timestamp)))
    });
    rows.dedup_by(|row, kept| {
        let (series, other) = (row.exposed.series, kept.exposed.series);
        let collision = series.name != other.name || series.labels != other.labels;
        let same = row.name == kept.name && row.labels == kept.labels && (collision || row.written == kept.written);
        if same && row.first {
            dropped.count(if collision { Loss::NameCollision } else { Loss::Collapsed });
        }
        same
    });
}

/// Makes the lines of one sample.
fn expand<'a>(
    exposed: Exposed<'a>,
    families: Families<'_>,
    flavour: Flavour,
    rows: &mut Vec<Row<'a>>,
) -> Result<(), Loss> {
    let translated = translate(exposed.series, Alphabet::Legacy)?;
    let mut builder = Builder { exposed, flavour, known: declared(exposed.series, families), translated, first: true };
    match exposed.sample.value {
        Value::Str(_) => return Err(Loss::StringValue),
        Value::F64(value) if is_stale_marker(value) => return Err(Loss::StaleMarker),
        Value::F64(value) => rows.push(builder.plain(Number::F64(value))),
        Value::I64(value) => rows.push(builder.typed(Number::I64(value))),
        Value::U64(value) => rows.push(builder.typed(Number::U64(value))),
        Value::Bool(value) => rows.push(builder.typed(Number::U64(u64::from(value)))),
        Value::Histogram(histogram) if histogram.is_stale_marker() => return Err(Loss::StaleMarker),
        Value::Histogram(histogram) => {
            builder.translated.losses.insert(Loss::NativeHistogram);
            let count = Number::F64(histogram.count());
            rows.push(builder.part(MetricType::Histogram, "_count", None, count));
            let mut buckets = Vec::new();
            cumulative_buckets(histogram, &mut buckets);
            for (bound, below) in buckets {
                rows.push(builder.part(MetricType::Histogram, "_bucket", Some(bound), Number::F64(below)));
            }
            rows.push(builder.part(MetricType::Histogram, "_bucket", Some(f64::INFINITY), count));
            rows.push(builder.part(MetricType::Histogram, "_sum", None, Number::F64(histogram.sum)));
        }
        Value::Distribution(distribution) => {
            builder.translated.losses.insert(Loss::Distribution);
            let (count, sum) = count_and_sum(distribution);
            rows.push(builder.part(MetricType::Summary, "_count", None, Number::I64(count)));
            rows.push(builder.part(MetricType::Summary, "_sum", None, Number::F64(sum)));
        }
    }
    Ok(())
}

/// What is known of a series' family: declared with it, or apart from it under its name or the stem of its name.
fn declared(series: &Series, families: Families<'_>) -> Option<Arc<Metadata>> {
    if let Some(own) = &series.metadata {
        return families(&own.family);
    }
    let name = series.name.measurement();
    families(name).or_else(|| {
        let (stem, _) = name.rsplit_once('_')?;
        families(stem).filter(|metadata| suffix_of(name, metadata).is_some_and(|suffix| !suffix.is_empty()))
    })
}

/// What a name has behind its family's name; none if it does not belong to the family.
fn suffix_of(name: &str, metadata: &Metadata) -> Option<&'static str> {
    let suffixes: &[&'static str] = match metadata.metric_type {
        MetricType::Counter => &["", "_total", "_created"],
        MetricType::Gauge | MetricType::Unknown | MetricType::StateSet => &[""],
        MetricType::Histogram => &["_bucket", "_sum", "_count", "_created"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
        MetricType::Summary => &["", "_sum", "_count", "_created"],
        MetricType::Info => &["_info"],
    };
    let behind = name.strip_prefix(&*metadata.family)?;
    suffixes.iter().copied().find(|suffix| *suffix == behind)
}

struct Builder<'a> {
    exposed: Exposed<'a>,
    flavour: Flavour,
    known: Option<Arc<Metadata>>,
    translated: PrometheusSeries<'a>,
    first: bool,
}

impl<'a> Builder<'a> {
    fn typed(&mut self, value: Number) -> Row<'a> {
        self.translated.losses.insert(Loss::FieldType);
        self.plain(value)
    }

    /// A sample that is one line.
    fn plain(&mut self, value: Number) -> Row<'a> {
        let name = self.translated.name.to_string();
        let known = self.known.clone();
        let belongs = known.as_ref().and_then(|metadata| {
            let suffix = suffix_of(self.exposed.series.name.measurement(), metadata)?;
            // Without a declaration of its own, a sample joins only what OpenMetrics itself would count to the family.
            let bare_counter = metadata.metric_type == MetricType::Counter
                && self.flavour == Flavour::OpenMetrics
                && suffix.is_empty()
                && !name.ends_with("_total");
            (self.exposed.series.metadata.is_some() || !bare_counter).then_some(suffix)
        });
        let (kind, suffix) = match (&known, belongs) {
            (Some(metadata), Some(suffix)) => self.role(&name, metadata.metric_type, suffix),
            _ => (MetricType::Unknown, ""),
        };
        let family = name.strip_suffix(suffix).unwrap_or(&name).to_owned();
        let labels = self.labels();
        self.row(Row {
            family,
            kind,
            name,
            suffix,
            labels,
            value,
            exposed: self.exposed,
            metadata: known.filter(|_| belongs.is_some()),
            losses: LossSet::NONE,
            written: None,
            first: true,
        })
    }

    /// A line of a sample that is several.
    fn part(&mut self, kind: MetricType, suffix: &'static str, bound: Option<f64>, value: Number) -> Row<'a> {
        let family = self.translated.name.to_string();
        let mut labels = self.labels();
        if let Some(bound) = bound {
            labels.retain(|(name, _)| name != "le");
            labels.push((Cow::from("le"), Cow::from(bound_text(bound))));
            labels.sort();
        }
        self.row(Row {
            name: format!("{family}{suffix}"),
            family,
            kind,
            suffix,
            labels,
            value,
            exposed: self.exposed,
            metadata: self.known.clone(),
            losses: LossSet::NONE,
            written: None,
            first: true,
        })
    }

    fn row(&mut self, mut row: Row<'a>) -> Row<'a> {
        row.losses = self.translated.losses;
        let sample = &self.exposed.sample;
        row.written = (!sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT)).then(|| match self.flavour {
            Flavour::Text => sample.timestamp.div_euclid(NANOSECONDS_IN_MILLISECOND),
            Flavour::OpenMetrics => sample.timestamp,
        });
        row.first = std::mem::replace(&mut self.first, false);
        row
    }

    fn labels(&self) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        self.translated.labels.iter().map(|(name, value)| (name.clone(), Cow::from(*value))).collect()
    }

    /// As what a line is declared, and which part of its name is not the family's.
    fn role(&self, name: &str, kind: MetricType, suffix: &'static str) -> (MetricType, &'static str) {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
        match (self.flavour, kind) {
            (Flavour::Text, Counter) if suffix != "_created" => (Counter, ""),
            // Of a counter, OpenMetrics knows `_total` only; a counter of another name would be a lie.
            (Flavour::OpenMetrics, Counter) if name.ends_with("_total") => (Counter, "_total"),
            (Flavour::OpenMetrics, Counter) if suffix == "_created" => (Counter, suffix),
            (Flavour::Text, Info | StateSet) => (Gauge, ""),
            (Flavour::Text, GaugeHistogram) => (Unknown, ""),
            (Flavour::Text, _) if suffix == "_created" => (Unknown, ""),
            (_, Counter) => (Unknown, ""),
            (_, Gauge | Histogram | GaugeHistogram | Info | StateSet | Summary | Unknown) => (kind, suffix),
        }
    }
}

impl Row<'_> {
    /// The label that orders the lines of a point.
    fn edge_label(&self) -> &'static str {
        match self.kind {
            MetricType::Histogram | MetricType::GaugeHistogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        }
    }

    fn edge(&self) -> f64 {
        let edge = self.labels.iter().find(|(name, _)| name == self.edge_label());
        edge.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
    }

    /// The labels of its point.
    fn point(&self) -> impl Iterator<Item = &(Cow<'_, str>, Cow<'_, str>)> {
        self.labels.iter().filter(|(name, _)| name != self.edge_label())
    }

    fn rank(&self) -> u8 {
        match self.suffix {
            "" | "_bucket" | "_total" | "_info" => 0,
            "_count" | "_gcount" => 1,
            "_sum" | "_gsum" => 2,
            _ => 3,
        }
    }

    fn order(left: &Self, right: &Self) -> Ordering {
        left.family
            .cmp(&right.family)
            .then_with(|| left.point().cmp(right.point()))
            .then_with(|| left.written.cmp(&right.written))
            .then_with(|| left.rank().cmp(&right.rank()))
            .then_with(|| left.edge().total_cmp(&right.edge()))
            .then_with(|| (&left.name, &left.labels).cmp(&(&right.name, &right.labels)))
    }
}

struct Writer<'o> {
    flavour: Flavour,
    out: &'o mut Vec<u8>,
    losses: &'o mut Losses,
}

impl Writer<'_> {
    fn family(&mut self, rows: &[Row<'_>]) {
        let kind = rows.iter().find(|row| row.metadata.is_some()).map_or(rows[0].kind, |row| row.kind);
        let metadata = rows.iter().find_map(|row| row.metadata.as_deref());
        let unit = self.declare(&rows[0].family, kind, metadata);
        let same_point =
            |left: &Row<'_>, right: &Row<'_>| left.point().eq(right.point()) && left.written == right.written;
        for point in rows.chunk_by(same_point) {
            let starts = self.flavour == Flavour::OpenMetrics
                && matches!(kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
                && point.iter().all(|row| row.suffix != "_created");
            for row in point {
                self.row(row, kind, starts, unit);
            }
            let start = point.iter().filter(|row| row.kind == kind).find_map(|row| row.exposed.sample.start);
            if let (true, Some(start)) = (starts, start) {
                self.put(&rows[0].family);
                self.put("_created");
                self.labels(point[0].point());
                self.put(" ");
                self.seconds(start);
                self.timestamp(&point[0]);
                self.put("\n");
            }
        }
    }

    /// Writes the metadata lines; says whether the unit was lost.
    fn declare(&mut self, family: &str, kind: MetricType, metadata: Option<&Metadata>) -> bool {
        let Some(metadata) = metadata else {
            if kind != MetricType::Unknown {
                self.meta("TYPE", family, kind.as_str());
            }
            return false;
        };
        let text = self.flavour == Flavour::Text;
        if !metadata.help.is_empty() {
            let mut help = metadata.help.replace('\\', "\\\\").replace('\n', "\\n");
            if !text {
                help = help.replace('"', "\\\"");
            }
            self.meta("HELP", family, &help);
        }
        self.meta("TYPE", family, if text && kind == MetricType::Unknown { "untyped" } else { kind.as_str() });
        let unit = &*metadata.unit;
        let fits = !text && family.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'));
        if fits && !unit.is_empty() {
            self.meta("UNIT", family, unit);
        }
        !unit.is_empty() && !fits
    }

    fn meta(&mut self, keyword: &str, family: &str, text: &str) {
        for piece in ["# ", keyword, " ", family, " ", text, "\n"] {
            self.put(piece);
        }
    }

    fn row(&mut self, row: &Row<'_>, kind: MetricType, starts: bool, unit_lost: bool) {
        let sample = &row.exposed.sample;
        self.put(&row.name);
        self.labels(row.labels.iter());
        self.put(" ");
        self.number(row.value);
        let mut losses = row.losses;
        self.timestamp(row);
        let truncates = self.flavour == Flavour::Text && row.written.is_some();
        if truncates && sample.timestamp % NANOSECONDS_IN_MILLISECOND != 0 {
            losses.insert(Loss::TimestampTruncated);
        }
        let declared = row.metadata.as_ref().map(|metadata| metadata.metric_type);
        if unit_lost || declared.is_some_and(|declared| declared != kind) {
            losses.insert(Loss::Metadata);
        }
        if sample.start.is_some() && !(starts && row.kind == kind) {
            losses.insert(Loss::StartTimestamp);
        }
        // Buckets of an expanded native histogram have no exemplar of their own.
        let allowed = matches!((kind, row.suffix), (MetricType::Counter, "_total") | (_, "_bucket"))
            && !matches!(sample.value, Value::Histogram(_));
        if let Some(exemplar) = row.exposed.exemplar
            && !(self.flavour == Flavour::OpenMetrics && allowed && self.exemplar(exemplar))
        {
            losses.insert(Loss::Exemplar);
        }
        self.put("\n");
        if row.first {
            self.losses.count_set(losses);
        }
    }

    fn timestamp(&mut self, row: &Row<'_>) {
        let Some(written) = row.written else { return };
        self.put(" ");
        match self.flavour {
            Flavour::Text => self.put(itoa::Buffer::new().format(written)),
            Flavour::OpenMetrics => self.seconds(written),
        }
    }

    /// Writes an exemplar; says whether the format can carry it.
    fn exemplar(&mut self, exemplar: &Exemplar) -> bool {
        let chars: usize =
            exemplar.labels.iter().map(|(name, value)| name.chars().count() + value.chars().count()).sum();
        let legal = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if chars > EXEMPLAR_CHARS_MAX || !exemplar.labels.iter().all(|(name, _)| legal(name)) {
            return false;
        }
        self.put(" # ");
        if exemplar.labels.is_empty() {
            self.put("{}");
        }
        self.labels(exemplar.labels.iter());
        self.put(" ");
        self.number(Number::F64(exemplar.value));
        if let Some(timestamp) = exemplar.timestamp {
            self.put(" ");
            self.seconds(timestamp);
        }
        true
    }

    fn labels<'l, N: AsRef<str> + 'l, V: AsRef<str> + 'l>(&mut self, labels: impl Iterator<Item = &'l (N, V)>) {
        let mut before = "{";
        for (name, value) in labels {
            self.put(before);
            self.put(name.as_ref());
            self.put("=\"");
            let mut rest = value.as_ref();
            while let Some(at) = rest.find(['\\', '"', '\n']) {
                self.put(&rest[..at]);
                self.put(match rest.as_bytes()[at] {
                    b'\n' => "\\n",
                    b'"' => "\\\"",
                    _ => "\\\\",
                });
                rest = &rest[at + 1..];
            }
            self.put(rest);
            self.put("\"");
            before = ",";
        }
        if before == "," {
            self.put("}");
        }
    }

    fn number(&mut self, number: Number) {
        match number {
            Number::I64(value) => self.put(itoa::Buffer::new().format(value)),
            Number::U64(value) => self.put(itoa::Buffer::new().format(value)),
            Number::F64(value) if value.is_finite() => {
                let mut buffer = ryu::Buffer::new();
                let text = buffer.format_finite(value);
                self.put(text.strip_suffix(".0").unwrap_or(text));
            }
            Number::F64(value) => self.put(non_finite(value)),
        }
    }

    fn seconds(&mut self, timestamp: TimestampNs) {
        let size = timestamp.unsigned_abs();
        if timestamp < 0 {
            self.put("-");
        }
        self.put(itoa::Buffer::new().format(size / NANOSECONDS));
        let fraction = size % NANOSECONDS;
        if fraction > 0 {
            // The leading 1 keeps the zeros behind the point.
            let mut buffer = itoa::Buffer::new();
            let digits = buffer.format(NANOSECONDS + fraction);
            self.put(".");
            self.put(digits[1..].trim_end_matches('0'));
        }
    }

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

fn non_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => "NaN",
    }
}

fn bound_text(bound: f64) -> String {
    if bound.is_finite() { ryu::Buffer::new().format_finite(bound).to_owned() } else { non_finite(bound).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        Batch, BatchBuilder, Centroid, Counts, Distribution, Format, Granularity, NativeHistogram, ResetHint,
        SeriesSpec, SeriesTable, Span,
    };
    use crate::wire::prometheus_text::{decode::Options, lines};

    /// The exposition of a batch, then a comma-separated list of losses and of drops.
    fn written(batch: &Batch, table: &SeriesTable, flavour: Flavour) -> (String, String) {
        let series: Vec<_> = batch.samples.iter().map(|sample| table.series(sample.series).unwrap()).collect();
        let mut exposed = Vec::new();
        for (index, sample) in batch.samples.iter().enumerate() {
            let (timestamp, value, flags) = (sample.timestamp, batch.value(sample), sample.flags);
            let sample_ref = SampleRef { timestamp, value, start: batch.start_of(index), flags };
            let exemplar = batch.exemplars.iter().find(|exemplar| exemplar.series == sample.series);
            exposed.push(Exposed { series: &series[index], sample: sample_ref, exemplar });
        }
        let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
        write(&mut exposed, &|_| None, flavour, &mut out, &mut losses, &mut dropped);
        let mut lost: Vec<_> = losses.iter().map(|(loss, count)| format!("{} {count}", loss.as_str())).collect();
        lost.extend(dropped.iter().map(|(loss, count)| format!("-{} {count}", loss.as_str())));
        (String::from_utf8(out).unwrap(), lost.join(","))
    }

    fn rewritten(body: &str, from: Flavour, to: Flavour) -> (String, String) {
        let table = SeriesTable::default();
        let format = if from == Flavour::Text { Format::PrometheusText } else { Format::OpenMetrics };
        let mut out = BatchBuilder::new(&table, format, Vec::new());
        let report = lines::decode(body.as_bytes(), from, &Options { now: 5, timestamp: None }, &mut out);
        assert_eq!(report.refused(), 0, "{:?}", report.first);
        written(&out.finish(), &table, to)
    }

    #[test]
    fn openmetrics_comes_back_as_it_was() {
        let body = "# HELP a help \\\"x\\\"\n# TYPE a counter\na_total{b=\"1\"} 17 1520879607.789 # {id=\"x\"} 0.5 1.5\na_created{b=\"1\"} 1520872607.123 1520879607.789\n\
            # TYPE h_seconds histogram\n# UNIT h_seconds seconds\nh_seconds_bucket{le=\"0.5\",z=\"\\\\\"} 1 # {} 0.25\nh_seconds_bucket{le=\"10.0\",z=\"\\\\\"} 2\n\
            h_seconds_bucket{le=\"+Inf\",z=\"\\\\\"} 2\nh_seconds_count{z=\"\\\\\"} 2\nh_seconds_sum{z=\"\\\\\"} 1.5\nh_seconds_created{z=\"\\\\\"} 1.5\n\
            # TYPE i info\ni_info{v=\"1\"} 1\nplain NaN\n# TYPE s summary\ns{quantile=\"0.5\"} +Inf\ns{quantile=\"0.95\"} -Inf\ns_count 3\ns_created 9\n# EOF\n";
        assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics), (body.to_owned(), String::new()));
    }

    #[test]
    fn what_text_lacks_is_counted() {
        let body = "# TYPE a_s counter\n# UNIT a_s s\na_s_total 17 1520879607.7891 # {id=\"x\"} 0.5\na_s_created 1\n# TYPE i info\ni_info{v=\"1\"} 1\n# EOF\n";
        let text = "# TYPE a_s_total counter\na_s_total 17 1520879607789\n# TYPE i_info gauge\ni_info{v=\"1\"} 1\n";
        let losses = "timestamp_truncated 1,metadata 2,exemplar 1,start_timestamp 1";
        assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::Text), (text.to_owned(), losses.to_owned()));
    }

    #[test]
    fn counters_of_text_take_the_form_of_openmetrics_where_they_can() {
        let body = "# TYPE a_total counter\na_total 1 1500\n# TYPE b counter\nb 2\n";
        let openmetrics = "# TYPE a counter\na_total 1 1.5\n# TYPE b unknown\nb 2\n# EOF\n";
        let expected = (openmetrics.to_owned(), "metadata 1".to_owned());
        assert_eq!(rewritten(body, Flavour::Text, Flavour::OpenMetrics), expected);
    }

    #[test]
    fn families_are_gathered_and_the_later_of_two_wins() {
        let body = "b{x=\"2\"} 1\na 1\nb{x=\"1\"} 2\n{\"a.b\"} 3 1\na_b 4 2\n";
        let text = "a 1\na_b 4 2\nb{x=\"1\"} 2\nb{x=\"2\"} 1\n";
        let expected = (text.to_owned(), "-name_collision 1".to_owned());
        assert_eq!(rewritten(body, Flavour::Text, Flavour::Text), expected);
    }

    #[test]
    fn every_sample_of_a_series_is_written_in_the_order_of_time() {
        let text = "# TYPE h histogram\nh_bucket{le=\"1\"} 2 20\nh_bucket{le=\"+Inf\"} 3 20\nh_count 3 20\n\
            h_bucket{le=\"1\"} 1 10\nh_bucket{le=\"+Inf\"} 1 10\nh_count 1 10\na 2 2\na 1 1\na 0\na 3 -1\n";
        let sorted = "a 0\na 3 -1\na 1 1\na 2 2\n# TYPE h histogram\n\
            h_bucket{le=\"1\"} 1 10\nh_bucket{le=\"+Inf\"} 1 10\nh_count 1 10\n\
            h_bucket{le=\"1\"} 2 20\nh_bucket{le=\"+Inf\"} 3 20\nh_count 3 20\n";
        assert_eq!(rewritten(text, Flavour::Text, Flavour::Text), (sorted.to_owned(), String::new()));
        let body = "# TYPE c counter\nc_total 2 20.5\nc_created 1 20.5\nc_total 3 21\nc_created 1 21\n# EOF\n";
        assert_eq!(rewritten(body, Flavour::OpenMetrics, Flavour::OpenMetrics), (body.to_owned(), String::new()));
    }

    #[test]
    fn the_last_of_two_samples_at_one_time_wins() {
        let cases = [
            (Flavour::Text, "a 1 5\na 2 5\nb 1\nb 2\n", "a 2 5\nb 2\n", "-collapsed 2"),
            (Flavour::OpenMetrics, "a 1 0.0051\na 2 0.0052\n# EOF\n", "a 2 5\n", "timestamp_truncated 1,-collapsed 1"),
        ];
        for (from, body, text, losses) in cases {
            assert_eq!(rewritten(body, from, Flavour::Text), (text.to_owned(), losses.to_owned()));
        }
    }

    #[test]
    fn values_without_a_text_form_are_expanded_or_dropped() {
        let table = SeriesTable::default();
        let mut out = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        let histogram = NativeHistogram {
            schema: 0,
            zero_threshold: 0.0,
            sum: 3.5,
            counts: Counts::Float {
                count: 3.0,
                zero_count: 0.0,
                positive_counts: vec![1.0, 2.0],
                negative_counts: Vec::new(),
            },
            positive_spans: vec![Span { offset: 0, length: 2 }],
            negative_spans: Vec::new(),
            custom_values: Vec::new(),
            reset_hint: ResetHint::Unknown,
        };
        let centroids = vec![Centroid { count: 2, mean: 1.5 }, Centroid { count: 1, mean: 4.0 }];
        let distribution = Distribution { granularity: Granularity::Minute, centroids };
        let stale = f64::from_bits(crate::model::STALE_MARKER_BITS);
        let values = [
            Value::Histogram(&histogram),
            Value::Distribution(&distribution),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::Bool(true),
            Value::Str("x"),
            Value::F64(stale),
        ];
        for (name, value) in ["a", "b", "c", "d", "e", "f", "g"].into_iter().zip(values) {
            let spec = SeriesSpec { measurement: name, field: Some("value"), labels: Vec::new(), metadata: None };
            let id = out.define(out.alias(name.as_bytes()), spec).unwrap();
            out.push(id, 1_000_000, value, SampleFlags::NONE);
        }
        let text = "# TYPE a histogram\na_bucket{le=\"1.0\"} 1 1\na_bucket{le=\"2.0\"} 3 1\na_bucket{le=\"+Inf\"} 3 1\n\
            a_count 3 1\na_sum 3.5 1\n# TYPE b summary\nb_count 3 1\nb_sum 7 1\nc -9223372036854775808 1\n\
            d 18446744073709551615 1\ne 1 1\n";
        let losses = "field_type 3,native_histogram 1,distribution 1,-string_value 1,-stale_marker 1";
        assert_eq!(written(&out.finish(), &table, Flavour::Text), (text.to_owned(), losses.to_owned()));
    }
}
