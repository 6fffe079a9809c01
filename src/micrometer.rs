//! The Micrometer profile: what a meter of Micrometer is called, and measured in, in each dialect that Micrometer writes.
//!
//! A series of one dialect becomes one of another under the name, labels, unit and temporality that Micrometer's own registry
//! for that other dialect would have used. Three questions, each answered from the series alone, once a series:
//!
//! * [`Profile::translate`]: which series it is in another dialect, and how its values change on the way.
//! * [`Profile::temporality`]: how its values run over time. The intake restates counters by it
//!   ([`Restated`](crate::model::Restated)), so that outputs need no memory of what came before.
//! * Series of a dialect that go to the same dialect stay as they are, and so do all that are not of Micrometer.

use crate::model::{Dialect, Loss, Series};
use std::time::Duration;

/// When series are taken for meters of Micrometer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Where a tag says so: `metric_type`, `statistic`, or one of Spring Cloud Data Flow's.
    #[default]
    Auto,
    /// All are.
    Always,
    /// None is.
    Never,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Profile {
    /// When series are taken for meters.
    pub mode: Mode,
    /// The step of the rows that cumulative meters become.
    pub step: Duration,
}

/// A series in another dialect.
#[derive(Clone, Debug)]
pub struct Translated {
    /// What it is there; of that dialect.
    pub series: Series,
    /// How its values change.
    pub conversion: Conversion,
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

impl Default for Profile {
    fn default() -> Self {
        Self { mode: Mode::default(), step: Duration::from_secs(60) }
    }
}

impl Profile {
    /// Which series it is in another dialect; none where it stays as it is (its own dialect, or not of Micrometer). An error
    /// where the other dialect has no place for it, or makes it of other series.
    pub fn translate(&self, _series: &Series, _to: Dialect) -> Result<Option<Translated>, Loss> {
        Ok(None)
    }

    /// How its values run over time; [`Temporality::Instant`] where it is not of Micrometer.
    pub fn temporality(&self, _series: &Series) -> Temporality {
        Temporality::Instant
    }
}
