//! Series that the table has no more, brought back from the log for the batches that name them.
//!
//! Who reads old records meets series that fell idle long ago. They do not return to the table, which is for senders: they
//! would take room from those, and be held by every batch of their time ([`super::Pin`]). A reader keeps them to itself, and
//! what it keeps grows by generations: the batches read in one hold it, and it is freed as a whole with the last of them. An
//! id says where in its generation a series stands, and means nothing elsewhere; read it with [`super::Batch::series`].

use super::table::{AliasHash, Identity, PAIR_BYTES, series_bytes};
use super::{Dialect, IdMap, LabelPair, Series, SeriesId, SeriesSpec, SeriesTable};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A generation of recalled series. It grows while other threads read it.
#[derive(Debug)]
pub struct Recalled {
    table: Arc<SeriesTable>,
    held: RwLock<Held>,
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Held {
    series: Vec<Series>,
    /// Labels are shared within a generation, not with the table: nothing here keeps anything there.
    pairs: IdMap<AliasHash, Arc<LabelPair>>,
}

impl Recalled {
    /// An empty generation, on the account of that table.
    pub fn new(table: &Arc<SeriesTable>) -> Arc<Self> {
        let (table, held, bytes) = (Arc::clone(table), RwLock::default(), AtomicUsize::new(0));
        Arc::new(Self { table, held, bytes })
    }

    /// Adds a series of that identity; none when there are too many for an id, which is far beyond any bound.
    pub fn define(&self, dialect: Dialect, identity: &Identity, spec: SeriesSpec<'_>) -> Option<SeriesId> {
        let mut held = self.held.write();
        let pairs = spec.labels.iter();
        let labels = pairs.map(|(name, value)| self.pair(&mut held, name, value, || new_pair(name, value))).collect();
        self.add(&mut held, identity.series(dialect, labels, spec))
    }

    /// Adds a series of an earlier generation.
    pub fn keep(&self, series: &Series) -> Option<SeriesId> {
        let mut held = self.held.write();
        for pair in &series.labels {
            self.pair(&mut held, &pair.name, &pair.value, || Arc::clone(pair));
        }
        self.add(&mut held, series.clone())
    }

    /// The series of an id that was given by this generation.
    pub fn series(&self, id: SeriesId) -> Option<Series> {
        self.held.read().series.get(id.recalled_place()?).cloned()
    }

    /// Memory of its series and labels, estimated like that of the table.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn add(&self, held: &mut Held, series: Series) -> Option<SeriesId> {
        let id = SeriesId::recalled(held.series.len())?;
        self.charge(series_bytes(&series));
        held.series.push(series);
        Some(id)
    }

    fn pair(&self, held: &mut Held, name: &str, value: &str, pair: impl FnOnce() -> Arc<LabelPair>) -> Arc<LabelPair> {
        let key = self.table.hash(name.as_bytes()).then(self.table.hash(value.as_bytes()));
        let pair = held.pairs.entry(key).or_insert_with(|| {
            self.charge(PAIR_BYTES + name.len() + value.len());
            pair()
        });
        Arc::clone(pair)
    }

    fn charge(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.table.charge_recalled(bytes);
    }
}

impl Drop for Recalled {
    fn drop(&mut self) {
        self.table.release_recalled(self.bytes());
    }
}

fn new_pair(name: &str, value: &str) -> Arc<LabelPair> {
    Arc::new(LabelPair { name: name.into(), value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn spec<'a>(name: &'a str, labels: &[(&'a str, &'a str)]) -> SeriesSpec<'a> {
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        SeriesSpec { measurement: name, field: None, labels, metadata: None }
    }

    #[test]
    fn a_generation_is_on_the_account_until_its_last_holder_is_gone() {
        let table = Arc::new(SeriesTable::default());
        let empty = table.bytes();
        let define = |generation: &Recalled, name| {
            let mut spec = spec(name, &[("b", "2"), ("a", "1")]);
            let identity = table.identify(Dialect::Prometheus, &mut spec);
            generation.define(Dialect::Prometheus, &identity, spec).unwrap()
        };
        let first = Recalled::new(&table);
        let ids = [define(&first, "m"), define(&first, "n")];
        let series = ids.map(|id| first.series(id).unwrap());
        assert!(Arc::ptr_eq(&series[0].labels[0], &series[1].labels[0]), "labels are shared");
        assert_eq!((&*series[0].labels[0].name, series[1].name.measurement()), ("a", "n"));
        assert!(ids.iter().all(|id| id.is_recalled() && table.series(*id).is_none()));

        let second = Recalled::new(&table);
        let kept = second.keep(&series[1]).unwrap();
        let again = second.series(define(&second, "o")).unwrap();
        assert!(Arc::ptr_eq(&again.labels[0], &series[0].labels[0]), "what is kept brings its labels");
        assert_eq!(second.series(kept).unwrap().name.measurement(), "n");
        assert_eq!(table.recalled_bytes(), first.bytes() + second.bytes());
        drop(first);
        assert_eq!(table.recalled_bytes(), second.bytes());
        drop(second);
        assert_eq!((table.recalled_bytes(), table.bytes(), table.len()), (0, empty, 0), "the table is as it was");
    }
}
