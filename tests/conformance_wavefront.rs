//! Holds the Wavefront format to the cases of the conformance corpus (`../shared/corpus/wavefront`), which other projects
//! wrote for their own parsers. Without the folder there is nothing to hold it to, and the tests say so.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and tells its counts")]

#[path = "support/conformance.rs"]
mod conformance;
#[path = "support/wavefront_line.rs"]
mod wavefront_line;

use conformance::Tally;
use serde_json::Value as Json;
use sluicegate::model::{
    BatchBuilder, Centroid, Distribution, Format, Granularity, Losses, SampleFlags, SeriesSpec, SeriesTable, Value,
};
use sluicegate::wire::SampleRef;
use sluicegate::wire::wavefront::decode::{CENTROIDS_MAX, Form, Options, decode};
use sluicegate::wire::wavefront::encode::{self, Encoder, render, sanitise_name, sanitise_value_quoted};
use sluicegate::wire::wavefront::validate::{
    Kind, Limits, Violation, is_delta_name, is_legal_name, validate_centroids, validate_series, validate_value,
};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

const NOW: i64 = 1_700_000_000_000_000_000;

/// Cases that are not ours to pass, with the reason.
const EXCUSED: &[(&str, &str)] = &[
    ("wf-otel-bad-no-name", "the proxy reads ` 1.23 1582230000` as the metric `1.23`"),
    ("wf-otel-labels-missing-tag-value", "the proxy refuses a tag without value"),
    ("wf-otel-labels-empty-tag-value", "the proxy refuses a tag without value"),
    ("wf-enc-java-sanitize", "the SDK trims tag values; ours keep their blanks"),
    ("wf-enc-java-histo-no-granularity", "our distributions always have a bin"),
    ("wf-sanv-sdk-java-5", "the SDK writes a line end as backslash and n, which no parser reads back; ours is a space"),
    ("wf-sanv-sdk-go-5", "the SDK writes a line end as backslash and n, which no parser reads back; ours is a space"),
    ("wf-enc-proxy-notags", "the proxy's own serialiser writes a name that the proxy refuses"),
    ("wf-enc-proxy-histo", "the proxy merges equal centroids before it writes; ours stay as they came"),
];

fn cases(file: &str) -> Option<Vec<Json>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/wavefront").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("conformance_wavefront: {file}: no corpus here, nothing was judged");
        return None;
    };
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn judge(file: &str, verdict: impl Fn(&Json) -> Result<(), String>) {
    let Some(cases) = cases(file) else { return };
    let (mut tally, mut failed) = (Tally::default(), Vec::new());
    for case in &cases {
        let id = case["id"].as_str().unwrap();
        let is_excused = EXCUSED.iter().any(|(excused, _)| *excused == id);
        tally.count(id, verdict(case), is_excused, &mut failed);
    }
    failed.extend(tally.tell(&format!("wavefront/{file}")).err());
    assert!(!cases.is_empty() && failed.is_empty(), "{} not passed:\n{}", failed.len(), failed.join("\n"));
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: found {found:?}, expected {expected:?}")) }
}

fn text<'a>(json: &'a Json, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Json::as_str)
}

fn limits(case: &Json) -> Option<Limits> {
    let limits = case.get("limits")?;
    let of = |key: &str, default: usize| limits.get(key).and_then(Json::as_u64).map_or(default, |limit| limit as usize);
    Some(Limits {
        metric_length_max: of("metric_length_limit", Limits::PROXY.metric_length_max),
        histogram_length_max: of("histogram_length_limit", Limits::PROXY.histogram_length_max),
        source_length_max: of("source_length_limit", Limits::PROXY.source_length_max),
        tags_max: of("tags_count_limit", Limits::PROXY.tags_max),
        key_length_max: of("tag_key_length_limit", Limits::PROXY.key_length_max),
        value_length_max: of("tag_value_length_limit", Limits::PROXY.value_length_max),
    })
}

fn tags(point: &Json) -> Vec<(&str, &str)> {
    let tags = point.get("tags").and_then(Json::as_object);
    tags.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str().unwrap())).collect()
}

fn centroids(point: &Json) -> Option<Vec<Centroid>> {
    let list = point.get("centroids")?.as_array()?;
    let centroid = |pair: &Json| Centroid { count: pair[1].as_i64().unwrap() as i32, mean: pair[0].as_f64().unwrap() };
    Some(list.iter().map(centroid).collect())
}

fn judge_decode(case: &Json) -> Result<(), String> {
    if text(case, "kind") == Some("metric_name") {
        return judge_name(case);
    }
    let input = text(case, "input").unwrap();
    let source_tags: Vec<&str> =
        case["custom_source_tags"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
    let options = Options {
        default_source: text(case, "default_source"),
        source_tags: &source_tags,
        form: if text(case, "kind") == Some("histogram") { Form::Histograms } else { Form::Metrics },
        // The parsers under test judge grammar; names and lengths are judged only where limits are given.
        limits: limits(case),
        centroids_max: case["max_centroids"].as_u64().map_or(CENTROIDS_MAX, |max| max as usize),
        ..Options::at(NOW)
    };
    let table = SeriesTable::default();
    let mut out = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
    let report = decode(input.as_bytes(), &options, &mut out);
    let batch = out.finish();
    if case["expect"]["ok"] == Json::Bool(false) {
        let why = text(&case["expect"], "why").filter(|why| why.starts_with("WF-"));
        expect("samples", &batch.samples.len(), &0)?;
        return match why {
            Some(code) if !report.first[0].message.starts_with(code) => Err(report.first[0].message.clone()),
            _ => Ok(()),
        };
    }
    let sample = batch.samples.first().ok_or_else(|| format!("refused: {:?}", report.first))?;
    let series = table.series(sample.series).unwrap();
    let point = &case["expect"]["point"];
    if let Some(metric) = text(point, "metric") {
        expect("metric", &series.name.measurement(), &metric)?;
    }
    if let Some(source) = text(point, "source") {
        expect("source", &series.label("source"), &Some(source))?;
    }
    if point.get("tags").is_some() {
        let found: Vec<(&str, &str)> = series.labels.iter().map(|pair| (&*pair.name, &*pair.value)).collect();
        let found: Vec<(&str, &str)> = found.into_iter().filter(|(key, _)| *key != "source").collect();
        let mut expected = tags(point);
        expected.sort_unstable();
        expect("tags", &found, &expected)?;
    }
    match point.get("timestamp_ms") {
        Some(Json::Null) => expect("flags", &sample.flags, &SampleFlags::TIMESTAMP_IMPLICIT)?,
        Some(time) => expect("timestamp", &Some(sample.timestamp.div_euclid(1_000_000)), &time.as_i64())?,
        None => {}
    }
    match batch.value(sample) {
        Value::F64(value) => match point.get("value").and_then(Json::as_f64) {
            Some(expected) => expect("value", &value.to_bits(), &expected.to_bits()),
            None => Ok(()),
        },
        Value::Distribution(distribution) => {
            if let Some(duration) = point.get("duration_ms").and_then(Json::as_u64) {
                let found = match distribution.granularity {
                    Granularity::Minute => 60_000,
                    Granularity::Hour => 3_600_000,
                    Granularity::Day => 86_400_000,
                };
                expect("duration", &found, &duration)?;
            }
            match centroids(point) {
                Some(expected) => expect("centroids", &distribution.centroids, &expected),
                None => Ok(()),
            }
        }
        other => Err(format!("{other:?}")),
    }
}

fn judge_name(case: &Json) -> Result<(), String> {
    expect("legal", &is_legal_name(text(case, "input").unwrap()), &case["expect"]["ok"].as_bool().unwrap())
}

fn judge_validation(case: &Json) -> Result<(), String> {
    let Some(point) = case.get("point") else { return judge_decode(case) };
    let limits = limits(case).unwrap_or(Limits::PROXY);
    let (name, source) = (text(point, "metric").unwrap(), text(point, "source").unwrap_or_default());
    let kind = if text(case, "kind") == Some("histogram") { Kind::Distribution } else { Kind::Point };
    let verdict = validate_series(kind, name, source, &tags(point), &limits).and_then(|()| match centroids(point) {
        Some(centroids) => validate_centroids(&centroids),
        None => validate_value(is_delta_name(name), point["value"].as_f64().unwrap_or(1.0)),
    });
    let found = verdict.map_or_else(Violation::code, |()| "");
    let expected = if case["expect"]["ok"] == Json::Bool(true) { "" } else { text(&case["expect"], "why").unwrap() };
    expect("code", &found, &expected)
}

/// The lines of a point, one for each granularity it is asked for.
fn lines_of(case: &Json) -> Result<Vec<String>, String> {
    let point = &case["point"];
    let source = text(point, "source").filter(|source| !source.is_empty());
    let mut labels: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    labels.extend(tags(point).into_iter().map(|(key, value)| (Cow::from(key), Cow::from(value))));
    labels.extend(source.map(|source| (Cow::from("source"), Cow::from(source))));
    labels.retain(|(_, value)| !value.is_empty());
    let table = SeriesTable::default();
    let builder = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
    let name = text(point, "metric").unwrap_or_default();
    let spec = SeriesSpec { measurement: name, field: None, labels, metadata: None };
    let id = builder.define(builder.alias(b"x"), spec).unwrap();
    let options = encode::Options::new(text(case, "default_source").unwrap_or_default().to_owned());
    let rendered = Arc::new(render(&table.series(id).unwrap(), &options).map_err(|loss| loss.as_str().to_owned())?);
    let timestamp = point["timestamp_s"].as_i64().map_or(NOW, |seconds| seconds * 1_000_000_000);

    let granularities = point["granularities"].as_array().into_iter().flatten().filter_map(Json::as_str);
    let granularities = granularities.map(|letter| match letter {
        "M" => Granularity::Minute,
        "H" => Granularity::Hour,
        _ => Granularity::Day,
    });
    let distributions: Vec<Distribution> = match centroids(point) {
        Some(list) => granularities.map(|granularity| Distribution { granularity, centroids: list.clone() }).collect(),
        None => Vec::new(),
    };
    let mut values: Vec<Value<'_>> = distributions.iter().map(Value::Distribution).collect();
    values.extend(point["value"].as_f64().map(Value::F64));
    let mut encoder = Encoder::new(options);
    let mut losses = Losses::default();
    for value in values {
        let sample = SampleRef { timestamp, value, start: None, flags: SampleFlags::NONE };
        encoder.push(&rendered, &sample, &mut losses).map_err(|loss| loss.as_str().to_owned())?;
    }
    let mut bytes = encoder.finish(&mut losses).bytes;
    bytes.extend(encoder.finish_distributions().unwrap_or_default().bytes);
    Ok(String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect())
}

/// Ours against a dialect's line. What may differ is what differs between the dialects themselves: how a number is spelt,
/// and the unit of the time, which ours always writes. Names, source and tags must be the same text.
fn judge_encode(case: &Json) -> Result<(), String> {
    let expected = text(&case["expect"], "output");
    match text(case, "kind") {
        Some("sanitize_name") => {
            // The Java SDK's alphabet is the format's without the slash.
            let java = text(case, "profile") == Some("sdk-java");
            let clean = sanitise_name(text(case, "input").unwrap());
            let clean = if java { clean.replace('/', "-") } else { clean.into_owned() };
            return expect("name", &clean.as_str(), &expected.unwrap());
        }
        Some("sanitize_value_quoted") => {
            return expect("value", &sanitise_value_quoted(text(case, "input").unwrap()).as_str(), &expected.unwrap());
        }
        _ => {}
    }
    let lines = match (lines_of(case), case["expect"]["ok"] == Json::Bool(true)) {
        (Err(_), false) => return Ok(()),
        (Err(loss), true) => return Err(loss),
        (Ok(lines), false) => return Err(format!("written: {lines:?}")),
        (Ok(lines), true) => lines,
    };
    let expected: Vec<&str> = expected.unwrap().lines().collect();
    expect("lines", &lines.len(), &expected.len())?;
    for (line, expected) in lines.iter().zip(expected) {
        let read = |line| wavefront_line::read(line, &wavefront_line::PROXY, "x").map_err(str::to_owned);
        let (found, theirs) = (read(line)?, read(expected)?);
        // The tags of a line begin with its source in every dialect: that part is compared as it is written.
        let tail = |line: &str| line.split_once(" source=").map(|(_, tail)| tail.to_owned());
        expect("value", &found.value.to_bits(), &theirs.value.to_bits())?;
        let timestamp_ms = found.timestamp_ms.filter(|_| theirs.timestamp_ms.is_some());
        let found = wavefront_line::Line { timestamp_ms, value: 0.0, ..found };
        expect("line", &found, &wavefront_line::Line { value: 0.0, ..theirs })?;
        expect("source and tags", &tail(line), &tail(expected))?;
    }
    Ok(())
}

#[test]
fn decode_cases_hold() {
    judge("decode.jsonl", judge_decode);
}

#[test]
fn decode_otel_cases_hold() {
    judge("decode_otel.jsonl", judge_decode);
}

#[test]
fn validation_cases_hold() {
    judge("validation.jsonl", judge_validation);
}

#[test]
fn encode_cases_hold() {
    judge("encode.jsonl", judge_encode);
}
