//! The series of a remote-write body, off the hot path: which of them an answer names, one alone in pieces of a sample each,
//! and a part of a body with no symbols but its own.

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
    let mentioned: HashSet<_> = mentioned(text).collect();
    if mentioned.is_empty() {
        return Named::default();
    }
    let symbols = symbols(body);
    let (fitting, _) = pieces.partition(|piece| {
        labels(version, bytes_of(body, piece), &symbols).is_some_and(|labels| mentioned.contains(&labels))
    });
    Named { pieces: fitting, quoted: false }
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
    let start = piece.checked_sub(1).map_or(0, |before| body.cuts[before].end);
    &body.bytes[start..body.cuts[piece].end]
}

fn symbols(body: &Body) -> Vec<String> {
    v2::Request::decode(body.prefix.as_slice()).map(|request| request.symbols).unwrap_or_default()
}

fn labels(version: Version, piece: &[u8], symbols: &[String]) -> Option<Labels> {
    let mut labels: Labels = match version {
        Version::V1 => {
            let series = v1::WriteRequest::decode(piece).ok()?.timeseries.into_iter().next()?;
            series.labels.into_iter().map(|label| (label.name, label.value)).collect()
        }
        Version::V2 => {
            let series = v2::Request::decode(piece).ok()?.timeseries.into_iter().next()?;
            let symbol = |reference: &u32| symbols.get(*reference as usize).cloned();
            let pair = |pair: &[u32]| Some((symbol(pair.first()?)?, symbol(pair.get(1)?)?));
            series.labels_refs.chunks(2).map(pair).collect::<Option<_>>()?
        }
    };
    labels.sort_unstable();
    Some(labels)
}

/// The one piece as a body of its own with a piece a sample, in their order. None where that parts nothing.
pub fn by_sample(version: Version, body: &Body, piece: usize) -> Option<Body> {
    let mut finer = Body { prefix: body.prefix.clone(), ..Body::default() };
    match version {
        Version::V1 => {
            let series = v1::WriteRequest::decode(bytes_of(body, piece)).ok()?.timeseries.into_iter().next()?;
            let of = |samples, histograms| v1::TimeSeries {
                labels: series.labels.clone(),
                samples,
                histograms,
                ..v1::TimeSeries::default()
            };
            let floats = series.samples.iter().map(|sample| of(vec![*sample], Vec::new()));
            let histograms = series.histograms.iter().map(|histogram| of(Vec::new(), vec![histogram.clone()]));
            for alone in floats.chain(histograms) {
                let request = v1::WriteRequest { timeseries: vec![alone], ..v1::WriteRequest::default() };
                request.encode(&mut finer.bytes).ok()?;
                finer.cut(1);
            }
        }
        Version::V2 => {
            let series = v2::Request::decode(bytes_of(body, piece)).ok()?.timeseries.into_iter().next()?;
            let bare =
                v2::TimeSeries { samples: Vec::new(), histograms: Vec::new(), exemplars: Vec::new(), ..series.clone() };
            let of = |samples, histograms| v2::TimeSeries { samples, histograms, ..bare.clone() };
            let floats = series.samples.iter().map(|sample| of(vec![*sample], Vec::new()));
            let histograms = series.histograms.iter().map(|histogram| of(Vec::new(), vec![histogram.clone()]));
            for alone in floats.chain(histograms) {
                v2::Request { symbols: Vec::new(), timeseries: vec![alone] }.encode(&mut finer.bytes).ok()?;
                finer.cut(1);
            }
        }
    }
    (finer.cuts.len() > 1 && finer.samples() == u64::from(body.cuts[piece].samples)).then_some(finer)
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
            let labels = [("__name__", *name), ("path", "a\"b\\c, {d}")].map(label).to_vec();
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
            ["", "__name__", "path", "a\"b\\c, {d}", "help", "unused"].map(str::to_owned).to_vec();
        let mut body = Body::default();
        for (name, timestamps) in series {
            symbols.push((*name).to_owned());
            let sample = |timestamp: &i64| v2::Sample { timestamp: *timestamp, ..v2::Sample::default() };
            let series = v2::TimeSeries {
                labels_refs: vec![1, symbols.len() as u32 - 1, 2, 3],
                samples: timestamps.iter().map(sample).collect(),
                metadata: Some(v2::Metadata { help_ref: 4, ..v2::Metadata::default() }),
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
            r#"out of order sample for series {__name__="two", path="a\"b\\c, {d}"}"#,
            r#"sample is too old for series two{path="a\"b\\c, {d}"} and {"#,
            r#"{not labels} from series {path="a\"b\\c, {d}",__name__="two"}: {x="y"}"#,
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
    fn a_kept_series_brings_its_symbols_and_no_others() {
        let body = version_2(&[("one", &[1]), ("two", &[1, 2]), ("three", &[1])]);
        let part = with_own_symbols(&body, &[1].into_iter().collect()).unwrap();
        assert_eq!(part.samples(), 2);
        let request = v2::Request::decode(&*part.part(0, 1)).unwrap();
        assert_eq!(request.symbols, ["", "__name__", "two", "path", "a\"b\\c, {d}", "help"]);
        assert_eq!(request.timeseries[0].labels_refs, [1, 2, 3, 4]);
        assert_eq!(request.timeseries[0].metadata.as_ref().unwrap().help_ref, 5);
        let mut torn = body;
        torn.prefix.clear();
        assert_eq!(with_own_symbols(&torn, &[1].into_iter().collect()), None);
    }
}
