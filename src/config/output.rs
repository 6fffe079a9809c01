//! `outputs`: a name, one destination, how to send and what.

use super::http;
use super::walk::{Key, Section};
use super::{
    Authorization, BasicAuth, Destination, HttpClient, Influx, InfluxApi, Output, Queue, RemoteWrite, Secret, Version,
    Wavefront, WavefrontTarget, address,
};
use crate::relabel::{Action, Rule, RuleSpec};
use crate::wire::style::{Preset, Style};
use crate::wire::wavefront::encode::SOURCE_LABELS;
use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Characters of an output's name.
const NAME_MAX: usize = 64;
/// Requests of one output at a time.
const LANES: RangeInclusive<u64> = 1..=256;
/// Samples of one request.
const SAMPLES_PER_SEND: RangeInclusive<u64> = 1..=1_000_000;
/// Samples of one request to Wavefront unless told otherwise.
const WAVEFRONT_SAMPLES_PER_SEND: usize = 10_000;
/// Size of an output's dead letters unless told otherwise.
const DEAD_LETTERS_BYTES_MAX: u64 = 64 << 20;
/// What it may be: two generations, of which each should hold some letters.
const DEAD_LETTERS_BYTES: RangeInclusive<u64> = 64 << 10..=1 << 40;
/// The shortest wait that is one.
const WAIT_MIN: Duration = Duration::from_millis(1);

pub(super) fn read_all(key: &Key<'_>) -> Vec<Output> {
    let mut names = HashSet::new();
    let mut outputs = Vec::new();
    for item in key.items() {
        let Some(section) = item.required().section() else { continue };
        let name_key = section.key("name").required();
        let name = name_key.read("a name of 1 to 64 letters, digits, _, - and ., not beginning with a dot", |text| {
            is_name(text).then(|| text.to_owned())
        });
        if name.as_ref().is_some_and(|text| !names.insert(text.clone())) {
            name_key.mistake("the name of another output");
        }
        let dead_letters_bytes_max =
            section.key("dead_letters_max_bytes").size(&DEAD_LETTERS_BYTES).unwrap_or(DEAD_LETTERS_BYTES_MAX);
        if let (Some((destination, queue, relabel)), Some(name)) = (output(section), name) {
            outputs.push(Output { name, destination, queue, relabel, dead_letters_bytes_max });
        }
    }
    outputs
}

fn is_name(text: &str) -> bool {
    let fits = (1..=NAME_MAX).contains(&text.len()) && !text.starts_with('.');
    fits && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn output(section: Section<'_>) -> Option<(Destination, Queue, Vec<Rule>)> {
    let keys = ["prometheus_remote_write", "influxdb", "wavefront"].map(|name| (name, section.key(name)));
    let given: Vec<_> = keys.iter().filter(|(_, key)| key.is_given()).collect();
    match given.as_slice() {
        [] => section.mistake("expected one destination: prometheus_remote_write, influxdb or wavefront"),
        [_] => {}
        [(first, _), rest @ ..] => {
            for (_, key) in rest {
                key.mistake(format!("a second destination beside {first}: an output has one"));
            }
        }
    }
    let mut read = None;
    for (name, key) in given {
        let Some(block) = key.section() else { continue };
        // Both at the output and inside its destination: the second is where Prometheus has them.
        let queue = either(&section, &block, "queue_config");
        let relabel = either(&section, &block, "write_relabel_configs");
        let (queue, retry_on_http_429) = self::queue(&queue, &section.key("max_age"), name);
        let rules = relabel.items().into_iter().filter_map(|item| item.required().section().and_then(rule)).collect();
        let destination = match *name {
            "influxdb" => influx(&block).map(Destination::Influx),
            "wavefront" => wavefront(&block).map(Destination::Wavefront),
            _ => remote_write(&block, retry_on_http_429).map(Destination::RemoteWrite),
        };
        block.finish();
        read = destination.map(|destination| (destination, queue, rules));
    }
    for name in ["queue_config", "write_relabel_configs", "max_age"] {
        section.key(name);
    }
    section.finish();
    read
}

fn either<'a>(outer: &Section<'a>, inner: &Section<'a>, name: &'static str) -> Key<'a> {
    let (outer, inner) = (outer.key(name), inner.key(name));
    if outer.is_given() && inner.is_given() {
        outer.mistake("given both at the output and inside its destination");
    }
    if inner.is_given() { inner } else { outer }
}

/// How to send, and whether 429 is tried again. `max_age` is `sample_age_limit` beside the output's name.
fn queue(key: &Key<'_>, max_age: &Key<'_>, destination: &str) -> (Queue, bool) {
    let mut queue = Queue::default();
    if destination == "wavefront" {
        queue.samples_per_send = WAVEFRONT_SAMPLES_PER_SEND;
    }
    // As in Prometheus, 0 is no limit.
    let age = |key: &Key<'_>| key.duration(Duration::ZERO).filter(|age| !age.is_zero());
    queue.sample_age_limit = age(max_age);
    let mut retry_on_http_429 = true;
    let Some(section) = key.section() else { return (queue, retry_on_http_429) };
    let number = |name, range, default: usize| {
        section.key(name).number(range).and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let wait = |name, default| section.key(name).duration(WAIT_MIN).unwrap_or(default);
    queue.lanes = number("max_shards", &LANES, queue.lanes);
    queue.samples_per_send = number("max_samples_per_send", &SAMPLES_PER_SEND, queue.samples_per_send);
    queue.send_deadline = wait("batch_send_deadline", queue.send_deadline);
    queue.backoff_min = wait("min_backoff", queue.backoff_min);
    queue.backoff_max = wait("max_backoff", queue.backoff_max);
    if queue.backoff_min > queue.backoff_max {
        let (min, max) = (queue.backoff_min, queue.backoff_max);
        section.mistake(format!("min_backoff ({min:?}) is longer than max_backoff ({max:?})"));
    }
    let limit = section.key("sample_age_limit");
    if limit.is_given() && max_age.is_given() {
        limit.mistake("given beside max_age of the output, which is the same");
    }
    queue.sample_age_limit = queue.sample_age_limit.or(age(&limit));
    let retry = section.key("retry_on_http_429");
    retry_on_http_429 = retry.boolean().unwrap_or(retry_on_http_429);
    if retry.is_given() && destination != "prometheus_remote_write" {
        retry.note("has an effect with prometheus_remote_write only");
    }
    for name in ["min_shards", "capacity"] {
        let key = section.key(name);
        if key.is_given() && key.number(&(0..=u64::MAX)).is_some() {
            key.note("has no effect: the log is the queue, and lanes are opened as they are needed");
        }
    }
    section.finish();
    (queue, retry_on_http_429)
}

fn rule(section: Section<'_>) -> Option<Rule> {
    let labels = section.key("source_labels");
    let spec = RuleSpec {
        source_labels: labels.is_given().then(|| labels.texts()),
        separator: section.key("separator").text(),
        regex: section.key("regex").text(),
        target_label: section.key("target_label").text(),
        modulus: section.key("modulus").number(&(0..=u64::MAX)),
        replacement: section.key("replacement").text(),
        action: section
            .key("action")
            .read("an action of Prometheus, such as replace, keep or drop", |text| {
                Action::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, action)| *action)
            })
            .unwrap_or_default(),
    };
    let result = Rule::try_new(spec);
    let rule = result.map_err(|errors| {
        for error in errors {
            section.key(error.key()).mistake(error.to_string());
        }
    });
    section.finish();
    rule.ok()
}

fn remote_write(section: &Section<'_>, retry_on_http_429: bool) -> Option<RemoteWrite> {
    let versions = [("auto", Version::Auto), ("1", Version::V1), ("2", Version::V2)];
    let version = section.key("version").one_of(&versions).unwrap_or(Version::Auto);
    let target = section.key("url").required().try_read(|text| address::target(text, &["http", "https"]));
    let (url, credentials) = target.map(|target| (target.url, target.credentials)).unzip();
    let http = http::client(section, credentials.flatten());
    let style = style(section);
    Some(RemoteWrite { url: url?.to_string(), version, http, style, retry_on_http_429 })
}

/// The options of a destination: those of its preset, but for those that are given themselves.
fn style<S: Style>(section: &Section<'_>) -> S {
    let preset = section.key("preset").try_read(|text| Preset::from_name(text).and_then(S::try_of));
    let mut style = preset.unwrap_or_default();
    for name in S::KEYS {
        let set = section.key(name).try_read(|text| {
            let mut set = style.clone();
            set.set(name, text).map(|()| set)
        });
        style = set.unwrap_or(style);
    }
    style
}

/// The versions of InfluxDB's write API.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InfluxVersion {
    V1,
    V2,
    V3,
}

fn influx(section: &Section<'_>) -> Option<Influx> {
    let base = section.key("url").required().try_read(|text| address::base(text, &["http", "https"]));
    let (url, credentials) = base.map(|(url, target)| (url, target.credentials)).unzip();
    let mut http = http::client(section, credentials.flatten());
    user(section, &mut http);
    let version = influx_version(section);
    let api = influx_api(section, version, &http);
    let gzip = section.key("gzip").boolean().unwrap_or(true);
    let create_database = section.key("create_database").boolean().unwrap_or(false);
    let style = style(section);
    Some(Influx { url: url?, api: api?, http, gzip, create_database, style })
}

/// `username` and `password` beside the URL: a short way to write `basic_auth`.
fn user(section: &Section<'_>, http: &mut HttpClient) {
    let (username, password) = (section.key("username"), section.key("password"));
    if !username.is_given() {
        if password.is_given() {
            password.mistake("needs username beside it");
        }
        return;
    }
    if http.basic_auth.is_some() || http.authorization.is_some() {
        username.mistake("cannot be given together with basic_auth, authorization or a user in the URL");
    }
    let (username, password) = (username.filled_text(), password.text());
    http.basic_auth = username.map(|username| BasicAuth { username, password: Secret(password.unwrap_or_default()) });
}

fn influx_version(section: &Section<'_>) -> InfluxVersion {
    let version = section.key("version");
    let is_two = section.key("org").is_given() || section.key("bucket").is_given();
    let inferred = if is_two { InfluxVersion::V2 } else { InfluxVersion::V1 };
    let spellings = [("1", InfluxVersion::V1), ("2", InfluxVersion::V2), ("3", InfluxVersion::V3)];
    version.one_of(&spellings).unwrap_or(inferred)
}

fn influx_api(section: &Section<'_>, version: InfluxVersion, http: &HttpClient) -> Option<InfluxApi> {
    let needs = |name| section.key(name).required().filled_text();
    let takes = |name| section.key(name).filled_text();
    let [one, three] = [InfluxVersion::V1, InfluxVersion::V3].map(|other| version == other);
    let belongs: [(&str, bool, &str); 7] = [
        ("database", !matches!(version, InfluxVersion::V2), "InfluxDB 1 and 3; InfluxDB 2 has org and bucket"),
        ("retention_policy", one, "InfluxDB 1"),
        ("consistency", one, "InfluxDB 1"),
        ("create_database", one, "InfluxDB 1"),
        ("org", !one && !three, "InfluxDB 2"),
        ("bucket", !one && !three, "InfluxDB 2"),
        ("token", !one, "InfluxDB 2 (give org and bucket) and 3 (give version: 3)"),
    ];
    for (name, fits, whose) in belongs {
        let key = section.key(name);
        if !fits && key.is_given() {
            key.mistake(format!("belongs to {whose}"));
        }
    }
    let token = section.key("token");
    if token.is_given() && (http.basic_auth.is_some() || http.authorization.is_some()) {
        token.mistake("cannot be given together with a user or authorization");
    }
    match version {
        InfluxVersion::V1 => {
            let levels = ["any", "one", "quorum", "all"].map(|level| (level, level));
            let consistency = section.key("consistency").one_of(&levels).map(str::to_owned);
            let retention_policy = takes("retention_policy");
            Some(InfluxApi::V1 { database: needs("database")?, retention_policy, consistency })
        }
        InfluxVersion::V2 => {
            let (org, bucket) = (needs("org"), needs("bucket"));
            let token = section.key("token").required().header_value();
            Some(InfluxApi::V2 { org: org?, bucket: bucket?, token: Secret(token?) })
        }
        InfluxVersion::V3 => {
            let token = section.key("token").header_value().map(Secret);
            Some(InfluxApi::V3 { database: needs("database")?, token })
        }
    }
}

fn wavefront(section: &Section<'_>) -> Option<Wavefront> {
    let url = section.key("url").required();
    let (target, credentials) = url.try_read(wavefront_target).unzip();
    let token = section.key("token");
    // A cluster's URL carries its token as the user: https://TOKEN@cluster.
    let (token_of_url, credentials) = match credentials.flatten() {
        Some((token, None)) => (Some(token), None),
        other => (None, other),
    };
    let mut http = http::client(section, credentials);
    let client_keys = http::KEYS.into_iter().chain(["token"]).map(|name| section.key(name));
    if matches!(target, Some(WavefrontTarget::Tcp { .. })) {
        client_keys.filter(Key::is_given).for_each(|key| key.mistake("means nothing with tcp://"));
    }
    if token.is_given() && token_of_url.is_some() {
        token.mistake("cannot be given together with a user in the URL");
    }
    if let Some(text) = token.header_value().or(token_of_url) {
        if http.basic_auth.is_some() || http.authorization.is_some() {
            token.mistake("cannot be given together with basic_auth, authorization or a user in the URL");
        }
        http.authorization = Some(Authorization { kind: "Bearer".to_owned(), credentials: Secret(text) });
    }
    let source = section.key("source").filled_text();
    let labels = section.key("source_labels");
    let source_labels = if labels.is_given() { labels.texts() } else { SOURCE_LABELS.map(str::to_owned).to_vec() };
    let style = style(section);
    Some(Wavefront { target: target?, source, source_labels, style, http })
}

fn wavefront_target(text: &str) -> Result<(WavefrontTarget, Option<address::Credentials>), String> {
    // `proxy://` is how the Wavefront SDKs write "a proxy, over HTTP".
    let over_http = text.strip_prefix("proxy://").map(|rest| format!("http://{rest}"));
    let schemes = ["http", "https", "proxy", "tcp"];
    let (url, target) = address::base(over_http.as_deref().unwrap_or(text), &schemes)?;
    if target.url.scheme() != "tcp" {
        return Ok((WavefrontTarget::Http { url }, target.credentials));
    }
    if !matches!(target.url.path(), "" | "/") || target.credentials.is_some() {
        return Err("expected only host and port with tcp://".to_owned());
    }
    let host = target.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = target.url.port().ok_or("expected a port, as in tcp://host:2878")?;
    Ok((WavefrontTarget::Tcp { host, port }, None))
}
