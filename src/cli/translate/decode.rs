//! Chunks to batches, with a series table that starts over when it is full: to a filter it is a cache.

use super::Styles;
use super::chunks::{Chunk, MESSAGE_BYTES_MAX};
use crate::ingest::temporality::{Origin, Tallies};
use crate::model::{Batch, BatchBuilder, Format, Refusal, SeriesTable, Source, TableBounds, TimestampNs};
use crate::output::strings;
use crate::wire::compression::{self, Encoding};
use crate::wire::{
    Report, influx_line, openmetrics, prometheus_names, prometheus_text, remote_write, remote_write2, wavefront,
};
use memchr::memchr_iter;
use std::borrow::Cow;
use std::sync::Arc;

/// The source of Wavefront points whose series has none of the source labels.
pub(super) const NO_SOURCE: &str = "unknown";
/// Size at which the series table starts over, between two chunks.
const TABLE_BYTES_MAX: usize = 128 << 20;

/// A chunk and what is in it.
pub(super) struct Decoded {
    pub(super) chunk: Chunk,
    pub(super) batch: Batch,
    pub(super) report: Report,
    pub(super) table: Arc<SeriesTable>,
}

/// Decodes the chunks of one format.
pub(super) struct Decoder {
    from: Format,
    /// What becomes of strings on the way to Prometheus.
    style: prometheus_names::Style,
    table: Arc<SeriesTable>,
    /// What counters of Micrometer say in the other temporality, from the first chunk on.
    tallies: Tallies,
}

impl Decoder {
    pub(super) fn new(from: Format, styles: &Styles) -> Self {
        let (style, table) = (styles.prometheus.clone(), Arc::new(empty_table()));
        Self { from, style, table, tallies: Tallies::new(Arc::clone(&styles.micrometer)) }
    }

    /// The format it reads.
    pub(super) fn format(&self) -> Format {
        self.from
    }

    /// The error is a sentence about a message that is none.
    pub(super) fn decode(&mut self, chunk: Chunk, now: TimestampNs) -> Result<Decoded, String> {
        if self.table.bytes() >= TABLE_BYTES_MAX {
            let full = std::mem::replace(&mut self.table, Arc::new(empty_table()));
            for metadata in full.families() {
                self.table.learn(Source::OWN, (*metadata).clone());
            }
            self.tallies.forget_ids();
        }
        let mut out = BatchBuilder::new(&self.table, self.from, Vec::new());
        let report = if chunk.too_long {
            let mut report = Report::default();
            let message = || "expected a line end within 8 MiB, found none".to_owned();
            report.refuse(1, 1, 1, Refusal::TooLong, message);
            report
        } else {
            decode(self.from, &chunk.bytes, now, &mut out)?
        };
        let mut batch = out.finish();
        if let Cow::Owned(samples) = strings::carried(&batch, &self.table, &self.style) {
            batch.replace_samples(samples);
        }
        // Nobody sent before what a filter is given first.
        self.tallies.restate(&mut batch, &self.table, Origin::Pushed, now);
        for metadata in &batch.metadata {
            self.table.learn(Source::OWN, (**metadata).clone());
        }
        Ok(Decoded { chunk, batch, report, table: Arc::clone(&self.table) })
    }
}

/// Never refuses a series: it is replaced instead.
fn empty_table() -> SeriesTable {
    SeriesTable::new(TableBounds { bytes_max: usize::MAX, ..TableBounds::default() })
}

fn decode(from: Format, input: &[u8], now: TimestampNs, out: &mut BatchBuilder<'_>) -> Result<Report, String> {
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
            own_version(remote_write::decode::decode(&plain(input)?, &remote_write::decode::Options::default(), out))?
        }
        Format::RemoteWrite2 => {
            own_version(remote_write2::decode::decode(&plain(input)?, &remote_write2::decode::Options::default(), out))?
        }
    })
}

/// What was read of a message, unless it holds series of the other version.
fn own_version<E: ToString>(decoded: Result<remote_write::decode::Decoded, E>) -> Result<Report, String> {
    let decoded = decoded.map_err(|error| error.to_string())?;
    match decoded.foreign {
        0 => Ok(decoded.report),
        series => {
            Err(format!("expected a message of this version of remote write, found {series} series of the other"))
        }
    }
}

fn plain(input: &[u8]) -> Result<Vec<u8>, String> {
    let mut plain = Vec::new();
    compression::decompress(Encoding::Snappy, input, MESSAGE_BYTES_MAX, &mut plain)
        .map_err(|error| error.to_string())?;
    Ok(plain)
}

impl Decoded {
    fn is_text(&self) -> bool {
        !matches!(self.batch.format, Format::RemoteWrite | Format::RemoteWrite2)
    }

    /// A place in the chunk as messages name it: file and line, or the series' index in a message.
    pub(super) fn place(&self, line: usize) -> String {
        let name = &self.chunk.name;
        if self.is_text() {
            return format!("{name}:{}", self.chunk.first_line + line - 1);
        }
        format!("{name}: series {line}")
    }

    /// The text of a line of the chunk, from 1.
    pub(super) fn line(&self, line: usize) -> Option<Cow<'_, str>> {
        let text = self.chunk.bytes.split(|byte| *byte == b'\n').nth(line.checked_sub(1)?)?;
        self.is_text().then(|| String::from_utf8_lossy(text.strip_suffix(b"\r").unwrap_or(text)))
    }

    /// Where the sample with that index came from: its line, or its metric where there are no lines.
    #[cold]
    pub(super) fn place_of(&self, index: usize) -> String {
        if !self.is_text() {
            let series = self.batch.samples.get(index).and_then(|sample| self.table.series(sample.series));
            let metric = series.map_or(String::new(), |series| series.name.measurement().to_owned());
            return format!("{}: {metric}", self.chunk.name);
        }
        // No decoder tells the line of each sample, since few ask: shorter pieces of the chunk have fewer samples.
        let bytes = &self.chunk.bytes;
        let ends: Vec<usize> = memchr_iter(b'\n', bytes).map(|end| end + 1).collect();
        let line = ends.partition_point(|end| {
            let mut out = BatchBuilder::new(&self.table, self.batch.format, Vec::new());
            let decoded = decode(self.batch.format, &bytes[..*end], 0, &mut out);
            decoded.is_ok() && out.samples() <= index
        });
        // A row of several lines ends there and begins behind the row before.
        let begun = if self.batch.format == Format::InfluxLine && line > 0 {
            let before = influx_line::decode::whole_rows(&bytes[..ends[line - 1]]);
            ends.partition_point(|end| *end <= before)
        } else {
            line
        };
        self.place(begun + 1)
    }
}
