//! The real servers: Prometheus, node_exporter, InfluxDB, VictoriaMetrics, vmagent, Pushgateway; and what they hold.

use crate::support::http;
use crate::support::server::{Server, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// A series as its name and labels without the name.
pub(crate) type SeriesKey = (String, BTreeMap<String, String>);
/// The samples of each series, as (milliseconds, bits of the value), in time order.
pub(crate) type Samples = BTreeMap<SeriesKey, Vec<(i64, u64)>>;

fn folder() -> TempDir {
    TempDir::new().expect("temporary folder")
}

fn write(dir: &TempDir, name: &str, text: &str) -> String {
    let path = dir.path().join(name);
    fs::write(&path, text).expect("configuration written");
    path.display().to_string()
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

fn prometheus(config: &str, port: u16, dir: TempDir) -> Server {
    let config = write(&dir, "prometheus.yml", config);
    let mut command = Command::new("prometheus");
    command.args([
        &format!("--config.file={config}"),
        &format!("--storage.tsdb.path={}", path(&dir, "data")),
        &format!("--web.listen-address=127.0.0.1:{port}"),
        "--web.enable-remote-write-receiver",
        "--enable-feature=native-histograms",
        "--log.level=info",
    ]);
    Server::start("prometheus", command, port, "/-/ready", dir)
}

/// A Prometheus that takes remote write and does nothing else.
pub(crate) fn prometheus_receiver() -> Server {
    prometheus_receiver_at(free_port())
}

/// The same on a port that was chosen before.
pub(crate) fn prometheus_receiver_at(port: u16) -> Server {
    prometheus("global: {}\n", port, folder())
}

/// A Prometheus that scrapes `target` (host:port) every second and remote-writes all it has to `write_url`.
pub(crate) fn prometheus_client(target: &str, write_url: &str) -> Server {
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: node
    static_configs: [{{ targets: ['{target}'] }}]
remote_write:
  - url: '{write_url}'
    queue_config: {{ batch_send_deadline: 1s }}
    metadata_config: {{ send_interval: 1s }}
"
    );
    prometheus(&config, free_port(), folder())
}

/// A Prometheus that scrapes a page of `target` (host:port) every second.
pub(crate) fn prometheus_scraping(target: &str, page: &str) -> Server {
    let config = format!(
        "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}
scrape_configs:
  - job_name: page
    honor_labels: true
    metrics_path: '{page}'
    static_configs: [{{ targets: ['{target}'] }}]
"
    );
    prometheus(&config, free_port(), folder())
}

/// A node_exporter of this machine.
pub(crate) fn node_exporter() -> Server {
    let (port, dir) = (free_port(), folder());
    let mut command = Command::new("prometheus-node-exporter");
    command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Server::start("node_exporter", command, port, "/metrics", dir)
}

/// An InfluxDB 1.x with nothing in it.
pub(crate) fn influxdb() -> Server {
    let (port, rpc, dir) = (free_port(), free_port(), folder());
    let config = format!(
        "reporting-disabled = true
bind-address = \"127.0.0.1:{rpc}\"
[meta]
  dir = \"{meta}\"
[data]
  dir = \"{data}\"
  wal-dir = \"{wal}\"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = \"127.0.0.1:{port}\"
  log-enabled = false
[ifql]
  enabled = false
",
        meta = path(&dir, "meta"),
        data = path(&dir, "data"),
        wal = path(&dir, "wal"),
    );
    let config = write(&dir, "influxdb.conf", &config);
    let mut command = Command::new("influxd");
    command.args(["-config", &config]);
    Server::start("influxd", command, port, "/ping", dir)
}

/// A VictoriaMetrics with nothing in it; what is written is seen by queries at once.
pub(crate) fn victoria_metrics() -> Server {
    let (port, dir) = (free_port(), folder());
    let mut command = Command::new("victoria-metrics");
    command.args([
        &format!("-httpListenAddr=127.0.0.1:{port}"),
        &format!("-storageDataPath={}", path(&dir, "data")),
        "-retentionPeriod=1y",
        "-search.latencyOffset=0s",
        "-search.disableCache",
    ]);
    Server::start("victoria-metrics", command, port, "/health", dir)
}

/// A vmagent that remote-writes what it is given to `write_url`.
pub(crate) fn vmagent(write_url: &str) -> Server {
    let (port, dir) = (free_port(), folder());
    let mut command = Command::new("vmagent");
    command.args([
        &format!("-httpListenAddr=127.0.0.1:{port}"),
        &format!("-remoteWrite.url={write_url}"),
        &format!("-remoteWrite.tmpDataPath={}", path(&dir, "queue")),
        "-remoteWrite.flushInterval=200ms",
    ]);
    Server::start("vmagent", command, port, "/health", dir)
}

/// A Pushgateway with nothing in it: Debian's would keep its groups from one run to the next.
pub(crate) fn pushgateway() -> Server {
    let (port, dir) = (free_port(), folder());
    let mut command = Command::new("prometheus-pushgateway");
    command.args([
        format!("--web.listen-address=127.0.0.1:{port}"),
        format!("--persistence.file={}", path(&dir, "pushgateway.data")),
    ]);
    Server::start("pushgateway", command, port, "/-/ready", dir)
}

/// The `result` of an instant query in PromQL.
pub(crate) fn promql(server: &Server, query: &str) -> Vec<Value> {
    let answer = http::get(&server.url(&format!("/api/v1/query?{}", http::query(&[("query", query)])))).json();
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    answer["data"]["result"].as_array().expect("a vector or matrix").clone()
}

/// The value of an instant query that has exactly one result.
pub(crate) fn promql_value(server: &Server, query: &str) -> Result<f64, String> {
    match promql(server, query).as_slice() {
        [one] => one["value"][1].as_str().and_then(|text| text.parse().ok()).ok_or_else(|| format!("{query}: {one}")),
        other => Err(format!("{query}: {} results", other.len())),
    }
}

/// The label sets that match a selector.
pub(crate) fn prometheus_series(server: &Server, selector: &str) -> Vec<Value> {
    let answer = http::get(&server.url(&format!("/api/v1/series?{}", http::query(&[("match[]", selector)])))).json();
    answer["data"].as_array().expect("a list of label sets").clone()
}

/// Every raw sample of the last `window` of the series that match, without stale markers (which no query shows).
pub(crate) fn prometheus_samples(server: &Server, selector: &str, window: &str) -> Samples {
    let mut samples = Samples::new();
    for series in promql(server, &format!("{selector}[{window}]")) {
        let mut labels = labels(&series["metric"]);
        let name = labels.remove("__name__").unwrap_or_default();
        let points = series["values"].as_array().expect("a matrix").iter().map(|point| {
            let value: f64 = point[1].as_str().and_then(|text| text.parse().ok()).expect("a number as text");
            (milliseconds(&point[0]), value.to_bits())
        });
        samples.insert((name, labels), points.collect());
    }
    samples
}

/// Prometheus writes milliseconds as decimal seconds; rounding gives them back exactly.
fn milliseconds(seconds: &Value) -> i64 {
    (seconds.as_f64().expect("a timestamp") * 1000.0).round() as i64
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let pairs = object.as_object().expect("labels").iter();
    pairs.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned())).collect()
}

/// Runs InfluxQL and returns the series of the first statement: `{name, tags, columns, values}`.
pub(crate) fn influxql(server: &Server, database: &str, query: &str) -> Vec<Value> {
    let parameters = http::query(&[("db", database), ("epoch", "ns"), ("q", query)]);
    let answer = http::send("POST", &server.url(&format!("/query?{parameters}")), &[], b"").json();
    let result = &answer["results"][0];
    assert!(answer["error"].is_null() && result["error"].is_null(), "{query}: {answer}");
    result["series"].as_array().cloned().unwrap_or_default()
}

/// Every point of the field `value` of the measurements that match a regular expression; times must be whole milliseconds.
pub(crate) fn influx_samples(server: &Server, database: &str, measurements: &str) -> Samples {
    let mut samples = Samples::new();
    for series in influxql(server, database, &format!("SELECT value FROM /{measurements}/ GROUP BY *")) {
        let mut labels = labels(&series["tags"]);
        // InfluxDB shows a tag that other series of the measurement have as an empty one.
        labels.retain(|_, value| !value.is_empty());
        let points = series["values"].as_array().expect("rows").iter().map(|row| {
            let time = row[0].as_i64().expect("nanoseconds");
            assert_eq!(time % 1_000_000, 0, "{series}");
            (time / 1_000_000, row[1].as_f64().expect("a number").to_bits())
        });
        samples.insert((series["name"].as_str().expect("a name").to_owned(), labels), points.collect());
    }
    samples
}

/// What the `influx` command line prints for a query, as a person would ask.
pub(crate) fn influx_cli(server: &Server, database: &str, query: &str) -> String {
    let port = server.port().to_string();
    let output = Command::new("influx")
        .args(["-host", "127.0.0.1", "-port", &port, "-database", database, "-format", "csv", "-execute", query])
        .env("HOME", Path::new(env!("CARGO_TARGET_TMPDIR")))
        .output()
        .expect("influx runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
