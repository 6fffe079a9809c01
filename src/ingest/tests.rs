//! The inputs on real sockets: what each ecosystem is answered, and what hostile senders achieve.

mod fixture;
mod hostile;
mod limits;
mod pushed;
mod smuggling;

use super::*;
use crate::model::{Format, Refusal};
use crate::wire::compression::{gzip, snappy};
use crate::wire::remote_write::messages as rw1;
use crate::wire::remote_write2::messages as rw2;
use fixture::{Exchange, Fixture};
use prost::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// A body that lets the decoder panic.
pub(super) const MEETS_A_BUG: &[u8] = b"meets a bug\n";

fn write_request(names: &[&str]) -> Vec<u8> {
    let series = |name: &&str| rw1::TimeSeries {
        labels: vec![rw1::Label { name: "__name__".into(), value: (*name).into() }],
        samples: vec![rw1::Sample { value: 1.5, timestamp: 1_700_000_000_000 }],
        ..Default::default()
    };
    rw1::WriteRequest { timeseries: names.iter().map(series).collect(), ..Default::default() }.encode_to_vec()
}

fn write_request2(names: &[&str]) -> Vec<u8> {
    let mut symbols = vec![String::new(), "__name__".to_owned()];
    symbols.extend(names.iter().map(|name| (*name).to_owned()));
    let series = |at: usize| rw2::TimeSeries {
        labels_refs: vec![1, at as u32 + 2],
        samples: vec![rw2::Sample { value: 1.5, timestamp: 1_700_000_000_000, start_timestamp: 0 }],
        ..Default::default()
    };
    rw2::Request { symbols, timeseries: (0..names.len()).map(series).collect() }.encode_to_vec()
}

const V2: &str =
    "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request\r\nContent-Encoding: snappy\r\n";
const DELIMITED: &str = "Content-Type: application/vnd.google.protobuf; \
    proto=io.prometheus.client.MetricFamily; encoding=delimited\r\n";
const GZIP: &str = "Content-Encoding: gzip\r\n";

/// `push_time_seconds` and `push_failure_time_seconds`.
const PUSH_TIMES: u64 = 2;

/// Request line, headers, body; status, part of head or body, samples taken.
type Case<'a> = (&'a str, &'a str, &'a [u8], u16, &'a str, u64);

#[tokio::test]
async fn every_ecosystem_gets_its_own_answer() {
    let fixture = Fixture::start().await;
    let rw1 = snappy(&write_request(&["a", "b"]));
    let rw2 = snappy(&write_request2(&["a"]));
    let rw2_bad = snappy(&write_request2(&["a", ""]));
    let zstd = zstd::encode_all(&write_request(&["a"])[..], 1).unwrap();
    let zipped = gzip(b"cpu v=1 1\n");
    let zipped_points = gzip(b"m 1\n\nbad\n");
    // Family `g`, a gauge, one metric of value 1.
    let gauge = b"\x12\x0a\x01g\x18\x01\x22\x0b\x12\x09\x09\x00\x00\x00\x00\x00\x00\xf0\x3f";
    let cases: Vec<Case> = vec![
        ("POST /api/v1/write", "", &rw1, 204, "", 2),
        (
            "POST /api/v1/push",
            "Content-Encoding: zstd\r\nX-VictoriaMetrics-Remote-Write-Version: 1\r\n",
            &zstd,
            204,
            "",
            1,
        ),
        ("POST //api//v1/write", V2, &rw2, 204, "x-prometheus-remote-write-samples-written: 1", 1),
        ("POST /api/v1/write", V2, &rw2_bad, 400, "x-prometheus-remote-write-samples-written: 1", 1),
        ("POST /api/v1/write", V2, b"\xff\xff\xff", 400, "x-prometheus-remote-write-samples-written: 0", 0),
        ("POST /api/v1/write", "", b"\xff\xff\xff", 400, "not valid Snappy", 0),
        ("POST /api/v1/write", GZIP, b"x", 415, "neither snappy nor zstd", 0),
        ("POST /api/v1/write", "Content-Type: application/json\r\n", b"x", 415, "application/json", 0),
        ("GET /api/v1/write", "", b"", 405, "allow: POST", 0),
        ("POST /api/v1/import/prometheus", "", b"a 1\nb 2\n", 204, "", 2),
        ("POST /api/v1/import/prometheus?timestamp=x", "", b"a 1\n", 400, "milliseconds", 0),
        ("POST /api/v1/import/prometheus", "", b"a 1\nb x\n", 400, "line 2 column", 1),
        ("POST /api/v1/import/prometheus", "Content-Encoding: br\r\n", b"a 1\n", 415, "br", 0),
        ("POST /api/v1/import/prometheus", "Content-Encoding: snappy\r\n", b"a 1\n", 415, "snappy", 0),
        ("PUT /metrics/job/j/instance/i", "", b"a 1\n", 200, "", 1 + PUSH_TIMES),
        ("PUT /metrics/job/j2", "", b"a 1\nb x\n", 400, "nothing is kept", 0),
        ("POST /metrics/job/pb", DELIMITED, b"\x0b\x0a\x01g\x18\x01\x22\x04\x12\x02\x09\x00", 400, "", 0),
        ("POST /metrics/job/pb", DELIMITED, gauge, 200, "", 1 + PUSH_TIMES),
        ("POST /metrics/job/pb", "Content-Type: application/vnd.google.protobuf\r\n", gauge, 415, "delimited", 0),
        ("PUT /metrics/job/", "", b"a 1\n", 400, "job name is required", 0),
        ("DELETE /metrics/job/unknown", "", b"", 202, "", 0),
        ("DELETE /metrics/job/unknown", GZIP, b"", 202, "", 0),
        ("GET /metrics/job/j", "", b"", 405, "allow: POST, PUT, DELETE", 0),
        ("POST /write?db=d", "", b"cpu v=1,w=2i 1\n", 204, "x-influxdb-version: 1.8.10", 2),
        ("POST /write?db=d&precision=ms", GZIP, &zipped, 204, "", 1),
        ("POST /write", "", b"cpu v=1\n", 400, "{\"error\":\"database is required\"}", 0),
        ("POST /write?db=d&precision=fortnight", "", b"cpu v=1\n", 400, "invalid precision", 0),
        ("POST /write?db=d", "", b"cpu v=1\nbad\n", 400, "{\"error\":\"partial write: unable to parse line 2", 1),
        ("POST /write?db=d", "", b"bad\n", 400, "x-influxdb-error: unable to parse line 1", 0),
        ("POST /write?db=d", "", b"", 204, "", 0),
        ("POST /api/v2/write?org=o&bucket=b&precision=s", "Authorization: Token t\r\n", b"cpu v=1 1\n", 204, "", 1),
        ("POST /api/v2/write?bucket=b", "", b"bad\n", 400, "\"code\":\"invalid\"", 0),
        ("POST /api/v2/write?bucket=b&precision=m", "", b"cpu v=1\n", 400, "\"code\":\"invalid\"", 0),
        ("POST /api/v3/write_lp?db=d&precision=auto", "", b"cpu v=1 1\n", 204, "", 1),
        ("POST /api/v3/write_lp?db=d", "", b"cpu v=1\nbad\n", 400, "\"original_line\":\"bad\"", 1),
        (
            "POST /api/v3/write_lp?db=d&accept_partial=false",
            "",
            b"cpu v=1\nbad\n",
            400,
            "parsing failed for write_lp",
            0,
        ),
        ("POST /api/v3/write_lp", "", b"cpu v=1\n", 400, "'db'", 0),
        ("POST /query?q=CREATE+DATABASE+%22mine%22", "", b"", 200, "{\"results\":[{\"statement_id\":0}]}", 0),
        (
            "POST /query",
            "Content-Type: application/x-www-form-urlencoded\r\n",
            b"q=SHOW+DATABASES",
            200,
            "\"values\":[[\"mine\"]]",
            0,
        ),
        ("GET /query?q=DROP+DATABASE+mine", "", b"", 400, "stores nothing", 0),
        ("GET /query", "", b"", 400, "missing required parameter", 0),
        ("GET /ping", "", b"", 204, "x-influxdb-version: 1.8.10", 0),
        ("HEAD /ping", "", b"", 204, "", 0),
        ("GET /health", "", b"", 200, "\"status\":\"pass\"", 0),
        ("POST /report?f=wavefront", "", b"m 1 1700000000 source=h\n", 202, "content-length: 0", 1),
        ("POST /report?f=wavefront", GZIP, &zipped_points, 202, "", 1),
        ("POST /report?f=histogram", "", b"!M 1700000000 #2 1.5 lat source=h\n", 202, "", 1),
        ("POST /report?f=trace", "", b"span\nspan\n", 202, "", 0),
        ("POST /api/v2/event", "", b"@Event 1 \"e\" host=h\n", 202, "", 0),
        ("POST /report?f=wavefront", GZIP, b"not gzip", 400, "", 0),
        ("GET /page", "", b"", 200, "made by the gateway", 0),
        ("GET /nothing", "", b"", 404, "", 0),
    ];
    for (request, headers, body, status, part, samples) in cases {
        let before = fixture.samples().await.len() as u64;
        let answer = fixture.exchange(request, headers, body).await;
        assert_eq!(answer.status, status, "{request} {headers}: {answer:?}");
        assert!(answer.contains(part), "{request} {headers}: {part:?} not in {answer:?}");
        assert_eq!(fixture.samples().await.len() as u64 - before, samples, "{request} {headers}");
    }
    assert_eq!(fixture.gate.databases.names(), ["mine"]);
    assert_eq!(fixture.rejected(Format::Wavefront, Refusal::Unsupported), 3);
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::AllOrNothing), 1);
    fixture.stop().await;
}

#[tokio::test]
async fn databases_are_known_after_a_restart_as_they_were_asked_for() {
    let fixture = Fixture::start().await;
    assert_eq!(fixture.exchange("POST /query?q=SHOW+DATABASES", "", b"").await.status, 200);
    let file = fixture.log_dir().join("databases.json");
    assert!(!file.exists(), "nobody asked for any");
    for options in ["", "+WITH+DURATION+7d+NAME+week"] {
        let answer = fixture.exchange(&format!("POST /query?q=CREATE+DATABASE+mine{options}"), "", b"").await;
        assert_eq!(answer.status, 200);
    }
    let fixture = fixture.restart().await.restart().await;
    let statement = fixture.gate.databases.statement("mine");
    assert_eq!(statement, "CREATE DATABASE \"mine\" WITH DURATION 7d NAME \"week\"");
    std::fs::write(&file, "{").unwrap();
    let fixture = fixture.restart().await;
    assert_eq!(fixture.gate.databases.names(), [""; 0]);
    assert_eq!(fixture.gate.log.stats().damage.set_aside, [file.with_extension("json.damaged")]);
    fixture.stop().await;
}

#[tokio::test]
async fn version_one_of_remote_write_is_not_told_what_was_written() {
    let fixture = Fixture::start().await;
    for body in [snappy(&write_request(&["a"])), b"\xff".to_vec()] {
        let answer = fixture.exchange("POST /api/v1/write", "", &body).await;
        assert!(!answer.contains("-written"), "{answer:?}");
    }
}

#[tokio::test]
async fn labels_of_the_address_are_part_of_the_series() {
    let fixture = Fixture::start().await;
    fixture.exchange("POST /api/v1/import/prometheus?extra_label=a%3D1", "", b"m 1\n").await;
    fixture.exchange("POST /metrics/job/j/path@base64/L3Zhci90bXA", "", b"m 1\n").await;
    fixture.exchange("POST /report", "", b"m 1\n").await;
    let series: Vec<_> = fixture.samples().await.into_iter().map(|(series, _)| series).collect();
    let times = ["push_time_seconds{job=j,path=/var/tmp}", "push_failure_time_seconds{job=j,path=/var/tmp}"];
    assert_eq!(series, ["m{a=1}", "m{job=j,path=/var/tmp}", times[0], times[1], "m{source=127.0.0.1}"]);
}

#[tokio::test]
async fn metadata_of_a_batch_that_was_lost_is_told_again() {
    let fixture = Fixture::start().await;
    // More than what is left of a log that refuses a sample.
    let family =
        rw1::MetricMetadata { metric_family_name: "a".into(), help: "helps ".repeat(100), ..Default::default() };
    let body = snappy(&rw1::WriteRequest { metadata: vec![family], ..Default::default() }.encode_to_vec());
    fixture.fill_log().await;
    assert_eq!(fixture.exchange("POST /api/v1/write", "", &body).await.status, 429);
    fixture.empty_log();
    for _ in 0..2 {
        assert_eq!(fixture.exchange("POST /api/v1/write", "", &body).await.status, 204);
    }
    assert_eq!(fixture.families().await, ["a"], "once, and not again while nothing changes");
}

#[tokio::test]
async fn what_a_head_refuses_is_counted_by_its_format() {
    let fixture = Fixture::start().await;
    let openmetrics = "Content-Type: application/openmetrics-text; version=1.0.0\r\n";
    let gzip2 = V2.replace("snappy", "gzip");
    for (request, headers, format, reason) in [
        ("POST /api/v1/import/prometheus?timestamp=x", openmetrics, Format::OpenMetrics, Refusal::Body),
        ("POST /metrics/job/", openmetrics, Format::OpenMetrics, Refusal::Body),
        ("POST /metrics/job/", "", Format::PrometheusText, Refusal::Body),
        ("POST /api/v1/write", &gzip2, Format::RemoteWrite2, Refusal::Unsupported),
        ("POST /api/v1/write", GZIP, Format::RemoteWrite, Refusal::Unsupported),
    ] {
        let before = fixture.rejected(format, reason);
        let answer = fixture.exchange(request, headers, b"x").await;
        assert!(matches!(answer.status, 400 | 415), "{request}: {answer:?}");
        assert_eq!(fixture.rejected(format, reason) - before, 1, "{request} {headers}");
    }
}

#[tokio::test]
async fn series_of_the_other_version_of_remote_write_are_counted() {
    let fixture = Fixture::start().await;
    let answer = fixture.exchange("POST /api/v1/write", "", &snappy(&write_request2(&["a", "b"]))).await;
    assert_eq!(answer.status, 204, "an empty message, by the rules of protobuf");
    assert_eq!(fixture.rejected(Format::RemoteWrite, Refusal::OtherVersion), 2);
    let answer = fixture.exchange("POST /api/v1/write", V2, &snappy(&write_request(&["a"]))).await;
    assert!(answer.status == 204 && answer.contains("samples-written: 0"), "{answer:?}");
    assert_eq!(fixture.rejected(Format::RemoteWrite2, Refusal::OtherVersion), 1);
}

#[tokio::test]
async fn a_bug_in_a_decoder_costs_the_body_that_meets_it() {
    let fixture = Fixture::start().await;
    let answer = fixture.exchange("POST /write?db=d", "", MEETS_A_BUG).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Bug), 1);

    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (to, sender) = (socket.local_addr().unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
    tokio::spawn(serve_influx_udp(socket, Arc::clone(&fixture.gate), fixture.shutdown.clone()));
    sender.send_to(MEETS_A_BUG, to).await.unwrap();
    while fixture.rejected(Format::InfluxLine, Refusal::Bug) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    sender.send_to(b"cpu v=1\n", to).await.unwrap();
    while fixture.gate.log.end().ordinal == 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fixture.samples().await.len(), 1, "the socket goes on");
}

#[tokio::test]
async fn a_full_log_holds_senders_back() {
    let fixture = Fixture::start().await;
    fixture.fill_log().await;
    let before = fixture.rejected(Format::InfluxLine, Refusal::Log);
    for (request, body) in [
        ("POST /write?db=d", &b"cpu v=1,w=2\n"[..]),
        ("POST /api/v1/import/prometheus", b"a 1\n"),
        ("PUT /metrics/job/j", b"a 1\n"),
        ("POST /api/v1/write", &snappy(&write_request(&["a"]))),
    ] {
        let answer = fixture.exchange(request, "", body).await;
        assert_eq!(answer.status, 429, "{request}");
        assert!(answer.contains("retry-after: "), "{answer:?}");
    }
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Log) - before, 2);
    assert_eq!(fixture.exchange("POST /report", "", b"bad line alone\n").await.status, 202, "nothing to append");
}

#[tokio::test]
async fn wavefront_senders_wait_while_the_log_is_full() {
    let fixture = Fixture::start().await;
    fixture.fill_log().await;
    let begun = tokio::time::Instant::now();
    let answer = fixture.exchange("POST /report", "", b"m 1 source=h\n").await;
    assert_eq!(answer.status, 503, "429 is nothing they know");
    assert!((5..10).contains(&begun.elapsed().as_secs()), "they resend after ten seconds");
    let waiting = fixture.exchange("POST /report", "", b"m 1 source=h\n");
    let freeing = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fixture.empty_log();
    };
    assert_eq!(tokio::join!(waiting, freeing).0.status, 202);
}

#[tokio::test]
async fn lines_over_tcp_wait_for_a_full_log_and_none_is_lost() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_influx_tcp(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone()));
    fixture.fill_log().await;
    let before = (fixture.gate.log.end().ordinal, fixture.rejected(Format::InfluxLine, Refusal::Log));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..10 {
        stream.write_all(b"cpu v=1\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(fixture.gate.log.end().ordinal, before.0, "still full");
    fixture.empty_log();
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if fixture.gate.log.end().ordinal == before.0 + 10 {
            break;
        }
    }
    let after = (fixture.gate.log.end().ordinal, fixture.rejected(Format::InfluxLine, Refusal::Log));
    assert_eq!(after, (before.0 + 10, before.1));
}

#[tokio::test]
async fn lines_over_tcp_wait_for_memory_and_none_is_lost() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_influx_tcp(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone()));
    let all = fixture.gate.flight.all().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"cpu v=1\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(fixture.samples().await.is_empty(), "longer than a request would wait");
    drop(all);
    fixture.wait_for(1).await;
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Log), 0);
}

#[tokio::test]
async fn an_orderly_close_ends_the_last_line_over_tcp() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_influx_tcp(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"cpu v=1\ncpu v=2").await.unwrap();
    drop(stream);
    fixture.wait_for(2).await;
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Body), 0);
}

#[tokio::test]
async fn a_closed_log_sends_senders_away() {
    let fixture = Fixture::start().await;
    fixture.close_log().await;
    let answer = fixture.exchange_open("POST /write?db=d", "", b"cpu v=1\n").await;
    assert_eq!(answer.status, 503);
    assert!(answer.contains("retry-after: ") && answer.contains("connection: close"), "{answer:?}");
}

#[tokio::test]
async fn new_series_beyond_the_table_are_refused_and_known_ones_go_on() {
    let fixture = Fixture::with(|limits| limits.read_timeout = Duration::from_secs(5), 600).await;
    assert_eq!(fixture.exchange("POST /write?db=d", "", b"a v=1\n").await.status, 204);
    let mut statuses = Vec::new();
    for name in 0..8 {
        let body = format!("a v=1\nnew{name} v=1\n");
        statuses.push(fixture.exchange("POST /write?db=d", "", body.as_bytes()).await.status);
    }
    assert_eq!(statuses.last(), Some(&400), "a part was taken, which coming again would write twice");
    let answer = fixture.exchange("POST /write?db=d", "", b"newest v=1\n").await;
    assert_eq!(answer.status, 429, "nothing was taken");
    assert!(answer.contains("retry-after: ") && answer.contains("series.max_bytes"), "{answer:?}");
    let known = fixture.samples().await.iter().filter(|(series, _)| series == "a.v").count();
    assert_eq!(known, 9, "each body's known series was kept");
}

#[tokio::test]
async fn a_running_request_is_finished_at_shutdown() {
    let fixture = Fixture::start().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\ncpu ").await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    fixture.shutdown.cancel();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(TcpStream::connect(fixture.address).await.is_err(), "nothing new is accepted");
    stream.write_all(b"v=1\n").await.unwrap();
    let answer = Exchange::read(&mut stream).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(fixture.samples().await.len(), 1);
    fixture.stop().await;
}

#[tokio::test]
async fn idle_and_silent_connections_do_not_hold_the_shutdown_up() {
    let fixture = Fixture::start().await;
    let mut idle = TcpStream::connect(fixture.address).await.unwrap();
    idle.write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut head = [0; 12];
    idle.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 204");
    let _silent = TcpStream::connect(fixture.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.stop().await;
}

#[tokio::test]
async fn an_ipv4_peer_of_a_listener_of_both_kinds_keeps_its_name() {
    let fixture = Fixture::start().await;
    // Without IPv6 in the kernel there is no such listener.
    let Ok(listener) = TcpListener::bind("[::]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_wavefront(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone()));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"m 1\n").await.unwrap();
    fixture.wait_for(1).await;
    assert_eq!(fixture.samples().await[0].0, "m{source=127.0.0.1}");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let fixture = Fixture::with(|limits| limits.connections_max = 1, usize::MAX).await;
    let first = TcpStream::connect(fixture.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = fixture.exchange("GET /ping", "", b"");
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err());
    drop(first);
    assert_eq!(second.await.status, 204);
}

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fixture = Fixture::start().await;
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let url = format!("http://{}/write?db=d", fixture.address);
    let answer = client.post(url).body("cpu v=1\n").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (204, reqwest::Version::HTTP_2));
    assert_eq!(fixture.samples().await.len(), 1);
}

#[tokio::test]
async fn the_wavefront_port_takes_text_gzip_and_http() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(serve_wavefront(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone()));

    let mut text = TcpStream::connect(address).await.unwrap();
    let long = [&b"m"[..], &vec![b'x'; 40 << 10], b" 1\n"].concat();
    for part in [&b"PO"[..], b"INTS 1\nbad\nm.", b"two 2\n", &long, b"m 3\ncut 1"] {
        text.write_all(part).await.unwrap();
    }
    text.shutdown().await.unwrap();
    assert_eq!(text.read_to_end(&mut Vec::new()).await.unwrap(), 0, "nothing is written back");
    fixture.wait_for(3).await;
    assert_eq!(fixture.rejected(Format::Wavefront, Refusal::Body), 1, "the line without an end");
    assert_eq!(fixture.rejected(Format::Wavefront, Refusal::TooLong), 1);

    let mut zipped = TcpStream::connect(address).await.unwrap();
    zipped.write_all(&gzip(b"z 1\nz 2\n")).await.unwrap();
    zipped.shutdown().await.unwrap();
    fixture.wait_for(5).await;

    let mut damaged = TcpStream::connect(address).await.unwrap();
    damaged.write_all(b"\x1f\x8b\x08 and no gzip").await.unwrap();
    let _ = damaged.read_to_end(&mut Vec::new()).await;
    drop(damaged);

    let mut http = TcpStream::connect(address).await.unwrap();
    for (request, status) in [
        (&b"POST /any/path HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nh 1\n"[..], 202),
        (b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n", 204),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 202),
    ] {
        http.write_all(request).await.unwrap();
        assert_eq!(Exchange::read(&mut http).await.status, status);
    }
    assert_eq!(fixture.samples().await.len(), 6);
    fixture.shutdown.cancel();
    serving.await.unwrap();
    assert_eq!(fixture.rejected(Format::Wavefront, Refusal::Body), 2, "and the damaged gzip");
}

#[tokio::test]
async fn line_protocol_comes_over_tcp_and_udp() {
    let fixture = Fixture::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (tcp, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
    let serving = [
        tokio::spawn(serve_influx_tcp(listener, Arc::clone(&fixture.gate), fixture.shutdown.clone())),
        tokio::spawn(serve_influx_udp(socket, Arc::clone(&fixture.gate), fixture.shutdown.clone())),
    ];
    let mut stream = TcpStream::connect(tcp).await.unwrap();
    stream.write_all(b"cpu v=1\ncpu v=2\nbad\ncpu v=1").await.unwrap();
    fixture.wait_for(2).await;
    stream.write_all(b"5\n").await.unwrap();
    fixture.wait_for(3).await;
    drop(stream);

    let sender = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for datagram in [&b"mem v=1"[..], b"mem v=2\nmem v=3\n", b"bad"] {
        sender.send_to(datagram, udp).await.unwrap();
    }
    fixture.wait_for(6).await;
    let values: Vec<_> = fixture.samples().await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [1.0, 2.0, 15.0, 1.0, 2.0, 3.0]);
    fixture.shutdown.cancel();
    for serving in serving {
        serving.await.unwrap();
    }
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::NoValue), 2);
}

#[tokio::test]
async fn scrapers_that_do_not_read_hold_one_page_and_not_for_long() {
    let fixture = Fixture::start().await;
    let made = || fixture::PAGES_MADE.load(std::sync::atomic::Ordering::Relaxed);
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(fixture.address).await.unwrap();
        stream.write_all(b"GET /scrape HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        if deaf.is_empty() {
            // The answer begins when its page is made.
            stream.readable().await.unwrap();
        }
        deaf.push(stream);
    }
    assert_eq!(fixture.exchange("GET /page", "", b"").await.status, 200, "small pages do not wait");
    assert_eq!((made(), fixture.gate.is_free()), (1, false), "one page is made, held and charged");
    let mut reader = TcpStream::connect(fixture.address).await.unwrap();
    reader.write_all(b"GET /scrape HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), reader.read_to_end(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.len() > fixture::LARGE_PAGE_BYTES, "the others were cut");
    assert_eq!(made(), 4);
    for _ in 0..500 {
        if fixture.gate.is_free() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(fixture.gate.is_free(), "what is written is given back");
    fixture.stop().await;
}

#[tokio::test]
async fn a_source_whose_scrapers_never_read_holds_others_up_for_one_page_only() {
    let fixture = Fixture::start().await;
    let ask = async |from: [u8; 4]| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(fixture.address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        stream
    };
    let mut deaf = Vec::new();
    for _ in 0..6 {
        deaf.push(ask([127, 0, 0, 2]).await);
        if deaf.len() == 1 {
            deaf[0].readable().await.unwrap();
        }
    }
    for _ in 0..2 {
        let mut answer = Vec::new();
        ask([127, 0, 0, 1]).await.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..answer.len().min(200)]));
        assert!(answer.len() > fixture::LARGE_PAGE_BYTES);
    }
    drop(deaf);
    fixture.stop().await;
}
