//! A timer or summary with buckets: Wavefront's registry tells it as a distribution of each minute, and nothing else of it.
//! Here that becomes what the registry for line protocol tells of such a minute, a row, and the buckets that the one for
//! Prometheus gives a timer with `publishPercentileHistogram`, spelled as line protocol spells buckets.
//!
//! A centroid stands for the values around it, as it does in Wavefront: a bucket counts it by its mean, and the largest mean is
//! the largest value. Objectives that an application chose are not in a distribution, nor is whether it chose any; so every
//! timer has the same bounds, and a summary, whose range is its own, has none.

use super::read::{self, Reading};
use super::statistics::{STATISTICS, Shape};
use super::{Profile, Unit, write};
use crate::model::{Centroid, Dialect, Distribution, Series};

/// A statistic of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// How many values there are.
    Count,
    /// Their sum.
    Sum,
    /// The largest one.
    Largest,
    /// How many last no longer than so many nanoseconds.
    UpTo(u64),
}

const BOUNDS_COUNT: usize = 68;
/// The bounds of a timer's buckets in nanoseconds.
static BOUNDS: [u64; BOUNDS_COUNT] = bounds();

/// What a timer is expected to take, by default: from a millisecond to half a minute. Between these, powers of four, each followed
/// by steps of a third of it, but for the last step before the next power.
const fn bounds() -> [u64; BOUNDS_COUNT] {
    const LEAST: u64 = 1_000_000;
    const GREATEST: u64 = 30_000_000_000;
    let mut bounds = [LEAST; BOUNDS_COUNT];
    let (mut count, mut power) = (1, 1);
    while power < GREATEST {
        let (step, mut bound) = (power / 3, power);
        while bound < 4 * power - step {
            if LEAST < bound && bound < GREATEST {
                bounds[count] = bound;
                count += 1;
            }
            bound += if step == 0 { 1 } else { step };
        }
        power *= 4;
    }
    bounds[count] = GREATEST;
    assert!(count + 1 == BOUNDS_COUNT);
    bounds
}

/// A meter that is told as distributions.
#[derive(Debug)]
pub struct Distributed<'a> {
    profile: &'a Profile,
    series: &'a Series,
    reading: Reading<'a>,
}

impl Profile {
    /// The meter whose distributions a series has; none where it is not of Micrometer.
    pub fn distributed<'a>(&'a self, series: &'a Series) -> Option<Distributed<'a>> {
        let reading = read::distributed(self, series)?;
        Some(Distributed { profile: self, series, reading })
    }
}

impl Distributed<'_> {
    /// What is told of it.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        let bounds: &[u64] = if self.reading.timed { &BOUNDS } else { &[] };
        [Part::Count, Part::Sum, Part::Largest].into_iter().chain(bounds.iter().copied().map(Part::UpTo))
    }

    /// The series of line protocol that tells it.
    pub fn series(&self, part: Part) -> Option<Series> {
        let (suffix, bound) = match part {
            Part::Count => (".count", None),
            Part::Sum => (".sum", None),
            Part::Largest => (".max", None),
            Part::UpTo(bound) => (".histogram", Some(seconds(bound).to_string())),
        };
        let statistic = STATISTICS.iter().find(|statistic| {
            statistic.shape == Shape::Distribution && statistic.wavefront.is_some_and(|(of, _)| of == suffix)
        })?;
        let reading = Reading { statistic, edge: bound.as_deref(), ..self.reading };
        write::write(self.profile, &reading, self.series, Dialect::Influx).ok().map(|written| written.series)
    }

    /// What a distribution says as that part, in the unit of line protocol.
    pub fn value(&self, part: Part, told: &Distribution) -> f64 {
        let unit = if self.reading.timed { Unit::Milliseconds } else { Unit::Same };
        let all = told.centroids.iter();
        match part {
            Part::Count => count(all),
            Part::Sum => unit.convert(all.map(|of| f64::from(of.count) * of.mean).sum()),
            Part::Largest => unit.convert(all.filter(|of| of.count > 0).map(|of| of.mean).fold(0.0, f64::max)),
            Part::UpTo(bound) => count(all.filter(|of| of.mean <= seconds(bound))),
        }
    }

    /// Whether counters can go on by it: nothing in it is negative, or no number.
    pub fn can_be_added(&self, told: &Distribution) -> bool {
        told.centroids.iter().all(|centroid| centroid.count >= 0 && centroid.mean >= 0.0)
            && self.value(Part::Sum, told).is_finite()
    }
}

fn count<'a>(centroids: impl Iterator<Item = &'a Centroid>) -> f64 {
    centroids.map(|of| i64::from(of.count)).sum::<i64>() as f64
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}
