//! `prometheus.WriteRequest` to a batch.
//!
//! The label fields of a `TimeSeries` stand in one run at its beginning in all that real senders write. That run is hashed
//! as it stands, and a series seen before is recognised without a look at a single label. Everything else is cold: a first
//! sight, labels scattered between other fields, histograms, exemplars, metadata.

use super::histogram;
use crate::model::{
    AliasHash, BatchBuilder, Exemplar, Label, Metadata, MetricType, Refusal, SampleFlags, SeriesId, SeriesSpec,
    TimestampNs, Value,
};
use crate::wire::Report;
use crate::wire::protobuf::{Damage, Field, Fields, put_bytes_field, read_varint};
use std::borrow::Cow;
use std::sync::Arc;

pub use crate::wire::protobuf::{DecodeError, Fault};

/// Nothing to choose yet.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// What was taken, by kind: the `X-Prometheus-Remote-Write-*-Written` headers of 2.0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Float samples.
    pub samples: u64,
    /// Native histograms.
    pub histograms: u64,
    /// Exemplars.
    pub exemplars: u64,
}

/// What became of a request that could be walked to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Samples taken and refused. An exemplar, a metadata message or a series without samples counts as one when refused.
    pub report: Report,
    /// The same by kind.
    pub written: Written,
    /// Series as the other version writes them: fields that this one does not know. By the rules of protobuf they are
    /// skipped, and the message may be answered with success; whoever does so counts them.
    pub foreign: u64,
}

/// A label's name and value, perhaps not UTF-8.
pub(crate) type RawLabel<'a> = (&'a [u8], &'a [u8]);

/// Why a series, or the whole message, is not taken.
#[derive(Debug)]
pub(crate) enum Trouble {
    Damaged(Damage),
    Refused(Refusal, String),
}

impl From<Damage> for Trouble {
    fn from(error: Damage) -> Self {
        Self::Damaged(error)
    }
}

/// Decodes a request. An error means that the bytes are not a message; nothing of them is in the batch then.
pub fn decode(body: &[u8], _options: &Options, out: &mut BatchBuilder<'_>) -> Result<Decoded, DecodeError> {
    let start = out.mark();
    let mut request = Request { out, decoded: Decoded::default(), index: 0 };
    match request.walk(body) {
        Ok(()) => Ok(request.decoded),
        Err(damage) => {
            out.take_back(start);
            Err(damage.within_request(body, SERIES))
        }
    }
}

/// The field of the series.
const SERIES: u32 = 1;

struct Request<'o, 't> {
    out: &'o mut BatchBuilder<'t>,
    decoded: Decoded,
    /// The present series in the message.
    index: usize,
}

impl Request<'_, '_> {
    fn walk(&mut self, body: &[u8]) -> Result<(), Damage> {
        let mut fields = Fields::new(body);
        loop {
            while let Some(len) = self.plain(fields.rest()) {
                fields.skip(len);
                self.index += 1;
            }
            let Some(field) = fields.next()? else { return Ok(()) };
            match field.number {
                SERIES => {
                    self.series(field.bytes()?)?;
                    self.index += 1;
                }
                3 => self.metadata(field.bytes()?)?,
                5 => self.decoded.foreign += 1,
                _ => {}
            }
        }
    }

    /// Takes the series that the bytes begin with if it is the one expected and has one sample in the form in which everyone
    /// writes it, as nearly all have. Returns the length of its field.
    #[inline]
    fn plain(&mut self, bytes: &[u8]) -> Option<usize> {
        const HEAD: usize = 3;
        let ([SERIES_TAG, low @ 0x80..=0xff, high @ 0..=0x7f], message) = bytes.split_first_chunk::<HEAD>()? else {
            return None;
        };
        let len = usize::from(low & 0x7f) | usize::from(*high) << 7;
        let (labels, sample) = message.get(..len)?.split_last_chunk::<PLAIN_BYTES>()?;
        if self.out.expected_len() != Some(labels.len()) {
            return None;
        }
        let (value, milliseconds) = plain_field(sample)?;
        let timestamp = to_nanoseconds(milliseconds).ok()?;
        let series = self.out.expected(self.out.alias(labels))?;
        self.out.push(series, timestamp, Value::F64(value), SampleFlags::NONE);
        self.decoded.report.accepted += 1;
        self.decoded.written.samples += 1;
        Some(HEAD + len)
    }

    fn series(&mut self, message: &[u8]) -> Result<(), Damage> {
        let mark = (self.out.mark(), self.decoded.written);
        let taken = if let Some((series, rest)) = self.expected(message) {
            self.samples(series, rest)?
        } else {
            let (block, rest) = message.split_at(leading_labels(message)?);
            self.named_by(block, rest)?
        };
        if taken {
            return Ok(());
        }
        self.out.take_back(mark.0);
        self.decoded.written = mark.1;
        self.scattered(message)
    }

    /// The series that came behind the last one before, if the message begins with its label fields, and what follows them.
    #[inline]
    fn expected<'m>(&self, message: &'m [u8]) -> Option<(SeriesId, &'m [u8])> {
        let len = self.out.expected_len()?;
        if len == 0 || *message.get(len)? == LABEL_TAG {
            return None;
        }
        let (block, rest) = message.split_at(len);
        Some((self.out.expected(self.out.alias(block))?, rest))
    }

    /// Takes the samples of the series with those label fields; false when there are more label fields in `rest`.
    fn named_by(&mut self, block: &[u8], rest: &[u8]) -> Result<bool, Damage> {
        let alias = self.out.alias(block);
        let Some(series) = self.out.recognise(alias) else {
            return self.first_sight(alias, block, rest);
        };
        self.samples(series, rest)
    }

    #[cold]
    fn first_sight(&mut self, alias: AliasHash, block: &[u8], rest: &[u8]) -> Result<bool, Damage> {
        let mut fields = Fields::new(rest);
        let mut samples = 0;
        while let Some(field) = fields.next()? {
            match field.number {
                1 => return Ok(false),
                2 | 4 => samples += 1,
                _ => {}
            }
        }
        match define(alias, block, self.out) {
            Ok(series) => self.samples(series, rest),
            Err(Trouble::Damaged(error)) => Err(error),
            Err(Trouble::Refused(reason, message)) => {
                self.decoded.report.refuse(samples.max(1), self.index, 0, reason, || message);
                Ok(true)
            }
        }
    }

    /// A series whose labels do not stand in one run: brings them together and begins again.
    #[cold]
    fn scattered(&mut self, message: &[u8]) -> Result<(), Damage> {
        let mut block = Vec::new();
        let mut rest = Vec::new();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => put_bytes_field(&mut block, 1, field.bytes()?),
                2..=4 => put_bytes_field(&mut rest, field.number, field.bytes()?),
                _ => {}
            }
        }
        // Of damage in these copies, only the series is known.
        self.named_by(&block, &rest).map(drop).map_err(|damage| damage.somewhere_in(message))
    }

    /// Pushes what follows the labels; false when a further label turns up (what was pushed must be taken back then).
    fn samples(&mut self, series: SeriesId, rest: &[u8]) -> Result<bool, Damage> {
        // One sample and nothing else, as most series have it.
        if let [SAMPLE_TAG, len, message @ ..] = rest
            && usize::from(*len) == message.len()
            && *len < 1 << 7
            && self.sample(series, message).is_ok()
        {
            self.decoded.report.accepted += 1;
            return Ok(true);
        }
        let accepted = self.out.samples();
        let mut no_more_labels = false;
        let mut fields = Fields::new(rest);
        while let Some(field) = fields.next()? {
            let pushed = match field.number {
                1 => return Ok(false),
                2 => self.sample(series, field.bytes()?),
                3 => self.exemplar(series, field.bytes()?),
                4 => take_histogram(series, field.bytes()?, None, self.out, &mut self.decoded.written),
                _ => Ok(()),
            };
            match pushed {
                Ok(()) => {}
                Err(Trouble::Damaged(error)) => return Err(error),
                Err(Trouble::Refused(reason, message)) => {
                    // What was pushed can be taken back, what was refused cannot.
                    if !no_more_labels && has_labels(rest)? {
                        return Ok(false);
                    }
                    no_more_labels = true;
                    self.decoded.report.refuse(1, self.index, 0, reason, || message);
                }
            }
        }
        self.decoded.report.accepted += (self.out.samples() - accepted) as u64;
        Ok(true)
    }

    #[inline]
    fn sample(&mut self, series: SeriesId, message: &[u8]) -> Result<(), Trouble> {
        let (value, milliseconds) = match plain_sample(message) {
            Some(sample) => sample,
            None => parse_sample(message)?,
        };
        self.out.push(series, to_nanoseconds(milliseconds)?, Value::F64(value), SampleFlags::NONE);
        self.decoded.written.samples += 1;
        Ok(())
    }

    #[cold]
    fn exemplar(&mut self, series: SeriesId, message: &[u8]) -> Result<(), Trouble> {
        let mut labels = Vec::new();
        let (mut value, mut milliseconds) = (0.0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => labels.push(parse_label(field.bytes()?)?),
                2 => value = field.double()?,
                3 => milliseconds = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        take_exemplar(series, &labels, value, milliseconds, self.out)?;
        self.decoded.written.exemplars += 1;
        Ok(())
    }

    #[cold]
    fn metadata(&mut self, message: &[u8]) -> Result<(), Damage> {
        let (mut number, mut texts) = (0, [&[][..]; 3]);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => number = field.varint()? as i32,
                2 => texts[0] = field.bytes()?,
                4 => texts[1] = field.bytes()?,
                5 => texts[2] = field.bytes()?,
                _ => {}
            }
        }
        let [Ok(family), Ok(help), Ok(unit)] = texts.map(std::str::from_utf8) else {
            let message = || "expected metadata in UTF-8, found other bytes".into();
            self.decoded.report.refuse(1, self.index, 0, Refusal::InvalidUtf8, message);
            return Ok(());
        };
        if family.is_empty() {
            let message = || "expected metadata with the name of a metric family, found none".into();
            self.decoded.report.refuse(1, self.index, 0, Refusal::InvalidMetadata, message);
            return Ok(());
        }
        let metric_type = MetricType::from_number(number);
        self.out.metadata(Metadata { family: family.into(), metric_type, help: help.into(), unit: unit.into() });
        Ok(())
    }
}

const SERIES_TAG: u8 = (SERIES << 3 | 2) as u8;
const LABEL_TAG: u8 = 1 << 3 | 2;
const SAMPLE_TAG: u8 = 2 << 3 | 2;
const VALUE_TAG: u8 = 1 << 3 | 1;
const TIMESTAMP_TAG: u8 = 2 << 3;
/// A sample of this century, with its head.
const PLAIN_BYTES: usize = 18;

/// Length of the run of label fields at the beginning of a `TimeSeries`.
#[inline]
fn leading_labels(message: &[u8]) -> Result<usize, Damage> {
    let mut end = 0;
    while message.get(end) == Some(&LABEL_TAG) {
        let mut at = end + 1;
        let length = read_varint(message, &mut at).map_err(|fault| fault.at(&message[end..]))?;
        let missing = length.saturating_sub((message.len() - at) as u64);
        if missing > 0 {
            return Err(Fault::truncated(missing).at(&message[end..]));
        }
        end = at + length as usize;
    }
    Ok(end)
}

/// Whether there are label fields among those.
#[cold]
fn has_labels(rest: &[u8]) -> Result<bool, Damage> {
    let mut fields = Fields::new(rest);
    while let Some(field) = fields.next()? {
        if field.number == 1 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A sample in the form in which everyone writes it: value, then timestamp, and nothing else.
#[inline]
pub(crate) fn plain_sample(message: &[u8]) -> Option<(f64, i64)> {
    let (head, varint) = message.split_first_chunk::<10>()?;
    let [VALUE_TAG, bits @ .., TIMESTAMP_TAG] = head else { return None };
    let mut at = 0;
    let milliseconds = read_varint(varint, &mut at).ok()?;
    (at == varint.len()).then(|| (f64::from_le_bytes(*bits), milliseconds.cast_signed()))
}

/// The same as a field of its series, with a time of six bytes.
#[inline]
fn plain_field(field: &[u8; PLAIN_BYTES]) -> Option<(f64, i64)> {
    let ([SAMPLE_TAG, len, VALUE_TAG], rest) = field.split_first_chunk::<3>()? else { return None };
    let (bits, rest) = rest.split_first_chunk::<8>()?;
    // The tag, then a varint of which all bytes but the last say that there are more.
    let (&TIMESTAMP_TAG, varint) = rest.split_first()? else { return None };
    let mut time = [0; 8];
    time[..6].copy_from_slice(varint);
    let time = u64::from_le_bytes(time);
    if usize::from(*len) + 2 != PLAIN_BYTES || time & 0x8080_8080_8080 != 0x0080_8080_8080 {
        return None;
    }
    let seven = |byte: u32| (time >> (8 * byte) & 0x7f) << (7 * byte);
    let milliseconds = seven(0) | seven(1) | seven(2) | seven(3) | seven(4) | seven(5);
    Some((f64::from_le_bytes(*bits), milliseconds.cast_signed()))
}

#[cold]
fn parse_sample(message: &[u8]) -> Result<(f64, i64), Damage> {
    let (mut value, mut milliseconds) = (0.0, 0);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value = field.double()?,
            2 => milliseconds = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok((value, milliseconds))
}

/// Interns the series that those label fields name.
fn define(alias: AliasHash, block: &[u8], out: &mut BatchBuilder<'_>) -> Result<SeriesId, Trouble> {
    let mut labels = Vec::new();
    let mut fields = Fields::new(block);
    while let Some(field) = fields.next()? {
        labels.push(parse_label(field.bytes()?)?);
    }
    intern(alias, &labels, |_| Ok(None), out)
}

fn parse_label(message: &[u8]) -> Result<RawLabel<'_>, Damage> {
    let (mut name, mut value) = (&[][..], &[][..]);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field {
            Field { number: 1, .. } => name = field.bytes()?,
            Field { number: 2, .. } => value = field.bytes()?,
            _ => {}
        }
    }
    Ok((name, value))
}

/// Interns a series by its labels, in any order, `__name__` among them. `metadata` is told the metric name.
pub(crate) fn intern(
    alias: AliasHash,
    labels: &[RawLabel<'_>],
    metadata: impl FnOnce(&str) -> Result<Option<Arc<Metadata>>, Trouble>,
    out: &mut BatchBuilder<'_>,
) -> Result<SeriesId, Trouble> {
    let mut labels = texts(labels)?;
    let mut measurement = "";
    labels.retain(|(name, value)| {
        if *name == NAME_LABEL {
            measurement = *value;
        }
        *name != NAME_LABEL && !value.is_empty()
    });
    if measurement.is_empty() {
        let found = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect::<Vec<_>>().join(",");
        let message =
            format!("expected the label {NAME_LABEL}, found {}", crate::wire::shortened(&format!("{{{found}}}")));
        return Err(Trouble::Refused(Refusal::MissingName, message));
    }
    let metadata = metadata(measurement)?;
    let labels: Vec<Label<'_>> = labels.into_iter().map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
    out.define(alias, SeriesSpec { measurement, field: None, labels, metadata })
        .map_err(|denied| Trouble::Refused(denied.refusal(), denied.to_string()))
}

/// The label that holds the metric name.
pub(crate) const NAME_LABEL: &str = "__name__";

/// Labels as text, sorted; names distinct and not empty.
fn texts<'a>(labels: &[RawLabel<'a>]) -> Result<Vec<(&'a str, &'a str)>, Trouble> {
    let mut texts = Vec::with_capacity(labels.len());
    for (name, value) in labels {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            let message = format!("expected UTF-8 in label {}, found other bytes", crate::wire::quoted(name));
            return Err(Trouble::Refused(Refusal::InvalidUtf8, message));
        };
        if name.is_empty() {
            return Err(Trouble::Refused(
                Refusal::InvalidLabel,
                "expected a name for every label, found one without".into(),
            ));
        }
        texts.push((name, value));
    }
    texts.sort_unstable();
    if let Some(pair) = texts.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let message =
            format!("expected each label name once, found {} twice", crate::wire::quoted(pair[0].0.as_bytes()));
        return Err(Trouble::Refused(Refusal::DuplicateLabel, message));
    }
    Ok(texts)
}

/// Pushes an exemplar.
pub(crate) fn take_exemplar(
    series: SeriesId,
    labels: &[RawLabel<'_>],
    value: f64,
    milliseconds: i64,
    out: &mut BatchBuilder<'_>,
) -> Result<(), Trouble> {
    let labels = texts(labels)?.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    // An exemplar MUST have a timestamp, so 0 is the year 1970, not an absent one.
    let timestamp = to_nanoseconds(milliseconds)?;
    out.exemplar(Exemplar { series, sample: None, labels, value, timestamp: Some(timestamp) });
    Ok(())
}

/// Pushes a native histogram; `created` is the series' start timestamp in milliseconds, 0 if it has none, and absent in 1.0,
/// which knows no start timestamps.
#[cold]
pub(crate) fn take_histogram(
    series: SeriesId,
    message: &[u8],
    created: Option<i64>,
    out: &mut BatchBuilder<'_>,
    written: &mut Written,
) -> Result<(), Trouble> {
    let message = histogram::Message::parse(message, created.is_some())?;
    let timestamp = to_nanoseconds(message.timestamp)?;
    let start = created.map_or(Ok(None), |created| start_timestamp(message.start, created))?;
    let histogram = message.validate().map_err(|why| Trouble::Refused(Refusal::InvalidHistogram, why))?;
    out.push(series, timestamp, Value::Histogram(&histogram), SampleFlags::NONE);
    if let Some(start) = start {
        out.start_timestamp(start);
    }
    written.histograms += 1;
    Ok(())
}

/// The start timestamp of a sample: its own, else its series', else none.
#[inline]
pub(crate) fn start_timestamp(own: i64, created: i64) -> Result<Option<TimestampNs>, Trouble> {
    match (own, created) {
        (0, 0) => Ok(None),
        (0, milliseconds) | (milliseconds, _) => to_nanoseconds(milliseconds).map(Some),
    }
}

#[inline]
pub(crate) fn to_nanoseconds(milliseconds: i64) -> Result<TimestampNs, Trouble> {
    milliseconds.checked_mul(NANOSECONDS).ok_or_else(|| out_of_range(milliseconds))
}

/// Nanoseconds in a millisecond.
pub(crate) const NANOSECONDS: i64 = 1_000_000;

#[cold]
fn out_of_range(milliseconds: i64) -> Trouble {
    Trouble::Refused(
        Refusal::InvalidTimestamp,
        format!("expected a timestamp within the years 1677 to 2262, found {milliseconds} ms"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use crate::model::{Format, SeriesTable, TableBounds};
    use prost::Message as _;

    fn series(labels: &[(&str, &str)], timestamps: &[i64]) -> messages::TimeSeries {
        let label = |(name, value): &(&str, &str)| messages::Label { name: (*name).into(), value: (*value).into() };
        messages::TimeSeries {
            labels: labels.iter().map(label).collect(),
            samples: timestamps.iter().map(|at| messages::Sample { value: 1.0, timestamp: *at }).collect(),
            ..Default::default()
        }
    }

    fn body(timeseries: Vec<messages::TimeSeries>) -> Vec<u8> {
        messages::WriteRequest { timeseries, metadata: Vec::new() }.encode_to_vec()
    }

    #[test]
    fn a_bad_series_is_refused_and_the_others_are_kept() {
        let good = series(&[("__name__", "m"), ("a", "b")], &[1, 2]);
        let cases = [
            (series(&[("a", "b")], &[1, 2]), Refusal::MissingName, 2),
            (series(&[("__name__", ""), ("a", "b")], &[1]), Refusal::MissingName, 1),
            (series(&[("__name__", "m"), ("a", "b"), ("a", "b")], &[1]), Refusal::DuplicateLabel, 1),
            (series(&[("__name__", "m"), ("", "b")], &[]), Refusal::InvalidLabel, 1),
            (series(&[("__name__", "n")], &[1, i64::MAX, i64::MIN]), Refusal::InvalidTimestamp, 2),
        ];
        for (bad, reason, refused) in cases {
            let table = SeriesTable::default();
            let mut out = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
            let taken = 4 + bad.samples.len() as u64 - refused.min(bad.samples.len() as u64);
            let body = body(vec![good.clone(), bad, good.clone()]);
            let decoded = decode(&body, &Options::default(), &mut out).unwrap();
            assert_eq!(decoded.report.refused_for(reason), refused, "{:?}", decoded.report);
            assert_eq!(decoded.report.first[0].line, 1);
            assert_eq!((decoded.report.accepted, decoded.written.samples), (taken, taken));
            assert_eq!(out.samples() as u64, taken);
        }
    }

    #[test]
    fn nothing_is_kept_of_a_body_that_ends_early() {
        let table = SeriesTable::default();
        let family = messages::MetricMetadata { metric_family_name: "m".into(), ..Default::default() };
        let request = messages::WriteRequest {
            timeseries: vec![series(&[("__name__", "m")], &[1]), series(&[("__name__", "n")], &[2, 3])],
            metadata: vec![family],
        };
        let whole = request.encode_to_vec();
        let mut out = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let mut damaged = whole.clone();
        damaged.push(0x0a);
        assert!(decode(&damaged, &Options::default(), &mut out).is_err());
        assert!(out.finish().is_empty());
        let mut out = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        decode(&whole, &Options::default(), &mut out).unwrap();
        let batch = out.finish();
        assert_eq!((batch.samples.len(), batch.metadata.len()), (3, 1), "the repeated request is whole");
    }

    #[test]
    fn a_full_table_refuses_what_it_does_not_know() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1, idle_sweeps: 1, ..TableBounds::default() });
        let mut out = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let body = body(vec![series(&[("__name__", "m")], &[1]), series(&[("__name__", "n")], &[1, 2])]);
        let decoded = decode(&body, &Options::default(), &mut out).unwrap();
        assert_eq!((decoded.report.accepted, decoded.report.refused_for(Refusal::SeriesLimit)), (1, 2));
    }
}
