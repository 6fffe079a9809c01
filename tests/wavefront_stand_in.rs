//! The stand-in proxy of the end-to-end tests: that it takes what a proxy takes, from plain connections and requests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support"]
mod support {
    pub(crate) mod wavefront_line;
    pub(crate) mod wavefront_proxy;
}

use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::wavefront_proxy::WavefrontProxy;

const TIMEOUT: Duration = Duration::from_secs(10);

fn connected(proxy: &WavefrontProxy) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// Sends a request on the connection and returns the status.
fn post(stream: &mut TcpStream, query: &str, headers: &str, body: &[u8]) -> u16 {
    let head = format!("POST /report{query} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer[9..12]).parse().unwrap()
}

#[test]
fn plain_lines_and_requests_meet_on_one_port() {
    let proxy = WavefrontProxy::start();
    assert_eq!(proxy.url().replace("http", "tcp"), proxy.tcp_url());
    let mut plain = connected(&proxy);
    plain.write_all(b"m 1 1700000000 source=h k=v\nm:x 1\nlast without line end").unwrap();
    drop(plain);
    assert!(proxy.wait_for(|points| points.len() == 1, TIMEOUT));

    let mut http = connected(&proxy);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"\"n\" 2.5 1700000000123 source=\"h\"\n").unwrap();
    assert_eq!(post(&mut http, "?f=wavefront", "Content-Encoding: gzip\r\n", &gzip.finish().unwrap()), 202);
    assert_eq!(post(&mut http, "?f=wavefront", "Content-Encoding: gzip\r\n", b"no gzip"), 400);
    let points = proxy.points();
    let shown: Vec<_> = points.iter().map(|p| (p.name.as_str(), p.value, p.timestamp_ms, p.tags.len())).collect();
    assert_eq!(shown, [("m", 1.0, 1_700_000_000_000, 1), ("n", 2.5, 1_700_000_000_123, 0)]);
}

#[test]
fn refused_lines_are_answered_with_202_and_kept_with_their_code() {
    let proxy = WavefrontProxy::start();
    let mut http = connected(&proxy);
    let body = b"a 1 k=\"\"\nb 1 k\n!M #1 1 h\nc NaN\n\xe2\x88\x86d 0\n";
    assert_eq!(post(&mut http, "?f=wavefront", "", body), 202);
    assert_eq!(post(&mut http, "?f=histogram", "", b"!M #1 1 h source=x\na 1"), 202);
    let codes: Vec<_> = proxy.rejected().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(codes, ["WF-414", "WF-300", "WF-300", "non-finite", "WF-404", "WF-300"]);
    assert_eq!((proxy.points().len(), proxy.distributions().len()), (0, 1));
}

#[test]
fn answers_follow_the_script_and_keep_nothing_they_refuse() {
    let proxy = WavefrontProxy::start();
    proxy.answer_next(&[503, 429, 200]);
    let mut http = connected(&proxy);
    let statuses: Vec<_> = (0..4).map(|_| post(&mut http, "", "", b"m 1 1700000000 source=h\n")).collect();
    assert_eq!(statuses, [503, 429, 200, 202]);
    assert_eq!((proxy.points().len(), proxy.requests()), (2, 4));
}

#[test]
fn age_is_judged_where_asked() {
    let proxy = WavefrontProxy::start_with(support::wavefront_line::PROXY, true);
    assert_eq!(post(&mut connected(&proxy), "", "", b"m 1 1000000000 source=h\nm 1 source=h\nm 1 5e9 source=h"), 202);
    assert_eq!((proxy.points().len(), proxy.rejected().len()), (1, 2));
}
