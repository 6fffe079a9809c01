//! What is known of metric families apart from their series: remote write 1.0 tells it in requests of its own, once a minute.
//!
//! The last to speak is right, whoever that is: names of families are shared by all who send. Which metrics belong to a
//! family is decided by whoever asks, by its type ([`Metadata::of_metric`]).
//!
//! Bounded by [`FAMILIES_BYTES_MAX`] for all, and for one source by [`SHARE`] times what is free, as series are. What does not
//! fit is refused and counted. Families that were not told for [`IDLE_SWEEPS`] sweeps are evicted and counted, once more than
//! half of the room is used: those who send metadata repeat it, so what is still sent stays, and what a flood left behind goes.
//!
//! Who renders series by it learns which families changed from a list of the last [`CHANGES_MAX`] changes.

use super::{Metadata, Source};
use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use parking_lot::Mutex;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Memory of all families together, estimated.
pub const FAMILIES_BYTES_MAX: usize = 16 << 20;
/// Estimated cost of a family beside its texts.
const FAMILY_BYTES: usize = 128;
/// A source that holds so many times what is free gets no new families.
const SHARE: usize = 4;
/// Sweeps without being told after which a family makes room.
const IDLE_SWEEPS: u32 = 5;
/// Changes that are told one by one.
const CHANGES_MAX: usize = 1024;
/// Accounts of sources, by the number of theirs in the series table: those that meet here share an allowance.
const ACCOUNTS: usize = 1 << 10;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Families {
    known: DashMap<Box<str>, Known>,
    bytes: AtomicUsize,
    held: Box<[AtomicUsize]>,
    changes: Mutex<VecDeque<Box<str>>>,
    version: AtomicU64,
    evicted: AtomicU64,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Known {
    metadata: Arc<Metadata>,
    /// The sweep in which it was last told.
    told: AtomicU32,
    source: Source,
}

/// What changed since a version.
#[derive(Debug, PartialEq, Eq)]
pub enum FamilyChanges {
    /// These families.
    Only(HashSet<Box<str>>),
    /// More than is remembered.
    Any,
}

/// Families in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyCounts {
    /// Known now.
    pub known: usize,
    /// Forgotten to make room.
    pub evicted: u64,
    /// Not remembered, each time they were told, for want of room.
    pub refused: u64,
}

impl Default for Families {
    fn default() -> Self {
        Self {
            known: DashMap::new(),
            bytes: AtomicUsize::new(0),
            held: (0..ACCOUNTS).map(|_| AtomicUsize::new(0)).collect(),
            changes: Mutex::default(),
            version: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Families {
    /// What is known of one.
    pub(super) fn get(&self, family: &str) -> Option<Arc<Metadata>> {
        self.known.get(family).map(|known| Arc::clone(&known.metadata))
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<Arc<Metadata>> {
        self.known.iter().map(|known| Arc::clone(&known.metadata)).collect()
    }

    /// Whether this was the last that was told of its family; notes that it was told again.
    pub(super) fn hear(&self, metadata: &Metadata, sweep: u32) -> bool {
        self.known.get(&*metadata.family).is_some_and(|known| {
            let same = *known.metadata == *metadata;
            if same {
                known.told.store(sweep, Ordering::Relaxed);
            }
            same
        })
    }

    /// Whether [`Families::learn`] would remember it. A refusal is counted.
    pub(super) fn has_room_for(&self, source: Source, metadata: &Metadata) -> bool {
        let more = self.known.get(&*metadata.family).map_or(0, |known| cost(&known.metadata));
        let free = FAMILIES_BYTES_MAX.saturating_sub(self.bytes.load(Ordering::Relaxed)) + more;
        let held = self.held[source.account(ACCOUNTS)].load(Ordering::Relaxed);
        let fits = cost(metadata) <= free && (source == Source::OWN || more > 0 || held < free.saturating_mul(SHARE));
        if !fits {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        fits
    }

    /// Remembers it; none when it was known. Returns what the family cost before and costs now.
    pub(super) fn learn(&self, source: Source, metadata: Arc<Metadata>, sweep: u32) -> Option<Replaced> {
        let (family, now) = (metadata.family.clone(), cost(&metadata));
        let known = Known { metadata, told: AtomicU32::new(sweep), source };
        let before = match self.known.entry(family.clone()) {
            Entry::Occupied(entry) if *entry.get().metadata == *known.metadata => return None,
            Entry::Occupied(mut entry) => Some(entry.insert(known)),
            Entry::Vacant(entry) => {
                entry.insert(known);
                None
            }
        };
        let before = before.map(|known| (known.source, cost(&known.metadata)));
        self.charge(source, now);
        if let Some((source, bytes)) = before {
            self.release(source, bytes);
        }
        self.note_change(family);
        Some(Replaced { before, now })
    }

    /// Evicts what was not told for a while, if room is getting scarce. Returns what each of them cost whom.
    pub(super) fn sweep(&self, sweep: u32) -> Vec<(Source, usize)> {
        let mut freed = Vec::new();
        if self.bytes.load(Ordering::Relaxed) <= FAMILIES_BYTES_MAX / 2 {
            return freed;
        }
        let mut gone = Vec::new();
        self.known.retain(|family, known| {
            let stays = known.told.load(Ordering::Relaxed) + IDLE_SWEEPS >= sweep;
            if !stays {
                freed.push((known.source, cost(&known.metadata)));
                gone.push(family.clone());
            }
            stays
        });
        for (source, bytes) in &freed {
            self.release(*source, *bytes);
        }
        self.evicted.fetch_add(gone.len() as u64, Ordering::Relaxed);
        for family in gone {
            self.note_change(family);
        }
        freed
    }

    /// Grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What changed since that version, and the version that this tells of.
    pub(super) fn changes_since(&self, version: u64) -> (u64, FamilyChanges) {
        let changes = self.changes.lock();
        let now = self.version();
        let count = usize::try_from(now - version).unwrap_or(usize::MAX);
        if count > changes.len() {
            return (now, FamilyChanges::Any);
        }
        (now, FamilyChanges::Only(changes.iter().rev().take(count).cloned().collect()))
    }

    pub(super) fn counts(&self) -> FamilyCounts {
        let (evicted, refused) = (self.evicted.load(Ordering::Relaxed), self.refused.load(Ordering::Relaxed));
        FamilyCounts { known: self.known.len(), evicted, refused }
    }

    fn note_change(&self, family: Box<str>) {
        let mut changes = self.changes.lock();
        if changes.len() == CHANGES_MAX {
            changes.pop_front();
        }
        changes.push_back(family);
        self.version.fetch_add(1, Ordering::Release);
    }

    fn charge(&self, source: Source, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.held[source.account(ACCOUNTS)].fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, source: Source, bytes: usize) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.held[source.account(ACCOUNTS)].fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What learning a family did to the accounts.
#[derive(Debug)]
pub(super) struct Replaced {
    pub(super) before: Option<(Source, usize)>,
    pub(super) now: usize,
}

fn cost(metadata: &Metadata) -> usize {
    FAMILY_BYTES + metadata.family.len() + metadata.bytes()
}

#[cfg(test)]
mod tests {
    use super::super::{MetricType, SeriesTable};
    use super::*;

    fn counter(family: &str, help: &str) -> Metadata {
        Metadata { family: family.into(), metric_type: MetricType::Counter, help: help.into(), unit: "".into() }
    }

    /// What a sender tells, as the decoder of remote write takes it; whether it was new.
    fn tell(table: &SeriesTable, source: Source, metadata: &Metadata) -> bool {
        let is_new = !table.knows(metadata) && table.has_room_for_family(source, metadata);
        is_new && table.learn(source, metadata.clone()).is_some()
    }

    #[test]
    fn the_last_to_speak_is_right_and_repetition_changes_nothing() {
        let table = SeriesTable::default();
        let [one, two] = [1, 2].map(|host| table.source([192, 0, 2, host].into()));
        assert!(tell(&table, one, &counter("a", "of one")));
        let version = table.families_version();
        assert!(!tell(&table, one, &counter("a", "of one")) && !tell(&table, two, &counter("a", "of one")));
        assert_eq!(table.families_version(), version);
        assert!(tell(&table, two, &counter("a", "of two")));
        assert_eq!(&*table.family("a").unwrap().help, "of two");
        let (now, changes) = table.families_changed_since(version);
        assert_eq!((now, changes), (version + 1, FamilyChanges::Only(HashSet::from(["a".into()]))));
        assert_eq!(table.families_changed_since(now).1, FamilyChanges::Only(HashSet::new()));
    }

    #[test]
    fn metadata_belongs_to_a_metric_by_the_type_of_its_family() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
        let cases: [(MetricType, &[&str], &[&str]); 8] = [
            (Counter, &["x", "x_total", "x_created"], &["x_sum", "x_bucket", "x_info", "xx", "x_total_total"]),
            (Gauge, &["x"], &["x_total", "x_count"]),
            (Unknown, &["x"], &["x_total", "x_sum"]),
            (Histogram, &["x", "x_bucket", "x_sum", "x_count", "x_created"], &["x_total", "x_gsum"]),
            (GaugeHistogram, &["x_bucket", "x_gsum", "x_gcount"], &["x_sum", "x_created"]),
            (Summary, &["x", "x_sum", "x_count", "x_created"], &["x_bucket"]),
            (Info, &["x_info"], &["x_total"]),
            (StateSet, &["x"], &["x_info"]),
        ];
        for (metric_type, belong, others) in cases {
            let family = Arc::new(Metadata { metric_type, ..counter("x", "") });
            let of = |name| Metadata::of_metric(name, |known| (known == "x").then(|| Arc::clone(&family))).is_some();
            assert!(belong.iter().all(|name| of(name)), "{metric_type:?}");
            assert!(!others.iter().any(|name| of(name)), "{metric_type:?}");
        }
        // A family of the metric's own name is its family, whatever the stem says.
        let families = |name: &str| match name {
            "x" => Some(Arc::new(Metadata { metric_type: Histogram, ..counter("x", "") })),
            "x_count" => Some(Arc::new(Metadata { metric_type: Gauge, ..counter("x_count", "") })),
            _ => None,
        };
        assert_eq!(Metadata::of_metric("x_count", families).unwrap().metric_type, Gauge);
        assert_eq!(Metadata::of_metric("x_sum", families).unwrap().metric_type, Histogram);
    }

    #[test]
    fn a_flood_leaves_room_for_others_and_goes_when_it_ends() {
        let table = SeriesTable::default();
        let [flooding, other] = [1, 2].map(|host| table.source([192, 0, 2, host].into()));
        let empty = table.bytes();
        assert!(tell(&table, other, &counter("known", "")));
        let help = "h".repeat(1000);
        let taken = (0..100_000).take_while(|at| tell(&table, flooding, &counter(&format!("f{at}"), &help))).count();
        assert!(table.bytes() - empty < FAMILIES_BYTES_MAX, "{}", table.bytes() - empty);
        assert!((8_000..14_000).contains(&taken), "4/5 of the room: {taken}");
        assert_eq!(table.family_counts().refused, 1);
        assert!((0..100).all(|at| tell(&table, other, &counter(&format!("o{at}"), &help))), "others are heard");

        for _ in 0..IDLE_SWEEPS + 2 {
            assert!(!tell(&table, other, &counter("known", "")), "it is known all the time");
            table.sweep();
        }
        let counts = table.family_counts();
        assert_eq!((counts.known, counts.evicted), (1, taken as u64 + 100));
        assert!(tell(&table, flooding, &counter("f0", "")), "it may come again");
        assert_eq!(table.families_changed_since(0).1, FamilyChanges::Any);
        for _ in 0..100 {
            table.sweep();
        }
        assert_eq!(table.family_counts().known, 2, "where there is room nothing goes");
        table.learn(other, counter("known", "longer")).unwrap();
        let texts = FAMILY_BYTES * 2 + size_of::<Metadata>() * 2 + 2 * ("known".len() + "f0".len()) + "longer".len();
        assert_eq!(table.bytes() - empty, texts, "even to the byte");
    }

    #[test]
    fn one_family_larger_than_all_room_is_refused() {
        let table = SeriesTable::default();
        let source = table.source([192, 0, 2, 1].into());
        assert!(!tell(&table, source, &counter("a", &"h".repeat(FAMILIES_BYTES_MAX))));
        assert_eq!((table.family_counts().refused, table.family_counts().known), (1, 0));
    }
}
