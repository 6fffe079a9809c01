//! The snapshot to Prometheus text 0.0.4: the gateway's own metrics.

use super::{Output, Status};
use crate::ledger::State;
use std::fmt::Write;

/// The snapshot as Prometheus text 0.0.4.
pub fn metrics(status: &Status) -> String {
    let mut page = Page::default();
    page.family("sluicegate_build_info", "gauge", "What runs; the value is always 1.");
    page.sample(&[("version", status.build.version)], 1);
    page.family(
        "sluicegate_samples_accepted_total",
        "counter",
        "Samples in the log, since the log was created, by input format.",
    );
    for input in &status.inputs {
        page.sample(&[("input", input.format)], input.accepted);
    }
    page.family(
        "sluicegate_samples_rejected_total",
        "counter",
        "Samples not taken from a source, by input format and reason.",
    );
    for input in &status.inputs {
        for (reason, samples) in &input.rejected {
            page.sample(&[("input", input.format), ("reason", reason)], *samples);
        }
    }
    page.family(
        "sluicegate_samples_delivered_total",
        "counter",
        "Samples the destination acknowledged, since the log was created.",
    );
    for output in &status.outputs {
        page.sample(&[("output", &output.name)], output.delivered);
    }
    page.family(
        "sluicegate_samples_dropped_total",
        "counter",
        "Samples given up, since the log was created, by reason.",
    );
    for output in &status.outputs {
        for (reason, samples) in &output.dropped {
            page.sample(&[("output", &output.name), ("reason", reason)], *samples);
        }
    }
    page.family(
        "sluicegate_samples_pending",
        "gauge",
        "Samples still to be delivered: accepted = delivered + dropped + pending.",
    );
    for output in &status.outputs {
        page.sample(&[("output", &output.name)], output.pending);
    }
    page.family(
        "sluicegate_translation_losses_total",
        "counter",
        "Samples that the destination's format altered or could not carry, by reason; those dropped for it are counted here as well.",
    );
    for output in &status.outputs {
        for (reason, samples) in &output.losses {
            page.sample(&[("output", &output.name), ("reason", reason)], *samples);
        }
    }
    page.family(
        "sluicegate_output_lag_seconds",
        "gauge",
        "Age of the oldest sample still to be delivered; 0 when there is none.",
    );
    for output in &status.outputs {
        page.sample(&[("output", &output.name)], output.lag_seconds);
    }
    page.family(
        "sluicegate_output_requests_total",
        "counter",
        "Requests to the destination that were answered or failed.",
    );
    for output in &status.outputs {
        page.sample(&[("output", &output.name)], output.requests);
    }
    page.family("sluicegate_output_retries_total", "counter", "Requests to the destination that had to be repeated.");
    for output in &status.outputs {
        page.sample(&[("output", &output.name)], output.retries);
    }
    page.outputs(
        status,
        "sluicegate_output_misconfigured",
        "gauge",
        "1 while the destination does not let the output in; its samples wait.",
        |output| u64::from(output.state == State::Misconfigured),
    );
    page.outputs(
        status,
        "sluicegate_samples_resent_total",
        "counter",
        "Samples sent again although the destination may have them from the first time.",
        |output| output.resent,
    );
    page.outputs(
        status,
        "sluicegate_samples_repeated_total",
        "counter",
        "Sums of Micrometer's deltas, said again between the steps of their sender. Not part of the ledger.",
        |output| output.repeated,
    );
    page.outputs(
        status,
        "sluicegate_dead_letter_samples",
        "gauge",
        "Samples in the dead letters: refused by the destination, or among those of which it refused some unnamed ones.",
        |output| output.dead_letters.samples,
    );
    page.outputs(
        status,
        "sluicegate_dead_letter_discarded_total",
        "counter",
        "Refused samples that the bound of the dead letters or the disk cost.",
        |output| output.dead_letters.discarded,
    );
    page.outputs(
        status,
        "sluicegate_dead_letter_replayed_total",
        "counter",
        "Samples of dead letters that were delivered by replay.",
        |output| output.dead_letters.replayed,
    );
    page.single("sluicegate_series", "gauge", "Series in the series table.", status.series.known);
    page.single("sluicegate_series_bytes", "gauge", "Estimated memory of the series table.", status.series.bytes);
    page.single("sluicegate_scrape_series", "gauge", "Series shown on /scrape.", status.series.live);
    page.single(
        "sluicegate_scrape_hidden_total",
        "counter",
        "Samples not shown on /scrape, for want of room for their series.",
        status.series.hidden,
    );
    page.single(
        "sluicegate_families",
        "gauge",
        "Metric families whose metadata came apart from their series and is known.",
        status.series.families,
    );
    page.single(
        "sluicegate_families_evicted_total",
        "counter",
        "Metric families forgotten to make room for others.",
        status.series.families_evicted,
    );
    page.single(
        "sluicegate_families_refused_total",
        "counter",
        "Metadata of families not remembered, for want of room.",
        status.series.families_refused,
    );
    page.single(
        "sluicegate_pushed_groups_forgotten_total",
        "counter",
        "Pushgateway groups passed on and not remembered, or not taken up again at the start, for want of room.",
        status.series.pushed_groups_forgotten,
    );
    page.single("sluicegate_connections", "gauge", "Connections of senders.", status.connections.open);
    page.single(
        "sluicegate_connections_refused_total",
        "counter",
        "Connections closed at once, because their source had its share.",
        status.connections.refused,
    );
    page.single(
        "sluicegate_udp_datagrams_dropped_total",
        "counter",
        "Datagrams that the kernel dropped before they were read, since the socket was opened.",
        status.connections.datagrams_dropped,
    );
    page.single(
        "sluicegate_rsocket_applications",
        "gauge",
        "Applications that are scraped over the connection they made; more on /metrics/proxy.",
        status.applications.connected,
    );
    page.single("sluicegate_memory_bytes", "gauge", "Resident memory.", status.memory.resident);
    page.single(
        "sluicegate_memory_short",
        "gauge",
        "1 while nothing is taken because memory is near its limit.",
        u8::from(status.memory.short),
    );
    page.single("sluicegate_log_bytes", "gauge", "Bytes of the log on disk.", status.log.bytes);
    page.single("sluicegate_log_bytes_max", "gauge", "Bytes the log may occupy.", status.log.bytes_max);
    page.single("sluicegate_log_segments", "gauge", "Segment files of the log.", status.log.segments);
    page.single("sluicegate_log_healthy", "gauge", "1 while the log takes samples.", u8::from(status.log.healthy));
    page.single("sluicegate_uptime_seconds", "gauge", "Seconds since the start.", status.uptime_seconds);
    page.text
}

/// Exposition text under construction.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, metric_type: &str, help: &str) {
        self.name = name;
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {metric_type}");
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        for (index, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if index == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn outputs(
        &mut self,
        status: &Status,
        name: &'static str,
        metric_type: &str,
        help: &str,
        value: impl Fn(&Output) -> u64,
    ) {
        self.family(name, metric_type, help);
        for output in &status.outputs {
            self.sample(&[("output", &output.name)], value(output));
        }
    }

    fn single(&mut self, name: &'static str, metric_type: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, metric_type, help);
        self.sample(&[], value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::default();
        page.family("m", "gauge", "h");
        page.sample(&[("a", "x\"y\\z\n"), ("b", "1")], 2);
        page.sample(&[], 1.5);
        assert_eq!(page.text, "# HELP m h\n# TYPE m gauge\nm{a=\"x\\\"y\\\\z\\n\",b=\"1\"} 2\nm 1.5\n");
    }
}
