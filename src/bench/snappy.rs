//! A Snappy block with holes: bytes that may be overwritten in the compressed stream without compressing again.
//!
//! The hole is a literal that no copy refers to. Everything else is compressed as by any Snappy encoder, so that what the
//! receiver does with the stream is what it does with a real sender's: the label names and values of a series are copies
//! of those of the series before.
//!
//! Format: <https://github.com/google/snappy/blob/main/format_description.txt>. Only copies with two-byte offsets are
//! written; blocks end after 64 KiB, so every offset fits.

use crate::wire::protobuf::put_varint;
use std::ops::Range;

const BLOCK_BYTES: usize = 1 << 16;
const TABLE_BITS: u32 = 14;
/// Shortest match that is worth a copy of three bytes.
const MATCH_BYTES_MIN: usize = 4;
/// Longest copy with a two-byte offset.
const COPY_BYTES_MAX: usize = 64;

/// Compresses `plain`. The holes are ascending, apart from each other, and not empty; returned are the offsets at which they
/// begin in the compressed stream. A hole is never split.
pub(super) fn compress(plain: &[u8], holes: &[Range<usize>]) -> (Vec<u8>, Vec<usize>) {
    let mut stream = Stream {
        plain,
        out: Vec::with_capacity(plain.len() / 4),
        table: vec![Entry::default(); 1 << TABLE_BITS],
        block: 0,
        literal: 0,
    };
    put_varint(&mut stream.out, plain.len() as u64);
    let mut places = Vec::with_capacity(holes.len());
    let mut at = 0;
    for hole in holes {
        stream.compress(at, hole.start);
        // The literal that holds the hole ends with it, so the hole lies at the end of what is written.
        stream.put_literal(hole.end);
        places.push(stream.out.len() - hole.len());
        at = hole.end;
    }
    stream.compress(at, plain.len());
    stream.put_literal(plain.len());
    (stream.out, places)
}

/// Where four bytes were seen last, and how far a match may reach from there.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// One more than the position; 0 is empty.
    next: usize,
    end: usize,
}

struct Stream<'a> {
    plain: &'a [u8],
    out: Vec<u8>,
    table: Vec<Entry>,
    /// Where the present block began.
    block: usize,
    /// Where the bytes begin that are not written yet.
    literal: usize,
}

impl Stream<'_> {
    /// Compresses the bytes between two holes; what matches nothing is left for the next literal.
    fn compress(&mut self, mut at: usize, end: usize) {
        while at + MATCH_BYTES_MIN <= end {
            if at - self.block >= BLOCK_BYTES {
                self.block = at;
            }
            let four = u32::from_le_bytes([self.plain[at], self.plain[at + 1], self.plain[at + 2], self.plain[at + 3]]);
            let slot = (four.wrapping_mul(0x1e35_a7bd) >> (32 - TABLE_BITS)) as usize;
            let seen = std::mem::replace(&mut self.table[slot], Entry { next: at + 1, end });
            let matched = match seen.next.checked_sub(1) {
                Some(from) if from >= self.block => {
                    let (before, here) = (&self.plain[from..seen.end], &self.plain[at..end]);
                    before.iter().zip(here).take_while(|(left, right)| left == right).count()
                }
                _ => 0,
            };
            if matched < MATCH_BYTES_MIN {
                at += 1;
                continue;
            }
            self.put_literal(at);
            self.put_copy(at - (seen.next - 1), matched);
            at += matched;
            self.literal = at;
        }
    }

    fn put_literal(&mut self, end: usize) {
        let bytes = &self.plain[self.literal..end];
        self.literal = end;
        match bytes.len() {
            0 => return,
            length @ 1..=60 => self.out.push(((length - 1) << 2) as u8),
            length => {
                self.out.push(63 << 2);
                self.out.extend_from_slice(&((length - 1) as u32).to_le_bytes());
            }
        }
        self.out.extend_from_slice(bytes);
    }

    fn put_copy(&mut self, offset: usize, mut length: usize) {
        while length > 0 {
            let part = length.min(COPY_BYTES_MAX);
            self.out.push(((part - 1) << 2 | 2) as u8);
            self.out.extend_from_slice(&(offset as u16).to_le_bytes());
            length -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn holes_are_overwritten_and_nothing_else_changes(
            words in prop::collection::vec((0_usize..40, prop::bool::ANY), 1..3000),
            fill in any::<u8>(),
        ) {
            // Words repeat, as labels do; some are holes.
            let (mut plain, mut holes) = (Vec::new(), Vec::new());
            for (word, is_hole) in words {
                let start = plain.len();
                plain.extend_from_slice(format!("label_{word}=value-{}", word * word * 977).as_bytes());
                if is_hole {
                    holes.push(start + 2..start + 10);
                }
            }
            let (mut stream, places) = compress(&plain, &holes);
            prop_assert_eq!(&snap::raw::Decoder::new().decompress_vec(&stream).unwrap(), &plain);
            for (hole, place) in holes.into_iter().zip(places) {
                plain[hole.clone()].fill(fill);
                stream[place..place + hole.len()].fill(fill);
            }
            prop_assert_eq!(snap::raw::Decoder::new().decompress_vec(&stream).unwrap(), plain);
        }
    }

    #[test]
    fn repeats_are_found_about_as_well_as_by_the_crate() {
        let line = |number: u32| format!("instance=\"10.0.{}.{}\",job=\"node\",mode=\"idle\" ", number / 7, number % 7);
        let plain: Vec<u8> = (0..5000).flat_map(|number| line(number).into_bytes()).collect();
        let (ours, theirs) = (compress(&plain, &[]).0.len(), crate::wire::compression::snappy(&plain).len());
        assert!(ours < theirs * 13 / 10, "{ours} bytes, the crate {theirs}");
    }
}
