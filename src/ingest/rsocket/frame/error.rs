//! ERROR: `code: u32 | message`. On stream 0 it ends the connection, on another the request.

use super::{Flags, Header, Kind};

/// The codes that are used.
pub(in crate::ingest::rsocket) mod code {
    pub(in crate::ingest::rsocket) const INVALID_SETUP: u32 = 0x001;
    pub(in crate::ingest::rsocket) const UNSUPPORTED_SETUP: u32 = 0x002;
    pub(in crate::ingest::rsocket) const REJECTED_RESUME: u32 = 0x004;
    pub(in crate::ingest::rsocket) const CONNECTION_ERROR: u32 = 0x101;
    pub(in crate::ingest::rsocket) const CONNECTION_CLOSE: u32 = 0x102;
    pub(in crate::ingest::rsocket) const APPLICATION_ERROR: u32 = 0x201;
    pub(in crate::ingest::rsocket) const REJECTED: u32 = 0x202;
}

/// Why something ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest::rsocket) struct ErrorFrame {
    pub(in crate::ingest::rsocket) code: u32,
    /// Of an application: at most [`ErrorFrame::MESSAGE_CHARS_MAX`], without control characters.
    pub(in crate::ingest::rsocket) message: String,
}

impl ErrorFrame {
    /// What is kept of a message, which stands in logs.
    pub(in crate::ingest::rsocket) const MESSAGE_CHARS_MAX: usize = 200;

    /// None where there is no code.
    pub(in crate::ingest::rsocket) fn load(body: &[u8]) -> Option<Self> {
        let (code, message) = body.split_first_chunk()?;
        let message = String::from_utf8_lossy(message);
        let shown = message.chars().take(Self::MESSAGE_CHARS_MAX);
        let message = shown.map(|character| if character.is_control() { ' ' } else { character }).collect();
        Some(Self { code: u32::from_be_bytes(*code), message })
    }

    pub(in crate::ingest::rsocket) fn encode(&self, stream: u32) -> Vec<u8> {
        let mut frame = Header { stream, kind: Kind::Error, flags: Flags::NONE }.encode();
        frame.extend(self.code.to_be_bytes());
        frame.extend(self.message.as_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        let error = ErrorFrame { code: code::CONNECTION_ERROR, message: "disposed".to_owned() };
        assert_eq!(error.encode(0), b"\0\0\0\0\x2c\0\0\0\x01\x01disposed");
        assert_eq!(ErrorFrame::load(&error.encode(0)[6..]), Some(error));
        assert_eq!(ErrorFrame::load(b"\0\0\x01"), None);
    }

    #[test]
    fn a_message_is_fit_for_a_log() {
        let body = [b"\0\0\x02\x01a\nb\xff".to_vec(), b"x".repeat(1000)].concat();
        let message = ErrorFrame::load(&body).unwrap().message;
        assert!(message.starts_with("a b\u{fffd}x"), "{message}");
        assert_eq!(message.chars().count(), ErrorFrame::MESSAGE_CHARS_MAX);
    }
}
