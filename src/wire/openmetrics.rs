//! OpenMetrics text 1.0: the stricter sibling of [`prometheus_text`](crate::wire::prometheus_text), with units, exemplars,
//! timestamps in seconds and an end mark.
//!
//! Specification: <https://github.com/prometheus/OpenMetrics/blob/main/specification/OpenMetrics.md>. As in Prometheus's
//! parser, the line is checked strictly (single spaces, `# EOF`, no unknown comments) and the family loosely (values,
//! ordering and completeness of a histogram are the sender's affair). Differences to it:
//!
//! * A body is judged line by line; one without `# EOF` keeps its lines and is reported.
//! * Timestamps are read as decimals, exact to the nanosecond; a label twice is refused.
//! * `_created` of counters, histograms and summaries becomes the start timestamp of the samples it belongs to, found by
//!   the text of the label block without `le` or `quantile`. Where there are none, the line stays a sample.

pub mod decode;
pub mod encode;
