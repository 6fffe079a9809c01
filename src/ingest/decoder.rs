//! The decoders of all formats behind one `match`, so that the rest of the inputs knows none of them.

use crate::clock;
use crate::model::{BatchBuilder, Format, Refusal, TimestampNs};
use crate::wire::{
    Report, influx_line, metric_families, openmetrics, prometheus_text, remote_write, remote_write2, wavefront,
};
use memchr::memchr_iter;
use remote_write::decode::Decoded;
pub(super) use remote_write::decode::Written;

/// What a body is, and what its request says about reading it.
#[derive(Debug)]
pub(super) enum Decoder {
    /// Text exposition 0.0.4, with a timestamp for samples that have none.
    PrometheusText { timestamp: Option<TimestampNs> },
    /// OpenMetrics 1.0, likewise.
    OpenMetrics { timestamp: Option<TimestampNs> },
    /// Metric families in protobuf, as pushed to a Pushgateway; counted as text exposition.
    MetricFamilies,
    /// Remote write 1.0.
    RemoteWrite,
    /// Remote write 2.0.
    RemoteWrite2,
    /// Line protocol.
    InfluxLine { precision: influx_line::decode::Precision },
    /// Wavefront lines, with the source of points that name none.
    Wavefront { form: wavefront::decode::Form, default_source: String },
    /// Something sent to a Wavefront port that is not metrics: every line is refused.
    WavefrontOther,
}

impl Decoder {
    /// The format, as the counters name it.
    pub(super) fn format(&self) -> Format {
        match self {
            Self::PrometheusText { .. } | Self::MetricFamilies => Format::PrometheusText,
            Self::OpenMetrics { .. } => Format::OpenMetrics,
            Self::RemoteWrite => Format::RemoteWrite,
            Self::RemoteWrite2 => Format::RemoteWrite2,
            Self::InfluxLine { .. } => Format::InfluxLine,
            Self::Wavefront { .. } | Self::WavefrontOther => Format::Wavefront,
        }
    }

    /// Decodes a body. An error says why nothing in it could be told apart.
    pub(super) fn decode(&self, body: &[u8], out: &mut BatchBuilder<'_>) -> Result<Decoded, String> {
        let now = clock::now();
        let report = match self {
            Self::PrometheusText { timestamp } => prometheus_text::decode::decode(
                body,
                &prometheus_text::decode::Options { now, timestamp: *timestamp },
                out,
            ),
            Self::OpenMetrics { timestamp } => {
                openmetrics::decode::decode(body, &openmetrics::decode::Options { now, timestamp: *timestamp }, out)
            }
            Self::MetricFamilies => metric_families::decode(body, &metric_families::Options { now }, out)
                .map_err(|error| error.to_string())?,
            Self::RemoteWrite => {
                return remote_write::decode::decode(body, &remote_write::decode::Options::default(), out)
                    .map_err(|error| error.to_string());
            }
            Self::RemoteWrite2 => {
                return remote_write2::decode::decode(body, &remote_write2::decode::Options::default(), out)
                    .map_err(|error| error.to_string());
            }
            Self::InfluxLine { precision } => {
                influx_line::decode::decode(body, &influx_line::decode::Options { precision: *precision, now }, out)
            }
            Self::Wavefront { form, default_source } => {
                let default_source = Some(default_source.as_str());
                // Micrometer sends a tag of blanks as `""`: what it says is that there is no such tag.
                let (form, drops_blank_tags) = (*form, true);
                let proxy = wavefront::decode::Options::at(now);
                let options = wavefront::decode::Options { default_source, form, drops_blank_tags, ..proxy };
                wavefront::decode::decode(body, &options, out)
            }
            Self::WavefrontOther => not_metrics(body),
        };
        Ok(Decoded { report, ..Decoded::default() })
    }

    /// The text of a refused line, for answers that quote it.
    pub(super) fn line(body: &[u8], line: usize) -> &[u8] {
        influx_line::decode::line(body, line)
    }
}

/// Refuses every line that is not blank.
fn not_metrics(body: &[u8]) -> Report {
    let mut report = Report::default();
    let mut start = 0;
    let ends = memchr_iter(b'\n', body).chain(std::iter::once(body.len()));
    for (at, end) in ends.enumerate() {
        if !body[start..end].trim_ascii().is_empty() {
            report.refuse(1, at + 1, 0, Refusal::Unsupported, || {
                "expected metrics, found spans, events or logs".to_owned()
            });
        }
        start = end + 1;
    }
    report
}
