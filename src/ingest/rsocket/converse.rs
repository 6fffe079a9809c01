//! A connection without its socket and its gate, for the fuzz target: an application is asked as soon as it can be.

use super::framing::{Framing, Piece};
use super::session::{Event, Session};
use bytes::BytesMut;
use std::time::Duration;
use tokio::time::Instant;

const CONTENT_BYTES_MAX: usize = 4 << 10;
/// A payload that arrives, one in fragments of an answer and one of a push, each in a buffer that grows by doubling; and a
/// small frame.
const HELD_BYTES_MAX: usize = 2 * 3 * CONTENT_BYTES_MAX + (32 << 10);
const PATIENCE: Duration = Duration::from_secs(30);

/// What comes of the bytes of a connection that arrive in chunks: events, a fault, and what is sent.
///
/// # Panics
/// When more is held than may be, or an application cannot be asked that can.
pub(crate) fn converse(websocket: bool, bytes: &[u8], chunk: usize, room: bool) -> Vec<String> {
    let mut framing = if websocket { Framing::websocket() } else { Framing::tcp() };
    let now = Instant::now();
    let mut session = Session::new(CONTENT_BYTES_MAX, PATIENCE, now);
    let (mut arrived, mut told) = (BytesMut::new(), Vec::new());
    for chunk in bytes.chunks(chunk) {
        arrived.extend_from_slice(chunk);
        loop {
            let (bytes, ends) = match framing.next(&mut arrived) {
                Ok(None) => break,
                Ok(Some(Piece::Part { bytes, ends })) => (bytes, ends),
                Ok(Some(Piece::Write(bytes))) => {
                    told.push(format!("{bytes:?}"));
                    continue;
                }
                Ok(Some(Piece::End)) => return told,
                Err(error) => {
                    told.push(error.to_string());
                    return told;
                }
            };
            let event = session.receive(&bytes, ends, room, now);
            assert!(session.held() <= HELD_BYTES_MAX, "{} bytes are held", session.held());
            match event {
                Ok(None) => {}
                Ok(Some(event)) => {
                    told.push(format!("{event:?}"));
                    follow(&mut session, &event, now);
                }
                Err(fault) => {
                    told.push(fault.to_string());
                    return told;
                }
            }
            told.extend(session.take_out().iter().map(|frame| format!("{frame:?}")));
        }
    }
    assert!(session.next_look() > now);
    let _ = session.look(session.next_look());
    told
}

/// What a link does with an event.
fn follow(session: &mut Session, event: &Event, now: Instant) {
    match event {
        Event::Opened => {
            session.give(b"key");
            assert!(session.ask(b"key", now).is_ok());
        }
        Event::Answered(_) => assert!(session.ask(b"key", now).is_ok(), "one that answered can be asked"),
        Event::Pushed { stream: Some(stream), .. } => session.respond(*stream, Ok(())),
        Event::Pushed { .. } | Event::Ended(_) => {}
    }
}
