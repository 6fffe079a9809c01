//! Which series came behind which: senders name their series in the same order again and again.
//!
//! Whoever has just met a series expects the one that came behind it the last time. If the alias at hand is the one under
//! which that was first seen, it is recognised by memory that lies side by side; the map of aliases, whose entries lie all over
//! memory, is asked for the others, and the trail is corrected. A wrong trail costs time, never a wrong series.

use super::hash::{AliasHash, ReadyMap};
use crate::model::SeriesId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Series of a page.
const PAGE: usize = 64;
/// What [`Step::next`] says at the end of a trail: no id of the table.
const NOWHERE: u32 = u32::MAX;

/// One series of the trail. Each of its words is read and written alone: an alias that is torn meets no other.
#[derive(Debug)]
struct Step {
    /// The alias under which it was first seen, in two halves; zero when it left the table.
    alias: [AtomicU64; 2],
    /// The sweep in which it was last met here.
    seen: AtomicU32,
    /// The series behind it.
    next: AtomicU32,
    /// Length of the bytes that name it; 0 while that is not known.
    named: AtomicU32,
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
}

fn halves(alias: AliasHash) -> [u64; 2] {
    [alias.0 as u64, (alias.0 >> 64) as u64]
}

#[derive(Debug)]
struct Page {
    steps: [Step; PAGE],
    /// Series of the page that are not freed yet.
    held: AtomicU32,
}

impl Page {
    fn new() -> Self {
        let step = |_| Step {
            alias: [AtomicU64::new(0), AtomicU64::new(0)],
            seen: AtomicU32::new(0),
            next: AtomicU32::new(NOWHERE),
            named: AtomicU32::new(0),
        };
        Self { steps: std::array::from_fn(step), held: AtomicU32::new(0) }
    }

    #[inline]
    fn step(&self, id: SeriesId) -> &Step {
        &self.steps[id.0 as usize % PAGE]
    }
}

#[inline]
fn number(id: SeriesId) -> u32 {
    id.0 / PAGE as u32
}

/// The steps of all series of the table.
#[derive(Debug, Default)]
pub(super) struct Trail {
    pages: ReadyMap<u32, Arc<Page>>,
}

impl Trail {
    /// Adds a new series and the alias it came under.
    pub(super) fn add(&self, id: SeriesId, alias: AliasHash, sweep: u32) {
        let page = self.pages.entry(number(id)).or_insert_with(|| Arc::new(Page::new()));
        page.held.fetch_add(1, Ordering::Relaxed);
        let step = page.step(id);
        step.seen.store(sweep, Ordering::Relaxed);
        step.name(alias);
    }

    /// The sweep in which a series was last met under that alias, if the trail knows it by it.
    pub(super) fn seen(&self, id: SeriesId, alias: AliasHash) -> Option<u32> {
        let page = self.page(id)?;
        let step = page.step(id);
        step.is(alias).then(|| step.seen.load(Ordering::Relaxed))
    }

    /// Ends the recognition of a series.
    pub(super) fn retire(&self, id: SeriesId) {
        if let Some(page) = self.page(id) {
            page.step(id).name(AliasHash(0));
        }
    }

    /// Forgets a retired series.
    pub(super) fn free(&self, id: SeriesId) {
        self.pages.remove_if(&number(id), |_, page| page.held.fetch_sub(1, Ordering::Relaxed) == 1);
    }

    /// Pages in use.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
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
        let seen = &page.step(next).seen;
        // Written only when it changes: a store in each lookup would make the line travel between cores.
        if seen.load(Ordering::Relaxed) != sweep {
            seen.store(sweep, Ordering::Relaxed);
        }
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
