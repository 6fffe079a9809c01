//! Wavefront senders: `/report` on the main port, and the port of a Wavefront proxy, where text, gzip and HTTP meet.
//!
//! Senders of this ecosystem resend for ever what is answered with 400 and give up for good on 401 and 403, so a body that
//! could be read is answered 202 once it is in the log, whatever its lines were: refused ones are counted and logged now
//! and then. While the log is full, the answer is held back for less than the ten seconds that senders wait, then it is 503.
//! What is not metrics (spans, events, logs) is counted and answered 202 as well.
//!
//! On its own port, the first bytes of a connection tell what it is: a full HTTP method and a blank, the magic of gzip, or
//! else text. Differences from the proxy: a text line that begins with two letters of a method is not taken for HTTP;
//! inside gzip only lines are understood; a tag without value is left out, where the proxy refuses its line (WF-414).

use super::Gate;
use super::answer::{Answer, COME_AGAIN, come_again, empty, text};
use super::connections::{STALLED_MAX, Watched, accept};
use super::decoder::Decoder;
use super::http::{Patience, serve_connection};
use super::intake::{Delivery, IntakeError};
use super::line_sockets::{Chunks, keep_alive, serve_lines};
use super::lines::Lines;
use super::parameters::Parameters;
use super::prometheus::text_encoding;
use super::temporality::Origin;
use crate::model::Format;
use crate::wire::wavefront::decode::Form;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Bytes of a line of text; as the proxy.
const LINE_BYTES_MAX: usize = 32 << 10;
/// How long an answer is held back while the log is full: senders resend after ten seconds.
const FULL_WAIT: Duration = Duration::from_secs(7);
/// Bytes that tell what a connection is, at most: the longest method with its blank, or the preface of HTTP/2.
const SNIFFED_BYTES: usize = 12;
const METHODS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"PATCH ", b"DELETE ", b"TRACE ", b"CONNECT ", b"PRI * HTTP/2"];

/// Takes Wavefront data on a port of its own until `shutdown`: text, text in gzip, and HTTP on any path.
pub async fn serve_wavefront(listener: TcpListener, gate: Arc<Gate>, shutdown: CancellationToken) {
    accept(listener, Arc::clone(&gate), shutdown, move |stream, peer, shutdown| {
        serve_sniffed(stream, peer, Arc::clone(&gate), shutdown)
    })
    .await;
}

async fn serve_sniffed(stream: TcpStream, peer: SocketAddr, gate: Arc<Gate>, shutdown: CancellationToken) {
    keep_alive(&stream);
    let mut stream = Watched::new(stream, STALLED_MAX);
    let sniffed = tokio::select! {
        () = shutdown.cancelled() => return,
        sniffed = sniff(&mut stream) => sniffed,
    };
    let Ok((kind, start)) = sniffed else { return };
    let stream = Rewound { start, stream };
    let lines = Lines::new(LINE_BYTES_MAX.min(gate.limits.line_bytes_max));
    let decoder = || Decoder::Wavefront { form: Form::Auto, default_source: peer.ip().to_string() };
    match kind {
        Kind::Text => serve_lines(Chunks::plain(stream), lines, &gate, peer, &shutdown, decoder).await,
        Kind::Gzip => serve_lines(Chunks::gzip(stream), lines, &gate, peer, &shutdown, decoder).await,
        Kind::Http => {
            let patience = Patience::of(&gate.limits);
            let answer = move |request: Request<Incoming>| {
                let gate = Arc::clone(&gate);
                async move {
                    if request.method() == Method::OPTIONS {
                        return empty(StatusCode::NO_CONTENT);
                    }
                    answer(&gate, peer.ip(), request).await
                }
            };
            serve_connection(stream, patience, shutdown, answer).await;
        }
    }
}

/// What a connection to the port of a proxy carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Gzip,
    Http,
}

impl Kind {
    /// The kind of a connection that begins so; none when more bytes are needed.
    fn of(start: &[u8]) -> Option<Self> {
        if start.is_empty() || start == [0x1f] {
            return None;
        }
        if start.starts_with(&[0x1f, 0x8b]) {
            return Some(Self::Gzip);
        }
        if METHODS.iter().any(|method| start.starts_with(method)) {
            return Some(Self::Http);
        }
        let may_become_one = METHODS.iter().any(|method| method.starts_with(start));
        (!may_become_one).then_some(Self::Text)
    }
}

/// Reads until the kind is known. What ends before is text: a line without an end.
async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Kind, Vec<u8>)> {
    let mut start = Vec::with_capacity(SNIFFED_BYTES);
    loop {
        if let Some(kind) = Kind::of(&start) {
            return Ok((kind, start));
        }
        let mut next = [0; SNIFFED_BYTES];
        let read = stream.read(&mut next).await?;
        if read == 0 {
            return Ok((Kind::Text, start));
        }
        start.extend_from_slice(&next[..read]);
    }
}

/// A stream whose first bytes were read already.
#[derive(Debug)]
struct Rewound<S> {
    start: Vec<u8>,
    stream: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.start.is_empty() {
            return Pin::new(&mut this.stream).poll_read(context, buffer);
        }
        let taken = this.start.len().min(buffer.remaining());
        buffer.put_slice(&this.start[..taken]);
        this.start.drain(..taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// One report, on any path.
pub(super) async fn answer(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let encoding = match text_encoding(&head.headers) {
        Ok(encoding) => encoding,
        Err(error) => return gate.refuse(body, Format::Wavefront, error).await.answer(text),
    };
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default().as_bytes());
    let decoder = decoder(head.uri.path(), &parameters, peer);
    let taken = async {
        let collected = gate.collect(body, Format::Wavefront).await?;
        // Its clients count since they began.
        let delivery = Delivery { origin: Origin::Connected, ..Delivery::new(encoding, decoder) };
        let decoded = gate.decode(peer, collected, delivery).await?;
        gate.append_until(peer, decoded, sleep(FULL_WAIT)).await
    };
    match taken.await {
        Ok(taken) => {
            gate.note_refused(Format::Wavefront, &taken.report, peer);
            empty(StatusCode::ACCEPTED)
        }
        // 429 is no answer of a proxy; clients know 503.
        Err(error @ IntakeError::LogFull { .. }) => {
            come_again(text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()), COME_AGAIN)
        }
        Err(error) => error.answer(text),
    }
}

/// What `f` (or `format`) says of a body. Names that a proxy does not know leave it to each line, as there.
fn decoder(path: &str, parameters: &Parameters, peer: IpAddr) -> Decoder {
    let form = match parameters.first("f").or(parameters.first("format")).unwrap_or_default() {
        _ if path.ends_with("/api/v2/event") => return Decoder::WavefrontOther,
        "trace" | "spanLogs" | "event" | "events" | "log" => return Decoder::WavefrontOther,
        other if other.starts_with("logs") => return Decoder::WavefrontOther,
        "wavefront" | "graphite_v2" => Form::Metrics,
        "histogram" => Form::Histograms,
        _ => Form::Auto,
    };
    Decoder::Wavefront { form, default_source: peer.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_the_kind_of_a_connection() {
        let cases: [(&[u8], Option<Kind>); 14] = [
            (b"", None),
            (b"P", None),
            (b"POS", None),
            (b"POST", None),
            (b"POST ", Some(Kind::Http)),
            (b"POST.metric 1", Some(Kind::Text)),
            (b"GETS 1 source=a\n", Some(Kind::Text)),
            (b"OPTIONS /", Some(Kind::Http)),
            (b"PRI * HTTP/2.0", Some(Kind::Http)),
            (b"PRI 1", Some(Kind::Text)),
            (b"\x1f", None),
            (b"\x1f\x8b", Some(Kind::Gzip)),
            (b"\x1fx", Some(Kind::Text)),
            (b"cpu 1 source=h\n", Some(Kind::Text)),
        ];
        for (start, expected) in cases {
            assert_eq!(Kind::of(start), expected, "{}", String::from_utf8_lossy(start));
        }
    }

    #[test]
    fn the_form_is_read_from_the_parameters() {
        let peer = IpAddr::from([192, 0, 2, 1]);
        let form = |path: &str, query: &str| match decoder(path, &Parameters::parse(query.as_bytes()), peer) {
            Decoder::Wavefront { form, default_source } => {
                assert_eq!(default_source, "192.0.2.1");
                Some(form)
            }
            _ => None,
        };
        for (path, query, expected) in [
            ("/report", "f=wavefront", Some(Form::Metrics)),
            ("/report", "format=histogram", Some(Form::Histograms)),
            ("/report", "", Some(Form::Auto)),
            ("/report", "f=unheard", Some(Form::Auto)),
            ("/report", "f=trace", None),
            ("/report", "f=spanLogs", None),
            ("/report", "f=logs_json_arr", None),
            ("/api/v2/event", "", None),
        ] {
            assert_eq!(form(path, query), expected, "{path}?{query}");
        }
    }
}
