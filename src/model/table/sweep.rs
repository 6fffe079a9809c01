//! Idle series out of the table: first retired, then, when no batch can name them any more, freed.

use super::hash::IdHasher;
use super::{PAIR_BYTES, SERIES_BYTES, SPELLING_BYTES, SeriesTable, labels_bytes, metric_bytes};
use crate::model::SeriesId;
use std::collections::HashSet;
use std::hash::BuildHasherDefault;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// Sweeps without a sample after which a series makes room in a table that is crowded, whatever the bounds say.
pub(super) const IDLE_SWEEPS_WHEN_CROWDED: u32 = 5;

type IdSet = HashSet<SeriesId, BuildHasherDefault<IdHasher>>;

/// Keeps every series readable that was in the table when the pin was taken.
pub type Pin = Arc<Epoch>;

/// The time between two sweeps, held by the batches made in it.
#[derive(Debug)]
pub struct Epoch;

#[derive(Debug)]
pub(super) struct Retired {
    last_epoch: Weak<Epoch>,
    series: Vec<SeriesId>,
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
        self.runs.sweep(oldest);
        for (source, bytes) in self.families.sweep(sweep) {
            self.sources.release(source, bytes);
        }

        let mut idle = self.trail.idle(oldest);
        idle.retain(|id| self.retire(*id, oldest));
        // Before the epoch ends: whoever pins the next one must not be led to them.
        let gone: IdSet = idle.iter().copied().collect();
        self.spellings.retain(|_, spelling| {
            let stays = spelling.seen.load(Ordering::Relaxed) >= oldest && !gone.contains(&spelling.series);
            if !stays {
                self.sources.release(spelling.source, SPELLING_BYTES);
            }
            stays
        });
        let retired = idle.len();
        if retired > 0 {
            let ended = std::mem::replace(&mut *self.epoch.lock(), Arc::new(Epoch));
            self.retired.lock().push_back(Retired { last_epoch: Arc::downgrade(&ended), series: idle });
        }
        self.free_retired();
        retired
    }

    /// Ends the recognition of a series but by its further aliases, unless it was met meanwhile.
    fn retire(&self, id: SeriesId, oldest: u32) -> bool {
        let Some(definition) = self.trail.definition(id) else { return false };
        let identity = definition.identity();
        // Whoever gives it another alias has this locked.
        let mut known = self.identities.lock(identity);
        if self.trail.seen(id).is_none_or(|seen| seen >= oldest) {
            return false;
        }
        known.remove(identity, |other| other == id);
        let alias = self.trail.alias(id);
        self.aliases.lock(alias).remove(alias, |other| other == id);
        self.trail.retire(id);
        self.sources.remove_series(self.trail.source(id));
        true
    }

    fn free_retired(&self) {
        let mut retired = self.retired.lock();
        let mut freed = false;
        // In order: an epoch's series may be held by batches of any earlier epoch.
        while retired.front().is_some_and(|oldest| oldest.last_epoch.strong_count() == 0) {
            let Some(oldest) = retired.pop_front() else { break };
            freed = true;
            for id in oldest.series {
                self.sources.release(self.trail.source(id), SERIES_BYTES);
                self.trail.free(id);
            }
        }
        if freed {
            self.free_parts();
        }
    }

    /// Frees what no series has any more, lists before their pairs.
    fn free_parts(&self) {
        self.metrics.retain(|_, (metric, source)| {
            let used = Arc::strong_count(metric) > 1;
            if !used {
                self.sources.release(*source, metric_bytes(&metric.name, metric.metadata.as_deref()));
            }
            used
        });
        self.labels.retain(|_, (labels, source)| {
            let used = labels.is_shared();
            if !used {
                self.sources.release(*source, labels_bytes(labels));
            }
            used
        });
        self.pairs.retain(|_, (pair, source)| {
            let used = Arc::strong_count(pair) > 1;
            if !used {
                self.sources.release(*source, PAIR_BYTES + pair.name.len() + pair.value.len());
            }
            used
        });
    }
}
