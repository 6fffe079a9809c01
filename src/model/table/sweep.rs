//! Idle series out of the table: first retired, then, when no batch can name them any more, freed.

use super::hash::IdHasher;
use super::{ALIAS_BYTES, PAIR_BYTES, SeriesTable, series_bytes};
use crate::model::{SeriesId, Source};
use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Sweeps without a sample after which a series makes room in a table that is crowded, whatever the bounds say.
pub(super) const IDLE_SWEEPS_WHEN_CROWDED: u32 = 5;

/// Keeps every series readable that was in the table when the pin was taken.
pub type Pin = Arc<Epoch>;

/// The time between two sweeps, held by the batches made in it.
#[derive(Debug)]
pub struct Epoch;

#[derive(Debug)]
pub(super) struct Retired {
    last_epoch: Weak<Epoch>,
    series: Vec<(SeriesId, Source)>,
}

impl SeriesTable {
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
        self.aliases.retain(|hash, alias| {
            let mut fresh = alias.seen.load(Ordering::Relaxed) >= oldest;
            if !fresh && let Some(seen) = self.trail.seen(alias.series, *hash) {
                alias.seen.store(seen, Ordering::Relaxed);
                fresh = seen >= oldest;
            }
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
            // Before the epoch ends: whoever pins the next one must not be led to them.
            for (id, _) in &idle {
                self.trail.retire(*id);
            }
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
                    self.trail.free(id);
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
}
