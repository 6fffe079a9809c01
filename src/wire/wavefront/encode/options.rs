//! What may be chosen of names, shapes and limits, from the words of a configuration.

use crate::wire::shared::SharedTexts;
use crate::wire::style::{self, Preset, one_of};
use crate::wire::wavefront::decode::SOURCE_LABEL;
use crate::wire::wavefront::validate::Limits;

/// Labels that customarily name where a sample comes from.
pub const SOURCE_LABELS: [&str; 6] = [SOURCE_LABEL, "host", "hostname", "instance", "node", "pod"];

/// How an output writes Wavefront lines.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source of series without any of the source labels; not blank.
    pub default_source: String,
    /// Labels that give the source, the first one that is there.
    pub source_labels: Vec<String>,
    /// What the destination takes.
    pub limits: Limits,
    /// Whether samples that came without a timestamp are written with the time of their arrival. A destination that gets
    /// them later needs it; a filter leaves them as they were.
    pub stamps: bool,
    /// How names and shapes are chosen.
    pub style: Style,
    /// Whether bodies are compressed when they end.
    pub gzip: bool,
    /// Names, sources and tags of renderings.
    pub texts: SharedTexts,
}

impl Options {
    /// The customary source labels and the limits of the vendor's service.
    pub fn new(default_source: String) -> Self {
        Self {
            default_source,
            source_labels: SOURCE_LABELS.map(str::to_owned).to_vec(),
            limits: Limits::SAAS,
            stamps: true,
            style: Style::default(),
            gzip: false,
            texts: SharedTexts::default(),
        }
    }
}

/// What may be chosen of names and shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// How metrics of other dialects are named.
    pub names: Names,
    /// How native histograms are written.
    pub histograms: Histograms,
}

/// `histograms`: how native histograms are written, beside their count and sum. Classic ones are series with `le` in any
/// case: their buckets arrive one by one, and perhaps apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Histograms {
    /// As cumulative buckets, points with a tag `le`.
    #[default]
    LeSeries,
    /// As distributions of one minute, of what was observed since the sample before.
    Distributions,
}

/// `names`: how metrics of other dialects are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// As they are, as far as the alphabet allows.
    #[default]
    Kept,
    /// As Telegraf does: every `_` becomes a dot, `/` and `,` become `-`.
    Dotted,
}

impl style::Style for Style {
    const KEYS: &'static [&'static str] = &["names", "histograms"];

    fn of(preset: Preset) -> Option<Self> {
        matches!(preset, Preset::TelegrafV1 | Preset::TelegrafV2)
            .then_some(Self { names: Names::Dotted, ..Self::default() })
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        if key == "names" {
            self.names = one_of(&[("kept", Names::Kept), ("dotted", Names::Dotted)], text)?;
        } else {
            let spellings = [("le_series", Histograms::LeSeries), ("distributions", Histograms::Distributions)];
            self.histograms = one_of(&spellings, text)?;
        }
        Ok(())
    }
}
