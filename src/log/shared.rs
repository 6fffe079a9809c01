//! What the log's handle, its threads, its readers and its cursors have in common.

use super::cursor::Slot;
use super::damage::Damage;
use super::payload::{Accepted, Written};
use super::segment::{Segment, segment_name, segments_dir};
use super::storage::Storage;
use super::{LogConfig, MEMORY_AGE_MAX, OnFull, Position, Record, Seq};
use crate::clock;
use crate::model::{SeriesTable, TimestampNs};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use tokio::sync::{Semaphore, watch};

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: LogConfig,
    pub(super) table: Arc<SeriesTable>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) state: Mutex<State>,
    /// Told whenever a reader might find more, or the end.
    pub(super) news: watch::Sender<()>,
    /// Bytes that may yet queue for the writer.
    pub(super) queue: Arc<Semaphore>,
    /// One saves and trims at a time.
    pub(super) upkeep: Mutex<()>,
    pub(super) _lock: Box<dyn Any + Send + Sync>,
}

#[derive(Debug)]
pub(super) struct State {
    /// Oldest first.
    pub(super) segments: VecDeque<Segment>,
    /// Size of the segment that is being deleted. It may come back to the list.
    pub(super) leaving: u64,
    /// Which series the segment being written has, by its name, for as long as it is written or read.
    pub(super) written: (Seq, Weak<Written>),
    /// What readers may see ends here.
    pub(super) end: Position,
    pub(super) accepted: Accepted,
    /// The last records, as far as a reader has yet to come to them and there is room.
    pub(super) tail: VecDeque<Arc<Record>>,
    pub(super) tail_bytes: usize,
    /// Which record each reader reads next.
    pub(super) readers: Vec<Weak<AtomicU64>>,
    pub(super) cursors: BTreeMap<String, Slot>,
    /// Set by the first append or acknowledgement: from now on what no cursor waits for is deleted.
    pub(super) trimming: bool,
    /// Records before this one were deleted in good order since the log was opened.
    pub(super) trimmed: Seq,
    pub(super) failed: Option<Arc<str>>,
    /// Why the last batch was told to come again, until one is taken.
    pub(super) full: Option<&'static str>,
    /// Why cursors could not be saved the last time.
    pub(super) cursors_failed: Option<String>,
    /// They could not be saved for want of room, which passes.
    pub(super) cursors_wait: bool,
    /// Why the oldest segment could not be deleted the last time.
    pub(super) undeletable: Option<String>,
    pub(super) closed: bool,
    pub(super) damage: Damage,
}

impl State {
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.leaving
    }

    /// The oldest position on disk.
    pub(super) fn oldest(&self) -> Position {
        self.segments.front().map_or(self.end, |segment| segment.first)
    }

    /// Whether nothing in the log holds back a batch that needs room.
    pub(super) fn is_expendable(&self, on_full: OnFull) -> bool {
        on_full == OnFull::DropOldest || self.cursors.values().all(|slot| slot.saved_seq() >= self.end.seq)
    }

    /// Forgets the batches in memory that all readers have, and the oldest down to so many bytes and so young. Readers that
    /// lag find them on disk.
    pub(super) fn shorten_tail(&mut self, bytes_max: usize, now: TimestampNs) -> Vec<Arc<Record>> {
        self.readers.retain(|reader| reader.strong_count() > 0);
        let wanted = self.readers.iter().filter_map(Weak::upgrade).map(|next| next.load(Ordering::Relaxed)).min();
        let mut forgotten = Vec::new();
        while let Some(oldest) = self.tail.front()
            && (wanted.is_some_and(|wanted| oldest.seq < wanted)
                || self.tail_bytes > bytes_max
                || clock::age(now, oldest.appended_at) > MEMORY_AGE_MAX)
        {
            self.tail_bytes -= oldest.batch.bytes();
            forgotten.extend(self.tail.pop_front());
        }
        forgotten
    }
}

impl Shared {
    pub(super) fn segment_path(&self, name: Seq) -> PathBuf {
        segments_dir(&self.config.dir).join(segment_name(name))
    }

    pub(super) fn segment_bytes_max(&self) -> u64 {
        self.config.segment_bytes.min(self.config.bytes_max / 2)
    }

    pub(super) fn tell(&self) {
        self.news.send_replace(());
    }
}
