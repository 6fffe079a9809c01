//! Readers: from memory while they keep up, else from the segment files, without a seam between the two.
//!
//! A reader stands at a [`Position`] and is told of everything behind it exactly once: as a record, or as lost. What is
//! lost is the difference of two positions, so the samples always add up.
//!
//! A disk that cannot read a block is asked [`READ_TRIES`] times; then the block is damage, and the rest is read.

use super::damage::{Gap, TimeRange};
use super::definitions::{Definitions, Unread};
use super::payload::decode_batch;
use super::record::{HEADER_BYTES, Header, Kind};
use super::segment::{Walk, segments_dir};
use super::shared::Shared;
use super::storage::is_unreadable;
use super::{OnFull, Position, Record, Seq};
use crate::model::{Batch, Loss, Pin, TimestampNs};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::watch;

/// Payload bytes decoded in one go from disk.
const CHUNK_BYTES: u64 = 1 << 20;
/// Entries decoded in one go from disk.
const CHUNK_ENTRIES: usize = 64;

/// How often a segment is read before what the disk cannot read counts as damaged. The caller waits in between.
pub(super) const READ_TRIES: u32 = 3;

/// What a reader gets.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A batch.
    Record(Arc<Record>),
    /// Batches that nobody can read any more.
    Lost {
        /// Which.
        gap: Gap,
        /// Why.
        why: LostWhy,
    },
}

/// Why records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostWhy {
    /// The log dropped them before this reader came to them: it was full, or no cursor waited for them.
    Trimmed,
    /// The log trimmed them while nothing held them for this reader: its output was not configured then.
    Absent,
    /// They are damaged on disk, or their file is gone.
    Damaged,
}

impl LostWhy {
    /// The name under which an output counts it.
    pub const fn loss(self) -> Loss {
        match self {
            Self::Trimmed => Loss::LogFull,
            Self::Absent => Loss::BeforeOutput,
            Self::Damaged => Loss::LogDamaged,
        }
    }
}

/// Why a reader gets nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The log is closed and everything in it was read.
    #[error("the log is closed")]
    Closed,
    /// The disk refuses to read; trying again is safe.
    #[error("the log cannot be read: {0}")]
    Storage(#[from] io::Error),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    news: watch::Receiver<()>,
    position: Position,
    /// The same for the log, which holds in memory what readers have yet to come to.
    next: Arc<AtomicU64>,
    /// Whether the log ran without this reader's cursor before.
    was_absent: bool,
    /// When the last entry given was appended.
    reached_at: Option<TimestampNs>,
    /// Decoded ahead, from `position` on.
    ahead: VecDeque<Entry>,
    disk: Option<SegmentReader>,
    /// A segment that the disk could not read, and how often.
    unreadable: (Seq, u32),
}

/// Where the next entry is to be found.
enum Source {
    Memory(Arc<Record>),
    Trimmed(Position, Option<TimestampNs>, LostWhy),
    Disk(Span),
    Nowhere,
    Closed,
}

/// The readable part of a segment.
#[derive(Clone, Copy, Debug)]
struct Span {
    name: Seq,
    bytes: u64,
    /// The position behind it.
    until: Position,
    /// When what stands there was appended.
    until_at: Option<TimestampNs>,
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>, position: Position, was_absent: bool) -> Self {
        let news = shared.news.subscribe();
        let next = Arc::new(AtomicU64::new(position.seq));
        shared.state.lock().readers.push(Arc::downgrade(&next));
        let ahead = VecDeque::new();
        Self { shared, news, position, next, was_absent, reached_at: None, ahead, disk: None, unreadable: (0, 0) }
    }

    /// The place behind everything it has given.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The next entry; waits at the end of the log. May be dropped while it waits: nothing is skipped.
    pub async fn next(&mut self) -> Result<Entry, ReadError> {
        loop {
            if let Some(entry) = self.ahead.pop_front() {
                return Ok(self.give(entry));
            }
            self.news.mark_unchanged();
            match self.source() {
                Source::Memory(record) => {
                    self.disk = None;
                    let lost = Position { seq: record.seq, ordinal: record.ordinal };
                    if lost.ordinal > self.position.ordinal {
                        return Ok(self.lose(lost, Some(record.appended_at), LostWhy::Damaged));
                    }
                    return Ok(self.give(Entry::Record(record)));
                }
                Source::Trimmed(oldest, at, why) => return Ok(self.lose(oldest, at, why)),
                Source::Disk(span) => self.read_ahead(span).await?,
                Source::Nowhere => self.news.changed().await.map_err(|_| ReadError::Closed)?,
                Source::Closed => return Err(ReadError::Closed),
            }
        }
    }

    fn source(&self) -> Source {
        let state = self.shared.state.lock();
        let at = self.position;
        if at.seq >= state.end.seq {
            return if state.closed { Source::Closed } else { Source::Nowhere };
        }
        if let Some(front) = state.tail.front()
            && at.seq >= front.seq
            && let Some(record) = state.tail.get((at.seq - front.seq) as usize)
        {
            return Source::Memory(Arc::clone(record));
        }
        let why = match self.shared.config.on_full {
            OnFull::DropOldest => LostWhy::Trimmed,
            OnFull::Reject if self.was_absent => LostWhy::Absent,
            OnFull::Reject if at.seq < state.trimmed => LostWhy::Trimmed,
            // A log that refuses when it is full deletes nothing that is waited for: somebody took the files.
            OnFull::Reject => LostWhy::Damaged,
        };
        let oldest = state.oldest();
        if at.seq < oldest.seq {
            let begun = state.segments.front().and_then(|segment| segment.begun);
            return match state.tail.front() {
                Some(record) if record.seq < oldest.seq => {
                    let memory = Position { seq: record.seq, ordinal: record.ordinal };
                    Source::Trimmed(memory, Some(record.appended_at), why)
                }
                _ => Source::Trimmed(oldest, begun, why),
            };
        }
        let behind = state.segments.partition_point(|segment| segment.first.seq <= at.seq);
        match state.segments.get(behind.saturating_sub(1)) {
            Some(segment) => Source::Disk(Span {
                name: segment.name,
                bytes: segment.bytes,
                until: state.segments.get(behind).map_or(state.end, |next| next.first),
                until_at: state.segments.get(behind).and_then(|next| next.begun),
            }),
            None => Source::Trimmed(state.end, None, why),
        }
    }

    async fn read_ahead(&mut self, span: Span) -> Result<(), ReadError> {
        let shared = Arc::clone(&self.shared);
        if self.unreadable.0 != span.name {
            self.unreadable = (span.name, 0);
        }
        let lenient = self.unreadable.1 >= READ_TRIES;
        let held = self.disk.take().filter(|disk| disk.name == span.name);
        let (position, reached_at) = (self.position, self.reached_at);
        let work = move || {
            let mut disk = match held {
                Some(disk) => disk,
                None => SegmentReader::open(&shared, span, position, reached_at, lenient)?,
            };
            let entries = disk.read(&shared, span)?;
            Ok((disk, entries))
        };
        let read: io::Result<_> = tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?;
        match read {
            Ok((disk, entries)) => {
                self.disk = Some(disk);
                self.ahead = entries;
            }
            // Trimmed a moment ago, which the next look will tell; or taken away by somebody, which is damage, unless the
            // whole folder is: then it is waited for.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let listed = self.shared.state.lock().segments.iter().any(|segment| segment.name == span.name);
                if listed {
                    self.ahead.push_back(self.lost_until(span));
                }
            }
            Err(error) if is_unreadable(&error) && lenient => self.ahead.push_back(self.lost_until(span)),
            Err(error) => {
                self.unreadable.1 += u32::from(is_unreadable(&error));
                return Err(error.into());
            }
        }
        Ok(())
    }

    fn lost_until(&self, span: Span) -> Entry {
        let appended = TimeRange::between(self.reached_at, span.until_at);
        lost(self.position, span.until, appended, LostWhy::Damaged)
    }

    fn lose(&mut self, until: Position, until_at: Option<TimestampNs>, why: LostWhy) -> Entry {
        let appended = TimeRange::between(self.reached_at, until_at);
        self.give(lost(self.position, until, appended, why))
    }

    fn give(&mut self, entry: Entry) -> Entry {
        self.position = behind(&entry, self.position);
        self.next.store(self.position.seq, Ordering::Relaxed);
        match &entry {
            Entry::Record(record) => self.reached_at = Some(record.appended_at),
            Entry::Lost { gap, why } => {
                self.reached_at = gap.appended.until.or(self.reached_at);
                if *why == LostWhy::Damaged {
                    self.shared.state.lock().damage.meet(*gap);
                }
            }
        }
        entry
    }
}

fn lost(from: Position, until: Position, appended: TimeRange, why: LostWhy) -> Entry {
    Entry::Lost { gap: Gap::between(from, until, appended), why }
}

fn behind(entry: &Entry, before: Position) -> Position {
    match entry {
        Entry::Record(record) => record.next(),
        Entry::Lost { gap, .. } => Position { seq: gap.next, ordinal: before.ordinal.saturating_add(gap.samples) },
    }
}

/// Learns every definition from where the walk stands to its limit.
pub(super) fn collect_definitions(walk: &mut Walk, definitions: &mut Definitions) -> io::Result<()> {
    while let Some((offset, header)) = walk.step()? {
        if matches!(header.kind, Kind::Definitions | Kind::Packed)
            && let Some(payload) = walk.payload(offset, &header)?
        {
            // Malformed under a good checksum: a later version wrote it. What it defines reads as damaged.
            let _ = definitions.learn(&header, payload, offset + HEADER_BYTES as u64);
        }
    }
    Ok(())
}

/// Decodes the batch of the record whose header stands at `offset`; none when it is damaged.
pub(super) fn read_batch(
    walk: &mut Walk,
    offset: u64,
    header: &Header,
    definitions: &mut Definitions,
    pin: Pin,
) -> io::Result<Option<Batch>> {
    let Some(payload) = walk.payload(offset, header)? else { return Ok(None) };
    // It pins the table before series are looked up.
    let recalled = definitions.begin(&pin);
    let mut batch = Batch::new(header.format, pin).recalling(recalled);
    match decode_batch(payload, header.count, |local| definitions.series(local), &mut batch) {
        Ok(()) => {
            batch.find_runs(definitions.table());
            Ok(Some(batch))
        }
        Err(Unread::Malformed) => Ok(None),
        Err(Unread::Storage(error)) => Err(error),
    }
}

/// A place in a segment file, and the definitions met so far.
#[derive(Debug)]
struct SegmentReader {
    name: Seq,
    walk: Walk,
    position: Position,
    /// When what the walk met last was appended.
    reached_at: Option<TimestampNs>,
    definitions: Definitions,
    /// Definitions are collected ahead of the samples, up to here.
    defined: u64,
}

impl SegmentReader {
    fn open(
        shared: &Shared,
        span: Span,
        position: Position,
        reached_at: Option<TimestampNs>,
        lenient: bool,
    ) -> io::Result<Self> {
        let path = shared.segment_path(span.name);
        let file = shared.storage.open(&path, false).map_err(|error| {
            let folder = shared.storage.list(&segments_dir(&shared.config.dir));
            folder.err().map_or(error, |error| io::Error::other(format!("the folder of the segments: {error}")))
        })?;
        let walk = Walk::new(file, span.bytes);
        let walk = if lenient { walk.lenient() } else { walk };
        let definitions = Definitions::new(shared.storage.open(&path, false)?, lenient, &shared.table);
        let (of, written) = shared.state.lock().written.clone();
        let definitions = definitions.written(written.upgrade().filter(|_| of == span.name));
        Ok(Self { name: span.name, walk, position, reached_at, definitions, defined: 0 })
    }

    /// The next entries, up to a chunk; at least one as long as the position lies within the span.
    fn read(&mut self, shared: &Shared, span: Span) -> io::Result<VecDeque<Entry>> {
        self.walk.extend(span.bytes);
        self.define()?;
        self.definitions.make_room();
        let mut entries = VecDeque::new();
        let mut bytes = 0;
        while entries.len() < CHUNK_ENTRIES && bytes < CHUNK_BYTES && !self.definitions.is_full() {
            let Some((offset, header)) = self.walk.step()? else {
                if self.position.seq < span.until.seq {
                    let appended = TimeRange::between(self.reached_at, span.until_at);
                    self.take(lost(self.position, span.until, appended, LostWhy::Damaged), &mut entries);
                }
                break;
            };
            // Numbers of the next segment: a group that the disk had no room for, whose taking back a power loss undid.
            if header.next().seq > span.until.seq {
                continue;
            }
            let appended = TimeRange::between(self.reached_at, Some(header.appended_at));
            self.reached_at = Some(header.appended_at);
            if header.position.seq < self.position.seq {
                continue;
            }
            if header.position > self.position {
                self.take(lost(self.position, header.position, appended, LostWhy::Damaged), &mut entries);
            }
            if header.kind == Kind::Samples {
                bytes += header.record_bytes();
                let entry = self.decode(shared, offset, &header)?;
                self.take(entry, &mut entries);
            }
        }
        Ok(entries)
    }

    fn take(&mut self, entry: Entry, entries: &mut VecDeque<Entry>) {
        self.position = behind(&entry, self.position);
        entries.push_back(entry);
    }

    /// Collects the definitions up to the walk's limit, then goes back to where it was.
    fn define(&mut self) -> io::Result<()> {
        let at = self.walk.offset();
        self.walk.go_to(self.defined);
        collect_definitions(&mut self.walk, &mut self.definitions)?;
        self.defined = self.walk.offset();
        self.walk.go_to(at);
        Ok(())
    }

    fn decode(&mut self, shared: &Shared, offset: u64, header: &Header) -> io::Result<Entry> {
        let Position { seq, ordinal } = header.position;
        let pin = shared.table.pin();
        if let Some(batch) = read_batch(&mut self.walk, offset, header, &mut self.definitions, pin)? {
            let appended_at = header.appended_at;
            return Ok(Entry::Record(Arc::new(Record { seq, ordinal, appended_at, batch: batch.into() })));
        }
        Ok(lost(self.position, header.next(), TimeRange::at(header.appended_at), LostWhy::Damaged))
    }
}
