//! Distributions of Micrometer by their statistics: what its registries for the other dialects would have told of the same minute,
//! as samples of the gateway's own behind those of the sender ([`SampleFlags::EXPANDED`]).
//!
//! They are rows of line protocol, which tell steps as distributions do: InfluxDB is told them as they are, and elsewhere they
//! become sums like those of any row. They stand at the end of the minute that the distribution is of, when the other registries
//! would have told it. A distribution that comes twice has the same statistics at the same time, and counts once.
//!
//! * Distributions of an hour or a day stay as they are: a meter sends them beside those of its minutes, of the same values. So do
//!   those without a time, which no registry sends, and those that no counter can go on by (negative, not finite).
//! * All statistics are told or none, so that buckets fit their count. Without room for their series, or behind
//!   [`DISTRIBUTIONS_MAX`] of a request, none are; the intake counts it.
//! * Their series are charged to the sender and known by the id of its series, as long as it sends it.

use super::Tallies;
use crate::micrometer::{Distributed, Part};
use crate::model::{
    AliasHash, Batch, Dialect, Granularity, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Source, Value,
};
use std::borrow::Cow;
use std::time::Duration;

/// Distributions of a request that are told by their statistics: many times what an application has; some 150,000 samples.
const DISTRIBUTIONS_MAX: usize = 2048;
const MINUTE: Duration = Duration::from_secs(60);

impl Tallies {
    /// Adds the statistics of distributions to a batch. How many distributions there was no room for.
    pub fn expand(&self, batch: &mut Batch, table: &SeriesTable, source: Source) -> u64 {
        if !batch.has_distributions() {
            return 0;
        }
        let (mut expanded, mut without_room) = (0, 0);
        for index in 0..batch.samples.len() {
            let sample = batch.samples[index];
            let Value::Distribution(told) = batch.value(&sample) else { continue };
            if told.granularity != Granularity::Minute || sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT) {
                continue;
            }
            let Some(series) = batch.series(sample.series, table) else { continue };
            let Some(meter) = self.profile.distributed(&series).filter(|meter| meter.can_be_added(told)) else {
                continue;
            };
            let statistic = |(number, part)| {
                let id = series_of(sample.series, number, part, &meter, table, source)?;
                Some((id, meter.value(part, told), flags(part)))
            };
            // The last of them is there if all are.
            let parts = meter.parts().count();
            let is_known = table.recognise(alias(sample.series, parts - 1, table)).is_some();
            let has_room = expanded < DISTRIBUTIONS_MAX && (is_known || table.has_room(source, parts));
            let statistics: Option<Vec<_>> =
                if has_room { meter.parts().enumerate().map(statistic).collect() } else { None };
            without_room += u64::from(statistics.is_none());
            expanded += 1;
            let end = sample.timestamp.saturating_add(MINUTE.as_nanos() as i64);
            for (id, value, flags) in statistics.into_iter().flatten() {
                batch.push(id, end, Value::F64(value), flags);
            }
            batch.samples[index].flags = sample.flags.with(SampleFlags::EXPANDED);
        }
        without_room
    }
}

/// Registries that tell rows tell no buckets of percentiles.
fn flags(part: Part) -> SampleFlags {
    match part {
        Part::UpTo(_) => SampleFlags::EXPANDED.with(SampleFlags::DERIVED),
        Part::Count | Part::Sum | Part::Largest => SampleFlags::EXPANDED,
    }
}

/// What the series of a statistic is known by.
fn alias(of: SeriesId, number: usize, table: &SeriesTable) -> AliasHash {
    let mut name = [0; 12];
    name[..4].copy_from_slice(&of.0.to_le_bytes());
    name[4..].copy_from_slice(&(number as u64).to_le_bytes());
    table.hash(b"a statistic of a distribution").then(table.hash(&name))
}

/// The series of one statistic of the distributions of another.
fn series_of(
    of: SeriesId,
    number: usize,
    part: Part,
    meter: &Distributed<'_>,
    table: &SeriesTable,
    source: Source,
) -> Option<SeriesId> {
    let alias = alias(of, number, table);
    table.recognise(alias).or_else(|| {
        let Series { name, labels, metadata, .. } = meter.series(part)?;
        let labels = labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
        let spec = SeriesSpec { measurement: name.measurement(), field: name.field_key(), labels, metadata };
        table.define(source, alias, Dialect::Influx, spec).ok()
    })
}

#[cfg(test)]
mod tests;
