//! The real Micrometer, sluicegate, the real Prometheus and the real InfluxDB: what is read back is what Micrometer's own
//! registry for that destination says of the same meters.
//!
//! The program of `tests/micrometer` registers a meter of each kind with every registry. One of them sends to the gateway; what
//! the others say is the truth.

#[path = "support"]
#[allow(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod component;
    pub(crate) mod destinations;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod micrometer;
    pub(crate) mod server;
}

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use support::component::needs;
use support::destinations::{Samples, influxdb, influxql, prometheus_receiver, prometheus_samples};
use support::gateway::{Exposition, gateway};
use support::http;
use support::micrometer;
use support::server::{Server, eventually};

const SOON: Duration = Duration::from_secs(30);
/// Everything that Micrometer sent, and nothing of the servers themselves.
const ALL: &str = "{stream_name='ticktock'}";

/// What pages say at their times, with these labels beside their own.
fn said(pages: &[(i64, String)], labels: &[(&str, &str)]) -> Samples {
    let mut samples = Samples::new();
    for (time, page) in pages {
        for (name, own, value) in Exposition::parse(page).samples() {
            // Prometheus knows no empty labels.
            let own = own.iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (&**name, &**value));
            let all: BTreeMap<_, _> = own.chain(labels.iter().copied()).collect();
            let all = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            samples.entry((name.to_owned(), all)).or_default().push((*time, value.to_bits()));
        }
    }
    samples
}

/// Waits until Prometheus holds exactly these samples.
fn holds(prometheus: &Server, expected: &Samples) {
    eventually(SOON, || {
        let got = prometheus_samples(prometheus, ALL, "30m");
        match first_difference(&got, expected) {
            None => Ok(()),
            Some(difference) => Err(difference),
        }
    });
}

fn first_difference(got: &Samples, expected: &Samples) -> Option<String> {
    let keys: BTreeSet<_> = got.keys().chain(expected.keys()).collect();
    let differing: Vec<_> = keys.into_iter().filter(|key| got.get(*key) != expected.get(*key)).collect();
    let key = differing.first()?;
    let values = |samples: &Samples| -> Vec<_> {
        samples.get(*key).into_iter().flatten().map(|(time, bits)| (*time, f64::from_bits(*bits))).collect()
    };
    Some(format!("{} series differ: {key:?} is {:?}, expected {:?}", differing.len(), values(got), values(expected)))
}

#[test]
fn pages_of_both_prometheus_registries_reach_prometheus_value_by_value() {
    needs!("pages_of_both_prometheus_registries_reach_prometheus", "prometheus", "java", "micrometer");
    let said_by_it = micrometer::run(&[]);
    for generation in ["simpleclient", "client1"] {
        let prometheus = prometheus_receiver();
        let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
        let pages = said_by_it.pages(generation);
        for (time, page) in &pages {
            let answer = http::post(&gateway.url(&format!("/api/v1/import/prometheus?timestamp={time}")), page);
            assert_eq!(answer.status, 204, "{}", answer.text());
        }
        gateway.drained();
        assert_eq!(gateway.dropped("prom"), []);
        holds(&prometheus, &said(&pages, &[]));
    }
}

#[test]
fn what_an_application_pushes_to_a_pushgateway_reaches_prometheus_value_by_value() {
    needs!("what_an_application_pushes_reaches_prometheus", "prometheus", "java", "micrometer");
    let prometheus = prometheus_receiver();
    let gateway = gateway().with_prometheus(&prometheus.url("/api/v1/write")).start();
    let address = format!("pushgateway=127.0.0.1:{}", gateway.port());
    let said_by_it = micrometer::run(&[&address, "job=nightly batch/1"]);
    gateway.drained();
    // A push has no times: the last one is what stands there.
    let last = [(0, said_by_it.last_page("simpleclient"))];
    let expected = said(&last, &[("job", "nightly batch/1")]);
    eventually(SOON, || {
        let mut got = prometheus_samples(&prometheus, "{job='nightly batch/1',stream_name='ticktock'}", "30m");
        got.values_mut()
            .for_each(|samples| *samples = samples.last().map(|(_, bits)| (0, *bits)).into_iter().collect());
        first_difference(&got, &expected).map_or(Ok(()), Err)
    });
}

/// The lines of the Influx registry are sent to one database through the gateway and to another directly.
fn influx_reaches_influxdb(arguments: &[&str]) {
    let influx = influxdb();
    let output = format!("influxdb: {{ url: \"{}\", database: myinfluxdb, create_database: true }}", influx.url(""));
    let gateway = gateway().output("influx", &output).start();
    let uri = format!("influx.uri={}", gateway.url(""));
    let said_by_it = micrometer::run(&[&[&*uri], arguments].concat());
    gateway.drained();
    assert_eq!(gateway.dropped("influx"), []);

    // One line of each write is one that InfluxDB refuses, by name, and takes the rest.
    let lines = said_by_it.lines();
    let (bad, good): (Vec<&str>, Vec<&str>) = lines.lines().partition(|line| line.contains("C:\\,"));
    assert_eq!((said_by_it.refusals.len(), bad.len()), (7, 7), "{:?}", said_by_it.refusals);
    assert!(said_by_it.refusals.iter().all(|answer| answer.contains("400") && answer.contains("partial write")));
    assert_eq!(gateway.metric("sluicegate_samples_rejected_total", &[]), 7.0);

    influxql(&influx, "", "CREATE DATABASE direct");
    let answer = http::post(&influx.url("/write?db=direct&precision=ms"), good.join("\n"));
    assert_eq!(answer.status, 204, "{}", answer.text());
    let everything = |database: &str| influxql(&influx, database, "SELECT * FROM /.*/ GROUP BY *");
    let expected = everything("direct");
    let rows = |series: &[serde_json::Value]| -> usize {
        series.iter().map(|series| series["values"].as_array().map_or(0, Vec::len)).sum()
    };
    assert_eq!(rows(&expected), good.len(), "each line is a row");
    eventually(SOON, || {
        let got = everything("myinfluxdb");
        let differs = expected.iter().zip(&got).find(|(expected, got)| expected != got);
        match differs {
            None if got.len() == expected.len() => Ok(()),
            None => Err(format!("{} series, {} expected", got.len(), expected.len())),
            Some((expected, got)) => Err(format!("{got}\nis not {expected}")),
        }
    });
}

#[test]
fn what_the_influx_registry_says_reaches_influxdb_as_it_would_directly() {
    needs!("what_the_influx_registry_says_reaches_influxdb", "influxd", "java", "micrometer");
    influx_reaches_influxdb(&[]);
}

#[test]
fn so_it_does_by_the_api_of_version_2() {
    needs!("so_it_does_by_the_api_of_version_2", "influxd", "java", "micrometer");
    influx_reaches_influxdb(&["influx.org=my org", "influx.bucket=myinfluxdb", "influx.token=secret"]);
}
