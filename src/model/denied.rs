//! Why a series is not taken at first sight.

use super::{Refusal, SeriesSpec};

/// What one series may have. Looked at only when a series is seen first, so a known one costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Labels beside the name.
    pub labels_max: usize,
    /// Bytes of a label's name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value, and of a metric's, measurement's or field's name, which Prometheus counts as one.
    pub label_value_bytes_max: usize,
}

impl SeriesLimits {
    /// None, for what was within the limits once.
    pub const NONE: Self =
        Self { labels_max: usize::MAX, label_name_bytes_max: usize::MAX, label_value_bytes_max: usize::MAX };

    /// Whether a series keeps within them.
    pub(super) fn check(&self, spec: &SeriesSpec<'_>) -> Result<(), Denied> {
        let found = spec.labels.len();
        if found > self.labels_max {
            return Err(Denied::Labels { expected: self.labels_max, found });
        }
        let longest = |lengths: &mut dyn Iterator<Item = usize>| lengths.max().unwrap_or_default();
        let found = longest(&mut spec.labels.iter().map(|(name, _)| name.len()));
        if found > self.label_name_bytes_max {
            return Err(Denied::LabelName { expected: self.label_name_bytes_max, found });
        }
        let found = longest(&mut spec.labels.iter().map(|(_, value)| value.len()));
        if found > self.label_value_bytes_max {
            return Err(Denied::LabelValue { expected: self.label_value_bytes_max, found });
        }
        let found = spec.measurement.len().max(spec.field.map_or(0, str::len));
        if found > self.label_value_bytes_max {
            return Err(Denied::Name { expected: self.label_value_bytes_max, found });
        }
        Ok(())
    }
}

/// Why a series is not taken at first sight. Each names its limit, what it expected and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The table holds as much as it may, and nothing in it is idle.
    #[error("expected a new series to fit into {bytes_max} bytes (series.max_bytes), found the series table full")]
    TableFull {
        /// The bound that was met.
        bytes_max: usize,
    },
    /// The table is filling up, and this source holds more of it than its share.
    #[error(
        "expected no new series from a source with more than its share of the series table (series.max_bytes), \
         found that this one holds {bytes} bytes while {free} are free"
    )]
    SourceShare {
        /// What the source holds.
        bytes: usize,
        /// What is left.
        free: usize,
    },
    /// The source holds as many series as it may.
    #[error("expected at most {expected} series from one source (limits.max_series_per_source), found one more")]
    SeriesPerSource {
        /// The limit.
        expected: usize,
    },
    /// Too many labels.
    #[error("expected at most {expected} labels (limits.max_labels), found {found}")]
    Labels {
        /// The limit.
        expected: usize,
        /// How many there were.
        found: usize,
    },
    /// A label's name is too long.
    #[error("expected at most {expected} bytes of a label name (limits.max_label_name_bytes), found {found}")]
    LabelName {
        /// The limit.
        expected: usize,
        /// Bytes of the longest.
        found: usize,
    },
    /// A label's value is too long.
    #[error("expected at most {expected} bytes of a label value (limits.max_label_value_bytes), found {found}")]
    LabelValue {
        /// The limit.
        expected: usize,
        /// Bytes of the longest.
        found: usize,
    },
    /// The name of metric, measurement or field is too long; the labels are not to blame.
    #[error("expected at most {expected} bytes of a name (limits.max_label_value_bytes), found {found}")]
    Name {
        /// The limit.
        expected: usize,
        /// Bytes of the longer.
        found: usize,
    },
}

impl Denied {
    /// How it is counted.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::TableFull { .. } | Self::SourceShare { .. } | Self::SeriesPerSource { .. } => Refusal::SeriesLimit,
            Self::Labels { .. } => Refusal::TooManyLabels,
            Self::LabelName { .. } | Self::LabelValue { .. } | Self::Name { .. } => Refusal::TooLong,
        }
    }
}
