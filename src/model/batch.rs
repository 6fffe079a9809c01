//! A batch: what one request brought, in columns small enough to be cheap and complete enough to lose nothing.

mod builder;

pub use builder::{BatchBuilder, Mark};

use super::table::Pin;
use super::{
    Dialect, Distribution, Format, Loss, Metadata, NativeHistogram, Recalled, Run, Series, SeriesId, SeriesTable,
    TimestampNs, Value,
};
use std::collections::HashMap;
use std::sync::Arc;

/// Facts about one sample, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SampleFlags(pub u8);

impl SampleFlags {
    /// No fact.
    pub const NONE: Self = Self(0);
    /// The sample is a further field of the row that the sample before it began.
    pub const ROW_CONTINUES: Self = Self(1);
    /// The sender gave no timestamp; the gateway's clock did.
    pub const TIMESTAMP_IMPLICIT: Self = Self(2);
    /// The string stands in a label of the sample before it. Given by outputs only.
    pub const STRING_AS_LABEL: Self = Self(4);
    /// The string stands in a label of its own series, whose value is 1. Given by outputs only.
    pub const STRING_AS_INFO: Self = Self(8);

    /// The gateway made it of others, and rows of line protocol do not have it: a bucket.
    pub const DERIVED: Self = Self(16);
    /// A distribution whose statistics stand in the batch as well, or one of those, which the gateway made: Wavefront is told the
    /// one, everybody else the others.
    pub const EXPANDED: Self = Self(32);

    /// Whether all facts of `other` hold.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The facts of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// One sample: 24 bytes. Read its value with [`Batch::value`].
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Its series.
    pub series: SeriesId,
    kind: Kind,
    /// What else is known of it.
    pub flags: SampleFlags,
    /// When it was measured.
    pub timestamp: TimestampNs,
    /// The float's or integer's bits, or where the value lies in its batch.
    bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    F64,
    I64,
    U64,
    Bool,
    Str,
    Histogram,
    Distribution,
}

impl Sample {
    /// Whether its value is a string.
    #[inline]
    pub fn is_string(&self) -> bool {
        self.kind == Kind::Str
    }

    /// Why outputs of that dialect are not told it: they are told what it was made of, or what was made of it.
    #[inline]
    pub fn left_out(&self, of: Dialect) -> Option<Loss> {
        let (expanded, derived) = (self.is(SampleFlags::EXPANDED), self.is(SampleFlags::DERIVED));
        let is_distribution = self.kind == Kind::Distribution;
        match of {
            Dialect::Wavefront if expanded && !is_distribution => Some(Loss::Derived),
            Dialect::Prometheus | Dialect::Influx if expanded && is_distribution => Some(Loss::Distribution),
            Dialect::Influx if derived => Some(Loss::Derived),
            _ => None,
        }
    }

    /// Whether the gateway made it.
    pub fn is_made_here(&self) -> bool {
        self.is(SampleFlags::DERIVED) || self.is(SampleFlags::EXPANDED) && self.kind != Kind::Distribution
    }

    fn is(&self, fact: SampleFlags) -> bool {
        self.flags.contains(fact)
    }

    /// The same value in another series, with other facts.
    #[must_use]
    pub fn moved(&self, series: SeriesId, flags: SampleFlags) -> Self {
        Self { series, flags, ..*self }
    }
}

/// A value of a counter in the other temporality: of a delta, the sum of all so far; of a cumulative value, what was added
/// since the last step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Restated {
    /// That value.
    pub value: f64,
    /// Since when it counts.
    pub start: TimestampNs,
}

/// A reference to an observation, as OpenMetrics and remote write carry it.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The series it belongs to (a bucket, a counter, a native histogram).
    pub series: SeriesId,
    /// The sample it came with, by its index in the batch; none where the format gives exemplars to series.
    pub sample: Option<u32>,
    /// Its own labels (`trace_id`), as written.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The observed value.
    pub value: f64,
    /// When it was observed, if the sender said so.
    pub timestamp: Option<TimestampNs>,
}

impl Exemplar {
    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        const LABEL_BYTES: usize = 48;
        let labels = self.labels.iter().map(|(name, value)| LABEL_BYTES + name.len() + value.len());
        size_of::<Self>() + labels.sum::<usize>()
    }
}

/// Metadata that arrived apart from any series (remote write 1.0 sends it so, once a minute).
pub type FamilyMetadata = Arc<Metadata>;

/// Samples of one request, in the order of arrival, and what travels with them.
///
/// A batch keeps the series it names alive in the series table ([`Pin`]), or holds them itself ([`Recalled`]).
#[derive(Clone, Debug)]
pub struct Batch {
    /// The format it arrived in.
    pub format: Format,
    /// The samples.
    pub samples: Vec<Sample>,
    /// Exemplars, in the order of arrival.
    pub exemplars: Vec<Exemplar>,
    /// Metadata that came without series.
    pub metadata: Vec<FamilyMetadata>,
    /// Start timestamps: (index into `samples`, ascending; start).
    pub starts: Vec<(u32, TimestampNs)>,
    /// What samples of counters say in the other temporality: (index into `samples`, ascending; that).
    pub restated: Vec<(u32, Restated)>,
    /// The [runs](Run) among the samples, and where each begins.
    pub runs: Vec<(u32, Arc<Run>)>,
    strings: String,
    histograms: Vec<NativeHistogram>,
    distributions: Vec<Distribution>,
    recalled: Option<Arc<Recalled>>,
    _pin: Pin,
}

impl Batch {
    /// An empty batch.
    pub fn new(format: Format, pin: Pin) -> Self {
        Self {
            format,
            samples: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
            starts: Vec::new(),
            restated: Vec::new(),
            runs: Vec::new(),
            strings: String::new(),
            histograms: Vec::new(),
            distributions: Vec::new(),
            recalled: None,
            _pin: pin,
        }
    }

    /// The same for samples that may be of recalled series.
    #[must_use]
    pub fn recalling(self, recalled: Arc<Recalled>) -> Self {
        Self { recalled: Some(recalled), ..self }
    }

    /// The recalled series that it may name.
    pub fn recalled(&self) -> Option<&Arc<Recalled>> {
        self.recalled.as_ref()
    }

    /// A series that it names.
    pub fn series(&self, id: SeriesId, table: &SeriesTable) -> Option<Series> {
        if id.is_recalled() { self.recalled.as_ref()?.series(id) } else { table.series(id) }
    }

    /// The exemplar of each sample that has one, by its index, and how many have no sample. Of exemplars that do not say
    /// which sample of their series they came with, the last belongs to the last.
    pub fn placed_exemplars(&self) -> (HashMap<usize, &Exemplar>, u64) {
        let mut by_sample = HashMap::new();
        if self.exemplars.is_empty() {
            return (by_sample, 0);
        }
        let mut by_series: HashMap<_, Vec<_>> = HashMap::new();
        for exemplar in &self.exemplars {
            match exemplar.sample {
                Some(index) => drop(by_sample.insert(index as usize, exemplar)),
                None => by_series.entry(exemplar.series).or_default().push(exemplar),
            }
        }
        for (index, sample) in self.samples.iter().enumerate().rev() {
            if let Some(exemplar) = by_series.get_mut(&sample.series).and_then(Vec::pop) {
                by_sample.insert(index, exemplar);
            }
        }
        (by_sample, by_series.values().map(|left| left.len() as u64).sum())
    }

    /// The value of one of this batch's samples.
    #[inline]
    pub fn value(&self, sample: &Sample) -> Value<'_> {
        match sample.kind {
            Kind::F64 => Value::F64(f64::from_bits(sample.bits)),
            Kind::I64 => Value::I64(sample.bits.cast_signed()),
            Kind::U64 => Value::U64(sample.bits),
            Kind::Bool => Value::Bool(sample.bits != 0),
            Kind::Str => {
                let start = (sample.bits >> 32) as usize;
                Value::Str(&self.strings[start..start + (sample.bits & 0xffff_ffff) as usize])
            }
            Kind::Histogram => Value::Histogram(&self.histograms[sample.bits as usize]),
            Kind::Distribution => Value::Distribution(&self.distributions[sample.bits as usize]),
        }
    }

    /// Appends a sample; the value is copied into the batch.
    ///
    /// # Panics
    /// When the batch's strings exceed 4 GiB; bodies are bounded far below.
    #[inline]
    pub fn push(&mut self, series: SeriesId, timestamp: TimestampNs, value: Value<'_>, flags: SampleFlags) {
        let (kind, bits) = match value {
            Value::F64(value) => (Kind::F64, value.to_bits()),
            Value::I64(value) => (Kind::I64, value.cast_unsigned()),
            Value::U64(value) => (Kind::U64, value),
            Value::Bool(value) => (Kind::Bool, u64::from(value)),
            Value::Str(value) => {
                let start = self.strings.len() as u64;
                assert!(u32::try_from(start + value.len() as u64).is_ok(), "strings of a batch exceed 4 GiB");
                self.strings.push_str(value);
                (Kind::Str, start << 32 | value.len() as u64)
            }
            Value::Histogram(value) => {
                self.histograms.push(value.clone());
                (Kind::Histogram, self.histograms.len() as u64 - 1)
            }
            Value::Distribution(value) => {
                self.distributions.push(value.clone());
                (Kind::Distribution, self.distributions.len() as u64 - 1)
            }
        };
        self.samples.push(Sample { series, kind, flags, timestamp, bits });
    }

    /// Says where runs begin in a batch that was read again.
    pub fn find_runs(&mut self, table: &SeriesTable) {
        self.runs = table.find_runs(&self.samples);
    }

    /// Has other samples from now on, in another order perhaps: of what belongs to samples, nothing is there yet.
    pub fn replace_samples(&mut self, samples: Vec<Sample>) {
        self.samples = samples;
        self.runs.clear();
    }

    /// Keeps the samples for which the condition holds, and what belongs to them.
    pub fn retain(&mut self, mut keep: impl FnMut(&Sample) -> bool) {
        let mut places = Vec::with_capacity(self.samples.len());
        self.runs.clear();
        let mut kept = 0_u32;
        self.samples.retain(|sample| {
            let place = keep(sample).then_some(kept);
            kept += u32::from(place.is_some());
            places.push(place);
            place.is_some()
        });
        let place = |index: u32| places.get(index as usize).copied().flatten();
        self.starts.retain_mut(|(index, _)| place(*index).map(|new| *index = new).is_some());
        self.restated.retain_mut(|(index, _)| place(*index).map(|new| *index = new).is_some());
        self.exemplars.retain_mut(|exemplar| match exemplar.sample {
            Some(index) => place(index).map(|new| exemplar.sample = Some(new)).is_some(),
            None => true,
        });
    }

    /// The start timestamp of the sample with that index.
    pub fn start_of(&self, index: usize) -> Option<TimestampNs> {
        let index = u32::try_from(index).ok()?;
        self.starts.binary_search_by_key(&index, |(at, _)| *at).ok().map(|at| self.starts[at].1)
    }

    /// Whether there are distributions in it.
    pub fn has_distributions(&self) -> bool {
        !self.distributions.is_empty()
    }

    /// Whether there is nothing in it worth keeping.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty() && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Memory the batch occupies, roughly, for the bounds of queues.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.samples.capacity() * size_of::<Sample>()
            + self.strings.capacity()
            + self.starts.capacity() * 16
            + self.restated.capacity() * size_of::<(u32, Restated)>()
            + self.runs.capacity() * size_of::<(u32, Arc<Run>)>()
            + self.exemplars.iter().map(Exemplar::bytes).sum::<usize>()
            + self.metadata.iter().map(|metadata| metadata.bytes()).sum::<usize>()
            + self.histograms.iter().map(NativeHistogram::bytes).sum::<usize>()
            + self.distributions.iter().map(Distribution::bytes).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeriesSpec;
    use std::borrow::Cow;

    pub(super) fn spec<'a>(name: &'a str, labels: &[(&'a str, &'a str)]) -> SeriesSpec<'a> {
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        SeriesSpec { measurement: name, field: None, labels, metadata: None }
    }

    #[test]
    fn a_sample_is_24_bytes() {
        assert_eq!(size_of::<Sample>(), 24);
    }

    #[test]
    fn values_come_back_with_their_bits() {
        let table = SeriesTable::default();
        let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
        let id = builder.define(builder.alias(b"m"), spec("m", &[])).unwrap();
        let nan = f64::from_bits(super::super::STALE_MARKER_BITS);
        let values = [
            Value::F64(nan),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::Bool(true),
            Value::Str("é"),
            Value::Str(""),
        ];
        for value in values {
            builder.push(id, 1, value, SampleFlags::NONE);
        }
        let batch = builder.finish();
        let Value::F64(first) = batch.value(&batch.samples[0]) else { panic!("not a float") };
        assert_eq!(first.to_bits(), super::super::STALE_MARKER_BITS);
        for (sample, value) in batch.samples.iter().zip(values).skip(1) {
            assert_eq!(batch.value(sample), value);
        }
    }

    #[test]
    fn what_belongs_to_a_sample_stays_and_goes_with_it() {
        let table = SeriesTable::default();
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        for name in ["a", "b", "c", "d"] {
            let id = builder.define(builder.alias(name.as_bytes()), spec(name, &[])).unwrap();
            builder.push(id, 0, Value::Str(name), SampleFlags::NONE);
            let number = i64::from(name.as_bytes()[0]);
            builder.start_timestamp(number);
            let sample = Some(builder.samples() as u32 - 1);
            builder.exemplar(Exemplar { series: id, sample, labels: Vec::new(), value: 0.0, timestamp: Some(number) });
        }
        let mut batch = builder.finish();
        batch.restated = (0..4).map(|at| (at, Restated { value: f64::from(at), start: 0 })).collect();
        batch.retain(|sample| !matches!(table.series(sample.series).unwrap().name.measurement(), "a" | "c"));
        assert_eq!(
            batch.samples.iter().map(|sample| batch.value(sample)).collect::<Vec<_>>(),
            [Value::Str("b"), Value::Str("d")]
        );
        assert_eq!(batch.starts, [(0, 98), (1, 100)]);
        assert_eq!(
            batch.restated.iter().map(|(at, restated)| (*at, restated.value)).collect::<Vec<_>>(),
            [(0, 1.0), (1, 3.0)]
        );
        assert_eq!(
            batch.exemplars.iter().map(|exemplar| (exemplar.sample, exemplar.timestamp)).collect::<Vec<_>>(),
            [(Some(0), Some(98)), (Some(1), Some(100))]
        );
    }
}
