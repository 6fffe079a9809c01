//! The writer: one thread owns the segment being written.
//!
//! It takes whatever waits, lays it out as one group, writes it with one call, syncs once, shows it to readers and answers
//! everybody. A second thread saves cursors and trims, so that their fsyncs do not stand in the way of appends.

use super::layout::{Close, Fresh, encode_definitions, encode_record, put_headers};
use super::pack::Packer;
use super::payload::{Accepted, Locals, encode_batch, encode_checkpoint};
use super::record::{HEADER_BYTES, Header, Kind};
use super::segment::{Segment, segments_dir};
use super::shared::Shared;
use super::storage::{StorageFile, is_full, is_out_of_files};
use super::{
    Ack, AppendError, DISK_FULL, LogConfig, OUT_OF_FILES, OnFull, Position, RECORD_BYTES_MAX, RETRY_AFTER, Record,
    SYNC_INTERVAL, Seq, upkeep,
};
use crate::clock;
use crate::model::{Batch, Format, TimestampNs};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Bytes after which a group is written although more requests wait.
const GROUP_BYTES_MAX: usize = 8 << 20;
const CHECKPOINT_BYTES: usize = HEADER_BYTES + size_of::<Accepted>();

type Reply = oneshot::Sender<Result<Seq, AppendError>>;

/// What the writer is asked.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "all but the last are of the large kind")]
pub(super) enum Request {
    /// The permit is given back when the batch has left the queue, however it leaves.
    Append {
        batch: Arc<Batch>,
        queued: OwnedSemaphorePermit,
        reply: Reply,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

/// Starts the two threads. They end when the sender is dropped or asks to close.
pub(super) fn start(shared: &Arc<Shared>) -> io::Result<Sender<Request>> {
    let (requests, inbox) = channel();
    let (poke, poked) = channel();
    let keeper_shared = Arc::clone(shared);
    let keeper = Builder::new().name("log-upkeep".to_owned()).spawn(move || upkeep::run(&keeper_shared, &poked))?;
    let (end, accepted) = {
        let state = shared.state.lock();
        (state.end, state.accepted)
    };
    let writer = Writer {
        shared: Arc::clone(shared),
        poke,
        active: None,
        buffer: Vec::new(),
        waiting: Vec::new(),
        packer: Packer::default(),
        fresh: Vec::new(),
        end,
        accepted,
        unsynced: None,
    };
    Builder::new().name("log-writer".to_owned()).spawn(move || writer.run(&inbox, keeper))?;
    Ok(requests)
}

/// The segment being written. The file is created with the first group.
#[derive(Debug)]
struct Active {
    file: Option<Box<dyn StorageFile>>,
    first: Position,
    begun: TimestampNs,
    bytes: u64,
    locals: Locals,
    /// Definitions whose two copies a single bad block could take.
    close: Close,
}

#[derive(Debug)]
struct Writer {
    shared: Arc<Shared>,
    poke: Sender<()>,
    active: Option<Active>,
    /// The group at hand, as it will be written behind `active.bytes`.
    buffer: Vec<u8>,
    waiting: Vec<(Record, Reply)>,
    packer: Packer,
    /// Those of the batch at hand.
    fresh: Fresh,
    /// Behind the group at hand.
    end: Position,
    accepted: Accepted,
    /// Since when there are bytes that only the operating system has.
    unsynced: Option<Instant>,
}

/// Why a batch does not join the group at hand.
enum Refused {
    /// The segment is full; a new one takes it.
    Segment,
    /// The log is full: so many bytes are needed.
    Log(u64),
    For(AppendError),
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Request>, keeper: JoinHandle<()>) {
        let mut closing = None;
        while closing.is_none() {
            let request = match self.unsynced {
                Some(since) => inbox.recv_timeout(SYNC_INTERVAL.saturating_sub(since.elapsed())),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match request {
                Ok(request) => {
                    // A bug met here is a failed log, which answers, and not a dead one, which lets clients wait.
                    let taken = catch_unwind(AssertUnwindSafe(|| self.take_group(request, inbox)));
                    closing = taken.unwrap_or_else(|_| {
                        self.fail(&io::Error::other("a bug in the log's writer"));
                        None
                    });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_INTERVAL) {
                self.sync();
            }
        }
        self.sync();
        self.shared.queue.close();
        self.shared.state.lock().closed = true;
        self.shared.tell();
        drop(self.poke);
        let _ = keeper.join();
        if let Some(reply) = closing {
            let _ = reply.send(());
        }
    }

    /// Takes the request and all that wait behind it. Some: it is time to close.
    fn take_group(&mut self, first: Request, inbox: &Receiver<Request>) -> Option<oneshot::Sender<()>> {
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Append { batch, queued, reply } => {
                    self.append(batch, reply);
                    drop(queued);
                }
                Request::Close { reply } => {
                    self.commit();
                    return Some(reply);
                }
            }
            next = if self.buffer.len() < GROUP_BYTES_MAX { inbox.try_recv().ok() } else { None };
        }
        self.commit();
        None
    }

    fn append(&mut self, batch: Arc<Batch>, reply: Reply) {
        let appended_at = clock::now();
        let error = loop {
            let failed = {
                let mut state = self.shared.state.lock();
                state.trimming = true;
                state.failed.clone()
            };
            if let Some(why) = failed {
                break AppendError::Failed(why);
            }
            match self.lay_out(&batch, appended_at) {
                Ok(()) => {
                    let Position { seq, ordinal } = self.end;
                    let record = Record { seq, ordinal, appended_at, batch };
                    self.end = record.next();
                    let accepted = &mut self.accepted[record.batch.format as usize];
                    *accepted = accepted.saturating_add(record.batch.samples.len() as u64);
                    self.waiting.push((record, reply));
                    return;
                }
                Err(Refused::Segment) => {
                    self.commit();
                    self.seal();
                }
                Err(Refused::Log(needed)) => {
                    self.commit();
                    if !self.make_room(needed) {
                        self.shared.state.lock().full = Some("the log has reached its max_bytes");
                        break AppendError::Full { retry_after: RETRY_AFTER };
                    }
                }
                Err(Refused::For(error)) => break error,
            }
        };
        let _ = reply.send(Err(error));
    }

    /// Adds a batch to the group at hand, or leaves the group as it was.
    fn lay_out(&mut self, batch: &Batch, appended_at: TimestampNs) -> Result<(), Refused> {
        let before = self.buffer.len();
        if self.active.is_none() {
            let locals = Locals::default();
            self.shared.state.lock().written = (self.end.seq, Arc::downgrade(locals.written()));
            self.active = Some(Active {
                file: None,
                first: self.end,
                begun: appended_at,
                bytes: 0,
                locals,
                close: Close::default(),
            });
            self.checkpoint(appended_at);
        }
        let fresh_segment = before == 0 && self.active.as_ref().is_some_and(|active| active.bytes == 0);
        let start = self.buffer.len();
        let laid_out = self.lay_out_record(batch, appended_at);
        let verdict = laid_out.and_then(|apart| self.judge(start, fresh_segment).map(|()| apart));
        if let Some(active) = &mut self.active {
            match &verdict {
                Ok(apart) => {
                    active.locals.settle();
                    active.close.note(&mut self.fresh, *apart);
                }
                Err(_) => active.locals.take_back(),
            }
        }
        self.fresh.clear();
        if verdict.is_err() {
            self.buffer.truncate(start);
            if fresh_segment {
                self.active = None;
                self.buffer.clear();
            }
        }
        verdict.map(drop)
    }

    /// How many bytes stand between the two copies of definitions.
    fn lay_out_record(&mut self, batch: &Batch, appended_at: TimestampNs) -> Result<u64, Refused> {
        let Some(active) = &mut self.active else { return Ok(0) };
        let (start, position) = (self.buffer.len(), self.end);
        let header = Header {
            later: false,
            kind: Kind::Samples,
            format: batch.format,
            payload_bytes: 0,
            count: batch.samples.len() as u32,
            position,
            appended_at,
            payload_crc: 0,
        };
        let samples =
            encode_record(&mut self.buffer, header, |payload| encode_batch(batch, &mut active.locals, payload));
        let behind_samples = self.buffer.len();
        let table = &self.shared.table;
        let known = active.locals.fresh(table, &mut self.fresh);
        known.map_err(|_| Refused::For(AppendError::UnknownSeries))?;
        let mut headers = encode_definitions(&mut self.buffer, header, &self.fresh, &mut self.packer, table);
        let defined_bytes = self.buffer.len() - behind_samples;
        let bytes = (behind_samples - start).max(defined_bytes);
        if bytes > RECORD_BYTES_MAX {
            return Err(Refused::For(too_large(bytes as u64, RECORD_BYTES_MAX as u64)));
        }
        // Which series are new is known only now, yet their definitions stand before.
        self.buffer[start..].rotate_right(defined_bytes);
        headers.push(samples);
        put_headers(&mut self.buffer, active.bytes, start, &headers);
        if headers.len() > 1 {
            headers.pop();
            for header in &mut headers {
                header.position = position.after(samples.count);
            }
            let again = self.buffer.len();
            self.buffer.extend_from_within(start..start + defined_bytes);
            put_headers(&mut self.buffer, active.bytes, again, &headers);
        }
        Ok(samples.record_bytes())
    }

    /// Whether what was added from `start` on may stay.
    fn judge(&self, start: usize, fresh_segment: bool) -> Result<(), Refused> {
        let added = (self.buffer.len() - start) as u64;
        let segment_bytes_max = self.shared.segment_bytes_max();
        if added > segment_bytes_max / 2 {
            return Err(Refused::For(too_large(added, segment_bytes_max / 2)));
        }
        let group = (self.buffer.len() + CHECKPOINT_BYTES) as u64;
        let written = self.active.as_ref().map_or(0, |active| active.bytes);
        if !fresh_segment && written + group > segment_bytes_max {
            return Err(Refused::Segment);
        }
        let state = self.shared.state.lock();
        // A log that was larger once may be down to one segment that is too large: it goes as soon as there is another.
        let leaves = fresh_segment && state.segments.len() == 1 && state.is_expendable(self.shared.config.on_full);
        let kept = if leaves { 0 } else { state.bytes() };
        if kept + group > self.shared.config.bytes_max {
            return Err(Refused::Log(added + 2 * CHECKPOINT_BYTES as u64));
        }
        Ok(())
    }

    /// Writes definitions a third time that stand too close together, once the segment has grown.
    fn define_again(&mut self) {
        let Some(active) = &mut self.active else { return };
        let start = self.buffer.len();
        let series = active.close.due(active.bytes + start as u64);
        if series.is_empty() {
            return;
        }
        let header = Header {
            later: false,
            kind: Kind::Packed,
            format: Format::PrometheusText,
            payload_bytes: 0,
            count: 0,
            position: self.end,
            appended_at: clock::now(),
            payload_crc: 0,
        };
        let headers = encode_definitions(&mut self.buffer, header, &series, &mut self.packer, &self.shared.table);
        let bytes = (self.buffer.len() + CHECKPOINT_BYTES) as u64;
        let log_bytes = self.shared.state.lock().bytes();
        if active.bytes + bytes > self.shared.segment_bytes_max() || log_bytes + bytes > self.shared.config.bytes_max {
            return self.buffer.truncate(start);
        }
        put_headers(&mut self.buffer, active.bytes, start, &headers);
    }

    fn checkpoint(&mut self, appended_at: TimestampNs) {
        let Some(active) = &self.active else { return };
        let header = Header {
            later: false,
            kind: Kind::Checkpoint,
            format: self.waiting.last().map_or(Format::PrometheusText, |(record, _)| record.batch.format),
            payload_bytes: 0,
            count: 0,
            position: self.end,
            appended_at,
            payload_crc: 0,
        };
        let start = self.buffer.len();
        let header = encode_record(&mut self.buffer, header, |payload| encode_checkpoint(&self.accepted, payload));
        put_headers(&mut self.buffer, active.bytes, start, &[header]);
    }

    /// Writes the group at hand and answers everybody in it.
    fn commit(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        self.define_again();
        self.checkpoint(clock::now());
        let written = loop {
            match self.write() {
                // The write was taken back whole, so it may be done again.
                Err(Failure::Passing(DISK_FULL)) if self.drop_oldest() => {}
                written => break written,
            }
        };
        self.buffer.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let error = match written {
            Ok(()) => return self.publish(waiting),
            Err(Failure::Passing(why)) => {
                let mut state = self.shared.state.lock();
                state.full = Some(why);
                (self.end, self.accepted) = (state.end, state.accepted);
                drop(state);
                // The definitions of this group are gone with it.
                self.seal();
                AppendError::Full { retry_after: RETRY_AFTER }
            }
            Err(Failure::For(error)) => AppendError::Failed(self.fail(&error)),
        };
        for (_, reply) in waiting {
            let _ = reply.send(Err(error.clone()));
        }
    }

    fn write(&mut self) -> Result<(), Failure> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let shared = &self.shared;
        let path = shared.segment_path(active.first.seq);
        let created = active.file.is_none();
        if created {
            active.file = Some(shared.storage.create(&path).map_err(|error| Failure::of_write(error, || Ok(())))?);
        }
        let Some(file) = &mut active.file else { return Ok(()) };
        let before = active.bytes;
        if let Err(error) = file.append(&self.buffer) {
            let undo = || if created { shared.storage.remove(&path) } else { file.truncate(before) };
            let failure = Failure::of_write(error, undo);
            if created {
                active.file = None;
            }
            return Err(failure);
        }
        active.bytes += self.buffer.len() as u64;
        // The first group always: from now on older segments may go, and this one alone tells how far the log has come.
        if created || shared.config.ack == Ack::Durable {
            file.sync().map_err(Failure::For)?;
        } else {
            self.unsynced.get_or_insert_with(clock::monotonic);
        }
        if created && let Err(error) = shared.storage.sync_dir(&segments_dir(&shared.config.dir)) {
            // A directory has to be opened to be synced. Refused so, it was not synced in vain.
            if is_out_of_files(&error) && shared.storage.remove(&path).is_ok() {
                return Err(Failure::Passing(OUT_OF_FILES));
            }
            return Err(Failure::For(error));
        }
        Ok(())
    }

    /// Shows a group to readers and answers its clients.
    fn publish(&mut self, waiting: Vec<(Record, Reply)>) {
        let Some(active) = &self.active else { return };
        let mut answers = Vec::with_capacity(waiting.len());
        let forgotten;
        {
            let mut state = self.shared.state.lock();
            let Active { first, begun, bytes, .. } = *active;
            let segment = Segment { name: first.seq, first, bytes, begun: Some(begun) };
            match state.segments.back_mut() {
                Some(last) if last.name == segment.name => *last = segment,
                _ => state.segments.push_back(segment),
            }
            state.end = self.end;
            state.accepted = self.accepted;
            state.full = None;
            for (record, reply) in waiting {
                answers.push((record.seq, reply));
                state.tail_bytes += record.batch.bytes();
                state.tail.push_back(Arc::new(record));
            }
            forgotten = state.shorten_tail(self.shared.config.memory_bytes, clock::now());
        }
        // Not under the lock: freeing batches takes time.
        drop(forgotten);
        self.shared.tell();
        for (seq, reply) in answers {
            let _ = reply.send(Ok(seq));
        }
    }

    /// Ends the segment; the next batch begins another.
    fn seal(&mut self) {
        self.sync();
        self.active = None;
        self.buffer.clear();
        let _ = self.poke.send(());
    }

    /// Makes safe what `ack: memory` left to the operating system.
    fn sync(&mut self) {
        if self.unsynced.take().is_none() {
            return;
        }
        let file = self.active.as_mut().and_then(|active| active.file.as_mut());
        if let Err(error) = file.map_or(Ok(()), |file| file.sync()) {
            self.fail(&error);
        }
    }

    /// Nothing is accepted any more. Clients that still wait are told.
    fn fail(&mut self, error: &io::Error) -> Arc<str> {
        tracing::error!(%error, "the log has failed and accepts nothing until a restart");
        let why: Arc<str> = format!("a write to the log failed: {error}").into();
        self.active = None;
        self.buffer.clear();
        self.unsynced = None;
        let mut state = self.shared.state.lock();
        (self.end, self.accepted) = (state.end, state.accepted);
        let why = state.failed.get_or_insert(why).clone();
        drop(state);
        for (_, reply) in self.waiting.drain(..) {
            let _ = reply.send(Err(AppendError::Failed(Arc::clone(&why))));
        }
        why
    }

    /// Makes room on a disk that is full, if the configuration says so and there is more than one segment.
    fn drop_oldest(&self) -> bool {
        let drops = self.shared.config.on_full == OnFull::DropOldest;
        drops && self.shared.delete_oldest(&self.shared.upkeep.lock(), |_| true)
    }

    /// Makes room for so many bytes, if cursors or the configuration allow it. The group at hand is written before.
    fn make_room(&mut self, needed: u64) -> bool {
        self.shared.upkeep();
        let LogConfig { bytes_max, on_full, .. } = self.shared.config;
        let turn = self.shared.upkeep.lock();
        loop {
            let segments = {
                let state = self.shared.state.lock();
                if state.bytes() + needed <= bytes_max {
                    return true;
                }
                if !state.is_expendable(on_full) {
                    return false;
                }
                state.segments.len()
            };
            if !self.shared.delete_oldest(&turn, |_| true) {
                // The last goes once the next has begun.
                return segments <= 1 && self.active.is_none() && needed <= bytes_max;
            }
        }
    }
}

/// Why a group is not on disk.
enum Failure {
    /// There was no room for bytes or for another open file, which passes, and the write is taken back.
    Passing(&'static str),
    For(io::Error),
}

impl Failure {
    fn of_write(error: io::Error, undo: impl FnOnce() -> io::Result<()>) -> Self {
        let why = is_full(&error).then_some(DISK_FULL).or(is_out_of_files(&error).then_some(OUT_OF_FILES));
        match why {
            Some(why) if undo().is_ok() => Self::Passing(why),
            _ => Self::For(error),
        }
    }
}

fn too_large(bytes: u64, bytes_max: u64) -> AppendError {
    AppendError::TooLarge { bytes, bytes_max }
}
