//! The meters that are known by name: their kinds and base units, which series do not tell.

use super::text::{influx_name, prometheus_name, wavefront_name};
use crate::model::Dialect;
use crate::wire::style::one_of;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The meters of Micrometer and Spring: `name kind unit`, separated by tabs.
const BUILT_IN: &str = include_str!("meters.tsv");

/// What kind of meter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A gauge.
    Gauge,
    /// A gauge of time.
    TimeGauge,
    /// A counter.
    Counter,
    /// A timer.
    Timer,
    /// A distribution summary.
    Summary,
    /// A long task timer.
    LongTaskTimer,
    /// A custom meter.
    Other,
}

impl Kind {
    /// All of them with their spelling. Function counters and function timers are told as counters and timers.
    pub const SPELLINGS: [(&'static str, Self); 9] = [
        ("counter", Self::Counter),
        ("function_counter", Self::Counter),
        ("gauge", Self::Gauge),
        ("time_gauge", Self::TimeGauge),
        ("timer", Self::Timer),
        ("function_timer", Self::Timer),
        ("summary", Self::Summary),
        ("long_task_timer", Self::LongTaskTimer),
        ("other", Self::Other),
    ];

    /// Whether it is measured in time.
    pub const fn is_timed(self) -> bool {
        matches!(self, Self::TimeGauge | Self::Timer | Self::LongTaskTimer)
    }
}

/// A meter of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meter {
    /// Its name as applications give it, in Micrometer with dots.
    pub name: Box<str>,
    /// What it is.
    pub kind: Kind,
    /// Its base unit, empty where it has none or is measured in time.
    pub unit: Box<str>,
}

/// A meter, and whether the user added it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) meter: Meter,
    pub(super) is_own: bool,
}

/// Names that begin alike.
#[derive(Debug)]
struct Namespace {
    /// With its dot as `_`.
    prefix: String,
    /// Whether the names of its counters end in `total` by themselves.
    says_total: bool,
}

/// The meters that are known.
#[derive(Debug)]
pub struct Meters {
    own: usize,
    prometheus: HashMap<String, Arc<Known>>,
    influx: HashMap<String, Arc<Known>>,
    wavefront: HashMap<String, Arc<Known>>,
    namespaces: Vec<Namespace>,
}

impl Meters {
    /// The built-in table and the user's own meters, which replace those of the same name.
    pub fn new(own: Vec<Meter>) -> Self {
        let names: HashSet<_> = own.iter().map(|meter| influx_name(&meter.name)).collect();
        let (prometheus, influx, wavefront) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut meters = Self { own: own.len(), prometheus, influx, wavefront, namespaces: Vec::new() };
        for (name, kind, unit) in BUILT_IN.lines().filter_map(row) {
            if let Some(prefix) = name.strip_suffix('*') {
                meters.namespaces.push(Namespace { prefix: prefix.replace('.', "_"), says_total: unit == "total" });
            } else if let (Ok(kind), false) = (one_of(&Kind::SPELLINGS, kind), names.contains(&influx_name(name))) {
                meters.add(Meter { name: name.into(), kind, unit: unit.into() }, false);
            }
        }
        for meter in own {
            meters.add(meter, true);
        }
        meters
    }

    /// How many the user added.
    pub fn own(&self) -> usize {
        self.own
    }

    fn add(&mut self, meter: Meter, is_own: bool) {
        let names = [prometheus_base(&meter), influx_name(&meter.name), wavefront_name(&meter.name)];
        let known = Arc::new(Known { meter, is_own });
        let tables = [&mut self.prometheus, &mut self.influx, &mut self.wavefront];
        for (table, name) in tables.into_iter().zip(names) {
            table.insert(name, Arc::clone(&known));
        }
    }

    /// The meter of that name as a dialect spells it: in Prometheus with its unit.
    pub(super) fn find(&self, dialect: Dialect, name: &str) -> Option<&Known> {
        let table = match dialect {
            Dialect::Prometheus => &self.prometheus,
            Dialect::Influx => &self.influx,
            Dialect::Wavefront => &self.wavefront,
        };
        table.get(name).map(|known| &**known)
    }

    /// Whether the name, dots as `_`, is in a namespace.
    pub(super) fn is_dotted(&self, name: &str) -> bool {
        self.namespaces.iter().any(|namespace| name.starts_with(&*namespace.prefix))
    }

    /// Whether a counter of that name, dots as `_`, ends in `total` by itself.
    pub(super) fn says_total(&self, name: &str) -> bool {
        self.namespaces.iter().any(|namespace| namespace.says_total && name.starts_with(&*namespace.prefix))
    }
}

/// A line of the table; none for comments.
fn row(line: &str) -> Option<(&str, &str, &str)> {
    let mut cells = line.split('\t');
    let (name, kind) = (cells.next()?, cells.next()?);
    (!name.starts_with('#')).then(|| (name, kind, cells.next().unwrap_or_default()))
}

fn prometheus_base(meter: &Meter) -> String {
    let unit = match meter.kind {
        kind if kind.is_timed() => "seconds",
        Kind::Other => "",
        _ => &*meter.unit,
    };
    with_unit(&meter.name, unit)
}

/// A name in Prometheus with its unit, unless it ends in it.
pub(super) fn with_unit(name: &str, unit: &str) -> String {
    let mut name = prometheus_name(name);
    if !unit.is_empty() && !name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_')) {
        name.push('_');
        name.push_str(unit);
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_to_the_last_line() {
        let mut names = HashSet::new();
        for line in BUILT_IN.lines().filter(|line| !line.starts_with('#')) {
            let (name, kind, unit) = row(line).unwrap();
            let is_namespace = name.ends_with(".*") && kind == "namespace" && ["", "total"].contains(&unit);
            assert!(is_namespace || one_of(&Kind::SPELLINGS, kind).is_ok(), "{line}");
            assert!(names.insert(name), "{name} twice");
            let timed = one_of(&Kind::SPELLINGS, kind).is_ok_and(Kind::is_timed);
            assert!(!timed || unit.is_empty(), "{name}: the unit of time is the registry's");
        }
        let meters = Meters::new(Vec::new());
        let of_one_name = [&meters.prometheus, &meters.influx, &meters.wavefront].map(HashMap::len);
        assert_eq!(
            of_one_name,
            [names.iter().filter(|name| !name.ends_with('*')).count(); 3],
            "no two share a spelling"
        );
    }

    #[test]
    fn a_meter_of_the_user_takes_the_place_of_a_built_in_one() {
        let own = Meter { name: "executor.active".into(), kind: Kind::Gauge, unit: "".into() };
        let meters = Meters::new(vec![own.clone()]);
        assert!(meters.find(Dialect::Prometheus, "executor_active_threads").is_none());
        let found = meters.find(Dialect::Prometheus, "executor_active").unwrap();
        assert_eq!((&found.meter, found.is_own), (&own, true));
    }
}
