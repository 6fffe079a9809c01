//! How series end that nobody says any more: with a stale marker, as those of a scrape target end in Prometheus.

use crate::model::{
    AliasHash, Batch, STALE_MARKER_BITS, SampleFlags, Series, SeriesSpec, SeriesTable, Source, TimestampNs, Value,
};
use std::borrow::Cow;

/// What a series is known by whatever its id is, which changes when its family is declared differently, or when it left the table
/// in between. No request names a series by such bytes; `of` is the kind of its sender.
pub(super) fn name_and_labels(table: &SeriesTable, of: &[u8], series: &Series) -> AliasHash {
    let mut hash = table.hash(of).then(table.hash(series.name.measurement().as_bytes()));
    for pair in &series.labels {
        hash = hash.then(table.hash(pair.name.as_bytes())).then(table.hash(pair.value.as_bytes()));
    }
    hash
}

/// Adds the end of a series to a batch. One that left the table meanwhile comes back for it, whatever the table's bound.
pub(super) fn end(table: &SeriesTable, batch: &mut Batch, alias: AliasHash, series: &Series, time: TimestampNs) {
    let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
    let measurement = series.name.measurement();
    let spec = SeriesSpec { measurement, field: None, labels, metadata: series.metadata.clone() };
    let id = table.define_unbounded(Source::OWN, alias, series.dialect, spec);
    batch.push(id, time, Value::F64(f64::from_bits(STALE_MARKER_BITS)), SampleFlags::TIMESTAMP_IMPLICIT);
}
