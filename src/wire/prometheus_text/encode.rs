//! Samples to text exposition: 0.0.4, and 1.0.0, which is the same with names of any UTF-8 in quotes.

use super::exposition;
use super::grammar::Flavour;
use crate::model::Losses;
use crate::wire::prometheus_names::Alphabet;

pub use super::exposition::{Exposed, Options};

/// The media type of what [`encode`] writes.
pub const fn content_type(alphabet: Alphabet) -> &'static str {
    match alphabet {
        Alphabet::Legacy => "text/plain; version=0.0.4; charset=utf-8",
        Alphabet::Utf8 => "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
    }
}

/// Writes an exposition of the given samples, which it takes out of the vector. Samples that cannot be written are counted in
/// `dropped`, altered ones in `losses`.
pub fn encode(
    samples: &mut Vec<Exposed<'_>>,
    options: &Options<'_>,
    out: &mut Vec<u8>,
    losses: &mut Losses,
    dropped: &mut Losses,
) {
    exposition::write(samples, options, Flavour::Text, out, losses, dropped);
}
