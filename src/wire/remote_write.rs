//! Prometheus remote write 1.0: the message `prometheus.WriteRequest`, decompressed.
//!
//! A `TimeSeries` becomes samples of one series, its `Exemplar`s and `Histogram`s become exemplars and native-histogram
//! samples, a `MetricMetadata` becomes the metadata of a family. Timestamps are milliseconds on the wire.
//!
//! Specification: <https://prometheus.io/docs/specs/prw/remote_write_spec/>. The differences:
//!
//! * Labels are accepted in any order, names may be any UTF-8, and an empty value means that the label is absent.
//! * `MetricMetadata` (field 3), which the specification reserves and every Prometheus sends, is understood.
//! * A series without a name, with a label twice or with bytes that are not UTF-8 is refused and counted; Prometheus leaves
//!   it out and answers 204. The other series of the request are kept.
//! * Timestamps outside of the years 1677 to 2262 do not fit nanoseconds and are refused.
//!
//! A message that cannot be walked to its end is refused as a whole. Compression and HTTP are not known here.

pub mod decode;
mod dictionary;
pub mod encode;
pub(crate) mod gather;
pub(crate) mod histogram;
mod phrases;
#[cfg(test)]
mod twin;

pub use phrases::{PhraseId, Plain};

/// The generated messages: an oracle for tests and fuzzing, and a convenience where speed does not matter.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/prometheus.rs"));
}
