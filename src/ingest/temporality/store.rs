//! The file of what is known of counters, and the task that keeps it.
//!
//! ```text
//! magic "SGM\xa7" | version 1 | seed 8 | seq 8 | ordinal 8 | count 4
//! { key 16 | temporality 1 | last 8 | value 8 | added 8 | since 8 | seen 4 }*
//! CRC32C of all before 4
//! ```
//!
//! Little endian. It holds at least what the log held before `seq`; some of it may stand behind, which changes nothing when it is
//! read again. Replaced as a whole: temporary file, fsync, rename, fsync of the directory. One that cannot be read is set aside
//! beside it, and counters begin anew: for whoever reads the sums, as if the applications had restarted.

use super::tally::Tally;
use super::{Counters, TALLIES_MAX, Tallies};
use crate::clock;
use crate::log::{self, CursorState, Entry, Log, LogError, Position, ReadError, is_full};
use crate::micrometer::{Mode, Profile, Temporality};
use crate::model::{IdMap, SeriesTable};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The name of the cursor; no output can have it.
pub const CURSOR: &str = "@meters";
/// How often the file is replaced while counters come.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(10);

const FILE: &str = "meters";
const MAGIC: [u8; 5] = *b"SGM\xa7\x01";
const HEAD_BYTES: usize = MAGIC.len() + 28;
const TALLY_BYTES: usize = 53;

/// Why counters cannot be taken up where they were left.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The cursor cannot be opened.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file cannot be read or set aside.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl Tallies {
    /// Takes up what was left in the directory of a log, before anything is appended to that.
    pub async fn open(profile: Arc<Profile>, log: &Log, table: &SeriesTable) -> Result<Self, StoreError> {
        let mut tallies = Self { makes_buckets: true, file: log.dir().join(FILE), ..Self::new(profile) };
        let at = |source| StoreError::File { path: tallies.file.display().to_string(), source };
        log::remove(log.storage(), &log::temporary(&tallies.file)).map_err(at)?;
        if tallies.profile.mode == Mode::Never {
            return Ok(tallies);
        }
        let bytes = match std::fs::read(&tallies.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(tallies),
            Err(error) => return Err(at(error)),
        };
        let cursor = log.cursor(CURSOR)?;
        let position = if let Some((position, counters)) = decode(&bytes) {
            tallies.counters = counters.into();
            // A file in which nothing would change is not written again.
            position.max(cursor.state().position())
        } else {
            let aside = tallies.file.with_extension("damaged");
            std::fs::rename(&tallies.file, &aside).map_err(at)?;
            tracing::error!(file = %aside.display(), "what was known of counters cannot be read: their sums begin anew");
            cursor.state().position()
        };
        tallies.cursor = Some(cursor).into();
        tallies.recall_from(log, position, table).await;
        Ok(tallies)
    }

    async fn recall_from(&self, log: &Log, mut position: Position, table: &SeriesTable) {
        let (end, mut reader) = (log.end(), log.reader(position));
        let (mut seen, mut recalled) = (IdMap::default(), None);
        while position.seq < end.seq {
            match reader.next().await {
                Ok(Entry::Record(record)) => {
                    position = record.next();
                    let generation = record.batch.recalled().cloned();
                    if generation.as_ref().map(Arc::as_ptr) != recalled.as_ref().map(Arc::as_ptr) {
                        (seen, recalled) = (IdMap::default(), generation);
                    }
                    self.recall(&record.batch, table, &mut seen);
                }
                Ok(Entry::Lost { gap, .. }) => {
                    position.seq = gap.next;
                    tracing::warn!(samples = gap.samples, "counters may go on without what the log lost");
                }
                Err(ReadError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "counters go on without what cannot be read");
                    return;
                }
            }
        }
    }

    /// Saves what is known, from time to time and at the end.
    pub async fn keep(self: Arc<Self>, log: Arc<Log>, table: Arc<SeriesTable>, stop: CancellationToken) {
        if self.profile.mode == Mode::Never {
            return;
        }
        loop {
            let stopped = tokio::select! {
                () = self.hurry.notified() => false,
                () = tokio::time::sleep(SAVE_INTERVAL) => false,
                () = stop.cancelled() => true,
            };
            for batch in self.untold(&table, clock::now()).into_iter().map(Arc::new) {
                if let Err(error) = log.append(Arc::clone(&batch)).await {
                    tracing::debug!(%error, "what silent counters have not told waits");
                    self.take_back(&batch);
                }
            }
            let (tallies, log) = (Arc::clone(&self), Arc::clone(&log));
            let saving = tokio::task::spawn_blocking(move || tallies.save(&log));
            if let Ok(Err(error)) = saving.await {
                tracing::error!(%error, "what is known of counters was not saved; the log keeps what it needs");
            }
            if stopped {
                return;
            }
        }
    }

    /// Saves what is known, if there is anything, and lets the log go on.
    pub(super) fn save(&self, log: &Log) -> Result<(), StoreError> {
        // All before it was restated before it was appended.
        let position = log.end();
        // Senders wait for the copy, not for the file.
        let known = {
            let mut counters = self.counters.lock();
            counters.forget_idle(clock::now());
            std::mem::take(&mut counters.changed).then(|| (counters.seed, counters.tallies.clone()))
        };
        let saved = known.map_or(Ok(()), |(seed, tallies)| {
            log::replace(log.storage(), &self.file, &encode(seed, &tallies, position), true)
        });
        if let Err(source) = saved {
            self.counters.lock().changed = true;
            if !is_full(&source) {
                return Err(StoreError::File { path: self.file.display().to_string(), source });
            }
            // A log that waits for this file would not make the room that this file waits for.
            tracing::warn!("the disk is full: after a crash, sums of counters may lack what came meanwhile");
        }
        let mut cursor = self.cursor.lock();
        if cursor.is_none() && self.file.exists() {
            *cursor = Some(log.cursor(CURSOR)?);
        }
        if let Some(cursor) = &*cursor {
            let Position { seq, ordinal } = position;
            let moved = cursor.acknowledge(CursorState { seq, ordinal, delivered: ordinal, ..CursorState::default() });
            if !moved {
                tracing::error!(seq, "the cursor of counters refuses to move");
            }
        }
        Ok(())
    }
}

fn encode(seed: u64, tallies: &HashMap<u128, Tally>, position: Position) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEAD_BYTES + tallies.len() * TALLY_BYTES + 4);
    out.extend_from_slice(&MAGIC);
    for word in [seed, position.seq, position.ordinal] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&(tallies.len() as u32).to_le_bytes());
    for (key, tally) in tallies {
        out.extend_from_slice(&key.to_le_bytes());
        out.push(tally.temporality as u8);
        out.extend_from_slice(&tally.last.to_le_bytes());
        out.extend_from_slice(&tally.value.to_le_bytes());
        out.extend_from_slice(&tally.added.to_le_bytes());
        out.extend_from_slice(&tally.since.to_le_bytes());
        out.extend_from_slice(&tally.seen.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<(Position, Counters)> {
    let (body, checksum) = bytes.split_last_chunk::<4>()?;
    let rest = body.strip_prefix(&MAGIC).filter(|_| u32::from_le_bytes(*checksum) == crc32c::crc32c(body))?;
    let (seed, rest) = rest.split_first_chunk()?;
    let (seq, rest) = rest.split_first_chunk()?;
    let (ordinal, rest) = rest.split_first_chunk()?;
    let (count, rest) = rest.split_first_chunk()?;
    let position = Position { seq: u64::from_le_bytes(*seq), ordinal: u64::from_le_bytes(*ordinal) };
    let count = u32::from_le_bytes(*count) as usize;
    if count > TALLIES_MAX || rest.len() != count * TALLY_BYTES {
        return None;
    }
    let tallies: Option<HashMap<_, _>> = rest.chunks_exact(TALLY_BYTES).map(tally).collect();
    Some((position, Counters { seed: u64::from_le_bytes(*seed), tallies: tallies?, ..Counters::default() }))
}

fn tally(bytes: &[u8]) -> Option<(u128, Tally)> {
    let (key, bytes) = bytes.split_first_chunk()?;
    let (&temporality, bytes) = bytes.split_first()?;
    let (last, bytes) = bytes.split_first_chunk()?;
    let (value, bytes) = bytes.split_first_chunk()?;
    let (added, bytes) = bytes.split_first_chunk()?;
    let (since, bytes) = bytes.split_first_chunk()?;
    let temporalities = [Temporality::Instant, Temporality::Delta, Temporality::Cumulative, Temporality::Companion];
    let tally = Tally {
        temporality: temporalities.into_iter().find(|known| *known as u8 == temporality)?,
        last: i64::from_le_bytes(*last),
        value: f64::from_le_bytes(*value),
        added: f64::from_le_bytes(*added),
        since: i64::from_le_bytes(*since),
        seen: u32::from_le_bytes(bytes.try_into().ok()?),
    };
    Some((u128::from_le_bytes(*key), tally))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogConfig;

    #[tokio::test]
    async fn what_a_crash_left_unfinished_goes_and_nothing_else() {
        let (dir, table) = (tempfile::tempdir().unwrap(), Arc::new(SeriesTable::default()));
        let log = Log::open(LogConfig::new(dir.path()), Arc::clone(&table)).unwrap();
        let files = || {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
            files.filter_map(|name| name.into_string().ok()).filter(|name| name.contains("mp")).collect::<Vec<_>>()
        };
        for name in ["meters.tmp", "dump"] {
            std::fs::write(dir.path().join(name), "half").unwrap();
        }
        let tallies = Tallies::open(Arc::default(), &log, &table).await.unwrap();
        assert_eq!(files(), ["dump"]);
        std::fs::write(dir.path().join("meters.tmp"), "half").unwrap();
        tallies.counters.lock().changed = true;
        tallies.save(&log).unwrap();
        assert_eq!(files(), ["dump"]);
        assert!(decode(&std::fs::read(dir.path().join(FILE)).unwrap()).is_some());
    }

    #[test]
    fn a_file_comes_back_and_a_damaged_one_is_noticed_at_every_byte() {
        let tally = |temporality| Tally { temporality, last: -1, value: 0.1, added: 2.5, since: i64::MIN, seen: 7 };
        let tallies = HashMap::from([(1, tally(Temporality::Delta)), (u128::MAX, tally(Temporality::Companion))]);
        let position = Position { seq: 5, ordinal: 6 };
        let bytes = encode(99, &tallies, position);
        let (place, decoded) = decode(&bytes).unwrap();
        assert_eq!((place, decoded.seed, &decoded.tallies), (position, 99, &tallies));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_none(), "byte {at}");
            assert!(decode(&bytes[..at]).is_none(), "cut at {at}");
        }
    }
}
