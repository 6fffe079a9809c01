//! Bad samples among good ones, refused by the real servers: the good ones are there, the bad ones are kept.

use crate::support::component::needs;
use crate::support::destinations::{self, promql_value};
use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::eventually;
use serde_json::json;
use sluicegate::clock;
use std::process::Command;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;
const WITHIN: Duration = Duration::from_secs(30);

fn post(gateway: &Gateway, lines: &str) {
    let answer = http::post(&gateway.url("/write?db=metrics"), lines);
    assert_eq!(answer.status, 204, "{}", answer.text());
}

fn dead_letters(gateway: &Gateway, output: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["log", "inspect", "--dead-letters", output, "--dir"]).arg(gateway.log_dir());
    String::from_utf8(command.output().expect("it runs").stdout).expect("text")
}

fn refused(gateway: &Gateway, output: &str) -> Vec<(String, f64)> {
    assert_eq!(gateway.metric("sluicegate_output_misconfigured", &[("output", output)]), 0.0);
    gateway.dropped(output)
}

#[test]
fn prometheus_gets_all_but_the_sample_that_is_out_of_order() {
    needs!("prometheus_gets_all_but_the_sample_that_is_out_of_order", "prometheus");
    let prometheus = destinations::prometheus_receiver();
    let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
    let now = clock::now() / SECOND * SECOND;
    let row = |host: usize, value: i64, at: i64| format!("cpu,host=h{host} v={value} {at}\n");
    post(&gateway, &(0..10).map(|host| row(host, 1, now - 10 * SECOND)).collect::<String>());
    gateway.drained();
    // One sample of one series is older than what is there; a newer one of the same series follows it.
    let bad = row(3, 2, now - 20 * SECOND);
    post(&gateway, &(bad + &(0..10).map(|host| row(host, 3, now)).collect::<String>()));
    gateway.drained();
    assert_eq!(refused(&gateway, "prom"), [("refused_by_destination".to_owned(), 1.0)]);
    let query = format!("count(cpu_v @ {} == 3)", now / SECOND);
    assert_eq!(promql_value(&prometheus, &query), Ok(10.0));
    let text = dead_letters(&gateway, "prom");
    assert!(text.contains("400 out of order sample") && text.contains("cpu_v{host=\"h3\"} 2.0"), "{text}");
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn influxdb_gets_all_but_the_fields_of_another_type() {
    needs!("influxdb_gets_all_but_the_fields_of_another_type", "influxd", "influx");
    let influx = destinations::influxdb();
    destinations::influxql(&influx, "", "CREATE DATABASE metrics");
    let gateway = gateway().with_influxdb(&influx.url(""), "metrics").start();
    let now = clock::now();
    post(&gateway, &format!("cpu,host=first v=1i {now}\n"));
    gateway.drained();
    let lines = |host: usize| match host {
        // An integer as a float, in two of two hundred lines; the same field of another measurement is as it should be.
        7 | 70 => format!("cpu,host=h{host} v=1.5,w=2i {now}\n"),
        _ if host.is_multiple_of(2) => format!("mem,host=h{host} v=1.5 {now}\n"),
        _ => format!("cpu,host=h{host} v=1i {now}\n"),
    };
    post(&gateway, &(0..200).map(lines).collect::<String>());
    gateway.drained();
    assert_eq!(refused(&gateway, "influx"), [("refused_by_destination".to_owned(), 4.0)], "two fields in each line");
    let count = |measurement: &str| {
        destinations::influxql(&influx, "metrics", &format!("SELECT count(v) FROM {measurement}"))[0]["values"][0][1]
            .clone()
    };
    assert_eq!((count("cpu"), count("mem")), (json!(100), json!(99)));
    let text = dead_letters(&gateway, "influx");
    assert!(text.contains("field type conflict"), "{text}");
    let samples: Vec<_> = text.lines().filter(|line| !line.contains(" samples")).collect();
    assert_eq!(samples.len(), 4, "{text}");
    assert!(samples.iter().all(|line| line.contains("host=\"h7\"") || line.contains("host=\"h70\"")), "{text}");
    // One request a lane and a post, and where a line was found two more: the words name only one reason, and do not say where.
    let requests = gateway.metric("sluicegate_output_requests_total", &[]);
    assert!(requests <= 9.0, "{requests}");
}

#[test]
fn influxdb_keeps_a_line_of_another_shard_that_its_words_fit() {
    needs!("influxdb_keeps_a_line_of_another_shard_that_its_words_fit", "influxd", "influx");
    let influx = destinations::influxdb();
    destinations::influxql(&influx, "", "CREATE DATABASE metrics");
    let one = "queue_config: { max_shards: 1, batch_send_deadline: 100ms }";
    let block = format!("influxdb: {{ url: \"{}\", database: metrics, {one} }}", influx.url(""));
    let gateway = gateway().output("influx", &block).start();
    let now = clock::now();
    let old = now - 60 * 86_400 * SECOND;
    // Two conflicts in the old shard, each in another field, of which one is told; in the new one is nothing to conflict with.
    for (round, [first, second]) in [["v", "w"], ["w", "v"]].into_iter().enumerate() {
        post(&gateway, &format!("cpu{round} v=1i,w=1i {old}\n"));
        gateway.drained();
        let olds = format!("cpu{round} {first}=1.5 {}\ncpu{round} {second}=1.5 {}\n", old + 1, old + 2);
        post(&gateway, &format!("{olds}cpu{round} v=2.5 {now}\ncpu{round} w=2.5 {}\n", now + 1));
        gateway.drained();
        let expected = 2.0 * (round + 1) as f64;
        assert_eq!(refused(&gateway, "influx"), [("refused_by_destination".to_owned(), expected)], "{first} first");
        let text = dead_letters(&gateway, "influx");
        assert!(text.contains("w=1.5") && text.contains("v=1.5") && !text.contains("2.5"), "{text}");
        for (field, at) in [("v", now), ("w", now + 1)] {
            let query = format!("SELECT {field} FROM cpu{round} WHERE time = {at}");
            assert_eq!(destinations::influxql(&influx, "metrics", &query)[0]["values"][0][1], json!(2.5));
        }
    }
}

#[test]
fn victoria_metrics_under_a_mistyped_path_costs_nothing() {
    needs!("victoria_metrics_under_a_mistyped_path_costs_nothing", "victoria-metrics");
    let victoria = destinations::victoria_metrics();
    let mut gateway = gateway().with_prometheus(&victoria.url("/api/v1/wirte")).start();
    let now = clock::now() / SECOND * SECOND;
    post(&gateway, &(0..300).map(|host| format!("cpu,host=h{host} v={host} {now}\n")).collect::<String>());
    eventually(WITHIN, || match gateway.metric("sluicegate_output_misconfigured", &[]) {
        1.0 => Ok(()),
        _ => Err(format!("{}", gateway.status())),
    });
    assert_eq!(gateway.dropped("prom"), []);
    let error = gateway.status()["outputs"][0]["last_error"].to_string();
    assert!(error.contains("unsupported path requested"), "{error}");
    gateway.server().terminate();
    let gateway = gateway
        .crash_and_restart_as(crate::support::gateway::gateway().with_prometheus(&victoria.url("/api/v1/write")));
    gateway.drained();
    assert_eq!(refused(&gateway, "prom"), []);
    let query = format!("count(cpu_v @ {})", now / SECOND);
    eventually(WITHIN, || match promql_value(&victoria, &query) {
        Ok(300.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}
