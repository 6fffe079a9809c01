//! Snappy blocks written by somebody who knows what repeats: literals and copies, no search for matches, and the message
//! itself is nowhere. What comes again and again but for a few bytes is searched once ([`Template`]).
//!
//! * Literals that follow one another become one element, and so do copies whose sources follow one another.
//! * A copy may be of any length and from any place before it, so it may overlap with itself. Up to 64 KiB back an element of
//!   three bytes (two for 4 to 11 bytes within 2 KiB) stands for up to 64 bytes, further back one of five bytes does.
//! * A copy that is [worth it](Writer::is_worth) takes no more than what it stands for, the literal behind it included. With
//!   no others, the block is at most 5 bytes and a sixtieth longer than the message.
//! * A template's copies stay within it, so it may stand anywhere in a block.
//! * A message has less than 4 GiB, as the format asks; its length stands in front, but need not be known before the end.
//!
//! Format: <https://github.com/google/snappy/blob/main/format_description.txt>.

use super::compression::{Encoding, Packed};
use super::protobuf::{put_varint, varint_len};
use bytes::Bytes;
use std::ops::Range;

/// Room for the length in front of the block: a varint of 32 bits.
const PREAMBLE_BYTES_MAX: usize = 5;
/// Longest literal whose length fits its tag.
const SHORT_LITERAL_MAX: usize = 60;
/// Longest copy of one element.
const COPY_BYTES_MAX: usize = 64;
/// From here on back an offset takes four bytes.
const FAR: usize = 1 << 16;
/// From here on back an offset takes two bytes, and from four to eleven bytes are no shorter to copy.
const NEAR: usize = 1 << 11;
/// Shortest repeats that a search takes; the second where an offset takes two bytes.
const COPY_BYTES_MIN: usize = 4;
const FAR_COPY_BYTES_MIN: usize = 6;
/// A search remembers the last place of as many windows of four bytes, as a power of two.
const SEARCH_BITS: u32 = 14;
/// Of what is copied, it remembers one window in so many bytes: the place before is as good.
const COPIED_STEP: usize = 8;
/// How far back it looks.
const SEARCH_REACH: usize = 1 << 15;

/// Writes one block.
#[derive(Debug)]
pub struct Writer {
    /// Room for the preamble, then the elements.
    out: Vec<u8>,
    /// Bytes of the message so far.
    len: usize,
    /// Where the tag of the open literal stands; 0 is none.
    literal: usize,
    /// Length of the open copy; 0 is none. At most one of the two is open.
    copied: usize,
    /// How far back the open copy begins.
    offset: usize,
}

impl Writer {
    /// A block that is expected to take that many bytes.
    pub fn new(bytes_expected: usize) -> Self {
        let mut out = Vec::with_capacity(PREAMBLE_BYTES_MAX + bytes_expected);
        out.extend_from_slice(&[0; PREAMBLE_BYTES_MAX]);
        Self { out, len: 0, literal: 0, copied: 0, offset: 0 }
    }

    /// Bytes of the message so far.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the message is empty so far.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends to the message what `put` appends to the buffer.
    #[inline]
    pub fn literal(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        if self.literal == 0 {
            self.end_copy();
            self.literal = self.out.len();
            self.out.push(0);
        }
        let start = self.out.len();
        put(&mut self.out);
        self.len += self.out.len() - start;
    }

    /// Appends `len` bytes of the message once more, those from the offset `from` on, which lies before its present end.
    #[inline]
    pub fn copy(&mut self, from: usize, len: usize) {
        debug_assert!(from < self.len, "a copy from {from} at {}", self.len);
        let offset = self.len - from;
        if self.copied == 0 || self.offset != offset {
            self.end_literal();
            self.end_copy();
            self.offset = offset;
        }
        self.extend(len);
    }

    /// Makes the copy that was appended last longer.
    #[inline]
    pub fn extend(&mut self, len: usize) {
        debug_assert!(self.literal == 0, "no copy is open");
        self.copied += len;
        self.len += len;
    }

    /// Whether a copy of its own takes no more than the bytes it stands for.
    #[inline]
    pub fn is_worth(&self, from: usize, len: usize) -> bool {
        len >= if self.len - from < FAR { 4 } else { 6 }
    }

    /// Appends the message of a template. Returns its elements, whose holes are to be filled in.
    #[inline]
    pub fn append(&mut self, template: &Template) -> &mut [u8] {
        self.end_literal();
        self.end_copy();
        let start = self.out.len();
        self.out.extend_from_slice(&template.elements);
        self.len += template.message_len as usize;
        &mut self.out[start..]
    }

    fn end_literal(&mut self) {
        let tag = std::mem::take(&mut self.literal);
        if tag == 0 {
            return;
        }
        match self.out.len() - tag - 1 {
            0 => self.out.truncate(tag),
            len @ 1..=SHORT_LITERAL_MAX => self.out[tag] = ((len - 1) << 2) as u8,
            len => self.end_long_literal(tag, len),
        }
    }

    /// Makes room for the length behind the tag.
    fn end_long_literal(&mut self, tag: usize, len: usize) {
        let length = (len as u32 - 1).to_le_bytes();
        let width = length.len() - (len as u32 - 1).leading_zeros() as usize / 8;
        self.out[tag] = ((SHORT_LITERAL_MAX - 1 + width) << 2) as u8;
        self.out.extend_from_slice(&length[..width]);
        self.out[tag + 1..].rotate_right(width);
    }

    #[inline]
    fn end_copy(&mut self) {
        let mut left = std::mem::take(&mut self.copied);
        if left == 0 {
            return;
        }
        // A rest of less than four bytes would miss the shortest form.
        while left >= COPY_BYTES_MAX + 4 {
            self.put_copy(COPY_BYTES_MAX);
            left -= COPY_BYTES_MAX;
        }
        if left > COPY_BYTES_MAX {
            self.put_copy(COPY_BYTES_MAX - 4);
            left -= COPY_BYTES_MAX - 4;
        }
        self.put_copy(left);
    }

    #[inline]
    fn put_copy(&mut self, len: usize) {
        let (length, offset) = ((len as u8 - 1) << 2, self.offset as u32);
        if self.offset >= FAR {
            let [a, b, c, d] = offset.to_le_bytes();
            self.out.extend_from_slice(&[length | 3, a, b, c, d]);
        } else if self.offset < NEAR && (4..12).contains(&len) {
            self.out.extend_from_slice(&[(offset >> 8 << 5) as u8 | (len as u8 - 4) << 2 | 1, offset as u8]);
        } else {
            let [low, high, ..] = offset.to_le_bytes();
            self.out.extend_from_slice(&[length | 2, low, high]);
        }
    }

    /// Ends the block.
    pub fn finish(mut self) -> Packed {
        self.end_literal();
        self.end_copy();
        let start = PREAMBLE_BYTES_MAX - varint_len(self.len as u64);
        let mut preamble = Vec::with_capacity(PREAMBLE_BYTES_MAX);
        put_varint(&mut preamble, self.len as u64);
        self.out[start..PREAMBLE_BYTES_MAX].copy_from_slice(&preamble);
        Packed::new(Encoding::Snappy, Bytes::from(self.out).slice(start..), self.len)
    }
}

/// Bytes of a template that are not the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Varying {
    /// Where two of the same value are of this kind, they will always be the same.
    Alike,
    /// Each on its own.
    Apart,
}

/// A message compressed once for many times.
#[derive(Debug)]
pub struct Template {
    elements: Box<[u8]>,
    message_len: u32,
}

impl Template {
    /// Compresses a message by search, some bytes of which vary. Those that do so apart become literals, or copies of their
    /// like. The message has less than 4 GiB.
    pub fn new(message: &[u8], varying: &[(Range<usize>, Varying)]) -> Self {
        // Where each window stood last, less one.
        let mut last = vec![0_u32; 1 << SEARCH_BITS];
        let mut writer = Writer::new(message.len() / 4);
        // Equal where a repeat within reach is one.
        let mut marks: Vec<_> = message.iter().map(|byte| u16::from(*byte)).collect();
        for (bytes, varying) in varying {
            for (at, mark) in bytes.clone().zip(&mut marks[bytes.clone()]) {
                match varying {
                    Varying::Alike => *mark |= 1 << 8,
                    Varying::Apart => *mark = 1 << 15 | (at % SEARCH_REACH) as u16,
                }
            }
        }
        let mut remember = |at: usize| {
            let window = u32::from_le_bytes(*message.get(at..)?.first_chunk()?);
            let place = window.wrapping_mul(0x9e37_79b1) >> (u32::BITS - SEARCH_BITS);
            (std::mem::replace(&mut last[place as usize], at as u32 + 1) as usize).checked_sub(1)
        };
        let (mut at, mut offset) = (0, usize::MAX);
        while let Some(byte) = message.get(at) {
            // Where these bytes stood last, or where the copy before would go on.
            let places = [remember(at), at.checked_sub(offset)].into_iter().flatten();
            let places = places.filter(|before| at - before < SEARCH_REACH);
            let copies = places.map(|before| (common(&marks[at..], &marks[before..]), before));
            let (len, before) = copies.max().unwrap_or_default();
            if len >= COPY_BYTES_MIN && (len >= FAR_COPY_BYTES_MIN || at - before < NEAR) {
                writer.copy(before, len);
                for within in (at..at + len).step_by(COPIED_STEP).skip(1) {
                    remember(within);
                }
                (at, offset) = (at + len, at - before);
            } else {
                writer.literal(|out| out.push(*byte));
                at += 1;
            }
        }
        writer.end_literal();
        writer.end_copy();
        Self { elements: writer.out[PREAMBLE_BYTES_MAX..].into(), message_len: message.len() as u32 }
    }

    /// Length of the message.
    pub fn message_len(&self) -> usize {
        self.message_len as usize
    }

    /// Where the literals stand.
    pub fn literals(&self) -> Literals {
        let (mut at, mut message, mut literals) = (0, 0, Vec::new());
        while let Some(tag) = self.elements.get(at) {
            let long = usize::from(tag >> 2);
            match tag & 3 {
                0 => {
                    let width = (long + 1).saturating_sub(SHORT_LITERAL_MAX);
                    let mut length = [0; size_of::<usize>()];
                    length[..width].copy_from_slice(&self.elements[at + 1..][..width]);
                    let len = if width == 0 { long + 1 } else { usize::from_le_bytes(length) + 1 };
                    at += 1 + width;
                    literals.push((message..message + len, at));
                    at += len;
                    message += len;
                }
                1 => (at, message) = (at + 2, message + (long & 7) + 4),
                2 => (at, message) = (at + 3, message + long + 1),
                _ => (at, message) = (at + 5, message + long + 1),
            }
        }
        Literals(literals)
    }
}

/// How many marks are the same in both from the beginning on.
fn common(left: &[u16], right: &[u16]) -> usize {
    let chunks = left.as_chunks::<16>().0.iter().zip(right.as_chunks().0);
    let same = 16 * chunks.take_while(|(left, right)| left == right).count();
    same + left[same..].iter().zip(&right[same..]).take_while(|(left, right)| left == right).count()
}

/// The literals of a [`Template`]: which bytes of the message they are, and where in the elements these begin.
#[derive(Debug)]
pub struct Literals(Vec<(Range<usize>, usize)>);

impl Literals {
    /// Where those bytes of the message stand in the elements, if one literal has them all.
    pub fn place(&self, bytes: Range<usize>) -> Option<u32> {
        let (literal, at) = self.from(bytes.start)?;
        let is_whole = literal.start <= bytes.start && bytes.end <= literal.end;
        is_whole.then(|| (at + bytes.start - literal.start) as u32)
    }

    /// Whether no literal has any of those bytes.
    pub fn is_copied(&self, bytes: Range<usize>) -> bool {
        self.from(bytes.start).is_none_or(|(literal, _)| literal.start >= bytes.end)
    }

    /// The first literal that ends behind a byte.
    fn from(&self, byte: usize) -> Option<&(Range<usize>, usize)> {
        self.0.get(self.0.partition_point(|(literal, _)| literal.end <= byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A literal, or a copy from so far back (as a share of what there is) of so many bytes.
    #[derive(Clone, Debug)]
    enum Step {
        Literal(Vec<u8>),
        Copy(f64, usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let short = prop::collection::vec(any::<u8>(), 0..80).prop_map(Step::Literal);
        let long = (any::<u8>(), 0_usize..140_000).prop_map(|(byte, len)| Step::Literal(vec![byte; len]));
        let near = (0.0..0.02, 1_usize..20).prop_map(|(back, len)| Step::Copy(back, len));
        let any = (0.0..1.0, 1_usize..400).prop_map(|(back, len)| Step::Copy(back, len));
        prop::collection::vec(prop_oneof![8 => short, 1 => long, 8 => near, 8 => any], 0..60)
    }

    fn copied(plain: &mut Vec<u8>, from: usize, len: usize) {
        for at in from..from + len {
            plain.push(plain[at]);
        }
    }

    proptest! {
        #[test]
        fn any_sequence_of_literals_and_copies_is_read_as_it_was_meant(steps in steps()) {
            let (mut writer, mut plain) = (Writer::new(0), Vec::new());
            for step in steps {
                match step {
                    Step::Literal(bytes) => {
                        writer.literal(|out| out.extend_from_slice(&bytes));
                        plain.extend_from_slice(&bytes);
                    }
                    Step::Copy(back, len) if !plain.is_empty() => {
                        let from = plain.len() - 1 - (back * plain.len() as f64) as usize;
                        if writer.is_worth(from, len) {
                            writer.copy(from, len);
                        } else {
                            let start = plain.len();
                            copied(&mut plain, from, len);
                            writer.literal(|out| out.extend_from_slice(&plain[start..]));
                            plain.truncate(start);
                        }
                        copied(&mut plain, from, len);
                    }
                    Step::Copy(..) => {}
                }
                prop_assert_eq!(writer.len(), plain.len());
            }
            let block = writer.finish();
            prop_assert_eq!(&snap::raw::Decoder::new().decompress_vec(block.bytes()).unwrap(), &plain);
            prop_assert_eq!(block.plain(), &plain);
            let bytes_max = PREAMBLE_BYTES_MAX + plain.len() + plain.len() / 60;
            prop_assert!(block.bytes().len() <= bytes_max, "{} of {}", block.bytes().len(), plain.len());
        }
    }

    #[test]
    fn each_element_has_its_shortest_form() {
        let block = |write: &dyn Fn(&mut Writer)| {
            let mut writer = Writer::new(0);
            write(&mut writer);
            writer.finish().bytes().to_vec()
        };
        assert_eq!(block(&|_| {}), [0]);
        assert_eq!(block(&|writer| writer.literal(|_| {})), [0]);
        let abcd = |writer: &mut Writer| writer.literal(|out| out.extend_from_slice(b"abcd"));
        assert_eq!(block(&abcd), *b"\x04\x0cabcd");
        let twice = |writer: &mut Writer| [abcd, abcd].iter().for_each(|write| write(writer));
        assert_eq!(block(&twice), *b"\x08\x1cabcdabcd", "literals merge");
        let copies = |writer: &mut Writer| {
            abcd(writer);
            writer.copy(0, 2);
            writer.copy(2, 2);
        };
        assert_eq!(block(&copies), *b"\x08\x0cabcd\x01\x04", "copies merge");
        let jump = |writer: &mut Writer| {
            abcd(writer);
            writer.copy(0, 4);
            writer.copy(2, 4);
        };
        assert_eq!(block(&jump), *b"\x0c\x0cabcd\x01\x04\x01\x06", "others do not");
        for (len, copy) in [
            (3, &b"\x0a\x04\0"[..]),
            (11, b"\x1d\x04"),
            (12, b"\x2e\x04\0"),
            (64, b"\xfe\x04\0"),
            (65, b"\xee\x04\0\x05\x04"),
            (68, b"\xfe\x04\0\x01\x04"),
        ] {
            let of_length = |writer: &mut Writer| {
                abcd(writer);
                writer.copy(0, len);
            };
            assert_eq!(block(&of_length)[6..], *copy, "{len}");
        }
        let behind = |distance: usize| {
            let write = move |writer: &mut Writer| {
                writer.literal(|out| out.resize(out.len() + distance, b'x'));
                writer.copy(0, 4);
            };
            block(&write)
        };
        assert!(behind(2047).ends_with(b"x\xe1\xff"));
        assert!(behind(2048).ends_with(b"x\x0e\0\x08"));
        assert!(behind(65_535).ends_with(b"x\x0e\xff\xff"));
        assert!(behind(65_536).ends_with(b"x\x0f\0\0\x01\0"));
        for (len, head) in [(60, &b"\xec"[..]), (61, b"\xf0\x3c"), (256, b"\xf0\xff"), (257, b"\xf4\0\x01")] {
            let block = block(&|writer| writer.literal(|out| out.resize(out.len() + len, b'x')));
            assert_eq!(block[varint_len(len as u64)..block.len() - len], *head, "{len}");
        }
    }
}
