//! Samples to OpenMetrics 1.0.

use crate::model::Losses;
use crate::wire::prometheus_names::Alphabet;
use crate::wire::prometheus_text::exposition;
use crate::wire::prometheus_text::grammar::Flavour;

pub use crate::wire::prometheus_text::exposition::{Exposed, Options};

/// The media type of what [`encode`] writes.
pub const fn content_type(alphabet: Alphabet) -> &'static str {
    match alphabet {
        Alphabet::Legacy => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Alphabet::Utf8 => "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    }
}

/// Writes an exposition of the given samples, `# EOF` included, as
/// [`prometheus_text::encode`](crate::wire::prometheus_text::encode::encode) does.
pub fn encode(
    samples: &mut Vec<Exposed<'_>>,
    options: &Options<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    exposition::write(samples, options, Flavour::OpenMetrics, out, losses, dropped);
}
