//! Requests to destinations: HTTP with the configured client, and the Wavefront proxy's line socket.

use super::verdict::Answer;
use crate::config;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Bytes of an answer's body that are read.
pub const ANSWER_BYTES_MAX: usize = 16 << 10;
/// Redirects that one request follows.
const REDIRECTS_MAX: usize = 5;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the idle limits of common load balancers (60 s) and of the Wavefront proxy (300 s).
const POOL_IDLE: Duration = Duration::from_secs(50);

/// What the gateway calls itself.
pub const USER_AGENT: &str = concat!("sluicegate/", env!("CARGO_PKG_VERSION"));

/// The request did not get an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// There is no connection: the destination has nothing of the request.
    #[error("{0}")]
    Connect(String),
    /// HTTP failed before an answer came. The destination may have taken the request.
    #[error("{0}")]
    Http(String),
    /// The line socket failed. Some lines may have arrived.
    #[error("cannot write to {address}: {source}")]
    Socket {
        /// The socket's address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The line socket took too long. Some lines may have arrived.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

impl SendError {
    /// Whether the destination may have something of the request.
    pub fn began(&self) -> bool {
        !matches!(self, Self::Connect(_))
    }
}

/// A client could not be made from its configuration.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A file of `tls_config` cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The pieces do not fit together.
    #[error("cannot set up the HTTP client: {0}")]
    Client(String),
}

/// An HTTP client with the credentials and TLS of one output.
#[derive(Clone, Debug)]
pub struct HttpClient {
    client: reqwest::Client,
    headers: HeaderMap,
}

impl HttpClient {
    /// The client of a configuration.
    pub fn try_new(config: &config::HttpClient) -> Result<Self, ClientError> {
        Self::from_builder(config, reqwest::Client::builder())
    }

    fn from_builder(config: &config::HttpClient, builder: reqwest::ClientBuilder) -> Result<Self, ClientError> {
        let failed = |error: &dyn std::fmt::Display| ClientError::Client(error.to_string());
        let mut builder = builder
            .user_agent(USER_AGENT)
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            .pool_idle_timeout(POOL_IDLE)
            // A request that times out takes its connection along in HTTP/1 only. One of HTTP/2 whose peer answers no ping
            // ends before its request does, and the next request finds another.
            .http2_keep_alive_interval(config.timeout / 4)
            .http2_keep_alive_timeout(config.timeout / 2)
            .redirect(Policy::custom(redirect))
            .tls_danger_accept_invalid_certs(config.tls.insecure_skip_verify);
        if let Some(path) = &config.tls.ca_file {
            let certificates = reqwest::Certificate::from_pem_bundle(&read(path)?).map_err(|error| failed(&error))?;
            builder = builder.tls_certs_only(certificates);
        }
        if let (Some(certificate), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
            let mut pem = read(certificate)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            builder = builder.identity(reqwest::Identity::from_pem(&pem).map_err(|error| failed(&error))?);
        }
        if let Some(url) = &config.proxy_url {
            builder = builder.proxy(reqwest::Proxy::all(url).map_err(|error| failed(&error))?);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            let name = HeaderName::try_from(name).map_err(|error| failed(&error))?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|error| failed(&error))?);
        }
        if let Some(value) = authorization(config) {
            let mut value = HeaderValue::try_from(value).map_err(|error| failed(&error))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(Self { client: builder.build().map_err(|error| failed(&error))?, headers })
    }

    /// POSTs a body. `own` headers win over configured ones.
    pub async fn post(&self, url: &str, own: &HeaderMap, body: Bytes) -> Result<Answer, SendError> {
        let mut headers = self.headers.clone();
        for (name, value) in own {
            headers.insert(name, value.clone());
        }
        let answer = self.client.post(url).headers(headers).body(body).send().await.map_err(http_error)?;
        read_answer(answer).await
    }
}

/// Follows only the redirects that keep method and body: the others would turn a write into a GET, whose success means
/// nothing.
fn redirect(attempt: Attempt<'_>) -> reqwest::redirect::Action {
    let keeps_body = matches!(attempt.status().as_u16(), 307 | 308);
    if keeps_body && attempt.previous().len() <= REDIRECTS_MAX { attempt.follow() } else { attempt.stop() }
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|source| ClientError::File { path: path.display().to_string(), source })
}

fn authorization(config: &config::HttpClient) -> Option<String> {
    use base64::Engine;
    if let Some(basic) = &config.basic_auth {
        let pair = format!("{}:{}", basic.username, basic.password.reveal());
        return Some(format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)));
    }
    config.authorization.as_ref().map(|given| format!("{} {}", given.kind, given.credentials.reveal()))
}

/// The error with its causes: reqwest's own text stops at "error sending request". Without the URL, whose query may hold
/// a secret.
fn http_error(error: reqwest::Error) -> SendError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    if error.is_connect() { SendError::Connect(text) } else { SendError::Http(text) }
}

async fn read_answer(mut answer: reqwest::Response) -> Result<Answer, SendError> {
    let number = |name: &str| answer.headers().get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let samples = number("x-prometheus-remote-write-samples-written");
    let histograms = number("x-prometheus-remote-write-histograms-written");
    let exemplars = number("x-prometheus-remote-write-exemplars-written");
    let any = samples.or(histograms).or(exemplars).is_some();
    let written = any.then(|| samples.unwrap_or(0).saturating_add(histograms.unwrap_or(0)));
    let retry_after = answer.headers().get(RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let status = answer.status().as_u16();
    let mut body = Vec::new();
    // The status is the answer; a body that breaks off takes nothing from it.
    while let Ok(Some(chunk)) = answer.chunk().await {
        body.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - body.len())]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(Answer { status, retry_after, written, body: String::from_utf8_lossy(&body).into_owned() })
}

/// `Retry-After`: seconds, or a date.
fn retry_after(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    let then = i64::try_from(date.as_nanosecond()).ok()?;
    Some(crate::clock::age(then, crate::clock::now()))
}

/// A Wavefront proxy's line socket. There is no answer: a line is delivered once the kernel took it, which is weaker than
/// the acknowledgement of HTTP; a connection found broken is replaced and the request repeated.
#[derive(Debug)]
pub struct LineSocket {
    host: String,
    port: u16,
    timeout: Duration,
    stream: Mutex<Option<TcpStream>>,
}

impl LineSocket {
    /// A socket that connects when first used.
    pub fn new(host: String, port: u16, timeout: Duration) -> Self {
        Self { host, port, timeout, stream: Mutex::new(None) }
    }

    /// Writes lines.
    pub async fn write(&self, lines: &[u8]) -> Result<(), SendError> {
        let mut stream = self.stream.lock().await;
        let address = format!("{}:{}", self.host, self.port);
        let mut open = match stream.take() {
            Some(open) if !is_closed(&open) => open,
            _ => {
                let refused =
                    |why: &dyn std::fmt::Display| SendError::Connect(format!("cannot connect to {address}: {why}"));
                let connecting = TcpStream::connect((self.host.as_str(), self.port));
                let connected =
                    tokio::time::timeout(self.timeout, connecting).await.map_err(|error| refused(&error))?;
                connected.map_err(|error| refused(&error))?
            }
        };
        let writing = tokio::time::timeout(self.timeout, async {
            open.write_all(lines).await?;
            open.flush().await
        });
        let written = writing.await.map_err(|_| SendError::Timeout(self.timeout))?;
        written.map_err(|source| SendError::Socket { address, source })?;
        *stream = Some(open);
        Ok(())
    }
}

/// Whether the peer has closed: it never sends anything, so whatever is readable is the end.
fn is_closed(stream: &TcpStream) -> bool {
    !matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn a_connection_of_http_2_that_stands_still_is_replaced() {
        const NO_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    stream.write_all(&NO_SETTINGS).await.unwrap();
                    while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {}
                });
            }
        });
        let config = config::HttpClient { timeout: Duration::from_millis(400), ..config::HttpClient::default() };
        let client = HttpClient::from_builder(&config, reqwest::Client::builder().http2_prior_knowledge()).unwrap();
        let mut requests = 0;
        while connections.load(Ordering::Relaxed) < 3 && requests < 30 {
            let answer = client.post(&url, &HeaderMap::new(), Bytes::from_static(b"x")).await;
            assert!(answer.is_err(), "{answer:?}");
            requests += 1;
        }
        assert_eq!(connections.load(Ordering::Relaxed), 3, "{requests} requests");
        serving.abort();
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("120"), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let left = retry_after("Fri, 31 Dec 2100 23:59:59 GMT").unwrap();
        assert!(left > Duration::from_secs(86_400));
        assert_eq!(retry_after("soon"), None);
    }
}
