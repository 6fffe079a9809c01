//! How names of other dialects become Prometheus names; shared by text, OpenMetrics and remote write.
//!
//! The alphabet is `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics and `[a-zA-Z_][a-zA-Z0-9_]*` for labels. Unless a [`Style`] says
//! otherwise, every other character becomes one `_` (nothing is trimmed or collapsed, so that fewer names meet) and a leading
//! digit gets a `_` in front. Series that came from Prometheus keep their names verbatim (UTF-8 names of Prometheus 3
//! included) unless the reader does not take them ([`Alphabet::Legacy`]).

use crate::model::{Dialect, Loss, LossSet, Series};
use crate::wire::style::{self, Preset, one_of};
use std::borrow::Cow;

/// Which names the reader of what is written takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Any UTF-8: remote write, and text exposition, which has such names in quotes.
    Utf8,
    /// The alphabet above: text exposition for scrapers that do not say that they read quotes.
    Legacy,
}

/// How series of line protocol, and names of any dialect but Prometheus's, become Prometheus's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// What the field `value` adds to a name.
    pub value_field: ValueField,
    /// What becomes of characters outside of the alphabet.
    pub name_characters: NameCharacters,
    /// A measurement that adds nothing to the names of its fields.
    pub bare_measurement: Option<String>,
    /// What becomes of string fields.
    pub strings: Strings,
}

/// `value_field`: what the field `value` adds to a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueField {
    /// Nothing: `m value=1` is `m`, which is how Prometheus series are written as lines.
    #[default]
    Strip,
    /// What any field adds: `m value=1` is `m_value`.
    Keep,
}

/// `name_characters`: what becomes of characters outside of the alphabet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCharacters {
    /// Each becomes a `_`; a leading digit gets one in front.
    #[default]
    Replace,
    /// As Telegraf does: each becomes a `_`, but a first one goes, and so do all `_` at both ends of such a name, except in
    /// front of a digit.
    Trim,
    /// They stay.
    Keep,
}

/// `strings`: what becomes of string fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strings {
    /// They are dropped.
    #[default]
    Drop,
    /// They are labels of the numbers in their row.
    Label,
    /// Each is a series of its own, `<name>_info{<field>="<string>"} 1`.
    Info,
}

impl style::Style for Style {
    const KEYS: &'static [&'static str] = &["value_field", "name_characters", "bare_measurement", "strings"];

    fn of(preset: Preset) -> Option<Self> {
        let kept = Self { value_field: ValueField::Keep, ..Self::default() };
        Some(match preset {
            Preset::TelegrafV1 => Self { strings: Strings::Label, ..Self::default() },
            Preset::TelegrafV2 => {
                Self { name_characters: NameCharacters::Trim, bare_measurement: Some("prometheus".to_owned()), ..kept }
            }
            Preset::Vmagent | Preset::Vector => Self { name_characters: NameCharacters::Keep, ..kept },
        })
    }

    fn set(&mut self, key: &str, text: &str) -> Result<(), String> {
        match key {
            "value_field" => {
                self.value_field = one_of(&[("strip", ValueField::Strip), ("keep", ValueField::Keep)], text)?;
            }
            "name_characters" => {
                let spellings = [
                    ("replace", NameCharacters::Replace),
                    ("trim", NameCharacters::Trim),
                    ("keep", NameCharacters::Keep),
                ];
                self.name_characters = one_of(&spellings, text)?;
            }
            "bare_measurement" => self.bare_measurement = (!text.is_empty()).then(|| text.to_owned()),
            _ => {
                let spellings = [("drop", Strings::Drop), ("label", Strings::Label), ("info", Strings::Info)];
                self.strings = one_of(&spellings, text)?;
            }
        }
        Ok(())
    }
}

/// A series in Prometheus's terms.
#[derive(Debug, PartialEq, Eq)]
pub struct PrometheusSeries<'a> {
    /// The metric name.
    pub name: Cow<'a, str>,
    /// The labels, sorted, without `__name__`.
    pub labels: Vec<(Cow<'a, str>, &'a str)>,
    /// What every sample of it loses.
    pub losses: LossSet,
}

/// Names a series for Prometheus. An error says why no sample of it can be sent.
pub fn translate<'a>(series: &'a Series, alphabet: Alphabet, style: &Style) -> Result<PrometheusSeries<'a>, Loss> {
    let mut losses = LossSet::NONE;
    let rule = match (series.dialect, alphabet, style.name_characters) {
        (Dialect::Prometheus, Alphabet::Utf8, _) => NameCharacters::Keep,
        (Dialect::Prometheus, Alphabet::Legacy, _) | (_, Alphabet::Legacy, NameCharacters::Keep) => {
            NameCharacters::Replace
        }
        (_, _, rule) => rule,
    };
    let name = metric_name(series, style, rule, &mut losses)?;
    let mut labels: Vec<(Cow<'_, str>, &str)> = Vec::with_capacity(series.labels.len());
    for pair in &series.labels {
        match label_name(&pair.name, series.dialect, rule, &mut losses) {
            Some(key) if !pair.value.is_empty() => labels.push((key, &pair.value)),
            _ => losses.insert(Loss::LabelDropped),
        }
    }
    if losses.contains(Loss::LabelSanitised) {
        labels.sort_by(|(left, _), (right, _)| left.cmp(right));
        let before = labels.len();
        labels.dedup_by(|(later, _), (first, _)| later == first);
        if labels.len() < before {
            losses.insert(Loss::LabelDropped);
        }
    }
    Ok(PrometheusSeries { name, labels, losses })
}

fn metric_name<'a>(
    series: &'a Series,
    style: &Style,
    rule: NameCharacters,
    losses: &mut LossSet,
) -> Result<Cow<'a, str>, Loss> {
    let name = series.name.measurement();
    let whole = match series.dialect {
        Dialect::Prometheus if rule == NameCharacters::Keep => return Ok(Cow::from(name)),
        Dialect::Prometheus => Cow::from(name),
        Dialect::Influx => match series.name.field_key() {
            None => Cow::from(name),
            Some("value") if style.value_field == ValueField::Strip => Cow::from(name),
            Some(field) if style.bare_measurement.as_deref() == Some(name) => Cow::from(field),
            Some(field) => Cow::from(format!("{name}_{field}")),
        },
        Dialect::Wavefront => {
            let plain = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
            if plain.len() < name.len() {
                losses.insert(Loss::DeltaTemporality);
            }
            if plain.starts_with('~') {
                return Err(Loss::InternalMetric);
            }
            Cow::from(plain)
        }
    };
    let clean = match sanitised(&whole, true, rule) {
        None => whole,
        Some(clean) => {
            losses.insert(Loss::NameSanitised);
            Cow::from(clean)
        }
    };
    if clean.is_empty() { Err(Loss::UnusableName) } else { Ok(clean) }
}

/// The label's name there; none when nothing of it is left.
fn label_name<'a>(name: &'a str, dialect: Dialect, rule: NameCharacters, losses: &mut LossSet) -> Option<Cow<'a, str>> {
    let mut clean = sanitised(name, false, rule).map_or(Cow::from(name), Cow::from);
    // Names that begin with two underscores belong to Prometheus; a tag that has or gets such a name keeps one.
    if (dialect != Dialect::Prometheus || matches!(clean, Cow::Owned(_)))
        && let Some(rest) = clean.strip_prefix("__")
    {
        let rest = rest.trim_start_matches('_');
        clean = Cow::from(format!("_{}", rest.strip_suffix("__").unwrap_or(rest)));
    }
    if matches!(clean, Cow::Owned(_)) {
        losses.insert(Loss::LabelSanitised);
    }
    (!clean.is_empty()).then_some(clean)
}

/// Whether a name is in the alphabet above, which has colons in names of metrics.
pub(crate) fn is_plain(name: &str, colons: bool) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(|c| is_legal(c, colons))
}

const fn is_legal(c: char, colons: bool) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || colons && c == ':'
}

/// The name in Prometheus's alphabet, or none when it is in it already or stays as it is.
fn sanitised(name: &str, colons: bool, rule: NameCharacters) -> Option<String> {
    if rule == NameCharacters::Keep || is_plain(name, colons) {
        return None;
    }
    let legal = |c: char| is_legal(c, colons);
    let leading_digit = name.starts_with(|c: char| c.is_ascii_digit());
    let replaced = |c: char| if legal(c) { c } else { '_' };
    if rule == NameCharacters::Trim {
        let behind = name.strip_prefix(|c: char| !legal(c) || c.is_ascii_digit()).unwrap_or(name);
        let clean: String = behind.chars().map(replaced).collect();
        let clean = clean.trim_matches('_');
        // Telegraf writes such names; no receiver takes them.
        return Some(if clean.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{clean}")
        } else {
            clean.to_owned()
        });
    }
    let mut clean = String::with_capacity(name.len() + 1);
    if leading_digit {
        clean.push('_');
    }
    clean.extend(name.chars().map(replaced));
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, SeriesSpec, SeriesTable};

    fn translated(
        format: Format,
        name: &str,
        field: Option<&str>,
        labels: &[(&str, &str)],
        alphabet: Alphabet,
    ) -> String {
        let table = SeriesTable::default();
        let builder = BatchBuilder::new(&table, format, Vec::new());
        let labels = labels.iter().map(|(name, value)| (Cow::from(*name), Cow::from(*value))).collect();
        let spec = SeriesSpec { measurement: name, field, labels, metadata: None };
        let id = builder.define(builder.alias(b"x"), spec).unwrap();
        let series = table.series(id).unwrap();
        match translate(&series, alphabet, &Style::default()) {
            Ok(prometheus) => {
                let labels: Vec<_> = prometheus.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
                let losses: Vec<_> = prometheus.losses.iter().map(Loss::as_str).collect();
                format!("{}{{{}}} {}", prometheus.name, labels.join(","), losses.join(","))
            }
            Err(loss) => loss.as_str().to_owned(),
        }
    }

    #[test]
    fn each_dialect_is_named_by_its_rule() {
        use Alphabet::{Legacy, Utf8};
        use Format::{InfluxLine, RemoteWrite2, Wavefront};
        let cases = [
            (InfluxLine, "cpu", Some("usage_idle"), Utf8, "cpu_usage_idle{} "),
            (InfluxLine, "cpu", Some("value"), Utf8, "cpu{} "),
            (InfluxLine, "9cpu", Some("a-b"), Utf8, "_9cpu_a_b{} name_sanitised"),
            (InfluxLine, "cpu::x", Some("a:b"), Utf8, "cpu::x_a:b{} "),
            (RemoteWrite2, "http.requests", None, Utf8, "http.requests{} "),
            (RemoteWrite2, "http.requests", None, Legacy, "http_requests{} name_sanitised"),
            (Wavefront, "jvm.memory.used", None, Utf8, "jvm_memory_used{} name_sanitised"),
            (Wavefront, "∆hits", None, Utf8, "hits{} delta_temporality"),
            (Wavefront, "~sdk.java", None, Utf8, "internal_metric"),
            (Wavefront, "∆~sdk.java", None, Utf8, "internal_metric"),
        ];
        for (format, name, field, alphabet, expected) in cases {
            assert_eq!(translated(format, name, field, &[], alphabet), expected, "{name}");
        }
    }

    #[test]
    fn labels_are_cleaned_sorted_again_and_kept_distinct() {
        let labels =
            [("host-name", "a"), ("host.name", "b"), ("Z", "1"), ("__name__", "n"), ("1st", "x"), ("le", "1.0")];
        let text = translated(Format::InfluxLine, "m", Some("value"), &labels, Alphabet::Utf8);
        assert_eq!(text, "m{Z=1,_1st=x,_name=n,host_name=a,le=1.0} label_sanitised,label_dropped");
    }

    #[test]
    fn no_label_becomes_a_reserved_one() {
        for (format, label, expected) in [
            (Format::InfluxLine, "_.name__", "_name"),
            (Format::InfluxLine, "é_name__", "_name"),
            (Format::InfluxLine, "____name__", "_name"),
            (Format::RemoteWrite, "_.name__", "_name"),
            (Format::RemoteWrite, "__a\"b\n", "_a_b_"),
        ] {
            let text = translated(format, "m", Some("value"), &[(label, "v")], Alphabet::Legacy);
            assert_eq!(text, format!("m{{{expected}=v}} label_sanitised"), "{label}");
        }
    }

    #[test]
    fn prometheus_labels_stay_as_they_are() {
        let own = translated(Format::RemoteWrite, "m", None, &[("__tenant__", "x")], Alphabet::Legacy);
        assert_eq!(own, "m{__tenant__=x} ");
        let labels = [("a.b", "1"), ("__tenant__", "x")];
        let text = translated(Format::RemoteWrite, "m", None, &labels, Alphabet::Utf8);
        assert_eq!(text, "m{__tenant__=x,a.b=1} ");
    }
}
