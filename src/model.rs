//! The vocabulary: series, samples, batches, metadata and the names of what can be lost.
//!
//! Every input format is decoded into a [`Batch`] and every output format is encoded from one. The invariants:
//!
//! * A series is its name, its labels as written and what its sender declared of its family. Two spellings of one
//!   identity (label order, format) end in one [`SeriesId`]; ids are never given to another series within a process.
//! * A sample is (series, nanoseconds, [`Value`]); values are bit exact and never converted on the way in.
//! * The module imports nothing else of ours and does no I/O.

mod batch;
mod databases;
mod denied;
mod families;
mod id_table;
mod losses;
mod recalled;
mod refusal;
mod runs;
mod series;
mod sources;
mod table;
mod value;

pub use batch::{Batch, BatchBuilder, Exemplar, FamilyMetadata, Mark, Restated, Sample, SampleFlags};
pub use databases::{DATABASES_MAX, Databases, Retention};
pub use denied::{Denied, SeriesLimits};
pub use families::{FAMILIES_BYTES_MAX, FamilyChanges, FamilyCounts};
pub use id_table::IdTable;
pub use losses::{Loss, LossSet, Losses};
pub use recalled::Recalled;
pub use refusal::Refusal;
pub use runs::Run;
pub use series::{Dialect, Label, LabelPair, Labels, Metadata, MetricType, Series, SeriesId, SeriesName, SeriesSpec};
pub use sources::{Holding, Source};
pub use table::{AliasHash, Epoch, IdHasher, IdMap, Identity, Ids, Pin, SeriesTable, TableBounds, Walk};
pub use value::{
    Centroid, Counts, Distribution, Granularity, NativeHistogram, ResetHint, STALE_MARKER_BITS, Span, Value,
    has_nan_payload, is_stale_marker,
};

/// Nanoseconds since the Unix epoch: 1677-09-21 to 2262-04-11.
pub type TimestampNs = i64;

/// The formats sluicegate speaks, by the one spelling used in configuration, metrics, tests and benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Format {
    /// Prometheus text exposition 0.0.4.
    PrometheusText = 0,
    /// OpenMetrics text 1.0.
    OpenMetrics = 1,
    /// Prometheus remote write 1.0.
    RemoteWrite = 2,
    /// Prometheus remote write 2.0.
    RemoteWrite2 = 3,
    /// InfluxDB line protocol.
    InfluxLine = 4,
    /// Wavefront data format.
    Wavefront = 5,
}

impl Format {
    /// How many formats there are.
    pub const COUNT: usize = 6;

    /// Every format, in the order of their discriminants.
    pub const ALL: [Self; Self::COUNT] = [
        Self::PrometheusText,
        Self::OpenMetrics,
        Self::RemoteWrite,
        Self::RemoteWrite2,
        Self::InfluxLine,
        Self::Wavefront,
    ];

    /// The format's one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrometheusText => "prometheus_text",
            Self::OpenMetrics => "openmetrics",
            Self::RemoteWrite => "remote_write",
            Self::RemoteWrite2 => "remote_write2",
            Self::InfluxLine => "influx_line",
            Self::Wavefront => "wavefront",
        }
    }

    /// Whose naming rules the format's series follow.
    pub const fn dialect(self) -> Dialect {
        match self {
            Self::PrometheusText | Self::OpenMetrics | Self::RemoteWrite | Self::RemoteWrite2 => Dialect::Prometheus,
            Self::InfluxLine => Dialect::Influx,
            Self::Wavefront => Dialect::Wavefront,
        }
    }

    /// The format of that spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == name)
    }

    /// The format of that discriminant, as stored in the log.
    pub fn from_index(index: u8) -> Option<Self> {
        Self::ALL.get(usize::from(index)).copied()
    }
}
