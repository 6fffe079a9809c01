//! `/metrics/connected` and `/metrics/proxy`, as prometheus-rsocket-proxy has them.
//!
//! The texts of all applications become one exposition, in which a family stands once. Of a series that several applications
//! have, because no label tells them apart, that of the first to connect is shown; the others are counted. Always 200: an
//! application that does not answer is missing, and told in `/metrics/proxy` and in the log.

use super::pull;
use crate::ingest::Gate;
use crate::model::{Batch, Losses, SampleFlags, Series};
use crate::wire::SampleRef;
use crate::wire::prometheus_text::encode::Exposed;
use crate::wire::prometheus_text::negotiation::Exposition;
use hyper::HeaderMap;
use hyper::header::ACCEPT;
use std::sync::Arc;
use std::time::Duration;

/// How long a scraper waits that does not say.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a scraper says of how long it waits, as Prometheus names it.
const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";

/// The texts that were there in time, still to be put together.
pub(in crate::ingest) struct Connected {
    gate: Arc<Gate>,
    texts: Vec<Arc<Batch>>,
    exposition: Exposition,
}

impl Connected {
    /// Asks all applications, for as long as the scraper has, less a fifth for making the page and sending it.
    pub(in crate::ingest) async fn gather(gate: &Arc<Gate>, headers: &HeaderMap) -> Self {
        let texts = pull::texts(gate, patience(headers) * 4 / 5).await;
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        Self { gate: Arc::clone(gate), texts, exposition: Exposition::negotiated(accept) }
    }

    /// Its media type.
    pub(in crate::ingest) fn content_type(&self) -> &'static str {
        self.exposition.content_type()
    }

    /// Samples that there are.
    pub(in crate::ingest) fn samples(&self) -> usize {
        self.texts.iter().map(|text| text.samples.len()).sum()
    }

    /// The page; for a thread that may block.
    pub(in crate::ingest) fn page(&self) -> Vec<u8> {
        let table = &self.gate.table;
        // Of what would be the same line, an exposition shows what came last.
        let samples =
            self.texts.iter().rev().flat_map(|text| text.samples.iter().rev().map(move |sample| (text, sample)));
        let known: Vec<(Series, _)> =
            samples.filter_map(|(text, sample)| Some((table.series(sample.series)?, (text, sample)))).collect();
        let exposed = known.iter().map(|(series, (text, sample))| Exposed {
            series,
            sample: SampleRef {
                // One that the gateway gave is not shown; it must not tell which application was asked first.
                timestamp: if sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT) { 0 } else { sample.timestamp },
                value: text.value(sample),
                start: None,
                flags: sample.flags,
            },
            exemplar: None,
        });
        let (mut out, mut losses, mut dropped) = (Vec::new(), Losses::default(), Losses::default());
        let families = |family: &str| table.family(family);
        self.exposition.encode(&mut exposed.collect(), &families, &mut out, &mut losses, &mut dropped);
        self.gate.applications.counts.duplicates(dropped.iter().map(|(_, samples)| samples).sum());
        out
    }
}

/// How long a scraper waits.
fn patience(headers: &HeaderMap) -> Duration {
    let said =
        headers.get(TIMEOUT_HEADER).and_then(|said| said.to_str().ok()).and_then(|said| said.parse::<f64>().ok());
    let said = said.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    said.map_or(SCRAPE_TIMEOUT, |said| said.min(SCRAPE_TIMEOUT * 6))
}

/// What became of scrapes, pushes and connections.
pub(in crate::ingest) fn proxy(gate: &Gate) -> String {
    let applications = &gate.applications;
    applications.counts.exposition(applications.counts().connected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    #[test]
    fn a_scraper_says_how_long_it_waits() {
        let says = |said: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT_HEADER, HeaderValue::from_static(said));
            patience(&headers)
        };
        assert_eq!(says("9"), Duration::from_secs(9));
        assert_eq!(says("0.5"), Duration::from_millis(500));
        for nonsense in ["", "-1", "NaN", "inf", "soon", "1e300"] {
            assert_eq!(says(nonsense), SCRAPE_TIMEOUT, "{nonsense}");
        }
        assert_eq!(says("86400"), Duration::from_secs(60), "nobody holds a page for a day");
    }
}
