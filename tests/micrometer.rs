//! The real Micrometer, sluicegate, the real Prometheus and the real InfluxDB: what is read back is what Micrometer's own
//! registry for that destination says of the same meters.
//!
//! The program of `tests/micrometer` registers a meter of each kind with every registry. One of them sends to the gateway; what
//! the others say is the truth.

#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
    pub(crate) mod destinations;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod micrometer;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
    pub(crate) mod wavefront_proxy;
}

#[path = "micrometer/compare.rs"]
mod compare;

use compare::{Excuses, Values, compare};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::component::needs;
use support::destinations::{Samples, influxdb, influxql, prometheus_receiver, prometheus_samples};
use support::gateway::{Exposition, Gateway, Setup, gateway};
use support::http;
use support::micrometer::{self, Said};
use support::server::{Server, eventually, free_port};
use support::wavefront_proxy::WavefrontProxy;

const SOON: Duration = Duration::from_secs(30);
/// Everything that Micrometer sent, and nothing of the servers themselves.
const ALL: &str = "{stream_name='ticktock'}";

/// What pages say at their times, with these labels beside their own.
fn said(pages: &[(i64, String)], labels: &[(&str, &str)]) -> Samples {
    let mut samples = Samples::new();
    for (time, page) in pages {
        for (name, own, value) in Exposition::parse(page).samples() {
            // Prometheus knows no empty labels.
            let own = own.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (&**name, &**value));
            let all: BTreeMap<_, _> = own.chain(labels.iter().copied()).collect();
            let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            samples.entry((name.to_owned(), all)).or_default().push((*time, value.to_bits()));
        }
    }
    samples
}

/// Waits until Prometheus holds exactly these samples.
fn holds(prometheus: &Server, expected: &Samples) {
    eventually(SOON, || {
        let got = prometheus_samples(prometheus, ALL, "30m");
        match first_difference(&got, expected) {
            None => Ok(()),
            Some(difference) => Err(difference),
        }
    });
}

fn first_difference(got: &Samples, expected: &Samples) -> Option<String> {
    let keys: BTreeSet<_> = got.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = keys.into_iter().filter(|key| got.get(*key) != expected.get(*key)).collect();
    let key = differing.first()?;
    let values = |samples: &Samples| -> Vec<_> {
        samples.get(*key).into_iter().flatten().map(|(time, bits)| (*time, f64::from_bits(*bits))).collect()
    };
    Some(format!("{} series differ: {key:?} is {:?}, expected {:?}", differing.len(), values(got), values(expected)))
}

#[test]
fn pages_of_both_prometheus_registries_reach_prometheus_value_by_value() {
    needs!("pages_of_both_prometheus_registries_reach_prometheus", "prometheus", "java", "micrometer");
    let said_by_it = micrometer::run(&[]);
    for generation in ["simpleclient", "client1"] {
        let prometheus = prometheus_receiver();
        let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
        let pages = said_by_it.pages(generation);
        for (time, page) in &pages {
            let answer = http::post(&gateway.url(&format!("/api/v1/import/prometheus?timestamp={time}")), page);
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        gateway.drained();
        assert_eq!(gateway.dropped("prom"), []);
        holds(&prometheus, &said(&pages, &[]));
    }
}

#[test]
fn what_an_application_pushes_to_a_pushgateway_reaches_prometheus_value_by_value() {
    needs!("what_an_application_pushes_reaches_prometheus", "prometheus", "java", "micrometer");
    for generation in ["simpleclient", "client1"] {
        let prometheus = prometheus_receiver();
        let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
        let address = format!("pushgateway=127.0.0.1:{}", gateway.port());
        // The client of `client_java` 1.x sends protobuf, the older one text.
        let said_by_it = micrometer::run(&[&address, "job=nightly batch/1", &format!("generation={generation}")]);
        gateway.drained();
        // A push has no times: the last one is what stands there.
        let expected = last_said(&said_by_it, generation, &[("job", "nightly batch/1")]);
        eventually(SOON, || compare(&last_values(&prometheus), &expected, 0.0, &[]));
    }
}

/// The lines of the Influx registry are sent to one database through the gateway and to another directly.
fn influx_reaches_influxdb(arguments: &[&str]) {
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().output("influx", &output).start();
    let uri = format!("influx.uri={}", gateway.url(""));
    let said_by_it = micrometer::run(&[&[&*uri], arguments].concat());
    gateway.drained();
    // Two meters have buckets; the one of all, which the gateway makes for others, is no row.
    assert_eq!(gateway.dropped("influx"), [("derived".to_owned(), 2.0 * 7.0)]);

    // One line of each write is one that InfluxDB refuses, by name, and takes the rest.
    let lines = said_by_it.lines();
    let (bad, good): (Vec<&str>, Vec<&str>) = lines.lines().partition(|line| line.contains("C:\\,"));
    assert_eq!((said_by_it.refusals.len(), bad.len()), (7, 7), "{:?}", said_by_it.refusals);
    assert!(said_by_it.refusals.iter().all(|answer| answer.contains("400") && answer.contains("partial write")));
    assert_eq!(gateway.metric("sluicegate_samples_rejected_total", &[]), 7.0);

    influxql(&influx, "", "CREATE DATABASE direct");
    let answer = http::post(&influx.url("/write?db=direct&precision=ms"), good.join("\n"));
    assert_eq!(answer.status, 204, "{}", answer.text());
    let everything = |database: &str| influxql(&influx, database, "SELECT * FROM /.*/ GROUP BY *");
    let expected = everything("direct");
    let rows = |series: &[serde_json::Value]| -> usize {
        series.iter().map(|series| series["values"].as_array().map_or(0, Vec::len)).sum()
    };
    assert_eq!(rows(&expected), good.len(), "each line is a row");
    eventually(SOON, || {
        let got = everything("myinfluxdb");
        let differs = expected.iter().zip(&got).find(|(expected, got)| expected != got);
        match differs {
            None if got.len() == expected.len() => Ok(()),
            None => Err(format!("{} series, {} expected", got.len(), expected.len())),
            Some((expected, got)) => Err(format!("{got}\nis not {expected}")),
        }
    });
}

#[test]
fn what_the_influx_registry_says_reaches_influxdb_as_it_would_directly() {
    needs!("what_the_influx_registry_says_reaches_influxdb", "influxd", "java", "micrometer");
    influx_reaches_influxdb(&[]);
}

#[test]
fn so_it_does_by_the_api_of_version_2() {
    needs!("so_it_does_by_the_api_of_version_2", "influxd", "java", "micrometer");
    influx_reaches_influxdb(&["influx.org=my org", "influx.bucket=myinfluxdb", "influx.token=secret"]);
}

/// A gateway that knows the meters of the program which are not Micrometer's own, as a user would tell it.
fn told() -> Setup {
    let summary = |name: &str, unit: &str| format!("{{ name: {name}, kind: summary{unit} }}");
    let summaries = [summary("payload.size", ", unit: bytes"), summary("batch.size", "")].join(", ");
    let custom = "{ name: custom.meter, kind: other }";
    gateway().block(&format!("micrometer: {{ step: 1s, meters: [{summaries}, {custom}] }}"))
}

/// The last value of each series that Prometheus holds of the application.
fn last_values(prometheus: &Server) -> Values {
    let samples = prometheus_samples(prometheus, ALL, "30m");
    samples.into_iter().filter_map(|(key, samples)| Some((key, f64::from_bits(samples.last()?.1)))).collect()
}

/// What the last page says, with these labels beside its own.
fn last_said(said_by_it: &Said, generation: &str, labels: &[(&str, &str)]) -> Values {
    values_of(said_by_it.last_page(generation), labels)
}

fn values_of(page: String, labels: &[(&str, &str)]) -> Values {
    let samples = said(&[(0, page)], labels);
    samples.into_iter().map(|(key, samples)| (key, f64::from_bits(samples[0].1))).collect()
}

/// Meters of the program that have buckets: the Wavefront registry tells a distribution of each minute that has ended.
const DISTRIBUTED: [&str; 3] = ["batch_size", "http_client_requests", "http_server_requests"];

fn is_distributed(name: &str) -> bool {
    DISTRIBUTED.iter().any(|meter| name.starts_with(meter))
}

/// When the last minute of a run ended.
fn minute_end(said_by_it: &Said) -> i64 {
    let times = said_by_it.pages("simpleclient").into_iter().map(|(time, _)| time);
    times.filter(|time| time % 60_000 == 0).max().expect("a run has a minute")
}

/// What the last page says, and of meters with buckets the page at the end of the last minute.
fn last_distributed(said_by_it: &Said, labels: &[(&str, &str)]) -> Values {
    let end = minute_end(said_by_it);
    let pages = said_by_it.pages("simpleclient").into_iter();
    let at_end = pages.filter(|(time, _)| *time == end).flat_map(|(_, page)| values_of(page, labels));
    let last = last_said(said_by_it, "simpleclient", labels).into_iter().filter(|((name, _), _)| !is_distributed(name));
    last.chain(at_end.filter(|((name, _), _)| is_distributed(name))).collect()
}

/// Why an output dropped samples.
fn reasons(gateway: &Gateway, output: &str) -> Vec<String> {
    gateway.dropped(output).into_iter().map(|(reason, _)| reason).collect()
}

const NOT_FINITE: &str = "neither rows nor points have a number beyond the finite ones";
const NO_BUCKETS: &str = "these registries tell no percentile histograms";
const LONGEST: &str = "the Influx registry does not tell the longest task";
const REFUSED: &str = "InfluxDB refuses the line, and so does the gateway";
const LINE_ENDS: &str = "the Influx registry makes a blank of a line end";
const OBJECTIVES: &str = "a distribution does not tell which buckets an application asked for: a timer has those of Micrometer's \
     histograms, a summary none";
const BACKSLASH: &str = "the Wavefront registry makes `_` of a backslash at the end";
const BLANK: &str = "the SDK of Wavefront does not send blank tags, so the program does not either";

#[test]
fn what_the_influx_registry_says_is_on_prometheus_what_its_registry_says() {
    needs!("what_the_influx_registry_says_is_on_prometheus", "prometheus", "java", "micrometer");
    let prometheus = prometheus_receiver();
    let gateway = told().with_prometheus(&prometheus.url("/api/v1/write")).start();
    let said_by_it = micrometer::run(&[&format!("influx.uri={}", gateway.url(""))]);
    gateway.drained();
    let excuses: Excuses<'_> = &[
        (NOT_FINITE, &["less: not_a_number"]),
        (NO_BUCKETS, &["less: http_client_requests_seconds_bucket"]),
        (LONGEST, &["less: spring_cloud_task_active_seconds_max"]),
        (REFUSED, &["less: trailing_backslash_total"]),
        (LINE_ENDS, &["less: awkward_tags_total", "more: awkward_tags_total"]),
    ];
    let expected = last_said(&said_by_it, "simpleclient", &[]);
    // The Influx registry writes six decimals.
    eventually(SOON, || compare(&last_values(&prometheus), &expected, 5e-7, excuses));
    assert_eq!(reasons(&gateway, "prom"), ["derived"], "means follow from sum and count");
}

#[test]
fn what_the_wavefront_registry_says_is_on_prometheus_what_its_registry_says() {
    needs!("what_the_wavefront_registry_says_is_on_prometheus", "prometheus", "java", "micrometer");
    let prometheus = prometheus_receiver();
    let port = free_port();
    let gateway = told().listen("wavefront", port).with_prometheus(&prometheus.url("/api/v1/write")).start();
    let said_by_it = micrometer::run(&[&format!("wavefront.uri=proxy://127.0.0.1:{port}")]);
    gateway.drained();
    let expected = last_distributed(&said_by_it, &[("source", "demo-scdf-source")]);
    let excuses: Excuses<'_> = &[
        (NOT_FINITE, &["less: not_a_number"]),
        (
            OBJECTIVES,
            &[
                "less: batch_size_bucket",
                "less: http_server_requests_seconds_bucket exception=none le=0.05 ",
                "less: http_server_requests_seconds_bucket exception=none le=0.25 ",
                "more: http_server_requests_seconds_bucket exception=none le=",
            ],
        ),
        (BACKSLASH, &["less: trailing_backslash_total path=C:\\ ", "more: trailing_backslash_total path=C:_ "]),
        (BLANK, &["less: blank_tag_total"]),
    ];
    eventually(SOON, || compare(&last_values(&prometheus), &expected, 0.0, excuses));
    // Averages follow from sum and count; of distributions their statistics are sent.
    assert_eq!(reasons(&gateway, "prom"), ["derived", "distribution"]);
    let distributions = gateway.dropped("prom").into_iter().find(|(reason, _)| reason == "distribution");
    assert_eq!(distributions.map(|(_, samples)| samples), Some(DISTRIBUTED.len() as f64));
    let scraped = || values_of(http::get(&gateway.url("/scrape")).text(), &[]);
    eventually(SOON, || compare(&scraped(), &expected, 0.0, excuses));
}

#[test]
fn what_the_wavefront_registry_says_reaches_wavefront_as_it_would_directly() {
    needs!("what_the_wavefront_registry_says_reaches_wavefront", "java", "micrometer");
    let (behind, direct, port) = (WavefrontProxy::start(), WavefrontProxy::start(), free_port());
    let gateway = told().listen("wavefront", port).with_wavefront(&behind.url()).start();
    // Lines with their times since that of the first page, as the runs begin at different ones.
    let run = |proxy: &WavefrontProxy, port: u16| {
        let said_by_it = micrometer::run(&[&format!("wavefront.uri=proxy://127.0.0.1:{port}")]);
        gateway.drained();
        let first = said_by_it.pages("simpleclient")[0].0;
        let points = proxy.points().into_iter().map(|point| {
            let at = point.timestamp_ms - first;
            format!("{at} {} {} {} {:?}", point.name, point.value, point.source, point.tags)
        });
        let distributions = proxy.distributions().into_iter().map(|line| {
            let at = line.timestamp_ms.map(|at| at - first);
            format!("{at:?} {:?} {:?} {} {} {:?}", line.bin, line.centroids, line.name, line.source, line.tags)
        });
        let mut lines: Vec<_> = points.chain(distributions).collect();
        lines.sort();
        lines
    };
    let through = run(&behind, port);
    let expected = run(&direct, direct.port());
    assert_eq!(through, expected);
    assert_eq!(behind.distributions().len(), DISTRIBUTED.len());
    // Two timers, each with a row, 68 buckets and the one of all, and a summary with its row.
    assert_eq!(gateway.dropped("wf"), [("derived".to_owned(), 2.0 * 72.0 + 3.0)]);
}

/// Applications over RSocket, by both transports and with the pages of both generations.
fn rsocket_reaches_prometheus(kind: &str, scheme: &str, generation: &str) {
    let prometheus = prometheus_receiver();
    let port = free_port();
    let gateway = gateway()
        .listen(kind, port)
        .block("rsocket: { scrape_interval: 1s }")
        .with_prometheus(&prometheus.url("/api/v1/write"))
        .start();
    let address = format!("rsocket={scheme}://127.0.0.1:{port}");
    let mut program = micrometer::launch(&[&address, &format!("generation={generation}")]);
    // Each round arrives by a pull of the gateway; the last one by what the application pushes when it ends.
    for _ in 0..6 {
        program.round();
        let expected = last_said(program.said(), generation, &[]);
        eventually(SOON, || compare(&last_values(&prometheus), &expected, 0.0, &[]));
    }
    let said_by_it = program.end();
    let expected = last_said(&said_by_it, generation, &[]);
    eventually(SOON, || compare(&last_values(&prometheus), &expected, 0.0, &[]));
    gateway.drained();
    assert_eq!(gateway.dropped("prom"), []);
}

#[test]
fn what_an_application_says_over_rsocket_is_on_prometheus_value_by_value() {
    needs!("what_an_application_says_over_rsocket_is_on_prometheus", "prometheus", "java", "micrometer");
    rsocket_reaches_prometheus("rsocket_tcp", "tcp", "simpleclient");
}

#[test]
fn so_is_what_it_says_over_websocket() {
    needs!("so_is_what_it_says_over_websocket", "prometheus", "java", "micrometer");
    rsocket_reaches_prometheus("rsocket_websocket", "ws", "client1");
}

/// What a database was told after a time in milliseconds: sums of what is told step by step, the last of what is told as it is,
/// the largest of the largest. Means are those of a step.
fn told_in_all(influx: &Server, database: &str, after: i64) -> Values {
    told_between(influx, database, after, i64::from(u32::MAX) * 1000)
}

fn told_between(influx: &Server, database: &str, after: i64, until: i64) -> Values {
    let mut values = Values::new();
    for (aggregate, field, from) in [
        ("sum", "count", "/.*/ WHERE metric_type = 'histogram'"),
        ("sum", "sum", "/.*/ WHERE metric_type = 'histogram'"),
        ("max", "upper", "/.*/ WHERE metric_type = 'histogram'"),
        ("last", "active_tasks", "/.*/ WHERE metric_type = 'long_task_timer'"),
        ("last", "duration", "/.*/ WHERE metric_type = 'long_task_timer'"),
        ("last", "count", "/.*/ WHERE metric_type = 'other'"),
        ("last", "total", "/.*/ WHERE metric_type = 'other'"),
        ("last", "max", "/.*/ WHERE metric_type = 'other'"),
        ("last", "value", "/.*/ WHERE metric_type = 'other'"),
        ("sum", "value", "/.*/ WHERE metric_type = 'counter'"),
        ("sum", "value", "/_histogram$/ WHERE metric_type = 'gauge'"),
        ("last", "value", "/([^m]|[^a]m)$/ WHERE metric_type = 'gauge'"),
    ] {
        let query = format!(
            "SELECT {aggregate}(\"{field}\") FROM {from} AND time > {after}ms AND time <= {until}ms GROUP BY *"
        );
        for series in influxql(influx, database, &query) {
            let tags = series["tags"].as_object().expect("tags").iter();
            let tags = tags.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
            let name = format!("{} {field}", series["name"].as_str().expect("a name"));
            if let Some(value) = series["values"][0][1].as_f64() {
                values.insert((name, tags.filter(|(_, value)| !value.is_empty()).collect()), value);
            }
        }
    }
    values
}

/// A gateway before an InfluxDB, to which the real Influx registry also writes on its own.
fn before_influxdb(listener: &str) -> (Server, Gateway, u16) {
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let port = free_port();
    let gateway =
        told().block("rsocket: { scrape_interval: 1s }").listen(listener, port).output("influx", &output).start();
    (influx, gateway, port)
}

const SNAKE: &str = "Prometheus has only letters, digits and `_` in names";
const BACKSLASH_CUT: &str = "InfluxDB's lines have no backslash at the end of a tag";
#[test]
fn what_the_wavefront_registry_says_is_in_influxdb_what_its_registry_says() {
    needs!("what_the_wavefront_registry_says_is_in_influxdb", "influxd", "java", "micrometer");
    let (influx, gateway, port) = before_influxdb("wavefront");
    let direct = format!("influx.uri={}", influx.url(""));
    let said_by_it =
        micrometer::run(&[&direct, "influx.db=direct", &format!("wavefront.uri=proxy://127.0.0.1:{port}")]);
    gateway.drained();
    // What a counter says first is where it begins: what is added begins with the step after it.
    let first = said_by_it.pages("simpleclient")[0].0;
    let rest = told_in_all(&influx, "direct", first).into_iter().filter(|((name, _), _)| !is_distributed(name));
    // A distribution tells all of its minute.
    let minute = told_between(&influx, "direct", 0, minute_end(&said_by_it)).into_iter();
    let source = ("source".to_owned(), "demo-scdf-source".to_owned());
    let expected: Values = rest
        .chain(minute.filter(|((name, _), _)| is_distributed(name)))
        .map(|((name, mut tags), value)| {
            tags.extend([source.clone()]);
            ((name, tags), value)
        })
        .collect();
    let excuses: Excuses<'_> = &[
        (OBJECTIVES, &["less: batch_size_histogram value", "less: http_server_requests_histogram value"]),
        (BACKSLASH, &["more: trailing_backslash value metric_type=counter path=C:_"]),
        (BLANK, &["less: blank_tag"]),
        ("Wavefront's names have no `/`", &["less: weird-name_with/slash", "more: weird-name_with-slash"]),
    ];
    // The Influx registry writes six decimals, of milliseconds too.
    eventually(SOON, || compare(&told_in_all(&influx, "myinfluxdb", first), &expected, 5e-7, excuses));
    // Each of 40, 120 and 300 ms came six times.
    let rows = influxql(&influx, "myinfluxdb", "SELECT count, sum, mean, upper FROM http_server_requests");
    let row = serde_json::json!([18, 2760, 2760.0 / 18.0, 300]);
    assert_eq!(
        rows[0]["values"].as_array().map(|rows| &rows[0].as_array().expect("a row")[1..]),
        row.as_array().map(Vec::as_slice)
    );
}

#[test]
fn what_an_application_says_over_rsocket_is_in_influxdb_what_its_registry_says() {
    needs!("what_an_application_says_over_rsocket_is_in_influxdb", "influxd", "java", "micrometer");
    let (influx, gateway, port) = before_influxdb("rsocket_tcp");
    let direct = format!("influx.uri={}", influx.url(""));
    let mut program = micrometer::launch(&[&direct, "influx.db=direct", &format!("rsocket=tcp://127.0.0.1:{port}")]);
    // What a counter says first is where it begins, and that is before the first round.
    eventually(SOON, || match gateway.metric("sluicegate_samples_accepted_total", &[]) {
        0.0 => Err("nothing pulled yet".to_owned()),
        _ => Ok(()),
    });
    for _ in 0..6 {
        program.round();
    }
    program.end();
    gateway.drained();
    let expected = told_in_all(&influx, "direct", 0);
    let excuses: Excuses<'_> = &[
        (NO_BUCKETS, &["more: http_client_requests_histogram"]),
        (BACKSLASH_CUT, &["more: trailing_backslash value metric_type=counter path=C:"]),
        (SNAKE, &["less: awkward_tags value dash-key_x", "more: awkward_tags value dash_key_x"]),
        (SNAKE, &["less: weird-name_with/slash", "more: weird_name_with_slash"]),
    ];
    eventually(SOON, || compare(&told_in_all(&influx, "myinfluxdb", 0), &expected, 5e-7, excuses));
}
