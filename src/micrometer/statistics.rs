//! How each dialect spells each statistic of each shape of meter: the one table that series are read and written by.

use super::PrometheusRegistry;
use crate::model::MetricType;
use MetricType::{Counter as C, Gauge as G, Histogram as H, Summary as S};
use Runs::{Beside, Counting, Derived, Instant};
use Shape::{Counter, Distribution, Gauge, LongTasks, Other};

/// What kind of meter a statistic is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A gauge, of time or of something else.
    Gauge,
    /// A counter.
    Counter,
    /// A timer or a summary.
    Distribution,
    /// A long task timer.
    LongTasks,
    /// A custom meter.
    Other,
}

/// How a statistic runs over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Runs {
    /// Each value stands for itself.
    Instant,
    /// It counts: by steps in line protocol, from the start elsewhere.
    Counting,
    /// It stands for itself beside counters.
    Beside,
    /// It follows from others.
    Derived,
}

/// What tells the statistics of one name apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The upper bound of a bucket: `le`.
    Bound,
    /// A percentile: `quantile` in Prometheus, `phi` elsewhere.
    Percentile,
}

/// By the registry on client 1.x but for long task timers: behind the name with its unit; its type; the value of the label `statistic`, which custom meters have.
type Prometheus = (&'static str, MetricType, &'static str);
/// Behind the name; the tag `metric_type`; the field.
type Influx = (&'static str, &'static str, &'static str);
/// Behind the name; the tag `statistic`, empty where there is none.
type Wavefront = (&'static str, &'static str);

/// One statistic.
#[derive(Debug)]
pub(super) struct Statistic {
    pub(super) shape: Shape,
    pub(super) runs: Runs,
    /// Whether it is measured in time where the meter is.
    pub(super) timed: bool,
    pub(super) edge: Option<Edge>,
    /// Its spellings; none where the dialect does not have it.
    pub(super) prometheus: Option<Prometheus>,
    pub(super) influx: Option<Influx>,
    pub(super) wavefront: Option<Wavefront>,
}

/// In the order in which they are looked for: of two that a series could be, the one that says more stands first. A long task
/// timer's longest task is not in rows of Micrometer; a row has room for it. Custom meters are told as they measure themselves.
#[rustfmt::skip]
pub(super) static STATISTICS: [Statistic; 20] = [
    //    of            runs      in time  by                  Prometheus                             line protocol                                     Wavefront
    bound(Distribution, Counting,                              ("_bucket", H, ""),                    ("_histogram", "gauge", "value"),                 (".histogram", "value")),
    share(Distribution, Beside,                                ("", S, ""),                           ("_percentile", "gauge", "value"),                (".percentile", "value")),
    plain(Gauge,        Instant,  true,    Some(("", G, "")),                     Some(("", "gauge", "value")),                     ("", "value")),
    plain(Counter,      Counting, false,   Some(("_total", C, "")),               Some(("", "counter", "value")),                   ("", "count")),
    plain(LongTasks,    Instant,  false,   Some(("_active_count", G, "")),        Some(("", "long_task_timer", "active_tasks")),    (".active", "")),
    plain(LongTasks,    Instant,  true,    Some(("_duration_sum", G, "")),        Some(("", "long_task_timer", "duration")),        (".duration", "")),
    plain(LongTasks,    Instant,  true,    Some(("_max", G, "")),                 Some(("", "long_task_timer", "upper")),           (".max", "")),
    plain(LongTasks,    Derived,  true,    None,                                  None,                                             (".avg", "")),
    plain(Distribution, Counting, false,   Some(("_count", S, "")),               Some(("", "histogram", "count")),                 (".count", "")),
    plain(Distribution, Counting, true,    Some(("_sum", S, "")),                 Some(("", "histogram", "sum")),                   (".sum", "")),
    plain(Distribution, Beside,   true,    Some(("_max", G, "")),                 Some(("", "histogram", "upper")),                 (".max", "")),
    plain(Distribution, Derived,  true,    None,                                  Some(("", "histogram", "mean")),                  (".avg", "")),
    plain(Other,        Instant,  false,   Some(("_total", C, "COUNT")),          Some(("", "other", "count")),                     ("", "count")),
    plain(Other,        Instant,  false,   Some(("_sum_total", C, "TOTAL")),      Some(("", "other", "total")),                     ("", "total")),
    plain(Other,        Instant,  false,   Some(("_sum_total", C, "TOTAL_TIME")), Some(("", "other", "total")),                     ("", "total")),
    plain(Other,        Instant,  false,   Some(("_max", G, "MAX")),              Some(("", "other", "max")),                       ("", "max")),
    plain(Other,        Instant,  false,   Some(("_value", G, "VALUE")),          Some(("", "other", "value")),                     ("", "value")),
    plain(Other,        Instant,  false,   Some(("_value", G, "UNKNOWN")),        Some(("", "other", "unknown")),                   ("", "unknown")),
    plain(Other,        Instant,  false,   Some(("_active_count", G, "ACTIVE_TASKS")), Some(("", "other", "active")),               ("", "active")),
    plain(Other,        Instant,  false,   Some(("_duration_sum", G, "DURATION")), Some(("", "other", "duration")),                 ("", "duration")),
];

const fn bound(shape: Shape, runs: Runs, prometheus: Prometheus, influx: Influx, wavefront: Wavefront) -> Statistic {
    let (influx, wavefront) = (Some(influx), Some(wavefront));
    Statistic { shape, runs, timed: false, edge: Some(Edge::Bound), prometheus: Some(prometheus), influx, wavefront }
}

const fn share(shape: Shape, runs: Runs, prometheus: Prometheus, influx: Influx, wavefront: Wavefront) -> Statistic {
    let (influx, wavefront) = (Some(influx), Some(wavefront));
    Statistic {
        shape,
        runs,
        timed: true,
        edge: Some(Edge::Percentile),
        prometheus: Some(prometheus),
        influx,
        wavefront,
    }
}

const fn plain(
    shape: Shape,
    runs: Runs,
    timed: bool,
    prometheus: Option<Prometheus>,
    influx: Option<Influx>,
    wavefront: Wavefront,
) -> Statistic {
    Statistic { shape, runs, timed, edge: None, prometheus, influx, wavefront: Some(wavefront) }
}

impl Statistic {
    /// What it has behind its name in Prometheus, and its type there. The older registry knows no types of custom meters.
    pub(super) fn prometheus_suffix(&self, registry: PrometheusRegistry) -> Option<(&'static str, MetricType)> {
        use PrometheusRegistry::{Client1, Simpleclient};
        let (suffix, metric_type, _) = self.prometheus?;
        Some(match (registry, self.shape, suffix) {
            (Client1, LongTasks, "_active_count") => ("_count", metric_type),
            (Client1, LongTasks, "_duration_sum") => ("_sum", metric_type),
            (Simpleclient, Other, "_total" | "_value") => ("", MetricType::Unknown),
            (Simpleclient, Other, "_sum_total") => ("_sum", MetricType::Unknown),
            (Simpleclient, Other, _) => (suffix, MetricType::Unknown),
            _ => (suffix, metric_type),
        })
    }

    /// What a name has in front of what either registry puts behind it; the longer one, if both could.
    pub(super) fn prometheus_base<'n>(&self, name: &'n str) -> Option<(&'n str, &'static str)> {
        let suffixes =
            PrometheusRegistry::SPELLINGS.into_iter().filter_map(|(_, registry)| self.prometheus_suffix(registry));
        let bases = suffixes.filter_map(|(suffix, _)| Some((name.strip_suffix(suffix)?, suffix)));
        bases.min_by_key(|(base, _)| base.len())
    }
}
