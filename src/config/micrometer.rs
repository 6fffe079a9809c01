//! `micrometer`: what is taken for meters, and the meters that users add to the table.

use super::walk::{Key, Section};
use crate::micrometer::{Kind, Meter, Meters, Mode, Profile, PrometheusRegistry, UnknownNames};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// The shortest step.
const STEP_MIN: Duration = Duration::from_secs(1);
/// Bytes of a meter's name or unit.
const NAME_BYTES_MAX: usize = 256;

pub(super) fn read(section: Section<'_>) -> Profile {
    let default = Profile::default();
    let meters = meters(&section.key("meters"));
    let profile = Profile {
        mode: section.key("profile").one_of(&Mode::SPELLINGS).unwrap_or(default.mode),
        step: section.key("step").duration(STEP_MIN).unwrap_or(default.step),
        prometheus_registry: section
            .key("prometheus_registry")
            .one_of(&PrometheusRegistry::SPELLINGS)
            .unwrap_or(default.prometheus_registry),
        unknown_names: section.key("unknown_names").one_of(&UnknownNames::SPELLINGS).unwrap_or(default.unknown_names),
        meters: if meters.is_empty() { default.meters } else { Arc::new(Meters::new(meters)) },
    };
    section.finish();
    profile
}

fn meters(list: &Key<'_>) -> Vec<Meter> {
    let mut meters: Vec<Meter> = Vec::new();
    let mut places = HashMap::new();
    for (index, item) in list.items().into_iter().enumerate() {
        let Some(section) = item.required().section() else { continue };
        let (name_key, unit_key) = (section.key("name").required(), section.key("unit"));
        let name = text(&name_key, "the name of a meter, such as my.meter");
        let kind = section.key("kind").required().one_of(&Kind::SPELLINGS);
        let unit = text(&unit_key, "a base unit, such as bytes").unwrap_or_default();
        section.finish();
        let (Some(name), Some(kind)) = (name, kind) else { continue };
        // Dots and underscores are one to line protocol and Prometheus.
        if let Some(first) = places.insert(name.replace('.', "_"), index) {
            name_key.mistake(format!("the same name as micrometer.meters[{first}]"));
        }
        if kind.is_timed() && !unit.is_empty() {
            unit_key.mistake("a meter that is measured in time has the unit of its registry");
        }
        meters.push(Meter { name: name.into(), kind, unit: unit.into() });
    }
    meters
}

fn text(key: &Key<'_>, expected: &str) -> Option<String> {
    key.read(expected, |text| {
        let fits = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.contains(char::is_control);
        fits.then(|| text.to_owned())
    })
}
