//! What a series tells of a meter to the series of another dialect.

use super::meters::with_unit;
use super::read::{Reading, STATISTIC, is_of_all};
use super::statistics::{Edge, Runs, Shape};
use super::text::{edge, edge_label, influx_name, key, plain_value, value, wavefront_name};
use super::{Profile, UnknownNames};
use crate::model::{Dialect, LabelPair, Loss, LossSet, Metadata, MetricType, Series, SeriesName};
use crate::wire::influx_line::schema::METRIC_TYPE;
use std::borrow::Cow;
use std::sync::Arc;

/// A series of the other dialect.
pub(super) struct Written {
    pub(super) series: Series,
    pub(super) losses: LossSet,
}

/// A name, its family, and the labels that belong to how a statistic is spelled.
struct Spelling {
    name: SeriesName,
    family: String,
    metric_type: MetricType,
    label: Option<(&'static str, &'static str)>,
}

/// Names what was read in another dialect.
pub(super) fn write(profile: &Profile, reading: &Reading<'_>, series: &Series, to: Dialect) -> Result<Written, Loss> {
    let spelling = match to {
        Dialect::Prometheus => prometheus(profile, reading),
        _ if is_of_all(reading) => return Err(Loss::Derived),
        Dialect::Influx => influx(reading),
        Dialect::Wavefront => wavefront(profile, reading),
    };
    let Spelling { name, family, metric_type, label } = spelling.ok_or(Loss::Derived)?;
    let mut labels: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::with_capacity(series.labels.len() + 1);
    labels.extend(label.map(|(name, value)| (name.into(), value.into())));
    let mut losses = LossSet::NONE;
    if let (Some(of), Some(text)) = (reading.statistic.edge, reading.edge) {
        let (text, is_same) = edge(text, of, digits(reading, to), to);
        if !is_same {
            losses.insert(Loss::ValueSanitised);
        }
        labels.push((edge_label(of, to).into(), text));
    }
    let dotted = profile.unknown_names == UnknownNames::Dotted;
    for pair in series.labels.iter().filter(|pair| !reading.is_spelling(&pair.name)) {
        let said = plain_value(&pair.value, series.dialect);
        let written = value(&said, to).into_owned();
        if plain_value(&written, to) != said {
            losses.insert(Loss::ValueSanitised);
        }
        labels.push((key(&pair.name, to, dotted).into(), written.into()));
    }
    // What spells the statistic stands first among equals.
    labels.sort_by(|(left, _), (right, _)| left.cmp(right));
    let before = labels.len();
    labels.dedup_by(|(later, _), (first, _)| later == first);
    if labels.len() < before {
        losses.insert(Loss::LabelDropped);
    }
    let pair = |(name, value): (Cow<'_, str>, Cow<'_, str>)| LabelPair { name: name.into(), value: value.into() };
    let help = series.metadata.as_ref().map(|metadata| metadata.help.clone()).unwrap_or_default();
    // Line protocol and Wavefront have no metadata. A series of line protocol with some was made here: it shares rows.
    let has_metadata = to != Dialect::Wavefront || !help.is_empty();
    let metadata = || Arc::new(Metadata { family: family.into(), metric_type, help, unit: "".into() });
    let series = Series {
        dialect: to,
        name,
        labels: labels.into_iter().map(pair).map(Arc::new).collect(),
        metadata: has_metadata.then(metadata),
        lane_key: series.lane_key,
    };
    Ok(Written { series, losses })
}

/// By how many digits the decimal point of a bucket's bound moves.
fn digits(reading: &Reading<'_>, to: Dialect) -> i32 {
    match (reading.dialect, to) {
        _ if !reading.timed || reading.statistic.edge != Some(Edge::Bound) => 0,
        (Dialect::Influx, _) => -3,
        (_, Dialect::Influx) => 3,
        _ => 0,
    }
}

fn prometheus(profile: &Profile, reading: &Reading<'_>) -> Option<Spelling> {
    let statistic = reading.statistic;
    let (_, _, label) = statistic.prometheus?;
    let unit = match (statistic.shape, reading.meter) {
        (Shape::Other, _) => "",
        _ if reading.timed => "seconds",
        (_, Some(meter)) => &meter.unit,
        (_, None) => "",
    };
    let base = with_unit(reading.meter.map_or(reading.name, |meter| &meter.name), unit);
    let (suffix, metric_type) = statistic.prometheus_suffix(profile.prometheus_registry)?;
    let name = match statistic.shape {
        Shape::Counter if base.ends_with(suffix) => base.clone(),
        _ => format!("{base}{suffix}"),
    };
    let is_of_family = matches!(metric_type, MetricType::Histogram | MetricType::Summary);
    let family = if is_of_family { base } else { name.clone() };
    let label = (!label.is_empty()).then_some((STATISTIC, label));
    Some(Spelling { name: SeriesName::metric(&name), family, metric_type, label })
}

fn influx(reading: &Reading<'_>) -> Option<Spelling> {
    let (suffix, metric_type, field) = reading.statistic.influx?;
    // The mean of a step is that of its row.
    if reading.statistic.runs == Runs::Derived {
        return None;
    }
    let measurement = influx_name(reading.meter.map_or(reading.name, |meter| &meter.name)) + suffix;
    let name = SeriesName::field(&measurement, field);
    let label = Some((METRIC_TYPE, metric_type));
    let metric_type = reading.statistic.prometheus.map_or(MetricType::Unknown, |(_, metric_type, _)| metric_type);
    Some(Spelling { name, family: measurement, metric_type, label })
}

fn wavefront(profile: &Profile, reading: &Reading<'_>) -> Option<Spelling> {
    let (suffix, label) = reading.statistic.wavefront?;
    let name = match reading.meter {
        Some(meter) => wavefront_name(&meter.name),
        None if profile.unknown_names == UnknownNames::Dotted || profile.meters.is_dotted(reading.name) => {
            wavefront_name(&reading.name.replace('_', "."))
        }
        None => wavefront_name(reading.name),
    };
    let family = name + suffix;
    let label = (!label.is_empty()).then_some((STATISTIC, label));
    Some(Spelling { name: SeriesName::metric(&family), family, metric_type: MetricType::Unknown, label })
}
