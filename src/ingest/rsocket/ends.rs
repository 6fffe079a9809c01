//! Which series end when no application has them any more.

use crate::ingest::stale::{self, name_and_labels};
use crate::model::{Batch, Format, SeriesId, SeriesTable, TimestampNs};
use std::collections::HashSet;

/// The kind of series that applications have.
const SERIES: &[u8] = b"series of an application";
/// Series that end in one batch.
const ENDS_MAX: usize = 100_000;

/// The series of some batches, sorted.
pub(super) fn series_of<'b>(batches: impl Iterator<Item = &'b Batch>) -> Vec<SeriesId> {
    let mut series: Vec<_> = batches.flat_map(|batch| batch.samples.iter().map(|sample| sample.series)).collect();
    series.sort_unstable();
    series.dedup();
    series
}

/// Batches of stale markers for what was before and is not now, both sorted. A series that goes on under another id, as it
/// is declared differently, does not end.
pub(super) fn ends(table: &SeriesTable, before: &[SeriesId], now: &[SeriesId], time: TimestampNs) -> Vec<Batch> {
    let without = |series: &[SeriesId], others: &[SeriesId]| -> Vec<SeriesId> {
        series.iter().copied().filter(|id| others.binary_search(id).is_err()).collect()
    };
    let gone = without(before, now);
    if gone.is_empty() {
        return Vec::new();
    }
    let new: HashSet<_> = without(now, before)
        .into_iter()
        .filter_map(|id| Some(name_and_labels(table, SERIES, &table.series(id)?)))
        .collect();
    let mut batches = Vec::new();
    for some in gone.chunks(ENDS_MAX) {
        let mut batch = Batch::new(Format::PrometheusText, table.pin());
        for series in some.iter().filter_map(|id| table.series(*id)) {
            let alias = name_and_labels(table, SERIES, &series);
            if !new.contains(&alias) {
                stale::end(table, &mut batch, alias, &series, time);
            }
        }
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Value, is_stale_marker};
    use crate::wire::prometheus_text::decode::{Options, decode};

    #[test]
    fn what_is_not_there_any_more_ends() {
        let table = SeriesTable::default();
        let series = |body: &str| {
            let mut builder = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
            assert_eq!(decode(body.as_bytes(), &Options { now: 1, timestamp: None }, &mut builder).refused(), 0);
            series_of([&builder.finish()].into_iter())
        };
        let ended = |before: &[SeriesId], now: &[SeriesId]| -> Vec<String> {
            let batches = ends(&table, before, now, 7);
            let samples = batches.iter().flat_map(|batch| batch.samples.iter().map(move |sample| (batch, sample)));
            let mut names: Vec<_> = samples
                .map(|(batch, sample)| {
                    assert!(matches!(batch.value(sample), Value::F64(value) if is_stale_marker(value)));
                    assert_eq!(sample.timestamp, 7);
                    table.series(sample.series).unwrap().name.measurement().to_owned()
                })
                .collect();
            names.sort();
            names
        };
        let before = series("a{x=\"1\"} 1\n# TYPE b gauge\nb 2\nc 3\na{x=\"1\"} 1\n");
        assert_eq!(before.len(), 3);
        assert_eq!(ended(&before, &before), [""; 0]);
        assert_eq!(ended(&before, &series("c 3\n# TYPE b counter\nb 2\nd 1\n")), ["a"], "b is declared differently");
        assert_eq!(ended(&before, &[]), ["a", "b", "c"]);
        assert_eq!(ended(&[], &before), [""; 0]);
    }
}
