//! The text and OpenMetrics cases of the conformance corpus, which lies beside the project and is not part of it.

#![allow(clippy::unwrap_used)] // a broken corpus is a failure

#[path = "support/conformance.rs"]
mod conformance;

use base64::Engine;
use conformance::Tally;
use serde_json::Value as Json;
use sluicegate::model::{Batch, BatchBuilder, Format, Metadata, SampleFlags, SeriesTable, TimestampNs, Value};
use sluicegate::wire::{Report, openmetrics, prometheus_text};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

const NOW: TimestampNs = 1_700_000_000_123_456_789;

/// Prometheus's parser, which decides, takes what the case's own project refuses: it does not judge values, order,
/// completeness or repetition within a family.
const LENIENT: &str = "Prometheus's parser does not judge families, only lines";
/// The other way round: Prometheus's parser refuses what the case's own project takes.
const STRICT: &str = "Prometheus's parser refuses the line";
/// Both take it, and Prometheus reads other values.
const OTHER_VALUES: &str = "Prometheus's parser reads it as we do";

/// The one rule in which we are stricter than Prometheus's parser and its own test shows it.
const MISSING_COMMA: &str = "a missing comma between labels is refused";

/// Prometheus keeps `\"` in a help text of 0.0.4, as does client_python's own test; the corpus compared no help texts.
const HELP_QUOTE: &str = "its help has `\\\"`, which is no escape in help texts";

/// Prometheus's parser refuses the case for another reason, a negative timestamp, which we take.
const ONE_TIMESTAMP: &str = "expfmt gives all samples of a summary one timestamp; every line keeps its own";

/// Cases in which the corpus expects something else than we do, each with the reason. But for the last three reasons,
/// Prometheus's parser must be on our side.
const EXCUSED: &[(&str, &str)] = &[
    ("cpom-test-complex-name-counter", STRICT),
    ("cpom-test-invalid-input-18", LENIENT),
    ("cpom-test-invalid-input-55", LENIENT),
    ("cpom-test-invalid-input-57", LENIENT),
    ("cpom-test-invalid-input-90", LENIENT),
    ("cpom-test-invalid-input-97", LENIENT),
    ("cpom-test-invalid-input-102", LENIENT),
    ("cpom-test-invalid-input-105", LENIENT),
    ("cpom-test-invalid-input-106", LENIENT),
    ("cpom-test-invalid-input-108", LENIENT),
    ("cpom-test-invalid-input-110", LENIENT),
    ("cpom-test-invalid-input-111", LENIENT),
    ("cpom-test-invalid-input-115", LENIENT),
    ("cpom-test-invalid-input-116", LENIENT),
    ("cpom-test-invalid-input-118", LENIENT),
    ("cpom-test-invalid-input-119", LENIENT),
    ("cpom-test-invalid-input-121", LENIENT),
    ("cpom-test-invalid-input-122", LENIENT),
    ("cpom-test-invalid-input-123", LENIENT),
    ("cpom-test-invalid-input-124", LENIENT),
    ("cpom-test-invalid-input-125", LENIENT),
    ("cpom-test-invalid-input-126", LENIENT),
    ("cpom-test-invalid-input-129", LENIENT),
    ("cpom-test-invalid-input-131", LENIENT),
    ("cpom-test-invalid-input-132", LENIENT),
    ("cpom-test-invalid-input-136", LENIENT),
    ("cpom-test-invalid-input-137", LENIENT),
    ("cpom-test-invalid-input-139", LENIENT),
    ("cpom-test-invalid-input-145", LENIENT),
    ("cpom-test-invalid-input-146", LENIENT),
    ("cpom-test-invalid-input-148", LENIENT),
    ("cpom-test-invalid-input-150", LENIENT),
    ("cpom-test-invalid-input-153", LENIENT),
    ("cpom-test-invalid-input-157", LENIENT),
    ("cpom-test-invalid-input-160", LENIENT),
    ("cpom-test-invalid-input-161", LENIENT),
    ("cpom-test-invalid-input-166", LENIENT),
    ("cpom-test-invalid-input-169", LENIENT),
    ("cpom-test-native-histogram", STRICT),
    ("cpom-test-native-histogram-three-pos-spans-no-neg-spans-or-deltas", STRICT),
    ("cpom-test-native-histogram-with-classic-histogram", STRICT),
    ("cpom-test-native-histogram-with-labels", STRICT),
    ("cpom-test-native-histogram-with-labels-utf8", STRICT),
    ("cpt-test-commas", STRICT),
    ("om-bad-clashing-names-1", LENIENT),
    ("om-bad-counter-values-0", LENIENT),
    ("om-bad-counter-values-11", LENIENT),
    ("om-bad-counter-values-13", LENIENT),
    ("om-bad-counter-values-14", LENIENT),
    ("om-bad-counter-values-16", LENIENT),
    ("om-bad-counter-values-17", LENIENT),
    ("om-bad-counter-values-2", LENIENT),
    ("om-bad-counter-values-3", LENIENT),
    ("om-bad-counter-values-5", LENIENT),
    ("om-bad-counter-values-6", LENIENT),
    ("om-bad-counter-values-7", LENIENT),
    ("om-bad-counter-values-8", LENIENT),
    ("om-bad-counter-values-9", LENIENT),
    ("om-bad-exemplars-6", LENIENT),
    ("om-bad-exemplars-on-unallowed-metric-types-1", LENIENT),
    ("om-bad-exemplars-on-unallowed-samples-0", LENIENT),
    ("om-bad-grouping-or-ordering-0", LENIENT),
    ("om-bad-grouping-or-ordering-3", LENIENT),
    ("om-bad-grouping-or-ordering-4", LENIENT),
    ("om-bad-grouping-or-ordering-9", LENIENT),
    ("om-bad-histograms-12", LENIENT),
    ("om-bad-histograms-2", LENIENT),
    ("om-bad-histograms-3", LENIENT),
    ("om-bad-histograms-7", LENIENT),
    ("om-bad-histograms-8", LENIENT),
    ("om-bad-missing-or-extra-commas-2", LENIENT),
    ("om-bad-missing-or-invalid-labels-for-a-type-0", LENIENT),
    ("om-bad-missing-or-invalid-labels-for-a-type-2", LENIENT),
    ("om-bad-missing-or-invalid-labels-for-a-type-3", LENIENT),
    ("om-bad-missing-or-invalid-labels-for-a-type-7", LENIENT),
    ("om-bad-repeated-metadata-1", LENIENT),
    ("om-bad-repeated-metadata-3", LENIENT),
    ("om-bad-stateset-info-values-1", LENIENT),
    ("om-bad-stateset-info-values-2", LENIENT),
    ("om-duplicate-timestamps-1", OTHER_VALUES),
    ("exp-ok-3", ONE_TIMESTAMP),
    ("exp-ok-8", HELP_QUOTE),
    ("exp-ok-12", OTHER_VALUES),
    ("exp-ok-15", STRICT),
    ("exp-ok-16", STRICT),
    ("exp-err-0", LENIENT),
    ("exp-err-7", LENIENT),
    ("exp-err-13", LENIENT),
    ("exp-err-19", LENIENT),
    ("exp-err-32", LENIENT),
    ("exp-err-38", LENIENT),
    ("exp-err-46", LENIENT),
    ("promtp-testpromparse", MISSING_COMMA),
    ("vec-test-errors-3", LENIENT),
    ("vmp-fail-204", STRICT),
    ("vmp-ok-285", STRICT),
    ("vmp-ok-287", STRICT),
    ("vmp-ok-304", STRICT),
    ("vmp-ok-339", STRICT),
    ("vmp-ok-352", STRICT),
    ("vmp-ok-473", OTHER_VALUES),
    ("vmp-ok-544", OTHER_VALUES),
    ("vmp-ok-603", STRICT),
];

#[test]
fn every_case_passes_or_is_excused() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/prometheus_text");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: the corpus is not beside the project ({})", folder.display());
        return;
    };
    let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    files.sort();
    let mut failures = Vec::new();
    let mut seen = HashSet::new();
    for file in files {
        let mut tally = Tally::default();
        for line in std::fs::read_to_string(&file).unwrap().lines() {
            let case: Json = serde_json::from_str(line).unwrap();
            let id = case["id"].as_str().unwrap().to_owned();
            let excuse = EXCUSED.iter().find(|(excused, _)| *excused == id);
            let result = match (judge(&case), excuse) {
                (Err(why), Some((_, reason))) if !is_excused(&case, reason) => {
                    failures.push(format!("{id}: excused, but Prometheus is not on our side: {why}"));
                    Err(why)
                }
                (Err(why), None) => {
                    let reasons = [LENIENT, STRICT, OTHER_VALUES].into_iter().find(|reason| is_excused(&case, reason));
                    Err(format!("{why} ({})", reasons.unwrap_or("so does Prometheus's parser")))
                }
                (result, _) => result,
            };
            tally.count(&id, result, excuse.is_some(), &mut failures);
            seen.insert(id);
        }
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        failures.extend(tally.tell(&format!("prometheus_text/{name}")).err());
    }
    failures.extend(EXCUSED.iter().filter(|(id, _)| !seen.contains(*id)).map(|(id, _)| format!("{id}: no such case")));
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Whether the reason holds: Prometheus's parser differs from what is expected, in its verdict or only in what it reads.
fn is_excused(case: &Json, reason: &str) -> bool {
    let parser = if case["format"] == "openmetrics" { "prometheus-openmetrics" } else { "prometheus-textparse" };
    let theirs = case["impls"][parser].as_str();
    match reason {
        LENIENT => theirs == Some("verdict") && case["expect"]["ok"] == Json::Bool(false),
        STRICT => theirs == Some("verdict") && case["expect"]["ok"] == Json::Bool(true),
        OTHER_VALUES => matches!(theirs, Some("values" | "timestamps")),
        _ => matches!(reason, MISSING_COMMA | HELP_QUOTE | ONE_TIMESTAMP),
    }
}

fn judge(case: &Json) -> Result<(), String> {
    let input = match case["input_b64"].as_str() {
        Some(encoded) => base64::engine::general_purpose::STANDARD.decode(encoded).unwrap(),
        None => case["input"].as_str().unwrap().as_bytes().to_vec(),
    };
    let table = SeriesTable::default();
    let (report, batch) = decode(&table, &input, case["format"] == "openmetrics");
    let (again, _) = decode(&table, &input, case["format"] == "openmetrics");
    assert_eq!(report, again, "the same body, known and unknown");
    let expect = &case["expect"];
    if expect["ok"] != Json::Bool(report.refused() == 0) {
        return Err(format!("expected ok {}, got {:?}; {}", expect["ok"], report.first, expect["why"]));
    }
    if let (true, Some(samples)) = (report.refused() == 0, expect["samples"].as_array()) {
        compare(samples, &batch, &table)?;
        compare_metadata(expect["metadata"].as_array(), &batch, &table)?;
    }
    Ok(())
}

fn decode(table: &SeriesTable, input: &[u8], openmetrics: bool) -> (Report, Batch) {
    let options = prometheus_text::decode::Options { now: NOW, timestamp: None };
    let format = if openmetrics { Format::OpenMetrics } else { Format::PrometheusText };
    let mut out = BatchBuilder::new(table, format, Vec::new());
    let report = if openmetrics {
        openmetrics::decode::decode(input, &options, &mut out)
    } else {
        prometheus_text::decode::decode(input, &options, &mut out)
    };
    (report, out.finish())
}

/// Name, labels, bits, milliseconds; labels that are numbers by their value.
type Row = (String, BTreeMap<String, String>, u64, Option<i64>);

fn compare(expected: &[Json], batch: &Batch, table: &SeriesTable) -> Result<(), String> {
    let mut wanted: Vec<Row> = expected.iter().map(row_of_json).collect();
    let mut got: Vec<Row> = (0..batch.samples.len()).map(|index| row_of_batch(index, batch, table)).collect();
    wanted.sort();
    got.sort();
    if wanted != got {
        return Err(format!("expected {wanted:?}\n     got {got:?}"));
    }
    let wanted: Vec<&Json> = expected.iter().filter(|sample| sample["exemplar"].is_object()).collect();
    if wanted.len() != batch.exemplars.len() {
        return Err(format!("expected {} exemplars, got {}", wanted.len(), batch.exemplars.len()));
    }
    for (sample, exemplar) in wanted.into_iter().zip(&batch.exemplars) {
        let wanted = &sample["exemplar"];
        let labels: BTreeMap<String, String> =
            exemplar.labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let same = labels == labels_of_json(&wanted["labels"])
            && bits(wanted["value"].as_str().unwrap()) == exemplar.value.to_bits()
            && wanted["timestamp_ms"].as_i64() == exemplar.timestamp.map(|at| at / 1_000_000);
        if !same {
            return Err(format!("expected exemplar {wanted}, got {exemplar:?}"));
        }
    }
    for sample in expected.iter().filter(|sample| sample["start_timestamp_ms"].is_i64()) {
        let wanted = row_of_json(sample);
        let at = (0..batch.samples.len()).find(|index| row_of_batch(*index, batch, table) == wanted).unwrap();
        let start = batch.start_of(at).map(|start| start / 1_000_000);
        if start != sample["start_timestamp_ms"].as_i64() {
            return Err(format!("start of {wanted:?} is {start:?}"));
        }
    }
    Ok(())
}

fn row_of_json(sample: &Json) -> Row {
    let timestamp = sample["timestamp_ms"].as_i64();
    let name = sample["name"].as_str().unwrap().to_owned();
    (name, labels_of_json(&sample["labels"]), bits(sample["value"].as_str().unwrap()), timestamp)
}

fn row_of_batch(index: usize, batch: &Batch, table: &SeriesTable) -> Row {
    let sample = &batch.samples[index];
    let series = table.series(sample.series).unwrap();
    let labels = series.labels.iter().map(|pair| label(&pair.name, &pair.value)).collect();
    let Value::F64(value) = batch.value(sample) else { panic!("text has floats only") };
    let implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
    let timestamp = (!implicit).then_some(sample.timestamp / 1_000_000);
    (series.name.measurement().to_owned(), labels, value.to_bits(), timestamp)
}

fn labels_of_json(labels: &Json) -> BTreeMap<String, String> {
    let labels = labels.as_object().unwrap().iter();
    labels.filter(|(_, value)| *value != "").map(|(name, value)| label(name, value.as_str().unwrap())).collect()
}

fn label(name: &str, value: &str) -> (String, String) {
    let number = value.parse::<f64>().ok().filter(|_| matches!(name, "le" | "quantile"));
    (name.to_owned(), number.map_or_else(|| value.to_owned(), |number| number.to_string()))
}

fn bits(text: &str) -> u64 {
    if text == "NaN" { 0x7ff8_0000_0000_0001 } else { text.parse::<f64>().unwrap().to_bits() }
}

fn compare_metadata(expected: Option<&Vec<Json>>, batch: &Batch, table: &SeriesTable) -> Result<(), String> {
    let of_series = batch.samples.iter().filter_map(|sample| table.series(sample.series)?.metadata.clone());
    let mut known: BTreeMap<String, Arc<Metadata>> = BTreeMap::new();
    for metadata in of_series.chain(batch.metadata.iter().cloned()) {
        known.insert(metadata.family.to_string(), metadata);
    }
    for wanted in expected.into_iter().flatten() {
        let name = wanted["name"].as_str().unwrap();
        let text = |key: &str| wanted[key].as_str().unwrap_or_default().to_owned();
        let wanted = (text("type"), text("help"), text("unit"));
        let got = known.get(name).map(|metadata| {
            (metadata.metric_type.as_str().to_owned(), metadata.help.to_string(), metadata.unit.to_string())
        });
        // A family of the type unknown that says nothing needs no mention.
        let silent = matches!(&*wanted.0, "unknown" | "untyped" | "") && wanted.1.is_empty() && wanted.2.is_empty();
        if got.as_ref() != Some(&wanted) && !(silent && got.is_none()) {
            return Err(format!("metadata of {name}: expected {wanted:?}, got {got:?}"));
        }
    }
    Ok(())
}

#[test]
fn micrometer_expositions_are_taken_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/micrometer");
    for (file, openmetrics) in [("prometheus_text_004.txt", false), ("openmetrics_1_0.txt", true)] {
        let Ok(body) = std::fs::read(folder.join(file)) else {
            println!("skipped: {file} is not beside the project");
            continue;
        };
        let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count();
        let table = SeriesTable::default();
        let (report, batch) = decode(&table, &body, openmetrics);
        assert_eq!((report.refused(), report.accepted), (0, lines as u64), "{file}: {:?}", report.first);
        let described = |sample: &sluicegate::model::Sample| table.series(sample.series).unwrap().metadata.is_some();
        assert!(batch.samples.iter().all(described), "{file}: every sample belongs to a family");
        println!("{file}: {lines} samples");
    }
}
