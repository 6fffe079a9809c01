//! The gateway in the place of a Pushgateway: the same pushes to both, and both show the same; what was pushed outlives a crash
//! and reaches every output.

use crate::support::component::{client, needs};
use crate::support::destinations;
use crate::support::everywhere::{Everywhere, everywhere};
use crate::support::gateway::{Exposition, Gateway, gateway};
use crate::support::http;
use crate::support::server::{Server, eventually};
use prost::Message;
use serde_json::Value;
use sluicegate::clock;
use sluicegate::wire::metric_families::messages::{Bucket, Gauge};
use sluicegate::wire::metric_families::messages::{Counter, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const PAGE: &str = "/scrape";
const TIMES: [&str; 2] = ["push_time_seconds", "push_failure_time_seconds"];
const DELIMITED: &str = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

/// A sample's name and labels.
type Key = (String, BTreeMap<String, String>);

/// A request: method, path, headers, body.
type Push<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a [u8]);

/// What of a page was pushed: its samples, and the declarations of their families.
#[derive(Debug, PartialEq)]
struct Pushed {
    /// Values as text: not a number is the same as itself.
    samples: BTreeMap<Key, String>,
    declarations: BTreeSet<String>,
}

impl Pushed {
    fn on(url: &str) -> Self {
        let page = Exposition::read(url);
        let of_jobs = page.samples().filter(|(_, labels, _)| labels.contains_key("job"));
        let sample = |(name, labels, value): (&str, &BTreeMap<String, String>, f64)| {
            let mut labels = labels.clone();
            // Others say nothing when they are empty: a target has an instance and a job to put in their place.
            labels.retain(|name, value| name == "instance" || name == "job" || !value.is_empty());
            // A Pushgateway spells bounds anew; here they stay as they were pushed.
            if let Some(bound) = labels.get_mut("le") {
                *bound = bound.parse::<f64>().expect("a bound").to_string();
            }
            // Of the same push, not of the same nanosecond.
            let is_recent = (clock::now() as f64 / 1e9 - value).abs() < 600.0;
            let value = if TIMES.contains(&name) && is_recent { "recent".to_owned() } else { value.to_string() };
            ((name.to_owned(), labels), value)
        };
        let samples: BTreeMap<_, _> = of_jobs.map(sample).collect();
        let text = http::get(url).text();
        let declared = text.lines().filter(|line| {
            let name = line.split(' ').nth(2).unwrap_or_default();
            // What has no type needs no line that says so.
            let is_typed = line.starts_with("# TYPE ") && !line.ends_with(" untyped");
            is_typed && samples.keys().any(|(sample, _)| sample.starts_with(name))
        });
        let declarations = declared.map(str::to_owned).collect();
        Self { samples, declarations }
    }
}

/// Waits until both pages show the same.
fn same(gateway: &Gateway, real: &Server, after: &str) {
    eventually(SOON, || {
        let (got, expected) = (Pushed::on(&gateway.url(PAGE)), Pushed::on(&real.url("/metrics")));
        let of_one = |one: &Pushed, other: &Pushed| -> Vec<String> {
            let samples = one.samples.iter().filter(|(key, value)| other.samples.get(key) != Some(value));
            let declared = one.declarations.difference(&other.declarations).cloned();
            samples.map(|sample| format!("{sample:?}")).chain(declared).collect()
        };
        let differing = (of_one(&got, &expected), of_one(&expected, &got));
        if got == expected { Ok(()) } else { Err(format!("after {after}: here and there only: {differing:#?}")) }
    });
}

/// A message of families as current Spring Boot pushes them.
fn families() -> Vec<u8> {
    let label = |name: &str, value: &str| LabelPair { name: Some(name.to_owned()), value: Some(value.to_owned()) };
    let family = |name: &str, kind: MetricType, metric: Metric| MetricFamily {
        name: Some(name.to_owned()),
        help: Some("Pushed in protobuf.".to_owned()),
        r#type: Some(kind.into()),
        metric: vec![metric],
        ..MetricFamily::default()
    };
    let counter = Metric {
        label: vec![label("application_guid", "g-1"), label("odd", "a\"b\\c\nd")],
        counter: Some(Counter { value: Some(3.0), ..Counter::default() }),
        ..Metric::default()
    };
    let bucket = |bound, count| Bucket { upper_bound: Some(bound), cumulative_count: Some(count), ..Bucket::default() };
    let histogram = Metric {
        histogram: Some(Histogram {
            sample_count: Some(4),
            sample_sum: Some(1.25),
            bucket: vec![bucket(0.5, 3), bucket(1.0, 4)],
            ..Histogram::default()
        }),
        ..Metric::default()
    };
    let gauge = Metric { gauge: Some(Gauge { value: Some(-0.5) }), ..Metric::default() };
    [
        family("pb_runs_total", MetricType::Counter, counter),
        family("pb_took_seconds", MetricType::Histogram, histogram),
        family("pb_level", MetricType::Gauge, gauge),
    ]
    .iter()
    .flat_map(Message::encode_length_delimited_to_vec)
    .collect()
}

#[test]
fn a_gateway_in_the_place_of_a_pushgateway_shows_the_same() {
    needs!("a_gateway_in_the_place_of_a_pushgateway_shows_the_same", "prometheus-pushgateway", "python");
    let real = destinations::pushgateway();
    let mut gateway = gateway().start();
    let families = families();
    let text: &[(&str, &str)] = &[("Content-Type", "text/plain; version=0.0.4; charset=utf-8")];
    let binary: &[(&str, &str)] = &[("Content-Type", DELIMITED)];
    let raw: [Push; 16] = [
        ("PUT", "/metrics/job/raw", text, b"# TYPE a gauge\na 1\nb{instance=\"own\"} 2\nc{job=\"other\"} 3\n"),
        ("POST", "/metrics/job/raw", text, b"# TYPE a gauge\na{x=\"y\"} 2\n"),
        ("POST", "/metrics/job/raw/instance/", text, b"d{ 1\n"),
        ("POST", "/metrics/job/raw", text, b"d 1\nd 2\n"),
        ("PUT", "/metrics/job/failed/instance/i", text, b"d 1\nd 2\n"),
        ("POST", "/metrics/job/my+app/instance@base64/aS8x", binary, &families),
        ("POST", "/metrics/job/my+app/instance@base64/aS8x", binary, &families),
        ("PUT", "/metrics/job/titan/name/%CE%A0%CF%81%CE%BF", text, b"nan NaN\ninf -Inf\n"),
        ("PUT", "/metrics/job/empty", text, b""),
        ("POST", "/metrics/job/my+app/instance@base64/aS8x", text, b"pb_level 7\n"),
        (
            "PUT",
            "/metrics/job/titan/name/%CE%A0%CF%81%CE%BF",
            text,
            b"# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n",
        ),
        ("DELETE", "/metrics/job/raw/instance/none", &[], b""),
        ("DELETE", "/metrics/job/raw", &[], b""),
        ("PUT", "/metrics/job/my+app/instance@base64/aS8x", text, b"left 1\n"),
        ("POST", "/metrics/job", text, b"a 1\n"),
        ("DELETE", "/metrics/job/empty/", &[], b""),
    ];
    let mut steps = 0;
    let mut both = |gateway: &Gateway, (method, path, headers, body): Push| {
        let expected = http::send(method, &real.url(path), headers, body);
        let got = http::send(method, &gateway.url(path), headers, body);
        assert_eq!(got.status, expected.status, "{method} {path}: {} / {}", got.text(), expected.text());
        steps += 1;
        same(gateway, &real, &format!("step {steps}, {method} {path}"));
    };
    let with_client = |gateway: &Gateway, step: &str| {
        client("pushgateway.py", &[&real.url(""), &gateway.url(""), step]);
        same(gateway, &real, step);
    };
    for step in ["push", "pushadd", "slash"] {
        with_client(&gateway, step);
    }
    for push in &raw[..10] {
        both(&gateway, *push);
    }
    // The other keeps running: it is what a Pushgateway would have read back from its file.
    gateway = gateway.crash_and_restart();
    same(&gateway, &real, "a crash");
    for push in &raw[10..] {
        both(&gateway, *push);
    }
    for step in ["replace", "delete slash", "delete"] {
        with_client(&gateway, step);
    }
    assert!(Pushed::on(&gateway.url(PAGE)).samples.len() > 4, "something is left to be compared");
}

#[test]
fn a_prometheus_that_scrapes_it_has_the_same_series_as_of_a_pushgateway() {
    needs!("a_prometheus_that_scrapes_it_has_the_same_series", "prometheus-pushgateway", "prometheus");
    let real = destinations::pushgateway();
    let gateway = gateway().start();
    for base in [real.url(""), gateway.url("")] {
        for (group, body) in [("job/a", "x 1\n"), ("job/b/instance/i", "x{instance=\"own\"} 2\ny{z=\"\"} 3\n")] {
            assert_eq!(http::send("PUT", &format!("{base}/metrics/{group}"), &[], body.as_bytes()).status, 200);
        }
    }
    let pages = [(real.port(), "/metrics"), (gateway.port(), PAGE)];
    let [expected, got] =
        pages.map(|(port, page)| destinations::prometheus_scraping(&format!("127.0.0.1:{port}"), page));
    let series = |prometheus: &Server| -> BTreeSet<String> {
        // `page` is the job of the scrape itself.
        let found = destinations::promql(prometheus, "{job=~'a|b'}");
        found.iter().map(|series| series["metric"].to_string()).collect()
    };
    eventually(SOON, || {
        let (expected, got) = (series(&expected), series(&got));
        if got == expected && got.len() == 7 { Ok(()) } else { Err(format!("{got:#?} is not {expected:#?}")) }
    });
}

#[test]
fn the_last_push_of_a_task_reaches_every_output() {
    needs!("the_last_push_of_a_task_reaches_every_output", "prometheus", "influxd", "python");
    let (Everywhere { prometheus, influx, wavefront }, gateway) = everywhere();
    // The task is gone when it was answered, and so is the gateway.
    client("pushgateway.py", &[&gateway.url(""), "push"]);
    let gateway = gateway.crash_and_restart();
    gateway.drained();

    let labels = "{job='batch',instance='i/1'}";
    let value = |query: &str| destinations::promql_value(&prometheus, query);
    let expected = [("py_last", 11.0), ("py_runs_total", 3.0), ("py_took_sum", 0.5), ("py_took_count", 1.0)];
    for (name, expected) in expected {
        assert_eq!(value(&format!("{name}{labels}")), Ok(expected), "{name} at Prometheus");
        let series = destinations::influxql(&influx, "metrics", &format!("SELECT last(value) FROM {name} GROUP BY *"));
        assert_eq!(series[0]["values"][0][1].as_f64(), Some(expected), "{name} at InfluxDB");
        assert_eq!(series[0]["tags"]["job"], Value::from("batch"), "{name} at InfluxDB");
        let points = wavefront.points();
        let point = points.iter().find(|point| point.name == name).expect("a point");
        assert_eq!((point.value, point.source.as_str()), (expected, "i/1"), "{name} at Wavefront");
    }
    let age = value(&format!("time() - push_time_seconds{labels}")).expect("the time of the push");
    assert!((0.0..600.0).contains(&age), "{age} s ago");

    // What was pushed before the crash is ended by what comes after it, here and there.
    client("pushgateway.py", &[&gateway.url(""), "replace"]);
    gateway.drained();
    assert_eq!(value(&format!("py_only{labels}")), Ok(1.0));
    assert!(value(&format!("py_last{labels}")).is_err(), "ended by the push that replaced it");
    client("pushgateway.py", &[&gateway.url(""), "delete"]);
    gateway.drained();
    assert_eq!(destinations::promql(&prometheus, labels).len(), 0, "nothing of the group is alive");
}

#[test]
fn a_push_is_as_old_after_a_restart_as_it_was_before() {
    let gateway = gateway().start();
    let group = |gateway: &Gateway| gateway.url("/metrics/job/j");
    assert_eq!(http::send("PUT", &group(&gateway), &[], b"x 1\n").status, 200);
    let between = clock::now() / 1_000_000 + 1;
    let gateway = gateway.crash_and_restart();
    assert_eq!(gateway.scraped().sum("x", &[]), 1.0);
    // Measured before the gateway started again, and after the push.
    let body = format!("x 2 {between}\n");
    assert_eq!(http::send("POST", &group(&gateway), &[], body.as_bytes()).status, 200);
    eventually(SOON, || match gateway.scraped().sum("x", &[]) {
        2.0 => Ok(()),
        other => Err(format!("x is {other}")),
    });
}

#[test]
fn a_damaged_push_is_named_in_the_status_and_the_others_are_shown() {
    let gateway = gateway().start();
    for job in ["a", "b"] {
        assert_eq!(http::send("PUT", &gateway.url(&format!("/metrics/job/{job}")), &[], b"x 1\n").status, 200);
    }
    let stopped = gateway.crash();
    let path = stopped.log_dir().join("pushed/0.push");
    let mut bytes = std::fs::read(&path).expect("a push");
    bytes[20] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let gateway = stopped.start();
    assert_eq!(gateway.scraped().sum("x", &[("job", "b")]), 1.0, "at once, for it was there before");
    assert_eq!(gateway.scraped().sum("x", &[("job", "a")]), 0.0);
    let aside = gateway.status()["log"]["set_aside"].to_string();
    assert!(aside.contains("pushed/0.push.damaged"), "{aside}");
}
