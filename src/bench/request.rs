//! Request bodies of a load: encoded once, then sent again and again with other values and timestamps.
//!
//! Values and timestamps have a fixed width in every format, so that a body is brought up to date by overwriting them: a few
//! nanoseconds a sample, in remote write inside of the Snappy block ([`super::snappy`]). What that costs in likeness: all
//! numbers have seven digits, and Snappy bodies are a little larger than a real sender's.
//!
//! Remote write and line protocol come target by target, as agents send them; the exposition formats family by family, as
//! they demand.

use super::digest::{Digest, Identity, Labels, SOURCE_LABELS};
use super::shape::{self, Place, Shape};
use super::snappy;
use crate::model::Format;
use crate::wire::protobuf::{put_bytes_field, put_double_field, put_varint, put_varint_field};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// Digits of a value.
const DIGITS: usize = 7;
/// The least number of that many digits, and how many there are.
const LEAST: u64 = 1_000_000;
const NUMBERS: u64 = 9_000_000;
/// A millisecond of the years 2004 to 2109: 13 digits, and six bytes as a varint.
const MILLISECONDS: i64 = 1_500_000_000_000;
/// Bytes of field 1 (a double) behind its tag, then of field 2 (a varint of six bytes) with its tag.
const HOLE_BYTES: usize = 8 + 1 + 6;

/// What decides every label and value of a load.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How series look.
    pub shape: Shape,
    /// How they travel.
    pub format: Format,
    /// The same seed gives the same labels and values.
    pub seed: u64,
}

/// A body and where its values and timestamps stand.
#[derive(Debug)]
pub struct Request {
    plan: Plan,
    series: Range<usize>,
    generation: u32,
    /// How often it was brought up to date.
    pass: u64,
    body: Vec<u8>,
    samples: Vec<Slot>,
    /// Offsets of timestamps; empty in protobuf, where each stands behind its value.
    timestamps: Vec<u32>,
}

/// The place of a value in a body.
#[derive(Clone, Copy, Debug)]
struct Slot {
    identity: Identity,
    series: u32,
    at: u32,
    is_counter: bool,
    is_integer: bool,
}

impl Request {
    /// The request that brings those series.
    pub fn new(plan: Plan, series: Range<usize>) -> Self {
        let (body, samples, timestamps) = (Vec::new(), Vec::with_capacity(series.len()), Vec::new());
        let mut request = Self { plan, series, generation: 0, pass: 0, body, samples, timestamps };
        request.encode();
        request
    }

    /// Replaces all targets of the request by new ones: new series from now on.
    pub fn churn(&mut self) {
        self.generation += 1;
        self.encode();
    }

    /// The body, as [`Request::update`] left it.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Samples in the body.
    pub fn samples(&self) -> usize {
        self.samples.len()
    }

    /// Gives every sample its next value and that timestamp.
    pub fn update(&mut self, milliseconds: i64) {
        self.pass += 1;
        let is_protobuf = matches!(self.plan.format, Format::RemoteWrite | Format::RemoteWrite2);
        let timestamp = varint6(milliseconds);
        for slot in &self.samples {
            let at = slot.at as usize;
            let number = self.number(slot);
            if is_protobuf {
                let value = value_of(number, slot.is_integer);
                self.body[at..at + 8].copy_from_slice(&value.to_bits().to_le_bytes());
                self.body[at + 9..at + HOLE_BYTES].copy_from_slice(&timestamp);
            } else {
                put_number(&mut self.body[at..at + DIGITS], number, slot.is_integer);
            }
        }
        for at in &self.timestamps {
            let text = &mut self.body[*at as usize..];
            match self.plan.format {
                Format::OpenMetrics => {
                    put_digits(&mut text[..10], milliseconds as u64 / 1000);
                    put_digits(&mut text[11..14], milliseconds as u64 % 1000);
                }
                _ => put_digits(&mut text[..13], milliseconds as u64),
            }
        }
    }

    /// Adds the samples of the body, all of that time, to a digest.
    pub fn digest(&self, milliseconds: i64, digest: &mut Digest) {
        for slot in &self.samples {
            digest.add(slot.identity, milliseconds, value_of(self.number(slot), slot.is_integer));
        }
    }

    /// The seven digits of a sample in the present pass.
    fn number(&self, slot: &Slot) -> u64 {
        let own = mix(self.plan.seed ^ u64::from(slot.series));
        let grown = if slot.is_counter { own % NUMBERS + self.pass * (1 + own % 97) } else { mix(own ^ self.pass) };
        LEAST + grown % NUMBERS
    }

    fn encode(&mut self) {
        let Plan { shape, format, seed } = self.plan;
        self.body.clear();
        self.samples.clear();
        self.timestamps.clear();
        let first = shape.place(self.series.start).target;
        let last = shape.place(self.series.end.saturating_sub(1)).target;
        let targets = (first..=last).map(|target| Target::new(shape.labels(seed, target, self.generation))).collect();
        let targets = Targets { first, targets };
        match format {
            Format::RemoteWrite => self.encode_remote_write(&targets),
            Format::RemoteWrite2 => self.encode_remote_write2(&targets),
            Format::InfluxLine => self.encode_lines(&targets),
            Format::PrometheusText | Format::OpenMetrics => self.encode_exposition(&targets),
            Format::Wavefront => self.encode_points(&targets),
        }
    }

    /// Notes the place of a sample's value, which is the end of the body so far.
    fn slot(&mut self, series: usize, place: Place, target: &Target) {
        let family = &self.plan.shape.families()[place.family];
        let (is_counter, is_integer) = (family.is_counter(place.field), family.is_integer(place.field));
        let identity = Identity::of_name(family.metric_name(place.field).as_bytes()).with_all(target.hash);
        let at = self.body.len() as u32;
        self.samples.push(Slot { identity, series: series as u32, at, is_counter, is_integer });
    }

    /// A value in text; the real one is written by [`Request::update`].
    fn put_value(&mut self, series: usize, place: Place, target: &Target) {
        self.slot(series, place, target);
        self.body.extend_from_slice(&[b'0'; DIGITS]);
    }

    fn put_timestamp(&mut self, text: &str) {
        self.timestamps.push(self.body.len() as u32);
        self.body.extend_from_slice(text.as_bytes());
    }

    fn encode_remote_write(&mut self, targets: &Targets) {
        let (mut plain, mut holes, mut message, mut label) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (series, place) in places(self.plan.shape, self.series.clone()) {
            let target = targets.of(place);
            let name = self.plan.shape.families()[place.family].metric_name(place.field);
            message.clear();
            for (name, value) in [("__name__", &name)].into_iter().chain(target.labels()) {
                label.clear();
                put_bytes_field(&mut label, 1, name.as_bytes());
                put_bytes_field(&mut label, 2, value.as_bytes());
                put_bytes_field(&mut message, 1, &label);
            }
            put_sample(&mut message);
            put_bytes_field(&mut plain, 1, &message);
            holes.push(plain.len() - HOLE_BYTES..plain.len());
            self.slot(series, place, target);
        }
        self.compress(&plain, &holes);
    }

    fn encode_remote_write2(&mut self, targets: &Targets) {
        let mut symbols = Symbols::default();
        let (mut timeseries, mut holes, mut message, mut references) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        symbols.reference("");
        for (series, place) in places(self.plan.shape, self.series.clone()) {
            let target = targets.of(place);
            let family = &self.plan.shape.families()[place.family];
            message.clear();
            references.clear();
            for (name, value) in [("__name__", &family.metric_name(place.field))].into_iter().chain(target.labels()) {
                put_varint(&mut references, symbols.reference(name));
                put_varint(&mut references, symbols.reference(value));
            }
            put_bytes_field(&mut message, 1, &references);
            let metric_type = if family.is_counter(place.field) { 1 } else { 2 };
            let mut metadata = Vec::new();
            put_varint_field(&mut metadata, 1, metric_type);
            put_bytes_field(&mut message, 5, &metadata);
            put_sample(&mut message);
            put_bytes_field(&mut timeseries, 5, &message);
            holes.push(timeseries.len() - HOLE_BYTES..timeseries.len());
            self.slot(series, place, target);
        }
        let mut plain = symbols.fields;
        let start = plain.len();
        plain.append(&mut timeseries);
        let holes: Vec<_> = holes.into_iter().map(|hole| hole.start + start..hole.end + start).collect();
        self.compress(&plain, &holes);
    }

    fn compress(&mut self, plain: &[u8], holes: &[Range<usize>]) {
        let (body, places) = snappy::compress(plain, holes);
        self.body = body;
        for (slot, place) in self.samples.iter_mut().zip(places) {
            slot.at = place as u32;
        }
    }

    fn encode_lines(&mut self, targets: &Targets) {
        let mut row = None;
        for (series, place) in places(self.plan.shape, self.series.clone()) {
            let (family, target) = (&self.plan.shape.families()[place.family], targets.of(place));
            if row.replace((place.target, place.family)) == Some((place.target, place.family)) {
                self.body.push(b',');
            } else {
                self.end_line();
                self.body.extend_from_slice(family.measurement.as_bytes());
                self.body.extend_from_slice(target.tags.as_bytes());
                self.body.push(b' ');
            }
            self.body.extend_from_slice(family.fields[place.field].as_bytes());
            self.body.push(b'=');
            self.put_value(series, place, target);
            if family.is_integer(place.field) {
                self.body.push(b'i');
            }
        }
        self.end_line();
    }

    fn end_line(&mut self) {
        if !self.body.is_empty() {
            self.body.push(b' ');
            self.put_timestamp("0000000000000000000\n");
        }
    }

    fn encode_exposition(&mut self, targets: &Targets) {
        let is_openmetrics = self.plan.format == Format::OpenMetrics;
        let mut by_family: Vec<_> = places(self.plan.shape, self.series.clone()).collect();
        by_family.sort_by_key(|(_, place)| (place.family, place.field));
        let mut present = None;
        for (series, place) in by_family {
            let (family, target) = (&self.plan.shape.families()[place.family], targets.of(place));
            let name = family.metric_name(place.field);
            if present.replace((place.family, place.field)) != Some((place.family, place.field)) {
                let kind = if family.is_counter(place.field) { "counter" } else { "gauge" };
                let declared = if is_openmetrics { name.strip_suffix("_total").unwrap_or(&name) } else { &name };
                let head = format!("# HELP {declared} What a sender says of it.\n# TYPE {declared} {kind}\n");
                self.body.extend_from_slice(head.as_bytes());
            }
            self.body.extend_from_slice(name.as_bytes());
            self.body.extend_from_slice(target.braces.as_bytes());
            self.put_value(series, place, target);
            self.body.push(b' ');
            self.put_timestamp(if is_openmetrics { "0000000000.000\n" } else { "0000000000000\n" });
        }
        if is_openmetrics {
            self.body.extend_from_slice(b"# EOF\n");
        }
    }

    fn encode_points(&mut self, targets: &Targets) {
        for (series, place) in places(self.plan.shape, self.series.clone()) {
            let (family, target) = (&self.plan.shape.families()[place.family], targets.of(place));
            let name = format!("\"{}.{}\" ", family.measurement, family.fields[place.field]);
            self.body.extend_from_slice(name.as_bytes());
            self.put_value(series, place, target);
            self.body.push(b' ');
            self.put_timestamp("0000000000000");
            self.body.extend_from_slice(target.point_tags.as_bytes());
        }
    }
}

/// A target's labels, and how they stand in the text formats.
struct Target {
    labels: shape::Labels,
    hash: Labels,
    tags: String,
    braces: String,
    point_tags: String,
}

impl Target {
    fn new(labels: shape::Labels) -> Self {
        let hash =
            labels.iter().fold(Labels::default(), |hash, (name, value)| hash.with(name.as_bytes(), value.as_bytes()));
        let tags: Vec<_> =
            labels.iter().map(|(name, value)| format!(",{name}={}", value.replace(' ', "\\ "))).collect();
        let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
        let point_tags: Vec<_> = labels
            .iter()
            .map(|(name, value)| {
                let is_source = SOURCE_LABELS.contains(&name.as_bytes());
                if is_source { format!(" source=\"{value}\"") } else { format!(" \"{name}\"=\"{value}\"") }
            })
            .collect();
        let (braces, point_tags) = (format!("{{{}}} ", pairs.join(",")), point_tags.concat() + "\n");
        Self { hash, tags: tags.concat(), braces, point_tags, labels }
    }

    fn labels(&self) -> impl Iterator<Item = (&'static str, &String)> {
        self.labels.iter().map(|(name, value)| (*name, value))
    }
}

struct Targets {
    first: usize,
    targets: Vec<Target>,
}

impl Targets {
    fn of(&self, place: Place) -> &Target {
        &self.targets[place.target - self.first]
    }
}

/// The symbol table of remote write 2.0.
#[derive(Default)]
struct Symbols {
    fields: Vec<u8>,
    references: HashMap<String, u64>,
}

impl Symbols {
    fn reference(&mut self, text: &str) -> u64 {
        let next = self.references.len() as u64;
        match self.references.entry(text.to_owned()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                put_bytes_field(&mut self.fields, 4, text.as_bytes());
                *vacant.insert(next)
            }
        }
    }
}

fn places(shape: Shape, series: Range<usize>) -> impl Iterator<Item = (usize, Place)> {
    series.map(move |series| (series, shape.place(series)))
}

/// A sample as field 2 of a series; it ends with the hole.
fn put_sample(message: &mut Vec<u8>) {
    let mut sample = Vec::with_capacity(1 + HOLE_BYTES);
    put_double_field(&mut sample, 1, 0.0);
    put_varint_field(&mut sample, 2, MILLISECONDS as u64);
    put_bytes_field(message, 2, &sample);
}

/// A time as a varint of six bytes.
fn varint6(milliseconds: i64) -> [u8; 6] {
    std::array::from_fn(|index| (milliseconds >> (7 * index)) as u8 & 0x7f | if index < 5 { 0x80 } else { 0 })
}

/// What the seven digits mean: a whole number, or six of them with two behind the point.
fn value_of(number: u64, is_integer: bool) -> f64 {
    if is_integer { number as f64 } else { (number / 10) as f64 / 100.0 }
}

fn put_number(text: &mut [u8], number: u64, is_integer: bool) {
    if is_integer {
        put_digits(text, number);
    } else {
        put_digits(&mut text[..4], number / 1000);
        text[4] = b'.';
        put_digits(&mut text[5..], number / 10 % 100);
    }
}

fn put_digits(text: &mut [u8], mut number: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Spreads the bits of a number (the finaliser of splitmix64).
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, SeriesTable, Value};
    use crate::wire::{compression, influx_line, openmetrics, prometheus_text, remote_write, remote_write2, wavefront};
    use clap::ValueEnum as _;

    /// What the gateway's decoders read from a body.
    fn decoded(format: Format, body: &[u8]) -> Digest {
        let table = SeriesTable::default();
        let mut out = BatchBuilder::new(&table, format, Vec::new());
        let mut plain = body.to_vec();
        if matches!(format, Format::RemoteWrite | Format::RemoteWrite2) {
            compression::decompress(compression::Encoding::Snappy, body, 1 << 24, &mut plain).unwrap();
        }
        let refused = match format {
            Format::PrometheusText => {
                let options = prometheus_text::decode::Options { now: 0, timestamp: None };
                prometheus_text::decode::decode(&plain, &options, &mut out).refused()
            }
            Format::OpenMetrics => {
                let options = openmetrics::decode::Options { now: 0, timestamp: None };
                openmetrics::decode::decode(&plain, &options, &mut out).refused()
            }
            Format::InfluxLine => {
                let precision = influx_line::decode::Precision::Nanoseconds;
                influx_line::decode::decode(&plain, &influx_line::decode::Options { precision, now: 0 }, &mut out)
                    .refused()
            }
            Format::Wavefront => {
                wavefront::decode::decode(&plain, &wavefront::decode::Options::at(0), &mut out).refused()
            }
            Format::RemoteWrite => {
                let options = remote_write::decode::Options::default();
                remote_write::decode::decode(&plain, &options, &mut out).unwrap().report.refused()
            }
            Format::RemoteWrite2 => {
                let options = remote_write2::decode::Options::default();
                remote_write2::decode::decode(&plain, &options, &mut out).unwrap().report.refused()
            }
        };
        assert_eq!(refused, 0, "{format:?}");
        let batch = out.finish();
        let mut digest = Digest::default();
        for sample in &batch.samples {
            let series = table.series(sample.series).unwrap();
            let field = series.name.field_key().map(|field| format!("_{field}")).unwrap_or_default();
            let name = format!("{}{field}", series.name.measurement()).replace('.', "_");
            let identity = series.labels.iter().fold(Identity::of_name(name.as_bytes()), |identity, label| {
                identity.with(label.name.as_bytes(), label.value.as_bytes())
            });
            let value = match batch.value(sample) {
                Value::F64(value) => value,
                Value::I64(value) => value as f64,
                other => panic!("{other:?}"),
            };
            assert_eq!(sample.timestamp % 1_000_000, 0);
            digest.add(identity, sample.timestamp / 1_000_000, value);
        }
        digest
    }

    #[test]
    fn the_decoders_read_what_the_digest_says_in_every_format() {
        for format in Format::ALL {
            for shape in Shape::value_variants() {
                let plan = Plan { shape: *shape, format, seed: 7 };
                let mut request = Request::new(plan, 95..1003);
                let mut seen: Vec<Digest> = Vec::new();
                for pass in 0..4 {
                    if pass == 2 {
                        request.churn();
                    }
                    let milliseconds = MILLISECONDS + 1 + pass * 12_345;
                    request.update(milliseconds);
                    let mut digest = Digest::default();
                    request.digest(milliseconds, &mut digest);
                    assert_eq!((digest.samples(), request.samples()), (908, 908));
                    let decoded = decoded(format, request.body());
                    assert_eq!(digest, decoded, "{format:?} {shape:?} {:?}", Digest::difference(&decoded, &digest));
                    assert!(!seen.contains(&digest));
                    seen.push(digest);
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_load() {
        let body = |seed| {
            let mut request = Request::new(Plan { shape: Shape::Telegraf, format: Format::InfluxLine, seed }, 0..100);
            request.update(MILLISECONDS);
            request.body().to_vec()
        };
        assert_eq!(body(1), body(1));
        assert_ne!(body(1), body(2));
    }
}
