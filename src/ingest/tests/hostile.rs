//! Senders that are slow, endless, broken or lying.

use super::fixture::{Exchange, Fixture};
use crate::model::{Format, Refusal};
use crate::wire::compression::gzip;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn small() -> Fixture {
    let adjust = |limits: &mut crate::config::Limits| {
        limits.body_bytes_max = 64 << 10;
        limits.decompressed_bytes_max = 128 << 10;
        limits.read_timeout = Duration::from_millis(200);
    };
    Fixture::with(adjust, usize::MAX).await
}

#[tokio::test]
async fn bodies_beyond_the_limits_are_refused_by_name() {
    let fixture = small().await;
    let zeros = vec![b'\n'; 1 << 20];
    let zstd_bomb = zstd::encode_all(&zeros[..], 1).unwrap();
    let gzip_bomb = gzip(&zeros);
    let snappy_bomb = crate::wire::compression::snappy(&zeros);
    let cases: [(&str, &str, &[u8], &str); 4] = [
        ("POST /write?db=d", "", &zeros, "limits.max_body_bytes"),
        ("POST /write?db=d", "Content-Encoding: gzip\r\n", &gzip_bomb, "limits.max_decompressed_bytes"),
        ("POST /api/v2/write", "Content-Encoding: zstd\r\n", &zstd_bomb, "limits.max_decompressed_bytes"),
        ("POST /api/v1/write", "", &snappy_bomb, "limits.max_decompressed_bytes"),
    ];
    for (request, headers, body, limit) in cases {
        let answer = fixture.exchange(request, headers, body).await;
        assert_eq!(answer.status, 413, "{request} {headers} {answer:?}");
        assert!(answer.contains(limit), "{answer:?}");
    }
    // A block that claims 1 GiB is no large body but a broken one.
    let claim = [0x80, 0x80, 0x80, 0x80, 0x04, 0x00];
    let answer = fixture.exchange("POST /api/v1/write", "", &claim).await;
    assert!(answer.status == 400 && answer.contains("1073741824 bytes declared, 6 present"), "{answer:?}");
    assert!(fixture.samples().await.is_empty());
}

#[tokio::test]
async fn a_large_body_to_the_wrong_place_is_told_so() {
    let fixture = small().await;
    let body = vec![b'x'; 8 << 20];
    for (request, status) in [("POST /nothing", 404), ("PUT /api/v1/write", 405), ("PATCH /metrics/job/j", 405)] {
        assert_eq!(fixture.exchange(request, "", &body).await.status, status, "{request}");
    }
}

#[tokio::test]
async fn an_endless_chunked_body_is_cut() {
    let fixture = small().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        let chunk = [&b"1000\r\n"[..], &[b'#'; 0x1000], b"\r\n"].concat();
        while writer.write_all(&chunk).await.is_ok() {}
    });
    let mut head = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut reader, &mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 413");
    drop(reader);
    tokio::time::timeout(Duration::from_secs(10), sending).await.expect("the connection was closed").unwrap();
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let fixture = small().await;
    let many = "X-Many: y\r\n".repeat(200);
    let answer = fixture.exchange("GET /ping", &many, b"").await;
    assert_eq!(answer.status, 431, "too many headers {answer:?}");
    let long = format!("X: {}\r\n", "y".repeat(100 << 10));
    let answer = fixture.exchange("GET /ping", &long, b"").await;
    assert_eq!(answer.status, 431, "too long a head");
}

#[tokio::test]
async fn silent_senders_are_cut_off() {
    let fixture = small().await;
    let answer = fixture.send(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\ncpu").await;
    assert_eq!(answer.status, 408, "half a body: {answer:?}");
    assert!(answer.contains("connection: close"));
    let answer = fixture.send(b"POST /write?db=d HTT").await;
    assert!(matches!(answer.status, 0 | 408), "half a head: {answer:?}");
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Body), 1);
}

#[tokio::test]
async fn a_dripping_sender_is_cut_off_in_the_end() {
    let fixture = small().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let dripping = tokio::spawn(async move {
        while writer.write_all(b"#").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut head = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut reader, &mut head);
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("within ten timeouts").unwrap();
    assert_eq!(&head, b"HTTP/1.1 408");
    drop(reader);
    dripping.abort();
}

#[tokio::test]
async fn a_body_cut_by_its_sender_leaves_nothing() {
    let fixture = small().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\ncpu v=1\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = Exchange::read(&mut stream).await;
    assert!(matches!(answer.status, 0 | 400), "{answer:?}");
    assert!(fixture.samples().await.is_empty());
    assert_eq!(fixture.rejected(Format::InfluxLine, Refusal::Body), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let fixture = small().await;
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let write = b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\ncpu v=1\n";
    let ping = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(&[&write[..], write, ping].concat()).await.unwrap();
    let mut text = String::new();
    tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut text).await.unwrap();
    let statuses: Vec<_> = text.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert_eq!(statuses, ["HTTP/1.1 204 No Content", "HTTP/1.1 204 No Content", "HTTP/1.1 200 OK"]);
    assert_eq!(fixture.samples().await.len(), 2);
}

#[tokio::test]
async fn old_and_half_closed_requests_are_answered() {
    let fixture = small().await;
    let old = fixture.send(b"POST /write?db=d HTTP/1.0\r\nContent-Length: 8\r\n\r\ncpu v=1\n").await;
    assert_eq!(old.status, 204);
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    stream.write_all(b"POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\ncpu v=1\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(Exchange::read(&mut stream).await.status, 204);
    assert_eq!(fixture.samples().await.len(), 2);
}

#[tokio::test]
async fn what_is_not_http_is_refused() {
    let fixture = small().await;
    for bytes in [&b"\x00\x01\x02\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"] {
        let answer = fixture.send(bytes).await;
        assert!(matches!(answer.status, 0 | 400 | 408), "{answer:?}");
    }
    assert_eq!(fixture.exchange("GET /ping", "", b"").await.status, 204, "others go on");
}
