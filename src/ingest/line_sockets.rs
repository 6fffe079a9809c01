//! Lines over TCP and UDP, without any answer: InfluxDB line protocol, and what the Wavefront port shares with it.
//!
//! Lines are gathered into one batch until [`GATHER_BYTES`] are there or [`GATHER_TIME`] is over. While the log is full, a
//! TCP connection is not read, so that its sender waits; the same while memory is short. Datagrams cannot be held back, so
//! beyond [`QUEUE_BATCHES`] batches they are dropped and counted. On both, a newline ends a line, even inside a quoted string.
//!
//! A last line without newline is taken from an Influx sender that closes in order, as Telegraf and vmagent take it; after
//! a broken connection it may be cut, and the Wavefront proxy never takes it: there it is refused.

use super::Gate;
use super::connections::{STALLED_MAX, Watched, accept};
use super::decoder::Decoder;
use super::intake::{Collected, Delivery, IntakeError};
use super::lines::Lines;
use crate::model::{Format, Refusal};
use crate::wire::Report;
use crate::wire::compression::Encoding;
use crate::wire::influx_line::decode::Precision;
use flate2::write::MultiGzDecoder;
use socket2::{SockRef, TcpKeepalive};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Bytes of lines that make a batch without waiting for more.
const GATHER_BYTES: usize = 256 << 10;
/// How long the first line of a batch waits for others.
const GATHER_TIME: Duration = Duration::from_millis(50);
/// Bytes of one read from a TCP connection.
const CHUNK_BYTES: usize = 16 << 10;
/// Bytes of one read from a compressed one: a thousand times as much comes out of it at worst.
const GZIP_CHUNK_BYTES: usize = 4 << 10;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Receive buffer asked of the kernel for datagrams; it grants what `net.core.rmem_max` allows.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Batches of datagrams that wait for the log.
const QUEUE_BATCHES: usize = 16;
/// After how much silence the kernel asks whether a TCP peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Takes line protocol over TCP until `shutdown`: nanoseconds, one line per `\n`.
pub async fn serve_influx_tcp(listener: TcpListener, gate: Arc<Gate>, shutdown: CancellationToken) {
    accept(listener, Arc::clone(&gate), shutdown, move |stream, peer, shutdown| {
        let gate = Arc::clone(&gate);
        async move {
            keep_alive(&stream);
            let lines = Lines::new(gate.limits.line_bytes_max);
            let stream = Watched::new(stream, STALLED_MAX);
            serve_lines(Chunks::plain(stream), lines, &gate, peer, &shutdown, influx_decoder).await;
        }
    })
    .await;
}

fn influx_decoder() -> Decoder {
    Decoder::InfluxLine { precision: Precision::Nanoseconds }
}

/// Lets the kernel find peers that vanished without a word.
pub(super) fn keep_alive(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
}

/// The bytes of a connection, decompressed where they have to be.
#[derive(Debug)]
pub(super) struct Chunks<S> {
    stream: S,
    chunk: Vec<u8>,
    gzip: Option<MultiGzDecoder<Vec<u8>>>,
    damaged: bool,
}

impl<S: AsyncRead + Unpin> Chunks<S> {
    /// A stream of lines.
    pub(super) fn plain(stream: S) -> Self {
        Self { stream, chunk: vec![0; CHUNK_BYTES], gzip: None, damaged: false }
    }

    /// A stream of lines in gzip.
    pub(super) fn gzip(stream: S) -> Self {
        let gzip = Some(MultiGzDecoder::new(Vec::new()));
        Self { stream, chunk: vec![0; GZIP_CHUNK_BYTES], gzip, damaged: false }
    }

    /// Reads once; false at the end. Can be cancelled without losing a byte.
    async fn read(&mut self, lines: &mut Lines) -> io::Result<bool> {
        let read = self.stream.read(&mut self.chunk).await?;
        match &mut self.gzip {
            None => lines.push(&self.chunk[..read]),
            Some(gzip) => {
                // The flush, because the last of what is decompressed would wait for more input.
                let result = gzip.write_all(&self.chunk[..read]).and_then(|()| gzip.flush());
                self.damaged = result.is_err();
                result?;
                lines.push(gzip.get_ref());
                gzip.get_mut().clear();
            }
        }
        Ok(read > 0)
    }
}

/// Takes the lines of one connection until it ends.
pub(super) async fn serve_lines<S: AsyncRead + Unpin>(
    mut chunks: Chunks<S>,
    mut lines: Lines,
    gate: &Arc<Gate>,
    peer: SocketAddr,
    shutdown: &CancellationToken,
    decoder: impl Fn() -> Decoder,
) {
    let format = decoder().format();
    let mut open = true;
    while open {
        tokio::select! {
            () = gate.memory.relieved() => {}
            () = shutdown.cancelled() => {}
        }
        open = gather(&mut chunks, &mut lines, format == Format::InfluxLine, shutdown).await;
        gate.reject_some(format, Refusal::TooLong, lines.take_too_long());
        if lines.complete_bytes() > 0 && !deliver(gate, lines.take_complete(), decoder(), peer, shutdown).await {
            break;
        }
    }
    // Either way it is one: what stands behind a damaged place cannot be told apart.
    gate.reject_some(format, Refusal::Body, u64::from(lines.has_rest() || chunks.damaged));
}

/// Gathers lines for one batch; false when there will be no more. `end_is_newline`: an orderly close ends the last line.
async fn gather<S: AsyncRead + Unpin>(
    chunks: &mut Chunks<S>,
    lines: &mut Lines,
    end_is_newline: bool,
    shutdown: &CancellationToken,
) -> bool {
    let mut enough = None;
    while lines.complete_bytes() < GATHER_BYTES {
        if lines.complete_bytes() > 0 && enough.is_none() {
            enough = Some(Instant::now() + GATHER_TIME);
        }
        let waited = async {
            match enough {
                Some(enough) => sleep_until(enough).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return false,
            read = chunks.read(lines) => match read {
                Ok(true) => {}
                Ok(false) => {
                    if end_is_newline && lines.has_rest() {
                        lines.push(b"\n");
                    }
                    return false;
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection of lines ended");
                    return false;
                }
            },
            () = waited => return true,
        }
    }
    true
}

/// Gives lines to the log, waiting while it is full; false when no more can be given.
async fn deliver(
    gate: &Arc<Gate>,
    bytes: Vec<u8>,
    decoder: Decoder,
    peer: SocketAddr,
    shutdown: &CancellationToken,
) -> bool {
    let format = decoder.format();
    let collected = Collected::lines(gate, bytes, shutdown.cancelled()).await;
    let delivered = async {
        let decoded = gate.decode(peer.ip(), collected, Delivery::new(Encoding::Identity, decoder)).await?;
        gate.append_until(peer.ip(), decoded, shutdown.cancelled()).await
    };
    match delivered.await {
        Ok(taken) => {
            gate.note_refused(format, &taken.report, peer);
            true
        }
        Err(error) => {
            if gate.warnings.now() {
                tracing::warn!(format = format.as_str(), %peer, %error, "lines are lost");
            }
            !matches!(error, IntakeError::Closed | IntakeError::LogFailed)
        }
    }
}

impl Gate {
    fn reject_some(&self, format: Format, reason: Refusal, lines: u64) {
        if lines > 0 {
            self.ledger.reject(format, reason, lines);
        }
    }

    /// Tells the log about refused lines of senders that get no answer, now and then.
    pub(super) fn note_refused(&self, format: Format, report: &Report, peer: impl std::fmt::Display) {
        let Some(first) = report.first.first() else { return };
        let (refused, line, message) = (report.refused(), first.line, first.message.as_str());
        if self.warnings.now() {
            tracing::warn!(format = format.as_str(), %peer, refused, line, message, "lines refused");
        } else {
            tracing::debug!(format = format.as_str(), %peer, refused, line, message, "lines refused");
        }
    }
}

/// Takes line protocol in datagrams until `shutdown`: nanoseconds, one or more lines each.
pub async fn serve_influx_udp(socket: UdpSocket, gate: Arc<Gate>, shutdown: CancellationToken) {
    let _ = SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    let (queue, waiting) = mpsc::channel(QUEUE_BATCHES);
    let append = append_datagrams(waiting, Arc::clone(&gate), shutdown.clone());
    tokio::join!(receive(&socket, queue, &gate, &shutdown), append);
}

type Batch = (Vec<u8>, SocketAddr);

/// Reads datagrams and never waits for the log: what the kernel's buffer cannot hold is lost, and counted by
/// [`super::Datagrams`].
async fn receive(socket: &UdpSocket, queue: mpsc::Sender<Batch>, gate: &Gate, shutdown: &CancellationToken) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    let mut lines = Lines::new(gate.limits.line_bytes_max);
    let mut enough = None;
    let mut latest = SocketAddr::from(([0, 0, 0, 0], 0));
    loop {
        let waited = async {
            match enough {
                Some(enough) => sleep_until(enough).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => true,
            received = socket.recv_from(&mut datagram) => {
                match received {
                    Ok((bytes, peer)) => {
                        lines.push_datagram(&datagram[..bytes]);
                        latest = peer;
                    }
                    // Most likely about some earlier datagram; the pause keeps a broken socket from spinning.
                    Err(_) => sleep(GATHER_TIME).await,
                }
                enough = enough.or(Some(Instant::now() + GATHER_TIME));
                if lines.complete_bytes() < GATHER_BYTES && enough.is_some_and(|enough| Instant::now() < enough) {
                    continue;
                }
                false
            }
            () = waited => false,
        };
        enough = None;
        gate.reject_some(Format::InfluxLine, Refusal::TooLong, lines.take_too_long());
        if lines.complete_bytes() > 0 {
            let bytes = lines.take_complete();
            let dropped = if gate.memory.is_short() {
                Some((bytes, Refusal::Memory))
            } else if let Err(mpsc::error::TrySendError::Full((bytes, _))) = queue.try_send((bytes, latest)) {
                Some((bytes, Refusal::Log))
            } else {
                None
            };
            if let Some((bytes, reason)) = dropped {
                gate.reject_some(Format::InfluxLine, reason, memchr::memchr_iter(b'\n', &bytes).count() as u64);
            }
        }
        if ended {
            return;
        }
    }
}

async fn append_datagrams(mut waiting: mpsc::Receiver<Batch>, gate: Arc<Gate>, shutdown: CancellationToken) {
    while let Some((bytes, peer)) = waiting.recv().await {
        deliver(&gate, bytes, influx_decoder(), peer, &shutdown).await;
    }
}
