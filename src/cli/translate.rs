//! `sluicegate translate`: one format in, another out, as a filter; losses and refused lines on standard error.

use crate::clock;
use crate::model::{Batch, BatchBuilder, Format, Loss, LossSet, Losses, Metadata, SeriesTable, TimestampNs};
use crate::output::encoding::Encoding;
use crate::wire::compression::{self, Encoding as ContentEncoding};
use crate::wire::prometheus_text::encode::Exposed;
use crate::wire::{
    Report, SampleRef, influx_line, openmetrics, prometheus_text, remote_write, remote_write2, wavefront,
};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// Largest input, before and after decompression.
const INPUT_BYTES_MAX: usize = 1 << 30;
/// The source of Wavefront points whose series has none of the source labels.
const NO_SOURCE: &str = "unknown";

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is read
    #[arg(long, value_name = "FORMAT", value_parser = format_of)]
    from: Format,
    /// What is written
    #[arg(long, value_name = "FORMAT", value_parser = format_of)]
    to: Format,
    /// Read instead of standard input, which is `-`, too
    file: Option<PathBuf>,
}

pub(super) fn format_of(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| format!("expected one of {}", Format::ALL.map(Format::as_str).join(", ")))
}

/// Reads FILE or standard input, writes standard output. Exit code 1 when anything was refused.
pub(super) fn translate(arguments: &Arguments) -> ExitCode {
    let (from, to) = (arguments.from, arguments.to);
    let translated = read(arguments.file.as_deref()).and_then(|input| {
        let translated = translation(from, to, &input, clock::now()).map_err(io::Error::other)?;
        let mut out = io::stdout().lock();
        out.write_all(&translated.bytes)?;
        out.flush()?;
        Ok(translated)
    });
    match translated {
        Ok(translated) => {
            let _ = write_notes(&mut io::stderr().lock(), &translated);
            if translated.report.refused() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "sluicegate translate: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(file: Option<&Path>) -> io::Result<Vec<u8>> {
    let mut input = Vec::new();
    let limit = INPUT_BYTES_MAX as u64 + 1;
    match file {
        Some(path) if path.as_os_str() != "-" => {
            let named = |error| io::Error::other(format!("{}: {error}", path.display()));
            std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut input)).map_err(named)?
        }
        _ => io::stdin().lock().take(limit).read_to_end(&mut input)?,
    };
    if input.len() > INPUT_BYTES_MAX {
        return Err(io::Error::other(format!("the input is larger than {INPUT_BYTES_MAX} bytes")));
    }
    Ok(input)
}

fn write_notes(to: &mut impl Write, translated: &Translation) -> io::Result<()> {
    for refused in &translated.report.first {
        write!(to, "refused {}", refused.line)?;
        if refused.column > 0 {
            write!(to, ":{}", refused.column)?;
        }
        writeln!(to, ": {} ({})", refused.message, refused.reason.as_str())?;
    }
    let more = translated.report.reasons().count();
    if more > 0 {
        let reasons: Vec<_> =
            translated.report.reasons().map(|(reason, n)| format!("{} {n}", reason.as_str())).collect();
        writeln!(to, "refused samples: {}", reasons.join(", "))?;
    }
    for (loss, samples) in translated.dropped.iter() {
        writeln!(to, "dropped {samples} samples: {}", loss.as_str())?;
    }
    for (loss, samples) in translated.losses.iter() {
        writeln!(to, "altered {samples} samples: {}", loss.as_str())?;
    }
    Ok(())
}

/// The result of a translation.
#[derive(Debug)]
pub struct Translation {
    /// The other format.
    pub bytes: Vec<u8>,
    /// What the decoder took and refused.
    pub report: Report,
    /// Samples that arrived altered.
    pub losses: Losses,
    /// Samples that did not arrive.
    pub dropped: Losses,
}

/// Translates a whole input. Remote write is read and written as one Snappy block. The error is a sentence about an input
/// that is no message at all.
pub fn translation(from: Format, to: Format, input: &[u8], now: TimestampNs) -> Result<Translation, String> {
    let table = SeriesTable::default();
    let mut builder = BatchBuilder::new(&table, from, Vec::new());
    let report = decode(from, input, now, &mut builder)?;
    let batch = builder.finish();
    for metadata in &batch.metadata {
        table.learn(Metadata::clone(metadata));
    }
    let (mut losses, mut dropped) = (Losses::default(), Losses::default());
    let bytes = match to {
        Format::PrometheusText | Format::OpenMetrics => expose(to, &batch, &table, &mut losses, &mut dropped),
        Format::InfluxLine => {
            let options = influx_line::encode::Options { stamps: false, ..influx_line::encode::Options::default() };
            encode::<influx_line::encode::Encoder>(&options, &batch, &table, &mut losses, &mut dropped)
        }
        Format::Wavefront => {
            let mut options = wavefront::encode::Options::new(NO_SOURCE.to_owned());
            options.stamps = false;
            encode::<wavefront::encode::Encoder>(&options, &batch, &table, &mut losses, &mut dropped)
        }
        Format::RemoteWrite => {
            let options = remote_write::encode::Options::default();
            let body = encode::<remote_write::encode::Encoder>(&options, &batch, &table, &mut losses, &mut dropped);
            compression::snappy(&body)
        }
        Format::RemoteWrite2 => {
            let options = remote_write2::encode::Options::default();
            let body = encode::<remote_write2::encode::Encoder>(&options, &batch, &table, &mut losses, &mut dropped);
            compression::snappy(&body)
        }
    };
    Ok(Translation { bytes, report, losses, dropped })
}

fn decode(from: Format, input: &[u8], now: TimestampNs, out: &mut BatchBuilder<'_>) -> Result<Report, String> {
    let mut plain = Vec::new();
    if matches!(from, Format::RemoteWrite | Format::RemoteWrite2) {
        compression::decompress(ContentEncoding::Snappy, input, INPUT_BYTES_MAX, &mut plain)
            .map_err(|error| error.to_string())?;
    }
    Ok(match from {
        Format::PrometheusText => {
            prometheus_text::decode::decode(input, &prometheus_text::decode::Options { now, timestamp: None }, out)
        }
        Format::OpenMetrics => {
            openmetrics::decode::decode(input, &openmetrics::decode::Options { now, timestamp: None }, out)
        }
        Format::InfluxLine => {
            let precision = influx_line::decode::Precision::Nanoseconds;
            influx_line::decode::decode(input, &influx_line::decode::Options { precision, now }, out)
        }
        Format::Wavefront => {
            let options =
                wavefront::decode::Options { default_source: Some(NO_SOURCE), ..wavefront::decode::Options::at(now) };
            wavefront::decode::decode(input, &options, out)
        }
        Format::RemoteWrite => {
            remote_write::decode::decode(&plain, &remote_write::decode::Options::default(), out)
                .map_err(|error| error.to_string())?
                .report
        }
        Format::RemoteWrite2 => {
            remote_write2::decode::decode(&plain, &remote_write2::decode::Options::default(), out)
                .map_err(|error| error.to_string())?
                .report
        }
    })
}

fn expose(to: Format, batch: &Batch, table: &SeriesTable, losses: &mut Losses, dropped: &mut Losses) -> Vec<u8> {
    let series: HashMap<_, _> =
        batch.samples.iter().filter_map(|sample| Some((sample.series, table.series(sample.series)?))).collect();
    // Exemplars do not say which sample of their series they came with: the last belongs to the last.
    let mut exemplars: HashMap<_, Vec<_>> = HashMap::new();
    for exemplar in &batch.exemplars {
        exemplars.entry(exemplar.series).or_default().push(exemplar);
    }
    let mut exposed: Vec<_> = batch
        .samples
        .iter()
        .enumerate()
        .rev()
        .filter_map(|(index, sample)| {
            let value = batch.value(sample);
            let sample_ref =
                SampleRef { timestamp: sample.timestamp, value, start: batch.start_of(index), flags: sample.flags };
            let exemplar = exemplars.get_mut(&sample.series).and_then(Vec::pop);
            series.get(&sample.series).map(|series| Exposed { series, sample: sample_ref, exemplar })
        })
        .collect();
    exposed.reverse();
    losses.add(Loss::Exemplar, exemplars.values().map(|left| left.len() as u64).sum());
    let families = |family: &str| table.family(family);
    let mut out = Vec::new();
    match to {
        Format::OpenMetrics => openmetrics::encode::encode(&mut exposed, &families, &mut out, losses, dropped),
        _ => prometheus_text::encode::encode(&mut exposed, &families, &mut out, losses, dropped),
    }
    out
}

fn encode<E: Encoding>(
    options: &E::Options,
    batch: &Batch,
    table: &SeriesTable,
    losses: &mut Losses,
    dropped: &mut Losses,
) -> Vec<u8> {
    let mut encoder = E::new(options);
    let mut rendered: HashMap<_, Result<Arc<E::Rendered>, Loss>> = HashMap::new();
    let mut render = |id| {
        let slot = rendered.entry(id).or_insert_with(|| {
            let series = table.series(id).ok_or(Loss::LogDamaged)?;
            E::render(&series, options, table).map(Arc::new)
        });
        slot.as_ref().map(Arc::clone).map_err(|loss| *loss)
    };
    for (index, sample) in batch.samples.iter().enumerate() {
        let out = SampleRef {
            timestamp: sample.timestamp,
            value: batch.value(sample),
            start: batch.start_of(index),
            flags: sample.flags,
        };
        let pushed = render(sample.series).and_then(|rendered| encoder.push(&rendered, &out, losses));
        if let Err(loss) = pushed {
            dropped.count(loss);
        }
    }
    for exemplar in &batch.exemplars {
        if let Ok(rendered) = render(exemplar.series) {
            encoder.exemplar(&rendered, exemplar, losses);
        }
    }
    // Formats that send metadata apart from series get that of the series, too; for others, `render` has dealt with it.
    let families: BTreeMap<_, _> = batch
        .samples
        .iter()
        .filter_map(|sample| table.series(sample.series)?.metadata.clone())
        .map(|metadata| (metadata.family.clone(), metadata))
        .collect();
    for metadata in families.values() {
        let _ = encoder.metadata(metadata);
    }
    for metadata in &batch.metadata {
        if !encoder.metadata(metadata) {
            losses.count_set(LossSet::of(Loss::Metadata));
        }
    }
    let bodies = encoder.finish(dropped);
    bodies.iter().flat_map(|(_, body)| body.part(0, body.cuts.len()).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(from: Format, to: Format, input: &str) -> String {
        String::from_utf8(translation(from, to, input.as_bytes(), 1_700_000_000_000_000_000).unwrap().bytes).unwrap()
    }

    #[test]
    fn a_line_becomes_prometheus_text_and_comes_back() {
        let line = "cpu,host=a usage=1.5 1700000000000000000\n";
        let exposition = text(Format::InfluxLine, Format::PrometheusText, line);
        assert!(exposition.contains("cpu_usage{host=\"a\"} 1.5 1700000000000"), "{exposition}");
        let back = text(Format::PrometheusText, Format::InfluxLine, "cpu_usage{host=\"a\"} 1.5 1700000000000\n");
        assert_eq!(back, "cpu_usage,host=a value=1.5 1700000000000000000\n");
    }

    #[test]
    fn a_sample_without_a_timestamp_stays_without() {
        let line = "cpu,host=a usage=1.5,n=2i\n";
        assert_eq!(text(Format::InfluxLine, Format::InfluxLine, line), line);
        assert_eq!(text(Format::PrometheusText, Format::PrometheusText, "a 1\n"), "a 1\n");
        assert_eq!(text(Format::PrometheusText, Format::InfluxLine, "a 1\n"), "a value=1\n");
        let point = "\"a\" 1.0 source=\"s\"\n";
        assert_eq!(text(Format::Wavefront, Format::Wavefront, point), point);
        assert_eq!(text(Format::Wavefront, Format::PrometheusText, point), "a{source=\"s\"} 1\n");
    }

    #[test]
    fn every_sample_of_a_series_arrives() {
        let lines = "m v=1 1000000\nm v=2 2000000\n";
        for middle in Format::ALL {
            let there = translation(Format::InfluxLine, middle, lines.as_bytes(), 0).unwrap();
            assert_eq!((there.dropped.total(), there.report.accepted), (0, 2), "{middle:?}");
            let onward = translation(middle, Format::PrometheusText, &there.bytes, 0).unwrap();
            assert_eq!(onward.report.accepted, 2, "{middle:?}");
        }
    }

    #[test]
    fn types_survive_remote_write() {
        let body = "# HELP a_total h\n# TYPE a_total counter\na_total 1 1\n";
        for middle in [Format::RemoteWrite, Format::RemoteWrite2] {
            let there = translation(Format::PrometheusText, middle, body.as_bytes(), 0).unwrap();
            let back = translation(middle, Format::PrometheusText, &there.bytes, 0).unwrap();
            assert_eq!(String::from_utf8(back.bytes).unwrap(), body, "{middle:?}");
        }
    }

    #[test]
    fn exemplars_stay_with_their_samples() {
        let body = "# TYPE c counter\nc_total 1 1 # {t=\"a\"} 1\nc_total 2 2 # {t=\"b\"} 2\n# EOF\n";
        assert_eq!(text(Format::OpenMetrics, Format::OpenMetrics, body), body);
    }

    #[test]
    fn every_pair_of_formats_carries_a_gauge() {
        let line = "m,source=s v=2 1700000000000000000\n";
        for middle in Format::ALL {
            let there = translation(Format::InfluxLine, middle, line.as_bytes(), 0).unwrap();
            assert_eq!(there.dropped.total(), 0, "{middle:?}");
            for to in Format::ALL {
                let onward = translation(middle, to, &there.bytes, 0).unwrap();
                assert_eq!(onward.report.refused(), 0, "{middle:?}: {:?}", onward.report.first);
                assert_eq!(onward.report.accepted, 1, "{middle:?} to {to:?}");
                assert_eq!(onward.dropped.total(), 0, "{middle:?} to {to:?}");
            }
        }
    }
}
