//! Counters of Micrometer in both temporalities: what each sample of a batch says in the other one, told before the log has it.
//!
//! Line protocol of Micrometer tells what was added in a step, everything else the sum since the start. Here deltas are added
//! up, and of what is cumulative it is told what was added since the last step; both go with the sample
//! ([`Restated`]) into the log. So outputs need no memory of what came before: a destination that is sent a batch again gets the
//! same values, and outputs of the original's dialect send the original.
//!
//! * A delta counts once: a point that is not newer than the last one of its series adds nothing. The same one again (a sender
//!   that tries again) says the same sum again. A point from the future ([`AHEAD_MAX`]) adds nothing either: it would make all
//!   behind it late.
//! * A cumulative value is told at its first sample in each step of the profile, with all that was added since the last one
//!   told; a value below the one before is a counter that started anew. A stale marker tells what is left.
//! * What a cumulative counter has added since then is told when it falls silent ([`STEPS_SILENT`]), as a sample of the gateway's own:
//!   the last one again. So what an application counted in its last step is not lost.
//! * What is known survives a restart, and a crash: a file beside the log, written every [`SAVE_INTERVAL`], and what the log holds
//!   behind the place that the file tells. A cursor of its own ([`CURSOR`]) keeps that in the log.
//! * Bounded: [`TALLIES_MAX`] counters, each forgotten after [`IDLE_MAX`]. What has no tally is not restated; outputs that would
//!   need it count the sample as dropped.
//!
//! Before that, what a meter tells by distributions is told by its statistics as well ([`Tallies::expand`]); behind it, a bucket of
//! all is made where senders leave it out.
//!
//! Two alternatives were weighed. *Each output keeps its own sums*: no column in the log, but as many states as outputs, each to be
//! saved with its cursor, and a different start for each. *A reader of the log appends what it derived as samples of their own*:
//! nothing changes for senders, but the log and the ledger hold two samples for one, and each output must know which to leave out.

mod buckets;
mod distributions;
mod store;
mod tally;

pub use store::{CURSOR, SAVE_INTERVAL, StoreError};
pub use tally::Origin;

use crate::log::Cursor;
use crate::micrometer::{Mode, Profile, Temporality};
use crate::model::{
    Batch, Dialect, Format, IdMap, IdTable, Restated, Run, Sample, SampleFlags, Series, SeriesId, SeriesTable,
    TimestampNs, Value,
};
use buckets::Buckets;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::Notify;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Counters that are remembered.
pub const TALLIES_MAX: usize = 1 << 20;
/// How long a counter is remembered that nobody sends any more.
pub const IDLE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Steps for which an application is a new one.
pub const STEPS_NEW: u32 = 2;
/// Steps after which a counter that does not come is silent.
pub const STEPS_SILENT: u32 = 2;
/// How far a sender's clock may be ahead of the gateway's.
const AHEAD_MAX: i64 = 600 * 1_000_000_000;
/// Series of which it is remembered whether they are counters, beyond a quarter more than there are live ones.
const KNOWN_SPARE: usize = 4096;
/// Runs without counters that are remembered.
const PLAIN_MAX: usize = 1 << 16;

/// See the module's documentation.
#[derive(Debug)]
pub struct Tallies {
    profile: Arc<Profile>,
    counters: Mutex<Counters>,
    /// Tells the task that saves to do it now: of the first counter, and when the log is full.
    hurry: Notify,
    /// Whether a bucket of all is made where senders leave it out.
    makes_buckets: bool,
    file: PathBuf,
    cursor: Mutex<Option<Cursor>>,
}

#[derive(Debug, Default)]
struct Counters {
    /// Makes the keys; another in each installation, so that nobody can have two counters meet.
    seed: u64,
    tallies: HashMap<u128, Tally>,
    /// Whether a series is a counter.
    known: IdTable<bool>,
    /// Runs without a counter, by number.
    plain: HashSet<u32>,
    /// The keys of those that are.
    keys: IdMap<SeriesId, u128>,
    buckets: Buckets,
    /// Whether something changed since it was saved.
    changed: bool,
}

impl Tallies {
    /// No counters, and nothing saved.
    pub fn new(profile: Arc<Profile>) -> Self {
        let counters = Mutex::new(Counters { seed: fastrand::u64(..), ..Counters::default() });
        Self {
            profile,
            counters,
            hurry: Notify::new(),
            makes_buckets: false,
            file: PathBuf::new(),
            cursor: Mutex::default(),
        }
    }

    /// Says what the counters of a batch are in the other temporality.
    pub fn restate(&self, batch: &mut Batch, table: &SeriesTable, origin: Origin, now: TimestampNs) {
        if self.profile.mode == Mode::Never {
            return;
        }
        let mut counters = self.counters.lock();
        let counters = &mut *counters;
        counters.forget_retired(table);
        let first = counters.tallies.is_empty();
        let mut origin = origin;
        if origin == Origin::Connected
            && counters.meet_strangers(batch, table, &self.profile)
            && self.has_run_long(batch, table)
        {
            // It has found this gateway after another, or this one forgot: what it counted before is not new.
            origin = Origin::Scraped;
        }
        let mut restated = Vec::new();
        let (mut runs, mut index) = (batch.runs.iter().peekable(), 0);
        while let Some(sample) = batch.samples.get(index) {
            if let Some((_, run)) = runs.next_if(|(at, _)| *at as usize == index)
                && counters.is_plain(run)
            {
                index += run.series().len();
                continue;
            }
            let is_counter = counters.known.get(sample.series).copied();
            if is_counter.unwrap_or_else(|| counters.learn(sample.series, batch, table, &self.profile)) {
                let start = batch.start_of(index);
                let value = counters.restate(batch, sample, start, table, &self.profile, origin, now);
                restated.extend(value.map(|value| (index as u32, value)));
            }
            index += 1;
        }
        if self.makes_buckets {
            counters.buckets.complete(batch, &mut restated, table);
        }
        if first && !counters.tallies.is_empty() {
            self.hurry.notify_one();
        }
        batch.restated = restated;
    }

    /// The samples of a batch with those indexes are of another sender than those before: what it has counted is not added.
    /// (After a crash before this was saved, it is: the log does not tell senders apart.)
    pub fn rebase(&self, batch: &Batch, indexes: &[u32]) {
        let mut counters = self.counters.lock();
        let Counters { tallies, keys, .. } = &mut *counters;
        for sample in indexes.iter().filter_map(|index| batch.samples.get(*index as usize)) {
            let tally = keys.get(&sample.series).and_then(|key| tallies.get_mut(key));
            if let (Some(tally), Some(value)) = (tally, number(batch, sample)) {
                tally.rebase(value);
            }
        }
    }

    /// Forgets which series have which ids: those of another table are others.
    pub fn forget_ids(&self) {
        let mut counters = self.counters.lock();
        (counters.known, counters.plain, counters.keys, counters.buckets) = Default::default();
    }

    /// Whether the application of a batch says that it has run for longer than a new one.
    fn has_run_long(&self, batch: &Batch, table: &SeriesTable) -> bool {
        let uptime = batch.samples.iter().find_map(|sample| {
            let series = batch.series(sample.series, table)?;
            let is_uptime = matches!(series.name.measurement(), "process_uptime_seconds" | "process.uptime");
            if is_uptime { number(batch, sample) } else { None }
        });
        uptime.is_some_and(|seconds| seconds > (self.profile.step * STEPS_NEW).as_secs_f64())
    }

    /// Takes back what was told of cumulative values in a batch that the log did not take.
    pub fn take_back(&self, batch: &Batch) {
        let mut counters = self.counters.lock();
        for (index, restated) in &batch.restated {
            let sample = &batch.samples[*index as usize];
            if let Some(key) = counters.keys.get(&sample.series).copied()
                && let Some(tally) = counters.tallies.get_mut(&key)
            {
                tally.take_back(sample.timestamp, *restated);
            }
        }
    }

    /// The last samples of counters that are silent and have something untold, each with what it says now.
    fn untold(&self, table: &SeriesTable, now: TimestampNs) -> Vec<Batch> {
        let mut counters = self.counters.lock();
        let Counters { tallies, keys, .. } = &mut *counters;
        let silent = second(now.saturating_sub_unsigned((self.profile.step * STEPS_SILENT).as_nanos() as u64));
        let mut rest: Vec<_> =
            keys.iter().filter(|(_, key)| tallies.get(key).is_some_and(|tally| tally.seen < silent)).collect();
        // The parts of a row stand side by side.
        rest.sort_unstable();
        let mut batches: Vec<Batch> = Vec::new();
        for (id, key) in rest {
            let (Some(series), Some(tally)) = (table.series(*id), tallies.get_mut(key)) else { continue };
            let Some(restated) = tally.rest() else { continue };
            let format = match series.dialect {
                Dialect::Prometheus => Format::PrometheusText,
                Dialect::Influx => Format::InfluxLine,
                Dialect::Wavefront => Format::Wavefront,
            };
            if batches.last().is_none_or(|batch| batch.format != format) {
                batches.push(Batch::new(format, table.pin()));
            }
            if let Some(batch) = batches.last_mut() {
                batch.push(*id, tally.last, Value::F64(tally.value), SampleFlags::NONE);
                batch.restated.push((batch.samples.len() as u32 - 1, restated));
            }
        }
        counters.changed |= !batches.is_empty();
        batches
    }

    /// The log has no room: it shall not wait for this place in it.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Takes up what a record of the log tells that the file does not know yet. `seen` is for the ids of that record.
    fn recall(&self, batch: &Batch, table: &SeriesTable, seen: &mut IdMap<SeriesId, Option<(u128, Temporality)>>) {
        let mut counters = self.counters.lock();
        let (seed, mut restated) = (counters.seed, batch.restated.iter().peekable());
        let counter = |id| {
            let series = batch.series(id, table)?;
            let temporality = self.profile.temporality(&series);
            (temporality != Temporality::Instant).then(|| (key(&series, temporality, seed), temporality))
        };
        for (index, sample) in batch.samples.iter().enumerate() {
            let restated = restated.next_if(|(at, _)| *at as usize == index).map(|(_, restated)| *restated);
            let counter = *seen.entry(sample.series).or_insert_with(|| counter(sample.series));
            let (Some((key, temporality)), Some(value)) = (counter, number(batch, sample)) else { continue };
            let has_room = counters.tallies.len() < TALLIES_MAX;
            match counters.tallies.get_mut(&key) {
                Some(tally) => tally.recall(value, sample.timestamp, restated),
                None if has_room => {
                    let tally = Tally::recalled(temporality, value, sample.timestamp, restated);
                    counters.tallies.extend(tally.map(|tally| (key, tally)));
                }
                None => {}
            }
            counters.changed = true;
        }
    }
}

impl Counters {
    /// Whether a batch has counters, and nothing is known of any of them.
    fn meet_strangers(&mut self, batch: &Batch, table: &SeriesTable, profile: &Profile) -> bool {
        let mut any = false;
        for sample in &batch.samples {
            let is_counter = self.known.get(sample.series).copied();
            if is_counter.unwrap_or_else(|| self.learn(sample.series, batch, table, profile)) {
                any = true;
                if self.keys.get(&sample.series).is_some_and(|key| self.tallies.contains_key(key)) {
                    return false;
                }
            }
        }
        any
    }

    /// Whether a run is known to have no counter.
    fn is_plain(&mut self, run: &Run) -> bool {
        let is_known = self.plain.contains(&run.number());
        let is_plain = is_known || run.series().iter().all(|id| self.known.get(*id) == Some(&false));
        if is_plain && !is_known {
            if self.plain.len() >= PLAIN_MAX {
                self.plain.clear();
            }
            self.plain.insert(run.number());
        }
        is_plain
    }

    #[cold]
    fn learn(&mut self, id: SeriesId, batch: &Batch, table: &SeriesTable, profile: &Profile) -> bool {
        let Some(series) = batch.series(id, table) else { return false };
        let temporality = profile.temporality(&series);
        let is_counter = temporality != Temporality::Instant;
        self.known.insert(id, is_counter);
        if is_counter {
            self.keys.insert(id, key(&series, temporality, self.seed));
            self.buckets.learn(id, &series, profile);
        }
        is_counter
    }

    #[expect(clippy::too_many_arguments, reason = "what is known of one sample")]
    fn restate(
        &mut self,
        batch: &Batch,
        sample: &Sample,
        start: Option<TimestampNs>,
        table: &SeriesTable,
        profile: &Profile,
        origin: Origin,
        now: TimestampNs,
    ) -> Option<Restated> {
        let value = number(batch, sample).filter(|_| sample.timestamp <= now.saturating_add(AHEAD_MAX))?;
        let key = *self.keys.get(&sample.series)?;
        let step = i64::try_from(profile.step.as_nanos()).unwrap_or(i64::MAX).max(1);
        self.changed = true;
        let has_room = self.tallies.len() < TALLIES_MAX;
        let restated = match self.tallies.get_mut(&key) {
            Some(tally) => tally.restate(value, sample.timestamp, origin, step),
            None if has_room => {
                let temporality = profile.temporality(&batch.series(sample.series, table)?);
                let (tally, restated) = Tally::begin(temporality, value, sample.timestamp, start, origin, step)?;
                self.tallies.insert(key, tally);
                restated
            }
            None => None,
        };
        if let Some(tally) = self.tallies.get_mut(&key) {
            tally.seen = second(now);
        }
        restated
    }

    fn forget_retired(&mut self, table: &SeriesTable) {
        if self.known.len() > table.len() * 5 / 4 + KNOWN_SPARE {
            self.known.retain(|id, _| table.is_live(id));
            let known = &mut self.known;
            self.keys.retain(|id, _| known.get(*id).is_some());
            self.buckets.forget_retired(table);
        }
    }

    fn forget_idle(&mut self, now: TimestampNs) {
        let oldest = second(now).saturating_sub(IDLE_MAX.as_secs() as u32);
        self.tallies.retain(|_, tally| tally.seen >= oldest);
    }
}

/// The second of the Unix epoch.
fn second(timestamp: TimestampNs) -> u32 {
    u32::try_from(timestamp / 1_000_000_000).unwrap_or_default()
}

fn number(batch: &Batch, sample: &Sample) -> Option<f64> {
    match batch.value(sample) {
        Value::F64(value) => Some(value),
        Value::I64(value) => Some(value as f64),
        Value::U64(value) => Some(value as f64),
        _ => None,
    }
}

/// What a counter is known by, whatever its id is. Another one, if the profile takes it for something else than before.
fn key(series: &Series, temporality: Temporality, seed: u64) -> u128 {
    let mut bytes = vec![series.dialect as u8, temporality as u8];
    let texts = [series.name.measurement(), series.name.field_key().unwrap_or_default()];
    let labels = series.labels.iter().flat_map(|pair| [&*pair.name, &*pair.value]);
    for text in texts.into_iter().chain(labels) {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    xxh3_128_with_seed(&bytes, seed)
}

#[cfg(test)]
mod tests;
