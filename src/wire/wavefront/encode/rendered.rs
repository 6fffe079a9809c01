//! A series to what stands in every one of its lines: name, source and tags, and what they lose by it.

use super::options::{Names, Options};
use super::sanitise::{dotted, fitted, push_quoted, sanitise_name, sanitise_plain, sanitise_value, within};
use crate::model::{Dialect, Loss, LossSet, Series};
use crate::wire::shared::SharedText;
use crate::wire::wavefront::decode::SOURCE_LABEL;
use crate::wire::wavefront::observed::Before;
use crate::wire::wavefront::validate::{Limits, TAG_LENGTH_MAX, is_all_blank, is_delta_name, utf16_length};
use std::borrow::Cow;

/// A series as it stands in every one of its lines.
#[derive(Debug)]
pub struct Rendered {
    /// `"name"` and a space; series of other tags have the same.
    name: SharedText,
    /// ` source="..." "key"="value"` and so on, without a line end.
    tags: SharedText,
    /// Where the last tag begins, if there are as many as the destination takes: a bucket's `le` takes its place.
    last_tag: Option<u32>,
    name_length_max: u32,
    pub(super) is_delta: bool,
    losses: LossSet,
    /// For histograms that become distributions.
    pub(super) before: Before,
}

impl Rendered {
    /// What names the series at the destination.
    pub fn identity(&self) -> Vec<u8> {
        [&**self.name(), self.tags()].concat()
    }

    /// What every sample of the series loses.
    #[inline]
    pub fn losses(&self) -> LossSet {
        self.losses
    }

    #[inline]
    pub(super) fn name(&self) -> &SharedText {
        &self.name
    }

    /// Source and tags.
    #[inline]
    pub fn tags(&self) -> &SharedText {
        &self.tags
    }

    /// The tags, with room for one more.
    pub(super) fn tags_before_bound(&self) -> &[u8] {
        &self.tags[..self.last_tag.map_or(self.tags.len(), |at| at as usize)]
    }

    /// The name with something behind it, still within the limit.
    pub(super) fn name_with(&self, suffix: &str) -> String {
        let name = String::from_utf8_lossy(&self.name[1..self.name.len() - 2]);
        let room = (self.name_length_max as usize).saturating_sub(suffix.len());
        format!("\"{}{suffix}\" ", fitted(&name, room).unwrap_or(name))
    }
}

/// Names a series for Wavefront. An error says why no sample of it can be sent.
pub fn render(series: &Series, options: &Options) -> Result<Rendered, Loss> {
    let mut losses = LossSet::NONE;
    if series.metadata.is_some() {
        losses.insert(Loss::Metadata);
    }
    let name_length_max = options.limits.metric_length_max.min(options.limits.histogram_length_max);
    let name = render_name(series, options.style.names, name_length_max, &mut losses)?;
    let source = source_of(series, options, &mut losses)?;
    let tags = render_tags(series, source.used_up, &options.limits, &mut losses);

    let (mut quoted, mut text) = (Vec::new(), Vec::with_capacity(64 + 32 * tags.len()));
    push_quoted(&mut quoted, &name);
    quoted.push(b' ');
    text.extend_from_slice(b" source=");
    push_quoted(&mut text, &source.text);
    let mut last_tag = None;
    for (key, value) in &tags {
        last_tag = Some(text.len() as u32);
        text.push(b' ');
        push_quoted(&mut text, key);
        text.push(b'=');
        push_quoted(&mut text, value);
    }
    Ok(Rendered {
        name: options.texts.share(&quoted),
        tags: options.texts.share(&text),
        last_tag: last_tag.filter(|_| tags.len() >= options.limits.tags_max),
        name_length_max: u32::try_from(name_length_max).unwrap_or(u32::MAX),
        is_delta: is_delta_name(&name),
        losses,
        before: Before::default(),
    })
}

fn render_name(series: &Series, names: Names, length_max: usize, losses: &mut LossSet) -> Result<String, Loss> {
    let measurement = series.name.measurement();
    let whole = match series.name.field_key() {
        None | Some("value") => Cow::from(measurement),
        Some(field) => Cow::from(format!("{measurement}.{field}")),
    };
    if whole.is_empty() {
        return Err(Loss::UnusableName);
    }
    let clean = match series.dialect {
        Dialect::Wavefront => sanitise_name(&whole),
        Dialect::Prometheus | Dialect::Influx if names == Names::Dotted => dotted(&whole),
        Dialect::Prometheus | Dialect::Influx => sanitise_plain(&whole),
    };
    if clean != whole {
        losses.insert(Loss::NameSanitised);
    }
    Ok(within(clean, length_max, losses).into_owned())
}

struct Source<'a> {
    text: Cow<'a, str>,
    /// The label that is the source now and no tag any more.
    used_up: Option<&'a str>,
}

fn source_of<'a>(series: &'a Series, options: &'a Options, losses: &mut LossSet) -> Result<Source<'a>, Loss> {
    for wanted in &options.source_labels {
        let Some(value) = series.label(wanted) else { continue };
        let text = sanitise_value(value);
        if is_all_blank(&text) {
            continue;
        }
        if text != value {
            losses.insert(Loss::ValueSanitised);
        }
        let used_up = (wanted == SOURCE_LABEL || wanted == "host").then_some(wanted.as_str());
        return Ok(Source { text: within(text, options.limits.source_length_max, losses), used_up });
    }
    let text = sanitise_value(&options.default_source);
    if is_all_blank(&text) {
        return Err(Loss::UnusableName);
    }
    let mut unseen = LossSet::NONE;
    Ok(Source { text: within(text, options.limits.source_length_max, &mut unseen), used_up: None })
}

fn render_tags<'a>(
    series: &'a Series,
    used_up: Option<&str>,
    limits: &Limits,
    losses: &mut LossSet,
) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
    let mut tags = Vec::with_capacity(series.labels.len());
    for label in series.labels.iter().filter(|label| Some(&*label.name) != used_up) {
        let value = sanitise_value(&label.value);
        // A `source` that is not the source has nowhere to go: the proxy would take it for one.
        if is_all_blank(&value) || label.name.is_empty() || &*label.name == SOURCE_LABEL {
            losses.insert(Loss::LabelDropped);
            continue;
        }
        if value != *label.value {
            losses.insert(Loss::ValueSanitised);
        }
        let key = match (&*label.name, series.dialect) {
            ("host", _) => Cow::from("host.name"),
            ("tag", _) => Cow::from("_tag"),
            (name, Dialect::Wavefront) => sanitise_name(name),
            (name, Dialect::Prometheus | Dialect::Influx) => sanitise_plain(name),
        };
        if key != *label.name {
            losses.insert(Loss::LabelSanitised);
        }
        let key = within(key, limits.key_length_max, losses);
        let room = TAG_LENGTH_MAX.saturating_sub(utf16_length(&key));
        let value = within(value, limits.value_length_max.min(room), losses);
        tags.push((key, value));
    }
    tags.sort_by(|(left, _), (right, _)| left.cmp(right));
    let before = tags.len();
    tags.dedup_by(|(later, _), (first, _)| later == first);
    tags.truncate(limits.tags_max);
    if tags.len() < before {
        losses.insert(Loss::LabelDropped);
    }
    tags
}
