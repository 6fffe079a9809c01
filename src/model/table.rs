//! The series table: recognises a series by the bytes that name it and interns it at first sight.
//!
//! * An *alias* is the 128-bit keyed hash of the bytes with which a request names a series. A known alias gives the
//!   [`SeriesId`] without looking at a label. The hash key is drawn at start, so a sender cannot aim for collisions; two
//!   names meet by accident with a probability of 2^-128 a pair.
//! * An *identity* is the hash of name, sorted labels and declared metadata: other spellings of a series find it there.
//! * The table is bounded in bytes ([`TableBounds`]). [`SeriesTable::sweep`] retires series not seen for a while, sooner
//!   when the table is crowded; a retired series stays readable until every batch made before its retirement is gone
//!   ([`Pin`]). When nothing is idle, a new series is refused ([`Denied`]) and known ones go on. What is read back from the
//!   log is not in it: readers find series here and keep none here ([`super::Recalled`]).
//! * Every entry is charged to the [`Source`] that sent it first. A source gets new series only while it holds less than
//!   [`SHARE`] times what is free, the dynamic threshold of shared-memory switches: one greedy source ends at 4/5 of the
//!   table, two at 4/9 each, and there is always room for those that hold little. Nobody is held back in a table that is
//!   nearly empty, and there is nothing to configure.
//! * Locks are taken in one order: the shard of an identity, then those of pairs, series and aliases. Nothing waits the other way.

use super::families::{Families, FamilyChanges, FamilyCounts};
use super::sources::{Holding, Source, Sources};
use super::{Denied, Dialect, LabelPair, Metadata, Series, SeriesId, SeriesName, SeriesSpec};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use xxhash_rust::xxh3::xxh3_128_with_secret;

/// The keyed hash of bytes that name a series, a part of one, or a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AliasHash(u128);

impl AliasHash {
    /// The hash of this followed by that; the order matters.
    #[inline]
    #[must_use]
    pub const fn then(self, next: Self) -> Self {
        const ODD: u128 = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835;
        Self(self.0.rotate_left(47).wrapping_mul(ODD) ^ next.0)
    }
}

impl std::hash::Hash for AliasHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64((self.0 >> 64) as u64 ^ self.0 as u64);
    }
}

/// Passes on what is a hash already, and spreads small numbers; only for keys that no sender chooses.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdHasher(u64);

/// A map by ids of series, or other keys of that kind.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
    fn write_u32(&mut self, id: u32) {
        self.0 = u64::from(id).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    fn finish(&self) -> u64 {
        self.0
    }
}

type ReadyMap<K, V> = DashMap<K, V, BuildHasherDefault<IdHasher>>;

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

/// Keeps every series readable that was in the table when the pin was taken.
pub type Pin = Arc<Epoch>;

/// The time between two sweeps, held by the batches made in it.
#[derive(Debug)]
pub struct Epoch;

/// What tells a series from all others, however it is spelled.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The hash of all of it.
    pub hash: AliasHash,
    lane_key: u64,
}

impl Identity {
    /// The series itself, with the labels of `spec` interned.
    pub(super) fn series(&self, dialect: Dialect, labels: Box<[Arc<LabelPair>]>, spec: SeriesSpec<'_>) -> Series {
        let name = match spec.field {
            Some(field) => SeriesName::field(spec.measurement, field),
            None => SeriesName::metric(spec.measurement),
        };
        Series { dialect, name, labels, metadata: spec.metadata, lane_key: self.lane_key }
    }
}

/// What an alias or an identity leads to, the sweep in which it was last asked for, and who sent it first.
#[derive(Debug)]
struct Known {
    series: SeriesId,
    seen: AtomicU32,
    source: Source,
}

impl Known {
    fn see(&self, sweep: u32) {
        // Written only when it changes: a store in each lookup would make the line travel between cores.
        if self.seen.load(Ordering::Relaxed) != sweep {
            self.seen.store(sweep, Ordering::Relaxed);
        }
    }
}

#[derive(Debug)]
struct Retired {
    last_epoch: Weak<Epoch>,
    series: Vec<(SeriesId, Source)>,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct SeriesTable {
    secret: [u8; 192],
    bounds: TableBounds,
    aliases: ReadyMap<AliasHash, Known>,
    identities: ReadyMap<AliasHash, Known>,
    series: ReadyMap<SeriesId, Arc<Series>>,
    pairs: ReadyMap<AliasHash, (Arc<LabelPair>, Source)>,
    families: Families,
    next: AtomicU32,
    sources: Sources,
    /// Whether a series was refused for want of room since the last sweep, or memory was short.
    refused: AtomicBool,
    sweeps: AtomicU32,
    epoch: Mutex<Arc<Epoch>>,
    retired: Mutex<VecDeque<Retired>>,
    /// Memory of all [`Recalled`] together.
    recalled: AtomicUsize,
}

/// Estimated cost of an alias or identity: key, value, and the map's own overhead.
const ALIAS_BYTES: usize = 48;
/// Estimated cost of a series beside its text.
const SERIES_BYTES: usize = 160;
/// Estimated cost of a label pair beside its text.
pub(super) const PAIR_BYTES: usize = 96;
/// Sweeps without a sample after which a series makes room in a table that is crowded, whatever the bounds say.
const IDLE_SWEEPS_WHEN_CROWDED: u32 = 5;
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
            aliases: ReadyMap::default(),
            identities: ReadyMap::default(),
            series: ReadyMap::default(),
            pairs: ReadyMap::default(),
            families: Families::default(),
            next: AtomicU32::new(0),
            sources: Sources::default(),
            refused: AtomicBool::new(false),
            sweeps: AtomicU32::new(0),
            epoch: Mutex::new(Arc::new(Epoch)),
            retired: Mutex::new(VecDeque::new()),
            recalled: AtomicUsize::new(0),
        }
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
        let known = self.aliases.get(&alias)?;
        known.see(self.sweeps.load(Ordering::Relaxed));
        Some(known.series)
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
        self.has_room_for(source).inspect_err(|_| self.refused.store(true, Ordering::Relaxed))?;
        Ok(self.define_unbounded(source, alias, dialect, spec))
    }

    fn has_room_for(&self, source: Source) -> Result<(), Denied> {
        let TableBounds { bytes_max, series_per_source_max, .. } = self.bounds;
        let free = bytes_max.saturating_sub(self.bytes());
        if free == 0 || self.next.load(Ordering::Relaxed) > LAST_ID {
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

    /// Like [`SeriesTable::define`], but even when the table is full: for series whose end has to be told. The caller bounds
    /// their growth.
    pub fn define_unbounded(
        &self,
        source: Source,
        alias: AliasHash,
        dialect: Dialect,
        mut spec: SeriesSpec<'_>,
    ) -> SeriesId {
        let identity = self.identify(dialect, &mut spec);
        let known = match self.identities.entry(identity.hash) {
            Entry::Occupied(known) => known.into_ref(),
            Entry::Vacant(vacant) => {
                let id = SeriesId(self.next.fetch_add(1, Ordering::Relaxed));
                let labels = spec.labels.iter().map(|(name, value)| self.pair(source, name, value)).collect();
                let series = identity.series(dialect, labels, spec);
                self.sources.charge(source, ALIAS_BYTES + series_bytes(&series));
                self.sources.add_series(source);
                self.series.insert(id, Arc::new(series));
                vacant.insert(Known { series: id, seen: AtomicU32::new(0), source })
            }
        };
        // While the identity's shard is locked, so that no sweep retires the series between this and its new alias.
        let sweep = self.sweeps.load(Ordering::Relaxed);
        known.see(sweep);
        let series = known.series;
        self.sources.charge(source, ALIAS_BYTES);
        if let Some(before) = self.aliases.insert(alias, Known { series, seen: AtomicU32::new(sweep), source }) {
            self.sources.release(before.source, ALIAS_BYTES);
        }
        drop(known);
        series
    }

    /// The identity of a series. Sorts the labels.
    pub fn identify(&self, dialect: Dialect, spec: &mut SeriesSpec<'_>) -> Identity {
        spec.labels.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let lane = self.lane_hash(spec);
        Identity { hash: self.identity(lane, dialect, spec), lane_key: (lane.0 >> 64) as u64 ^ lane.0 as u64 }
    }

    /// The series of an identity, if a sender keeps it in the table. Being found is no reason to stay there.
    #[inline]
    pub fn find(&self, identity: AliasHash) -> Option<SeriesId> {
        self.identities.get(&identity).map(|known| known.series)
    }

    /// Takes a recalled series into the table, as if it had just been sent.
    pub fn adopt(&self, series: &Series) -> Result<SeriesId, Denied> {
        let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
        let (measurement, field) = (series.name.measurement(), series.name.field_key());
        let mut spec = SeriesSpec { measurement, field, labels, metadata: series.metadata.clone() };
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
    pub fn series(&self, id: SeriesId) -> Option<Arc<Series>> {
        self.series.get(&id).map(|series| Arc::clone(&series))
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
        self.series.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Estimated memory of the table.
    pub fn bytes(&self) -> usize {
        self.sources.bytes()
    }

    /// Makes the next sweep retire series as soon as in a crowded table: memory is short elsewhere.
    pub fn hurry(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Retires series that fell idle and frees those that nothing holds any more. To be called at a steady pace; returns
    /// how many series were retired.
    pub fn sweep(&self) -> usize {
        let sweep = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let crowded = self.refused.swap(false, Ordering::Relaxed) || self.bytes() > self.bounds.bytes_max / 2;
        let idle_sweeps = self.bounds.idle_sweeps;
        let idle_sweeps = if crowded { idle_sweeps.min(IDLE_SWEEPS_WHEN_CROWDED) } else { idle_sweeps };
        // At least one: a series may be asked for at the very moment at which a sweep begins.
        let oldest = sweep.saturating_sub(idle_sweeps.max(1));
        self.free_retired();
        for (source, bytes) in self.families.sweep(sweep) {
            self.sources.release(source, bytes);
        }

        let mut live = HashSet::<SeriesId, BuildHasherDefault<IdHasher>>::default();
        self.aliases.retain(|_, alias| {
            let fresh = alias.seen.load(Ordering::Relaxed) >= oldest;
            if fresh {
                live.insert(alias.series);
            } else {
                self.sources.release(alias.source, ALIAS_BYTES);
            }
            fresh
        });
        let mut idle = Vec::new();
        self.identities.retain(|_, known| {
            // One defined lately may have got its alias after the walk above.
            let keep = live.contains(&known.series) || known.seen.load(Ordering::Relaxed) >= oldest;
            if !keep {
                self.sources.release(known.source, ALIAS_BYTES);
                self.sources.remove_series(known.source);
                idle.push((known.series, known.source));
            }
            keep
        });
        let retired = idle.len();
        if retired > 0 {
            let ended = std::mem::replace(&mut *self.epoch.lock(), Arc::new(Epoch));
            self.retired.lock().push_back(Retired { last_epoch: Arc::downgrade(&ended), series: idle });
        }
        self.free_retired();
        retired
    }

    fn free_retired(&self) {
        let mut retired = self.retired.lock();
        let mut freed = false;
        // In order: an epoch's series may be held by batches of any earlier epoch.
        while retired.front().is_some_and(|oldest| oldest.last_epoch.strong_count() == 0) {
            let Some(oldest) = retired.pop_front() else { break };
            freed = true;
            for (id, source) in oldest.series {
                if let Some((_, series)) = self.series.remove(&id) {
                    self.sources.release(source, series_bytes(&series));
                }
            }
        }
        if freed {
            self.free_pairs();
        }
    }

    fn free_pairs(&self) {
        self.pairs.retain(|_, (pair, source)| {
            let used = Arc::strong_count(pair) > 1;
            if !used {
                self.sources.release(*source, PAIR_BYTES + pair.name.len() + pair.value.len());
            }
            used
        });
    }

    fn lane_hash(&self, spec: &SeriesSpec<'_>) -> AliasHash {
        let mut hash = self.hash(spec.measurement.as_bytes());
        for (name, value) in &spec.labels {
            hash = hash.then(self.hash(name.as_bytes())).then(self.hash(value.as_bytes()));
        }
        hash
    }

    fn identity(&self, lane: AliasHash, dialect: Dialect, spec: &SeriesSpec<'_>) -> AliasHash {
        const NO_FIELD: AliasHash = AliasHash(1);
        let field = spec.field.map_or(NO_FIELD, |field| self.hash(field.as_bytes()));
        let identity = lane.then(field).then(self.hash(&[dialect as u8]));
        spec.metadata.as_ref().map_or(identity, |metadata| {
            identity
                .then(self.hash(metadata.family.as_bytes()))
                .then(self.hash(&[metadata.metric_type as u8]))
                .then(self.hash(metadata.help.as_bytes()))
                .then(self.hash(metadata.unit.as_bytes()))
        })
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

/// What a series costs apart from its pairs. Metadata is charged in full though series of a family may share it.
pub(super) fn series_bytes(series: &Series) -> usize {
    let labels = series.labels.len() * size_of::<Arc<LabelPair>>();
    SERIES_BYTES + series.name.len() + labels + series.metadata.as_deref().map_or(0, Metadata::bytes)
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Format, MetricType};
    use super::*;

    fn spec<'a>(name: &'a str, field: Option<&'a str>, labels: &[(&'a str, &'a str)]) -> SeriesSpec<'a> {
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        SeriesSpec { measurement: name, field, labels, metadata: None }
    }

    #[test]
    fn two_spellings_of_a_series_share_its_id_and_pairs() {
        let table = SeriesTable::default();
        let one = table
            .define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("b", "2"), ("a", "1")]))
            .unwrap();
        let two = table
            .define(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("m", None, &[("a", "1"), ("b", "2")]))
            .unwrap();
        assert_eq!(one, two);
        let other =
            table.define(Source::OWN, table.hash(b"3"), Dialect::Prometheus, spec("n", None, &[("a", "1")])).unwrap();
        assert_ne!(one, other);
        let (first, third) = (table.series(one).unwrap(), table.series(other).unwrap());
        assert!(Arc::ptr_eq(&first.labels[0], &third.labels[0]));
        assert_eq!(table.recognise(table.hash(b"2")), Some(one));
    }

    #[test]
    fn measurement_and_field_are_not_one_name() {
        let table = SeriesTable::default();
        let ids = [
            table.define(Source::OWN, table.hash(b"1"), Dialect::Influx, spec("ab", Some("c"), &[])).unwrap(),
            table.define(Source::OWN, table.hash(b"2"), Dialect::Influx, spec("a", Some("bc"), &[])).unwrap(),
            table.define(Source::OWN, table.hash(b"3"), Dialect::Prometheus, spec("abc", None, &[])).unwrap(),
        ];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
        let lanes = ["x", "y"].map(|field| {
            let id = table
                .define(
                    Source::OWN,
                    table.hash(field.as_bytes()),
                    Dialect::Influx,
                    spec("m", Some(field), &[("t", "v")]),
                )
                .unwrap();
            table.series(id).unwrap().lane_key
        });
        assert_eq!(lanes[0], lanes[1], "the fields of a row share a lane");
    }

    #[test]
    fn an_idle_series_stays_readable_while_a_batch_holds_it() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
        let empty = table.bytes();
        let id =
            table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("a", "1")])).unwrap();
        let batch = Batch::new(Format::InfluxLine, table.pin());
        let retired: usize = (0..4).map(|_| table.sweep()).sum();
        assert_eq!(retired, 1);
        assert_eq!(table.recognise(table.hash(b"1")), None);
        assert!(table.series(id).is_some(), "held by the batch");
        drop(batch);
        table.sweep();
        assert!(table.series(id).is_none());
        assert_eq!(table.bytes(), empty, "the account is even again");
        let again =
            table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[("a", "1")])).unwrap();
        assert_ne!(again, id, "ids are not reused");
    }

    #[test]
    fn a_full_table_refuses_new_series_and_knows_the_old() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1, idle_sweeps: 1, ..TableBounds::default() });
        table.define(Source::OWN, table.hash(b"1"), Dialect::Prometheus, spec("m", None, &[])).unwrap();
        assert!(table.define(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("n", None, &[])).is_err());
        assert!(table.recognise(table.hash(b"1")).is_some());
        let read_back =
            table.define_unbounded(Source::OWN, table.hash(b"2"), Dialect::Prometheus, spec("n", None, &[]));
        assert_eq!(table.recognise(table.hash(b"2")), Some(read_back), "what was accepted once is never refused");
    }

    #[test]
    fn a_full_table_makes_room_from_what_a_flood_left_behind() {
        let table = SeriesTable::new(TableBounds { bytes_max: 100_000, idle_sweeps: 1000, ..TableBounds::default() });
        let define = |name: &str| {
            table.define(
                Source::OWN,
                table.hash(name.as_bytes()),
                Dialect::Prometheus,
                spec(name, None, &[("flood", name)]),
            )
        };
        define("steady").unwrap();
        let taken = (0..1000).take_while(|number| define(&format!("flood_{number}")).is_ok()).count();
        assert!((100..999).contains(&taken) && table.bytes() < 101_000, "{taken} series, {} bytes", table.bytes());
        for _ in 0..IDLE_SWEEPS_WHEN_CROWDED + 2 {
            table.recognise(table.hash(b"steady")).expect("known series go on");
            table.sweep();
        }
        assert_eq!(table.len(), 1);
        define("new").unwrap();
    }

    #[test]
    fn a_flood_from_one_source_leaves_room_for_the_new_series_of_others() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1_000_000, idle_sweeps: 60, ..TableBounds::default() });
        let [flooding, other, third] = [1, 2, 3].map(|host| table.source([192, 0, 2, host].into()));
        let define = |source: Source, name: &str| {
            table.define(source, table.hash(name.as_bytes()), Dialect::Influx, spec(name, Some("v"), &[("n", name)]))
        };
        let flood = |source: Source, who: &str| {
            (0..10_000).take_while(|number| define(source, &format!("{who}{number}")).is_ok()).count()
        };
        define(other, "known").unwrap();
        assert!(flood(flooding, "flood") > 1000);
        assert!((790_000..810_000).contains(&table.holding(flooding).bytes), "{:?}", table.holding(flooding));
        assert!(matches!(define(flooding, "more"), Err(Denied::SourceShare { .. })));
        assert!((0..100).all(|number| define(other, &format!("other{number}")).is_ok()), "others are served");
        flood(third, "third");
        assert!(define(other, "still").is_ok(), "two of them leave room as well");
        assert!(table.bytes() < 1_000_000, "{}", table.bytes());

        // What is not seen any more goes sooner than it would in peace, and its source may come again.
        for _ in 0..IDLE_SWEEPS_WHEN_CROWDED + 3 {
            table.recognise(table.hash(b"known")).expect("known series go on");
            table.sweep();
        }
        assert_eq!((table.len(), table.holding(other).series), (1, 1));
        assert_eq!([flooding, third].map(|source| table.holding(source)), [Holding::default(); 2], "even to the byte");
        define(flooding, "again").unwrap();
    }

    #[test]
    fn a_source_alone_may_use_most_of_the_table() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1_000_000, idle_sweeps: 60, ..TableBounds::default() });
        let only = table.source([2001, 0xdb8, 0, 1, 0, 0, 0, 1].into());
        assert_eq!(only, table.source([2001, 0xdb8, 0, 1, 9, 9, 9, 9].into()), "a host may choose the rest");
        assert_ne!(only, table.source([2001, 0xdb8, 0, 2, 0, 0, 0, 1].into()));
        let define =
            |name: &str| table.define(only, table.hash(name.as_bytes()), Dialect::Influx, spec(name, None, &[]));
        let taken = (0..10_000).take_while(|number| define(&number.to_string()).is_ok()).count();
        assert_eq!(table.holding(only).series, taken);
        assert!(table.bytes() > 750_000, "{}", table.bytes());
        // Spellings of a known series cost memory as well.
        let spelled = (0..10_000_u32)
            .take_while(|number| {
                let alias = table.hash(&number.to_le_bytes());
                table.define(only, alias, Dialect::Influx, spec("0", None, &[])).is_ok()
            })
            .count();
        assert!(spelled < 100, "{spelled} aliases");
    }

    #[test]
    fn metadata_counts_against_the_bound() {
        let table = SeriesTable::new(TableBounds { bytes_max: 10_000, idle_sweeps: 1, ..TableBounds::default() });
        let learn = |family: &str, help: &str| {
            let (family, help, unit) = (family.into(), help.into(), "".into());
            table.learn(Source::OWN, Metadata { family, metric_type: MetricType::Counter, help, unit })
        };
        assert!(learn("a", &"x".repeat(6000)).is_some() && learn("b", &"x".repeat(6000)).is_some());
        assert!(learn("c", "is carried").is_some());
        assert!(table.family("b").is_some() && table.family("c").is_none(), "but not remembered");
        learn("a", "");
        assert!(table.bytes() < 7000, "{}", table.bytes());
    }

    #[test]
    fn an_alias_never_leads_to_a_series_that_is_gone() {
        // Sweeps race with senders whose aliases keep falling idle between their requests.
        let table = SeriesTable::new(TableBounds { bytes_max: 1 << 20, idle_sweeps: 1, ..TableBounds::default() });
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..2_u64)
                .map(|sender| {
                    let table = &table;
                    scope.spawn(move || {
                        for round in 0..20_000_u64 {
                            let _pin = table.pin();
                            let alias = table.hash(&[sender as u8, (round % 7) as u8]);
                            let id = table.recognise(alias).unwrap_or_else(|| {
                                table.define_unbounded(
                                    Source::OWN,
                                    alias,
                                    Dialect::Prometheus,
                                    spec("m", None, &[("a", "1")]),
                                )
                            });
                            assert!(table.series(id).is_some(), "round {round}");
                        }
                    })
                })
                .collect();
            while senders.iter().any(|sender| !sender.is_finished()) {
                table.sweep();
            }
        });
    }
}
