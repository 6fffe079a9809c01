//! Samples to text exposition 0.0.4.

use super::exposition;
use super::grammar::Flavour;
use crate::model::{Losses, Metadata};
use crate::wire::prometheus_names::Style;
use std::sync::Arc;

pub use super::exposition::Exposed;

/// The media type of what [`encode`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes an exposition of the given samples, which it takes out of the vector. Series of other dialects are named in that
/// style. `families` knows metadata that came apart
/// from series, by family name. Samples that cannot be written are counted in `dropped`, altered ones in `losses`.
pub fn encode(
    samples: &mut Vec<Exposed<'_>>,
    style: &Style,
    families: &dyn Fn(&str) -> Option<Arc<Metadata>>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    exposition::write(samples, families, style, Flavour::Text, out, losses, dropped);
}
