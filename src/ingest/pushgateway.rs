//! `/metrics/job/<job>{/<label>/<value>}`: what a Prometheus Pushgateway takes.
//!
//! The address groups metrics; its labels win over those of the body. `PUT` replaces the group, `POST` replaces the
//! metrics of the same names in it, `DELETE` removes it. A Pushgateway forgets what is replaced; a gateway that passes
//! samples on has to end it: a series that disappears from its group gets a stale marker. A push with a bad line is
//! refused as a whole, as the Pushgateway does, and so is one that has a series twice.
//!
//! Each group has `push_time_seconds` and `push_failure_time_seconds` beside what was pushed: alerts on batch jobs ask for
//! them. As in a Pushgateway, a push that cannot be read is no failure of the group; one that can and is refused is. A body
//! that brings a family of that name itself keeps it.
//!
//! A push that was answered with success outlives the process ([`pushes`]): after a restart its series are on `/scrape`
//! again, and end when they are replaced. The log comes first. A push whose file the disk did not take is answered 503, and its
//! samples are sent all the same; one that was cut between the two by a crash was not answered, and is known in the log only.
//!
//! Differences: samples with timestamps are taken (a Pushgateway refuses them, since it would be scraped for ever), and so are
//! groups that contradict each other in types. Beyond `Limits::pushed_bytes_max`, of memory and files, groups are passed on but
//! not remembered, which is counted. Those that a start with less room does not take up again keep their files, set aside.

mod groups;
mod pushes;

pub(super) use groups::Groups;

use super::Gate;
use super::answer::{Answer, empty, refusals, text};
use super::decoder::Decoder;
use super::intake::{Collected, Decoded, Delivery, IntakeError};
use super::parameters::{MediaType, text_of};
use super::prometheus::{is_label_name, series_limit, text_decoder, text_encoding};
use super::stale;
use super::temporality::Origin;
use crate::clock;
use crate::log::Aside;
use crate::model::{
    Batch, Denied, Dialect, Metadata, MetricType, Refusal, SampleFlags, SeriesSpec, SeriesTable, Source, TimestampNs,
    Value,
};
use crate::wire::compression::Encoding;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use groups::{Group, Grouping, Shard};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, Request, StatusCode};
use percent_encoding::percent_decode_str;
use pushes::{Head, Push, Pushes, Stamps};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Labels of an address.
const LABELS_MAX: usize = 64;

/// Metric families; their message is the only one there is.
const PROTOBUF: &str = "application/vnd.google.protobuf";

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
    let format = text_decoder(&head.headers, None).format();
    let wanted = grouping.map_err(IntakeError::Corrupt);
    let wanted = wanted.and_then(|grouping| Ok((delivery(&head.method, &head.headers, &grouping)?, grouping)));
    let (delivery, grouping) = match wanted {
        Ok(wanted) => wanted,
        Err(error) => return gate.refuse(body, format, error).await.answer(text),
    };
    let is_delete = head.method == Method::DELETE;
    let is_protobuf = matches!(delivery.decoder, Decoder::MetricFamilies);
    let decoded = async {
        let collected = gate.collect(body, format).await?;
        // Whatever a DELETE carries is not part of it.
        let mut collected = if is_delete { Collected::nothing(gate) } else { collected };
        let body = if gate.groups.pushes.is_some() { collected.copy().await? } else { Vec::new() };
        Ok((gate.decode(peer, collected, delivery).await?, body))
    };
    let (mut decoded, body) = match decoded.await {
        Ok(decoded) => decoded,
        Err(error) => return IntakeError::answer(&error, text),
    };
    let failure = if let Some(limit) = decoded.taken.series_limit() {
        Some(series_limit(limit))
    } else if decoded.taken.report.refused() > 0 {
        let place = if is_protobuf { "family" } else { "line" };
        let lines = refusals(&decoded.taken.report, place).join("\n");
        return text(StatusCode::BAD_REQUEST, &format!("parsing error, nothing is kept\n{lines}"));
    } else if let Some(series) = repeated(&gate.table, &decoded.batch) {
        gate.ledger.reject(decoded.batch.format, Refusal::AllOrNothing, decoded.batch.samples.len() as u64);
        Some(text(StatusCode::BAD_REQUEST, &format!("nothing is kept: the series {series} is there more than once")))
    } else {
        None
    };
    let change = if failure.is_some() {
        decoded = Decoded::nothing(gate, format);
        Change { method: Method::POST, failed: true, push: Push::of(grouping) }
    } else {
        let header = |name| text_of(&head.headers, &name).unwrap_or_default().to_owned();
        let (content_type, content_encoding) = (header(CONTENT_TYPE), header(CONTENT_ENCODING));
        let replaces = head.method == Method::PUT;
        let said = Head { replaces, content_type, content_encoding, ..Push::of(grouping).head };
        Change { method: head.method, failed: false, push: Push { head: said, body } }
    };
    // A task of its own: a sender that leaves meanwhile must not part the samples from what is remembered of them.
    let gate = Arc::clone(gate);
    let changing = tokio::spawn(async move { change.apply(&gate, peer, decoded).await });
    let changed = changing.await.unwrap_or(Err(IntakeError::Closed));
    match (failure, changed) {
        // That its time was noted is of less interest than why it failed.
        (Some(failure), _) => failure,
        (None, Ok(())) if is_delete => empty(StatusCode::ACCEPTED),
        (None, Ok(())) => empty(StatusCode::OK),
        (None, Err(error)) => error.answer(text),
    }
}

fn delivery(method: &Method, headers: &HeaderMap, grouping: &Grouping) -> Result<Delivery, IntakeError> {
    let media = MediaType::of(headers);
    let mut delivery = match media.essence.as_str() {
        _ if method == Method::DELETE => Delivery::new(Encoding::Identity, text_decoder(headers, None)),
        PROTOBUF if media.parameter("encoding") == Some("delimited") => {
            Delivery::new(text_encoding(headers)?, Decoder::MetricFamilies)
        }
        PROTOBUF => return Err(IntakeError::UnknownType { name: media.essence }),
        _ => Delivery::new(text_encoding(headers)?, text_decoder(headers, None)),
    };
    delivery.extra_labels.clone_from(grouping);
    delivery.all_or_nothing = true;
    delivery.origin = Origin::Pushed;
    Ok(delivery)
}

/// A series that a push has more than once at one time.
fn repeated(table: &SeriesTable, batch: &Batch) -> Option<String> {
    let mut points: Vec<_> = batch.samples.iter().map(|sample| (sample.series, sample.timestamp)).collect();
    points.sort_unstable();
    let twice = points.windows(2).find(|pair| pair[0] == pair[1])?[0].0;
    Some(table.series(twice).map_or_else(String::new, |series| series.name.measurement().to_owned()))
}

/// What a request does to a group.
struct Change {
    method: Method,
    /// Whether it only notes that another was refused.
    failed: bool,
    push: Push,
}

impl Change {
    /// Appends a push together with the ends of what it replaces. The group is locked meanwhile, so that two pushes to it
    /// cannot each miss what the other brings.
    async fn apply(self, gate: &Gate, peer: IpAddr, mut decoded: Decoded) -> Result<(), IntakeError> {
        let Self { method, failed, mut push } = self;
        let grouping = push.head.grouping.clone();
        let mut shard = gate.groups.lock(&grouping).await;
        let (now, table) = (clock::now(), &gate.table);
        let before = shard.get(&grouping).map(|group| group.stamps).unwrap_or_default();
        push.head.stamps =
            if failed { Stamps { failed_at: now, ..before } } else { Stamps { pushed_at: now, ..before } };
        let (number, format) = (gate.groups.number(), decoded.batch.format);
        if method != Method::DELETE {
            stamp(table, table.source(peer), &mut decoded.batch, &push.head, now).map_err(|denied| {
                gate.ledger.reject(format, Refusal::SeriesLimit, decoded.batch.samples.len() as u64);
                IntakeError::SeriesLimit(denied)
            })?;
        }
        let pushed = Group::of(table, &decoded.batch, number, push.bytes(), push.head.stamps);
        let (next, gone) = Group::merge(shard.get(&grouping), pushed, &method);
        // At most what groups remember: one that was ended has to be pushed again, within the bound, before it can end again.
        for (alias, (_, series)) in &gone {
            stale::end(table, &mut decoded.batch, *alias, series, now);
        }
        gate.append(peer, decoded).await?;
        let before = shard.get(&grouping).map(Group::pushes).unwrap_or_default();
        remember(gate, &mut shard, &grouping, next);
        let Some(pushes) = gate.groups.pushes.clone() else { return Ok(()) };
        let group = shard.get_mut(&grouping);
        let (is_remembered, replaced) = (group.is_some(), group.as_ref().map_or(before, |group| group.replaced()));
        let gone = replaced.clone();
        let saving = tokio::task::spawn_blocking(move || {
            if is_remembered {
                pushes.save(number, &push)?;
            }
            pushes.remove(&gone)?;
            // What a later push removed may come back after a power failure, in front of what replaced it.
            if is_remembered || gone.is_empty() { Ok(()) } else { pushes.settle() }
        });
        let saved = saving.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        saved.map_err(|error| {
            tracing::error!(?grouping, %error, "a pushed group could not be saved");
            IntakeError::GroupNotSaved(error)
        })?;
        if let Some(group) = group {
            gate.groups.forget(group, &grouping, &replaced);
        }
        Ok(())
    }
}

/// Puts a group's new state in place of its old one, here and on `/scrape`.
fn remember(gate: &Gate, shard: &mut Shard, grouping: &Grouping, next: Group) {
    let (live, old) = (next.ids(), shard.get(grouping).map(Group::ids).unwrap_or_default());
    if gate.groups.remember(shard, grouping.clone(), next) {
        gate.shelf.keep(&live.iter().copied().collect::<Vec<_>>());
        // Also the former ids of series that go on under another.
        gate.shelf.release(&old.difference(&live).copied().collect::<Vec<_>>());
    } else {
        gate.ledger.group_forgotten();
        // No longer known, so nothing would ever end it.
        gate.shelf.release(&old.into_iter().collect::<Vec<_>>());
    }
}

impl Gate {
    /// The same gate, with the groups that the pushes beside its log tell of. From here on pushes are kept there.
    ///
    /// # Errors
    /// When their directory cannot be created or read.
    pub async fn with_pushed_groups(mut self) -> std::io::Result<Self> {
        let pushes = Pushes::new(Arc::clone(&self.log), self.groups.bytes_max());
        let (numbers, last) = pushes.open()?;
        if let Some(last) = last {
            self.groups.number_after(last);
        }
        let mut replaced = Vec::new();
        for number in numbers {
            let Some(push) = pushes.load(number) else { continue };
            replaced.extend(self.restore(&pushes, number, push).await);
        }
        pushes.remove(&replaced)?;
        self.groups.pushes = Some(pushes);
        Ok(self)
    }

    /// Takes a push again as it was taken once, without the log: the pushes that are replaced by it.
    async fn restore(&self, pushes: &Pushes, number: u64, push: Push) -> Vec<u64> {
        let bytes = push.bytes();
        let Push { head, body } = push;
        let mut headers = HeaderMap::new();
        let mut header = |name: HeaderName, value: &str| headers.insert(name, HeaderValue::from_str(value).ok()?);
        header(CONTENT_TYPE, &head.content_type);
        header(CONTENT_ENCODING, &head.content_encoding);
        let method = if head.replaces { Method::PUT } else { Method::POST };
        let decoded = delivery(&method, &headers, &head.grouping).and_then(|mut delivery| {
            // Rather part of it than nothing, should this version take less than the one that took it.
            delivery.all_or_nothing = false;
            self.decode_again(body, delivery)
        });
        let (mut batch, report) = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                tracing::error!(push = number, dir = %pushes.dir().display(), %error, "a push that was kept is not taken any more");
                return Vec::new();
            }
        };
        if report.refused() > 0 {
            pushes.tell_refused(number, &report);
        }
        for sample in &mut batch.samples {
            if sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT) {
                sample.timestamp = head.stamps.pushed_at;
            }
        }
        // Not in a full table, which is told of the series themselves.
        let _ = stamp(&self.table, Source::OWN, &mut batch, &head, head.stamps.latest());
        let mut shard = self.groups.lock(&head.grouping).await;
        let pushed = Group::of(&self.table, &batch, number, bytes, head.stamps);
        let (next, _) = Group::merge(shard.get(&head.grouping), pushed, &method);
        let files = next.pushes();
        self.shelf.show(Arc::new(batch), &self.table, head.stamps.latest());
        remember(self, &mut shard, &head.grouping, next);
        if let Some(group) = shard.get_mut(&head.grouping) {
            let replaced = group.replaced();
            self.groups.forget(group, &head.grouping, &replaced);
            return replaced;
        }
        tracing::error!(grouping = ?head.grouping, "there is no room to remember this pushed group any more");
        for number in files {
            pushes.set_aside(number, Aside::NoRoom);
        }
        Vec::new()
    }
}

/// Adds when a group was changed last, and when that last failed.
fn stamp(table: &SeriesTable, source: Source, batch: &mut Batch, head: &Head, now: TimestampNs) -> Result<(), Denied> {
    let brought: Vec<_> = {
        let mut ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| table.series(id)).collect()
    };
    let Stamps { pushed_at, failed_at } = head.stamps;
    for (name, help, at) in [
        ("push_time_seconds", "When this group was last pushed to with success, in Unix time.", pushed_at),
        ("push_failure_time_seconds", "When a push to this group last failed, in Unix time.", failed_at),
    ] {
        if brought.iter().any(|series| series.name.measurement() == name) {
            continue;
        }
        let given = head.grouping.iter().filter(|(_, value)| !value.is_empty());
        let labels: Vec<_> = given.map(|(name, value)| (Cow::from(name), Cow::from(value))).collect();
        let mut alias = table.hash(b"time of a push").then(table.hash(name.as_bytes()));
        for (name, value) in &labels {
            alias = alias.then(table.hash(name.as_bytes())).then(table.hash(value.as_bytes()));
        }
        let id = if let Some(id) = table.recognise(alias) {
            id
        } else {
            let family =
                Metadata { family: name.into(), metric_type: MetricType::Gauge, help: help.into(), unit: "".into() };
            let metadata = Some(Arc::new(family));
            let spec = SeriesSpec { measurement: name, field: None, labels, metadata };
            table.define(source, alias, Dialect::Prometheus, spec)?
        };
        batch.push(id, now, Value::F64(at as f64 / 1e9), SampleFlags::TIMESTAMP_IMPLICIT);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
