//! What is shown of one series: its newest sample, in a form that outlives the batch, and what that costs.

use crate::model::{
    Distribution, Exemplar, NativeHistogram, SampleFlags, Series, SeriesId, SeriesTable, TimestampNs, Value,
    is_stale_marker,
};
use std::time::Duration;

/// Estimated cost of a shown series: its entry.
const SHOWN_BYTES: usize = 64;
/// Estimated cost of a series that left the table beside its texts, and of each of its labels.
const LEFT_BYTES: usize = 128;

/// Small: there are as many as series.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) timestamp: TimestampNs,
    pub(super) value: Owned,
    /// What most series do not have.
    pub(super) aside: Option<Box<Aside>>,
    /// Second of the Unix epoch by which it was last seen.
    pub(super) seen: u32,
    pub(super) flags: SampleFlags,
    /// Whether its sender tells what was added; shown is the sum of it.
    pub(super) adds_up: bool,
    /// Whether it is of an instance that is known.
    pub(super) is_of_instance: bool,
}

#[derive(Debug, Default)]
pub(super) struct Aside {
    pub(super) start: Option<TimestampNs>,
    pub(super) exemplar: Option<Exemplar>,
    /// What it is, since it left the table.
    pub(super) series: Option<Series>,
}

impl Aside {
    fn bytes(&self) -> usize {
        let left = self.series.as_ref().map_or(0, |series| {
            let labels = series.labels.iter().map(|pair| LEFT_BYTES + pair.name.len() + pair.value.len());
            LEFT_BYTES + series.name.len() + labels.sum::<usize>()
        });
        size_of::<Self>() + left + self.exemplar.as_ref().map_or(0, Exemplar::bytes)
    }
}

impl Newest {
    /// What it costs, estimated, with its present value and exemplar.
    pub(super) fn bytes(&self) -> usize {
        SHOWN_BYTES + self.value.bytes() + self.aside.as_ref().map_or(0, |aside| aside.bytes())
    }

    /// Takes a later float if there is nothing else to be shown of the series, as of most.
    #[inline]
    pub(super) fn go_on(&mut self, value: f64, timestamp: TimestampNs, flags: SampleFlags, seen: u32) -> bool {
        let Owned::F64(held) = &mut self.value else { return false };
        let is_plain = self.aside.is_none() && !self.adds_up && !self.is_of_instance;
        let goes_on = is_plain && timestamp >= self.timestamp && !is_stale_marker(value);
        if goes_on {
            *held = value;
            (self.timestamp, self.flags, self.seen) = (timestamp, flags, seen);
        }
        goes_on
    }

    pub(super) fn exemplar(&self) -> Option<&Exemplar> {
        self.aside.as_ref()?.exemplar.as_ref()
    }

    pub(super) fn start_at(&mut self, start: Option<TimestampNs>) {
        if self.aside.is_some() || start.is_some() {
            self.aside.get_or_insert_default().start = start;
        }
    }

    /// Takes along what the series is if it left the table.
    pub(super) fn follow(&mut self, id: SeriesId, table: &SeriesTable) {
        if self.series().is_none() && !table.is_live(id) {
            self.aside.get_or_insert_default().series = table.series(id);
        }
    }

    pub(super) fn series(&self) -> Option<&Series> {
        self.aside.as_ref()?.series.as_ref()
    }

    pub(super) fn is_stale(&self, now: TimestampNs, after: Duration) -> bool {
        crate::clock::age(now, i64::from(self.seen) * NANOSECONDS) >= after
    }
}

pub(super) const NANOSECONDS: i64 = 1_000_000_000;

/// The next full second.
pub(super) fn second(timestamp: TimestampNs) -> u32 {
    u32::try_from(timestamp / NANOSECONDS + 1).unwrap_or_default()
}

/// A value that outlives its batch.
#[derive(Debug)]
pub(super) enum Owned {
    F64(f64),
    I64(i64),
    U64(u64),
    Bool(bool),
    Histogram(Box<NativeHistogram>),
    Distribution(Box<Distribution>),
}

impl Owned {
    /// A copy; strings are not scraped.
    pub(super) fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::F64(value) => Self::F64(value),
            Value::I64(value) => Self::I64(value),
            Value::U64(value) => Self::U64(value),
            Value::Bool(value) => Self::Bool(value),
            Value::Histogram(value) => Self::Histogram(Box::new(value.clone())),
            Value::Distribution(value) => Self::Distribution(Box::new(value.clone())),
            Value::Str(_) => return None,
        })
    }

    /// Memory beside the value itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Histogram(histogram) => histogram.bytes(),
            Self::Distribution(distribution) => distribution.bytes(),
            _ => 0,
        }
    }

    pub(super) fn borrow(&self) -> Value<'_> {
        match self {
            Self::F64(value) => Value::F64(*value),
            Self::I64(value) => Value::I64(*value),
            Self::U64(value) => Value::U64(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Histogram(value) => Value::Histogram(value),
            Self::Distribution(value) => Value::Distribution(value),
        }
    }
}
