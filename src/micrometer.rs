//! The Micrometer profile: what a meter of Micrometer is called, and measured in, in each dialect that Micrometer writes.
//!
//! A series of one dialect becomes one of another under the name, labels, unit and temporality that Micrometer's own registry
//! for that other dialect would have used. Two questions, each answered from the series alone, once a series:
//!
//! * [`Profile::translate`]: which series it is in another dialect, and how its values change on the way.
//! * [`Profile::temporality`]: how its values run over time. The intake restates counters by it
//!   ([`Restated`](crate::model::Restated)), so that outputs need no memory of what came before.
//!
//! ```text
//! series --read--> (meter, statistic, tags) --write--> series of the other dialect
//! ```
//!
//! What one dialect tells as a distribution is first taken apart ([`Profile::distributed`]).
//!
//! How each dialect spells each statistic of a meter is one table (`statistics.rs`); what a series does not say itself, units
//! above all, is another (`meters.tsv`), to which users add their own meters. Series that go to their own dialect stay as they
//! are, and so do all that are not of Micrometer ([`Mode`]).
//!
//! What cannot be known and is guessed: a histogram of line protocol or Wavefront is a timer unless the table or the end of its
//! name (`bytes`) says otherwise; dots that line protocol and Prometheus have as `_` come back where the table or a namespace
//! in it knows them; in Prometheus, what ends in `_seconds` is measured in time.

mod distribution;
mod meters;
mod read;
mod statistics;
mod text;
mod write;

pub use distribution::{Distributed, Part};
pub use meters::{Kind, Meter, Meters};

use crate::model::{Dialect, Loss, LossSet, Series};
use read::{Reading, read};
use statistics::Runs;
use std::sync::Arc;
use std::time::Duration;

/// When series are taken for meters of Micrometer. A meter that the user added to the table is one unless none is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Where a tag says so: `metric_type` in line protocol; `statistic` in Wavefront, or the end of a name that is known or
    /// has the tags of Spring Cloud Data Flow; those in Prometheus.
    #[default]
    Auto,
    /// All are.
    Always,
    /// None is.
    Never,
}

impl Mode {
    /// All of them with their spelling.
    pub const SPELLINGS: [(&'static str, Self); 3] =
        [("auto", Self::Auto), ("always", Self::Always), ("never", Self::Never)];
}

/// Which of Micrometer's registries for Prometheus names what they name otherwise: long task timers and custom meters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrometheusRegistry {
    /// That on the older client, which Data Flow's applications have, and its boards ask for.
    #[default]
    Simpleclient,
    /// That on client 1.x.
    Client1,
}

impl PrometheusRegistry {
    /// Both with their spelling.
    pub const SPELLINGS: [(&'static str, Self); 2] =
        [("simpleclient", Self::Simpleclient), ("client_1", Self::Client1)];
}

/// What becomes of names towards Wavefront whose dots are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownNames {
    /// They keep their `_`.
    #[default]
    Kept,
    /// Each `_` is a dot.
    Dotted,
}

impl UnknownNames {
    /// Both with their spelling.
    pub const SPELLINGS: [(&'static str, Self); 2] = [("kept", Self::Kept), ("dotted", Self::Dotted)];
}

/// See the module's documentation. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Profile {
    /// When series are taken for meters.
    pub mode: Mode,
    /// The step of the rows that cumulative meters become.
    pub step: Duration,
    /// Whose names Prometheus is told.
    pub prometheus_registry: PrometheusRegistry,
    /// What becomes of names towards Wavefront whose dots are not known.
    pub unknown_names: UnknownNames,
    /// The meters that are known.
    pub meters: Arc<Meters>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            step: Duration::from_secs(60),
            prometheus_registry: PrometheusRegistry::default(),
            unknown_names: UnknownNames::default(),
            meters: Arc::new(Meters::new(Vec::new())),
        }
    }
}

/// A series in another dialect.
#[derive(Clone, Debug)]
pub struct Translated {
    /// What it is there; of that dialect.
    pub series: Series,
    /// How its values change.
    pub conversion: Conversion,
    /// What every sample of it loses by its tags.
    pub losses: LossSet,
}

/// What a series of line protocol tells of a meter that has buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfBuckets {
    /// A bucket with a bound.
    Bucket,
    /// The bucket that takes everything.
    BucketOfAll,
    /// The count: what the bucket that takes everything says, where nobody sends that.
    Count,
}

/// How values change between dialects.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conversion {
    /// The unit.
    pub unit: Unit,
    /// Whether the value is that of the other temporality. A sample that was not restated is not sent then.
    pub restated: bool,
}

/// How a unit changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Not at all.
    #[default]
    Same,
    /// Milliseconds become seconds.
    Seconds,
    /// Seconds become milliseconds.
    Milliseconds,
}

impl Unit {
    /// A value in the other unit.
    #[inline]
    pub fn convert(self, value: f64) -> f64 {
        const MILLISECONDS: f64 = 1000.0;
        match self {
            Self::Same => value,
            Self::Seconds => value / MILLISECONDS,
            Self::Milliseconds => value * MILLISECONDS,
        }
    }
}

/// How the values of a series run over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// Each stands for itself.
    Instant,
    /// Each counts from the one before.
    Delta,
    /// Each counts from the start.
    Cumulative,
    /// Each stands for itself, and belongs to a row of counters: where those go once a step, so does it.
    Companion,
}

impl Profile {
    /// Which series it is in another dialect; none where it stays as it is (its own dialect, or not of Micrometer). An error
    /// where the other dialect has no place for it, or makes it of other series.
    pub fn translate(&self, series: &Series, to: Dialect) -> Result<Option<Translated>, Loss> {
        if series.dialect == to {
            return Ok(None);
        }
        let Some(reading) = read(self, series) else { return Ok(None) };
        let written = write::write(self, &reading, series, to)?;
        let conversion = Conversion { unit: unit(&reading, series.dialect, to), restated: restates(&reading, to) };
        Ok(Some(Translated { series: written.series, conversion, losses: written.losses }))
    }

    /// What a series of line protocol tells of a meter with buckets, and that meter's name.
    pub fn of_buckets<'a>(&'a self, series: &'a Series) -> Option<(&'a str, OfBuckets)> {
        if series.dialect != Dialect::Influx {
            return None;
        }
        let reading = read(self, series)?;
        let part = match reading.statistic.influx {
            _ if read::is_of_all(&reading) => OfBuckets::BucketOfAll,
            _ if reading.statistic.edge == Some(statistics::Edge::Bound) => OfBuckets::Bucket,
            Some((_, "histogram", "count")) => OfBuckets::Count,
            _ => return None,
        };
        Some((reading.name, part))
    }

    /// How its values run over time; [`Temporality::Instant`] where it is not of Micrometer.
    pub fn temporality(&self, series: &Series) -> Temporality {
        read(self, series).map_or(Temporality::Instant, |reading| reading.temporality())
    }
}

fn unit(reading: &Reading<'_>, from: Dialect, to: Dialect) -> Unit {
    match (from, to) {
        _ if !(reading.timed && reading.statistic.timed) => Unit::Same,
        (Dialect::Influx, _) => Unit::Seconds,
        (_, Dialect::Influx) => Unit::Milliseconds,
        _ => Unit::Same,
    }
}

fn restates(reading: &Reading<'_>, to: Dialect) -> bool {
    match reading.temporality() {
        Temporality::Instant => false,
        Temporality::Delta => to != Dialect::Influx,
        Temporality::Cumulative | Temporality::Companion => to == Dialect::Influx,
    }
}

impl Reading<'_> {
    fn temporality(&self) -> Temporality {
        match self.statistic.runs {
            Runs::Counting if self.counts_deltas => Temporality::Delta,
            Runs::Counting => Temporality::Cumulative,
            // Rows of line protocol have their steps already.
            Runs::Beside if self.dialect != Dialect::Influx => Temporality::Companion,
            Runs::Beside | Runs::Derived | Runs::Instant => Temporality::Instant,
        }
    }
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
