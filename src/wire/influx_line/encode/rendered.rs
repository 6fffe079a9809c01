//! A series to its name in line protocol: escaped bytes that its samples copy, and what they lose by it.

use super::Options;
use crate::model::{Dialect, Loss, LossSet, Metadata, Series};
use crate::wire::influx_line::schema::{OfMean, shape};
use crate::wire::influx_line::token::{escape, is_carried, is_measurement};
use crate::wire::shared::SharedText;
use std::borrow::Cow;
use std::ops::Range;

/// A series as line protocol names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The measurement, escaped.
    pub(super) measurement: SharedText,
    /// `,key=value` again and again, escaped.
    pub(super) tags: SharedText,
    /// ` key=` of the field, escaped.
    pub(super) first_field: SharedText,
    /// Where `,le=...` stands in the tags: buckets of native histograms bring their own.
    pub(super) le: Option<Range<u32>>,
    /// Whether a sample joins the line before it when the tags are the same, and how many bytes of the field keys must be.
    pub(super) shares: Option<u32>,
    /// What it is of the mean that its row gets.
    pub(super) of_mean: Option<OfMean>,
    losses: LossSet,
}

impl Rendered {
    /// Measurement, tags and field key: what the series is at the destination.
    pub fn identity(&self) -> Vec<u8> {
        [&*self.measurement, &self.tags, &self.first_field].concat()
    }

    /// What every sample of the series loses.
    #[inline]
    pub fn losses(&self) -> LossSet {
        self.losses
    }

    /// The tags, which fields of a row share, and more.
    pub fn tags(&self) -> &[u8] {
        &self.tags
    }

    /// Appends measurement and tags.
    #[inline]
    pub(super) fn append_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.measurement);
        out.extend_from_slice(&self.tags);
    }

    /// Whether these are its measurement and tags.
    #[inline]
    pub(super) fn is_of(&self, head: &[u8]) -> bool {
        head.strip_prefix(&*self.measurement) == Some(&*self.tags)
    }

    /// The field key with its `=`.
    #[inline]
    pub(super) fn field(&self) -> &[u8] {
        &self.first_field[1..]
    }
}

/// Names a series in line protocol. An error says why no sample of it can be sent.
pub fn render(series: &Series, options: &Options) -> Result<Rendered, Loss> {
    let mut losses = LossSet::NONE;
    // A row of a meter tells its type.
    let told = |metadata: &Metadata| series.dialect == Dialect::Influx && metadata.help.is_empty();
    if series.metadata.as_ref().is_some_and(|metadata| !told(metadata)) {
        losses.insert(Loss::Metadata);
    }
    let name = series.name.measurement();
    if series.dialect == Dialect::Wavefront {
        let plain = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
        if plain.starts_with('~') {
            return Err(Loss::InternalMetric);
        }
        if plain.len() < name.len() {
            losses.insert(Loss::DeltaTemporality);
        }
    }
    let shape = shape(series, &options.style);
    if !is_measurement(&shape.measurement) || !is_carried(&shape.field) {
        return Err(Loss::UnusableName);
    }
    let (mut measurement, mut tags, mut first_field) = (Vec::new(), Vec::new(), vec![b' ']);
    escape(&mut measurement, &shape.measurement, b", ");
    let le = render_tags(series, shape.edge.as_ref(), &mut tags, &mut losses);
    escape(&mut first_field, &shape.field, b",= ");
    first_field.push(b'=');
    let shares = shape.shares.map(|family| {
        let mut shared = Vec::new();
        escape(&mut shared, &shape.field[..family], b",= ");
        shared.len() as u32
    });
    let [measurement, tags, first_field] = [measurement, tags, first_field].map(|text| options.texts.share(&text));
    Ok(Rendered { measurement, tags, first_field, le, shares, of_mean: shape.of_mean, losses })
}

/// Writes the tags that can be written, `edge` otherwise or not at all; says where `le` stands.
fn render_tags(
    series: &Series,
    edge: Option<&(&str, Option<String>)>,
    text: &mut Vec<u8>,
    losses: &mut LossSet,
) -> Option<Range<u32>> {
    let mut tags: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(series.labels.len());
    for pair in &series.labels {
        let value = match edge.filter(|(key, _)| *key == &*pair.name) {
            Some((_, None)) => continue,
            Some((_, Some(value))) if *value != *pair.value => {
                losses.insert(Loss::ValueSanitised);
                value
            }
            _ => &*pair.value,
        };
        let tag = (carried(&pair.name), carried(value));
        if tag.0.is_empty() || tag.1.is_empty() {
            losses.insert(Loss::LabelDropped);
            continue;
        }
        if matches!(tag.0, Cow::Owned(_)) {
            losses.insert(Loss::LabelSanitised);
        }
        if matches!(tag.1, Cow::Owned(_)) {
            losses.insert(Loss::ValueSanitised);
        }
        tags.push(tag);
    }
    if losses.contains(Loss::LabelSanitised) {
        tags.sort_by(|(left, _), (right, _)| left.cmp(right));
        let before = tags.len();
        tags.dedup_by(|(later, _), (first, _)| later == first);
        if tags.len() < before {
            losses.insert(Loss::LabelDropped);
        }
    }
    let mut le = None;
    for (key, value) in &tags {
        let start = text.len();
        text.push(b',');
        escape(text, key, b",= ");
        text.push(b'=');
        escape(text, value, b",= ");
        if key == "le" {
            le = Some(start as u32..text.len() as u32);
        }
    }
    le
}

/// A tag key or value as far as it can be carried; owned when it was altered, empty when nothing is left.
fn carried(text: &str) -> Cow<'_, str> {
    if is_carried(text) || text.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 1);
    for c in text.trim_end_matches('\\').chars() {
        match c {
            '\t' => clean.push_str("\\t"),
            '\n' => clean.push_str("\\n"),
            '\x0c' => clean.push_str("\\f"),
            '\r' => clean.push_str("\\r"),
            c if c.is_ascii_control() => clean.push('_'),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}
