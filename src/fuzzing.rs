//! The bodies of the fuzz targets, usable from unit tests: each takes arbitrary bytes and panics when a promise is broken.
//!
//! The promises: no panic from outside data; what was decoded and encoded decodes to the same again; where a second
//! implementation accepts the same input, it sees the same samples; between two formats, each sample is written or counted.
//! For the log, the bytes are a list of operations, faults and crashes, and the promise is that it stays the list that it was
//! told to keep. Unit tests replay what once fell and what fuzzing collected (`fuzz/regressions`, `fuzz/corpus`).

mod deflate;
mod http;
mod identity;
mod influx_line;
mod log;
mod metric_families;
mod openmetrics;
mod prometheus_text;
mod remote_write;
mod remote_write2;
mod rsocket;
mod snappy;
mod translate;
mod wavefront;

pub use deflate::deflate;
pub use http::http;
pub use identity::identity;
pub use influx_line::influx_line;
pub use log::log;
pub use metric_families::metric_families;
pub use openmetrics::openmetrics;
pub use prometheus_text::prometheus_text;
pub use remote_write::remote_write;
pub use remote_write2::remote_write2;
pub use rsocket::rsocket;
pub use snappy::snappy;
pub use translate::translate;
pub use wavefront::wavefront;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Format;
    use base64::Engine;
    use std::path::Path;

    type Body = fn(&[u8]);

    /// Every target by its name.
    const TARGETS: [(&str, Body); 14] = [
        ("prometheus_text", prometheus_text),
        ("openmetrics", openmetrics),
        ("remote_write", remote_write),
        ("remote_write2", remote_write2),
        ("influx_line", influx_line),
        ("wavefront", wavefront),
        ("metric_families", metric_families),
        ("identity", identity),
        ("translate", translate),
        ("http", http),
        ("log", log),
        ("snappy", snappy),
        ("deflate", deflate),
        ("rsocket", rsocket),
    ];

    fn body_of(format: Format) -> Body {
        let known = TARGETS.iter().find(|(name, _)| *name == format.as_str());
        known.map(|(_, body)| *body).unwrap()
    }

    /// Runs the targets over the files of their folders; says how many there were.
    fn replay(folder: &str) -> usize {
        let mut inputs = 0;
        for (target, body) in TARGETS {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder).join(target);
            let files = std::fs::read_dir(&folder).into_iter().flatten(); // not every target has fallen
            for file in files.map(|file| file.unwrap().path()) {
                println!("{}", file.display());
                body(&std::fs::read(file).unwrap());
                inputs += 1;
            }
        }
        inputs
    }

    #[test]
    fn what_once_fell_stands() {
        assert!(replay("regressions") > 0);
    }

    #[test]
    fn holds_for_what_fuzzing_collected() {
        assert!(replay("corpus") > 0);
    }

    /// The promises hold for every input of the conformance corpus, whatever is expected of it there.
    #[test]
    fn holds_for_the_corpus() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus");
        let folders = ["prometheus_text", "influx_line_protocol", "wavefront", "remote_write"];
        for folder in folders {
            let Ok(files) = std::fs::read_dir(corpus.join(folder)) else {
                println!("skipped: the corpus is not beside the project");
                return;
            };
            let mut inputs = 0;
            for file in files.map(|file| file.unwrap().path()) {
                for line in std::fs::read_to_string(&file).unwrap().lines() {
                    let case: serde_json::Value = serde_json::from_str(line).unwrap();
                    let Some(input) = input_of(&case) else { continue };
                    let format = format_of(folder, &case);
                    body_of(format)(&input);
                    let pair = format as usize + Format::COUNT * (inputs % Format::COUNT);
                    translate(&[&[pair as u8], input.as_slice()].concat());
                    inputs += 1;
                }
            }
            println!("{folder}: {inputs} inputs");
            assert!(inputs > 0);
        }
    }

    fn input_of(case: &serde_json::Value) -> Option<Vec<u8>> {
        let encoded = case["input_b64"].as_str().or_else(|| case["body_b64"].as_str());
        match encoded {
            Some(encoded) => Some(base64::engine::general_purpose::STANDARD.decode(encoded).unwrap()),
            None => Some(case["input"].as_str()?.into()),
        }
    }

    fn format_of(folder: &str, case: &serde_json::Value) -> Format {
        match folder {
            "influx_line_protocol" => Format::InfluxLine,
            "wavefront" => Format::Wavefront,
            "prometheus_text" if case["format"] == "openmetrics" => Format::OpenMetrics,
            "prometheus_text" => Format::PrometheusText,
            _ if case["version"] == 1 => Format::RemoteWrite,
            _ => Format::RemoteWrite2,
        }
    }
}
