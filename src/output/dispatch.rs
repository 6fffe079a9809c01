//! The task that reads the log for one output, encodes, and keeps its cursor.

mod ahead;
mod record;
mod repeats;

use super::encoding::Encoding;
use super::memo::Memo;
use super::plans::Plans;
use super::progress::{Finished, Progress};
use super::shipment::{Settlement, Shipment};
use crate::clock;
use crate::config;
use crate::ledger::OutputAccount;
use crate::log::{Cursor, CursorState, Entry, Gap, Log, MEMORY_AGE_MAX, Position, Record};
use crate::micrometer::Profile;
use crate::model::{Batch, Loss, Losses, Metadata, SampleFlags, SeriesTable, Source, TimestampNs, Value};
use crate::wire::SampleRef;
use ahead::{Ahead, next};
use repeats::Repeats;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// How often metadata is repeated where the format sends it apart from series, as Prometheus does.
const METADATA_INTERVAL: Duration = Duration::from_secs(60);
/// Metadata in one body.
const METADATA_PER_BODY: usize = 2000;
/// Bytes of metadata that an output remembers and repeats, or a part of the table's bound where that is less; further
/// families are neither.
const FAMILIES_BYTES_MAX: usize = 8 << 20;
const FAMILIES_PART: usize = 16;
/// Estimated cost of a remembered family beside its texts.
const FAMILY_BYTES: usize = 96;

/// What a lane tells its dispatcher.
#[derive(Debug)]
pub enum Event {
    /// A shipment is finished.
    Settled(Box<Settlement>),
    /// The destination only speaks an older version of the protocol.
    OlderVersion,
}

/// Why a dispatcher ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All that was in the log when the drain began is finished, or the log was closed.
    Drained,
    /// The output has to start again from its cursor with an older version of the protocol.
    OlderVersion,
    /// A task ended that should not have: the output has to start again from its cursor.
    Failed,
}

/// What a dispatcher works with.
#[derive(Debug)]
pub struct Parts<'a> {
    /// The log it reads.
    pub log: &'a Arc<Log>,
    /// Its place in the log.
    pub cursor: &'a Cursor,
    /// Its account in the ledger.
    pub account: &'a Arc<OutputAccount>,
    /// The series.
    pub table: &'a Arc<SeriesTable>,
    /// What meters are in other dialects.
    pub profile: &'a Arc<Profile>,
    /// Lanes, batching.
    pub queue: &'a config::Queue,
    /// Relabel rules.
    pub relabel: &'a [crate::relabel::Rule],
}

struct OpenBody<E> {
    encoder: E,
    parts: Vec<(u64, u64)>,
    /// When its first sample came.
    since: Option<Instant>,
    /// The timestamp of the newest sample.
    newest: TimestampNs,
    /// Samples of the record at hand.
    taken: u64,
    lane: mpsc::Sender<Shipment>,
}

impl<E> AsMut<E> for OpenBody<E> {
    fn as_mut(&mut self) -> &mut E {
        &mut self.encoder
    }
}

/// See the module's documentation.
pub struct Dispatch<'a, E: Encoding> {
    parts: Parts<'a>,
    memo: Memo<E>,
    plans: Plans,
    bodies: Vec<OpenBody<E>>,
    events: mpsc::UnboundedReceiver<Event>,
    progress: Progress,
    /// Behind the entry that was taken last.
    next: Position,
    /// None while the output stands still.
    ahead: Option<Ahead>,
    /// How long a lane may be busy until what was read ahead is let go: it keeps series in the table, and the table is for all.
    patience: Duration,
    /// The first record that was not there when the output started.
    live_seq: u64,
    /// Metadata that came with series or apart from them, to be repeated.
    families: HashMap<Box<str>, Arc<Metadata>>,
    families_bytes: usize,
    repeats: Repeats,
    older_version: bool,
}

impl<'a, E: Encoding> Dispatch<'a, E> {
    /// A dispatcher that continues from its cursor and ships to those lanes.
    pub fn new(
        parts: Parts<'a>,
        options: &E::Options,
        lanes: Vec<mpsc::Sender<Shipment>>,
        events: mpsc::UnboundedReceiver<Event>,
    ) -> Self {
        let state = parts.cursor.state();
        let memo = {
            let (table, profile) = (Arc::clone(parts.table), Arc::clone(parts.profile));
            Memo::new(options.clone(), table, profile, parts.relabel.to_vec(), lanes.len())
        };
        let open = |lane| OpenBody {
            encoder: E::new(options),
            parts: Vec::new(),
            since: None,
            newest: TimestampNs::MIN,
            taken: 0,
            lane,
        };
        let bodies = lanes.into_iter().map(open).collect();
        parts.account.restart(state.delivered, state.dropped.clone());
        let next = state.position();
        let progress = Progress::new(Finished { seq: state.seq, delivered: state.delivered, dropped: state.dropped });
        let families = HashMap::new();
        let live_seq = parts.log.end().seq;
        Self {
            parts,
            memo,
            plans: Plans::default(),
            bodies,
            events,
            progress,
            next,
            ahead: None,
            patience: MEMORY_AGE_MAX,
            live_seq,
            families,
            families_bytes: 0,
            repeats: Repeats::default(),
            older_version: false,
        }
    }

    /// Runs until the drain is done.
    pub async fn run(mut self, drain: &CancellationToken) -> End {
        self.ahead = Some(Ahead::of(self.parts.cursor.reader()));
        let mut target = None;
        let mut metadata = tokio::time::interval_at(Instant::now() + METADATA_INTERVAL, METADATA_INTERVAL);
        metadata.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut look = tokio::time::interval(repeats::LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.older_version {
                return End::OlderVersion;
            }
            let wanted = target.is_none_or(|target| self.next.seq < target);
            if wanted {
                self.ahead.get_or_insert_with(|| Ahead::of(self.parts.log.reader(self.next)));
            } else {
                self.ship_open(|_| true).await;
                if self.progress.is_idle() || self.older_version {
                    return if self.older_version { End::OlderVersion } else { End::Drained };
                }
            }
            let due = self
                .bodies
                .iter()
                .filter_map(|body| body.since)
                .min()
                .map(|since| since + self.parts.queue.send_deadline);
            tokio::select! {
                Some(event) = self.events.recv() => self.on_event(event),
                entry = next(self.ahead.as_mut()), if wanted => match entry {
                    Some(Some((entry, room))) => self.take(entry, room).await,
                    Some(None) => target = Some(self.next.seq),
                    None => return End::Failed,
                },
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let now = Instant::now();
                    let age = self.parts.queue.send_deadline;
                    self.ship_open(|since| now.duration_since(since) >= age).await;
                }
                () = drain.cancelled(), if target.is_none() => target = Some(self.parts.log.end().seq),
                _ = metadata.tick() => self.repeat_metadata().await,
                _ = look.tick(), if wanted && !self.repeats.is_empty() => self.repeat_sums().await,
            }
        }
    }

    async fn take(&mut self, entry: Entry, room: OwnedSemaphorePermit) {
        match entry {
            Entry::Record(record) => {
                self.next = record.next();
                let ready = self.encode(&record);
                drop((record, room));
                for (lane, shipment) in ready {
                    self.ship(lane, shipment).await;
                }
            }
            Entry::Lost { gap, why } => {
                let Gap { first, next, samples, appended } = gap;
                let reason = why.loss();
                tracing::error!(
                    output = self.parts.account.name,
                    first,
                    next,
                    samples,
                    %appended,
                    reason = reason.as_str(),
                    "the log no longer has records of this output"
                );
                self.next = Position { seq: next, ordinal: self.next.ordinal.saturating_add(samples) };
                self.parts.account.lose(reason, samples);
                self.progress.skip(first, next, clock::now(), reason, samples);
            }
        }
        self.advance();
    }

    /// What a record from before the start tells of families is known again before its sender repeats it; what was told since
    /// the start is newer.
    #[cold]
    fn remember_families(&self, batch: &Batch) {
        for metadata in batch.metadata.iter().filter(|metadata| self.parts.table.family(&metadata.family).is_none()) {
            self.parts.table.learn(Source::OWN, (**metadata).clone());
        }
    }

    /// Remembers the metadata of a record for formats that send it apart from series, and sends what is new at once.
    fn learn(&mut self, record: &Record) {
        let first = &mut self.bodies[0];
        for metadata in record.batch.metadata.iter().cloned().chain(self.memo.learned()) {
            let known = self.families.get(&metadata.family);
            let cost = |metadata: &Metadata| FAMILY_BYTES + metadata.family.len() + metadata.bytes();
            let bytes = self.families_bytes - known.map_or(0, |known| cost(known)) + cost(&metadata);
            if known == Some(&metadata) || bytes > FAMILIES_BYTES_MAX.min(self.parts.table.bytes_max() / FAMILIES_PART)
            {
                continue;
            }
            if !first.encoder.metadata(&metadata) {
                return;
            }
            first.since.get_or_insert_with(Instant::now);
            self.families.insert(metadata.family.clone(), metadata);
            self.families_bytes = bytes;
        }
    }

    async fn repeat_metadata(&mut self) {
        let families: Vec<_> = self.families.values().cloned().collect();
        for chunk in families.chunks(METADATA_PER_BODY) {
            let first = &mut self.bodies[0];
            for metadata in chunk {
                first.encoder.metadata(metadata);
            }
            first.since.get_or_insert_with(Instant::now);
            if let Some(shipment) = first.close() {
                self.ship(0, shipment).await;
            }
        }
    }

    /// Says sums again whose senders are silent; in bodies of their own, since no record of the log has these samples.
    async fn repeat_sums(&mut self) {
        let mut lanes = vec![Vec::new(); self.bodies.len()];
        for (id, timestamp, sum) in self.repeats.due(clock::now()) {
            if let Ok(sent) = self.memo.slot(id) {
                lanes[sent.lane()].push((Arc::clone(&sent.rendered), sent.change, timestamp, sum));
            }
        }
        for (lane, sums) in lanes.into_iter().enumerate().filter(|(_, sums)| !sums.is_empty()) {
            if let Some(shipment) = self.bodies[lane].close() {
                self.ship(lane, shipment).await;
            }
            for chunk in sums.chunks(self.parts.queue.samples_per_send) {
                let body = &mut self.bodies[lane];
                let mut losses = Losses::default();
                for (rendered, change, timestamp, sum) in chunk {
                    let value = Value::F64(sum.value);
                    let sample = SampleRef { timestamp: *timestamp, value, start: None, flags: SampleFlags::NONE };
                    // What the series loses is counted with the samples of its sender.
                    if let Ok(sample) = change.apply(sample, Some(*sum), &mut losses) {
                        let _ = body.encoder.push(rendered, &sample, &mut losses);
                        body.newest = body.newest.max(*timestamp);
                    }
                }
                body.since.get_or_insert_with(Instant::now);
                if let Some(shipment) = body.close() {
                    self.ship(lane, Shipment { repeats: true, ..shipment }).await;
                }
            }
        }
    }

    /// Ships the open bodies that began at a time the condition holds for.
    async fn ship_open(&mut self, due: impl Fn(Instant) -> bool) {
        for lane in 0..self.bodies.len() {
            let body = &mut self.bodies[lane];
            if body.since.is_some_and(&due)
                && let Some(shipment) = body.close()
            {
                self.ship(lane, shipment).await;
            }
        }
    }

    /// Hands a shipment to its lane, and goes on settling while the lane is busy.
    async fn ship(&mut self, lane: usize, shipment: Shipment) {
        let sender = self.bodies[lane].lane.clone();
        let mut stands_still = pin!(tokio::time::sleep(self.patience));
        loop {
            if self.older_version {
                return;
            }
            tokio::select! {
                () = &mut stands_still, if self.ahead.is_some() => self.ahead = None,
                permit = sender.reserve() => {
                    if let Ok(permit) = permit {
                        permit.send(shipment);
                    }
                    return;
                }
                Some(event) = self.events.recv() => self.on_event(event),
            }
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Settled(settlement) if settlement.repeats => self.parts.account.note_repeated(settlement.delivered),
            Event::Settled(settlement) => {
                self.parts.account.deliver(settlement.delivered);
                self.parts.account.drop_samples(&settlement.dropped);
                let mut collapsed = Losses::default();
                collapsed.add(Loss::Collapsed, settlement.dropped.get(Loss::Collapsed));
                self.parts.account.note_losses(&collapsed);
                self.progress.settle(&settlement.parts, &settlement.dropped);
                self.advance();
            }
            Event::OlderVersion => self.older_version = true,
        }
    }

    fn advance(&mut self) {
        if let Some(finished) = self.progress.advance() {
            let ordinal = finished.delivered + finished.dropped.values().sum::<u64>();
            let Finished { seq, delivered, dropped } = finished.clone();
            if !self.parts.cursor.acknowledge(CursorState { seq, ordinal, delivered, dropped }) {
                // Nothing is lost by it: the cursor stays, and its records are sent again after the next start.
                tracing::error!(output = self.parts.account.name, seq, "the cursor refuses to move");
            }
            self.parts.account.note_losses_finished(&self.progress.take_losses());
        }
        self.parts.account.note_oldest(self.progress.oldest());
    }
}

impl<E: Encoding> OpenBody<E> {
    /// Notes what it took of a record.
    fn note_part(&mut self, seq: u64) {
        let samples = std::mem::take(&mut self.taken);
        if samples > 0 {
            self.since.get_or_insert_with(Instant::now);
            self.parts.push((seq, samples));
        }
    }

    /// Closes it in the middle of a record.
    fn close_within(&mut self, seq: u64) -> Option<Shipment> {
        self.note_part(seq);
        self.close()
    }

    fn close(&mut self) -> Option<Shipment> {
        self.since.take()?;
        let mut dropped = Losses::default();
        let bodies = self.encoder.finish(&mut dropped);
        let newest = std::mem::replace(&mut self.newest, TimestampNs::MIN);
        Some(Shipment { bodies, parts: std::mem::take(&mut self.parts), newest, dropped, repeats: false })
    }
}

#[cfg(test)]
mod tests;
