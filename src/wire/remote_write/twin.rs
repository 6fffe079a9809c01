//! The slow, obvious twin of the two decoders: the generated messages, read with plain loops and no series table.

use super::messages::{Exemplar, Label, Sample, TimeSeries, WriteRequest};
use super::{decode, encode};
use crate::model::{Batch, BatchBuilder, Format, Losses, SeriesTable, Value};
use crate::wire::remote_write2::messages as messages2;
use crate::wire::{Body, SampleRef, remote_write2};
use proptest::prelude::*;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a request holds, one line a fact, in order; and how much of it is refused.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    taken: Vec<String>,
    refused: u64,
}

fn twin(request: &WriteRequest, version: u64) -> Facts {
    let mut facts = Facts::default();
    for series in &request.timeseries {
        let labels: BTreeMap<_, _> = series.labels.iter().map(|label| (&label.name, &label.value)).collect();
        let named = labels.iter().any(|(name, value)| *name == "__name__" && !value.is_empty());
        let distinct = labels.len() == series.labels.len();
        if !named || !distinct || labels.keys().any(|name| name.is_empty()) || version == 2 && series.samples.is_empty()
        {
            facts.refused += (series.samples.len() as u64).max(1);
            continue;
        }
        let name = labels_text(&series.labels);
        for sample in &series.samples {
            facts.note(sample.timestamp, || format!("{name} {} {:016x}", sample.timestamp, sample.value.to_bits()));
        }
        for exemplar in &series.exemplars {
            let labels = &exemplar.labels[0];
            let labels = format!("{}={},", labels.name, labels.value);
            facts.note(exemplar.timestamp, || {
                format!("exemplar {name} {labels} {} {}", exemplar.timestamp, exemplar.value)
            });
        }
    }
    facts.taken.sort();
    facts
}

impl Facts {
    fn note(&mut self, milliseconds: i64, fact: impl FnOnce() -> String) {
        match milliseconds.checked_mul(1_000_000) {
            Some(_) => self.taken.push(fact()),
            None => self.refused += 1,
        }
    }
}

fn labels_text(labels: &[Label]) -> String {
    let mut labels: Vec<_> = labels.iter().filter(|label| !label.value.is_empty()).collect();
    labels.sort_by_key(|label| &label.name);
    joined(labels.into_iter().map(|label| (&*label.name, &*label.value)))
}

fn joined<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    labels.fold(String::new(), |text, (name, value)| text + name + "=" + value + ",")
}

fn fast(table: &SeriesTable, body: &[u8], version: u64) -> (Facts, Batch) {
    let format = if version == 1 { Format::RemoteWrite } else { Format::RemoteWrite2 };
    let mut builder = BatchBuilder::new(table, format, Vec::new());
    let decoded = match version {
        1 => decode::decode(body, &decode::Options::default(), &mut builder).unwrap(),
        _ => remote_write2::decode::decode(body, &remote_write2::decode::Options::default(), &mut builder).unwrap(),
    };
    let batch = builder.finish();
    let mut facts = Facts { taken: facts_of(table, &batch), refused: decoded.report.refused() };
    facts.taken.sort();
    (facts, batch)
}

fn facts_of(table: &SeriesTable, batch: &Batch) -> Vec<String> {
    let name = |id| {
        let series = table.series(id).unwrap();
        let mut labels: Vec<_> = series.labels.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
        labels.push(("__name__", series.name.measurement()));
        labels.sort_unstable();
        joined(labels.into_iter())
    };
    let samples = batch.samples.iter().map(|sample| {
        let Value::F64(value) = batch.value(sample) else { panic!("a float was sent") };
        format!("{} {} {:016x}", name(sample.series), sample.timestamp / 1_000_000, value.to_bits())
    });
    let exemplars = batch.exemplars.iter().map(|exemplar| {
        let labels = joined(exemplar.labels.iter().map(|(name, value)| (&**name, &**value)));
        let timestamp = exemplar.timestamp.unwrap() / 1_000_000;
        format!("exemplar {} {labels} {timestamp} {}", name(exemplar.series), exemplar.value)
    });
    samples.chain(exemplars).collect()
}

/// The same request in version 2.
fn upgraded(request: &WriteRequest) -> messages2::Request {
    let mut symbols = vec![String::new()];
    let mut refer = |text: &String| {
        let at = symbols.iter().position(|symbol| symbol == text).unwrap_or_else(|| {
            symbols.push(text.clone());
            symbols.len() - 1
        });
        at as u32
    };
    let mut refer_all = |labels: &[Label]| labels.iter().flat_map(|l| [refer(&l.name), refer(&l.value)]).collect();
    let mut timeseries = Vec::new();
    for series in &request.timeseries {
        let sample = |s: &Sample| messages2::Sample { value: s.value, timestamp: s.timestamp, start_timestamp: 0 };
        timeseries.push(messages2::TimeSeries {
            labels_refs: refer_all(&series.labels),
            samples: series.samples.iter().map(sample).collect(),
            exemplars: series
                .exemplars
                .iter()
                .map(|e| messages2::Exemplar {
                    labels_refs: refer_all(&e.labels),
                    value: e.value,
                    timestamp: e.timestamp,
                })
                .collect(),
            ..Default::default()
        });
    }
    messages2::Request { symbols, timeseries }
}

/// The same bytes in an order that no sender uses: each series' last labels stand behind its samples.
fn scattered(request: &WriteRequest) -> Vec<u8> {
    let mut body = Vec::new();
    for series in &request.timeseries {
        let (first, last) = series.labels.split_at(series.labels.len() / 2);
        let mut message = TimeSeries { labels: first.to_vec(), ..series.clone() }.encode_to_vec();
        message.extend(TimeSeries { labels: last.to_vec(), ..Default::default() }.encode_to_vec());
        crate::wire::protobuf::put_bytes_field(&mut body, 1, &message);
    }
    body
}

fn encoded(table: &SeriesTable, batch: &Batch, dropped: &mut Losses) -> Body {
    let options = encode::Options::default();
    let mut encoder = encode::Encoder::new(options.clone());
    let mut memo = BTreeMap::new();
    let mut render = |id| {
        let render = || encode::render(&table.series(id).unwrap(), &options, &|_| None).unwrap();
        Arc::clone(memo.entry(id).or_insert_with(|| Arc::new(render())))
    };
    let mut losses = Losses::default();
    for sample in &batch.samples {
        let carried =
            SampleRef { timestamp: sample.timestamp, value: batch.value(sample), start: None, flags: sample.flags };
        encoder.push(&render(sample.series), &carried, &mut losses).unwrap();
    }
    for exemplar in &batch.exemplars {
        encoder.exemplar(&render(exemplar.series), exemplar, &mut losses);
    }
    assert_eq!(losses.total(), 0);
    encoder.finish(dropped)
}

fn requests() -> impl Strategy<Value = WriteRequest> {
    let name = prop::sample::select(vec!["__name__", "a", "b", "ü.c", "Z", ""]);
    let value = prop::sample::select(vec!["", "x", "y", "é"]);
    let label = (name, value).prop_map(|(name, value)| Label { name: name.into(), value: value.into() });
    let labels = prop::collection::vec(label, 0..4);
    let plain = Just(vec![Label { name: "__name__".into(), value: "m".into() }]);
    let timestamp = prop_oneof![8 => -3_i64..1000, 1 => any::<i64>(), 1 => Just(1_700_000_000_000)];
    let number = any::<u64>().prop_map(f64::from_bits);
    let sample = (timestamp.clone(), number).prop_map(|(timestamp, value)| Sample { value, timestamp });
    let trace = "[a-z]{0,3}".prop_map(|value| vec![Label { name: "trace_id".into(), value }]);
    let exemplar =
        (trace, timestamp, -9.0..9.0).prop_map(|(labels, timestamp, value)| Exemplar { labels, value, timestamp });
    let series =
        (prop_oneof![labels, plain], prop::collection::vec(sample, 0..4), prop::collection::vec(exemplar, 0..2))
            .prop_map(|(labels, samples, exemplars)| TimeSeries { labels, samples, exemplars, ..Default::default() });
    prop::collection::vec(series, 0..6).prop_map(|timeseries| WriteRequest { timeseries, metadata: Vec::new() })
}

#[test]
fn a_series_that_is_expected_is_read_as_one_that_is_not() {
    let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
    let series = |number: usize| TimeSeries {
        labels: vec![label("__name__", "m"), label("pod", &format!("{number}").repeat(100))],
        samples: vec![Sample { value: 0.5, timestamp: 1_700_000_000_000 }],
        ..Default::default()
    };
    let body = WriteRequest { timeseries: (0..3).map(series).collect(), metadata: Vec::new() }.encode_to_vec();
    let expecting = || {
        let table = SeriesTable::default();
        fast(&table, &body, 1);
        table
    };
    let decoded = |table: &SeriesTable, body: &[u8]| {
        let mut builder = BatchBuilder::new(table, Format::RemoteWrite, Vec::new());
        let report = decode::decode(body, &decode::Options::default(), &mut builder);
        let batch = builder.finish();
        let fact = |sample: &crate::model::Sample| {
            let series = batch.series(sample.series, table).unwrap();
            format!("{:?} {} {:?} {}", series.name, series.labels.len(), batch.value(sample), sample.timestamp)
        };
        // At first sight damage is met in another order.
        format!("{:?} {:?}", report.ok(), batch.samples.iter().map(fact).collect::<Vec<_>>())
    };
    let second = body.len() / 3..body.len() / 3 * 2;
    for at in second {
        for byte in [0, 1, 0x7f, 0x80, 0xff, body[at] ^ 1, body[at].wrapping_add(1)] {
            let mut other = body.clone();
            other[at] = byte;
            let (found, expected) = (decoded(&expecting(), &other), decoded(&SeriesTable::default(), &other));
            assert_eq!(found, expected, "byte {at} is {byte:#x}");
        }
    }
}

proptest! {
    #[test]
    fn both_decoders_agree_with_the_twin_at_first_and_second_sight(request in requests()) {
        let table = SeriesTable::default();
        let bodies = [(1, request.encode_to_vec()), (1, scattered(&request)), (2, upgraded(&request).encode_to_vec())];
        for (version, body) in bodies {
            let expected = twin(&request, version);
            prop_assert_eq!(&fast(&table, &body, version).0, &expected);
            prop_assert_eq!(&fast(&table, &body, version).0, &expected, "once more, with every series known");
        }
    }

    #[test]
    fn any_run_of_pieces_is_a_request(request in requests(), at in 0_usize..7) {
        let table = SeriesTable::default();
        let (mut facts, batch) = fast(&table, &request.encode_to_vec(), 1);
        let mut dropped = Losses::default();
        let body = encoded(&table, &batch, &mut dropped);
        prop_assert_eq!(body.samples() + dropped.total(), batch.samples.len() as u64);
        let at = at.min(body.cuts.len());
        let mut parts = Vec::new();
        for part in [body.part(0, at), body.part(at, body.cuts.len())] {
            prop_assert!(WriteRequest::decode(&*part).is_ok());
            parts.extend(fast(&table, &part, 1).0.taken);
        }
        parts.sort();
        if dropped.total() == 0 {
            facts.taken.sort();
            prop_assert_eq!(parts, facts.taken);
        }
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 0..64), request in requests()) {
        crate::fuzzing::remote_write(&bytes);
        crate::fuzzing::remote_write2(&bytes);
        for mut body in [request.encode_to_vec(), upgraded(&request).encode_to_vec()] {
            // One byte of a good message changed.
            if let (Some(at), Some(byte)) = (bytes.pop(), bytes.pop()) {
                let at = usize::from(at) % body.len().max(1);
                if let Some(place) = body.get_mut(at) {
                    *place = byte;
                }
            }
            crate::fuzzing::remote_write(&body);
            crate::fuzzing::remote_write2(&body);
        }
    }
}
