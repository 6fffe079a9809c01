//! Remote write 1.0 and 2.0, rule by rule, on the built binary: as a receiver what it answers and hands on, as a sender what
//! destinations get. Each test begins with the rules it holds: W wire and headers, T status and retry, D data.
//!
//! Specifications: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and `..._2_0/`. What a rule says stands beside
//! its test. Held elsewhere, where the machinery for it is:
//!
//! * W10, T2 (success without a word on what was written, or 415: speak 1.0), T1, T5 (what is repeated, when, 429,
//!   `Retry-After`), D4 (samples of a series in time order, also across requests): `tests/outputs.rs`.
//! * T4 (a full log is 429 with `Retry-After`), D6 (what leaves a pushed group is marked stale): `src/ingest/tests.rs`.
//! * T6 (a destination refuses late samples: the others arrive): `tests/outputs.rs`, `tests/outputs/dead_letters.rs`.
//! * D14 (every way in which a native histogram contradicts itself): `src/wire/remote_write/histogram.rs`.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test fails by panicking; counts are whole numbers")]
#![allow(clippy::format_push_string, reason = "a test may allocate")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod destination;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
}

use prost::Message as _;
use sluicegate::wire::compression::snappy;
use sluicegate::wire::remote_write::messages as v1;
use sluicegate::wire::remote_write2::messages as v2;
use std::collections::HashSet;
use std::process::Command;
use support::destination::{self, Destination, ToDestination, status};
use support::gateway::{Gateway, Setup, gateway};
use support::http::{self, Answer};

const TYPE_1: &str = "application/x-protobuf";
const TYPE_2: &str = "application/x-protobuf;proto=io.prometheus.write.v2.Request";
/// Milliseconds of a time that every receiver takes.
const T: i64 = 1_700_000_000_000;
const STALE: u64 = 0x7ff0_0000_0000_0002;
const WRITTEN: [&str; 3] = ["samples", "histograms", "exemplars"];

fn post(gate: &Gateway, media: &str, message: &[u8]) -> Answer {
    let headers = [("Content-Type", media), ("Content-Encoding", "snappy")];
    http::send("POST", &gate.url("/api/v1/write"), &headers, &snappy(message))
}

/// What the `Written` headers say, if there are any.
fn written(answer: &Answer) -> [Option<u64>; 3] {
    WRITTEN.map(|of| {
        let value = answer.headers.get(format!("X-Prometheus-Remote-Write-{of}-Written"))?;
        Some(value.to_str().unwrap().parse().unwrap())
    })
}

fn label(name: &str, value: &str) -> v1::Label {
    v1::Label { name: name.into(), value: value.into() }
}

fn series_1(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> v1::TimeSeries {
    let labels = labels.iter().map(|(name, value)| label(name, value)).collect();
    let samples =
        samples.iter().map(|(value, timestamp)| v1::Sample { value: *value, timestamp: *timestamp }).collect();
    v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() }
}

fn request_1(timeseries: Vec<v1::TimeSeries>) -> Vec<u8> {
    v1::WriteRequest { timeseries, ..v1::WriteRequest::default() }.encode_to_vec()
}

fn sample_2(value: f64, timestamp: i64) -> v2::Sample {
    v2::Sample { value, timestamp, start_timestamp: 0 }
}

/// Each series with one sample, by references into the symbols.
fn request_2(symbols: &[&str], series: &[&[u32]]) -> v2::Request {
    let timeseries = series.iter().map(|references| v2::TimeSeries {
        labels_refs: references.to_vec(),
        samples: vec![sample_2(1.0, T)],
        ..v2::TimeSeries::default()
    });
    v2::Request { symbols: symbols.iter().map(|text| (*text).to_owned()).collect(), timeseries: timeseries.collect() }
}

/// An integer histogram of three observations in two buckets.
fn histogram() -> v2::Histogram {
    v2::Histogram {
        count: Some(v2::histogram::Count::CountInt(3)),
        zero_count: Some(v2::histogram::ZeroCount::ZeroCountInt(0)),
        sum: 20.0,
        zero_threshold: 0.001,
        positive_spans: vec![v2::BucketSpan { offset: 1, length: 2 }],
        positive_deltas: vec![1, 1],
        timestamp: T,
        ..v2::Histogram::default()
    }
}

/// One request at a time, so that series of one request meet in one body.
fn sent_to(sink: &Destination, version: u8) -> Setup {
    let queue = "queue_config: { max_shards: 1, batch_send_deadline: 20ms, min_backoff: 20ms, max_backoff: 200ms }";
    gateway().to_kind("prom", "prometheus_remote_write", sink, &format!("version: {version}, {queue}"))
}

#[test]
fn w1_w2_w3_requests_are_snappy_blocks_with_the_headers_of_their_version() {
    for (version, media, number) in [(1, TYPE_1, "0.1.0"), (2, TYPE_2, "2.0.0")] {
        let sink = destination::remote_write();
        let gate = sent_to(&sink, version).start();
        assert_eq!(post(&gate, TYPE_1, &request_1(vec![series_1(&[("__name__", "a")], &[(1.0, T)])])).status, 204);
        gate.drained();
        // The destination has decompressed it as one block; a frame would not have passed.
        let request = &sink.requests()[0];
        assert_eq!(request.lines(), ["a 1 1700000000000"]);
        for (header, value) in
            [("content-encoding", "snappy"), ("content-type", media), ("x-prometheus-remote-write-version", number)]
        {
            assert_eq!(request.header(header), value, "{header}");
        }
        assert!(request.header("user-agent").starts_with("sluicegate/"), "{request:?}");
    }
}

#[test]
fn w4_the_headers_of_the_protocol_cannot_be_configured_away() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("c.yml");
    for header in ["Content-Encoding", "content-type", "X-Prometheus-Remote-Write-Version", "User-Agent"] {
        let block = format!("{{ url: 'http://127.0.0.1:1', headers: {{ {header}: x }} }}");
        std::fs::write(&file, format!("outputs: [ {{ name: p, prometheus_remote_write: {block} }} ]\n")).unwrap();
        let output =
            Command::new(env!("CARGO_BIN_EXE_sluicegate")).args(["check", "--config"]).arg(&file).output().unwrap();
        let told = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.code() == Some(1) && told.contains("set by sluicegate itself"), "{header}: {told}");
    }
}

/// Headers, body, expected status.
type Head<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16);

#[test]
fn w5_w6_the_head_chooses_the_message_and_what_it_leaves_out_is_1_0_in_snappy() {
    let gate = gateway().start();
    let good = snappy(&request_1(vec![series_1(&[("__name__", "a")], &[(1.0, T)])]));
    // What cannot be negotiated is told before the body is looked at.
    let corrupt: &[u8] = b"\xff\xff\xff\xff";
    let cases: [Head<'_>; 14] = [
        (&[], &good, 204),
        (&[("Content-Type", TYPE_1)], &good, 204),
        (&[("Content-Encoding", "snappy")], &good, 204),
        (&[("Content-Type", "application/x-protobuf;proto=prometheus.WriteRequest")], &good, 204),
        (&[("Content-Type", "application/x-protobuf; proto=prometheus.WriteRequest")], &good, 204),
        (&[("Content-Type", "application/x-protobuf; charset=utf-8")], &good, 204),
        (&[("X-Prometheus-Remote-Write-Version", "9.9.9")], &good, 204),
        (&[("Content-Type", "application/json")], corrupt, 415),
        (&[("Content-Type", "image/png")], corrupt, 415),
        (&[("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v3.Request")], corrupt, 415),
        (&[("Content-Encoding", "gzip")], corrupt, 415),
        (&[("Content-Encoding", "deflate")], corrupt, 415),
        (&[("Content-Type", TYPE_1)], corrupt, 400),
        (&[("Content-Type", TYPE_2)], corrupt, 400),
    ];
    for (headers, body, expected) in cases {
        let answer = http::send("POST", &gate.url("/api/v1/write"), headers, body);
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text());
        assert_eq!(answer.body.is_empty(), expected == 204, "{headers:?}: {}", answer.text());
    }
}

#[test]
fn w7_w8_w9_w11_success_is_empty_and_what_was_not_taken_is_told_with_count_and_reason() {
    let gate = gateway().start();
    // Of 2.0, all three counts are told, with success and with failure.
    let symbols = ["", "__name__", "good", "trace_id", "abc"];
    let mut request = request_2(&symbols, &[&[1, 2]]);
    request.timeseries[0].exemplars =
        vec![v2::Exemplar { labels_refs: vec![3, 4], value: 0.5, timestamp: T }, v2::Exemplar::default()];
    request.timeseries.push(v2::TimeSeries {
        samples: vec![],
        histograms: vec![histogram()],
        ..request.timeseries[0].clone()
    });
    let answer = post(&gate, TYPE_2, &request.encode_to_vec());
    assert_eq!((answer.status, answer.text().as_str()), (204, ""));
    assert_eq!(written(&answer), [Some(1), Some(1), Some(4)]);

    request.timeseries.push(v2::TimeSeries { labels_refs: vec![1, 99], ..request.timeseries[0].clone() });
    request.timeseries.push(v2::TimeSeries { labels_refs: vec![3, 4], ..request.timeseries[0].clone() });
    let answer = post(&gate, TYPE_2, &request.encode_to_vec());
    let told = answer.text();
    assert_eq!((answer.status, written(&answer)), (400, [Some(1), Some(1), Some(4)]));
    assert!(told.starts_with("2 refused, the rest is written\n"), "{told}");
    assert!(
        told.contains("series 2: expected a reference into the symbol table of 5, found 99")
            && told.contains("series 3: expected the label __name__, found {trace_id=\"abc\"}"),
        "{told}"
    );

    let answer = post(&gate, TYPE_2, b"\x2a\x7f");
    assert_eq!((answer.status, written(&answer)), (400, [Some(0); 3]));

    // Of 1.0, nothing: a sender would not know what to do with it.
    let bad = series_1(&[("a", "b")], &[(1.0, T), (2.0, T + 1)]);
    let good = series_1(&[("__name__", "good")], &[(1.0, T)]);
    let answer = post(&gate, TYPE_1, &request_1(vec![good.clone()]));
    assert_eq!((answer.status, answer.text().as_str(), written(&answer)), (204, "", [None; 3]));
    let answer = post(&gate, TYPE_1, &request_1(vec![good, bad]));
    assert_eq!((answer.status, written(&answer)), (400, [None; 3]));
    assert!(answer.text().starts_with("2 refused, the rest is written\nseries 1: "), "{}", answer.text());
}

#[test]
fn w12_headers_of_an_answer_do_not_change_the_version() {
    let sink = destination::remote_write().rule(|request| {
        let number = if request.is_version_2() { "0.1.0" } else { "2.0.0" };
        Some(status(204).header("X-Prometheus-Remote-Write-Version", number).written(1))
    });
    for (version, number) in [(1, "0.1.0"), (2, "2.0.0")] {
        let gate = sent_to(&sink, version).start();
        for at in 0..2 {
            let seen = sink.requests().len();
            let body = request_1(vec![series_1(&[("__name__", "a")], &[(1.0, T + at)])]);
            assert_eq!(post(&gate, TYPE_1, &body).status, 204);
            let requests = sink.await_requests(seen + 1);
            assert_eq!(requests[seen].header("x-prometheus-remote-write-version"), number);
            gate.drained();
        }
    }
}

#[test]
fn t3_of_a_request_with_bad_series_the_good_ones_are_stored() {
    let sink = destination::remote_write();
    let gate = sent_to(&sink, 2).start();
    let bad: [&[(&str, &str)]; 4] =
        [&[], &[("job", "x")], &[("__name__", "a"), ("b", "c"), ("b", "d")], &[("__name__", "a"), ("", "x")]];
    let mut timeseries: Vec<_> = bad.iter().map(|labels| series_1(labels, &[(1.0, T)])).collect();
    timeseries.insert(2, series_1(&[("__name__", "good")], &[(1.0, T)]));
    for media in [TYPE_1, TYPE_2] {
        let answer = if media == TYPE_1 {
            post(&gate, media, &request_1(timeseries.clone()))
        } else {
            let symbols = ["", "__name__", "good", "a", "b", "c", "d", "job"];
            let series: [&[u32]; 5] = [&[], &[7, 5], &[1, 2], &[1, 3, 4, 5, 4, 6], &[1, 3, 0, 5]];
            post(&gate, media, &request_2(&symbols, &series).encode_to_vec())
        };
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().starts_with("4 refused"), "{}", answer.text());
    }
    gate.drained();
    let lines: Vec<_> = sink.requests().iter().flat_map(destination::Request::lines).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line == "good 1 1700000000000"), "{lines:?}");
    let refused: f64 = ["remote_write", "remote_write2"]
        .iter()
        .map(|input| gate.metric("sluicegate_samples_rejected_total", &[("input", input)]))
        .sum();
    assert_eq!(refused, 8.0);
}

#[test]
fn d1_d5_d11_values_and_times_arrive_bit_by_bit() {
    let bits =
        [STALE, 0x7ff8_0000_0000_0001, 0xfff8_dead_beef_0001, 1, 1 << 63 | 1, 0x7ff0_0000_0000_0000, 0xfff0 << 48];
    let times = [T, -1, 0, 1, T + 1, -62_135_596, T + 2];
    for version in [1, 2] {
        let sink = destination::remote_write();
        let gate = sent_to(&sink, version).start();
        let samples: Vec<_> = bits.iter().zip(times).map(|(bits, time)| (f64::from_bits(*bits), time)).collect();
        assert_eq!(post(&gate, TYPE_1, &request_1(vec![series_1(&[("__name__", "a")], &samples)])).status, 204);
        // A start of 0 is none; the real one is 1 or -1.
        let mut request = request_2(&["", "__name__", "b"], &[&[1, 2]]);
        request.timeseries[0].samples = [0, 1, -1, T - 5]
            .iter()
            .zip(0..)
            .map(|(start, at)| v2::Sample { start_timestamp: *start, ..sample_2(1.0, T + at) })
            .collect();
        assert_eq!(post(&gate, TYPE_2, &request.encode_to_vec()).status, 204);
        gate.drained();
        let mut got: Vec<(u64, i64)> = Vec::new();
        let mut starts = Vec::new();
        for body in sink.requests().iter().map(|request| &*request.body) {
            if version == 1 {
                for series in v1::WriteRequest::decode(body).unwrap().timeseries {
                    let samples = series.samples.iter().map(|sample| (sample.value.to_bits(), sample.timestamp));
                    got.extend(samples.filter(|_| series.labels[0].value == "a"));
                }
            } else {
                let request = v2::Request::decode(body).unwrap();
                for series in &request.timeseries {
                    if request.symbols[series.labels_refs[1] as usize] == "a" {
                        got.extend(series.samples.iter().map(|sample| (sample.value.to_bits(), sample.timestamp)));
                    } else {
                        starts.extend(series.samples.iter().map(|sample| sample.start_timestamp));
                    }
                }
            }
        }
        let mut expected: Vec<_> = bits.iter().copied().zip(times).collect();
        expected.sort_by_key(|(_, time)| *time);
        assert_eq!(got, expected, "version {version}");
        let expected: &[i64] = if version == 1 { &[] } else { &[0, 1, -1, T - 5] };
        assert_eq!(starts, expected, "version {version}");
    }
}

#[test]
fn d2_d3_d9_label_sets_are_sorted_and_symbols_stand_once() {
    let sink = destination::remote_write();
    let gate = sent_to(&sink, 2).start();
    let unsorted = [("job", "j"), ("a.b", "é"), ("__name__", "http requests.total"), ("Z", "1"), ("gone", "")];
    assert_eq!(post(&gate, TYPE_1, &request_1(vec![series_1(&unsorted, &[(1.0, T)])])).status, 204);
    // References may lead to a symbol that stands twice, and to `""` for a value. Both series have `job` and `m`.
    let twice = request_2(&["", "__name__", "m", "m", "job", "j"], &[&[4, 5, 1, 2], &[1, 3, 4, 0, 5, 4]]);
    assert_eq!(post(&gate, TYPE_2, &twice.encode_to_vec()).status, 204);
    gate.drained();
    let mut lines: Vec<String> = Vec::new();
    for sent in sink.requests() {
        let request = v2::Request::decode(&*sent.body).unwrap();
        let distinct: HashSet<&String> = request.symbols.iter().collect();
        assert!(request.symbols[0].is_empty() && distinct.len() == request.symbols.len(), "{:?}", request.symbols);
        for series in &request.timeseries {
            let text = |reference: &u32| request.symbols[*reference as usize].as_str();
            let names: Vec<&str> = series.labels_refs.iter().step_by(2).map(text).collect();
            assert!(series.labels_refs.len() % 2 == 0 && names.is_sorted_by(|left, right| left < right), "{names:?}");
            assert!(series.labels_refs.iter().skip(1).step_by(2).all(|value| !text(value).is_empty()), "{series:?}");
        }
        lines.extend(sent.lines());
    }
    lines.sort();
    let expected = ["http requests.total{Z=\"1\",a.b=\"é\",job=\"j\"}", "m{j=\"job\"}", "m{job=\"j\"}"];
    assert_eq!(lines, expected.map(|series| format!("{series} 1 {T}")));
}

#[test]
fn d7_d8_d12_d13_histograms_exemplars_and_metadata_pass_through() {
    let mut request = request_2(&["", "__name__", "c_total", "trace_id", "abc", "Help.", "seconds", "h"], &[&[1, 2]]);
    request.timeseries[0].metadata = Some(v2::Metadata { r#type: 1, help_ref: 5, unit_ref: 6 });
    request.timeseries[0].exemplars = vec![v2::Exemplar { labels_refs: vec![3, 4], value: 0.5, timestamp: T - 1 }];
    let native = v2::TimeSeries {
        labels_refs: vec![1, 7],
        samples: vec![sample_2(5.0, T)],
        histograms: vec![v2::Histogram { start_timestamp: T - 9, ..histogram() }],
        metadata: Some(v2::Metadata { r#type: 3, help_ref: 0, unit_ref: 0 }),
        ..v2::TimeSeries::default()
    };
    request.timeseries.push(native);
    let mut bytes = request.encode_to_vec();
    // Old senders tell the start of a series in field 6.
    let old = v2::TimeSeries { labels_refs: vec![1, 5], samples: vec![sample_2(7.0, T)], ..v2::TimeSeries::default() };
    let mut old = old.encode_to_vec();
    old.push(6 << 3);
    prost::encoding::encode_varint((T - 3).cast_unsigned(), &mut old);
    bytes.push(5 << 3 | 2);
    prost::encoding::encode_varint(old.len() as u64, &mut bytes);
    bytes.extend(old);

    let sink = destination::remote_write();
    let gate = sent_to(&sink, 2).start();
    let answer = post(&gate, TYPE_2, &bytes);
    assert_eq!((answer.status, written(&answer)), (204, [Some(3), Some(1), Some(1)]), "{}", answer.text());
    gate.drained();
    let mut facts = Vec::new();
    for sent in sink.requests() {
        let request = v2::Request::decode(&*sent.body).unwrap();
        let text = |reference: u32| request.symbols[reference as usize].as_str();
        for series in &request.timeseries {
            let name = text(series.labels_refs[1]);
            // D10: samples or histograms, one of them at least.
            assert!(series.samples.is_empty() != series.histograms.is_empty(), "{series:?}");
            let metadata = series.metadata.unwrap_or_default();
            facts.push(format!(
                "{name} {} {:?} {:?}",
                metadata.r#type,
                text(metadata.help_ref),
                text(metadata.unit_ref)
            ));
            facts.extend(
                series.samples.iter().map(|sample| format!("{name} {} {}", sample.value, sample.start_timestamp)),
            );
            for exemplar in &series.exemplars {
                let labels: Vec<&str> = exemplar.labels_refs.iter().map(|reference| text(*reference)).collect();
                facts.push(format!("{name} {labels:?} {} {}", exemplar.value, exemplar.timestamp));
            }
            for native in &series.histograms {
                assert_eq!(*native, v2::Histogram { start_timestamp: T - 9, ..histogram() });
                facts.push(format!("{name} histogram"));
            }
        }
    }
    facts.sort();
    let expected = [
        "Help. 0 \"\" \"\"".to_owned(),
        format!("Help. 7 {}", T - 3),
        "c_total 1 \"Help.\" \"seconds\"".to_owned(),
        "c_total 1 0".to_owned(),
        format!("c_total [\"trace_id\", \"abc\"] 0.5 {}", T - 1),
        "h 3 \"\" \"\"".to_owned(),
        "h 3 \"\" \"\"".to_owned(),
        "h 5 0".to_owned(),
        "h histogram".to_owned(),
    ];
    assert_eq!(facts, expected);
}

#[test]
fn d10_d14_series_without_samples_and_histograms_that_do_not_add_up_are_refused() {
    let gate = gateway().start();
    let series = |samples, histograms| v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples,
        histograms,
        ..v2::TimeSeries::default()
    };
    let wrong = v2::Histogram { count: Some(v2::histogram::Count::CountInt(4)), ..histogram() };
    let cases = [
        (series(vec![], vec![]), 400, [0, 0, 0], "expected samples or histograms in the series, found neither"),
        (series(vec![], vec![wrong.clone()]), 400, [0, 0, 0], "3 observations in the buckets, but the count is 4"),
        (series(vec![], vec![histogram(), wrong]), 400, [0, 1, 0], "1 refused"),
        // A sender must not mix them; a receiver loses nothing by taking both.
        (series(vec![sample_2(1.0, T)], vec![histogram()]), 204, [1, 1, 0], ""),
        (
            series(vec![], vec![v2::Histogram { sum: f64::from_bits(STALE), ..v2::Histogram::default() }]),
            204,
            [0, 1, 0],
            "",
        ),
    ];
    for (series, status, counts, told) in cases {
        let symbols = ["", "__name__", "h"].map(str::to_owned).to_vec();
        let answer = post(&gate, TYPE_2, &v2::Request { symbols, timeseries: vec![series] }.encode_to_vec());
        assert_eq!((answer.status, written(&answer)), (status, counts.map(Some)), "{told}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
    }
}

#[test]
fn d15_metadata_of_1_0_is_sent_apart_from_the_samples() {
    let metadata =
        v1::MetricMetadata { r#type: 1, metric_family_name: "c".into(), help: "Help.".into(), unit: "bytes".into() };
    let sink = destination::remote_write();
    let gate = sent_to(&sink, 1).start();
    let open = "# TYPE c_bytes counter\n# UNIT c_bytes bytes\n# HELP c_bytes Help.\nc_bytes_total 1\n# EOF\n";
    let media = [("Content-Type", "application/openmetrics-text; version=1.0.0")];
    assert_eq!(http::send("POST", &gate.url("/api/v1/import/prometheus"), &media, open.as_bytes()).status, 204);
    gate.drained();
    let requests: Vec<_> =
        sink.requests().iter().map(|request| v1::WriteRequest::decode(&*request.body).unwrap()).collect();
    let told: Vec<_> = requests.iter().flat_map(|request| request.metadata.clone()).collect();
    assert_eq!(told, [v1::MetricMetadata { metric_family_name: "c_bytes".into(), ..metadata }]);
    assert_eq!(requests.iter().map(|request| request.timeseries.len()).sum::<usize>(), 1);
}
