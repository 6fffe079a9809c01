//! The walk over a body's lines, for both text formats.
//!
//! A sample's line is first taken on trust: the series is guessed to end at the last `}` and looked up by its bytes. Only
//! bytes that once were parsed as a whole series are known, so a hit proves the guess; a miss is parsed with care.

use super::decode::Options;
use super::families::{Declaration, Families, FamilyIndex};
use super::grammar::{self, Fault, Flavour};
use super::number;
use crate::model::{
    AliasHash, BatchBuilder, Exemplar, Label, MetricType, Refusal, SampleFlags, SeriesId, SeriesSpec, TimestampNs,
    Value,
};
use crate::wire::{Report, quoted};
use std::collections::HashMap;

/// What stands behind a series.
struct Tail<'b> {
    value: f64,
    value_token: &'b [u8],
    timestamp: Option<TimestampNs>,
    /// From its opening brace.
    exemplar: Option<&'b [u8]>,
}

/// A sample whose series is known.
struct Known<'b> {
    series: SeriesId,
    family: Option<FamilyIndex>,
    tail: Tail<'b>,
    /// Where the series ends in the line.
    end: usize,
}

/// A line of the current family, until the family's start timestamps are settled.
struct Point<'b> {
    line: &'b [u8],
    number: usize,
    /// Where the label block is; empty when there is none.
    labels: &'b [u8],
    timestamp: Option<TimestampNs>,
    kind: PointKind,
}

#[derive(Clone, Copy)]
enum PointKind {
    /// The index of a sample in the batch.
    Sample(usize),
    /// A `_created` line and what it says.
    Created(TimestampNs),
}

struct Decoder<'b, 'o, 't> {
    flavour: Flavour,
    implicit: TimestampNs,
    out: &'o mut BatchBuilder<'t>,
    report: Report,
    families: Families<'b>,
    points: Vec<Point<'b>>,
    created: bool,
    /// Blanks in front of the present line, which are not part of it.
    indent: usize,
}

/// Decodes a body of that flavour.
pub(crate) fn decode(body: &[u8], flavour: Flavour, options: &Options, out: &mut BatchBuilder<'_>) -> Report {
    let mut decoder = Decoder {
        flavour,
        implicit: options.timestamp.unwrap_or(options.now),
        out,
        report: Report::default(),
        families: Families::new(flavour),
        points: Vec::new(),
        created: false,
        indent: 0,
    };
    match flavour {
        Flavour::Text => decoder.text(body),
        Flavour::OpenMetrics => decoder.openmetrics(body),
    }
    decoder.settle();
    decoder.families.finish(decoder.out);
    decoder.report
}

impl<'b> Decoder<'b, '_, '_> {
    fn text(&mut self, body: &'b [u8]) {
        for (index, line) in Lines(body).enumerate() {
            let length = line.len();
            let line = trim_start(line);
            self.indent = length - line.len();
            match line.first() {
                None => {}
                Some(b'#') => self.declare(line, index + 1, text_metadata(line)),
                Some(_) => self.sample(line, index + 1),
            }
        }
    }

    fn openmetrics(&mut self, body: &'b [u8]) {
        let mut lines = Lines(body).enumerate();
        let mut count = 0;
        while let Some((index, line)) = lines.next() {
            count = index + 1;
            match line.first() {
                Some(b'#') if line == b"# EOF" => {
                    let Some((_, first)) = lines.next() else { return };
                    let message = || format!("expected the end of the body behind `# EOF`, found {}", quoted(first));
                    self.report.refuse(1 + lines.count() as u64, count + 1, 1, Refusal::Syntax, message);
                    return;
                }
                Some(b'#') => self.declare(line, count, openmetrics_metadata(line)),
                _ => self.sample(line, count),
            }
        }
        let message = || "expected `# EOF`, found the end of the body".to_owned();
        self.report.refuse(1, count + 1, 1, Refusal::Body, message);
    }

    fn declare(&mut self, line: &'b [u8], number: usize, parsed: Result<Option<Metadata<'b>>, Fault<'b>>) {
        match parsed {
            Ok(None) => {}
            Ok(Some((name, declaration))) => {
                self.settle();
                self.families.declare(name, declaration);
            }
            Err(fault) => self.refuse(line, number, &fault),
        }
    }

    fn sample(&mut self, line: &'b [u8], number: usize) {
        match self.recognised(line) {
            Some(known) => self.push(&known, line, number),
            None => self.first_sight(line, number, true),
        }
    }

    /// The fast path: a known series, an ordinary value, nothing behind it.
    #[inline]
    fn recognised(&mut self, line: &'b [u8]) -> Option<Known<'b>> {
        let name_end = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t'))?;
        let name = if name_end == 0 { quoted_name(line)? } else { &line[..name_end] };
        let end = if self.flavour == Flavour::OpenMetrics && memchr::memchr(b'#', line).is_some() {
            return None;
        } else {
            memchr::memrchr(b'}', line).map_or(name_end, |at| at + 1)
        };
        let tail = self.tail(&line[end..]).ok()?;
        let mut alias = self.out.alias(&line[..end]);
        let family = self.families.of(name);
        if let Some(family) = family {
            if self.folds(family, name) {
                return None;
            }
            alias = alias.then(self.families.hash(family, self.out));
        }
        Some(Known { series: self.out.recognise(alias)?, family, tail, end })
    }

    /// Whether the line is to become a start timestamp.
    #[inline]
    fn folds(&self, family: FamilyIndex, name: &[u8]) -> bool {
        self.flavour == Flavour::OpenMetrics
            && Some(family) == self.families.current()
            && self.families.is_created(family, name)
    }

    #[cold]
    fn first_sight(&mut self, line: &'b [u8], number: usize, fold: bool) {
        if let Err(fault) = self.parse(line, number, fold) {
            self.refuse(line, number, &fault);
        }
    }

    /// The careful path: every rule checked, everything defined.
    fn parse(&mut self, line: &'b [u8], number: usize, fold: bool) -> Result<(), Fault<'b>> {
        let (rest, series) = grammar::series(line, self.flavour)?;
        let end = line.len() - rest.len();
        let tail = self.tail(rest)?;
        let exemplar = tail.exemplar.map(parse_exemplar).transpose()?;
        let family = self.families.of(series.name.as_bytes());
        let mut alias = self.out.alias(&line[..end]);
        let mut metadata = None;
        if let Some(family) = family {
            let created = number::seconds(tail.value_token).filter(|_| exemplar.is_none());
            if let (true, true, Some(start)) = (fold, self.folds(family, series.name.as_bytes()), created) {
                self.created = true;
                let (labels, timestamp) = (label_block(&line[..end]), tail.timestamp);
                self.points.push(Point { line, number, labels, timestamp, kind: PointKind::Created(start) });
                return Ok(());
            }
            alias = alias.then(self.families.hash(family, self.out));
            metadata = Some(self.families.metadata(family));
        }
        let id = if let Some(id) = self.out.recognise(alias) {
            id
        } else {
            let spec = SeriesSpec { measurement: &series.name, field: None, labels: series.labels, metadata };
            match self.out.define(alias, spec) {
                Ok(id) => id,
                Err(denied) => {
                    self.report.refuse(1, number, 1, denied.refusal(), || denied.to_string());
                    return Ok(());
                }
            }
        };
        self.push(&Known { series: id, family, tail, end }, line, number);
        if let Some((labels, value, timestamp)) = exemplar {
            let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            self.out.exemplar(Exemplar { series: id, labels, value, timestamp });
        }
        Ok(())
    }

    #[inline]
    fn push(&mut self, known: &Known<'b>, line: &'b [u8], number: usize) {
        let (timestamp, flags) = match known.tail.timestamp {
            Some(timestamp) => (timestamp, SampleFlags::NONE),
            None => (self.implicit, SampleFlags::TIMESTAMP_IMPLICIT),
        };
        if self.flavour == Flavour::OpenMetrics && known.family.is_some() && known.family == self.families.current() {
            let kind = PointKind::Sample(self.out.samples());
            let (labels, timestamp) = (label_block(&line[..known.end]), known.tail.timestamp);
            self.points.push(Point { line, number, labels, timestamp, kind });
        }
        self.out.push(known.series, timestamp, Value::F64(known.tail.value), flags);
        self.report.accepted += 1;
    }

    #[inline]
    fn tail(&self, rest: &'b [u8]) -> Result<Tail<'b>, Fault<'b>> {
        match self.flavour {
            Flavour::Text => text_tail(rest),
            Flavour::OpenMetrics => openmetrics_tail(rest),
        }
    }

    /// Ends a family: gives its samples the start timestamps that its `_created` lines tell: a line with their timestamp,
    /// else one without any, the nearest one behind a sample first. A `_created` line without any sample becomes one.
    fn settle(&mut self) {
        let points = std::mem::take(&mut self.points);
        if std::mem::take(&mut self.created)
            && let Some(family) = self.families.current()
        {
            self.fold(&points, family);
        }
        self.points = points;
        self.points.clear();
    }

    #[cold]
    fn fold(&mut self, points: &[Point<'b>], family: FamilyIndex) {
        let label = self.families.group_label(family).unwrap_or_default();
        let groups = points.iter().map(|point| match point.kind {
            PointKind::Sample(_) => group(point.labels, label, self.out),
            PointKind::Created(_) => group(point.labels, "", self.out),
        });
        let groups: Vec<AliasHash> = groups.collect();
        let mut starts: Vec<Option<TimestampNs>> = vec![None; points.len()];
        let mut used = vec![false; points.len()];
        for timed in [true, false] {
            nearest(points, &groups, timed, (0..points.len()).rev(), &mut starts, &mut used);
            nearest(points, &groups, timed, 0..points.len(), &mut starts, &mut used);
        }
        for (at, point) in points.iter().enumerate() {
            match (point.kind, starts[at]) {
                (PointKind::Sample(index), Some(start)) => self.out.start_timestamp_of(index, start),
                (PointKind::Created(_), _) if !used[at] => self.first_sight(point.line, point.number, false),
                _ => {}
            }
        }
    }

    #[cold]
    fn refuse(&mut self, line: &[u8], number: usize, fault: &Fault<'_>) {
        let column = self.indent + line.len() - fault.at.len().min(line.len()) + 1;
        let message = || match fault.at {
            b"" => format!("expected {}, found the end of the line", fault.expected),
            found => format!("expected {}, found {}", fault.expected, quoted(found)),
        };
        self.report.refuse(1, number, column, fault.reason, message);
    }
}

/// Walks points in the given order and gives each sample without start the latest one seen of its group: one with the
/// sample's timestamp, or one without any.
fn nearest(
    points: &[Point<'_>],
    groups: &[AliasHash],
    timed: bool,
    order: impl Iterator<Item = usize>,
    starts: &mut [Option<TimestampNs>],
    used: &mut [bool],
) {
    let mut known = HashMap::new();
    for at in order {
        let timestamp = points[at].timestamp;
        match points[at].kind {
            PointKind::Created(start) => {
                known.insert((groups[at], timestamp), (start, at));
            }
            PointKind::Sample(_) if starts[at].is_none() => {
                if let Some((start, from)) = known.get(&(groups[at], timestamp.filter(|_| timed))) {
                    starts[at] = Some(*start);
                    used[*from] = true;
                }
            }
            PointKind::Sample(_) => {}
        }
    }
}

/// The inside of a series' label block, as written.
fn label_block(series: &[u8]) -> &[u8] {
    match memchr::memchr(b'{', series) {
        Some(open) if open > 0 => series[open + 1..].strip_suffix(b"}").unwrap_or_default(),
        _ => b"",
    }
}

/// Hashes a label block without one label and without a trailing comma, so that the points of one metric agree.
fn group(block: &[u8], without: &str, out: &BatchBuilder<'_>) -> AliasHash {
    let (before, after) = match (without.is_empty(), label_place(block, without.as_bytes())) {
        (false, Some((start, end))) => (&block[..start], &block[end..]),
        _ => (block, &b""[..]),
    };
    let before = before.strip_suffix(b",").unwrap_or(before);
    let after = after.strip_prefix(b",").unwrap_or(after);
    let after = after.strip_suffix(b",").unwrap_or(after);
    let joint: &[u8] = if before.is_empty() || after.is_empty() { b"" } else { b"," };
    out.hash(&[before, joint, after].concat())
}

/// Where a label stands in a block.
fn label_place(block: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0;
    while at < block.len() {
        let start = at;
        let equal = start + memchr::memchr(b'=', &block[start..])?;
        at = equal + 2;
        while *block.get(at)? != b'"' {
            at += if block[at] == b'\\' { 2 } else { 1 };
        }
        at += 1;
        if &block[start..equal] == name {
            return Some((start, at));
        }
        at += 1;
    }
    None
}

/// The metric name of `{"name",...}`, if it stands first and without escapes.
fn quoted_name(line: &[u8]) -> Option<&[u8]> {
    let inside = line.strip_prefix(b"{\"")?;
    let name = &inside[..memchr::memchr2(b'"', b'\\', inside)?];
    matches!(inside.get(name.len()..)?, [b'"', b',' | b'}', ..]).then_some(name)
}

fn text_tail(rest: &[u8]) -> Result<Tail<'_>, Fault<'_>> {
    let rest = trim_start(rest);
    let (value_token, behind) = token(rest);
    let value = parse_value(rest, value_token)?;
    let behind = trim_start(behind);
    let (timestamp_token, end) = token(behind);
    let timestamp = match timestamp_token {
        [] => None,
        digits => Some(number::milliseconds(digits).ok_or_else(|| bad_timestamp(behind))?),
    };
    match trim_start(end) {
        [] => Ok(Tail { value, value_token, timestamp, exemplar: None }),
        spurious => Err(Fault::new(spurious, Refusal::Syntax, "the end of the line")),
    }
}

fn openmetrics_tail(rest: &[u8]) -> Result<Tail<'_>, Fault<'_>> {
    let Some(rest) = rest.strip_prefix(b" ") else {
        return Err(Fault::new(rest, Refusal::NoValue, "one space and a value"));
    };
    let (value_token, behind) = word(rest);
    let value = parse_value(rest, value_token)?;
    let mut tail = Tail { value, value_token, timestamp: None, exemplar: None };
    let mut behind = behind;
    if !behind.is_empty() && !behind.starts_with(b" # {") {
        let (timestamp_token, end) = word(&behind[1..]);
        tail.timestamp = Some(number::seconds(timestamp_token).ok_or_else(|| bad_timestamp(&behind[1..]))?);
        behind = end;
    }
    match behind {
        [] => {}
        [b' ', b'#', b' ', exemplar @ ..] if exemplar.starts_with(b"{") => tail.exemplar = Some(exemplar),
        spurious => return Err(Fault::new(spurious, Refusal::Syntax, "the end of the line or ` # {`")),
    }
    Ok(tail)
}

type ParsedExemplar<'b> = (Vec<Label<'b>>, f64, Option<TimestampNs>);

fn parse_exemplar(text: &[u8]) -> Result<ParsedExemplar<'_>, Fault<'_>> {
    let (rest, labels) =
        grammar::exemplar_labels(text).map_err(|fault| Fault { reason: Refusal::InvalidExemplar, ..fault })?;
    let invalid = |at| Fault::new(at, Refusal::InvalidExemplar, "a space, a value and at most a timestamp");
    let (value_token, behind) = word(rest.strip_prefix(b" ").ok_or_else(|| invalid(rest))?);
    let value = number::value(value_token).ok_or_else(|| invalid(rest))?;
    let timestamp = if let [_, behind @ ..] = behind {
        let (timestamp_token, end) = word(behind);
        if !end.is_empty() {
            return Err(invalid(end));
        }
        Some(number::seconds(timestamp_token).ok_or_else(|| invalid(behind))?)
    } else {
        None
    };
    Ok((labels, value, timestamp))
}

#[inline]
fn parse_value<'b>(at: &'b [u8], token: &[u8]) -> Result<f64, Fault<'b>> {
    match number::value(token) {
        Some(value) => Ok(value),
        None if token.is_empty() => Err(Fault::new(at, Refusal::NoValue, "a value")),
        None => Err(Fault::new(at, Refusal::InvalidValue, "a number in range, NaN, +Inf or -Inf")),
    }
}

#[cold]
fn bad_timestamp(at: &[u8]) -> Fault<'_> {
    Fault::new(at, Refusal::InvalidTimestamp, "a timestamp of the format within the years 1677 to 2262")
}

type Metadata<'b> = (std::borrow::Cow<'b, str>, Declaration<'b>);

/// `# HELP name text` or `# TYPE name type`; anything else behind `#` is a comment.
fn text_metadata(line: &[u8]) -> Result<Option<Metadata<'_>>, Fault<'_>> {
    let body = trim_start(&line[1..]);
    let (keyword, rest) = token(body);
    let is_type = keyword == b"TYPE";
    if body.len() + 1 == line.len() || !(is_type || keyword == b"HELP") || rest.is_empty() {
        return Ok(None);
    }
    let (rest, name) = grammar::declared_name(trim_start(rest))?;
    // As Prometheus: one blank is cut, further ones belong to the text, and nothing but blanks is no text.
    let text = if trim_start(rest).is_empty() { b"" } else { &rest[1..] };
    let declaration = match text {
        b"counter" if is_type => Declaration::Type(MetricType::Counter),
        b"gauge" if is_type => Declaration::Type(MetricType::Gauge),
        b"histogram" if is_type => Declaration::Type(MetricType::Histogram),
        b"summary" if is_type => Declaration::Type(MetricType::Summary),
        b"untyped" if is_type => Declaration::Type(MetricType::Unknown),
        _ if is_type => return Err(Fault::new(rest, Refusal::InvalidMetadata, "a metric type of text 0.0.4")),
        text => Declaration::Help(help(rest, text)?),
    };
    Ok(Some((name, declaration)))
}

/// `# HELP name text`, `# TYPE name type` or `# UNIT name unit`; there are no comments.
fn openmetrics_metadata(line: &[u8]) -> Result<Option<Metadata<'_>>, Fault<'_>> {
    let keyword = line.get(..7).unwrap_or_default();
    if !matches!(keyword, b"# HELP " | b"# TYPE " | b"# UNIT ") {
        return Err(Fault::new(line, Refusal::Syntax, "`# HELP `, `# TYPE `, `# UNIT ` or `# EOF`"));
    }
    let (rest, name) = grammar::declared_name(&line[7..])?;
    let Some(text) = rest.strip_prefix(b" ") else {
        return Err(Fault::new(rest, Refusal::InvalidMetadata, "a space behind the name"));
    };
    let declaration = match keyword {
        b"# TYPE " => Declaration::Type(openmetrics_type(text)?),
        b"# HELP " => Declaration::Help(help(rest, text)?),
        _ => {
            let unit = help(rest, text)?;
            let fits = unit.is_empty() || name.strip_suffix(unit).is_some_and(|stem| stem.ends_with('_'));
            if !fits {
                return Err(Fault::new(text, Refusal::InvalidMetadata, "a unit that is the end of the family's name"));
            }
            Declaration::Unit(unit)
        }
    };
    Ok(Some((name, declaration)))
}

fn openmetrics_type(text: &[u8]) -> Result<MetricType, Fault<'_>> {
    (0..=7)
        .map(MetricType::from_number)
        .find(|metric_type| metric_type.as_str().as_bytes() == text)
        .ok_or_else(|| Fault::new(text, Refusal::InvalidMetadata, "a metric type of OpenMetrics"))
}

fn help<'b>(at: &'b [u8], text: &'b [u8]) -> Result<&'b str, Fault<'b>> {
    std::str::from_utf8(text).map_err(|_| Fault::new(at, Refusal::InvalidUtf8, "text in UTF-8"))
}

/// Lines without their ends; no empty one behind the last end.
struct Lines<'b>(&'b [u8]);

impl<'b> Iterator for Lines<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        if self.0.is_empty() {
            return None;
        }
        let (line, rest) = match memchr::memchr(b'\n', self.0) {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (self.0, &b""[..]),
        };
        self.0 = rest;
        Some(line)
    }
}

#[inline]
fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

/// Up to the next blank, and the rest from it on.
#[inline]
fn token(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len()))
}

/// Up to the next space, and the rest from it on.
#[inline]
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Batch, Format, SeriesTable};

    fn decoded(table: &SeriesTable, flavour: Flavour, body: &str) -> (Report, Batch) {
        let format = if flavour == Flavour::Text { Format::PrometheusText } else { Format::OpenMetrics };
        let mut out = BatchBuilder::new(table, format, Vec::new());
        let report = decode(body.as_bytes(), flavour, &Options { now: 7, timestamp: Some(5) }, &mut out);
        (report, out.finish())
    }

    /// The first refusal: line, column, reason.
    fn refused(flavour: Flavour, body: &str) -> Option<(usize, usize, Refusal)> {
        let table = SeriesTable::default();
        let (report, _) = decoded(&table, flavour, body);
        report.first.first().map(|refused| (refused.line, refused.column, refused.reason))
    }

    #[test]
    fn refusals_have_their_place_and_reason() {
        use Refusal::{
            Body, DuplicateLabel, InvalidExemplar, InvalidLabel, InvalidMetadata, InvalidName, InvalidTimestamp,
            InvalidValue, MissingName, NoValue, Syntax,
        };
        let text = [
            ("ok 1\n0a 1", 2, 1, InvalidName),
            ("a", 1, 2, NoValue),
            ("a{b=\"c\"} x", 1, 10, InvalidValue),
            ("a 1 2 3", 1, 7, Syntax),
            ("a 1 2.5", 1, 5, InvalidTimestamp),
            ("a 1 9223372036855", 1, 5, InvalidTimestamp),
            ("a{b=\"c\" d=\"e\"} 1", 1, 9, Syntax),
            ("a{,} 1", 1, 3, Syntax),
            ("a{b=c} 1", 1, 5, InvalidLabel),
            ("a{b=\"c\",b=\"d\"} 1", 1, 1, DuplicateLabel),
            ("a{__name__=\"b\"} 1", 1, 3, DuplicateLabel),
            ("{b=\"c\"} 1", 1, 1, MissingName),
            ("{\"\"} 1", 1, 2, MissingName),
            ("a{b=\"c\n\"} 1", 1, 5, Syntax),
            ("# TYPE a meh", 1, 9, InvalidMetadata),
            ("ok 1\n \t a x", 2, 6, InvalidValue),
        ];
        for (body, line, column, reason) in text {
            assert_eq!(refused(Flavour::Text, body), Some((line, column, reason)), "{body}");
        }
        let openmetrics = [
            ("a 1\n", 2, 1, Body),
            ("a 1\n# EOF\nb 1\n", 3, 1, Syntax),
            ("a 1 1 # {} 1 z\n# EOF\n", 1, 14, InvalidExemplar),
            ("a{b=\"c\", d=\"e\"} 1\n# EOF\n", 1, 9, Syntax),
            ("# comment\n# EOF\n", 1, 1, Syntax),
            ("# UNIT a s\n# EOF\n", 1, 10, InvalidMetadata),
        ];
        for (body, line, column, reason) in openmetrics {
            assert_eq!(refused(Flavour::OpenMetrics, body), Some((line, column, reason)), "{body}");
        }
    }

    #[test]
    fn keeps_the_good_lines_and_the_time_the_request_gave() {
        let table = SeriesTable::default();
        let (report, batch) = decoded(&table, Flavour::Text, "a 1\nbad line\na 2 -3\n\n# note\na 3");
        assert_eq!((report.accepted, report.refused()), (3, 1));
        let times: Vec<_> = batch.samples.iter().map(|sample| (sample.timestamp, sample.flags.0)).collect();
        assert_eq!(times, [(5, 2), (-3_000_000, 0), (5, 2)]);
    }

    #[test]
    fn a_changed_declaration_makes_a_new_series_and_a_known_one_does_not() {
        let table = SeriesTable::default();
        let body =
            "# HELP a one\n# TYPE a gauge\na 1\n# HELP b x\nb 1\n# HELP a one\na 2\n# HELP a two\na 3\nc 1\na 4\n";
        let (_, batch) = decoded(&table, Flavour::Text, body);
        let ids: Vec<_> = batch.samples.iter().map(|sample| sample.series).collect();
        assert_eq!(ids[0], ids[2]);
        assert_ne!(ids[0], ids[3]);
        assert_eq!(ids[3], ids[5]);
        let helps: Vec<_> =
            ids.iter().map(|id| table.series(*id).unwrap().metadata.clone().map(|m| m.help.clone())).collect();
        assert_eq!(
            helps,
            [Some("one"), Some("x"), Some("one"), Some("two"), None, Some("two")].map(|h| h.map(Box::from))
        );
        let (_, again) = decoded(&table, Flavour::Text, body);
        assert!(again.samples.iter().map(|sample| sample.series).eq(ids), "recognised");
    }

    #[test]
    fn families_without_samples_are_handed_over() {
        let table = SeriesTable::default();
        let (_, batch) = decoded(&table, Flavour::Text, "# TYPE a gauge\n# TYPE b counter\nb 1\n# HELP c d\n");
        let families: Vec<_> = batch.metadata.iter().map(|metadata| &*metadata.family).collect();
        assert_eq!(families, ["a", "c"]);
    }

    #[test]
    fn created_lines_become_start_timestamps_of_their_point() {
        const S: i64 = 1_000_000_000;
        let body = "# TYPE c counter\nc_total 1\nc_created 1\nc_total{a=\"b\"} 1\nc_created{a=\"b\"} 2.5\nc_total{le=\"x\"} 1\n\
            # TYPE h histogram\nh_created{x=\"y\"} 4\nh_bucket{le=\"1\",x=\"y\"} 1\nh_bucket{x=\"y\",le=\"+Inf\"} 1\n\
            # TYPE s summary\ns_count 1\ns_created 5\ns{quantile=\"0.5\"} 1\n\
            # TYPE g_created gauge\ng_created 9\n# TYPE k counter\nk_created 9\n# EOF\n";
        let table = SeriesTable::default();
        for _ in 0..2 {
            let (report, batch) = decoded(&table, Flavour::OpenMetrics, body);
            assert_eq!(report.refused(), 0);
            let starts: Vec<_> = (0..batch.samples.len()).map(|index| batch.start_of(index)).collect();
            let expected =
                [Some(S), Some(5 * S / 2), None, Some(4 * S), Some(4 * S), Some(5 * S), Some(5 * S), None, None];
            assert_eq!(starts, expected);
            assert_eq!(report.accepted, 9, "a `_created` without samples stays one");
        }
    }
}
