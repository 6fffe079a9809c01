//! The file's own level: `listen`, `log`, `series`, `limits`, `rsocket`, and the lists; `micrometer` has a file of its own.

use super::budget::{self, Budget, MEMORY_LIMIT_MIN};
use super::walk::{Key, Section};
use super::{
    Ack, Config, Encryption, Limits, Listen, ListenAddress, LogConfig, OnFull, Rsocket, SeriesSettings, ServerTls,
    address, dashboards, micrometer, output,
};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes the log may have: less does not hold a segment, more is no disk.
const LOG_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 50;
/// Bytes a segment may have.
const SEGMENT_BYTES: RangeInclusive<u64> = 16 << 10..=4 << 30;
/// A small log is cut into as many segments when no segment size is given, so that it can be trimmed in steps.
const SEGMENTS_MIN: u64 = 4;
/// Bytes of memory: of the series table and of the log's recent batches.
const MEMORY_BYTES: RangeInclusive<u64> = 1 << 20..=1 << 40;
/// Bytes of memory of the whole process.
const MEMORY_LIMIT: RangeInclusive<u64> = MEMORY_LIMIT_MIN as u64..=1 << 44;
/// Bytes of a body.
const BODY_BYTES: RangeInclusive<u64> = 1 << 10..=1 << 30;
/// Bytes of a line.
const LINE_BYTES: RangeInclusive<u64> = 256..=16 << 20;
/// Labels of a series.
const LABELS: RangeInclusive<u64> = 1..=10_000;
/// Bytes of a label's name or value.
const LABEL_BYTES: RangeInclusive<u64> = 16..=1 << 20;
/// Series of a source.
const SERIES: RangeInclusive<u64> = 1..=4_000_000_000;
/// Connections at a time.
const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
/// The shortest pause between two scrapes of an application.
const SCRAPE_MIN: Duration = Duration::from_millis(100);
/// The shortest wait that is one.
const WAIT_MIN: Duration = Duration::from_millis(1);

pub(super) fn read(root: Section<'_>) -> Config {
    let [listen_key, log_key, series_key, limits_key, micrometer_key, rsocket_key, dashboards_key, outputs_key] =
        ["listen", "log", "series", "limits", "micrometer", "rsocket", "dashboards", "outputs"]
            .map(|name| root.key(name));
    let mut outputs = output::read_all(&outputs_key);
    let limits_section = limits_key.section();
    let memory_limit_key = limits_section.as_ref().map(|section| section.key("memory_limit"));
    let memory_limit = memory_limit_key.as_ref().and_then(|key| key.size(&MEMORY_LIMIT)).and_then(machine_size);
    let budget = Budget::of(memory_limit, &outputs);
    for output in &mut outputs {
        output.queue.body_bytes_max = budget.sent_bytes_max;
    }
    let config = Config {
        micrometer: micrometer_key.section().map(micrometer::read).unwrap_or_default(),
        listen: listen_key.section().map(listen).unwrap_or_default(),
        log: log_key.section().map_or(budget.log.clone(), |section| log(section, budget.log)),
        series: series_key.section().map_or(budget.series.clone(), |section| series(section, &budget.series)),
        limits: limits_section.map_or(budget.limits.clone(), |section| limits(section, &budget.limits)),
        rsocket: rsocket_key.section().map(rsocket).unwrap_or_default(),
        dashboards: dashboards_key.section().and_then(dashboards::read),
        outputs,
        notes: Vec::new(),
    };
    if rsocket_key.is_given() && config.listen.rsocket_tcp.is_none() && config.listen.rsocket_websocket.is_none() {
        rsocket_key.note("has no effect without listen.rsocket_tcp or listen.rsocket_websocket");
    }
    if let (Some(key), Some(excess)) = (memory_limit_key, budget::excess(&config)) {
        key.mistake(excess);
    }
    let scrape = root.key("scrape_configs");
    if !scrape.items().is_empty() {
        scrape.mistake("this version does not scrape yet: expected an empty list");
    }
    root.finish();
    config
}

fn listen(section: Section<'_>) -> Listen {
    let address = |key: &Key<'_>| {
        let expected = "an address such as 127.0.0.1:8900, [::1]:8900, :8900 or localhost:8900";
        key.read(expected, address::listen).map(ListenAddress)
    };
    let names = ["http", "wavefront", "influx_tcp", "rsocket_tcp", "rsocket_websocket"];
    let tcp = names.map(|name| section.key(name));
    let [http, wavefront, influx_tcp, rsocket_tcp, rsocket_websocket] = tcp.each_ref().map(address);
    let http = http.unwrap_or(Listen::default().http);
    let given = [Some(http), wavefront, influx_tcp, rsocket_tcp, rsocket_websocket];
    for later in 1..given.len() {
        for earlier in 0..later {
            if given[later].is_some() && given[later] == given[earlier] && port(given[later]) != 0 {
                tcp[later].mistake(format!("the same address as listen.{}", names[earlier]));
            }
        }
    }
    let influx_udp = address(&section.key("influx_udp"));
    let listen = Listen { http, wavefront, influx_tcp, influx_udp, rsocket_tcp, rsocket_websocket };
    section.finish();
    listen
}

/// The port; any number of sockets may ask the system for one.
fn port(address: Option<ListenAddress>) -> u16 {
    address.map_or(0, |address| address.0.port())
}

fn log(section: Section<'_>, default: LogConfig) -> LogConfig {
    let bytes_max = section.key("max_bytes").size(&LOG_BYTES).unwrap_or(default.bytes_max);
    let segment = section.key("segment_bytes");
    let segment_bytes = segment.size(&SEGMENT_BYTES);
    if segment_bytes.is_some_and(|bytes| bytes > bytes_max) {
        segment.mistake(format!("larger than the whole log, log.max_bytes is {bytes_max}"));
    }
    let log = LogConfig {
        dir: section.key("dir").filled_text().map_or(default.dir, PathBuf::from),
        ack: section.key("ack").one_of(&[("durable", Ack::Durable), ("memory", Ack::Memory)]).unwrap_or(default.ack),
        bytes_max,
        on_full: section
            .key("on_full")
            .one_of(&[("reject", OnFull::Reject), ("drop_oldest", OnFull::DropOldest)])
            .unwrap_or(default.on_full),
        segment_bytes: segment_bytes.unwrap_or(default.segment_bytes.min(bytes_max / SEGMENTS_MIN)),
        memory_bytes: memory(&section.key("memory_bytes")).unwrap_or(default.memory_bytes),
    };
    section.finish();
    log
}

fn series(section: Section<'_>, default: &SeriesSettings) -> SeriesSettings {
    let series = SeriesSettings {
        bytes_max: memory(&section.key("max_bytes")).unwrap_or(default.bytes_max),
        idle: section.key("idle").duration(WAIT_MIN).unwrap_or(default.idle),
    };
    section.finish();
    series
}

fn limits(section: Section<'_>, default: &Limits) -> Limits {
    let size = |name, range, default| section.key(name).size(range).and_then(machine_size).unwrap_or(default);
    let number = |name, range| section.key(name).number(range).and_then(machine_size);
    let wait = |name, default| section.key(name).duration(WAIT_MIN).unwrap_or(default);
    let limits = Limits {
        body_bytes_max: size("max_body_bytes", &BODY_BYTES, default.body_bytes_max),
        decompressed_bytes_max: size("max_decompressed_bytes", &BODY_BYTES, default.decompressed_bytes_max),
        line_bytes_max: size("max_line_bytes", &LINE_BYTES, default.line_bytes_max),
        labels_max: number("max_labels", &LABELS).unwrap_or(default.labels_max),
        label_name_bytes_max: size("max_label_name_bytes", &LABEL_BYTES, default.label_name_bytes_max),
        label_value_bytes_max: size("max_label_value_bytes", &LABEL_BYTES, default.label_value_bytes_max),
        series_per_source_max: number("max_series_per_source", &SERIES),
        connections_max: number("max_connections", &CONNECTIONS).unwrap_or(default.connections_max),
        connections_per_source_max: number("max_connections_per_source", &CONNECTIONS),
        read_timeout: wait("read_timeout", default.read_timeout),
        memory_limit: default.memory_limit,
        in_flight_bytes: default.in_flight_bytes,
        pushed_bytes_max: default.pushed_bytes_max,
        idle_timeout: wait("idle_timeout", default.idle_timeout),
        series_stale: wait("series_stale", default.series_stale),
    };
    section.finish();
    limits
}

fn rsocket(section: Section<'_>) -> Rsocket {
    let default = Rsocket::default();
    let scrape_interval = section.key("scrape_interval").duration(SCRAPE_MIN).unwrap_or(default.scrape_interval);
    let timeout = section.key("scrape_timeout");
    let scrape_timeout = timeout.duration(WAIT_MIN);
    if scrape_timeout.is_some_and(|timeout| timeout > scrape_interval) {
        timeout.mistake(format!("longer than rsocket.scrape_interval, which is {scrape_interval:?}"));
    }
    let rsocket = Rsocket {
        scrape_interval,
        scrape_timeout: scrape_timeout.unwrap_or(default.scrape_timeout.min(scrape_interval)),
        encryption: section
            .key("encryption")
            .one_of(&[("rsa", Encryption::Rsa), ("plaintext", Encryption::Plaintext)])
            .unwrap_or(default.encryption),
        tls: section.key("tls").section().and_then(server_tls),
    };
    section.finish();
    rsocket
}

fn server_tls(section: Section<'_>) -> Option<ServerTls> {
    let [cert, key] = ["cert_file", "key_file"].map(|name| section.key(name).required().file());
    let tls = ServerTls { cert_file: cert?, key_file: key? };
    if let Err(error) = tls.load() {
        section.mistake(error.to_string());
    }
    section.finish();
    Some(tls)
}

fn memory(key: &Key<'_>) -> Option<usize> {
    key.size(&MEMORY_BYTES).and_then(machine_size)
}

fn machine_size(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}
