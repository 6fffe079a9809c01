//! `/metrics/job/<job>{/<label>/<value>}`: what a Prometheus Pushgateway takes.
//!
//! The address groups metrics; its labels win over those of the body. `PUT` replaces the group, `POST` replaces the
//! metrics of the same names in it, `DELETE` removes it. A Pushgateway forgets what is replaced; a gateway that passes
//! samples on has to end it: a series that disappears from its group gets a stale marker. A push with a bad line is
//! refused as a whole, as the Pushgateway does.
//!
//! Differences: samples with timestamps are taken (a Pushgateway refuses them, since it would be scraped for ever);
//! `push_time_seconds` is not made up; groups live in memory only, so after a restart nothing is ended that was pushed
//! before. Beyond `Limits::pushed_bytes_max`, groups are passed on but not remembered.

use super::Gate;
use super::answer::{Answer, empty, refusals, text};
use super::decoder::Decoder;
use super::intake::{Collected, Decoded, Delivery, IntakeError};
use super::parameters::MediaType;
use super::prometheus::{is_label_name, series_limit, text_decoder, text_encoding};
use super::temporality::Origin;
use crate::clock;
use crate::model::{
    AliasHash, Batch, STALE_MARKER_BITS, SampleFlags, Series, SeriesId, SeriesSpec, SeriesTable, Source, TimestampNs,
    Value,
};
use crate::wire::compression::Encoding;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// Estimated cost of a remembered series beside its texts.
const MEMBER_BYTES: usize = 384;
/// Estimated cost of a label or a family beside its texts.
const ENTRY_BYTES: usize = 64;
/// Groups are locked while their push is appended; so many pushes of different groups run side by side.
const SHARDS: usize = 32;
/// Labels of an address.
const LABELS_MAX: usize = 64;

/// Metric families; their message is the only one there is.
const PROTOBUF: &str = "application/vnd.google.protobuf";

/// Labels of an address, sorted by name: the name of a group.
type Grouping = Vec<(String, String)>;
/// Live series of a group, by family. They are known by the hash of name and labels: an id changes when a family is declared
/// differently, or when a series fell idle and left the table between two pushes.
type Group = BTreeMap<Box<str>, HashMap<AliasHash, Member>>;
/// A series and its present id.
type Member = (SeriesId, Series);

/// What was pushed to each group and has not been replaced since.
#[derive(Debug)]
pub(super) struct Groups {
    shards: [Mutex<HashMap<Grouping, Group>>; SHARDS],
    bytes: AtomicUsize,
    bytes_max: usize,
    hasher: RandomState,
}

impl Groups {
    /// No groups yet; all together remember so many bytes, estimated.
    pub(super) fn new(bytes_max: usize) -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, bytes: AtomicUsize::new(0), bytes_max, hasher: RandomState::new() }
    }

    async fn lock(&self, grouping: &Grouping) -> MutexGuard<'_, HashMap<Grouping, Group>> {
        let shard = self.hasher.hash_one(grouping) as usize % SHARDS;
        self.shards[shard].lock().await
    }

    /// Remembers a group's new state in place of its old one; false when there are too many.
    fn remember(&self, shard: &mut HashMap<Grouping, Group>, grouping: Grouping, group: Group) -> bool {
        let before = shard.remove(&grouping).map_or(0, |old| cost(&grouping, &old));
        self.bytes.fetch_sub(before, Ordering::Relaxed);
        if group.values().all(HashMap::is_empty) {
            return true;
        }
        let after = cost(&grouping, &group);
        if self.bytes.fetch_add(after, Ordering::Relaxed) + after > self.bytes_max {
            self.bytes.fetch_sub(after, Ordering::Relaxed);
            return false;
        }
        shard.insert(grouping, group);
        true
    }
}

/// What a group costs, estimated as if nothing else held its series.
fn cost(grouping: &Grouping, group: &Group) -> usize {
    let address: usize = grouping.iter().map(|(name, value)| ENTRY_BYTES + name.len() + value.len()).sum();
    let member = |(_, series): &Member| {
        let labels: usize = series.labels.iter().map(|pair| ENTRY_BYTES + pair.name.len() + pair.value.len()).sum();
        let metadata = series.metadata.as_ref().map_or(0, |metadata| metadata.bytes());
        MEMBER_BYTES + series.name.len() + labels + metadata
    };
    let families =
        group.iter().map(|(family, members)| ENTRY_BYTES + family.len() + members.values().map(member).sum::<usize>());
    address + families.sum::<usize>()
}

/// The group that a path addresses; none when the path is not of this API; an error when it is, but wrongly.
pub(super) fn grouping_of(path: &str) -> Option<Result<Grouping, String>> {
    let rest = path.strip_prefix("/metrics/")?;
    let is_ours = rest.starts_with("job/") || rest.starts_with("job@base64/");
    is_ours.then(|| parse_grouping(rest))
}

fn parse_grouping(path: &str) -> Result<Grouping, String> {
    let mut segments: Vec<&str> = path.split('/').collect();
    // The Pushgateway's router allows a slash behind the last value.
    if segments.len() % 2 == 1 && segments.last() == Some(&"") {
        segments.pop();
    }
    if segments.len() % 2 == 1 {
        return Err("odd number of components in the path: every label needs a value".to_owned());
    }
    if segments.len() > 2 * LABELS_MAX {
        return Err(format!("more than {LABELS_MAX} labels in the path"));
    }
    let mut grouping = BTreeMap::new();
    for pair in segments.chunks_exact(2) {
        let (name, value) = match pair[0].strip_suffix("@base64") {
            Some(name) => (name, decode_base64(pair[1])?),
            None => (pair[0], decode_percent(pair[1])?),
        };
        let name = decode_percent(name)?;
        if !is_label_name(&name) {
            return Err(format!("improper label name {name:?}"));
        }
        // As in a Pushgateway: the first `job` is the job, of any other label the last one counts.
        if name != "job" || !grouping.contains_key("job") {
            grouping.insert(name, value);
        }
    }
    if grouping.get("job").is_none_or(String::is_empty) {
        return Err("job name is required".to_owned());
    }
    Ok(grouping.into_iter().collect())
}

fn decode_percent(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(std::borrow::Cow::into_owned).map_err(|_| format!("{text:?} is not UTF-8"))
}

fn decode_base64(text: &str) -> Result<String, String> {
    let wrong = || format!("invalid base64 encoding of {text:?}");
    let bytes = URL_SAFE_NO_PAD.decode(decode_percent(text)?.trim_end_matches('=')).map_err(|_| wrong())?;
    String::from_utf8(bytes).map_err(|_| wrong())
}

pub(super) async fn answer(
    gate: &Arc<Gate>,
    peer: IpAddr,
    grouping: Result<Grouping, String>,
    request: Request<Incoming>,
) -> Answer {
    let (head, body) = request.into_parts();
    let is_delete = head.method == Method::DELETE;
    let format = text_decoder(&head.headers, None).format();
    let delivery = grouping.map_err(IntakeError::Corrupt).and_then(|grouping| delivery(&head, grouping));
    let (delivery, grouping) = match delivery {
        Ok(delivery) => delivery,
        Err(error) => return gate.refuse(body, format, error).await.answer(text),
    };
    let is_protobuf = matches!(delivery.decoder, Decoder::MetricFamilies);
    let decoded = async {
        let collected = gate.collect(body, format).await?;
        // Whatever a DELETE carries is not part of it.
        let collected = if is_delete { Collected::nothing(gate) } else { collected };
        gate.decode(peer, collected, delivery).await
    };
    let decoded = match decoded.await {
        Ok(decoded) => decoded,
        Err(error) => return error.answer(text),
    };
    if let Some(limit) = decoded.taken.series_limit() {
        return series_limit(limit);
    }
    if decoded.taken.report.refused() > 0 {
        let place = if is_protobuf { "family" } else { "line" };
        let lines = refusals(&decoded.taken.report, place).join("\n");
        return text(StatusCode::BAD_REQUEST, &format!("parsing error, nothing is kept\n{lines}"));
    }
    // A task of its own: a sender that leaves meanwhile must not part the samples from what is remembered of them.
    let gate = Arc::clone(gate);
    let replacing = tokio::spawn(async move { replace(&gate, peer, &head.method, grouping, decoded).await });
    match replacing.await.unwrap_or(Err(IntakeError::Closed)) {
        Ok(()) if is_delete => empty(StatusCode::ACCEPTED),
        Ok(()) => empty(StatusCode::OK),
        Err(error) => error.answer(text),
    }
}

fn delivery(head: &Parts, grouping: Grouping) -> Result<(Delivery, Grouping), IntakeError> {
    let headers = &head.headers;
    let media = MediaType::of(headers);
    let mut delivery = match media.essence.as_str() {
        _ if head.method == Method::DELETE => Delivery::new(Encoding::Identity, text_decoder(headers, None)),
        PROTOBUF if media.parameter("encoding") == Some("delimited") => {
            Delivery::new(text_encoding(headers)?, Decoder::MetricFamilies)
        }
        PROTOBUF => return Err(IntakeError::UnknownType { name: media.essence }),
        _ => Delivery::new(text_encoding(headers)?, text_decoder(headers, None)),
    };
    delivery.extra_labels.clone_from(&grouping);
    delivery.all_or_nothing = true;
    delivery.origin = Origin::Pushed;
    Ok((delivery, grouping))
}

/// Appends a push together with the ends of what it replaces. The group is locked meanwhile, so that two pushes to it
/// cannot each miss what the other brings.
async fn replace(
    gate: &Gate,
    peer: IpAddr,
    method: &Method,
    grouping: Grouping,
    mut decoded: Decoded,
) -> Result<(), IntakeError> {
    let mut shard = gate.groups.lock(&grouping).await;
    let pushed = group_of(&gate.table, &decoded.batch);
    let (next, gone) = merge(shard.get(&grouping), pushed, method);
    end(&gate.table, &mut decoded.batch, &gone, clock::now());
    gate.append(peer, decoded).await?;
    let ids = |group: &Group| -> HashSet<SeriesId> { group.values().flatten().map(|(_, (id, _))| *id).collect() };
    let (live, old) = (ids(&next), shard.get(&grouping).map(ids).unwrap_or_default());
    if gate.groups.remember(&mut shard, grouping, next) {
        gate.shelf.keep(&live.iter().copied().collect::<Vec<_>>());
        // Also the former ids of series that go on under another.
        gate.shelf.release(&old.difference(&live).copied().collect::<Vec<_>>());
    } else {
        // No longer known, so nothing would ever end it.
        gate.shelf.release(&old.into_iter().collect::<Vec<_>>());
    }
    Ok(())
}

/// The series of a batch by family.
fn group_of(table: &SeriesTable, batch: &Batch) -> Group {
    let mut group = Group::new();
    let mut ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
    ids.sort_unstable();
    ids.dedup();
    for (id, series) in ids.into_iter().filter_map(|id| Some((id, table.series(id)?))) {
        let family = series.metadata.as_ref().map_or(series.name.measurement(), |metadata| &metadata.family);
        group.entry(family.into()).or_default().insert(name_and_labels(table, &series), (id, series));
    }
    group
}

fn name_and_labels(table: &SeriesTable, series: &Series) -> AliasHash {
    // Of its own kind: no request names a series by such bytes.
    let mut hash = table.hash(b"series of a pushed group").then(table.hash(series.name.measurement().as_bytes()));
    for pair in &series.labels {
        hash = hash.then(table.hash(pair.name.as_bytes())).then(table.hash(pair.value.as_bytes()));
    }
    hash
}

/// The group after a push, and the series that are in it no longer.
fn merge(old: Option<&Group>, pushed: Group, method: &Method) -> (Group, Vec<(AliasHash, Member)>) {
    let Some(old) = old else { return (pushed, Vec::new()) };
    let is_replaced = |family: &str| method != Method::POST || pushed.contains_key(family);
    let stays = |key: &AliasHash| pushed.values().any(|family| family.contains_key(key));
    let replaced = old.iter().filter(|(family, _)| is_replaced(family)).flat_map(|(_, series)| series);
    let gone = replaced.filter(|(key, _)| !stays(key)).map(|(key, member)| (*key, member.clone())).collect();
    let kept = old.iter().filter(|(family, _)| !is_replaced(family));
    let mut next: Group = kept.map(|(family, series)| (family.clone(), series.clone())).collect();
    next.extend(pushed);
    (next, gone)
}

/// Marks series as ended; those that left the table meanwhile come back for it, whatever its bound: at most what groups
/// remember, since a group that was ended has to be pushed again, within the bound, before it can end again.
fn end(table: &SeriesTable, batch: &mut Batch, gone: &[(AliasHash, Member)], now: TimestampNs) {
    let marker = Value::F64(f64::from_bits(STALE_MARKER_BITS));
    for (alias, (_, series)) in gone {
        let labels = series.labels.iter().map(|pair| (Cow::from(&*pair.name), Cow::from(&*pair.value))).collect();
        let measurement = series.name.measurement();
        let spec = SeriesSpec { measurement, field: None, labels, metadata: series.metadata.clone() };
        let id = table.define_unbounded(Source::OWN, *alias, series.dialect, spec);
        batch.push(id, now, marker, SampleFlags::TIMESTAMP_IMPLICIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Dialect;

    #[test]
    fn addresses_name_groups() {
        let cases: &[(&str, &[(&str, &str)])] = &[
            ("/metrics/job/some_job", &[("job", "some_job")]),
            ("/metrics/job/some_job/", &[("job", "some_job")]),
            ("/metrics/job/a/instance/b%2Fc", &[("instance", "b/c"), ("job", "a")]),
            ("/metrics/job/a/path@base64/L3Zhci90bXA", &[("job", "a"), ("path", "/var/tmp")]),
            ("/metrics/job@base64/L3Zhci90bXA=/x/y", &[("job", "/var/tmp"), ("x", "y")]),
            ("/metrics/job/a/empty@base64/=", &[("empty", ""), ("job", "a")]),
            ("/metrics/job/titan/name/%CE%A0%CF%81", &[("job", "titan"), ("name", "Πρ")]),
            ("/metrics/job/a/job/b", &[("job", "a")]),
            ("/metrics/job/a/x/1/x/2", &[("job", "a"), ("x", "2")]),
        ];
        for (path, expected) in cases {
            let expected: Grouping = expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(grouping_of(path), Some(Ok(expected)), "{path}");
        }
    }

    #[test]
    fn refuses_addresses_without_job_or_with_half_a_label() {
        for path in [
            "/metrics/job/",
            "/metrics/job/a/instance",
            "/metrics/job/a/__x/b",
            "/metrics/job/a/1x/b",
            "/metrics/job@base64/***",
            "/metrics/job/%ff",
        ] {
            assert!(matches!(grouping_of(path), Some(Err(_))), "{path}");
        }
        let many = "/l/v".repeat(LABELS_MAX);
        assert!(matches!(grouping_of(&format!("/metrics/job/a{many}")), Some(Err(_))), "none is left out silently");
        for path in ["/metrics", "/metrics/connected", "/metrics/jobs/a", "/metrics/job"] {
            assert_eq!(grouping_of(path), None, "{path}");
        }
    }

    /// A group of series without labels.
    fn group(table: &SeriesTable, families: &[(&str, &[&str])]) -> Group {
        let mut group = Group::new();
        for (family, names) in families {
            for name in *names {
                let spec = SeriesSpec { measurement: name, field: None, labels: Vec::new(), metadata: None };
                let id = table.define(Source::OWN, table.hash(name.as_bytes()), Dialect::Prometheus, spec).unwrap();
                let series = table.series(id).unwrap();
                group.entry((*family).into()).or_default().insert(name_and_labels(table, &series), (id, series));
            }
        }
        group
    }

    fn names<'g>(members: impl IntoIterator<Item = &'g Member>) -> Vec<&'g str> {
        let mut names: Vec<_> = members.into_iter().map(|(_, series)| series.name.measurement()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn groups_are_remembered_up_to_a_bound_in_bytes() {
        let table = SeriesTable::default();
        let groups = Groups::new(1 << 10);
        let (mut shard, grouping) = (HashMap::new(), |job: &str| vec![("job".to_owned(), job.to_owned())]);
        let long = "l".repeat(1 << 10);
        assert!(groups.remember(&mut shard, grouping("a"), group(&table, &[("a", &["a"])])));
        let held = groups.bytes.load(Ordering::Relaxed);
        assert!(!groups.remember(&mut shard, grouping("b"), group(&table, &[("b", &[&long])])), "one long series");
        assert_eq!((shard.len(), groups.bytes.load(Ordering::Relaxed)), (1, held));
        assert!(groups.remember(&mut shard, grouping("a"), Group::new()));
        assert_eq!((shard.len(), groups.bytes.load(Ordering::Relaxed)), (0, 0), "what is deleted is given back");
    }

    #[test]
    fn a_push_replaces_by_its_method() {
        let table = SeriesTable::default();
        let old = group(&table, &[("a", &["a1", "a2"]), ("b", &["b3"])]);
        let pushed = || group(&table, &[("a", &["a2", "a4"])]);
        let cases: [(Method, Group, &[&str], &[&str]); 4] = [
            (Method::POST, pushed(), &["a2", "a4", "b3"], &["a1"]),
            (Method::PUT, pushed(), &["a2", "a4"], &["a1", "b3"]),
            (Method::PUT, Group::new(), &[], &["a1", "a2", "b3"]),
            (Method::DELETE, Group::new(), &[], &["a1", "a2", "b3"]),
        ];
        for (method, pushed, expected, gone) in cases {
            let (next, ended) = merge(Some(&old), pushed, &method);
            assert_eq!(names(next.values().flat_map(HashMap::values)), expected, "{method}");
            assert_eq!(names(ended.iter().map(|(_, member)| member)), gone, "{method}");
        }
        let (next, gone) = merge(None, pushed(), &Method::PUT);
        assert_eq!((names(next["a"].values()), gone.len()), (vec!["a2", "a4"], 0));
    }
}
