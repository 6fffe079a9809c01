//! A -> model -> A loses nothing: bodies are generated in the form that sluicegate writes, translated to their own format,
//! and compared as they are (texts) or fact by fact (remote write, whose messages have no one form).

#![allow(clippy::unwrap_used, clippy::format_push_string, reason = "a failure shall fail the test, which may allocate")]

use proptest::prelude::*;
use prost::Message;
use sluicegate::cli::translate::translation;
use sluicegate::model::{Format, STALE_MARKER_BITS};
use sluicegate::wire::compression::{Encoding, decompress, snappy};
use sluicegate::wire::remote_write::messages as v1;
use sluicegate::wire::remote_write2::messages as v2;

/// The input in its own format again; nothing of it is refused, dropped or altered.
fn returned(format: Format, input: &[u8]) -> Vec<u8> {
    let there = translation(format, format, input, 5).unwrap();
    assert_eq!(there.report.first, []);
    let lost: Vec<_> = there.losses.iter().chain(there.dropped.iter()).collect();
    assert_eq!(lost, []);
    there.bytes
}

fn returned_text(format: Format, input: &str) -> String {
    String::from_utf8(returned(format, input.as_bytes())).unwrap()
}

/// A number in the one spelling that is written.
fn number() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec!["NaN", "+Inf", "-Inf", "-0", "1e300", "5e-324"]);
    prop_oneof![4 => any::<i32>().prop_map(|number| (f64::from(number) / 8.0).to_string()), 1 => special.prop_map(str::to_owned)]
}

/// What stands between the quotes of a label's value.
fn label_value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["x", "é", " ", "\\\\", "\\\"", "\\n", "a=b,c}"]).prop_map(str::to_owned)
}

#[derive(Clone, Debug)]
struct Point {
    numbers: Vec<String>,
    label: String,
    timestamp: Option<i64>,
    start: Option<u32>,
    exemplar: Option<String>,
}

fn point() -> impl Strategy<Value = Point> {
    let parts = (
        prop::collection::vec(number(), 8),
        label_value(),
        prop::option::of(-9_000_000_000_000_i64..9_000_000_000_000),
        prop::option::of(1_u32..),
        prop::option::of(label_value()),
    );
    parts.prop_map(|(numbers, label, timestamp, start, exemplar)| Point { numbers, label, timestamp, start, exemplar })
}

/// Bounds and quantiles in spellings that a number would lose.
fn edges(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    prop::sample::subsequence(texts, 0..texts.len())
}

const TYPES: [&str; 8] = ["unknown", "gauge", "counter", "histogram", "gaugehistogram", "summary", "info", "stateset"];

#[derive(Clone, Debug)]
struct Family {
    metric_type: &'static str,
    help: &'static str,
    unit: bool,
    bounds: Vec<&'static str>,
    quantiles: Vec<&'static str>,
    points: Vec<Point>,
}

fn families() -> impl Strategy<Value = Vec<Family>> {
    let parts = (
        prop::sample::select(&TYPES),
        prop::sample::select(vec!["", "h", "a \\\\ b\\nc é"]),
        any::<bool>(),
        edges(&["-1", "0.10", "0.25", "1", "1.50", "1e1"]),
        edges(&["0", "0.50", "0.9", "0.990", "1.0"]),
        prop::collection::vec(point(), 1..4),
    );
    let family = parts.prop_map(|(metric_type, help, unit, bounds, quantiles, points)| Family {
        metric_type,
        help,
        unit,
        bounds,
        quantiles,
        points,
    });
    prop::collection::vec(family, 0..5)
}

/// What stands behind the family's name, a label of its own, whether it may have an exemplar.
type Line = (&'static str, Option<(&'static str, &'static str)>, bool);

/// The lines of a point.
fn lines(family: &Family, openmetrics: bool) -> Vec<Line> {
    let buckets = || family.bounds.iter().chain([&"+Inf"]).map(|bound| ("_bucket", Some(("le", *bound)), true));
    match family.metric_type {
        "counter" => vec![(if openmetrics { "_total" } else { "" }, None, true)],
        "histogram" => buckets().chain([("_count", None, false), ("_sum", None, false)]).collect(),
        "gaugehistogram" => buckets().chain([("_gcount", None, false), ("_gsum", None, false)]).collect(),
        "summary" => {
            let quantiles = family.quantiles.iter().map(|quantile| ("", Some(("quantile", *quantile)), false));
            quantiles.chain([("_count", None, false), ("_sum", None, false)]).collect()
        }
        "info" => vec![("_info", None, false)],
        _ => vec![("", None, false)],
    }
}

fn exposition(families: &[Family], openmetrics: bool) -> String {
    let mut text = String::new();
    for (number, family) in families.iter().enumerate() {
        let unit = openmetrics && family.unit;
        let name = format!("f{number}{}", if unit { "_seconds" } else { "" });
        if !family.help.is_empty() {
            text += &format!("# HELP {name} {}\n", family.help);
        }
        let untyped = !openmetrics && family.metric_type == "unknown";
        text += &format!("# TYPE {name} {}\n", if untyped { "untyped" } else { family.metric_type });
        if unit {
            text += &format!("# UNIT {name} seconds\n");
        }
        for (at, point) in family.points.iter().enumerate() {
            let labels = |own: Option<(&str, &str)>| {
                let own = own.map_or(String::new(), |(name, value)| format!(",{name}=\"{value}\""));
                format!("{{a=\"{at}{}\"{own}}}", point.label)
            };
            let timestamp = match point.timestamp {
                None => String::new(),
                Some(milliseconds) if openmetrics => format!(" {}", seconds(milliseconds)),
                Some(milliseconds) => format!(" {milliseconds}"),
            };
            for ((suffix, own, may), number) in lines(family, openmetrics).into_iter().zip(&point.numbers) {
                text += &format!("{name}{suffix}{} {number}{timestamp}", labels(own));
                if let (true, Some(exemplar)) = (may && openmetrics, &point.exemplar) {
                    text += &format!(" # {{t=\"{exemplar}\"}} {number}{timestamp}");
                }
                text.push('\n');
            }
            let can_start = openmetrics && ["counter", "histogram", "summary"].contains(&family.metric_type);
            if let (true, Some(start)) = (can_start, point.start) {
                text += &format!("{name}_created{} {}{timestamp}\n", labels(None), seconds(i64::from(start)));
            }
        }
    }
    if openmetrics { text + "# EOF\n" } else { text }
}

fn seconds(milliseconds: i64) -> String {
    let sign = if milliseconds < 0 { "-" } else { "" };
    let (whole, rest) = (milliseconds.unsigned_abs() / 1000, milliseconds.unsigned_abs() % 1000);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}") };
    format!("{sign}{whole}{}", fraction.trim_end_matches('0'))
}

fn influx_line() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        (-99_999..99_999).prop_map(|number| (f64::from(number) + 0.5).to_string()),
        any::<i64>().prop_map(|number| format!("{number}i")),
        any::<u64>().prop_map(|number| format!("{number}u")),
        any::<bool>().prop_map(|truth| truth.to_string()),
        prop::sample::select(vec!["", "x y", "é,=", "\\\"", "\\\\", "a\nb"]).prop_map(|text| format!("\"{text}\"")),
    ];
    let keys = prop::sample::subsequence(&["value", "f", "a\\ b", "é", "x\\,y", "B"], 1..6).prop_shuffle();
    let fields = (keys, prop::collection::vec(value, 6)).prop_map(|(keys, values)| {
        let fields: Vec<_> = keys.iter().zip(values).map(|(key, value)| format!("{key}={value}")).collect();
        fields.join(",")
    });
    let measurement = prop::sample::select(vec!["m", "a\\ b", "a\\,b", "é", "a=b"]);
    let tags = prop::sample::subsequence(&[",a=1", ",b\\ c=x\\,y", ",le=0.50", ",z=é\\=\\ 1"], 0..4);
    (measurement, tags, fields, -9_000_000_000_000_000_000_i64..9_000_000_000_000_000_000).prop_map(
        |(measurement, tags, fields, timestamp)| format!("{measurement}{} {fields} {timestamp}\n", tags.concat()),
    )
}

/// A request of 2.0 whose series are distinct; its symbols are not shared.
fn request() -> impl Strategy<Value = v2::Request> {
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
fn older(request: &v2::Request) -> v1::WriteRequest {
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
fn facts(request: &v2::Request) -> Vec<String> {
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
fn older_facts(request: &v1::WriteRequest) -> Vec<String> {
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

fn returned_message(format: Format, message: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    decompress(Encoding::Snappy, &returned(format, &snappy(message)), 1 << 20, &mut plain).unwrap();
    plain
}

#[test]
fn negative_zero_is_not_zero() {
    for middle in [Format::RemoteWrite, Format::RemoteWrite2] {
        let there = translation(Format::PrometheusText, middle, b"a -0 1\n", 5).unwrap();
        let back = translation(middle, Format::PrometheusText, &there.bytes, 5).unwrap();
        assert_eq!(back.bytes, b"a -0 1\n");
    }
}

proptest! {
    #[test]
    fn openmetrics_keeps_type_help_unit_exemplars_starts_and_the_spelling_of_edges(families in families()) {
        let text = exposition(&families, true);
        prop_assert_eq!(returned_text(Format::OpenMetrics, &text), text);
    }

    #[test]
    fn text_keeps_type_help_and_the_spelling_of_edges(families in families()) {
        let known = |family: &Family| !["gaugehistogram", "info", "stateset"].contains(&family.metric_type);
        let text = exposition(&families.into_iter().filter(known).collect::<Vec<_>>(), false);
        prop_assert_eq!(returned_text(Format::PrometheusText, &text), text);
    }

    #[test]
    fn line_protocol_keeps_rows_order_types_and_nanoseconds(lines in prop::collection::vec(influx_line(), 0..6)) {
        let text = lines.concat();
        prop_assert_eq!(returned_text(Format::InfluxLine, &text), text);
    }

    #[test]
    fn remote_write2_keeps_every_fact(request in request()) {
        let plain = returned_message(Format::RemoteWrite2, &request.encode_to_vec());
        prop_assert_eq!(facts(&v2::Request::decode(&*plain).unwrap()), facts(&request));
    }

    #[test]
    fn remote_write_keeps_every_fact(request in request()) {
        let request = older(&request);
        let plain = returned_message(Format::RemoteWrite, &request.encode_to_vec());
        prop_assert_eq!(older_facts(&v1::WriteRequest::decode(&*plain).unwrap()), older_facts(&request));
    }
}
