//! The main job: a Prometheus that scrapes a node writes through the gateway to another Prometheus, to InfluxDB and to a
//! Wavefront proxy; each holds exactly the samples that the first one holds.

use crate::support::component::needs;
use crate::support::destinations::{self, Samples, SeriesKey, promql};
use crate::support::everywhere::{Everywhere, everywhere};
use crate::support::gateway::Gateway;
use crate::support::server::{Server, eventually};
use crate::support::wavefront_proxy::Point;
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);
/// Scrapes of one second each that the comparison is made of.
const SCRAPES: f64 = 8.0;
const NODE_SERIES: &str = "{__name__=~'node_.*'}";
const WINDOW: &str = "15m";

#[test]
fn prometheus_through_the_gateway_arrives_everywhere_sample_for_sample() {
    needs!("prometheus_through_the_gateway_arrives_everywhere", "prometheus", "prometheus-node-exporter", "influxd");
    let (Everywhere { prometheus, influx, wavefront }, gateway) = everywhere();

    let sent = scraped_and_sent(&gateway);
    gateway.drained();

    assert!(sent.len() > 100, "a node has more than {} series", sent.len());
    assert_same("Prometheus", &sent, &destinations::prometheus_samples(&prometheus, NODE_SERIES, WINDOW));
    // Without the stale markers the series would live on for five minutes here.
    assert_eq!(promql(&prometheus, "node_load1").len(), 0, "stale markers arrive");

    let finite = finite(&sent);
    assert_same("InfluxDB", &finite, &destinations::influx_samples(&influx, "metrics", "^node_"));
    assert_same("Wavefront", &for_wavefront(&finite), &wavefront_samples(wavefront.points()));
    assert_eq!(wavefront.rejected(), [""; 0]);

    assert_eq!(gateway.dropped("prom"), []);
    for output in ["influx", "wf"] {
        let reasons = gateway.dropped(output);
        assert!(reasons.iter().any(|(reason, _)| reason == "stale_marker"), "{output}: {reasons:?}");
        assert!(
            reasons.iter().all(|(reason, _)| reason == "stale_marker" || reason == "non_finite"),
            "{output}: {reasons:?}"
        );
    }
}

/// Lets a Prometheus scrape a node for a while and write to the gateway, then ends both; what that Prometheus itself holds.
fn scraped_and_sent(gateway: &Gateway) -> Samples {
    let node = destinations::node_exporter();
    let target = format!("127.0.0.1:{}", node.port());
    let mut source = destinations::prometheus_client(&target, &gateway.url("/api/v1/write"));
    eventually(SOON, || match destinations::promql_value(&source, "count_over_time(node_load1[5m])") {
        Ok(scrapes) if scrapes >= SCRAPES => Ok(()),
        other => Err(format!("{other:?}")),
    });
    drop(node);
    // The failed scrapes end the series with stale markers; from then on their samples stand still.
    eventually(SOON, || match promql(&source, "node_load1").len() {
        0 => Ok(()),
        _ => Err("node_load1 is still alive".to_owned()),
    });
    let sent = destinations::prometheus_samples(&source, NODE_SERIES, WINDOW);
    all_written(&source);
    assert!(source.terminate().success(), "SIGTERM flushes what is queued");
    sent
}

/// Waits until a Prometheus has sent what stands in its log up to now.
fn all_written(source: &Server) {
    let queue = || {
        let page = crate::support::http::get(&source.url("/metrics")).text();
        let value = |name: &str| -> f64 {
            let line = page.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.rsplit(' ').next().and_then(|value| value.parse().ok()).unwrap_or(f64::NAN)
        };
        (
            value("prometheus_remote_storage_queue_highest_sent_timestamp_seconds"),
            value("prometheus_remote_storage_highest_timestamp_in_seconds"),
        )
    };
    let (_, now) = queue();
    eventually(SOON, || {
        let (sent, _) = queue();
        if sent >= now { Ok(()) } else { Err(format!("sent up to {sent} of {now}")) }
    });
}

/// One message that fits a screen where thousands of series could differ.
fn assert_same(destination: &str, sent: &Samples, got: &Samples) {
    let missing: Vec<&SeriesKey> = sent.keys().filter(|key| !got.contains_key(*key)).collect();
    let added: Vec<&SeriesKey> = got.keys().filter(|key| !sent.contains_key(*key)).collect();
    let differing = sent.iter().filter_map(|(key, samples)| got.get(key).map(|got| (key, samples, got)));
    let differing: Vec<_> = differing.filter(|(_, sent, got)| sent != got).collect();
    assert!(
        missing.is_empty() && added.is_empty() && differing.is_empty(),
        "{destination}: of {} series {} are missing, e.g. {:?}; {} are not of the source, e.g. {:?}; {} differ, e.g. {:?}",
        sent.len(),
        missing.len(),
        missing.first(),
        added.len(),
        added.first(),
        differing.len(),
        differing.first()
    );
}

fn finite(samples: &Samples) -> Samples {
    let mut finite = samples.clone();
    for points in finite.values_mut() {
        points.retain(|(_, bits)| f64::from_bits(*bits).is_finite());
    }
    finite.retain(|_, points| !points.is_empty());
    finite
}

/// The series as Wavefront has them by the default translation: `instance` is the source and stays a tag, a colon in a
/// name is a hyphen. No series of a node comes near the limits on tags.
fn for_wavefront(samples: &Samples) -> Samples {
    samples.iter().map(|((name, labels), points)| ((name.replace(':', "-"), labels.clone()), points.clone())).collect()
}

/// Points by series; a point that was sent twice counts once.
fn wavefront_samples(points: Vec<Point>) -> Samples {
    let mut samples: BTreeMap<SeriesKey, BTreeMap<i64, u64>> = BTreeMap::new();
    for point in points.into_iter().filter(|point| point.name.starts_with("node_")) {
        assert_eq!(Some(&point.source), point.tags.get("instance"), "{point:?}");
        samples.entry((point.name, point.tags)).or_default().insert(point.timestamp_ms, point.value.to_bits());
    }
    samples.into_iter().map(|(key, points)| (key, points.into_iter().collect())).collect()
}
