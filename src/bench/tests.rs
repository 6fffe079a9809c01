//! Loads against sinks and against a server that misbehaves on purpose.

use super::digest::Digest;
use super::load::{Bound, Load, LoadError, Options};
use super::shape::Shape;
use super::sink::Sink;
use crate::model::Format;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::sleep;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn options(target: &str, format: Format) -> Options {
    Options {
        target: target.parse().unwrap(),
        format,
        shape: Shape::Telegraf,
        seed: 7,
        series: 1000,
        samples_per_request: 70,
        connections: 3,
        churn: 0.0,
        rate: None,
    }
}

/// A server that answers its requests in turn, by their number from 0, after a pause.
async fn scripted(script: fn(u32) -> (StatusCode, Duration)) -> String {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let requests = Arc::new(AtomicU32::new(0));
        while let Ok((stream, _)) = listener.accept().await {
            let requests = Arc::clone(&requests);
            let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let (status, pause) = script(requests.fetch_add(1, Ordering::Relaxed));
                async move {
                    let _ = request.into_body().collect().await;
                    sleep(pause).await;
                    let mut answer = Response::new(Full::<Bytes>::default());
                    *answer.status_mut() = status;
                    Ok::<_, Infallible>(answer)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

#[tokio::test]
async fn load_and_sink_agree_on_every_sample() {
    for format in [Format::RemoteWrite, Format::RemoteWrite2, Format::InfluxLine, Format::Wavefront] {
        let sink = Sink::listen(LOOPBACK).await.unwrap();
        let mut load = Load::try_new(options(&format!("http://{}", sink.address()), format), false).unwrap();
        for run in 1..=2 {
            let report = load.run(Bound::Requests(load.requests_per_pass())).await.unwrap();
            assert_eq!((report.samples, report.requests, report.repeats), (1000, 15, 0), "{format:?}");
            assert_eq!(sink.samples(), run * 1000);
            assert_eq!(Digest::difference(&sink.digest(), load.sent()), super::digest::Difference::default());
            let arrived = sink.arrived();
            assert_eq!((arrived.checksum, arrived.error), (report.checksum, None), "{format:?}");
        }
    }
}

#[tokio::test]
async fn churn_replaces_the_part_of_the_series_that_was_asked_for() {
    let sink = Sink::listen(LOOPBACK).await.unwrap();
    let target = format!("http://{}", sink.address());
    let mut load = Load::try_new(Options { churn: 1.0, ..options(&target, Format::InfluxLine) }, false).unwrap();
    load.run(Bound::Requests(30)).await.unwrap();
    assert_eq!(sink.digest(), *load.sent());
    let mut steady = Load::try_new(options(&target, Format::InfluxLine), false).unwrap();
    steady.run(Bound::Requests(30)).await.unwrap();
    let difference = Digest::difference(load.sent(), steady.sent());
    assert!(difference.missing > 500 && difference.extra > 500, "other series: {difference}");
}

#[tokio::test]
async fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
    // A hundred requests a second; the fifth is answered late. Measured from when they were sent, all others are fast.
    let url = scripted(|request| {
        let pause = if request == 5 { Duration::from_millis(500) } else { Duration::ZERO };
        (StatusCode::NO_CONTENT, pause)
    });
    let one = Options { connections: 1, rate: Some(7000.0), ..options(&url.await, Format::InfluxLine) };
    let mut load = Load::try_new(one, false).unwrap();
    let report = load.run(Bound::Requests(50)).await.unwrap();
    assert!(report.latency.p50 > 100.0, "{report:?}");
    assert!(report.seconds > 0.45, "no faster than the rate: {report:?}");
}

#[tokio::test]
async fn what_is_refused_for_a_while_is_sent_again_and_counted_once() {
    let url = scripted(|request| match request {
        2 => (StatusCode::TOO_MANY_REQUESTS, Duration::ZERO),
        3 => (StatusCode::SERVICE_UNAVAILABLE, Duration::ZERO),
        _ => (StatusCode::NO_CONTENT, Duration::ZERO),
    });
    let mut load = Load::try_new(options(&url.await, Format::PrometheusText), false).unwrap();
    let report = load.run(Bound::Requests(15)).await.unwrap();
    assert_eq!((report.samples, report.requests, report.repeats), (1000, 15, 2));
}

#[tokio::test]
async fn a_refusal_ends_the_load() {
    let sink = Sink::listen(LOOPBACK).await.unwrap();
    let target = format!("http://{}/report", sink.address());
    let mut load = Load::try_new(options(&target, Format::InfluxLine), false).unwrap();
    let error = load.run(Bound::Requests(15)).await.unwrap_err();
    assert!(matches!(error, LoadError::Refused { status: StatusCode::BAD_REQUEST, .. }), "{error}");
    assert!(sink.arrived().unreadable > 0 && sink.samples() == 0);
    let target = format!("http://{}/elsewhere", sink.address());
    let mut load = Load::try_new(options(&target, Format::InfluxLine), false).unwrap();
    let error = load.run(Bound::Requests(15)).await.unwrap_err();
    assert!(matches!(error, LoadError::Refused { status: StatusCode::NOT_FOUND, .. }), "{error}");
}

#[test]
fn a_load_is_bounded_and_stays_on_this_machine() {
    let refusal = |options, allow_remote| Load::try_new(options, allow_remote).map(drop).unwrap_err().to_string();
    let local = options("http://localhost:1", Format::InfluxLine);
    assert!(Load::try_new(local.clone(), false).is_ok());
    for host in ["http://[::1]:1", "http://127.9.9.9:1/write"] {
        assert!(Load::try_new(options(host, Format::InfluxLine), false).is_ok(), "{host}");
    }
    for host in ["http://192.0.2.1:1", "http://localhost.example.com:1", "http://[2001:db8::1]:1"] {
        let remote = options(host, Format::InfluxLine);
        assert!(refusal(remote.clone(), false).contains("attack"), "{host}");
        assert!(Load::try_new(remote, true).is_ok(), "{host}");
    }
    assert!(refusal(options("https://localhost", Format::InfluxLine), false).contains("expected http://"));
    assert!(refusal(Options { series: 0, ..local.clone() }, false).contains("series must be 1 to"));
    assert!(refusal(Options { samples_per_request: usize::MAX, ..local.clone() }, false).contains("must be 1 to"));
    assert!(refusal(Options { churn: 1.5, ..local.clone() }, false).contains("churn must be 0 to 1"));
    assert!(refusal(Options { connections: 16, ..local }, false).contains("only 15 requests"));
}
