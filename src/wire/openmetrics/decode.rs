//! OpenMetrics 1.0 to a batch.

use crate::model::BatchBuilder;
use crate::wire::Report;
use crate::wire::prometheus_text::grammar::Flavour;
use crate::wire::prometheus_text::lines;

pub use crate::wire::prometheus_text::decode::Options;

/// Decodes a body: good lines into the batch, bad ones and a missing `# EOF` into the report.
pub fn decode(body: &[u8], options: &Options, out: &mut BatchBuilder<'_>) -> Report {
    lines::decode(body, Flavour::OpenMetrics, options, out)
}
