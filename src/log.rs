//! The durable log: batches in, the same batches out to any number of readers, each at its own pace.
//!
//! [`Log::append`] answers when the batch is as safe as [`Ack`] says. A [`Reader`] gives [`Entry`] after entry from memory
//! while it keeps up, else from disk. A [`Cursor`] is a reader's place that survives restarts and holds the log back from
//! trimming. Append, read, acknowledge: that is all the rest of the program knows, so that another log can stand here.
//!
//! ```text
//! <dir>/lock                          held while a process has the log open
//! <dir>/cursors/<name>.json           one place and ledger an output; the name is percent-encoded
//! <dir>/segments/<first seq>.log      record*        (the record's frame: record.rs, payloads: payload.rs, pack.rs)
//! <file>.damaged, .newer, .no_room    kept for people: what was set aside, since nothing of it can be read or taken up
//!
//! segment   checkpoint | group | group | ...
//! group     { definitions* samples definitions* }*  definitions* checkpoint          one write, one fsync
//! ```
//!
//! What survives what:
//! * `ack: durable`: an acknowledged batch survives power loss. `ack: memory`: it survives the death of the process, and
//!   power loss once the background sync (every [`SYNC_INTERVAL`]) has seen it.
//! * A group without an intact checkpoint behind it was never acknowledged: its damaged end is cut off when the log opens.
//!   Damage anywhere else costs the records it touches, each counted exactly: every header tells its position, so the next
//!   intact header tells what lay in between. Definitions stand on both sides of the first batch that needs them, and a third
//!   time further on where those two stand close together, so damage to one record or block never costs others. A segment whose very beginning is damaged is still read.
//! * A failed write or fsync is not retried: nobody knows what the disk holds then. The log stops to accept and says so in
//!   [`Log::healthy`]; readers never see what was not safe. One exception: a disk that is full refuses the *write*, and a
//!   process out of file descriptors the *file*; that is taken back whole, and the log is full ([`AppendError::Full`])
//!   rather than failed.
//! * A block that the disk cannot read (EIO, the third time) is damage like any other. A missing segment, the newest too, is
//!   counted exactly as far as cursor files tell how far the log had come.
//! * A segment of a later version is set aside, never cut, trimmed or deleted. Its frames still tell its positions: its
//!   records are counted as damaged, and their numbers are not given out again.
//! * A cursor may be behind what its destination got (it is saved every [`UPKEEP_INTERVAL`]), never ahead. A sequence number
//!   that any cursor has seen acknowledged is not given out again, even when the tail of the log was lost.
//!
//! * After a power failure the log may be larger than its bound by a segment that was being deleted, until that is trimmed
//!   again.
//!
//! Ordinals count samples, so of any two positions the difference tells how many samples lie between, readable or not;
//! that is what the ledger rests on. Nothing is trimmed before the first append (even a refused one) or acknowledgement of a
//! process: cursors are opened first.
//!
//! Not here: compression (columns and packed definitions are compact as they are), random access, more than one writing process.

mod bytes;
mod cursor;
mod damage;
mod definitions;
mod error;
mod inspect;
mod layout;
mod pack;
mod payload;
mod reader;
mod record;
mod recovery;
mod replay;
mod segment;
mod shared;
mod storage;
mod upkeep;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use cursor::{Cursor, CursorFile, CursorState, cursors, decoded_name, encoded_name};
pub use damage::{Aside, DAMAGE_SHOWN_MAX, Damage, Gap, TimeRange, rfc3339};
pub use error::{AppendError, LogError};
pub use inspect::{Inspected, inspect};
pub use reader::{Entry, LostWhy, ReadError, Reader};
pub use recovery::{Repaired, repair};
pub use replay::{ReplayError, replay};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use storage::memory;
pub use storage::{Disk, Storage, StorageFile};
pub(crate) use storage::{is_full, remove, replace, temporary};
pub use verify::{SegmentReport, VerifyReport, verify};

use crate::model::{Batch, Format, SeriesTable, TimestampNs};
use parking_lot::Mutex;
use segment::{Segment, segment_name, segments_dir};
use serde::{Deserialize, Serialize};
use shared::{Shared, State};
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak, mpsc};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot, watch};
use writer::Request;

/// The number of a record: consecutive, from zero, for the life of the log's directory.
pub type Seq = u64;

/// How long unsynced bytes may wait under [`Ack::Memory`].
pub const SYNC_INTERVAL: Duration = Duration::from_millis(200);
/// How often cursors are saved and segments trimmed.
pub const UPKEEP_INTERVAL: Duration = Duration::from_millis(200);
/// How long batches stay in memory for readers that keep up. They also keep idle series in the table.
pub const MEMORY_AGE_MAX: Duration = Duration::from_secs(60);
/// Why a log is full whose disk has no room.
const DISK_FULL: &str = "the disk of the log is full";
/// Why a log is full that may not open another file.
const OUT_OF_FILES: &str = "too many files and connections are open (ulimit -n)";
/// What a client is told to wait when the log is full.
pub const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The largest record, whatever the size of a segment.
pub const RECORD_BYTES_MAX: usize = 256 << 20;
/// Memory of batches that wait for the writer; further appends wait before they queue.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;

/// A place in the log, between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The record to come next.
    pub seq: Seq,
    /// Samples before this place since the log was created.
    pub ordinal: u64,
}

impl Position {
    pub(super) fn after(self, samples: u32) -> Self {
        Self { seq: self.seq.saturating_add(1), ordinal: self.ordinal.saturating_add(u64::from(samples)) }
    }
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ack {
    /// After fsync.
    #[default]
    Durable,
    /// After the write; power loss may take the last [`SYNC_INTERVAL`].
    Memory,
}

/// What happens when the log has reached its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFull {
    /// Appends are refused until cursors move.
    #[default]
    Reject,
    /// The oldest segment goes, also when the disk is full; readers are told how many samples it held.
    DropOldest,
}

/// How a log is kept: `log` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Its directory; created when missing.
    pub dir: PathBuf,
    /// When an append is answered.
    pub ack: Ack,
    /// Size of all segments together (`max_bytes`).
    pub bytes_max: u64,
    /// What happens at that size.
    pub on_full: OnFull,
    /// Size at which a segment is sealed; at most half of `bytes_max` is used.
    pub segment_bytes: u64,
    /// Batches kept in memory until all readers have them.
    pub memory_bytes: usize,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self::new("./sluicegate-data")
    }
}

impl LogConfig {
    /// A log in that directory with the defaults of the configuration file.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            ack: Ack::default(),
            bytes_max: 10 << 30,
            on_full: OnFull::default(),
            segment_bytes: 256 << 20,
            memory_bytes: 64 << 20,
        }
    }
}

/// A batch in the log.
#[derive(Debug)]
pub struct Record {
    /// Its number.
    pub seq: Seq,
    /// Samples in the log before it.
    pub ordinal: u64,
    /// When it was appended.
    pub appended_at: TimestampNs,
    /// What it holds; its sender may have it too.
    pub batch: Arc<Batch>,
}

impl Record {
    /// The place behind this record: where a cursor stands that has acknowledged it.
    pub fn next(&self) -> Position {
        Position { seq: self.seq, ordinal: self.ordinal }.after(self.batch.samples.len() as u32)
    }
}

/// The log at a glance.
#[derive(Clone, Debug)]
pub struct LogStats {
    /// Size of all segments.
    pub bytes: u64,
    /// The oldest record kept.
    pub first: Position,
    /// The record to come.
    pub end: Position,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStats>,
    /// Whether the log accepts.
    pub healthy: bool,
    /// What was found damaged, at open and since.
    pub damage: Damage,
}

/// A segment at a glance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentStats {
    /// Its file's name.
    pub name: String,
    /// The position at its beginning.
    pub first: Position,
    /// Its size.
    pub bytes: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    requests: mpsc::Sender<Request>,
}

impl Log {
    /// Opens the log, repairs its end, and starts its threads. Blocking.
    pub fn open(config: LogConfig, table: Arc<SeriesTable>) -> Result<Self, LogError> {
        Self::open_on(Arc::new(Disk), config, table)
    }

    /// [`Log::open`] on another storage.
    pub fn open_on(storage: Arc<dyn Storage>, config: LogConfig, table: Arc<SeriesTable>) -> Result<Self, LogError> {
        let segments = segments_dir(&config.dir);
        let cursors = cursor::cursors_dir(&config.dir);
        for dir in [&config.dir, &segments, &cursors] {
            storage.create_dir(dir).map_err(LogError::at(dir))?;
        }
        storage.sync_dir(&config.dir).map_err(LogError::at(&config.dir))?;
        for above in config.dir.ancestors().skip(1) {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            // A directory that may not be opened is not one that was created just now.
            let _ = storage.sync_dir(above);
        }
        let lock = lock(&*storage, &config.dir)?;
        let recovered = recovery::recover(&*storage, &config.dir)?;
        let state = State {
            segments: recovered.segments,
            leaving: 0,
            written: (0, Weak::new()),
            end: recovered.end,
            accepted: recovered.accepted,
            tail: VecDeque::new(),
            tail_bytes: 0,
            readers: Vec::new(),
            cursors: BTreeMap::new(),
            trimming: false,
            trimmed: 0,
            failed: None,
            full: None,
            cursors_failed: None,
            cursors_wait: false,
            undeletable: None,
            closed: false,
            damage: recovered.damage,
        };
        let shared = Arc::new(Shared {
            config,
            table,
            storage,
            state: Mutex::new(state),
            news: watch::Sender::new(()),
            queue: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            upkeep: Mutex::new(()),
            _lock: lock,
        });
        let requests = writer::start(&shared).map_err(LogError::at(&shared.config.dir))?;
        Ok(Self { shared, requests })
    }

    /// Appends a batch. Returns when it is as safe as [`Ack`] asks; waits while too much is queued.
    ///
    /// A caller that stops waiting does not take the batch back. One that may have to come again keeps a share of it.
    pub async fn append(&self, batch: impl Into<Arc<Batch>>) -> Result<Seq, AppendError> {
        let batch = batch.into();
        let bytes = batch.bytes().min(QUEUE_BYTES_MAX) as u32;
        let queue = Arc::clone(&self.shared.queue);
        let queued = queue.acquire_many_owned(bytes).await.map_err(|_| AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Append { batch, queued, reply };
        self.requests.send(request).map_err(|_| AppendError::Closed)?;
        answer.await.unwrap_or(Err(AppendError::Closed))
    }

    /// Samples ever appended in that format since the log was created.
    pub fn accepted(&self, format: Format) -> u64 {
        self.shared.state.lock().accepted[format as usize]
    }

    /// Samples ever appended in each format since the log was created, and their sum: one look, so that they agree.
    pub fn totals(&self) -> ([u64; Format::COUNT], u64) {
        let state = self.shared.state.lock();
        (state.accepted, state.end.ordinal)
    }

    /// The place behind the last record that readers may see.
    pub fn end(&self) -> Position {
        self.shared.state.lock().end
    }

    /// The log at a glance.
    pub fn stats(&self) -> LogStats {
        let healthy = self.healthy().is_ok();
        let state = self.shared.state.lock();
        let segment = |segment: &Segment| SegmentStats {
            name: segment_name(segment.name),
            first: segment.first,
            bytes: segment.bytes,
        };
        LogStats {
            bytes: state.bytes(),
            first: state.oldest(),
            end: state.end,
            segments: state.segments.iter().map(segment).collect(),
            healthy,
            damage: state.damage.clone(),
        }
    }

    /// A reader that begins at that position and holds nothing back.
    pub fn reader(&self, from: Position) -> Reader {
        Reader::new(Arc::clone(&self.shared), from, false)
    }

    /// The place of that name, saved for good. A new name starts at the oldest record kept. Blocking.
    pub fn cursor(&self, name: &str) -> Result<Cursor, LogError> {
        Cursor::open(&self.shared, name)
    }

    /// Lets the log go on without the cursor of that name; its file keeps its state, should it come back. Blocking.
    pub fn abandon(&self, name: &str, state: &CursorState) -> Result<(), LogError> {
        cursor::abandon(&self.shared, name, state)
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.shared.config.dir
    }

    /// When an append is answered.
    pub fn ack(&self) -> Ack {
        self.shared.config.ack
    }

    /// Where it is kept.
    pub fn storage(&self) -> &dyn Storage {
        &*self.shared.storage
    }

    /// Gives a file beside the log that is not read here another name in its directory, and tells of it as of the log's own.
    /// Blocking.
    pub fn set_aside(&self, path: &Path, why: Aside) -> io::Result<()> {
        let aside = damage::set_aside(self.storage(), path, why)?;
        self.shared.state.lock().damage.note_set_aside(aside);
        Ok(())
    }

    /// Whether the log accepts, its cursors can be saved and its segments deleted; else why not.
    pub fn healthy(&self) -> Result<(), String> {
        let state = self.shared.state.lock();
        let failed = state.failed.as_deref();
        failed
            .or(state.cursors_failed.as_deref())
            .or(state.undeletable.as_deref())
            .map_or(Ok(()), |why| Err(why.to_owned()))
    }

    /// Why the last batch was refused or cursors wait to be saved, if the log or its disk is full: not a failure, and it
    /// passes.
    pub fn full(&self) -> Option<&'static str> {
        let state = self.shared.state.lock();
        state.full.or(state.cursors_wait.then_some(DISK_FULL))
    }

    /// The table of its series.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn table(&self) -> &SeriesTable {
        &self.shared.table
    }

    /// Whether the cursors could be saved the last time.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn cursors_saved(&self) -> bool {
        let state = self.shared.state.lock();
        state.cursors_failed.is_none() && !state.cursors_wait
    }

    /// Saves cursors and trims, now rather than within [`UPKEEP_INTERVAL`].
    #[cfg(any(test, feature = "fuzzing"))]
    pub(crate) fn upkeep(&self) {
        self.shared.upkeep();
    }

    /// Writes what is queued, makes everything safe, saves the cursors, and stops. Readers still get what is there.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).is_ok() {
            // An error means that another close was first.
            let _ = closed.await;
        }
    }
}

/// Keeps other processes out for as long as the returned value lives.
fn lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn Any + Send + Sync>, LogError> {
    let path = dir.join("lock");
    storage.lock(&path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LogError::Locked(dir.to_owned()),
        _ => LogError::at(&path)(error),
    })
}
