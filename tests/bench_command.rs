//! `sluicegate bench`, on the built binary: what it sends through the gateway arrives, and what it says is true.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
}

use serde_json::Value;
use sluicegate::bench::compare::Point;
use sluicegate::bench::contender::{Contender, Destination, Running};
use sluicegate::bench::digest::Digest;
use sluicegate::bench::load::{Bound, Load, Options};
use sluicegate::bench::shape::Shape;
use sluicegate::bench::sink::Sink;
use sluicegate::clock;
use sluicegate::model::Format;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;
use support::component::needs;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");
/// How long samples may take through the gateway on a busy machine.
const ARRIVE_WITHIN: Duration = Duration::from_secs(60);

fn bench(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).arg("bench").args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_reaches_every_sink_through_the_gateway_exactly_once() {
    for (input, shape) in
        Format::ALL.into_iter().zip([Shape::Kubernetes, Shape::Telegraf, Shape::NodeExporter].repeat(2))
    {
        let (mut sinks, mut to) = (Vec::new(), Vec::new());
        for format in [Format::RemoteWrite, Format::RemoteWrite2, Format::InfluxLine, Format::Wavefront] {
            let sink = Sink::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
            to.push(Destination { format, address: sink.address() });
            sinks.push((format, sink));
        }
        let size = Point { series: 3000, connections: 4 };
        let gateway = Running::start(Contender::Sluicegate, Path::new(PROGRAM), &to, size).await.unwrap();
        let options = Options {
            target: gateway.url(""),
            format: input,
            shape,
            seed: 7,
            series: 3000,
            samples_per_request: 100,
            connections: 4,
            churn: 0.1,
            rate: None,
        };
        let mut load = Load::try_new(options, false).unwrap();
        load.run(Bound::Requests(90)).await.unwrap();
        assert_eq!(load.sent().samples(), 9000);
        let start = clock::monotonic();
        for (output, sink) in &sinks {
            while sink.samples() < 9000 && start.elapsed() < ARRIVE_WITHIN {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let difference = Digest::difference(&sink.digest(), load.sent());
            assert!(difference.is_none(), "{input:?} {shape:?} to {output:?}: {difference}; {:?}", sink.arrived());
        }
    }
}

/// A `bench sink` of its own process; killed when it goes out of scope.
struct SinkProcess(Child);

impl Drop for SinkProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn load_and_sink_of_two_processes_report_the_same_checksum() {
    let arguments = ["bench", "sink", "--listen", "127.0.0.1:0", "--samples", "2000", "--duration", "60s"];
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sink = SinkProcess(command.spawn().unwrap());
    let mut first = String::new();
    BufReader::new(sink.0.stderr.take().unwrap()).read_line(&mut first).unwrap();
    let url = first.trim().strip_prefix("sink at ").unwrap();
    let pid = sink.0.id().to_string();
    let size = ["--series", "500", "--samples-per-request", "100", "--connections", "2", "--requests", "20"];
    let load = ["load", "--target", url, "--format", "influx_line", "--shape", "telegraf", "--pid", &pid];
    let report = json(&bench(&[&load[..], &size].concat()));
    let stdout = sink.0.stdout.take().unwrap();
    let arrived: Value = serde_json::from_reader(stdout).unwrap();
    assert!(sink.0.wait().unwrap().success());
    assert_eq!((&report["samples"], &report["requests"]), (&2000.into(), &20.into()), "{report}");
    assert_eq!((&arrived["samples"], &arrived["checksum"]), (&report["samples"], &report["checksum"]), "{arrived}");
    assert_eq!(arrived["protocols"], serde_json::json!(["influx_line identity"]));
    assert!(report["process"]["resident_bytes_max"].as_u64().unwrap() > 1 << 20, "{report}");
}

#[test]
fn another_machine_needs_permission() {
    for arguments in [
        &["load", "--target", "http://192.0.2.1:8900", "--format", "wavefront"][..],
        &["sink", "--listen", "0.0.0.0:0", "--duration", "1s"],
    ] {
        let output = bench(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("--allow-remote"), "{error}");
    }
}

#[test]
fn a_comparison_tells_every_path_with_its_ratio() {
    needs!("a_comparison_tells_every_path_with_its_ratio", "vmagent");
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let size = ["--rounds", "2", "--series", "1000", "--samples", "2000", "--samples-per-request", "100"];
    let output = bench(&[&["compare", "--gateways", "vmagent,sluicegate", "--json", &path][..], &size].concat());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<_> = table.lines().filter(|line| line.contains(" -> remote_write")).collect();
    assert_eq!(rows.len(), 9, "{table}");
    assert_eq!(rows.iter().filter(|row| row.contains("| vmagent ")).count(), 3, "{table}");
    let result: Value = serde_json::from_reader(file).unwrap();
    let rounds = result["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2 * 9);
    assert!(rounds.iter().all(|round| round["samples"] == 2000 && round["series"] == 1000), "{result}");
    let turns: Vec<_> = rounds.iter().map(|round| &round["contender"]).collect();
    assert_eq!([turns[0], turns[1], turns[9], turns[10]], ["vmagent", "sluicegate", "sluicegate", "vmagent"]);
    assert!(result["machine"]["cores"].as_u64().unwrap() > 0);
}

#[test]
fn a_curve_has_every_size_and_the_latency_at_half_of_its_speed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().display().to_string();
    let curve =
        ["compare", "--gateways", "sluicegate", "--inputs", "influx_line", "--outputs", "1", "--series", "400,800"];
    let size = ["--connections", "1,4", "--rounds", "1", "--samples", "800", "--samples-per-request", "100"];
    let output = bench(&[&curve[..], &size, &["--json", &path]].concat());
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    let cells = |row: &str| -> Vec<String> { row.split('|').map(|cell| cell.trim().to_owned()).collect() };
    let rows: Vec<_> = table.lines().filter(|row| row.contains("| sluicegate ")).map(cells).collect();
    let sizes: Vec<_> = rows.iter().map(|cells| [&*cells[2], &*cells[3]]).collect();
    assert_eq!(sizes, [["400", "1"], ["400", "4"], ["800", "1"], ["800", "4"]], "{table}");
    assert!(table.contains("CPU s / M samples over 4 sizes of the load."), "{table}");

    let result: Value = serde_json::from_reader(file).unwrap();
    for round in result["rounds"].as_array().unwrap() {
        let number = |value: &Value| value.as_f64().unwrap();
        let half = &round["half_speed"];
        assert!((number(&half["rate"]) * 2.0 / number(&round["samples_per_second"]) - 1.0).abs() < 1e-9, "{round}");
        assert!(number(&half["latency"]["p50"]) > 0.0, "{round}");
        assert!(number(&half["latency"]["p99"]) >= number(&half["latency"]["p50"]), "{round}");
        assert_eq!(round["samples"], 800, "what is measured is the part at full speed");
    }
}

/// The real one was not at hand: this shows that one is found, told what it is to do, waited for, loaded and verified.
#[test]
fn an_installed_telegraf_is_compared() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let stand_in = folder.path().join("telegraf");
    let script = format!(
        "#!/bin/sh\n\
         [ \"$1\" = --version ] && {{ echo Telegraf stand-in; exit; }}\n\
         listen=$(sed -n 's/^service_address = //p' \"$2\") url=$(sed -n 's/^url = //p' \"$2\")\n\
         echo \"listen: {{ http: $listen }}\" > stand-in.yaml\n\
         echo \"outputs: [{{ name: o, prometheus_remote_write: {{ url: $url, version: 1 }} }}]\" >> stand-in.yaml\n\
         exec {PROGRAM} run --config stand-in.yaml\n"
    );
    std::fs::write(&stand_in, script).unwrap();
    std::fs::set_permissions(&stand_in, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let size = ["--rounds", "1", "--series", "400", "--samples", "400", "--samples-per-request", "100"];
    let mut command = Command::new(PROGRAM);
    command.args(["bench", "compare", "--gateways", "telegraf", "--inputs", "influx_line,remote_write"]).args(size);
    let output = command.env("PATH", path).stdin(Stdio::null()).output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{table}\n{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(table.lines().filter(|row| row.contains("| telegraf ")).count(), 1, "one path is its: {table}");
    assert!(table.contains("telegraf: Telegraf stand-in; it sent remote_write snappy."), "{table}");
}
