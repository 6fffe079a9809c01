//! HTTP/1.1 and HTTP/2 connections: accepting them, bounding them, ending them.
//!
//! A connection is bounded in what a head may weigh ([`HEAD_BYTES_MAX`]), in how long the first head may take
//! (`read_timeout`) and how long every further one together with the silence before it ([`IDLE_MAX`] times that), and in how
//! long its peer may leave an answer unread ([`STALLED_MAX`]). Beyond `connections_max` nothing is accepted: the kernel's
//! backlog waits.

use super::Gate;
use super::answer::Answer;
use super::routes::{self, Pages};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Bytes of a request line and its headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of a request.
const HEADERS_MAX: usize = 100;
/// So many times `read_timeout` may pass between an answer and the end of the next head. Senders that come every minute
/// keep their connection; one that is closed just when it is used costs them a request.
const IDLE_MAX: u32 = 4;
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 64;
/// Window of an HTTP/2 stream: what may lie unread of one body.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of an HTTP/2 connection: the same of all its bodies.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// How often an HTTP/2 peer is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// A connection on which nothing moved for so long is closed. As long as a Wavefront proxy grants.
pub(super) const STALLED_MAX: Duration = Duration::from_secs(300);
/// How long connections may take to finish when the gateway shuts down.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves every HTTP path of every ecosystem, and `pages`, until `shutdown`. Returns when running requests are answered.
pub async fn serve_http(listener: TcpListener, gate: Arc<Gate>, pages: Arc<dyn Pages>, shutdown: CancellationToken) {
    accept(listener, gate.limits.connections_max, shutdown, move |stream, peer, shutdown| {
        let (gate, pages) = (Arc::clone(&gate), Arc::clone(&pages));
        async move {
            let stream = Watched::new(stream, STALLED_MAX);
            let read_timeout = gate.limits.read_timeout;
            let answer = move |request| {
                let (gate, pages) = (Arc::clone(&gate), Arc::clone(&pages));
                async move { routes::answer(&gate, &pages, peer, request).await }
            };
            serve_connection(stream, read_timeout, shutdown, answer).await;
        }
    })
    .await;
}

/// Accepts connections until `shutdown`, never more than `connections_max` at a time, and waits for them to finish.
pub(super) async fn accept<F, C>(listener: TcpListener, connections_max: usize, shutdown: CancellationToken, serve: F)
where
    F: Fn(TcpStream, SocketAddr, CancellationToken) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    // Cuts what has not finished in time: dropped with this function's frame.
    let cut = CancellationToken::new();
    let _cut_at_end = cut.clone().drop_guard();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                // On a listener of both kinds, an IPv4 peer comes as `::ffff:192.0.2.1`; it names the sources of points.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                // An answer is one small write; a delayed one costs the sender 40 ms.
                let _ = stream.set_nodelay(true);
                let (cut, connection) = (cut.clone(), serve(stream, peer, shutdown.clone()));
                connections.spawn(async move {
                    tokio::select! {
                        () = connection => {}
                        () = cut.cancelled() => {}
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "cannot accept a connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    let _ = timeout(DRAIN_MAX, connections.wait()).await;
}

/// Serves the requests of one connection; on `shutdown`, finishes the running ones.
pub(super) async fn serve_connection<I, F, A>(io: I, read_timeout: Duration, shutdown: CancellationToken, answer: F)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> A,
    A: Future<Output = Answer> + Send + 'static,
{
    let heard = AtomicBool::new(false);
    let service = service_fn(|request| {
        heard.store(true, Ordering::Relaxed);
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(read_timeout * IDLE_MAX)
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
        .initial_connection_window_size(CONNECTION_WINDOW);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let silence = async {
        sleep(read_timeout).await;
        if heard.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silence => return,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "connection ended with an error");
    }
}

/// A stream that fails once nothing was read from it, or a write has been waiting, for too long.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    stalled_max: Duration,
    read_by: Pin<Box<Sleep>>,
    write_by: Pin<Box<Sleep>>,
    writing: bool,
}

impl<S> Watched<S> {
    /// Watches a stream from now on.
    pub(super) fn new(stream: S, stalled_max: Duration) -> Self {
        let (read_by, write_by) = (Box::pin(sleep(stalled_max)), Box::pin(sleep(stalled_max)));
        Self { stream, stalled_max, read_by, write_by, writing: false }
    }

    /// Passes on the result of a write and minds how long one has been pending.
    fn watch_write<T>(&mut self, context: &mut Context<'_>, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = false;
            return result;
        }
        if !self.writing {
            self.writing = true;
            self.write_by.as_mut().reset(Instant::now() + self.stalled_max);
        }
        ready!(self.write_by.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Poll::Ready(result) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            this.read_by.as_mut().reset(Instant::now() + this.stalled_max);
            return Poll::Ready(result);
        }
        ready!(this.read_by.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.watch_write(context, result)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_flush(context);
        this.watch_write(context, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_shutdown(context);
        this.watch_write(context, result)
    }
}
