//! The harness itself, without the gateway: the real servers start, talk to each other and are read back.

use crate::support::component::{client, needs};
use crate::support::destinations::{self, promql_value};
use crate::support::http;
use crate::support::server::eventually;
use crate::support::wavefront_proxy::WavefrontProxy;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn prometheus_hands_node_metrics_to_another_sample_for_sample() {
    needs!("prometheus_hands_node_metrics_to_another", "prometheus", "prometheus-node-exporter");
    let destination = destinations::prometheus_receiver();
    let node = destinations::node_exporter();
    let target = format!("127.0.0.1:{}", node.port());
    let mut source = destinations::prometheus_client(&target, &destination.url("/api/v1/write"));
    eventually(SOON, || match promql_value(&destination, "count(up)") {
        Ok(1.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(node);
    // Stale markers end the series; from then on their samples stand still.
    eventually(SOON, || match destinations::promql(&source, "node_load1").len() {
        0 => Ok(()),
        _ => Err("node_load1 is still alive".to_owned()),
    });
    let sent = destinations::prometheus_samples(&source, "{__name__=~'node_.*'}", "10m");
    assert!(source.terminate().success());
    eventually(SOON, || {
        let got = destinations::prometheus_samples(&destination, "{__name__=~'node_.*'}", "10m");
        if got == sent { Ok(()) } else { Err(format!("{} series of {}", got.len(), sent.len())) }
    });
    assert!(sent.len() > 100, "a node has more than {} series", sent.len());
    assert_eq!(destinations::prometheus_series(&destination, "node_load1").len(), 1);
}

#[test]
fn influxdb_keeps_types_and_answers_queries() {
    needs!("influxdb_keeps_types_and_answers_queries", "influxd", "influx");
    let influx = destinations::influxdb();
    destinations::influxql(&influx, "", "CREATE DATABASE m");
    let answer = http::post(&influx.url("/write?db=m"), "cpu,host=a value=0.1,n=3i,s=\"x\",b=true 1700000000123000000");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let rows = destinations::influxql(&influx, "m", "SELECT * FROM cpu");
    assert_eq!(rows[0]["columns"].to_string(), r#"["time","b","host","n","s","value"]"#);
    assert_eq!(rows[0]["values"][0].to_string(), r#"[1700000000123000000,true,"a",3,"x",0.1]"#);
    let samples = destinations::influx_samples(&influx, "m", "cpu");
    let points: Vec<_> = samples.values().collect();
    assert_eq!(points, [&vec![(1_700_000_000_123, 0.1_f64.to_bits())]]);
    let printed = destinations::influx_cli(&influx, "m", "SHOW MEASUREMENTS");
    assert!(printed.contains("measurements,cpu"), "{printed}");
}

#[test]
fn vmagent_forwards_text_to_victoria_metrics() {
    needs!("vmagent_forwards_text_to_victoria_metrics", "vmagent", "victoria-metrics");
    let destination = destinations::victoria_metrics();
    let agent = destinations::vmagent(&destination.url("/api/v1/write"));
    let answer = http::post(&agent.url("/api/v1/import/prometheus"), "queue_length{queue=\"q\"} 7\n");
    assert_eq!(answer.status, 204, "{}", answer.text());
    eventually(SOON, || match promql_value(&destination, "queue_length{queue='q'}") {
        Ok(7.0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn pushgateway_keeps_what_is_pushed() {
    needs!("pushgateway_keeps_what_is_pushed", "prometheus-pushgateway");
    let gateway = destinations::pushgateway();
    let answer = http::send("PUT", &gateway.url("/metrics/job/batch"), &[], b"done 1\n");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = http::get(&gateway.url("/metrics")).text();
    assert!(page.contains("done{instance=\"\",job=\"batch\"} 1"), "{page}");
}

#[test]
fn wavefront_stand_in_takes_good_lines_and_keeps_bad_ones_apart() {
    let proxy = WavefrontProxy::start();
    // Proxies refuse what is older than a year.
    let seconds = sluicegate::clock::now() / 1_000_000_000;
    let lines = format!("\"a.b\" 1.5 {seconds} source=\"h\" \"k\"=\"x \\\"y\\\"\"\nnot a point\n");
    assert_eq!(http::post(&format!("{}/report?f=wavefront", proxy.url()), lines).status, 202);
    let points = proxy.points();
    assert_eq!(points.len(), 1, "{:?}", proxy.rejected());
    assert_eq!((points[0].name.as_str(), points[0].source.as_str(), points[0].value), ("a.b", "h", 1.5));
    assert_eq!((points[0].timestamp_ms, points[0].tags["k"].as_str()), (seconds * 1000, "x \"y\""));
    assert_eq!(proxy.rejected().len(), 1);
}

#[test]
fn client_scripts_are_right_about_the_servers_they_were_made_for() {
    needs!("client_scripts_are_right", "python", "prometheus-pushgateway", "influxd");
    let pushgateway = destinations::pushgateway();
    for (step, shown, hidden) in
        [("push", "py_last", "py_more"), ("pushadd", "py_more", "py_only"), ("replace", "py_only", "py_last")]
    {
        client("pushgateway.py", &[&pushgateway.url(""), step]);
        let page = http::get(&pushgateway.url("/metrics")).text();
        assert!(page.contains(shown) && !page.contains(hidden), "{step}: {page}");
    }
    client("pushgateway.py", &[&pushgateway.url(""), "delete"]);
    assert!(!http::get(&pushgateway.url("/metrics")).text().contains("py_"), "delete ends the group");

    let influx = destinations::influxdb();
    client("influx_v1.py", &[&influx.port().to_string()]);
    let rows = destinations::influxql(&influx, "metrics", "SELECT count(n) FROM py_v1 GROUP BY gzip");
    assert_eq!(rows.len(), 2, "{rows:?}");

    let proxy = WavefrontProxy::start();
    client("wavefront.py", &[&proxy.url()]);
    let names: Vec<String> = proxy.points().into_iter().map(|point| point.name).collect();
    assert!(names.contains(&"py.wf-requests".to_owned()), "{names:?}, {:?}", proxy.rejected());
}
