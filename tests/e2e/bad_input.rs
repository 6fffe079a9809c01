//! Input that is broken, hostile or endless, against every endpoint: a clear status, bounded memory, a healthy gateway.

use crate::support::gateway::{Gateway, gateway};
use crate::support::http;
use crate::support::server::eventually;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The endpoints that take bodies, and whether bad lines are answered with an error there (Wavefront never does).
const ENDPOINTS: &[(&str, u16)] = &[
    ("/api/v1/write", 400),
    ("/api/v1/import/prometheus", 400),
    ("/metrics/job/bad", 400),
    ("/write?db=d", 400),
    ("/api/v2/write?org=o&bucket=b", 400),
    ("/api/v3/write_lp?db=d", 400),
    ("/report?f=wavefront", 202),
];
/// No attack may make the gateway larger than this.
const RESIDENT_BYTES_MAX: u64 = 768 << 20;
/// Size of what the bombs inflate to.
const BOMB_BYTES: usize = 1 << 30;
/// An endless body or header has to be stopped before this.
const ENDLESS_BYTES_MAX: u64 = 2 << 30;
/// How long the gateway may take over a request that never ends.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

fn is_well(gateway: &Gateway) {
    for path in ["/-/healthy", "/-/ready"] {
        assert_eq!(http::send("GET", &gateway.url(path), &[], b"").status, 200, "{path}");
    }
    let answer = http::post(&gateway.url("/write?db=d"), "alive value=1");
    assert_eq!(answer.status, 204, "{}", answer.text());
    let resident = gateway.resident_bytes_max();
    assert!(resident < RESIDENT_BYTES_MAX, "{resident} bytes were resident");
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", gateway.port())).expect("it listens");
    stream.set_read_timeout(Some(ENDS_WITHIN)).expect("timeout");
    stream.set_write_timeout(Some(ENDS_WITHIN)).expect("timeout");
    stream
}

/// The status of what comes back on a raw connection; none where it was closed without an answer.
fn status(mut stream: &TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    let mut filled = 0;
    while filled < head.len() {
        match stream.read(&mut head[filled..]) {
            Ok(0) | Err(_) => return None,
            Ok(read) => filled += read,
        }
    }
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// Sends `piece` again and again until the gateway has had enough; how much it took.
fn pour(mut stream: &TcpStream, piece: &[u8]) -> u64 {
    let mut poured = 0;
    while poured < ENDLESS_BYTES_MAX {
        match stream.write(piece) {
            Ok(written) => poured += written as u64,
            Err(error) => {
                let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                assert!(!timed_out, "neither read nor refused after {poured} bytes");
                break;
            }
        }
    }
    poured
}

fn zeros(mut into: impl Write) {
    let piece = vec![b'a'; 1 << 20];
    for _ in 0..BOMB_BYTES / piece.len() {
        into.write_all(&piece).expect("memory takes it");
    }
}

#[test]
fn refuses_garbage_and_broken_encodings() {
    let gateway = gateway().start();
    let garbage: &[u8] = b"\xff\xfe\x00garbage !! {{{ \x80\n\n=,=,= 1 2 3\n";
    let mut truncated = GzEncoder::new(Vec::new(), Compression::default());
    truncated.write_all(b"some_metric 1\n").expect("memory");
    let mut truncated = truncated.finish().expect("memory");
    truncated.truncate(truncated.len() / 2);
    for (path, bad_lines) in ENDPOINTS {
        let post = |encoding: &str, body: &[u8]| {
            let headers: &[(&str, &str)] = if encoding.is_empty() { &[] } else { &[("Content-Encoding", encoding)] };
            http::send("POST", &gateway.url(path), headers, body)
        };
        let answer = post("", garbage);
        assert_eq!(answer.status, *bad_lines, "{path}: {}", answer.text());
        assert!(*bad_lines == 202 || !answer.body.is_empty(), "{path}: a refusal says why");
        // Remote write is Snappy only; elsewhere the encodings exist and the body contradicts them.
        let broken = if *path == "/api/v1/write" { 415 } else { 400 };
        assert_eq!(post("gzip", b"not gzip at all").status, broken, "{path}");
        assert_eq!(post("gzip", &truncated).status, broken, "{path}");
        assert_eq!(post("deflate", b"\xff\xff\xff\xff").status, broken, "{path}");
        assert_eq!(post("br", b"abc").status, 415, "{path}");
    }
    is_well(&gateway);
    assert!(gateway.metric("sluicegate_samples_rejected_total", &[]) > 0.0);
}

#[test]
fn refuses_corrupt_snappy_and_protobuf() {
    let gateway = gateway().start();
    let kinds = ["application/x-protobuf", "application/x-protobuf;proto=io.prometheus.write.v2.Request"];
    let mut huge = vec![0xff, 0xff, 0xff, 0xff, 0x0f];
    huge.extend_from_slice(&[0; 64]);
    let compressed = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).expect("memory");
    let cases: &[(&str, Vec<u8>, &[u16])] = &[
        ("empty", Vec::new(), &[400]),
        ("not snappy", b"\x05hello this is not snappy".to_vec(), &[400]),
        ("claims 4 GiB", huge, &[400, 413]),
        ("framed", b"\xff\x06\x00\x00sNaPpY".to_vec(), &[400]),
        ("garbage in snappy", compressed(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), &[400]),
        ("cut message", compressed(b"\x0a\x7f\x0a\x03abc"), &[400]),
        ("group tags", compressed(&[0x0b; 1000]), &[400]),
        ("bomb", compressed(&vec![0x0a; 256 << 20]), &[413]),
    ];
    for kind in kinds {
        for (name, body, allowed) in cases {
            let headers = [("Content-Type", kind), ("Content-Encoding", "snappy")];
            let answer = http::send("POST", &gateway.url("/api/v1/write"), &headers, body);
            assert!(allowed.contains(&answer.status), "{kind}, {name}: {} {}", answer.status, answer.text());
        }
    }
    for kind in ["application/json", "image/png", "application/x-protobuf;proto=some.Other"] {
        let headers = [("Content-Type", kind), ("Content-Encoding", "snappy")];
        let answer = http::send("POST", &gateway.url("/api/v1/write"), &headers, &cases[4].1);
        assert_eq!(answer.status, 415, "{kind}: {}", answer.text());
    }
    is_well(&gateway);
}

#[test]
fn refuses_bombs_in_bounded_memory() {
    let gateway = gateway().start();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    zeros(&mut gzip);
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    zeros(&mut deflate);
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("memory");
    zeros(&mut zstd);
    let bombs = [
        ("gzip", gzip.finish().expect("memory")),
        ("deflate", deflate.finish().expect("memory")),
        ("zstd", zstd.finish().expect("memory")),
    ];
    for (path, _) in ENDPOINTS.iter().filter(|(path, _)| *path != "/api/v1/write") {
        for (encoding, bomb) in &bombs {
            let answer = http::send("POST", &gateway.url(path), &[("Content-Encoding", *encoding)], bomb);
            assert_eq!(answer.status, 413, "{path} {encoding}: {}", answer.text());
        }
    }
    is_well(&gateway);
}

#[test]
fn refuses_what_is_declared_too_large_without_reading_it() {
    let gateway = gateway().start();
    for (path, _) in ENDPOINTS {
        let mut stream = connect(&gateway);
        write!(stream, "POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 1099511627776\r\n\r\nfirst bytes")
            .expect("sent");
        assert_eq!(status(&stream), Some(413), "{path}");
    }
    is_well(&gateway);
}

#[test]
fn stops_bodies_and_headers_without_end() {
    let gateway = gateway().start();
    let mut chunk = b"100000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x10_0000, b'#');
    chunk.extend_from_slice(b"\r\n");
    for (path, _) in ENDPOINTS {
        let mut stream = connect(&gateway);
        write!(stream, "POST {path} HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n").expect("sent");
        assert!(pour(&stream, &chunk) < ENDLESS_BYTES_MAX, "{path} reads on and on");
    }
    let mut stream = connect(&gateway);
    write!(stream, "GET /-/healthy HTTP/1.1\r\nHost: g\r\nX-Long: ").expect("sent");
    assert!(pour(&stream, &b"x".repeat(1 << 16)) < ENDLESS_BYTES_MAX, "the header is read on and on");
    let mut stream = connect(&gateway);
    write!(stream, "GET /-/healthy HTTP/1.1\r\n").expect("sent");
    assert!(pour(&stream, &b"X-Many: x\r\n".repeat(1000)) < ENDLESS_BYTES_MAX, "headers are read on and on");
    is_well(&gateway);
}

#[test]
fn half_sent_requests_hold_nobody_up() {
    let gateway = gateway().start();
    let mut open = Vec::new();
    for (path, _) in ENDPOINTS {
        for sent in ["", "POST", "half"] {
            let mut stream = connect(&gateway);
            if sent == "half" {
                write!(stream, "POST {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 100\r\n\r\nm value=1\n")
                    .expect("sent");
            } else {
                write!(stream, "{sent}").expect("sent");
            }
            open.push(stream);
        }
    }
    is_well(&gateway);
    drop(open);
    // What was cut off was never acknowledged and is not taken.
    eventually(ENDS_WITHIN, || {
        let page = gateway.scraped();
        page.value("alive", &[]).map(|_| assert!(page.select("m", &[]).next().is_none(), "half a body was taken"))
    });
    is_well(&gateway);
}

#[test]
fn refuses_paths_and_methods_that_do_not_exist() {
    let gateway = gateway().start();
    let cases = [
        ("GET", "/api/v1/write", 405),
        ("DELETE", "/write?db=d", 405),
        ("POST", "/nowhere", 404),
        ("POST", "/write?db=d&precision=fortnight", 400),
    ];
    for (method, path, expected) in cases {
        let answer = http::send(method, &gateway.url(path), &[], b"m value=1");
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
    }
    is_well(&gateway);
}

#[test]
fn good_lines_are_kept_and_bad_ones_named() {
    let gateway = gateway().start();
    for (path, body, line) in [
        ("/write?db=d", "kept_a value=1\nbroken value=\nkept_b value=2\n", "2"),
        ("/api/v2/write?org=o&bucket=b", "kept_c value=1\n\n# comment\nbroken\n", "4"),
        ("/api/v1/import/prometheus", "kept_d 1\nkept_e 2\nbroken{ 3\n", "3"),
    ] {
        let answer = http::post(&gateway.url(path), body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.text());
        assert!(answer.text().contains(line), "{path} names line {line}: {}", answer.text());
    }
    eventually(ENDS_WITHIN, || {
        let page = gateway.scraped();
        ["kept_a", "kept_b", "kept_c", "kept_d", "kept_e"].iter().try_for_each(|name| page.value(name, &[]).map(drop))
    });
    assert!(gateway.metric("sluicegate_samples_rejected_total", &[]) == 3.0);
}
