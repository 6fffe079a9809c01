//! The request that makes a connection one of WebSocket: on any path, as prometheus-rsocket-proxy takes it. Everything else is
//! answered 426.

use crate::ingest::answer::{Answer, text};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::convert::Infallible;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Bytes of a request line and its headers.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// No WebSocket came of a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("no request for WebSocket came")]
    NotAsked,
    #[error("the gateway is shutting down")]
    Shutdown,
}

/// Answers requests until one asks for WebSocket.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    patience: Duration,
    shutdown: &CancellationToken,
) -> Result<TokioIo<Upgraded>, UpgradeError> {
    let upgraded: Mutex<Option<OnUpgrade>> = Mutex::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = answer(&request);
        if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            *upgraded.lock() = Some(hyper::upgrade::on(&mut request));
        }
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::select! {
        result = connection => result?,
        () = shutdown.cancelled() => return Err(UpgradeError::Shutdown),
    }
    let asked = upgraded.lock().take();
    match asked {
        Some(upgraded) => Ok(TokioIo::new(upgraded.await?)),
        None => Err(UpgradeError::NotAsked),
    }
}

fn answer<B>(request: &Request<B>) -> Answer {
    let mut head = Request::new(());
    (*head.method_mut(), *head.version_mut()) = (request.method().clone(), request.version());
    head.headers_mut().clone_from(request.headers());
    match tungstenite::handshake::server::create_response(&head) {
        Ok(response) => response.map(|()| http_body_util::Full::default()),
        Err(error) => {
            let message = format!("expected a request for WebSocket: {error}");
            let mut answer = text(StatusCode::UPGRADE_REQUIRED, &message);
            answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            answer
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// What a request is answered with, and whether a WebSocket came of it.
    async fn ask(request: &str) -> (String, bool) {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let talk = async move {
            client.write_all(request.as_bytes()).await.unwrap();
            let mut head = Vec::new();
            while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                assert!(client.read_buf(&mut head).await.unwrap() > 0);
            }
            String::from_utf8(head).unwrap()
        };
        let never = CancellationToken::new();
        let (head, upgraded) = tokio::join!(talk, upgrade(server, Duration::from_secs(5), &never));
        (head, upgraded.is_ok())
    }

    #[tokio::test]
    async fn any_path_becomes_a_websocket() {
        for path in ["/", "/rsocket", "/a/b?c=d"] {
            // Key and answer are those of RFC 6455.
            let (head, upgraded) = ask(&format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            ))
            .await;
            assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
            assert!(upgraded);
        }
    }

    #[tokio::test]
    async fn other_requests_are_told_what_is_expected() {
        for request in [
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
        ] {
            let (head, upgraded) = ask(request).await;
            assert!(head.contains(" 426 ") && head.contains("upgrade: websocket"), "{head}");
            assert!(!upgraded);
        }
    }
}
