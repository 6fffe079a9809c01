//! Native histograms on the wire: the message `Histogram`, which both versions of remote write share (2.0 adds the start
//! timestamp as field 17).
//!
//! A histogram that contradicts itself is refused: bucket counts that do not add up to its count, spans that cover another
//! number of buckets, an unknown schema, custom bounds out of order. Schemas 9 to 52 are reserved for finer resolutions, which
//! Prometheus takes and makes coarser: they are carried as they came. Float histograms are not checked for the sum of their buckets: rounding makes honest ones fail.

use crate::model::{Counts, NativeHistogram, ResetHint, Span};
use crate::wire::protobuf::{
    Damage, Fields, from_zigzag, put_bytes_field, put_double_field, put_sint_field, put_varint, put_varint_field,
    to_zigzag, varint_len,
};

/// Schema of custom buckets.
const SCHEMA_CUSTOM: i32 = -53;
const SCHEMA_MIN: i32 = -4;
/// The finest of the reserved ones.
const SCHEMA_MAX: i32 = 52;

/// A count in the flavour in which it was sent.
#[derive(Clone, Copy, Debug)]
enum Number {
    Integer(u64),
    Float(f64),
}

impl Number {
    fn is_zero(self) -> bool {
        match self {
            Self::Integer(value) => value == 0,
            Self::Float(value) => value == 0.0,
        }
    }
}

/// The message as it was sent, and its times in milliseconds (0: unset).
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) timestamp: i64,
    pub(crate) start: i64,
    count: Number,
    zero_count: Number,
    sum: f64,
    schema: i32,
    zero_threshold: f64,
    positive: Side,
    negative: Side,
    custom_values: Vec<f64>,
    reset_hint: u64,
}

#[derive(Debug, Default)]
struct Side {
    spans: Vec<Span>,
    deltas: Vec<i64>,
    counts: Vec<f64>,
}

impl Message {
    /// Reads the message; says nothing about its sense yet. Without `starts`, it is one of 1.0, which has no field 17.
    #[cold]
    pub(crate) fn parse(bytes: &[u8], starts: bool) -> Result<Self, Damage> {
        let mut message = Self {
            timestamp: 0,
            start: 0,
            count: Number::Integer(0),
            zero_count: Number::Integer(0),
            sum: 0.0,
            schema: 0,
            zero_threshold: 0.0,
            positive: Side::default(),
            negative: Side::default(),
            custom_values: Vec::new(),
            reset_hint: 0,
        };
        let mut fields = Fields::new(bytes);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => message.count = Number::Integer(field.varint()?),
                2 => message.count = Number::Float(field.double()?),
                3 => message.sum = field.double()?,
                4 => message.schema = field.sint32()?,
                5 => message.zero_threshold = field.double()?,
                6 => message.zero_count = Number::Integer(field.varint()?),
                7 => message.zero_count = Number::Float(field.double()?),
                8 => message.negative.spans.push(parse_span(field.bytes()?)?),
                9 => field.varints(|delta| message.negative.deltas.push(from_zigzag(delta)))?,
                10 => field.doubles(&mut message.negative.counts)?,
                11 => message.positive.spans.push(parse_span(field.bytes()?)?),
                12 => field.varints(|delta| message.positive.deltas.push(from_zigzag(delta)))?,
                13 => field.doubles(&mut message.positive.counts)?,
                14 => message.reset_hint = field.varint()?,
                15 => message.timestamp = field.varint()?.cast_signed(),
                16 => field.doubles(&mut message.custom_values)?,
                17 if starts => message.start = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        Ok(message)
    }

    /// The histogram, if it makes sense; else what does not.
    pub(crate) fn validate(self) -> Result<NativeHistogram, String> {
        self.check_schema()?;
        let counts = match self.count {
            Number::Integer(count) => {
                if !self.positive.counts.is_empty() || !self.negative.counts.is_empty() {
                    return Err("an integer histogram with float buckets".into());
                }
                let zero_count = match self.zero_count {
                    Number::Integer(zero_count) => zero_count,
                    Number::Float(_) if self.zero_count.is_zero() => 0,
                    Number::Float(_) => return Err("an integer histogram with a float zero count".into()),
                };
                let observations = self.positive.observations()? + self.negative.observations()?;
                let observations = observations + u128::from(zero_count);
                // Observations of NaN are counted but fall into no bucket.
                let consistent = observations == u128::from(count) || self.sum.is_nan() && observations < count.into();
                if !consistent {
                    return Err(format!("{observations} observations in the buckets, but the count is {count}"));
                }
                Counts::Integer {
                    count,
                    zero_count,
                    positive_deltas: self.positive.deltas,
                    negative_deltas: self.negative.deltas,
                }
            }
            Number::Float(count) => {
                if !self.positive.deltas.is_empty() || !self.negative.deltas.is_empty() {
                    return Err("a float histogram with integer buckets".into());
                }
                let zero_count = match self.zero_count {
                    Number::Float(zero_count) => zero_count,
                    Number::Integer(_) if self.zero_count.is_zero() => 0.0,
                    Number::Integer(_) => return Err("a float histogram with an integer zero count".into()),
                };
                let buckets = self.positive.counts.iter().chain(&self.negative.counts);
                if let Some(negative) = buckets.chain([&count, &zero_count]).find(|value| **value < 0.0) {
                    return Err(format!("a count of {negative}"));
                }
                Counts::Float {
                    count,
                    zero_count,
                    positive_counts: self.positive.counts,
                    negative_counts: self.negative.counts,
                }
            }
        };
        Ok(NativeHistogram {
            schema: self.schema,
            zero_threshold: self.zero_threshold,
            sum: self.sum,
            counts,
            positive_spans: self.positive.spans,
            negative_spans: self.negative.spans,
            custom_values: self.custom_values,
            reset_hint: match self.reset_hint {
                1 => ResetHint::Yes,
                2 => ResetHint::No,
                3 => ResetHint::Gauge,
                _ => ResetHint::Unknown,
            },
        })
    }

    fn check_schema(&self) -> Result<(), String> {
        match self.schema {
            SCHEMA_CUSTOM => self.check_custom()?,
            SCHEMA_MIN..=SCHEMA_MAX if self.custom_values.is_empty() => {}
            SCHEMA_MIN..=SCHEMA_MAX => return Err("custom bounds with an exponential schema".into()),
            other => {
                return Err(format!("schema {other}; {SCHEMA_MIN} to {SCHEMA_MAX} and {SCHEMA_CUSTOM} exist"));
            }
        }
        self.positive.check_spans("positive")?;
        self.negative.check_spans("negative")
    }

    fn check_custom(&self) -> Result<(), String> {
        if !self.zero_count.is_zero() || self.zero_threshold != 0.0 {
            return Err("custom buckets with a zero bucket".into());
        }
        if !self.negative.is_empty() {
            return Err("custom buckets on the negative side".into());
        }
        let ascending = self.custom_values.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.custom_values.iter().any(|bound| bound.is_nan() || *bound == f64::INFINITY) {
            return Err("custom bounds that do not ascend below +Inf".into());
        }
        // One bucket more than bounds: the one to +Inf.
        let reach: i64 = self.positive.spans.iter().map(|span| i64::from(span.offset) + i64::from(span.length)).sum();
        if self.positive.spans.iter().any(|span| span.offset < 0) || reach > self.custom_values.len() as i64 + 1 {
            return Err("custom buckets outside of their bounds".into());
        }
        Ok(())
    }
}

impl Side {
    fn is_empty(&self) -> bool {
        self.spans.is_empty() && self.deltas.is_empty() && self.counts.is_empty()
    }

    fn check_spans(&self, side: &str) -> Result<(), String> {
        let mut covered = 0_u64;
        let mut index = 0_i64;
        for (at, span) in self.spans.iter().enumerate() {
            if at > 0 && span.offset < 0 {
                return Err(format!("{side} span {at} lies before the one in front of it"));
            }
            covered += u64::from(span.length);
            index += i64::from(span.offset) + i64::from(span.length);
            // Prometheus's bounds: the index in front of the first bucket and that of the last are 32-bit integers.
            if span.offset == i32::MIN || index - 1 > i64::from(i32::MAX) {
                return Err(format!("{side} span {at} has a bucket index beyond 32 bits"));
            }
        }
        let buckets = self.deltas.len().max(self.counts.len()) as u64;
        if covered != buckets {
            return Err(format!("{side} spans cover {covered} buckets, but there are {buckets}"));
        }
        Ok(())
    }

    /// The sum of delta-encoded buckets, none of which may be negative.
    fn observations(&self) -> Result<u128, String> {
        let mut bucket = 0_i64;
        let mut sum = 0_u128;
        for delta in &self.deltas {
            bucket = bucket
                .checked_add(*delta)
                .filter(|bucket| *bucket >= 0)
                .ok_or_else(|| format!("a bucket below 0 or beyond 64 bits (delta {delta})"))?;
            sum += u128::from(bucket.cast_unsigned());
        }
        Ok(sum)
    }
}

fn parse_span(bytes: &[u8]) -> Result<Span, Damage> {
    let mut span = Span { offset: 0, length: 0 };
    let mut fields = Fields::new(bytes);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => span.offset = field.sint32()?,
            2 => span.length = field.varint()? as u32,
            _ => {}
        }
    }
    Ok(span)
}

/// Appends the message of a histogram; times in milliseconds, a start of 0 is unset.
#[cold]
pub(crate) fn put_message(out: &mut Vec<u8>, histogram: &NativeHistogram, timestamp: i64, start: i64) {
    match &histogram.counts {
        Counts::Integer { count, .. } => put_varint_field(out, 1, *count),
        Counts::Float { count, .. } => put_double_field(out, 2, *count),
    }
    put_double_field(out, 3, histogram.sum);
    put_sint_field(out, 4, i64::from(histogram.schema));
    put_double_field(out, 5, histogram.zero_threshold);
    match &histogram.counts {
        Counts::Integer { zero_count, .. } => put_varint_field(out, 6, *zero_count),
        Counts::Float { zero_count, .. } => put_double_field(out, 7, *zero_count),
    }
    put_spans(out, 8, &histogram.negative_spans);
    match &histogram.counts {
        Counts::Integer { negative_deltas, .. } => put_deltas(out, 9, negative_deltas),
        Counts::Float { negative_counts, .. } => put_doubles(out, 10, negative_counts),
    }
    put_spans(out, 11, &histogram.positive_spans);
    match &histogram.counts {
        Counts::Integer { positive_deltas, .. } => put_deltas(out, 12, positive_deltas),
        Counts::Float { positive_counts, .. } => put_doubles(out, 13, positive_counts),
    }
    put_varint_field(out, 14, histogram.reset_hint as u64);
    put_varint_field(out, 15, timestamp.cast_unsigned());
    put_doubles(out, 16, &histogram.custom_values);
    if start != 0 {
        put_varint_field(out, 17, start.cast_unsigned());
    }
}

fn put_spans(out: &mut Vec<u8>, field: u32, spans: &[Span]) {
    let mut message = Vec::new();
    for span in spans {
        message.clear();
        put_sint_field(&mut message, 1, i64::from(span.offset));
        put_varint_field(&mut message, 2, u64::from(span.length));
        put_bytes_field(out, field, &message);
    }
}

fn put_deltas(out: &mut Vec<u8>, field: u32, deltas: &[i64]) {
    if deltas.is_empty() {
        return;
    }
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, deltas.iter().map(|delta| varint_len(to_zigzag(*delta)) as u64).sum());
    for delta in deltas {
        put_varint(out, to_zigzag(*delta));
    }
}

fn put_doubles(out: &mut Vec<u8>, field: u32, values: &[f64]) {
    if values.is_empty() {
        return;
    }
    put_varint(out, u64::from(field << 3 | 2));
    put_varint(out, values.len() as u64 * 8);
    for value in values {
        out.extend_from_slice(&value.to_bits().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use crate::model::STALE_MARKER_BITS;
    use messages::histogram::{Count, ZeroCount};
    use prost::Message as _;

    fn integer() -> messages::Histogram {
        messages::Histogram {
            count: Some(Count::CountInt(13)),
            sum: 175.5,
            zero_threshold: 1e-5,
            zero_count: Some(ZeroCount::ZeroCountInt(2)),
            positive_spans: vec![span(-3, 4), span(2, 1)],
            positive_deltas: vec![2, -1, 2, -1, 1],
            timestamp: 1000,
            ..Default::default()
        }
    }

    fn custom() -> messages::Histogram {
        messages::Histogram {
            count: Some(Count::CountFloat(3.5)),
            schema: -53,
            positive_spans: vec![span(0, 1), span(1, 1)],
            positive_counts: vec![1.0, 2.5],
            custom_values: vec![0.5, 1.0],
            reset_hint: 3,
            ..Default::default()
        }
    }

    fn span(offset: i32, length: u32) -> messages::BucketSpan {
        messages::BucketSpan { offset, length }
    }

    fn validated(message: &messages::Histogram) -> Result<NativeHistogram, String> {
        Message::parse(&message.encode_to_vec(), true).unwrap().validate()
    }

    #[test]
    fn the_generated_decoder_reads_what_is_written() {
        let stale = messages::Histogram { sum: f64::from_bits(STALE_MARKER_BITS), ..Default::default() };
        let stale = messages::Histogram { count: Some(Count::CountInt(0)), ..stale };
        for message in [integer(), custom(), stale] {
            let parsed = Message::parse(&message.encode_to_vec(), true).unwrap();
            let timestamp = parsed.timestamp;
            let histogram = parsed.validate().unwrap();
            let mut written = Vec::new();
            put_message(&mut written, &histogram, timestamp, 0);
            let read = messages::Histogram::decode(&*written).unwrap();
            assert_eq!(read.sum.to_bits(), message.sum.to_bits());
            let plain = |read: &messages::Histogram| messages::Histogram { sum: 0.0, zero_count: None, ..read.clone() };
            assert_eq!(plain(&read), plain(&message));
            let again = validated(&read).unwrap();
            assert_eq!(again.sum.to_bits(), histogram.sum.to_bits());
            assert_eq!(again.counts, histogram.counts);
        }
    }

    #[test]
    fn refuses_histograms_that_contradict_themselves() {
        type Case = (fn() -> messages::Histogram, fn(&mut messages::Histogram), &'static str);
        let cases: [Case; 19] = [
            (integer, |h| h.count = Some(Count::CountInt(12)), "observations in the buckets"),
            (integer, |h| h.count = Some(Count::CountFloat(13.0)), "integer buckets"),
            (integer, |h| h.zero_count = Some(ZeroCount::ZeroCountFloat(2.0)), "float zero count"),
            (integer, |h| h.positive_counts = vec![1.0], "float buckets"),
            (integer, |h| h.positive_deltas[1] = -3, "below 0"),
            (integer, |h| h.positive_deltas = vec![i64::MAX, 1, 0, 0, 0], "beyond 64 bits"),
            (integer, |h| h.positive_spans[1].offset = -1, "lies before"),
            (integer, |h| h.positive_spans[1].length = 2, "spans cover 6 buckets"),
            (integer, |h| h.negative_spans = vec![span(0, 1)], "negative spans cover"),
            (integer, |h| h.positive_spans[1].offset = i32::MAX, "beyond 32 bits"),
            (integer, |h| h.schema = 53, "schema 53"),
            (integer, |h| h.schema = -5, "schema -5"),
            (integer, |h| h.positive_spans[0].offset = i32::MIN, "beyond 32 bits"),
            (integer, |h| h.custom_values = vec![1.0], "custom bounds"),
            (custom, |h| h.custom_values = vec![1.0, 1.0], "do not ascend"),
            (custom, |h| h.custom_values[1] = f64::INFINITY, "do not ascend"),
            (custom, |h| h.zero_count = Some(ZeroCount::ZeroCountFloat(1.0)), "zero bucket"),
            (custom, |h| h.positive_spans[1].offset = 2, "outside of their bounds"),
            (custom, |h| h.positive_counts[0] = -1.0, "a count of -1"),
        ];
        for (good, change, expected) in cases {
            let mut message = good();
            validated(&message).unwrap();
            change(&mut message);
            let why = validated(&message).unwrap_err();
            assert!(why.contains(expected), "{why}, not {expected}");
        }
    }

    #[test]
    fn bounds_of_schema_and_index_are_prometheus_s() {
        let cases: [fn(&mut messages::Histogram); 4] = [
            |h| h.schema = 9,
            |h| h.schema = 52,
            // The last bucket has the index 2^31 - 1, the first one -2^31 + 1.
            |h| h.positive_spans[1].offset = i32::MAX - 1,
            |h| h.positive_spans[0].offset = i32::MIN + 1,
        ];
        for (index, change) in cases.into_iter().enumerate() {
            let mut message = integer();
            change(&mut message);
            assert_eq!(validated(&message).map(|native| native.schema), Ok(message.schema), "case {index}");
        }
    }

    #[test]
    fn observations_of_nan_may_be_in_no_bucket() {
        let more = Some(Count::CountInt(20));
        assert!(validated(&messages::Histogram { sum: f64::NAN, count: more, ..integer() }).is_ok());
        let fewer = Some(Count::CountInt(12));
        assert!(validated(&messages::Histogram { sum: f64::NAN, count: fewer, ..integer() }).is_err());
    }
}
