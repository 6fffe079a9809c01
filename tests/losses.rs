//! What each format loses on its way to each other one: exactly the losses that the translation matrix foresees, by reason,
//! and no other.

#![allow(clippy::unwrap_used, clippy::float_cmp, reason = "a test fails by panicking; counts are whole numbers")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
}

use prost::Message as _;
use sluicegate::wire::compression::snappy;
use sluicegate::wire::remote_write::messages as v1;
use sluicegate::wire::remote_write2::messages as v2;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use support::gateway::gateway;
use support::http;
use support::server::eventually;

/// Milliseconds.
const T: i64 = 1_700_000_000_000;
const STALE: u64 = 0x7ff0_0000_0000_0002;
/// R's missing value.
const MISSING: u64 = 0x7ff0_0000_0000_07a2;

/// Everything that the format can say and another may not, a line each.
const TEXT: &str = "# HELP c_total Help.\n# TYPE c_total counter\nc_total{a=\"b\"} 1 1700000000001\n\
    # TYPE lat histogram\nlat_bucket{le=\"0.10\"} 1\nlat_bucket{le=\"+Inf\"} 2\nlat_sum 0.7\nlat_count 2\n\
    not_a_number NaN\ninfinite +Inf\n{\"dot.ted\",\"la.bel\"=\"x\"} 1\n";
const OPENMETRICS: &str = "# TYPE c_seconds counter\n# UNIT c_seconds seconds\n# HELP c_seconds Help.\n\
    c_seconds_total 1 1700000000.000000001 # {trace_id=\"abc\"} 0.5\nc_seconds_created 1600000000.5\n\
    # TYPE gh gaugehistogram\ngh_bucket{le=\"+Inf\"} 2\ngh_gcount 2\ngh_gsum 1\n# TYPE build info\nbuild_info{v=\"1\"} 1\n\
    # TYPE up stateset\nup{up=\"a\"} 1\n# EOF\n";
const INFLUX: &str = "disk,host=a,path=/ free=0.5,used=2i,huge=9007199254740993i,n=3u,ok=true,state=\"fine\" 1700000000000000001\n\
    a-b,ho-st=x value=1 1700000000000000000\n";
const WAVEFRONT: &str = "\"jvm.memory\" 5 1700000000 source=\"a\" \"k.k\"=\"v\"\n\u{2206}hits 2 1700000000 source=b\n~sdk.x 1 1700000000 source=b\n\
    !M 1700000000 #2 1.5 #1 4 latency source=d\n";

fn native(schema: i32) -> v2::Histogram {
    v2::Histogram {
        count: Some(v2::histogram::Count::CountInt(2)),
        zero_count: Some(v2::histogram::ZeroCount::ZeroCountInt(0)),
        sum: 2.5,
        schema,
        positive_spans: vec![v2::BucketSpan { offset: 0, length: 2 }],
        positive_deltas: vec![1, 0],
        custom_values: if schema == -53 { vec![0.5, 1.0] } else { Vec::new() },
        timestamp: T,
        ..v2::Histogram::default()
    }
}

/// A counter with an exemplar, a stale marker, a NaN with a payload, a native histogram, a name of dots. Metadata comes in requests of its own.
fn remote_write() -> Vec<u8> {
    let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
    let sample = |value| v1::Sample { value, timestamp: T };
    let series = |name: &str, value| v1::TimeSeries {
        labels: vec![label("__name__", name)],
        samples: vec![sample(value)],
        ..v1::TimeSeries::default()
    };
    let exemplar = v1::Exemplar { labels: vec![label("trace_id", "abc")], value: 0.5, timestamp: T };
    let histogram = v1::Histogram::decode(&*native(0).encode_to_vec()).unwrap();
    let timeseries = vec![
        v1::TimeSeries { exemplars: vec![exemplar], ..series("c_total", 1.0) },
        series("gone", f64::from_bits(STALE)),
        series("missing", f64::from_bits(MISSING)),
        v1::TimeSeries { samples: vec![], histograms: vec![histogram], ..series("h", 0.0) },
        series("dot.ted", 1.0),
    ];
    snappy(&v1::WriteRequest { timeseries, ..v1::WriteRequest::default() }.encode_to_vec())
}

/// The same, with start timestamps, metadata of the series, and custom buckets.
fn remote_write2() -> Vec<u8> {
    let symbols = ["", "__name__", "c_total", "gone", "h", "dot.ted", "Help.", "s", "trace_id", "abc", "nhcb"];
    let series = |name, value, kind| v2::TimeSeries {
        labels_refs: vec![1, name],
        samples: vec![v2::Sample { value, timestamp: T, start_timestamp: 0 }],
        metadata: Some(v2::Metadata { r#type: kind, help_ref: 0, unit_ref: 0 }),
        ..v2::TimeSeries::default()
    };
    let histogram = |name, native| v2::TimeSeries { samples: vec![], histograms: vec![native], ..series(name, 0.0, 3) };
    let mut counter = series(2, 1.0, 1);
    counter.samples[0].start_timestamp = T - 1000;
    counter.metadata = Some(v2::Metadata { r#type: 1, help_ref: 6, unit_ref: 7 });
    counter.exemplars = vec![v2::Exemplar { labels_refs: vec![8, 9], value: 0.5, timestamp: T }];
    let timeseries = vec![
        counter,
        series(3, f64::from_bits(STALE), 2),
        histogram(4, native(0)),
        histogram(10, native(-53)),
        series(5, 1.0, 0),
    ];
    let symbols = symbols.map(str::to_owned).to_vec();
    snappy(&v2::Request { symbols, timeseries }.encode_to_vec())
}

fn translate(arguments: &[&str], input: &[u8]) -> (String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("translate")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8(output.stderr).unwrap())
}

/// The reasons on standard error with their counts, `-` in front of those that cost the sample.
fn told(err: &str) -> BTreeMap<String, u64> {
    let lines = err.lines().filter_map(|line| {
        let (sign, rest) = match line.split_once(' ')? {
            ("dropped", rest) => ("-", rest),
            ("altered", rest) => ("", rest),
            _ => return None,
        };
        let (count, reason) = rest.split_once(" samples: ")?;
        let reason = reason.split_once(' ').map_or(reason, |(reason, _)| reason);
        Some((format!("{sign}{reason}"), count.parse().unwrap()))
    });
    lines.collect()
}

/// The columns of the table that a dry run prints, and the format each is an output of.
const OUTPUTS: [(&str, &str); 7] = [
    ("remote_write", "remote_write"),
    ("remote_write2", "remote_write2"),
    ("influxdb 1", ""),
    ("influxdb 2, 3", "influx_line"),
    ("wavefront", "wavefront"),
    ("prometheus_text", "prometheus_text"),
    ("openmetrics", "openmetrics"),
];

/// From a format to each output of the table.
const EXPECTED: [(&str, [&str; 7]); 6] = [
    (
        "prometheus_text",
        ["", "", "metadata 5, non_finite 2", "metadata 5, non_finite 2", "metadata 5, non_finite 2", "", ""],
    ),
    (
        "openmetrics",
        [
            "start_timestamp 1, timestamp_truncated 1",
            "timestamp_truncated 1",
            "exemplar 1, metadata 6, start_timestamp 1",
            "exemplar 1, metadata 6, start_timestamp 1",
            "exemplar 1, metadata 6, start_timestamp 1, timestamp_truncated 1",
            "exemplar 1, metadata 6, start_timestamp 1, timestamp_truncated 1",
            "",
        ],
    ),
    (
        "remote_write",
        [
            "",
            "",
            "exemplar 1, native_histogram 1, non_finite 1, stale_marker 1",
            "exemplar 1, native_histogram 1, non_finite 1, stale_marker 1",
            "exemplar 1, native_histogram 1, non_finite 1, stale_marker 1",
            "exemplar 1, nan_payload 1, native_histogram 1, stale_marker 1",
            "exemplar 1, nan_payload 1, native_histogram 1, stale_marker 1",
        ],
    ),
    (
        "remote_write2",
        [
            "start_timestamp 1",
            "",
            "exemplar 1, metadata 3, native_histogram 2, stale_marker 1, start_timestamp 1",
            "exemplar 1, metadata 3, native_histogram 2, stale_marker 1, start_timestamp 1",
            "exemplar 1, metadata 3, native_histogram 2, stale_marker 1, start_timestamp 1",
            "exemplar 1, metadata 1, native_histogram 2, stale_marker 1, start_timestamp 1",
            "metadata 1, native_histogram 2, stale_marker 1",
        ],
    ),
    (
        "influx_line",
        [
            "field_type 3, integer_rounded 1, label_sanitised 1, name_sanitised 1, row_split 4, string_value 1, timestamp_truncated 5",
            "field_type 3, integer_rounded 1, label_sanitised 1, name_sanitised 1, row_split 4, string_value 1, timestamp_truncated 5",
            "field_type 1",
            "",
            "field_type 3, integer_rounded 1, row_split 4, string_value 1, timestamp_truncated 5",
            "field_type 4, label_sanitised 1, name_sanitised 1, row_split 4, string_value 1, timestamp_truncated 5",
            "field_type 4, label_sanitised 1, name_sanitised 1, row_split 4, string_value 1",
        ],
    ),
    (
        "wavefront",
        [
            "delta_temporality 1, distribution 1, internal_metric 1, label_sanitised 1, name_sanitised 1",
            "delta_temporality 1, distribution 1, internal_metric 1, label_sanitised 1, name_sanitised 1",
            "delta_temporality 1, distribution 1, internal_metric 1",
            "delta_temporality 1, distribution 1, internal_metric 1",
            "",
            "delta_temporality 1, distribution 1, internal_metric 1, label_sanitised 1, name_sanitised 1",
            "delta_temporality 1, distribution 1, internal_metric 1, label_sanitised 1, name_sanitised 1",
        ],
    ),
];

/// The same of meters of Micrometer: a timer, a gauge of time, and what follows from other series.
const OF_METERS: [(&str, &str, [&str; 7]); 3] = [
    (
        "prometheus_text",
        "# HELP m_seconds Help.\n# TYPE m_seconds summary\nm_seconds_count{application_guid=\"t\"} 2 60000\n\
            m_seconds_sum{application_guid=\"t\"} 3 60000\nm_seconds_sum{application_guid=\"t\"} 3 60000\n\
            # TYPE b histogram\nb_bucket{application_guid=\"t\",le=\"+Inf\"} 1\n\
            # TYPE up_seconds gauge\nup_seconds{application_guid=\"t\"} 1\n",
        [
            "collapsed 1",
            "collapsed 1",
            "derived 1, metadata 2, temporality_converted 2, unit_converted 2, within_step 1",
            "derived 1, metadata 2, temporality_converted 2, unit_converted 2, within_step 1",
            "derived 1, metadata 3",
            "collapsed 1",
            "collapsed 1",
        ],
    ),
    (
        "influx_line",
        "m,metric_type=histogram sum=46,count=2,mean=23,upper=34 120000000000\n\
            m,metric_type=histogram count=2 60000000000\nup,metric_type=gauge,a-b=1,a.b=2 value=1 1000000\n",
        [
            "derived 1, label_dropped 1, late_delta 1, row_split 2, temporality_converted 2, unit_converted 2",
            "derived 1, label_dropped 1, late_delta 1, row_split 2, temporality_converted 2, unit_converted 2",
            "",
            "",
            "late_delta 1, row_split 3, temporality_converted 2, unit_converted 3",
            "derived 1, label_dropped 1, late_delta 1, row_split 2, temporality_converted 2, unit_converted 2",
            "derived 1, label_dropped 1, late_delta 1, row_split 2, temporality_converted 2, unit_converted 2",
        ],
    ),
    (
        "wavefront",
        "\"m.count\" 2 1700000000 source=\"a\" \"application.guid\"=\"t\"\n\"m.sum\" 3 1700000000 source=\"a\" \"application.guid\"=\"t\"\n\
            \"m.avg\" 1.5 1700000000 source=\"a\" \"application.guid\"=\"t\"\n",
        [
            "derived 1",
            "derived 1",
            "derived 1, temporality_converted 2, unit_converted 1",
            "derived 1, temporality_converted 2, unit_converted 1",
            "",
            "derived 1",
            "derived 1",
        ],
    ),
];

#[test]
fn every_output_is_told_exactly_what_it_loses_of_every_format() {
    let mut failed = Vec::new();
    let of_formats = EXPECTED.into_iter().map(|(from, expected)| {
        let input = match from {
            "prometheus_text" => TEXT.into(),
            "openmetrics" => OPENMETRICS.into(),
            "remote_write" => remote_write(),
            "remote_write2" => remote_write2(),
            "influx_line" => INFLUX.into(),
            _ => WAVEFRONT.into(),
        };
        (from, input, expected)
    });
    let of_meters = OF_METERS.into_iter().map(|(from, input, expected)| (from, Vec::from(input), expected));
    for (from, input, expected) in of_formats.chain(of_meters) {
        let (table, _) = translate(&["--from", from, "--dry-run"], &input);
        let rows: Vec<Vec<&str>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[2], OUTPUTS.map(|(name, _)| name), "{table}");
        for (at, (output, to)) in OUTPUTS.iter().enumerate() {
            let cells = rows[3..].iter().filter(|row| row.len() == 8 && row[at + 1] != "-");
            let losses: BTreeMap<&str, u64> = cells
                .filter(|row| !["written", "dropped"].contains(&row[0]))
                .map(|row| (row[0], row[at + 1].parse().unwrap()))
                .collect();
            let shown: Vec<String> = losses.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            if shown.join(", ") != expected[at] {
                failed.push(format!(
                    "{from} to {output}:\n  expected {}\n  got      {}",
                    expected[at],
                    shown.join(", ")
                ));
            }
            if to.is_empty() {
                continue;
            }
            // The filter tells the same, and what is dropped it calls dropped.
            let (_, err) = translate(&["--from", from, "--to", to], &input);
            let run: BTreeMap<String, u64> = told(&err)
                .into_iter()
                .map(|(reason, count)| (reason.trim_start_matches('-').to_owned(), count))
                .collect();
            let dry: BTreeMap<String, u64> =
                losses.iter().map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
            if run != dry {
                failed.push(format!("{from} to {to}: the dry run tells {dry:?}, the run {run:?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Two names that are one in Wavefront's alphabet: the second series is not sent, and its exemplar neither.
#[test]
fn losses_of_an_output_stand_in_metrics_and_status() {
    let gate = gateway().with_wavefront("http://127.0.0.1:1").start();
    let open = "# TYPE a:b counter\na:b_total 1 # {t=\"x\"} 1\n# TYPE \"a|b\" counter\n{\"a|b_total\"} 2 # {t=\"y\"} 2\n# EOF\n";
    let media = [("Content-Type", "application/openmetrics-text; version=1.0.0")];
    let answer = http::send("POST", &gate.url("/api/v1/import/prometheus"), &media, open.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    let expected = BTreeMap::from([("exemplar", 2), ("metadata", 1), ("name_collision", 1), ("name_sanitised", 1)]);
    eventually(Duration::from_secs(30), || {
        let status = gate.status();
        let told = &status["outputs"][0]["losses"];
        let counted = expected.iter().all(|(reason, count)| {
            let labels = [("output", "wf"), ("reason", *reason)];
            gate.metric("sluicegate_translation_losses_total", &labels).to_string() == count.to_string()
        });
        let same = told.as_object().is_some_and(|told| {
            told.len() == expected.len()
                && told.iter().all(|(reason, count)| count.as_u64() == expected.get(reason.as_str()).copied())
        });
        if same && counted { Ok(()) } else { Err(told.to_string()) }
    });
}
