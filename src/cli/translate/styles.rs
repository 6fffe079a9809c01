//! `--preset`, `--set`, `--micrometer` and `--config`: the options that outputs have in the configuration, by the same keys.

use crate::micrometer::Profile;
use crate::model::Format;
use crate::wire::style::{Preset, Style};
use crate::wire::{influx_line, prometheus_names, wavefront};
use std::sync::Arc;

/// How names and shapes are chosen, for every kind of format.
#[derive(Clone, Debug, Default)]
pub struct Styles {
    pub(super) prometheus: prometheus_names::Style,
    pub(super) influx: influx_line::schema::Style,
    pub(super) wavefront: wavefront::encode::Style,
    pub(super) micrometer: Arc<Profile>,
}

impl Styles {
    /// Those for a format: of a preset, but for options that are set as `KEY=VALUE`. The error is a sentence.
    pub fn of(to: Format, preset: Option<&str>, options: &[String]) -> Result<Self, String> {
        let mut styles = Self::default();
        match to {
            Format::InfluxLine => choose(&mut styles.influx, preset, options)?,
            Format::Wavefront => choose(&mut styles.wavefront, preset, options)?,
            _ => choose(&mut styles.prometheus, preset, options)?,
        }
        Ok(styles)
    }

    /// The same, where that is what is known of meters of Micrometer.
    #[must_use]
    pub fn with_meters(self, profile: Profile) -> Self {
        Self { micrometer: Arc::new(profile), ..self }
    }
}

fn choose<S: Style>(style: &mut S, preset: Option<&str>, options: &[String]) -> Result<(), String> {
    if let Some(name) = preset {
        let preset = Preset::from_name(name).and_then(S::try_of);
        *style = preset.map_err(|expected| format!("--preset {name}: {expected}"))?;
    }
    for option in options {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        if !S::KEYS.contains(&key) {
            return Err(format!("--set {option}: expected one of the keys {}", S::KEYS.join(", ")));
        }
        style.set(key, value).map_err(|expected| format!("--set {option}: {expected}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
