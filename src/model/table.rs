//! The series table: recognises a series by the bytes that name it and interns it at first sight.
//!
//! * An *alias* is the 128-bit keyed hash of the bytes with which a request names a series. A known alias gives the
//!   [`SeriesId`] without looking at a label. The hash key is drawn at start, so a sender cannot aim for collisions; two
//!   names meet by accident with a probability of 2^-128 a pair.
//! * An *identity* is the hash of name, sorted labels and declared metadata: other spellings of a series find it there.
//! * A series is held as its parts in a page (`trail`): its metric and its list of labels, which most series share with
//!   others, and the alias it was first seen under. What leads from hashes to ids holds nothing but ids (`index`); only
//!   further aliases of a series have entries of their own. A [`Series`] is made for those who ask.
//! * The table is bounded in bytes ([`TableBounds`]). [`SeriesTable::sweep`] retires series not seen for a while, sooner
//!   when the table is crowded; a retired series stays readable until every batch made before its retirement is gone
//!   ([`Pin`]). When nothing is idle, a new series is refused ([`Denied`]) and known ones go on. What is read back from the
//!   log is not in it: readers find series here and keep none here ([`super::Recalled`]).
//! * Every entry is charged to the [`Source`] that sent it first. A source gets new series only while it holds less than
//!   [`SHARE`] times what is free, the dynamic threshold of shared-memory switches: one greedy source ends at 4/5 of the
//!   table, two at 4/9 each, and there is always room for those that hold little. Nobody is held back in a table that is
//!   nearly empty, and there is nothing to configure.
//! * Locks are taken in one order: the shard of an identity, then those of metrics, labels, pairs, aliases and spellings, and
//!   then the trail, which asks nobody.

mod hash;
mod ids;
mod index;
mod sweep;
#[cfg(test)]
mod tests;
mod trail;

pub use hash::{AliasHash, IdHasher, IdMap};
pub use ids::Ids;
pub use sweep::{Epoch, Pin};
pub use trail::Walk;

use super::families::{Families, FamilyChanges, FamilyCounts};
use super::runs::{Run, Runs};
use super::sources::{Holding, Source, Sources};
use super::{Denied, Dialect, Label, LabelPair, Labels, Metadata, Sample, Series, SeriesId, SeriesName, SeriesSpec};
use hash::ReadyMap;
use ids::Supply;
use index::Index;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use sweep::Retired;
use trail::{Definition, Metric, Trail};
use xxhash_rust::xxh3::xxh3_128_with_secret;

/// How large the series table may grow.
#[derive(Clone, Copy, Debug)]
pub struct TableBounds {
    /// Memory of series, labels and aliases together, estimated.
    pub bytes_max: usize,
    /// Sweeps without a sample after which a series is idle.
    pub idle_sweeps: u32,
    /// Series that one source may hold.
    pub series_per_source_max: usize,
}

impl Default for TableBounds {
    fn default() -> Self {
        Self { bytes_max: 2 << 30, idle_sweeps: 60, series_per_source_max: usize::MAX }
    }
}

/// What tells a series from all others, however it is spelled.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The hash of all of it.
    pub hash: AliasHash,
    /// The hashes of all but its labels, and of these.
    metric: AliasHash,
    labels: AliasHash,
    lane_key: u64,
}

impl Identity {
    /// The series itself, with the labels of `spec` interned.
    pub(super) fn series(&self, dialect: Dialect, pairs: Box<[Arc<LabelPair>]>, spec: SeriesSpec<'_>) -> Series {
        let (name, labels) = (spec.name(), Labels::new(self.labels, pairs));
        Series { dialect, name, labels, metadata: spec.metadata, lane_key: self.lane_key }
    }
}

/// What an alias leads to that is not the first of its series, the sweep in which it was last asked for, and who sent it.
#[derive(Debug)]
struct Spelling {
    series: SeriesId,
    seen: AtomicU32,
    source: Source,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SeriesTable {
    secret: [u8; 192],
    bounds: TableBounds,
    aliases: Index,
    /// The aliases of series beside those they were first seen under.
    spellings: ReadyMap<AliasHash, Spelling>,
    identities: Index,
    trail: Trail,
    metrics: ReadyMap<AliasHash, (Arc<Metric>, Source)>,
    labels: ReadyMap<AliasHash, (Labels, Source)>,
    pairs: ReadyMap<AliasHash, (Arc<LabelPair>, Source)>,
    families: Families,
    runs: Runs,
    supply: Supply,
    sources: Sources,
    /// Whether a series was refused for want of room since the last sweep, or memory was short.
    refused: AtomicBool,
    sweeps: AtomicU32,
    epoch: Mutex<Arc<Epoch>>,
    retired: Mutex<VecDeque<Retired>>,
    /// Memory of all [`Recalled`] together.
    recalled: AtomicUsize,
}

/// Estimated cost of an alias that is not the first of its series: key, value, and the map's own overhead.
const SPELLING_BYTES: usize = 48;
/// Estimated cost of a series beside its parts: its place in a page, and in the indexes of aliases and identities.
const SERIES_BYTES: usize = 80;
/// Estimated cost of a metric or a list of labels beside its texts or pairs.
const PART_BYTES: usize = 160;
/// Estimated cost of a label pair beside its text.
pub(super) const PAIR_BYTES: usize = 96;
/// A source that holds so many times what is free gets no new series.
const SHARE: usize = 4;
/// Ids are never reused: a new series is refused beyond this one. Half of those behind it are for
/// [`SeriesTable::define_unbounded`], half for recalled series ([`SeriesId::recalled`]).
const LAST_ID: u32 = u32::MAX - (1 << 28);
/// A generation of recalled series is full with this part of the table's bound.
const RECALLED_PART: usize = 16;
/// It is full with so many bytes, however large the table may be.
const RECALLED_BYTES_MAX: usize = 64 << 20;

impl Default for SeriesTable {
    fn default() -> Self {
        Self::new(TableBounds::default())
    }
}

impl SeriesTable {
    /// An empty table with a fresh hash key.
    pub fn new(bounds: TableBounds) -> Self {
        let mut secret = [0; 192];
        fastrand::Rng::new().fill(&mut secret);
        Self {
            secret,
            bounds,
            aliases: Index::default(),
            spellings: ReadyMap::default(),
            identities: Index::default(),
            trail: Trail::default(),
            metrics: ReadyMap::default(),
            labels: ReadyMap::default(),
            pairs: ReadyMap::default(),
            families: Families::default(),
            runs: Runs::default(),
            supply: Supply::default(),
            sources: Sources::default(),
            refused: AtomicBool::new(false),
            sweeps: AtomicU32::new(0),
            epoch: Mutex::new(Arc::new(Epoch)),
            retired: Mutex::new(VecDeque::new()),
            recalled: AtomicUsize::new(0),
        }
    }

    /// The same with runs of so many series.
    #[cfg(test)]
    pub(crate) fn with_runs(self, lengths: std::ops::RangeInclusive<usize>) -> Self {
        Self { runs: Runs::new(lengths), ..self }
    }

    /// The keyed hash of some bytes.
    #[inline]
    pub fn hash(&self, bytes: &[u8]) -> AliasHash {
        AliasHash(xxh3_128_with_secret(bytes, &self.secret))
    }

    /// Keeps the series of now readable for as long as the pin lives.
    pub fn pin(&self) -> Pin {
        Arc::clone(&self.epoch.lock())
    }

    /// The series of an alias, if it was seen before.
    #[inline]
    pub fn recognise(&self, alias: AliasHash) -> Option<SeriesId> {
        let sweep = self.sweeps.load(Ordering::Relaxed);
        self.aliases.find(alias, |id| self.trail.meet(id, alias, sweep)).or_else(|| self.spelled(alias, sweep))
    }

    #[cold]
    fn spelled(&self, alias: AliasHash, sweep: u32) -> Option<SeriesId> {
        let spelling = self.spellings.get(&alias)?;
        spelling.seen.store(sweep, Ordering::Relaxed);
        self.trail.see(spelling.series, sweep);
        Some(spelling.series)
    }

    /// The series of an alias for one who walks along the series of a request, if that is the one that came behind the series
    /// before when this was last sent.
    #[inline]
    pub fn expected(&self, walk: &mut Walk, alias: AliasHash) -> Option<SeriesId> {
        walk.go_on(&self.trail, alias, self.sweeps.load(Ordering::Relaxed))
    }

    /// Tells a walk of a series that was not expected, its alias, and how many bytes named it.
    pub fn lead(&self, walk: &mut Walk, id: SeriesId, alias: AliasHash, named: usize) {
        walk.turn(&self.trail, id, alias, named);
    }

    /// The runs among samples that were sent, and where each begins.
    pub(super) fn meet_runs(&self, samples: &[Sample]) -> Vec<(u32, Arc<Run>)> {
        self.runs.meet(samples, self.sweeps.load(Ordering::Relaxed))
    }

    /// The same for samples that are read again, which make no run and keep none.
    pub(super) fn find_runs(&self, samples: &[Sample]) -> Vec<(u32, Arc<Run>)> {
        self.runs.find(samples)
    }

    /// The account of an address.
    pub fn source(&self, address: IpAddr) -> Source {
        let hash = match address.to_canonical() {
            IpAddr::V4(address) => self.hash(&address.octets()),
            IpAddr::V6(address) => self.hash(&address.octets()[..8]),
        };
        Source::of(hash.0)
    }

    /// The account of something in the gateway that makes series of its own and is held to a share like a sender.
    pub fn account(&self, name: &[u8]) -> Source {
        Source::of(self.hash(name).0)
    }

    /// What a source holds.
    pub fn holding(&self, source: Source) -> Holding {
        self.sources.holding(source)
    }

    /// Interns a series and remembers the alias it came under. Sorts the labels.
    pub fn define(
        &self,
        source: Source,
        alias: AliasHash,
        dialect: Dialect,
        spec: SeriesSpec<'_>,
    ) -> Result<SeriesId, Denied> {
        self.define_among(&mut self.supply.ids(), source, alias, dialect, spec)
    }

    /// Ids for the new series of one request ([`SeriesTable::define_among`]).
    pub fn ids(&self) -> Ids<'_> {
        self.supply.ids()
    }

    /// Like [`SeriesTable::define`], for a series that is defined among others.
    pub fn define_among(
        &self,
        ids: &mut Ids<'_>,
        source: Source,
        alias: AliasHash,
        dialect: Dialect,
        spec: SeriesSpec<'_>,
    ) -> Result<SeriesId, Denied> {
        self.has_room_for(source).inspect_err(|_| self.refused.store(true, Ordering::Relaxed))?;
        Ok(self.intern(ids, source, alias, dialect, spec))
    }

    fn has_room_for(&self, source: Source) -> Result<(), Denied> {
        let TableBounds { bytes_max, series_per_source_max, .. } = self.bounds;
        let free = bytes_max.saturating_sub(self.bytes());
        if free == 0 || self.supply.next() > LAST_ID {
            return Err(Denied::TableFull { bytes_max });
        }
        let Holding { bytes, series } = self.sources.holding(source);
        if source == Source::OWN {
            return Ok(());
        }
        if series >= series_per_source_max {
            return Err(Denied::SeriesPerSource { expected: series_per_source_max });
        }
        if bytes >= free.saturating_mul(SHARE) {
            return Err(Denied::SourceShare { bytes, free });
        }
        Ok(())
    }

    /// Whether a source finds room for so many series that belong together, of which none is to be there without the others.
    pub fn has_room(&self, source: Source, series: usize) -> bool {
        let free = self.bounds.bytes_max.saturating_sub(self.bytes());
        let (holding, bytes) = (self.sources.holding(source), series.saturating_mul(SERIES_BYTES + PART_BYTES));
        holding.series.saturating_add(series) <= self.bounds.series_per_source_max
            && bytes < free
            && holding.bytes + bytes < (free - bytes).saturating_mul(SHARE)
    }

    /// Like [`SeriesTable::define`], but even when the table is full: for series whose end has to be told. The caller bounds
    /// their growth.
    pub fn define_unbounded(
        &self,
        source: Source,
        alias: AliasHash,
        dialect: Dialect,
        spec: SeriesSpec<'_>,
    ) -> SeriesId {
        self.intern(&mut self.supply.ids(), source, alias, dialect, spec)
    }

    fn intern(
        &self,
        ids: &mut Ids<'_>,
        source: Source,
        alias: AliasHash,
        dialect: Dialect,
        mut spec: SeriesSpec<'_>,
    ) -> SeriesId {
        let identity = self.identify(dialect, &mut spec);
        let sweep = self.sweeps.load(Ordering::Relaxed);
        // Locked to the end, so that no sweep retires the series between this and its new alias.
        let mut known = self.identities.lock(identity.hash);
        if let Some(id) = known.find(identity.hash, |id| self.is(id, identity.hash)) {
            self.trail.see(id, sweep);
            self.spell(source, alias, id, sweep);
            return id;
        }
        let id = ids.take();
        let labels = self.labels(source, &identity, &spec.labels);
        let definition = Definition { metric: self.metric(source, &identity, dialect, spec), labels };
        self.sources.charge(source, SERIES_BYTES);
        self.sources.add_series(source);
        self.trail.add(id, alias, sweep, source, definition);
        known.insert(identity.hash, id, |id| {
            self.trail.definition(id).map_or_else(AliasHash::default, |definition| definition.identity())
        });
        let mut aliases = self.aliases.lock(alias);
        // An alias leads to what it was last defined as.
        aliases.remove(alias, |id| self.trail.alias(id) == alias);
        aliases.insert(alias, id, |id| self.trail.alias(id));
        id
    }

    /// Remembers another alias of a series.
    fn spell(&self, source: Source, alias: AliasHash, series: SeriesId, sweep: u32) {
        let mut aliases = self.aliases.lock(alias);
        let is_first = |id| self.trail.alias(id) == alias;
        match aliases.find(alias, is_first) {
            Some(known) if known == series => return,
            Some(_) => drop(aliases.remove(alias, is_first)),
            None => {}
        }
        self.sources.charge(source, SPELLING_BYTES);
        let spelling = Spelling { series, seen: AtomicU32::new(sweep), source };
        if let Some(before) = self.spellings.insert(alias, spelling) {
            self.sources.release(before.source, SPELLING_BYTES);
        }
        drop(aliases);
    }

    /// The identity of a series. Sorts the labels.
    pub fn identify(&self, dialect: Dialect, spec: &mut SeriesSpec<'_>) -> Identity {
        const NO_FIELD: AliasHash = AliasHash(1);
        spec.labels.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let texts = spec.labels.iter().flat_map(|(name, value)| [name, value]);
        let labels = texts.fold(AliasHash::default(), |hash, text| hash.then(self.hash(text.as_bytes())));
        let measurement = self.hash(spec.measurement.as_bytes());
        let field = spec.field.map_or(NO_FIELD, |field| self.hash(field.as_bytes()));
        let mut metric = measurement.then(field).then(AliasHash(dialect as u128));
        if let Some(Metadata { family, metric_type, help, unit }) = spec.metadata.as_deref() {
            let of_type = AliasHash(*metric_type as u128);
            metric = metric.then(self.hash(family.as_bytes())).then(of_type);
            metric = metric.then(self.hash(help.as_bytes())).then(self.hash(unit.as_bytes()));
        }
        Identity { hash: metric.then(labels), metric, labels, lane_key: measurement.then(labels).half() }
    }

    fn is(&self, id: SeriesId, identity: AliasHash) -> bool {
        self.trail.definition(id).is_some_and(|definition| definition.identity() == identity)
    }

    /// The series of an identity, if a sender keeps it in the table. Being found is no reason to stay there.
    #[inline]
    pub fn find(&self, identity: AliasHash) -> Option<SeriesId> {
        self.identities.find(identity, |id| self.is(id, identity))
    }

    /// Finds a recalled series.
    pub fn find_like(&self, series: &Series) -> Option<SeriesId> {
        self.find(self.identify(series.dialect, &mut SeriesSpec::of(series)).hash)
    }

    /// Takes a recalled series into the table, as if it had just been sent.
    pub fn adopt(&self, series: &Series) -> Result<SeriesId, Denied> {
        let mut spec = SeriesSpec::of(series);
        // Apart from every alias a request can have: those begin with a format's context.
        let alias = self.hash(b"recalled series").then(self.identify(series.dialect, &mut spec).hash);
        self.define(Source::OWN, alias, series.dialect, spec)
    }

    /// Bytes with which a generation of recalled series is full.
    pub fn recalled_bytes_max(&self) -> usize {
        (self.bounds.bytes_max / RECALLED_PART).min(RECALLED_BYTES_MAX)
    }

    /// Estimated memory of recalled series, which are not in the table.
    pub fn recalled_bytes(&self) -> usize {
        self.recalled.load(Ordering::Relaxed)
    }

    pub(super) fn charge_recalled(&self, bytes: usize) {
        self.recalled.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn release_recalled(&self, bytes: usize) {
        self.recalled.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The bound of its memory.
    pub fn bytes_max(&self) -> usize {
        self.bounds.bytes_max
    }

    fn is_full(&self) -> bool {
        self.bytes() >= self.bounds.bytes_max
    }

    /// The series of an id; none only for an id whose series was retired after every pin on it was dropped.
    pub fn series(&self, id: SeriesId) -> Option<Series> {
        let Definition { metric, labels } = self.trail.definition(id)?;
        let (name, metadata) = (metric.name.clone(), metric.metadata.clone());
        let lane_key = self.hash(name.measurement().as_bytes()).then(labels.hash()).half();
        Some(Series { dialect: metric.dialect, name, labels, metadata, lane_key })
    }

    /// Whether senders keep a series in the table. One that they do not is readable for a while ([`SeriesTable::pin`]).
    pub fn is_live(&self, id: SeriesId) -> bool {
        self.trail.seen(id).is_some()
    }

    /// Remembers metadata that came without series, as far as there is room. Returns it when it was new or changed.
    pub fn learn(&self, source: Source, metadata: Metadata) -> Option<Arc<Metadata>> {
        if self.knows(&metadata) {
            return None;
        }
        let has_room = self.has_room_for_family(source, &metadata);
        let metadata = Arc::new(metadata);
        if has_room {
            let replaced = self.families.learn(source, Arc::clone(&metadata), self.sweeps.load(Ordering::Relaxed))?;
            self.sources.charge(source, replaced.now);
            if let Some((source, bytes)) = replaced.before {
                self.sources.release(source, bytes);
            }
        }
        Some(metadata)
    }

    /// Whether [`SeriesTable::learn`] would remember it. A refusal is counted.
    pub fn has_room_for_family(&self, source: Source, metadata: &Metadata) -> bool {
        // One that is replaced by no more than it was fits in a full table, too.
        let fits = !self.is_full() || self.family(&metadata.family).is_some_and(|old| metadata.bytes() <= old.bytes());
        fits && self.families.has_room_for(source, metadata)
    }

    /// Whether [`SeriesTable::learn`] was last told the same of that family; notes that it was told again.
    pub fn knows(&self, metadata: &Metadata) -> bool {
        self.families.hear(metadata, self.sweeps.load(Ordering::Relaxed))
    }

    /// What [`SeriesTable::learn`] was last told of a family.
    pub fn family(&self, family: &str) -> Option<Arc<Metadata>> {
        self.families.get(family)
    }

    /// All that [`SeriesTable::learn`] was told, in no order.
    pub fn families(&self) -> Vec<Arc<Metadata>> {
        self.families.all()
    }

    /// Grows whenever [`SeriesTable::family`] may answer differently.
    pub fn families_version(&self) -> u64 {
        self.families.version()
    }

    /// The families of which [`SeriesTable::family`] may answer differently since a version, and the version now.
    pub fn families_changed_since(&self, version: u64) -> (u64, FamilyChanges) {
        self.families.changes_since(version)
    }

    /// Families in numbers.
    pub fn family_counts(&self) -> FamilyCounts {
        self.families.counts()
    }

    /// Series in the table.
    pub fn len(&self) -> usize {
        self.trail.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Estimated memory of the table.
    pub fn bytes(&self) -> usize {
        self.sources.bytes() + self.trail.vacant_bytes() + self.runs.bytes()
    }

    fn metric(&self, source: Source, identity: &Identity, dialect: Dialect, spec: SeriesSpec<'_>) -> Arc<Metric> {
        let hash = identity.metric;
        let metric = self.metrics.entry(hash).or_insert_with(|| {
            let metric = Metric { hash, dialect, name: spec.name(), metadata: spec.metadata };
            self.sources.charge(source, metric_bytes(&metric.name, metric.metadata.as_deref()));
            (Arc::new(metric), source)
        });
        Arc::clone(&metric.0)
    }

    fn labels(&self, source: Source, identity: &Identity, labels: &[Label<'_>]) -> Labels {
        let labels = self.labels.entry(identity.labels).or_insert_with(|| {
            let pairs = labels.iter().map(|(name, value)| self.pair(source, name, value));
            let labels = Labels::new(identity.labels, pairs.collect());
            self.sources.charge(source, labels_bytes(&labels));
            (labels, source)
        });
        labels.0.clone()
    }

    fn pair(&self, source: Source, name: &str, value: &str) -> Arc<LabelPair> {
        let key = self.hash(name.as_bytes()).then(self.hash(value.as_bytes()));
        let pair = self.pairs.entry(key).or_insert_with(|| {
            self.sources.charge(source, PAIR_BYTES + name.len() + value.len());
            (Arc::new(LabelPair { name: name.into(), value: value.into() }), source)
        });
        Arc::clone(&pair.0)
    }
}

impl Definition {
    fn identity(&self) -> AliasHash {
        self.metric.hash.then(self.labels.hash())
    }
}

/// Metadata is charged in full though metrics of a family may share it.
fn metric_bytes(name: &SeriesName, metadata: Option<&Metadata>) -> usize {
    PART_BYTES + name.len() + metadata.map_or(0, Metadata::bytes)
}

fn labels_bytes(labels: &Labels) -> usize {
    PART_BYTES + labels.len() * size_of::<Arc<LabelPair>>()
}

/// What a series costs apart from its pairs where it shares nothing else.
pub(super) fn series_bytes(series: &Series) -> usize {
    SERIES_BYTES + metric_bytes(&series.name, series.metadata.as_deref()) + labels_bytes(&series.labels)
}
