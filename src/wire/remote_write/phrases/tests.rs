use super::super::encode::{Encoder, Options, render};
use super::super::messages::{Sample, TimeSeries, WriteRequest};
use super::*;
use crate::model::{BatchBuilder, Exemplar, Format, SampleFlags, SeriesId, SeriesSpec, SeriesTable, Value};
use crate::wire::Body;
use crate::wire::remote_write::decode::NANOSECONDS;
use proptest::prelude::*;
use prost::Message as _;
use std::borrow::Cow;
use std::collections::HashMap;
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
    let mut whole = 0;
    for round in 0..3 {
        push(&mut encoder, &series, NOW + round);
        whole = encoder.phrases.samples();
        encoder.finish(&mut Losses::default());
    }
    // The last run may be too short for a phrase.
    assert!(whole > 990, "{whole}");
    let inside = (1..990).find(|at| !ends_run(&series[at - 1]) && *at > 40).unwrap();
    push(&mut encoder, &series[..inside], NOW + 3);
    push(&mut encoder, &series[inside..], NOW + 3);
    assert_eq!(encoder.phrases.samples(), whole);
}

#[test]
fn a_phrase_is_spoken_again_in_a_body_if_it_is_later() {
    let options = Options::default();
    let mut encoder = Encoder::new(options.clone());
    let series = rendered(&options, 0..100);
    for (times, expected) in [(&[0, 1, 2][..], 0), (&[3], 0), (&[4, 5, 6], 300), (&[7, 8, 8], 0), (&[9, 11, 10], 0)] {
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
            let numbers = phrase.iter().flat_map(|phrase| &phrase.series).map(|series| &series.phrase);
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
