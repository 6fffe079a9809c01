//! One connection of an application: bytes of its socket to its session and back, in one task.
//!
//! The task reads nothing while it writes, while it waits for memory, and while a push goes to the log: nothing queues up but
//! in the kernel. What the application is sent in one go is some hundred bytes.

use super::applications::{Application, Applications, Ask, Place, Sealed};
use super::counts::Transport;
use super::failure::Failure;
use super::frame::{Content, code};
use super::framing::{Framing, FramingError, Piece};
use super::session::{Event, Fault, Session};
use super::{pull, text};
use crate::config::Encryption;
use crate::ingest::Gate;
use crate::ingest::intake::Charge;
use crate::ingest::temporality::Origin;
use bytes::BytesMut;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// Bytes of one read.
const CHUNK_BYTES: usize = 16 << 10;
/// How long an application may leave unread what it is sent.
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// A connection at fault is held for so long before it is ended: its client would dial again at once, as often as it is let.
const PENALTY: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });
/// How long a push may wait for a log that is full: its application waits for five seconds.
const PUSHED_WITHIN: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 4000 });

/// How a connection ended, where it was not the application that ended it.
enum End {
    Fault(Fault),
    Socket(io::Error),
    Shutdown,
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<FramingError> for End {
    fn from(error: FramingError) -> Self {
        Self::Fault(Fault::Malformed(error.to_string()))
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

struct Link<'g, S> {
    gate: &'g Arc<Gate>,
    peer: SocketAddr,
    stream: S,
    framing: Framing,
    arrived: BytesMut,
    session: Session,
    /// The memory that the session holds.
    charge: Charge,
    /// Its place among the applications and what is asked of it, once it has introduced itself.
    open: Option<(Place, mpsc::Receiver<Ask>)>,
    /// Who waits for the answer.
    reply: Option<oneshot::Sender<Result<Sealed, Failure>>>,
}

/// Speaks with an application until one of both ends it.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    transport: Transport,
    gate: &Arc<Gate>,
    peer: SocketAddr,
    shutdown: &CancellationToken,
) {
    let mut link = Link {
        gate,
        peer,
        stream,
        framing: match transport {
            Transport::Tcp => Framing::tcp(),
            Transport::WebSocket => Framing::websocket(),
        },
        arrived: BytesMut::new(),
        session: Session::new(gate.limits.body_bytes_max, gate.limits.read_timeout, Instant::now()),
        charge: gate.flight.charge(),
        open: None,
        reply: None,
    };
    let Err(end) = link.run(shutdown).await else { return link.close().await };
    // Not among the applications any more, and nobody waits for it.
    let name = link.application().map_or_else(|| peer.to_string(), |application| application.to_string());
    (link.open, link.reply) = (None, None);
    match end {
        End::Fault(fault) => {
            link.applications().counts.fault(&fault, transport);
            link.applications().warn(name, &fault, "an application is disconnected");
            link.pass(PENALTY, shutdown).await;
            link.session.take_out();
            link.session.refuse(0, fault.code(), &fault.to_string());
        }
        End::Shutdown => link.session.refuse(0, code::CONNECTION_CLOSE, "the gateway is shutting down"),
        End::Socket(error) => {
            tracing::debug!(application = name, %error, "an application's connection broke");
            return;
        }
    }
    link.close().await;
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<'_, S> {
    fn applications(&self) -> &Arc<Applications> {
        &self.gate.applications
    }

    /// Returns when the application ends the connection.
    async fn run(&mut self, shutdown: &CancellationToken) -> Result<(), End> {
        loop {
            while let Some(piece) = self.framing.next(&mut self.arrived)? {
                match piece {
                    Piece::Part { bytes, ends } => {
                        let event = self.receive(&bytes, ends).await?;
                        drop(bytes);
                        if !self.follow(event).await {
                            return Ok(());
                        }
                        self.flush().await?;
                    }
                    Piece::Write(bytes) => self.write(&bytes).await?,
                    Piece::End => return Ok(()),
                }
            }
            self.arrived.reserve(CHUNK_BYTES);
            let next_look = self.session.next_look();
            tokio::select! {
                () = shutdown.cancelled() => return Err(End::Shutdown),
                read = self.stream.read_buf(&mut self.arrived) => if read? == 0 { return Ok(()) },
                () = sleep_until(next_look) => self.session.look(Instant::now())?,
                Some(ask) = asked(&mut self.open) => self.ask(ask),
            }
            self.flush().await?;
        }
    }

    /// Gives the session bytes, as far as there is room for what it would hold of them.
    async fn receive(&mut self, bytes: &[u8], ends: bool) -> Result<Option<Event>, Fault> {
        self.session.awaited(self.reply.as_ref().is_some_and(|reply| !reply.is_closed()));
        let mut room = !self.gate.memory.is_short();
        if let Some(held) = self.session.holds_with(bytes.len()).filter(|_| room) {
            room = self.charge.raise(held).await.is_ok();
        }
        self.session.receive(bytes, ends, room, Instant::now())
    }

    /// Does what an event asks for; false when it ends the connection.
    async fn follow(&mut self, event: Option<Event>) -> bool {
        match event {
            None => {}
            Some(Event::Opened) => {
                self.open = Some(self.applications().connect(self.peer));
                self.session.give(&self.applications().public_key());
            }
            Some(Event::Answered(answer)) => {
                let sealed = answer.map(|content| self.sealed(content));
                if let Some(reply) = self.reply.take() {
                    // Whoever asked may have given up meanwhile.
                    let _ = reply.send(sealed);
                }
                if self.applications().settings.encryption == Encryption::Plaintext {
                    // An application that was asked for plain text has no key left, and would not push.
                    self.session.give(&self.applications().public_key());
                }
            }
            Some(Event::Pushed { content, stream }) => {
                let taken = match content {
                    Ok(content) => push(self.gate, self.application(), self.sealed(content)).await,
                    Err(failure) => Err(failure),
                };
                self.note_push(&taken);
                if let Some(stream) = stream {
                    self.session.respond(stream, taken.map_err(|failure| failure.to_string()));
                }
            }
            Some(Event::Ended(error)) => {
                tracing::debug!(peer = %self.peer, code = error.code, message = error.message, "an application leaves");
                return false;
            }
        }
        if self.session.held() == 0 {
            self.charge = self.gate.flight.charge();
        }
        true
    }

    fn application(&self) -> Option<Arc<Application>> {
        self.open.as_ref().map(|(place, _)| Arc::clone(&place.application))
    }

    /// The content with the memory it is charged for.
    fn sealed(&mut self, content: Content) -> Sealed {
        Sealed { content, charge: std::mem::replace(&mut self.charge, self.gate.flight.charge()) }
    }

    fn note_push(&self, taken: &Result<(), Failure>) {
        self.applications().counts.push(taken.as_ref().copied());
        if let (Err(why), Some(application)) = (taken, self.application()) {
            self.applications().warn(application, why, "what an application pushed is lost");
        }
    }

    fn ask(&mut self, ask: Ask) {
        let key = self.applications().asked_key();
        match self.session.ask(&key, Instant::now()) {
            Ok(()) => self.reply = Some(ask.reply),
            Err(failure) => _ = ask.reply.send(Err(failure)),
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        for frame in self.session.take_out() {
            self.framing.put(&frame, &mut out);
        }
        if out.is_empty() { Ok(()) } else { self.write(&out).await }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let writing = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITTEN_WITHIN, writing).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads and throws away for a while.
    async fn pass(&mut self, within: Duration, shutdown: &CancellationToken) {
        let passing = async {
            self.arrived = BytesMut::with_capacity(CHUNK_BYTES);
            while let Ok(1..) = self.stream.read_buf(&mut self.arrived).await {
                self.arrived.clear();
            }
        };
        tokio::select! {
            _ = timeout(within, passing) => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Sends what is left to be said, and closes.
    async fn close(mut self) {
        let closing = async {
            self.flush().await?;
            let mut out = Vec::new();
            self.framing.put_end(&mut out);
            self.stream.write_all(&out).await?;
            self.stream.shutdown().await
        };
        // It is over anyway.
        let _ = timeout(WRITTEN_WITHIN, closing).await;
    }
}

/// Takes what an application pushes before it ends: to the log at once, and for scrapers once it is gone.
async fn push(gate: &Arc<Gate>, application: Option<Arc<Application>>, sealed: Sealed) -> Result<(), Failure> {
    let application = application.ok_or(Failure::Closed)?;
    let text = text::take(gate, &application, sealed, Origin::Pushed).await?;
    let (words, appended) = pull::append(gate, &application, text.decoded, PUSHED_WITHIN).await;
    application.says_last(words.batch);
    appended.map_err(Failure::Text)
}

/// The next wish for the text of an open application; none ever of one that is not open.
async fn asked(open: &mut Option<(Place, mpsc::Receiver<Ask>)>) -> Option<Ask> {
    match open {
        Some((_, asks)) => asks.recv().await,
        None => std::future::pending().await,
    }
}
