//! What an output knows of a series after its first sight: its rendering, its lane, or why it is not sent.
//!
//! Translation between the dialects of Micrometer, relabelling, sanitising, escaping and loss decisions happen here, once a
//! series. The memo is a cache bounded by the series table, whose dead series it forgets: it may be emptied at any time and fills
//! again. Of recalled series it knows one generation. The lane comes from what the series is at the destination, so that sources
//! which meet there, by relabelling or under new metadata, keep their order.

use super::change::{Change, told};
use super::encoding::Encoding;
use super::strings;
use crate::micrometer::Profile;
use crate::model::{
    Batch, Dialect, FamilyChanges, IdTable, LabelPair, Loss, Metadata, Recalled, Sample, Series, SeriesId, SeriesName,
    SeriesTable,
};
use crate::relabel;
use crate::wire::prometheus_names::{self, Alphabet, Style};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Weak};
use xxhash_rust::xxh3::xxh3_64;

/// A series on its way out, or the reason why none of its samples is sent.
pub type Slot<R> = Result<Sent<R>, Loss>;

/// A series on its way out.
#[derive(Debug)]
pub struct Sent<R> {
    /// As the format writes it.
    pub rendered: Arc<R>,
    /// What becomes of its samples.
    pub change: Change,
    lane: u32,
}

impl<R> Sent<R> {
    /// The lane it goes by.
    #[inline]
    pub fn lane(&self) -> usize {
        self.lane as usize
    }
}

/// Slots kept beyond a quarter more than there are live series, before those of dead ones are looked for.
const SLOTS_SPARE: usize = 4096;
/// Estimated cost of a claim. As many as fill a generation of recalled series are kept of series that are not in the table,
/// since an output that catches up meets many generations.
const CLAIM_BYTES: usize = 64;

/// See the module's documentation.
pub struct Memo<E: Encoding> {
    slots: IdTable<Slot<E::Rendered>>,
    /// The same for the recalled series of the present generation. It is not held: batches do that.
    recalled_slots: IdTable<Slot<E::Rendered>>,
    recalled: Weak<Recalled>,
    /// Which series first became an identity at the destination by being altered, both as hashes. They outlive the slots: a
    /// name does not change hands because metadata changed.
    claims: HashMap<u64, u64>,
    collisions: u64,
    options: E::Options,
    table: Arc<SeriesTable>,
    profile: Arc<Profile>,
    families_version: u64,
    rules: Vec<relabel::Rule>,
    lanes: usize,
    /// How often it forgot series that are still there.
    version: u64,
    /// Metadata of series resolved since [`Memo::learned`] was asked.
    learned: Vec<Arc<Metadata>>,
}

impl<E: Encoding> Memo<E> {
    /// An empty memo of an output with that many lanes.
    pub fn new(
        options: E::Options,
        table: Arc<SeriesTable>,
        profile: Arc<Profile>,
        rules: Vec<relabel::Rule>,
        lanes: usize,
    ) -> Self {
        let families_version = table.families_version();
        Self {
            slots: IdTable::default(),
            recalled_slots: IdTable::default(),
            recalled: Weak::new(),
            claims: HashMap::new(),
            collisions: 0,
            options,
            table,
            profile,
            families_version,
            rules,
            lanes,
            version: 0,
            learned: Vec::new(),
        }
    }

    /// Forgets what may be out of date; to be called before each batch.
    pub fn refresh(&mut self, batch: &Batch) {
        let recalled = batch.recalled().map(Arc::downgrade).unwrap_or_default();
        if !Weak::ptr_eq(&recalled, &self.recalled) {
            self.recalled = recalled;
            self.recalled_slots = IdTable::default();
        }
        if E::joins_families(&self.options) && self.table.families_version() != self.families_version {
            self.forget_changed_families();
        }
        let slots_max = self.table.len() * 5 / 4 + SLOTS_SPARE;
        if self.slots.len() > slots_max {
            let table = &self.table;
            self.slots.retain(|id, _| table.series(id).is_some());
        }
        if self.claims.len() > slots_max * 2 + self.table.recalled_bytes_max() / CLAIM_BYTES {
            self.slots = IdTable::default();
            self.recalled_slots = IdTable::default();
            self.claims = HashMap::new();
            self.version += 1;
        }
    }

    /// Differs when what it said of series of the table may not hold any more.
    pub fn version(&self) -> u64 {
        self.version
    }

    #[cold]
    fn forget_changed_families(&mut self) {
        let (version, changes) = self.table.families_changed_since(self.families_version);
        self.families_version = version;
        self.version += 1;
        self.recalled_slots = IdTable::default();
        match changes {
            // A name that relabelling gave is not known here.
            FamilyChanges::Only(changed) if self.rules.is_empty() => {
                let table = &self.table;
                let concerns = |series: &Series| {
                    let name = series.name.measurement();
                    let stem = name.rsplit_once('_').map_or(name, |(stem, _)| stem);
                    series.metadata.is_none() && (changed.contains(name) || changed.contains(stem))
                };
                self.slots.retain(|id, _| table.series(id).is_some_and(|series| !concerns(&series)));
            }
            FamilyChanges::Only(_) | FamilyChanges::Any => self.slots = IdTable::default(),
        }
    }

    /// The samples of a batch, those of rows with strings in the series that the output gives them.
    pub fn samples<'b>(&self, batch: &'b Batch) -> Cow<'b, [Sample]> {
        strings::carried(batch, &self.table, E::names(&self.options))
    }

    /// What is known of a series.
    #[inline]
    pub fn slot(&mut self, id: SeriesId) -> &Slot<E::Rendered> {
        if self.slots_of(id).get(id).is_none() {
            let slot = self.resolve(id);
            self.slots_of(id).insert(id, slot);
        }
        self.slots_of(id).get_or_insert_with(id, || Err(Loss::LogDamaged))
    }

    #[inline]
    fn slots_of(&mut self, id: SeriesId) -> &mut IdTable<Slot<E::Rendered>> {
        if id.is_recalled() { &mut self.recalled_slots } else { &mut self.slots }
    }

    /// The metadata that new series brought, for formats that send it apart from series.
    pub fn learned(&mut self) -> Vec<Arc<Metadata>> {
        std::mem::take(&mut self.learned)
    }

    #[cold]
    fn resolve(&mut self, id: SeriesId) -> Slot<E::Rendered> {
        // A batch pins its series, so this is there; were it not, the sample would still be counted.
        let series = if id.is_recalled() {
            self.recalled.upgrade().and_then(|recalled| recalled.series(id))
        } else {
            self.table.series(id)
        };
        let series = series.ok_or(Loss::LogDamaged)?;
        let own_dialect = series.dialect;
        let (series, change) = told(&self.profile, series, E::DIALECT, E::STARTS)?;
        let is_translated = series.dialect != own_dialect;
        let relabelled =
            if self.rules.is_empty() { None } else { Some(relabelled(&series, &self.rules, E::names(&self.options))?) };
        let series = relabelled.as_deref().unwrap_or(&series);
        if let Some(metadata) = &series.metadata
            && self.learned.last() != Some(metadata)
        {
            self.learned.push(Arc::clone(metadata));
        }
        let rendered = E::render(series, &self.options, &self.table)?;
        self.claim(series, &rendered, is_translated)?;
        let lane = (xxh3_64(&E::order(&rendered)) % self.lanes as u64) as u32;
        Ok(Sent { rendered: Arc::new(rendered), change, lane })
    }

    /// Two series that meet under one name at the destination because names were altered or translated, or because measurement
    /// and field join to the same name, must not be mixed: the first keeps the name. One that has the name by itself is no stranger:
    /// applications send a series in several dialects.
    fn claim(&mut self, series: &Series, rendered: &E::Rendered, is_translated: bool) -> Result<(), Loss> {
        let losses = E::losses(rendered);
        let altered = is_translated
            || series.dialect == Dialect::Influx
            || [Loss::NameSanitised, Loss::LabelSanitised, Loss::Truncated]
                .into_iter()
                .any(|loss| losses.contains(loss));
        if !altered {
            return Ok(());
        }
        let mine = hash(&(series.lane_key, series.name.field_key()));
        if *self.claims.entry(hash(&*E::identity(rendered))).or_insert(mine) != mine {
            self.collisions += 1;
            // The counter has all of them; the log has some to find the cause by.
            if self.collisions.is_power_of_two() {
                let collisions = self.collisions;
                tracing::warn!(name = ?series.name, collisions, "another series already has this name at the destination; its samples are dropped");
            }
            return Err(Loss::NameCollision);
        }
        Ok(())
    }
}

/// A series after relabelling. `__name__` is its name in Prometheus's terms; a rule that changes it makes the series a
/// Prometheus one, otherwise measurement and field stay as they are.
fn relabelled(series: &Series, rules: &[relabel::Rule], style: &Style) -> Result<Arc<Series>, Loss> {
    // A name that Prometheus cannot have (an internal one of Wavefront) is seen by the rules as it is.
    let name = match prometheus_names::translate(series, Alphabet::Utf8, style) {
        Ok(translated) => translated.name.into_owned(),
        Err(_) => series.name.measurement().to_owned(),
    };
    let mut labels = vec![("__name__".to_owned(), name.clone())];
    labels.extend(series.labels.iter().map(|pair| (pair.name.to_string(), pair.value.to_string())));
    if relabel::apply(rules, &mut labels) == relabel::Verdict::Drop {
        return Err(Loss::Relabel);
    }
    labels.retain(|(_, value)| !value.is_empty());
    labels.sort();
    let new_name = labels.iter().position(|(key, _)| key == "__name__").map(|at| labels.remove(at).1);
    let new_name = new_name.ok_or(Loss::Relabel)?;
    let (dialect, name) = if new_name == name {
        (series.dialect, series.name.clone())
    } else {
        (Dialect::Prometheus, SeriesName::metric(&new_name))
    };
    let lane_key = hash(&(name.measurement(), &labels));
    let labels = labels
        .into_iter()
        .map(|(name, value)| Arc::new(LabelPair { name: name.into(), value: value.into() }))
        .collect();
    Ok(Arc::new(Series { dialect, name, labels, metadata: series.metadata.clone(), lane_key }))
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, MetricType, SeriesSpec, Source};
    use crate::wire::{remote_write, remote_write2};

    /// Which of the series `x_total`, `x` and `y` are rendered anew after the type of `x` was told.
    fn rendered_anew<E: Encoding>(options: E::Options, rules: Vec<relabel::Rule>) -> [bool; 3] {
        let table = Arc::new(SeriesTable::default());
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let define = |name: &str| {
            let spec = SeriesSpec { measurement: name, field: None, labels: Vec::new(), metadata: None };
            builder.define(builder.alias(name.as_bytes()), spec).unwrap()
        };
        let ids = ["x_total", "x", "y"].map(define);
        let batch = builder.finish();
        let mut memo = Memo::<E>::new(options, Arc::clone(&table), Arc::default(), rules, 1);
        let mut places = || {
            memo.refresh(&batch);
            ids.map(|id| Arc::clone(&memo.slot(id).as_ref().unwrap().rendered))
        };
        let before = places();
        let (metric_type, family) = (MetricType::Counter, "x".into());
        table.learn(Source::OWN, Metadata { family, metric_type, help: "".into(), unit: "".into() }).unwrap();
        let after = places();
        [0, 1, 2].map(|at| !Arc::ptr_eq(&before[at], &after[at]))
    }

    #[test]
    fn a_name_does_not_change_hands_between_generations_of_recalled_series() {
        let table = Arc::new(SeriesTable::default());
        let mut memo = Memo::<remote_write::encode::Encoder>::new(
            remote_write::encode::Options::default(),
            Arc::clone(&table),
            Arc::default(),
            Vec::new(),
            1,
        );
        let mut refusals_of = |series: &mut dyn Iterator<Item = (String, &str)>| {
            let generation = Recalled::new(&table);
            let ids: Vec<_> = series
                .map(|(measurement, field)| {
                    let (field, labels, metadata) = (Some(field), Vec::new(), None);
                    let mut spec = SeriesSpec { measurement: &measurement, field, labels, metadata };
                    let identity = table.identify(Dialect::Influx, &mut spec);
                    generation.define(Dialect::Influx, &identity, spec).unwrap()
                })
                .collect();
            let batch = Batch::new(Format::InfluxLine, table.pin()).recalling(generation);
            memo.refresh(&batch);
            let refused = ids.iter().filter_map(|id| memo.slot(*id).as_ref().err().copied());
            refused.collect::<Vec<_>>()
        };
        let others = (0..SLOTS_SPARE * 3).map(|number| (format!("other_{number}"), "v"));
        assert_eq!(refusals_of(&mut std::iter::once(("a".to_owned(), "b_c")).chain(others)), []);
        assert_eq!(refusals_of(&mut std::iter::once(("a_b".to_owned(), "c"))), [Loss::NameCollision]);
    }

    #[test]
    fn a_name_that_two_series_are_altered_to_is_the_first_ones_whoever_has_it_by_itself() {
        let table = Arc::new(SeriesTable::default());
        let define = |format, measurement, field| {
            let builder = BatchBuilder::new(&table, format, Vec::new());
            let spec = SeriesSpec { measurement, field, labels: Vec::new(), metadata: None };
            builder.define(builder.alias(measurement.as_bytes()), spec).unwrap()
        };
        let by_itself = define(Format::RemoteWrite, "a_b_c", None);
        let first = define(Format::InfluxLine, "a", Some("b_c"));
        let second = define(Format::InfluxLine, "a_b", Some("c"));
        let options = remote_write::encode::Options::default();
        let mut memo =
            Memo::<remote_write::encode::Encoder>::new(options, Arc::clone(&table), Arc::default(), Vec::new(), 1);
        let refused = [by_itself, first, second].map(|id| memo.slot(id).as_ref().err().copied());
        assert_eq!(refused, [None, None, Some(Loss::NameCollision)]);
    }

    #[test]
    fn a_family_that_changes_concerns_its_own_series_only() {
        type One = remote_write::encode::Encoder;
        type Two = remote_write2::encode::Encoder;
        let spec = relabel::RuleSpec { target_label: Some("a".to_owned()), ..relabel::RuleSpec::default() };
        let rules = || vec![relabel::Rule::try_new(spec.clone()).unwrap()];
        assert_eq!(
            rendered_anew::<One>(remote_write::encode::Options::default(), Vec::new()),
            [false; 3],
            "1.0 sends types apart"
        );
        assert_eq!(rendered_anew::<Two>(remote_write2::encode::Options::default(), Vec::new()), [true, true, false]);
        assert_eq!(
            rendered_anew::<Two>(remote_write2::encode::Options::default(), rules()),
            [true; 3],
            "rules may rename anything"
        );
    }
}
