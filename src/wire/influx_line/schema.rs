//! How series of Prometheus become rows, where there is more than one custom.
//!
//! ```text
//!          x_bucket{a="b",le="0.5"} 3        x_sum{a="b"} 9      c_total{a="b"} 1      g{a="b"} 1
//! flat     x_bucket,a=b,le=0.5 value=3       x_sum,a=b value=9   c_total,a=b value=1   g,a=b value=1
//! family   x,a=b 0.5=3,...,+Inf=4,sum=9,count=4                  c_total,a=b counter=1 g,a=b gauge=1
//! single   prometheus,a=b,le=0.5 x_bucket=3  prometheus,a=b      prometheus,a=b        prometheus,a=b
//!                                              x_sum=9,x_count=4   c_total=1             g=1
//! ```
//!
//! * `flat` keeps names and labels as they are, needs to know nothing, and is undone by the rule that the field `value` is the
//!   measurement itself. It is the default, and what series of other dialects are written as in any case.
//! * `family` is Telegraf's `metric_version = 1`. It needs the types of families: a series whose type is not known, or not
//!   known yet, is written flat.
//! * `single` is Telegraf's `metric_version = 2`.
//!
//! Both rewrite bounds and quantiles as Go prints numbers (`1e+06`, `0.5`), because that is what existing rows have.
//!
//! A row of a family is put together from samples that follow each other in a body: the same tags, the same timestamp. Nothing
//! waits for the rest, and nothing is lost where it comes later, or in another request: that is a further line with the same
//! measurement, tags and timestamp, and InfluxDB puts the fields of such lines into one point.
//!
//! So is a row of a meter that came in another dialect ([`crate::micrometer`]). Its series are of line protocol and have
//! metadata, which no series has that came as a line. A row with the sum and the count of a timer or summary gets its mean, which
//! Micrometer's own rows have.

use super::token::{is_measurement, write_float};
use crate::model::{Dialect, MetricType, Series};
use crate::wire::style::{self, Preset, one_of};
use std::borrow::Cow;

/// The tag by which rows of Micrometer tell the type of their meter.
pub const METRIC_TYPE: &str = "metric_type";

/// How series of Prometheus become rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Style {
    /// Which custom is followed.
    pub schema: Schema,
    /// The measurement of [`Schema::Single`].
    pub measurement: String,
    /// How a native histogram is written.
    pub native_histograms: NativeHistograms,
}

impl Default for Style {
    fn default() -> Self {
        let (schema, native_histograms) = (Schema::default(), NativeHistograms::default());
        Self { schema, measurement: "prometheus".to_owned(), native_histograms }
    }
}

/// `schema`: see the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schema {
    /// A measurement a metric, with the field `value`.
    #[default]
    Flat,
    /// A measurement a family, with its parts as fields.
    Family,
    /// One measurement, with a field a metric.
    Single,
}

/// `native_histograms`: how one is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NativeHistograms {
    /// As the classic histogram with its buckets, by the schema.
    #[default]
    Buckets,
    /// As one row with all there is to know: cumulative buckets, spans, bucket counts, schema, zero bucket. Telegraf reads
    /// it back as a native histogram. With [`Schema::Single`] the fields begin with the metric's name.
    Fields,
}

impl style::Style for Style {
    const KEYS: &'static [&'static str] = &["schema", "measurement", "native_histograms"];

    fn of(preset: Preset) -> Option<Self> {
        let (schema, native_histograms) = match preset {
            Preset::TelegrafV1 => (Schema::Family, NativeHistograms::Fields),
            Preset::TelegrafV2 => (Schema::Single, NativeHistograms::Buckets),
            Preset::Vmagent | Preset::Vector => return None,
        };
        Some(Self { schema, native_histograms, ..Self::default() })
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "schema" => {
                let spellings = [("flat", Schema::Flat), ("family", Schema::Family), ("single", Schema::Single)];
                self.schema = one_of(&spellings, text)?;
            }
            "measurement" if !is_measurement(text) => {
                return Err("expected a measurement that line protocol can carry".to_owned());
            }
            "measurement" => text.clone_into(&mut self.measurement),
            _ => {
                let spellings = [("buckets", NativeHistograms::Buckets), ("fields", NativeHistograms::Fields)];
                self.native_histograms = one_of(&spellings, text)?;
            }
        }
        Ok(())
    }
}

impl Style {
    /// Whether names depend on the types of families.
    pub fn needs_types(&self) -> bool {
        self.schema != Schema::Flat
    }
}

/// What a series is as a row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape<'a> {
    pub(super) measurement: Cow<'a, str>,
    pub(super) field: Cow<'a, str>,
    /// A label that is written otherwise: not at all, or with another value.
    pub(super) edge: Option<(&'static str, Option<String>)>,
    /// Whether samples that follow each other share a line; with [`Schema::Single`], those whose field begins with that many
    /// bytes of the family's name.
    pub(super) shares: Option<usize>,
    /// What it is of the mean that its row gets.
    pub(super) of_mean: Option<OfMean>,
}

/// What a mean is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfMean {
    Sum,
    Count,
}

/// Names a series.
pub(super) fn shape<'a>(series: &'a Series, style: &'a Style) -> Shape<'a> {
    let name = series.name.measurement();
    let field = series.name.field_key().unwrap_or("value");
    let flat = || Shape { measurement: name.into(), field: field.into(), edge: None, shares: None, of_mean: None };
    match series.dialect {
        Dialect::Prometheus => {}
        Dialect::Influx if series.metadata.is_some() => {
            let of_mean = match (series.label(METRIC_TYPE), field) {
                (Some("histogram"), "sum") => Some(OfMean::Sum),
                (Some("histogram"), "count") => Some(OfMean::Count),
                _ => None,
            };
            return Shape { shares: Some(0), of_mean, ..flat() };
        }
        Dialect::Influx | Dialect::Wavefront => return flat(),
    }
    match style.schema {
        Schema::Flat => flat(),
        Schema::Family => family(series).unwrap_or_else(flat),
        Schema::Single => Shape {
            measurement: style.measurement.as_str().into(),
            field: name.into(),
            edge: part(series).and_then(|part| edge(series, part)).map(|(key, text)| (key, Some(text))),
            shares: part(series).filter(|part| matches!(part.suffix, "_sum" | "_count")).map(|part| part.family.len()),
            of_mean: None,
        },
    }
}

/// A series by the type of its family; none where that is not known or has no place in the schema.
fn family(series: &Series) -> Option<Shape<'_>> {
    let name = series.name.measurement();
    let metadata = series.metadata.as_deref()?;
    let plain = |field: &'static str| {
        let (measurement, field) = (name.into(), field.into());
        Shape { measurement, field, edge: None, shares: None, of_mean: None }
    };
    match (metadata.metric_type, metadata.suffix_of(name)?) {
        (MetricType::Counter, "" | "_total") => return Some(plain("counter")),
        (MetricType::Gauge, "") => return Some(plain("gauge")),
        _ => {}
    }
    let part = part(series)?;
    let (field, edge): (Cow<'_, str>, _) = match part.suffix {
        "_sum" => ("sum".into(), None),
        "_count" => ("count".into(), None),
        "" if part.native => ("value".into(), None),
        _ => {
            let (key, text) = edge(series, part)?;
            (text.into(), Some((key, None)))
        }
    };
    Some(Shape { measurement: part.family.into(), field, edge, shares: Some(0), of_mean: None })
}

/// A part of a histogram or summary.
#[derive(Clone, Copy)]
struct Part<'a> {
    family: &'a str,
    suffix: &'static str,
    /// The whole of a native histogram.
    native: bool,
}

fn part(series: &Series) -> Option<Part<'_>> {
    let name = series.name.measurement();
    let metadata = series.metadata.as_deref()?;
    let native = metadata.metric_type == MetricType::Histogram && name == &*metadata.family;
    let suffix = match metadata.metric_type {
        MetricType::Histogram if native => "",
        MetricType::Histogram | MetricType::Summary => metadata.suffix_of(name)?,
        _ => return None,
    };
    (suffix != "_created").then(|| Part { family: &name[..name.len() - suffix.len()], suffix, native })
}

/// The bound or quantile of a part, with its label, as Go prints it.
fn edge(series: &Series, part: Part<'_>) -> Option<(&'static str, String)> {
    let label = match part.suffix {
        "_bucket" => "le",
        "" if !part.native => "quantile",
        _ => return None,
    };
    let bound: f64 = series.label(label)?.parse().ok()?;
    let mut text = Vec::new();
    write_bound(&mut text, bound);
    (!bound.is_nan()).then(|| (label, String::from_utf8(text).unwrap_or_default()))
}

/// A number as Go prints it.
pub(super) fn write_bound(out: &mut Vec<u8>, bound: f64) {
    match bound {
        f64::INFINITY => out.extend_from_slice(b"+Inf"),
        f64::NEG_INFINITY => out.extend_from_slice(b"-Inf"),
        finite => write_float(out, finite),
    }
}
