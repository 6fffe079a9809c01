//! A prometheus-rsocket-proxy: applications that cannot be reached dial in, and are scraped over the connection they made.
//!
//! An application connects by RSocket over TCP or WebSocket (any path), with TLS where it is configured, and is given the
//! gateway's public key. [`pull`] asks all applications at once for their text, sealed with that key ([`cipher`]): for the log
//! on an interval of its own, and for scrapers of `/metrics/connected` when they come. Before it ends, an application may push
//! its last text, which goes to the log at once and is shown for a while ([`applications::LAST_WORDS_KEPT`]).
//!
//! In layers, of which only [`link`] knows sockets: [`framing`] finds frames in bytes, [`frame`] reads them, [`session`]
//! speaks the protocol.
//!
//! Bounds: connections as for all inputs (`limits.max_connections`); a payload as a body (`limits.max_body_bytes` and
//! `limits.max_decompressed_bytes`), all of them together by the memory in flight; one question and one push at a time of an
//! application. A broken application, frame, key or payload costs that one scrape, or at most its connection; it is named in
//! the log and counted in `/metrics/proxy`. An application that fails at once and dials again costs a SETUP and a key that is
//! there already; one at fault is let go only after a second.
//!
//! Differences from the proxy: families are merged; a scrape never waits for a stuck application; last words are shown to
//! all scrapers and not to the first; the key is the process's. Not here: leases, resumption, streams of several payloads.

mod applications;
mod cipher;
#[cfg(any(test, feature = "fuzzing"))]
mod converse;
mod counts;
mod ends;
mod failure;
mod frame;
mod framing;
mod link;
mod pages;
mod pull;
mod session;
#[cfg(test)]
mod tests;
mod text;
mod websocket;

pub use applications::{ApplicationCounts, Applications};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use converse::converse;
pub(super) use pages::{Connected, proxy};

use super::Gate;
use super::connections::accept;
use cipher::Key;
use counts::Transport;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// The sockets of applications.
#[derive(Debug)]
pub struct RsocketListeners {
    /// RSocket over TCP.
    pub tcp: Option<TcpListener>,
    /// RSocket over WebSocket.
    pub websocket: Option<TcpListener>,
    /// TLS of both.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Takes applications, and pulls from them, until `shutdown`. Does nothing without a listener.
pub async fn serve_rsocket(listeners: RsocketListeners, gate: Arc<Gate>, shutdown: CancellationToken) {
    let RsocketListeners { tcp, websocket, tls } = listeners;
    if tcp.is_none() && websocket.is_none() {
        return;
    }
    // Applications wait for five seconds for the key; meanwhile they wait in the kernel to be accepted.
    match tokio::task::spawn_blocking(Key::generate).await {
        Ok(Ok(key)) => _ = gate.applications.key.set(Arc::new(key)),
        Ok(Err(error)) => return tracing::error!(%error, "applications cannot be taken"),
        Err(error) => return tracing::error!(%error, "applications cannot be taken"),
    }
    let tls = tls.map(TlsAcceptor::from);
    tokio::join!(
        listen(tcp, Transport::Tcp, tls.clone(), &gate, &shutdown),
        listen(websocket, Transport::WebSocket, tls, &gate, &shutdown),
        pull::keep_pulling(&gate, &shutdown),
    );
}

async fn listen(
    listener: Option<TcpListener>,
    transport: Transport,
    tls: Option<TlsAcceptor>,
    gate: &Arc<Gate>,
    shutdown: &CancellationToken,
) {
    let Some(listener) = listener else { return };
    accept(listener, Arc::clone(gate), shutdown.clone(), move |stream, peer, shutdown| {
        let (gate, tls) = (Arc::clone(gate), tls.clone());
        async move {
            let Some(tls) = tls else { return speak(stream, transport, &gate, peer, &shutdown).await };
            match timeout(gate.limits.read_timeout, tls.accept(stream)).await {
                Ok(Ok(stream)) => speak(stream, transport, &gate, peer, &shutdown).await,
                Ok(Err(error)) => no_handshake(&gate, transport, peer, &error),
                Err(error) => no_handshake(&gate, transport, peer, &error),
            }
        }
    })
    .await;
}

/// Speaks RSocket, over WebSocket where it is that.
async fn speak<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    transport: Transport,
    gate: &Arc<Gate>,
    peer: SocketAddr,
    shutdown: &CancellationToken,
) {
    match transport {
        Transport::Tcp => link::serve(stream, transport, gate, peer, shutdown).await,
        Transport::WebSocket => match websocket::upgrade(stream, gate.limits.read_timeout, shutdown).await {
            Ok(stream) => link::serve(stream, transport, gate, peer, shutdown).await,
            Err(error) => no_handshake(gate, transport, peer, &error),
        },
    }
}

fn no_handshake(gate: &Gate, transport: Transport, peer: SocketAddr, error: &dyn std::fmt::Display) {
    gate.applications.counts.handshake(transport);
    tracing::debug!(%peer, transport = transport.as_str(), %error, "no application: a handshake failed");
}
