//! One phrase: how its part of the message is made, and filled with samples.

use super::super::encode::{LABELS_TAG, Rendered};
use crate::wire::Body;
use crate::wire::protobuf::put_varint;
use crate::wire::snappy::{Template, Varying};
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
    /// Whether its samples all have the same time.
    pub(super) one_time: bool,
    pub(super) template: Template,
    places: Box<[Place]>,
    /// The body in which it was spoken last, and where its samples begin there.
    pub(super) spoken: (u64, usize),
    /// The body in which it is not to be spoken any more.
    pub(super) silent: u64,
}

/// A series of a phrase. Small: there are as many as series.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Its bytes in the message.
    len: u16,
    /// From the value before it, or from the beginning, to its value in the elements. Its time stands behind that and
    /// [`TIME_TAG`], if it has one of its own or is the first.
    value: u16,
}

impl Phrase {
    /// The phrase of those series, whose samples have the same time or not; none if the search for repeats tore a hole.
    pub(super) fn new(series: Arc<[Arc<Rendered>]>, one_time: bool) -> Option<Self> {
        let (mut message, mut varying) = (Vec::new(), Vec::with_capacity(2 * series.len()));
        let (mut lens, mut values) = (Vec::with_capacity(series.len()), Vec::with_capacity(series.len()));
        for rendered in &*series {
            let (start, labels) = (message.len(), rendered.labels.bytes());
            put_varint(&mut message, LABELS_TAG);
            put_varint(&mut message, (labels.len() + SAMPLE_BYTES) as u64);
            message.extend_from_slice(&labels);
            message.extend_from_slice(&SAMPLE_HEAD);
            let value = message.len();
            message.extend_from_slice(&[0; VALUE_BYTES]);
            message.push(TIME_TAG);
            let time = message.len();
            // Bytes of the time all differ, so that they repeat themselves as a whole.
            message.extend(1..=TIME_BYTES as u8);
            let of_time = if one_time { Varying::Alike } else { Varying::Apart };
            varying.extend([(value..value + VALUE_BYTES, Varying::Apart), (time..message.len(), of_time)]);
            values.push(value);
            lens.push(u16::try_from(message.len() - start).ok()?);
        }
        let template = Template::new(&message, &varying);
        let literals = template.literals();
        let mut places = Vec::with_capacity(series.len());
        let mut before = 0;
        for (number, (len, value)) in lens.into_iter().zip(values).enumerate() {
            let time = value + VALUE_BYTES + 1;
            let is_copied = one_time && number > 0;
            if is_copied && !literals.is_copied(time..time + TIME_BYTES) {
                return None;
            }
            let holes = value..if is_copied { value + VALUE_BYTES } else { time + TIME_BYTES };
            let at = literals.place(holes)?;
            places.push(Place { len, value: u16::try_from(at - before).ok()? });
            before = at;
        }
        let places = places.into();
        Some(Self { series, one_time, places, template, born: 0, spoken: (0, 0), silent: 0 })
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
        let Phrase { places, one_time, .. } = self.phrase;
        let mut at = 0;
        for (number, (place, (bits, timestamp))) in places.iter().zip(self.samples).enumerate() {
            at += usize::from(place.value);
            elements[at..][..VALUE_BYTES].copy_from_slice(&bits.to_le_bytes());
            if number == 0 || !one_time {
                elements[at + VALUE_BYTES + 1..][..TIME_BYTES].copy_from_slice(&time(*timestamp));
            }
        }
    }

    /// Ends the pieces of the body, which begins at that offset of the message.
    pub(in crate::wire::remote_write) fn cut(&self, body: &mut Body, begin: usize) {
        body.cuts.reserve(self.phrase.places.len());
        let mut end = begin;
        for place in &self.phrase.places {
            end += usize::from(place.len);
            body.cut_at(end, 1, 1);
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
