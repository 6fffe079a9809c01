//! What travels from the dispatcher to a lane, and what comes back.

use crate::model::{Losses, TimestampNs};
use crate::wire::Body;

/// What a body is for; Wavefront wants distributions in requests of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Points, series, rows.
    Samples,
    /// Wavefront distributions.
    Distributions,
}

/// Encoded samples on their way to the destination.
#[derive(Debug)]
pub struct Shipment {
    /// The bodies, to be sent in this order.
    pub bodies: Vec<(Purpose, Body)>,
    /// Which records the samples came from: (log sequence number, samples), ascending.
    pub parts: Vec<(u64, u64)>,
    /// The timestamp of the newest sample.
    pub newest: TimestampNs,
    /// Samples of `parts` that fell away while the body was finished.
    pub dropped: Losses,
    /// Whether it says again what was said, and has no parts.
    pub repeats: bool,
}

/// How a shipment ended. `delivered + dropped.total()` is the number of samples in `parts`.
#[derive(Debug)]
pub struct Settlement {
    /// As in the shipment.
    pub parts: Vec<(u64, u64)>,
    /// Samples the destination took.
    pub delivered: u64,
    /// Samples given up.
    pub dropped: Losses,
    /// As in the shipment; then the samples are none of the log's.
    pub repeats: bool,
}
