//! Requests whose end two programs might see in different places. Each either is refused and its connection closed, or is
//! exactly one request with exactly those bytes: what hides behind it is never executed. A proxy in front of the gateway can
//! therefore not be talked past.

use super::fixture::Fixture;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What hides: were it executed, its sample would be in the log.
const HIDDEN: &str = "POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhidden v=1\n";

/// What the gateway has to make of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// 400 (or no answer), the connection is closed, nothing is taken.
    Refused,
    /// One request; the sample `seen` is taken if it is one, and what follows in the body belongs to it.
    One,
}
use Fate::{One, Refused};

/// Request line and headers behind `Host`, body, fate.
fn shapes() -> Vec<(&'static str, String, String, Fate)> {
    let post = |headers: &str| format!("POST /write?db=d HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let chunked = |text: &str| format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len());
    let seen = "seen v=1\n";
    let empty_then_hidden = format!("0\r\n\r\n{HIDDEN}");
    let mut shapes = vec![
        ("plain", post("Content-Length: 9\r\n"), seen.into(), One),
        ("plain chunked", post("Transfer-Encoding: chunked\r\n"), chunked(seen), One),
        ("chunked, any case", post("transfer-ENCODING: ChUnKeD\r\n"), chunked(seen), One),
        (
            "an extension of a chunk",
            post("Transfer-Encoding: chunked\r\n"),
            "9;a=b\r\nseen v=1\n\r\n0\r\n\r\n".into(),
            One,
        ),
        ("a trailer", post("Transfer-Encoding: chunked\r\n"), "9\r\nseen v=1\n\r\n0\r\nX: y\r\n\r\n".into(), One),
    ];
    let refused: [(&str, &str); 21] = [
        ("two different lengths", "Content-Length: 4\r\nContent-Length: 100\r\n"),
        ("two different lengths in one", "Content-Length: 4, 100\r\n"),
        ("a negative length", "Content-Length: -1\r\n"),
        ("a length with a plus", "Content-Length: +4\r\n"),
        ("a length with a blank inside", "Content-Length: 1 0\r\n"),
        ("a length in hexadecimal", "Content-Length: 0x4\r\n"),
        ("a length beyond 64 bits", "Content-Length: 18446744073709551620\r\n"),
        ("an empty length", "Content-Length: \r\n"),
        ("a length that is no number", "Content-Length: four\r\n"),
        ("a blank before the colon", "Content-Length : 4\r\n"),
        ("a blank before the other colon", "Transfer-Encoding : chunked\r\n"),
        ("a folded line", "Transfer-Encoding:\r\n chunked\r\n"),
        ("a folded first line", " Transfer-Encoding: chunked\r\n"),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n"),
        ("a coding behind chunked", "Transfer-Encoding: chunked, identity\r\n"),
        ("identity alone", "Transfer-Encoding: identity\r\n"),
        ("a control byte before the coding", "Transfer-Encoding: \x0bchunked\r\n"),
        ("a bare carriage return", "X: y\rTransfer-Encoding: chunked\r\n"),
        ("a NUL in a value", "X: y\0\r\nContent-Length: 4\r\n"),
        ("no colon at all", "Content-Length 4\r\n"),
        ("an empty name", ": x\r\nContent-Length: 4\r\n"),
    ];
    shapes.extend(refused.map(|(what, headers)| (what, post(headers), empty_then_hidden.clone(), Refused)));
    let sizes: [(&str, &str); 9] = [
        ("a chunk of negative size", "-1"),
        ("a chunk with a plus", "+9"),
        ("a chunk in 0x", "0x9"),
        ("a chunk beyond 64 bits", "10000000000000009"),
        ("a chunk of no size", ""),
        ("a chunk with a blank inside", "0 9"),
        ("a chunk that is no number", "g"),
        ("a chunk ended by LF alone in an extension", "9;a\nb"),
        ("a chunk with a line feed alone", "9\nseen v=1\n\n0\n\n"),
    ];
    shapes.extend(sizes.map(|(what, size)| {
        let body = format!("{size}\r\nseen v=1\n\r\n0\r\n\r\n{HIDDEN}");
        (what, post("Transfer-Encoding: chunked\r\n"), body, Refused)
    }));
    let longer = "9\r\nseen v=1\nX\r\n0\r\n\r\n".to_owned() + HIDDEN;
    shapes.push(("a chunk longer than it says", post("Transfer-Encoding: chunked\r\n"), longer, Refused));
    shapes
}

/// Sends bytes, and reads until the gateway closes; whether it closed by itself, and the statuses of all answers.
async fn converse(fixture: &Fixture, bytes: &[u8]) -> (bool, Vec<u16>) {
    let mut stream = TcpStream::connect(fixture.address).await.unwrap();
    let _ = stream.write_all(bytes).await;
    let mut answers = Vec::new();
    let reading = async { while stream.read_buf(&mut answers).await.is_ok_and(|read| read > 0) {} };
    let closed = tokio::time::timeout(Duration::from_secs(2), reading).await.is_ok();
    let text = String::from_utf8_lossy(&answers);
    let statuses = text.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)?.parse().ok());
    (closed, statuses.collect())
}

#[tokio::test]
async fn a_request_is_refused_or_is_exactly_one() {
    for (what, head, body, fate) in shapes() {
        let fixture = Fixture::with(|limits| limits.read_timeout = Duration::from_millis(500), usize::MAX).await;
        let (closed, statuses) = converse(&fixture, &[head.as_bytes(), body.as_bytes()].concat()).await;
        let names: Vec<_> = fixture.samples().await.into_iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&"hidden.v".to_owned()), "{what}: the hidden request was executed: {statuses:?}");
        match fate {
            Refused => {
                assert!(matches!(statuses[..], [] | [400 | 408 | 501]), "{what}: {statuses:?}");
                assert!(closed && names.is_empty(), "{what}: closed {closed}, took {names:?}, answered {statuses:?}");
            }
            One => {
                assert_eq!(statuses.len(), 1, "{what}: {statuses:?}");
                assert_eq!(names, ["seen.v"], "{what}: {statuses:?}");
            }
        }
    }
}

/// Length and coding together: a proxy may have looked at the one, so the gateway must not go on behind the other. The
/// coding holds (RFC 9112, 6.3), or the request is refused; either way the connection ends.
#[tokio::test]
async fn a_request_with_length_and_coding_ends_the_connection_or_is_cut_where_both_agree() {
    let chunked = "9\r\nseen v=1\n\r\n0\r\n\r\n";
    for headers in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n".to_owned(),
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n", chunked.len() + HIDDEN.len()),
    ] {
        let fixture = Fixture::with(|limits| limits.read_timeout = Duration::from_millis(500), usize::MAX).await;
        let bytes = format!("POST /write?db=d HTTP/1.1\r\nHost: x\r\n{headers}\r\n{chunked}{HIDDEN}");
        let (closed, statuses) = converse(&fixture, bytes.as_bytes()).await;
        let names: Vec<_> = fixture.samples().await.into_iter().map(|(name, _)| name).collect();
        assert!(!names.contains(&"hidden.v".to_owned()), "{headers:?}: {names:?} {statuses:?}");
        assert!(closed && statuses.len() <= 1, "{headers:?}: {closed} {statuses:?}");
    }
}

#[tokio::test]
async fn other_shapes_that_confuse_proxies_are_one_request_each() {
    let write = "Content-Length: 9\r\n\r\nseen v=1\n";
    let cases = [
        // Two equal lengths are one (RFC 9110, 8.6).
        format!("POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n{write}"),
        // The absolute form wins over Host (RFC 9112, 3.2.2); no path depends on either.
        format!("POST http://other/write?db=d HTTP/1.1\r\nHost: x\r\n{write}"),
        format!("POST /write?db=d HTTP/1.1\r\nHost: x\r\nHost: y\r\n{write}"),
        format!("POST /write?db=d HTTP/1.0\r\n{write}"),
        // A line feed alone ends a header line (RFC 9112, 2.2, MAY): all of them in the same way.
        format!("POST /write?db=d HTTP/1.1\nHost: x\n{}", write.replace("\r\n", "\n")),
    ];
    for case in cases {
        let fixture = Fixture::with(|limits| limits.read_timeout = Duration::from_millis(500), usize::MAX).await;
        let (_, statuses) = converse(&fixture, case.as_bytes()).await;
        let names: Vec<_> = fixture.samples().await.into_iter().map(|(name, _)| name).collect();
        assert_eq!((&statuses[..], names), (&[204][..], vec!["seen.v".to_owned()]), "{case:?}");
    }
    // The body of a GET is not the next request.
    let fixture = Fixture::with(|limits| limits.read_timeout = Duration::from_millis(500), usize::MAX).await;
    let bytes = format!("GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    let (_, statuses) = converse(&fixture, bytes.as_bytes()).await;
    assert_eq!((statuses, fixture.samples().await.len()), (vec![200], 0));
}
