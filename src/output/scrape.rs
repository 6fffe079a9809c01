//! `GET /scrape`: the latest value of every live series.
//!
//! A task reads the log from its present end and keeps the newest sample of each series until it is stale: not updated for
//! a while, or ended by a stale marker. Nothing is stored on disk; after a restart a series shows up again with its next
//! sample, and those of Pushgateway groups at once, since their pushes are kept ([`Latest::show`]). Samples that came without a
//! timestamp are exposed without one. Not an output of the ledger: whoever scrapes picks the pace, and samples between two scrapes
//! are not shown.
//!
//! Meters of Micrometer are shown under the names that they have in Prometheus; what their senders count by steps, as the sum
//! since the start.
//!
//! What is shown is bounded in bytes, estimated; when it is full, further series are counted and not shown until others are
//! stale. Those that are shown go on, unless their value grows beyond what there is room for. What a series is, is asked of
//! the series table, and taken from there when the series leaves it; a [`Pin`] keeps it readable until that was noticed.

use super::change::told;
use super::instances::{Instance, Instances};
use crate::log::{Entry, ReadError, Reader, Record};
use crate::micrometer::{Profile, Temporality};
use crate::model::{
    Batch, Dialect, Distribution, Exemplar, IdMap, IdTable, LabelPair, Losses, NativeHistogram, Pin, Restated, Sample,
    SampleFlags, Series, SeriesId, SeriesTable, TimestampNs, Value,
};
use crate::wire::SampleRef;
use crate::wire::prometheus_text::encode::Exposed;
pub use crate::wire::prometheus_text::negotiation::Exposition;
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

/// Estimated cost of a shown series: its entry.
const SHOWN_BYTES: usize = 32;
/// Estimated cost of what stands aside, beside its value and its texts.
const ASIDE_BYTES: usize = size_of::<Aside>() + 32;
/// Estimated cost of a series that left the table beside its texts, and of each of its labels.
const LEFT_BYTES: usize = 128;

/// Small: there are as many as series.
#[derive(Debug)]
struct Newest {
    timestamp: TimestampNs,
    bits: u64,
    /// Second of the Unix epoch by which it was last seen.
    seen: u32,
    kind: Kind,
    flags: SampleFlags,
    /// Whether its sender tells what was added; shown is the sum of it.
    adds_up: bool,
    /// Whether it is of an instance that is known.
    is_of_instance: bool,
}

/// What the bits of a series' newest value are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    F64,
    I64,
    U64,
    Bool,
    /// Nothing: the value stands aside with what else there is.
    Aside,
}

/// What most series do not have.
type Asides = IdMap<SeriesId, Box<Aside>>;

#[derive(Debug, Default)]
struct Aside {
    value: Owned,
    start: Option<TimestampNs>,
    exemplar: Option<Exemplar>,
    /// What it is, since it left the table.
    series: Option<Series>,
}

impl Aside {
    fn bytes(&self) -> usize {
        let left = self.series.as_ref().map_or(0, |series| {
            let labels = series.labels.iter().map(|pair| LEFT_BYTES + pair.name.len() + pair.value.len());
            LEFT_BYTES + series.name.len() + labels.sum::<usize>()
        });
        ASIDE_BYTES + left + self.value.bytes() + self.exemplar.as_ref().map_or(0, Exemplar::bytes)
    }
}

impl Newest {
    /// What it costs, estimated, with its present value and exemplar.
    fn bytes(&self, id: SeriesId, asides: &Asides) -> usize {
        SHOWN_BYTES + self.aside(id, asides).map_or(0, |aside| aside.bytes())
    }

    fn value<'a>(&self, aside: Option<&'a Aside>) -> Value<'a> {
        match (self.kind, aside) {
            (Kind::I64, _) => Value::I64(self.bits.cast_signed()),
            (Kind::U64, _) => Value::U64(self.bits),
            (Kind::Bool, _) => Value::Bool(self.bits != 0),
            (Kind::Aside, Some(aside)) => aside.value.borrow(),
            (Kind::F64 | Kind::Aside, _) => Value::F64(f64::from_bits(self.bits)),
        }
    }

    /// Takes another value and its start.
    fn put(&mut self, id: SeriesId, asides: &mut Asides, value: Owned, start: Option<TimestampNs>) {
        let plain = match value {
            Owned::F64(value) => Some((Kind::F64, value.to_bits())),
            Owned::I64(value) => Some((Kind::I64, value.cast_unsigned())),
            Owned::U64(value) => Some((Kind::U64, value)),
            Owned::Bool(value) => Some((Kind::Bool, u64::from(value))),
            Owned::Histogram(_) | Owned::Distribution(_) => None,
        };
        match plain {
            Some(plain) if self.kind != Kind::Aside && start.is_none() => (self.kind, self.bits) = plain,
            _ => {
                let aside = self.step_aside(id, asides);
                (aside.value, aside.start) = (value, start);
            }
        }
    }

    fn aside<'a>(&self, id: SeriesId, asides: &'a Asides) -> Option<&'a Aside> {
        if self.kind == Kind::Aside { asides.get(&id).map(|aside| &**aside) } else { None }
    }

    /// From now on the value stands aside, beside what else there is.
    fn step_aside<'a>(&mut self, id: SeriesId, asides: &'a mut Asides) -> &'a mut Aside {
        if self.kind != Kind::Aside {
            let value = Owned::of(self.value(None)).unwrap_or_default();
            asides.insert(id, Box::new(Aside { value, ..Aside::default() }));
            self.kind = Kind::Aside;
        }
        asides.entry(id).or_default()
    }

    /// Takes along what the series is if it left the table. Returns whether it did.
    fn follow(&mut self, id: SeriesId, asides: &mut Asides, table: &SeriesTable) -> bool {
        let has_left = !table.is_live(id);
        if has_left && self.aside(id, asides).is_none_or(|aside| aside.series.is_none()) {
            self.step_aside(id, asides).series = table.series(id);
        }
        has_left
    }

    fn is_stale(&self, now: TimestampNs, after: Duration) -> bool {
        crate::clock::age(now, i64::from(self.seen) * NANOSECONDS) >= after
    }
}

const NANOSECONDS: i64 = 1_000_000_000;

/// The next full second.
fn second(timestamp: TimestampNs) -> u32 {
    u32::try_from(timestamp / NANOSECONDS + 1).unwrap_or_default()
}

/// A value that outlives its batch.
#[derive(Debug)]
enum Owned {
    F64(f64),
    I64(i64),
    U64(u64),
    Bool(bool),
    Histogram(Box<NativeHistogram>),
    Distribution(Box<Distribution>),
}

impl Default for Owned {
    fn default() -> Self {
        Self::F64(0.0)
    }
}

impl Owned {
    /// A copy; strings are not scraped.
    fn of(value: Value<'_>) -> Option<Self> {
        Some(match value {
            Value::F64(value) => Self::F64(value),
            Value::I64(value) => Self::I64(value),
            Value::U64(value) => Self::U64(value),
            Value::Bool(value) => Self::Bool(value),
            Value::Histogram(value) => Self::Histogram(Box::new(value.clone())),
            Value::Distribution(value) => Self::Distribution(Box::new(value.clone())),
            Value::Str(_) => return None,
        })
    }

    /// Memory beside the value itself.
    fn bytes(&self) -> usize {
        match self {
            Self::Histogram(histogram) => histogram.bytes(),
            Self::Distribution(distribution) => distribution.bytes(),
            _ => 0,
        }
    }

    fn borrow(&self) -> Value<'_> {
        match self {
            Self::F64(value) => Value::F64(*value),
            Self::I64(value) => Value::I64(*value),
            Self::U64(value) => Value::U64(*value),
            Self::Bool(value) => Value::Bool(*value),
            Self::Histogram(value) => Value::Histogram(value),
            Self::Distribution(value) => Value::Distribution(value),
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
        for (index, sample) in batch.samples.iter().enumerate() {
            let restated = restated.next_if(|(at, _)| *at as usize == index).map(|(_, restated)| *restated);
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
        let (timestamp, flags) = (sample.timestamp, sample.flags);
        let (kind, is_of_instance) = (Kind::F64, false);
        let mut newest = Newest { timestamp, bits: 0, seen, kind, flags, adds_up, is_of_instance };
        newest.put(id, asides, value, start);
        newest.follow(id, asides, table);
        if *bytes + newest.bytes(id, asides) > self.bytes_max {
            asides.remove(&id);
            self.hidden.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *bytes += newest.bytes(id, asides);
        if table.series(id).is_some_and(|series| instances.join(id, &series, record.appended_at)) {
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
mod tests {
    use super::*;
    use crate::wire::prometheus_names::Alphabet;
    use crate::wire::prometheus_text;

    #[test]
    fn names_beyond_the_legacy_alphabet_are_for_scrapers_that_read_quotes() {
        use crate::model::{BatchBuilder, Format};
        let table = SeriesTable::default();
        let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        let options = prometheus_text::decode::Options { now: 1, timestamp: None };
        let body = b"# TYPE \"a.b\" gauge\n{\"a.b\",\"x.y\"=\"1\"} 3\nc 4\n";
        assert_eq!(prometheus_text::decode::decode(body, &options, &mut builder).refused(), 0);
        latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: builder.finish().into() }, &table);
        let page = |exposition| String::from_utf8(latest.expose(exposition, &table, 0)).unwrap();
        let legacy = "# TYPE a_b gauge\na_b{x_y=\"1\"} 3\nc 4\n";
        assert_eq!(page(Exposition::PrometheusText(Alphabet::Legacy)), legacy);
        assert_eq!(page(Exposition::PrometheusText(Alphabet::Utf8)).as_bytes(), body);
        let open = format!("{}# EOF\n", std::str::from_utf8(body).unwrap());
        assert_eq!(page(Exposition::OpenMetrics(Alphabet::Utf8)), open);
    }

    #[test]
    fn meters_are_shown_under_their_names_with_what_was_added_up() {
        use crate::ingest::temporality::{Origin, Tallies};
        use crate::model::{BatchBuilder, Format};
        use crate::wire::influx_line;
        let (table, profile) = (SeriesTable::default(), Arc::<Profile>::default());
        let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::clone(&profile));
        let tallies = Tallies::new(profile);
        let send = |body: &str| {
            let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
            let options = influx_line::decode::Options::default();
            assert_eq!(influx_line::decode::decode(body.as_bytes(), &options, &mut builder).refused(), 0);
            let mut batch = builder.finish();
            tallies.restate(&mut batch, &table, Origin::default(), 0);
            latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() }, &table);
        };
        let page = |exposition| String::from_utf8(latest.expose(exposition, &table, 0)).unwrap();
        send("send,stream_name=s,metric_type=histogram sum=46,count=2,mean=23,upper=34 60000000000\n");
        send("send,stream_name=s,metric_type=histogram sum=4,count=1,mean=4,upper=34 120000000000\n");
        send("send,stream_name=s,metric_type=histogram sum=9,count=9,mean=1,upper=9 60000000000\n");
        send("send_histogram,stream_name=s,metric_type=gauge,le=50 value=3 120000000000\n");
        let expected = "# TYPE send_seconds histogram\n\
            send_seconds_bucket{le=\"0.05\",stream_name=\"s\"} 3 120000\n\
            send_seconds_count{stream_name=\"s\"} 3 120000\n\
            send_seconds_sum{stream_name=\"s\"} 0.05 120000\n\
            # TYPE send_seconds_max gauge\n\
            send_seconds_max{stream_name=\"s\"} 0.034 120000\n";
        assert_eq!(page(Exposition::PrometheusText(Alphabet::Legacy)), expected);
        let open = page(Exposition::OpenMetrics(Alphabet::Legacy));
        assert!(open.contains("send_seconds_created{stream_name=\"s\"} "), "{open}");
    }

    #[test]
    fn what_was_pushed_without_an_instance_says_so() {
        use crate::model::{BatchBuilder, Format};
        let table = SeriesTable::default();
        let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
        let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        let options = prometheus_text::decode::Options { now: 1, timestamp: None };
        let body = b"a{a=\"1\",job=\"j\"} 1\nb{instance=\"i\"} 2\nc 3\n";
        assert_eq!(prometheus_text::decode::decode(body, &options, &mut builder).refused(), 0);
        let batch = builder.finish();
        let ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
        latest.show(batch.into(), &table, 0);
        latest.keep(&ids[..2]);
        let page =
            || String::from_utf8(latest.expose(Exposition::PrometheusText(Alphabet::Legacy), &table, 0)).unwrap();
        assert_eq!(page(), "a{a=\"1\",instance=\"\",job=\"j\"} 1\nb{instance=\"i\"} 2\nc 3\n");
    }

    #[test]
    fn a_series_that_left_the_table_is_shown_until_it_is_stale() {
        use crate::model::{BatchBuilder, Format, TableBounds};
        let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
        let latest = Latest::new(Duration::from_secs(60), 1000, Arc::default());
        let sweep = || (0..4).map(|_| table.sweep()).sum::<usize>();
        let decode = |body: &[u8]| {
            let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
            let options = prometheus_text::decode::Options { now: 1, timestamp: None };
            assert_eq!(prometheus_text::decode::decode(body, &options, &mut builder).refused(), 0);
            Record { seq: 0, ordinal: 0, appended_at: 0, batch: builder.finish().into() }
        };
        let page = |now| {
            let page = latest.expose(Exposition::PrometheusText(Alphabet::Legacy), &table, now);
            String::from_utf8(page).unwrap()
        };
        let late = decode(b"late{a=\"1\"} 1\n");
        sweep();
        latest.update(&late, &table);
        drop(late);
        latest.update(&decode(b"m{a=\"2\"} 2\n"), &table);
        sweep();
        assert!(!table.is_empty(), "held until it was looked");
        for _ in 0..2 {
            assert_eq!(page(0), "late{a=\"1\"} 1\nm{a=\"2\"} 2\n");
            sweep();
            assert_eq!(table.len(), 0);
        }
        let long = format!("{} 3\n", "n".repeat(1000));
        latest.update(&decode(long.as_bytes()), &table);
        assert!(page(0).ends_with(&long));
        sweep();
        assert_eq!((page(0).lines().count(), latest.hidden()), (2, 1), "its text is not the table's any more");
        assert_eq!((page(62 * NANOSECONDS), latest.shown.lock().bytes), (String::new(), 0));
        sweep();
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn values_and_exemplars_that_grow_are_charged_and_hidden_beyond_the_bound() {
        use crate::model::{BatchBuilder, Centroid, Format, Granularity, SeriesSpec};
        let table = SeriesTable::default();
        let latest = Latest::new(Duration::from_secs(60), 1 << 20, Arc::default());
        let update = |timestamp: i64, centroids: usize, exemplar: usize| {
            let mut builder = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
            let spec = SeriesSpec { measurement: "m", field: None, labels: Vec::new(), metadata: None };
            let id = builder.define(builder.alias(b"m"), spec).unwrap();
            let centroids = vec![Centroid { count: 1, mean: 1.0 }; centroids];
            let distribution = Distribution { granularity: Granularity::Minute, centroids };
            builder.push(id, timestamp, Value::Distribution(&distribution), SampleFlags::NONE);
            let mut batch = builder.finish();
            let labels = vec![("trace_id".into(), "x".repeat(exemplar).into())];
            batch.exemplars.push(Exemplar { series: id, sample: None, labels, value: 1.0, timestamp: None });
            latest.update(&Record { seq: 0, ordinal: 0, appended_at: 0, batch: batch.into() }, &table);
            let shown = latest.shown.lock();
            let newest = shown.series.values().next();
            let aside = |_| shown.asides.values().any(|aside| aside.exemplar.is_some());
            (newest.map(aside), shown.bytes)
        };
        let (first, small) = update(1, 1, 10);
        assert_eq!(first, Some(true));
        assert_eq!(update(2, 1001, 1010), (Some(true), small + 1000 * size_of::<Centroid>() + 1000));
        assert_eq!(update(3, 1, 10), (Some(true), small), "what shrinks gives back");
        assert_eq!(update(4, 1, 2 << 20).0, Some(false));
        assert_eq!((update(5, 1 << 20, 10), latest.hidden()), ((None, 0), 1));
        assert_eq!(update(6, 1, 10), (Some(true), small), "it comes back when it fits");
    }
}
