use super::*;
use crate::relabel;
use proptest::prelude::*;

fn env(name: &str) -> Option<String> {
    match name {
        "HOST" => Some("db1".to_owned()),
        "LANES" => Some("7".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        "TRICK" => Some("x\nack: memory".to_owned()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Vec<Mistake>> {
    Config::parse(text, Path::new("no-such-folder"), &env)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|mistakes| panic!("{text}\n{mistakes:#?}"))
}

/// One output with that destination block.
fn output(block: &str) -> Output {
    good(&format!("outputs:\n  - name: a\n    {block}\n")).outputs.remove(0)
}

fn remote_write(keys: &str) -> (RemoteWrite, Output) {
    let output = output(&format!("prometheus_remote_write: {{ url: http://h/w, {keys} }}"));
    let Destination::RemoteWrite(remote_write) = output.destination.clone() else { panic!("{output:?}") };
    (remote_write, output)
}

fn influx(keys: &str) -> Influx {
    let output = output(&format!("influxdb: {{ {keys} }}"));
    let Destination::Influx(influx) = output.destination else { panic!("{output:?}") };
    influx
}

fn wavefront(keys: &str) -> Wavefront {
    let output = output(&format!("wavefront: {{ {keys} }}"));
    let Destination::Wavefront(wavefront) = output.destination else { panic!("{output:?}") };
    wavefront
}

/// `LINE:COLUMN key: message` of every mistake.
fn mistakes(text: &str) -> Vec<String> {
    let list = Mistakes::new("f".to_owned(), parse(text).map(|config| panic!("{text}\n{config:#?}")).unwrap_err());
    list.to_string().lines().map(|line| line.trim_start_matches("f:").to_owned()).collect()
}

#[test]
fn reads_the_contract() {
    let config = good(
        r#"
listen:
  http: 127.0.0.1:8900
  wavefront: 127.0.0.1:2878
  influx_tcp: 127.0.0.1:8094
  influx_udp: 127.0.0.1:8094
  rsocket_tcp: 127.0.0.1:7001
  rsocket_websocket: 127.0.0.1:8081
rsocket: { scrape_interval: 5s, encryption: plaintext }
log:
  dir: ./data
  ack: memory
  max_bytes: 2GB
  on_full: drop_oldest
outputs:
  - name: prom
    prometheus_remote_write: { url: "http://127.0.0.1:9090/api/v1/write", version: 2 }
  - name: influx
    influxdb: { url: "http://127.0.0.1:8086/", database: metrics }
  - name: wf
    wavefront: { url: "http://127.0.0.1:2878", source: my-gateway }
scrape_configs: []
"#,
    );
    assert_eq!(config.listen.influx_udp, config.listen.influx_tcp);
    assert_eq!(config.listen.rsocket_websocket.map(|address| address.0.port()), Some(8081));
    let rsocket = Rsocket {
        scrape_interval: Duration::from_secs(5),
        scrape_timeout: Duration::from_secs(5),
        encryption: Encryption::Plaintext,
        tls: None,
    };
    assert_eq!(config.rsocket, rsocket);
    assert_eq!((config.log.ack, config.log.on_full), (Ack::Memory, OnFull::DropOldest));
    assert_eq!((config.log.bytes_max, config.log.segment_bytes), (2_000_000_000, 256 << 20));
    let names: Vec<_> = config.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["prom", "influx", "wf"]);
    assert_eq!(config.outputs[2].queue.samples_per_send, 10_000);
    assert!(config.notes.is_empty());
}

#[test]
fn meters_of_micrometer_are_added_to_the_table() {
    use crate::micrometer::{Mode, PrometheusRegistry, UnknownNames};
    let profile = good("outputs: []\n").micrometer;
    assert_eq!((profile.mode, profile.step, profile.meters.own()), (Mode::Auto, Duration::from_secs(60), 0));
    let text = "micrometer:\n  profile: always\n  step: 10s\n  prometheus_registry: client_1\n  unknown_names: dotted\n  \
        meters:\n    - { name: payload.size, kind: summary, unit: bytes }\n    - { name: my.jobs, kind: function_timer }\n";
    let profile = good(text).micrometer;
    assert_eq!((profile.mode, profile.step, profile.meters.own()), (Mode::Always, Duration::from_secs(10), 2));
    assert_eq!(
        (profile.prometheus_registry, profile.unknown_names),
        (PrometheusRegistry::Client1, UnknownNames::Dotted)
    );
    let text = "micrometer:\n  profile: on\n  step: 10ms\n  meters:\n    - { kind: timer, unit: ms }\n    \
        - { name: a.b, kind: histogram }\n    - { name: a.b, kind: timer, unit: ms }\n    - { name: a_b, kind: gauge }\n    \
        - { name: '', kind: gauge, base_unit: x }\n    - x\n";
    let expected = r#"2:12: micrometer.profile: expected one of auto, always, never, found "on"
3:9: micrometer.step: expected a duration of at least 1s, found "10ms"
5:9: micrometer.meters[0].name: missing
6:26: micrometer.meters[1].kind: expected one of counter, function_counter, gauge, time_gauge, timer, function_timer, summary, long_task_timer, other, found "histogram"
7:33: micrometer.meters[2].unit: a meter that is measured in time has the unit of its registry
8:9: micrometer.meters[3].name: the same name as micrometer.meters[2]
9:15: micrometer.meters[4].name: expected the name of a meter, such as my.meter, found ""
9:32: micrometer.meters[4].base_unit: unknown key, expected one of name, unit, kind
10:7: micrometer.meters[5]: expected a mapping, found "x""#;
    let found = mistakes(text);
    assert_eq!(found.join("\n"), expected);
}

#[test]
fn takes_nothing_for_the_defaults() {
    for text in ["", "# nothing", "{}", "log:\noutputs:\n", "listen: {}\noutputs: []"] {
        let config = good(text);
        assert_eq!(config.listen, Listen::default());
        assert_eq!(config.log, LogConfig::default());
        assert!(config.outputs.is_empty());
    }
    assert_eq!(Config::default().listen.http.0.to_string(), "127.0.0.1:8900");
}

#[test]
fn a_preset_is_a_set_of_options_that_others_may_change() {
    use crate::wire::influx_line::schema::{NativeHistograms, Schema};
    use crate::wire::prometheus_names::{NameCharacters, Strings, Style, ValueField};
    use crate::wire::wavefront::encode::Names;
    let telegraf = Style {
        value_field: ValueField::Keep,
        name_characters: NameCharacters::Trim,
        bare_measurement: Some("prometheus".to_owned()),
        strings: Strings::Drop,
    };
    let of = |keys| remote_write(keys).0.style;
    assert_eq!(of(""), Style::default());
    assert_eq!(of("preset: telegraf_v2"), telegraf);
    let changed = Style { value_field: ValueField::Strip, strings: Strings::Info, ..telegraf };
    assert_eq!(of("strings: info, value_field: strip, preset: telegraf_v2"), changed);
    let rows = influx("url: http://h, database: d, preset: telegraf_v1, native_histograms: buckets").style;
    assert_eq!((rows.schema, rows.native_histograms), (Schema::Family, NativeHistograms::Buckets));
    let one = influx("url: http://h, database: d, schema: single, measurement: m").style;
    assert_eq!((one.schema, one.measurement.as_str()), (Schema::Single, "m"));
    assert_eq!(wavefront("url: http://h, preset: telegraf_v1").style.names, Names::Dotted);

    let text = "outputs:\n\
        - { name: a, prometheus_remote_write: { url: http://h, preset: telegraf, strings: yes, schema: flat } }\n\
        - { name: b, influxdb: { url: http://h, database: d, preset: vector, measurement: '#m' } }\n\
        - { name: c, wavefront: { url: http://h, names: dots } }\n";
    let found = mistakes(text);
    for expected in [
        "preset: expected one of telegraf_v1, telegraf_v2, vmagent, vector, found \"telegraf\"",
        "strings: expected one of drop, label, info, found \"yes\"",
        "schema: unknown key",
        "preset: expected telegraf_v1 or telegraf_v2 here, found \"vector\"",
        "measurement: expected a measurement that line protocol can carry, found \"#m\"",
        "names: expected one of kept, dotted, found \"dots\"",
    ] {
        assert!(found.iter().any(|mistake| mistake.contains(expected)), "{expected}: {found:#?}");
    }
    assert_eq!(found.len(), 6, "{found:#?}");
}

#[test]
fn cuts_a_small_log_into_segments() {
    assert_eq!(good("log: { max_bytes: 1MiB }").log.segment_bytes, 256 << 10);
}

#[test]
fn a_limit_of_memory_divides_itself_and_explicit_keys_win() {
    for (limit, outputs) in
        [(MEMORY_LIMIT_MIN, 0), (MEMORY_LIMIT_MIN, 6), (512 << 20, 2), (1 << 30, 1), (8 << 30, 3), (1 << 44, 1)]
    {
        let output = |at| format!("{{ name: o{at}, wavefront: {{ url: 'http://h' }} }}");
        let outputs: Vec<_> = (0..outputs).map(output).collect();
        let config = good(&format!("limits: {{ memory_limit: {limit} }}\noutputs: [{}]", outputs.join(", ")));
        assert!(config.limits.decompressed_bytes_max >= 1 << 20 && config.limits.connections_max >= 64, "{config:?}");
        assert!(config.series.bytes_max >= 4 << 20, "{config:?}");
        let sends = config.outputs.iter().all(|output| output.queue.body_bytes_max >= 128 << 10);
        assert!(sends && config.log.segment_bytes >= 16 << 20, "{config:?}");
    }
    // Too many outputs for so little is a mistake, not a table without room.
    let many: Vec<_> = (0..40).map(|at| format!("{{ name: o{at}, wavefront: {{ url: 'http://h' }} }}")).collect();
    let mistakes = mistakes(&format!("limits: {{ memory_limit: 256MiB }}\noutputs: [{}]", many.join(", ")));
    assert!(mistakes.iter().any(|mistake| mistake.contains("too little")), "{mistakes:?}");
    let ample = good("limits: { memory_limit: 1TiB }");
    assert_eq!((ample.log, ample.series), (LogConfig::default(), SeriesSettings::default()));
    assert_eq!(ample.limits, Limits { memory_limit: Some(1 << 40), ..Limits::default() });
    let own = good("limits: { memory_limit: 1GiB, max_connections: 77 }\nseries: { max_bytes: 5MiB }");
    assert_eq!((own.limits.connections_max, own.series.bytes_max), (77, 5 << 20));
}

#[test]
fn reads_http_clients_and_queues() {
    let (write, output) = remote_write(
        "version: auto, remote_timeout: 5s, proxy_url: 'http://p:3128', headers: { X-Scope-OrgID: t1 }, \
         basic_auth: { username: me, password: '${SECRET}' }, tls_config: { insecure_skip_verify: true }, \
         queue_config: { max_shards: '${LANES}', max_samples_per_send: 100, batch_send_deadline: 2s, min_backoff: 1s, \
         max_backoff: 1m30s, sample_age_limit: 1h, retry_on_http_429: false, capacity: 10, min_shards: 1 }",
    );
    assert_eq!(write.version, Version::Auto);
    assert_eq!(write.http.timeout, Duration::from_secs(5));
    assert_eq!(write.http.headers, [("X-Scope-OrgID".to_owned(), "t1".to_owned())]);
    assert_eq!(write.http.basic_auth.as_ref().unwrap().password.reveal(), "hunter2");
    assert!(write.http.tls.insecure_skip_verify && !write.retry_on_http_429);
    let expected = Queue {
        lanes: 7,
        samples_per_send: 100,
        body_bytes_max: 4 << 20,
        send_deadline: Duration::from_secs(2),
        backoff_min: Duration::from_secs(1),
        backoff_max: Duration::from_secs(90),
        sample_age_limit: Some(Duration::from_secs(3600)),
    };
    assert_eq!(output.queue, expected);
}

#[test]
fn notes_keys_without_effect() {
    let config =
        good("outputs: [{ name: a, queue_config: { capacity: 10, min_shards: 1 }, wavefront: { url: 'http://h' } }]");
    assert_eq!(config.notes.len(), 2, "{:?}", config.notes);
    assert!(config.notes.iter().all(|note| note.contains("outputs[0].queue_config")));
}

#[test]
fn takes_credentials_out_of_urls() {
    let Destination::RemoteWrite(write) = output("prometheus_remote_write: { url: 'http://me:pw@h/w' }").destination
    else {
        panic!()
    };
    assert_eq!(write.url, "http://h/w");
    assert_eq!(write.http.basic_auth.unwrap().password.reveal(), "pw");
}

#[test]
fn shows_no_secret() {
    let (write, _) = remote_write("authorization: { credentials: '${SECRET}' }");
    let shown = format!("{write:?}");
    assert!(shown.contains("<secret>") && !shown.contains("hunter2"), "{shown}");
    let said = mistakes("log: { ack: '${SECRET}' }").join("\n");
    assert!(said.contains("${SECRET}") && !said.contains("hunter2"), "{said}");
}

#[test]
fn tells_the_versions_of_influxdb_apart() {
    let one = influx(
        "url: 'http://${HOST}:8086/', database: m, retention_policy: r, consistency: one, username: u, password: p",
    );
    assert_eq!(one.url, "http://db1:8086");
    assert_eq!(one.http.basic_auth.unwrap().username, "u");
    assert!(matches!(one.api, InfluxApi::V1 { consistency: Some(_), retention_policy: Some(_), .. }) && one.gzip);
    assert!(matches!(influx("url: 'http://h', org: o, bucket: b, token: t").api, InfluxApi::V2 { .. }));
    assert!(matches!(influx("url: 'http://h', database: d, version: 3").api, InfluxApi::V3 { token: None, .. }));
}

#[test]
fn reads_the_schemes_of_wavefront() {
    let http = |url: &str| WavefrontTarget::Http { url: url.to_owned() };
    let tcp = |host: &str| WavefrontTarget::Tcp { host: host.to_owned(), port: 2878 };
    for (url, expected) in [
        ("http://h:2878", http("http://h:2878")),
        ("http://h:2878/base/", http("http://h:2878/base")),
        ("https://h", http("https://h")),
        ("proxy://h:2878", http("http://h:2878")),
        ("tcp://h:2878", tcp("h")),
        ("tcp://[::1]:2878", tcp("::1")),
    ] {
        assert_eq!(wavefront(&format!("url: '{url}'")).target, expected, "{url}");
    }
    for keys in ["url: 'https://h', token: t", "url: 'https://t@h'"] {
        let authorization = wavefront(keys).http.authorization.unwrap();
        assert_eq!((authorization.kind.as_str(), authorization.credentials.reveal()), ("Bearer", "t"), "{keys}");
    }
}

#[test]
fn reads_relabel_rules() {
    let rules =
        "write_relabel_configs: [{ source_labels: [a], regex: 'x.*', action: Drop }, { regex: b, action: labeldrop }]";
    let (_, output) = remote_write(rules);
    assert_eq!(output.relabel.len(), 2);
    let mut labels = vec![("a".to_owned(), "xy".to_owned())];
    assert_eq!(relabel::apply(&output.relabel, &mut labels), relabel::Verdict::Drop);
}

#[test]
fn expands_after_parsing() {
    let config = good("log: { dir: '${TRICK}' }");
    assert_eq!((config.log.dir.as_path(), config.log.ack), (Path::new("x\nack: memory"), Ack::Durable));
}

#[test]
fn reports_all_mistakes_at_once_by_place() {
    let text = "\
listen:
  htpp: 127.0.0.1:8900
log:
  ack: sometimes
  max_bytes: 10 elephants
  dir: ${NOWHERE}
outputs:
  - name: a
    prometheus_remote_write: { url: 'ftp://h', version: 3 }
  - name: a
    influxdb: { url: 'http://h' }
extra: 1
";
    let found = mistakes(text);
    let expected = [
        "2:3: listen.htpp: unknown key, did you mean http?",
        "4:8: log.ack: expected one of durable, memory, found \"sometimes\"",
        "5:14: log.max_bytes: expected a size such as 10GiB, 512MiB, 2GB or 1000, found \"10 elephants\"",
        "6:8: log.dir: the environment variable NOWHERE is not set",
        "9:37: outputs[0].prometheus_remote_write.url: expected a URL with http:// or https:// (the scheme is ftp)",
        "9:57: outputs[0].prometheus_remote_write.version: expected one of auto, 1, 2, found \"3\"",
        "10:5: outputs[1].name: the name of another output",
        "11:5: outputs[1].influxdb.database: missing",
        "12:1: extra: unknown key, expected one of listen, log",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn max_age_is_sample_age_limit_beside_the_name() {
    let limit = |keys: &str| {
        output(&format!("prometheus_remote_write: {{ url: http://h/w }}\n    {keys}")).queue.sample_age_limit
    };
    let hour = Some(Duration::from_secs(3600));
    assert_eq!([limit("max_age: 1h"), limit("queue_config: { sample_age_limit: 1h }")], [hour, hour]);
    assert_eq!(limit("max_age: 1h\n    queue_config: { max_shards: 2 }"), hour);
    assert_eq!([limit("max_age: 0s"), limit("")], [None, None]);
}

#[test]
fn dead_letters_are_bounded() {
    let bound = |keys: &str| output(&format!("wavefront: {{ url: http://h }}\n    {keys}")).dead_letters_bytes_max;
    assert_eq!([bound(""), bound("dead_letters_max_bytes: 1GiB")], [64 << 20, 1 << 30]);
}

#[test]
fn refuses_what_cannot_be() {
    let output_cases = [
        ("prometheus_remote_write: { url: 'http://h/w' }, wavefront: { url: 'http://h' }", "a second destination"),
        ("queue_config: {}", "expected one destination"),
        (
            "wavefront: { url: 'http://h', queue_config: { sample_age_limit: 1h } }, max_age: 1h",
            "sample_age_limit: given beside max_age",
        ),
        ("wavefront: { url: 'http://h' }, dead_letters_max_bytes: 1", "expected a size from 65536"),
        ("wavefront: { url: 'http://h', max_age: 1h }", "max_age"),
        ("influxdb: { url: 'http://h', bucket: b, token: t }", "influxdb.org: missing"),
        ("influxdb: { url: 'http://h', org: o, bucket: b }", "influxdb.token: missing"),
        ("influxdb: { url: 'http://h', org: o, bucket: b, token: t, database: d }", "belongs to InfluxDB 1 and 3"),
        ("influxdb: { url: 'http://h', database: d, token: t }", "belongs to InfluxDB 2"),
        ("influxdb: { url: 'http://h', database: d, version: 3, create_database: true }", "belongs to InfluxDB 1"),
        ("influxdb: { url: 'http://h', database: d, password: p }", "needs username"),
        ("influxdb: { url: 'http://h', database: d, consistency: most }", "any, one, quorum, all"),
        ("influxdb: { url: 'http://h', org: o, bucket: b, token: t, username: u }", "together with a user"),
        ("wavefront: { url: 'tcp://h' }", "expected a port"),
        ("wavefront: { url: 'tcp://h:1', token: t }", "means nothing with tcp://"),
        ("wavefront: { url: 'tcp://h:1', tls_config: {} }", "means nothing with tcp://"),
        ("wavefront: { url: 'tcp://t@h:1' }", "only host and port"),
        ("wavefront: { url: 'tcp://h:1/path' }", "only host and port"),
        ("wavefront: { url: 'proxy://1.2.3.999' }", "invalid IPv4"),
        ("wavefront: { url: 'http://t@h', token: t }", "a user in the URL"),
        ("wavefront: { url: 'http://h', token: \"a\\nb\" }", "text that a header can carry"),
        ("influxdb: { url: 'http://h/?db=x', database: d }", "without a query"),
        ("wavefront: { source: x }", "wavefront.url: missing"),
        ("wavefront: { url: 'http://h', source_labels: a }", "expected a list"),
        ("prometheus_remote_write: { url: 'http://h', headers: { Content-Type: x } }", "set by sluicegate"),
        ("prometheus_remote_write: { url: 'http://h', headers: { X-A: x, x-a: y } }", "given twice"),
        ("prometheus_remote_write: { url: 'http://h', headers: { 'a b': x } }", "name of a header"),
        ("prometheus_remote_write: { url: 'http://h', headers: { a: \"x\\ny\" } }", "value of a header"),
        ("prometheus_remote_write: { url: 'http://h', basic_auth: { password: x } }", "username or username_file"),
        (
            "prometheus_remote_write: { url: 'http://h', basic_auth: { username: x }, authorization: { credentials: y } }",
            "together with basic_auth",
        ),
        ("prometheus_remote_write: { url: 'http://h', authorization: { type: Basic, credentials: y } }", "Bearer"),
        ("prometheus_remote_write: { url: 'http://h', tls_config: { cert_file: x } }", "needs key_file"),
        ("prometheus_remote_write: { url: 'http://h', tls_config: { ca_file: x } }", "file that can be read"),
        ("prometheus_remote_write: { url: 'http://h', proxy_url: 'socks5://h' }", "the scheme is socks5"),
        ("prometheus_remote_write: { url: 'http://h', remote_timeout: 0s }", "at least 1ms"),
        ("queue_config: {}, wavefront: { url: 'http://h', queue_config: {} }", "both at the output and inside"),
        ("wavefront: { url: 'http://h' }, queue_config: { max_shards: 0 }", "from 1 to 256"),
        ("wavefront: { url: 'http://h' }, queue_config: { min_backoff: 1m }", "longer than max_backoff"),
        ("wavefront: { url: 'http://h' }, write_relabel_configs: [{ action: explode }]", "an action of Prometheus"),
        ("wavefront: { url: 'http://h' }, write_relabel_configs: [{ regex: '(', action: drop }]", "configs[0].regex: "),
        ("wavefront: { url: 'http://h' }, write_relabel_configs: [{ action: hashmod }]", "configs[0].modulus: missing"),
    ];
    let outputs = output_cases.map(|(text, expected)| (format!("outputs: [{{ name: a, {text} }}]"), expected));
    let others = [
        ("a", "expected a mapping, found \"a\""),
        ("- a", "expected a mapping, found a list"),
        ("log: 5", "log: expected a mapping"),
        ("log: { dir: [a] }", "expected one value, found a list"),
        ("log: { max_bytes: 1 }", "expected a size from 65536"),
        ("log: { max_bytes: 1MiB, segment_bytes: 2MiB }", "larger than the whole log"),
        ("log: { ack: durable, ack: memory }", "log.ack: given twice"),
        ("log: { on-full: reject }", "did you mean on_full?"),
        ("series: { idle: 5 }", "expected a duration such as"),
        ("limits: { max_connections: -1 }", "whole number from 1"),
        ("limits: { max_labels: 0 }", "whole number from 1"),
        ("limits: { memory_limit: 1MiB }", "limits.memory_limit: expected a size from"),
        ("limits: { memory_limit: 256MiB }\nseries: { max_bytes: 1GiB }", "limits.memory_limit: too little"),
        ("limits: { memory_limit: 256MiB, max_connections: 100000 }", "limits.max_connections 6250"),
        ("listen: { http: 'example.com:80' }", "expected an address such as"),
        ("listen: { wavefront: '127.0.0.1:8900' }", "the same address as listen.http"),
        ("listen: { rsocket_tcp: ':7001', rsocket_websocket: ':7001' }", "the same address as listen.rsocket_tcp"),
        ("rsocket: { scrape_interval: 5s, scrape_timeout: 6s }", "longer than rsocket.scrape_interval, which is 5s"),
        ("rsocket: { scrape_interval: 0s }", "a duration of at least 100ms"),
        ("rsocket: { encryption: none }", "expected one of rsa, plaintext"),
        ("rsocket: { tls: { cert_file: Cargo.toml } }", "rsocket.tls.key_file: missing"),
        ("dashboards: { type: kibana, url: 'http://h' }", "dashboards.type: expected one of grafana, wavefront"),
        ("dashboards: { url: 'http://h' }", "dashboards.type: missing"),
        ("dashboards: { type: grafana }", "dashboards.url: missing"),
        ("dashboards: { type: grafana, url: 'javascript:alert(1)' }", "dashboards.url: expected a URL with http://"),
        ("dashboards: { type: grafana, url: 'http://a:b@h' }", "dashboards.url: expected a URL without user"),
        ("dashboards: { type: grafana, url: 'http://h?a=b' }", "dashboards.url: expected a URL without a query"),
        (
            "dashboards: { type: grafana, url: 'http://h', refresh: 1500ms }",
            "dashboards.refresh: expected whole seconds",
        ),
        ("dashboards: { type: grafana, url: 'http://h', refresh: 10ms }", "dashboards.refresh: expected a duration"),
        ("dashboards: { type: grafana, url: 'http://h', source: a }", "dashboards.source: belongs to type: wavefront"),
        (
            "dashboards: { type: wavefront, url: 'http://h', refresh: 5s }",
            "dashboards.refresh: belongs to type: grafana",
        ),
        ("dashboards: { type: grafana, url: 'http://h', token: a }", "dashboards.token: unknown key"),
        ("scrape_configs: [{ job_name: a }]", "does not scrape yet"),
        ("outputs: [{ wavefront: { url: 'http://h' } }]", "outputs[0].name: missing"),
        ("outputs: [{ name: a/b, wavefront: { url: 'http://h' } }]", "a name of 1 to 64"),
        ("outputs: [null]", "outputs[0]: missing"),
        ("outputs: {}", "expected a list, found a mapping"),
        ("log: {", "not YAML"),
    ]
    .map(|(text, expected)| (text.to_owned(), expected));
    for (text, expected) in outputs.into_iter().chain(others) {
        let found = mistakes(&text).join("\n");
        assert!(found.contains(expected), "{text}\nsays {found}\nnot {expected}");
    }
}

#[test]
fn dashboards_are_of_grafana_or_of_wavefront() {
    let read = |keys: &str| good(&format!("dashboards: {{ {keys} }}")).dashboards.unwrap();
    let grafana = |url: &str, refresh| {
        let board = Board::Grafana { refresh: Duration::from_secs(refresh) };
        Dashboards { url: url.to_owned(), board }
    };
    assert_eq!(read("type: grafana, url: 'http://g:3000/'"), grafana("http://g:3000", 15));
    assert_eq!(read("type: grafana, url: 'https://h/sub/', refresh: 1m"), grafana("https://h/sub", 60));
    let wavefront = |source: &str| {
        let board = Board::Wavefront { source: source.to_owned() };
        Dashboards { url: "https://w".to_owned(), board }
    };
    assert_eq!(read("type: wavefront, url: 'https://w'"), wavefront("default-scdf-source"));
    assert_eq!(read("type: wavefront, url: 'https://w', source: My-Source"), wavefront("my-source"));
    assert_eq!(good("log: {}").dashboards, None);
}

#[test]
fn says_each_mistake_once() {
    for text in [
        "outputs: [{ name: '${NOWHERE}', wavefront: { url: '${NOWHERE}' } }]",
        "log: { ack: 1, dir: '' }",
        "outputs: [{ name: a, influxdb: { url: 'http://h', version: 4, database: '' } }]",
    ] {
        assert_eq!(mistakes(text).len(), 2, "{:#?}", mistakes(text));
    }
}

#[test]
fn lists_no_more_mistakes_than_anyone_reads() {
    let lines: Vec<_> = (0..1000).map(|number| format!("unknown_{number}: 1")).collect();
    let text = lines.join("\n");
    let found = mistakes(&text);
    assert_eq!((found.len(), found[200].as_str()), (201, " and 800 more"));
}

#[test]
fn reads_secrets_from_files_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("pw"), "hunter2\n").unwrap();
    let path = folder.path().join("c.yaml");
    let text = "outputs: [{ name: a, prometheus_remote_write: { url: 'http://h', basic_auth: { username: u, password_file: pw } } }]";
    std::fs::write(&path, text).unwrap();
    let config = Config::load(&path, &env).unwrap();
    let Destination::RemoteWrite(write) = &config.outputs[0].destination else { panic!() };
    assert_eq!(write.http.basic_auth.as_ref().unwrap().password.reveal(), "hunter2");
}

#[test]
fn refuses_files_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    for (name, contents, expected) in [
        ("absent", None, "cannot be read"),
        ("long", Some(vec![b'#'; FILE_BYTES_MAX + 1]), "longer than"),
        ("binary", Some(vec![0xff]), "not UTF-8"),
    ] {
        let path = folder.path().join(name);
        if let Some(contents) = contents {
            std::fs::write(&path, contents).unwrap();
        }
        let said = Config::load(&path, &env).unwrap_err().to_string();
        assert!(said.contains(expected) && !said.contains(":0:"), "{said}");
    }
}

proptest! {
    #[test]
    fn never_panics(at in 0.0..1.0_f64, length in 0_usize..40, put in "[a-z0-9 :\\[\\]{}$&*'\"\n-]{0,12}") {
        let example = include_str!("../../sluicegate.example.yaml");
        let place = |offset: usize| (0..=offset.min(example.len())).rev().find(|at| example.is_char_boundary(*at));
        let from = place((example.len() as f64 * at) as usize).unwrap_or(0);
        let to = place(from + length).unwrap_or(from);
        let _ = parse(&format!("{}{put}{}", &example[..from], &example[to..]));
    }
}
