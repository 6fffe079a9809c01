//! `io.prometheus.write.v2.Request` to a batch.
//!
//! The request is walked twice: for the symbols, which may stand anywhere, then for the series. Each symbol is hashed once
//! per request. The alias of a series joins the hashes of its type, help, unit and labels: that reads one cache line a
//! reference and multiplies once, where hashing the concatenated text would read two, copy, and hash again what the symbol
//! table was invented to say once. Only a first sight looks at text.

use crate::model::{AliasHash, BatchBuilder, Metadata, MetricType, Refusal, SampleFlags, SeriesId, Value};
use crate::wire::protobuf::{Damage, Fault, Fields};
use crate::wire::remote_write::decode::{
    RawLabel, Trouble, intern, plain_sample, start_timestamp, take_exemplar, take_histogram, to_nanoseconds,
};
use std::sync::Arc;

pub use crate::wire::remote_write::decode::{DecodeError, Decoded, Written};

/// Nothing to choose yet.
#[derive(Clone, Debug, Default)]
pub struct Options {}

/// Decodes a request. An error means that the bytes are not a message; nothing of them is in the batch then.
pub fn decode(body: &[u8], _options: &Options, out: &mut BatchBuilder<'_>) -> Result<Decoded, DecodeError> {
    let start = out.mark();
    decode_request(body, out).map_err(|damage| {
        out.take_back(start);
        damage.within_request(body, SERIES)
    })
}

/// The field of the series.
const SERIES: u32 = 5;

fn decode_request(body: &[u8], out: &mut BatchBuilder<'_>) -> Result<Decoded, Damage> {
    let symbols = symbols(body, out)?;
    let types = std::array::from_fn(|number| out.alias(&[number as u8]));
    let mut request = Request { out, symbols, types, references: Vec::new(), decoded: Decoded::default(), index: 0 };
    let mut fields = Fields::new(body);
    while let Some(field) = fields.next()? {
        match field.number {
            SERIES => {
                request.series(field.bytes()?)?;
                request.index += 1;
            }
            1 => request.decoded.foreign += 1,
            _ => {}
        }
    }
    Ok(request.decoded)
}

/// Symbols of one request. An empty one takes 2 bytes in the message and 32 here.
const SYMBOLS_MAX: usize = 1 << 21;

struct Symbol<'a> {
    text: &'a [u8],
    hash: AliasHash,
}

fn symbols<'a>(body: &'a [u8], out: &BatchBuilder<'_>) -> Result<Vec<Symbol<'a>>, Damage> {
    let mut symbols = Vec::new();
    let mut fields = Fields::new(body);
    while let Some(field) = fields.next()? {
        if field.number == 4 {
            let text = field.bytes()?;
            if symbols.len() == SYMBOLS_MAX {
                return Err(Fault::TooManySymbols { symbols_max: SYMBOLS_MAX as u32 }.at(text));
            }
            symbols.push(Symbol { text, hash: out.hash(text) });
        }
    }
    Ok(symbols)
}

struct Request<'o, 't, 'a> {
    out: &'o mut BatchBuilder<'t>,
    symbols: Vec<Symbol<'a>>,
    /// What the alias of a series of that type begins with.
    types: [AliasHash; TYPES],
    /// References of the labels of the present series.
    references: Vec<u32>,
    decoded: Decoded,
    /// The present series in the message.
    index: usize,
}

/// Numbers of metric types that are known.
const TYPES: usize = MetricType::StateSet as usize + 1;

/// What a `TimeSeries` says beside its labels, samples and exemplars.
#[derive(Clone, Copy, Default)]
struct Outline<'m> {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    /// The last of the samples.
    sample: &'m [u8],
    metric_type: MetricType,
    help: u32,
    unit: u32,
    /// Milliseconds; 0 is unset.
    created: i64,
}

impl Request<'_, '_, '_> {
    fn series(&mut self, message: &[u8]) -> Result<(), Damage> {
        let outline = self.outline(message)?;
        match self.identify(outline) {
            Ok(series) => self.samples(series, message, outline),
            Err(Trouble::Damaged(error)) => Err(error),
            Err(Trouble::Refused(reason, message)) => {
                let samples = (outline.samples + outline.histograms).max(1);
                self.decoded.report.refuse(samples, self.index, 0, reason, || message);
                Ok(())
            }
        }
    }

    /// Walks over the samples and gathers all else: labels may stand behind them, metadata does.
    fn outline<'m>(&mut self, message: &'m [u8]) -> Result<Outline<'m>, Damage> {
        let mut outline = Outline::default();
        self.references.clear();
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.varints(|reference| self.references.push(reference as u32))?,
                2 => {
                    outline.samples += 1;
                    outline.sample = field.bytes()?;
                }
                3 => outline.histograms += 1,
                4 => outline.exemplars += 1,
                5 => {
                    let mut fields = Fields::new(field.bytes()?);
                    while let Some(field) = fields.next()? {
                        match field.number {
                            1 => outline.metric_type = MetricType::from_number(field.varint()? as i32),
                            3 => outline.help = field.varint()? as u32,
                            4 => outline.unit = field.varint()? as u32,
                            _ => {}
                        }
                    }
                }
                6 => outline.created = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        Ok(outline)
    }

    fn identify(&mut self, outline: Outline<'_>) -> Result<SeriesId, Trouble> {
        if outline.samples + outline.histograms == 0 {
            let message = "expected samples or histograms in the series, found neither".to_owned();
            return Err(Trouble::Refused(Refusal::NoValue, message));
        }
        let Some(alias) = self.alias(outline) else {
            return Err(self.bad_reference(outline));
        };
        match self.out.recognise(alias) {
            Some(series) => Ok(series),
            None => self.first_sight(alias, outline),
        }
    }

    /// None when a reference is not in the symbol table or a label name lacks its value.
    #[inline]
    fn alias(&self, outline: Outline<'_>) -> Option<AliasHash> {
        let mut alias = self.types[outline.metric_type as usize];
        for reference in [outline.help, outline.unit] {
            // Many senders leave both at 0, and some then send no symbols at all.
            match self.symbols.get(reference as usize) {
                Some(symbol) => alias = alias.then(symbol.hash),
                None if reference == 0 => {}
                None => return None,
            }
        }
        let (pairs, odd) = self.references.as_chunks::<2>();
        // Two chains, since each step of one waits for the step before.
        let (mut names, mut values) = (alias, alias);
        for [name, value] in pairs {
            names = names.then(self.symbols.get(*name as usize)?.hash);
            values = values.then(self.symbols.get(*value as usize)?.hash);
        }
        odd.is_empty().then(|| names.then(values))
    }

    #[cold]
    fn bad_reference(&self, outline: Outline<'_>) -> Trouble {
        let count = self.symbols.len();
        let all = self.references.iter().chain([&outline.help, &outline.unit]);
        let message = match all.copied().find(|reference| *reference as usize >= count) {
            Some(reference) => format!("expected a reference into the symbol table of {count}, found {reference}"),
            None => format!("expected references in pairs, found {}", self.references.len()),
        };
        Trouble::Refused(Refusal::InvalidReference, message)
    }

    #[cold]
    fn first_sight(&mut self, alias: AliasHash, outline: Outline<'_>) -> Result<SeriesId, Trouble> {
        let labels = labels(&self.symbols, &self.references)?;
        let symbols = &self.symbols;
        intern(alias, &labels, |name| metadata(symbols, outline, name), self.out)
    }

    fn samples(&mut self, series: SeriesId, message: &[u8], outline: Outline<'_>) -> Result<(), Damage> {
        let accepted = self.out.samples();
        if let Outline { samples: 1, histograms: 0, exemplars: 0, .. } = outline {
            // As nearly every series of nearly every request.
            let pushed = self.sample(series, outline.sample, outline.created);
            self.settle(pushed)?;
        } else {
            let mut fields = Fields::new(message);
            while let Some(field) = fields.next()? {
                let pushed = match field.number {
                    2 => self.sample(series, field.bytes()?, outline.created),
                    3 => take_histogram(
                        series,
                        field.bytes()?,
                        Some(outline.created),
                        self.out,
                        &mut self.decoded.written,
                    ),
                    4 => self.exemplar(series, field.bytes()?),
                    _ => Ok(()),
                };
                self.settle(pushed)?;
            }
        }
        self.decoded.report.accepted += (self.out.samples() - accepted) as u64;
        Ok(())
    }

    /// Reports what was refused and goes on.
    #[inline]
    fn settle(&mut self, pushed: Result<(), Trouble>) -> Result<(), Damage> {
        match pushed {
            Ok(()) => Ok(()),
            Err(Trouble::Damaged(error)) => Err(error),
            Err(Trouble::Refused(reason, message)) => {
                self.decoded.report.refuse(1, self.index, 0, reason, || message);
                Ok(())
            }
        }
    }

    #[inline]
    fn sample(&mut self, series: SeriesId, message: &[u8], created: i64) -> Result<(), Trouble> {
        let (value, milliseconds, start) = match plain_sample(message) {
            Some((value, milliseconds)) => (value, milliseconds, 0),
            None => parse_sample(message)?,
        };
        let start = start_timestamp(start, created)?;
        self.out.push(series, to_nanoseconds(milliseconds)?, Value::F64(value), SampleFlags::NONE);
        if let Some(start) = start {
            self.out.start_timestamp(start);
        }
        self.decoded.written.samples += 1;
        Ok(())
    }

    #[cold]
    fn exemplar(&mut self, series: SeriesId, message: &[u8]) -> Result<(), Trouble> {
        let mut references = Vec::new();
        let (mut value, mut milliseconds) = (0.0, 0);
        let mut fields = Fields::new(message);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => field.varints(|reference| references.push(reference as u32))?,
                2 => value = field.double()?,
                3 => milliseconds = field.varint()?.cast_signed(),
                _ => {}
            }
        }
        take_exemplar(series, &labels(&self.symbols, &references)?, value, milliseconds, self.out)?;
        self.decoded.written.exemplars += 1;
        Ok(())
    }
}

/// Value, timestamp and start timestamp.
fn parse_sample(message: &[u8]) -> Result<(f64, i64, i64), Damage> {
    let (mut value, mut milliseconds, mut start) = (0.0, 0, 0);
    let mut fields = Fields::new(message);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => value = field.double()?,
            2 => milliseconds = field.varint()?.cast_signed(),
            3 => start = field.varint()?.cast_signed(),
            _ => {}
        }
    }
    Ok((value, milliseconds, start))
}

fn labels<'a>(symbols: &[Symbol<'a>], references: &[u32]) -> Result<Vec<RawLabel<'a>>, Trouble> {
    let (pairs, odd) = references.as_chunks::<2>();
    if !odd.is_empty() {
        let message = format!("expected references in pairs, found {}", references.len());
        return Err(Trouble::Refused(Refusal::InvalidReference, message));
    }
    pairs.iter().map(|[name, value]| Ok((text(symbols, *name)?, text(symbols, *value)?))).collect()
}

fn text<'a>(symbols: &[Symbol<'a>], reference: u32) -> Result<&'a [u8], Trouble> {
    symbols.get(reference as usize).map(|symbol| symbol.text).ok_or_else(|| {
        let message = format!("expected a reference into the symbol table of {}, found {reference}", symbols.len());
        Trouble::Refused(Refusal::InvalidReference, message)
    })
}

/// What is known of the family of the metric with that name, if anything.
fn metadata(symbols: &[Symbol<'_>], outline: Outline<'_>, name: &str) -> Result<Option<Arc<Metadata>>, Trouble> {
    let (help, unit) = (text(symbols, outline.help)?, text(symbols, outline.unit)?);
    if outline.metric_type == MetricType::Unknown && help.is_empty() && unit.is_empty() {
        return Ok(None);
    }
    let (Ok(help), Ok(unit)) = (std::str::from_utf8(help), std::str::from_utf8(unit)) else {
        return Err(Trouble::Refused(
            Refusal::InvalidUtf8,
            "expected help and unit in UTF-8, found other bytes".into(),
        ));
    };
    let family = family(name, outline.metric_type).into();
    Ok(Some(Arc::new(Metadata { family, metric_type: outline.metric_type, help: help.into(), unit: unit.into() })))
}

/// The family of a metric: its name, without the suffix of a part where families of that type have parts.
fn family(name: &str, metric_type: MetricType) -> &str {
    let suffixes: &[&str] = match metric_type {
        MetricType::Histogram => &["_bucket", "_sum", "_count"],
        MetricType::GaugeHistogram => &["_bucket", "_gsum", "_gcount", "_sum", "_count"],
        MetricType::Summary => &["_sum", "_count"],
        _ => &[],
    };
    let stem = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
    stem.filter(|stem| !stem.is_empty()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::messages;
    use super::*;
    use crate::model::{Format, SeriesTable};
    use prost::Message as _;

    fn series(references: &[u32]) -> messages::TimeSeries {
        let sample = messages::Sample { value: 1.0, timestamp: 5, start_timestamp: 0 };
        messages::TimeSeries { labels_refs: references.to_vec(), samples: vec![sample], ..Default::default() }
    }

    fn decoded(
        table: &SeriesTable,
        symbols: &[&str],
        timeseries: Vec<messages::TimeSeries>,
    ) -> (Decoded, crate::model::Batch) {
        let symbols = symbols.iter().map(|symbol| (*symbol).to_owned()).collect();
        let body = messages::Request { symbols, timeseries }.encode_to_vec();
        let mut out = BatchBuilder::new(table, Format::RemoteWrite2, Vec::new());
        let decoded = decode(&body, &Options::default(), &mut out).unwrap();
        (decoded, out.finish())
    }

    #[test]
    fn a_bad_series_is_refused_and_the_others_are_kept() {
        let symbols = ["", "__name__", "m", "a", "b"];
        let metadata = |help_ref| Some(messages::Metadata { r#type: 1, help_ref, unit_ref: 0 });
        let cases = [
            (series(&[1, 2, 3]), Refusal::InvalidReference),
            (series(&[1, 5]), Refusal::InvalidReference),
            (messages::TimeSeries { metadata: metadata(5), ..series(&[1, 2]) }, Refusal::InvalidReference),
            (series(&[3, 4]), Refusal::MissingName),
            (series(&[]), Refusal::MissingName),
            (series(&[1, 2, 3, 4, 3, 4]), Refusal::DuplicateLabel),
            (series(&[1, 2, 0, 4]), Refusal::InvalidLabel),
            (messages::TimeSeries { samples: Vec::new(), ..series(&[1, 2]) }, Refusal::NoValue),
        ];
        for (bad, reason) in cases {
            let table = SeriesTable::default();
            let (decoded, batch) = decoded(&table, &symbols, vec![bad, series(&[1, 2])]);
            assert_eq!(decoded.report.refused_for(reason), 1, "{:?}", decoded.report);
            assert_eq!((decoded.report.refused(), decoded.written.samples, batch.samples.len()), (1, 1, 1));
        }
    }

    #[test]
    fn changed_metadata_makes_a_new_series_and_the_same_does_not() {
        let table = SeriesTable::default();
        let with = |r#type, help_ref, unit_ref| messages::TimeSeries {
            metadata: Some(messages::Metadata { r#type, help_ref, unit_ref }),
            ..series(&[1, 2])
        };
        let all = vec![series(&[1, 2]), with(0, 0, 0), with(2, 0, 0), with(2, 3, 0), with(2, 0, 3), with(2, 3, 0)];
        let (_, batch) = decoded(&table, &["", "__name__", "m", "text"], all);
        let ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
        assert_eq!((ids[0], ids[3]), (ids[1], ids[5]));
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
        assert!(table.series(ids[0]).unwrap().metadata.is_none());
    }

    #[test]
    fn the_old_created_timestamp_stands_in_for_the_start() {
        let table = SeriesTable::default();
        let mut message = messages::TimeSeries { created_timestamp: 3, ..series(&[1, 2]) };
        message.samples.push(messages::Sample { value: 1.0, timestamp: 6, start_timestamp: 4 });
        let (_, batch) = decoded(&table, &["", "__name__", "m"], vec![message]);
        assert_eq!(batch.starts, [(0, 3_000_000), (1, 4_000_000)]);
    }

    #[test]
    fn families_lose_the_suffix_of_a_part() {
        use MetricType::{Counter, Gauge, GaugeHistogram, Histogram, Summary};
        let cases = [
            ("m_bucket", Histogram, "m"),
            ("m_sum", Summary, "m"),
            ("m_gcount", GaugeHistogram, "m"),
            ("m_bucket", Summary, "m_bucket"),
            ("m_total", Counter, "m_total"),
            ("m_count", Gauge, "m_count"),
            ("_sum", Histogram, "_sum"),
        ];
        for (name, metric_type, expected) in cases {
            assert_eq!(family(name, metric_type), expected, "{name} {metric_type:?}");
        }
    }

    #[test]
    fn a_flood_of_symbols_is_refused() {
        let table = SeriesTable::default();
        let mut out = BatchBuilder::new(&table, Format::RemoteWrite2, Vec::new());
        let body = [0x22, 0x00].repeat(SYMBOLS_MAX + 1);
        let refused = decode(&body, &Options::default(), &mut out);
        let fault = Fault::TooManySymbols { symbols_max: SYMBOLS_MAX as u32 };
        assert_eq!(refused.map_err(|error| error.fault), Err(fault));
        assert!(decode(&body[2..], &Options::default(), &mut out).is_ok());
    }
}
