//! Prometheus text exposition 0.0.4: lines `name{label="value"} 1 1700000000000` to batches, and samples to lines.
//!
//! Specification: <https://prometheus.io/docs/instrumenting/exposition_formats/>. Where it is silent, Prometheus's own
//! parser decides, with these differences:
//!
//! * A body is judged line by line: good lines are kept, bad ones reported.
//! * Negative timestamps are taken (the specification's own example has one).
//! * A label twice (`__name__` included), a line end inside of a quoted value and a missing comma are refused.
//! * A timestamp beyond nanoseconds in 64 bits (years 1677 to 2262) is refused.
//!
//! What is shared with OpenMetrics lives here: the `grammar` of series, `number`s, the `families` that metadata lines
//! declare, the walk over the `lines`, and how samples become an [`exposition`].

pub mod decode;
pub mod encode;
pub mod exposition;
pub(crate) mod families;
pub(crate) mod grammar;
pub(crate) mod lines;
pub mod negotiation;
pub(crate) mod number;
#[cfg(test)]
mod twin;

#[cfg(test)]
mod tests {
    use super::decode::Options;
    use super::grammar::Flavour;
    use super::lines;
    use super::twin::{self, Row, parse};
    use crate::model::{BatchBuilder, Format, SampleFlags, SeriesTable, Value};
    use proptest::prelude::*;

    fn decoded(table: &SeriesTable, flavour: Flavour, body: &[u8]) -> (Vec<Row>, u64) {
        let format = if flavour == Flavour::Text { Format::PrometheusText } else { Format::OpenMetrics };
        let mut out = BatchBuilder::new(table, format, Vec::new());
        let report = lines::decode(body, flavour, &Options { now: 1, timestamp: None }, &mut out);
        let batch = out.finish();
        let row = |sample: &crate::model::Sample| {
            let series = table.series(sample.series).unwrap();
            let labels = series.labels.iter().map(|pair| (pair.name.to_string(), pair.value.to_string()));
            let labels: Vec<(String, String)> = labels.collect();
            let Value::F64(value) = batch.value(sample) else { panic!("text has floats only") };
            let implicit = sample.flags.contains(SampleFlags::TIMESTAMP_IMPLICIT);
            let series = format!("{} {labels:?}", series.name.measurement());
            Row { series, bits: value.to_bits(), timestamp: (!implicit).then_some(sample.timestamp) }
        };
        (batch.samples.iter().map(row).collect(), report.refused())
    }

    /// Text out of pieces that resemble lines, most of them in the order of a line.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let series =
            "[a:1]{0,2}( |)(|\\{\\}|\\{(a|b_|\"é\"|\"\")(|=\"[ab\\\\n\"é]{0,4}\")(|, ?b=\"x\"|,b=\"\")[,} ]{0,2})";
        let tail = "[ \t]{0,2}(1|-2.5e3|NaN|[+-]{0,2}(inf|Infinity)|1e999|0x1|\\.5|[0-9.eE+-]{0,6})([ \t]{1,2}[0-9.eE+-]{0,22}|)";
        let exemplar = "(| # \\{\\} 1| # \\{__name__=\"x\"\\} 1| # \\{t=\"x\",?\\} 2( 3|)| # \\{\"t\"\\} 2| #)";
        let line = (series, tail, exemplar, "\n{1,2}")
            .prop_map(|(series, tail, exemplar, end)| series + &tail + &exemplar + &end);
        let other = prop_oneof![
            Just("# TYPE a gauge\n".to_owned()),
            Just("# HELP a x\n".to_owned()),
            Just("# EOF\n".to_owned()),
            "\\PC{0,8}\n".prop_filter("metadata is not judged", |line| !line.trim_start().starts_with('#')),
        ];
        let lines = prop::collection::vec(prop_oneof![6 => line, 1 => other], 0..8);
        (lines, any::<bool>(), prop::collection::vec(0x80_u8.., 0..2)).prop_map(|(lines, eof, bytes)| {
            let end: &[u8] = if eof { b"# EOF\n" } else { b"" };
            [lines.concat().as_bytes(), &bytes, end].concat()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn agrees_with_its_twin(body in body()) {
            for (flavour, strict) in [(Flavour::Text, false), (Flavour::OpenMetrics, true)] {
                let table = SeriesTable::default();
                let expected = parse(&body, strict);
                for _ in 0..2 {
                    prop_assert_eq!(&decoded(&table, flavour, &body), &expected, "{:?}", String::from_utf8_lossy(&body));
                }
            }
        }

        #[test]
        fn agrees_with_its_twin_where_the_next_series_is_expected(
            tails in prop::collection::vec(
                prop_oneof![
                    4 => "[ \t]{0,2}-?[0-9]{1,3}(\\.[0-9]{0,3}|)(e[+-]?[0-9]?|)( (1|17|1\\.5|-2|)|)( |\t|)(x|# \\{\\} 1|)\n{1,2}",
                    1 => "( |)(NaN|[+-]?Inf|1e999|_)( 17|)(\n|)",
                    // A counter's `_created` would wait for the end of its family, of which the twin does not know.
                    1 => "\n# TYPE a gauge\n",
                    1 => "\n[abc\\{]{0,2}",
                ],
                0..12,
            ),
            eof in any::<bool>(),
        ) {
            const SERIES: [&str; 6] = ["a{x=\"1\"}", "a{x=\"2\"}", "a", "a_created{x=\"2\"}", "{\"b\",x=\"1\"}", "a{x=\"} 1\"}"];
            let body = |tails: &[String]| {
                let lines = SERIES.iter().cycle().zip(tails).map(|(series, tail)| format!("{series}{tail}"));
                lines.collect::<String>() + if eof { "# EOF\n" } else { "" }
            };
            for (flavour, strict) in [(Flavour::Text, false), (Flavour::OpenMetrics, true)] {
                let table = SeriesTable::default();
                for body in [body(&vec![" 1\n".to_owned(); 12]), body(&tails)] {
                    let expected = parse(body.as_bytes(), strict);
                    prop_assert_eq!(decoded(&table, flavour, body.as_bytes()), expected, "{:?}", body);
                }
            }
        }

        #[test]
        fn agrees_with_the_crate_prometheus_parse(
            lines in prop::collection::vec("[a-c]{1,2}\\{x=\"[a-z0-9 ]{1,4}\"\\} -?[0-9]{1,5}(\\.[0-9]{1,9}|)(e-?[0-9]|) [0-9]{1,12}", 0..6),
        ) {
            let body = lines.join("\n");
            let scrape = prometheus_parse::Scrape::parse(lines.iter().map(|line| Ok(line.clone()))).unwrap();
            let theirs = scrape.samples.iter().map(|sample| {
                let prometheus_parse::Value::Untyped(value) = sample.value else { panic!("nothing declares a type") };
                let labels: Vec<_> = sample.labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
                let timestamp = Some(sample.timestamp.timestamp_millis() * 1_000_000);
                twin::Row { series: format!("{} {labels:?}", sample.metric), bits: value.to_bits(), timestamp }
            });
            let theirs: Vec<_> = theirs.collect();
            prop_assert_eq!(decoded(&SeriesTable::default(), Flavour::Text, body.as_bytes()), (theirs, 0));
        }
    }
}
