//! Text exposition 0.0.4 to a batch.

use super::grammar::Flavour;
use super::lines;
use crate::model::{BatchBuilder, TimestampNs};
use crate::wire::Report;

/// What a request says beside its body; the same for OpenMetrics.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// When the body arrived.
    pub now: TimestampNs,
    /// For samples without timestamp, instead of `now` (`timestamp=` of the import path).
    pub timestamp: Option<TimestampNs>,
}

/// Decodes a body: good lines into the batch, bad ones into the report.
pub fn decode(body: &[u8], options: &Options, out: &mut BatchBuilder<'_>) -> Report {
    lines::decode(body, Flavour::Text, options, out)
}
