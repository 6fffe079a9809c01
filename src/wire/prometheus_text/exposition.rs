//! Samples of many series as one exposition, for both text formats.
//!
//! Families are contiguous, sorted by name, and declared once; the points of a metric stand in the order of their timestamps,
//! the samples of one point together, buckets and quantiles in numeric order. Samples that came without a timestamp are
//! written without one. Of two samples of a series that would have the same timestamp here, the one that came later is
//! written; of two series that would have the same name and labels here, the one that was updated last. Nothing is streamed.
//!
//! Everything but number and time is worked out once a series ([`lines`]), and put in order there; samples are sorted by integers.

mod lines;
mod names;
mod writer;

use super::grammar::Flavour;
use crate::model::is_stale_marker;
use crate::model::{Exemplar, Loss, Losses, Metadata, MetricType, SampleFlags, Series, Value};
use crate::wire::SampleRef;
use crate::wire::classic::{count_and_sum, cumulative_buckets};
use crate::wire::prometheus_names::{Alphabet, Style};
use lines::{Line, Lines, Part};
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use writer::Writer;

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

/// A number and its time, to be written on a line.
struct Row<'a> {
    line: usize,
    /// The place among all rows as they came.
    arrival: usize,
    value: Number,
    exposed: Exposed<'a>,
    /// The timestamp as it will be written: in the flavour's unit, none for a sample that came without.
    written: Option<i64>,
    /// The first line of its sample, for which the sample is counted.
    first: bool,
}

type Families<'f> = &'f dyn Fn(&str) -> Option<Arc<Metadata>>;

/// How an exposition is written.
#[derive(Clone, Copy)]
pub struct Options<'f> {
    /// How series of other dialects are named.
    pub style: &'f Style,
    /// Which names the reader takes; those beyond the legacy alphabet stand in quotes.
    pub alphabet: Alphabet,
    /// Knows metadata that came apart from series, by family name.
    pub families: Families<'f>,
}

/// Writes an exposition in that flavour.
pub(crate) fn write(
    samples: &mut Vec<Exposed<'_>>,
    options: &Options<'_>,
    flavour: Flavour,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    // One declaration a family: the first holds for all its samples, and for those that came without. But of two that disagree
    // whether a family has buckets, the one is right that says so.
    let mut declarations: HashMap<&str, &Arc<Metadata>> = HashMap::new();
    let mut before = None;
    for series in samples.iter().map(|exposed| exposed.series) {
        if before.replace(series).is_none_or(|before| !std::ptr::eq(before, series))
            && let Some(metadata) = &series.metadata
        {
            let known = declarations.entry(&metadata.family).or_insert(metadata);
            if (known.metric_type, metadata.metric_type) == (MetricType::Summary, MetricType::Histogram) {
                *known = metadata;
            }
        }
    }
    let known = |name: &str| declarations.get(name).map(|known| Arc::clone(known)).or_else(|| (options.families)(name));
    let mut lines = Lines::new(Options { families: &known, ..*options }, flavour);
    let mut rows = Vec::with_capacity(samples.len());
    for exposed in samples.drain(..) {
        if exposed.sample.flags.contains(SampleFlags::STRING_AS_LABEL) {
            losses.count(Loss::FieldType);
            continue;
        }
        if let Err(loss) = expand(exposed, flavour, &mut lines, &mut rows) {
            dropped.count(loss);
        }
    }
    let mut lines = lines.made();
    collapse(&mut rows, &mut lines, dropped);
    lines::place(&mut lines, flavour);
    lines::rank(&mut lines);
    rows.sort_unstable_by_key(|row| {
        let line = &lines[row.line];
        (line.metric, row.written, line.rank)
    });
    let alphabet = options.alphabet;
    let mut writer = Writer { flavour, alphabet, lines: &lines, out, losses, dropped };
    for family in rows.chunk_by(|left, right| lines[left.line].family == lines[right.line].family) {
        writer.family(family);
    }
    if flavour == Flavour::OpenMetrics {
        writer.put("# EOF\n");
    }
}

/// Of the rows that would read the same but for number and time, keeps those of one series, and of those one a timestamp.
fn collapse(rows: &mut Vec<Row<'_>>, lines: &mut [Line<'_>], dropped: &mut Losses) {
    lines::identify(lines);
    // What came later stands first among equals.
    rows.sort_unstable_by_key(|row| {
        (lines[row.line].identity, Reverse(row.exposed.sample.timestamp), Reverse(row.arrival))
    });
    rows.dedup_by(|row, kept| {
        if lines[row.line].identity != lines[kept.line].identity {
            return false;
        }
        let (series, other) = (row.exposed.series, kept.exposed.series);
        let collision = !std::ptr::eq(series, other) && (series.name != other.name || series.labels != other.labels);
        let same = collision || row.written == kept.written;
        if same && row.first {
            dropped.count(if collision { Loss::NameCollision } else { Loss::Collapsed });
        }
        same
    });
    for row in rows {
        lines[row.line].is_used = true;
    }
}

/// Makes the rows of one sample.
fn expand<'a>(
    exposed: Exposed<'a>,
    flavour: Flavour,
    lines: &mut Lines<'a, '_>,
    rows: &mut Vec<Row<'a>>,
) -> Result<(), Loss> {
    let sample = &exposed.sample;
    let written = (!sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT)).then(|| match flavour {
        Flavour::Text => sample.timestamp.div_euclid(NANOSECONDS_IN_MILLISECOND),
        Flavour::OpenMetrics => sample.timestamp,
    });
    let mut first = true;
    let mut push = |part: Part, value: Number| {
        let line = lines.line(exposed.series, part)?;
        let arrival = rows.len();
        rows.push(Row { line, arrival, value, exposed, written, first: std::mem::replace(&mut first, false) });
        Ok(())
    };
    match sample.value {
        Value::Str(_) if sample.flags.contains(SampleFlags::STRING_AS_INFO) => push(Part::Typed, Number::U64(1)),
        Value::Str(_) => Err(Loss::StringValue),
        Value::F64(value) if is_stale_marker(value) => Err(Loss::StaleMarker),
        Value::F64(value) => push(Part::Plain, Number::F64(value)),
        Value::I64(value) => push(Part::Typed, Number::I64(value)),
        Value::U64(value) => push(Part::Typed, Number::U64(value)),
        Value::Bool(value) => push(Part::Typed, Number::U64(u64::from(value))),
        Value::Histogram(histogram) if histogram.is_stale_marker() => Err(Loss::StaleMarker),
        Value::Histogram(histogram) => {
            let part = |suffix, bound| Part::Of { kind: MetricType::Histogram, suffix, bound };
            let count = Number::F64(histogram.count());
            push(part("_count", None), count)?;
            let mut buckets = Vec::new();
            cumulative_buckets(histogram, &mut buckets);
            for (bound, below) in buckets {
                push(part("_bucket", Some(bound)), Number::F64(below))?;
            }
            push(part("_bucket", Some(f64::INFINITY)), count)?;
            push(part("_sum", None), Number::F64(histogram.sum))
        }
        Value::Distribution(distribution) => {
            let part = |suffix| Part::Of { kind: MetricType::Summary, suffix, bound: None };
            let (count, sum) = count_and_sum(distribution);
            push(part("_count"), Number::I64(count))?;
            push(part("_sum"), Number::F64(sum))
        }
    }
}

#[cfg(test)]
mod tests;
