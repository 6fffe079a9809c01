//! One connection to an HTTP server: requests one after the other, without a pool, redirects or TLS.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address that can be connected to.
    #[error("{0}: expected http://host:port/path")]
    Target(Uri),
    /// The connection could not be made.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, std::io::Error),
    /// The connection broke.
    #[error("the connection to {0} broke: {1}")]
    Broken(String, hyper::Error),
    /// The answer is too long.
    #[error("the answer of {0} cannot be read: {1}")]
    Answer(String, Box<dyn std::error::Error + Send + Sync>),
    /// It took too long.
    #[error("no answer of {0} within {1:?}")]
    Timeout(String, Duration),
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<Duration>,
    /// Its body.
    pub body: Bytes,
}

/// The headers of a body.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// `Content-Encoding`, where there is one.
    pub content_encoding: Option<&'static str>,
    /// `X-Prometheus-Remote-Write-Version`, where the body is that.
    pub remote_write_version: Option<&'static str>,
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Client {
    /// Connects to the host of a URL.
    pub async fn connect(url: &Uri) -> Result<Self, ClientError> {
        let authority = authority(url)?;
        let connected = timeout(CONNECT_MAX, TcpStream::connect(&authority)).await;
        let stream = connected
            .map_err(|_| ClientError::Timeout(authority.clone(), CONNECT_MAX))?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|error| ClientError::Connect(authority.clone(), error))?;
        let (sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| ClientError::Broken(authority.clone(), error))?;
        tokio::spawn(connection);
        Ok(Self { authority, sender })
    }

    /// Sends a request, a GET where there is no body, and waits for the whole answer.
    pub async fn send(&mut self, url: &Uri, body: Option<(Headers, Bytes)>) -> Result<Answer, ClientError> {
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::default());
        *request.uri_mut() = path.parse().map_err(|_| ClientError::Target(url.clone()))?;
        let host = HeaderValue::try_from(&self.authority).map_err(|_| ClientError::Target(url.clone()))?;
        request.headers_mut().insert(HOST, host);
        if let Some((headers, body)) = body {
            *request.method_mut() = Method::POST;
            *request.body_mut() = Full::new(body);
            let version = HeaderName::from_static("x-prometheus-remote-write-version");
            for (name, value) in [
                (CONTENT_TYPE, Some(headers.content_type)),
                (CONTENT_ENCODING, headers.content_encoding),
                (version, headers.remote_write_version),
            ] {
                if let Some(value) = value {
                    request.headers_mut().insert(name, HeaderValue::from_static(value));
                }
            }
        }
        let broken = |error| ClientError::Broken(self.authority.clone(), error);
        let exchange = async {
            self.sender.ready().await.map_err(broken)?;
            let answer = self.sender.send_request(request).await.map_err(broken)?;
            let (head, body) = answer.into_parts();
            let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| ClientError::Answer(self.authority.clone(), error))?.to_bytes();
            Ok(Answer { status: head.status, retry_after: seconds.map(Duration::from_secs), body })
        };
        let timed_out = || ClientError::Timeout(self.authority.clone(), ANSWER_MAX);
        timeout(ANSWER_MAX, exchange).await.map_err(|_| timed_out())?
    }
}

/// Host and port of a plain HTTP URL.
pub fn authority(url: &Uri) -> Result<String, ClientError> {
    match (url.scheme_str(), url.host()) {
        (Some("http"), Some(host)) => Ok(format!("{host}:{}", url.port_u16().unwrap_or(80))),
        _ => Err(ClientError::Target(url.clone())),
    }
}
