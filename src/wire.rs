//! The formats: bytes to batches and series to bytes, without sockets and without a clock.
//!
//! One folder a format, each with `decode.rs` and `encode.rs` of the same shape, so that knowing one is knowing all:
//!
//! * `decode::decode(body, &Options, &mut BatchBuilder) -> Report` keeps what is good and reports what is not, with place
//!   and reason. It knows no HTTP. The time of arrival is an option.
//! * `encode::render(&Series, &Options) -> Result<Rendered, Loss>` does once per series all that can be done once:
//!   sanitising, escaping, and which losses every sample of it will suffer.
//! * `encode::Encoder::push(&Rendered, &SampleRef, &mut Losses) -> Result<(), Loss>` appends one sample to a body under
//!   construction, and `finish` gives the [`Body`].
//!
//! Where a format differs, its nature is the reason: a remote-write message can be damaged as a whole, so its `decode` gives
//! a `Result`, and its `render` asks for metadata that came apart from series; the text formats are written as a whole
//! exposition, since their families stand together. What users may choose of names and shapes is in `style.rs` and steers
//! `render`. `classic.rs` is what formats without native histograms share.

pub(crate) mod classic;
pub mod compression;
pub(crate) mod deflate;
mod digits;
pub mod influx_line;
mod lines;
pub mod metric_families;
pub mod openmetrics;
pub mod prometheus_names;
pub mod prometheus_text;
pub(crate) mod protobuf;
pub mod remote_write;
pub mod remote_write2;
pub mod shared;
pub mod snappy;
pub mod style;
pub mod wavefront;

use crate::model::{Refusal, SampleFlags, TimestampNs, Value};
use bytes::Bytes;
use std::borrow::Cow;
use std::ops::Range;

/// Refusals a report describes one by one; further ones are only counted.
pub const REPORTED_MAX: usize = 20;
/// Bytes of a refused line that a message quotes.
pub const QUOTED_MAX: usize = 80;

/// One line, or one series of a protobuf message, that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Line number from 1, or the series' index from 0 in a protobuf message.
    pub line: usize,
    /// Byte column from 1; 0 where there is no such thing.
    pub column: usize,
    /// Why, for the metrics.
    pub reason: Refusal,
    /// Why, for a person: what was expected, what was found.
    pub message: String,
}

/// What became of a body: how many samples were taken, how many were not, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Samples pushed to the batch.
    pub accepted: u64,
    refused: [u64; Refusal::COUNT],
    /// The first refusals, at most [`REPORTED_MAX`].
    pub first: Vec<Refused>,
}

impl Report {
    /// Notes a refusal of that many samples. The message is made only when it will be kept.
    #[cold]
    pub fn refuse(
        &mut self,
        samples: u64,
        line: usize,
        column: usize,
        reason: Refusal,
        message: impl FnOnce() -> String,
    ) {
        self.refused[reason as usize] += samples;
        if self.first.len() < REPORTED_MAX {
            self.first.push(Refused { line, column, reason, message: message() });
        }
    }

    /// Adds the report of a later piece of the same body, which had that many lines before it.
    pub fn merge(&mut self, piece: &Self, lines: usize) {
        self.accepted += piece.accepted;
        for (reason, samples) in piece.reasons() {
            self.refused[reason as usize] += samples;
        }
        let room = REPORTED_MAX - self.first.len();
        let first = piece.first.iter().take(room).cloned();
        self.first.extend(first.map(|refused| Refused { line: refused.line + lines, ..refused }));
    }

    /// Samples refused, all reasons together.
    pub fn refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// Samples refused for that reason.
    pub fn refused_for(&self, reason: Refusal) -> u64 {
        self.refused[reason as usize]
    }

    /// The reasons that occurred.
    pub fn reasons(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.iter().map(|reason| (*reason, self.refused_for(*reason))).filter(|(_, samples)| *samples > 0)
    }
}

/// A piece of a refused line, short enough for a message.
pub fn quoted(bytes: &[u8]) -> String {
    let cut = bytes.len().min(QUOTED_MAX);
    let text = String::from_utf8_lossy(&bytes[..cut]);
    if cut < bytes.len() { format!("{text:?}...") } else { format!("{text:?}") }
}

/// A text that is short enough for a message, or its beginning.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => Cow::from(format!("{}...", &text[..cut])),
        None => Cow::from(text),
    }
}

/// One sample on its way out.
#[derive(Clone, Copy, Debug)]
pub struct SampleRef<'a> {
    /// When it was measured.
    pub timestamp: TimestampNs,
    /// What was measured.
    pub value: Value<'a>,
    /// Since when a cumulative value counts.
    pub start: Option<TimestampNs>,
    /// What else is known of it.
    pub flags: SampleFlags,
}

/// An encoded request body that can be halved: any run of cuts, behind the prefix, is a valid body of its own.
///
/// That is how outputs answer a 413 and how they find the one bad sample in a refused request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// What every part needs (the symbol table of remote write 2.0), or empty.
    pub prefix: Vec<u8>,
    /// The pieces, one behind the other; empty where they are packed.
    pub bytes: Vec<u8>,
    /// The pieces as an encoder left them that compresses. There is no prefix then.
    pub packed: Option<compression::Packed>,
    /// Where each piece ends in the pieces, ascending.
    pub cuts: Vec<Cut>,
}

/// The end of one piece of a [`Body`]: a line, a time series, the two time series of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Offset behind the piece.
    pub end: usize,
    /// Model samples in the piece.
    pub samples: u32,
    /// What a destination counts in it where it says how much it took: lines, of which one may have several samples and a
    /// histogram has many, or samples of remote write, of which a distribution has two.
    pub on_wire: u32,
}

impl Body {
    /// Ends the piece that reaches to the present end of `bytes`. A piece without bytes adds its samples to the piece before.
    /// Destinations count it as it is counted here.
    pub fn cut(&mut self, samples: u32) {
        self.cut_as(samples, samples);
    }

    /// The same, where destinations count otherwise.
    pub fn cut_as(&mut self, samples: u32, on_wire: u32) {
        self.cut_at(self.bytes.len(), samples, on_wire);
    }

    /// The same, where the piece reaches to that offset.
    pub fn cut_at(&mut self, end: usize, samples: u32, on_wire: u32) {
        match self.cuts.last_mut() {
            Some(last) if last.end == end => last.samples += samples,
            _ => self.cuts.push(Cut { end, samples, on_wire }),
        }
    }

    /// Makes what follows the last piece, up to that offset, a part of it. It has no samples of its own.
    pub fn extend_piece(&mut self, end: usize, on_wire: u32) {
        if let Some(last) = self.cuts.last_mut() {
            last.end = end;
            last.on_wire += on_wire;
        }
    }

    /// Samples in all pieces.
    pub fn samples(&self) -> u64 {
        self.cuts.iter().map(|cut| u64::from(cut.samples)).sum()
    }

    /// The bytes of these pieces. What is packed is decompressed for them, once.
    pub fn run(&self, pieces: Range<usize>) -> &[u8] {
        let end = |pieces: usize| pieces.checked_sub(1).map_or(0, |last| self.cuts[last].end);
        let bytes = self.packed.as_ref().map_or(&*self.bytes, compression::Packed::plain);
        &bytes[end(pieces.start)..end(pieces.end)]
    }

    /// The bytes of the pieces `from..to`, behind the prefix.
    pub fn part(&self, from: usize, to: usize) -> Cow<'_, [u8]> {
        let bytes = self.run(from..to);
        if self.prefix.is_empty() { Cow::from(bytes) } else { Cow::from([&self.prefix, bytes].concat()) }
    }

    /// All of it as one Snappy block.
    pub fn snappy(&self) -> Bytes {
        self.packed_as(compression::Encoding::Snappy, compression::snappy)
    }

    /// All of it as gzip.
    pub fn gzip(&self) -> Bytes {
        self.packed_as(compression::Encoding::Gzip, compression::gzip)
    }

    fn packed_as(&self, encoding: compression::Encoding, compress: fn(&[u8]) -> Vec<u8>) -> Bytes {
        match &self.packed {
            Some(packed) if packed.encoding() == encoding => packed.bytes().clone(),
            _ => compress(&self.part(0, self.cuts.len())).into(),
        }
    }

    /// Empties the body and keeps its memory.
    pub fn clear(&mut self) {
        self.prefix.clear();
        self.packed = None;
        self.bytes.clear();
        self.cuts.clear();
    }
}
