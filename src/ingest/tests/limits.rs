//! Limits of a series, in every format: what is beyond them is refused by name, and its neighbours are taken.

#![allow(clippy::format_collect, reason = "a test may allocate")]

use super::fixture::Fixture;
use super::{V2, rw1, rw2};
use crate::model::{Format, Refusal};
use crate::wire::compression::snappy;
use prost::Message;

/// The name of a series, and its labels.
type Named = (String, Vec<(String, String)>);

/// How a format writes samples of these series; where it is posted, with which headers.
type Spelling = (Format, &'static str, &'static str, fn(&[Named]) -> Vec<u8>);

const SPELLINGS: [Spelling; 6] = [
    (Format::PrometheusText, "POST /api/v1/import/prometheus", "", exposition),
    (
        Format::OpenMetrics,
        "POST /api/v1/import/prometheus",
        "Content-Type: application/openmetrics-text; version=1.0.0\r\n",
        |series| [&exposition(series)[..], b"# EOF\n"].concat(),
    ),
    (Format::RemoteWrite, "POST /api/v1/write", "", remote_write),
    (Format::RemoteWrite2, "POST /api/v1/write", V2, remote_write2),
    (Format::InfluxLine, "POST /write?db=d", "", |series| {
        lines(series, |name, labels| {
            format!("{name}{} v=1\n", labels.iter().map(|(k, v)| format!(",{k}={v}")).collect::<String>())
        })
    }),
    (Format::Wavefront, "POST /report?f=wavefront", "", |series| {
        lines(series, |name, labels| {
            format!("{name} 1 source=h{}\n", labels.iter().map(|(k, v)| format!(" {k}={v}")).collect::<String>())
        })
    }),
];

fn lines(series: &[Named], line: impl Fn(&str, &[(String, String)]) -> String) -> Vec<u8> {
    series.iter().map(|(name, labels)| line(name, labels)).collect::<String>().into_bytes()
}

fn exposition(series: &[Named]) -> Vec<u8> {
    lines(series, |name, labels| {
        format!("{name}{{{}}} 1\n", labels.iter().map(|(k, v)| format!("{k}=\"{v}\",")).collect::<String>())
    })
}

fn remote_write(series: &[Named]) -> Vec<u8> {
    let label = |name: &str, value: &str| rw1::Label { name: name.into(), value: value.into() };
    let timeseries = series.iter().map(|(name, labels)| rw1::TimeSeries {
        labels: std::iter::once(label("__name__", name)).chain(labels.iter().map(|(k, v)| label(k, v))).collect(),
        samples: vec![rw1::Sample { value: 1.0, timestamp: 1 }],
        ..Default::default()
    });
    snappy(&rw1::WriteRequest { timeseries: timeseries.collect(), ..Default::default() }.encode_to_vec())
}

fn remote_write2(series: &[Named]) -> Vec<u8> {
    let mut symbols = vec![String::new()];
    let mut timeseries = Vec::new();
    for (name, labels) in series {
        let mut labels_refs = Vec::new();
        let all = std::iter::once(("__name__", name.as_str())).chain(labels.iter().map(|(k, v)| (&**k, &**v)));
        for text in all.flat_map(|(name, value)| [name, value]) {
            labels_refs.push(symbols.len() as u32);
            symbols.push(text.to_owned());
        }
        let samples = vec![rw2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }];
        timeseries.push(rw2::TimeSeries { labels_refs, samples, ..Default::default() });
    }
    snappy(&rw2::Request { symbols, timeseries }.encode_to_vec())
}

fn named(name: &str, labels: &[(&str, &str)]) -> Named {
    (name.into(), labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
}

#[tokio::test]
async fn a_series_beyond_a_limit_is_refused_by_name_and_its_neighbours_are_taken() {
    let long = "x".repeat(17);
    let many = ["a", "b", "c", "d", "e"].map(|name| (name, "1"));
    // Of Wavefront, the source is a label too.
    let cases = [
        (named("many", &many), Refusal::TooManyLabels, "at most 4 labels (limits.max_labels), found "),
        (named("key", &[(&long, "1")]), Refusal::TooLong, "(limits.max_label_name_bytes), found 17"),
        (named("value", &[("a", &long)]), Refusal::TooLong, "(limits.max_label_value_bytes), found 17"),
        (named(&long, &[]), Refusal::TooLong, "of a name (limits.max_label_value_bytes), found 17"),
    ];
    for (format, request, headers, written) in SPELLINGS {
        let adjust = |limits: &mut crate::config::Limits| {
            (limits.labels_max, limits.label_name_bytes_max, limits.label_value_bytes_max) = (4, 16, 16);
        };
        let fixture = Fixture::with(adjust, usize::MAX).await;
        for (at, (bad, reason, message)) in cases.iter().enumerate() {
            let before = fixture.rejected(format, *reason);
            let body = written(&[named("first", &[("n", "1")]), bad.clone(), named("last", &[("n", "1")])]);
            let answer = fixture.exchange(request, headers, &body).await;
            if format == Format::Wavefront {
                assert_eq!(answer.status, 202, "{answer:?}");
            } else {
                assert_eq!(answer.status, 400, "{format:?}: {answer:?}");
                assert!(answer.contains(message), "{format:?} {message:?}: {answer:?}");
            }
            assert_eq!(fixture.rejected(format, *reason) - before, 1, "{format:?} {bad:?}");
            assert_eq!(fixture.samples().await.len(), 2 * (at + 1), "{format:?}: the neighbours of {bad:?}");
        }
    }
}

#[tokio::test]
async fn a_source_with_too_many_series_is_told_to_slow_down_and_others_are_not() {
    for (format, request, headers, written) in SPELLINGS {
        let fixture = Fixture::with(|limits| limits.series_per_source_max = Some(3), usize::MAX).await;
        let of = |name: &str| written(&[named(name, &[])]);
        for name in ["a", "b", "c", "a"] {
            assert!(fixture.exchange(request, headers, &of(name)).await.status < 300, "{format:?} {name}");
        }
        let answer = fixture.exchange(request, headers, &of("d")).await;
        if format == Format::Wavefront {
            assert_eq!(answer.status, 202, "{answer:?}");
        } else {
            assert_eq!(answer.status, 429, "{format:?} {answer:?}");
            assert!(answer.contains("retry-after: ") && answer.contains("limits.max_series_per_source"), "{answer:?}");
        }
        assert_eq!(fixture.rejected(format, Refusal::SeriesLimit), 1, "{format:?}");
        assert!(fixture.exchange(request, headers, &of("c")).await.status < 300, "{format:?}: known ones go on");
        let elsewhere = fixture.exchange_from([127, 0, 0, 2].into(), request, headers, &of("d")).await;
        assert!(elsewhere.status < 300, "{format:?} {elsewhere:?}");
    }
}

#[tokio::test]
async fn a_gateway_short_of_memory_asks_to_come_again_and_then_takes_everything() {
    let fixture = Fixture::with(|limits| limits.memory_limit = Some(1000), usize::MAX).await;
    fixture.gate.memory.note(900);
    for (format, request, headers, written) in SPELLINGS {
        let answer = fixture.exchange(request, headers, &written(&[named("a", &[])])).await;
        assert_eq!(answer.status, 503, "{format:?} {answer:?}");
        assert!(answer.contains("retry-after: ") && answer.contains("limits.memory_limit"), "{answer:?}");
        assert_eq!(fixture.rejected(format, Refusal::Memory), 1, "{format:?}");
    }
    assert!(fixture.samples().await.is_empty());
    // Tight is not short: one at a time.
    for resident in [800, 0] {
        fixture.gate.memory.note(resident);
        for (format, request, headers, written) in SPELLINGS {
            let answer = fixture.exchange(request, headers, &written(&[named("a", &[])])).await;
            assert!(answer.status < 300, "{format:?} {answer:?}");
        }
    }
    assert_eq!(fixture.samples().await.len(), 2 * SPELLINGS.len());
}
