//! REQUEST_RESPONSE, REQUEST_FNF and PAYLOAD: `metadata length: u24, metadata, if METADATA | data to the end`. Of a payload in
//! fragments, each but the last has FOLLOWS; metadata and data of all are put together apart from each other.

use super::{Flags, Header, Kind};

/// What a request or its answer carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest::rsocket) struct Content {
    pub(in crate::ingest::rsocket) metadata: Vec<u8>,
    pub(in crate::ingest::rsocket) data: Vec<u8>,
}

impl Content {
    /// Takes another fragment; false where its metadata is longer than itself.
    pub(in crate::ingest::rsocket) fn append(&mut self, flags: Flags, mut body: Vec<u8>) -> bool {
        let mut metadata_end = 0;
        if flags.contains(Flags::METADATA) {
            let Some(([a, b, c], rest)) = body.split_first_chunk::<3>() else { return false };
            let length = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let Some(metadata) = rest.get(..length) else { return false };
            self.metadata.extend_from_slice(metadata);
            metadata_end = 3 + length;
        }
        if self.data.is_empty() {
            // Most come whole: what was read is kept where it is.
            body.drain(..metadata_end);
            self.data = body;
        } else {
            self.data.extend_from_slice(&body[metadata_end..]);
        }
        true
    }

    pub(in crate::ingest::rsocket) fn is_empty(&self) -> bool {
        self.metadata.is_empty() && self.data.is_empty()
    }

    /// Memory it occupies.
    pub(in crate::ingest::rsocket) fn bytes(&self) -> usize {
        self.metadata.capacity() + self.data.capacity()
    }
}

/// A request without metadata.
#[derive(Clone, Copy, Debug)]
pub(in crate::ingest::rsocket) enum Request {
    /// An answer is awaited.
    Response,
    /// None is.
    Fnf,
}

impl Request {
    pub(in crate::ingest::rsocket) fn encode(self, stream: u32, data: &[u8]) -> Vec<u8> {
        let kind = match self {
            Self::Response => Kind::RequestResponse,
            Self::Fnf => Kind::RequestFnf,
        };
        let mut frame = Header { stream, kind, flags: Flags::NONE }.encode();
        frame.extend(data);
        frame
    }
}

/// An answer: nothing, and that is all.
pub(in crate::ingest::rsocket) fn response(stream: u32) -> Vec<u8> {
    Header { stream, kind: Kind::Payload, flags: Flags::COMPLETE.with(Flags::NEXT) }.encode()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_put_together() {
        let mut content = Content::default();
        assert!(content.append(Flags::METADATA, b"\0\0\x02me".to_vec()));
        assert!(content.append(Flags::METADATA, b"\0\0\x02tada".to_vec()));
        assert!(content.append(Flags::NONE, b"ta".to_vec()));
        assert_eq!(content, Content { metadata: b"meta".to_vec(), data: b"data".to_vec() });
        let mut data = Content::default();
        assert!(data.append(Flags::NONE, b"\0\0\x02me".to_vec()));
        assert_eq!(data, Content { metadata: Vec::new(), data: b"\0\0\x02me".to_vec() });
    }

    #[test]
    fn refuses_metadata_beyond_its_frame() {
        for body in [&b""[..], b"\0\0", b"\0\0\x01", b"\xff\xff\xff12345"] {
            assert!(!Content::default().append(Flags::METADATA, body.to_vec()), "{body:?}");
        }
    }
}
