//! Pushgateway groups in memory: which series each has, and which pushes on disk it is made of.

use super::pushes::{Pushes, Stamps};
use crate::ingest::stale::name_and_labels;
use crate::model::{AliasHash, Batch, Series, SeriesId, SeriesTable};
use hyper::Method;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// Estimated cost of a remembered series beside its texts.
const MEMBER_BYTES: usize = 384;
/// Estimated cost of a label, a family or a push beside its texts.
const ENTRY_BYTES: usize = 64;
/// The kind of series that pushed groups have.
const SERIES: &[u8] = b"series of a pushed group";
/// Groups are locked while their push is appended; so many pushes of different groups run side by side.
const SHARDS: usize = 32;

/// Labels of an address, sorted by name: the name of a group.
pub(super) type Grouping = Vec<(String, String)>;
/// A series and its present id.
pub(super) type Member = (SeriesId, Series);
/// The groups of a shard.
pub(super) type Shard = HashMap<Grouping, Group>;

/// What was pushed under one address and has not been replaced since.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    families: BTreeMap<Box<str>, Family>,
    /// The pushes on disk that it is made of, by number, with their bytes.
    pushes: BTreeMap<u64, usize>,
    /// When it was changed.
    pub(super) stamps: Stamps,
}

/// A family of a group. Series are known by the hash of name and labels: an id changes when a family is declared differently,
/// or when a series fell idle and left the table between two pushes.
#[derive(Clone, Debug)]
struct Family {
    members: HashMap<AliasHash, Member>,
    /// The push that brought it.
    push: u64,
}

/// All groups.
#[derive(Debug)]
pub(in crate::ingest) struct Groups {
    shards: [Mutex<Shard>; SHARDS],
    bytes: AtomicUsize,
    bytes_max: usize,
    hasher: RandomState,
    /// Where pushes are kept; none: groups live in memory only.
    pub(super) pushes: Option<Pushes>,
    next_push: AtomicU64,
}

impl Groups {
    /// No groups yet; all together remember so many bytes, of memory (estimated) and of files.
    pub(in crate::ingest) fn new(bytes_max: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        let (bytes, next_push) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { shards, bytes, bytes_max, hasher: RandomState::new(), pushes: None, next_push }
    }

    pub(super) const fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The number of a new push.
    pub(super) fn number(&self) -> u64 {
        self.next_push.fetch_add(1, Ordering::Relaxed)
    }

    /// New pushes have greater numbers than that.
    pub(super) fn number_after(&mut self, number: u64) {
        let next = self.next_push.get_mut();
        *next = number.saturating_add(1).max(*next);
    }

    pub(super) async fn lock(&self, grouping: &Grouping) -> MutexGuard<'_, Shard> {
        let shard = self.hasher.hash_one(grouping) as usize % SHARDS;
        self.shards[shard].lock().await
    }

    /// Remembers a group's new state in place of its old one; false when there are too many.
    pub(super) fn remember(&self, shard: &mut Shard, grouping: Grouping, group: Group) -> bool {
        let before = shard.remove(&grouping).map_or(0, |old| old.cost(&grouping));
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        if group.is_empty() {
            return true;
        }
        let after = group.cost(&grouping);
        if self.bytes.fetch_add(after, Ordering::Relaxed) + after > self.bytes_max {
            self.bytes.fetch_sub(after, Ordering::Relaxed);
            return false;
        }
        shard.insert(grouping, group);
        true
    }

    /// Lets a remembered group forget pushes that it is not made of any more.
    pub(super) fn forget(&self, group: &mut Group, grouping: &Grouping, pushes: &[u64]) {
        let before = group.cost(grouping);
        group.pushes.retain(|push, _| !pushes.contains(push));
        self.bytes.fetch_sub(before - group.cost(grouping), Ordering::Relaxed);
    }
}

impl Group {
    /// The series of a batch by family, brought by a push of so many bytes.
    pub(super) fn of(table: &SeriesTable, batch: &Batch, push: u64, bytes: usize, stamps: Stamps) -> Self {
        let mut group = Self { stamps, ..Self::default() };
        let mut ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
        ids.sort_unstable();
        ids.dedup();
        for (id, series) in ids.into_iter().filter_map(|id| Some((id, table.series(id)?))) {
            let family = series.metadata.as_ref().map_or(series.name.measurement(), |metadata| &metadata.family);
            let family =
                group.families.entry(family.into()).or_insert_with(|| Family { members: HashMap::new(), push });
            family.members.insert(name_and_labels(table, SERIES, &series), (id, series));
        }
        if !group.is_empty() {
            group.pushes.insert(push, bytes);
        }
        group
    }

    fn is_empty(&self) -> bool {
        self.families.is_empty()
    }

    /// Whether it has a family of that name.
    pub(super) fn has(&self, family: &str) -> bool {
        self.families.contains_key(family)
    }

    /// Present ids of its series.
    pub(super) fn ids(&self) -> HashSet<SeriesId> {
        self.families.values().flat_map(|family| family.members.values()).map(|(id, _)| *id).collect()
    }

    /// The pushes that it is made of.
    pub(super) fn pushes(&self) -> Vec<u64> {
        self.pushes.keys().copied().collect()
    }

    /// Those of which later ones have replaced every family.
    pub(super) fn replaced(&self) -> Vec<u64> {
        let used: HashSet<_> = self.families.values().map(|family| family.push).collect();
        self.pushes.keys().copied().filter(|push| !used.contains(push)).collect()
    }

    /// What it costs, estimated as if nothing else held its series.
    fn cost(&self, grouping: &Grouping) -> usize {
        let address: usize = grouping.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum();
        let member = |(_, series): &Member| {
            let labels: usize = series.labels.iter().map(|pair| ENTRY_BYTES + pair.name.len() + pair.value.len()).sum();
            let metadata = series.metadata.as_ref().map_or(0, |metadata| metadata.bytes());
            MEMBER_BYTES + series.name.len() + labels + metadata
        };
        let families = self
            .families
            .iter()
            .map(|(name, family)| ENTRY_BYTES + name.len() + family.members.values().map(member).sum::<usize>());
        let files = self.pushes.values().map(|bytes| ENTRY_BYTES + bytes);
        address + families.sum::<usize>() + files.sum::<usize>()
    }

    /// The group after a push, and the series that are in it no longer.
    pub(super) fn merge(old: Option<&Self>, pushed: Self, method: &Method) -> (Self, Vec<(AliasHash, Member)>) {
        let Some(old) = old else { return (pushed, Vec::new()) };
        let is_replaced = |family: &str| method != Method::POST || pushed.has(family);
        let stays = |key: &AliasHash| pushed.families.values().any(|family| family.members.contains_key(key));
        let replaced =
            old.families.iter().filter(|(name, _)| is_replaced(name)).flat_map(|(_, family)| &family.members);
        let gone = replaced.filter(|(key, _)| !stays(key)).map(|(key, member)| (*key, member.clone())).collect();
        let kept = old.families.iter().filter(|(name, _)| !is_replaced(name));
        let mut families: BTreeMap<_, _> = kept.map(|(name, family)| (name.clone(), family.clone())).collect();
        families.extend(pushed.families);
        // Those that are replaced go once the new one is safe.
        let mut pushes = old.pushes.clone();
        pushes.extend(pushed.pushes);
        (Self { families, pushes, stamps: pushed.stamps }, gone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, Metadata, MetricType, SampleFlags, SeriesSpec, Value};
    use std::sync::Arc;

    /// A group of series without labels, pushed with that number.
    fn group(table: &SeriesTable, push: u64, families: &[(&str, &[&str])]) -> Group {
        let mut builder = BatchBuilder::new(table, Format::PrometheusText, Vec::new());
        for (family, names) in families {
            for name in *names {
                let family = Metadata {
                    family: (*family).into(),
                    metric_type: MetricType::Unknown,
                    help: "".into(),
                    unit: "".into(),
                };
                let metadata = Some(Arc::new(family));
                let spec = SeriesSpec { measurement: name, field: None, labels: Vec::new(), metadata };
                let id = builder.define(builder.alias(name.as_bytes()), spec).unwrap();
                builder.push(id, 0, Value::F64(1.0), SampleFlags::NONE);
            }
        }
        Group::of(table, &builder.finish(), push, 1, Stamps::default())
    }

    fn names<'g>(members: impl IntoIterator<Item = &'g Member>) -> Vec<&'g str> {
        let mut names: Vec<_> = members.into_iter().map(|(_, series)| series.name.measurement()).collect();
        names.sort_unstable();
        names
    }

    fn job(name: &str) -> Grouping {
        vec![("job".to_owned(), name.to_owned())]
    }

    #[test]
    fn groups_are_remembered_up_to_a_bound_in_bytes() {
        let table = SeriesTable::default();
        let groups = Groups::new(1 << 10);
        let mut shard = Shard::new();
        let long = "l".repeat(1 << 10);
        assert!(groups.remember(&mut shard, job("a"), group(&table, 0, &[("a", &["a"])])));
        let held = groups.bytes.load(Ordering::Relaxed);
        assert!(!groups.remember(&mut shard, job("b"), group(&table, 1, &[("b", &[&long])])), "one long series");
        let mut large = group(&table, 2, &[("a", &["a"])]);
        large.pushes.insert(2, 1 << 10);
        assert!(!groups.remember(&mut shard, job("b"), large), "one large file");
        assert_eq!((shard.len(), groups.bytes.load(Ordering::Relaxed)), (1, held));
        assert!(groups.remember(&mut shard, job("a"), Group::default()));
        assert_eq!((shard.len(), groups.bytes.load(Ordering::Relaxed)), (0, 0), "what is deleted is given back");
    }

    #[test]
    fn a_push_replaces_by_its_method() {
        let table = SeriesTable::default();
        let old = group(&table, 0, &[("a", &["a1", "a2"]), ("b", &["b3"])]);
        let pushed = || group(&table, 1, &[("a", &["a2", "a4"])]);
        let cases: [(Method, Group, &[&str], &[&str]); 4] = [
            (Method::POST, pushed(), &["a2", "a4", "b3"], &["a1"]),
            (Method::PUT, pushed(), &["a2", "a4"], &["a1", "b3"]),
            (Method::PUT, Group::default(), &[], &["a1", "a2", "b3"]),
            (Method::DELETE, Group::default(), &[], &["a1", "a2", "b3"]),
        ];
        for (method, pushed, expected, gone) in cases {
            let (next, ended) = Group::merge(Some(&old), pushed, &method);
            let members = next.families.values().flat_map(|family| family.members.values());
            assert_eq!(names(members), expected, "{method}");
            assert_eq!(names(ended.iter().map(|(_, member)| member)), gone, "{method}");
        }
        let (next, gone) = Group::merge(None, pushed(), &Method::PUT);
        assert_eq!((names(next.families["a"].members.values()), gone.len()), (vec!["a2", "a4"], 0));
    }

    #[test]
    fn a_push_is_replaced_with_the_last_of_its_families() {
        let table = SeriesTable::default();
        let groups = Groups::new(1 << 20);
        let mut shard = Shard::new();
        let mut push = |number, families, method| {
            let pushed = group(&table, number, families);
            let (next, _) = Group::merge(shard.get(&job("j")), pushed, &method);
            assert!(groups.remember(&mut shard, job("j"), next));
            let group = shard.get_mut(&job("j")).unwrap();
            let replaced = group.replaced();
            groups.forget(group, &job("j"), &replaced);
            (replaced, group.pushes())
        };
        assert_eq!(push(1, &[("a", &["a"]), ("b", &["b"])], Method::POST), (vec![], vec![1]));
        assert_eq!(push(2, &[("a", &["a"])], Method::POST), (vec![], vec![1, 2]));
        assert_eq!(push(3, &[("a", &["a"]), ("c", &["c"])], Method::POST), (vec![2], vec![1, 3]));
        assert_eq!(push(4, &[("b", &["b"])], Method::POST), (vec![1], vec![3, 4]));
        assert_eq!(push(5, &[("a", &["a"])], Method::PUT), (vec![3, 4], vec![5]));
        let held = groups.bytes.load(Ordering::Relaxed);
        assert_eq!(held, shard[&job("j")].cost(&job("j")), "what is charged is what is there");
    }
}
