//! The cases of the shared corpus for remote write 1.0 and 2.0.
//!
//! Where the specification asks for a 4xx, something must be refused even if Prometheus answers 204; else Prometheus's own
//! verdict counts. What is taken must be what Google's protobuf decoded. Each case is judged twice: its body by the decoder,
//! and all of it, heads and answers included, as a request to the built binary.

#![allow(clippy::unwrap_used, reason = "a case that is not in the corpus's form shall fail the test")]
#![allow(clippy::float_cmp, reason = "counts are whole numbers")]
#![allow(clippy::print_stdout, reason = "a test tells what it did not run")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod conformance;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
}

use serde_json::Value as Json;
use sluicegate::model::{Batch, BatchBuilder, Counts, Format, MetricType, SeriesId, SeriesTable, Value};
use sluicegate::wire::compression::{Encoding, decompress, snappy};
use sluicegate::wire::remote_write::decode::Decoded;
use sluicegate::wire::{remote_write, remote_write2};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use support::conformance::Tally;
use support::gateway::{Gateway, gateway};
use support::http;

const ONE_VERSION: &str = "asks a receiver that is set up for one version; the gateway takes both";

/// Requests that are to be answered 415, and why ours are not.
const EXCUSED_OVER_HTTP: &[(&str, &str)] = &[
    ("rwh-v2-no-headers", ONE_VERSION),
    ("rwh-v1-to-v2-only", ONE_VERSION),
    ("rwh-v1-zstd", "zstd is taken, as vmagent sends it; the body is not zstd, and 400 says so"),
];

const EXCUSED: &[(&str, &str)] =
    &[("rw1-min-timestamp", "-2^63 ms does not fit 64-bit nanoseconds; it is refused with a message, never altered")];

#[test]
fn agrees_with_the_corpus() {
    // 415 is no business of the decoder.
    run(", decoder", EXCUSED, |case| (status(case) != "415").then(|| check(case)));
}

#[test]
fn answers_as_the_corpus_asks() {
    // A case has a label value of 70,000 bytes.
    let gate = gateway().limits("max_label_value_bytes: 128KiB").start();
    run("", &[EXCUSED, EXCUSED_OVER_HTTP].concat(), |case| Some(ask(&gate, case)));
}

/// Judges every case of the corpus that is of interest, but for those that are excused.
fn run(how: &str, excused: &[(&str, &str)], judge: impl Fn(&Json) -> Option<Result<(), String>>) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/remote_write");
    if !folder.is_dir() {
        println!("remote_write{how}: no corpus at ../shared/corpus, nothing was run");
        return;
    }
    let mut failed = Vec::new();
    for name in ["v1.jsonl", "v2.jsonl", "http.jsonl"] {
        let text = std::fs::read_to_string(folder.join(name)).unwrap();
        let mut tally = Tally::default();
        for line in text.lines() {
            let case: Json = serde_json::from_str(line).unwrap();
            let id = case["id"].as_str().unwrap();
            let is_excused = excused.iter().any(|(excused, _)| *excused == id);
            if let Some(judged) = judge(&case) {
                tally.count(id, judged, is_excused, &mut failed);
            }
        }
        failed.extend(tally.tell(&format!("remote_write/{name}{how}")).err());
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Sends a case as it stands, or with the head its kind of message has, and compares the answer.
fn ask(gate: &Gateway, case: &Json) -> Result<(), String> {
    let plain = base64(case["body_b64"].as_str().unwrap());
    let body = if case["compression"] == "none" { snappy(&plain) } else { plain };
    let of_message = [
        ("Content-Type", case["content_type"].as_str()),
        ("Content-Encoding", Some("snappy")),
        ("X-Prometheus-Remote-Write-Version", case["rw_version_header"].as_str()),
    ];
    let headers: Vec<(&str, &str)> = match case["headers"].as_object() {
        Some(given) => given.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect(),
        None => of_message.into_iter().filter_map(|(name, value)| Some((name, value?))).collect(),
    };
    let answer = http::send("POST", &gate.url("/api/v1/write"), &headers, &body);
    let (got, expected) = (answer.status.to_string(), status(case));
    if got != expected && !(expected == "4xx" && got.starts_with('4')) {
        return Err(format!("expected {expected}, got {got}: {}", answer.text()));
    }
    // An answer says why, unless there is nothing to say.
    same(&got.starts_with('2'), &answer.body.is_empty())?;
    for kind in ["samples", "histograms", "exemplars"] {
        let told = answer.headers.get(format!("X-Prometheus-Remote-Write-{kind}-Written"));
        let told = told.map(|count| count.to_str().unwrap().parse::<u64>().unwrap());
        // 1.0 has no such headers; who sends it must not be told.
        let expected = if case["version"] == 1 { None } else { case["expect"]["written"][kind].as_u64() };
        if expected.is_some() || case["version"] == 1 {
            same(&expected, &told)?;
        }
    }
    Ok(())
}

/// What the specification asks for, else what Prometheus answers.
fn status(case: &Json) -> String {
    case["spec_status"].as_str().map_or_else(|| case["expect"]["status"].to_string(), str::to_owned)
}

fn check(case: &Json) -> Result<(), String> {
    let version = case["version"].as_u64().unwrap();
    let expect = &case["expect"];
    let status = status(case);
    let sent = base64(case["body_b64"].as_str().unwrap());
    let mut body = sent.clone();
    if case["compression"] != "none" && decompress(Encoding::Snappy, &sent, 1 << 24, &mut body).is_err() {
        return if status.starts_with('4') { Ok(()) } else { Err("does not decompress".into()) };
    }

    let table = SeriesTable::default();
    let first = decode(version, &table, &body);
    let refused = first.as_ref().map_or(true, |(decoded, _)| decoded.report.refused() > 0);
    if refused != status.starts_with('4') {
        return Err(format!("expected {status}, got {:?}", first.map(|(decoded, _)| decoded.report)));
    }
    let Ok((decoded, batch)) = first else { return Ok(()) };

    if let Some(written) = expect["written"].as_object() {
        let ours = [decoded.written.samples, decoded.written.histograms, decoded.written.exemplars];
        let theirs = ["samples", "histograms", "exemplars"].map(|kind| written[kind].as_u64().unwrap());
        same(&theirs, &ours)?;
    }
    // Prometheus takes a 1.0 request back as a whole when it answers 400; then it tells nothing about ours.
    if let Some(stored) = expect["stored"].as_array().filter(|_| !refused || status == "4xx" || version == 2) {
        let theirs: BTreeSet<String> = stored.iter().filter_map(stored_text).collect();
        same(&theirs, &taken(&table, &batch))?;
    }
    if refused || !expect["decoded"].is_object() {
        return Ok(());
    }
    same(&expected(&expect["decoded"]), &described(&table, &batch))?;
    let (_, again) = decode(version, &table, &body).map_err(|error| error.to_string())?;
    same(&samples(&table, &batch), &samples(&table, &again))
}

fn same<T: PartialEq + std::fmt::Debug>(expected: &T, got: &T) -> Result<(), String> {
    if expected == got { Ok(()) } else { Err(format!("expected {expected:#?}, got {got:#?}")) }
}

fn decode(
    version: u64,
    table: &SeriesTable,
    body: &[u8],
) -> Result<(Decoded, Batch), remote_write::decode::DecodeError> {
    let format = if version == 1 { Format::RemoteWrite } else { Format::RemoteWrite2 };
    let mut builder = BatchBuilder::new(table, format, Vec::new());
    let decoded = match version {
        1 => remote_write::decode::decode(body, &remote_write::decode::Options::default(), &mut builder)?,
        _ => remote_write2::decode::decode(body, &remote_write2::decode::Options::default(), &mut builder)?,
    };
    Ok((decoded, builder.finish()))
}

/// One line for each fact, so that two descriptions compare as sets.
fn described(table: &SeriesTable, batch: &Batch) -> BTreeSet<String> {
    let mut facts = samples(table, batch);
    for exemplar in &batch.exemplars {
        let labels = labels_text(exemplar.labels.iter().map(|(name, value)| (&**name, &**value)));
        let timestamp = exemplar.timestamp.map(|timestamp| timestamp / 1_000_000).unwrap();
        let series = series_text(table, exemplar.series);
        facts.insert(format!("exemplar {series} {labels} {} {timestamp}", float(exemplar.value)));
    }
    for family in &batch.metadata {
        let (kind, help, unit) = (family.metric_type, &family.help, &family.unit);
        facts.insert(format!("family {} {kind:?} {help:?} {unit:?}", family.family));
    }
    facts
}

/// What Prometheus stored, a line each: of histograms only that they came.
fn stored_text(item: &Json) -> Option<String> {
    let value = || loose(item["v"].as_str().unwrap().parse().unwrap());
    let labels = json_labels(&item["labels"]);
    Some(match item["kind"].as_str()? {
        "sample" => format!("sample {labels} {} {}", item["t"], value()),
        "histogram" => format!("histogram {labels} {}", item["t"]),
        "exemplar" => format!("exemplar {} {labels} {} {}", json_labels(&item["series"]), item["t"], value()),
        _ => return None,
    })
}

/// What we took, in the same words.
fn taken(table: &SeriesTable, batch: &Batch) -> BTreeSet<String> {
    let name = |id| {
        let series = table.series(id).unwrap();
        let labels = series.labels.iter().map(|pair| (&*pair.name, &*pair.value));
        labels_text(labels.chain([("__name__", series.name.measurement())]))
    };
    let samples = batch.samples.iter().map(|sample| {
        let (labels, timestamp) = (name(sample.series), sample.timestamp / 1_000_000);
        match batch.value(sample) {
            Value::F64(value) => format!("sample {labels} {timestamp} {}", loose(value)),
            _ => format!("histogram {labels} {timestamp}"),
        }
    });
    let exemplars = batch.exemplars.iter().map(|exemplar| {
        let labels = labels_text(exemplar.labels.iter().map(|(name, value)| (&**name, &**value)));
        let timestamp = exemplar.timestamp.unwrap() / 1_000_000;
        format!("exemplar {} {labels} {timestamp} {}", name(exemplar.series), loose(exemplar.value))
    });
    samples.chain(exemplars).collect()
}

fn samples(table: &SeriesTable, batch: &Batch) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for (index, sample) in batch.samples.iter().enumerate() {
        let series = series_text(table, sample.series);
        let timestamp = sample.timestamp / 1_000_000;
        let start = batch.start_of(index).map_or(0, |start| start / 1_000_000);
        let value = match batch.value(sample) {
            Value::F64(value) => float(value),
            Value::Histogram(native) => {
                let mut text = format!("{} {} {}", native.schema, loose(native.sum), float(native.zero_threshold));
                let spans = |spans: &[sluicegate::model::Span]| {
                    spans.iter().map(|span| format!("[{},{}]", span.offset, span.length)).collect::<Vec<_>>().concat()
                };
                write!(text, " {}|{}", spans(&native.positive_spans), spans(&native.negative_spans)).unwrap();
                match &native.counts {
                    Counts::Integer { count, zero_count, positive_deltas, negative_deltas } => {
                        write!(text, " {count} {zero_count} {positive_deltas:?} {negative_deltas:?}").unwrap();
                    }
                    Counts::Float { count, zero_count, positive_counts, negative_counts } => {
                        let floats = |values: &[f64]| values.iter().map(|value| float(*value)).collect::<Vec<_>>();
                        let (count, zero_count) = (float(*count), float(*zero_count));
                        let (positive, negative) = (floats(positive_counts), floats(negative_counts));
                        write!(text, " {count} {zero_count} {positive:?} {negative:?}").unwrap();
                    }
                }
                let bounds: Vec<_> = native.custom_values.iter().map(|bound| float(*bound)).collect();
                write!(text, " {} {bounds:?}", native.reset_hint as u8).unwrap();
                text
            }
            other => panic!("remote write has no {other:?}"),
        };
        facts.insert(format!("sample {series} {timestamp} {start} {value}"));
    }
    facts
}

fn series_text(table: &SeriesTable, id: SeriesId) -> String {
    let series = table.series(id).unwrap();
    let labels = series.labels.iter().map(|pair| (&*pair.name, &*pair.value));
    let metadata = series.metadata.as_ref().map_or_else(
        || "Unknown \"\" \"\"".to_owned(),
        |known| format!("{:?} {:?} {:?}", known.metric_type, known.help, known.unit),
    );
    format!("{} {metadata}", labels_text(labels.chain([("__name__", series.name.measurement())])))
}

fn labels_text<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut labels: Vec<_> = labels.filter(|(_, value)| !value.is_empty()).collect();
    labels.sort_unstable();
    format!("{labels:?}")
}

fn expected(decoded: &Json) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for series in items(&decoded["timeseries"]) {
        let metadata = &series["metadata"];
        let symbol = |reference: &Json| {
            reference.as_u64().and_then(|at| decoded["symbols"].get(at as usize)).and_then(Json::as_str).unwrap_or("")
        };
        let metric_type = MetricType::from_number(metadata["type"].as_i64().unwrap_or(0) as i32);
        let (help, unit) = (symbol(&metadata["help_ref"]), symbol(&metadata["unit_ref"]));
        let name = format!("{} {metric_type:?} {help:?} {unit:?}", json_labels(&series["labels"]));
        for sample in items(&series["samples"]) {
            let (timestamp, start) = (&sample["timestamp"], sample["start_timestamp"].as_i64().unwrap_or(0));
            facts.insert(format!("sample {name} {timestamp} {start} {}", json_float(sample)));
        }
        for native in items(&series["histograms"]) {
            facts.insert(format!("sample {name} {}", json_histogram(native)));
        }
        for exemplar in items(&series["exemplars"]) {
            let (labels, value) = (json_labels(&exemplar["labels"]), json_float(exemplar));
            facts.insert(format!("exemplar {name} {labels} {value} {}", exemplar["timestamp"]));
        }
    }
    for family in items(&decoded["metadata"]) {
        let metric_type = MetricType::from_number(family["type"].as_i64().unwrap() as i32);
        let name = family["metric_family_name"].as_str().unwrap();
        facts.insert(format!("family {name} {metric_type:?} {} {}", family["help"], family["unit"]));
    }
    facts
}

fn json_histogram(native: &Json) -> String {
    let spans = |spans: &Json| items(spans).map(ToString::to_string).collect::<String>();
    let text = |value: &Json| float(value.as_str().unwrap().parse().unwrap());
    let texts = |values: &Json| items(values).map(text).collect::<Vec<_>>();
    let integers = |values: &Json| items(values).map(|value| value.as_i64().unwrap()).collect::<Vec<_>>();
    let counts = if native["float"] == true {
        let (positive, negative) = (texts(&native["positive_counts"]), texts(&native["negative_counts"]));
        format!("{} {} {positive:?} {negative:?}", text(&native["count"]), text(&native["zero_count"]))
    } else {
        let (positive, negative) = (integers(&native["positive_deltas"]), integers(&native["negative_deltas"]));
        format!("{} {} {positive:?} {negative:?}", native["count"], native["zero_count"])
    };
    let (timestamp, start) = (&native["timestamp"], native["start_timestamp"].as_i64().unwrap_or(0));
    let (positive, negative) = (spans(&native["positive_spans"]), spans(&native["negative_spans"]));
    let (schema, threshold, hint) = (&native["schema"], text(&native["zero_threshold"]), &native["reset_hint"]);
    let (sum, bounds) = (loose(native["sum"].as_str().unwrap().parse().unwrap()), texts(&native["custom_values"]));
    format!("{timestamp} {start} {schema} {sum} {threshold} {positive}|{negative} {counts} {hint} {bounds:?}")
}

fn json_labels(labels: &Json) -> String {
    labels_text(items(labels).map(|pair| (pair[0].as_str().unwrap(), pair[1].as_str().unwrap())))
}

fn json_float(sample: &Json) -> String {
    match sample["bits"].as_str() {
        Some(bits) => bits.to_owned(),
        None => float(sample["value"].as_str().unwrap().parse().unwrap()),
    }
}

fn float(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

/// The corpus does not tell which NaN a histogram's sum is.
fn loose(value: f64) -> String {
    if value.is_nan() { "NaN".to_owned() } else { float(value) }
}

fn items(list: &Json) -> impl Iterator<Item = &Json> {
    list.as_array().into_iter().flatten()
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}
