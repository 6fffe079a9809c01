//! Names and types as real programs have them: vmagent's preset beside vmagent, and the metadata of a real Prometheus.

use crate::support::component::needs;
use crate::support::destination::{self, Destination, ToDestination};
use crate::support::destinations;
use crate::support::gateway::gateway;
use crate::support::http;
use crate::support::server::eventually;
use prost::Message as _;
use sluicegate::wire::remote_write2;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
const LINES: &str = "cpu,host=A,region=west usage_system=64i,usage_user=10i 1700000000000000000\n\
    m value=1 1700000000000000000\nm-x/y,a.b=c d=1.5 1700000000000000000\nm ok=true,no=false 1700000000000000000\n\
    9cpu a-=7u 1700000000000000000\nprometheus,code=400 http_requests_total=3 1700000000000000000\n\
    ü,h=é ö=2 1700000000000000000\n";

#[test]
fn the_preset_of_vmagent_names_series_as_vmagent_does() {
    needs!("the_preset_of_vmagent_names_series_as_vmagent_does", "vmagent");
    let (theirs, ours) = (destination::remote_write(), destination::remote_write());
    let vmagent = destinations::vmagent(&theirs.address());
    let gateway = gateway().to_kind("prom", "prometheus_remote_write", &ours, "version: 1, preset: vmagent").start();
    for url in [vmagent.url("/write"), gateway.url("/write?db=d")] {
        assert_eq!(http::post(&url, LINES).status, 204);
    }
    gateway.drained();
    let lines = |sink: &Destination| sink.lines().into_iter().collect::<BTreeSet<_>>();
    eventually(SOON, || if lines(&theirs).len() == 9 { Ok(()) } else { Err(format!("{:?}", lines(&theirs))) });
    assert_eq!(lines(&ours), lines(&theirs));
}

/// Type and help of each metric that was sent.
fn told(sink: &Destination) -> BTreeMap<String, (i32, String)> {
    let mut told = BTreeMap::new();
    for request in sink.requests() {
        let request = remote_write2::messages::Request::decode(&*request.body).expect("a message of 2.0");
        let symbol = |reference: u32| request.symbols[reference as usize].clone();
        for series in &request.timeseries {
            let name = series.labels_refs.chunks_exact(2).find(|pair| symbol(pair[0]) == "__name__");
            let metadata = series.metadata.unwrap_or_default();
            told.extend(name.map(|name| (symbol(name[1]), (metadata.r#type, symbol(metadata.help_ref)))));
        }
    }
    told
}

#[test]
fn the_types_a_prometheus_sends_apart_reach_remote_write_2() {
    needs!("the_types_a_prometheus_sends_apart_reach_remote_write_2", "prometheus", "prometheus-node-exporter");
    let sink = destination::remote_write();
    let gateway = gateway().to_kind("prom", "prometheus_remote_write", &sink, "version: 2").start();
    let node = destinations::node_exporter();
    let _source = destinations::prometheus_client(&format!("127.0.0.1:{}", node.port()), &gateway.url("/api/v1/write"));
    for (metric, metric_type, help) in [
        ("node_load1", 2, "1m load average."),
        ("node_cpu_seconds_total", 1, "Seconds the CPUs spent in each mode."),
        ("go_gc_duration_seconds_sum", 5, "garbage collection"),
    ] {
        eventually(SOON, || match told(&sink).get(metric) {
            Some((got, text)) if *got == metric_type && text.contains(help) => Ok(()),
            got => Err(format!("{metric}: {got:?}")),
        });
    }
    let page = http::get(&gateway.url("/scrape")).text();
    for declaration in ["# TYPE node_load1 gauge\n", "# TYPE go_gc_duration_seconds summary\n"] {
        assert!(page.contains(declaration), "no {declaration:?}");
    }
}

#[test]
fn what_two_requests_bring_of_a_family_is_one_point_in_influxdb() {
    needs!("what_two_requests_bring_of_a_family_is_one_point_in_influxdb", "influxd");
    let influx = destinations::influxdb();
    destinations::influxql(&influx, "", "CREATE DATABASE metrics");
    let block = format!("influxdb: {{ url: \"{}\", database: metrics, preset: telegraf_v1 }}", influx.url(""));
    let gateway = gateway().output("influx", &block).start();
    for samples in ["lat_bucket{le=\"0.50\"} 1 AT\nlat_bucket{le=\"+Inf\"} 3 AT\n", "lat_sum 2.5 AT\nlat_count 3 AT\n"]
    {
        let body = format!("# TYPE lat histogram\n{}", samples.replace("AT", "1700000000000"));
        assert_eq!(http::post(&gateway.url("/api/v1/import/prometheus"), body).status, 204);
        gateway.drained();
    }
    let rows = destinations::influxql(&influx, "metrics", "SELECT * FROM lat");
    assert_eq!(rows[0]["columns"], serde_json::json!(["time", "+Inf", "0.5", "count", "sum"]));
    assert_eq!(rows[0]["values"], serde_json::json!([[1_700_000_000_000_000_000_i64, 3, 1, 3, 2.5]]));
    assert_eq!(gateway.dropped("influx"), []);
}
