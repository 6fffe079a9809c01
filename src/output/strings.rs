//! String fields on their way to Prometheus: labels of the numbers in their row, or info series, where an output asks for it.
//!
//! ```text
//! cpu,host=a idle=42,state="ok"   label: cpu_idle{host="a",state="ok"} 42
//!                                 info:  cpu_idle{host="a"} 42    cpu_state_info{host="a",state="ok"} 1
//! ```
//!
//! Which strings a row has is known only with the row, so this is the one rule that is not applied once a series: a row with
//! strings is moved to derived series, which stand in the series table beside those of senders. They have an account of their
//! own there, so that strings which never repeat (messages, identifiers) take no more than a source may. As many samples come
//! out as went in: a string that is a label is marked as such and counts with the number it was given to.
//!
//! A tag of the string's name wins. Strings beyond [`STRING_BYTES_MAX`] or [`STRINGS_MAX`] of a row, strings of rows without
//! a number (as labels), and those for which the table has no room stay strings, and are dropped as such.

use crate::model::{AliasHash, Batch, Sample, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Value};
use crate::wire::prometheus_names::{Strings, Style, ValueField};
use std::borrow::Cow;

/// Longest string that becomes a label.
pub const STRING_BYTES_MAX: usize = 1024;
/// Strings of a row that become labels.
pub const STRINGS_MAX: usize = 64;

/// The samples of a batch as an output of that style names them.
pub fn carried<'b>(batch: &'b Batch, table: &SeriesTable, style: &Style) -> Cow<'b, [Sample]> {
    if style.strings == Strings::Drop || !batch.samples.iter().any(Sample::is_string) {
        return Cow::Borrowed(&batch.samples);
    }
    let derive = Derive { batch, table, style };
    let mut samples = Vec::with_capacity(batch.samples.len());
    for row in batch.samples.chunk_by(|_, next| next.flags.contains(SampleFlags::ROW_CONTINUES)) {
        match style.strings {
            _ if !row.iter().any(Sample::is_string) => samples.extend_from_slice(row),
            Strings::Info => samples.extend(row.iter().map(|sample| derive.info(sample))),
            Strings::Label | Strings::Drop => derive.label(row, &mut samples),
        }
    }
    Cow::Owned(samples)
}

struct Derive<'a> {
    batch: &'a Batch,
    table: &'a SeriesTable,
    style: &'a Style,
}

impl Derive<'_> {
    /// Moves the numbers of a row to series that have its strings as labels. The strings follow the first of them.
    fn label(&self, row: &[Sample], samples: &mut Vec<Sample>) {
        let begin = samples.len();
        let (numbers, strings) =
            (|| row.iter().filter(|sample| !sample.is_string()), || row.iter().filter(|sample| sample.is_string()));
        let given = |sample: &&Sample| self.is_label(sample);
        for (at, number) in numbers().enumerate() {
            let derived = self.series(number.series, strings().filter(given).take(STRINGS_MAX), None);
            samples.push(number.moved(derived.unwrap_or(number.series), number.flags));
            if at > 0 {
                continue;
            }
            let mut left = STRINGS_MAX;
            for string in strings() {
                samples.push(match derived {
                    Some(series) if left > 0 && self.is_label(string) => {
                        left -= 1;
                        string.moved(series, string.flags.with(SampleFlags::STRING_AS_LABEL))
                    }
                    _ => *string,
                });
            }
        }
        if samples.len() == begin {
            samples.extend_from_slice(row);
        }
        for (at, sample) in samples[begin..].iter_mut().enumerate() {
            sample.flags = if at == 0 { row[0].flags } else { sample.flags.with(SampleFlags::ROW_CONTINUES) };
        }
    }

    /// A string as a sample of its info series; any other sample as it is.
    fn info(&self, sample: &Sample) -> Sample {
        let derived = if self.is_label(sample) { self.info_series(sample) } else { None };
        derived.map_or(*sample, |series| sample.moved(series, sample.flags.with(SampleFlags::STRING_AS_INFO)))
    }

    fn info_series(&self, sample: &Sample) -> Option<SeriesId> {
        let suffix = |series: &Series| match series.name.field_key() {
            Some("value") | None if self.style.value_field == ValueField::Strip => "info".to_owned(),
            field => format!("{}_info", field.unwrap_or_default()),
        };
        self.series(sample.series, std::iter::once(sample), Some(&suffix))
    }

    /// Whether a sample is a string that can be a label beside the tags of its row.
    fn is_label(&self, sample: &Sample) -> bool {
        let Value::Str(text) = self.batch.value(sample) else { return false };
        let free = |series: &Series| series.name.field_key().is_some_and(|field| series.label(field).is_none());
        text.len() <= STRING_BYTES_MAX && self.known(sample.series).is_some_and(|series| free(&series))
    }

    /// The series derived from that one by those strings, by another field if one is given.
    fn series<'s>(
        &self,
        base: SeriesId,
        strings: impl Iterator<Item = &'s Sample> + Clone,
        field: Option<&dyn Fn(&Series) -> String>,
    ) -> Option<SeriesId> {
        let id = |id: SeriesId| self.identity(id);
        let kind = if field.is_some() { &b"an info series"[..] } else { b"strings as labels" };
        // The options that name the field are part of the alias: outputs share the table.
        let style = self.table.hash(&[self.style.value_field as u8]);
        let alias = self.table.hash(kind).then(style).then(id(base));
        let alias = strings.clone().fold(alias, |alias, string| {
            alias.then(id(string.series)).then(self.table.hash(self.text(string).as_bytes()))
        });
        self.table.recognise(alias).or_else(|| {
            let series = self.known(base)?;
            let field = match field {
                Some(field) => field(&series),
                None => series.name.field_key()?.to_owned(),
            };
            let own = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value)));
            let mut labels: Vec<_> = own.collect();
            for string in strings.filter(|string| !self.text(string).is_empty()) {
                let series = self.known(string.series)?;
                let name = series.name.field_key()?.to_owned();
                if labels.iter().all(|(known, _)| *known != name) {
                    labels.push((Cow::from(name), Cow::from(self.text(string))));
                }
            }
            let spec =
                SeriesSpec { measurement: series.name.measurement(), field: Some(&field), labels, metadata: None };
            self.table.define(self.table.account(b"strings as labels"), alias, series.dialect, spec).ok()
        })
    }

    fn known(&self, id: SeriesId) -> Option<Series> {
        self.batch.series(id, self.table)
    }

    /// Which series it is, for as long as the table lives. Numbers of recalled series are given again to others.
    fn identity(&self, id: SeriesId) -> AliasHash {
        let Some(series) = self.known(id).filter(|_| id.is_recalled()) else {
            return self.table.hash(&id.0.to_le_bytes());
        };
        let name = [Some(series.name.measurement()), series.name.field_key()].into_iter().flatten();
        let labels = series.labels.iter().flat_map(|pair| [&*pair.name, &*pair.value]);
        let dialect = self.table.hash(&[series.dialect as u8, u8::from(series.name.field_key().is_some())]);
        name.chain(labels).fold(dialect, |identity, text| identity.then(self.table.hash(text.as_bytes())))
    }

    fn text(&self, sample: &Sample) -> &str {
        if let Value::Str(text) = self.batch.value(sample) { text } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchBuilder, Format, TableBounds};
    use crate::wire::influx_line::decode;

    fn batch(table: &SeriesTable, lines: &str) -> Batch {
        let mut out = BatchBuilder::new(table, Format::InfluxLine, Vec::new());
        let report = decode::decode(lines.as_bytes(), &decode::Options::default(), &mut out);
        assert_eq!(report.refused(), 0, "{:?}", report.first);
        out.finish()
    }

    fn shown(table: &SeriesTable, samples: &[Sample]) -> Vec<String> {
        let show = |sample: &Sample| {
            let series = table.series(sample.series).unwrap();
            let labels: Vec<_> = series.labels.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
            let row = if sample.flags.contains(SampleFlags::ROW_CONTINUES) { "+" } else { "" };
            let kind = match sample.flags {
                flags if flags.contains(SampleFlags::STRING_AS_LABEL) => " label",
                flags if flags.contains(SampleFlags::STRING_AS_INFO) => " info",
                _ => "",
            };
            format!("{row}{:?}{{{}}}{kind}", series.name, labels.join(","))
        };
        samples.iter().map(show).collect()
    }

    #[test]
    fn rows_with_strings_move_and_others_stay() {
        let table = SeriesTable::default();
        let batch = batch(&table, "m,t=1 s=\"x\",a=1,b=2 1\nm,t=1 a=3 2\nm s=\"only\" 3\n");
        let of = |strings| shown(&table, &carried(&batch, &table, &Style { strings, ..Style::default() }));
        let m = |field: &str, labels: &str| format!("\"m\".\"{field}\"{{{labels}}}");
        let expected = [
            m("a", "s=x,t=1"),
            format!("+{} label", m("a", "s=x,t=1")),
            format!("+{}", m("b", "s=x,t=1")),
            m("a", "t=1"),
            m("s", ""),
        ];
        assert_eq!(of(Strings::Label), expected);
        let expected = [
            format!("{} info", m("s_info", "s=x,t=1")),
            format!("+{}", m("a", "t=1")),
            format!("+{}", m("b", "t=1")),
            m("a", "t=1"),
            format!("{} info", m("s_info", "s=only")),
        ];
        assert_eq!(of(Strings::Info), expected);
        assert!(matches!(carried(&batch, &table, &Style::default()), Cow::Borrowed(_)));
        assert_eq!(of(Strings::Label), of(Strings::Label), "known at second sight");
    }

    #[test]
    fn strings_that_never_repeat_leave_room_for_senders() {
        let table = SeriesTable::new(TableBounds { bytes_max: 1_000_000, ..TableBounds::default() });
        let style = Style { strings: Strings::Label, ..Style::default() };
        let mut labels = 0;
        for number in 0..5_000 {
            let batch = batch(&table, &format!("m v=1,s=\"{number}\" 1\n"));
            let samples = carried(&batch, &table, &style);
            assert_eq!(samples.len(), 2);
            labels += usize::from(samples.iter().any(|sample| sample.flags.contains(SampleFlags::STRING_AS_LABEL)));
        }
        assert!((1000..5000).contains(&labels), "{labels}");
        assert!(table.bytes() < 850_000, "a share of the table: {}", table.bytes());
    }
}
