//! A batch under construction: series are recognised by the bytes that name them, samples follow.

use super::{Batch, Exemplar, SampleFlags};
use crate::model::table::{AliasHash, Ids, Walk};
use crate::model::{
    Denied, Format, Metadata, SeriesId, SeriesLimits, SeriesSpec, SeriesTable, Source, TimestampNs, Value,
};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// A point in a batch under construction to which it can be taken back.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    samples: usize,
    exemplars: usize,
    metadata: usize,
    starts: usize,
}

impl Mark {
    /// Samples that were in the batch.
    pub fn samples(&self) -> usize {
        self.samples
    }
}

/// Builds a batch from a request: recognises series by the bytes that name them, interns them at first sight.
///
/// Labels that the request's address adds to every series (`extra_label`, Pushgateway grouping, scrape targets) are given
/// at the start: they win over labels of the same name in the body, and they are part of every alias.
#[derive(Debug)]
pub struct BatchBuilder<'t> {
    table: &'t SeriesTable,
    batch: Batch,
    context: AliasHash,
    extra_labels: Vec<(String, String)>,
    source: Source,
    limits: SeriesLimits,
    ids: RefCell<Ids<'t>>,
    walk: RefCell<Walk>,
    /// Length of the bytes that an alias was made of last.
    named: Cell<usize>,
}

impl<'t> BatchBuilder<'t> {
    /// An empty batch for a request in that format.
    pub fn new(table: &'t SeriesTable, format: Format, extra_labels: Vec<(String, String)>) -> Self {
        let mut context = table.hash(format.as_str().as_bytes());
        for (name, value) in &extra_labels {
            context = context.then(table.hash(name.as_bytes())).then(table.hash(value.as_bytes()));
        }
        let batch = Batch::new(format, table.pin());
        Self {
            table,
            batch,
            context,
            extra_labels,
            source: Source::OWN,
            limits: SeriesLimits::NONE,
            ids: RefCell::new(table.ids()),
            walk: RefCell::default(),
            named: Cell::new(0),
        }
    }

    /// The same for a request from elsewhere, whose new series are held to limits.
    #[must_use]
    pub fn sent_by(self, source: Source, limits: SeriesLimits) -> Self {
        Self { source, limits, ..self }
    }

    /// The format of the batch.
    pub fn format(&self) -> Format {
        self.batch.format
    }

    /// The alias of a series named by those bytes, in this format and request context.
    #[inline]
    pub fn alias(&self, bytes: &[u8]) -> AliasHash {
        self.named.set(bytes.len());
        self.context.then(self.table.hash(bytes))
    }

    /// A hash to be joined to an alias with [`AliasHash::then`]: a field key, or the metadata that holds for a family.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> AliasHash {
        self.table.hash(bytes)
    }

    /// The series of an alias, if it was seen before.
    #[inline]
    pub fn recognise(&self, alias: AliasHash) -> Option<SeriesId> {
        self.expected(alias).or_else(|| {
            let id = self.table.recognise(alias)?;
            self.table.lead(&mut self.walk.borrow_mut(), id, alias, self.named.get());
            Some(id)
        })
    }

    /// The series of an alias, if it is the one that came behind the series before when that was last sent.
    #[inline]
    pub fn expected(&self, alias: AliasHash) -> Option<SeriesId> {
        self.table.expected(&mut self.walk.borrow_mut(), alias)
    }

    /// Length of the bytes that name the series expected next, where something is expected. Whoever finds that as many bytes
    /// name it ([`BatchBuilder::expected`]) need not look for their end.
    #[inline]
    pub fn expected_len(&self) -> Option<usize> {
        self.walk.borrow().expected_len()
    }

    /// Interns a series at first sight and remembers its alias.
    pub fn define<'s>(&'s self, alias: AliasHash, mut spec: SeriesSpec<'s>) -> Result<SeriesId, Denied> {
        if !self.extra_labels.is_empty() {
            spec.labels.retain(|(name, _)| self.extra_labels.iter().all(|(extra, _)| extra != name));
            let given = self.extra_labels.iter().filter(|(_, value)| !value.is_empty());
            spec.labels.extend(given.map(|(name, value)| (Cow::from(name.as_str()), Cow::from(value.as_str()))));
        }
        self.limits.check(&spec)?;
        let (ids, dialect) = (&mut self.ids.borrow_mut(), self.batch.format.dialect());
        let id = self.table.define_among(ids, self.source, alias, dialect, spec)?;
        self.table.lead(&mut self.walk.borrow_mut(), id, alias, self.named.get());
        Ok(id)
    }

    /// Appends a sample.
    #[inline]
    pub fn push(&mut self, series: SeriesId, timestamp: TimestampNs, value: Value<'_>, flags: SampleFlags) {
        self.batch.push(series, timestamp, value, flags);
    }

    /// Gives the sample pushed last its start timestamp.
    pub fn start_timestamp(&mut self, start: TimestampNs) {
        if let Some(last) = self.batch.samples.len().checked_sub(1) {
            self.batch.starts.push((last as u32, start));
        }
    }

    /// Gives an earlier sample, by its index, its start timestamp (OpenMetrics tells it after the sample).
    pub fn start_timestamp_of(&mut self, index: usize, start: TimestampNs) {
        let index = index as u32;
        match self.batch.starts.binary_search_by_key(&index, |(at, _)| *at) {
            Ok(at) => self.batch.starts[at].1 = start,
            Err(at) => self.batch.starts.insert(at, (index, start)),
        }
    }

    /// Appends an exemplar.
    pub fn exemplar(&mut self, exemplar: Exemplar) {
        self.batch.exemplars.push(exemplar);
    }

    /// Appends metadata that came without series. Metadata already known to the table is not repeated in every batch,
    /// and what the table has no room to remember is not carried: outputs remember it too. The
    /// table learns it from whoever appends the batch: what it knew of a batch that is lost would not be told again.
    pub fn metadata(&mut self, metadata: Metadata) {
        if !self.table.knows(&metadata) && self.table.has_room_for_family(self.source, &metadata) {
            self.batch.metadata.push(Arc::new(metadata));
        }
    }

    /// Samples so far.
    pub fn samples(&self) -> usize {
        self.batch.samples.len()
    }

    /// The place to which [`BatchBuilder::take_back`] can return.
    pub fn mark(&self) -> Mark {
        Mark {
            samples: self.batch.samples.len(),
            exemplars: self.batch.exemplars.len(),
            metadata: self.batch.metadata.len(),
            starts: self.batch.starts.len(),
        }
    }

    /// Gives the samples pushed since the mark their timestamp, and these facts besides: line protocol tells the time of a
    /// row behind its fields.
    pub fn stamp(&mut self, mark: Mark, timestamp: TimestampNs, flags: SampleFlags) {
        for sample in self.batch.samples.iter_mut().skip(mark.samples) {
            sample.timestamp = timestamp;
            sample.flags = sample.flags.with(flags);
        }
    }

    /// Forgets what was pushed since the mark: a row or a request that turned out to be bad further on. Must not be used
    /// across a [`BatchBuilder::start_timestamp_of`] that reached behind the mark.
    pub fn take_back(&mut self, mark: Mark) {
        self.batch.samples.truncate(mark.samples);
        self.batch.exemplars.truncate(mark.exemplars);
        self.batch.metadata.truncate(mark.metadata);
        self.batch.starts.truncate(mark.starts);
    }

    /// The finished batch.
    pub fn finish(mut self) -> Batch {
        // It may wait long, in the memory of the log and for slow outputs.
        if self.batch.samples.capacity() > self.batch.samples.len() / 4 * 5 {
            self.batch.samples.shrink_to_fit();
        }
        self.batch.runs = self.table.meet_runs(&self.batch.samples);
        self.batch
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::spec;
    use super::*;

    #[test]
    fn labels_of_the_address_win_and_empty_ones_remove() {
        let table = SeriesTable::default();
        let extra = vec![("job".into(), "batch".into()), ("gone".into(), String::new())];
        let builder = BatchBuilder::new(&table, Format::PrometheusText, extra);
        let alias = builder.alias(b"m{job=...}");
        let id = builder.define(alias, spec("m", &[("job", "own"), ("gone", "x"), ("a", "b")])).unwrap();
        let series = table.series(id).unwrap();
        assert_eq!(series.label("job"), Some("batch"));
        assert_eq!(series.label("gone"), None);
        assert_eq!(series.label("a"), Some("b"));
        let plain = BatchBuilder::new(&table, Format::PrometheusText, Vec::new());
        assert_eq!(plain.recognise(plain.alias(b"m{job=...}")), None, "another address, another alias");
    }
}
