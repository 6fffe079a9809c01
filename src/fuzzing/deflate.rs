//! What must hold for DEFLATE of any text: it comes back, and is not much longer than it was.

use crate::wire;
use std::io::Read;

/// The bytes are text, and then a list of tokens to make longer text of: each is a piece of the bytes and what parts it from
/// the next, so that tokens come again, alike and at any distance.
///
/// # Panics
/// When `flate2` reads something else.
pub fn deflate(data: &[u8]) {
    comes_back(data);
    let mut text = Vec::new();
    for pair in data.as_chunks::<2>().0 {
        let [from, shape] = pair.map(usize::from);
        let (piece, times) = (&data[(from * 3).min(data.len())..], if shape & 7 == 7 { 9 } else { 1 });
        for _ in 0..times {
            text.extend_from_slice(&piece[..(shape >> 3).min(piece.len())]);
        }
        text.push(b",, \n,=\n "[shape & 7]);
    }
    comes_back(&text);
}

fn comes_back(text: &[u8]) {
    let (mut packed, mut read) = (Vec::new(), Vec::new());
    wire::deflate::deflate(text, &mut packed);
    assert!(packed.len() <= 200 + text.len() * 3 / 2, "{} bytes of {}", packed.len(), text.len());
    let ending = flate2::read::DeflateDecoder::new(&*packed).read_to_end(&mut read);
    assert!(ending.is_ok(), "flate2 does not read it: {ending:?}");
    assert!(read == text, "flate2 reads something else");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holds_for_any_bytes(data in prop::collection::vec(any::<u8>(), 0..800)) {
            super::deflate(&data);
        }
    }
}
