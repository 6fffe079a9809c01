//! How series end whose application does not have them any more: with a stale marker, as those of a scrape target end in
//! Prometheus when a scrape does not show them.

use crate::model::{
    AliasHash, Batch, Format, STALE_MARKER_BITS, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Source,
    TimestampNs, Value,
};
use std::borrow::Cow;
use std::collections::HashSet;

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
    let new: HashSet<_> =
        without(now, before).into_iter().filter_map(|id| Some(name_and_labels(table, &table.series(id)?))).collect();
    let marker = Value::F64(f64::from_bits(STALE_MARKER_BITS));
    let mut batches = Vec::new();
    for some in gone.chunks(ENDS_MAX) {
        let mut batch = Batch::new(Format::PrometheusText, table.pin());
        for series in some.iter().filter_map(|id| table.series(*id)) {
            let alias = name_and_labels(table, &series);
            if !new.contains(&alias) {
                batch.push(back(table, alias, &series), time, marker, SampleFlags::TIMESTAMP_IMPLICIT);
            }
        }
        batches.push(batch);
    }
    batches
}

/// The id of a series in the table; one that left it meanwhile comes back for its end, whatever the table's bound.
fn back(table: &SeriesTable, alias: AliasHash, series: &Series) -> SeriesId {
    let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
    let measurement = series.name.measurement();
    let spec = SeriesSpec { measurement, field: None, labels, metadata: series.metadata.clone() };
    table.define_unbounded(Source::OWN, alias, series.dialect, spec)
}

fn name_and_labels(table: &SeriesTable, series: &Series) -> AliasHash {
    // Of its own kind: no request names a series by such bytes.
    let mut hash = table.hash(b"series of an application").then(table.hash(series.name.measurement().as_bytes()));
    for pair in &series.labels {
        hash = hash.then(table.hash(pair.name.as_bytes())).then(table.hash(pair.value.as_bytes()));
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, is_stale_marker};
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
