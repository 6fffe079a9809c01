//! The connection of an application, without its socket: however its bytes arrive, the same comes of them, and what is held of
//! them is bounded.

use crate::ingest::converse;

/// The first byte says whether it is WebSocket, whether there is room for payloads the second time, and how the rest,
/// the bytes of the connection, is cut.
///
/// # Panics
/// When a promise is broken.
pub fn rsocket(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let (websocket, chunk) = (kind & 1 == 1, usize::from(kind >> 2) + 1);
    let whole = converse(websocket, rest, rest.len().max(1), true);
    assert_eq!(whole, converse(websocket, rest, chunk, true), "chunks of {chunk} bytes");
    converse(websocket, rest, chunk, kind & 2 == 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETUP: &[u8] = b"\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\0\0";

    fn tcp(frames: &[&[u8]]) -> Vec<u8> {
        frames.iter().flat_map(|frame| [&(frame.len() as u32).to_be_bytes()[1..], frame].concat()).collect()
    }

    #[test]
    fn holds_for_conversations() {
        let conversation = tcp(&[
            SETUP,
            b"\0\0\0\x04\x29\xe0\0\0\x01kdata",
            b"\0\0\0\x04\x28\x60 more",
            b"\0\0\0\0\x0c\x80\0\0\0\0\0\0\0\0",
            b"\0\0\0\x01\x11\0\0\0\x01kwords",
            b"\0\0\0\0\x2c\0\0\0\x01\x01disposed",
        ]);
        for kind in [0, 2, 12, 0xfc] {
            rsocket(&[&[kind], &*conversation].concat());
        }
        let told = converse(false, &conversation, 3, true).join("\n");
        for event in ["Opened", "Answered(Ok(", "Pushed { content: Ok(", "Ended("] {
            assert!(told.contains(event), "{event}: {told}");
        }
    }
}
