//! HTTP/1.1 and HTTP/2 on one connection.
//!
//! A connection is bounded in what a head may weigh ([`HEAD_BYTES_MAX`]), in how long the first head may take
//! (`limits.read_timeout`), how long every further one together with the silence before it (`limits.idle_timeout`), and in
//! how long its peer may leave an answer unread ([`STALLED_MAX`]; less where the answer is a large page: `routes`).

use super::Gate;
use super::answer::Answer;
use super::connections::{STALLED_MAX, Watched, accept};
use super::routes::{self, Pages};
use crate::config::Limits;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Bytes of a request line and its headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 64;
/// Window of an HTTP/2 stream: what may lie unread of one body.
const STREAM_WINDOW: u32 = 128 << 10;
/// Window of an HTTP/2 connection: the same of all its bodies.
const CONNECTION_WINDOW: u32 = 256 << 10;
/// Bytes of answers that wait for an HTTP/2 peer.
const SEND_BYTES_MAX: usize = 128 << 10;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);

/// Serves every HTTP path of every ecosystem, and `pages`, until `shutdown`. Returns when running requests are answered.
pub async fn serve_http(listener: TcpListener, gate: Arc<Gate>, pages: Arc<dyn Pages>, shutdown: CancellationToken) {
    accept(listener, Arc::clone(&gate), shutdown, move |stream, peer, shutdown| {
        let (gate, pages) = (Arc::clone(&gate), Arc::clone(&pages));
        async move {
            let stream = Watched::new(stream, STALLED_MAX);
            let patience = Patience::of(&gate.limits);
            let cut = CancellationToken::new();
            let cutting = cut.clone();
            let answer = move |request| {
                let (gate, pages, cut) = (Arc::clone(&gate), Arc::clone(&pages), cutting.clone());
                async move { routes::answer(&gate, &pages, peer, &cut, request).await }
            };
            tokio::select! {
                () = serve_connection(stream, patience, shutdown, answer) => {}
                () = cut.cancelled() => {}
            }
        }
    })
    .await;
}

/// Serves one connection that is no socket, for the fuzz target. There are no pages behind it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) async fn serve_bytes<I>(io: I, gate: Arc<Gate>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    struct NoPages;
    impl Pages for NoPages {
        fn page(&self, _: &hyper::Method, _: &str, _: &hyper::HeaderMap) -> Option<Answer> {
            None
        }
        fn is_large(&self, _: &str) -> bool {
            false
        }
    }
    let (pages, peer): (Arc<dyn Pages>, _) = (Arc::new(NoPages), ([127, 0, 0, 1], 1).into());
    let patience = Patience::of(&gate.limits);
    let answer = move |request| {
        let (gate, pages) = (Arc::clone(&gate), Arc::clone(&pages));
        async move { routes::answer(&gate, &pages, peer, &CancellationToken::new(), request).await }
    };
    serve_connection(io, patience, CancellationToken::new(), answer).await;
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    first_head: Duration,
    idle: Duration,
}

impl Patience {
    /// What the limits say.
    pub(super) fn of(limits: &Limits) -> Self {
        Self { first_head: limits.read_timeout, idle: limits.idle_timeout }
    }
}

/// Serves the requests of one connection; on `shutdown`, finishes the running ones.
pub(super) async fn serve_connection<I, F, A>(io: I, patience: Patience, shutdown: CancellationToken, answer: F)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    let (heard, running) = (AtomicU64::new(0), Arc::new(AtomicUsize::new(0)));
    let service = service_fn(|request| {
        heard.fetch_add(1, Ordering::Relaxed);
        let running = Running::new(&running);
        let answer = answer(request);
        async move {
            let answer = answer.await;
            drop(running);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.idle)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        // A sender that closes its half behind the request still waits for the answer.
        .half_close(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_EVERY)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BYTES_MAX);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let idle = async {
        sleep(patience.first_head).await;
        let mut before = 0;
        // HTTP/1 ends idle connections by itself, HTTP/2 lets pings keep them.
        while heard.load(Ordering::Relaxed) > before || running.load(Ordering::Relaxed) > 0 {
            before = heard.load(Ordering::Relaxed);
            sleep(patience.idle).await;
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = idle => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// A request that is being answered.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
