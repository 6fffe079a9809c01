//! Runs of series that come again and again in the same order, each compressed once.
//!
//! Senders name their series in the same order each time, so bodies consist of the same runs, however they are cut. A run ends
//! with its request, or behind a series that says so by its labels, hence at the same places each time. One that is heard
//! twice becomes a [`Phrase`]: its part of the message as Snappy elements with holes for values and times. From then on its series are only
//! compared with those expected, and its part of a body is copied and the holes are filled in.
//!
//! * A series is in one phrase at most, the youngest that has it.
//! * In a body the samples of a phrase's series stand either there or among the gathered ones. A phrase that is spoken again
//!   in a body has later times, so samples of a series are in order, though not in one `TimeSeries`.
//! * A run of long labels becomes none, so that what its phrase occupies is bounded by the series in it.
//! * What a phrase cannot hold (exemplars, histograms, times that go back or are of unusual length) is gathered as if there
//!   were no phrases, and so are the other series of the phrase in that body.
//! * A phrase with a series that nobody else has any more is forgotten. With each body some are looked at, more of them than
//!   it brought, so that forgotten ones are not more than others.

use super::encode::{LABELS_TAG, Rendered};
use super::gather::{Facts, Gathered, number};
use crate::model::{LossSet, Losses};
use crate::wire::protobuf::put_varint;
use crate::wire::snappy::{Kind, Template};
use crate::wire::{Body, SampleRef};
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use xxhash_rust::xxh3::xxh3_64;

/// How many series runs have; less at the end of a request, where as few as a quarter are worth it.
pub(super) const SERIES: RangeInclusive<usize> = 32..=192;
/// One in so many series ends a run.
const ENDS: u64 = 64;
/// Runs remembered that were heard once.
const HEARD_MAX: usize = 1 << 14;
/// Phrases looked at with each body whether they are still needed, and as many again for each that it brought.
const SWEPT: usize = 4;
/// Bytes of labels that the series of a run have on average, at most. What they share lies further apart in longer ones than a
/// template's copies reach, so each would have all of it.
const LABELS_BYTES_MAX: usize = 1 << 10;
/// Times in milliseconds that take six bytes: 1971 to 2109.
const TIMES: Range<i64> = 1 << 35..1 << 42;
const TIME_BYTES: usize = 6;
const VALUE_BYTES: usize = 8;
/// The head of a sample and the tag of its value; behind the value comes the tag of its time.
const SAMPLE_HEAD: [u8; 3] = [2 << 3 | 2, SAMPLE_BYTES as u8 - 2, 1 << 3 | 1];
const TIME_TAG: u8 = 2 << 3;
const SAMPLE_BYTES: usize = 3 + VALUE_BYTES + 1 + TIME_BYTES;

/// Whether a run ends behind the series of those labels.
pub(super) fn ends_run(labels: &[u8]) -> bool {
    xxh3_64(labels).is_multiple_of(ENDS)
}

fn hash(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A run of series and its part of a message.
#[derive(Debug)]
struct Phrase {
    /// The series, and what each of its samples loses.
    series: Arc<[(Arc<Rendered>, LossSet)]>,
    template: Template,
    /// Where each series ends in the message.
    ends: Box<[u32]>,
    /// Where in the elements the values stand, and the times; where there are fewer times, all are the same.
    values: Box<[u32]>,
    times: Box<[u32]>,
    /// The body in which it was spoken last, and where its samples begin there.
    spoken: (u64, usize),
    /// The body in which it is not to be spoken any more.
    silent: u64,
}

impl Phrase {
    /// The phrase of those series, whose samples have the same time or not; none if the search for repeats tore a hole.
    fn new(series: Arc<[(Arc<Rendered>, LossSet)]>, one_time: bool) -> Option<Self> {
        let (mut message, mut kinds) = (Vec::new(), Vec::new());
        let (mut ends, mut values) = (Vec::with_capacity(series.len()), Vec::with_capacity(series.len()));
        for (rendered, _) in &*series {
            let labels = rendered.labels.bytes();
            put_varint(&mut message, LABELS_TAG);
            put_varint(&mut message, (labels.len() + SAMPLE_BYTES) as u64);
            message.extend_from_slice(&labels);
            message.extend_from_slice(&SAMPLE_HEAD);
            kinds.resize(message.len(), Kind::Fixed);
            values.push(message.len());
            message.extend_from_slice(&[0; VALUE_BYTES]);
            kinds.resize(message.len(), Kind::Hole);
            message.push(TIME_TAG);
            kinds.push(Kind::Fixed);
            // Bytes of the time all differ, so that they repeat themselves as a whole.
            message.extend(1..=TIME_BYTES as u8);
            kinds.resize(message.len(), if one_time { Kind::Same } else { Kind::Hole });
            ends.push(u32::try_from(message.len()).ok()?);
        }
        let template = Template::new(&message, &kinds);
        let literals = template.literals();
        let place = |at: usize, len: usize| literals.place(at..at + len);
        let times = values.iter().map(|value| value + VALUE_BYTES + 1);
        let times: Option<_> = if one_time {
            // The others are copies of the first, or there is none.
            let mut later = times.clone().skip(1);
            later.all(|time| literals.is_copied(time..time + TIME_BYTES)).then_some(())?;
            times.take(1).map(|time| place(time, TIME_BYTES)).collect()
        } else {
            times.map(|time| place(time, TIME_BYTES)).collect()
        };
        let values: Option<_> = values.iter().map(|value| place(*value, VALUE_BYTES)).collect();
        Some(Self { series, ends: ends.into(), values: values?, times: times?, template, spoken: (0, 0), silent: 0 })
    }

    fn has_one_time(&self) -> bool {
        self.times.len() < self.series.len()
    }

    fn is_dead(&self) -> bool {
        self.series.iter().any(|(rendered, _)| Arc::strong_count(rendered) == 1)
    }
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
        let Some((expected, lost)) = phrase.series.get(said).filter(|(series, _)| Arc::ptr_eq(series, rendered)) else {
            return false;
        };
        debug_assert_eq!(*lost, expected.losses);
        let mut altered = *lost;
        let Facts { timestamp, .. } = Facts::of::<Rendered>(sample, &mut altered);
        let Some(bits) = number(sample.value, &mut altered) else { return false };
        let is_expected = if said > 0 && phrase.has_one_time() {
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
        let is_first = phrase.series.first().is_some_and(|(first, _)| Arc::ptr_eq(first, rendered));
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
        let mut samples = Samples::new();
        if was_spoken {
            let spoken = self.spoken.extract_if(.., |spoken| spoken.number == number).collect::<Vec<_>>();
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
        samples.map(|((series, _), (bits, timestamp))| (Arc::clone(series), *bits, *timestamp))
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
        if rendered.ends_run && is_long_enough || heard.is_some_and(|heard| heard >= *self.lengths.end()) {
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
        let series: Arc<[_]> = run.into_iter().map(|(series, _)| (Arc::clone(series), series.losses)).collect();
        let phrase = if one_time { Phrase::new(Arc::clone(&series), true) } else { None };
        let Some(mut phrase) = phrase.or_else(|| Phrase::new(series, false)) else { return };
        phrase.silent = self.body;
        let number = self.free.pop().unwrap_or_else(|| {
            self.known.push(None);
            self.known.len() as u32
        });
        for (series, _) in &*phrase.series {
            self.forget(series.phrase.swap(number, Ordering::Relaxed));
        }
        self.known[number as usize - 1] = Some(phrase);
        self.to_sweep += SWEPT;
    }

    /// Forgets a phrase, which the body at hand does not have.
    fn forget(&mut self, number: u32) {
        let Some(phrase) = self.known.get_mut((number as usize).wrapping_sub(1)).and_then(Option::take) else { return };
        for (series, _) in &*phrase.series {
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

/// A phrase in a body, and its samples.
pub(super) struct Part<'a> {
    phrase: &'a Phrase,
    samples: &'a [(u64, i64)],
}

impl Part<'_> {
    /// Its elements, whose holes are to be [filled](Part::fill).
    pub(super) fn template(&self) -> &Template {
        &self.phrase.template
    }

    /// Writes values and times into a copy of the elements.
    pub(super) fn fill(&self, elements: &mut [u8]) {
        for (at, (bits, _)) in self.phrase.values.iter().zip(self.samples) {
            elements[*at as usize..][..VALUE_BYTES].copy_from_slice(&bits.to_le_bytes());
        }
        for (at, (_, timestamp)) in self.phrase.times.iter().zip(self.samples) {
            elements[*at as usize..][..TIME_BYTES].copy_from_slice(&time(*timestamp));
        }
    }

    /// Ends the pieces of the body, which begins at that offset of the message.
    pub(super) fn cut(&self, body: &mut Body, begin: usize) {
        body.cuts.reserve(self.phrase.ends.len());
        for end in &self.phrase.ends {
            body.cut_at(begin + *end as usize, 1, 1);
        }
    }
}

/// A time of six bytes as a varint.
fn time(milliseconds: i64) -> [u8; TIME_BYTES] {
    std::array::from_fn(|byte| {
        let more = if byte + 1 < TIME_BYTES { 0x80 } else { 0 };
        (milliseconds >> (7 * byte)) as u8 & 0x7f | more
    })
}

#[cfg(test)]
mod tests {
    use super::super::encode::{Encoder, Options, render};
    use super::super::messages::{Sample, TimeSeries, WriteRequest};
    use super::*;
    use crate::model::{BatchBuilder, Exemplar, Format, SampleFlags, SeriesId, SeriesSpec, SeriesTable, Value};
    use crate::wire::remote_write::decode::NANOSECONDS;
    use proptest::prelude::*;
    use prost::Message as _;
    use std::borrow::Cow;
    use std::collections::HashMap;

    const NOW: i64 = 1_700_000_000_000;

    fn rendered(options: &Options, numbers: Range<usize>) -> Vec<Arc<Rendered>> {
        of_node(options, numbers, "a")
    }

    fn of_node(options: &Options, numbers: Range<usize>, node: &str) -> Vec<Arc<Rendered>> {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let of = |number: usize| {
            let labels = vec![
                (Cow::from("instance"), Cow::from(format!("10.0.0.{}:9100", number / 7))),
                (Cow::from("mode"), Cow::from("x".repeat(number % 7))),
                (Cow::from("node"), Cow::from(node)),
            ];
            let spec = SeriesSpec { measurement: "node_cpu_seconds_total", field: None, labels, metadata: None };
            let id = builder.define(builder.alias(&number.to_le_bytes()), spec).unwrap();
            Arc::new(render(&table.series(id).unwrap(), options, &|_| None).unwrap())
        };
        numbers.map(of).collect()
    }

    fn sample(time: i64, value: Value<'_>) -> SampleRef<'_> {
        SampleRef { timestamp: time * NANOSECONDS, value, start: None, flags: SampleFlags::NONE }
    }

    fn push(encoder: &mut Encoder, series: &[Arc<Rendered>], time: i64) {
        for (number, series) in series.iter().enumerate() {
            encoder.push(series, &sample(time, Value::F64(number as f64)), &mut Losses::default()).unwrap();
        }
        encoder.end_request();
    }

    fn read(body: &Body) -> Vec<TimeSeries> {
        let all = WriteRequest::decode(&*body.part(0, body.cuts.len())).unwrap().timeseries;
        let piece = |at| WriteRequest::decode(&*body.part(at, at + 1)).unwrap().timeseries;
        assert_eq!((0..body.cuts.len()).flat_map(piece).collect::<Vec<_>>(), all, "a piece stands alone");
        all
    }

    #[test]
    fn a_run_that_was_heard_twice_is_spoken() {
        for (step, name) in [(0, "one time"), (7, "a time each")] {
            let options = Options::default();
            let mut encoder = Encoder::new(options.clone());
            let series = rendered(&options, 0..500);
            let mut lengths = Vec::new();
            for round in 0..4 {
                for (number, series) in series.iter().enumerate() {
                    let time = NOW + round + step * number as i64;
                    let value = Value::F64(0.1 * number as f64);
                    encoder.push(series, &sample(time, value), &mut Losses::default()).unwrap();
                }
                encoder.end_request();
                let spoken = encoder.phrases.samples.len();
                assert_eq!(spoken, if round < 2 { 0 } else { series.len() }, "{name}, round {round}");
                let body = encoder.finish(&mut Losses::default());
                let read = read(&body);
                for (number, (read, rendered)) in read.iter().zip(&series).enumerate() {
                    let WriteRequest { timeseries, .. } = WriteRequest::decode(
                        &*[&[1 << 3 | 2, rendered.labels.len() as u8][..], &rendered.identity()].concat(),
                    )
                    .unwrap();
                    assert_eq!(read.labels, timeseries[0].labels);
                    let found = (read.samples[0].value, read.samples[0].timestamp);
                    assert_eq!(found, (0.1 * number as f64, NOW + round + step * number as i64));
                }
                assert_eq!((read.len(), body.samples()), (500, 500));
                lengths.push(body.snappy().len());
            }
            assert!(lengths[2] < lengths[1], "{name}: {lengths:?}");
        }
    }

    #[test]
    fn other_requests_between_do_not_matter() {
        // So that no rest of a request is too short.
        let options = Options::default().with_runs(1..=192);
        let mut encoder = Encoder::new(options.clone());
        let senders: Vec<Vec<_>> =
            [0..300, 1000..1300, 2000..2300].into_iter().map(|numbers| rendered(&options, numbers)).collect();
        for (round, order) in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]].into_iter().enumerate() {
            for sender in order {
                push(&mut encoder, &senders[sender], NOW + round as i64);
            }
            assert_eq!(encoder.phrases.samples(), if round < 2 { 0 } else { 900 });
            encoder.finish(&mut Losses::default());
        }
    }

    #[test]
    fn a_phrase_goes_on_over_the_end_of_a_request() {
        let options = Options::default().with_runs(32..=usize::MAX);
        let mut encoder = Encoder::new(options.clone());
        let series = rendered(&options, 0..1000);
        for round in 0..3 {
            push(&mut encoder, &series, NOW + round);
            encoder.finish(&mut Losses::default());
        }
        let inside = (1..1000).find(|at| !series[at - 1].ends_run && *at > 40).unwrap();
        push(&mut encoder, &series[..inside], NOW + 3);
        push(&mut encoder, &series[inside..], NOW + 3);
        assert_eq!(encoder.phrases.samples(), 1000);
    }

    #[test]
    fn a_phrase_is_spoken_again_in_a_body_if_it_is_later() {
        let options = Options::default();
        let mut encoder = Encoder::new(options.clone());
        let series = rendered(&options, 0..100);
        for (times, expected) in [(&[0, 1, 2][..], 0), (&[3], 0), (&[4, 5, 6], 300), (&[7, 8, 8], 0), (&[9, 11, 10], 0)]
        {
            for time in times {
                push(&mut encoder, &series, NOW + time);
            }
            assert_eq!(encoder.phrases.samples(), expected, "{times:?}");
            let mut dropped = Losses::default();
            let body = encoder.finish(&mut dropped);
            let mut found = HashMap::<_, Vec<_>>::new();
            for read in read(&body) {
                let labels = format!("{:?}", read.labels);
                found.entry(labels).or_default().extend(read.samples.iter().map(|sample| sample.timestamp - NOW));
            }
            let mut expected = times.to_vec();
            expected.sort_unstable();
            expected.dedup();
            assert!(found.len() == 100 && found.values().all(|times| *times == expected), "{times:?}");
            assert_eq!(dropped.total(), 100 * (times.len() - expected.len()) as u64);
        }
    }

    #[test]
    fn a_series_that_is_gone_ends_its_phrases() {
        let options = Options::default().with_runs(1..=4);
        let mut encoder = Encoder::new(options.clone());
        let mut series = rendered(&options, 0..40);
        for round in 0..3 {
            push(&mut encoder, &series, NOW + round);
            encoder.finish(&mut Losses::default());
        }
        let known = |encoder: &Encoder| encoder.phrases.known.iter().flatten().count();
        assert!(known(&encoder) >= 10);
        series.truncate(1);
        for _ in 0..40 {
            push(&mut encoder, &series, NOW + 3);
            encoder.finish(&mut Losses::default());
        }
        assert!(known(&encoder) <= 1, "{}", known(&encoder));
        assert_eq!(Arc::strong_count(&series[0]), 1 + known(&encoder));
    }

    #[test]
    fn a_flood_of_new_series_leaves_few_phrases() {
        let options = Options::default().with_runs(1..=4);
        let mut encoder = Encoder::new(options.clone());
        for round in 0..50 {
            let series = rendered(&options, round * 100..round * 100 + 100);
            for time in 0..3 {
                push(&mut encoder, &series, NOW + time);
                encoder.finish(&mut Losses::default());
            }
        }
        let known = encoder.phrases.known.iter().flatten().count();
        assert!((25..=75).contains(&known), "{known} phrases of 25 runs");
    }

    #[test]
    fn what_series_share_makes_no_phrase_large() {
        let options = Options::default();
        for (node_bytes, expected) in [(LABELS_BYTES_MAX / 2, 80), (LABELS_BYTES_MAX, 0)] {
            let mut encoder = Encoder::new(options.clone());
            let series = of_node(&options, 0..80, &"x".repeat(node_bytes));
            for round in 0..3 {
                push(&mut encoder, &series, NOW + round);
                let spoken = encoder.phrases.samples();
                assert_eq!(spoken, if round < 2 { 0 } else { expected }, "{node_bytes} bytes, round {round}");
                encoder.finish(&mut Losses::default());
            }
        }
    }

    #[test]
    fn times_of_other_lengths_are_gathered() {
        for time in [0, -1, TIMES.start - 1, TIMES.end, i64::MAX / NANOSECONDS] {
            let options = Options::default().with_runs(1..=4);
            let mut encoder = Encoder::new(options.clone());
            let series = rendered(&options, 0..8);
            for time in [NOW, NOW, time, time, time] {
                push(&mut encoder, &series, time);
                let read = read(&encoder.finish(&mut Losses::default()));
                assert!(read.len() == 8 && read.iter().all(|series| series.samples[0].timestamp == time));
            }
        }
    }

    /// A sample of a body: which series, how much later than the last, what else.
    type Step = (usize, i64, u8);

    /// Bodies of one order of series, some rounds of it each, changed here and there.
    fn bodies() -> impl Strategy<Value = Vec<Vec<Step>>> {
        let order = prop::collection::vec((0_usize..24, 0_i64..2, 0_u8..100), 1..24);
        let changes = prop::collection::vec((0_usize..60, (0_usize..24, -1_i64..2, 0_u8..20)), 0..3);
        let body = (changes, any::<bool>(), 0_usize..24, 1_usize..4);
        (order, prop::collection::vec(body, 1..16)).prop_map(|(order, bodies)| {
            let of = |(changes, sorted, from, rounds): (Vec<(usize, Step)>, bool, usize, usize)| {
                let mut round = order.clone();
                if sorted {
                    // Each series once, and at one time.
                    round.sort_unstable_by_key(|(series, ..)| *series);
                    round.dedup_by_key(|(series, ..)| *series);
                    for step in &mut round {
                        (step.1, step.2) = (0, 50);
                    }
                    round[0].1 = 1;
                }
                let from = from % round.len();
                let mut body = round[from..].to_vec();
                body.extend(round.iter().cycle().take(round.len() * (rounds - 1)));
                for (at, step) in changes {
                    body.insert(at.min(body.len()), step);
                }
                body
            };
            bodies.into_iter().map(of).collect()
        })
    }

    /// What a body said: samples and exemplars by labels, how many samples, and what was counted.
    type Said = (HashMap<Vec<String>, Vec<String>>, u64, Vec<u64>);

    fn said(options: &Options, bodies: &[Vec<Step>]) -> Vec<Said> {
        let mut encoder = Encoder::new(options.clone());
        let series = rendered(options, 0..24);
        let mut time = NOW;
        let of = |body: &Vec<Step>| {
            let (mut losses, mut dropped) = (Losses::default(), Losses::default());
            for (number, later, what) in body {
                time += later;
                let value = match what {
                    0 => Value::I64(time),
                    1 => Value::Str("none"),
                    2 => Value::Bool(true),
                    _ => Value::F64(time as f64 / 3.0),
                };
                if *what == 3 {
                    encoder.end_request();
                }
                let _ = encoder.push(&series[*number], &sample(time, value), &mut losses);
                if *what == 4 {
                    let (series_id, labels) = (SeriesId(0), vec![("trace_id".into(), "1".into())]);
                    let exemplar = Exemplar { series: series_id, sample: None, labels, value: 0.5, timestamp: None };
                    encoder.exemplar(&series[*number], &exemplar, &mut losses);
                }
            }
            encoder.end_request();
            let samples = encoder.samples();
            let body = encoder.finish(&mut dropped);
            assert_eq!(body.samples() + dropped.total(), samples);
            for (phrase, number) in encoder.phrases.known.iter().zip(1..) {
                let numbers = phrase.iter().flat_map(|phrase| phrase.series.iter()).map(|(series, _)| &series.phrase);
                assert!({ numbers }.all(|of| of.load(Ordering::Relaxed) == number), "a series is in one phrase");
            }
            let mut series = HashMap::<_, Vec<_>>::new();
            for read in read(&body) {
                let labels = read.labels.iter().map(|label| format!("{}={}", label.name, label.value)).collect();
                let samples = series.entry(labels).or_default();
                let sample = |sample: &Sample| format!("{:x}@{}", sample.value.to_bits(), sample.timestamp);
                samples.extend(read.samples.iter().map(sample));
                samples.extend(read.exemplars.iter().map(|exemplar| format!("#{exemplar:?}")));
            }
            (series, samples, losses.iter().chain(dropped.iter()).map(|(_, count)| count).collect())
        };
        bodies.iter().map(of).collect()
    }

    proptest! {
        #[test]
        fn bodies_say_the_same_with_phrases_as_without(bodies in bodies(), shortest in 1_usize..4) {
            let never = Options::default().with_runs(usize::MAX..=usize::MAX);
            let always = Options::default().with_runs(shortest..=shortest + 3);
            prop_assert_eq!(said(&always, &bodies), said(&never, &bodies));
        }
    }
}
