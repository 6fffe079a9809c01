//! What Spring Cloud Data Flow's applications send, as Micrometer and Wavefront's SDK wrote it to the wire: every request is
//! answered as its client expects, and comes out as it went in.
//!
//! The recordings lie beside the repository; without them the tests say so and pass.

use crate::support::component::needs;
use crate::support::destinations::{influx_cli, influxdb, influxql};
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::{eventually, free_port};
use prometheus_parse::{Scrape, Value as Sample};
use serde_json::{Value, json};
use sluicegate::wire::compression::gzip;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

fn recording(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/micrometer").join(name);
    let text = std::fs::read_to_string(path).ok();
    if text.is_none() {
        // The test harness swallows what print! writes, and a skipped test must be seen.
        let _ = writeln!(std::io::stderr(), "skipped: the recording {name} is not there");
    }
    text
}

/// One request of a recording: `POST /path`, headers indented by four blanks, the body as plain text.
#[derive(Default)]
struct Request {
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    /// The requests of a recording. A length and a host are those of the recording, so that they are left out.
    fn all(recording: &str) -> Vec<Self> {
        let mut requests: Vec<Self> = Vec::new();
        for line in recording.lines().filter(|line| *line != "<<<") {
            if let Some(target) = line.trim_start_matches(">>> ").strip_prefix("POST ") {
                requests.push(Self { target: target.to_owned(), ..Self::default() });
                continue;
            }
            let request = requests.last_mut().expect("a recording begins with a request");
            match line.strip_prefix("    ").map(|header| header.split_once(": ")) {
                Some(Some((name, value))) if !matches!(name, "Host" | "Content-Length") => {
                    request.headers.push((name.to_owned(), value.to_owned()));
                }
                Some(_) => {}
                None => request.body += &format!("{line}\n"),
            }
        }
        requests
    }

    /// The lines that are good. Each recording has one meter with a tag whose value ends in a backslash and one of a blank:
    /// Micrometer writes the one to InfluxDB without escaping it, so that it swallows the comma behind it, and the other to
    /// Wavefront. InfluxDB 1.6 refuses that line, and a Wavefront proxy this one; both take the rest.
    fn good(&self) -> impl Iterator<Item = &str> {
        self.body.lines().filter(|line| !line.is_empty() && !Self::is_bad(line))
    }

    fn bad(&self) -> usize {
        self.body.lines().filter(|line| Self::is_bad(line)).count()
    }

    fn is_bad(line: &str) -> bool {
        line.contains("weird-name")
    }

    /// Sends line protocol: 204, or 400 for the bad line.
    fn write(&self, base: &str) {
        self.send(base, if self.bad() == 0 { 204 } else { 400 });
    }

    /// Sends it as it was recorded, and expects that status.
    fn send(&self, base: &str, status: u16) {
        let zipped = self.headers.contains(&("Content-Encoding".to_owned(), "gzip".to_owned()));
        let body = if zipped { gzip(self.body.as_bytes()) } else { self.body.trim_end().as_bytes().to_vec() };
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let answer = http::send("POST", &format!("{base}{}", self.target), &headers, &body);
        let text = answer.text();
        assert_eq!(answer.status, status, "{}: {text}", self.target);
        assert!(status != 400 || text.contains("partial write: unable to parse"), "{text}");
    }
}

/// Checks how many samples were taken and refused, all of that input.
fn took(gateway: &Gateway, input: &str, samples: usize, refused: usize) {
    for (metric, expected) in
        [("sluicegate_samples_accepted_total", samples), ("sluicegate_samples_rejected_total", refused)]
    {
        let counted = (gateway.metric(metric, &[("input", input)]), gateway.metric(metric, &[]));
        assert_eq!(counted, (expected as f64, expected as f64), "{metric}");
    }
}

fn bad(requests: &[Request]) -> usize {
    requests.iter().map(Request::bad).sum()
}

/// Fields of all good lines of line protocol.
fn fields(requests: &[Request]) -> usize {
    let lines = requests.iter().flat_map(Request::good);
    lines.map(|line| line.rsplit(' ').nth(1).expect("fields").split(',').count()).sum()
}

#[test]
fn micrometer_writes_to_influxdb_2() {
    let Some(recording) = recording("influx_v2_write.http.txt") else { return };
    let requests = Request::all(&recording);
    let gateway = gateway().start();
    for request in &requests {
        request.write(&gateway.url(""));
    }
    took(&gateway, "influx_line", fields(&requests), bad(&requests));
}

#[test]
fn wavefront_clients_report_on_both_ports() {
    let names = ["wavefront_report.http.txt", "wavefront_python_sdk.http.txt"];
    let Some(recordings) = names.map(recording).into_iter().collect::<Option<Vec<_>>>() else { return };
    let requests: Vec<_> = recordings.iter().flat_map(|recording| Request::all(recording)).collect();
    let lines = requests.iter().flat_map(Request::good).count();
    let port = free_port();
    let gateway = gateway().listen("wavefront", port).start();
    for base in [gateway.url(""), format!("http://127.0.0.1:{port}")] {
        for request in &requests {
            request.send(&base, 202);
        }
    }
    took(&gateway, "wavefront", 2 * lines, 2 * bad(&requests));
    let page = gateway.scraped();
    let labels =
        [("source", "demo-scdf-source"), ("area", "heap"), ("id", "G1 Eden Space"), ("stream_name", "stream2")];
    assert_eq!(page.value("jvm_memory_used_bytes", &labels), Ok(123_456_789.125), "as Prometheus's registry names it");
}

/// What the registry for Prometheus said is found in InfluxDB as the registry for InfluxDB says it.
#[test]
fn micrometer_expositions_reach_influxdb_as_its_own_rows() {
    needs!("micrometer_expositions_reach_influxdb_as_its_own_rows", "influxd", "influx");
    let names = ["prometheus_text_004.txt", "influx_v1_write.http.txt"];
    let Some(recordings) = names.map(recording).into_iter().collect::<Option<Vec<_>>>() else { return };
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let meters = "meters: [{ name: payload.size, kind: summary, unit: bytes }, { name: fn.counter, kind: counter }]";
    let gateway = gateway().block(&format!("micrometer: {{ {meters} }}")).output("influx", &output).start();
    // A task pushes what it counted at its end, and all of it is new.
    let answer = http::send("PUT", &gateway.url("/metrics/job/task"), &[], recordings[0].as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    gateway.drained();
    let requests = Request::all(&recordings[1]);
    let rows = requests.iter().flat_map(Request::good).filter(|line| !line.contains("\\") && !line.contains("_active"));
    let mut compared = 0;
    for line in rows.filter(|line| !line.starts_with("process_cpu_usage")) {
        let (Value::Object(expected), measurement) = (row(line), line.split(',').next().expect("a name")) else {
            panic!()
        };
        let shown = influxql(&influx, "myinfluxdb", &format!("select * from {measurement}"));
        assert_eq!(shown.len(), 1, "{measurement} is there");
        let columns = shown[0]["columns"].as_array().expect("columns");
        let value = |name: &str| {
            let at = columns.iter().position(|column| column == name);
            at.map_or(&Value::Null, |at| &shown[0]["values"][0][at])
        };
        for (name, expected) in expected.iter().filter(|(name, _)| *name != "time") {
            assert_eq!(value(name), expected, "{name} of {measurement}: {shown:?}");
            compared += 1;
        }
        assert_eq!(columns.len(), expected.len() + 1, "and the job: {measurement} {columns:?}");
    }
    assert!(compared > 60, "{compared} tags and fields");
}

/// The four commands of the guide: `show databases`, `use myinfluxdb`, `show measurements`, `select ... limit 10`.
#[test]
fn micrometer_rows_reach_influxdb_as_the_guide_shows_them() {
    needs!("micrometer_rows_reach_influxdb_as_the_guide_shows_them", "influxd", "influx");
    let names = ["influx_v1_query.http.txt", "influx_v1_write.http.txt", "influx_v1_write_all.http.txt"];
    let Some(recordings) = names.map(recording).into_iter().collect::<Option<Vec<_>>>() else { return };
    let [create, once, all] = [0, 1, 2].map(|at| Request::all(&recordings[at]));
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().output("influx", &output).start();
    for request in &create {
        request.send(&gateway.url(""), 200);
    }
    once.iter().chain(&all).for_each(|request| request.write(&gateway.url("")));
    took(&gateway, "influx_line", fields(&once) + fields(&all), bad(&once) + bad(&all));
    gateway.drained();

    let listed = |query: &str| -> BTreeSet<String> {
        let printed = influx_cli(&influx, "myinfluxdb", query);
        printed.lines().skip(1).filter_map(|line| line.split_once(',')).map(|(_, name)| name.to_owned()).collect()
    };
    assert!(listed("show databases").contains("myinfluxdb"));
    let lines = || all.iter().flat_map(Request::good);
    let measurements: BTreeSet<_> = lines().filter_map(|line| line.split(',').next()).map(str::to_owned).collect();
    assert_eq!(listed("show measurements"), measurements);

    let query = "select * from spring_integration_send limit 10";
    let rows = lines().filter(|line| line.starts_with("spring_integration_send,"));
    let expected: Vec<Value> = rows.map(row).collect();
    let series = influxql(&influx, "myinfluxdb", query);
    let columns = series[0]["columns"].as_array().expect("columns");
    let cell = |(column, value): (&Value, &Value)| (column.as_str().expect("text").to_owned(), value.clone());
    let shown = |values: &Value| -> Value { columns.iter().zip(values.as_array().expect("row")).map(cell).collect() };
    let got: Vec<Value> = series[0]["values"].as_array().expect("rows").iter().map(shown).collect();
    assert_eq!((got.len(), &got), (4, &expected));
    assert_eq!(influx_cli(&influx, "myinfluxdb", query).lines().count(), 1 + expected.len(), "a heading and the rows");
    let types = influxql(&influx, "myinfluxdb", "show field keys from spring_integration_send");
    assert_eq!(
        types[0]["values"],
        json!([["count", "float"], ["mean", "float"], ["sum", "float"], ["upper", "float"]])
    );
}

/// A line of line protocol without escapes as InfluxDB shows it: column and value, numbers as they are read from JSON.
fn row(line: &str) -> Value {
    let [series, fields, milliseconds] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let pair =
        |pair: &str| pair.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).expect("pair");
    let tags = series.split(',').skip(1).map(pair).map(|(name, value)| (name, json!(value)));
    // InfluxDB writes floats without a fraction as integers.
    let number = |value: String| serde_json::from_str(&value).expect("a number");
    let fields = fields.split(',').map(pair).map(|(name, value)| (name, number(value)));
    let time = milliseconds.parse::<i64>().expect("milliseconds") * 1_000_000;
    tags.chain(fields).chain([("time".to_owned(), json!(time))]).collect()
}

/// Every sample of an exposition by name and labels; types and comments left aside.
fn samples(page: &str) -> BTreeMap<(String, BTreeMap<String, String>), String> {
    let lines = page.lines().filter(|line| !line.starts_with('#')).map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).expect("an exposition");
    let sample = |sample: prometheus_parse::Sample| {
        let labels = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        match sample.value {
            Sample::Untyped(value) => ((sample.metric, labels), value.to_string()),
            other => panic!("{}: {other:?} without a declaration", sample.metric),
        }
    };
    scrape.samples.into_iter().map(sample).collect()
}

#[test]
fn micrometer_expositions_come_back_from_scrape() {
    for (name, content_type) in [
        ("prometheus_text_004.txt", "text/plain; version=0.0.4; charset=utf-8"),
        ("openmetrics_1_0.txt", "application/openmetrics-text; version=1.0.0; charset=utf-8"),
    ] {
        let Some(page) = recording(name) else { return };
        let gateway = gateway().start();
        let url = gateway.url("/api/v1/import/prometheus");
        let answer = http::send("POST", &url, &[("Content-Type", content_type)], page.as_bytes());
        assert_eq!(answer.status, 204, "{name}: {}", answer.text());
        let expected = samples(&page);
        let lines = page.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(expected.len(), lines, "{name}: the second opinion reads every line");
        eventually(SOON, || {
            let got = samples(&http::get(&gateway.url("/scrape")).text());
            if got == expected { Ok(()) } else { Err(format!("{name}: {got:#?}\nis not {expected:#?}")) }
        });
    }
}
