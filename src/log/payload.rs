//! The payloads: batches in columns, checkpoints, and definitions of series as 0.1.0 wrote them (now: pack.rs).
//!
//! ```text
//! definitions  { local id, length, definition }*      of version 1
//! definition   dialect 1, bits 1 (1 field, 2 metadata), measurement, [field], labels {name, value}*, [metadata]
//! metadata     family, type 1, help, unit
//! samples      local ids     varint, zigzag delta to the sample before
//!              timestamps    varint, zigzag delta to the sample before
//!              shapes        { flags 1, value kind 1, run length }*
//!              values        8 bytes each; bool 1; string length + bytes; histograms and distributions in full
//!              starts        { index delta, zigzag(timestamp - start) }*
//!              exemplars     { local id, labels {name, value}*, value 8, bits 1 (1 timestamp, 2 sample), [timestamp 8], [index] }*
//!              metadata*
//!              restated      { index delta, value 8, zigzag(timestamp - start) }*      absent where there is none
//! checkpoint   samples accepted, 8 bytes a format
//! ```
//!
//! Texts and lists begin with their length as a varint. Local ids count from zero in each segment, so a segment can be read
//! alone. Reading allocates no more than a payload of that length can hold, whatever it says.

use super::bytes::{Malformed, Put, Take};
use super::pack::{HAS_FIELD, HAS_METADATA};
use crate::model::{
    Batch, Centroid, Counts, Dialect, Distribution, Exemplar, Format, Granularity, IdTable, Metadata, MetricType,
    NativeHistogram, ResetHint, Restated, Sample, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Span, Value,
};
use parking_lot::RwLock;
use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

/// Samples accepted since the log was created, by format.
pub(super) type Accepted = [u64; Format::COUNT];

pub(super) fn encode_checkpoint(accepted: &Accepted, out: &mut Vec<u8>) {
    for count in accepted {
        out.extend_from_slice(&count.to_le_bytes());
    }
}

pub(super) fn decode_checkpoint(payload: &[u8]) -> Result<Accepted, Malformed> {
    let mut take = Take(payload);
    let mut accepted = Accepted::default();
    for count in &mut accepted {
        *count = take.word()?;
    }
    Ok(accepted)
}

/// The series of the local ids in a segment that this process writes: readers that know them need no definitions.
#[derive(Debug, Default)]
pub(super) struct Written(RwLock<Vec<SeriesId>>);

impl Written {
    /// The series of a local id, which may have left the table since.
    pub(super) fn series(&self, local: u32) -> Option<SeriesId> {
        self.0.read().get(local as usize).copied()
    }
}

/// The series defined so far in the segment being written.
#[derive(Debug, Default)]
pub(super) struct Locals {
    /// Each more by one, so that a place takes four bytes.
    ids: IdTable<NonZeroU32>,
    /// The other way round, but for those of the batch at hand.
    written: Arc<Written>,
    /// Those of the batch at hand that the segment does not know yet.
    fresh: Vec<SeriesId>,
}

impl Locals {
    #[inline]
    fn local(&mut self, series: SeriesId) -> u32 {
        match self.ids.get(series) {
            Some(local) => local.get() - 1,
            None => self.add(series),
        }
    }

    #[cold]
    fn add(&mut self, series: SeriesId) -> u32 {
        let local = self.ids.len() as u32;
        self.ids.insert(series, NonZeroU32::MIN.saturating_add(local));
        self.fresh.push(series);
        local
    }

    /// The series first seen since the last call; they are defined from now on.
    pub(super) fn settle(&mut self) {
        if !self.fresh.is_empty() {
            self.written.0.write().append(&mut self.fresh);
        }
    }

    /// What readers may ask.
    pub(super) fn written(&self) -> &Arc<Written> {
        &self.written
    }

    /// Takes back what was seen since [`Locals::settle`].
    pub(super) fn take_back(&mut self) {
        for series in self.fresh.drain(..) {
            self.ids.remove(series);
        }
    }

    /// Appends the series first seen, with their local ids; or tells of one that the table does not know.
    pub(super) fn fresh(&self, table: &SeriesTable, out: &mut Vec<(u32, Series)>) -> Result<(), SeriesId> {
        let first = (self.ids.len() - self.fresh.len()) as u32;
        for (local, id) in (first..).zip(&self.fresh) {
            out.push((local, table.series(*id).ok_or(*id)?));
        }
        Ok(())
    }
}

const HAS_TIMESTAMP: u8 = 1;
const HAS_SAMPLE: u8 = 2;

fn encode_metadata(metadata: &Metadata, out: &mut Vec<u8>) {
    out.put_text(&metadata.family);
    out.push(metadata.metric_type as u8);
    out.put_text(&metadata.help);
    out.put_text(&metadata.unit);
}

fn decode_metadata(take: &mut Take<'_>) -> Result<Metadata, Malformed> {
    Ok(Metadata {
        family: take.text()?.into(),
        metric_type: MetricType::from_number(i32::from(take.byte()?)),
        help: take.text()?.into(),
        unit: take.text()?.into(),
    })
}

/// Reads a definition that stands for itself.
pub(super) fn decode_series(bytes: &[u8]) -> Result<(Dialect, SeriesSpec<'_>), Malformed> {
    let mut take = Take(bytes);
    let dialect = Dialect::from_number(take.byte()?).ok_or(Malformed)?;
    let bits = take.byte()?;
    let measurement = take.text()?;
    let field = if bits & HAS_FIELD != 0 { Some(take.text()?) } else { None };
    let labels = take.list(|take| Ok((Cow::from(take.text()?), Cow::from(take.text()?))))?;
    let metadata = if bits & HAS_METADATA != 0 { Some(Arc::new(decode_metadata(&mut take)?)) } else { None };
    Ok((dialect, SeriesSpec { measurement, field, labels, metadata }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum ValueKind {
    F64,
    I64,
    U64,
    Bool,
    Str,
    Histogram,
    Distribution,
}

impl ValueKind {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::F64(_) => Self::F64,
            Value::I64(_) => Self::I64,
            Value::U64(_) => Self::U64,
            Value::Bool(_) => Self::Bool,
            Value::Str(_) => Self::Str,
            Value::Histogram(_) => Self::Histogram,
            Value::Distribution(_) => Self::Distribution,
        }
    }

    fn from_number(number: u8) -> Result<Self, Malformed> {
        const ALL: [ValueKind; 7] = [
            ValueKind::F64,
            ValueKind::I64,
            ValueKind::U64,
            ValueKind::Bool,
            ValueKind::Str,
            ValueKind::Histogram,
            ValueKind::Distribution,
        ];
        ALL.get(usize::from(number)).copied().ok_or(Malformed)
    }
}

/// Appends a batch's payload. New series are noted in `locals` for their definition.
pub(super) fn encode_batch(batch: &Batch, locals: &mut Locals, out: &mut Vec<u8>) {
    let mut before = 0;
    for sample in &batch.samples {
        let local = i64::from(locals.local(sample.series));
        out.put_signed(local - before);
        before = local;
    }
    let mut before = 0;
    for sample in &batch.samples {
        out.put_signed(sample.timestamp.wrapping_sub(before));
        before = sample.timestamp;
    }
    encode_shapes(batch, out);
    out.reserve(batch.samples.len() * size_of::<f64>());
    for sample in &batch.samples {
        match batch.value(sample) {
            Value::F64(value) => out.put_float(value),
            Value::I64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Value::U64(value) => out.extend_from_slice(&value.to_le_bytes()),
            Value::Bool(value) => out.push(u8::from(value)),
            Value::Str(value) => out.put_text(value),
            Value::Histogram(value) => encode_histogram(value, out),
            Value::Distribution(value) => encode_distribution(value, out),
        }
    }
    encode_starts(batch, out);
    out.put_varint(batch.exemplars.len() as u64);
    for exemplar in &batch.exemplars {
        encode_exemplar(exemplar, locals, out);
    }
    out.put_varint(batch.metadata.len() as u64);
    for metadata in &batch.metadata {
        encode_metadata(metadata, out);
    }
    if !batch.restated.is_empty() {
        encode_restated(batch, out);
    }
}

fn encode_restated(batch: &Batch, out: &mut Vec<u8>) {
    out.put_varint(batch.restated.len() as u64);
    let mut before = 0;
    for (index, restated) in &batch.restated {
        out.put_varint(u64::from(index - before));
        out.put_float(restated.value);
        let timestamp = batch.samples.get(*index as usize).map_or(0, |sample| sample.timestamp);
        out.put_signed(timestamp.wrapping_sub(restated.start));
        before = *index;
    }
}

fn encode_shapes(batch: &Batch, out: &mut Vec<u8>) {
    let shape = |sample: &Sample| [sample.flags.0, ValueKind::of(&batch.value(sample)) as u8];
    for run in batch.samples.chunk_by(|left, right| shape(left) == shape(right)) {
        out.extend_from_slice(&shape(&run[0]));
        out.put_varint(run.len() as u64);
    }
}

fn encode_starts(batch: &Batch, out: &mut Vec<u8>) {
    out.put_varint(batch.starts.len() as u64);
    let mut before = 0;
    for (index, start) in &batch.starts {
        out.put_varint(u64::from(index - before));
        // Stored against the sample's own time, which is near; a start always belongs to a sample.
        let timestamp = batch.samples.get(*index as usize).map_or(0, |sample| sample.timestamp);
        out.put_signed(timestamp.wrapping_sub(*start));
        before = *index;
    }
}

fn encode_exemplar(exemplar: &Exemplar, locals: &mut Locals, out: &mut Vec<u8>) {
    out.put_varint(u64::from(locals.local(exemplar.series)));
    out.put_varint(exemplar.labels.len() as u64);
    for (name, value) in &exemplar.labels {
        out.put_text(name);
        out.put_text(value);
    }
    out.put_float(exemplar.value);
    let bits = if exemplar.timestamp.is_some() { HAS_TIMESTAMP } else { 0 };
    out.push(bits | if exemplar.sample.is_some() { HAS_SAMPLE } else { 0 });
    if let Some(timestamp) = exemplar.timestamp {
        out.extend_from_slice(&timestamp.to_le_bytes());
    }
    if let Some(sample) = exemplar.sample {
        out.put_varint(u64::from(sample));
    }
}

/// Reads a batch of `count` samples into `batch`, which must be empty. `series_of` tells which series a local id is.
pub(super) fn decode_batch<E: From<Malformed>>(
    payload: &[u8],
    count: u32,
    mut series_of: impl FnMut(u32) -> Result<SeriesId, E>,
    batch: &mut Batch,
) -> Result<(), E> {
    let count = count as usize;
    if count > payload.len() {
        return Err(Malformed.into());
    }
    let mut take = Take(payload);
    let mut series = Vec::with_capacity(count);
    let mut local = 0_i64;
    for _ in 0..count {
        local = local.wrapping_add(take.signed()?);
        series.push(series_of(u32::try_from(local).map_err(|_| Malformed)?)?);
    }
    let mut timestamps = Vec::with_capacity(count);
    let mut timestamp = 0_i64;
    for _ in 0..count {
        timestamp = timestamp.wrapping_add(take.signed()?);
        timestamps.push(timestamp);
    }
    let mut shapes = Vec::with_capacity(count);
    while shapes.len() < count {
        let shape = (SampleFlags(take.byte()?), ValueKind::from_number(take.byte()?)?);
        let run = take.varint()?;
        if run == 0 || run > (count - shapes.len()) as u64 {
            return Err(Malformed.into());
        }
        shapes.resize(shapes.len() + run as usize, shape);
    }
    batch.samples.reserve_exact(count);
    for ((series, timestamp), (flags, kind)) in series.into_iter().zip(timestamps).zip(shapes) {
        decode_value(kind, &mut take, |value| batch.push(series, timestamp, value, flags))?;
    }
    decode_starts(&mut take, batch)?;
    for _ in 0..take.count()? {
        let series = series_of(take.number()?)?;
        batch.exemplars.push(decode_exemplar(&mut take, series)?);
    }
    batch.metadata = take.list(|take| decode_metadata(take).map(Arc::new))?;
    if !take.is_empty() {
        decode_restated(&mut take, batch)?;
    }
    if take.is_empty() { Ok(()) } else { Err(Malformed.into()) }
}

fn decode_restated(take: &mut Take<'_>, batch: &mut Batch) -> Result<(), Malformed> {
    let mut index = 0_u32;
    for _ in 0..take.count()? {
        index = index.checked_add(take.number()?).ok_or(Malformed)?;
        let sample = batch.samples.get(index as usize).ok_or(Malformed)?;
        let value = take.float()?;
        let start = sample.timestamp.wrapping_sub(take.signed()?);
        batch.restated.push((index, Restated { value, start }));
    }
    Ok(())
}

fn decode_value(kind: ValueKind, take: &mut Take<'_>, push: impl FnOnce(Value<'_>)) -> Result<(), Malformed> {
    match kind {
        ValueKind::F64 => push(Value::F64(take.float()?)),
        ValueKind::I64 => push(Value::I64(take.word()?.cast_signed())),
        ValueKind::U64 => push(Value::U64(take.word()?)),
        ValueKind::Bool => push(Value::Bool(take.byte()? != 0)),
        ValueKind::Str => push(Value::Str(take.text()?)),
        ValueKind::Histogram => push(Value::Histogram(&decode_histogram(take)?)),
        ValueKind::Distribution => push(Value::Distribution(&decode_distribution(take)?)),
    }
    Ok(())
}

fn decode_starts(take: &mut Take<'_>, batch: &mut Batch) -> Result<(), Malformed> {
    let mut index = 0_u32;
    for _ in 0..take.count()? {
        index = index.checked_add(take.number()?).ok_or(Malformed)?;
        let sample = batch.samples.get(index as usize).ok_or(Malformed)?;
        batch.starts.push((index, sample.timestamp.wrapping_sub(take.signed()?)));
    }
    Ok(())
}

fn decode_exemplar(take: &mut Take<'_>, series: SeriesId) -> Result<Exemplar, Malformed> {
    let labels = take.list(|take| Ok((take.text()?.into(), take.text()?.into())))?;
    let (value, bits) = (take.float()?, take.byte()?);
    let timestamp = if bits & HAS_TIMESTAMP == 0 { None } else { Some(take.word()?.cast_signed()) };
    let sample = if bits & HAS_SAMPLE == 0 { None } else { Some(take.number()?) };
    Ok(Exemplar { series, sample, labels, value, timestamp })
}

fn encode_histogram(histogram: &NativeHistogram, out: &mut Vec<u8>) {
    out.put_signed(i64::from(histogram.schema));
    out.put_float(histogram.zero_threshold);
    out.put_float(histogram.sum);
    out.push(histogram.reset_hint as u8);
    for spans in [&histogram.positive_spans, &histogram.negative_spans] {
        out.put_varint(spans.len() as u64);
        for span in spans {
            out.put_signed(i64::from(span.offset));
            out.put_varint(u64::from(span.length));
        }
    }
    put_floats(&histogram.custom_values, out);
    match &histogram.counts {
        Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
            out.push(0);
            out.put_varint(*count);
            out.put_varint(*zero_count);
            for deltas in [positive_deltas, negative_deltas] {
                out.put_varint(deltas.len() as u64);
                for delta in deltas {
                    out.put_signed(*delta);
                }
            }
        }
        Counts::Float { count, zero_count, positive_counts, negative_counts } => {
            out.push(1);
            out.put_float(*count);
            out.put_float(*zero_count);
            put_floats(positive_counts, out);
            put_floats(negative_counts, out);
        }
    }
}

fn put_floats(floats: &[f64], out: &mut Vec<u8>) {
    out.put_varint(floats.len() as u64);
    for float in floats {
        out.put_float(*float);
    }
}

fn decode_histogram(take: &mut Take<'_>) -> Result<NativeHistogram, Malformed> {
    let span = |take: &mut Take<'_>| Ok(Span { offset: small(take)?, length: take.number()? });
    let schema = small(take)?;
    let (zero_threshold, sum) = (take.float()?, take.float()?);
    let reset_hint = match take.byte()? {
        0 => ResetHint::Unknown,
        1 => ResetHint::Yes,
        2 => ResetHint::No,
        3 => ResetHint::Gauge,
        _ => return Err(Malformed),
    };
    let (positive_spans, negative_spans) = (take.list(span)?, take.list(span)?);
    let custom_values = take.list(Take::float)?;
    let counts = match take.byte()? {
        0 => Counts::Integer {
            count: take.varint()?,
            zero_count: take.varint()?,
            positive_deltas: take.list(Take::signed)?,
            negative_deltas: take.list(Take::signed)?,
        },
        1 => Counts::Float {
            count: take.float()?,
            zero_count: take.float()?,
            positive_counts: take.list(Take::float)?,
            negative_counts: take.list(Take::float)?,
        },
        _ => return Err(Malformed),
    };
    Ok(NativeHistogram {
        schema,
        zero_threshold,
        sum,
        counts,
        positive_spans,
        negative_spans,
        custom_values,
        reset_hint,
    })
}

fn small(take: &mut Take<'_>) -> Result<i32, Malformed> {
    i32::try_from(take.signed()?).map_err(|_| Malformed)
}

fn encode_distribution(distribution: &Distribution, out: &mut Vec<u8>) {
    out.push(distribution.granularity as u8);
    out.put_varint(distribution.centroids.len() as u64);
    for centroid in &distribution.centroids {
        out.put_signed(i64::from(centroid.count));
        out.put_float(centroid.mean);
    }
}

fn decode_distribution(take: &mut Take<'_>) -> Result<Distribution, Malformed> {
    let granularity = match take.byte()? {
        0 => Granularity::Minute,
        1 => Granularity::Hour,
        2 => Granularity::Day,
        _ => return Err(Malformed),
    };
    let centroids = take.list(|take| Ok(Centroid { count: small(take)?, mean: take.float()? }))?;
    Ok(Distribution { granularity, centroids })
}
