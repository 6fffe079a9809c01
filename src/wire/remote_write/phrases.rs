//! Runs of series that come again and again in the same order, each compressed once.
//!
//! Senders name their series in the same order each time, so bodies consist of the same runs, however they are cut. A run ends
//! with its request, or behind a series that says so by its labels, hence at the same places each time. One that is heard
//! twice becomes a [`Phrase`]: its part of the message as Snappy elements with holes for values and times. From then on its
//! series are only compared with those expected, and its part of a body is copied and the holes are filled in.
//!
//! * A series is in one phrase at most, the youngest that has it.
//! * In a body the samples of a phrase's series stand either there or among the gathered ones. A phrase that is spoken again
//!   in a body has later times, so samples of a series are in order, though not in one `TimeSeries`.
//! * A run of long labels becomes none, so that what its phrase occupies is bounded by the series in it.
//! * What a phrase cannot hold (exemplars, histograms, times that go back or are of unusual length) is gathered as if there
//!   were no phrases, and so are the other series of the phrase in that body.
//! * A phrase with a series that nobody else has any more is forgotten. With each body some are looked at, more of them than
//!   it brought, so that forgotten ones are not more than others.

mod phrase;

use super::encode::Rendered;
use super::gather::{Facts, Gathered, number};
use crate::model::Losses;
use crate::wire::SampleRef;
use phrase::{Part, Phrase, TIMES};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How many series runs have; less at the end of a request, where as few as a quarter are worth it.
pub(super) const SERIES: RangeInclusive<usize> = 32..=192;
/// One in so many series ends a run.
const ENDS: u32 = 64;
/// Runs remembered that were heard once.
const HEARD_MAX: usize = 1 << 16;
/// Phrases looked at with each body whether they are still needed, and as many again for each that it brought.
const SWEPT: usize = 4;
/// Bytes of labels that the series of a run have on average, at most. What they share lies further apart in longer ones than a
/// template's copies reach, so each would have all of it.
const LABELS_BYTES_MAX: usize = 1 << 10;

/// Whether a run ends behind a series.
fn ends_run(rendered: &Rendered) -> bool {
    rendered.labels.spread().is_multiple_of(ENDS)
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A phrase in the body at hand.
#[derive(Clone, Copy, Debug)]
struct Spoken {
    /// Number of the phrase.
    number: u32,
    /// Where its samples begin.
    first: usize,
    /// Series gathered before it.
    groups: usize,
}

/// The phrases of an encoder, and which of them the body at hand has.
#[derive(Debug)]
pub(super) struct Phrases {
    lengths: RangeInclusive<usize>,
    /// By number less one.
    known: Vec<Option<Phrase>>,
    free: Vec<u32>,
    /// Runs heard once, as hashes.
    heard: HashSet<u64>,
    /// Where the sweep goes on, and over how many.
    swept: usize,
    to_sweep: usize,
    /// The body at hand; never 0.
    body: u64,
    spoken: Vec<Spoken>,
    /// The phrase that is being spoken. Its samples are the last ones.
    speaking: Option<Spoken>,
    /// Bits and milliseconds of all samples in phrases.
    samples: Vec<(u64, i64)>,
    /// Samples of phrases that were dissolved.
    dissolved: usize,
    bytes: usize,
    /// Whether a run begins with the next sample.
    at_start: bool,
    /// Whether the next sample is the first of its request.
    begins: bool,
    /// Where the run that is being listened to begins among the gathered samples.
    run: Option<usize>,
}

/// Samples that leave their phrase to be gathered.
pub(super) type Samples = Vec<(Arc<Rendered>, u64, i64)>;

impl Phrases {
    pub(super) fn new(lengths: RangeInclusive<usize>) -> Self {
        Self {
            lengths,
            known: Vec::new(),
            free: Vec::new(),
            heard: HashSet::new(),
            swept: 0,
            to_sweep: SWEPT,
            body: 1,
            spoken: Vec::new(),
            speaking: None,
            samples: Vec::new(),
            dissolved: 0,
            bytes: 0,
            at_start: true,
            begins: true,
            run: None,
        }
    }

    /// Samples in phrases of the body at hand.
    pub(super) fn samples(&self) -> u64 {
        (self.samples.len() - self.dissolved) as u64
    }

    /// What they add to the message, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a sample if it goes on with a phrase.
    #[inline]
    pub(super) fn follow(
        &mut self,
        rendered: &Arc<Rendered>,
        sample: &SampleRef<'_>,
        groups: usize,
        losses: &mut Losses,
    ) -> bool {
        let Some(speaking) = self.speaking.or_else(|| self.begin(rendered, groups)) else { return false };
        let Some(phrase) = &mut self.known[speaking.number as usize - 1] else { return false };
        let said = self.samples.len() - speaking.first;
        if phrase.series.get(said).is_none_or(|series| !Arc::ptr_eq(series, rendered)) {
            return false;
        }
        let mut altered = phrase.losses(said);
        let Facts { timestamp, .. } = Facts::of::<Rendered>(sample, &mut altered);
        let Some(bits) = number(sample.value, &mut altered) else { return false };
        let is_expected = if said > 0 && phrase.has_one_time {
            timestamp == self.samples[speaking.first].1
        } else {
            TIMES.contains(&timestamp)
        };
        let is_later = phrase.spoken.0 != self.body || timestamp > self.samples[phrase.spoken.1 + said].1;
        if !is_expected || !is_later {
            return false;
        }
        self.begins = false;
        self.samples.push((bits, timestamp));
        losses.count_set(altered);
        if said + 1 == phrase.series.len() {
            phrase.spoken = (self.body, speaking.first);
            self.bytes += phrase.template.message_len();
            self.spoken.push(speaking);
            (self.speaking, self.at_start) = (None, true);
        } else {
            self.speaking = Some(speaking);
        }
        true
    }

    /// The phrase that begins with the series, if one may.
    fn begin(&self, rendered: &Arc<Rendered>, groups: usize) -> Option<Spoken> {
        if !self.at_start {
            return None;
        }
        let number = rendered.phrase.load(Ordering::Relaxed);
        let phrase = self.phrase(number)?;
        let is_first = phrase.series.first().is_some_and(|first| Arc::ptr_eq(first, rendered));
        (is_first && phrase.silent != self.body).then_some(Spoken { number, first: self.samples.len(), groups })
    }

    fn phrase(&self, number: u32) -> Option<&Phrase> {
        self.known.get((number as usize).checked_sub(1)?)?.as_ref()
    }

    /// Ends what is being spoken, if it is not at its end: its samples are to be gathered, and the run goes on behind them,
    /// where so many samples were gathered before. Returns them, and whether the next sample begins a request, so that it
    /// [may begin a run](Phrases::end_request).
    pub(super) fn break_off(&mut self, gathered: usize) -> (Samples, bool) {
        let begins = std::mem::take(&mut self.begins);
        let Some(speaking) = self.speaking.take() else { return (Samples::new(), false) };
        let mut samples = self.silence(speaking.number);
        (self.at_start, self.run) = (false, Some(gathered + samples.len()));
        samples.extend(self.samples_of(speaking));
        self.samples.truncate(speaking.first);
        (samples, begins)
    }

    /// Keeps the phrase of a series out of the body. If it was spoken, its samples are to be gathered.
    #[inline]
    pub(super) fn dissolve(&mut self, rendered: &Rendered) -> Samples {
        let number = rendered.phrase.load(Ordering::Relaxed);
        if number == 0 { Samples::new() } else { self.silence(number) }
    }

    #[cold]
    fn silence(&mut self, number: u32) -> Samples {
        let Some(phrase) = self.known.get_mut(number as usize - 1).and_then(Option::as_mut) else {
            return Samples::new();
        };
        let was_spoken = std::mem::take(&mut phrase.spoken).0 == self.body;
        phrase.silent = self.body;
        let message_len = phrase.template.message_len();
        let mut samples = Samples::new();
        if was_spoken {
            let spoken = self.spoken.extract_if(.., |spoken| spoken.number == number).collect::<Vec<_>>();
            self.bytes -= spoken.len() * message_len;
            for spoken in spoken {
                samples.extend(self.samples_of(spoken));
            }
            self.dissolved += samples.len();
            // They come between those of the run.
            self.run = None;
        }
        samples
    }

    fn samples_of(&self, spoken: Spoken) -> impl Iterator<Item = (Arc<Rendered>, u64, i64)> {
        let series = self.phrase(spoken.number).into_iter().flat_map(|phrase| phrase.series.iter());
        let samples = series.zip(&self.samples[spoken.first..]);
        samples.map(|(series, (bits, timestamp))| (Arc::clone(series), *bits, *timestamp))
    }

    /// Ends the run with its request. A phrase that is being spoken may go on in the next.
    pub(super) fn end_request(&mut self, gathered: &Gathered<Rendered>) {
        if let Some(start) = self.run.take()
            && gathered.samples() - start >= self.lengths.start().div_ceil(4)
        {
            self.learn(gathered, start);
        }
        self.at_start = self.speaking.is_none();
        self.begins = true;
    }

    /// Listens to the samples that were gathered from `before` on, of that series: a run may begin or end with them.
    #[inline]
    pub(super) fn listen(&mut self, gathered: &Gathered<Rendered>, before: usize, rendered: &Rendered) {
        if std::mem::take(&mut self.at_start) {
            self.run = Some(before);
        }
        let heard = self.run.map(|start| gathered.samples() - start);
        let is_long_enough = heard.is_none_or(|heard| heard >= *self.lengths.start());
        if is_long_enough && ends_run(rendered) || heard.is_some_and(|heard| heard >= *self.lengths.end()) {
            self.at_start = true;
            if let Some(start) = self.run.take() {
                self.learn(gathered, start);
            }
        }
    }

    /// Makes a phrase of the samples gathered from `start` on, if they were heard before.
    #[cold]
    fn learn(&mut self, gathered: &Gathered<Rendered>, start: usize) {
        let Some(run) = gathered.plain(start).collect::<Option<Vec<_>>>() else { return };
        let (Some((_, time)), true) = (run.first(), run.iter().all(|(_, time)| TIMES.contains(time))) else { return };
        if run.iter().map(|(series, _)| series.labels.len()).sum::<usize>() > LABELS_BYTES_MAX * run.len() {
            return;
        }
        let one_time = run.iter().all(|(_, other)| other == time);
        let addresses: Vec<_> = run.iter().map(|(series, _)| Arc::as_ptr(series)).collect();
        if self.heard.len() >= HEARD_MAX {
            self.heard.clear();
        }
        if self.heard.insert(hash(&addresses)) {
            return;
        }
        let series: Box<[_]> = run.into_iter().map(|(series, _)| Arc::clone(series)).collect();
        let phrase = if one_time { Phrase::new(series.clone(), true) } else { None };
        let Some(mut phrase) = phrase.or_else(|| Phrase::new(series, false)) else { return };
        phrase.silent = self.body;
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() as u32
        });
        for series in &phrase.series {
            self.forget(series.phrase.swap(number, Ordering::Relaxed));
        }
        self.known[number as usize - 1] = Some(phrase);
        self.to_sweep += SWEPT;
    }

    /// Forgets a phrase, which the body at hand does not have.
    fn forget(&mut self, number: u32) {
        let Some(phrase) = self.known.get_mut((number as usize).wrapping_sub(1)).and_then(Option::take) else { return };
        for series in &phrase.series {
            let _ = series.phrase.compare_exchange(number, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.free.push(number);
    }

    /// Hands out the phrases behind which there are so many gathered series, or more, each with its samples.
    pub(super) fn until(&self, groups: usize, from: &mut usize, mut each: impl FnMut(Part<'_>)) {
        while let Some(Spoken { number, first, .. }) = self.spoken.get(*from).filter(|spoken| spoken.groups <= groups) {
            if let Some(phrase) = self.phrase(*number) {
                each(Part { phrase, samples: &self.samples[*first..*first + phrase.series.len()] });
            }
            *from += 1;
        }
    }

    /// Begins the next body. What is being spoken was [broken off](Phrases::break_off).
    pub(super) fn clear(&mut self) {
        self.body += 1;
        self.spoken.clear();
        self.samples.clear();
        (self.dissolved, self.bytes, self.run) = (0, 0, None);
        for _ in 0..std::mem::replace(&mut self.to_sweep, SWEPT).min(self.known.len()) {
            self.swept = (self.swept + 1) % self.known.len();
            if self.known[self.swept].as_ref().is_some_and(Phrase::is_dead) {
                self.forget(self.swept as u32 + 1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
