//! Where frames begin and end in the bytes of a connection, over TCP and over WebSocket. No I/O.
//!
//! * TCP: three bytes of length in front of each frame.
//! * WebSocket (RFC 6455): a frame is a binary message, in one or more frames of WebSocket. Pings are answered.
//!
//! Pieces are given out as they arrive and nothing is gathered here: how much of a frame may lie in memory is decided by
//! whoever takes the pieces, which is why a library does no more here than read the headers.

use bytes::{Buf, Bytes, BytesMut};
use std::io::Cursor;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Bytes of a WebSocket frame that is not data.
const CONTROL_BYTES_MAX: usize = 125;

/// How frames are told apart, and how far the present one has come.
#[derive(Debug)]
pub(super) enum Framing {
    /// Bytes that the present frame still has.
    Tcp {
        left: Option<usize>,
    },
    WebSocket(WebSocket),
}

/// The present WebSocket frame and message.
#[derive(Debug, Default)]
pub(super) struct WebSocket {
    frame: Option<Part>,
    /// Whether the message goes on behind it.
    continues: bool,
}

#[derive(Debug)]
struct Part {
    left: u64,
    ends: bool,
    mask: [u8; 4],
    /// Which byte of the mask is next.
    at: usize,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Bytes of a frame, and whether they are its last ones.
    Part { bytes: Bytes, ends: bool },
    /// To be written to the peer.
    Write(Vec<u8>),
    /// The peer closes.
    End,
}

/// The peer does not speak this transport.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FramingError {
    #[error("expected a frame of WebSocket: {0}")]
    Header(String),
    #[error("expected frames of a WebSocket client to be masked")]
    Unmasked,
    #[error("expected binary messages")]
    Text,
    #[error("expected a message to be finished before another begins")]
    Message,
    #[error("expected at most {CONTROL_BYTES_MAX} bytes of a ping or close in one frame")]
    Control,
}

impl Framing {
    pub(super) fn tcp() -> Self {
        Self::Tcp { left: None }
    }

    pub(super) fn websocket() -> Self {
        Self::WebSocket(WebSocket::default())
    }

    /// Takes the next piece out of what has arrived; none where it has to be awaited.
    pub(super) fn next(&mut self, arrived: &mut BytesMut) -> Result<Option<Piece>, FramingError> {
        match self {
            Self::Tcp { left } => Ok(tcp(left, arrived)),
            Self::WebSocket(socket) => socket.next(arrived),
        }
    }

    /// Appends a frame as it is sent.
    pub(super) fn put(&self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Tcp { .. } => out.extend(&(frame.len() as u32).to_be_bytes()[1..]),
            Self::WebSocket(_) => put_header(OpCode::Data(Data::Binary), frame.len(), out),
        }
        out.extend(frame);
    }

    /// Appends what ends the connection.
    pub(super) fn put_end(&self, out: &mut Vec<u8>) {
        if let Self::WebSocket(_) = self {
            put_header(OpCode::Control(Control::Close), 2, out);
            out.extend(u16::from(CloseCode::Normal).to_be_bytes());
        }
    }
}

fn tcp(left: &mut Option<usize>, arrived: &mut BytesMut) -> Option<Piece> {
    if left.is_none() {
        let [a, b, c] = *arrived.first_chunk()?;
        arrived.advance(3);
        *left = Some(u32::from_be_bytes([0, a, b, c]) as usize);
    }
    let length = (*left)?;
    if arrived.is_empty() && length > 0 {
        return None;
    }
    let bytes = arrived.split_to(length.min(arrived.len())).freeze();
    let ends = bytes.len() == length;
    *left = (!ends).then(|| length - bytes.len());
    Some(Piece::Part { bytes, ends })
}

impl WebSocket {
    fn next(&mut self, arrived: &mut BytesMut) -> Result<Option<Piece>, FramingError> {
        loop {
            if let Some(part) = &mut self.frame {
                if arrived.is_empty() && part.left > 0 {
                    return Ok(None);
                }
                let length = usize::try_from(part.left).unwrap_or(usize::MAX).min(arrived.len());
                let mut bytes = arrived.split_to(length);
                part.unmask(&mut bytes);
                part.left -= length as u64;
                let (done, ends) = (part.left == 0, part.left == 0 && part.ends);
                if done {
                    self.continues = !part.ends;
                    self.frame = None;
                }
                return Ok(Some(Piece::Part { bytes: bytes.freeze(), ends }));
            }
            let mut cursor = Cursor::new(&arrived[..]);
            let parsed = FrameHeader::parse(&mut cursor).map_err(|error| FramingError::Header(error.to_string()))?;
            let Some((header, left)) = parsed else { return Ok(None) };
            let head = cursor.position() as usize;
            if header.rsv1 || header.rsv2 || header.rsv3 {
                return Err(FramingError::Header("no extension was agreed on".to_owned()));
            }
            let mask = header.mask.ok_or(FramingError::Unmasked)?;
            let mut part = Part { left, ends: header.is_final, mask, at: 0 };
            let control = match header.opcode {
                OpCode::Data(Data::Binary) if !self.continues => None,
                OpCode::Data(Data::Continue) if self.continues => None,
                OpCode::Data(Data::Text) => return Err(FramingError::Text),
                OpCode::Data(_) => return Err(FramingError::Message),
                OpCode::Control(control) => Some(control),
            };
            let Some(control) = control else {
                arrived.advance(head);
                self.frame = Some(part);
                continue;
            };
            if left > CONTROL_BYTES_MAX as u64 || !header.is_final {
                return Err(FramingError::Control);
            }
            let length = left as usize;
            if arrived.len() < head + length {
                return Ok(None);
            }
            arrived.advance(head);
            let mut bytes = arrived.split_to(length);
            part.unmask(&mut bytes);
            match control {
                Control::Ping => {
                    let mut pong = Vec::new();
                    put_header(OpCode::Control(Control::Pong), length, &mut pong);
                    pong.extend(&bytes);
                    return Ok(Some(Piece::Write(pong)));
                }
                Control::Close => return Ok(Some(Piece::End)),
                Control::Pong | Control::Reserved(_) => {}
            }
        }
    }
}

impl Part {
    fn unmask(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            *byte ^= self.mask[self.at % 4];
            self.at = (self.at + 1) % 4;
        }
    }
}

fn put_header(opcode: OpCode, length: usize, out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    // Writing to memory does not fail.
    let _ = header.format(length as u64, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames, what is written back, and whether the peer closed.
    type Seen = (Vec<Vec<u8>>, Vec<u8>, bool);

    /// What is seen in a stream that arrives in chunks of that size.
    fn frames(framing: &mut Framing, bytes: &[u8], chunk: usize) -> Result<Seen, FramingError> {
        let (mut arrived, mut frames, mut written, mut ended) = (BytesMut::new(), Vec::new(), Vec::new(), false);
        let mut open = Vec::new();
        for chunk in bytes.chunks(chunk) {
            arrived.extend_from_slice(chunk);
            while let Some(piece) = framing.next(&mut arrived)? {
                match piece {
                    Piece::Part { bytes, ends } => {
                        open.extend_from_slice(&bytes);
                        if ends {
                            frames.push(std::mem::take(&mut open));
                        }
                    }
                    Piece::Write(bytes) => written.extend(bytes),
                    Piece::End => ended = true,
                }
            }
        }
        assert!(open.is_empty() && arrived.is_empty());
        Ok((frames, written, ended))
    }

    /// A WebSocket frame of a client.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x11, 0x22, 0x33, 0x44];
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(0x80 | length as u8),
            length => frame.extend([0xfe, (length >> 8) as u8, length as u8]),
        }
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    #[test]
    fn frames_of_tcp_come_out_whole_however_they_arrive() {
        let wanted = [b"".to_vec(), b"abc".to_vec(), vec![7; 300]];
        let mut bytes = Vec::new();
        for frame in &wanted {
            Framing::tcp().put(frame, &mut bytes);
        }
        for chunk in 1..bytes.len() {
            let (got, ..) = frames(&mut Framing::tcp(), &bytes, chunk).unwrap();
            assert_eq!(got, wanted, "chunks of {chunk}");
        }
    }

    #[test]
    fn messages_of_websocket_come_out_whole_and_pings_are_answered() {
        let bytes = [
            masked(0x82, b"abcde"),
            masked(0x02, b"in"),
            masked(0x89, b"still there?"),
            masked(0x00, b""),
            masked(0x8a, b"pong"),
            masked(0x80, b" parts"),
            masked(0x82, &[7; 300]),
            masked(0x82, b""),
            masked(0x88, &[3, 0xe8]),
        ]
        .concat();
        let wanted = [b"abcde".to_vec(), b"in parts".to_vec(), vec![7; 300], Vec::new()];
        for chunk in 1..bytes.len() {
            let (got, written, ended) = frames(&mut Framing::websocket(), &bytes, chunk).unwrap();
            assert_eq!((got, ended), (wanted.to_vec(), true), "chunks of {chunk}");
            assert_eq!(written, b"\x8a\x0cstill there?");
        }
    }

    #[test]
    fn refuses_what_no_websocket_client_sends() {
        let cases = [
            (b"\x82\x01x".to_vec(), FramingError::Unmasked),
            (masked(0x81, b"text"), FramingError::Text),
            (masked(0x80, b"of what?"), FramingError::Message),
            ([masked(0x02, b"a"), masked(0x82, b"b")].concat(), FramingError::Message),
            (masked(0x89, &[0; 126]), FramingError::Control),
            (masked(0x09, b"half a ping"), FramingError::Control),
        ];
        for (bytes, expected) in cases {
            assert_eq!(frames(&mut Framing::websocket(), &bytes, 1000), Err(expected));
        }
        for bytes in [masked(0xc2, b"extended"), masked(0x83, b"reserved")] {
            let error = frames(&mut Framing::websocket(), &bytes, 1000).unwrap_err();
            assert!(matches!(error, FramingError::Header(_)), "{error}");
        }
    }

    #[test]
    fn frames_are_sent_in_their_transports_form() {
        let mut out = Vec::new();
        Framing::tcp().put(b"abc", &mut out);
        Framing::tcp().put_end(&mut out);
        Framing::websocket().put(b"abc", &mut out);
        Framing::websocket().put_end(&mut out);
        assert_eq!(out, b"\0\0\x03abc\x82\x03abc\x88\x02\x03\xe8");
    }
}
