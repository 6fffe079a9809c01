//! How a limit of memory is divided: `limits.memory_limit` to the defaults of all that can grow, and back to what the
//! settings may take together.
//!
//! The shares are of [`USABLE_PERCENT`] of the limit, without what the process needs anyway. A key
//! that is given wins over its share; when the sum does not fit then, that is a mistake. This is all that grows:
//!
//! | what | bound | share of what is divided |
//! |---|---|---|
//! | recent batches of the log | `log.memory_bytes` | 1/12 |
//! | connections, heads and pieces of bodies | `limits.max_connections` | 1/12 |
//! | bodies and batches between sockets and the log | `Limits::in_flight_bytes` | 1/6 |
//! | bodies while they are decoded, and a record in the hands of each output | `limits.max_decompressed_bytes` | 1/5 |
//! | what outputs have encoded, five bodies a lane | `Queue::body_bytes_max` | 1/10 |
//! | what Pushgateway groups remember | `Limits::pushed_bytes_max` | 1/24 |
//! | places of definitions, of one segment an output, and some unpacked | `log.segment_bytes` | a sixteenth of it |
//! | the series table; half of it for `/scrape`; for each output its memo, its recalled series and its families | `series.max_bytes` | the rest |

use super::{Config, Limits, LogConfig, Output, Queue, SeriesSettings};

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
/// What a record that an output reads back occupies, in sizes of the body it came in, where its lines are not the shortest.
const RECORD_TIMES: usize = 2;
/// Smallest body that a limit of memory leaves room for by default: senders batch up to this.
const BODY_BYTES_MIN: usize = 1 << 20;
/// Bodies of a lane: an open one with its samples, one that waits, one that is sent, once more as it is sent.
const BODIES_A_LANE: usize = 5;
/// Smallest body that an output has to make do with by default.
const SENT_BYTES_MIN: usize = 64 << 10;
/// Smallest segment by default: a batch of new series has to fit in half of one.
const SEGMENT_BYTES_MIN: u64 = 16 << 20;
/// Places of the records that define series, and what a reader holds of those unpacked, are less than this part of a segment,
/// unless it mostly consists of records that define one short series each.
const PLACES_PART: u64 = 16;
/// Smallest table by default.
const TABLE_BYTES_MIN: usize = 1 << 20;
/// What follows from the size of the table, in sixteenths of it: the table and what `/scrape` shows.
const TABLE_SIXTEENTHS: usize = 16 + 8;
/// The same for an output: its memo, larger than the table where series share most of what they are, three generations of recalled series, claims of names by such, its families.
const OUTPUT_SIXTEENTHS: usize = 24 + 3 + 1 + 1;

/// The defaults that a limit leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) log: LogConfig,
    pub(super) series: SeriesSettings,
    pub(super) limits: Limits,
    /// [`Queue::body_bytes_max`] of every output.
    pub(super) sent_bytes_max: usize,
}

impl Budget {
    /// The shares of a limit for those outputs; without a limit, the ordinary defaults.
    pub(super) fn of(limit: Option<usize>, outputs: &[Output]) -> Self {
        let (log, series, limits) = (LogConfig::default(), SeriesSettings::default(), Limits::default());
        let sent_bytes_max = Queue::default().body_bytes_max;
        let Some(limit) = limit else { return Self { log, series, limits, sent_bytes_max } };
        let rest = usable(limit).saturating_sub(PROCESS_BYTES);
        let body = (rest / 5 / (DECODED_TIMES * DECODERS + RECORD_TIMES * outputs.len())).max(BODY_BYTES_MIN);
        let sent = (rest / 10 / (BODIES_A_LANE * lanes(outputs)).max(1)).max(SENT_BYTES_MIN);
        let segment = (rest as u64 / 5 * 2 / (outputs.len() as u64).max(1)).max(SEGMENT_BYTES_MIN);
        let mut budget = Self {
            log: LogConfig {
                memory_bytes: log.memory_bytes.min(rest / 12),
                segment_bytes: log.segment_bytes.min(segment),
                ..log
            },
            limits: Limits {
                body_bytes_max: limits.body_bytes_max.min(body),
                decompressed_bytes_max: limits.decompressed_bytes_max.min(body),
                in_flight_bytes: limits.in_flight_bytes.min(rest / 6),
                connections_max: limits.connections_max.min(rest / 12 / CONNECTION_BYTES),
                pushed_bytes_max: limits.pushed_bytes_max.min(rest / 24),
                memory_limit: Some(limit),
                ..limits
            },
            series,
            sent_bytes_max: sent_bytes_max.min(sent),
        };
        let lanes_bytes = lanes(outputs).saturating_mul(BODIES_A_LANE * budget.sent_bytes_max);
        let others = parts(&budget.log, &budget.limits, outputs.len(), lanes_bytes).iter().sum();
        let left = usable(limit).saturating_sub(others) / sixteenths(outputs.len()) * 16;
        budget.series.bytes_max = budget.series.bytes_max.min(left.max(TABLE_BYTES_MIN));
        budget
    }
}

fn lanes(outputs: &[Output]) -> usize {
    outputs.iter().map(|output| output.queue.lanes).sum()
}

/// What the table and all that follows from its size are, in sixteenths of the table.
fn sixteenths(outputs: usize) -> usize {
    TABLE_SIXTEENTHS + OUTPUT_SIXTEENTHS * outputs
}

/// Bytes of all but the table: in flight, decoding and records, the log's memory, connections, pushed groups, places of
/// definitions, bodies of outputs, the process.
fn parts(log: &LogConfig, limits: &Limits, outputs: usize, lanes_bytes: usize) -> [usize; 8] {
    let places = usize::try_from(log.segment_bytes / PLACES_PART).unwrap_or(usize::MAX);
    [
        limits.in_flight_bytes,
        limits.decompressed_bytes_max.saturating_mul(DECODED_TIMES * DECODERS + RECORD_TIMES * outputs),
        log.memory_bytes,
        limits.connections_max.saturating_mul(CONNECTION_BYTES),
        limits.pushed_bytes_max,
        places.saturating_mul(outputs),
        lanes_bytes,
        PROCESS_BYTES,
    ]
}

/// What is divided.
fn usable(limit: usize) -> usize {
    limit / 100 * USABLE_PERCENT
}

/// What the settings may take together, where that is more than their limit leaves.
pub(super) fn excess(config: &Config) -> Option<String> {
    let Config { log, series, limits, outputs, .. } = config;
    let limit = limits.memory_limit?;
    let lanes_bytes = outputs.iter().map(|output| output.queue.lanes * BODIES_A_LANE * output.queue.body_bytes_max);
    let parts = parts(log, limits, outputs.len(), lanes_bytes.sum());
    let tables = (series.bytes_max / 16).saturating_mul(sixteenths(outputs.len()));
    let needed = parts.into_iter().fold(tables, usize::saturating_add);
    (needed > usable(limit)).then(|| {
        let mebibytes = |bytes: usize| bytes.div_ceil(1 << 20);
        let [in_flight, decoding, memory, connections, pushed, places, lanes, process] = parts.map(mebibytes);
        format!(
            "too little for these settings: expected at least {} MiB, of which a fifth is in reserve: \
             series.max_bytes with what /scrape and {} outputs keep of it {}, requests in flight {in_flight}, \
             limits.max_decompressed_bytes while decoding and in the hands of outputs {decoding}, \
             log.memory_bytes {memory}, limits.max_connections {connections}, pushed groups {pushed}, \
             log.segment_bytes while outputs read from disk {places}, bodies of outputs {lanes}, the process {process}",
            mebibytes(needed.saturating_mul(100) / USABLE_PERCENT),
            outputs.len(),
            mebibytes(tables),
        )
    })
}
