//! Which of the text formats a scraper is answered in.

use super::encode::{self, Exposed, Options};
use crate::model::{Losses, Metadata};
use crate::wire::openmetrics;
use crate::wire::prometheus_names::{Alphabet, Style};
use std::sync::Arc;

/// The text format a scraper asks for, and which names it reads there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// Prometheus text.
    PrometheusText(Alphabet),
    /// OpenMetrics 1.0.
    OpenMetrics(Alphabet),
}

impl Exposition {
    /// What an `Accept` header asks for: the range of the greatest weight, OpenMetrics before text, else legacy text. Names of
    /// any UTF-8 are for ranges with `escaping=allow-utf-8`; every other escaping is answered as `underscores`.
    ///
    /// See <https://prometheus.io/docs/instrumenting/content_negotiation/>.
    pub fn negotiated(accept: Option<&str>) -> Self {
        let ranges = accept.unwrap_or_default().split(',').filter_map(Self::of_range);
        let weightiest = ranges.rev().max_by(|(left, asked), (right, other)| {
            let is_open = |asked: &Self| matches!(asked, Self::OpenMetrics(_));
            left.total_cmp(right).then(is_open(asked).cmp(&is_open(other)))
        });
        weightiest.map_or(Self::PrometheusText(Alphabet::Legacy), |(_, asked)| asked)
    }

    /// A media range with its weight; none when it is not of these formats, or not wanted.
    fn of_range(range: &str) -> Option<(f32, Self)> {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next()?.to_ascii_lowercase();
        let (mut weight, mut alphabet) = (1.0, Alphabet::Legacy);
        for (key, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            match (key.trim_end(), value.trim_start()) {
                ("q", value) => weight = value.parse().unwrap_or(0.0),
                ("escaping", "allow-utf-8") => alphabet = Alphabet::Utf8,
                _ => {}
            }
        }
        let asked = match &*media {
            "text/plain" => Self::PrometheusText(alphabet),
            "application/openmetrics-text" => Self::OpenMetrics(alphabet),
            _ => return None,
        };
        (weight > 0.0).then_some((weight, asked))
    }

    /// The media type of an answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::PrometheusText(alphabet) => encode::content_type(alphabet),
            Self::OpenMetrics(alphabet) => openmetrics::encode::content_type(alphabet),
        }
    }

    /// Writes the exposition of samples, which it takes out of the vector. Those that cannot be written are counted in
    /// `dropped`, altered ones in `losses`.
    pub fn encode(
        self,
        samples: &mut Vec<Exposed<'_>>,
        families: &dyn Fn(&str) -> Option<Arc<Metadata>>,
        out: &mut Vec<u8>,
        losses: &mut Losses,
        dropped: &mut Losses,
    ) {
        let (Self::PrometheusText(alphabet) | Self::OpenMetrics(alphabet)) = self;
        let options = Options { style: &Style::default(), alphabet, families };
        let encode = match self {
            Self::PrometheusText(_) => encode::encode,
            Self::OpenMetrics(_) => openmetrics::encode::encode,
        };
        encode(samples, &options, out, losses, dropped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heavier_format_is_exposed() {
        use Alphabet::{Legacy, Utf8};
        use Exposition::{OpenMetrics, PrometheusText};
        let prometheus3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let cases = [
            ("", PrometheusText(Legacy)),
            ("*/*", PrometheusText(Legacy)),
            ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5", OpenMetrics(Legacy)),
            ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain;q=0.5", PrometheusText(Legacy)),
            ("text/plain, application/openmetrics-text", OpenMetrics(Legacy)),
            ("application/openmetrics-text;q=0", PrometheusText(Legacy)),
            ("application/openmetrics-text;q=0;escaping=allow-utf-8", PrometheusText(Legacy)),
            (prometheus3, OpenMetrics(Utf8)),
            (&prometheus3.replace("allow-utf-8", "underscores"), OpenMetrics(Legacy)),
            (&prometheus3.replace("allow-utf-8", "dots"), OpenMetrics(Legacy)),
            (&prometheus3.replace("allow-utf-8", "values"), OpenMetrics(Legacy)),
            ("text/plain; version=1.0.0; escaping=allow-utf-8", PrometheusText(Utf8)),
            ("Text/Plain;escaping=allow-utf-8,text/plain;version=0.0.4", PrometheusText(Utf8)),
            ("text/plain;version=0.0.4,text/plain;escaping=allow-utf-8;q=0.9", PrometheusText(Legacy)),
            ("application/json;escaping=allow-utf-8,text/plain", PrometheusText(Legacy)),
        ];
        for (accept, expected) in cases {
            assert_eq!(Exposition::negotiated(Some(accept)), expected, "{accept:?}");
        }
        assert_eq!(Exposition::negotiated(None), PrometheusText(Legacy));
    }
}
