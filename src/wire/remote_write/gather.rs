//! Gathers the samples of a body by series: one `TimeSeries` for each, its samples in time order.
//!
//! A series' place in the body under construction is remembered in its rendering ([`Gathered::place`] checks it), so no
//! sample is looked up by anything. Where each series has one sample, which is the rule, nothing is moved or sorted at the
//! end either.

use super::decode::NANOSECONDS;
use super::histogram;
use crate::model::{Distribution, Loss, LossSet, Losses, SampleFlags, Value};
use crate::wire::{Body, SampleRef};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Integers up to this magnitude are exact in a float.
const EXACT_INTEGER_MAX: u64 = 1 << 53;
/// Parts of a body (histograms, exemplars) are addressed with 32 bits; callers end bodies far below.
const MESSAGES_BYTES_MAX: usize = u32::MAX as usize;
/// What a sample adds to a body, roughly.
const SAMPLE_BYTES: usize = 20;

/// A rendered series, as seen from here.
pub(crate) trait Rendering: Sized {
    /// Where the series stood in the body that last had it.
    fn place(&self) -> &AtomicU32;
    /// What every sample of it loses.
    fn losses(&self) -> LossSet;
    /// The series that hold count and sum of its distributions.
    fn companions(&self) -> &[Arc<Self>; 2];
    /// Whether start timestamps can be written.
    const STARTS: bool;
}

/// A series of the body.
pub(crate) struct Group<R> {
    pub(crate) rendered: Arc<R>,
    samples: u32,
    /// The timestamp pushed last, for exemplars that have none.
    last: Option<i64>,
}

/// A sample of the body; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    group: u32,
    /// Model samples it stands for: 0 for the second series of a distribution.
    weight: u8,
    kind: Kind,
    pub(crate) timestamp: i64,
    /// 0 is unset.
    pub(crate) start: i64,
    /// The float's bits, or the place of the histogram's message.
    bits: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Float,
    Histogram,
}

impl Pending {
    fn key(&self) -> (Kind, i64) {
        (self.kind, self.timestamp)
    }

    pub(crate) fn is_float(&self) -> bool {
        self.kind == Kind::Float
    }

    /// The bits of a float sample.
    pub(crate) fn float(&self) -> [u8; 8] {
        self.bits.to_le_bytes()
    }
}

/// What is the same for samples of all values.
pub(crate) struct Facts {
    /// In milliseconds.
    pub(crate) timestamp: i64,
    /// In milliseconds; 0 is unset.
    pub(crate) start: i64,
}

impl Facts {
    /// Those of a sample, and what it loses by them.
    #[inline]
    pub(crate) fn of<R: Rendering>(sample: &SampleRef<'_>, altered: &mut LossSet) -> Self {
        let timestamp = sample.timestamp.div_euclid(NANOSECONDS);
        // The precision of a time that the gateway's clock gave is nobody's.
        let is_implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
        if timestamp.wrapping_mul(NANOSECONDS) != sample.timestamp && !is_implicit {
            altered.insert(Loss::TimestampTruncated);
        }
        if sample.flags.contains(SampleFlags::ROW_CONTINUES) {
            altered.insert(Loss::RowSplit);
        }
        let start = sample.start.map_or(0, |start| start_milliseconds::<R>(start, altered));
        Self { timestamp, start }
    }
}

/// The bits of a float of that value, if it is a number.
#[inline]
pub(crate) fn number(value: Value<'_>, altered: &mut LossSet) -> Option<u64> {
    let (float, magnitude) = match value {
        Value::F64(value) => return Some(value.to_bits()),
        Value::I64(value) => (value as f64, value.unsigned_abs()),
        Value::U64(value) => (value as f64, value),
        Value::Bool(value) => (f64::from(u8::from(value)), 0),
        Value::Str(_) | Value::Histogram(_) | Value::Distribution(_) => return None,
    };
    // A larger one may be exact as well, when its low bits are zero: at most 53 significant bits.
    let rounded = magnitude > EXACT_INTEGER_MAX && 64 - magnitude.leading_zeros() - magnitude.trailing_zeros() > 53;
    altered.insert(if rounded { Loss::IntegerRounded } else { Loss::FieldType });
    Some(float.to_bits())
}

/// Ends the piece of the body that has these samples, at that offset of the message. Count and sum of distributions are one
/// piece: whoever refuses the one refuses the sample.
pub(crate) fn cut(body: &mut Body, end: usize, samples: &[Pending]) {
    let weight = samples.iter().map(|sample| u32::from(sample.weight)).sum();
    let on_wire = samples.len() as u32;
    if weight == 0 && on_wire > 0 { body.extend_piece(end, on_wire) } else { body.cut_at(end, weight, on_wire) }
}

/// The samples of a body under construction.
pub(crate) struct Gathered<R> {
    groups: Vec<Group<R>>,
    samples: Vec<Pending>,
    /// `samples` by group, when they are not in that order already.
    ordered: Vec<Pending>,
    /// Group and place of each exemplar's message.
    exemplars: Vec<(u32, Range<u32>)>,
    /// Messages of histograms and exemplars.
    messages: Vec<u8>,
    pushed: u64,
}

impl<R> Default for Gathered<R> {
    fn default() -> Self {
        Self {
            groups: Vec::new(),
            samples: Vec::new(),
            ordered: Vec::new(),
            exemplars: Vec::new(),
            messages: Vec::new(),
            pushed: 0,
        }
    }
}

impl<R: Rendering> Gathered<R> {
    /// Model samples pushed since the last [`Gathered::clear`].
    pub(crate) fn pushed(&self) -> u64 {
        self.pushed
    }

    /// Series that the body has.
    pub(crate) fn series(&self) -> usize {
        self.groups.len()
    }

    /// Takes a float whose losses are counted.
    pub(crate) fn add(&mut self, rendered: &Arc<R>, bits: u64, timestamp: i64, begin: impl FnMut(&R)) {
        let group = self.place(rendered, begin);
        self.append(Pending { group, weight: 1, kind: Kind::Float, timestamp, start: 0, bits });
        self.pushed += 1;
    }

    /// What samples and exemplars add to the body, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.samples.len() * SAMPLE_BYTES + self.messages.len()
    }

    /// Takes a sample. `begin` is told of a series that is new in the body.
    #[inline]
    pub(crate) fn push(
        &mut self,
        rendered: &Arc<R>,
        sample: &SampleRef<'_>,
        losses: &mut Losses,
        begin: impl FnMut(&R),
    ) -> Result<(), Loss> {
        let mut altered = rendered.losses();
        let Facts { timestamp, start } = Facts::of::<R>(sample, &mut altered);
        let (kind, bits) = match sample.value {
            Value::Str(_) if sample.flags.contains(SampleFlags::STRING_AS_LABEL) => {
                self.absorb(rendered, timestamp)?;
                losses.count(Loss::FieldType);
                return Ok(());
            }
            Value::Str(_) if sample.flags.contains(SampleFlags::STRING_AS_INFO) => {
                altered.insert(Loss::FieldType);
                (Kind::Float, 1.0_f64.to_bits())
            }
            Value::Distribution(distribution) => {
                altered.insert(Loss::Distribution);
                self.expand(rendered, distribution, timestamp, begin);
                self.pushed += 1;
                losses.count_set(altered);
                return Ok(());
            }
            Value::Str(_) => return Err(Loss::StringValue),
            Value::Histogram(native) => {
                let put = |out: &mut Vec<u8>| histogram::put_message(out, native, timestamp, start);
                let place = self.message(put).ok_or(Loss::TooLong)?;
                (Kind::Histogram, u64::from(place.start) << 32 | u64::from(place.end))
            }
            value => (Kind::Float, number(value, &mut altered).ok_or(Loss::FieldType)?),
        };
        let group = self.place(rendered, begin);
        self.append(Pending { group, weight: 1, kind, timestamp, start, bits });
        self.pushed += 1;
        losses.count_set(altered);
        Ok(())
    }

    /// Counts a string with the sample before it, among whose labels it is.
    #[cold]
    fn absorb(&mut self, rendered: &Arc<R>, timestamp: i64) -> Result<(), Loss> {
        let group = self.find(rendered).ok_or(Loss::StringValue)?;
        let before = self.samples.last_mut().filter(|last| last.group == group && last.timestamp == timestamp);
        let before = before.ok_or(Loss::StringValue)?;
        before.weight = before.weight.checked_add(1).ok_or(Loss::StringValue)?;
        self.pushed += 1;
        Ok(())
    }

    /// Appends a distribution's count and sum, as samples of two series.
    #[cold]
    fn expand(&mut self, rendered: &Arc<R>, distribution: &Distribution, timestamp: i64, mut begin: impl FnMut(&R)) {
        let count: i64 = distribution.centroids.iter().map(|centroid| i64::from(centroid.count)).sum();
        let sum: f64 = distribution.centroids.iter().map(|centroid| f64::from(centroid.count) * centroid.mean).sum();
        let companions = rendered.companions();
        for ((companion, value), weight) in companions.iter().zip([count as f64, sum]).zip([1, 0]) {
            let group = self.place(companion, &mut begin);
            self.append(Pending { group, weight, kind: Kind::Float, timestamp, start: 0, bits: value.to_bits() });
        }
    }

    /// Takes an exemplar's message, which `put` appends when told the exemplar's timestamp; false when it has none and its
    /// series has no sample to take one from.
    #[cold]
    pub(crate) fn exemplar(&mut self, group: u32, timestamp: Option<i64>, put: impl FnOnce(&mut Vec<u8>, i64)) -> bool {
        let Some(timestamp) = timestamp.or(self.groups[group as usize].last) else { return false };
        let Some(place) = self.message(|out| put(out, timestamp)) else { return false };
        self.exemplars.push((group, place));
        true
    }

    /// Appends a message, unless there is no room.
    fn message(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Option<Range<u32>> {
        let start = self.messages.len();
        put(&mut self.messages);
        if self.messages.len() > MESSAGES_BYTES_MAX {
            self.messages.truncate(start);
            return None;
        }
        Some(start as u32..self.messages.len() as u32)
    }

    /// Where the series stands in the body, if it does.
    #[inline]
    pub(crate) fn find(&self, rendered: &Arc<R>) -> Option<u32> {
        let place = rendered.place().load(Ordering::Relaxed);
        let group = self.groups.get(place as usize)?;
        Arc::ptr_eq(&group.rendered, rendered).then_some(place)
    }

    /// Where the series stands in the body, at its end if it is new.
    #[inline]
    pub(crate) fn place(&mut self, rendered: &Arc<R>, mut begin: impl FnMut(&R)) -> u32 {
        if let Some(place) = self.find(rendered) {
            return place;
        }
        let place = self.groups.len() as u32;
        rendered.place().store(place, Ordering::Relaxed);
        self.groups.push(Group { rendered: Arc::clone(rendered), samples: 0, last: None });
        begin(rendered);
        place
    }

    #[inline]
    fn append(&mut self, pending: Pending) {
        let group = &mut self.groups[pending.group as usize];
        group.samples += 1;
        group.last = Some(pending.timestamp);
        self.samples.push(pending);
    }

    /// Hands the series out in the order of their first sample, each with its samples and the messages of its exemplars:
    /// floats before histograms, both in time order. Of samples with one timestamp the last stays; the others are counted
    /// in `dropped`. To be [cleared](Gathered::clear) afterwards.
    pub(crate) fn finish(&mut self, dropped: &mut Losses, mut each: impl FnMut(usize, &R, &[Pending], Messages<'_>)) {
        self.order_by_group();
        self.exemplars.sort_by_key(|(group, _)| *group);
        let (mut at, mut exemplar) = (0, 0);
        for (index, group) in self.groups.iter().enumerate() {
            let samples = &mut self.samples[at..at + group.samples as usize];
            at += samples.len();
            let kept = tidy(samples, dropped);
            let first = exemplar;
            while self.exemplars.get(exemplar).is_some_and(|(of, _)| *of as usize == index) {
                exemplar += 1;
            }
            let messages = Messages { bytes: &self.messages, exemplars: &self.exemplars[first..exemplar] };
            each(index, &group.rendered, &samples[..kept], messages);
        }
    }

    fn order_by_group(&mut self) {
        if self.samples.is_sorted_by_key(|sample| sample.group) {
            return;
        }
        let mut next = Vec::with_capacity(self.groups.len());
        let mut start = 0;
        for group in &self.groups {
            next.push(start);
            start += group.samples as usize;
        }
        self.ordered.clear();
        self.ordered.extend_from_slice(&self.samples);
        for sample in &self.samples {
            let place = &mut next[sample.group as usize];
            self.ordered[*place] = *sample;
            *place += 1;
        }
        std::mem::swap(&mut self.samples, &mut self.ordered);
    }

    /// Begins the next body.
    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.samples.clear();
        self.exemplars.clear();
        self.messages.clear();
        self.pushed = 0;
    }
}

/// The messages that belong to a series of the body.
#[derive(Clone, Copy)]
pub(crate) struct Messages<'a> {
    bytes: &'a [u8],
    exemplars: &'a [(u32, Range<u32>)],
}

impl<'a> Messages<'a> {
    /// The exemplars, in the order of arrival.
    pub(crate) fn exemplars(self) -> impl Iterator<Item = &'a [u8]> {
        self.exemplars.iter().map(move |(_, place)| &self.bytes[place.start as usize..place.end as usize])
    }

    /// The message of a histogram sample.
    pub(crate) fn histogram(self, sample: &Pending) -> &'a [u8] {
        &self.bytes[(sample.bits >> 32) as usize..(sample.bits & 0xffff_ffff) as usize]
    }
}

/// Sorts the samples of a series and keeps the last of those with one timestamp; returns how many stay.
#[inline]
fn tidy(samples: &mut [Pending], dropped: &mut Losses) -> usize {
    if samples.is_sorted_by(|left, right| left.key() < right.key()) {
        return samples.len();
    }
    samples.sort_by_key(Pending::key);
    let mut kept = 0;
    for at in 0..samples.len() {
        if kept > 0 && samples[kept - 1].key() == samples[at].key() {
            dropped.add(Loss::Collapsed, u64::from(samples[kept - 1].weight));
            samples[kept - 1] = samples[at];
        } else {
            samples[kept] = samples[at];
            kept += 1;
        }
    }
    kept
}

/// A start timestamp in milliseconds, where the format has one.
fn start_milliseconds<R: Rendering>(start: i64, altered: &mut LossSet) -> i64 {
    if !R::STARTS {
        altered.insert(Loss::StartTimestamp);
        return 0;
    }
    let milliseconds = start.div_euclid(NANOSECONDS);
    if start.rem_euclid(NANOSECONDS) != 0 {
        altered.insert(Loss::TimestampTruncated);
    }
    // 0 says that it is unset; the specification asks for 1 or -1 in its place.
    if milliseconds == 0 { 1 } else { milliseconds }
}
