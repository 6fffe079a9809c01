//! The walk over a body's lines, for both text formats.
//!
//! A sample's line is first taken on trust: its series is guessed to be the one that came behind the last one before, then to
//! end at the last `}`, and looked up by its bytes. Only bytes that once were parsed as a whole series are known, so a hit
//! proves the guess; a miss is parsed with care. Where the first guess is right and the line ends behind an ordinary number
//! and timestamp, nothing is looked for: neither the end of the series nor that of the line.

mod created;
mod metadata;
mod tail;
#[cfg(test)]
mod tests;
mod words;

use super::decode::Options;
use super::families::{Families, FamilyIndex};
use super::grammar::{self, Fault, Flavour};
use super::number;
use crate::model::{AliasHash, BatchBuilder, Exemplar, Refusal, SampleFlags, SeriesId, SeriesSpec, TimestampNs, Value};
use crate::wire::{Report, quoted};
use created::{Point, PointKind, Starts, label_block};
use metadata::{Metadata, openmetrics_metadata, text_metadata};
use tail::{Stamp, Tail, glance, openmetrics_tail, parse_exemplar, text_tail};
use words::{Lines, trim_start};

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
        named: Named::default(),
        stamp: Stamp::default(),
    };
    match flavour {
        Flavour::Text => decoder.text(body),
        Flavour::OpenMetrics => decoder.openmetrics(body),
    }
    decoder.settle();
    decoder.families.finish(decoder.out);
    decoder.report
}

/// A sample whose series is known.
struct Known<'b> {
    series: SeriesId,
    family: Option<FamilyIndex>,
    tail: Tail<'b>,
    /// Where the series ends in the line.
    end: usize,
}

/// A metric name and what follows from it until the next declaration: the samples of a name stand together.
#[derive(Clone, Copy, Default)]
struct Named<'b> {
    /// The beginning of a line, up to what ends the name; empty before the first one.
    head: &'b [u8],
    family: Option<FamilyIndex>,
    /// Whether its lines are to become start timestamps.
    folds: bool,
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
    named: Named<'b>,
    /// The timestamp read last.
    stamp: Stamp<'b>,
}

impl<'b> Decoder<'b, '_, '_> {
    fn text(&mut self, body: &'b [u8]) {
        let mut lines = Lines::new(body);
        while let Some(line) = self.unexpected(&mut lines) {
            let length = line.len();
            let line = trim_start(line);
            self.indent = length - line.len();
            match line.first() {
                None => {}
                Some(b'#') => self.declare(line, lines.number, text_metadata(line)),
                Some(_) => self.sample(line, lines.number),
            }
        }
    }

    fn openmetrics(&mut self, body: &'b [u8]) {
        let mut lines = Lines::new(body);
        while let Some(line) = self.unexpected(&mut lines) {
            let number = lines.number;
            match line.first() {
                Some(b'#') if line == b"# EOF" => {
                    let Some(first) = lines.next() else { return };
                    let message = || format!("expected the end of the body behind `# EOF`, found {}", quoted(first));
                    self.report.refuse(1 + lines.count() as u64, number + 1, 1, Refusal::Syntax, message);
                    return;
                }
                Some(b'#') => self.declare(line, number, openmetrics_metadata(line)),
                _ => self.sample(line, number),
            }
        }
        let message = || "expected `# EOF`, found the end of the body".to_owned();
        self.report.refuse(1, lines.number + 1, 1, Refusal::Body, message);
    }

    /// Takes the samples of expected series and gives the first line that is none.
    #[inline]
    fn unexpected(&mut self, lines: &mut Lines<'b>) -> Option<&'b [u8]> {
        while let Some((known, length)) = self.expected(lines.rest) {
            let line = &lines.rest[..length];
            lines.pass(length);
            self.push(&known, line, lines.number);
        }
        lines.next()
    }

    /// The sample of the first line and the line's length, if it is of the series that came behind the last one before, in its
    /// most ordinary form. Everything is read before the series is asked for: an answer leads on to the next.
    #[inline]
    fn expected(&mut self, rest: &'b [u8]) -> Option<(Known<'b>, usize)> {
        let end = self.out.expected_len().filter(|end| *end > 0)?;
        let (tail, behind) = glance(rest.get(end..)?, self.flavour, &mut self.stamp)?;
        let named = self.named(&rest[..=end]).filter(|named| !named.folds)?;
        let alias = self.alias(&rest[..end], named.family);
        let known = Known { series: self.out.expected(alias)?, family: named.family, tail, end };
        Some((known, end + behind))
    }

    fn declare(&mut self, line: &'b [u8], number: usize, parsed: Result<Option<Metadata<'b>>, Fault<'b>>) {
        match parsed {
            Ok(None) => {}
            Ok(Some((name, declaration))) => {
                self.settle();
                self.named = Named::default();
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
        let named = self.named(line).filter(|named| !named.folds)?;
        let end = if self.flavour == Flavour::OpenMetrics && memchr::memchr(b'#', line).is_some() {
            return None;
        } else {
            memchr::memrchr(b'}', line).map_or(named.head.len() - 1, |at| at + 1)
        };
        let tail = self.tail(&line[end..]).ok()?;
        let alias = self.alias(&line[..end], named.family);
        Some(Known { series: self.out.recognise(alias)?, family: named.family, tail, end })
    }

    #[inline]
    fn alias(&mut self, series: &[u8], family: Option<FamilyIndex>) -> AliasHash {
        let alias = self.out.alias(series);
        family.map_or(alias, |family| alias.then(self.families.hash(family, self.out)))
    }

    /// What follows from the name at the beginning of a line; none where it takes more than a glance to tell.
    #[inline]
    fn named(&mut self, line: &'b [u8]) -> Option<Named<'b>> {
        if self.named.head.is_empty() || !line.starts_with(self.named.head) {
            let name_end = line.iter().position(|byte| matches!(byte, b'{' | b' ' | b'\t'))?;
            let (name, head) = if name_end == 0 { quoted_name(line)? } else { (&line[..name_end], &line[..=name_end]) };
            let family = self.families.of(name);
            let folds = family.is_some_and(|family| self.folds(family, name));
            self.named = Named { head, family, folds };
        }
        Some(self.named)
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
            let sample = Some(self.out.samples() as u32 - 1);
            self.out.exemplar(Exemplar { series: id, sample, labels, value, timestamp });
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

    /// Ends a family: gives its samples the start timestamps that its `_created` lines tell. A `_created` line without any
    /// sample becomes one.
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
        let Starts { starts, used } = Starts::of(points, label, self.out);
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

/// The metric name of `{"name",...}`, if it stands first and without escapes, and the line up to what is behind its quotes.
fn quoted_name(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let inside = line.strip_prefix(b"{\"")?;
    let name = &inside[..memchr::memchr2(b'"', b'\\', inside)?];
    matches!(inside.get(name.len()..)?, [b'"', b',' | b'}', ..]).then(|| (name, &line[..name.len() + 4]))
}
