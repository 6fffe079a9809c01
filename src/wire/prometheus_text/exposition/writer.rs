//! Rows in their order to bytes.

use super::lines::Line;
use super::names::{put_labels, put_metric_name, put_series};
use super::{EXEMPLAR_CHARS_MAX, NANOSECONDS, NANOSECONDS_IN_MILLISECOND, Number, Row};
use crate::model::{
    Exemplar, Loss, LossSet, Losses, Metadata, MetricType, SampleFlags, TimestampNs, Value, has_nan_payload,
};
use crate::wire::digits::write_shortest;
use crate::wire::prometheus_names::{Alphabet, is_plain};
use crate::wire::prometheus_text::grammar::Flavour;
use crate::wire::prometheus_text::number;

pub(super) struct Writer<'o> {
    pub(super) flavour: Flavour,
    pub(super) alphabet: Alphabet,
    pub(super) lines: &'o [Line<'o>],
    pub(super) out: &'o mut Vec<u8>,
    pub(super) losses: &'o mut Losses,
    pub(super) dropped: &'o mut Losses,
}

/// What holds for all lines of a family.
#[derive(Clone, Copy)]
struct Family<'a> {
    lines: &'a [Line<'a>],
    name: &'a str,
    kind: MetricType,
    has_starts: bool,
    unit_lost: bool,
}

impl Writer<'_> {
    pub(super) fn family(&mut self, rows: &[Row<'_>]) {
        let lines = self.lines;
        let of = || rows.iter().map(|row| &lines[row.line]);
        let kind = of().map(|line| line.kind).find(|kind| *kind != MetricType::Unknown);
        let kind = kind.unwrap_or(MetricType::Unknown);
        let metadata = of().filter(|line| line.kind == kind).find_map(|line| line.metadata.as_deref());
        let name = &*lines[rows[0].line].family;
        let unit_lost = self.declare(name, kind, metadata);
        let has_starts = self.flavour == Flavour::OpenMetrics
            && matches!(kind, MetricType::Counter | MetricType::Histogram | MetricType::Summary);
        let family = Family { lines, name, kind, has_starts, unit_lost };
        for metric in rows.chunk_by(|left, right| lines[left.line].metric == lines[right.line].metric) {
            self.metric(metric, family);
        }
    }

    /// Writes the points of a metric. A `_created` sample beside other samples is their start, as readers will take it:
    /// that of a point for its samples, one without a timestamp for all that have no other.
    fn metric(&mut self, rows: &[Row<'_>], family: Family<'_>) {
        let points = || rows.chunk_by(|left, right| left.written == right.written);
        let untimed = points().next().filter(|first| first[0].written.is_none());
        let common = untimed.and_then(|point| family.start_of(point));
        let spreads =
            points().any(|point| point.iter().any(|row| family.has_start(row)) && family.start_of(point).is_none());
        for point in points() {
            let samples = point.iter().any(|row| family.has_start(row));
            let start = if samples { family.start_of(point).or(common) } else { None };
            for row in point {
                match family.said_start(row) {
                    Some(said) if samples || spreads && row.written.is_none() => {
                        self.carried(row, said, start.or(common), family);
                    }
                    _ => self.row(row, start, family),
                }
            }
            if let Some(start) = start {
                put_series(self.out, &format!("{}_created", family.name), self.lines[point[0].line].point());
                self.put(" ");
                self.seconds(start);
                self.timestamp(&point[0]);
                self.put("\n");
            }
        }
    }

    /// Counts a `_created` sample that is written as the start of others, if it is.
    fn carried(&mut self, row: &Row<'_>, said: TimestampNs, written: Option<TimestampNs>, family: Family<'_>) {
        if !row.first {
            return;
        }
        if written != Some(said) {
            self.dropped.count(Loss::Collapsed);
            return;
        }
        let mut losses = self.losses_of(row, None, family);
        let end = self.out.len();
        self.seconds(said);
        let cut = matches!(row.value, Number::F64(value) if number::value(&self.out[end..]) != Some(value));
        self.out.truncate(end);
        if cut {
            losses.insert(Loss::TimestampTruncated);
        }
        if row.exposed.exemplar.is_some() {
            losses.insert(Loss::Exemplar);
        }
        self.losses.count_set(losses);
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
        // Prometheus looks for it at the end of the name as that is written.
        let is_plain = !unit.contains(['\\', '"', '\n']);
        let fits = !text && is_plain && family.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'));
        if fits && !unit.is_empty() {
            self.meta("UNIT", family, unit);
        }
        !unit.is_empty() && !fits
    }

    fn meta(&mut self, keyword: &str, family: &str, text: &str) {
        for piece in ["# ", keyword, " "] {
            self.put(piece);
        }
        put_metric_name(self.out, family);
        for piece in [" ", text, "\n"] {
            self.put(piece);
        }
    }

    fn row(&mut self, row: &Row<'_>, start: Option<TimestampNs>, family: Family<'_>) {
        let sample = &row.exposed.sample;
        let line = &self.lines[row.line];
        self.out.extend_from_slice(&line.head);
        self.put(" ");
        self.number(row.value);
        self.timestamp(row);
        let mut losses = self.losses_of(row, start, family);
        // Buckets of an expanded native histogram have no exemplar of their own.
        let allowed = matches!((family.kind, line.suffix), (MetricType::Counter, "_total") | (_, "_bucket"))
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

    /// What a row loses whose point is written with that start timestamp.
    fn losses_of(&self, row: &Row<'_>, start: Option<TimestampNs>, family: Family<'_>) -> LossSet {
        let line = &self.lines[row.line];
        let mut losses = line.losses;
        let sample = &row.exposed.sample;
        if sample.flags.contains(SampleFlags::ROW_CONTINUES) {
            losses.insert(Loss::RowSplit);
        }
        if let Value::F64(value) = sample.value
            && has_nan_payload(value)
        {
            losses.insert(Loss::NanPayload);
        }
        let truncates = self.flavour == Flavour::Text && row.written.is_some();
        if truncates && sample.timestamp % NANOSECONDS_IN_MILLISECOND != 0 {
            losses.insert(Loss::TimestampTruncated);
        }
        let declared = line.metadata.as_ref().map(|metadata| metadata.metric_type);
        if family.unit_lost || declared.is_some_and(|declared| declared != family.kind) {
            losses.insert(Loss::Metadata);
        }
        if sample.start.is_some() && !(family.has_start(row) && sample.start == start) {
            losses.insert(Loss::StartTimestamp);
        }
        losses
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
        let legal = |name: &str| !name.is_empty() && (self.alphabet == Alphabet::Utf8 || is_plain(name, false));
        if chars > EXEMPLAR_CHARS_MAX || !exemplar.labels.iter().all(|(name, _)| legal(name)) {
            return false;
        }
        self.put(" # {");
        put_labels(self.out, exemplar.labels.iter());
        self.put("} ");
        self.number(Number::F64(exemplar.value));
        if let Some(timestamp) = exemplar.timestamp {
            self.put(" ");
            self.seconds(timestamp);
        }
        true
    }

    fn number(&mut self, number: Number) {
        match number {
            Number::I64(value) => self.put(itoa::Buffer::new().format(value)),
            Number::U64(value) => self.put(itoa::Buffer::new().format(value)),
            Number::F64(value) if value.is_finite() => {
                write_shortest(self.out, value);
                let point = if self.out.ends_with(b".0") { 2 } else { 0 };
                self.out.truncate(self.out.len() - point);
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

    pub(super) fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }
}

impl Family<'_> {
    /// Whether a row can have a start.
    fn has_start(&self, row: &Row<'_>) -> bool {
        let line = &self.lines[row.line];
        self.has_starts && line.kind == self.kind && line.suffix != "_created"
    }

    /// The start that a point tells: with its samples, else by a line of its own.
    fn start_of(&self, point: &[Row<'_>]) -> Option<TimestampNs> {
        let mut own = point.iter().filter(|row| self.has_start(row));
        let own = own.find_map(|row| row.exposed.sample.start);
        own.or_else(|| point.iter().find_map(|row| self.said_start(row)))
    }

    /// What a `_created` sample says, if it is a time.
    fn said_start(&self, row: &Row<'_>) -> Option<TimestampNs> {
        match row.value {
            _ if self.lines[row.line].suffix != "_created" => None,
            Number::F64(value) if value.is_finite() => {
                let mut text = Vec::new();
                write_shortest(&mut text, value);
                number::seconds(&text)
            }
            Number::F64(_) => None,
            Number::I64(value) => value.checked_mul(NANOSECONDS as i64),
            Number::U64(value) => i64::try_from(value).ok()?.checked_mul(NANOSECONDS as i64),
        }
    }
}

pub(super) fn non_finite(value: f64) -> &'static str {
    match value {
        f64::INFINITY => "+Inf",
        f64::NEG_INFINITY => "-Inf",
        _ => "NaN",
    }
}
