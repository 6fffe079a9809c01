//! The same meters left three of Micrometer's registries: what one said, translated, is compared with what the others said.
//!
//! The recordings lie beside the repository; without them the tests say so and pass.

#![allow(clippy::format_push_string, clippy::format_collect, reason = "a test may allocate")]

use super::*;
use crate::model::{Batch, BatchBuilder, Format, SeriesTable, Value};
use crate::wire::{influx_line, openmetrics, prometheus_text, wavefront};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

/// Series as text with their values; of what is translated, the reason of what is not there.
type Said = BTreeMap<String, Result<f64, Loss>>;

/// What a registry wrote, decoded.
struct Recording {
    table: SeriesTable,
    batch: Batch,
}

fn recording(file: &str, format: Format) -> Option<Recording> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/micrometer").join(file);
    let Ok(text) = std::fs::read_to_string(path) else {
        // The test harness swallows what print! writes, and a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: the recording {file} is not there");
        return None;
    };
    let http = |line: &&str| !line.starts_with("POST ") && !line.starts_with("    ");
    let body = text.lines().filter(http).flat_map(|line| [line, "\n"]).collect::<String>();
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, format, Vec::new());
    let refused = match format {
        Format::InfluxLine => {
            let options = influx_line::decode::Options::default();
            influx_line::decode::decode(body.as_bytes(), &options, &mut out)
        }
        Format::Wavefront => {
            // As a filter reads them, without what only the proxy refuses: a tag of blanks.
            let options = wavefront::decode::Options { limits: None, ..wavefront::decode::Options::at(0) };
            wavefront::decode::decode(body.as_bytes(), &options, &mut out)
        }
        Format::OpenMetrics => {
            let options = openmetrics::decode::Options { now: 0, timestamp: None };
            openmetrics::decode::decode(text.as_bytes(), &options, &mut out)
        }
        _ => {
            let options = prometheus_text::decode::Options { now: 0, timestamp: None };
            prometheus_text::decode::decode(text.as_bytes(), &options, &mut out)
        }
    };
    // The one row that line protocol's registry spoils by a backslash at the end of a value.
    assert_eq!(refused.refused(), u64::from(format == Format::InfluxLine), "{:?}", refused.first);
    let batch = out.finish();
    Some(Recording { table, batch })
}

/// A series as text. Common tags say nothing here, and only Wavefront knows a source.
fn text(series: &Series) -> String {
    const COMMON: [&str; 8] = [
        "application_guid",
        "application_name",
        "application_type",
        "exception",
        "instance_index",
        "stream_name",
        "source",
        "status",
    ];
    let mut text = series.name.measurement().to_owned();
    if let Some(field) = series.name.field_key() {
        text += &format!(" {field}");
    }
    let labels = series.labels.iter().filter(|pair| {
        let is_common = COMMON.contains(&&*pair.name.replace('.', "_"));
        let is_dotted = pair.name.contains('.') && series.dialect == Dialect::Wavefront;
        let must_be_dotted = series.dialect == Dialect::Wavefront && pair.name.contains(['_', '.']);
        assert!(!is_common || is_dotted == must_be_dotted, "{series:?}");
        !is_common
    });
    for pair in labels {
        text += &format!(" {}={}", pair.name, pair.value);
    }
    text
}

impl Recording {
    fn said(&self) -> Said {
        self.each(|series, value| (text(series), Ok(value)))
    }

    fn translated(&self, profile: &Profile, to: Dialect) -> Said {
        self.each(|series, value| match profile.translate(series, to) {
            Ok(Some(Translated { series, conversion, .. })) => (text(&series), Ok(conversion.unit.convert(value))),
            Ok(None) => panic!("{series:?} is a meter"),
            Err(loss) => (text(series), Err(loss)),
        })
    }

    fn each(&self, said: impl Fn(&Series, f64) -> (String, Result<f64, Loss>)) -> Said {
        let samples = self.batch.samples.iter().map(|sample| {
            let Value::F64(value) = self.batch.value(sample) else { panic!("not a float") };
            said(&self.table.series(sample.series).unwrap(), value)
        });
        let all: Vec<_> = samples.collect();
        let number = all.len();
        let all: Said = all.into_iter().collect();
        assert_eq!(all.len(), number, "no two are one");
        all
    }
}

/// How what is translated differs from what the other registry said.
fn differences(translated: &Said, said: &Said) -> Vec<String> {
    let mut differences = Vec::new();
    for (series, value) in translated {
        match (value, said.get(series)) {
            (Err(loss), _) => differences.push(format!("{}: {series}", loss.as_str())),
            (Ok(_), None) => differences.push(format!("more: {series}")),
            (Ok(ours), Some(Ok(theirs)))
                if ours.to_bits() != theirs.to_bits() && !(ours.is_nan() && theirs.is_nan()) =>
            {
                // Clocks went on between two registries.
                let is_clock = series.contains("task_active") || series.contains("task.active");
                let ours = if is_clock { "its time".to_owned() } else { format!("{ours} for {theirs}") };
                differences.push(format!("{ours}: {series}"));
            }
            (Ok(_), Some(_)) => {}
        }
    }
    differences
        .extend(said.keys().filter(|series| !translated.contains_key(*series)).map(|series| format!("less: {series}")));
    differences
}

/// The meters of the recordings' program that are in no table: what its user would add.
fn profile() -> Profile {
    let own = [("payload.size", Kind::Summary, "bytes"), ("custom.meter", Kind::Other, "")];
    let own = own.map(|(name, kind, unit)| Meter { name: name.into(), kind, unit: unit.into() });
    let meters = Arc::new(Meters::new(own.into()));
    Profile { meters, prometheus_registry: PrometheusRegistry::Client1, ..Profile::default() }
}

/// Differences, and why they are there.
type Reasons<'a> = &'a [(&'a str, &'a [&'a str])];

fn compare(from: (&str, Format), to: (&str, Format), profile: &Profile, expected: Reasons<'_>) {
    let (Some(source), Some(oracle)) = (recording(from.0, from.1), recording(to.0, to.1)) else { return };
    let mut differences = differences(&source.translated(profile, to.1.dialect()), &oracle.said());
    let mut expected: Vec<_> = expected.iter().flat_map(|(_, differences)| *differences).copied().collect();
    differences.sort_unstable();
    expected.sort_unstable();
    assert_eq!(differences, expected, "\n{}", differences.join("\n"));
}

const PROMETHEUS: (&str, Format) = ("prometheus_text_004.txt", Format::PrometheusText);
const OPEN_METRICS: (&str, Format) = ("openmetrics_1_0.txt", Format::OpenMetrics);
const INFLUX: (&str, Format) = ("influx_v1_write.http.txt", Format::InfluxLine);
const WAVEFRONT: (&str, Format) = ("wavefront_report.http.txt", Format::Wavefront);

const MEANS: &str = "a row or family has its sum and count";
const ROW_MEANS: &str = "the encoder gives a row its mean, of its sum and count";
const CLOCK: &str = "tasks went on between two registries";
const PRECISION: &str = "line protocol's registry writes six decimals";
const NOT_FINITE: &str = "no number beyond the finite ones is in rows and points";
const BACKSLASH: &str = "the row is refused, or a backslash at the end of a value is written otherwise";
const DOTS: &str = "where dots were is known of meters in the table only";
const INFINITE: &str = "the bucket of all is the count, and only Prometheus has it";
const EITHER: &str = "Prometheus's registry tells buckets or percentiles, not both";
const NOT_RECORDED: &str =
    "the recording lacks the distribution that Wavefront's registry tells of a timer with buckets";
const POINTS: &str = "of counts in buckets no distribution is made: they are points, as of a timer without buckets";
const LONGEST: &str = "line protocol's registry does not tell the longest task; it is kept where it is known";
const NO_AVERAGE: &str = "of cumulative values no average is made: it follows from sum and count";

#[test]
fn rows_become_what_prometheus_was_told() {
    let means = [
        "derived: cache_gets_latency mean metric_type=histogram",
        "derived: http_server_requests mean metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "derived: payload_size mean metric_type=histogram",
        "derived: spring_integration_send mean metric_type=histogram name=output result=success type=channel",
    ];
    let percentiles = [
        "more: http_server_requests_seconds quantile=0.5 uri=/a b,c=\"x\"",
        "more: http_server_requests_seconds quantile=0.95 uri=/a b,c=\"x\"",
    ];
    let expected: Reasons<'_> = &[
        (MEANS, &means),
        (EITHER, &percentiles),
        (PRECISION, &["0.000001 for 0.0000012345: process_cpu_usage"]),
        (CLOCK, &["its time: spring_cloud_task_active_seconds_sum"]),
        (NOT_FINITE, &["less: bad_gauge"]),
        (INFINITE, &["less: http_server_requests_seconds_bucket le=+Inf uri=/a b,c=\"x\""]),
        (LONGEST, &["less: spring_cloud_task_active_seconds_max"]),
        (BACKSLASH, &["less: weird_name_with_slash_total emptyish=  tag_key_x=val\"q\\"]),
    ];
    compare(INFLUX, PROMETHEUS, &profile(), expected);
}

#[test]
fn points_become_what_prometheus_was_told() {
    let averages = [
        "derived: cache.gets.latency.avg",
        "derived: payload.size.avg",
        "derived: spring.cloud.task.active.avg",
        "derived: spring.integration.send.avg name=output result=success type=channel",
    ];
    let distribution = [
        "less: http_server_requests_seconds_bucket le=+Inf uri=/a b,c=\"x\"",
        "less: http_server_requests_seconds_bucket le=0.05 uri=/a b,c=\"x\"",
        "less: http_server_requests_seconds_bucket le=0.25 uri=/a b,c=\"x\"",
        "less: http_server_requests_seconds_count uri=/a b,c=\"x\"",
        "less: http_server_requests_seconds_max uri=/a b,c=\"x\"",
        "less: http_server_requests_seconds_sum uri=/a b,c=\"x\"",
    ];
    let backslash = [
        "more: weird_name_with_slash_total tag_key_x=val\"q_",
        "less: weird_name_with_slash_total emptyish=  tag_key_x=val\"q\\",
    ];
    let clock = ["its time: spring_cloud_task_active_seconds_max", "its time: spring_cloud_task_active_seconds_sum"];
    let expected: Reasons<'_> = &[
        (MEANS, &averages),
        (CLOCK, &clock),
        (BACKSLASH, &backslash),
        (NOT_FINITE, &["less: bad_gauge"]),
        (NOT_RECORDED, &distribution),
    ];
    compare(WAVEFRONT, PROMETHEUS, &profile(), expected);
}

#[test]
fn expositions_become_the_rows_of_line_protocol() {
    let means = [
        "less: cache_gets_latency mean metric_type=histogram",
        "less: http_server_requests mean metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "less: payload_size mean metric_type=histogram",
        "less: spring_integration_send mean metric_type=histogram name=output result=success type=channel",
    ];
    let percentiles = [
        "less: http_server_requests_percentile value metric_type=gauge phi=0.5 uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests_percentile value metric_type=gauge phi=0.95 uri=/a b,c=\\\"x\\\"",
    ];
    let expected: Reasons<'_> = &[
        (ROW_MEANS, &means),
        (EITHER, &percentiles),
        (NOT_FINITE, &["more: bad_gauge value metric_type=gauge"]),
        (INFINITE, &["derived: http_server_requests_seconds_bucket le=+Inf uri=/a b,c=\"x\""]),
        (PRECISION, &["0.0000012345 for 0.000001: process_cpu_usage value metric_type=gauge"]),
        (CLOCK, &["its time: spring_cloud_task_active duration metric_type=long_task_timer"]),
        (LONGEST, &["more: spring_cloud_task_active upper metric_type=long_task_timer"]),
        (BACKSLASH, &["more: weird_name_with_slash value emptyish=  metric_type=counter tag_key_x=val\\\"q\\"]),
    ];
    for exposition in [PROMETHEUS, OPEN_METRICS] {
        compare(exposition, INFLUX, &profile(), expected);
    }
}

#[test]
fn points_become_the_rows_of_line_protocol() {
    let means = [
        "derived: cache.gets.latency.avg",
        "derived: payload.size.avg",
        "derived: spring.cloud.task.active.avg",
        "derived: spring.integration.send.avg name=output result=success type=channel",
        "less: cache_gets_latency mean metric_type=histogram",
        "less: payload_size mean metric_type=histogram",
        "less: spring_integration_send mean metric_type=histogram name=output result=success type=channel",
    ];
    let distribution = [
        "less: http_server_requests count metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests mean metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests sum metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests upper metric_type=histogram uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests_histogram value le=250 metric_type=gauge uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests_histogram value le=50 metric_type=gauge uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests_percentile value metric_type=gauge phi=0.5 uri=/a b,c=\\\"x\\\"",
        "less: http_server_requests_percentile value metric_type=gauge phi=0.95 uri=/a b,c=\\\"x\\\"",
    ];
    let expected: Reasons<'_> = &[
        (ROW_MEANS, &means),
        (NOT_RECORDED, &distribution),
        (PRECISION, &["0.0000012345 for 0.000001: process_cpu_usage value metric_type=gauge"]),
        (CLOCK, &["its time: spring_cloud_task_active duration metric_type=long_task_timer"]),
        (LONGEST, &["more: spring_cloud_task_active upper metric_type=long_task_timer"]),
        (BACKSLASH, &["more: weird-name_with-slash value metric_type=counter tag-key_x=val\\\"q_"]),
    ];
    compare(WAVEFRONT, INFLUX, &profile(), expected);
}

#[test]
fn expositions_become_the_points_of_wavefront() {
    let distribution = [
        "more: http.server.requests.count uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.histogram le=0.05 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.histogram le=0.25 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.max uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.sum uri=/a b,c=\\\"x\\\"",
    ];
    let averages = [
        "less: cache.gets.latency.avg",
        "less: payload.size.avg",
        "less: spring.cloud.task.active.avg",
        "less: spring.integration.send.avg name=output result=success type=channel",
    ];
    let dots = [
        "more: fn_counter statistic=count",
        "less: fn.counter statistic=count",
        "more: weird_name_with_slash emptyish=  statistic=count tag_key_x=val\\\"q_",
        "less: weird-name.with-slash statistic=count tag-key.x=val\\\"q_",
    ];
    let expected: Reasons<'_> = &[
        (POINTS, &distribution),
        (NO_AVERAGE, &averages),
        (DOTS, &dots),
        (NOT_FINITE, &["more: bad_gauge statistic=value"]),
        (INFINITE, &["derived: http_server_requests_seconds_bucket le=+Inf uri=/a b,c=\"x\""]),
        (CLOCK, &["its time: spring.cloud.task.active.duration", "its time: spring.cloud.task.active.max"]),
    ];
    for exposition in [PROMETHEUS, OPEN_METRICS] {
        compare(exposition, WAVEFRONT, &profile(), expected);
    }
}

#[test]
fn rows_become_the_points_of_wavefront() {
    let distribution = [
        "more: http.server.requests.avg uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.count uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.histogram le=0.05 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.histogram le=0.25 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.max uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.percentile phi=0.5 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.percentile phi=0.95 statistic=value uri=/a b,c=\\\"x\\\"",
        "more: http.server.requests.sum uri=/a b,c=\\\"x\\\"",
    ];
    let expected: Reasons<'_> = &[
        (POINTS, &distribution),
        (DOTS, &["more: fn_counter statistic=count", "less: fn.counter statistic=count"]),
        (PRECISION, &["0.000001 for 0.0000012345: process.cpu.usage statistic=value"]),
        (CLOCK, &["its time: spring.cloud.task.active.duration"]),
        (LONGEST, &["less: spring.cloud.task.active.max", "less: spring.cloud.task.active.avg"]),
        (BACKSLASH, &["less: weird-name.with-slash statistic=count tag-key.x=val\\\"q_"]),
    ];
    compare(INFLUX, WAVEFRONT, &profile(), expected);
}

/// What of this changes for whoever adds no meter to the table.
#[test]
fn without_its_line_in_the_table_a_summary_is_a_timer_and_a_custom_meter_a_counter() {
    let Some(rows) = recording(INFLUX.0, INFLUX.1) else { return };
    let (known, unknown) = (profile(), Profile { meters: Profile::default().meters, ..profile() });
    let different = |recording: &Recording, to| {
        let [known, unknown] = [&known, &unknown].map(|profile| recording.translated(profile, to));
        let other = |text: &&String| known.get(*text) != unknown.get(*text);
        unknown.keys().filter(other).cloned().collect::<Vec<_>>()
    };
    let seconds = ["payload_size_seconds_count", "payload_size_seconds_max", "payload_size_seconds_sum"];
    assert_eq!(different(&rows, Dialect::Prometheus), seconds);
    let Some(points) = recording(WAVEFRONT.0, WAVEFRONT.1) else { return };
    let counter = [&["custom_meter_total"][..], &seconds].concat();
    assert_eq!(different(&points, Dialect::Prometheus), counter);
}
