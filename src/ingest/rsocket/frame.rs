//! Frames of RSocket 1.0 to what they say and back: the subset that applications of prometheus-rsocket-proxy speak.
//!
//! ```text
//! 0            4              6
//! +------------+------+-------+-------------------------+
//! | stream     | type | flags | what the type says      |
//! | 31 bits    | 6    | 10    |                         |
//! +------------+------+-------+-------------------------+
//! ```
//!
//! Numbers are big-endian. A frame does not know its own length: the transport does ([`super::framing`]). Specification:
//! <https://rsocket.io/about/protocol>. Resumption, leases and streams of several payloads are known by type and not read.

mod content;
mod error;
mod keepalive;
mod setup;

pub(super) use content::{Content, Request, response};
pub(super) use error::{ErrorFrame, code};
pub(super) use keepalive::Keepalive;
pub(super) use setup::{Setup, SetupError};

/// Bytes of stream, type and flags.
pub(super) const HEADER_BYTES: usize = 6;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Setup,
    Lease,
    Keepalive,
    RequestResponse,
    RequestFnf,
    RequestStream,
    RequestChannel,
    RequestN,
    Cancel,
    Payload,
    Error,
    MetadataPush,
    Resume,
    /// One of a later version, or an extension.
    Other(u8),
}

impl Kind {
    const NUMBERED: [(u8, Self); 13] = [
        (0x01, Self::Setup),
        (0x02, Self::Lease),
        (0x03, Self::Keepalive),
        (0x04, Self::RequestResponse),
        (0x05, Self::RequestFnf),
        (0x06, Self::RequestStream),
        (0x07, Self::RequestChannel),
        (0x08, Self::RequestN),
        (0x09, Self::Cancel),
        (0x0a, Self::Payload),
        (0x0b, Self::Error),
        (0x0c, Self::MetadataPush),
        (0x0d, Self::Resume),
    ];

    fn of(number: u8) -> Self {
        let known = Self::NUMBERED.iter().find(|(known, _)| *known == number);
        known.map_or(Self::Other(number), |(_, kind)| *kind)
    }

    fn number(self) -> u8 {
        match self {
            Self::Other(number) => number,
            known => Self::NUMBERED.iter().find(|(_, kind)| *kind == known).map_or(0, |(number, _)| *number),
        }
    }
}

/// Ten bits, most of which each type gives its own meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(pub(super) u16);

impl Flags {
    pub(super) const NONE: Self = Self(0);
    /// The frame may be ignored by whoever does not know it.
    pub(super) const IGNORE: Self = Self(0x200);
    /// Metadata stands in front of the data.
    pub(super) const METADATA: Self = Self(0x100);
    /// Further fragments follow.
    pub(super) const FOLLOWS: Self = Self(0x080);
    /// Of KEEPALIVE: an answer is awaited.
    pub(super) const RESPOND: Self = Self(0x080);
    /// Of SETUP: the client wants to resume after a loss of the connection.
    pub(super) const RESUME: Self = Self(0x080);
    /// Of SETUP: the client honours leases.
    pub(super) const LEASE: Self = Self(0x040);
    /// The stream is complete.
    pub(super) const COMPLETE: Self = Self(0x040);
    /// There is a payload.
    pub(super) const NEXT: Self = Self(0x020);

    pub(super) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What all frames begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The stream; 0 is the connection.
    pub(super) stream: u32,
    pub(super) kind: Kind,
    pub(super) flags: Flags,
}

impl Header {
    /// Reads it. The uppermost bit of the stream is reserved, and ignored.
    pub(super) fn load(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, high, low] = bytes;
        Self {
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
            kind: Kind::of(high >> 2),
            flags: Flags(u16::from_be_bytes([high & 0x03, low])),
        }
    }

    /// Begins a frame.
    fn encode(self) -> Vec<u8> {
        let mut frame = self.stream.to_be_bytes().to_vec();
        frame.extend((u16::from(self.kind.number()) << 10 | self.flags.0).to_be_bytes());
        frame
    }
}

/// A CANCEL: the answer on that stream is of no interest any more.
pub(super) fn cancel(stream: u32) -> Vec<u8> {
    Header { stream, kind: Kind::Cancel, flags: Flags::NONE }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were() {
        for number in 0..64 {
            let header = Header { stream: 0x7fff_fffe, kind: Kind::of(number), flags: Flags(0x3ff) };
            let bytes: [u8; HEADER_BYTES] = header.encode().try_into().unwrap();
            assert_eq!(Header::load(bytes), header);
        }
        assert_eq!(Header::load([0x80, 0, 0, 1, 0, 0]).stream, 1, "the reserved bit is ignored");
    }
}
