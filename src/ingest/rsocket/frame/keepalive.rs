//! KEEPALIVE: `position: u64 | data`. Whoever is asked to respond sends the same data back and does not ask.

use super::{Flags, Header, Kind};

/// A sign of life. Its position matters only to those who resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest::rsocket) struct Keepalive<'a> {
    /// Whether an answer is awaited.
    pub(in crate::ingest::rsocket) respond: bool,
    pub(in crate::ingest::rsocket) data: &'a [u8],
}

impl<'a> Keepalive<'a> {
    /// None where there is no position.
    pub(in crate::ingest::rsocket) fn load(flags: Flags, body: &'a [u8]) -> Option<Self> {
        let (_position, data) = body.split_first_chunk::<8>()?;
        Some(Self { respond: flags.contains(Flags::RESPOND), data })
    }

    pub(in crate::ingest::rsocket) fn encode(self) -> Vec<u8> {
        let flags = if self.respond { Flags::RESPOND } else { Flags::NONE };
        let mut frame = Header { stream: 0, kind: Kind::Keepalive, flags }.encode();
        frame.extend([0; 8]);
        frame.extend(self.data);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was() {
        for (respond, data) in [(true, &b""[..]), (false, b"still there?")] {
            let keepalive = Keepalive { respond, data };
            let frame = keepalive.encode();
            let (header, body) = frame.split_first_chunk().unwrap();
            assert_eq!(Keepalive::load(Header::load(*header).flags, body), Some(keepalive));
        }
        assert_eq!(Keepalive::load(Flags::NONE, &[0; 7]), None);
    }
}
