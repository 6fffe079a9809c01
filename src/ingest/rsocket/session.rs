//! One connection of an application, without its socket: bytes of frames and the time become events and frames to be sent.
//!
//! The application begins with SETUP and is given the key. From then on it is asked for its text, one question at a time, on
//! even streams, and may push on odd ones. KEEPALIVE is answered and asked for; who is silent for longer than its SETUP says is
//! given up.
//!
//! * A frame that is no answer to anything, and one too large, is passed over as it arrives and never held.
//! * What is held ([`Session::held`]): a small frame, or a payload up to `content_bytes_max` and its fragments, of one answer and
//!   one push at a time.
//! * A payload that breaks the rules costs its question or its push. What breaks the connection itself is a [`Fault`].

use super::failure::Failure;
use super::frame::{
    Content, ErrorFrame, Flags, HEADER_BYTES, Header, Keepalive, Kind, Request, Setup, SetupError, cancel, code,
    response,
};
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of a frame that carries no payload of interest.
const CONTROL_BYTES_MAX: usize = 16 << 10;
/// An application that did not answer is asked again when it has answered at last, or after this.
const STUCK_MAX: Duration = Duration::from_secs(60);
/// How often KEEPALIVE is asked for, whatever SETUP says.
const KEEPALIVE_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The silence that is borne, whatever SETUP says.
const SILENCE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(300));

/// A whole payload may take so many times as long as SETUP; as with bodies of HTTP.
const SLOWNESS_MAX: u32 = 10;

/// What costs the connection.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("expected SETUP as the first frame, found {0:?}")]
    NoSetup(Kind),
    #[error("expected SETUP within {0:?}, found none")]
    Late(Duration),
    #[error("resume not supported")]
    Resume,
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error("{0}")]
    Malformed(String),
    #[error("expected a sign of life within {0:?}, found none")]
    Silent(Duration),
    #[error("expected a frame to arrive within {0:?}, found a part of it")]
    Slow(Duration),
}

/// All of [`Fault::name`].
pub(super) const FAULTS: [&str; 6] = ["setup", "late", "resume", "malformed", "silent", "slow"];

impl Fault {
    /// The code of the ERROR that tells the application.
    pub(super) fn code(&self) -> u32 {
        match self {
            Self::Setup(SetupError::Resume | SetupError::Lease) => code::UNSUPPORTED_SETUP,
            Self::NoSetup(_) | Self::Late(_) | Self::Setup(_) => code::INVALID_SETUP,
            Self::Resume => code::REJECTED_RESUME,
            Self::Malformed(_) | Self::Silent(_) | Self::Slow(_) => code::CONNECTION_ERROR,
        }
    }

    /// The value of the label `exception`.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NoSetup(_) | Self::Setup(_) => "setup",
            Self::Late(_) => "late",
            Self::Resume => "resume",
            Self::Malformed(_) => "malformed",
            Self::Silent(_) => "silent",
            Self::Slow(_) => "slow",
        }
    }
}

/// What the application did.
#[derive(Debug)]
pub(super) enum Event {
    /// It introduced itself, and is to be given the key.
    Opened,
    /// It answered.
    Answered(Result<Content, Failure>),
    /// It pushed, and awaits an answer on that stream, if there is one.
    Pushed { content: Result<Content, Failure>, stream: Option<u32> },
    /// It ends the connection.
    Ended(ErrorFrame),
}

/// The state of a connection.
#[derive(Debug)]
pub(super) struct Session {
    content_bytes_max: usize,
    patience: Duration,
    setup: Option<Setup>,
    head: Vec<u8>,
    taking: Taking,
    /// Payloads of which further fragments follow: of the answer, and of a push.
    partial: Vec<Partial>,
    asked: Option<Asked>,
    next_stream: u32,
    /// When it was last heard of, and when it was last asked for a sign of life.
    heard: Instant,
    nudged: Instant,
    /// Since when something is incomplete.
    incomplete: Option<Instant>,
    out: Vec<Vec<u8>>,
}

/// What becomes of the frame that arrives.
#[derive(Debug)]
enum Taking {
    /// Its header is not there yet.
    Head,
    Control(Header, Vec<u8>),
    Content(Header, Vec<u8>),
    /// Passed over; why, where someone waits for it.
    Skip(Header, Option<Failure>),
}

#[derive(Debug)]
struct Partial {
    stream: u32,
    /// Of a push: whether an answer is awaited.
    answered: bool,
    content: Content,
}

#[derive(Debug)]
struct Asked {
    stream: u32,
    since: Instant,
    /// Whether someone still waits for the answer.
    awaited: bool,
}

impl Session {
    /// A connection that has just been made. SETUP may take so long to come, any other frame ten times that.
    pub(super) fn new(content_bytes_max: usize, patience: Duration, now: Instant) -> Self {
        Self {
            content_bytes_max,
            patience,
            setup: None,
            head: Vec::with_capacity(HEADER_BYTES),
            taking: Taking::Head,
            partial: Vec::new(),
            asked: None,
            next_stream: 2,
            heard: now,
            nudged: now,
            incomplete: None,
            out: Vec::new(),
        }
    }

    /// Takes the next bytes of a frame, and whether they are its last. Without room, a payload is passed over.
    pub(super) fn receive(
        &mut self,
        mut bytes: &[u8],
        ends: bool,
        room: bool,
        now: Instant,
    ) -> Result<Option<Event>, Fault> {
        self.heard = now;
        if let Taking::Head = self.taking {
            let (head, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.head.len()));
            self.head.extend(head);
            bytes = rest;
            if let Ok(head) = <[u8; HEADER_BYTES]>::try_from(&*self.head) {
                self.head.clear();
                self.taking = self.begin(Header::load(head))?;
            } else if ends {
                let found = self.head.len();
                return Err(Fault::Malformed(format!(
                    "expected a frame of {HEADER_BYTES} bytes and more, found {found}"
                )));
            }
        }
        self.take(bytes, room)?;
        let event = if ends { self.end()? } else { None };
        let is_whole = matches!(self.taking, Taking::Head) && self.head.is_empty() && self.partial.is_empty();
        self.incomplete = if is_whole { None } else { self.incomplete.or(Some(now)) };
        Ok(event)
    }

    /// Decides what becomes of a frame by its header.
    fn begin(&mut self, header: Header) -> Result<Taking, Fault> {
        let Header { stream, kind, flags } = header;
        let malformed = |what: &str| Err(Fault::Malformed(format!("{what}, found {kind:?} on stream {stream}")));
        if self.setup.is_none() {
            return match kind {
                Kind::Setup if stream == 0 => Ok(Taking::Control(header, Vec::new())),
                Kind::Resume => Err(Fault::Resume),
                _ => Err(Fault::NoSetup(kind)),
            };
        }
        match kind {
            Kind::Setup | Kind::Resume => malformed("expected one beginning"),
            Kind::Keepalive if stream != 0 => malformed("expected KEEPALIVE on stream 0"),
            Kind::Keepalive | Kind::Error => Ok(Taking::Control(header, Vec::new())),
            Kind::RequestResponse | Kind::RequestFnf | Kind::RequestStream | Kind::RequestChannel
                if stream % 2 == 0 =>
            {
                malformed("expected requests of a client on odd streams")
            }
            Kind::RequestResponse | Kind::RequestFnf if self.partial.iter().any(|partial| is_push(partial.stream)) => {
                if kind == Kind::RequestResponse {
                    self.refuse(stream, code::REJECTED, "one push at a time");
                }
                Ok(Taking::Skip(header, None))
            }
            Kind::RequestResponse | Kind::RequestFnf => Ok(Taking::Content(header, Vec::new())),
            Kind::RequestStream | Kind::RequestChannel => {
                self.refuse(stream, code::APPLICATION_ERROR, "streams of several payloads are not supported");
                Ok(Taking::Skip(header, None))
            }
            Kind::Payload => {
                let awaited = self.asked.as_ref().is_some_and(|asked| asked.stream == stream && asked.awaited);
                let follows = is_push(stream) && self.partial.iter().any(|partial| partial.stream == stream);
                Ok(if awaited || follows { Taking::Content(header, Vec::new()) } else { Taking::Skip(header, None) })
            }
            Kind::Cancel => {
                self.partial.retain(|partial| partial.stream != stream);
                Ok(Taking::Skip(header, None))
            }
            Kind::RequestN | Kind::MetadataPush | Kind::Lease => Ok(Taking::Skip(header, None)),
            Kind::Other(_) if flags.contains(Flags::IGNORE) => Ok(Taking::Skip(header, None)),
            Kind::Other(_) => malformed("expected a type of RSocket 1.0"),
        }
    }

    fn take(&mut self, bytes: &[u8], room: bool) -> Result<(), Fault> {
        let skip = match &mut self.taking {
            Taking::Head | Taking::Skip(..) => None,
            Taking::Control(header, body) => {
                if body.len() + bytes.len() > CONTROL_BYTES_MAX {
                    let kind = header.kind;
                    let message = format!("expected at most {CONTROL_BYTES_MAX} bytes of {kind:?}, found more");
                    return Err(Fault::Malformed(message));
                }
                body.extend_from_slice(bytes);
                None
            }
            Taking::Content(header, body) => {
                let stream = header.stream;
                let before = self.partial.iter().find(|partial| partial.stream == stream);
                let held = before.map_or(0, |partial| partial.content.data.len() + partial.content.metadata.len());
                let bytes_max = self.content_bytes_max;
                if !room {
                    Some((*header, Failure::Overloaded))
                } else if held + body.len() + bytes.len() > bytes_max {
                    Some((*header, Failure::TooLarge { bytes_max }))
                } else {
                    body.extend_from_slice(bytes);
                    None
                }
            }
        };
        if let Some((header, failure)) = skip {
            self.taking = Taking::Skip(header, Some(failure));
        }
        Ok(())
    }

    /// The frame is complete.
    fn end(&mut self) -> Result<Option<Event>, Fault> {
        match std::mem::replace(&mut self.taking, Taking::Head) {
            Taking::Head => Ok(None),
            Taking::Control(header, body) => self.control(header, &body),
            Taking::Content(header, body) => Ok(self.content(header, body)),
            Taking::Skip(header, Some(failure)) => Ok(Some(self.lose(header, failure))),
            Taking::Skip(header, None) => {
                let last = header.kind == Kind::Payload && !header.flags.contains(Flags::FOLLOWS);
                // An answer that comes too late says that the application is there again.
                self.asked.take_if(|asked| last && asked.stream == header.stream);
                Ok(None)
            }
        }
    }

    fn control(&mut self, header: Header, body: &[u8]) -> Result<Option<Event>, Fault> {
        match header.kind {
            Kind::Setup => {
                self.setup = Some(Setup::load(header.flags, body)?);
                return Ok(Some(Event::Opened));
            }
            Kind::Keepalive => {
                let Some(keepalive) = Keepalive::load(header.flags, body) else {
                    return Err(Fault::Malformed(format!(
                        "expected KEEPALIVE of 8 bytes and more, found {}",
                        body.len()
                    )));
                };
                if keepalive.respond {
                    self.out.push(Keepalive { respond: false, ..keepalive }.encode());
                }
            }
            _ => {
                let error = ErrorFrame::load(body);
                if header.stream == 0 {
                    let ended = error.ok_or_else(|| Fault::Malformed("expected ERROR with a code".to_owned()));
                    return ended.map(|error| Some(Event::Ended(error)));
                }
                if self.asked.take_if(|asked| asked.stream == header.stream).is_some() {
                    self.partial.retain(|partial| partial.stream != header.stream);
                    return Ok(Some(Event::Answered(Err(error.map_or(Failure::Malformed, Failure::Refused)))));
                }
            }
        }
        Ok(None)
    }

    /// A fragment of a payload, or all of it.
    fn content(&mut self, header: Header, body: Vec<u8>) -> Option<Event> {
        let Header { stream, kind, flags } = header;
        let mut partial = match self.partial.iter().position(|partial| partial.stream == stream) {
            Some(known) => self.partial.swap_remove(known),
            None => Partial { stream, answered: kind == Kind::RequestResponse, content: Content::default() },
        };
        if !partial.content.append(flags, body) {
            self.partial.push(partial);
            return Some(self.lose(header, Failure::Malformed));
        }
        if flags.contains(Flags::FOLLOWS) {
            self.partial.push(partial);
            return None;
        }
        let Partial { answered, content, .. } = partial;
        if is_push(stream) {
            return Some(Event::Pushed { content: Ok(content), stream: answered.then_some(stream) });
        }
        self.asked = None;
        let is_empty = content.is_empty() && !flags.contains(Flags::NEXT);
        Some(Event::Answered(if is_empty { Err(Failure::Empty) } else { Ok(content) }))
    }

    /// Gives up a payload of which a part may be here.
    fn lose(&mut self, header: Header, failure: Failure) -> Event {
        let stream = header.stream;
        let partial = self.partial.iter().position(|partial| partial.stream == stream);
        let partial = partial.map(|at| self.partial.swap_remove(at));
        if is_push(stream) {
            let answered = header.kind == Kind::RequestResponse || partial.is_some_and(|partial| partial.answered);
            return Event::Pushed { content: Err(failure), stream: answered.then_some(stream) };
        }
        self.asked = None;
        Event::Answered(Err(failure))
    }

    /// Bytes that would be held with further ones of the present payload; none where they would not be held, or would be so
    /// few that they are part of what a connection may cost.
    pub(super) fn holds_with(&self, bytes: usize) -> Option<usize> {
        matches!(self.taking, Taking::Content(..)).then(|| self.held() + bytes)
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> usize {
        let arriving = match &self.taking {
            Taking::Control(_, body) | Taking::Content(_, body) => body.capacity(),
            Taking::Head | Taking::Skip(..) => 0,
        };
        arriving + self.partial.iter().map(|partial| partial.content.bytes()).sum::<usize>()
    }

    /// Whether someone waits for the answer to the last question; one that nobody waits for is not held.
    pub(super) fn awaited(&mut self, awaited: bool) {
        if let Some(asked) = &mut self.asked {
            asked.awaited = awaited;
        }
    }

    /// Asks for the text, with a key for the answer.
    pub(super) fn ask(&mut self, key: &[u8], now: Instant) -> Result<(), Failure> {
        if let Some(before) = self.asked.take_if(|asked| now >= asked.since + STUCK_MAX) {
            self.partial.retain(|partial| partial.stream != before.stream);
            self.out.push(cancel(before.stream));
        }
        if self.asked.is_some() {
            return Err(Failure::Stuck);
        }
        let stream = self.stream();
        self.asked = Some(Asked { stream, since: now, awaited: true });
        self.out.push(Request::Response.encode(stream, key));
        Ok(())
    }

    /// Gives the key for what the application pushes.
    pub(super) fn give(&mut self, key: &[u8]) {
        let stream = self.stream();
        self.out.push(Request::Fnf.encode(stream, key));
    }

    fn stream(&mut self) -> u32 {
        let stream = self.next_stream;
        // One stream a second would take a lifetime to come back to the first.
        self.next_stream = if stream >= 0x7fff_fffe { 2 } else { stream + 2 };
        stream
    }

    /// Answers a push.
    pub(super) fn respond(&mut self, stream: u32, result: Result<(), String>) {
        match result {
            Ok(()) => self.out.push(response(stream)),
            Err(why) => self.refuse(stream, code::APPLICATION_ERROR, &why),
        }
    }

    /// Tells the application why something ends; on stream 0 the connection does.
    pub(super) fn refuse(&mut self, stream: u32, code: u32, why: &str) {
        self.out.push(ErrorFrame { code, message: why.to_owned() }.encode(stream));
    }

    /// The frames to be sent.
    pub(super) fn take_out(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }

    fn keepalive_every(setup: &Setup) -> Duration {
        setup.keepalive.clamp(KEEPALIVE_EVERY.0, KEEPALIVE_EVERY.1)
    }

    fn silence(setup: &Setup) -> Duration {
        setup.lifetime.clamp(SILENCE.0, SILENCE.1)
    }

    /// When to look at the clock again.
    pub(super) fn next_look(&self) -> Instant {
        let Some(setup) = &self.setup else { return self.nudged + self.patience };
        let next = (self.nudged + Self::keepalive_every(setup)).min(self.heard + Self::silence(setup));
        self.incomplete.map_or(next, |since| next.min(since + self.patience * SLOWNESS_MAX))
    }

    /// Asks for a sign of life when it is time, and gives up who gave none.
    pub(super) fn look(&mut self, now: Instant) -> Result<(), Fault> {
        let Some(setup) = &self.setup else {
            return if now >= self.nudged + self.patience { Err(Fault::Late(self.patience)) } else { Ok(()) };
        };
        let (every, silence) = (Self::keepalive_every(setup), Self::silence(setup));
        if now >= self.heard + silence {
            return Err(Fault::Silent(silence));
        }
        let slow = self.patience * SLOWNESS_MAX;
        if self.incomplete.is_some_and(|since| now >= since + slow) {
            return Err(Fault::Slow(slow));
        }
        if now >= self.nudged + every {
            self.nudged = now;
            self.out.push(Keepalive { respond: true, data: &[] }.encode());
        }
        Ok(())
    }
}

/// Whether a stream is one of the application's.
fn is_push(stream: u32) -> bool {
    stream % 2 == 1
}

#[cfg(test)]
mod tests;
