//! Connections of all listeners: accepting them, bounding their number, ending them.
//!
//! All listeners share `limits.max_connections`. A source gets another connection only while it has fewer than [`SHARE`]
//! times those that are free, and fewer than `limits.max_connections_per_source`: one that opens all it can leaves room for
//! others. Beyond that its connections are closed at once and counted. When all are taken, nothing is accepted: the kernel's
//! backlog waits.

use super::Gate;
use crate::model::Source;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A connection on which nothing moved for so long is closed. As long as a Wavefront proxy grants.
pub(super) const STALLED_MAX: Duration = Duration::from_secs(300);
/// A source that has so many times as many connections as are free gets no further one.
const SHARE: usize = 4;
/// How long connections may take to finish when the gateway shuts down.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Pause after a failed accept: out of file descriptors, most likely.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that may be open, and whose they are.
#[derive(Debug)]
pub(super) struct Connections {
    free: Arc<Semaphore>,
    per_source_max: usize,
    by_source: Mutex<HashMap<Source, usize>>,
}

impl Connections {
    /// That many, all together and for one source.
    pub(super) fn new(connections_max: usize, per_source_max: Option<usize>) -> Self {
        let free = Arc::new(Semaphore::new(connections_max.clamp(1, Semaphore::MAX_PERMITS)));
        Self { free, per_source_max: per_source_max.unwrap_or(usize::MAX), by_source: Mutex::default() }
    }

    /// Whether a source may have another connection, which is counted then.
    fn open(&self, source: Source) -> bool {
        let mut by_source = self.by_source.lock();
        let held = by_source.get(&source).copied().unwrap_or_default();
        // The last one is free too: it is the one being asked for.
        let share = (self.free.available_permits() + 1).saturating_mul(SHARE);
        let may = held < share && held < self.per_source_max;
        if may {
            by_source.insert(source, held + 1);
        }
        may
    }

    fn close(&self, source: Source) {
        let mut by_source = self.by_source.lock();
        if let Some(held) = by_source.get_mut(&source) {
            *held -= 1;
            if *held == 0 {
                by_source.remove(&source);
            }
        }
    }
}

/// One connection's place among all, given back when it is dropped.
struct Place {
    gate: Arc<Gate>,
    source: Source,
    _free: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.connections.close(self.source);
        self.gate.ledger.connection_closed();
    }
}

/// Accepts connections until `shutdown`, and waits for them to finish.
pub(super) async fn accept<F, C>(listener: TcpListener, gate: Arc<Gate>, shutdown: CancellationToken, serve: F)
where
    F: Fn(TcpStream, SocketAddr, CancellationToken) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let connections = TaskTracker::new();
    // Cuts what has not finished in time: dropped with this function's frame.
    let cut = CancellationToken::new();
    let _cut_at_end = cut.clone().drop_guard();
    loop {
        let next = async {
            let free = Arc::clone(&gate.connections.free).acquire_owned().await;
            (free, listener.accept().await)
        };
        let (free, accepted) = tokio::select! {
            () = shutdown.cancelled() => break,
            next = next => next,
        };
        let Ok(free) = free else { break };
        match accepted {
            Ok((stream, peer)) => {
                // On a listener of both kinds, an IPv4 peer comes as `::ffff:192.0.2.1`; it names the sources of points.
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let source = gate.table.source(peer.ip());
                if !gate.connections.open(source) {
                    gate.ledger.connection_refused();
                    continue;
                }
                gate.ledger.connection_opened();
                let place = Place { gate: Arc::clone(&gate), source, _free: free };
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

    // The answer's body is written from where it is, and dropped with its last byte; otherwise it would be copied.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.watch_write(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SeriesTable;

    #[test]
    fn a_source_that_opens_all_it_can_leaves_room_for_others() {
        let table = SeriesTable::default();
        let [greedy, other] = [1, 2].map(|host| table.source([192, 0, 2, host].into()));
        let connections = Connections::new(100, None);
        let mut held = Vec::new();
        let mut open = |source| {
            let free = Arc::clone(&connections.free).try_acquire_owned().expect("one is free");
            let may = connections.open(source);
            held.extend(may.then_some(free));
            may
        };
        let taken = (0..100).take_while(|_| open(greedy)).count();
        assert_eq!(taken, 80);
        assert!((0..10).all(|_| open(other)) && !open(greedy));
        connections.close(greedy);
        let limited = Connections::new(100, Some(2));
        assert_eq!((0..5).map(|_| limited.open(other)).collect::<Vec<_>>(), [true, true, false, false, false]);
        limited.close(other);
        assert!(limited.open(other));
    }
}
