//! Series and samples to `prometheus.WriteRequest`.
//!
//! A rendered series is the list of its label fields in a [dictionary](super::dictionary); a sample adds a number and a
//! timestamp. The body has one `TimeSeries` for each series, in the order of their first sample as a rule; each is a piece of
//! the [`Body`]. It is written as a Snappy block at once and stands nowhere as it is. Runs of series that come again in the
//! same order are known as [phrases](super::phrases); the others are [gathered](super::gather).

use super::decode::{NAME_LABEL, NANOSECONDS};
use super::dictionary::{Dictionary, Fields as LabelFields, Message};
use super::gather::{Facts, Gathered, Messages, Pending, Rendering, cut, number};
use super::phrases::{self, PhraseId, Phrases, Plain};
use crate::model::{Exemplar, Loss, LossSet, Losses, Metadata, Series};
use crate::wire::prometheus_names::{Alphabet, Style, translate};
use crate::wire::protobuf::{Fields, put_bytes_field, put_double_field, put_varint, put_varint_field, varint_len};
use crate::wire::{Body, SampleRef};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

/// How series are written.
#[derive(Clone, Debug)]
pub struct Options {
    /// How series of other dialects are named.
    pub style: Style,
    /// Renderings and encoders that meet share it.
    dictionary: Dictionary,
}

impl Options {
    /// Options of one output, whose renderings and encoders all take them from here.
    pub fn new(style: Style) -> Self {
        Self { style, dictionary: Dictionary::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new(Style::default())
    }
}

/// A series as it stands in a body. One encoder at a time may use it: two at once would each write the series twice.
/// Small: there are as many as series.
#[derive(Debug)]
pub struct Rendered {
    /// All label fields of the `TimeSeries`.
    pub(super) labels: LabelFields,
    place: AtomicU32,
    /// The number of the phrase that has it, or 0.
    pub(super) phrase: AtomicU32,
    companions: OnceLock<Box<[Arc<Rendered>; 2]>>,
}

impl Rendered {
    fn new(labels: LabelFields) -> Self {
        Self { labels, place: AtomicU32::new(0), phrase: AtomicU32::new(0), companions: OnceLock::new() }
    }

    /// The bytes by which the destination knows the series.
    pub fn identity(&self) -> Vec<u8> {
        self.labels.bytes()
    }

    /// What every sample of the series loses.
    pub fn losses(&self) -> LossSet {
        self.labels.losses()
    }
}

impl Rendering for Rendered {
    const STARTS: bool = false;

    fn place(&self) -> &AtomicU32 {
        &self.place
    }

    fn losses(&self) -> LossSet {
        self.labels.losses()
    }

    fn companions(&self) -> &[Arc<Self>; 2] {
        self.companions.get_or_init(|| {
            let labels = self.labels.bytes();
            let companion = |suffix| Self::new(self.labels.sibling(&renamed(&labels, suffix)));
            Box::new(["_count", "_sum"].map(|suffix| Arc::new(companion(suffix))))
        })
    }
}

/// Renders a series. Metadata travels apart from series in this version ([`Encoder::metadata`]), so `families` is not asked.
pub fn render(
    series: &Series,
    options: &Options,
    _families: &dyn Fn(&str) -> Option<Arc<Metadata>>,
) -> Result<Rendered, Loss> {
    let (labels, losses) = label_fields(series, &options.style)?;
    Ok(Rendered::new(options.dictionary.list(&labels, losses)))
}

/// The label fields of a series, sorted, `__name__` among them, and what all its samples lose.
pub(crate) fn label_fields(series: &Series, style: &Style) -> Result<(Vec<u8>, LossSet), Loss> {
    let translated = translate(series, Alphabet::Utf8, style)?;
    let texts = translated.labels.iter().map(|(name, value)| name.len() + value.len() + LABEL_BYTES).sum::<usize>();
    let mut fields = Vec::with_capacity(texts + NAME_LABEL.len() + translated.name.len() + LABEL_BYTES);
    let before_name = translated.labels.partition_point(|(name, _)| &**name < NAME_LABEL);
    let (before, behind) = translated.labels.split_at(before_name);
    for (name, value) in before {
        put_label(&mut fields, name.as_bytes(), &[value.as_bytes()]);
    }
    put_label(&mut fields, NAME_LABEL.as_bytes(), &[translated.name.as_bytes()]);
    for (name, value) in behind {
        put_label(&mut fields, name.as_bytes(), &[value.as_bytes()]);
    }
    Ok((fields, translated.losses))
}

/// What a label takes beside its texts, mostly.
const LABEL_BYTES: usize = 8;

/// Appends a label as field 1; the value is in pieces.
fn put_label(out: &mut Vec<u8>, name: &[u8], value: &[&[u8]]) {
    let value_len: usize = value.iter().map(|piece| piece.len()).sum();
    let message_len = bytes_field_len(name.len()) + bytes_field_len(value_len);
    put_varint(out, LABELS_TAG);
    put_varint(out, message_len as u64);
    put_bytes_field(out, 1, name);
    put_varint(out, 2 << 3 | 2);
    put_varint(out, value_len as u64);
    for piece in value {
        out.extend_from_slice(piece);
    }
}

pub(super) const LABELS_TAG: u64 = 1 << 3 | 2;

/// Length of a bytes field with a one-byte tag.
#[inline]
pub(crate) fn bytes_field_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// The labels in those label fields.
pub(crate) fn labels_of(fields: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut labels = Fields::new(fields);
    std::iter::from_fn(move || {
        let label = labels.next().ok()??;
        let mut parts = Fields::new(label.bytes().ok()?);
        Some((parts.next().ok()??.bytes().ok()?, parts.next().ok()??.bytes().ok()?))
    })
}

/// The same label fields with a longer metric name.
#[cold]
pub(crate) fn renamed(fields: &[u8], suffix: &str) -> Vec<u8> {
    let mut renamed = Vec::with_capacity(fields.len() + suffix.len() + 2);
    for (name, value) in labels_of(fields) {
        let suffix = if name == NAME_LABEL.as_bytes() { suffix } else { "" };
        put_label(&mut renamed, name, &[value, suffix.as_bytes()]);
    }
    renamed
}

/// Builds bodies.
pub struct Encoder {
    dictionary: Dictionary,
    pub(super) phrases: Phrases,
    gathered: Gathered<Rendered>,
    /// `MetricMetadata` fields, and where each ends.
    metadata: Vec<u8>,
    metadata_ends: Vec<usize>,
    labels_bytes: usize,
    /// Bytes of the body that was finished last: the next will be about as large.
    block_bytes: usize,
}

impl Encoder {
    /// An encoder with nothing in it.
    pub fn new(options: Options) -> Self {
        Self {
            dictionary: options.dictionary,
            phrases: Phrases::default(),
            gathered: Gathered::default(),
            metadata: Vec::new(),
            metadata_ends: Vec::new(),
            labels_bytes: 0,
            block_bytes: 0,
        }
    }

    /// Makes a phrase of series, whose samples have one time or not; none where that does not pay.
    pub fn phrase(&mut self, series: Vec<Arc<Rendered>>, one_time: bool) -> Option<PhraseId> {
        for series in &series {
            self.dissolve(series);
        }
        self.phrases.make(series, one_time, &self.gathered)
    }

    /// What a phrase adds to the message in bytes, if it is not forgotten.
    pub fn phrase_len(&self, phrase: PhraseId) -> Option<usize> {
        self.phrases.phrase_len(phrase)
    }

    /// Whether the body can take these samples, one a series, with the phrase.
    pub fn can_speak(&self, phrase: PhraseId, samples: &[Plain]) -> bool {
        self.phrases.can_speak(phrase, samples)
    }

    /// Takes samples that it [can](Encoder::can_speak).
    pub fn speak(&mut self, phrase: PhraseId, samples: &[Plain]) {
        self.phrases.speak(phrase, samples, self.gathered.series());
    }

    /// What a phrase needs of a sample, if it can hold it, and what that loses by itself.
    #[inline]
    pub fn plain(sample: &SampleRef<'_>, altered: &mut LossSet) -> Option<Plain> {
        let Facts { timestamp, .. } = Facts::of::<Rendered>(sample, altered);
        Some((number(sample.value, altered)?, timestamp))
    }

    /// Takes a sample into the body. An error says why it was dropped; the caller counts it. Alterations of samples that are
    /// taken are counted in `losses`.
    #[inline]
    pub fn push(&mut self, rendered: &Arc<Rendered>, sample: &SampleRef<'_>, losses: &mut Losses) -> Result<(), Loss> {
        self.dissolve(rendered);
        let labels_bytes = &mut self.labels_bytes;
        self.gathered.push(rendered, sample, losses, |series| *labels_bytes += series.labels.len())
    }

    /// Keeps the phrase of a series out of the body.
    #[inline]
    fn dissolve(&mut self, rendered: &Rendered) {
        let samples = self.phrases.dissolve(rendered);
        self.gather(samples);
    }

    #[inline]
    fn gather(&mut self, samples: phrases::Samples) {
        for (rendered, bits, timestamp) in samples {
            let labels_bytes = &mut self.labels_bytes;
            self.gathered.add(&rendered, bits, timestamp, |series| *labels_bytes += series.labels.len());
        }
    }

    /// Takes an exemplar into the `TimeSeries` of its series. Without a timestamp of its own it gets that of the series' last
    /// sample in the body; without that either, it is counted as lost.
    pub fn exemplar(&mut self, rendered: &Arc<Rendered>, exemplar: &Exemplar, losses: &mut Losses) {
        self.dissolve(rendered);
        let timestamp = exemplar.timestamp.map(|timestamp| timestamp.div_euclid(NANOSECONDS));
        if timestamp.is_none() && self.gathered.find(rendered).is_none() {
            losses.count(Loss::Exemplar);
            return;
        }
        let labels_bytes = &mut self.labels_bytes;
        let group = self.gathered.place(rendered, |series| *labels_bytes += series.labels.len());
        let taken = self.gathered.exemplar(group, timestamp, |out, timestamp| {
            for (name, value) in &exemplar.labels {
                put_label(out, name.as_bytes(), &[value.as_bytes()]);
            }
            put_double_field(out, 2, exemplar.value);
            put_varint_field(out, 3, timestamp.cast_unsigned());
        });
        if !taken {
            losses.count(Loss::Exemplar);
        }
    }

    /// Takes a family's metadata into the body, as a piece of its own without samples.
    pub fn metadata(&mut self, metadata: &Metadata) {
        let mut message = Vec::with_capacity(metadata.family.len() + metadata.help.len() + metadata.unit.len() + 16);
        put_varint_field(&mut message, 1, metadata.metric_type as u64);
        put_bytes_field(&mut message, 2, metadata.family.as_bytes());
        put_bytes_field(&mut message, 4, metadata.help.as_bytes());
        put_bytes_field(&mut message, 5, metadata.unit.as_bytes());
        put_bytes_field(&mut self.metadata, 3, &message);
        self.metadata_ends.push(self.metadata.len());
    }

    /// Samples pushed since the last [`Encoder::finish`].
    pub fn samples(&self) -> u64 {
        self.gathered.pushed() + self.phrases.samples()
    }

    /// Size of the body so far, roughly.
    pub fn bytes(&self) -> usize {
        self.metadata.len() + self.labels_bytes + self.gathered.bytes() + self.phrases.bytes()
    }

    /// Ends the body. Samples that give way to a later one of the same series and millisecond are counted in `dropped`.
    pub fn finish(&mut self, dropped: &mut Losses) -> Body {
        let mut body = Body::default();
        let mut message = self.dictionary.message(self.block_bytes);
        let mut start = 0;
        for end in self.metadata_ends.drain(..) {
            message.bytes(|out| out.extend_from_slice(&self.metadata[start..end]));
            body.cut_at(message.len(), 0, 0);
            start = end;
        }
        let mut spoken = 0;
        let mut speak = |groups, body: &mut Body, message: &mut Message<'_>| {
            self.phrases.until(groups, &mut spoken, |part| {
                part.cut(body, message.len());
                part.fill(message.append(part.template()));
            });
        };
        self.gathered.finish(dropped, |index, rendered, samples, messages| {
            speak(index, &mut body, &mut message);
            put_series(&mut message, &rendered.labels, samples, messages);
            cut(&mut body, message.len(), samples);
        });
        speak(usize::MAX, &mut body, &mut message);
        let block = message.finish();
        self.metadata.clear();
        self.labels_bytes = 0;
        self.gathered.clear();
        self.phrases.clear();
        if !body.cuts.is_empty() {
            self.block_bytes = block.bytes().len();
            body.packed = Some(block);
        }
        body
    }
}

fn put_series(out: &mut Message<'_>, labels: &LabelFields, samples: &[Pending], messages: Messages<'_>) {
    let floats = samples.partition_point(Pending::is_float);
    let (floats, histograms) = samples.split_at(floats);
    let floats_len: usize = floats.iter().map(|sample| 2 + sample_len(sample)).sum();
    let exemplars_len: usize = messages.exemplars().map(|message| bytes_field_len(message.len())).sum();
    let histograms_len: usize = histograms.iter().map(|sample| bytes_field_len(messages.histogram(sample).len())).sum();
    out.head(labels.len() + floats_len + exemplars_len + histograms_len);
    out.fields(labels);
    for sample in floats {
        out.sample(sample.float(), sample.timestamp);
    }
    for message in messages.exemplars() {
        out.bytes(|out| put_bytes_field(out, 3, message));
    }
    for sample in histograms {
        out.bytes(|out| put_bytes_field(out, 4, messages.histogram(sample)));
    }
}

/// Bytes of fields 1 and 2 of a sample.
#[inline]
pub(crate) fn sample_len(sample: &Pending) -> usize {
    9 + 1 + varint_len(sample.timestamp.cast_unsigned())
}

/// Fields 1 and 2 of a sample, which the two versions share.
#[inline]
pub(crate) fn put_value_and_timestamp(out: &mut Vec<u8>, sample: &Pending) {
    let mut head = [1 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 2 << 3];
    head[1..9].copy_from_slice(&sample.float());
    out.extend_from_slice(&head);
    put_varint(out, sample.timestamp.cast_unsigned());
}

#[cfg(test)]
mod tests {
    use super::super::messages::WriteRequest;
    use super::*;
    use crate::model::{
        BatchBuilder, Centroid, Distribution, Format, Granularity, MetricType, SampleFlags, SeriesSpec, SeriesTable,
        Value,
    };
    use prost::Message as _;
    use std::borrow::Cow;

    fn rendered(options: &Options, name: &str, labels: &[(&str, &str)]) -> Arc<Rendered> {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        let spec = SeriesSpec { measurement: name, field: None, labels, metadata: None };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        Arc::new(render(&table.series(id).unwrap(), options, &|_| None).unwrap())
    }

    #[test]
    fn a_rendered_series_takes_40_bytes() {
        assert_eq!(size_of::<Rendered>(), 40);
    }

    fn at(timestamp: i64, value: Value<'_>) -> SampleRef<'_> {
        SampleRef { timestamp, value, start: None, flags: SampleFlags::NONE }
    }

    fn text(body: &Body) -> String {
        let request = WriteRequest::decode(&*body.part(0, body.cuts.len())).unwrap();
        let mut words = Vec::new();
        for series in request.timeseries {
            words.extend(series.labels.iter().map(|label| format!("{}={}", label.name, label.value)));
            words.extend(series.samples.iter().map(|sample| format!("{}@{}", sample.value, sample.timestamp)));
            words.extend(series.exemplars.iter().map(|at| format!("#{}@{}", at.value, at.timestamp)));
            words.push("|".to_owned());
        }
        words.join(" ")
    }

    #[test]
    fn samples_of_a_series_are_brought_together_in_time_order() {
        let options = Options::default();
        let (m, n) = (rendered(&options, "m", &[("Z", "1"), ("a", "2")]), rendered(&options, "n", &[]));
        let mut encoder = Encoder::new(options.clone());
        let (mut losses, mut dropped) = (Losses::default(), Losses::default());
        for (series, milliseconds, value) in [(&m, 2, 1.0), (&n, 1, 2.0), (&m, 1, 3.0), (&m, 2, 4.0), (&n, -1, 5.0)] {
            encoder.push(series, &at(milliseconds * NANOSECONDS, Value::F64(value)), &mut losses).unwrap();
        }
        assert_eq!(encoder.samples(), 5);
        let body = encoder.finish(&mut dropped);
        assert_eq!(text(&body), "Z=1 __name__=m a=2 3@1 4@2 | __name__=n 5@-1 2@1 |");
        assert_eq!(body.cuts.iter().map(|cut| cut.samples).collect::<Vec<_>>(), [2, 2]);
        assert_eq!((dropped.get(Loss::Collapsed), dropped.total(), losses.total()), (1, 1, 0));
        assert_eq!((encoder.samples(), encoder.finish(&mut dropped)), (0, Body::default()));
    }

    #[test]
    fn what_the_format_cannot_express_is_counted() {
        use Loss::{FieldType, IntegerRounded, StartTimestamp, TimestampTruncated};
        let options = Options::default();
        let cases: [(SampleRef<'_>, Result<&str, Loss>, &[Loss]); 10] = [
            (at(0, Value::I64(-3)), Ok("-3@0"), &[FieldType]),
            (at(0, Value::U64(1 << 53 | 1 << 60)), Ok("1161928703861588000@0"), &[FieldType]),
            (at(0, Value::I64((1 << 53) + 1)), Ok("9007199254740992@0"), &[IntegerRounded]),
            (at(0, Value::I64(i64::MIN)), Ok("-9223372036854776000@0"), &[FieldType]),
            (at(0, Value::U64(u64::MAX)), Ok("18446744073709552000@0"), &[IntegerRounded]),
            (at(0, Value::Bool(true)), Ok("1@0"), &[FieldType]),
            (at(0, Value::Str("x")), Err(Loss::StringValue), &[]),
            (at(-1, Value::F64(1.0)), Ok("1@-1"), &[TimestampTruncated]),
            (at(i64::MIN, Value::F64(1.0)), Ok("1@-9223372036855"), &[TimestampTruncated]),
            (SampleRef { start: Some(1), ..at(0, Value::F64(1.0)) }, Ok("1@0"), &[StartTimestamp]),
        ];
        let m = rendered(&options, "m", &[]);
        for (sample, expected, expected_losses) in cases {
            let mut encoder = Encoder::new(options.clone());
            let mut losses = Losses::default();
            let pushed = encoder.push(&m, &sample, &mut losses);
            let body = encoder.finish(&mut Losses::default());
            let got = pushed.map(|()| text(&body));
            assert_eq!(got, expected.map(|samples| format!("__name__=m {samples} |")), "{sample:?}");
            assert_eq!(losses.iter().map(|(loss, _)| loss).collect::<Vec<_>>(), expected_losses, "{sample:?}");
        }
    }

    #[test]
    fn a_distribution_becomes_its_count_and_sum() {
        let options = Options::default();
        let centroids = vec![Centroid { count: 2, mean: 1.5 }, Centroid { count: 1, mean: 4.0 }];
        let distribution = Distribution { granularity: Granularity::Minute, centroids };
        let mut encoder = Encoder::new(options.clone());
        let (mut losses, mut dropped) = (Losses::default(), Losses::default());
        let latency = rendered(&options, "latency", &[("a", "b")]);
        for timestamp in [60, 60] {
            encoder
                .push(&latency, &at(timestamp * 1_000_000, Value::Distribution(&distribution)), &mut losses)
                .unwrap();
        }
        let body = encoder.finish(&mut dropped);
        assert_eq!(text(&body), "__name__=latency_count a=b 3@60 | __name__=latency_sum a=b 7@60 |");
        assert_eq!((body.samples(), dropped.total(), losses.get(Loss::Distribution)), (1, 1, 2));
    }

    #[test]
    fn exemplars_and_metadata_stand_without_samples() {
        let options = Options::default();
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, Format::RemoteWrite, Vec::new());
        let spec = SeriesSpec { measurement: "m", field: None, labels: Vec::new(), metadata: None };
        let series = builder.define(builder.alias(b"m"), spec).unwrap();
        let exemplar = |timestamp| Exemplar {
            series,
            sample: None,
            labels: vec![("t".into(), "1".into())],
            value: 0.5,
            timestamp,
        };
        let (m, n) = (rendered(&options, "m", &[]), rendered(&options, "n", &[]));
        let mut encoder = Encoder::new(options.clone());
        let mut losses = Losses::default();
        encoder.exemplar(&n, &exemplar(None), &mut losses);
        assert_eq!(losses.get(Loss::Exemplar), 1, "no sample to take a timestamp from");
        encoder.exemplar(&n, &exemplar(Some(7_000_000)), &mut losses);
        encoder.push(&m, &at(5_000_000, Value::F64(1.0)), &mut losses).unwrap();
        encoder.exemplar(&m, &exemplar(None), &mut losses);
        let family = Metadata { family: "m".into(), metric_type: MetricType::Gauge, help: "h".into(), unit: "".into() };
        encoder.metadata(&family);
        let body = encoder.finish(&mut Losses::default());
        assert_eq!(text(&body), "__name__=n #0.5@7 | __name__=m 1@5 #0.5@5 |");
        assert_eq!(body.cuts.iter().map(|cut| cut.samples).collect::<Vec<_>>(), [0, 0, 1]);
        let read = WriteRequest::decode(&*body.part(0, 1)).unwrap().metadata;
        assert_eq!((read.len(), &*read[0].metric_family_name, read[0].r#type, &*read[0].help), (1, "m", 2, "h"));
        assert_eq!(losses.total(), 1);
    }
}
