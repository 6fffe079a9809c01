//! Line protocol against the cases that InfluxDB, Telegraf and VictoriaMetrics wrote for their own parsers.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/conformance.rs"]
mod conformance;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use conformance::Tally;
use serde_json::Value as Json;
use sluicegate::model::{
    Batch, BatchBuilder, Format, Losses, SampleFlags, SeriesSpec, SeriesTable, TimestampNs, Value,
};
use sluicegate::wire::influx_line::{decode, encode};
use sluicegate::wire::{Report, SampleRef};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

const FOLDER: &str = "../shared/corpus/influx_line_protocol";
const NOW: TimestampNs = 1_700_000_000_123_456_789;
const V3_ESCAPES: &str = "InfluxDB 3 unescapes `\\\\` in names; the Go decoder, which is right here, keeps both";

/// Cases of other opinions, with the reason.
const EXCUSED: &[(&str, &str)] = &[
    ("rs-measurement-allows-escaping-backslash", V3_ESCAPES),
    ("rs-field-key-allows-escaping-backslash", V3_ESCAPES),
    ("rs-test-many-canonical-escape-1", V3_ESCAPES),
    ("rs-tag-key-allows-literal-newline-as-unknown-escape", "control characters are refused in names"),
    ("rs-tag-value-allows-literal-newline-as-unknown-escape", "control characters are refused in names"),
    ("tgm-integer-field-overflow-okay", "a tokenizer's case: the integer does not fit 64 bits"),
    ("vmi-ok-200", "a line without a measurement is refused"),
    ("vmi-ok-311", "empty tag keys and values are refused"),
    ("lpee-invalidtagvalue", "the model has no empty label values, so none reaches the encoder"),
    ("lpe-65a52922c8cba267", "line ends in strings are written as they are: no InfluxDB reads `\\n` as one"),
];

type Fields = Vec<(String, String)>;

/// A row in a form that can be compared and printed: measurement, tags, fields with types, timestamp.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    measurement: String,
    tags: BTreeMap<String, String>,
    fields: Fields,
    timestamp: Option<i64>,
}

fn corpus(file: &str) -> Option<Vec<Json>> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join(file);
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn decoded(body: &[u8], precision: &str) -> (Vec<Row>, Report) {
    let table = SeriesTable::default();
    let mut builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
    let options = decode::Options { precision: decode::Precision::from_v2(precision).unwrap(), now: NOW };
    let report = decode::decode(body, &options, &mut builder);
    let batch = builder.finish();
    assert_eq!(report.accepted, batch.samples.len() as u64);
    (rows(&table, &batch), report)
}

fn rows(table: &SeriesTable, batch: &Batch) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for sample in &batch.samples {
        let series = table.series(sample.series).unwrap();
        if !sample.flags.contains(SampleFlags::ROW_CONTINUES) {
            let implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
            assert!(!implicit || sample.timestamp == NOW);
            rows.push(Row {
                measurement: series.name.measurement().to_owned(),
                tags: series.labels.iter().map(|pair| (pair.name.to_string(), pair.value.to_string())).collect(),
                fields: Vec::new(),
                timestamp: (!implicit).then_some(sample.timestamp),
            });
        }
        let value = match batch.value(sample) {
            // The corpus's JSON has no negative zero.
            Value::F64(value) => format!("float {:?}", value + 0.0),
            Value::I64(value) => format!("int {value}"),
            Value::U64(value) => format!("uint {value}"),
            Value::Bool(value) => format!("bool {value}"),
            Value::Str(value) => format!("string {value}"),
            other => panic!("line protocol has no {other:?}"),
        };
        rows.last_mut().unwrap().fields.push((series.name.field_key().unwrap().to_owned(), value));
    }
    for row in &mut rows {
        row.fields.sort();
    }
    rows
}

/// A string of a point, which is base64 when the point says so.
fn text(encoded: bool, text: &str) -> Option<String> {
    if encoded { String::from_utf8(STANDARD.decode(text).unwrap()).ok() } else { Some(text.to_owned()) }
}

fn expected_row(point: &Json) -> Row {
    let b64 = point["enc"] == "b64";
    let string = |value: &str| text(b64, value).expect("decoded points are UTF-8");
    let object = |name: &str| point[name].as_object().unwrap();
    let tags = object("tags").iter().map(|(key, value)| (string(key), string(value.as_str().unwrap()))).collect();
    let mut fields: Fields = match point["fields_list"].as_array() {
        // A key that occurs twice.
        Some(list) => list.iter().map(|pair| (string(pair[0].as_str().unwrap()), shown(&pair[1], b64))).collect(),
        None => object("fields").iter().map(|(key, value)| (string(key), shown(value, b64))).collect(),
    };
    fields.sort();
    let measurement = string(point["measurement"].as_str().unwrap());
    Row { measurement, tags, fields, timestamp: point["timestamp_ns"].as_i64() }
}

fn shown(field: &Json, b64: bool) -> String {
    let value = &field["value"];
    match field["type"].as_str().unwrap() {
        "float" | "number" => format!("float {:?}", value.as_f64().unwrap()),
        "string" => format!("string {}", text(b64, value.as_str().unwrap()).unwrap()),
        kind => format!("{kind} {value}"),
    }
}

/// VictoriaMetrics knows only numbers: its expectations say nothing of types.
fn numeric(rows: &mut [Row]) {
    for (_, value) in rows.iter_mut().flat_map(|row| &mut row.fields) {
        let (kind, number) = value.split_once(' ').unwrap();
        let number = match (kind, number) {
            ("bool", "true") => 1.0,
            ("bool", _) => 0.0,
            (_, number) => number.parse().unwrap_or(0.0),
        };
        *value = format!("float {number:?}");
    }
}

fn decode_case(case: &Json) -> Result<(), String> {
    let body = match case["input"].as_str() {
        Some(input) => input.as_bytes().to_vec(),
        None => STANDARD.decode(case["input_b64"].as_str().unwrap()).unwrap(),
    };
    let (mut rows, report) = decoded(&body, case["default_precision"].as_str().unwrap_or("ns"));
    let expect = &case["expect"];
    if expect["ok"].as_bool().unwrap() != report.first.is_empty() {
        return Err(format!("expected ok={}, got {rows:?} {:?}", expect["ok"], report.first));
    }
    if case["semantics"] == "victoriametrics-numeric" {
        numeric(&mut rows);
    }
    let wanted = if report.first.is_empty() { &expect["points"] } else { &expect["partial_points"] };
    if let Some(points) = wanted.as_array() {
        let points: Vec<Row> = points.iter().map(expected_row).collect();
        if points != rows {
            return Err(format!("expected {points:?}, got {rows:?}"));
        }
    }
    if let (Some(line), Some(column)) = (expect["error_line"].as_u64(), expect["error_column"].as_u64()) {
        let got = report.first.first().map(|refused| (refused.line as u64, refused.column as u64));
        if got != Some((line, column)) {
            return Err(format!("expected the mistake at {line}:{column}, got {:?}", report.first));
        }
    }
    match expect["points_n"].as_u64() {
        Some(points) if points != rows.len() as u64 => Err(format!("expected {points} points, got {rows:?}")),
        _ => Ok(()),
    }
}

fn encode_case(case: &Json) -> Result<(), String> {
    let encoded = encoded_point(case);
    let expect = &case["expect"];
    match (expect["output"].as_str(), encoded) {
        (Some(output), Some(line)) if output.trim_end_matches('\n') == line.trim_end_matches('\n') => Ok(()),
        (None, None) => Ok(()),
        (expected, line) => Err(format!("expected {expected:?}, got {line:?}")),
    }
}

/// The lines of a point, none when nothing of it can be written.
fn encoded_point(case: &Json) -> Option<String> {
    let point = &case["point"];
    let b64 = point["enc"] == "b64";
    let measurement = text(b64, point["measurement"].as_str()?)?;
    let options = encode::Options {
        unsigned: case["uint_support"].as_bool().unwrap_or(true),
        line_bytes_max: case["max_line_bytes"].as_u64().map_or(usize::MAX, |bytes| bytes as usize),
        ..encode::Options::default()
    };
    let table = SeriesTable::default();
    let builder = BatchBuilder::new(&table, Format::InfluxLine, Vec::new());
    let mut encoder = encode::Encoder::new(options.clone());
    let mut losses = Losses::default();
    let mut flags = SampleFlags::NONE;
    for (key, field) in point["fields"].as_object()? {
        let key = text(b64, key)?;
        let mut labels = Vec::new();
        for (key, value) in point["tags"].as_object()? {
            labels.push((Cow::from(text(b64, key)?), Cow::from(text(b64, value.as_str()?)?)));
        }
        let spec = SeriesSpec { measurement: &measurement, field: Some(&key), labels, metadata: None };
        let id = builder.define(builder.alias(key.as_bytes()), spec).ok()?;
        let rendered = Arc::new(encode::render(&table.series(id)?, &options).ok()?);
        let value = &field["value"];
        let string = value.as_str().and_then(|value| text(b64, value)).unwrap_or_default();
        let value = match field["type"].as_str()? {
            "float" => Value::F64(value.as_f64().unwrap_or(f64::NAN)),
            "int" => Value::I64(value.as_i64()?),
            "uint" => Value::U64(value.as_u64()?),
            "bool" => Value::Bool(value.as_bool()?),
            _ => Value::Str(&string),
        };
        let timestamp = point["timestamp_ns"].as_i64().unwrap_or(NOW);
        let sample = SampleRef { timestamp, value, start: None, flags };
        if encoder.push(&rendered, &sample, &mut losses).is_ok() {
            flags = SampleFlags::ROW_CONTINUES;
        }
    }
    let body = encoder.finish(&mut losses);
    (!body.bytes.is_empty()).then(|| String::from_utf8(body.bytes).unwrap())
}

#[test]
fn agrees_with_the_corpus() {
    let files = [
        "lp_corpus_decode.jsonl",
        "lp_corpus_fuzz.jsonl",
        "lp_decoder_test.jsonl",
        "lp_value_test.jsonl",
        "telegraf_machine.jsonl",
        "telegraf_parser.jsonl",
        "telegraf_upstream_parser.jsonl",
        "influxdb3_rust_crate.jsonl",
        "victoriametrics.jsonl",
        "encode_points.jsonl",
    ];
    let mut failures = Vec::new();
    for file in files {
        let Some(cases) = corpus(file) else {
            println!("influx_line: {FOLDER}/{file} is absent, nothing to conform to");
            return;
        };
        let mut tally = Tally::default();
        for case in &cases {
            let id = case["id"].as_str().unwrap();
            let result = if case.get("point").is_some() { encode_case(case) } else { decode_case(case) };
            let is_excused = EXCUSED.iter().any(|(excused, _)| *excused == id);
            let result =
                result.map_err(|why| format!("{why}\n    {} {}", case["input"], case["impls"]["influx-go-v2"]));
            tally.count(id, result, is_excused, &mut failures);
        }
        failures.extend(tally.tell(&format!("influx_line_protocol/{file}")).err());
    }
    assert!(failures.is_empty(), "{} cases disagree:\n{}", failures.len(), failures.join("\n"));
}
