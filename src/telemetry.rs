//! The gateway's state as one snapshot, and that snapshot as metrics.
//!
//! [`Status`] is what the status API answers as JSON and what the web page shows; [`metrics`] writes the same numbers as
//! Prometheus text. The ledger's counters are exact against each other within one snapshot.

mod metrics;

use crate::clock;
use crate::ingest::{ApplicationCounts, Applications, Datagrams};
use crate::ledger::{Ledger, Source, State};
use crate::log::{CursorState, Gap, Log, Position, rfc3339};
use crate::memory::Memory;
use crate::model::{Format, Losses, Refusal, SeriesTable, TimestampNs};
use crate::output::scrape::Latest;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use metrics::metrics;

/// What the snapshot is made from.
#[derive(Debug)]
pub struct Telemetry {
    /// Accounts of inputs and outputs.
    pub ledger: Arc<Ledger>,
    /// The log.
    pub log: Arc<Log>,
    /// The series table.
    pub table: Arc<SeriesTable>,
    /// Series shown on `/scrape`.
    pub latest: Arc<Latest>,
    /// Cursors of outputs that are not configured.
    pub abandoned: Vec<(String, CursorState)>,
    /// Bounds to show beside what they bound.
    pub log_bytes_max: u64,
    /// The memory of the process.
    pub memory: Arc<Memory>,
    /// Applications that are scraped over the connection they made.
    pub applications: Arc<Applications>,
    /// What the kernel makes of datagrams, where they are taken.
    pub datagrams: Option<Datagrams>,
    /// When the process started.
    pub started_at: TimestampNs,
}

/// The state of a gateway.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What runs.
    pub build: Build,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// One entry a format.
    pub inputs: Vec<Input>,
    /// One entry a configured output.
    pub outputs: Vec<Output>,
    /// One entry an output that is not configured any more.
    pub abandoned: Vec<Abandoned>,
    /// Accepted samples, and whether every output accounts for all of them.
    pub ledger: LedgerStatus,
    /// The durable log.
    pub log: LogStatus,
    /// The series table.
    pub series: SeriesStatus,
    /// The memory of the process.
    pub memory: MemoryStatus,
    /// Connections of senders.
    pub connections: Connections,
    /// Applications that are scraped over the connection they made (RSocket).
    pub applications: ApplicationCounts,
    /// Who sends: address and format, most recent first.
    pub sources: Vec<Source>,
}

/// What runs.
#[derive(Debug, Serialize)]
pub struct Build {
    /// The version of this binary.
    pub version: &'static str,
}

/// One input format.
#[derive(Debug, Serialize)]
pub struct Input {
    /// The format.
    pub format: &'static str,
    /// Samples accepted since the log was created.
    pub accepted: u64,
    /// Samples rejected since the start, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
}

/// One output.
#[derive(Debug, Serialize)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Its kind, by configuration key.
    pub kind: &'static str,
    /// Its destination.
    pub address: String,
    /// Samples delivered since the log was created.
    pub delivered: u64,
    /// Samples dropped since the log was created, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Samples still to be delivered.
    pub pending: u64,
    /// Of those, already read from the log.
    pub in_flight: u64,
    /// Samples the destination's format altered or could not carry, since the start, by reason.
    pub losses: BTreeMap<&'static str, u64>,
    /// Requests answered.
    pub requests: u64,
    /// Requests repeated.
    pub retries: u64,
    /// Samples sent again although the destination may have them, since the start.
    pub resent: u64,
    /// Sums said again between the steps of their senders, since the start of the process.
    pub repeated: u64,
    /// What the destination refused and is kept.
    pub dead_letters: DeadLetters,
    /// Age of the oldest pending sample.
    pub lag_seconds: f64,
    /// How it gets on: `ok`, `retrying`, `refusing`, `misconfigured`, `restarting`.
    pub state: State,
    /// The latest failure.
    pub last_error: Option<String>,
}

/// The dead letters of an output.
#[derive(Debug, Serialize)]
pub struct DeadLetters {
    /// Samples in them.
    pub samples: u64,
    /// Samples that the bound or the disk cost, since the start.
    pub discarded: u64,
    /// Samples delivered by replay, since the start.
    pub replayed: u64,
}

/// An output that has a cursor and is not configured. It does not hold the log back; should it come back, it gets what the
/// log still holds.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Abandoned {
    /// Its name.
    pub name: String,
    /// Samples that it did not deliver.
    pub undelivered: u64,
    /// Of those, the ones that the log still holds.
    pub held: u64,
}

impl Abandoned {
    /// The cursor of that name, in a log from `first` to `end`.
    pub fn new(name: &str, cursor: &CursorState, first: Position, end: Position) -> Self {
        let from = cursor.ordinal.max(first.ordinal);
        let undelivered = end.ordinal.saturating_sub(cursor.ordinal);
        Self { name: name.to_owned(), undelivered, held: end.ordinal.saturating_sub(from) }
    }
}

/// The ledger in one line.
#[derive(Debug, Serialize)]
pub struct LedgerStatus {
    /// Samples accepted since the log was created.
    pub accepted: u64,
    /// Whether delivered + dropped + pending = accepted holds for every output.
    pub balanced: bool,
}

/// The log.
#[derive(Debug, Serialize)]
pub struct LogStatus {
    /// Bytes on disk.
    pub bytes: u64,
    /// The bound.
    pub bytes_max: u64,
    /// Segment files.
    pub segments: usize,
    /// The oldest record kept.
    pub first_seq: u64,
    /// The record that comes next.
    pub next_seq: u64,
    /// Whether it takes samples.
    pub healthy: bool,
    /// Why not.
    pub error: Option<String>,
    /// Records that cannot be read, as they were met since the start; the first few.
    pub damage: Vec<GapStatus>,
    /// Files that are not read here and were given another name since the start; the first few.
    pub set_aside: Vec<String>,
}

/// Records of the log that cannot be read.
#[derive(Debug, Serialize)]
pub struct GapStatus {
    /// The first of them.
    pub first_seq: u64,
    /// The record behind them.
    pub next_seq: u64,
    /// Samples in them.
    pub samples: u64,
    /// Not appended before (RFC 3339), as far as is known.
    pub appended_from: Option<String>,
    /// Not appended after.
    pub appended_until: Option<String>,
}

impl From<&Gap> for GapStatus {
    fn from(gap: &Gap) -> Self {
        Self {
            first_seq: gap.first,
            next_seq: gap.next,
            samples: gap.samples,
            appended_from: gap.appended.from.map(rfc3339),
            appended_until: gap.appended.until.map(rfc3339),
        }
    }
}

/// The series table.
#[derive(Debug, Serialize)]
pub struct SeriesStatus {
    /// Series in the table.
    pub known: usize,
    /// Series shown on `/scrape`.
    pub live: usize,
    /// Estimated memory.
    pub bytes: usize,
    /// Samples that are not shown on `/scrape`, for want of room.
    pub hidden: u64,
    /// Families whose metadata came apart from their series and is known.
    pub families: usize,
    /// Families forgotten to make room.
    pub families_evicted: u64,
    /// Metadata not remembered, each time it was told, for want of room.
    pub families_refused: u64,
    /// Pushed groups forgotten, each time, for want of room; what was pushed went to the outputs all the same.
    pub pushed_groups_forgotten: u64,
}

/// The memory of the process.
#[derive(Debug, Serialize)]
pub struct MemoryStatus {
    /// Resident bytes.
    pub resident: usize,
    /// The limit, where one is set.
    pub limit: Option<usize>,
    /// Whether batches are made one at a time for want of it.
    pub tight: bool,
    /// Whether nothing new is taken.
    pub short: bool,
    /// How often that was so.
    pub times_short: u64,
}

/// Connections of senders.
#[derive(Debug, Serialize)]
pub struct Connections {
    /// Open now.
    pub open: u64,
    /// Closed at once, because their source had its share.
    pub refused: u64,
    /// Datagrams that the kernel dropped before they were read; 0 where it does not say.
    pub datagrams_dropped: u64,
}

impl Telemetry {
    /// The state now.
    pub fn status(&self) -> Status {
        let now = clock::now();
        // The outputs first: the log only grows, so none of them is ahead of it.
        let snapshots: Vec<_> = self.ledger.outputs().iter().map(|account| (account, account.snapshot())).collect();
        let (accepted, log_end) = self.log.totals();
        let balanced = accepted.iter().sum::<u64>() == log_end
            && snapshots
                .iter()
                .all(|(_, output)| output.delivered + output.dropped_total() + output.pending(log_end) == log_end);
        let outputs = snapshots
            .into_iter()
            .map(|(account, snapshot)| Output {
                name: account.name.clone(),
                kind: account.kind,
                address: account.address.clone(),
                delivered: snapshot.delivered,
                pending: snapshot.pending(log_end),
                dropped: snapshot.dropped,
                in_flight: snapshot.in_flight,
                losses: by_reason(&snapshot.losses),
                requests: snapshot.requests,
                retries: snapshot.retries,
                resent: snapshot.resent,
                repeated: snapshot.repeated,
                dead_letters: DeadLetters {
                    samples: snapshot.dead_letter_samples,
                    discarded: snapshot.dead_letters_discarded,
                    replayed: snapshot.dead_letters_replayed,
                },
                state: snapshot.state,
                lag_seconds: snapshot.oldest_pending.map_or(0.0, |then| clock::age(now, then).as_secs_f64()),
                last_error: snapshot.last_error.map(|(_, error)| error),
            })
            .collect();
        let log = self.log.stats();
        let error = self.log.healthy().err();
        let (open, refused) = self.ledger.connections();
        let families = self.table.family_counts();
        Status {
            build: Build { version: env!("CARGO_PKG_VERSION") },
            uptime_seconds: clock::age(now, self.started_at).as_secs(),
            inputs: Format::ALL.into_iter().map(|format| self.input(format, accepted[format as usize])).collect(),
            outputs,
            abandoned: self
                .abandoned
                .iter()
                .map(|(name, cursor)| Abandoned::new(name, cursor, log.first, log.end))
                .collect(),
            ledger: LedgerStatus { accepted: log_end, balanced },
            log: LogStatus {
                bytes: log.bytes,
                bytes_max: self.log_bytes_max,
                segments: log.segments.len(),
                first_seq: log.first.seq,
                next_seq: log.end.seq,
                healthy: error.is_none(),
                error,
                damage: log.damage.gaps.iter().map(GapStatus::from).collect(),
                set_aside: log.damage.set_aside.iter().map(|path| path.display().to_string()).collect(),
            },
            series: SeriesStatus {
                known: self.table.len(),
                live: self.latest.len(),
                bytes: self.table.bytes(),
                hidden: self.latest.hidden(),
                families: families.known,
                families_evicted: families.evicted,
                families_refused: families.refused,
                pushed_groups_forgotten: self.ledger.groups_forgotten(),
            },
            memory: MemoryStatus {
                resident: self.memory.resident(),
                limit: self.memory.limit(),
                tight: self.memory.is_tight(),
                short: self.memory.is_short(),
                times_short: self.memory.times_short(),
            },
            connections: Connections {
                open,
                refused,
                datagrams_dropped: self.datagrams.as_ref().map_or(0, Datagrams::dropped),
            },
            applications: self.applications.counts(),
            sources: self.ledger.sources(now, |address| self.table.holding(self.table.source(address)).series),
        }
    }

    fn input(&self, format: Format, accepted: u64) -> Input {
        let rejected = Refusal::ALL
            .iter()
            .map(|reason| (reason.as_str(), self.ledger.rejected(format, *reason)))
            .filter(|(_, samples)| *samples > 0)
            .collect();
        Input { format: format.as_str(), accepted, rejected }
    }
}

fn by_reason(losses: &Losses) -> BTreeMap<&'static str, u64> {
    losses.iter().map(|(loss, samples)| (loss.as_str(), samples)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_output_tells_what_it_misses_and_what_is_left_of_it() {
        let at = |ordinal| Position { seq: ordinal, ordinal };
        let cursor = CursorState { seq: 10, ordinal: 10, delivered: 10, ..CursorState::default() };
        let told = |first, end| {
            let Abandoned { undelivered, held, .. } = Abandoned::new("a", &cursor, at(first), at(end));
            (undelivered, held)
        };
        assert_eq!([told(0, 10), told(4, 30), told(15, 30)], [(0, 0), (20, 20), (20, 15)]);
    }
}
