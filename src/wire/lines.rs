//! Bodies of lines under construction: as text, or compressed line by line.
//!
//! Who writes a line knows what it is made of: names, tags and times that stood in a line before ([`Lines::known`]), numbers that
//! did not ([`Lines::differs`]). Told so, DEFLATE has nothing to search for. Of the text no more is held than repeats reach
//! back, and some: the same memory serves all bodies, and stays in the processor's cache.

use super::Body;
use super::compression::{Encoding, Gzip, Packed};
use super::deflate::{DISTANCE_MAX, Piece};
use super::shared::SharedText;
use std::ops::Range;

/// So much of a text is held until what is compressed is let go.
const TEXT_BYTES_MAX: usize = 4 * DISTANCE_MAX;

/// A body of lines.
#[derive(Debug)]
pub(crate) struct Lines {
    /// The text; the end of it, where it is compressed.
    pub(crate) text: Vec<u8>,
    /// Bytes of the text that were let go.
    gone: usize,
    /// Pieces of the body.
    cuts: Body,
    gzip: Option<Gzip>,
    /// What is known of the text since the last cut.
    marks: Vec<Mark>,
    /// How much of the text is compressed.
    packed: usize,
}

/// What is known of these bytes of the text.
#[derive(Debug)]
struct Mark {
    bytes: Range<usize>,
    is: Piece,
}

impl Lines {
    /// An empty body, which will be compressed or not.
    pub(crate) fn new(gzip: bool) -> Self {
        Self {
            text: Vec::new(),
            gone: 0,
            cuts: Body::default(),
            gzip: gzip.then(Gzip::default),
            marks: Vec::new(),
            packed: 0,
        }
    }

    /// Size of the text.
    pub(crate) fn bytes(&self) -> usize {
        self.gone + self.text.len()
    }

    /// Writes a text that other lines have as well.
    #[inline]
    pub(crate) fn shared(&mut self, text: &SharedText) {
        let from = self.text.len();
        self.text.extend_from_slice(text);
        self.known(from, text.number());
    }

    /// Tells that what was written from there on has this number, as no other text does, and is expected in other lines.
    #[inline]
    pub(crate) fn known(&mut self, from: usize, number: u64) {
        self.mark(from, Piece::Known(number));
    }

    /// Tells that what was written from there on hardly stood in a line before.
    #[inline]
    pub(crate) fn differs(&mut self, from: usize) {
        self.mark(from, Piece::New);
    }

    #[inline]
    fn mark(&mut self, from: usize, is: Piece) {
        if self.gzip.is_some() {
            self.marks.push(Mark { bytes: from..self.text.len(), is });
        }
    }

    /// Takes back what was written since the text had that length, no further than to the last cut.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.text.truncate(len);
        while self.marks.pop_if(|mark| mark.bytes.end > len).is_some() {}
    }

    /// Ends a piece of the body, as [`Body::cut`] does.
    pub(crate) fn cut(&mut self, samples: u32) {
        self.cut_as(samples, samples);
    }

    /// The same as [`Body::cut_as`] does.
    pub(crate) fn cut_as(&mut self, samples: u32, on_wire: u32) {
        self.cuts.cut_at(self.gone + self.text.len(), samples, on_wire);
        let Some(gzip) = &mut self.gzip else { return };
        for Mark { bytes, is } in &self.marks {
            if self.packed < bytes.start {
                gzip.piece(&self.text, self.packed..bytes.start, Piece::Tokens);
            }
            self.packed = bytes.end;
            gzip.piece(&self.text, bytes.clone(), *is);
        }
        self.marks.clear();
        if self.packed < self.text.len() {
            gzip.piece(&self.text, self.packed..self.text.len(), Piece::Tokens);
            self.packed = self.text.len();
        }
        if self.packed >= TEXT_BYTES_MAX {
            let gone = self.packed - DISTANCE_MAX;
            gzip.let_go(&self.text[..gone]);
            self.text.drain(..gone);
            self.gone += gone;
            self.packed -= gone;
        }
    }

    /// The body, whose last line is cut. What follows begins the next one.
    pub(crate) fn take(&mut self) -> Body {
        let next = Vec::with_capacity(self.cuts.cuts.len());
        let cuts = std::mem::replace(&mut self.cuts.cuts, next);
        let len = self.bytes();
        (self.gone, self.packed) = (0, 0);
        match &mut self.gzip {
            Some(gzip) if len > 0 => {
                let packed = Packed::new(Encoding::Gzip, gzip.finish(&self.text, len).into(), len);
                self.text.clear();
                Body { packed: Some(packed), cuts, ..Body::default() }
            }
            _ => {
                let next = Vec::with_capacity(self.text.len());
                Body { bytes: std::mem::replace(&mut self.text, next), cuts, ..Body::default() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::shared::SharedTexts;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Pieces of lines are a word, what is said of it, and whether it is taken back.
        #[test]
        fn a_compressed_body_is_the_text_with_the_same_cuts(
            words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1200), 1..6),
            bodies in prop::collection::vec(
                prop::collection::vec(prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8, 0..9_u8), 0..6), 0..150),
                1..4,
            ),
        ) {
            let texts = SharedTexts::default();
            let words: Vec<_> = words.iter().map(|word| texts.share(word)).collect();
            let [mut plain, mut packed] = [false, true].map(Lines::new);
            for lines in bodies {
                let [plain, packed] = [&mut plain, &mut packed].map(|body| {
                    for line in &lines {
                        for (word, is, back) in line {
                            let (word, before) = (word.get(&words), body.text.len());
                            match is {
                                0 => body.shared(word),
                                1 => body.text.extend_from_slice(word),
                                2 => {
                                    body.text.extend_from_slice(&word[..word.len() / 8]);
                                    body.differs(before);
                                }
                                _ => body.text.extend_from_slice(b",b=2 c"),
                            }
                            if *back == 0 {
                                body.truncate(before + (body.text.len() - before) / 2);
                            }
                        }
                        body.cut_as(1, 2);
                    }
                    let bytes = body.bytes();
                    let body = body.take();
                    assert_eq!(body.run(0..body.cuts.len()).len(), bytes);
                    body
                });
                prop_assert_eq!(&plain.cuts, &packed.cuts);
                prop_assert_eq!(packed.packed.is_some(), !plain.bytes.is_empty());
                let text = packed.run(0..packed.cuts.len());
                prop_assert!(plain.bytes == text, "{} and {} bytes", plain.bytes.len(), text.len());
            }
        }
    }

    #[test]
    fn no_more_text_is_held_than_repeats_reach_back_and_some() {
        let texts = SharedTexts::default();
        let (name, tags) = (texts.share(b"name "), texts.share(format!(" source={}", "s".repeat(300)).as_bytes()));
        let mut body = Lines::new(true);
        for _ in 0..5000 {
            body.shared(&name);
            body.text.push(b'7');
            body.differs(body.text.len() - 1);
            body.shared(&tags);
            body.text.push(b'\n');
            body.cut(1);
        }
        assert!(body.text.capacity() <= 2 * TEXT_BYTES_MAX, "{}", body.text.capacity());
        let (bytes, body) = (body.bytes(), body.take());
        // Two repeats of each name and its tags, and a digit.
        assert!(body.gzip().len() < 5000 * 16, "{} bytes", body.gzip().len());
        assert_eq!(body.run(0..5000).len(), bytes);
    }
}
