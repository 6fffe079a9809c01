//! What the samples of a series have in common in an exposition, worked out once: name, labels, family, and where among the
//! others it stands.

use super::names::put_series;
use super::writer::non_finite;
use super::{Families, Flavour, Options};
use crate::model::{Loss, LossSet, Metadata, MetricType, Series};
use crate::wire::digits::write_shortest;
use crate::wire::prometheus_names::{PrometheusSeries, translate};
use crate::wire::prometheus_text::families::sample_suffixes;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

type Label<'a> = (Cow<'a, str>, Cow<'a, str>);

/// A line but for number and time.
pub(super) struct Line<'a> {
    pub(super) family: String,
    pub(super) kind: MetricType,
    pub(super) name: String,
    pub(super) suffix: &'static str,
    pub(super) labels: Vec<Label<'a>>,
    pub(super) metadata: Option<Arc<Metadata>>,
    /// What every sample on it loses.
    pub(super) losses: LossSet,
    /// Whether a sample is written on it.
    pub(super) is_used: bool,
    /// Lines that read the same have the same; see [`identify`].
    pub(super) identity: usize,
    /// Lines of the points of one metric have the same; see [`rank`].
    pub(super) metric: usize,
    /// Its place among the lines.
    pub(super) rank: usize,
    /// Name and labels as they are written.
    pub(super) head: Vec<u8>,
    /// The bound or quantile that orders it among the lines of its point.
    edge: f64,
}

/// Which line of a series.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// That of a float.
    Plain,
    /// That of a number of another type.
    Typed,
    /// One of several that a sample needs.
    Of { kind: MetricType, suffix: &'static str, bound: Option<f64> },
}

/// Makes lines as samples need them.
pub(super) struct Lines<'a, 'f> {
    options: Options<'f>,
    flavour: Flavour,
    known: HashMap<*const Series, Result<Known<'a>, Loss>>,
    made: Vec<Line<'a>>,
}

struct Known<'a> {
    series: &'a Series,
    translated: PrometheusSeries<'a>,
    metadata: Option<Arc<Metadata>>,
    plain: Option<usize>,
    typed: Option<usize>,
    /// By suffix and bits of the bound.
    parts: HashMap<(&'static str, Option<u64>), Option<usize>>,
}

impl<'a, 'f> Lines<'a, 'f> {
    pub(super) fn new(options: Options<'f>, flavour: Flavour) -> Self {
        Self { options, flavour, known: HashMap::new(), made: Vec::new() }
    }

    /// All that were made.
    pub(super) fn made(self) -> Vec<Line<'a>> {
        self.made
    }

    /// The number of a line. An error says why no sample of the series can be written.
    pub(super) fn line(&mut self, series: &'a Series, part: Part) -> Result<usize, Loss> {
        let Self { options, flavour, known, made } = self;
        let known = known.entry(std::ptr::from_ref(series)).or_insert_with(|| Known::of(series, options));
        let known = known.as_mut().map_err(|loss| *loss)?;
        let number = match part {
            Part::Plain => &mut known.plain,
            Part::Typed => &mut known.typed,
            Part::Of { suffix, bound, .. } => {
                let key = (suffix, bound.map(f64::to_bits));
                known.parts.entry(key).or_default()
            }
        };
        if let Some(number) = *number {
            return Ok(number);
        }
        *number = Some(made.len());
        made.push(match part {
            Part::Plain => known.whole(*flavour, LossSet::NONE),
            Part::Typed => known.whole(*flavour, LossSet::of(Loss::FieldType)),
            Part::Of { kind, suffix, bound } => known.part(kind, suffix, bound),
        });
        Ok(made.len() - 1)
    }
}

/// What is known of a series' family: declared with it, or apart from it under its name or the stem of its name.
fn declared(series: &Series, families: Families<'_>) -> Option<Arc<Metadata>> {
    if let Some(own) = &series.metadata {
        return families(&own.family);
    }
    series.metadata_apart(families)
}

impl<'a> Known<'a> {
    fn of(series: &'a Series, options: &Options<'_>) -> Result<Self, Loss> {
        let mut translated = translate(series, options.alphabet, options.style)?;
        // Decoders leave empty labels out. One that is there keeps a scraper from putting its own in that place.
        for empty in series.labels.iter().filter(|pair| pair.value.is_empty()) {
            let at = translated.labels.partition_point(|(name, _)| **name < *empty.name);
            translated.labels.insert(at, (Cow::from(&*empty.name), ""));
        }
        let (plain, typed, parts) = (None, None, HashMap::new());
        Ok(Self { series, translated, metadata: declared(series, options.families), plain, typed, parts })
    }

    /// The line of a sample that is one.
    fn whole(&self, flavour: Flavour, losses: LossSet) -> Line<'a> {
        let name = self.translated.name.to_string();
        let belongs = self.metadata.as_ref().and_then(|metadata| {
            let suffix = metadata.suffix_of(self.series.name.measurement())?;
            // Without a declaration of its own, a sample joins only what OpenMetrics itself would count to the family.
            let bare_counter = metadata.metric_type == MetricType::Counter
                && flavour == Flavour::OpenMetrics
                && suffix.is_empty()
                && !name.ends_with("_total");
            (self.series.metadata.is_some() || !bare_counter).then_some((metadata, suffix))
        });
        let (kind, suffix) = belongs
            .map_or((MetricType::Unknown, ""), |(metadata, suffix)| role(flavour, &name, metadata.metric_type, suffix));
        let family = name.strip_suffix(suffix).unwrap_or(&name).to_owned();
        let metadata = belongs.map(|(metadata, _)| Arc::clone(metadata));
        let losses = losses | self.translated.losses;
        Line { family, name, labels: self.labels(), metadata, losses, ..Line::of(kind, suffix) }
    }

    /// One of the lines of a sample that is several.
    fn part(&self, kind: MetricType, suffix: &'static str, bound: Option<f64>) -> Line<'a> {
        let family = self.translated.name.to_string();
        let mut labels = self.labels();
        if let Some(bound) = bound {
            labels.retain(|(name, _)| name != "le");
            labels.push((Cow::from("le"), Cow::from(bound_text(bound))));
            labels.sort();
        }
        let loss = if kind == MetricType::Histogram { Loss::NativeHistogram } else { Loss::Distribution };
        let (name, metadata) = (format!("{family}{suffix}"), self.metadata.clone());
        let losses = LossSet::of(loss) | self.translated.losses;
        Line { family, name, labels, metadata, losses, ..Line::of(kind, suffix) }
    }

    fn labels(&self) -> Vec<Label<'a>> {
        self.translated.labels.iter().map(|(name, value)| (name.clone(), Cow::from(*value))).collect()
    }
}

/// As what a line is declared, and which part of its name is not the family's.
fn role(flavour: Flavour, name: &str, kind: MetricType, suffix: &'static str) -> (MetricType, &'static str) {
    use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Info, StateSet, Summary, Unknown};
    match (flavour, kind) {
        (Flavour::Text, Counter) if suffix != "_created" => (Counter, ""),
        // Of a counter, OpenMetrics knows `_total` only, behind a name; a counter of another name would be a lie.
        (Flavour::OpenMetrics, Counter) if name.strip_suffix("_total").is_some_and(|stem| !stem.is_empty()) => {
            (Counter, "_total")
        }
        (Flavour::OpenMetrics, Counter) if suffix == "_created" => (Counter, suffix),
        (Flavour::Text, Info | StateSet) => (Gauge, ""),
        (Flavour::Text, GaugeHistogram) => (Unknown, ""),
        (Flavour::Text, _) if suffix == "_created" => (Unknown, ""),
        (_, Counter) => (Unknown, ""),
        (_, Gauge | Histogram | GaugeHistogram | Info | StateSet | Summary | Unknown) => (kind, suffix),
    }
}

/// Numbers lines by what they read: those that read the same get the same number.
pub(super) fn identify(lines: &mut [Line<'_>]) {
    let mut sorted: Vec<_> = lines.iter_mut().collect();
    sorted.sort_by(|left, right| left.text().cmp(&right.text()));
    for (number, same) in sorted.chunk_by_mut(|left, right| left.text() == right.text()).enumerate() {
        for line in same.iter_mut() {
            line.identity = number;
        }
    }
}

/// Puts each line where a reader of the exposition will see it. A family has one type, that of the first line with one; names
/// that were distinct may meet in this alphabet, and then their families do, too.
pub(super) fn place(lines: &mut [Line<'_>], flavour: Flavour) {
    let mut used: Vec<_> = lines.iter_mut().filter(|line| line.is_used).collect();
    used.sort_by_key(|line| line.identity);
    let mut kinds: HashMap<String, MetricType> = HashMap::new();
    for line in used.iter().filter(|line| line.kind != MetricType::Unknown || line.metadata.is_some()) {
        match kinds.get_mut(&line.family) {
            Some(kind) if *kind == MetricType::Unknown => *kind = line.kind,
            Some(_) => {}
            None => _ = kinds.insert(line.family.clone(), line.kind),
        }
    }
    for line in used.into_iter().filter(|line| kinds.get(&line.family) != Some(&line.kind)) {
        let ends = [line.family.len(), line.name.len(), line.name.rfind('_').unwrap_or(0)];
        let found = ends.into_iter().find_map(|end| {
            let (family, behind) = line.name.split_at(end);
            let kind = *kinds.get(family)?;
            sample_suffixes(flavour, kind).iter().find(|suffix| **suffix == behind).map(|suffix| (end, kind, *suffix))
        });
        let (end, kind, suffix) = found.unwrap_or((line.name.len(), MetricType::Unknown, ""));
        (line.family, line.kind, line.suffix) = (line.name[..end].to_owned(), kind, suffix);
        if line.metadata.take().is_some() {
            line.losses.insert(Loss::Metadata);
        }
    }
}

/// Puts lines in their order, and writes what stands before their numbers.
pub(super) fn rank(lines: &mut [Line<'_>]) {
    let mut used: Vec<_> = lines.iter_mut().filter(|line| line.is_used).collect();
    for line in &mut used {
        line.edge = line.edge();
        put_series(&mut line.head, &line.name, line.labels.iter());
    }
    used.sort_by(|left, right| left.order(right));
    used.iter_mut().enumerate().for_each(|(number, line)| line.rank = number);
    let points = used.chunk_by_mut(|left, right| left.family == right.family && left.point().eq(right.point()));
    for (number, point) in points.enumerate() {
        for line in point.iter_mut() {
            line.metric = number;
        }
    }
}

impl<'a> Line<'a> {
    fn of(kind: MetricType, suffix: &'static str) -> Self {
        Self {
            family: String::new(),
            kind,
            name: String::new(),
            suffix,
            labels: Vec::new(),
            metadata: None,
            losses: LossSet::NONE,
            is_used: false,
            identity: 0,
            metric: 0,
            rank: 0,
            head: Vec::new(),
            edge: 0.0,
        }
    }

    fn text(&self) -> (&str, &[Label<'a>]) {
        (&self.name, &self.labels)
    }

    /// The label that orders the lines of a point.
    fn edge_label(&self) -> &'static str {
        match self.kind {
            _ if self.suffix == "_created" => "",
            MetricType::Histogram | MetricType::GaugeHistogram => "le",
            MetricType::Summary => "quantile",
            _ => "",
        }
    }

    fn edge(&self) -> f64 {
        let edge = self.labels.iter().find(|(name, _)| name == self.edge_label());
        edge.and_then(|(_, value)| value.parse().ok()).unwrap_or(0.0)
    }

    /// The labels of its point.
    pub(super) fn point(&self) -> impl Iterator<Item = &Label<'a>> {
        self.labels.iter().filter(|(name, _)| name != self.edge_label())
    }

    /// Its place within its point.
    fn role(&self) -> u8 {
        match self.suffix {
            "" | "_bucket" | "_total" | "_info" => 0,
            "_count" | "_gcount" => 1,
            "_sum" | "_gsum" => 2,
            _ => 3,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        (self.family.cmp(&other.family))
            .then_with(|| self.point().cmp(other.point()))
            .then_with(|| self.role().cmp(&other.role()))
            .then_with(|| self.edge.total_cmp(&other.edge))
            .then_with(|| self.text().cmp(&other.text()))
    }
}

fn bound_text(bound: f64) -> String {
    if !bound.is_finite() {
        return non_finite(bound).to_owned();
    }
    let mut text = Vec::new();
    write_shortest(&mut text, bound);
    String::from_utf8(text).unwrap_or_default()
}
