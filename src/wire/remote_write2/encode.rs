//! Series and samples to `io.prometheus.write.v2.Request`.
//!
//! The symbol table is the body's prefix, so any run of its pieces, each a `TimeSeries`, is a request of its own. A rendered
//! series holds the process-wide numbers of its strings; the encoder turns them into the body's references by array.

use super::symbols::{Symbol, intern};
use crate::model::{Exemplar, Loss, LossSet, Losses, Metadata, Series};
use crate::wire::prometheus_names::Style;
use crate::wire::protobuf::{put_bytes_field, put_double_field, put_varint, put_varint_field, varint_len};
use crate::wire::remote_write::decode::NANOSECONDS;
use crate::wire::remote_write::encode::{
    bytes_field_len, label_fields, labels_of, put_value_and_timestamp, renamed, sample_len,
};
use crate::wire::remote_write::gather::{Gathered, Messages, Pending, Rendering, cut};
use crate::wire::{Body, SampleRef};
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

/// How series are written.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How series of other dialects are named.
    pub style: Style,
}

/// A series as it stands in a body. One encoder at a time may use it: two at once would each write the series twice.
#[derive(Debug)]
pub struct Rendered {
    /// The label fields as 1.0 writes them.
    identity: Box<[u8]>,
    /// Names and values of the labels in turn, then help and unit.
    symbols: Box<[Arc<Symbol>]>,
    /// Their numbers once more, side by side: the hot path reads nothing else of them.
    ids: Box<[u32]>,
    metadata: Option<Arc<Metadata>>,
    losses: LossSet,
    place: AtomicU32,
    companions: OnceLock<[Arc<Rendered>; 2]>,
}

impl Rendered {
    fn new(identity: Vec<u8>, metadata: Option<Arc<Metadata>>, losses: LossSet) -> Self {
        let text = |bytes| intern(&String::from_utf8_lossy(bytes));
        let mut symbols: Vec<_> = labels_of(&identity).flat_map(|(name, value)| [text(name), text(value)]).collect();
        let (help, unit) = metadata.as_ref().map_or(("", ""), |metadata| (&metadata.help, &metadata.unit));
        symbols.extend([intern(help), intern(unit)]);
        Self {
            identity: identity.into(),
            ids: symbols.iter().map(|symbol| symbol.id).collect(),
            symbols: symbols.into(),
            metadata,
            losses,
            place: AtomicU32::new(0),
            companions: OnceLock::new(),
        }
    }

    /// The bytes by which the destination knows the series; metadata is no part of them.
    pub fn identity(&self) -> &[u8] {
        &self.identity
    }

    /// What every sample of the series loses.
    pub fn losses(&self) -> LossSet {
        self.losses
    }
}

impl Rendering for Rendered {
    const STARTS: bool = true;

    fn place(&self) -> &AtomicU32 {
        &self.place
    }

    fn losses(&self) -> LossSet {
        self.losses
    }

    fn companions(&self) -> &[Arc<Self>; 2] {
        self.companions.get_or_init(|| {
            ["_count", "_sum"].map(|suffix| Arc::new(Self::new(renamed(&self.identity, suffix), None, self.losses)))
        })
    }
}

/// Renders a series. `families` is asked for metadata that came apart from the series, when it brought none itself.
pub fn render(
    series: &Series,
    options: &Options,
    families: &dyn Fn(&str) -> Option<Arc<Metadata>>,
) -> Result<Rendered, Loss> {
    let (identity, losses) = label_fields(series, &options.style)?;
    let metadata = series.metadata.clone().or_else(|| series.metadata_apart(families));
    Ok(Rendered::new(identity, metadata, losses))
}

/// Builds bodies.
pub struct Encoder {
    gathered: Gathered<Rendered>,
    table: SymbolTable,
}

impl Encoder {
    /// An encoder with nothing in it.
    pub fn new(_options: Options) -> Self {
        Self { gathered: Gathered::default(), table: SymbolTable::new() }
    }

    /// Takes a sample into the body. An error says why it was dropped; the caller counts it. Alterations of samples that are
    /// taken are counted in `losses`.
    #[inline]
    pub fn push(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>, losses: &mut Losses) -> Result<(), Loss> {
        let table = &mut self.table;
        self.gathered.push(rendered, sample, losses, |series| table.begin_series(series))
    }

    /// Takes an exemplar into the `TimeSeries` of its series; without a timestamp of its own it gets that of the series' last
    /// sample. Receivers refuse a series without samples, so the exemplar of a series that is not in the body is counted as
    /// lost.
    pub fn exemplar(&mut self, rendered: &Arc<Rendered>, exemplar: &Exemplar, losses: &mut Losses) {
        let Some(group) = self.gathered.find(rendered) else {
            losses.count(Loss::Exemplar);
            return;
        };
        let timestamp = exemplar.timestamp.map(|timestamp| timestamp.div_euclid(NANOSECONDS));
        let table = &mut self.table;
        let taken = self.gathered.exemplar(group, timestamp, |out, timestamp| {
            let mut references = Vec::with_capacity(exemplar.labels.len() * 2);
            for text in exemplar.labels.iter().flat_map(|(name, value)| [name, value]) {
                put_varint(&mut references, u64::from(table.reference_of_text(text)));
            }
            put_bytes_field(out, 1, &references);
            put_double_field(out, 2, exemplar.value);
            put_varint_field(out, 3, timestamp.cast_unsigned());
        });
        if !taken {
            losses.count(Loss::Exemplar);
        }
    }

    /// Samples pushed since the last [`Encoder::finish`].
    pub fn samples(&self) -> u64 {
        self.gathered.pushed()
    }

    /// Size of the body so far, roughly.
    pub fn bytes(&self) -> usize {
        self.table.prefix.len() + self.table.outlines.len() + self.gathered.bytes()
    }

    /// Ends the body. Samples that give way to a later one of the same series and millisecond are counted in `dropped`.
    pub fn finish(&mut self, dropped: &mut Losses) -> Body {
        let mut body = Body::default();
        body.bytes.reserve(self.table.outlines.len() + self.gathered.bytes());
        let table = &self.table;
        self.gathered.finish(dropped, |index, _, samples, messages| {
            let floats = samples.partition_point(Pending::is_float);
            let [labels, metadata] = table.places[index].clone();
            let (labels, metadata) = (&table.outlines[labels], &table.outlines[metadata]);
            let mut exemplars = Some(messages);
            // A TimeSeries has samples or histograms, not both.
            for samples in [&samples[..floats], &samples[floats..]] {
                if !samples.is_empty() {
                    put_series(&mut body.bytes, labels, metadata, samples, messages, exemplars.take());
                    let end = body.bytes.len();
                    cut(&mut body, end, samples);
                }
            }
        });
        self.gathered.clear();
        body.prefix.clone_from(&self.table.prefix);
        self.table.begin_body();
        body
    }
}

/// The symbols of the present body.
struct SymbolTable {
    /// Field 4 of the request, so far.
    prefix: Vec<u8>,
    /// How many symbols that is.
    symbols: u32,
    /// By a symbol's number: the body in which it was last written, and its reference there.
    references: Vec<(u32, u32)>,
    /// The present body's number; never 0.
    body: u32,
    /// Fields 1 and 5 of every series, and where each series' lie.
    outlines: Vec<u8>,
    places: Vec<[Range<usize>; 2]>,
    /// The first symbol of every body.
    empty: Arc<Symbol>,
    /// Symbols of exemplars: held so that their numbers stay theirs while the body lasts.
    held: Vec<Arc<Symbol>>,
}

impl SymbolTable {
    fn new() -> Self {
        let mut table = Self {
            prefix: Vec::new(),
            symbols: 0,
            references: Vec::new(),
            body: 0,
            outlines: Vec::new(),
            places: Vec::new(),
            empty: intern(""),
            held: Vec::new(),
        };
        table.begin_body();
        table
    }

    fn begin_body(&mut self) {
        self.prefix.clear();
        self.symbols = 0;
        self.outlines.clear();
        self.places.clear();
        self.held.clear();
        self.body = self.body.wrapping_add(1);
        if self.body == 0 {
            self.references.clear();
            self.body = 1;
        }
        let empty = Arc::clone(&self.empty);
        self.reference(empty.id, &empty.text);
    }

    fn begin_series(&mut self, series: &Rendered) {
        let labels_start = self.outlines.len();
        let (label_ids, of_family) = series.ids.split_at(series.ids.len() - 2);
        // The length is known behind the references; nearly always it takes one byte.
        self.outlines.extend_from_slice(&[1 << 3 | 2, 0]);
        for (id, symbol) in label_ids.iter().zip(&series.symbols) {
            let reference = self.reference(*id, &symbol.text);
            put_varint(&mut self.outlines, u64::from(reference));
        }
        let packed_len = self.outlines.len() - labels_start - 2;
        if packed_len < 0x80 {
            self.outlines[labels_start + 1] = packed_len as u8;
        } else {
            self.widen_length(labels_start + 1, packed_len);
        }
        let metadata_start = self.outlines.len();
        if let Some(metadata) = &series.metadata {
            let [help, unit] = [of_family[0], of_family[1]];
            let help = self.reference(help, &metadata.help);
            let unit = self.reference(unit, &metadata.unit);
            let parts = [(1, metadata.metric_type as u32), (3, help), (4, unit)];
            let len: usize = parts.iter().map(|(_, value)| 1 + varint_len(u64::from(*value))).sum();
            self.outlines.extend_from_slice(&[5 << 3 | 2, len as u8]);
            for (field, value) in parts {
                put_varint_field(&mut self.outlines, field, u64::from(value));
            }
        }
        self.places.push([labels_start..metadata_start, metadata_start..self.outlines.len()]);
    }

    #[cold]
    fn widen_length(&mut self, at: usize, len: usize) {
        let mut length = Vec::new();
        put_varint(&mut length, len as u64);
        self.outlines.splice(at..=at, length);
    }

    /// The symbol's reference in the present body.
    #[inline]
    fn reference(&mut self, id: u32, text: &str) -> u32 {
        match self.references.get(id as usize) {
            Some((body, reference)) if *body == self.body => *reference,
            _ => self.write(id, text),
        }
    }

    fn write(&mut self, id: u32, text: &str) -> u32 {
        let id = id as usize;
        if id >= self.references.len() {
            self.references.resize(id + 1, (0, 0));
        }
        let reference = self.symbols;
        self.references[id] = (self.body, reference);
        self.symbols += 1;
        put_bytes_field(&mut self.prefix, 4, text.as_bytes());
        reference
    }

    #[cold]
    fn reference_of_text(&mut self, text: &str) -> u32 {
        let symbol = intern(text);
        let reference = self.reference(symbol.id, text);
        self.held.push(symbol);
        reference
    }
}

fn put_series(
    out: &mut Vec<u8>,
    labels: &[u8],
    metadata: &[u8],
    samples: &[Pending],
    messages: Messages<'_>,
    exemplars: Option<Messages<'_>>,
) {
    let exemplars = || exemplars.into_iter().flat_map(Messages::exemplars);
    let samples_len: usize = samples.iter().map(|sample| bytes_field_len(message_len(sample, messages))).sum();
    let exemplars_len: usize = exemplars().map(|message| bytes_field_len(message.len())).sum();
    put_varint(out, 5 << 3 | 2);
    put_varint(out, (labels.len() + samples_len + exemplars_len + metadata.len()) as u64);
    out.extend_from_slice(labels);
    for sample in samples {
        if !sample.is_float() {
            put_bytes_field(out, 3, messages.histogram(sample));
            continue;
        }
        out.extend_from_slice(&[2 << 3 | 2, message_len(sample, messages) as u8]);
        put_value_and_timestamp(out, sample);
        if sample.start != 0 {
            put_varint_field(out, 3, sample.start.cast_unsigned());
        }
    }
    for message in exemplars() {
        put_bytes_field(out, 4, message);
    }
    out.extend_from_slice(metadata);
}

fn message_len(sample: &Pending, messages: Messages<'_>) -> usize {
    if !sample.is_float() {
        return messages.histogram(sample).len();
    }
    let start = if sample.start == 0 { 0 } else { 1 + varint_len(sample.start.cast_unsigned()) };
    sample_len(sample) + start
}

#[cfg(test)]
mod tests {
    use super::super::messages::Request;
    use super::*;
    use crate::model::{
        Batch, BatchBuilder, Centroid, Counts, Distribution, Format, Granularity, MetricType, NativeHistogram,
        ResetHint, SampleFlags, SeriesSpec, SeriesTable, Value,
    };
    use crate::wire::remote_write2::decode;
    use prost::Message as _;
    use std::borrow::Cow;

    fn rendered(name: &str, labels: &[(&str, &str)], known: Option<&Metadata>) -> Arc<Rendered> {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        let spec = SeriesSpec { measurement: name, field: None, labels, metadata: None };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        let families = |family: &str| known.filter(|known| &*known.family == family).cloned().map(Arc::new);
        Arc::new(render(&table.series(id).unwrap(), &Options::default(), &families).unwrap())
    }

    #[test]
    fn a_distribution_counts_as_two_samples_on_the_wire() {
        let distribution =
            Distribution { granularity: Granularity::Minute, centroids: vec![Centroid { count: 1, mean: 1.0 }] };
        let mut encoder = Encoder::new(Options::default());
        for value in [Value::Distribution(&distribution), Value::F64(1.0)] {
            let sample = SampleRef { timestamp: 1_000_000, value, start: None, flags: SampleFlags::NONE };
            encoder.push(&rendered("m", &[], None), &sample, &mut Losses::default()).unwrap();
        }
        let body = encoder.finish(&mut Losses::default());
        let counted: Vec<_> = body.cuts.iter().map(|cut| (cut.samples, cut.on_wire)).collect();
        assert_eq!(counted, [(1, 2), (1, 1)], "count and sum are one piece");
    }

    fn read(table: &SeriesTable, body: &[u8]) -> Batch {
        let mut builder = BatchBuilder::new(table, Format::RemoteWrite2, Vec::new());
        let decoded = decode::decode(body, &decode::Options::default(), &mut builder).unwrap();
        assert_eq!(decoded.report.refused(), 0, "{:?}", decoded.report);
        builder.finish()
    }

    fn at(timestamp: i64, value: Value<'_>) -> SampleRef<'_> {
        SampleRef { timestamp, value, start: None, flags: SampleFlags::NONE }
    }

    fn stale_histogram() -> NativeHistogram {
        NativeHistogram {
            schema: 0,
            zero_threshold: 0.0,
            sum: f64::from_bits(crate::model::STALE_MARKER_BITS),
            counts: Counts::Float {
                count: 0.0,
                zero_count: 0.0,
                positive_counts: Vec::new(),
                negative_counts: Vec::new(),
            },
            positive_spans: Vec::new(),
            negative_spans: Vec::new(),
            custom_values: Vec::new(),
            reset_hint: ResetHint::No,
        }
    }

    #[test]
    fn each_string_is_written_once_and_each_piece_stands_alone() {
        let family =
            Metadata { family: "m".into(), metric_type: MetricType::Histogram, help: "m".into(), unit: "s".into() };
        let bucket = rendered("m_bucket", &[("le", "1.0"), ("m", "le")], Some(&family));
        let other = rendered("n", &[("le", "1.0")], None);
        let mut encoder = Encoder::new(Options::default());
        let mut losses = Losses::default();
        for round in 0..2 {
            encoder.push(&bucket, &at(0, Value::F64(1.0)), &mut losses).unwrap();
            encoder.push(&other, &at(0, Value::F64(2.0)), &mut losses).unwrap();
            let body = encoder.finish(&mut Losses::default());
            let request = Request::decode(&*body.part(0, 2)).unwrap();
            assert_eq!(request.symbols, ["", "__name__", "m_bucket", "le", "1.0", "m", "s", "n"], "{round}");
            assert_eq!(request.timeseries[1].metadata, None);
            let table = SeriesTable::default();
            let batch = read(&table, &body.part(0, 1));
            let series = table.series(batch.samples[0].series).unwrap();
            let metadata = series.metadata.as_ref().unwrap();
            assert_eq!((&*metadata.family, metadata.metric_type), ("m", MetricType::Histogram));
            assert_eq!((&*metadata.help, &*metadata.unit), ("m", "s"));
            assert_eq!(read(&table, &body.part(1, 2)).samples.len(), 1);
        }
    }

    #[test]
    fn starts_histograms_and_exemplars_come_back() {
        let m = rendered("m", &[], None);
        let mut encoder = Encoder::new(Options::default());
        let mut losses = Losses::default();
        let native = stale_histogram();
        let with_start = |start, sample| SampleRef { start: Some(start), ..sample };
        encoder.push(&m, &with_start(0, at(7_000_000, Value::Histogram(&native))), &mut losses).unwrap();
        encoder.push(&m, &with_start(-5_000_000, at(3_000_000, Value::F64(1.0))), &mut losses).unwrap();
        let table = SeriesTable::default();
        let mut exemplar = crate::model::Exemplar {
            series: crate::model::SeriesId(0),
            sample: None,
            labels: vec![("trace_id".into(), "".into())],
            value: f64::INFINITY,
            timestamp: None,
        };
        encoder.exemplar(&m, &exemplar, &mut losses);
        encoder.exemplar(&rendered("absent", &[], None), &exemplar, &mut losses);
        assert_eq!((losses.get(Loss::Exemplar), losses.total()), (1, 1));
        let body = encoder.finish(&mut Losses::default());
        assert_eq!(body.cuts.len(), 2, "samples and histograms do not share a TimeSeries");
        let batch = read(&table, &body.part(0, 2));
        assert_eq!(batch.starts, [(0, -5_000_000), (1, 1_000_000)], "0 would be unset");
        let Value::Histogram(read) = batch.value(&batch.samples[1]) else { panic!("not a histogram") };
        assert!(read.is_stale_marker());
        assert_eq!(read.reset_hint, ResetHint::No);
        exemplar.series = batch.samples[0].series;
        exemplar.timestamp = Some(3_000_000);
        assert_eq!(batch.exemplars, [exemplar]);
    }

    #[test]
    fn a_series_with_many_labels_keeps_them_all() {
        let names: Vec<String> = (0..200).map(|number| format!("label{number:03}")).collect();
        let labels: Vec<_> = names.iter().map(|name| (name.as_str(), name.as_str())).collect();
        let mut encoder = Encoder::new(Options::default());
        let wide = rendered("m", &labels, None);
        encoder.push(&wide, &at(0, Value::F64(1.0)), &mut Losses::default()).unwrap();
        let body = encoder.finish(&mut Losses::default());
        let table = SeriesTable::default();
        let batch = read(&table, &body.part(0, 1));
        let series = table.series(batch.samples[0].series).unwrap();
        let read: Vec<_> = series.labels.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
        assert_eq!(read, labels);
    }
}
