//! Series, their names, labels and what is known of their families.

use super::AliasHash;
use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A series within this process. Never reused for another series while the process lives; only that of a
/// [`Recalled`](super::Recalled) series holds no longer than its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesId(pub u32);

impl SeriesId {
    /// Recalled series have the ids from here on.
    const FIRST_RECALLED: u32 = u32::MAX - (1 << 27);

    /// The id of a place in a generation of recalled series.
    pub(super) fn recalled(place: usize) -> Option<Self> {
        u32::try_from(place).ok()?.checked_add(Self::FIRST_RECALLED).map(Self)
    }

    /// Its place in its generation, if it is the id of a recalled series.
    pub(super) fn recalled_place(self) -> Option<usize> {
        self.0.checked_sub(Self::FIRST_RECALLED).map(|place| place as usize)
    }

    /// Whether it has a meaning only together with its batch.
    #[inline]
    pub const fn is_recalled(self) -> bool {
        self.0 >= Self::FIRST_RECALLED
    }
}

/// A metric name, with the point where measurement and field meet when it came from line protocol.
///
/// Outputs choose the joint (`_`, `.`), so none has to guess where the name once was split. Clones share one text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesName(Arc<Name>);

#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Name {
    text: Box<str>,
    split: Option<u32>,
}

impl SeriesName {
    /// A name that is one piece (Prometheus, Wavefront).
    pub fn metric(name: &str) -> Self {
        Self(Arc::new(Name { text: name.into(), split: None }))
    }

    /// A name of line protocol.
    pub fn field(measurement: &str, field: &str) -> Self {
        let mut text = String::with_capacity(measurement.len() + field.len());
        text.push_str(measurement);
        text.push_str(field);
        Self(Arc::new(Name { text: text.into(), split: u32::try_from(measurement.len()).ok() }))
    }

    /// The measurement, or the whole name where there is no field.
    pub fn measurement(&self) -> &str {
        let Name { text, split } = &*self.0;
        split.map_or(&**text, |at| &text[..at as usize])
    }

    /// The field, when the name came from line protocol.
    pub fn field_key(&self) -> Option<&str> {
        let Name { text, split } = &*self.0;
        split.map(|at| &text[at as usize..])
    }

    /// Bytes the name occupies.
    pub fn len(&self) -> usize {
        self.0.text.len()
    }

    /// Whether the name is empty.
    pub fn is_empty(&self) -> bool {
        self.0.text.is_empty()
    }
}

impl fmt::Debug for SeriesName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field_key() {
            Some(field) => write!(f, "{:?}.{field:?}", self.measurement()),
            None => write!(f, "{:?}", self.measurement()),
        }
    }
}

/// One label name with one value. Interned: each distinct pair exists once in a process.
#[derive(Debug, PartialEq, Eq)]
pub struct LabelPair {
    /// Label name (tag key), as written.
    pub name: Box<str>,
    /// Label value, as written; the text of `le` and `quantile` is never reformatted.
    pub value: Box<str>,
}

/// The labels of a series, sorted by name (bytes), at most one of each name. Clones share one list: of many series that come
/// from one target, most have the same.
#[derive(Clone)]
pub struct Labels(Arc<List>);

struct List {
    pairs: Box<[Arc<LabelPair>]>,
    /// The hash by which a table knows the list; of no meaning where no table has it.
    hash: AliasHash,
}

impl Labels {
    pub(super) fn new(hash: AliasHash, pairs: Box<[Arc<LabelPair>]>) -> Self {
        Self(Arc::new(List { pairs, hash }))
    }

    pub(super) fn hash(&self) -> AliasHash {
        self.0.hash
    }

    /// Whether a series has them beside whoever asks.
    pub(super) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

impl FromIterator<Arc<LabelPair>> for Labels {
    fn from_iter<I: IntoIterator<Item = Arc<LabelPair>>>(pairs: I) -> Self {
        Self::new(AliasHash::default(), pairs.into_iter().collect())
    }
}

impl Deref for Labels {
    type Target = [Arc<LabelPair>];

    fn deref(&self) -> &Self::Target {
        &self.0.pairs
    }
}

impl<'a> IntoIterator for &'a Labels {
    type Item = &'a Arc<LabelPair>;
    type IntoIter = std::slice::Iter<'a, Arc<LabelPair>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Labels {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// A label as written in a request, before it is interned.
pub type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Whose naming rules a series follows. Outputs of the same dialect take names verbatim; others translate them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Dialect {
    /// Prometheus text, OpenMetrics, remote write.
    Prometheus = 0,
    /// Line protocol: the name has a field.
    Influx = 1,
    /// Wavefront: dotted names, `source`, `∆` for deltas and `~` for internal metrics.
    Wavefront = 2,
}

impl Dialect {
    /// The dialect with that number, as stored in the log.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Prometheus),
            1 => Some(Self::Influx),
            2 => Some(Self::Wavefront),
            _ => None,
        }
    }
}

/// A series: who it is and what its sender declared of its family. Its parts are shared, so it is cheap to make.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whose naming rules it follows.
    pub dialect: Dialect,
    /// Its name.
    pub name: SeriesName,
    /// Its labels.
    pub labels: Labels,
    /// Type, help and unit, when they were declared together with the series.
    pub metadata: Option<Arc<Metadata>>,
    /// Hash of measurement and labels (not the field): the series of one line-protocol row share it. Outputs pick a lane
    /// by it, so that order holds within a series and rows stay whole.
    pub lane_key: u64,
}

impl Series {
    /// The same with what is known of its family.
    #[must_use]
    pub fn with_metadata(&self, metadata: Arc<Metadata>) -> Self {
        Self { metadata: Some(metadata), ..self.clone() }
    }

    /// What is known of its family apart from it, if it brought nothing itself. Families are of Prometheus's dialect.
    pub fn metadata_apart(&self, families: impl Fn(&str) -> Option<Arc<Metadata>>) -> Option<Arc<Metadata>> {
        let joins = self.metadata.is_none() && self.dialect == Dialect::Prometheus;
        if joins { Metadata::of_metric(self.name.measurement(), families) } else { None }
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.binary_search_by(|pair| (*pair.name).cmp(name)).ok().map(|at| &*self.labels[at].value)
    }
}

/// What is known of a metric family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Metadata {
    /// The family's name: OpenMetrics counters without `_total`, classic histograms without `_bucket`.
    pub family: Box<str>,
    /// Its type.
    pub metric_type: MetricType,
    /// Its help text, unescaped.
    pub help: Box<str>,
    /// Its unit.
    pub unit: Box<str>,
}

impl Metadata {
    /// What a metric's name has behind the family's, if by the family's type it belongs to it.
    pub fn suffix_of(&self, name: &str) -> Option<&'static str> {
        let suffixes: &[&'static str] = match self.metric_type {
            MetricType::Counter => &["", "_total", "_created"],
            MetricType::Gauge | MetricType::Unknown | MetricType::StateSet => &[""],
            MetricType::Histogram => &["_bucket", "_sum", "_count", "_created"],
            MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount"],
            MetricType::Summary => &["", "_sum", "_count", "_created"],
            MetricType::Info => &["_info"],
        };
        let behind = name.strip_prefix(&*self.family)?;
        suffixes.iter().copied().find(|suffix| *suffix == behind)
    }

    /// What is known of the family of a metric: under the metric's own name, else under the stem of it, if the type there
    /// says that such names belong to it.
    pub fn of_metric(name: &str, families: impl Fn(&str) -> Option<Arc<Self>>) -> Option<Arc<Self>> {
        families(name).or_else(|| {
            let (stem, _) = name.rsplit_once('_')?;
            families(stem).filter(|metadata| metadata.suffix_of(name).is_some_and(|suffix| !suffix.is_empty()))
        })
    }

    /// Memory it occupies.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.family.len() + self.help.len() + self.unit.len()
    }
}

/// Metric types of Prometheus and OpenMetrics, numbered as in remote write 1.0 and 2.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MetricType {
    /// Unknown, or `untyped` in text 0.0.4.
    #[default]
    Unknown = 0,
    /// A cumulative counter.
    Counter = 1,
    /// A gauge.
    Gauge = 2,
    /// A classic or native histogram.
    Histogram = 3,
    /// A histogram whose buckets can go down.
    GaugeHistogram = 4,
    /// A summary with quantiles.
    Summary = 5,
    /// OpenMetrics info.
    Info = 6,
    /// OpenMetrics stateset.
    StateSet = 7,
}

impl MetricType {
    /// The type's OpenMetrics spelling; text 0.0.4 writes `untyped` for `unknown`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The type with that number in remote write; numbers yet unknown are [`MetricType::Unknown`].
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }
}

/// A series at first sight, borrowed from the request that named it.
#[derive(Debug)]
pub struct SeriesSpec<'a> {
    /// Measurement, or the whole metric name when `field` is absent.
    pub measurement: &'a str,
    /// Line protocol's field key.
    pub field: Option<&'a str>,
    /// Labels in any order; names distinct and not empty, values not empty. The decoder sees to that.
    pub labels: Vec<Label<'a>>,
    /// What was declared of the family together with the series.
    pub metadata: Option<Arc<Metadata>>,
}

impl<'a> SeriesSpec<'a> {
    /// Of a series that is known elsewhere.
    pub(super) fn of(series: &'a Series) -> Self {
        let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
        let (measurement, field) = (series.name.measurement(), series.name.field_key());
        Self { measurement, field, labels, metadata: series.metadata.clone() }
    }

    /// Its name.
    pub(super) fn name(&self) -> SeriesName {
        match self.field {
            Some(field) => SeriesName::field(self.measurement, field),
            None => SeriesName::metric(self.measurement),
        }
    }
}
