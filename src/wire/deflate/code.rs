//! The Huffman code of all bodies, and how its symbols are written.
//!
//! Its lengths were found from lines of ten labels in either format, in the order of scrapes and in none, evened out between
//! what differs by chance: one digit and another, near distances and far ones. Every byte has a code, so any text can be
//! written.

/// Bits of the stream, the first one lowest.
#[derive(Clone, Copy)]
pub(super) struct Symbol {
    pub(super) bits: u32,
    pub(super) len: u32,
}

/// Lengths of the codes of bytes; the others have [`RARE`].
const FREQUENT: [(u8, &[u8]); 7] = [
    (5, b"0123456789acdeost"),
    (6, b" -._bflnr"),
    (7, b"\"=impuvy"),
    (8, b"\n,/:ghjkqwxz"),
    (9, b"+"),
    (10, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    (11, b")*;<>?@[\\]^`{|}~"),
];
/// Also that of the end of the block.
const RARE: u8 = 12;
/// From repeats of three bytes to those of 258.
const COPY_LENGTHS: [u8; 29] = [
    9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 8, 7, 8, 8, 8, 7, 7, 7, 7, 7, 8, 9, 9, 7, 8, 8, 8, 5, //
];
/// From a distance of one byte to those of 24 KiB and more. Most frequent are those of a line.
const DISTANCE_LENGTHS: [u8; 30] = [
    6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 6, 4, 4, 4, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5, 4, 4, 4, //
];
/// Symbol of the block's end; those of repeats follow.
const END_AT: usize = 256;

const LENGTHS: [u8; END_AT + 1 + COPY_LENGTHS.len()] = {
    let mut lengths = [RARE; END_AT + 1 + COPY_LENGTHS.len()];
    let mut group = 0;
    while group < FREQUENT.len() {
        let (length, bytes) = FREQUENT[group];
        let mut at = 0;
        while at < bytes.len() {
            lengths[bytes[at] as usize] = length;
            at += 1;
        }
        group += 1;
    }
    let mut at = 0;
    while at < COPY_LENGTHS.len() {
        lengths[END_AT + 1 + at] = COPY_LENGTHS[at];
        at += 1;
    }
    lengths
};

const CODES: [Symbol; LENGTHS.len()] = codes(&LENGTHS);
/// Each byte.
pub(super) static LITERALS: [Symbol; 256] = {
    let mut literals = [END; 256];
    let mut byte = 0;
    while byte < literals.len() {
        literals[byte] = CODES[byte];
        byte += 1;
    }
    literals
};
/// The end of the block.
pub(super) const END: Symbol = CODES[END_AT];
/// Repeats by their length, less 3.
pub(super) static COPIES: [Symbol; 256] = {
    let mut copies = [CODES[LENGTHS.len() - 1]; 256];
    let mut at = 0;
    // The longest has a code of its own.
    while at < copies.len() - 1 {
        copies[at] = ranged(&CODES, END_AT + 1, at as u32, 2);
        at += 1;
    }
    copies
};
/// Distances without what is added to them.
static DISTANCES: [Symbol; 30] = codes(&DISTANCE_LENGTHS);

/// A distance.
#[inline]
pub(super) fn distance(distance: usize) -> Symbol {
    ranged(&DISTANCES, 0, distance as u32 - 1, 1)
}

/// A number as the code of its range, behind `first`, and its place in that. There are `1 << halvings` ranges for each power
/// of two.
#[inline]
const fn ranged(codes: &[Symbol], first: usize, number: u32, halvings: u32) -> Symbol {
    let extra = match number.checked_ilog2() {
        Some(log) if log > halvings => log - halvings,
        _ => 0,
    };
    let code = codes[first + ((extra << halvings) + (number >> extra)) as usize];
    Symbol { bits: code.bits | (number & ((1 << extra) - 1)) << code.len, len: code.len + extra }
}

/// The code that has these lengths. They leave nothing over.
const fn codes<const N: usize>(lengths: &[u8; N]) -> [Symbol; N] {
    let mut codes = [Symbol { bits: 0, len: 0 }; N];
    let (mut next, mut len) = (0_u32, 1);
    while len <= 15 {
        next <<= 1;
        let mut at = 0;
        while at < N {
            if lengths[at] as u32 == len {
                codes[at] = Symbol { bits: next.reverse_bits() >> (u32::BITS - len), len };
                next += 1;
            }
            at += 1;
        }
        len += 1;
    }
    assert!(next == 1 << 15);
    codes
}

/// Writes the head of the only block, which tells the code: each length in four bits.
pub(super) fn write_header(mut put: impl FnMut(u32, u32)) {
    const LAST: u32 = 1;
    const OWN_CODE: u32 = 2;
    put(LAST | OWN_CODE << 1, 3);
    put(LENGTHS.len() as u32 - 257, 5);
    put(DISTANCE_LENGTHS.len() as u32 - 1, 5);
    // All 19 symbols that lengths are told by: no abbreviations, and each length as itself.
    put(19 - 4, 4);
    for symbol in 0..19 {
        put(if symbol < 3 { 0 } else { 4 }, 3);
    }
    for length in LENGTHS.iter().chain(&DISTANCE_LENGTHS) {
        put(u32::from(*length).reverse_bits() >> 28, 4);
    }
}
