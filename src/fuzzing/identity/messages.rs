//! Messages of remote write, and what they say.

use super::number;
use crate::model::STALE_MARKER_BITS;
use crate::wire::remote_write::messages as v1;
use crate::wire::remote_write2::messages as v2;
use proptest::prelude::*;
use prost::Message;

/// A request of 2.0 whose series are distinct; its symbols are not shared.
pub(super) fn request() -> impl Strategy<Value = v2::Request> {
    let series = (
        0_i32..8,
        any::<[bool; 2]>(),
        prop::collection::vec(sample(), 0..3),
        prop::collection::vec(histogram(), 0..3),
        any::<bool>(),
    );
    prop::collection::vec(series, 0..5).prop_map(|parts| {
        let mut symbols = vec![String::new()];
        let mut refer = |text: String| {
            symbols.push(text);
            symbols.len() as u32 - 1
        };
        let mut timeseries = Vec::new();
        for (at, (metric_type, [help, unit], mut samples, mut histograms, exemplar)) in parts.into_iter().enumerate() {
            // A message has the one or the other.
            if !samples.is_empty() {
                histograms.clear();
            } else if histograms.is_empty() {
                continue;
            }
            for (time, sample) in samples.iter_mut().enumerate() {
                sample.timestamp += time as i64;
            }
            for (time, histogram) in histograms.iter_mut().enumerate() {
                histogram.timestamp += time as i64;
            }
            let labels = [("__name__", format!("m.{at}")), ("é", "\u{1f600}\n\"".to_owned())];
            let exemplars = exemplar.then(|| v2::Exemplar {
                labels_refs: vec![refer("trace_id".to_owned()), refer(format!("t{at}"))],
                value: 0.1,
                timestamp: 7,
            });
            timeseries.push(v2::TimeSeries {
                labels_refs: labels.into_iter().flat_map(|(n, v)| [refer(n.to_owned()), refer(v)]).collect(),
                samples,
                histograms,
                exemplars: exemplars.into_iter().collect(),
                metadata: Some(v2::Metadata {
                    r#type: metric_type,
                    help_ref: if help { refer(format!("help {at}")) } else { 0 },
                    unit_ref: if unit { refer("s".to_owned()) } else { 0 },
                }),
                created_timestamp: 0,
            });
        }
        v2::Request { symbols, timeseries }
    })
}

fn sample() -> impl Strategy<Value = v2::Sample> {
    // The generated encoder of the test leaves -0 out as if it were 0.
    let bits = any::<u64>().prop_filter("-0", |bits| *bits != (-0.0_f64).to_bits());
    let bits = prop_oneof![4 => bits, 1 => Just(STALE_MARKER_BITS)];
    (bits, -9_000_000_000_000_i64..9_000_000_000_000, 0_i64..3).prop_map(|(bits, timestamp, start_timestamp)| {
        v2::Sample { value: f64::from_bits(bits), timestamp, start_timestamp }
    })
}

fn histogram() -> impl Strategy<Value = v2::Histogram> {
    let counts = || prop::collection::vec(0_u32..9, 0..5);
    let kind = prop::sample::select(vec!["integer", "float", "custom integer", "custom float"]);
    let parts = (kind, counts(), counts(), 0_u32..5, -4_i32..=8, 0_i32..4, number(), 0_i64..3);
    parts.prop_map(|(kind, positive, negative, zero, schema, reset_hint, sum, start_timestamp)| {
        use v2::histogram::{Count, ZeroCount};
        let custom = kind.starts_with("custom");
        let (negative, zero) = if custom { (Vec::new(), 0) } else { (negative, zero) };
        let count: u32 = positive.iter().chain(&negative).sum::<u32>() + zero;
        let spans = |counts: &[u32]| match counts.len() as u32 {
            0 => Vec::new(),
            1 => vec![v2::BucketSpan { offset: 0, length: 1 }],
            more => {
                vec![
                    v2::BucketSpan { offset: i32::from(!custom), length: 1 },
                    v2::BucketSpan { offset: i32::from(!custom) * 3, length: more - 1 },
                ]
            }
        };
        let mut histogram = v2::Histogram {
            sum: sum.parse::<f64>().unwrap() + 0.0, // no -0, as above
            schema: if custom { -53 } else { schema },
            zero_threshold: if custom { 0.0 } else { 1e-128 },
            positive_spans: spans(&positive),
            negative_spans: spans(&negative),
            reset_hint,
            timestamp: 1_700_000_000_000,
            custom_values: if custom {
                (0..positive.len()).map(|bound| bound as f64 / 4.0).collect()
            } else {
                Vec::new()
            },
            start_timestamp,
            ..v2::Histogram::default()
        };
        if kind.ends_with("integer") {
            let deltas = |counts: &[u32]| {
                let before = [0].into_iter().chain(counts.iter().copied());
                counts.iter().zip(before).map(|(count, before)| i64::from(*count) - i64::from(before)).collect()
            };
            histogram.count = Some(Count::CountInt(count.into()));
            histogram.zero_count = Some(ZeroCount::ZeroCountInt(zero.into()));
            (histogram.positive_deltas, histogram.negative_deltas) = (deltas(&positive), deltas(&negative));
        } else {
            let floats = |counts: &[u32]| counts.iter().map(|count| f64::from(*count) / 3.0).collect();
            histogram.count = Some(Count::CountFloat(f64::from(count) / 3.0));
            histogram.zero_count = Some(ZeroCount::ZeroCountFloat(f64::from(zero) / 3.0));
            (histogram.positive_counts, histogram.negative_counts) = (floats(&positive), floats(&negative));
        }
        histogram
    })
}

/// The same request in 1.0: no start timestamps, and metadata apart from series.
pub(super) fn older(request: &v2::Request) -> v1::WriteRequest {
    let text = |at: u32| request.symbols[at as usize].clone();
    let labels = |references: &[u32]| -> Vec<_> {
        references.chunks(2).map(|pair| v1::Label { name: text(pair[0]), value: text(pair[1]) }).collect()
    };
    let timeseries = request.timeseries.iter().map(|series| v1::TimeSeries {
        labels: labels(&series.labels_refs),
        samples: series.samples.iter().map(|s| v1::Sample { value: s.value, timestamp: s.timestamp }).collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|e| v1::Exemplar { labels: labels(&e.labels_refs), value: e.value, timestamp: e.timestamp })
            .collect(),
        // The same message but for the start timestamp, a field that 1.0 does not know.
        histograms: series.histograms.iter().map(|h| v1::Histogram::decode(&*h.encode_to_vec()).unwrap()).collect(),
    });
    let metadata = request.timeseries.iter().enumerate().map(|(at, series)| {
        let metadata = series.metadata.as_ref().unwrap();
        v1::MetricMetadata {
            r#type: metadata.r#type,
            metric_family_name: format!("family_{at}"),
            help: text(metadata.help_ref),
            unit: text(metadata.unit_ref),
        }
    });
    v1::WriteRequest { timeseries: timeseries.collect(), metadata: metadata.collect() }
}

/// What a request says, one line a fact, sorted; floats by their bits.
pub(super) fn facts(request: &v2::Request) -> Vec<String> {
    let text = |at: u32| &request.symbols[at as usize];
    let labels = |references: &[u32]| {
        let mut labels: Vec<_> = references.chunks(2).map(|pair| (text(pair[0]), text(pair[1]))).collect();
        labels.sort();
        format!("{labels:?}")
    };
    let mut facts = Vec::new();
    for series in &request.timeseries {
        let metadata = series.metadata.unwrap_or_default();
        let (help, unit) = (text(metadata.help_ref), text(metadata.unit_ref));
        let name = format!("{} {} {help:?} {unit:?}", labels(&series.labels_refs), metadata.r#type);
        for s in &series.samples {
            facts.push(format!("{name} {} {} {:x}", s.timestamp, s.start_timestamp, s.value.to_bits()));
        }
        for h in &series.histograms {
            let sum = h.sum.to_bits();
            facts.push(format!("{name} {sum:x} {:?}", v2::Histogram { sum: 0.0, ..h.clone() }));
        }
        for e in &series.exemplars {
            facts.push(format!("{name} exemplar {} {} {}", labels(&e.labels_refs), e.timestamp, e.value));
        }
    }
    facts.sort();
    facts
}

/// The same of a request of 1.0.
pub(super) fn older_facts(request: &v1::WriteRequest) -> Vec<String> {
    let labels = |labels: &[v1::Label]| {
        let mut labels: Vec<_> = labels.iter().map(|label| (&label.name, &label.value)).collect();
        labels.sort();
        format!("{labels:?}")
    };
    let mut facts: Vec<_> = request.metadata.iter().map(|metadata| format!("{metadata:?}")).collect();
    for series in &request.timeseries {
        let name = labels(&series.labels);
        for s in &series.samples {
            facts.push(format!("{name} {} {:x}", s.timestamp, s.value.to_bits()));
        }
        for h in &series.histograms {
            let sum = h.sum.to_bits();
            facts.push(format!("{name} {sum:x} {:?}", v1::Histogram { sum: 0.0, ..h.clone() }));
        }
        for e in &series.exemplars {
            facts.push(format!("{name} exemplar {} {} {}", labels(&e.labels), e.timestamp, e.value));
        }
    }
    facts.sort();
    facts
}
