//! The bucket of all: line protocol of Micrometer tells the buckets with a bound and leaves out the one without, which is the count of
//! the row. Prometheus cannot do without it, so it is made here, as a sample of the gateway's own behind the others
//! ([`SampleFlags::DERIVED`]): counted as accepted, and left out where it goes to line protocol again.

use crate::micrometer::{OfBuckets, Profile};
use crate::model::{Batch, Dialect, IdMap, Restated, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Value};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// The last bucket that came of a meter with its tags, and whether it was the one of all.
    meters: HashMap<u64, (SeriesId, bool)>,
    /// Which meter a count is of.
    counts: IdMap<SeriesId, u64>,
    hasher: RandomState,
}

impl Buckets {
    /// Takes up a series at its first sight.
    #[cold]
    pub(super) fn learn(&mut self, id: SeriesId, series: &Series, profile: &Profile) {
        let Some((name, part)) = profile.of_buckets(series) else { return };
        let tags = series.labels.iter().filter(|pair| !matches!(&*pair.name, "metric_type" | "le"));
        let tags: Vec<_> = tags.map(|pair| (&*pair.name, &*pair.value)).collect();
        let meter = self.hasher.hash_one((name, tags));
        match part {
            OfBuckets::Count => _ = self.counts.insert(id, meter),
            OfBuckets::BucketOfAll => _ = self.meters.insert(meter, (id, true)),
            OfBuckets::Bucket => _ = self.meters.entry(meter).or_insert((id, false)),
        }
    }

    /// Adds the buckets of all to a batch, with what they say.
    pub(super) fn complete(&self, batch: &mut Batch, restated: &mut Vec<(u32, Restated)>, table: &SeriesTable) {
        if self.meters.is_empty() {
            return;
        }
        for at in 0..restated.len() {
            let (index, sum) = restated[at];
            let Some(sample) = batch.samples.get(index as usize).copied() else { continue };
            let meter = self.counts.get(&sample.series).and_then(|meter| self.meters.get(meter));
            if meter.is_none_or(|(_, of_all)| *of_all) {
                continue;
            }
            let Value::F64(count) = batch.value(&sample) else { continue };
            if let Some(all) = of_all(sample.series, batch, table) {
                restated.push((batch.samples.len() as u32, sum));
                let expanded = sample.flags.contains(SampleFlags::EXPANDED);
                let flags = if expanded { SampleFlags::EXPANDED } else { SampleFlags::NONE };
                batch.push(all, sample.timestamp, Value::F64(count), SampleFlags::DERIVED.with(flags));
            }
        }
    }

    pub(super) fn forget_retired(&mut self, table: &SeriesTable) {
        self.meters.retain(|_, (id, _)| table.is_live(*id));
        self.counts.retain(|id, _| table.is_live(*id));
    }
}

/// The bucket of all beside a count.
fn of_all(count: SeriesId, batch: &Batch, table: &SeriesTable) -> Option<SeriesId> {
    let alias = table.hash(b"the bucket of all").then(table.hash(&count.0.to_le_bytes()));
    table.recognise(alias).or_else(|| {
        let series = batch.series(count, table)?;
        let own = series.labels.iter().filter(|pair| !matches!(&*pair.name, "metric_type" | "le"));
        let own = own.map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value)));
        let labels = own.chain([("le".into(), "+Inf".into()), ("metric_type".into(), "gauge".into())]).collect();
        let measurement = format!("{}_histogram", series.name.measurement());
        let spec = SeriesSpec { measurement: &measurement, field: Some("value"), labels, metadata: None };
        table.define(table.account(b"buckets of all"), alias, Dialect::Influx, spec).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Tallies};
    use crate::model::{BatchBuilder, Format, SeriesTable};
    use crate::wire::influx_line::decode;
    use std::sync::Arc;

    /// What a request says: field, bound, value, and its sum.
    fn told(tallies: &Tallies, table: &SeriesTable, rows: &str) -> Vec<String> {
        let mut builder = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
        assert_eq!(decode::decode(rows.as_bytes(), &decode::Options::default(), &mut builder).refused(), 0);
        let mut batch = builder.finish();
        tallies.restate(&mut batch, table, Origin::default(), 0);
        let show = |(index, restated): &(u32, crate::model::Restated)| {
            let sample = &batch.samples[*index as usize];
            let series = table.series(sample.series).unwrap();
            let bound = series.label("le").unwrap_or_default();
            format!("{:?}{bound} {:?} {}", series.name, batch.value(sample), restated.value)
        };
        batch.restated.iter().map(show).collect()
    }

    #[test]
    fn a_meter_with_buckets_has_one_of_all_unless_it_sends_that() {
        let (tallies, table) = (Tallies::new(Arc::default()), SeriesTable::default());
        let tallies = Tallies { makes_buckets: true, ..tallies };
        let row = |time: i64, all: &str| {
            format!(
                "a,uri=/,metric_type=histogram count=3,sum=9 {time}\na_histogram,uri=/,le=50,metric_type=gauge value=2 {time}\n\
                 a,uri=/x,metric_type=histogram count=7 {time}\n{all}"
            )
        };
        let all = "\"a_histogram\".\"value\"+Inf F64(3.0)";
        let plain = "\"a\".\"count\" F64(3.0)";
        let first = told(&tallies, &table, &row(1, ""));
        assert_eq!(
            (first.len(), first[0].as_str(), first[4].as_str()),
            (5, &*format!("{plain} 3"), &*format!("{all} 3"))
        );
        let second = told(&tallies, &table, &row(2, ""));
        assert_eq!((second.len(), second[4].as_str()), (5, &*format!("{all} 6")), "one known, one of another uri");
        let own = "a_histogram,uri=/,le=+Inf,metric_type=gauge value=3 3\n";
        assert_eq!(told(&tallies, &table, &row(3, own)).len(), 5, "its own, and no other");
    }
}
