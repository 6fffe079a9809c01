//! Outputs against destinations that follow a script: versions, answers, retries, order, batches, accounts.

#![allow(
    clippy::unwrap_used,
    clippy::float_cmp,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking, and may allocate"
)]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod destination;
    #[expect(dead_code, reason = "the end-to-end tests use the rest")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "the end-to-end tests use the rest")]
    pub(crate) mod http;
    #[expect(dead_code, reason = "the end-to-end tests use the rest")]
    pub(crate) mod server;
}

#[path = "outputs/dead_letters.rs"]
mod dead_letters;
#[path = "outputs/duplicates.rs"]
mod duplicates;
#[path = "outputs/families.rs"]
mod families;
#[path = "outputs/names.rs"]
mod names;
#[path = "outputs/poison.rs"]
mod poison;
#[path = "outputs/wrong_place.rs"]
mod wrong_place;

use sluicegate::clock;
use std::collections::BTreeMap;
use std::io::Read;
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;
use support::destination::{self, Destination, ToDestination, hang_up, status};
use support::gateway::{Gateway, Setup, gateway};
use support::http;
use support::server::{eventually, free_port};

const RW: &str = "prometheus_remote_write";
/// Nanoseconds of a time that every format can carry.
const T: i64 = 1_700_000_000_000_000_000;
const SLOW: Duration = Duration::from_secs(30);

impl Gateway {
    fn post_influx(&self, lines: &str) {
        let answer = http::post(&self.url("/write?db=test"), lines);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    fn post_wavefront(&self, lines: &str) {
        assert_eq!(http::post(&self.url("/report"), lines).status, 202);
    }

    fn delivered(&self, output: &str) -> f64 {
        self.metric("sluicegate_samples_delivered_total", &[("output", output)])
    }

    /// Ends it as an operator would and starts another, set up differently, on the same log.
    fn stop_and_restart_as(mut self, setup: Setup) -> Self {
        assert_eq!(self.server().terminate().code(), Some(0));
        self.crash_and_restart_as(setup)
    }

    /// Runs `sluicegate log` on its log, after it was stopped.
    fn log(&self, arguments: &[&str]) -> String {
        let (subcommand, rest) = arguments.split_first().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
        let output = command.args(["log", subcommand, "--dir"]).arg(self.log_dir()).args(rest).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn await_output(&self, output: &str, metric: &str, value: f64) {
        eventually(SLOW, || {
            let now = self.metric(metric, &[("output", output)]);
            if now == value { Ok(()) } else { Err(format!("{metric} of {output} is {now}, not {value}")) }
        });
        self.balanced();
    }
}

/// Lines `cpu,host=<n> v=<n>`, one series each.
fn rows(count: usize) -> String {
    (0..count).map(|n| format!("cpu,host=h{n} v={n} {T}\n")).collect()
}

fn refused(gw: &Gateway, output: &str) -> f64 {
    gw.metric("sluicegate_samples_dropped_total", &[("output", output), ("reason", "refused_by_destination")])
}

#[test]
fn remote_write_2_is_tried_first_with_the_headers_it_requires() {
    let sink = destination::remote_write();
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu,host=a v=1 {T}"));
    sink.expect("cpu_v{host=\"a\"} 1 1700000000000");
    gw.drained();
    let request = &sink.requests()[0];
    for (header, value) in [
        ("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"),
        ("content-encoding", "snappy"),
        ("x-prometheus-remote-write-version", "2.0.0"),
    ] {
        assert_eq!(request.header(header), value, "{header}");
    }
    assert!(request.header("user-agent").starts_with("sluicegate/"), "{request:?}");
    assert_eq!(request.header("retry-attempt"), "");
    assert_eq!(gw.delivered("prom"), 1.0);
}

#[test]
fn an_old_receiver_is_spoken_to_in_version_1_from_then_on() {
    // 415; a 2xx that read nothing; the 400 of an old Prometheus.
    for answer in [status(415), status(204), status(400).body("snappy: corrupt input")] {
        let sink = destination::remote_write().rule(move |request| request.is_version_2().then(|| answer.clone()));
        let gw = gateway().to(&sink).start();
        gw.post_influx(&format!("cpu v=1 {T}"));
        gw.drained();
        gw.post_influx(&format!("cpu v=2 {}", T + 1_000_000));
        gw.drained();
        let requests = sink.requests();
        let versions: Vec<_> =
            requests.iter().map(|request| request.header("x-prometheus-remote-write-version")).collect();
        assert_eq!(versions, ["2.0.0", "0.1.0", "0.1.0"]);
        assert_eq!(requests[1].header("content-type"), "application/x-protobuf");
        assert_eq!(requests[1].lines(), ["cpu_v 1 1700000000000"]);
        assert_eq!(gw.delivered("prom"), 2.0);
        assert_eq!(gw.dropped("prom"), []);
    }
}

#[test]
fn a_fallback_counts_losses_once() {
    let sink = destination::remote_write().rule(|request| request.is_version_2().then(|| status(415)));
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu s=\"x\",v=1i {T}"));
    gw.drained();
    let lost = |reason| gw.metric("sluicegate_translation_losses_total", &[("output", "prom"), ("reason", reason)]);
    assert_eq!((lost("string_value"), lost("field_type")), (1.0, 1.0));
    assert_eq!(gw.dropped("prom"), [("string_value".to_owned(), 1.0)]);
}

#[test]
fn success_without_written_headers_is_no_delivery_where_version_2_is_pinned() {
    let sink = destination::remote_write().rule(|_| Some(status(204)));
    let gw = gateway().to_kind("prom", RW, &sink, "version: 2").start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.await_output("prom", "sluicegate_output_misconfigured", 1.0);
    let error = &gw.status()["outputs"][0]["last_error"];
    assert!(error.as_str().is_some_and(|error| error.contains("does not speak remote write 2.0")), "{error}");
    assert_eq!((gw.delivered("prom"), gw.dropped("prom")), (0.0, Vec::new()));
}

#[test]
fn a_pinned_version_is_the_only_one_spoken() {
    for (version, number) in [("1", "0.1.0"), ("2", "2.0.0")] {
        let sink = destination::remote_write().rule(|_| Some(status(415)));
        let gw = gateway().to_kind("prom", RW, &sink, &format!("version: {version}")).start();
        gw.post_influx(&format!("cpu v=1 {T}"));
        gw.await_output("prom", "sluicegate_output_misconfigured", 1.0);
        sink.await_requests(2);
        assert!(sink.requests().iter().all(|request| request.header("x-prometheus-remote-write-version") == number));
    }
}

#[test]
fn passing_failures_are_repeated_with_growing_delays() {
    let failures = [status(500), hang_up(), status(503), status(429), status(502)];
    let count = failures.len();
    let sink = destination::remote_write().script(failures);
    let queue = "queue_config: { batch_send_deadline: 5ms, min_backoff: 30ms, max_backoff: 10s }";
    let gw = gateway().to_kind("prom", RW, &sink, queue).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    let requests = sink.requests();
    assert_eq!(requests.len(), count + 1);
    for (attempt, pair) in requests.windows(2).enumerate() {
        let least = Duration::from_millis(30 << attempt);
        assert!(pair[1].at - pair[0].at >= least, "attempt {attempt}: {:?}", pair[1].at - pair[0].at);
        assert_eq!(pair[1].header("retry-attempt"), (attempt + 1).to_string());
        assert_eq!(pair[1].body, pair[0].body, "the same request");
    }
    assert_eq!(gw.metric("sluicegate_output_retries_total", &[]), count as f64);
    assert_eq!(gw.delivered("prom"), 1.0);
}

#[test]
fn a_destination_that_is_down_gets_everything_when_it_comes() {
    let port = free_port();
    let block = format!(
        "{RW}: {{ url: \"http://127.0.0.1:{port}/api/v1/write\", queue_config: {{ batch_send_deadline: 5ms }} }}"
    );
    let gw = gateway().output("prom", &block).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    eventually(SLOW, || match gw.status()["outputs"][0]["last_error"].as_str() {
        Some(error) if error.to_lowercase().contains("refused") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    gw.balanced();
    let sink = destination::remote_write_at(port);
    sink.expect("cpu_v 1");
    gw.drained();
    assert!(gw.status()["outputs"][0]["last_error"].is_null(), "{}", gw.status());
}

#[test]
fn retry_after_is_honoured_in_seconds() {
    let sink = destination::remote_write().script([status(429).header("Retry-After", 1)]);
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    let requests = sink.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
}

#[test]
fn retry_after_is_honoured_as_a_date() {
    // Far enough that a request repeated too early shows, however slow the machine is.
    let date = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 5).unwrap();
    let text = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let sink = destination::remote_write().script([status(429).header("Retry-After", text)]);
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    assert_eq!(sink.requests().len(), 2);
    assert!(jiff::Timestamp::now() >= date, "repeated before {date}");
}

#[test]
fn too_many_requests_are_final_where_told_so() {
    let sink = destination::remote_write().script([status(429)]);
    let queue = "queue_config: { batch_send_deadline: 5ms, retry_on_http_429: false }";
    let gw = gateway().to_kind("prom", RW, &sink, queue).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    assert_eq!((sink.requests().len(), refused(&gw, "prom")), (1, 1.0));
}

fn refuses_series(bad: &'static str) -> Destination {
    destination::remote_write().rule(move |request| {
        let bad = request.lines().iter().any(|line| line.contains(bad));
        bad.then(|| status(400).body("out of order sample"))
    })
}

#[test]
fn the_halves_of_a_refused_request_show_the_one_bad_series() {
    let sink = refuses_series("host=\"h33\"");
    let gw = gateway().to_kind("prom", RW, &sink, "version: 1").start();
    gw.post_influx(&rows(100));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (99.0, 1.0));
    let mut lines = sink.lines();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.len(), 99, "each once");
}

#[test]
fn many_bad_series_take_no_good_one_with_them() {
    let sink = refuses_series("5\"");
    let gw = gateway().to_kind("prom", RW, &sink, "version: 1").start();
    gw.post_influx(&rows(400));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (360.0, 40.0));
}

#[test]
fn a_destination_that_refuses_every_sample_is_not_asked_about_every_series() {
    let sink = destination::remote_write().rule(|request| (!request.lines().is_empty()).then(|| status(400)));
    let gw = gateway().to_kind("prom", RW, &sink, "version: 1").start();
    gw.post_influx(&rows(2000));
    gw.drained();
    assert_eq!(refused(&gw, "prom"), 2000.0);
    assert!(sink.requests().len() < 1000, "{}", sink.requests().len());
    let (_, log) = gw.terminate();
    assert!(log.matches("refused samples for good").count() <= 2, "{log}");
}

#[test]
fn a_partial_write_of_version_2_counts_what_was_written() {
    let sink = destination::remote_write().rule(|request| {
        let lines = request.lines();
        let good = lines.iter().filter(|line| !line.contains("host=\"h7\"")).count();
        (good < lines.len()).then(|| status(400).written(good).body("1 of them is too old"))
    });
    let gw =
        gateway().to_kind("prom", RW, &sink, "queue_config: { batch_send_deadline: 100ms, max_shards: 1 }").start();
    gw.post_influx(&rows(20));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (19.0, 1.0));
    assert_eq!(sink.requests().len(), 1, "nothing is sent twice");
}

#[test]
fn too_large_requests_are_halved_until_they_fit() {
    let sink = destination::remote_write().rule(|request| (request.lines().len() > 10).then(|| status(413)));
    let gw = gateway().to(&sink).start();
    gw.post_influx(&rows(100));
    gw.drained();
    assert_eq!((gw.delivered("prom"), refused(&gw, "prom")), (100.0, 0.0));
    assert_eq!(sink.lines().len(), 100);
}

#[test]
fn mistakes_of_configuration_keep_the_samples_and_say_so_until_they_are_mended() {
    let cases = [
        (RW, "version: 1", 401),
        (RW, "", 403),
        (RW, "", 404),
        (RW, "version: 2", 405),
        (RW, "version: 1", 410),
        (RW, "version: 2", 415),
        (RW, "", 407),
        (RW, "", 302),
        ("influxdb", "database: d", 401),
        ("influxdb", "database: d", 404),
        ("wavefront", "", 401),
        ("wavefront", "", 404),
    ];
    std::thread::scope(|scope| {
        for (kind, keys, code) in cases {
            scope.spawn(move || waits_until_mended(kind, keys, code));
        }
    });
}

fn waits_until_mended(kind: &str, keys: &str, code: u16) {
    let mended = Arc::new(AtomicBool::new(false));
    let is_mended = Arc::clone(&mended);
    let refuse = status(code).header("Location", "/elsewhere").body("who are you?");
    let sink = destination::of(kind).rule(move |_| (!is_mended.load(Relaxed)).then(|| refuse.clone()));
    let gw = gateway().to_kind("out", kind, &sink, keys).start();
    assert_eq!(gw.status()["outputs"][0]["state"], "ok");
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.await_output("out", "sluicegate_output_misconfigured", 1.0);
    let output = &gw.status()["outputs"][0];
    assert_eq!(output["state"], "misconfigured");
    assert_eq!(output["last_error"], format!("{code} who are you?"));
    let requests = sink.await_requests(2);
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1), "{kind} {code} is asked seldom");
    mended.store(true, Relaxed);
    gw.drained();
    assert_eq!((gw.delivered("out"), gw.dropped("out")), (1.0, Vec::new()), "{kind} {code}");
    assert_eq!(gw.metric("sluicegate_output_misconfigured", &[]), 0.0);
    assert_eq!(gw.status()["outputs"][0]["state"], "ok");
    assert!(sink.requests().iter().all(|request| request.target != "/elsewhere"), "{kind} {code}");
    let (_, log) = gw.terminate();
    assert_eq!(log.matches("does not let this output in").count(), 1, "{log}");
}

#[test]
fn a_proxy_that_pushes_back_is_only_slow() {
    let sink = destination::http().script([status(406)]);
    let gw = gateway().to_kind("out", "wavefront", &sink, "").start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    assert_eq!(gw.delivered("out"), 1.0);
}

#[test]
fn configured_headers_and_credentials_are_sent() {
    let cases = [
        ("headers: { X-Scope-OrgID: team-a }", "x-scope-orgid", "team-a"),
        ("basic_auth: { username: u, password: \"p:w\" }", "authorization", "Basic dTpwOnc="),
        ("authorization: { credentials: secret }", "authorization", "Bearer secret"),
        ("authorization: { type: Token, credentials: secret }", "authorization", "Token secret"),
    ];
    for (keys, header, value) in cases {
        let sink = destination::remote_write();
        let gw = gateway().to_kind("prom", RW, &sink, keys).start();
        gw.post_influx(&format!("cpu v=1 {T}"));
        gw.drained();
        assert_eq!(sink.requests()[0].header(header), value, "{keys}");
        assert!(!gw.status().to_string().contains("secret"), "{keys}");
    }
}

#[test]
fn the_samples_of_a_series_keep_their_order_in_lanes_with_failures() {
    const SERIES: usize = 16;
    const ROUNDS: i64 = 60;
    let fail = std::sync::atomic::AtomicUsize::new(0);
    let sink = destination::remote_write().rule(move |_| {
        let turn = fail.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (turn % 3 == 1).then(|| if turn.is_multiple_of(2) { status(503) } else { hang_up() })
    });
    let queue = "version: 1, queue_config: { max_shards: 4, max_samples_per_send: 7, batch_send_deadline: 1ms, min_backoff: 1ms, max_backoff: 5ms }";
    let gw = gateway().to_kind("prom", RW, &sink, queue).start();
    for round in 0..ROUNDS {
        let lines: String =
            (0..SERIES).map(|n| format!("cpu,host=h{n} v={round} {}\n", T + round * 1_000_000)).collect();
        gw.post_influx(&lines);
    }
    gw.drained();
    assert!(sink.parallel_max() <= 4, "one request a lane");
    let mut values = BTreeMap::<String, Vec<i64>>::new();
    for line in sink.lines() {
        let mut words = line.split(' ');
        let (series, value) = (words.next().unwrap(), words.next().unwrap());
        values.entry(series.to_owned()).or_default().push(value.parse().unwrap());
    }
    assert_eq!(values.len(), SERIES);
    for (series, values) in values {
        assert_eq!(values, (0..ROUNDS).collect::<Vec<_>>(), "{series}");
    }
}

#[test]
fn sources_that_meet_by_relabelling_share_a_lane() {
    let sink = destination::remote_write();
    let keys = "version: 1, write_relabel_configs: [ { regex: pod, action: labeldrop } ], queue_config: { max_shards: 8, max_samples_per_send: 1, batch_send_deadline: 1ms }";
    let gw = gateway().to_kind("prom", RW, &sink, keys).start();
    for n in 0..40_i64 {
        gw.post_influx(&format!("cpu,pod=p{n} v={n} {}", T + n * 1_000_000));
    }
    gw.drained();
    let values: Vec<i64> = sink.lines().iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(values, (0..40).collect::<Vec<_>>());
}

#[test]
fn a_dead_output_delays_no_other() {
    let (good, dead) = (destination::remote_write(), destination::remote_write().rule(|_| Some(status(503))));
    let gw = gateway().to(&good).to_kind("dead", RW, &dead, "").start();
    let began = clock::monotonic();
    for n in 0..20 {
        gw.post_influx(&format!("cpu v={n} {}", T + n * 1_000_000));
    }
    gw.await_output("prom", "sluicegate_samples_delivered_total", 20.0);
    assert!(clock::monotonic() - began < Duration::from_secs(10));
    assert_eq!(gw.metric("sluicegate_samples_pending", &[("output", "dead")]), 20.0);
    gw.balanced();
}

#[test]
fn a_dead_destination_does_not_hold_up_the_end() {
    let sink = destination::remote_write().rule(|_| Some(status(503).header("Retry-After", 3600)));
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    sink.await_requests(1);
    let began = clock::monotonic();
    let (status, log) = gw.terminate();
    assert!(status.success(), "{log}");
    assert!(clock::monotonic() - began < Duration::from_secs(22), "at most 15 s for outputs");
    assert!(log.contains("pending=1"), "{log}");
}

#[test]
fn bodies_are_closed_by_size_and_by_age() {
    let sink = destination::remote_write();
    let keys = "queue_config: { max_shards: 1, max_samples_per_send: 10, batch_send_deadline: 300ms }";
    let gw = gateway().to_kind("prom", RW, &sink, keys).start();
    let began = clock::monotonic();
    gw.post_influx(&rows(25));
    let requests = sink.await_requests(3);
    let sizes: Vec<_> = requests.iter().map(|request| request.lines().len()).collect();
    assert_eq!(sizes, [10, 10, 5]);
    assert!(requests[2].at - began >= Duration::from_millis(300), "the last one waits for more");
    gw.drained();
}

#[test]
fn each_influxdb_gets_its_own_path_and_credentials() {
    let cases = [
        ("database: \"my db\", username: u, password: p", "/write?db=my+db&precision=ns", "Basic dTpw"),
        ("org: o, bucket: b, token: t", "/api/v2/write?org=o&bucket=b&precision=ns", "Token t"),
        (
            "version: 3, database: d, token: t",
            "/api/v3/write_lp?db=d&precision=nanosecond&accept_partial=true",
            "Bearer t",
        ),
    ];
    for (keys, target, authorization) in cases {
        for gzip in [true, false] {
            let sink = destination::http();
            let gw = gateway().to_kind("influx", "influxdb", &sink, &format!("{keys}, gzip: {gzip}")).start();
            gw.post_influx(&format!("cpu,host=a v=1i,w=\"x y\",ok=true {}", T + 7));
            gw.drained();
            let request = &sink.requests()[0];
            assert_eq!((request.target.as_str(), request.header("authorization")), (target, authorization));
            assert_eq!(request.header("content-encoding"), if gzip { "gzip" } else { "" });
            assert_eq!(request.lines(), [format!("cpu,host=a v=1i,w=\"x y\",ok=true {}", T + 7)]);
        }
    }
}

#[test]
fn partial_writes_of_influxdb_are_counted_in_samples() {
    // The line of host h1 is refused; it holds two samples, the others one, so a number of lines is not enough.
    let lines = format!("cpu,host=h0 v=0 {T}\ncpu,host=h1 v=1,w=1 {T}\ncpu,host=h2 v=2 {T}\n");
    let v1 = |bad: usize| format!("{{\"error\":\"partial write: field type conflict: input field dropped={bad}\"}}");
    let v3 = |at: usize| {
        format!(
            "{{\"error\":\"partial write of line protocol occurred\",\"data\":[{{\"error_message\":\"x\",\"line_number\":{at},\"original_line\":\"y\"}}]}}"
        )
    };
    for (keys, version_3) in [("database: d", false), ("version: 3, database: d", true)] {
        let sink = destination::http().rule(move |request| {
            let at = request.lines().iter().position(|line| line.contains("host=h1"))? + 1;
            Some(status(400).body(&if version_3 { v3(at) } else { v1(1) }))
        });
        let keys = format!("{keys}, queue_config: {{ max_shards: 1, batch_send_deadline: 5ms }}");
        let gw = gateway().to_kind("influx", "influxdb", &sink, &keys).start();
        gw.post_influx(&lines);
        gw.drained();
        assert_eq!((gw.delivered("influx"), refused(&gw, "influx")), (2.0, 2.0), "{keys}");
        assert_eq!(sink.requests().len() == 1, version_3, "version 3 says which line it was");
    }
}

#[test]
fn a_missing_database_is_created_when_asked_for() {
    let sink =
        destination::http().script([status(404).body("{\"error\":\"database not found: \\\"d\\\"\"}"), status(200)]);
    let gw = gateway().to_kind("influx", "influxdb", &sink, "database: d, create_database: true").start();
    gw.post_influx(&format!("cpu v=1 {T}"));
    gw.drained();
    let targets: Vec<_> = sink.requests().iter().map(|request| request.target.clone()).collect();
    let write = "/write?db=d&precision=ns";
    assert_eq!(targets, [write, "/query?q=CREATE+DATABASE+%22d%22", write]);
    assert_eq!(gw.delivered("influx"), 1.0);
}

#[test]
fn wavefront_points_and_distributions_go_to_requests_of_their_own() {
    let sink = destination::http();
    let gw = gateway().to_kind("wf", "wavefront", &sink, "source: me").start();
    gw.post_wavefront("jvm.memory 5 1700000000 source=a k=v\n!M 1700000000 #2 1.5 #1 3 lat source=a\n");
    gw.drained();
    let mut seen: Vec<_> = sink.requests().iter().map(|request| (request.target.clone(), request.lines())).collect();
    seen.sort();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(seen[0].0, "/report?f=histogram");
    // A distribution of a minute carries the time at which the minute began.
    assert_eq!(seen[0].1, ["!M 1699999980000 #2 1.5 #1 3.0 \"lat\" source=\"a\""]);
    assert_eq!(seen[1].0, "/report?f=wavefront");
    assert_eq!(seen[1].1, ["\"jvm.memory\" 5.0 1700000000000 source=\"a\" \"k\"=\"v\""]);
    assert_eq!(gw.delivered("wf"), 2.0);
}

#[test]
fn a_line_socket_that_was_closed_is_opened_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let block = format!(
        "wavefront: {{ url: \"tcp://127.0.0.1:{port}\", source: me, queue_config: {{ batch_send_deadline: 5ms }} }}"
    );
    let gw = gateway().output("wf", &block).start();
    for n in 1..=3 {
        gw.post_wavefront(&format!("m {n} 170000000{n} source=a\n"));
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SLOW)).unwrap();
        let expected = format!("\"m\" {n}.0 170000000{n}000 source=\"a\"\n");
        let mut line = vec![0; expected.len()];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(String::from_utf8_lossy(&line), expected);
        gw.await_output("wf", "sluicegate_samples_delivered_total", f64::from(n));
        // The proxy goes away; the next lines need another connection.
    }
}

#[test]
fn relabelling_drops_and_says_so() {
    let sink = destination::remote_write();
    let rules = "write_relabel_configs: [ { source_labels: [__name__], regex: \"go_.*\", action: drop } ]";
    let gw = gateway().to_kind("prom", RW, &sink, rules).start();
    gw.post_influx(&format!("go gc=1 {T}\ncpu v=2 {T}"));
    gw.drained();
    assert_eq!(sink.lines(), ["cpu_v 2 1700000000000"]);
    assert_eq!(gw.dropped("prom"), [("relabel".to_owned(), 1.0)]);
    assert_eq!(gw.metric("sluicegate_translation_losses_total", &[("reason", "relabel")]), 0.0);
}

#[test]
fn samples_that_collapse_are_a_loss_of_the_format() {
    let sink = destination::remote_write();
    let gw = gateway().to(&sink).start();
    gw.post_influx(&format!("cpu v=1 {T}\ncpu v=2 {}", T + 5));
    gw.drained();
    assert_eq!(gw.dropped("prom"), [("collapsed".to_owned(), 1.0)]);
    assert_eq!(gw.metric("sluicegate_translation_losses_total", &[("reason", "collapsed")]), 1.0);
}

#[test]
fn a_crash_loses_nothing_and_the_cursor_goes_on() {
    let sink = destination::remote_write().script((0..3).map(|_| status(503).after(Duration::from_millis(50))));
    let mut gw = gateway().to(&sink).start();
    for n in 0..30_i64 {
        gw.post_influx(&format!("cpu v={n} {}", T + n * 1_000_000));
        if n == 10 || n == 20 {
            gw = gw.crash_and_restart();
            gw.balanced();
        }
    }
    gw.drained();
    let mut values: Vec<i64> =
        sink.lines().iter().map(|line| line.split(' ').nth(1).unwrap().parse().unwrap()).collect();
    values.sort_unstable();
    values.dedup();
    assert_eq!(values, (0..30).collect::<Vec<_>>());
}

#[test]
fn a_new_output_gets_what_the_log_still_holds() {
    let (first, second) = (destination::remote_write().rule(|_| Some(status(503))), destination::remote_write());
    let gw = gateway().to(&first).start();
    gw.post_influx(&rows(5));
    let gw = gw.crash_and_restart_as(gateway().to(&first).to_kind("late", RW, &second, ""));
    gw.post_influx(&format!("more v=1 {T}"));
    gw.await_output("late", "sluicegate_samples_delivered_total", 6.0);
    assert_eq!(gw.metric("sluicegate_samples_pending", &[("output", "prom")]), 6.0);
}

#[test]
fn status_and_metrics_balance_at_every_look_under_load() {
    let fail = std::sync::atomic::AtomicUsize::new(0);
    let sink = destination::remote_write().rule(move |_| {
        let turn = fail.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (turn % 5 == 4).then(|| status(503))
    });
    let influx = destination::http().rule(|request| {
        let bad = request.lines().iter().any(|line| line.contains("host=h3 "));
        bad.then(|| status(400).body("{\"error\":\"unable to parse\"}"))
    });
    let gw = gateway().to(&sink).to_kind("influx", "influxdb", &influx, "database: d").start();
    let looks = std::thread::scope(|scope| {
        let senders: Vec<_> = (0..3_i64)
            .map(|sender| {
                let gw = &gw;
                scope.spawn(move || {
                    for n in 0..40 {
                        let at = T + (sender * 1000 + n) * 1_000_000;
                        let text: String =
                            (0..9).map(|h| format!("cpu,host=h{h} v={n},s=\"x\" {at}\nm{sender} v=1 {at}\n")).collect();
                        gw.post_influx(&text);
                    }
                })
            })
            .collect();
        let mut looks = 0;
        while senders.iter().any(|sender| !sender.is_finished()) {
            gw.balanced();
            let status = gw.status();
            assert_eq!(status["ledger"]["balanced"], true, "{status}");
            let accepted = status["ledger"]["accepted"].as_u64().unwrap();
            let inputs: u64 =
                status["inputs"].as_array().unwrap().iter().map(|input| input["accepted"].as_u64().unwrap()).sum();
            assert_eq!(inputs, accepted);
            for output in status["outputs"].as_array().unwrap() {
                let dropped: u64 =
                    output["dropped"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
                let explained = output["delivered"].as_u64().unwrap() + dropped + output["pending"].as_u64().unwrap();
                assert_eq!(explained, accepted, "{output}");
            }
            looks += 1;
        }
        looks
    });
    assert!(looks > 3, "{looks}");
    gw.drained();
    let status = gw.status();
    for (at, name) in ["prom", "influx"].iter().enumerate() {
        assert_eq!(status["outputs"][at]["delivered"].as_f64().unwrap(), gw.delivered(name));
    }
    assert_eq!(refused(&gw, "influx"), 3.0 * 40.0 * 2.0, "both fields of the bad lines");
}

#[test]
fn a_pushed_group_stays_on_scrape_until_it_is_deleted() {
    let gw = gateway().start();
    let group = gw.url("/metrics/job/j");
    assert_eq!(http::send("PUT", &group, &[], b"a 1\nb 2\n").status, 200);
    let shown = |name: &str| gw.scraped().sum(name, &[("job", "j")]);
    eventually(SLOW, || if shown("b") == 2.0 { Ok(()) } else { Err("b is not there".to_owned()) });
    assert_eq!(http::send("PUT", &group, &[], b"a 3\n").status, 200);
    eventually(
        SLOW,
        || if (shown("a"), shown("b")) == (3.0, 0.0) { Ok(()) } else { Err("b is still there".to_owned()) },
    );
    assert_eq!(http::send("DELETE", &group, &[], b"").status, 202);
    eventually(SLOW, || if shown("a") == 0.0 { Ok(()) } else { Err("a is still there".to_owned()) });
}

#[test]
fn the_status_names_who_sends() {
    let gw = gateway().start();
    gw.post_influx(&rows(3));
    gw.post_wavefront("m 1 1700000000 source=a\n");
    let status = gw.status();
    let mut sources: Vec<_> = status["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|source| {
            (
                source["format"].as_str().unwrap(),
                source["address"].as_str().unwrap(),
                source["accepted"].as_u64().unwrap(),
            )
        })
        .collect();
    sources.sort_unstable();
    assert_eq!(sources, [("influx_line", "127.0.0.1", 3), ("wavefront", "127.0.0.1", 1)]);
}
