//! The series of a remote-write body, off the hot path: which of them an answer names, one alone in pieces of a sample each,
//! and a part of a body with no symbols but its own. A piece has one series, or the two of a distribution.

use super::Version;
use crate::output::search::{Named, Pieces};
use crate::wire::Body;
use crate::wire::{remote_write::messages as v1, remote_write2::messages as v2};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// Name and value of labels, sorted.
type Labels = Vec<(String, String)>;

/// The pieces whose series a text names as Prometheus and its relatives write them: `{__name__="m", a="b"}` or `m{a="b"}`.
pub fn named(version: Version, body: &Body, pieces: &Pieces, text: &str) -> Named {
    let mut mentions = HashMap::<_, u64>::new();
    for labels in mentioned(text) {
        *mentions.entry(labels).or_default() += 1;
    }
    if mentions.is_empty() {
        return Named::default();
    }
    let symbols = symbols(body);
    let mut met = HashSet::new();
    let (fitting, _) = pieces.partition(|piece| {
        let series = labels(version, bytes_of(body, piece), &symbols).unwrap_or_default();
        let fitting = series.into_iter().filter(|labels| mentions.contains_key(labels));
        fitting.map(|labels| met.insert(labels)).count() > 0
    });
    let mentions = met.iter().filter_map(|labels| mentions.get(labels)).sum();
    Named { pieces: fitting, mentions, ..Named::default() }
}

/// The label sets in a text.
fn mentioned(text: &str) -> impl Iterator<Item = Labels> {
    text.match_indices('{').filter_map(|(at, _)| {
        let is_name = |character: char| character.is_alphanumeric() || "_:.".contains(character);
        let name = &text[text[..at].trim_end_matches(is_name).len()..at];
        let mut labels: Labels =
            Some(("__name__".to_owned(), name.to_owned())).filter(|_| !name.is_empty()).into_iter().collect();
        let mut rest = &text[at + 1..];
        while !rest.starts_with('}') {
            let (name, quoted) = rest.split_once("=\"")?;
            let (value, behind) = unquoted(quoted)?;
            labels.push((name.trim_matches('"').to_owned(), value));
            rest = behind.trim_start_matches([',', ' ']);
        }
        labels.sort_unstable();
        Some(labels)
    })
}

/// A value up to its closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}

fn bytes_of(body: &Body, piece: usize) -> &[u8] {
    body.run(piece..piece + 1)
}

fn symbols(body: &Body) -> Vec<String> {
    v2::Request::decode(body.prefix.as_slice()).map(|request| request.symbols).unwrap_or_default()
}

/// The labels of each series of a piece.
fn labels(version: Version, piece: &[u8], symbols: &[String]) -> Option<Vec<Labels>> {
    let mut all: Vec<Labels> = match version {
        Version::V1 => {
            let series = v1::WriteRequest::decode(piece).ok()?.timeseries.into_iter();
            series.map(|series| series.labels.into_iter().map(|label| (label.name, label.value)).collect()).collect()
        }
        Version::V2 => {
            let symbol = |reference: &u32| symbols.get(*reference as usize).cloned();
            let pair = |pair: &[u32]| Some((symbol(pair.first()?)?, symbol(pair.get(1)?)?));
            let series = v2::Request::decode(piece).ok()?.timeseries.into_iter();
            series.map(|series| series.labels_refs.chunks(2).map(pair).collect()).collect::<Option<_>>()?
        }
    };
    for labels in &mut all {
        labels.sort_unstable();
    }
    Some(all)
}

/// The one piece as a body of its own with a piece a sample, in their order: of every series in it the first, then of every
/// series the second. None where that parts nothing.
pub fn by_sample(version: Version, body: &Body, piece: usize) -> Option<Body> {
    let samples = body.cuts[piece].samples as usize;
    if samples < 2 {
        return None;
    }
    let mut finer = Body { prefix: body.prefix.clone(), ..Body::default() };
    match version {
        Version::V1 => {
            let series = v1::WriteRequest::decode(bytes_of(body, piece)).ok()?.timeseries;
            for at in 0..samples {
                let alone = |series: &v1::TimeSeries| {
                    let (samples, histograms) = only(at, samples, &series.samples, &series.histograms)?;
                    Some(v1::TimeSeries { labels: series.labels.clone(), samples, histograms, ..Default::default() })
                };
                let timeseries = series.iter().map(alone).collect::<Option<_>>()?;
                v1::WriteRequest { timeseries, ..v1::WriteRequest::default() }.encode(&mut finer.bytes).ok()?;
                finer.cut_as(1, series.len() as u32);
            }
        }
        Version::V2 => {
            let series = v2::Request::decode(bytes_of(body, piece)).ok()?.timeseries;
            for at in 0..samples {
                let alone = |series: &v2::TimeSeries| {
                    let (samples, histograms) = only(at, samples, &series.samples, &series.histograms)?;
                    let (labels_refs, metadata) = (series.labels_refs.clone(), series.metadata);
                    Some(v2::TimeSeries { labels_refs, samples, histograms, metadata, ..Default::default() })
                };
                let timeseries = series.iter().map(alone).collect::<Option<_>>()?;
                v2::Request { symbols: Vec::new(), timeseries }.encode(&mut finer.bytes).ok()?;
                finer.cut_as(1, series.len() as u32);
            }
        }
    }
    Some(finer)
}

/// One of the `of` samples of a series, floats before histograms. None if it has another number of them.
fn only<S: Clone, H: Clone>(at: usize, of: usize, floats: &[S], histograms: &[H]) -> Option<(Vec<S>, Vec<H>)> {
    if floats.len() + histograms.len() != of {
        return None;
    }
    let float = floats.get(at).cloned();
    let histogram = at.checked_sub(floats.len()).and_then(|at| histograms.get(at)).cloned();
    Some((float.into_iter().collect(), histogram.into_iter().collect()))
}

/// These pieces of a 2.0 body as a body of their own: the symbol table of a whole request can be a thousand times larger than
/// the one series of it that is kept. None if they are not what the encoder writes.
pub fn with_own_symbols(body: &Body, pieces: &Pieces) -> Option<Body> {
    let symbols = symbols(body);
    let mut own = vec![String::new()];
    let mut references = HashMap::from([(String::new(), 0)]);
    let mut own_reference = |reference: &mut u32| -> Option<()> {
        let symbol = symbols.get(*reference as usize)?;
        *reference = *references.entry(symbol.clone()).or_insert_with(|| {
            own.push(symbol.clone());
            own.len() as u32 - 1
        });
        Some(())
    };
    let mut part = Body::default();
    for piece in pieces.iter() {
        let mut request = v2::Request::decode(bytes_of(body, piece)).ok()?;
        for series in &mut request.timeseries {
            series.labels_refs.iter_mut().try_for_each(&mut own_reference)?;
            series
                .exemplars
                .iter_mut()
                .flat_map(|exemplar| &mut exemplar.labels_refs)
                .try_for_each(&mut own_reference)?;
            if let Some(metadata) = &mut series.metadata {
                own_reference(&mut metadata.help_ref)?;
                own_reference(&mut metadata.unit_ref)?;
            }
        }
        request.encode(&mut part.bytes).ok()?;
        let cut = body.cuts[piece];
        part.cut_as(cut.samples, cut.on_wire);
    }
    part.prefix = v2::Request { symbols: own, timeseries: Vec::new() }.encode_to_vec();
    Some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_1(series: &[(&str, &[i64])]) -> Body {
        let mut body = Body::default();
        for (name, timestamps) in series {
            let label = |(name, value): (&str, &str)| v1::Label { name: name.to_owned(), value: value.to_owned() };
            let labels = [("__name__", *name), ("path", "a\"b\\c, {d}\n")].map(label).to_vec();
            let samples = timestamps.iter().map(|timestamp| v1::Sample { value: 1.0, timestamp: *timestamp }).collect();
            let series = v1::TimeSeries { labels, samples, ..v1::TimeSeries::default() };
            let request = v1::WriteRequest { timeseries: vec![series], ..v1::WriteRequest::default() };
            request.encode(&mut body.bytes).unwrap();
            body.cut(timestamps.len() as u32);
        }
        body
    }

    fn version_2(series: &[(&str, &[i64])]) -> Body {
        let mut symbols: Vec<String> =
            ["", "__name__", "path", "a\"b\\c, {d}\n", "trace_id", "abc", "help", "seconds", "unused"]
                .map(str::to_owned)
                .to_vec();
        let mut body = Body::default();
        for (name, timestamps) in series {
            symbols.push((*name).to_owned());
            let sample = |timestamp: &i64| v2::Sample { timestamp: *timestamp, ..v2::Sample::default() };
            let series = v2::TimeSeries {
                labels_refs: vec![1, symbols.len() as u32 - 1, 2, 3],
                samples: timestamps.iter().map(sample).collect(),
                exemplars: vec![v2::Exemplar { labels_refs: vec![4, 5], ..v2::Exemplar::default() }],
                metadata: Some(v2::Metadata { help_ref: 6, unit_ref: 7, ..v2::Metadata::default() }),
                ..v2::TimeSeries::default()
            };
            v2::Request { symbols: Vec::new(), timeseries: vec![series] }.encode(&mut body.bytes).unwrap();
            body.cut(timestamps.len() as u32);
        }
        body.prefix = v2::Request { symbols, timeseries: Vec::new() }.encode_to_vec();
        body
    }

    #[test]
    fn a_text_names_series_in_either_notation() {
        let series: [(&str, &[i64]); 3] = [("one", &[1]), ("two", &[1]), ("three", &[1])];
        let texts = [
            r#"out of order sample for series {__name__="two", path="a\"b\\c, {d}\n"}"#,
            r#"sample is too old for series two{path="a\"b\\c, {d}\n"} and {"#,
            r#"{not labels} from series {path="a\"b\\c, {d}\n",__name__="two"}: {x="y"}"#,
        ];
        for text in texts {
            for (version, body) in [(Version::V1, version_1(&series)), (Version::V2, version_2(&series))] {
                let named = named(version, &body, &Pieces::all(&body), text);
                assert_eq!(named.pieces.iter().collect::<Vec<_>>(), [1], "{text}");
                assert!(!named.quoted);
            }
        }
        let body = version_1(&series);
        assert_eq!(named(Version::V1, &body, &Pieces::all(&body), "out of order sample"), Named::default());
    }

    #[test]
    fn a_series_comes_apart_by_samples_in_their_order() {
        let series: [(&str, &[i64]); 2] = [("one", &[1]), ("two", &[5, 6, 7])];
        let body = version_1(&series);
        assert_eq!(by_sample(Version::V1, &body, 0), None);
        let mut miscounted = body.clone();
        miscounted.cuts[1].samples = 2;
        assert_eq!(by_sample(Version::V1, &miscounted, 1), None);
        let finer = by_sample(Version::V1, &body, 1).unwrap();
        let request = v1::WriteRequest::decode(&*finer.part(0, 3)).unwrap();
        let times: Vec<_> = request
            .timeseries
            .iter()
            .map(|series| (series.labels[0].value.as_str(), series.samples[0].timestamp))
            .collect();
        assert_eq!(times, [("two", 5), ("two", 6), ("two", 7)]);

        let finer = by_sample(Version::V2, &version_2(&series), 1).unwrap();
        let request = v2::Request::decode(&*finer.part(1, 3)).unwrap();
        assert_eq!(request.timeseries.iter().map(|series| series.samples[0].timestamp).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(request.symbols[request.timeseries[0].labels_refs[1] as usize], "two");
    }

    #[test]
    fn a_text_that_names_a_series_twice_is_counted_twice() {
        let body = version_1(&[("one", &[1]), ("two", &[1, 2]), ("three", &[1])]);
        let two = r#"too old sample for series {__name__="two", path="a\"b\\c, {d}\n"}"#;
        let text = format!("{two}\n{two}\nout of bounds for series {{__name__=\"absent\"}}");
        let named = named(Version::V1, &body, &Pieces::all(&body), &text);
        assert_eq!((named.pieces.iter().collect::<Vec<_>>(), named.mentions), (vec![1], 2));
    }

    /// The encoders' own body of two distributions of one series, and another series before and behind it.
    fn distributions(version: Version) -> Body {
        use crate::model::{
            Batch, BatchBuilder, Centroid, Distribution, Format, Granularity, Losses, SampleFlags, SeriesSpec,
            SeriesTable, Value,
        };
        use crate::output::encoding::Encoding;
        use crate::wire::{SampleRef, remote_write::encode as encode1, remote_write2::encode as encode2};
        fn body<E: Encoding>(options: &E::Options, table: &SeriesTable, batch: &Batch) -> Body {
            let mut encoder = E::new(options);
            let mut losses = Losses::default();
            let mut rendered = HashMap::new();
            for sample in &batch.samples {
                let series = table.series(sample.series).unwrap();
                let rendered = rendered
                    .entry(sample.series)
                    .or_insert_with(|| std::sync::Arc::new(E::render(&series, options, table).unwrap()));
                let value = batch.value(sample);
                let out = SampleRef { timestamp: sample.timestamp, value, start: None, flags: sample.flags };
                encoder.push(rendered, &out, &mut losses).unwrap();
            }
            encoder.finish(&mut losses).remove(0).1
        }
        let table = SeriesTable::default();
        let mut builder = BatchBuilder::new(&table, Format::Wavefront, Vec::new());
        let mut push = |name: &str, seconds: i64, value: Value<'_>| {
            let spec = SeriesSpec { measurement: name, field: None, labels: Vec::new(), metadata: None };
            let id = builder.define(builder.alias(name.as_bytes()), spec).unwrap();
            builder.push(id, seconds * 1_000_000_000, value, SampleFlags::NONE);
        };
        let distribution =
            |count| Distribution { granularity: Granularity::Minute, centroids: vec![Centroid { count, mean: 2.5 }] };
        push("a", 60, Value::F64(1.0));
        push("lat", 60, Value::Distribution(&distribution(1)));
        push("z", 60, Value::F64(1.0));
        push("lat", 120, Value::Distribution(&distribution(3)));
        let batch = builder.finish();
        match version {
            Version::V1 => body::<encode1::Encoder>(&encode1::Options::default(), &table, &batch),
            Version::V2 => body::<encode2::Encoder>(&encode2::Options::default(), &table, &batch),
        }
    }

    #[test]
    fn count_and_sum_of_a_distribution_are_one_piece_and_come_apart_by_distributions() {
        for version in [Version::V1, Version::V2] {
            let body = distributions(version);
            let counted: Vec<_> = body.cuts.iter().map(|cut| (cut.samples, cut.on_wire)).collect();
            assert_eq!(counted, [(1, 1), (2, 4), (1, 1)], "{version:?}");
            for text in [r#"{__name__="lat_count"}"#, r#"{__name__="lat_sum"}"#] {
                let named = named(version, &body, &Pieces::all(&body), text);
                assert_eq!(named.pieces.iter().collect::<Vec<_>>(), [1], "{version:?} {text}");
            }
            let finer = by_sample(version, &body, 1).unwrap();
            let counted: Vec<_> = finer.cuts.iter().map(|cut| (cut.samples, cut.on_wire)).collect();
            assert_eq!(counted, [(1, 2), (1, 2)], "{version:?}");
            let symbols = symbols(&finer);
            for (piece, (count, sum)) in [(1.0, 2.5), (3.0, 7.5)].into_iter().enumerate() {
                let labels = labels(version, bytes_of(&finer, piece), &symbols).unwrap();
                let names: Vec<_> = labels.iter().map(|labels| labels[0].1.as_str()).collect();
                let values: Vec<_> = match version {
                    Version::V1 => {
                        let request = v1::WriteRequest::decode(bytes_of(&finer, piece)).unwrap();
                        request.timeseries.iter().map(|series| series.samples[0].value).collect()
                    }
                    Version::V2 => {
                        let request = v2::Request::decode(bytes_of(&finer, piece)).unwrap();
                        request.timeseries.iter().map(|series| series.samples[0].value).collect()
                    }
                };
                assert_eq!((names, values), (vec!["lat_count", "lat_sum"], vec![count, sum]), "{version:?}");
            }
        }
    }

    #[test]
    fn a_kept_series_brings_its_symbols_and_no_others() {
        let body = version_2(&[("one", &[1]), ("two", &[1, 2]), ("three", &[1])]);
        let part = with_own_symbols(&body, &[1].into_iter().collect()).unwrap();
        assert_eq!(part.samples(), 2);
        let request = v2::Request::decode(&*part.part(0, 1)).unwrap();
        let path = ["path", "a\"b\\c, {d}\n"];
        let symbols = [&["", "__name__", "two"], &path[..], &["trace_id", "abc", "help", "seconds"]].concat();
        assert_eq!(request.symbols, symbols);
        let series = &request.timeseries[0];
        assert_eq!((&*series.labels_refs, &*series.exemplars[0].labels_refs), (&[1, 2, 3, 4][..], &[5, 6][..]));
        let metadata = series.metadata.as_ref().unwrap();
        assert_eq!((metadata.help_ref, metadata.unit_ref), (7, 8));
        let mut torn = body;
        torn.prefix.clear();
        assert_eq!(with_own_symbols(&torn, &[1].into_iter().collect()), None);
    }
}
