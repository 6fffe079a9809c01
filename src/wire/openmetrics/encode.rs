//! Samples to OpenMetrics 1.0.

use crate::model::{Losses, Metadata};
use crate::wire::prometheus_names::Style;
use crate::wire::prometheus_text::exposition;
use crate::wire::prometheus_text::grammar::Flavour;
use std::sync::Arc;

pub use crate::wire::prometheus_text::exposition::Exposed;

/// The media type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes an exposition of the given samples, `# EOF` included, as
/// [`prometheus_text::encode`](crate::wire::prometheus_text::encode::encode) does.
pub fn encode(
    samples: &mut Vec<Exposed<'_>>,
    style: &Style,
    families: &dyn Fn(&str) -> Option<Arc<Metadata>>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    exposition::write(samples, families, style, Flavour::OpenMetrics, out, losses, dropped);
}
