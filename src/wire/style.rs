//! What users may choose of names and shapes where the formats leave a choice, and presets: named sets of such choices.
//!
//! The options of each kind of output are one plain struct beside the code they steer, read once a series. An option has one
//! key and one spelling, in the configuration of an output as in `translate --set`. A preset only sets options, so whoever
//! gives one may still set each of them otherwise.

/// The naming and the shapes of another program, for those who come from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Telegraf with `metric_version = 1`.
    TelegrafV1,
    /// Telegraf with `metric_version = 2`; its serializers of Prometheus formats have these names in any case.
    TelegrafV2,
    /// vmagent and VictoriaMetrics.
    Vmagent,
    /// Vector.
    Vector,
}

impl Preset {
    /// All of them with their spelling.
    pub const SPELLINGS: [(&'static str, Self); 4] = [
        ("telegraf_v1", Self::TelegrafV1),
        ("telegraf_v2", Self::TelegrafV2),
        ("vmagent", Self::Vmagent),
        ("vector", Self::Vector),
    ];

    /// The preset of that spelling.
    pub fn from_name(name: &str) -> Result<Self, String> {
        one_of(&Self::SPELLINGS, name)
    }

    /// Its spelling.
    pub fn as_str(self) -> &'static str {
        Self::SPELLINGS.iter().find(|(_, preset)| *preset == self).map_or("", |(name, _)| name)
    }
}

/// The options of one kind of output. The default is what is best where nothing has to be matched.
pub trait Style: Clone + Default {
    /// The keys of the options.
    const KEYS: &'static [&'static str];

    /// The options a preset stands for; none where the program has no such output.
    fn of(preset: Preset) -> Option<Self>;

    /// Sets the option of one of [`Style::KEYS`]. The error says what was expected.
    fn set(&mut self, key: &str, text: &str) -> Result<(), String>;

    /// The same as [`Style::of`], with a sentence about presets that mean nothing here.
    fn try_of(preset: Preset) -> Result<Self, String> {
        Self::of(preset).ok_or_else(|| {
            let known: Vec<_> = Preset::SPELLINGS.iter().filter(|(_, preset)| Self::of(*preset).is_some()).collect();
            format!("expected {} here", known.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or "))
        })
    }
}

/// What one of the spellings stands for. The error says which there are.
pub fn one_of<T: Copy>(spellings: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = spellings.iter().find(|(spelling, _)| *spelling == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<_> = spellings.iter().map(|(spelling, _)| *spelling).collect();
        format!("expected one of {}", names.join(", "))
    })
}
