//! Every query of every board, our own and those of Spring Cloud Data Flow's guide, asked of a real Prometheus and a real
//! InfluxDB that sluicegate fed: what the data can answer returns rows, and the rest is excused by name.
//!
//! The data are those of the fleet of `tests/micrometer`: streams on Kafka, a task, the servers, as Micrometer sends them. Each
//! query and its rows go to `target/test-report/boards.tsv`.

#![allow(clippy::print_stdout, reason = "a table of all queries is what these tests are for")]
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
}

#[path = "boards/board.rs"]
mod board;
#[path = "boards/database.rs"]
mod database;

use board::Board;
use database::Database;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::component::needs;
use support::destinations::{influxdb, prometheus_receiver};
use support::gateway::{Gateway, gateway};
use support::http;
use support::micrometer::{self, Said};
use support::server::free_port;

/// A query that is not answered: the folder of the board, part of the query, why.
type Excuse = (&'static str, &'static str, &'static str);

/// Queries that no data of Micrometer can answer.
const UNANSWERABLE: &[Excuse] = &[
    ("scdf-dashboards", r#"outcome="CLIENT_ERROR" , status=~"5..""#, "a status of 5xx is no error of a client"),
    (
        "scdf-dashboards",
        r#"_sum{result="failure",stream_name=~"$stream_name"}/spring_integration_send_seconds_count{result="success""#,
        "failures have no partner among successes: both have the label `result`",
    ),
    ("scdf-dashboards", "WHERE stream_name = '$stream'", "the board has no variable `stream`"),
];

/// Rounds of ten seconds: what looks a minute back finds a minute.
const FLEET: [&str; 2] = ["set=fleet", "rounds=12"];

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The boards of a source, our own and the guide's where it lies beside the repository.
fn boards(source: &str) -> Vec<Board> {
    let mut files = Vec::new();
    for folder in ["deploy/grafana/dashboards", "../shared/fixtures/scdf-dashboards"] {
        let Ok(entries) = fs::read_dir(root(folder).join(source)) else {
            let _ = writeln!(std::io::stderr(), "skipped: the boards of {folder} are not there");
            continue;
        };
        files.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    files.sort();
    files.iter().map(|file| Board::read(file)).collect()
}

/// Asks everything, tells what was answered, and fails for what was not although it could be.
fn ask_everything(boards: &[Board], database: &Database, excuses: &[Excuse]) {
    assert!(!boards.is_empty());
    let (mut report, mut problems) = (String::new(), Vec::new());
    for board in boards {
        let (mut answered, mut excused) = (0, 0);
        let answers = board.ask(database);
        for answer in &answers {
            let reason = UNANSWERABLE.iter().chain(excuses).find(|(folder, part, _)| {
                board.path.to_str().is_some_and(|path| path.contains(folder)) && answer.query.contains(part)
            });
            let rows = match (&answer.rows, reason) {
                (Ok(0), Some((_, _, reason))) => {
                    excused += 1;
                    format!("0: {reason}")
                }
                (Ok(0), None) => {
                    problems.push(format!("{}: {}: no rows: {}", board.title(), answer.of, answer.query));
                    "0".to_owned()
                }
                (Ok(rows), Some((_, part, _))) => {
                    problems.push(format!("{}: {part} is excused and has {rows} rows", board.title()));
                    rows.to_string()
                }
                (Ok(rows), None) => {
                    answered += 1;
                    rows.to_string()
                }
                (Err(error), _) => {
                    problems.push(format!("{}: {}: {error}: {}", board.title(), answer.of, answer.query));
                    error.clone()
                }
            };
            let query = answer.query.split_whitespace().collect::<Vec<_>>().join(" ");
            let _ = writeln!(report, "{}\t{}\t{}\t{rows}\t{query}", database.name(), board.title(), answer.of);
        }
        println!("{:<60} {:>3} queries, {answered} answered, {excused} unanswerable", board.title(), answers.len());
    }
    println!("{report}");
    keep(&report);
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
}

/// Appends to the report, which tests that run side by side share.
fn keep(report: &str) {
    let folder = root("target/test-report");
    fs::create_dir_all(&folder).expect("folder of reports");
    let file = fs::File::options().append(true).create(true).open(folder.join("boards.tsv"));
    file.and_then(|mut file| file.write_all(report.as_bytes())).expect("the report is written");
}

/// Hands over the pages of the fleet's Prometheus registries, each at its time; the last time.
fn import(gateway: &Gateway, said: &Said, generation: &str) -> i64 {
    let pages = said.pages(generation);
    for (time, page) in &pages {
        let url = gateway.url(&format!("/api/v1/import/prometheus?timestamp={time}"));
        let answer = http::post(&url, page);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    gateway.drained();
    pages.last().expect("pages").0
}

#[test]
fn boards_are_what_their_tables_say() {
    needs!("boards_are_what_their_tables_say", "python3");
    let mut command = Command::new("python3");
    command.arg("-B").arg(root("deploy/grafana/generate.py")).arg("--check");
    let output = command.output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn boards_of_prometheus_show_what_applications_say_in_its_dialect() {
    needs!("boards_of_prometheus_show_what_applications_say_in_its_dialect", "prometheus", "micrometer", "java");
    let prometheus = prometheus_receiver();
    let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
    let said = micrometer::run(&FLEET);
    let now = import(&gateway, &said, "simpleclient");
    own_metrics(&gateway, now);
    ask_everything(&boards("prometheus"), &Database::Prometheus { server: &prometheus, now }, &[]);
}

/// Hands over the gateway's own metrics, of which none is missing: something was refused, something was lost.
fn own_metrics(gateway: &Gateway, now: i64) {
    http::post(&gateway.url("/api/v1/import/prometheus"), "not a line of anything\n");
    http::post(&gateway.url("/write?db=m"), "words text=\"no number\"");
    gateway.drained();
    for time in [now - 15_000, now] {
        let page = http::get(&gateway.url("/metrics")).text();
        let path = format!("/api/v1/import/prometheus?timestamp={time}&extra_label=instance=gateway:8900");
        let answer = http::post(&gateway.url(&path), page);
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    gateway.drained();
}

#[test]
fn boards_of_influxdb_show_what_applications_say_in_its_dialect() {
    needs!("boards_of_influxdb_show_what_applications_say_in_its_dialect", "influxd", "micrometer", "java");
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().output("influx", &output).start();
    let uri = format!("influx.uri={}", gateway.url(""));
    let said = micrometer::run(&[FLEET[0], FLEET[1], &uri]);
    gateway.drained();
    let now = said.pages("simpleclient").last().expect("pages").0;
    ask_everything(&boards("influxdb"), &Database::InfluxDb { server: &influx, name: "myinfluxdb", now }, &[]);
}

/// As in deploy/: nothing but Micrometer speaks to it. The pages of SCDF's servers have no tag that tells it.
const ALWAYS: &str = "micrometer: { profile: always, step: 1s }";

#[test]
fn boards_of_prometheus_show_what_applications_say_in_the_dialect_of_influxdb() {
    needs!(
        "boards_of_prometheus_show_what_applications_say_in_the_dialect_of_influxdb",
        "prometheus",
        "micrometer",
        "java"
    );
    let prometheus = prometheus_receiver();
    let gateway = gateway().block(ALWAYS).with_prometheus(&prometheus.url("/api/v1/write")).start();
    let said = micrometer::run(&[FLEET[0], FLEET[1], &format!("influx.uri={}", gateway.url(""))]);
    gateway.drained();
    let now = said.pages("simpleclient").last().expect("pages").0;
    own_metrics(&gateway, now);
    ask_everything(&boards("prometheus"), &Database::Prometheus { server: &prometheus, now }, &[]);
}

#[test]
fn boards_of_influxdb_show_what_applications_say_in_the_dialect_of_prometheus() {
    needs!(
        "boards_of_influxdb_show_what_applications_say_in_the_dialect_of_prometheus",
        "influxd",
        "micrometer",
        "java"
    );
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().block(ALWAYS).output("influx", &output).start();
    let said = micrometer::run(&FLEET);
    let now = import(&gateway, &said, "simpleclient");
    ask_everything(&boards("influxdb"), &Database::InfluxDb { server: &influx, name: "myinfluxdb", now }, &[]);
}

/// The last end of a minute, up to when the Wavefront registry tells distributions. Rates over the minute before find both its
/// ends, as they find repeats in a gateway that runs for as long.
fn minute_end(said: &Said) -> i64 {
    let times = said.pages("simpleclient").into_iter().map(|(time, _)| time);
    times.filter(|time| time % 60_000 == 0).max().expect("a run has a minute")
}

#[test]
fn boards_of_prometheus_show_what_applications_say_in_the_dialect_of_wavefront() {
    needs!(
        "boards_of_prometheus_show_what_applications_say_in_the_dialect_of_wavefront",
        "prometheus",
        "micrometer",
        "java"
    );
    let (prometheus, port) = (prometheus_receiver(), free_port());
    let gateway =
        gateway().block(ALWAYS).listen("wavefront", port).with_prometheus(&prometheus.url("/api/v1/write")).start();
    let said = micrometer::run(&[FLEET[0], FLEET[1], &format!("wavefront.uri=proxy://127.0.0.1:{port}")]);
    gateway.drained();
    let now = minute_end(&said);
    own_metrics(&gateway, now);
    ask_everything(&boards("prometheus"), &Database::Prometheus { server: &prometheus, now }, &[]);
}

#[test]
fn boards_of_influxdb_show_what_applications_say_in_the_dialect_of_wavefront() {
    needs!(
        "boards_of_influxdb_show_what_applications_say_in_the_dialect_of_wavefront",
        "influxd",
        "micrometer",
        "java"
    );
    let (influx, port) = (influxdb(), free_port());
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().block(ALWAYS).listen("wavefront", port).output("influx", &output).start();
    let said = micrometer::run(&[FLEET[0], FLEET[1], &format!("wavefront.uri=proxy://127.0.0.1:{port}")]);
    gateway.drained();
    let now = minute_end(&said);
    ask_everything(&boards("influxdb"), &Database::InfluxDb { server: &influx, name: "myinfluxdb", now }, &[]);
}
