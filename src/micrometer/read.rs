//! A series to what it tells of which meter.

use super::meters::{Kind, Known, Meter};
use super::statistics::{Edge, STATISTICS, Shape, Statistic};
use super::text::{DATA_FLOW_TAGS, edge_label};
use super::{Mode, Profile};
use crate::model::{Dialect, MetricType, Series};
use crate::wire::influx_line::schema::METRIC_TYPE;

/// The tag that tells the statistic of a meter in Wavefront, and of a custom meter in Prometheus.
pub(super) const STATISTIC: &str = "statistic";
/// What it is called in Prometheus when it is measured in time.
const SECONDS: &str = "_seconds";

/// What a series tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    pub(super) dialect: Dialect,
    pub(super) statistic: &'static Statistic,
    /// The meter's name as its dialect spells it, without unit and without what tells the statistic.
    pub(super) name: &'a str,
    /// The meter, if it is known.
    pub(super) meter: Option<&'a Meter>,
    /// Whether the meter is measured in time.
    pub(super) timed: bool,
    /// Whether a counter tells what was added.
    pub(super) counts_deltas: bool,
    /// The bound of a bucket or the percentile, as written.
    pub(super) edge: Option<&'a str>,
}

impl Reading<'_> {
    /// Whether a label belongs to how the dialect spells the statistic, and not to the meter.
    pub(super) fn is_spelling(&self, label: &str) -> bool {
        let of_edge = self.statistic.edge.is_some_and(|edge| edge_label(edge, self.dialect) == label);
        of_edge
            || match self.dialect {
                Dialect::Influx => label == METRIC_TYPE,
                Dialect::Wavefront => label == STATISTIC,
                Dialect::Prometheus => label == STATISTIC && self.statistic.shape == Shape::Other,
            }
    }
}

/// What a series tells; none where it is not of Micrometer.
pub(super) fn read<'a>(profile: &'a Profile, series: &'a Series) -> Option<Reading<'a>> {
    if profile.mode == Mode::Never {
        return None;
    }
    match series.dialect {
        Dialect::Prometheus => prometheus(profile, series),
        Dialect::Influx => influx(profile, series),
        Dialect::Wavefront => wavefront(profile, series),
    }
}

/// Whether the series has the label that the statistic asks for.
fn has_edge(statistic: &Statistic, series: &Series) -> bool {
    statistic.edge.is_none() || edge_of(statistic, series).is_some()
}

/// The value of the label that tells the statistics of one name apart.
fn edge_of<'a>(statistic: &Statistic, series: &'a Series) -> Option<&'a str> {
    series.label(edge_label(statistic.edge?, series.dialect))
}

fn is_of_data_flow(series: &Series) -> bool {
    let has = |tag: &str| {
        series.label(tag).is_some()
            || series.dialect == Dialect::Wavefront && series.label(&tag.replace('_', ".")).is_some()
    };
    DATA_FLOW_TAGS.iter().any(|tags| tags.iter().all(|tag| has(tag)))
}

fn is_own(known: Option<&Known>) -> bool {
    known.is_some_and(|known| known.is_own)
}

/// Whether the long tasks of that name are timed. Observations of Spring name theirs `<name>.active`.
fn is_of_long_tasks(known: Option<&Known>, name: &str) -> bool {
    known
        .map_or(name.ends_with(".active") || name.ends_with("_active"), |known| known.meter.kind == Kind::LongTaskTimer)
}

/// Whether a meter is measured in time, where only the table and the end of its name can tell.
fn is_timed(shape: Shape, known: Option<&Known>, name: &str) -> bool {
    let meter = known.map(|known| &known.meter);
    match shape {
        Shape::Gauge => meter.is_some_and(|meter| meter.kind == Kind::TimeGauge),
        Shape::Counter | Shape::Other => false,
        Shape::LongTasks => true,
        Shape::Distribution => match meter {
            Some(meter) => meter.kind.is_timed() || meter.kind != Kind::Summary && meter.unit.is_empty(),
            None => !name.ends_with("bytes"),
        },
    }
}

fn influx<'a>(profile: &'a Profile, series: &'a Series) -> Option<Reading<'a>> {
    let (name, field) = (series.name.measurement(), series.name.field_key()?);
    let told = match series.label(METRIC_TYPE) {
        // That of older registries.
        Some("unknown") => Some("other"),
        told => told,
    };
    let metric_type = told.or_else(|| {
        let known = profile.meters.find(Dialect::Influx, name);
        (profile.mode == Mode::Always || is_own(known)).then(|| untold(known, field))
    })?;
    let (statistic, stem) = STATISTICS.iter().find_map(|statistic| {
        let (suffix, of, key) = statistic.influx?;
        let stem = name.strip_suffix(suffix).filter(|stem| !stem.is_empty() && (of, key) == (metric_type, field))?;
        has_edge(statistic, series).then_some((statistic, stem))
    })?;
    let known = profile.meters.find(Dialect::Influx, stem);
    let timed = is_timed(statistic.shape, known, stem);
    let (meter, edge) = (known.map(|known| &known.meter), edge_of(statistic, series));
    Some(Reading { dialect: Dialect::Influx, statistic, name: stem, meter, timed, counts_deltas: true, edge })
}

/// The type of a meter whose row does not tell it.
fn untold(known: Option<&Known>, field: &str) -> &'static str {
    match known.map(|known| known.meter.kind) {
        Some(Kind::Counter) => "counter",
        Some(Kind::LongTaskTimer) => "long_task_timer",
        Some(Kind::Other) => "other",
        _ if field == "value" => "gauge",
        _ => "histogram",
    }
}

fn wavefront<'a>(profile: &'a Profile, series: &'a Series) -> Option<Reading<'a>> {
    let name = series.name.measurement();
    let plain = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
    if plain.is_empty() || plain.starts_with('~') {
        return None;
    }
    let counts_deltas = plain.len() < name.len();
    let find = |name: &str| profile.meters.find(Dialect::Wavefront, name);
    let reading = |statistic: &'static Statistic, name: &'a str| {
        let known = find(name);
        let (timed, edge) = (is_timed(statistic.shape, known, name), edge_of(statistic, series));
        let (dialect, meter) = (Dialect::Wavefront, known.map(|known| &known.meter));
        Reading { dialect, statistic, name, meter, timed, counts_deltas, edge }
    };
    let is_expected = profile.mode == Mode::Always || is_of_data_flow(series);
    if counts_deltas {
        let statistic = of_shape(Shape::Counter)?;
        return (is_expected || is_own(find(plain))).then(|| reading(statistic, plain));
    }
    let told = series.label(STATISTIC);
    let found = STATISTICS.iter().find_map(|statistic| {
        let (suffix, of) = statistic.wavefront?;
        let stem = name.strip_suffix(suffix).filter(|stem| !stem.is_empty() && of == told.unwrap_or_default())?;
        let known = find(stem);
        let fits = match statistic.shape {
            Shape::LongTasks => !matches!(suffix, ".max" | ".avg") || is_of_long_tasks(known, stem),
            Shape::Other => true,
            _ => known.is_none_or(|known| known.meter.kind != Kind::Other),
        };
        (fits && has_edge(statistic, series)).then(|| (reading(statistic, stem), known))
    });
    if let Some((found, known)) = found {
        return (told.is_some() || known.is_some() || is_expected).then_some(found);
    }
    let known = find(name);
    let shape = match known.map(|known| known.meter.kind) {
        None | Some(Kind::Gauge | Kind::TimeGauge) => Shape::Gauge,
        Some(Kind::Counter) => Shape::Counter,
        Some(Kind::Timer | Kind::Summary | Kind::LongTaskTimer | Kind::Other) => return None,
    };
    // A point of Micrometer tells its statistic, by the tag or by its name.
    (profile.mode == Mode::Always || is_own(known)).then_some(reading(of_shape(shape)?, name))
}

/// The timer or summary whose distributions a series of Wavefront has; which statistic is to be said.
pub(super) fn distributed<'a>(profile: &'a Profile, series: &'a Series) -> Option<Reading<'a>> {
    let name = series.name.measurement();
    if profile.mode == Mode::Never || series.dialect != Dialect::Wavefront || name.starts_with(['∆', 'Δ', '~']) {
        return None;
    }
    let known = profile.meters.find(Dialect::Wavefront, name);
    let is_one = match known.map(|known| known.meter.kind) {
        Some(kind) => matches!(kind, Kind::Timer | Kind::Summary),
        // Those of long tasks are of what runs at the moment.
        None if is_of_long_tasks(None, name) => false,
        None => profile.mode == Mode::Always || is_of_data_flow(series),
    };
    let (shape, dialect) = (Shape::Distribution, Dialect::Wavefront);
    let (statistic, timed) = (of_shape(shape)?, is_timed(shape, known, name));
    let meter = known.map(|known| &known.meter);
    is_one.then_some(Reading { dialect, statistic, name, meter, timed, counts_deltas: true, edge: None })
}

fn of_shape(shape: Shape) -> Option<&'static Statistic> {
    STATISTICS.iter().find(|statistic| statistic.shape == shape)
}

fn prometheus<'a>(profile: &'a Profile, series: &'a Series) -> Option<Reading<'a>> {
    let name = series.name.measurement();
    let is_expected = profile.mode == Mode::Always || is_of_data_flow(series);
    if !is_expected && profile.meters.own() == 0 {
        // Nearly every series ends here, each at its first sight.
        return None;
    }
    let declared = series.metadata.as_deref().filter(|metadata| &*metadata.family == name);
    let declared = declared.map(|metadata| metadata.metric_type);
    let is_native = matches!(declared, Some(MetricType::Histogram | MetricType::GaugeHistogram));
    if name.is_empty() || is_native || declared == Some(MetricType::StateSet) {
        return None;
    }
    let find = |base: &str| profile.meters.find(Dialect::Prometheus, base);
    let of_custom = series.label(STATISTIC).filter(|told| {
        STATISTICS.iter().any(|statistic| statistic.prometheus.is_some_and(|(_, _, of)| of == *told && !of.is_empty()))
    });
    let is_known_gauge = find(name).is_some_and(|known| matches!(known.meter.kind, Kind::Gauge | Kind::TimeGauge));
    let found = STATISTICS.iter().filter(|statistic| statistic.shape != Shape::Gauge).find_map(|statistic| {
        let (_, _, of) = statistic.prometheus?;
        if of != of_custom.unwrap_or_default() || is_known_gauge && statistic.edge.is_none() {
            return None;
        }
        let (base, suffix) = statistic.prometheus_base(name)?;
        let known = find(base);
        let in_time = base.ends_with(SECONDS);
        let is_of_long_tasks = is_of_long_tasks(known, base.strip_suffix(SECONDS).unwrap_or(base));
        let fits = match (statistic.shape, suffix) {
            _ if statistic.edge.is_some() => true,
            (Shape::LongTasks, "_active_count" | "_duration_sum") => in_time,
            (Shape::LongTasks, _) => in_time && is_of_long_tasks,
            // A summary's largest value is declared as a gauge, too.
            (Shape::Distribution, "_max") => {
                in_time || base.ends_with("_bytes") || known.is_some_and(|known| known.meter.kind == Kind::Summary)
            }
            (Shape::Distribution, _) => declared != Some(MetricType::Gauge),
            _ => true,
        };
        (fits && !base.is_empty() && has_edge(statistic, series)).then_some((statistic, base))
    });
    let (statistic, base) = match found {
        Some(found) => found,
        None => (of_shape(Shape::Gauge)?, name),
    };
    let known = find(base);
    if !is_expected && !is_own(known) {
        return None;
    }
    let (meter, edge) = (known.map(|known| &known.meter), edge_of(statistic, series));
    let stem = base.strip_suffix(SECONDS).filter(|stem| !stem.is_empty());
    let can_be_timed = !matches!(statistic.shape, Shape::Counter | Shape::Other);
    let timed = can_be_timed && meter.map_or(stem.is_some(), |meter| meter.kind.is_timed());
    let name = match (statistic.shape, stem) {
        (Shape::Counter, _) if profile.meters.says_total(base) => name,
        (_, Some(stem)) if timed => stem,
        _ => base,
    };
    let dialect = Dialect::Prometheus;
    Some(Reading { dialect, statistic, name, meter, timed, counts_deltas: false, edge })
}

/// Whether a bucket's bound takes everything: of such, there is the count.
pub(super) fn is_of_all(reading: &Reading<'_>) -> bool {
    reading.statistic.edge == Some(Edge::Bound) && reading.edge.is_some_and(super::text::is_infinite)
}
