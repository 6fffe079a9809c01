//! The clients that applications use, as published: what they send is taken, their errors are theirs, `/scrape` shows it.

use crate::support::component::{client, needs};
use crate::support::destinations;
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::{eventually, free_port};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// A name, some of its labels, and the value.
type Shown<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);

/// Waits until `/scrape` shows these values.
fn shows(gateway: &Gateway, expected: &[Shown<'_>]) {
    eventually(SOON, || {
        let page = gateway.scraped();
        for (name, labels, value) in expected {
            let got = page.value(name, labels)?;
            if got != *value {
                return Err(format!("{name}{labels:?} is {got}, not {value}"));
            }
        }
        Ok(())
    });
}

/// Waits until `/scrape` no longer shows these names.
fn hides(gateway: &Gateway, names: &[&str]) {
    eventually(SOON, || {
        let page = gateway.scraped();
        match names.iter().find(|name| page.select(name, &[]).next().is_some()) {
            Some(name) => Err(format!("{name} is still shown")),
            None => Ok(()),
        }
    });
}

#[test]
fn influxdb_2_client_writes() {
    needs!("influxdb_2_client_writes", "python");
    let gateway = gateway().start();
    client("influx_v2.py", &[&gateway.url("")]);
    shows(
        &gateway,
        &[
            ("py_v2", &[("kind", "point")], 1.5),
            ("py_v2", &[("kind", "dict")], 2.0),
            ("py_v2", &[("kind", "bulk499")], 499.0),
        ],
    );
    assert!(gateway.metric("sluicegate_samples_accepted_total", &[("input", "influx_line")]) == 503.0);
    assert!(gateway.metric("sluicegate_samples_rejected_total", &[("input", "influx_line")]) == 1.0);
}

#[test]
fn influxdb_1_client_creates_and_writes() {
    needs!("influxdb_1_client_creates_and_writes", "python");
    let gateway = gateway().start();
    client("influx_v1.py", &[&gateway.port().to_string()]);
    let odd: &[(&str, &str)] = &[("odd__tag", "a b=c"), ("gzip", "True")];
    shows(
        &gateway,
        &[
            ("py_v1", odd, 0.25),
            ("py_v1_n", odd, 7.0),
            ("py_v1_on", odd, 1.0),
            ("py_v1_line", &[("gzip", "False")], 4.0),
        ],
    );
}

#[test]
fn prometheus_client_pushes_replaces_adds_and_deletes() {
    needs!("prometheus_client_pushes_replaces_adds_and_deletes", "python");
    let gateway = gateway().start();
    let step = |name: &str| client("pushgateway.py", &[&gateway.url(""), name]);
    let group: &[(&str, &str)] = &[("job", "batch"), ("instance", "i/1")];
    step("push");
    shows(&gateway, &[("py_last", group, 11.0), ("py_runs_total", &[("how", "well"), ("job", "batch")], 3.0)]);
    step("pushadd");
    shows(&gateway, &[("py_more", group, 5.0), ("py_last", group, 11.0)]);
    step("replace");
    shows(&gateway, &[("py_only", group, 1.0)]);
    hides(&gateway, &["py_last", "py_more", "py_runs_total"]);
    step("delete");
    hides(&gateway, &["py_only"]);
}

#[test]
fn pushgateway_paths_answer_as_the_pushgateway_does() {
    needs!("pushgateway_paths_answer_as_the_pushgateway_does", "prometheus-pushgateway");
    let real = destinations::pushgateway();
    let gateway = gateway().start();
    // Empty label values come apart below: Pushgateway 1.5 takes `instance=""` for the group without it, and refuses.
    let cases: &[(&str, &str, &[u8])] = &[
        ("PUT", "/metrics/job/a", b"x 1\n"),
        ("POST", "/metrics/job/a/instance/b", b"x 2\n"),
        ("POST", "/metrics/job@base64/YS9i/path@base64/L3Zhcg", b"x 3\n"),
        ("PUT", "/metrics/job/a", b""),
        ("POST", "/metrics/job/a", b"x{ 1\n"),
        ("POST", "/metrics/job/a/instance", b"x 1\n"),
        ("POST", "/metrics/job/a/bad-name/v", b"x 1\n"),
        ("POST", "/metrics/job@base64/!!", b"x 1\n"),
        ("DELETE", "/metrics/job/a", b""),
        ("DELETE", "/metrics/job/never", b""),
    ];
    for (method, path, body) in cases {
        let expected = http::send(method, &real.url(path), &[], body);
        let got = http::send(method, &gateway.url(path), &[], body);
        assert_eq!(got.status, expected.status, "{method} {path}: {} / {}", got.text(), expected.text());
    }
    let path = "/metrics/job/c/instance@base64/=";
    assert_eq!(http::send("POST", &gateway.url(path), &[], b"x 3\n").status, 200, "{path}");
}

#[test]
fn wavefront_sdk_reports_points_and_distributions() {
    needs!("wavefront_sdk_reports_points_and_distributions", "python");
    let port = free_port();
    let gateway = gateway().listen("wavefront", port).start();
    for base in [gateway.url(""), format!("http://127.0.0.1:{port}")] {
        client("wavefront.py", &[&base]);
    }
    shows(
        &gateway,
        &[
            ("py_wf_requests", &[("source", "host-1"), ("dc", "north west"), ("quoted", "a \"b\"")], 42.5),
            ("py_wf_default", &[("source", "host-1")], 1.0),
            ("py_wf_latency_count", &[("source", "host-1"), ("dc", "n")], 30.0),
        ],
    );
    assert!(gateway.metric("sluicegate_samples_rejected_total", &[]) == 0.0);
}

#[test]
fn vmagent_writes_what_it_was_given() {
    needs!("vmagent_writes_what_it_was_given", "vmagent");
    let gateway = gateway().start();
    let agent = destinations::vmagent(&gateway.url("/api/v1/write"));
    for (path, body) in
        [("/api/v1/import/prometheus", "vma_text{from=\"text\"} 1.25\n"), ("/write?db=d", "vma_line,from=line v=2.5\n")]
    {
        let answer = http::post(&agent.url(path), body);
        assert_eq!(answer.status, 204, "{path}: {}", answer.text());
    }
    shows(&gateway, &[("vma_text", &[("from", "text")], 1.25), ("vma_line_v", &[("from", "line"), ("db", "d")], 2.5)]);
    assert!(gateway.metric("sluicegate_samples_accepted_total", &[("input", "remote_write")]) == 2.0);
}

#[test]
fn prometheus_scrapes_what_was_pushed() {
    needs!("prometheus_scrapes_what_was_pushed", "prometheus");
    let gateway = gateway().start();
    let answer = http::post(&gateway.url("/api/v1/import/prometheus"), "# TYPE seen counter\nseen_total{a=\"b\"} 9\n");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let target = format!("127.0.0.1:{}", gateway.port());
    let prometheus = destinations::prometheus_scraping(&target, "/scrape");
    eventually(SOON, || match destinations::promql_value(&prometheus, "seen_total{a='b'}") {
        Ok(9.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
