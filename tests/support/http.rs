//! Blocking HTTP for tests: every status is an answer, only a broken connection is an error.

use serde_json::Value;
use std::sync::OnceLock;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

/// No answer of a test takes longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// No answer of a test is larger.
const BODY_BYTES_MAX: u64 = 256 << 20;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body as it came.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The seconds of `Retry-After`.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let seconds = self.headers.get("Retry-After")?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }
}

fn agent() -> &'static Agent {
    static AGENT: OnceLock<Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(TIMEOUT))
            .proxy(None)
            // Servers of tests come and go on the same port.
            .max_idle_connections(0)
            .allow_non_standard_methods(true)
            .build()
            .into()
    })
}

/// Sends one request.
pub(crate) fn try_send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer, String> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = if body.is_empty() && matches!(method, "GET" | "HEAD" | "DELETE") {
        agent().run(request.body(()).map_err(|error| error.to_string())?)
    } else {
        agent().run(request.body(body).map_err(|error| error.to_string())?)
    };
    let mut response = response.map_err(|error| error.to_string())?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
    Ok(Answer { status, headers, body: body.map_err(|error| error.to_string())? })
}

/// Sends one request that must be answered.
pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    try_send(method, url, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}

/// GET that may fail.
pub(crate) fn try_get(url: &str) -> Result<Answer, String> {
    try_send("GET", url, &[], b"")
}

/// GET that must succeed.
pub(crate) fn get(url: &str) -> Answer {
    let answer = send("GET", url, &[], b"");
    assert!((200..300).contains(&answer.status), "GET {url}: {} {}", answer.status, answer.text());
    answer
}

/// POST of plain bytes that must be answered.
pub(crate) fn post(url: &str, body: impl AsRef<[u8]>) -> Answer {
    send("POST", url, &[], body.as_ref())
}

/// A URL query of these parameters.
pub(crate) fn query(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}
