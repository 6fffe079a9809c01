//! What must hold for DEFLATE of any text: it comes back, and is not much longer than it was.

use crate::wire::deflate::{DISTANCE_MAX, Deflater, Piece};
use std::io::Read;

/// The bytes are text, and then a list of tokens to make longer text of: each is a piece of the bytes and what parts it from
/// the next, so that tokens come again, alike and at any distance.
///
/// # Panics
/// When `flate2` reads something else.
pub fn deflate(data: &[u8]) {
    comes_back(data, &[(data.len(), Piece::Tokens)]);
    let (mut text, mut pieces) = (Vec::new(), Vec::new());
    for pair in data.as_chunks::<2>().0 {
        let [from, shape] = pair.map(usize::from);
        let (piece, times) = (&data[(from * 3).min(data.len())..], if shape & 7 == 7 { 9 } else { 1 });
        for _ in 0..times {
            text.extend_from_slice(&piece[..(shape >> 3).min(piece.len())]);
            let known = Piece::Known((from << 8 | shape >> 3) as u64 + 1);
            pieces.push((text.len(), [known, known, Piece::Tokens, Piece::New][shape & 3]));
        }
        text.push(b",, \n,=\n "[shape & 7]);
        pieces.push((text.len(), Piece::New));
    }
    comes_back(&text, &[(text.len(), Piece::Tokens)]);
    // A body of lines is longer than repeats reach back.
    let times = 1 + 3 * DISTANCE_MAX / text.len().max(DISTANCE_MAX / 8);
    let long = text.repeat(times);
    let again = (0..times).flat_map(|time| pieces.iter().map(move |(end, is)| (time, *end, *is)));
    let pieces: Vec<_> = again.map(|(time, end, is)| (time * text.len() + end, is)).collect();
    comes_back(&long, &pieces);
}

/// Compresses a text whose pieces end there, and reads it.
fn comes_back(text: &[u8], pieces: &[(usize, Piece)]) {
    let (mut deflater, mut read) = (Deflater::default(), Vec::new());
    let (mut gone, mut from) = (0, 0);
    deflater.begin(Vec::new());
    for (end, is) in pieces {
        deflater.piece(&text[gone..*end], from - gone..end - gone, *is);
        from = *end;
        if from - gone > 2 * DISTANCE_MAX {
            deflater.forget(from - gone - DISTANCE_MAX);
            gone = from - DISTANCE_MAX;
        }
    }
    let packed = deflater.finish();
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
