use super::super::encode::{Encoder, Options, render};
use super::super::messages::{Sample, TimeSeries, WriteRequest};
use super::*;
use crate::model::{BatchBuilder, Exemplar, Format, Losses, SampleFlags, SeriesId, SeriesSpec, SeriesTable, Value};
use crate::wire::remote_write::decode::NANOSECONDS;
use crate::wire::{Body, SampleRef};
use proptest::prelude::*;
use prost::Message as _;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

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
}

fn read(body: &Body) -> Vec<TimeSeries> {
    let all = WriteRequest::decode(&*body.part(0, body.cuts.len())).unwrap().timeseries;
    let piece = |at| WriteRequest::decode(&*body.part(at, at + 1)).unwrap().timeseries;
    assert_eq!((0..body.cuts.len()).flat_map(piece).collect::<Vec<_>>(), all, "a piece stands alone");
    all
}

fn plain(times: impl IntoIterator<Item = i64>) -> Vec<Plain> {
    times.into_iter().enumerate().map(|(number, time)| ((0.1 * number as f64).to_bits(), time)).collect()
}

/// Says a phrase at one time.
fn speak(encoder: &mut Encoder, phrase: PhraseId, series: usize, time: i64) {
    let samples = plain(std::iter::repeat_n(time, series));
    assert!(encoder.can_speak(phrase, &samples));
    encoder.speak(phrase, &samples);
}

#[test]
fn a_phrase_says_what_its_series_and_samples_are() {
    for (step, name) in [(0, "one time"), (7, "a time each")] {
        let options = Options::default();
        let mut encoder = Encoder::new(options.clone());
        let series = rendered(&options, 0..500);
        for (number, series) in series.iter().enumerate() {
            let sample = sample(NOW + step * number as i64, Value::F64(0.1 * number as f64));
            encoder.push(series, &sample, &mut Losses::default()).unwrap();
        }
        let gathered = encoder.finish(&mut Losses::default()).snappy().len();
        let phrase = encoder.phrase(series.clone(), step == 0).unwrap();
        for round in 0..3 {
            let samples = plain((0..500).map(|number| NOW + round + step * number));
            assert!(encoder.can_speak(phrase, &samples), "{name}");
            encoder.speak(phrase, &samples);
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
            assert!(body.snappy().len() < gathered, "{name}: {} bytes of {gathered}", body.snappy().len());
        }
    }
}

#[test]
fn a_phrase_is_spoken_again_in_a_body_if_it_is_later() {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    let series = rendered(&options, 0..100);
    let phrase = encoder.phrase(series.clone(), true).unwrap();
    for (times, expected) in [(&[0, 1, 2][..], 300), (&[3], 100), (&[4, 5, 6], 300), (&[7, 8, 8], 0), (&[9, 11, 10], 0)]
    {
        for time in times {
            let samples = plain([NOW + time; 100]);
            if encoder.can_speak(phrase, &samples) {
                encoder.speak(phrase, &samples);
            } else {
                push(&mut encoder, &series, NOW + time);
            }
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
fn a_phrase_is_forgotten_with_its_series_and_for_a_younger_one_and_never_taken_for_another() {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    let mut series = rendered(&options, 0..40);
    let phrases: Vec<_> = series.chunks(4).map(|series| encoder.phrase(series.to_vec(), true).unwrap()).collect();
    let younger = encoder.phrase(series[2..6].to_vec(), true).unwrap();
    let known = |encoder: &Encoder| phrases.iter().filter(|phrase| encoder.phrase_len(**phrase).is_some()).count();
    assert!(known(&encoder) == 8 && encoder.phrase_len(younger).is_some());
    speak(&mut encoder, younger, 4, NOW);
    series.truncate(6);
    for _ in 0..40 {
        encoder.finish(&mut Losses::default());
    }
    assert!(known(&encoder) == 0 && encoder.phrase_len(younger).is_some());
    assert_eq!((Arc::strong_count(&series[0]), Arc::strong_count(&series[2])), (1, 2));
    let again = encoder.phrase(series[..2].to_vec(), true).unwrap();
    assert!(known(&encoder) == 0 && encoder.phrase_len(again).is_some() && encoder.phrase_len(younger).is_some());
}

#[test]
fn a_flood_of_new_series_leaves_few_phrases() {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    for round in 0..50 {
        let series = rendered(&options, round * 100..round * 100 + 100);
        for series in series.chunks(4) {
            let phrase = encoder.phrase(series.to_vec(), true).unwrap();
            speak(&mut encoder, phrase, 4, NOW);
        }
        encoder.finish(&mut Losses::default());
    }
    let known = encoder.phrases.known.iter().flatten().count();
    assert!((25..=75).contains(&known), "{known} phrases of 25 runs");
}

#[test]
fn what_series_share_makes_no_phrase_large() {
    let options = Options::default();
    for (node_bytes, expected) in [(LABELS_BYTES_MAX / 2, true), (LABELS_BYTES_MAX, false)] {
        let mut encoder = Encoder::new(options.clone());
        let series = of_node(&options, 0..80, &"x".repeat(node_bytes));
        assert_eq!(encoder.phrase(series, true).is_some(), expected, "{node_bytes} bytes");
    }
}

#[test]
fn times_of_other_lengths_are_not_spoken() {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    let series = rendered(&options, 0..8);
    for one_time in [true, false] {
        let phrase = encoder.phrase(series.clone(), one_time).unwrap();
        for (time, expected) in [(0, false), (-1, false), (TIMES.start - 1, false), (TIMES.end, false), (NOW, true)] {
            assert_eq!(encoder.can_speak(phrase, &plain([time; 8])), expected, "{time}");
        }
        assert_eq!(encoder.can_speak(phrase, &plain(NOW..NOW + 8)), !one_time);
        assert!(!encoder.can_speak(phrase, &plain([NOW; 7])));
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

/// What bodies say; with phrases of so many series, if they are long enough.
fn said(bodies: &[Vec<Step>], run: Option<usize>) -> Vec<Said> {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    let series = rendered(&options, 0..24);
    let mut time = NOW;
    let mut phrases: HashMap<Vec<usize>, PhraseId> = HashMap::new();
    let of = |body: &Vec<Step>| {
        let (mut losses, mut dropped) = (Losses::default(), Losses::default());
        let mut at = 0;
        while let Some((number, later, what)) = body.get(at) {
            let steps = run.and_then(|run| body.get(at..at + run)).unwrap_or_default();
            let numbers: Vec<_> = steps.iter().map(|(number, ..)| *number).collect();
            let is_run = *what >= 50 && steps.iter().all(|(.., what)| *what > 4);
            if is_run && numbers.iter().collect::<HashSet<_>>().len() == steps.len() && !steps.is_empty() {
                let mut then = time;
                let samples: Vec<_> = steps
                    .iter()
                    .map(|(_, later, _)| {
                        then += later;
                        ((then as f64 / 3.0).to_bits(), then)
                    })
                    .collect();
                let one_time = samples.iter().all(|(_, time)| *time == samples[0].1);
                let known = phrases.get(&numbers).filter(|phrase| encoder.can_speak(**phrase, &samples)).copied();
                let phrase = known.unwrap_or_else(|| {
                    let series = numbers.iter().map(|number| Arc::clone(&series[*number])).collect();
                    encoder.phrase(series, one_time).unwrap()
                });
                phrases.insert(numbers, phrase);
                if encoder.can_speak(phrase, &samples) {
                    encoder.speak(phrase, &samples);
                    for (number, ..) in steps {
                        losses.count_set(series[*number].losses());
                    }
                    (time, at) = (then, at + steps.len());
                    continue;
                }
            }
            time += later;
            let value = match what {
                0 => Value::I64(time),
                1 => Value::Str("none"),
                2 => Value::Bool(true),
                _ => Value::F64(time as f64 / 3.0),
            };
            let _ = encoder.push(&series[*number], &sample(time, value), &mut losses);
            if *what == 4 {
                let (series_id, labels) = (SeriesId(0), vec![("trace_id".into(), "1".into())]);
                let exemplar = Exemplar { series: series_id, sample: None, labels, value: 0.5, timestamp: None };
                encoder.exemplar(&series[*number], &exemplar, &mut losses);
            }
            at += 1;
        }
        let samples = encoder.samples();
        let body = encoder.finish(&mut dropped);
        assert_eq!(body.samples() + dropped.total(), samples);
        for (phrase, number) in encoder.phrases.known.iter().zip(1..) {
            let numbers = phrase.iter().flat_map(|phrase| phrase.series.iter()).map(|series| &series.phrase);
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
    fn bodies_say_the_same_with_phrases_as_without(bodies in bodies(), run in 1_usize..6) {
        prop_assert_eq!(said(&bodies, Some(run)), said(&bodies, None));
    }
}
