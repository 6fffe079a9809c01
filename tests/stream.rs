//! The founding guide's stream for real: `time | filter --expression=payload.contains('3') | log` on a Kafka broker, each
//! application with another of Micrometer's registries, and both databases with the whole truth.
//!
//! `scripts/stream` builds what it needs and runs it; the ordinary tests leave it out, since it takes minutes and a gigabyte.

#![allow(
    clippy::float_cmp,
    clippy::format_push_string,
    reason = "values pass through unchanged, and a test may allocate"
)]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
    pub(crate) mod destinations;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
    pub(crate) mod wavefront_proxy;
}

use serde_json::Value;
use std::collections::BTreeMap;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use support::component::needs;
use support::destinations::{influx_cli, influxdb, influxql, prometheus_receiver, promql, promql_value};
use support::gateway::{Gateway, gateway};
use support::server::{Server, eventually, free_port};
use support::wavefront_proxy::WavefrontProxy;
use tempfile::TempDir;

/// How long three applications and a broker may take on a busy machine.
const STARTED_WITHIN: Duration = Duration::from_secs(180);
/// How long the boards may take to have all they show.
const SHOWN_WITHIN: Duration = Duration::from_secs(120);
const APPLICATIONS: [&str; 3] = ["filter", "log", "time"];

/// Where `scripts/stream` puts the applications and the broker.
fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/stream")
}

fn java(main: &str, memory: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", memory, "-cp"]);
    command.arg(format!("{0}/classes:{0}/lib/*", built().display())).arg(main);
    command
}

/// A broker of one node.
fn kafka() -> Server {
    let dir = TempDir::new().expect("temporary folder");
    let (port, controller) = (free_port(), free_port());
    let properties = dir.path().join("server.properties");
    let settings = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\nlog.dirs={}\n\
         offsets.topic.num.partitions=1\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n",
        dir.path().join("data").display()
    );
    std::fs::write(&properties, settings).expect("written");
    let formatted = java("kafka.tools.StorageTool", "-Xmx128m")
        .args(["format", "-t", "c2x1aWNlZ2F0ZS10ZXN0cw", "-c"])
        .arg(&properties)
        .output()
        .expect("java starts");
    assert!(formatted.status.success(), "{}", String::from_utf8_lossy(&formatted.stderr));
    let mut command = java("kafka.Kafka", "-Xmx256m");
    command.arg(&properties);
    let server = Server::launch("kafka", command, port, dir);
    eventually(STARTED_WITHIN, || {
        TcpStream::connect(("127.0.0.1", port)).map(drop).map_err(|error| format!("kafka: {error}"))
    });
    server
}

/// An application as Data Flow deploys it to stream `ticktock`, with its function, destinations and registry.
fn application(kafka: &Server, name: &str, kind: &str, function: &str, settings: &[String]) -> Server {
    let port = free_port();
    let mut command = java("stream.Application", "-Xmx160m");
    let guid = format!("ticktock-{name}-v1-0");
    command.args([
        format!("--server.port={port}"),
        format!("--spring.cloud.function.definition={function}"),
        format!("--spring.cloud.stream.kafka.binder.brokers=127.0.0.1:{}", kafka.port()),
        "--spring.kafka.consumer.auto-offset-reset=earliest".to_owned(),
        "--management.metrics.tags.stream.name=ticktock".to_owned(),
        format!("--management.metrics.tags.application.name={name}"),
        format!("--management.metrics.tags.application.type={kind}"),
        format!("--management.metrics.tags.application.guid={guid}"),
        "--management.metrics.tags.instance.index=0".to_owned(),
    ]);
    for registry in ["influx.metrics.export", "wavefront.metrics.export", "metrics.export.prometheus.rsocket"] {
        let is_its_own = settings.iter().any(|setting| setting.starts_with(&format!("--management.{registry}.")));
        command.arg(format!("--management.{registry}.enabled={is_its_own}"));
    }
    command.args(settings);
    Server::launch(name_of(name), command, port, TempDir::new().expect("temporary folder"))
}

fn name_of(application: &str) -> &'static str {
    APPLICATIONS.into_iter().find(|name| *name == application).expect("an application of the stream")
}

/// The three applications, each by another registry: `time` over RSocket, `filter` by line protocol, `log` by Wavefront.
fn stream(kafka: &Server, gateway: &Gateway, rsocket: u16, wavefront: u16) -> [Server; 3] {
    let binding = |name: &str, to: &str| format!("--spring.cloud.stream.bindings.{name}.destination=ticktock.{to}");
    let group = |name: &str| format!("--spring.cloud.stream.bindings.{name}.group=ticktock");
    let time = [
        binding("timeSupplier-out-0", "time"),
        "--spring.integration.poller.fixed-delay=500".to_owned(),
        "--management.metrics.export.prometheus.rsocket.host=127.0.0.1".to_owned(),
        format!("--management.metrics.export.prometheus.rsocket.port={rsocket}"),
    ];
    let filter = [
        binding("byteArrayTextToStringfilterFunction-in-0", "time"),
        group("byteArrayTextToStringfilterFunction-in-0"),
        binding("byteArrayTextToStringfilterFunction-out-0", "filter"),
        "--filter.function.expression=payload.contains('3')".to_owned(),
        format!("--management.influx.metrics.export.uri={}", gateway.url("")),
        "--management.influx.metrics.export.db=myinfluxdb".to_owned(),
        "--management.influx.metrics.export.step=10s".to_owned(),
    ];
    let log = [
        binding("logConsumer-in-0", "filter"),
        group("logConsumer-in-0"),
        format!("--management.wavefront.uri=proxy://127.0.0.1:{wavefront}"),
        "--management.wavefront.source=demo-scdf-source".to_owned(),
        "--management.wavefront.metrics.export.step=10s".to_owned(),
    ];
    let mut applications = [
        application(kafka, "time", "source", "timeSupplier", &time),
        application(kafka, "filter", "processor", "byteArrayTextToString|filterFunction", &filter),
        application(kafka, "log", "sink", "logConsumer", &log),
    ];
    for application in &mut applications {
        eventually(STARTED_WITHIN, || {
            assert!(application.runs(), "{}", application.output());
            let answer = support::http::try_get(&application.url("/actuator/health"))?;
            if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
        });
    }
    applications
}

/// What each application counted on its channels, as Prometheus has it at last.
fn sums(prometheus: &Server) -> BTreeMap<Vec<String>, f64> {
    let series =
        promql(prometheus, "last_over_time(spring_integration_send_seconds_count{stream_name='ticktock'}[15m])");
    let of = |series: &Value| {
        let key = ["application_name", "type", "name", "result", "exception"];
        let key = key.map(|label| series["metric"][label].as_str().unwrap_or_default().to_owned()).to_vec();
        (key, series["value"][1].as_str().and_then(|value| value.parse().ok()).expect("a number"))
    };
    series.iter().map(of).collect()
}

/// The same from InfluxDB: all that its rows add up to.
fn added(influx: &Server) -> BTreeMap<Vec<String>, f64> {
    let query = "SELECT sum(count) FROM spring_integration_send WHERE stream_name='ticktock' \
                 GROUP BY application_name, type, \"name\", result, exception";
    let of = |series: &Value| {
        let key = ["application_name", "type", "name", "result", "exception"];
        let key = key.map(|tag| series["tags"][tag].as_str().unwrap_or_default().to_owned()).to_vec();
        (key, series["values"][0][1].as_f64().expect("a number"))
    };
    influxql(influx, "myinfluxdb", query).iter().map(of).collect()
}

#[test]
#[ignore = "takes minutes, a broker and three applications: scripts/stream"]
fn the_stream_of_the_guide_is_whole_in_both_databases_whichever_registry_an_application_has() {
    needs!("the_stream_of_the_guide", "prometheus", "influxd", "influx", "java");
    let (prometheus, influx, proxy) = (prometheus_receiver(), influxdb(), WavefrontProxy::start());
    let (rsocket, wavefront) = (free_port(), free_port());
    let influx_output =
        format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway()
        .listen("rsocket_tcp", rsocket)
        .listen("wavefront", wavefront)
        .block("micrometer: { step: 10s }")
        .block("rsocket: { scrape_interval: 5s }")
        .with_prometheus(&prometheus.url("/api/v1/write"))
        .output("influx", &influx_output)
        .with_wavefront(&proxy.url())
        .start();
    let kafka = kafka();
    let mut applications = stream(&kafka, &gateway, rsocket, wavefront);

    // What the boards ask of Prometheus.
    let shown = |query: &str, results: usize| {
        eventually(SHOWN_WITHIN, || match promql(&prometheus, query).len() {
            found if found == results => Ok(()),
            found => Err(format!("{query}: {found} results of {results}")),
        });
    };
    shown("count by (application_guid) (spring_integration_send_seconds_count{stream_name='ticktock'})", 3);
    shown("sum by (application_name) (jvm_memory_used_bytes{stream_name='ticktock'})", 3);
    shown("process_cpu_usage{stream_name='ticktock'}", 3);
    let rate =
        "sum by (application_name) (rate(spring_integration_send_seconds_count{stream_name='ticktock'}[60s])) > 0";
    shown(rate, 3);
    eventually(SHOWN_WITHIN, || {
        let query = "count(count by (stream_name) (spring_integration_send_seconds_count))";
        match promql_value(&prometheus, query)? {
            1.0 => Ok(()),
            found => Err(format!("{found} streams")),
        }
    });

    // The guide's four commands, and what the boards ask of InfluxDB.
    assert!(influx_cli(&influx, "myinfluxdb", "show databases").contains("myinfluxdb"));
    assert!(influx_cli(&influx, "myinfluxdb", "show measurements").contains("spring_integration_send"));
    let rows = influx_cli(&influx, "myinfluxdb", "select * from spring_integration_send limit 10");
    assert_eq!(rows.lines().count(), 11, "{rows}");
    let names =
        influxql(&influx, "myinfluxdb", "SHOW TAG VALUES WITH KEY = application_name WHERE stream_name = 'ticktock'");
    assert_eq!(names[0]["values"].as_array().map(Vec::len), Some(APPLICATIONS.len()), "{names:?}");

    // The end of the stream: first what produces, then what consumes.
    for application in &mut applications {
        application.terminate();
    }
    gateway.drained();
    gateway.balanced();
    eventually(SHOWN_WITHIN, || {
        let (sums, added) = (sums(&prometheus), added(&influx));
        let differing = sums.iter().find(|(key, sum)| added.get(*key) != Some(*sum));
        match differing {
            None if sums.len() == added.len() => Ok(()),
            None => Err(format!("{} counters in Prometheus, {} in InfluxDB", sums.len(), added.len())),
            Some((key, sum)) => Err(format!("{key:?}: {sum} in Prometheus, {:?} in InfluxDB", added.get(key))),
        }
    });
    let of_wavefront = proxy.points();
    for name in APPLICATIONS {
        let counted = of_wavefront.iter().any(|point| {
            point.name == "spring.integration.send.count"
                && point.tags.get("application.name").is_some_and(|tag| tag == name)
                && point.tags.get("stream.name").is_some_and(|tag| tag == "ticktock")
        });
        assert!(counted, "{name} is in Wavefront as its dashboards ask for it");
    }
    for (key, sum) in sums(&prometheus) {
        println!("{key:?} {sum}");
    }
}
