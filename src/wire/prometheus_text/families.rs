//! The families that a body's metadata lines declare, and which of them a sample belongs to.
//!
//! Bodies put together from several applications repeat and interleave declarations, so a family stays known until the end
//! of the body, and a line that changes one holds for the samples behind it.

use super::grammar::{Flavour, unescape};
use crate::model::{AliasHash, BatchBuilder, Metadata, MetricType};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// A family as declared so far.
#[derive(Debug)]
pub(crate) struct Family<'b> {
    name: Cow<'b, str>,
    metric_type: MetricType,
    help: &'b str,
    unit: &'b str,
    hash: Option<AliasHash>,
    metadata: Option<Arc<Metadata>>,
    /// Whether a sample carried the declaration as it is.
    used: bool,
}

/// What one metadata line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Declaration<'b> {
    Type(MetricType),
    Help(&'b str),
    Unit(&'b str),
}

/// A family's place in the body's list.
pub(crate) type FamilyIndex = usize;

/// The families of one body.
#[derive(Debug)]
pub(crate) struct Families<'b> {
    flavour: Flavour,
    list: Vec<Family<'b>>,
    places: HashMap<Cow<'b, str>, FamilyIndex>,
    current: Option<FamilyIndex>,
}

impl<'b> Families<'b> {
    pub(crate) fn new(flavour: Flavour) -> Self {
        Self { flavour, list: Vec::new(), places: HashMap::new(), current: None }
    }

    /// The family of the latest metadata line.
    pub(crate) fn current(&self) -> Option<FamilyIndex> {
        self.current
    }

    pub(crate) fn declare(&mut self, name: Cow<'b, str>, declaration: Declaration<'b>) {
        let place = match self.current {
            Some(current) if self.list[current].name == name => current,
            _ => self.place(name),
        };
        self.current = Some(place);
        let family = &mut self.list[place];
        let changed = match declaration {
            Declaration::Type(metric_type) => std::mem::replace(&mut family.metric_type, metric_type) != metric_type,
            Declaration::Help(help) => std::mem::replace(&mut family.help, help) != help,
            Declaration::Unit(unit) => std::mem::replace(&mut family.unit, unit) != unit,
        };
        if changed {
            family.hash = None;
            family.metadata = None;
            family.used = false;
        }
    }

    fn place(&mut self, name: Cow<'b, str>) -> FamilyIndex {
        let next = self.list.len();
        let place = *self.places.entry(name.clone()).or_insert(next);
        if place == next {
            let (help, unit) = ("", "");
            let metric_type = MetricType::Unknown;
            self.list.push(Family { name, metric_type, help, unit, hash: None, metadata: None, used: false });
        }
        place
    }

    /// The family of a sample: the current one where the name fits, else one declared earlier.
    pub(crate) fn of(&self, name: &[u8]) -> Option<FamilyIndex> {
        let current = self.current?;
        if self.list[current].owns(name, self.flavour) { Some(current) } else { self.declared(name) }
    }

    fn declared(&self, name: &[u8]) -> Option<FamilyIndex> {
        let name = std::str::from_utf8(name).ok()?;
        let stems = name.rsplit_once('_').map(|(stem, _)| stem);
        let places = [Some(name), stems].into_iter().flatten().filter_map(|stem| self.places.get(stem));
        places.copied().find(|place| self.list[*place].owns(name.as_bytes(), self.flavour))
    }

    /// Whether a name is the `_created` of a family whose samples have start timestamps.
    #[inline]
    pub(crate) fn is_created(&self, family: FamilyIndex, name: &[u8]) -> bool {
        let family = &self.list[family];
        family.group_label().is_some() && name.len() > family.name.len() && name.ends_with(b"_created")
    }

    /// The label that tells the samples of one point of the family apart; none if the family has no start timestamps.
    pub(crate) fn group_label(&self, family: FamilyIndex) -> Option<&'static str> {
        self.list[family].group_label()
    }

    /// What a family adds to the aliases of its series.
    #[inline]
    pub(crate) fn hash(&mut self, family: FamilyIndex, out: &BatchBuilder<'_>) -> AliasHash {
        let family = &mut self.list[family];
        family.used = true;
        *family.hash.get_or_insert_with(|| {
            out.hash(family.name.as_bytes())
                .then(out.hash(family.help.as_bytes()))
                .then(out.hash(family.unit.as_bytes()))
                .then(out.hash(&[family.metric_type as u8]))
        })
    }

    /// What a family's series are defined with.
    pub(crate) fn metadata(&mut self, family: FamilyIndex) -> Arc<Metadata> {
        let quotes = self.flavour == Flavour::OpenMetrics;
        let family = &mut self.list[family];
        Arc::clone(family.metadata.get_or_insert_with(|| {
            Arc::new(Metadata {
                family: family.name.as_ref().into(),
                metric_type: family.metric_type,
                help: unescape(family.help, quotes).into(),
                unit: family.unit.into(),
            })
        }))
    }

    /// Hands over what was declared without any sample.
    pub(crate) fn finish(mut self, out: &mut BatchBuilder<'_>) {
        for family in 0..self.list.len() {
            if !self.list[family].used {
                out.metadata(self.metadata(family).as_ref().clone());
            }
        }
    }
}

impl Family<'_> {
    fn owns(&self, name: &[u8], flavour: Flavour) -> bool {
        let Some(suffix) = name.strip_prefix(self.name.as_bytes()) else { return false };
        sample_suffixes(flavour, self.metric_type).iter().any(|known| known.as_bytes() == suffix)
    }

    fn group_label(&self) -> Option<&'static str> {
        match self.metric_type {
            MetricType::Counter => Some(""),
            MetricType::Histogram => Some("le"),
            MetricType::Summary => Some("quantile"),
            _ => None,
        }
    }
}

/// What the names of a family's samples have behind the family's name.
pub(crate) fn sample_suffixes(flavour: Flavour, metric_type: MetricType) -> &'static [&'static str] {
    match (flavour, metric_type) {
        (Flavour::Text, MetricType::Histogram) => &["_bucket", "_sum", "_count"],
        (Flavour::Text, MetricType::Summary) => &["", "_sum", "_count"],
        (Flavour::OpenMetrics, MetricType::Counter) => &["_total", "_created"],
        (Flavour::OpenMetrics, MetricType::Histogram) => &["_bucket", "_sum", "_count", "_created"],
        (Flavour::OpenMetrics, MetricType::GaugeHistogram) => &["_bucket", "_gsum", "_gcount"],
        (Flavour::OpenMetrics, MetricType::Summary) => &["", "_sum", "_count", "_created"],
        (Flavour::OpenMetrics, MetricType::Info) => &["_info"],
        _ => &[""],
    }
}
