//! What became of scrapes, pushes and connections, under the names that prometheus-rsocket-proxy gave them, so that its board
//! shows them. Messages of applications never become labels: `exception` is one of a closed list.

use super::failure::{self, Failure};
use super::session::{FAULTS, Fault};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::time::Duration;
use tokio::time::Instant;

/// How long a maximum is remembered, twice at most.
const MAX_KEPT: Duration = Duration::from_secs(60);
/// A connection ended before RSocket was spoken on it: TLS, or the request for WebSocket.
const HANDSHAKE: &str = "handshake";

/// How an application is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Transport {
    Tcp,
    WebSocket,
}

impl Transport {
    pub(super) const ALL: [Self; 2] = [Self::Tcp, Self::WebSocket];

    /// As the proxy spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::WebSocket => "Websocket",
        }
    }
}

/// The counts since the start.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    scrapes: BTreeMap<&'static str, Summary>,
    payload_bytes: Summary,
    pushes: BTreeMap<&'static str, u64>,
    faults: BTreeMap<(&'static str, Transport), u64>,
    duplicates: u64,
}

/// Count, sum and a maximum that is forgotten after a while, as Micrometer's summaries have it.
#[derive(Debug, Default)]
struct Summary {
    count: u64,
    sum: f64,
    max: [f64; 2],
    turned: Option<Instant>,
}

impl Summary {
    fn note(&mut self, value: f64, now: Instant) {
        self.turn(now);
        self.count += 1;
        self.sum += value;
        self.max[0] = self.max[0].max(value);
    }

    fn turn(&mut self, now: Instant) {
        let turned = *self.turned.get_or_insert(now);
        if now >= turned + MAX_KEPT {
            let before = if now >= turned + 2 * MAX_KEPT { 0.0 } else { self.max[0] };
            (self.max, self.turned) = ([0.0, before], Some(now));
        }
    }

    fn max(&mut self, now: Instant) -> f64 {
        self.turn(now);
        self.max[0].max(self.max[1])
    }
}

fn name<T>(result: Result<T, &Failure>) -> &'static str {
    result.map_or_else(Failure::name, |_| failure::NAMES[0])
}

impl Counts {
    /// A scrape took so long, and gave so many bytes of text.
    pub(super) fn scrape(&self, result: Result<usize, &Failure>, took: Duration) {
        let (now, mut inner) = (Instant::now(), self.0.lock());
        inner.scrapes.entry(name(result)).or_default().note(took.as_secs_f64(), now);
        if let Ok(bytes) = result {
            inner.payload_bytes.note(bytes as f64, now);
        }
    }

    /// An application pushed.
    pub(super) fn push(&self, result: Result<(), &Failure>) {
        *self.0.lock().pushes.entry(name(result)).or_default() += 1;
    }

    /// A connection was ended for a fault.
    pub(super) fn fault(&self, fault: &Fault, transport: Transport) {
        *self.0.lock().faults.entry((fault.name(), transport)).or_default() += 1;
    }

    /// A connection never came to speak RSocket.
    pub(super) fn handshake(&self, transport: Transport) {
        *self.0.lock().faults.entry((HANDSHAKE, transport)).or_default() += 1;
    }

    /// Samples were left out of an exposition, since another application has the same series.
    pub(super) fn duplicates(&self, samples: u64) {
        self.0.lock().duplicates += samples;
    }

    /// Scrapes that gave something, and those that did not.
    pub(super) fn scrapes(&self) -> (u64, u64) {
        let inner = self.0.lock();
        let count = |success: bool| {
            let of = inner.scrapes.iter().filter(|(name, _)| (**name == failure::NAMES[0]) == success);
            of.map(|(_, summary)| summary.count).sum()
        };
        (count(true), count(false))
    }

    /// Pushes that were taken.
    pub(super) fn pushes(&self) -> u64 {
        self.0.lock().pushes.get(failure::NAMES[0]).copied().unwrap_or_default()
    }

    /// Everything as text exposition, beside the number of connected applications.
    pub(super) fn exposition(&self, connected: usize) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.0.lock().write(&mut text, connected, Instant::now());
        text
    }
}

impl Inner {
    fn write(&mut self, out: &mut String, connected: usize, now: Instant) -> fmt::Result {
        let family = |out: &mut String, name: &str, kind: &str, help: &str| {
            writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
        };
        let active = "prometheus_proxy_scrape_active_connections";
        family(out, active, "gauge", "Applications that are connected.")?;
        writeln!(out, "{active} {connected}")?;

        let seconds = "prometheus_proxy_scrape_seconds";
        family(out, seconds, "summary", "Time that scrapes of applications took.")?;
        let labels = |name: &str| {
            let outcome = match name {
                "none" => "success",
                "closed" => "closed",
                _ => "error",
            };
            format!("exception=\"{name}\",outcome=\"{outcome}\"")
        };
        for name in failure::NAMES {
            let summary = self.scrapes.entry(name).or_default();
            let (labels, Summary { count, sum, .. }) = (labels(name), summary);
            writeln!(out, "{seconds}_count{{{labels}}} {count}\n{seconds}_sum{{{labels}}} {sum}")?;
        }
        let max = "prometheus_proxy_scrape_seconds_max";
        family(out, max, "gauge", "The longest of the last one to two minutes.")?;
        for (name, summary) in &mut self.scrapes {
            writeln!(out, "{max}{{{}}} {}", labels(name), summary.max(now))?;
        }

        let bytes = "prometheus_proxy_scrape_payload_bytes";
        family(out, bytes, "summary", "Size of the texts that applications gave.")?;
        let Summary { count, sum, .. } = self.payload_bytes;
        writeln!(out, "{bytes}_count {count}\n{bytes}_sum {sum}")?;
        family(out, &format!("{bytes}_max"), "gauge", "The largest of the last one to two minutes.")?;
        writeln!(out, "{bytes}_max {}", self.payload_bytes.max(now))?;

        let errors = "prometheus_proxy_connection_error_total";
        family(out, errors, "counter", "Connections that were ended for a fault of the application's.")?;
        for name in FAULTS.into_iter().chain([HANDSHAKE]) {
            for transport in Transport::ALL {
                let count = self.faults.get(&(name, transport)).copied().unwrap_or_default();
                writeln!(out, "{errors}{{exception=\"{name}\",transport=\"{}\"}} {count}", transport.as_str())?;
            }
        }

        let pushes = "prometheus_proxy_pushes_total";
        family(out, pushes, "counter", "Texts that applications pushed before they ended.")?;
        for name in failure::NAMES {
            let count = self.pushes.get(name).copied().unwrap_or_default();
            writeln!(out, "{pushes}{{{}}} {count}", labels(name))?;
        }
        let duplicates = "prometheus_proxy_duplicate_samples_total";
        let help = "Samples left out of /metrics/connected, since another application has the same series.";
        family(out, duplicates, "counter", help)?;
        writeln!(out, "{duplicates} {}", self.duplicates)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maximum_is_forgotten() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut summary = Summary::default();
        summary.note(3.0, at(0));
        summary.note(2.0, at(70));
        let seen = [at(70), at(140), at(210)].map(|now| summary.max(now));
        assert!(seen.iter().zip([3.0, 2.0, 0.0]).all(|(seen, expected)| (seen - expected).abs() < 0.1), "{seen:?}");
        summary.note(4.0, at(220));
        assert!(summary.max(at(400)).abs() < 0.1);
    }

    #[test]
    fn outcomes_are_told_apart() {
        let counts = Counts::default();
        counts.scrape(Ok(300), Duration::from_millis(500));
        counts.scrape(Err(&Failure::Closed), Duration::from_millis(250));
        counts.scrape(Err(&Failure::Stuck), Duration::ZERO);
        counts.push(Ok(()));
        counts.fault(&Fault::Resume, Transport::WebSocket);
        counts.duplicates(7);
        let text = counts.exposition(3);
        for line in [
            "prometheus_proxy_scrape_active_connections 3",
            "prometheus_proxy_scrape_seconds_count{exception=\"none\",outcome=\"success\"} 1",
            "prometheus_proxy_scrape_seconds_sum{exception=\"none\",outcome=\"success\"} 0.5",
            "prometheus_proxy_scrape_seconds_max{exception=\"closed\",outcome=\"closed\"} 0.25",
            "prometheus_proxy_scrape_seconds_count{exception=\"stuck\",outcome=\"error\"} 1",
            "prometheus_proxy_scrape_payload_bytes_sum 300",
            "prometheus_proxy_connection_error_total{exception=\"resume\",transport=\"Websocket\"} 1",
            "prometheus_proxy_connection_error_total{exception=\"resume\",transport=\"TCP\"} 0",
            "prometheus_proxy_pushes_total{exception=\"none\",outcome=\"success\"} 1",
            "prometheus_proxy_duplicate_samples_total 7",
        ] {
            assert!(text.lines().any(|had| had == line), "{line}\n{text}");
        }
        assert_eq!((counts.scrapes(), counts.pushes()), ((1, 2), 1));
    }
}
