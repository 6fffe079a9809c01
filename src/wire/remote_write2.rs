//! Prometheus remote write 2.0: the message `io.prometheus.write.v2.Request`, decompressed.
//!
//! All strings stand once in the request's symbol table; a `TimeSeries` names its labels, help and unit by reference. Type,
//! help and unit belong to the series here ([`crate::model::Series::metadata`]), so changed metadata makes a new series.
//!
//! Specification: <https://prometheus.io/docs/specs/prw/remote_write_spec_2_0/>. The differences:
//!
//! * Labels are accepted in any order, and an empty value means that the label is absent.
//! * Symbols may stand behind the series that refer to them, and the first may be other than "".
//! * A series may have both samples and native histograms, as Prometheus accepts it; two `TimeSeries` are written for it.
//! * `created_timestamp` (field 6 of earlier drafts) is the start timestamp of samples that have none of their own.
//! * Timestamps outside of the years 1677 to 2262 do not fit nanoseconds and are refused.
//!
//! A bad series is refused, the others are kept. A message that cannot be walked to its end is refused as a whole.
//! Compression and HTTP are not known here.

pub mod decode;
pub mod encode;
mod symbols;

/// The generated messages: an oracle for tests and fuzzing, and a convenience where speed does not matter.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod messages {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.write.v2.rs"));
}
