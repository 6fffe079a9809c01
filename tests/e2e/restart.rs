//! What was acknowledged survives: kill -9 with a destination down, and the drain on SIGTERM.

use crate::support::component::needs;
use crate::support::destinations;
use crate::support::gateway::gateway;
use crate::support::http;
use crate::support::server::free_port;
use crate::support::wavefront_proxy::WavefrontProxy;
use sluicegate::clock;

/// Requests that are acknowledged before the crash.
const REQUESTS: i64 = 40;
/// Samples in each.
const SAMPLES: i64 = 25;

#[test]
fn everything_acknowledged_arrives_after_a_crash_with_the_destination_down() {
    needs!("everything_acknowledged_arrives_after_a_crash", "prometheus");
    let port = free_port();
    let up = WavefrontProxy::start();
    let gateway =
        gateway().with_prometheus(&format!("http://127.0.0.1:{port}/api/v1/write")).with_wavefront(&up.url()).start();
    let first = clock::now() / 1_000_000 - REQUESTS * 1000;
    for request in 0..REQUESTS {
        let time = first + request * 1000;
        let text: String =
            (0..SAMPLES).map(|series| format!("kept{{series=\"{series}\"}} {request} {time}\n")).collect();
        assert_eq!(http::post(&gateway.url("/api/v1/import/prometheus"), text).status, 204);
    }
    let gateway = gateway.crash_and_restart();
    let pending = gateway.metric("sluicegate_samples_pending", &[("output", "prom")]);
    assert!(pending == (REQUESTS * SAMPLES) as f64, "{pending} pending with the destination down");
    gateway.balanced();

    let prometheus = destinations::prometheus_receiver_at(port);
    gateway.drained();
    let samples = destinations::prometheus_samples(&prometheus, "kept", "15m");
    assert_eq!(samples.len() as i64, SAMPLES);
    let expected: Vec<(i64, u64)> =
        (0..REQUESTS).map(|request| (first + request * 1000, (request as f64).to_bits())).collect();
    for (series, got) in samples {
        assert_eq!(got, expected, "{series:?}");
    }
    // The output that was up has them too; a crash may send some again, and may skip none.
    let mut points: Vec<_> =
        up.points().into_iter().map(|point| (point.tags["series"].clone(), point.timestamp_ms)).collect();
    points.sort();
    points.dedup();
    assert_eq!(points.len() as i64, REQUESTS * SAMPLES);
}

#[test]
fn sigterm_delivers_what_was_accepted_and_reports_it() {
    let wavefront = WavefrontProxy::start();
    let gateway = gateway().with_wavefront(&wavefront.url()).start();
    let lines: String = (0..1000).map(|series| format!("m,series={series} value={series}\n")).collect();
    assert_eq!(http::post(&gateway.url("/write?db=x"), lines).status, 204);
    let (status, output) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{output}");
    assert_eq!(wavefront.points().len(), 1000);
    // The exit report: the ledger of each output in its last lines.
    let report: Vec<&str> = output.lines().rev().take(20).collect();
    assert!(report.iter().any(|line| line.contains("wf") && line.contains("1000")), "{output}");
}

#[test]
fn sigterm_ends_in_time_with_a_dead_destination() {
    let gateway = gateway().with_wavefront(&format!("http://127.0.0.1:{}", free_port())).start();
    assert_eq!(http::post(&gateway.url("/write?db=x"), "m value=1").status, 204);
    let (status, output) = gateway.terminate();
    assert_eq!(status.code(), Some(0), "{output}");
}

#[test]
fn check_names_a_configuration_that_is_absent() {
    let dir = tempfile::TempDir::new().expect("temporary folder");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let output = command.arg("check").arg("--config").arg(dir.path().join("absent.yml")).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("absent.yml"), "{output:?}");
}

#[test]
fn status_tells_what_runs() {
    let mut gateway = gateway().with_wavefront(&format!("http://127.0.0.1:{}", free_port())).start();
    let status = gateway.status();
    for part in ["build", "inputs", "outputs", "ledger", "log", "series", "sources"] {
        assert!(!status[part].is_null(), "{part} in {status}");
    }
    assert!(gateway.metric("sluicegate_build_info", &[("version", env!("CARGO_PKG_VERSION"))]) == 1.0);
    for (path, status) in [("/-/healthy", 200), ("/-/ready", 200), ("/", 200), ("/nowhere", 404)] {
        assert_eq!(http::send("GET", &gateway.url(path), &[], b"").status, status, "{path}");
    }
    assert!(gateway.server().runs());
}
