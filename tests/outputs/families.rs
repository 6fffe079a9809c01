//! Remote write 1.0 sends metadata in requests of its own: it is joined to the series wherever a destination has a place for
//! it, in whatever order the two come.

use super::*;
use prost::Message as _;
use sluicegate::wire::remote_write::messages::{Label, MetricMetadata, Sample, TimeSeries, WriteRequest};
use sluicegate::wire::{compression, remote_write2};

const COUNTER: i32 = 1;
const GAUGE: i32 = 2;
const HISTOGRAM: i32 = 3;
const ONE_LANE: &str = "queue_config: { batch_send_deadline: 5ms, max_shards: 1 }";

fn send(gw: &Gateway, request: &WriteRequest) {
    let body = compression::snappy(&request.encode_to_vec());
    assert_eq!(http::post(&gw.url("/api/v1/write"), body).status, 204);
}

/// Sends a sample of each metric, with the labels behind its name: `lat_bucket le=1`.
fn send_samples(gw: &Gateway, metrics: &[&str], milliseconds: i64) {
    let series = |metric: &&str| {
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let mut words = metric.split(' ');
        let name = label("__name__", words.next().unwrap());
        let labels =
            std::iter::once(name).chain(words.filter_map(|word| word.split_once('=')).map(|(n, v)| label(n, v)));
        let samples = vec![Sample { value: 1.0, timestamp: T / 1_000_000 + milliseconds }];
        TimeSeries { labels: labels.collect(), samples, ..TimeSeries::default() }
    };
    send(gw, &WriteRequest { timeseries: metrics.iter().map(series).collect(), ..WriteRequest::default() });
}

fn send_metadata(gw: &Gateway, families: &[(&str, i32, &str, &str)]) {
    let metadata = families.iter().map(|(family, metric_type, help, unit)| MetricMetadata {
        metric_family_name: (*family).to_owned(),
        r#type: *metric_type,
        help: (*help).to_owned(),
        unit: (*unit).to_owned(),
    });
    send(gw, &WriteRequest { metadata: metadata.collect(), ..WriteRequest::default() });
}

/// What the destination was last told of each metric: type, help and unit.
fn told(sink: &Destination) -> BTreeMap<String, (i32, String, String)> {
    let mut told = BTreeMap::new();
    for request in sink.requests() {
        let request = remote_write2::messages::Request::decode(&*request.body).unwrap();
        let symbol = |reference: u32| request.symbols[reference as usize].clone();
        for series in &request.timeseries {
            let mut labels = series.labels_refs.chunks_exact(2);
            let name = labels.find(|pair| symbol(pair[0]) == "__name__").unwrap()[1];
            let metadata = series.metadata.unwrap_or_default();
            told.insert(symbol(name), (metadata.r#type, symbol(metadata.help_ref), symbol(metadata.unit_ref)));
        }
    }
    told
}

fn expect(sink: &Destination, metric: &str, metric_type: i32, help: &str, unit: &str) {
    let expected = (metric_type, help.to_owned(), unit.to_owned());
    eventually(SLOW, || match told(sink).get(metric) {
        Some(got) if *got == expected => Ok(()),
        got => Err(format!("{metric}: {got:?}")),
    });
}

#[test]
fn metadata_before_or_behind_the_samples_reaches_remote_write_2() {
    let sink = destination::remote_write();
    let gw = gateway().to_kind("prom", RW, &sink, &format!("version: 2, {ONE_LANE}")).start();
    let parts = ["lat_bucket le=1", "lat_sum", "lat_count", "lat_other"];
    send_metadata(&gw, &[("lat", HISTOGRAM, "Latency.", "seconds")]);
    send_samples(&gw, &parts, 0);
    for part in ["lat_bucket", "lat_sum", "lat_count"] {
        expect(&sink, part, HISTOGRAM, "Latency.", "seconds");
    }
    expect(&sink, "lat_other", 0, "", "");

    // Samples first; then only the series of that family are looked at again.
    send_samples(&gw, &["jobs_total", "jobs_count"], 0);
    expect(&sink, "jobs_total", 0, "", "");
    send_metadata(&gw, &[("jobs", COUNTER, "Jobs.", "")]);
    send_samples(&gw, &["jobs_total", "jobs_count"], 1);
    expect(&sink, "jobs_total", COUNTER, "Jobs.", "");
    expect(&sink, "jobs_count", 0, "", "");

    // The last to speak is right.
    send_metadata(&gw, &[("lat", GAUGE, "Something else.", "")]);
    send_samples(&gw, &["lat", "lat_sum", "lat_count"], 2);
    expect(&sink, "lat", GAUGE, "Something else.", "");
    expect(&sink, "lat_sum", 0, "", "");

    // A name of its own goes before the stem of another.
    send_metadata(&gw, &[("lat", HISTOGRAM, "Latency.", ""), ("lat_count", GAUGE, "Own.", "")]);
    send_samples(&gw, &["lat_sum", "lat_count"], 3);
    expect(&sink, "lat_sum", HISTOGRAM, "Latency.", "");
    expect(&sink, "lat_count", GAUGE, "Own.", "");
    assert_eq!(gw.metric("sluicegate_families", &[]), 3.0);
    gw.drained();
    assert_eq!(gw.dropped("prom"), []);

    let page = http::get(&gw.url("/scrape")).text();
    for line in
        ["# HELP lat Latency.\n# TYPE lat histogram\n", "# TYPE jobs_total counter\n", "# TYPE lat_count gauge\n"]
    {
        assert!(page.contains(line), "no {line:?} in {page}");
    }
}

#[test]
fn what_an_output_reads_back_after_a_crash_has_its_types() {
    let down = destination::remote_write().rule(|_| Some(status(503)));
    let sink = destination::remote_write();
    let keys = format!("version: 2, {ONE_LANE}");
    let gw = gateway().to_kind("prom", RW, &down, &keys).start();
    // What is pending before the metadata keeps it among what is read back.
    send_samples(&gw, &["first"], 0);
    send_metadata(&gw, &[("lat", HISTOGRAM, "Latency.", "")]);
    send_samples(&gw, &["lat_sum"], 0);
    down.await_requests(1);
    let gw = gw.crash_and_restart_as(gateway().to_kind("prom", RW, &sink, &keys));
    expect(&sink, "lat_sum", HISTOGRAM, "Latency.", "");
    send_samples(&gw, &["lat_count"], 0);
    expect(&sink, "lat_count", HISTOGRAM, "Latency.", "");
}

#[test]
fn rows_of_families_need_the_types_and_get_them() {
    let sink = destination::http();
    let keys = format!("database: d, preset: telegraf_v1, gzip: false, {ONE_LANE}");
    let gw = gateway().to_kind("influx", "influxdb", &sink, &keys).start();
    send_samples(&gw, &["lat_bucket le=0.50", "lat_sum"], 0);
    sink.expect("lat_bucket,le=0.50 value=1 ");
    send_metadata(&gw, &[("lat", HISTOGRAM, "Latency.", "")]);
    send_samples(&gw, &["lat_bucket le=0.50", "lat_bucket le=+Inf", "lat_sum", "lat_count"], 1);
    sink.expect("lat 0.5=1,+Inf=1,sum=1,count=1 ");
    gw.drained();
    assert_eq!(gw.dropped("influx"), []);
}

#[test]
fn strings_become_labels_where_an_output_asks_for_it() {
    let (label, info, drop) = (destination::remote_write(), destination::remote_write(), destination::remote_write());
    let rules = "write_relabel_configs: [{ source_labels: [__name__], regex: cpu_value, action: keep }]";
    let gw = gateway()
        .to_kind("label", RW, &label, "preset: telegraf_v1")
        .to_kind("info", RW, &info, "strings: info")
        .to_kind("drop", RW, &drop, &format!("value_field: keep, {rules}"))
        .start();
    gw.post_influx(&format!(
        "cpu,host=a state=\"ok\",idle=1,value=2 {T}\ncpu,host=a state=\"bad\",idle=3 {}\n",
        T + 1_000_000
    ));
    gw.drained();
    let milliseconds = T / 1_000_000;
    label.expect(&format!("cpu_idle{{host=\"a\",state=\"ok\"}} 1 {milliseconds}"));
    label.expect(&format!("cpu{{host=\"a\",state=\"ok\"}} 2 {milliseconds}"));
    label.expect(&format!("cpu_idle{{host=\"a\",state=\"bad\"}} 3 {}", milliseconds + 1));
    info.expect(&format!("cpu_idle{{host=\"a\"}} 1 {milliseconds}"));
    info.expect(&format!("cpu_state_info{{host=\"a\",state=\"ok\"}} 1 {milliseconds}"));
    drop.expect(&format!("cpu_value{{host=\"a\"}} 2 {milliseconds}"));
    for output in ["label", "info"] {
        assert_eq!((gw.delivered(output), gw.dropped(output)), (5.0, Vec::new()), "{output}");
    }
    // Rules see the names that the output gives.
    assert_eq!(gw.dropped("drop"), [("relabel".to_owned(), 4.0)]);
}
