//! `GET /scrape`: the latest value of every live series.
//!
//! A task reads the log from its present end and keeps the newest sample of each series until it is stale: not updated for
//! a while, or ended by a stale marker. Nothing is stored on disk; after a restart a series shows up again with its next
//! sample. Samples that came without a timestamp are exposed without one. Not an output of the ledger: whoever scrapes
//! picks the pace, and samples between two scrapes are not shown.

use crate::log::{Entry, ReadError, Reader, Record};
use crate::model::{
    Distribution, Exemplar, IdMap, Losses, NativeHistogram, Sample, SampleFlags, Series, SeriesId, SeriesTable,
    TimestampNs, Value,
};
use crate::wire::prometheus_text::encode::Exposed;
use crate::wire::{SampleRef, openmetrics, prometheus_text};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The latest samples.
#[derive(Debug)]
pub struct Latest {
    stale_after: Duration,
    series: Mutex<IdMap<SeriesId, Newest>>,
    /// Series that stay until they are released (Pushgateway groups).
    kept: Mutex<HashSet<SeriesId>>,
}

#[derive(Debug)]
struct Newest {
    series: Arc<Series>,
    timestamp: TimestampNs,
    seen: TimestampNs,
    start: Option<TimestampNs>,
    flags: SampleFlags,
    value: Owned,
    exemplar: Option<Exemplar>,
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

/// The two text formats a scraper may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text 0.0.4.
    PrometheusText,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// What an `Accept` header asks for: OpenMetrics when it is named with at least the weight of the text format.
    pub fn negotiated(accept: Option<&str>) -> Self {
        let weight = |wanted: &str| {
            let ranges = accept.unwrap_or_default().split(',');
            let matching = ranges.filter(|range| range.trim().to_ascii_lowercase().starts_with(wanted));
            matching
                .map(|range| {
                    let q = range.split(';').find_map(|parameter| parameter.trim().strip_prefix("q="));
                    q.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0))
                })
                .fold(0.0, f32::max)
        };
        let open_metrics = weight("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= weight("text/plain") {
            Self::OpenMetrics
        } else {
            Self::PrometheusText
        }
    }

    /// The media type of an answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::PrometheusText => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Latest {
    /// An empty table of series that are stale after that long without a sample.
    pub fn new(stale_after: Duration) -> Self {
        Self { stale_after, series: Mutex::default(), kept: Mutex::default() }
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
                    self.expire(crate::clock::now());
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
        let mut latest = self.series.lock();
        for (index, sample) in batch.samples.iter().enumerate() {
            Self::update_one(&mut latest, record, index, sample, table);
        }
        for exemplar in &batch.exemplars {
            if let Some(newest) = latest.get_mut(&exemplar.series) {
                newest.exemplar = Some(exemplar.clone());
            }
        }
    }

    fn update_one(
        latest: &mut IdMap<SeriesId, Newest>,
        record: &Record,
        index: usize,
        sample: &Sample,
        table: &SeriesTable,
    ) {
        let value = record.batch.value(sample);
        let stale = match value {
            Value::F64(value) => crate::model::is_stale_marker(value),
            Value::Histogram(histogram) => histogram.is_stale_marker(),
            _ => false,
        };
        if stale {
            if latest.get(&sample.series).is_some_and(|newest| newest.timestamp <= sample.timestamp) {
                latest.remove(&sample.series);
            }
            return;
        }
        let Some(value) = Owned::of(value) else { return };
        let start = record.batch.start_of(index);
        match latest.get_mut(&sample.series) {
            Some(newest) => {
                if sample.timestamp >= newest.timestamp {
                    let seen = record.appended_at;
                    (newest.timestamp, newest.seen, newest.start) = (sample.timestamp, seen, start);
                    (newest.flags, newest.value) = (sample.flags, value);
                }
            }
            None => {
                if let Some(series) = table.series(sample.series) {
                    let (timestamp, flags, seen) = (sample.timestamp, sample.flags, record.appended_at);
                    latest
                        .insert(sample.series, Newest { series, timestamp, seen, start, flags, value, exemplar: None });
                }
            }
        }
    }

    /// Keeps series until they are released, however long ago their last sample was.
    pub fn keep(&self, series: &[SeriesId]) {
        self.kept.lock().extend(series);
    }

    /// Forgets series. One that is still in the log between here and its stale marker comes and goes with that.
    pub fn release(&self, series: &[SeriesId]) {
        let mut latest = self.series.lock();
        let mut kept = self.kept.lock();
        for id in series {
            latest.remove(id);
            kept.remove(id);
        }
    }

    /// Series that are live now.
    pub fn len(&self) -> usize {
        self.series.lock().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.lock().is_empty()
    }

    fn expire(&self, now: TimestampNs) {
        let mut latest = self.series.lock();
        let kept = self.kept.lock();
        latest.retain(|id, newest| crate::clock::age(now, newest.seen) < self.stale_after || kept.contains(id));
    }

    /// Forgets what is stale and writes the exposition of the rest.
    pub fn expose(&self, exposition: Exposition, table: &SeriesTable, now: TimestampNs) -> Vec<u8> {
        self.expire(now);
        let latest = self.series.lock();
        let mut exposed: Vec<_> = latest
            .values()
            .map(|newest| Exposed {
                series: &newest.series,
                sample: SampleRef {
                    timestamp: newest.timestamp,
                    value: newest.value.borrow(),
                    start: newest.start,
                    flags: newest.flags,
                },
                exemplar: newest.exemplar.as_ref(),
            })
            .collect();
        let (mut losses, mut dropped) = (Losses::default(), Losses::default());
        let mut out = Vec::new();
        let families = |family: &str| table.family(family);
        match exposition {
            Exposition::PrometheusText => {
                prometheus_text::encode::encode(&mut exposed, &families, &mut out, &mut losses, &mut dropped);
            }
            Exposition::OpenMetrics => {
                openmetrics::encode::encode(&mut exposed, &families, &mut out, &mut losses, &mut dropped);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavier_format_is_exposed() {
        let cases = [
            (None, Exposition::PrometheusText),
            (Some("*/*"), Exposition::PrometheusText),
            (
                Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"),
                Exposition::OpenMetrics,
            ),
            (Some("application/openmetrics-text; version=1.0.0; q=0.2, text/plain;q=0.5"), Exposition::PrometheusText),
            (Some("application/openmetrics-text;q=0"), Exposition::PrometheusText),
        ];
        for (accept, expected) in cases {
            assert_eq!(Exposition::negotiated(accept), expected, "{accept:?}");
        }
    }
}
