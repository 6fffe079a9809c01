//! One phrase: how its part of the message is made, and filled with samples.

use super::super::encode::{LABELS_TAG, Rendered};
use crate::wire::Body;
use crate::wire::protobuf::put_varint;
use crate::wire::snappy::{Kind, Template};
use std::ops::Range;
use std::sync::Arc;

/// Times in milliseconds that take six bytes: 1971 to 2109.
pub(super) const TIMES: Range<i64> = 1 << 35..1 << 42;
const TIME_BYTES: usize = 6;
const VALUE_BYTES: usize = 8;
/// The head of a sample and the tag of its value; behind the value comes the tag of its time.
const SAMPLE_HEAD: [u8; 3] = [2 << 3 | 2, SAMPLE_BYTES as u8 - 2, 1 << 3 | 1];
const TIME_TAG: u8 = 2 << 3;
const SAMPLE_BYTES: usize = 3 + VALUE_BYTES + 1 + TIME_BYTES;

/// A run of series and its part of a message.
#[derive(Debug)]
pub(super) struct Phrase {
    pub(super) series: Arc<[Arc<Rendered>]>,
    /// Tells it from those that had its number before.
    pub(super) born: u64,
    pub(super) template: Template,
    /// Where each series ends in the message.
    ends: Box<[u32]>,
    /// Where in the elements the values stand, and the times; where there are fewer times, all are the same.
    values: Box<[u32]>,
    times: Box<[u32]>,
    /// The body in which it was spoken last, and where its samples begin there.
    pub(super) spoken: (u64, usize),
    /// The body in which it is not to be spoken any more.
    pub(super) silent: u64,
}

impl Phrase {
    /// The phrase of those series, whose samples have the same time or not; none if the search for repeats tore a hole.
    pub(super) fn new(series: Arc<[Arc<Rendered>]>, one_time: bool) -> Option<Self> {
        let (mut message, mut kinds) = (Vec::new(), Vec::new());
        let (mut ends, mut values) = (Vec::with_capacity(series.len()), Vec::with_capacity(series.len()));
        for rendered in &*series {
            let labels = rendered.labels.bytes();
            put_varint(&mut message, LABELS_TAG);
            put_varint(&mut message, (labels.len() + SAMPLE_BYTES) as u64);
            message.extend_from_slice(&labels);
            message.extend_from_slice(&SAMPLE_HEAD);
            kinds.resize(message.len(), Kind::Fixed);
            values.push(message.len());
            message.extend_from_slice(&[0; VALUE_BYTES]);
            kinds.resize(message.len(), Kind::Hole);
            message.push(TIME_TAG);
            kinds.push(Kind::Fixed);
            // Bytes of the time all differ, so that they repeat themselves as a whole.
            message.extend(1..=TIME_BYTES as u8);
            kinds.resize(message.len(), if one_time { Kind::Same } else { Kind::Hole });
            ends.push(u32::try_from(message.len()).ok()?);
        }
        let template = Template::new(&message, &kinds);
        let literals = template.literals();
        let place = |at: usize, len: usize| literals.place(at..at + len);
        let times = values.iter().map(|value| value + VALUE_BYTES + 1);
        let times: Option<_> = if one_time {
            // The others are copies of the first, or there is none.
            let mut later = times.clone().skip(1);
            later.all(|time| literals.is_copied(time..time + TIME_BYTES)).then_some(())?;
            times.take(1).map(|time| place(time, TIME_BYTES)).collect()
        } else {
            times.map(|time| place(time, TIME_BYTES)).collect()
        };
        let values: Option<_> = values.iter().map(|value| place(*value, VALUE_BYTES)).collect();
        Some(Self {
            series,
            ends: ends.into(),
            values: values?,
            times: times?,
            template,
            born: 0,
            spoken: (0, 0),
            silent: 0,
        })
    }

    pub(super) fn has_one_time(&self) -> bool {
        self.times.len() < self.series.len()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.series.iter().any(|rendered| Arc::strong_count(rendered) == 1)
    }
}

/// A phrase in a body, and its samples.
pub(in crate::wire::remote_write) struct Part<'a> {
    pub(super) phrase: &'a Phrase,
    pub(super) samples: &'a [(u64, i64)],
}

impl Part<'_> {
    /// Its elements, whose holes are to be [filled](Part::fill).
    pub(in crate::wire::remote_write) fn template(&self) -> &Template {
        &self.phrase.template
    }

    /// Writes values and times into a copy of the elements.
    pub(in crate::wire::remote_write) fn fill(&self, elements: &mut [u8]) {
        for (at, (bits, _)) in self.phrase.values.iter().zip(self.samples) {
            elements[*at as usize..][..VALUE_BYTES].copy_from_slice(&bits.to_le_bytes());
        }
        for (at, (_, timestamp)) in self.phrase.times.iter().zip(self.samples) {
            elements[*at as usize..][..TIME_BYTES].copy_from_slice(&time(*timestamp));
        }
    }

    /// Ends the pieces of the body, which begins at that offset of the message.
    pub(in crate::wire::remote_write) fn cut(&self, body: &mut Body, begin: usize) {
        body.cuts.reserve(self.phrase.ends.len());
        for end in &self.phrase.ends {
            body.cut_at(begin + *end as usize, 1, 1);
        }
    }
}

/// A time of six bytes as a varint.
fn time(milliseconds: i64) -> [u8; TIME_BYTES] {
    std::array::from_fn(|byte| {
        let more = if byte + 1 < TIME_BYTES { 0x80 } else { 0 };
        (milliseconds >> (7 * byte)) as u8 & 0x7f | more
    })
}
