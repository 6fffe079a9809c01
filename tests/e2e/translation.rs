//! Line protocol and text in, every kind of output: each destination gets what it can express, the ledger has the rest.

use crate::support::component::needs;
use crate::support::destinations::{self, promql_value};
use crate::support::everywhere::{Everywhere, everywhere};
use crate::support::gateway::gateway;
use crate::support::http;
use serde_json::json;
use sluicegate::clock;
use std::time::Duration;

const SECOND: i64 = 1_000_000_000;

/// A timestamp that every destination takes: now, in whole milliseconds.
fn now_ns() -> i64 {
    clock::now() / 1_000_000 * 1_000_000
}

#[test]
fn rows_come_back_as_rows_and_become_series_elsewhere() {
    needs!("rows_come_back_as_rows_and_become_series_elsewhere", "influxd", "prometheus");
    let (Everywhere { prometheus, influx, wavefront }, gateway) = everywhere();
    let now = now_ns();
    let (first, second) = (now - SECOND, now);
    let lines = format!(
        "disk,host=db\\ 1,path=/ free=0.1,used=9007199254740993i,state=\"ok, so far\",ok=true {first}\n\
         disk,host=db\\ 1,path=/ free=1e-300,used=-1i,state=\"\",ok=false {second}\n\
         load,host=db\\ 1 value=0.5 {second}\n"
    );
    let answer = http::post(&gateway.url("/write?db=metrics"), lines);
    assert_eq!(answer.status, 204, "{}", answer.text());
    gateway.drained();

    let rows = destinations::influxql(&influx, "metrics", "SELECT free,used,state,ok FROM disk GROUP BY *");
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["tags"], json!({"host": "db 1", "path": "/"}));
    assert_eq!(
        rows[0]["values"],
        json!([[first, 0.1, 9_007_199_254_740_993_i64, "ok, so far", true], [second, 1e-300, -1, "", false]])
    );
    let types = destinations::influxql(&influx, "metrics", "SHOW FIELD KEYS FROM disk");
    assert_eq!(
        types[0]["values"],
        json!([["free", "float"], ["ok", "boolean"], ["state", "string"], ["used", "integer"]])
    );
    let cli = destinations::influx_cli(&influx, "metrics", "SHOW SERIES FROM load");
    assert!(cli.contains("load,host=db\\ 1") || cli.contains("load\\,host=db\\ 1"), "{cli}");

    let time = second as f64 / 1e9;
    for (query, value) in [
        ("disk_free{host='db 1',path='/'} @ TIME", 1e-300),
        ("disk_used{host='db 1'} @ TIME", -1.0),
        ("disk_ok{host='db 1'} @ TIME", 0.0),
        ("load{host='db 1'} @ TIME", 0.5),
        ("max_over_time(disk_used[1m] @ TIME)", 9_007_199_254_740_992.0),
    ] {
        assert_eq!(promql_value(&prometheus, &query.replace("TIME", &time.to_string())), Ok(value), "{query}");
    }
    assert_eq!(gateway.dropped("prom"), [("string_value".to_owned(), 2.0)]);
    assert_eq!(gateway.dropped("influx"), []);
    assert_eq!(gateway.dropped("wf"), [("string_value".to_owned(), 2.0)]);
    let rounded =
        gateway.metric("sluicegate_translation_losses_total", &[("output", "prom"), ("reason", "integer_rounded")]);
    assert!(rounded == 1.0, "one integer lies beyond 2^53, {rounded} counted");

    let mut names: Vec<String> = wavefront.points().into_iter().map(|point| point.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names, ["disk.free", "disk.ok", "disk.used", "load"]);
    assert!(wavefront.points().iter().all(|point| point.source == "db 1"), "{:?}", wavefront.points());
    assert_eq!(wavefront.rejected(), [""; 0]);
}

#[test]
fn every_precision_names_the_same_instant() {
    needs!("every_precision_names_the_same_instant", "influxd");
    let influx = destinations::influxdb();
    destinations::influxql(&influx, "", "CREATE DATABASE metrics");
    let gateway = gateway().with_influxdb(&influx.url(""), "metrics").start();
    let hour = 3600 * SECOND;
    let instant = clock::now() / hour * hour;
    let cases = [
        ("/write?db=metrics", 1),
        ("/write?db=metrics&precision=n", 1),
        ("/write?db=metrics&precision=u", 1_000),
        ("/write?db=metrics&precision=ms", 1_000_000),
        ("/write?db=metrics&precision=s", SECOND),
        ("/write?db=metrics&precision=m", 60 * SECOND),
        ("/write?db=metrics&precision=h", hour),
        ("/api/v2/write?org=o&bucket=metrics", 1),
        ("/api/v2/write?org=o&bucket=metrics&precision=us", 1_000),
        ("/api/v2/write?org=o&bucket=metrics&precision=s", SECOND),
        ("/api/v3/write_lp?db=metrics&precision=nanosecond", 1),
        ("/api/v3/write_lp?db=metrics&precision=microsecond", 1_000),
        ("/api/v3/write_lp?db=metrics&precision=second", SECOND),
        ("/api/v3/write_lp?db=metrics&precision=auto", SECOND),
    ];
    for (at, (path, unit)) in cases.iter().enumerate() {
        let line = format!("tick,case=c{at} value={at} {}", instant / unit);
        let answer = http::post(&gateway.url(path), line);
        assert_eq!(answer.status, 204, "{path}: {}", answer.text());
    }
    gateway.drained();
    for (at, (path, _)) in cases.iter().enumerate() {
        let query = format!("SELECT value FROM tick WHERE \"case\" = 'c{at}'");
        let rows = destinations::influxql(&influx, "metrics", &query);
        let values = rows.first().map(|series| series["values"].clone());
        assert_eq!(values, Some(json!([[instant, at]])), "{path}");
    }
}

#[test]
fn text_and_openmetrics_arrive_with_labels_as_written() {
    needs!("text_and_openmetrics_arrive_with_labels_as_written", "influxd", "prometheus");
    let (Everywhere { prometheus, influx, wavefront }, gateway) = everywhere();
    let milliseconds = clock::now() / 1_000_000;
    let text = format!(
        "# HELP lat Latency.\n# TYPE lat histogram\n\
         lat_bucket{{le=\"0.10\"}} 1 {milliseconds}\nlat_bucket{{le=\"+Inf\"}} 3 {milliseconds}\n\
         lat_sum 0.7 {milliseconds}\nlat_count 3 {milliseconds}\n\
         path{{name=\"C:\\\\dir \\\"x\\\"\\nend\"}} 1 {milliseconds}\n\
         nothing NaN {milliseconds}\n"
    );
    let answer = http::post(&gateway.url("/api/v1/import/prometheus?extra_label=site%3Dhome"), text);
    assert_eq!(answer.status, 204, "{}", answer.text());
    let seconds = milliseconds as f64 / 1e3;
    let open = format!("# TYPE jobs counter\njobs_total{{q=\"a\"}} 17.0 {seconds} # {{trace_id=\"abc\"}} 1.0\n# EOF\n");
    let kind = [("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    let answer = http::send("POST", &gateway.url("/api/v1/import/prometheus"), &kind, open.as_bytes());
    assert_eq!(answer.status, 204, "{}", answer.text());
    gateway.drained();

    let at = |query: &str| promql_value(&prometheus, &format!("{query} @ {seconds}"));
    assert_eq!(at("lat_bucket{le='0.10',site='home'}"), Ok(1.0));
    assert_eq!(at("lat_bucket{le='+Inf'}"), Ok(3.0));
    assert_eq!(at("lat_sum"), Ok(0.7));
    assert_eq!(at(r#"path{name="C:\\dir \"x\"\nend"}"#), Ok(1.0));
    assert_eq!(at("jobs_total{q='a'}"), Ok(17.0));
    assert!(at("nothing").is_ok_and(f64::is_nan));

    let buckets = destinations::influx_samples(&influx, "metrics", "^lat_bucket$");
    let bounds: Vec<&str> = buckets.keys().map(|(_, labels)| labels["le"].as_str()).collect();
    assert_eq!(bounds, ["+Inf", "0.10"]);
    assert_eq!(gateway.dropped("prom"), []);
    assert_eq!(gateway.dropped("influx"), [("non_finite".to_owned(), 1.0)]);
    assert_eq!(gateway.dropped("wf"), [("non_finite".to_owned(), 1.0)]);
    assert_eq!(wavefront.rejected(), [""; 0]);
    assert_eq!(wavefront.points().len(), 6);
}

#[test]
fn victoria_metrics_takes_remote_write_and_line_protocol() {
    needs!("victoria_metrics_takes_remote_write_and_line_protocol", "victoria-metrics");
    let by_remote_write = destinations::victoria_metrics();
    let by_lines = destinations::victoria_metrics();
    let gateway = gateway()
        .with_prometheus(&by_remote_write.url("/api/v1/write"))
        .with_influxdb(&by_lines.url(""), "metrics")
        .start();
    let answer = http::post(&gateway.url("/write?db=metrics"), format!("temp,room=hall c=21.5,n=4i {}", now_ns()));
    assert_eq!(answer.status, 204, "{}", answer.text());
    gateway.drained();
    for server in [&by_remote_write, &by_lines] {
        for (query, value) in [("temp_c{room='hall'}", 21.5), ("temp_n{room='hall'}", 4.0)] {
            crate::support::server::eventually(Duration::from_secs(30), || match promql_value(server, query) {
                Ok(got) if got == value => Ok(()),
                other => Err(format!("{query}: {other:?}")),
            });
        }
    }
    assert_eq!(gateway.dropped("prom"), []);
    assert_eq!(gateway.dropped("influx"), []);
}
