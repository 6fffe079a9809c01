//! `GET /scrape`: the latest value of every live series.
//!
//! A task reads the log from its present end and keeps the newest sample of each series until it is stale: not updated for
//! a while, or ended by a stale marker. Nothing is stored on disk; after a restart a series shows up again with its next
//! sample, and those of Pushgateway groups at once, since their pushes are kept ([`Latest::show`]). Samples that came without a
//! timestamp are exposed without one. Not an output of the ledger: whoever scrapes picks the pace, and samples between two scrapes
//! are not shown.
//!
//! Meters of Micrometer are shown under the names that they have in Prometheus; what their senders count by steps, as the sum
//! since the start. They are translated anew for each page: of 8.7 µs that a series of Micrometer's line protocol costs
//! (release build, 100,000 series in 0.87 s), 2.7 µs are translation, and to remember what comes of it would take 1,240 bytes a
//! series, several times what the table does.
//!
//! What is shown is bounded in bytes, estimated; when it is full, further series are counted and not shown until others are
//! stale. Those that are shown go on, unless their value grows beyond what there is room for. What a series is, is asked of
//! the series table, and taken from there when the series leaves it; a [`Pin`] keeps it readable until that was noticed.

mod newest;

use super::change::told;
use super::instances::{Instance, Instances};
use crate::log::{Entry, ReadError, Reader, Record};
use crate::micrometer::{Profile, Temporality};
use crate::model::{
    Batch, Dialect, IdTable, LabelPair, Losses, Pin, Restated, Sample, Series, SeriesId, SeriesTable, TimestampNs,
    Value,
};
use crate::wire::SampleRef;
use crate::wire::prometheus_text::encode::Exposed;
pub use crate::wire::prometheus_text::negotiation::Exposition;
use newest::{Asides, Newest, Owned, SHOWN_BYTES, second};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The latest samples.
#[derive(Debug)]
pub struct Latest {
    stale_after: Duration,
    bytes_max: usize,
    profile: Arc<Profile>,
    shown: Mutex<Shown>,
    /// Samples of series that were not shown for want of room.
    hidden: AtomicU64,
    /// Series that stay until they are released (Pushgateway groups).
    kept: Mutex<HashSet<SeriesId>>,
}

#[derive(Debug, Default)]
struct Shown {
    series: IdTable<Newest>,
    asides: Asides,
    /// Who they come from.
    instances: Instances,
    bytes: usize,
    /// Taken before it was last looked which of them left the table.
    pin: Option<Pin>,
}

impl Shown {
    fn remove(&mut self, id: SeriesId) {
        if let Some(newest) = self.series.remove(id) {
            self.bytes -= newest.bytes(id, &self.asides);
            self.asides.remove(&id);
            if newest.is_of_instance {
                self.instances.leave(id);
            }
        }
    }
}

/// A series of a pushed group as a Pushgateway shows it: where it names no instance, it says so, lest a scraper that honours
/// labels puts the gateway's own in that place.
fn of_no_instance(series: Series) -> Series {
    const INSTANCE: &str = "instance";
    let Err(at) = series.labels.binary_search_by(|pair| (*pair.name).cmp(INSTANCE)) else { return series };
    let mut pairs = series.labels.to_vec();
    pairs.insert(at, Arc::new(LabelPair { name: INSTANCE.into(), value: "".into() }));
    Series { labels: pairs.into_iter().collect(), ..series }
}

/// The id under which a series of a batch is shown: one that was recalled is of interest again. None where there is no room.
fn shown_as(id: SeriesId, batch: &Batch, table: &SeriesTable) -> Option<SeriesId> {
    if id.is_recalled() { table.adopt(&batch.series(id, table)?).ok() } else { Some(id) }
}

impl Latest {
    /// An empty table of series that are stale after that long without a sample.
    pub fn new(stale_after: Duration, bytes_max: usize, profile: Arc<Profile>) -> Self {
        let (shown, kept) = (Mutex::default(), Mutex::default());
        Self { stale_after, bytes_max, profile, shown, hidden: AtomicU64::new(0), kept }
    }

    /// Follows the log from where the reader stands, until it is closed or the token is cancelled.
    pub async fn follow(&self, mut reader: Reader, table: &SeriesTable, stop: &CancellationToken) {
        const PAUSE: Duration = Duration::from_secs(1);
        const EXPIRE: Duration = Duration::from_secs(30);
        let mut expire = tokio::time::interval(EXPIRE);
        loop {
            let entry = tokio::select! {
                entry = reader.next() => entry,
                () = stop.cancelled() => return,
                _ = expire.tick() => {
                    self.expire(crate::clock::now(), table);
                    continue;
                }
            };
            match entry {
                Ok(Entry::Record(record)) => self.update(&record, table),
                // What was trimmed before this task came to it is older than what is shown next.
                Ok(Entry::Lost { .. }) => {}
                Err(ReadError::Closed) => return,
                Err(error) => {
                    tracing::error!(%error, "the log cannot be read for /scrape; trying again");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn update(&self, record: &Record, table: &SeriesTable) {
        let batch = &record.batch;
        let mut shown = self.shown.lock();
        shown.pin.get_or_insert_with(|| table.pin());
        let mut restated = batch.restated.iter().peekable();
        let (seen, has_starts) = (second(record.appended_at), !batch.starts.is_empty());
        for (index, sample) in batch.samples.iter().enumerate() {
            let restated = restated.next_if(|(at, _)| *at as usize == index).map(|(_, restated)| *restated);
            if let (Value::F64(value), false) = (batch.value(sample), has_starts)
                && let Some(newest) = shown.series.get_mut(sample.series)
                && newest.go_on(value, sample.timestamp, sample.flags, seen)
            {
                continue;
            }
            self.update_one(&mut shown, record, index, sample, restated, table);
        }
        for exemplar in &batch.exemplars {
            let Shown { series, asides, bytes, .. } = &mut *shown;
            let Some(id) = shown_as(exemplar.series, batch, table) else { continue };
            let Some(newest) = series.get_mut(id) else { continue };
            let others = *bytes - newest.bytes(id, asides);
            let aside = newest.step_aside(id, asides);
            aside.exemplar = None;
            // One that does not fit is not shown; its series is.
            if others + SHOWN_BYTES + aside.bytes() + exemplar.bytes() <= self.bytes_max {
                aside.exemplar = Some(exemplar.clone());
            }
            *bytes = others + SHOWN_BYTES + aside.bytes();
        }
    }

    fn update_one(
        &self,
        shown: &mut Shown,
        record: &Record,
        index: usize,
        sample: &Sample,
        restated: Option<Restated>,
        table: &SeriesTable,
    ) {
        if sample.left_out(Dialect::Prometheus).is_some() {
            return;
        }
        let Some(id) = shown_as(sample.series, &record.batch, table) else {
            self.hidden.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let value = record.batch.value(sample);
        let stale = match value {
            Value::F64(value) => crate::model::is_stale_marker(value),
            Value::Histogram(histogram) => histogram.is_stale_marker(),
            _ => false,
        };
        if stale {
            if shown.series.get(id).is_some_and(|newest| newest.timestamp <= sample.timestamp) {
                shown.remove(id);
            }
            return;
        }
        let seen = second(record.appended_at);
        let Shown { series, asides, instances, bytes, .. } = &mut *shown;
        let known = series.get(id).map(|newest| newest.adds_up);
        let adds_up = known.unwrap_or_else(|| {
            let temporality = table.series(id).map(|series| self.profile.temporality(&series));
            temporality == Some(Temporality::Delta)
        });
        let (value, start) = match restated {
            Some(Restated { value, start }) if adds_up => (Some(Owned::F64(value)), Some(start)),
            // It came late: what it adds is shown already.
            None if adds_up => return,
            _ => (Owned::of(value), record.batch.start_of(index)),
        };
        let Some(value) = value else { return };
        if let Some(newest) = series.get_mut(id) {
            if sample.timestamp < newest.timestamp {
                return;
            }
            if newest.is_of_instance {
                instances.count(id, record.appended_at);
            }
            let before = newest.bytes(id, asides);
            (newest.timestamp, newest.seen, newest.flags) = (sample.timestamp, seen, sample.flags);
            newest.put(id, asides, value, start);
            let after = newest.bytes(id, asides);
            *bytes = *bytes - before + after;
            if after > before && *bytes > self.bytes_max {
                shown.remove(id);
                self.hidden.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let mut newest = Newest::new(sample.timestamp, sample.flags, seen, adds_up);
        newest.put(id, asides, value, start);
        newest.follow(id, asides, table);
        if *bytes + newest.bytes(id, asides) > self.bytes_max {
            asides.remove(&id);
            self.hidden.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *bytes += newest.bytes(id, asides);
        if !sample.is_made_here()
            && table.series(id).is_some_and(|series| instances.join(id, &series, record.appended_at))
        {
            newest.is_of_instance = true;
            instances.count(id, record.appended_at);
        }
        series.insert(id, newest);
    }

    /// The instances of applications that the live series come from, and how many series are of none for want of room.
    pub fn instances(&self, now: TimestampNs) -> (Vec<Instance>, u64) {
        self.shown.lock().instances.list(now)
    }

    /// Shows the samples of a batch that is not in the log.
    pub fn show(&self, batch: Arc<Batch>, table: &SeriesTable, appended_at: TimestampNs) {
        self.update(&Record { seq: 0, ordinal: 0, appended_at, batch }, table);
    }

    /// Keeps series until they are released, however long ago their last sample was.
    pub fn keep(&self, series: &[SeriesId]) {
        self.kept.lock().extend(series);
    }

    /// Forgets series. One that is still in the log between here and its stale marker comes and goes with that.
    pub fn release(&self, series: &[SeriesId]) {
        let mut shown = self.shown.lock();
        let mut kept = self.kept.lock();
        for id in series {
            shown.remove(*id);
            kept.remove(id);
        }
    }

    /// Series that are live now.
    pub fn len(&self) -> usize {
        self.shown.lock().series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.shown.lock().series.is_empty()
    }

    /// Samples that were not shown, since the start, because there was no room for their series.
    pub fn hidden(&self) -> u64 {
        self.hidden.load(Ordering::Relaxed)
    }

    /// Forgets what is stale, and takes along what the rest is of it that left the table, as far as there is room.
    fn expire(&self, now: TimestampNs, table: &SeriesTable) {
        let mut shown = self.shown.lock();
        let Shown { series, asides, instances, bytes, pin } = &mut *shown;
        let kept = self.kept.lock();
        instances.mark(now);
        // Let go only when what it held was taken.
        let before = pin.replace(table.pin());
        series.retain(|id, newest| {
            *bytes -= newest.bytes(id, asides);
            let stale = newest.is_stale(now, self.stale_after) && !kept.contains(&id);
            let fits =
                !stale && (!newest.follow(id, asides, table) || *bytes + newest.bytes(id, asides) <= self.bytes_max);
            if fits {
                *bytes += newest.bytes(id, asides);
                return true;
            }
            asides.remove(&id);
            if newest.is_of_instance {
                instances.leave(id);
            }
            if !stale {
                self.hidden.fetch_add(1, Ordering::Relaxed);
            }
            false
        });
        if asides.len() < asides.capacity() / 4 {
            asides.shrink_to_fit();
        }
        drop(before);
    }

    /// Forgets what is stale and writes the exposition of the rest.
    pub fn expose(&self, exposition: Exposition, table: &SeriesTable, now: TimestampNs) -> Vec<u8> {
        self.expire(now, table);
        let shown = self.shown.lock();
        let starts = matches!(exposition, Exposition::OpenMetrics(_));
        let kept = self.kept.lock();
        let live = shown.series.iter().filter_map(|(id, newest)| {
            let aside = newest.aside(id, &shown.asides);
            let series = aside.and_then(|aside| aside.series.clone()).or_else(|| table.series(id))?;
            // What Prometheus makes of other series is none of its own.
            let (series, change) = told(&self.profile, series, Dialect::Prometheus, starts).ok()?;
            Some((if kept.contains(&id) { of_no_instance(series) } else { series }, change, newest, aside))
        });
        let live: Vec<_> = live.collect();
        drop(kept);
        let (mut losses, mut dropped) = (Losses::default(), Losses::default());
        let exposed = live.iter().filter_map(|(series, change, newest, aside)| {
            let start = aside.and_then(|aside| aside.start);
            let Newest { timestamp, flags, .. } = **newest;
            let mut sample = SampleRef { timestamp, value: newest.value(*aside), start, flags };
            if !change.is_none() {
                let sum = match sample.value {
                    Value::F64(value) if newest.adds_up => start.map(|start| Restated { value, start }),
                    _ => None,
                };
                sample = change.apply(sample, sum, &mut losses).ok()?;
            }
            Some(Exposed { series, sample, exemplar: aside.and_then(|aside| aside.exemplar.as_ref()) })
        });
        let mut exposed: Vec<_> = exposed.collect();
        let mut out = Vec::new();
        exposition.encode(&mut exposed, &|family| table.family(family), &mut out, &mut losses, &mut dropped);
        out
    }
}

#[cfg(test)]
mod tests;
