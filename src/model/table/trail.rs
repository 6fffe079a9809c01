//! The series by id, in pages, and which came behind which: senders name their series in the same order again and again.
//!
//! Whoever has just met a series expects the one that came behind it the last time. If the alias at hand is the one under
//! which that was first seen, it is recognised by memory that lies side by side; the map of aliases, whose entries lie all over
//! memory, is asked for the others, and the trail is corrected. A wrong trail costs time, never a wrong series.

use super::hash::{AliasHash, ReadyMap};
use crate::model::{Dialect, Labels, Metadata, SeriesId, SeriesName, Source};
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Series of a page.
const PAGE: usize = 64;
/// What [`Step::next`] says at the end of a trail: no id of the table.
const NOWHERE: u32 = u32::MAX;

/// What a series is: its parts, which it shares with others. The table makes a [`Series`](crate::model::Series) of them
/// for those who ask, which is seldom.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub(super) metric: Arc<Metric>,
    pub(super) labels: Labels,
}

/// What series are that differ by labels alone.
#[derive(Debug)]
pub(super) struct Metric {
    /// The hash by which the table knows it.
    pub(super) hash: AliasHash,
    pub(super) dialect: Dialect,
    pub(super) name: SeriesName,
    pub(super) metadata: Option<Arc<Metadata>>,
}

/// One series of the trail. Each of its words is read and written alone: an alias that is torn meets no other.
#[derive(Debug)]
struct Step {
    /// The alias under which it was first seen, in two halves; zero when it left the table.
    alias: [AtomicU64; 2],
    /// The sweep in which it was last met.
    seen: AtomicU32,
    /// The series behind it.
    next: AtomicU32,
    /// Length of the bytes that name it; 0 while that is not known.
    named: AtomicU32,
    /// Who sent it first.
    source: AtomicU16,
}

impl Step {
    fn is(&self, alias: AliasHash) -> bool {
        let [low, high] = halves(alias);
        self.alias[0].load(Ordering::Relaxed) == low && self.alias[1].load(Ordering::Relaxed) == high
    }

    fn name(&self, alias: AliasHash) {
        for (half, value) in self.alias.iter().zip(halves(alias)) {
            half.store(value, Ordering::Relaxed);
        }
    }

    fn alias(&self) -> AliasHash {
        let [low, high] = self.alias.each_ref().map(|half| u128::from(half.load(Ordering::Relaxed)));
        AliasHash(high << 64 | low)
    }

    #[inline]
    fn see(&self, sweep: u32) {
        // Written only when it changes: a store in each lookup would make the line travel between cores.
        if self.seen.load(Ordering::Relaxed) != sweep {
            self.seen.store(sweep, Ordering::Relaxed);
        }
    }
}

fn halves(alias: AliasHash) -> [u64; 2] {
    [alias.0 as u64, (alias.0 >> 64) as u64]
}

#[derive(Debug)]
struct Page {
    steps: [Step; PAGE],
    /// What the series are that are not freed yet.
    definitions: RwLock<[Option<Definition>; PAGE]>,
}

impl Page {
    fn new() -> Self {
        let step = |_| Step {
            alias: [AtomicU64::new(0), AtomicU64::new(0)],
            seen: AtomicU32::new(0),
            next: AtomicU32::new(NOWHERE),
            named: AtomicU32::new(0),
            source: AtomicU16::new(0),
        };
        Self { steps: std::array::from_fn(step), definitions: RwLock::new([const { None }; PAGE]) }
    }

    #[inline]
    fn step(&self, id: SeriesId) -> &Step {
        &self.steps[place(id)]
    }
}

#[inline]
fn place(id: SeriesId) -> usize {
    id.0 as usize % PAGE
}

#[inline]
fn number(id: SeriesId) -> u32 {
    id.0 / PAGE as u32
}

/// All series of the table, those that are retired included.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pages: ReadyMap<u32, Arc<Page>>,
    series: AtomicUsize,
    /// Series for which there are pages.
    places: AtomicUsize,
}

impl Trail {
    /// Memory of pages for series that are not there any more, or not yet.
    pub(super) fn vacant_bytes(&self) -> usize {
        let vacant = self.places.load(Ordering::Relaxed).saturating_sub(self.len());
        vacant * (size_of::<Page>() / PAGE)
    }

    /// Series that are not freed yet.
    pub(super) fn len(&self) -> usize {
        self.series.load(Ordering::Relaxed)
    }

    /// Adds a new series and the alias it came under.
    pub(super) fn add(&self, id: SeriesId, alias: AliasHash, sweep: u32, source: Source, definition: Definition) {
        let page = self.pages.entry(number(id)).or_insert_with(|| {
            self.places.fetch_add(PAGE, Ordering::Relaxed);
            Arc::new(Page::new())
        });
        page.definitions.write()[place(id)] = Some(definition);
        self.series.fetch_add(1, Ordering::Relaxed);
        let step = page.step(id);
        step.see(sweep);
        step.source.store(source.0, Ordering::Relaxed);
        step.name(alias);
    }

    /// What a series is, as long as it is not freed.
    pub(super) fn definition(&self, id: SeriesId) -> Option<Definition> {
        self.pages.get(&number(id))?.definitions.read()[place(id)].clone()
    }

    /// Who sent a series first.
    pub(super) fn source(&self, id: SeriesId) -> Source {
        self.pages.get(&number(id)).map_or(Source::OWN, |page| Source(page.step(id).source.load(Ordering::Relaxed)))
    }

    /// Whether a series has that alias; then it is seen.
    #[inline]
    pub(super) fn meet(&self, id: SeriesId, alias: AliasHash, sweep: u32) -> bool {
        let Some(page) = self.pages.get(&number(id)) else { return false };
        let step = page.step(id);
        let met = step.is(alias);
        if met {
            step.see(sweep);
        }
        met
    }

    /// Notes that a series was met, by whatever alias.
    pub(super) fn see(&self, id: SeriesId, sweep: u32) {
        if let Some(page) = self.pages.get(&number(id)) {
            page.step(id).see(sweep);
        }
    }

    /// The sweep in which a series was last met; none when it left the table.
    pub(super) fn seen(&self, id: SeriesId) -> Option<u32> {
        let page = self.pages.get(&number(id))?;
        let step = page.step(id);
        (step.alias() != AliasHash::default()).then(|| step.seen.load(Ordering::Relaxed))
    }

    /// The alias under which a series was first seen; zero when it left the table.
    pub(super) fn alias(&self, id: SeriesId) -> AliasHash {
        self.pages.get(&number(id)).map_or_else(AliasHash::default, |page| page.step(id).alias())
    }

    /// The series that were not met since a sweep.
    pub(super) fn idle(&self, oldest: u32) -> Vec<SeriesId> {
        let mut idle = Vec::new();
        for page in &self.pages {
            let first = page.key() * PAGE as u32;
            let held = page.definitions.read();
            let steps = page.steps.iter().zip(&*held).zip(first..);
            idle.extend(steps.filter_map(|((step, held), id)| {
                let is_idle = held.is_some() && step.seen.load(Ordering::Relaxed) < oldest;
                (is_idle && step.alias() != AliasHash::default()).then_some(SeriesId(id))
            }));
        }
        idle
    }

    /// Ends the recognition of a series.
    pub(super) fn retire(&self, id: SeriesId) {
        if let Some(page) = self.page(id) {
            page.step(id).name(AliasHash::default());
        }
    }

    /// Forgets a retired series.
    pub(super) fn free(&self, id: SeriesId) {
        let removed = self.pages.remove_if(&number(id), |_, page| {
            let mut definitions = page.definitions.write();
            definitions[place(id)] = None;
            definitions.iter().all(Option::is_none)
        });
        self.series.fetch_sub(1, Ordering::Relaxed);
        if removed.is_some() {
            self.places.fetch_sub(PAGE, Ordering::Relaxed);
        }
    }

    /// Pages in use.
    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        self.pages.len()
    }

    fn page(&self, id: SeriesId) -> Option<Arc<Page>> {
        self.pages.get(&number(id)).map(|page| Arc::clone(&page))
    }
}

/// A walk along the trail: the series met last.
#[derive(Debug, Default)]
pub struct Walk(Option<(SeriesId, Arc<Page>)>);

impl Walk {
    /// Goes on to the series expected next, if that is the one of the alias.
    #[inline]
    pub(super) fn go_on(&mut self, trail: &Trail, alias: AliasHash, sweep: u32) -> Option<SeriesId> {
        let (here, page) = self.0.as_mut()?;
        let next = SeriesId(page.step(*here).next.load(Ordering::Relaxed));
        if number(next) != number(*here) {
            let other = trail.page(next)?;
            if !other.step(next).is(alias) {
                return None;
            }
            *page = other;
        } else if !page.step(next).is(alias) {
            return None;
        }
        *here = next;
        page.step(next).see(sweep);
        Some(next)
    }

    /// Length of the bytes that name the series expected next, where it is near in memory.
    #[inline]
    pub fn expected_len(&self) -> Option<usize> {
        let (here, page) = self.0.as_ref()?;
        let next = SeriesId(page.step(*here).next.load(Ordering::Relaxed));
        let named = (number(next) == number(*here)).then(|| page.step(next).named.load(Ordering::Relaxed))?;
        Some(named as usize)
    }

    /// Goes to a series that was not expected, which from now on is. It was named by so many bytes.
    #[cold]
    pub(super) fn turn(&mut self, trail: &Trail, id: SeriesId, alias: AliasHash, named: usize) {
        if let Some((here, page)) = &self.0 {
            page.step(*here).next.store(id.0, Ordering::Relaxed);
        }
        self.0 = trail.page(id).map(|page| (id, page));
        if let Some((_, page)) = &self.0
            && page.step(id).is(alias)
        {
            page.step(id).named.store(u32::try_from(named).unwrap_or(0), Ordering::Relaxed);
        }
    }
}
