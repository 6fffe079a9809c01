//! What a body that reached a sink brought: its samples, added to a digest.
//!
//! These readers know just enough of each format to read what gateways write. They share nothing with the gateway's
//! decoders but the walk over protobuf fields, so that a mistake in those does not hide one in its encoders.

use super::digest::{Digest, Identity, Labels, SOURCE_LABELS};
use crate::model::Format;
use crate::wire::protobuf::{Damage, Fault, Field, Fields};
use memchr::memchr;

/// A body that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArrivalError {
    /// Not a protobuf message.
    #[error("protobuf: {0}")]
    Protobuf(Fault),
    /// A reference that points nowhere.
    #[error("remote write 2.0: symbol {0} does not exist")]
    Symbol(u64),
    /// A line that is none of the format, or more than the load generator would send.
    #[error("cannot read the line {0:?}")]
    Line(String),
    /// Nothing listens to that format here.
    #[error("there is no sink for {0}")]
    Format(&'static str),
}

impl From<Damage> for ArrivalError {
    fn from(damage: Damage) -> Self {
        Self::Protobuf(damage.fault)
    }
}

/// Adds the samples of a plain body to the digest.
pub fn read(format: Format, body: &[u8], digest: &mut Digest) -> Result<(), ArrivalError> {
    match format {
        Format::RemoteWrite => read_remote_write(body, digest),
        Format::RemoteWrite2 => read_remote_write2(body, digest),
        Format::InfluxLine => read_lines(body, digest, line),
        Format::Wavefront => read_lines(body, digest, point),
        Format::PrometheusText | Format::OpenMetrics => Err(ArrivalError::Format(format.as_str())),
    }
}

/// A series under construction: its labels may come before and behind its name, its samples before either.
#[derive(Default)]
struct Series {
    name: Option<Identity>,
    labels: Labels,
    samples: Vec<(i64, f64)>,
}

impl Series {
    fn label(&mut self, name: &[u8], value: &[u8]) {
        if name == b"__name__" {
            self.name = Some(Identity::of_name(value));
        } else {
            self.labels = self.labels.with(name, value);
        }
    }

    /// Fields 1 (value) and 2 (milliseconds), the same in both versions.
    fn sample(&mut self, message: &[u8]) -> Result<(), Damage> {
        let (mut value, mut milliseconds) = (0.0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => value = field.double()?,
                2 => milliseconds = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        self.samples.push((milliseconds, value));
        Ok(())
    }

    /// Adds the samples and makes room for the next series.
    fn finish(&mut self, digest: &mut Digest) {
        let identity = self.name.take().unwrap_or(Identity::of_name(b"")).with_all(std::mem::take(&mut self.labels));
        for (milliseconds, value) in self.samples.drain(..) {
            digest.add(identity, milliseconds, value);
        }
    }
}

fn read_remote_write(body: &[u8], digest: &mut Digest) -> Result<(), ArrivalError> {
    let mut series = Series::default();
    let mut messages = Fields::new(body);
    while let Some(message) = messages.next()? {
        if message.number != 1 {
            continue;
        }
        let mut fields = Fields::new(message.bytes()?);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let [name, value] = label(&field)?;
                    series.label(name, value);
                }
                2 => series.sample(field.bytes()?)?,
                _ => {}
            }
        }
        series.finish(digest);
    }
    Ok(())
}

fn label<'a>(field: &Field<'a>) -> Result<[&'a [u8]; 2], Damage> {
    let mut parts: [&[u8]; 2] = [b"", b""];
    let mut fields = Fields::new(field.bytes()?);
    while let Some(field) = fields.next()? {
        if let Some(part) = (field.number as usize).checked_sub(1).and_then(|index| parts.get_mut(index)) {
            *part = field.bytes()?;
        }
    }
    Ok(parts)
}

fn read_remote_write2(body: &[u8], digest: &mut Digest) -> Result<(), ArrivalError> {
    let mut symbols = Vec::new();
    let mut messages = Fields::new(body);
    while let Some(message) = messages.next()? {
        if message.number == 4 {
            symbols.push(message.bytes()?);
        }
    }
    let symbol = |reference: u64| symbols.get(reference as usize).copied().ok_or(ArrivalError::Symbol(reference));
    let (mut series, mut references) = (Series::default(), Vec::new());
    let mut messages = Fields::new(body);
    while let Some(message) = messages.next()? {
        if message.number != 5 {
            continue;
        }
        references.clear();
        let mut fields = Fields::new(message.bytes()?);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.varints(|reference| references.push(reference))?,
                2 => series.sample(field.bytes()?)?,
                _ => {}
            }
        }
        for pair in references.chunks_exact(2) {
            series.label(symbol(pair[0])?, symbol(pair[1])?);
        }
        series.finish(digest);
    }
    Ok(())
}

/// Buffers that outlive a line.
#[derive(Default)]
struct Scratch {
    name: Vec<u8>,
    text: [Vec<u8>; 2],
    tags: Vec<(Vec<u8>, Vec<u8>)>,
}

fn read_lines(
    body: &[u8],
    digest: &mut Digest,
    read: fn(&[u8], &mut Scratch, &mut Digest) -> Option<()>,
) -> Result<(), ArrivalError> {
    let mut scratch = Scratch::default();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        read(line, &mut scratch, digest).ok_or_else(|| ArrivalError::Line(crate::wire::quoted(line)))?;
    }
    Ok(())
}

/// `measurement,tag=value field=1,field=2i nanoseconds`
fn line(line: &[u8], scratch: &mut Scratch, digest: &mut Digest) -> Option<()> {
    let Scratch { name, text: [key, value], .. } = scratch;
    let mut at = 0;
    let mut labels = Labels::default();
    name.clear();
    unescape(line, &mut at, b", ", name);
    undot(name);
    while line.get(at) == Some(&b',') {
        at += 1;
        key.clear();
        value.clear();
        unescape(line, &mut at, b"=", key);
        at += 1;
        unescape(line, &mut at, b", ", value);
        labels = labels.with(key, value);
    }
    let (fields, nanoseconds) = line.get(at + 1..)?.split_at(memchr(b' ', line.get(at + 1..)?)?);
    let nanoseconds: i64 = std::str::from_utf8(&nanoseconds[1..]).ok()?.parse().ok()?;
    let measurement_end = name.len();
    for field in fields.split(|byte| *byte == b',') {
        let (key, value) = field.split_at(memchr(b'=', field)?);
        name.truncate(measurement_end);
        if key != b"value" {
            name.push(b'_');
            name.extend_from_slice(key);
        }
        let digits = value[1..].strip_suffix(b"i").unwrap_or(&value[1..]);
        let value = fast_float2::parse::<f64, _>(digits).ok()?;
        digest.add(Identity::of_name(name).with_all(labels), nanoseconds / 1_000_000, value);
    }
    Some(())
}

/// Names of Wavefront are dotted, and stay so in line protocol.
fn undot(name: &mut [u8]) {
    name.iter_mut().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
}

/// Copies what stands before the next unescaped byte of `ends`, without escapes.
fn unescape(line: &[u8], at: &mut usize, ends: &[u8], out: &mut Vec<u8>) {
    while let Some(byte) = line.get(*at).filter(|byte| !ends.contains(byte)) {
        let escaped = line.get(*at + 1).filter(|next| *byte == b'\\' && b", =".contains(next));
        out.push(*escaped.unwrap_or(byte));
        *at += if escaped.is_some() { 2 } else { 1 };
    }
}

/// `"name" value milliseconds source="..." "key"="value"`
fn point(line: &[u8], scratch: &mut Scratch, digest: &mut Digest) -> Option<()> {
    let Scratch { name, text: [source, word], tags } = scratch;
    let mut at = 0;
    name.clear();
    unquote(line, &mut at, name)?;
    undot(name);
    let mut number = |word: &mut Vec<u8>| {
        at += 1;
        word.clear();
        unquote(line, &mut at, word)
    };
    number(word)?;
    let value = fast_float2::parse::<f64, _>(&*word).ok()?;
    number(word)?;
    let milliseconds: i64 = std::str::from_utf8(word).ok()?.parse().ok()?;
    source.clear();
    let mut count = 0;
    while at < line.len() {
        at += 1;
        word.clear();
        unquote(line, &mut at, word)?;
        at += 1;
        if word == b"source" {
            unquote(line, &mut at, source)?;
            continue;
        }
        if tags.len() == count {
            tags.push(Default::default());
        }
        let (key, value) = &mut tags[count];
        key.clear();
        value.clear();
        key.extend_from_slice(word);
        unquote(line, &mut at, value)?;
        count += 1;
    }
    // A source taken from a label that is a tag as well is no label of its own.
    let tags = &tags[..count];
    let is_copy = tags.iter().any(|(key, value)| SOURCE_LABELS.contains(&&**key) && value == source);
    let labels = if is_copy { Labels::default() } else { Labels::default().with(SOURCE_LABELS[0], source) };
    let labels = tags.iter().fold(labels, |labels, (key, value)| labels.with(key, value));
    digest.add(Identity::of_name(name).with_all(labels), milliseconds, value);
    Some(())
}

/// Copies a word in quotes, without escapes, or one that ends before a space or `=`.
fn unquote(line: &[u8], at: &mut usize, out: &mut Vec<u8>) -> Option<()> {
    if line.get(*at)? != &b'"' {
        unescape(line, at, b" =", out);
        return Some(());
    }
    *at += 1;
    loop {
        match line.get(*at..)? {
            [b'\\', b'"', ..] => {
                out.push(b'"');
                *at += 2;
            }
            [b'"', ..] => {
                *at += 1;
                return Some(());
            }
            [byte, ..] => {
                out.push(*byte);
                *at += 1;
            }
            [] => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::{Plan, Request};
    use super::super::shape::Shape;
    use super::*;
    use crate::wire::compression;
    use clap::ValueEnum as _;

    #[test]
    fn what_the_generator_writes_is_read() {
        for format in [Format::RemoteWrite, Format::RemoteWrite2, Format::InfluxLine, Format::Wavefront] {
            for shape in Shape::value_variants() {
                let mut request = Request::new(Plan { shape: *shape, format, seed: 7 }, 0..1000);
                request.update(1_700_000_000_000);
                let (mut sent, mut arrived, mut plain) = (Digest::default(), Digest::default(), Vec::new());
                request.digest(1_700_000_000_000, &mut sent);
                let encoding = match format {
                    Format::RemoteWrite | Format::RemoteWrite2 => compression::Encoding::Snappy,
                    _ => compression::Encoding::Identity,
                };
                compression::decompress(encoding, request.body(), 1 << 24, &mut plain).unwrap();
                read(format, &plain, &mut arrived).unwrap();
                assert_eq!(arrived, sent, "{format:?} {shape:?}");
            }
        }
    }

    #[test]
    fn all_spellings_of_a_sample_are_one() {
        let read_one = |format, body: &str| {
            let mut digest = Digest::default();
            read(format, body.as_bytes(), &mut digest).map(|()| digest.checksum()).map_err(|error| error.to_string())
        };
        let expected = read_one(Format::InfluxLine, "cpu,a=1\\ 2,host=x usage=5 1700000000123000000\n").unwrap();
        for (format, body) in [
            (Format::InfluxLine, "cpu.usage,source=x,a=1\\ 2 value=5 1700000000123000000\n"),
            (Format::InfluxLine, "cpu_usage,instance=x,a=1\\ 2 value=5i 1700000000123000000"),
            (Format::Wavefront, "\"cpu.usage\" 5 1700000000123 source=\"x\" \"a\"=\"1 2\"\n"),
            (Format::Wavefront, "cpu_usage 5.0 1700000000123 source=x \"instance\"=\"x\" a=\"1 2\"\n"),
        ] {
            assert_eq!(read_one(format, body), Ok(expected), "{body}");
        }
        for body in ["cpu", "cpu usage=", "cpu usage=x 1", "cpu usage=1 x"] {
            assert!(read_one(Format::InfluxLine, body).is_err(), "{body}");
        }
        for body in ["\"cpu", "cpu x 1", "cpu 1 1 \"a", "cpu 1 1 a"] {
            assert!(read_one(Format::Wavefront, body).is_err(), "{body}");
        }
    }
}
