//! What Spring Cloud Data Flow's applications send, as Micrometer and Wavefront's SDK wrote it to the wire: every request is
//! answered as its client expects, and comes out as it went in.
//!
//! The recordings lie beside the repository; without them the tests say so and pass.

use crate::support::component::{client, needs};
use crate::support::destinations::{self, influx_cli, influxdb, influxql};
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::{eventually, free_port};
use crate::support::wavefront_proxy::WavefrontProxy;
use prometheus_parse::{Scrape, Value as Sample};
use serde_json::{Value, json};
use sluicegate::clock;
use sluicegate::wire::compression::gzip;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
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
#[derive(Clone, Default)]
struct Request {
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn all(recording: &str) -> Vec<Self> {
        let mut requests: Vec<Self> = Vec::new();
        for line in recording.lines().filter(|line| *line != "<<<") {
            if let Some(target) = line.trim_start_matches(">>> ").strip_prefix("POST ") {
                requests.push(Self { target: target.to_owned(), ..Self::default() });
                continue;
            }
            let request = requests.last_mut().expect("a recording begins with a request");
            match line.strip_prefix("    ").map(|header| header.split_once(": ")) {
                Some(Some((name, value))) => request.headers.push((name.to_owned(), value.to_owned())),
                // What the recorder noted of its own.
                Some(None) => {}
                None => request.body += &format!("{line}\n"),
            }
        }
        requests
    }

    /// The lines that InfluxDB can read. Each recording has one meter with a tag whose value ends in a backslash: Micrometer writes
    /// it to InfluxDB without escaping it, so that it swallows the comma behind it. InfluxDB 1.6 refuses that line and takes the
    /// rest.
    fn good(&self) -> impl Iterator<Item = &str> {
        self.body.lines().filter(|line| !line.is_empty() && !Self::is_bad(line))
    }

    fn bad(&self) -> impl Iterator<Item = &str> {
        self.body.lines().filter(|line| Self::is_bad(line))
    }

    fn is_bad(line: &str) -> bool {
        line.contains("\\,metric_type=")
    }

    /// The same with one header in place of what it says of who sends it.
    fn authorised(&self, value: Option<&str>) -> Self {
        let mut headers = self.headers.clone();
        headers.retain(|(name, _)| name != "Authorization");
        headers.extend(value.map(|value| ("Authorization".to_owned(), value.to_owned())));
        Self { headers, ..self.clone() }
    }

    /// Sends line protocol: 204, or 400 that quotes the bad line.
    fn write(&self, base: &str) {
        let bad: Vec<_> = self.bad().collect();
        let answer = self.send(base, if bad.is_empty() { 204 } else { 400 });
        for line in bad {
            let quoted = format!("'{line}'").replace('\\', "\\\\").replace('"', "\\\"");
            assert!(answer.contains("partial write: unable to parse") && answer.contains(&quoted), "{answer}");
        }
    }

    /// Sends it byte for byte as it was recorded, but for what a compressor makes of the body; the answer, head and body, which
    /// must have that status.
    fn send(&self, base: &str, status: u16) -> String {
        let zipped = self.headers.contains(&("Content-Encoding".to_owned(), "gzip".to_owned()));
        let body = if zipped { gzip(self.body.as_bytes()) } else { self.body.trim_end().as_bytes().to_vec() };
        let mut head = format!("POST {} HTTP/1.1\r\n", self.target);
        for (name, value) in &self.headers {
            let length = body.len().to_string();
            head += &format!("{name}: {}\r\n", if name == "Content-Length" { &length } else { value });
        }
        let address = base.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat()).expect("sent");
        let answer = answer(&mut stream);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{}: {answer}", self.target);
        answer
    }
}

/// Reads one answer from a connection that stays open.
fn answer(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a length")) {
                return text;
            }
        }
        let count = stream.read(&mut piece).expect("an answer in time");
        assert!(count > 0, "the connection ended: {text}");
        read.extend_from_slice(&piece[..count]);
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
    requests.iter().map(|request| request.bad().count()).sum()
}

/// Fields of all good lines of line protocol.
fn fields(requests: &[Request]) -> usize {
    let lines = requests.iter().flat_map(Request::good);
    lines.map(|line| line.rsplit(' ').nth(1).expect("fields").split(',').count()).sum()
}

/// Those, and the bucket of all of each row whose meter has buckets, which the gateway makes.
fn accepted(requests: &[Request]) -> usize {
    let rows = requests.iter().flat_map(Request::good);
    fields(requests) + rows.filter(|line| line.starts_with("http_server_requests,")).count()
}

#[test]
fn micrometer_writes_to_influxdb_2() {
    let Some(recording) = recording("influx_v2_write.http.txt") else { return };
    let requests = Request::all(&recording);
    let gateway = gateway().start();
    for request in &requests {
        request.write(&gateway.url(""));
    }
    took(&gateway, "influx_line", accepted(&requests), bad(&requests));
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
            let answer = request.send(&base, 202);
            assert!(answer.ends_with("\r\n\r\n"), "without a word: {answer}");
        }
    }
    took(&gateway, "wavefront", 2 * lines, 0);
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
    let rows = requests.iter().flat_map(Request::good).filter(|line| !line.contains('\\') && !line.contains("_active"));
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

/// What the registry and the SDK write as nobody else does: tags of blanks, values that were escaped twice, and the SDK's
/// metrics of itself.
#[test]
fn quirks_of_wavefront_clients_cost_nothing_but_themselves() {
    needs!("quirks_of_wavefront_clients_cost_nothing_but_themselves", "prometheus", "influxd");
    let Some(recording) = recording("wavefront_report.http.txt") else { return };
    let mut request = Request::all(&recording).remove(0);
    let lines = request.good().count();
    // As many hundred seconds later as brings them into the last three minutes.
    let hundreds = clock::now() / 100_000_000_000 - 1;
    request.body = request.body.replace(" 17953603", &format!(" {hundreds}"));
    let own = "source=\"demo-scdf-source\" \"pid\"=\"7\" \"authType\"=\"none\"";
    request.body += &format!("\"∆~sdk.java.core.sender.wfclient.points.valid.count\" 5.0 {own}\n");
    request.body += &format!("\"~sdk.java.core.sender.wfclient.points.queue.size\" 0.0 {own}\n\n");
    request.body += "this is no line\n\"half\" 1 source=\"open\n";

    let (prometheus, influx, wavefront) = (destinations::prometheus_receiver(), influxdb(), WavefrontProxy::start());
    let block = format!("influxdb: {{ url: \"{}\", database: metrics, create_database: true }}", influx.url(""));
    let gateway = gateway()
        .with_prometheus(&prometheus.url("/api/v1/write"))
        .output("influx", &block)
        .with_wavefront(&wavefront.url())
        .start();
    request.send(&gateway.url(""), 202);
    took(&gateway, "wavefront", lines + 2, 2);
    gateway.drained();

    let odd = "{application_name='time',statistic=~'count|',tag_key_x!=''}";
    let found = destinations::promql(&prometheus, &format!("{{__name__=~'weird_name_with_slash.*',{}", &odd[1..]));
    assert_eq!(found.len(), 1, "{found:?}");
    let labels = &found[0]["metric"];
    assert_eq!(labels["source"], "demo-scdf-source");
    assert_eq!(labels["tag_key_x"], "val\"q_");
    assert!(labels["emptyish"].is_null(), "a tag of blanks is none: {labels}");
    assert_eq!(
        gateway.metric("sluicegate_translation_losses_total", &[("output", "prom"), ("reason", "internal_metric")]),
        2.0
    );

    let at_wavefront = wavefront.points();
    let odd = at_wavefront.iter().find(|point| point.name == "weird-name.with-slash").expect("as it came");
    assert_eq!((odd.tags["tag-key.x"].as_str(), odd.tags.get("emptyish")), ("val\\\"q_", None));
    assert_eq!((odd.source.as_str(), odd.value), ("demo-scdf-source", 1.0));
    assert_eq!(at_wavefront.iter().filter(|point| point.name.contains("~sdk.java")).count(), 2, "its own too");
    assert_eq!(wavefront.rejected(), [""; 0]);
    assert_eq!(at_wavefront.len(), lines + 2);
    let found = influxql(&influx, "metrics", "select value from jvm_memory_used group by *");
    assert_eq!(found[0]["values"][0][1], json!(123_456_789.125), "{found:?}");
    assert_eq!(found[0]["tags"]["id"], "G1 Eden Space");
}

#[test]
fn registries_are_let_in_whoever_they_say_they_are() {
    let names = [
        "influx_v1_query.http.txt",
        "influx_v1_write.http.txt",
        "influx_v2_write.http.txt",
        "wavefront_report.http.txt",
    ];
    let Some(recordings) = names.map(recording).into_iter().collect::<Option<Vec<_>>>() else { return };
    let gateway = gateway().start();
    for recording in &recordings {
        let request = &Request::all(recording)[0];
        let status = match request.target.split(['?', '/']).nth(1) {
            Some("query") => 200,
            Some("report") => 202,
            _ => 400,
        };
        let said =
            [None, Some("Basic dTpw"), Some("Bearer token"), Some("Token tok"), Some("Bearer "), Some("nonsense")];
        for value in said {
            request.authorised(value).send(&gateway.url(""), status);
        }
    }
}

/// What Micrometer says when it is told how a database is to keep its points.
#[test]
fn a_database_is_created_as_the_registry_asks_for_it() {
    needs!("a_database_is_created_as_the_registry_asks_for_it", "influxd", "influx");
    let Some(recording) = recording("influx_v1_query.http.txt") else { return };
    let mut request = Request::all(&recording).remove(0);
    let influx = influxdb();
    let block = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().output("influx", &block).start();
    request.target += "+WITH+DURATION+2w+REPLICATION+1+SHARD+DURATION+1d+NAME+%22two+weeks%22";
    let answer = request.send(&gateway.url(""), 200);
    assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
    assert!(answer.trim_end().ends_with("{\"results\":[{\"statement_id\":0}]}"), "{answer}");
    assert_eq!(http::post(&gateway.url("/write?db=myinfluxdb&precision=ms"), "m value=1").status, 204);
    gateway.drained();
    let policies = influxql(&influx, "myinfluxdb", "show retention policies");
    assert_eq!(policies[0]["values"], json!([["two weeks", "336h0m0s", "24h0m0s", 1, true]]));
    assert_eq!(influxql(&influx, "myinfluxdb", "select value from \"two weeks\".m")[0]["values"][0][1], 1);
}

/// The four commands of the guide: `show databases`, `use myinfluxdb`, `show measurements`, `select ... limit 10`.
#[test]
fn micrometer_rows_reach_influxdb_as_the_guide_shows_them() {
    needs!("micrometer_rows_reach_influxdb_as_the_guide_shows_them", "influxd", "influx", "python");
    let names = ["influx_v1_query.http.txt", "influx_v1_write.http.txt", "influx_v1_write_all.http.txt"];
    let Some(recordings) = names.map(recording).into_iter().collect::<Option<Vec<_>>>() else { return };
    let [create, once, all] = [0, 1, 2].map(|at| Request::all(&recordings[at]));
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let mut gateway = gateway().output("influx", &output).start();
    for request in &create {
        request.send(&gateway.url(""), 200);
    }
    once.iter().chain(&all).for_each(|request| request.write(&gateway.url("")));
    took(&gateway, "influx_line", accepted(&once) + accepted(&all), bad(&once) + bad(&all));
    gateway.drained();

    // The commands as they stand in the guide, typed into the shell; the gateway knows of the database as well.
    let select = "select * from spring_integration_send limit 10";
    let typed = |port: u16, commands: &[&str]| -> Vec<String> {
        let port = port.to_string();
        let arguments = [&[port.as_str()], commands].concat();
        serde_json::from_str(&client("influx_shell.py", &arguments)).expect("a list of answers")
    };
    let answers = typed(influx.port(), &["show databases", "use myinfluxdb", "show measurements", select]);
    let lists = |answer: &str, name: &str| answer.lines().any(|line| line == name);
    assert!(lists(&answers[0], "myinfluxdb"), "{}", answers[0]);
    assert_eq!(answers[1], "Using database myinfluxdb");
    assert!(lists(&answers[2], "spring_integration_send"), "{}", answers[2]);
    assert!(answers[3].starts_with("name: spring_integration_send\n"), "{}", answers[3]);
    assert_eq!(answers[3].lines().count(), 3 + 4, "headings and the rows: {}", answers[3]);
    let answers = typed(gateway.port(), &["show databases", "use myinfluxdb"]);
    assert_eq!(answers, ["name: databases\nname\n----\nmyinfluxdb", "Using database myinfluxdb"]);
    assert!(influx_cli(gateway.server(), "", "show databases").contains("databases,myinfluxdb"));

    let listed = |query: &str| -> BTreeSet<String> {
        let printed = influx_cli(&influx, "myinfluxdb", query);
        printed.lines().skip(1).filter_map(|line| line.split_once(',')).map(|(_, name)| name.to_owned()).collect()
    };
    assert!(listed("show databases").contains("myinfluxdb"));
    let lines = || all.iter().flat_map(Request::good);
    let measurements: BTreeSet<_> = lines().filter_map(|line| line.split(',').next()).map(str::to_owned).collect();
    assert_eq!(listed("show measurements"), measurements);

    let query = select;
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

    // Without the backslash at its end, the meter with the odd tags is taken, blanks included.
    let mut odd = once[0].clone();
    odd.body = format!("{}\n", once[0].bad().next().expect("the odd one").replace("q\\,", "q,"));
    odd.write(&gateway.url(""));
    gateway.drained();
    let found = influxql(&influx, "myinfluxdb", "select value from \"weird-name_with/slash\" group by *");
    let tags = &found[0]["tags"];
    assert_eq!((tags["emptyish"].as_str(), tags["tag-key_x"].as_str()), (Some(" "), Some("val\\\"q")), "{found:?}");
    assert_eq!(tags["metric_type"], "counter");
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
