//! What is shown of one series: its newest sample, in a form that outlives the batch, and what that costs. What most series
//! do not have stands [aside](Aside).

use crate::model::{
    Distribution, Exemplar, IdMap, NativeHistogram, SampleFlags, Series, SeriesId, SeriesTable, TimestampNs, Value,
    is_stale_marker,
};
use std::time::Duration;

/// Estimated cost of a shown series: its entry.
pub(super) const SHOWN_BYTES: usize = 32;
/// Estimated cost of what stands aside, beside its value and its texts.
const ASIDE_BYTES: usize = size_of::<Aside>() + 32;
/// Estimated cost of a series that left the table beside its texts, and of each of its labels.
const LEFT_BYTES: usize = 128;

/// Small: there are as many as series.
#[derive(Debug)]
pub(super) struct Newest {
    pub(super) timestamp: TimestampNs,
    bits: u64,
    /// Second of the Unix epoch by which it was last seen.
    pub(super) seen: u32,
    kind: Kind,
    pub(super) flags: SampleFlags,
    /// Whether its sender tells what was added; shown is the sum of it.
    pub(super) adds_up: bool,
    /// Whether it is of an instance that is known.
    pub(super) is_of_instance: bool,
}

/// What the bits of a series' newest value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F64,
    I64,
    U64,
    Bool,
    /// Nothing: the value stands aside with what else there is.
    Aside,
}

/// What most series do not have.
pub(super) type Asides = IdMap<SeriesId, Box<Aside>>;

#[derive(Debug, Default)]
pub(super) struct Aside {
    value: Owned,
    pub(super) start: Option<TimestampNs>,
    pub(super) exemplar: Option<Exemplar>,
    /// What it is, since it left the table.
    pub(super) series: Option<Series>,
}

impl Aside {
    pub(super) fn bytes(&self) -> usize {
        let left = self.series.as_ref().map_or(0, |series| {
            let labels = series.labels.iter().map(|pair| LEFT_BYTES + pair.name.len() + pair.value.len());
            LEFT_BYTES + series.name.len() + labels.sum::<usize>()
        });
        ASIDE_BYTES + left + self.value.bytes() + self.exemplar.as_ref().map_or(0, Exemplar::bytes)
    }
}

impl Newest {
    /// A sample of 0, until a value is [put](Newest::put) there.
    pub(super) fn new(timestamp: TimestampNs, flags: SampleFlags, seen: u32, adds_up: bool) -> Self {
        Self { timestamp, bits: 0, seen, kind: Kind::F64, flags, adds_up, is_of_instance: false }
    }

    /// What it costs, estimated, with its present value and exemplar.
    pub(super) fn bytes(&self, id: SeriesId, asides: &Asides) -> usize {
        SHOWN_BYTES + self.aside(id, asides).map_or(0, Aside::bytes)
    }

    /// Its value; where it stands aside, that is given.
    pub(super) fn value<'a>(&self, aside: Option<&'a Aside>) -> Value<'a> {
        match (self.kind, aside) {
            (Kind::I64, _) => Value::I64(self.bits.cast_signed()),
            (Kind::U64, _) => Value::U64(self.bits),
            (Kind::Bool, _) => Value::Bool(self.bits != 0),
            (Kind::Aside, Some(aside)) => aside.value.borrow(),
            (Kind::F64 | Kind::Aside, _) => Value::F64(f64::from_bits(self.bits)),
        }
    }

    /// Takes another value and its start.
    pub(super) fn put(&mut self, id: SeriesId, asides: &mut Asides, value: Owned, start: Option<TimestampNs>) {
        let plain = match value {
            Owned::F64(value) => Some((Kind::F64, value.to_bits())),
            Owned::I64(value) => Some((Kind::I64, value.cast_unsigned())),
            Owned::U64(value) => Some((Kind::U64, value)),
            Owned::Bool(value) => Some((Kind::Bool, u64::from(value))),
            Owned::Histogram(_) | Owned::Distribution(_) => None,
        };
        match plain {
            Some(plain) if self.kind != Kind::Aside && start.is_none() => (self.kind, self.bits) = plain,
            _ => {
                let aside = self.step_aside(id, asides);
                (aside.value, aside.start) = (value, start);
            }
        }
    }

    /// Takes a later float if there is nothing else to be shown of the series, as of most.
    #[inline]
    pub(super) fn go_on(&mut self, value: f64, timestamp: TimestampNs, flags: SampleFlags, seen: u32) -> bool {
        let is_plain = self.kind == Kind::F64 && !self.adds_up && !self.is_of_instance;
        let goes_on = is_plain && timestamp >= self.timestamp && !is_stale_marker(value);
        if goes_on {
            (self.bits, self.timestamp, self.flags, self.seen) = (value.to_bits(), timestamp, flags, seen);
        }
        goes_on
    }

    pub(super) fn aside<'a>(&self, id: SeriesId, asides: &'a Asides) -> Option<&'a Aside> {
        if self.kind == Kind::Aside { asides.get(&id).map(|aside| &**aside) } else { None }
    }

    /// From now on the value stands aside, beside what else there is.
    pub(super) fn step_aside<'a>(&mut self, id: SeriesId, asides: &'a mut Asides) -> &'a mut Aside {
        if self.kind != Kind::Aside {
            let value = Owned::of(self.value(None)).unwrap_or_default();
            asides.insert(id, Box::new(Aside { value, ..Aside::default() }));
            self.kind = Kind::Aside;
        }
        asides.entry(id).or_default()
    }

    /// Takes along what the series is if it left the table. Returns whether it did.
    pub(super) fn follow(&mut self, id: SeriesId, asides: &mut Asides, table: &SeriesTable) -> bool {
        let has_left = !table.is_live(id);
        if has_left && self.aside(id, asides).is_none_or(|aside| aside.series.is_none()) {
            self.step_aside(id, asides).series = table.series(id);
        }
        has_left
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

impl Default for Owned {
    fn default() -> Self {
        Self::F64(0.0)
    }
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

    fn borrow(&self) -> Value<'_> {
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
