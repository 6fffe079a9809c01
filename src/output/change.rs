//! How the samples of a series change on their way into another dialect.

use crate::micrometer::{Conversion, Profile, Temporality, Translated, Unit};
use crate::model::{
    Batch, Dialect, Loss, LossSet, Losses, Restated, Sample, Series, SeriesId, TimestampNs, Value, is_stale_marker,
};
use crate::wire::SampleRef;
use std::collections::HashMap;

/// What is done to each sample; most often nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Change {
    unit: Unit,
    /// Why a sample falls away that was not restated, where only the restated value is sent.
    restated: Option<Loss>,
    /// What else holds, as bits: there are as many as series.
    facts: u8,
}

/// The format has a place for start timestamps.
const STARTS: u8 = 1;
/// Losses of tags, with their bits.
const OF_TAGS: [(u8, Loss); 2] = [(2, Loss::LabelDropped), (4, Loss::ValueSanitised)];

impl Change {
    /// What becoming another series means for samples of that temporality.
    pub fn new(conversion: Conversion, of_tags: LossSet, temporality: Temporality, starts: bool) -> Self {
        let missing = if temporality == Temporality::Delta { Loss::LateDelta } else { Loss::WithinStep };
        let lost = OF_TAGS.iter().filter(|(_, loss)| of_tags.contains(*loss));
        let facts = lost.fold(if starts { STARTS } else { 0 }, |facts, (bit, _)| facts | bit);
        Self { unit: conversion.unit, restated: conversion.restated.then_some(missing), facts }
    }

    /// Whether there is nothing to do.
    #[inline]
    pub fn is_none(self) -> bool {
        self.unit == Unit::Same && self.restated.is_none() && self.facts & !STARTS == 0
    }

    /// Whether samples become sums since a start, of which nothing new is told between two steps of the sender.
    pub fn adds_up(self) -> bool {
        self.restated == Some(Loss::LateDelta)
    }

    /// The sample as it is sent, or why it is not.
    #[cold]
    pub fn apply<'a>(
        self,
        sample: SampleRef<'a>,
        restated: Option<Restated>,
        losses: &mut Losses,
    ) -> Result<SampleRef<'a>, Loss> {
        let mut sample = sample;
        if let Some(missing) = self.restated {
            match (restated, &sample.value) {
                (Some(Restated { value, start }), _) => {
                    sample.value = Value::F64(value);
                    sample.start = Some(start).filter(|_| self.facts & STARTS != 0);
                    losses.count(Loss::TemporalityConverted);
                }
                // The format knows what to make of it.
                (None, Value::F64(value)) if is_stale_marker(*value) => return Ok(sample),
                (None, _) => return Err(missing),
            }
        }
        for (_, loss) in OF_TAGS.iter().filter(|(bit, _)| self.facts & bit != 0) {
            losses.count(*loss);
        }
        let number = match sample.value {
            Value::F64(value) => value,
            Value::I64(value) => value as f64,
            Value::U64(value) => value as f64,
            _ => return Ok(sample),
        };
        if self.unit == Unit::Same || is_stale_marker(number) {
            return Ok(sample);
        }
        losses.count(Loss::UnitConverted);
        Ok(SampleRef { value: Value::F64(self.unit.convert(number)), ..sample })
    }
}

/// A series as it is told in that dialect, and what becomes of its samples.
pub fn told(profile: &Profile, series: Series, to: Dialect, starts: bool) -> Result<(Series, Change), Loss> {
    match profile.translate(&series, to)? {
        None => Ok((series, Change::default())),
        Some(Translated { series: translated, conversion, losses }) => {
            Ok((translated, Change::new(conversion, losses, profile.temporality(&series), starts)))
        }
    }
}

/// What the samples of a batch say in the other temporality, asked in the order in which an output takes them.
#[derive(Debug)]
pub enum Restatements<'a> {
    /// As they stand in the batch.
    InOrder(std::iter::Peekable<std::slice::Iter<'a, (u32, Restated)>>),
    /// Rows were put together otherwise.
    ByTime(HashMap<(SeriesId, TimestampNs), Restated>),
}

impl<'a> Restatements<'a> {
    /// Those of a batch; `in_order` when its samples are taken as they stand in it.
    pub fn of(batch: &'a Batch, in_order: bool) -> Self {
        if in_order || batch.restated.is_empty() {
            return Self::InOrder(batch.restated.iter().peekable());
        }
        let by_time = batch.restated.iter().filter_map(|(index, restated)| {
            let sample = batch.samples.get(*index as usize)?;
            Some(((sample.series, sample.timestamp), *restated))
        });
        Self::ByTime(by_time.collect())
    }

    /// That of the sample at that place.
    #[inline]
    pub fn next(&mut self, index: usize, sample: &Sample) -> Option<Restated> {
        match self {
            Self::InOrder(restated) => restated.next_if(|(at, _)| *at as usize == index).map(|(_, restated)| *restated),
            Self::ByTime(restated) => restated.get(&(sample.series, sample.timestamp)).copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{STALE_MARKER_BITS, SampleFlags};

    #[test]
    fn values_change_their_unit_and_their_temporality_or_fall_away() {
        let stale = f64::from_bits(STALE_MARKER_BITS);
        let restated = Some(Restated { value: 46.0, start: 7 });
        let (same, deltas, totals) = (Temporality::Instant, Temporality::Delta, Temporality::Cumulative);
        let table = [
            (Unit::Same, false, same, 2.0, None, Ok((2.0, None))),
            (Unit::Seconds, false, same, 34.0, restated, Ok((0.034, None))),
            (Unit::Milliseconds, false, same, 0.034, None, Ok((34.0, None))),
            (Unit::Seconds, true, deltas, 12.0, restated, Ok((0.046, Some(7)))),
            (Unit::Same, true, deltas, 12.0, None, Err(Loss::LateDelta)),
            (Unit::Milliseconds, true, totals, 12.0, restated, Ok((46_000.0, Some(7)))),
            (Unit::Same, true, totals, 12.0, None, Err(Loss::WithinStep)),
            (Unit::Milliseconds, true, totals, stale, None, Ok((stale, None))),
            (Unit::Seconds, false, same, stale, None, Ok((stale, None))),
        ];
        for (unit, needs, temporality, value, restated, expected) in table {
            let lost = LossSet::of(Loss::LabelDropped);
            let change = Change::new(Conversion { unit, restated: needs }, lost, temporality, true);
            let sample = SampleRef { timestamp: 1, value: Value::F64(value), start: None, flags: SampleFlags::NONE };
            let mut losses = Losses::default();
            let changed = change.apply(sample, restated, &mut losses).map(|sample| match sample.value {
                Value::F64(value) => (value.to_bits(), sample.start),
                other => panic!("{other:?}"),
            });
            assert_eq!(changed, expected.map(|(value, start)| (value.to_bits(), start)), "{change:?} of {value}");
            assert_eq!(losses.get(Loss::LabelDropped), u64::from(!needs || restated.is_some()), "{change:?}");
            let converted = needs && restated.is_some();
            assert_eq!(losses.get(Loss::TemporalityConverted), u64::from(converted), "{change:?}");
        }
        assert_eq!(size_of::<Change>(), 3);
    }
}
