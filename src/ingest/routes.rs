//! Which path belongs to whom: the one place that knows all of them.

use super::answer::{Answer, text, wrong_method};
use super::intake::discard;
use super::{Gate, influx, influx_query, prometheus, pushgateway, remote_write, wavefront};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// What the gateway itself serves on the port of the inputs: `/metrics`, `/scrape`, `/api/v1/status`, the web page, health
/// and reload.
pub trait Pages: Send + Sync + 'static {
    /// The page at that path; none when there is no such page. Called on a thread that may block.
    fn page(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>>;
}

/// Answers one request.
pub(super) async fn answer(
    gate: &Arc<Gate>,
    pages: &Arc<dyn Pages>,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Answer {
    let from = peer.ip();
    let path = collapse_slashes(request.uri().path()).into_owned();
    if let Some(grouping) = pushgateway::grouping_of(&path) {
        return match request.method() {
            &Method::POST | &Method::PUT | &Method::DELETE => pushgateway::answer(gate, from, grouping, request).await,
            _ => unread(request.into_body(), wrong_method("POST, PUT, DELETE")).await,
        };
    }
    let allowed = match path.as_str() {
        "/api/v1/write" | "/api/v1/push" | "/write" | "/api/v2/write" | "/api/v3/write_lp" | "/report"
        | "/api/v2/event" => "POST",
        "/api/v1/import/prometheus" => "POST, PUT",
        "/query" => "GET, POST",
        "/ping" => "GET, HEAD, POST",
        "/health" => "GET, HEAD",
        _ => return page(pages, path, request).await,
    };
    if !allowed.split(", ").any(|method| method == request.method().as_str()) {
        return unread(request.into_body(), wrong_method(allowed)).await;
    }
    match path.as_str() {
        "/api/v1/write" | "/api/v1/push" => remote_write::answer(gate, from, request).await,
        "/api/v1/import/prometheus" => prometheus::answer(gate, from, request).await,
        "/write" => influx::answer_v1(gate, from, request).await,
        "/api/v2/write" => influx::answer_v2(gate, from, request).await,
        "/api/v3/write_lp" => influx::answer_v3(gate, from, request).await,
        "/query" => influx_query::answer(gate, request).await,
        "/ping" => influx::answer_ping(&request),
        "/health" => influx::answer_health(),
        _ => wavefront::answer(gate, from, request).await,
    }
}

async fn page(pages: &Arc<dyn Pages>, path: String, request: Request<Incoming>) -> Answer {
    let pages = Arc::clone(pages);
    let (head, body) = request.into_parts();
    // A scrape of every series takes long; the workers have bodies to read.
    let made = tokio::task::spawn_blocking(move || pages.page(&head.method, &path, &head.headers)).await;
    let answer = match made {
        Ok(Some(page)) => page,
        Ok(None) => text(StatusCode::NOT_FOUND, "there is nothing here"),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made"),
    };
    unread(body, answer).await
}

/// An answer to a request whose body is of no interest: read all the same, so that the sender gets to read the answer.
async fn unread(body: Incoming, answer: Answer) -> Answer {
    discard(body).await;
    answer
}

/// `//a//b` is `/a/b`: senders join a base URL and a path with a slash too many.
fn collapse_slashes(path: &str) -> Cow<'_, str> {
    if !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut collapsed = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !collapsed.ends_with('/') {
            collapsed.push(character);
        }
    }
    Cow::Owned(collapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_collapse() {
        for (path, collapsed) in [("/a", "/a"), ("//a///b/", "/a/b/"), ("/", "/"), ("//", "/")] {
            assert_eq!(collapse_slashes(path), collapsed);
        }
    }
}
