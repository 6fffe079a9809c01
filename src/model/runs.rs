//! Runs: series that come one behind the other again and again.
//!
//! Senders name their series in the same order each time. What was found out of a run once holds whenever it comes, so whoever
//! takes many samples (outputs above all) need not ask for each series anew. A batch says where runs begin in it
//! ([`Batch::runs`](super::Batch::runs)); they are hints: every sample names its series all the same.
//!
//! * A run ends behind a series whose id says so, or with its request, hence at the same places however requests are cut.
//! * It is known once its series were sent twice in that order, and has each of them once. Who reads samples again finds it.
//! * A series is in one run: while that comes, no other takes it. So the parts of a run that the end of a request cuts are none
//!   beside it, wherever the next end falls.
//! * So they are bounded by the table. A run that did not come for as long as a series takes to be idle is forgotten.

use super::{IdMap, IdTable, Sample, SeriesId};
use parking_lot::{Mutex, RwLock};
use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use xxhash_rust::xxh3::Xxh3Default;

/// How many series runs have; less at the end of a request.
const LENGTHS: RangeInclusive<usize> = 128..=1024;
/// The part of the shortest that is worth it at the end of a request.
const REST_PART: usize = 4;
/// One in so many series ends a run.
const ENDS: u32 = 128;
/// Runs remembered that came once, by their hashes: a megabyte or two.
const HEARD_MAX: usize = 1 << 16;
/// Sweeps after which a run that does not come gives way to others.
const AWAY_SWEEPS: u32 = 2;
/// Estimated cost of a run, and of a series in one: its id, and its place among pages.
const RUN_BYTES: usize = 96;
const PLACE_BYTES: usize = size_of::<SeriesId>() + 5;

/// Series that come in this order.
#[derive(Debug)]
pub struct Run {
    number: u32,
    series: Box<[SeriesId]>,
    /// The sweep in which it came last.
    seen: AtomicU32,
}

impl Run {
    /// Its number, which no other run of its table has.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its series.
    pub fn series(&self) -> &[SeriesId] {
        &self.series
    }

    fn bytes(&self) -> usize {
        RUN_BYTES + self.series.len() * PLACE_BYTES
    }

    fn last_seen(&self) -> u32 {
        self.seen.load(Ordering::Relaxed)
    }

    #[inline]
    fn begins(&self, samples: &[Sample]) -> bool {
        samples.len() >= self.series.len()
            && self.series.iter().zip(samples).all(|(series, sample)| *series == sample.series)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Runs {
    lengths: RangeInclusive<usize>,
    known: RwLock<Known>,
    /// Those that came once, as hashes.
    heard: Mutex<HashSet<u64>>,
    next: AtomicU32,
    /// Memory of those that are known.
    bytes: AtomicUsize,
}

#[derive(Debug, Default)]
struct Known {
    /// By their first series.
    runs: IdMap<SeriesId, Arc<Run>>,
    /// The first series of the run that a series is in.
    of: IdTable<NonZeroU32>,
}

impl Known {
    fn forget(&mut self, first: SeriesId) -> Option<Arc<Run>> {
        let run = self.runs.remove(&first)?;
        for id in &run.series {
            self.of.remove(*id);
        }
        Some(run)
    }
}

impl Default for Runs {
    fn default() -> Self {
        let (next, bytes) = (AtomicU32::new(0), AtomicUsize::new(0));
        Self { lengths: LENGTHS, known: RwLock::default(), heard: Mutex::default(), next, bytes }
    }
}

impl Runs {
    #[cfg(test)]
    pub(super) fn new(lengths: RangeInclusive<usize>) -> Self {
        Self { lengths, ..Self::default() }
    }

    /// Memory they occupy.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The runs among samples that were sent, each with the place where it begins. What is none yet may be one the next time.
    pub(super) fn meet(&self, samples: &[Sample], sweep: u32) -> Vec<(u32, Arc<Run>)> {
        let mut new = Vec::new();
        let met = self.among(samples, |samples| new.push(samples));
        for (_, run) in &met {
            run.seen.store(sweep, Ordering::Relaxed);
        }
        if !new.is_empty() {
            self.hear(&new, sweep);
        }
        met
    }

    /// The runs among samples that were sent before.
    pub(super) fn find(&self, samples: &[Sample]) -> Vec<(u32, Arc<Run>)> {
        self.among(samples, |_| {})
    }

    fn among<'s>(&self, samples: &'s [Sample], mut other: impl FnMut(&'s [Sample])) -> Vec<(u32, Arc<Run>)> {
        let mut found = Vec::new();
        let known = self.known.read();
        let mut at = 0;
        while let Some(first) = samples.get(at) {
            let rest = &samples[at..];
            if let Some(run) = known.runs.get(&first.series).filter(|run| run.begins(rest)) {
                found.push((at as u32, Arc::clone(run)));
                at += run.series.len();
                continue;
            }
            let len = self.len(rest);
            if len >= self.lengths.start().div_ceil(REST_PART) {
                other(&rest[..len]);
            }
            at += len;
        }
        found
    }

    /// Where the run ends that begins with these samples.
    fn len(&self, samples: &[Sample]) -> usize {
        let (min, max) = (*self.lengths.start(), samples.len().min(*self.lengths.end()));
        let ends = |sample: &Sample| sample.series.0.wrapping_mul(0x9e37_79b9) < u32::MAX / ENDS;
        let last = samples.iter().take(max).skip(min - 1).position(ends);
        last.map_or(max, |last| last + min)
    }

    #[cold]
    fn hear(&self, new: &[&[Sample]], sweep: u32) {
        for samples in new {
            let series: Box<[_]> = samples.iter().map(|sample| sample.series).collect();
            let hash = BuildHasherDefault::<Xxh3Default>::default().hash_one(&series);
            let mut heard = self.heard.lock();
            if heard.len() >= HEARD_MAX {
                heard.clear();
            }
            if heard.insert(hash) {
                continue;
            }
            heard.remove(&hash);
            drop(heard);
            let recalled = series.iter().any(|id| id.is_recalled());
            if recalled || series.iter().collect::<HashSet<_>>().len() < series.len() {
                continue;
            }
            self.learn(series, sweep);
        }
    }

    /// Takes up a run, unless one of its series is in another that comes.
    fn learn(&self, series: Box<[SeriesId]>, sweep: u32) {
        let mut known = self.known.write();
        let Known { runs, of } = &mut *known;
        let mut others: Vec<_> = series.iter().filter_map(|id| of.get(*id).copied()).map(place).collect();
        others.dedup();
        let comes = |first| runs.get(first).is_some_and(|run: &Arc<Run>| sweep < run.last_seen() + AWAY_SWEEPS);
        if others.iter().any(comes) {
            return;
        }
        for first in others {
            self.release(known.forget(first).as_deref());
        }
        let first = series[0];
        for id in &series {
            known.of.insert(*id, number(first));
        }
        let run = Run { number: self.next.fetch_add(1, Ordering::Relaxed), series, seen: AtomicU32::new(sweep) };
        self.bytes.fetch_add(run.bytes(), Ordering::Relaxed);
        known.runs.insert(first, Arc::new(run));
    }

    fn release(&self, run: Option<&Run>) {
        self.bytes.fetch_sub(run.map_or(0, Run::bytes), Ordering::Relaxed);
    }

    /// Forgets runs that did not come since a sweep.
    pub(super) fn sweep(&self, oldest: u32) {
        let mut known = self.known.write();
        let gone = known.runs.iter().filter(|(_, run)| run.last_seen() < oldest).map(|(first, _)| *first);
        for first in gone.collect::<Vec<_>>() {
            self.release(known.forget(first).as_deref());
        }
    }
}

/// An id as a number that is not zero, and back: no series of the table has the last id.
fn number(id: SeriesId) -> NonZeroU32 {
    NonZeroU32::MIN.saturating_add(id.0)
}

fn place(number: NonZeroU32) -> SeriesId {
    SeriesId(number.get() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Format, SampleFlags, SeriesTable, Value};

    fn samples(ids: impl IntoIterator<Item = u32>) -> Vec<Sample> {
        let mut batch = Batch::new(Format::RemoteWrite, SeriesTable::default().pin());
        ids.into_iter().for_each(|id| batch.push(SeriesId(id), 0, Value::Bool(true), SampleFlags::NONE));
        batch.samples
    }

    /// Samples in runs, after the runs were checked to be where they are said to be.
    fn in_runs(runs: &Runs, samples: &[Sample]) -> usize {
        let found = runs.meet(samples, 7);
        let mut free = 0;
        for (at, run) in &found {
            assert!(*at as usize >= free && run.begins(&samples[*at as usize..]));
            free = *at as usize + run.series.len();
        }
        found.iter().map(|(_, run)| run.series.len()).sum()
    }

    #[test]
    fn series_that_came_twice_in_one_order_are_runs_however_requests_are_cut() {
        let runs = Runs::default();
        let all = samples(0..20_000);
        assert_eq!([in_runs(&runs, &all), in_runs(&runs, &all), in_runs(&runs, &all)], [0, 0, 20_000]);
        let cut = |len: usize| all.chunks(len).map(|request| in_runs(&runs, request)).sum::<usize>();
        let (hundreds, thousands) = (cut(700), cut(3000));
        assert!(hundreds > 5000 && thousands > 14_000, "{hundreds}, {thousands}");
        assert_eq!(in_runs(&runs, &samples((0..20_000).rev())), 0);
    }

    #[test]
    fn a_series_that_comes_twice_is_in_no_run_and_neither_are_recalled_ones() {
        let runs = Runs::new(1..=8);
        for ids in [[1, 2, 3, 2], [1, SeriesId::recalled(1).unwrap().0, 2, 3]] {
            for _ in 0..4 {
                let found = runs.meet(&samples(ids), 0);
                assert!(found.iter().all(|(_, run)| run.series.len() < 4), "{found:?}");
            }
        }
    }

    #[test]
    fn runs_that_do_not_come_are_forgotten() {
        let runs = Runs::new(100..=100);
        let (some, others) = (samples(0..1000), samples(1000..2000));
        for sweep in 0..3 {
            runs.meet(&some, 0);
            runs.meet(&others, sweep);
        }
        let bytes = runs.bytes();
        runs.sweep(2);
        assert!(bytes > 8000 && runs.bytes() * 2 == bytes);
        assert_eq!((in_runs(&runs, &some), in_runs(&runs, &others)), (0, 1000));
    }

    #[test]
    fn no_run_takes_a_series_from_one_that_comes_however_ends_of_requests_drift() {
        let runs = Runs::default();
        let all = samples((0..10_300).cycle().take(10_300 * 300));
        let (mut in_runs, mut most) = (0, 0);
        for (number, request) in all.chunks(2000).enumerate() {
            let found = runs.meet(request, number as u32 / 100);
            if number >= 1000 {
                in_runs += found.iter().map(|(_, run)| run.series.len()).sum::<usize>();
            }
            let known = runs.known.read();
            let named: usize = known.runs.values().map(|run| run.series.len()).sum();
            assert_eq!(named, known.of.len());
            most = most.max(runs.next.load(Ordering::Relaxed));
        }
        let (share, made) = (in_runs * 100 / (all.len() - 2_000_000), most);
        assert!(share > 75 && made < 200, "{share} % of the samples, {made} runs made");
    }
}
