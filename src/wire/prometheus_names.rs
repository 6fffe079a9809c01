//! How names of other dialects become Prometheus names; shared by text, OpenMetrics and remote write.
//!
//! The alphabet is `[a-zA-Z_:][a-zA-Z0-9_:]*` for metrics and `[a-zA-Z_][a-zA-Z0-9_]*` for labels. Every other character
//! becomes one `_` (nothing is trimmed or collapsed, so that fewer names meet) and a leading digit gets a `_` in front.
//! Series that came from Prometheus keep their names verbatim (UTF-8 names of Prometheus 3 included) unless the format
//! cannot carry them ([`Alphabet::Legacy`]).

use crate::model::{Dialect, Loss, LossSet, Series};
use std::borrow::Cow;

/// Which names the format written can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alphabet {
    /// Any UTF-8: remote write.
    Utf8,
    /// The alphabet above: text exposition.
    Legacy,
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
pub fn translate(series: &Series, alphabet: Alphabet) -> Result<PrometheusSeries<'_>, Loss> {
    let mut losses = LossSet::NONE;
    let name = metric_name(series, alphabet, &mut losses)?;
    let verbatim = series.dialect == Dialect::Prometheus && alphabet == Alphabet::Utf8;
    let mut labels: Vec<(Cow<'_, str>, &str)> = Vec::with_capacity(series.labels.len());
    for pair in &series.labels {
        if pair.value.is_empty() {
            losses.insert(Loss::LabelDropped);
            continue;
        }
        let key = if verbatim { Cow::from(&*pair.name) } else { label_name(&pair.name, series.dialect, &mut losses) };
        labels.push((key, &pair.value));
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

fn metric_name<'a>(series: &'a Series, alphabet: Alphabet, losses: &mut LossSet) -> Result<Cow<'a, str>, Loss> {
    let name = series.name.measurement();
    match series.dialect {
        Dialect::Prometheus if alphabet == Alphabet::Utf8 => Ok(Cow::from(name)),
        Dialect::Prometheus => sanitise_name(Cow::from(name), losses),
        // The field `value` is the measurement itself: that is how Prometheus series are written as lines.
        Dialect::Influx => match series.name.field_key() {
            None | Some("value") => sanitise_name(Cow::from(name), losses),
            Some(field) => sanitise_name(Cow::from(format!("{name}_{field}")), losses),
        },
        Dialect::Wavefront => {
            let plain = name.strip_prefix(['∆', 'Δ']).unwrap_or(name);
            if plain.len() < name.len() {
                losses.insert(Loss::DeltaTemporality);
            }
            if plain.starts_with('~') {
                return Err(Loss::InternalMetric);
            }
            sanitise_name(Cow::from(plain), losses)
        }
    }
}

fn sanitise_name<'a>(name: Cow<'a, str>, losses: &mut LossSet) -> Result<Cow<'a, str>, Loss> {
    if name.is_empty() {
        return Err(Loss::UnusableName);
    }
    Ok(match sanitised(&name, true) {
        None => name,
        Some(clean) => {
            losses.insert(Loss::NameSanitised);
            Cow::from(clean)
        }
    })
}

fn label_name<'a>(name: &'a str, dialect: Dialect, losses: &mut LossSet) -> Cow<'a, str> {
    let mut clean = sanitised(name, false).map_or(Cow::from(name), Cow::from);
    // Names that begin with two underscores belong to Prometheus; a tag that has or gets such a name keeps one.
    if (dialect != Dialect::Prometheus || matches!(clean, Cow::Owned(_)))
        && let Some(rest) = clean.strip_prefix("__")
    {
        clean = Cow::from(format!("_{}", rest.trim_start_matches('_')));
    }
    if matches!(clean, Cow::Owned(_)) {
        losses.insert(Loss::LabelSanitised);
    }
    clean
}

/// The name in Prometheus's alphabet, or none when it is in it already.
fn sanitised(name: &str, colons: bool) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || colons && c == ':';
    let leading_digit = name.starts_with(|c: char| c.is_ascii_digit());
    if !leading_digit && name.chars().all(legal) {
        return None;
    }
    let mut clean = String::with_capacity(name.len() + 1);
    if leading_digit {
        clean.push('_');
    }
    clean.extend(name.chars().map(|c| if legal(c) { c } else { '_' }));
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
        match translate(&series, alphabet) {
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
        assert_eq!(text, "m{Z=1,_1st=x,_name__=n,host_name=a,le=1.0} label_sanitised,label_dropped");
    }

    #[test]
    fn no_label_becomes_a_reserved_one() {
        for (format, label, expected) in [
            (Format::InfluxLine, "_.name__", "_name__"),
            (Format::InfluxLine, "é_name__", "_name__"),
            (Format::InfluxLine, "____name__", "_name__"),
            (Format::RemoteWrite, "_.name__", "_name__"),
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
