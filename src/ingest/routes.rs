//! Which path belongs to whom: the one place that knows all of them.

use super::answer::{Answer, COME_AGAIN, come_again, text, wrong_method};
use super::intake::{Charge, discard};
use super::{Gate, influx, influx_query, prometheus, pushgateway, remote_write, rsocket, wavefront};
use crate::model::Source;
use crate::wire::prometheus_names::Alphabet;
use crate::wire::prometheus_text::negotiation::Exposition;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Pages that are made at a time: they share their threads with decoders and readers of the log.
const PAGES_MAX: usize = 4;
/// Large pages (`/scrape`) at a time, from their making until they are written.
const LARGE_PAGES_MAX: usize = 1;
/// A page up to this size is part of what a connection may cost.
const SMALL_PAGE_BYTES_MAX: usize = 64 << 10;
/// A page of `/metrics/connected` is small up to so many samples.
const SMALL_PAGE_SAMPLES_MAX: usize = 5_000;
/// How long a request waits for its turn to have a page made.
const PAGE_WAIT: Duration = Duration::from_secs(10);
/// How long a page that is not small may take to be written; then its connection is cut, whose peer holds others up. Half as
/// long as a Prometheus server waits for a scrape, so that one that comes behind still gets its own.
const WRITTEN_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 3 } else { 5 });

/// What the gateway itself serves on the port of the inputs: `/metrics`, `/scrape`, `/api/v1/status`, the web page, health
/// and reload.
pub trait Pages: Send + Sync + 'static {
    /// The page at that path; none when there is no such page. Called on a thread that may block.
    fn page(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>>;
    /// Whether the page at that path grows with the number of series.
    fn is_large(&self, path: &str) -> bool;
}

/// Turns to have a page made. Sources take turns at large pages: of each only one request is in the line of all, its others
/// wait behind that, so one that asks again and again and never reads holds others up for one page at most.
#[derive(Debug)]
pub(super) struct Turns {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// Sources with requests for large pages.
    lines: Mutex<HashMap<Source, Arc<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        let turns = |pages| Arc::new(Semaphore::new(pages));
        Self { small: turns(PAGES_MAX), large: turns(LARGE_PAGES_MAX), lines: Mutex::default() }
    }
}

impl Turns {
    /// Waits for a turn to have a small page made; none after [`PAGE_WAIT`].
    async fn small(&self) -> Option<Turn> {
        let turn = timeout(PAGE_WAIT, Arc::clone(&self.small).acquire_owned()).await.ok()?.ok()?;
        Some(Turn { _page: turn, _line: None })
    }

    /// Waits for the turn of a source to have a large page made and written; none after [`PAGE_WAIT`].
    async fn large(&self, source: Source) -> Option<Turn> {
        let line = {
            let mut lines = self.lines.lock();
            lines.retain(|_, line| Arc::strong_count(line) > 1);
            Arc::clone(lines.entry(source).or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let turn = async {
            let first = line.acquire_owned().await.ok()?;
            let page = Arc::clone(&self.large).acquire_owned().await.ok()?;
            Some(Turn { _page: page, _line: Some(first) })
        };
        timeout(PAGE_WAIT, turn).await.ok()?
    }
}

/// A turn, given back when it is dropped.
struct Turn {
    _page: OwnedSemaphorePermit,
    _line: Option<OwnedSemaphorePermit>,
}

/// A page that is being written: the connection drops it with its last byte.
struct Held {
    page: Bytes,
    _charge: Charge,
    _turn: Option<Turn>,
    _written: DropGuard,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.page
    }
}

/// Answers one request. `cut` ends its connection.
pub(super) async fn answer(
    gate: &Arc<Gate>,
    pages: &Arc<dyn Pages>,
    peer: SocketAddr,
    cut: &CancellationToken,
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
        "/health" | "/metrics/connected" | "/metrics/proxy" => "GET, HEAD",
        _ => {
            let (head, body) = request.into_parts();
            discard(body).await;
            let (pages, is_large) = (Arc::clone(pages), pages.is_large(&path));
            return page(gate, from, cut, is_large, move || pages.page(&head.method, &path, &head.headers)).await;
        }
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
        "/metrics/connected" => {
            let connected = rsocket::Connected::gather(gate, request.headers()).await;
            let is_large = connected.samples() > SMALL_PAGE_SAMPLES_MAX;
            let make = move || Some(text_page(connected.content_type(), connected.page()));
            unread(request.into_body(), page(gate, from, cut, is_large, make).await).await
        }
        "/metrics/proxy" => {
            let content_type = Exposition::PrometheusText(Alphabet::Legacy).content_type();
            unread(request.into_body(), text_page(content_type, rsocket::proxy(gate))).await
        }
        _ => wavefront::answer(gate, from, request).await,
    }
}

fn text_page(content_type: &'static str, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::from(text.into()));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Has a page made, in its turn, on a thread that may block.
async fn page(
    gate: &Arc<Gate>,
    from: IpAddr,
    cut: &CancellationToken,
    is_large: bool,
    make: impl FnOnce() -> Option<Answer> + Send + 'static,
) -> Answer {
    let busy = || come_again(text(StatusCode::SERVICE_UNAVAILABLE, "too many pages are asked for at once"), COME_AGAIN);
    let turns = &gate.page_turns;
    let turn = if is_large { turns.large(gate.table.source(from)).await } else { turns.small().await };
    let Some(turn) = turn else { return busy() };
    if is_large && gate.memory.is_short() {
        return busy();
    }
    // A scrape of every series takes long; the workers have bodies to read. The turn goes along: the page is made to its
    // end even when its connection ends meanwhile.
    let making = tokio::task::spawn_blocking(move || (make(), turn));
    let (answer, turn) = match making.await {
        Ok((Some(page), turn)) => (page, turn),
        Ok((None, _)) => return text(StatusCode::NOT_FOUND, "there is nothing here"),
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be made"),
    };
    let turn = is_large.then_some(turn);
    let (head, body) = answer.into_parts();
    let Ok(page) = body.collect().await.map(http_body_util::Collected::to_bytes);
    if page.len() <= SMALL_PAGE_BYTES_MAX {
        return Response::from_parts(head, Full::new(page));
    }
    let mut charge = gate.flight.charge();
    // At most half of all: scrapers leave room for senders.
    if charge.raise(page.len().min(gate.flight.bytes_max() / 2)).await.is_err() {
        return busy();
    }
    let (written, cut) = (CancellationToken::new(), cut.clone());
    let held = Held { page, _charge: charge, _turn: turn, _written: written.clone().drop_guard() };
    tokio::spawn(async move {
        if timeout(WRITTEN_WITHIN, written.cancelled()).await.is_err() {
            cut.cancel();
        }
    });
    Response::from_parts(head, Full::new(Bytes::from_owner(held)))
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
