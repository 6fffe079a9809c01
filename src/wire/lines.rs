//! Bodies of lines under construction: as text, or compressed line by line.
//!
//! Who writes a line knows what its pieces are: names and tags that stood in a line before, numbers that did not. Told so
//! ([`Lines::repeats`], [`Lines::differs`]), DEFLATE has nothing to search for. What is told is a hint, and the body says the
//! same without it. Of the text, no more is held than repeats reach back, and some: the same memory serves all bodies, and stays
//! in the processor's cache.

use super::Body;
use super::compression::{Encoding, Gzip, Packed};
use super::deflate::DISTANCE_MAX;

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

/// Text that reaches from the mark before it to here.
#[derive(Clone, Copy, Debug)]
struct Mark {
    end: usize,
    differs: bool,
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

    /// Tells that what was written since the last such word is expected to have stood in a line before.
    #[inline]
    pub(crate) fn repeats(&mut self) {
        self.mark(false);
    }

    /// Tells that it is not.
    #[inline]
    pub(crate) fn differs(&mut self) {
        self.mark(true);
    }

    #[inline]
    fn mark(&mut self, differs: bool) {
        if self.gzip.is_some() {
            self.marks.push(Mark { end: self.text.len(), differs });
        }
    }

    /// Takes back what was written since the text had that length, no further than to the last cut.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.text.truncate(len);
        while self.marks.pop_if(|mark| mark.end > len).is_some() {}
    }

    /// Ends a piece of the body, as [`Body::cut`] does.
    pub(crate) fn cut(&mut self, samples: u32) {
        self.cut_as(samples, samples);
    }

    /// The same as [`Body::cut_as`] does.
    pub(crate) fn cut_as(&mut self, samples: u32, on_wire: u32) {
        self.cuts.cut_at(self.gone + self.text.len(), samples, on_wire);
        let Some(gzip) = &mut self.gzip else { return };
        for mark in self.marks.drain(..) {
            gzip.piece(&self.text, self.packed..mark.end, mark.differs);
            self.packed = mark.end;
        }
        gzip.piece(&self.text, self.packed..self.text.len(), false);
        self.packed = self.text.len();
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
