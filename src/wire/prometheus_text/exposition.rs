//! Samples of many series as one exposition, for both text formats.
//!
//! Families are contiguous, sorted by name, and declared once; the points of a metric stand in the order of their timestamps,
//! the samples of one point together, buckets and quantiles in numeric order. Samples that came without a timestamp are
//! written without one. Of two samples of a series that would have the same timestamp here, the one that came later is
//! written; of two series that would have the same name and labels here, the one that was updated last. Nothing is streamed.

mod writer;

use super::families::sample_suffixes;
use super::grammar::Flavour;
use crate::model::is_stale_marker;
use crate::model::{Exemplar, Loss, LossSet, Losses, Metadata, MetricType, SampleFlags, Series, Value};
use crate::wire::SampleRef;
use crate::wire::classic::{count_and_sum, cumulative_buckets};
use crate::wire::prometheus_names::{Alphabet, PrometheusSeries, Style, translate};
use std::borrow::Cow;
use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;
use std::sync::Arc;
use writer::{Writer, non_finite};

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
    style: &Style,
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
        if exposed.sample.flags.contains(SampleFlags::STRING_AS_LABEL) {
            losses.count(Loss::FieldType);
            continue;
        }
        if let Err(loss) = expand(exposed, &known, style, flavour, &mut rows) {
            dropped.count(loss);
        }
    }
    collapse(&mut rows, dropped);
    place(&mut rows, flavour);
    rows.sort_by(Row::order);
    let mut writer = Writer { flavour, out, losses, dropped };
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

/// Puts each row where a reader of the exposition will see it. A family has one type, that of the first row with one; names
/// that were distinct may meet in this alphabet, and then their families do, too.
fn place(rows: &mut [Row<'_>], flavour: Flavour) {
    let mut kinds: HashMap<String, MetricType> = HashMap::new();
    for row in rows.iter().filter(|row| row.kind != MetricType::Unknown || row.metadata.is_some()) {
        match kinds.get_mut(&row.family) {
            Some(kind) if *kind == MetricType::Unknown => *kind = row.kind,
            Some(_) => {}
            None => _ = kinds.insert(row.family.clone(), row.kind),
        }
    }
    for row in rows.iter_mut().filter(|row| kinds.get(&row.family) != Some(&row.kind)) {
        let ends = [row.family.len(), row.name.len(), row.name.rfind('_').unwrap_or(0)];
        let found = ends.into_iter().find_map(|end| {
            let (family, behind) = row.name.split_at(end);
            let kind = *kinds.get(family)?;
            sample_suffixes(flavour, kind).iter().find(|suffix| **suffix == behind).map(|suffix| (end, kind, *suffix))
        });
        let (end, kind, suffix) = found.unwrap_or((row.name.len(), MetricType::Unknown, ""));
        (row.family, row.kind, row.suffix) = (row.name[..end].to_owned(), kind, suffix);
        if row.metadata.take().is_some() {
            row.losses.insert(Loss::Metadata);
        }
    }
}

/// Makes the lines of one sample.
fn expand<'a>(
    exposed: Exposed<'a>,
    families: Families<'_>,
    style: &Style,
    flavour: Flavour,
    rows: &mut Vec<Row<'a>>,
) -> Result<(), Loss> {
    let translated = translate(exposed.series, Alphabet::Legacy, style)?;
    let mut builder = Builder { exposed, flavour, known: declared(exposed.series, families), translated, first: true };
    match exposed.sample.value {
        Value::Str(_) if exposed.sample.flags.contains(SampleFlags::STRING_AS_INFO) => {
            rows.push(builder.typed(Number::U64(1)));
        }
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
    series.metadata_apart(families)
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
            let suffix = metadata.suffix_of(self.exposed.series.name.measurement())?;
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
        if sample.flags.contains(SampleFlags::ROW_CONTINUES) {
            row.losses.insert(Loss::RowSplit);
        }
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
            _ if self.suffix == "_created" => "",
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

fn bound_text(bound: f64) -> String {
    if bound.is_finite() { ryu::Buffer::new().format_finite(bound).to_owned() } else { non_finite(bound).to_owned() }
}

#[cfg(test)]
mod tests;
