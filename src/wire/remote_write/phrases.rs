//! Runs of series that come again and again in the same order, each compressed once.
//!
//! Who knows that series come in one order time and again has a [`Phrase`] made of them: their part of the message as Snappy
//! elements with holes for values and times. From then on that part of a body is copied and the holes are filled in.
//!
//! * A series is in one phrase at most, the youngest that has it.
//! * In a body the samples of a phrase's series stand either there or among the gathered ones. A phrase that is spoken again
//!   in a body has later times, so samples of a series are in order, though not in one `TimeSeries`.
//! * Of long labels none is made, so that what a phrase occupies is bounded by the series in it.
//! * What a phrase cannot hold (exemplars, histograms, times that go back or are of unusual length) is gathered as if there
//!   were no phrases, and so are the other series of the phrase in that body.
//! * A phrase with a series that nobody else has any more is forgotten. With each body some are looked at, more of them than
//!   it brought, so that forgotten ones are not more than others.

mod phrase;

use super::encode::Rendered;
use super::gather::Gathered;
use phrase::{Part, Phrase, TIMES};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Phrases looked at with each body whether they are still needed, and as many again for each that it brought.
const SWEPT: usize = 4;
/// Bytes of labels that the series of a phrase have on average, at most. What they share lies further apart in longer ones than a
/// template's copies reach, so each would have all of it.
const LABELS_BYTES_MAX: usize = 1 << 10;

/// Bits of a value and milliseconds of a time.
pub type Plain = (u64, i64);

/// A phrase of an encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhraseId {
    number: u32,
    /// Tells it from others that had its number.
    born: u64,
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
    /// By number less one.
    known: Vec<Option<Phrase>>,
    free: Vec<u32>,
    /// Phrases made so far.
    born: u64,
    /// Where the sweep goes on, and over how many.
    swept: usize,
    to_sweep: usize,
    /// The body at hand; never 0.
    body: u64,
    spoken: Vec<Spoken>,
    /// Those of all that was spoken.
    samples: Vec<Plain>,
    /// Samples of phrases that were dissolved.
    dissolved: usize,
    bytes: usize,
}

/// Samples that leave their phrase to be gathered.
pub(super) type Samples = Vec<(Arc<Rendered>, u64, i64)>;

impl Default for Phrases {
    fn default() -> Self {
        Self {
            known: Vec::new(),
            free: Vec::new(),
            born: 0,
            swept: 0,
            to_sweep: SWEPT,
            body: 1,
            spoken: Vec::new(),
            samples: Vec::new(),
            dissolved: 0,
            bytes: 0,
        }
    }
}

impl Phrases {
    /// Samples in phrases of the body at hand.
    pub(super) fn samples(&self) -> u64 {
        (self.samples.len() - self.dissolved) as u64
    }

    /// What they add to the message, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes a phrase of series whose samples have one time or not; none where that does not pay. The body at hand has no
    /// other phrase with one of them.
    #[cold]
    pub(super) fn make(
        &mut self,
        series: Vec<Arc<Rendered>>,
        one_time: bool,
        gathered: &Gathered<Rendered>,
    ) -> Option<PhraseId> {
        if series.iter().map(|series| series.labels.len()).sum::<usize>() > LABELS_BYTES_MAX * series.len() {
            return None;
        }
        let is_gathered = series.iter().any(|series| gathered.find(series).is_some());
        let series: Arc<[_]> = series.into();
        let phrase = if one_time { Phrase::new(Arc::clone(&series), true) } else { None };
        let mut phrase = phrase.or_else(|| Phrase::new(Arc::clone(&series), false))?;
        self.born += 1;
        phrase.born = self.born;
        if is_gathered {
            phrase.silent = self.body;
        }
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() as u32
        });
        for series in &*series {
            self.forget(series.phrase.swap(number, Ordering::Relaxed));
        }
        self.known[number as usize - 1] = Some(phrase);
        self.to_sweep += SWEPT;
        Some(PhraseId { number, born: self.born })
    }

    fn known(&self, id: PhraseId) -> Option<&Phrase> {
        self.phrase(id.number).filter(|phrase| phrase.born == id.born)
    }

    /// What the phrase adds to a message in bytes, if it is not forgotten.
    pub(super) fn phrase_len(&self, id: PhraseId) -> Option<usize> {
        self.known(id).map(|phrase| phrase.template.message_len())
    }

    /// Whether the body at hand can have the phrase with these samples.
    pub(super) fn can_speak(&self, id: PhraseId, samples: &[Plain]) -> bool {
        let Some(phrase) = self.known(id).filter(|phrase| phrase.silent != self.body) else { return false };
        let (Some((_, first)), true) = (samples.first(), samples.len() == phrase.series.len()) else { return false };
        let is_expected = if phrase.one_time {
            TIMES.contains(first) && samples.iter().all(|(_, time)| time == first)
        } else {
            samples.iter().all(|(_, time)| TIMES.contains(time))
        };
        let (body, before) = phrase.spoken;
        is_expected
            && (body != self.body || self.samples[before..].iter().zip(samples).all(|(before, now)| before.1 < now.1))
    }

    /// Says the phrase with these samples, behind so many gathered series.
    pub(super) fn speak(&mut self, id: PhraseId, samples: &[Plain], groups: usize) {
        let Some(phrase) = self.known.get_mut(id.number as usize - 1).and_then(Option::as_mut) else { return };
        let first = self.samples.len();
        phrase.spoken = (self.body, first);
        self.bytes += phrase.template.message_len();
        self.samples.extend_from_slice(samples);
        self.spoken.push(Spoken { number: id.number, first, groups });
    }

    fn phrase(&self, number: u32) -> Option<&Phrase> {
        self.known.get((number as usize).checked_sub(1)?)?.as_ref()
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
        }
        samples
    }

    fn samples_of(&self, spoken: Spoken) -> impl Iterator<Item = (Arc<Rendered>, u64, i64)> {
        let series = self.phrase(spoken.number).into_iter().flat_map(|phrase| phrase.series.iter());
        let samples = series.zip(&self.samples[spoken.first..]);
        samples.map(|(series, (bits, timestamp))| (Arc::clone(series), *bits, *timestamp))
    }

    /// Forgets a phrase, which the body at hand does not have.
    fn forget(&mut self, number: u32) {
        let Some(phrase) = self.known.get_mut((number as usize).wrapping_sub(1)).and_then(Option::take) else { return };
        for series in &*phrase.series {
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

    /// Begins the next body.
    pub(super) fn clear(&mut self) {
        self.body += 1;
        self.spoken.clear();
        self.samples.clear();
        (self.dissolved, self.bytes) = (0, 0);
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
