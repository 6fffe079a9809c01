//! How a limit of memory is divided: `limits.memory_limit` to the defaults of all that can grow, and back to what the
//! settings may take together.
//!
//! The shares are of [`USABLE_PERCENT`] of the limit, without what the process needs anyway. A key
//! that is given wins over its share; when the sum does not fit then, that is a mistake.

use super::{Config, Limits, LogSettings, SeriesSettings};

/// The smallest limit that holds under attack; `tests/abuse.rs` shows it.
pub const MEMORY_LIMIT_MIN: usize = 256 << 20;

/// The rest is for what sums like these cannot know.
const USABLE_PERCENT: usize = 80;
/// Code, threads and what the allocator keeps for itself.
const PROCESS_BYTES: usize = 32 << 20;
/// A connection of HTTP/1 with a head or a piece of a body half read.
const CONNECTION_BYTES: usize = 64 << 10;
/// Bodies that are decoded at a time, supposed of a machine with few cores: those with more have more memory.
const DECODERS: usize = 2;
/// What a body occupies while it is decoded, in sizes of itself: short lines become six times as many bytes of samples.
const DECODED_TIMES: usize = 7;
/// Smallest body that a limit of memory leaves room for by default: senders batch up to this.
const BODY_BYTES_MIN: usize = 1 << 20;

/// The defaults that a limit leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) log: LogSettings,
    pub(super) series: SeriesSettings,
    pub(super) limits: Limits,
}

impl Budget {
    /// The shares of a limit for so many outputs; without a limit, the ordinary defaults.
    pub(super) fn of(limit: Option<usize>, outputs: usize) -> Self {
        let (log, series, limits) = (LogSettings::default(), SeriesSettings::default(), Limits::default());
        let Some(limit) = limit else { return Self { log, series, limits } };
        let rest = usable(limit).saturating_sub(PROCESS_BYTES);
        // In sevenths of the table: the table itself, /scrape as half of one, the memo of an output as another.
        let tables = 3 + 2 * outputs;
        let body = (rest / 64).max(BODY_BYTES_MIN);
        Self {
            log: LogSettings { memory_bytes: log.memory_bytes.min(rest / 10), ..log },
            series: SeriesSettings { bytes_max: series.bytes_max.min(rest / 3 * 2 / tables), ..series },
            limits: Limits {
                body_bytes_max: limits.body_bytes_max.min(body),
                decompressed_bytes_max: limits.decompressed_bytes_max.min(body),
                in_flight_bytes: limits.in_flight_bytes.min(rest / 5),
                connections_max: limits.connections_max.min(rest / 10 / CONNECTION_BYTES),
                memory_limit: Some(limit),
                ..limits
            },
        }
    }
}

/// What is divided.
fn usable(limit: usize) -> usize {
    limit / 100 * USABLE_PERCENT
}

/// What the settings may take together, where that is more than their limit leaves.
pub(super) fn excess(config: &Config) -> Option<String> {
    let Config { log, series, limits, outputs, .. } = config;
    let limit = limits.memory_limit?;
    let tables = series.bytes_max.saturating_mul(3 + 2 * outputs.len()) / 2;
    let decoding = limits.decompressed_bytes_max.saturating_mul(DECODED_TIMES * DECODERS);
    let connections = limits.connections_max.saturating_mul(CONNECTION_BYTES);
    let parts = [tables, limits.in_flight_bytes, decoding, log.memory_bytes, connections, PROCESS_BYTES];
    let needed = parts.into_iter().fold(0, usize::saturating_add);
    (needed > usable(limit)).then(|| {
        let mebibytes = parts.map(|bytes| bytes.div_ceil(1 << 20));
        let [tables, in_flight, decoding, memory, connections, process] = mebibytes;
        format!(
            "too little for these settings: expected at least {} MiB, of which a fifth is in reserve: \
             series.max_bytes with what /scrape and {} outputs keep of it {tables}, requests in flight {in_flight}, \
             limits.max_decompressed_bytes while decoding {decoding}, log.memory_bytes {memory}, \
             limits.max_connections {connections}, the process {process}",
            (needed.saturating_mul(100) / USABLE_PERCENT).div_ceil(1 << 20),
            outputs.len(),
        )
    })
}
