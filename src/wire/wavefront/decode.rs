//! Wavefront lines to samples.
//!
//! The head of a line (name, value, timestamp) is read for every sample; the tags only at the first sight of a series. What
//! names a series are the bytes of its name and everything behind the timestamp, so a known series costs two hashes and
//! one look-up. A line that names no source is known together with the source it was given.

use super::token::{Token, Tokens, UnmatchedQuote, parse_timestamp, parse_value, trim};
use super::validate::{Kind, Limits, Violation, is_all_blank, validate_centroids, validate_series, validate_value};
use crate::model::{
    AliasHash, BatchBuilder, Centroid, Distribution, Granularity, Label, Refusal, SampleFlags, SeriesId, SeriesSpec,
    TimestampNs, Value,
};
use crate::wire::{Report, quoted};
use std::borrow::Cow;

/// Label under which a point's source is kept.
pub const SOURCE_LABEL: &str = "source";
/// The source of a point when neither its line nor the connection tells one.
pub const UNKNOWN_SOURCE: &str = "unknown";
/// Centroids of one distribution, as the proxy's parser bounds them.
pub const CENTROIDS_MAX: usize = 100;

/// Which lines a body may hold: the parameter `f` of `/report`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Form {
    /// Each line tells by its first characters.
    #[default]
    Auto,
    /// Points only: `f=wavefront`.
    Metrics,
    /// Distributions only: `f=histogram`.
    Histograms,
}

/// How a body is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// For lines without timestamp.
    pub now: TimestampNs,
    /// For lines without source: the sender's address.
    pub default_source: Option<&'a str>,
    /// Tags that give the source, in this order, where there is neither `source` nor `host`. They stay tags.
    pub source_tags: &'a [&'a str],
    /// Which lines are expected.
    pub form: Form,
    /// What a point may be; none judges a line by its grammar alone.
    pub limits: Option<Limits>,
    /// Centroids in one distribution.
    pub centroids_max: usize,
    /// Whether a tag without value is left out, rather than its line refused as the proxy does (WF-414).
    pub drops_blank_tags: bool,
}

impl Options<'_> {
    /// The proxy's own defaults, at that time.
    pub const fn at(now: TimestampNs) -> Self {
        Options {
            now,
            default_source: None,
            source_tags: &["fqdn"],
            form: Form::Auto,
            limits: Some(Limits::PROXY),
            centroids_max: CENTROIDS_MAX,
            drops_blank_tags: false,
        }
    }
}

/// Name, tags, and the source if the line tells one.
type Named<'a> = (Cow<'a, str>, Vec<Label<'a>>, Option<Cow<'a, str>>);

const A_NAME: &str = "a name";
const A_VALUE: &str = "a value";

/// Why a line was not taken: what was expected and what was found, with the proxy's code.
#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("WF-300: expected a closing quote, found the end of the line")]
    UnmatchedQuote,
    #[error("expected UTF-8, found other bytes")]
    NotUtf8,
    #[error("WF-300: expected {0}, found the end of the line")]
    Missing(&'static str),
    #[error("WF-300: expected {0}, found \"\"")]
    Empty(&'static str),
    #[error("WF-300: expected a centroid (#count mean), found {0}")]
    NoCentroid(String),
    #[error("WF-300: expected = behind the tag key {key}, found {found}")]
    MissingEquals { key: String, found: String },
    #[error("WF-300: expected a number, found {0}")]
    Value(String),
    #[error("WF-300: expected a timestamp within the years 1970 to 2262, found {0}")]
    Timestamp(String),
    #[error("WF-300: expected !M, !H or !D, found {0}")]
    Bin(String),
    #[error("WF-300: expected a centroid's count in 32 bits, found {0}")]
    CentroidCount(String),
    #[error("WF-300: expected at most {0} centroids, found more")]
    Centroids(usize),
    #[error("expected metrics, found {0}")]
    Unsupported(&'static str),
    #[error("{0}")]
    Violation(#[from] Violation),
    #[error("{0}")]
    Denied(#[from] crate::model::Denied),
}

impl LineError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NotUtf8 => Refusal::InvalidUtf8,
            Self::Missing(A_NAME) | Self::Empty(A_NAME) => Refusal::MissingName,
            Self::Missing(A_VALUE) => Refusal::NoValue,
            Self::UnmatchedQuote
            | Self::Missing(_)
            | Self::Empty(_)
            | Self::NoCentroid(_)
            | Self::MissingEquals { .. }
            | Self::Bin(_) => Refusal::Syntax,
            Self::Value(_) => Refusal::InvalidValue,
            Self::Timestamp(_) => Refusal::InvalidTimestamp,
            Self::CentroidCount(_) | Self::Centroids(_) => Refusal::InvalidHistogram,
            Self::Unsupported(_) => Refusal::Unsupported,
            Self::Violation(violation) => violation.refusal(),
            Self::Denied(denied) => denied.refusal(),
        }
    }
}

impl From<UnmatchedQuote> for LineError {
    fn from(_: UnmatchedQuote) -> Self {
        Self::UnmatchedQuote
    }
}

/// Decodes the lines of a body; each is judged alone.
pub fn decode(body: &[u8], options: &Options<'_>, out: &mut BatchBuilder<'_>) -> Report {
    let mut report = Report::default();
    let mut decoder = Decoder::new(options, out);
    let mut start = 0;
    let mut number = 0;
    while start < body.len() {
        let end = memchr::memchr(b'\n', &body[start..]).map_or(body.len(), |length| start + length);
        number += 1;
        let raw = &body[start..end];
        let line = trim(raw);
        start = end + 1;
        if line.is_empty() {
            continue;
        }
        let mut tokens = Tokens::new(line);
        match decoder.line(line, &mut tokens, out) {
            Ok(()) => report.accepted += 1,
            Err(error) => {
                // What a whole point violates is blamed on its name.
                let violates = matches!(error, LineError::Violation(_) | LineError::Empty(A_NAME));
                let blanks = raw.iter().take_while(|byte| **byte <= b' ').count();
                let place = blanks + if violates { 1 } else { tokens.column() };
                report.refuse(1, number, place, error.refusal(), || format!("{error}: {}", quoted(line)));
            }
        }
    }
    report
}

struct Decoder<'o> {
    options: &'o Options<'o>,
    /// Begins the aliases of points; what the options decide about a series is part of it.
    points: AliasHash,
    distributions: AliasHash,
    /// Ends the aliases of lines that name no source.
    default_source: AliasHash,
    scratch: Distribution,
}

impl<'o> Decoder<'o> {
    fn new(options: &'o Options<'o>, out: &BatchBuilder<'_>) -> Self {
        let rules = format!("{:?} {:?}", options.limits, options.source_tags);
        let rules = out.alias(rules.as_bytes());
        Self {
            options,
            points: rules.then(out.hash(b"point")),
            distributions: rules.then(out.hash(b"distribution")),
            default_source: out.hash(options.default_source.unwrap_or(UNKNOWN_SOURCE).as_bytes()),
            scratch: Distribution { granularity: Granularity::Minute, centroids: Vec::new() },
        }
    }

    #[inline]
    fn line(&mut self, line: &[u8], tokens: &mut Tokens<'_>, out: &mut BatchBuilder<'_>) -> Result<(), LineError> {
        match line[0] {
            b'@' | b'{' | b'[' => Err(LineError::Unsupported(kind_of_unsupported(line[0]))),
            _ if self.options.form == Form::Histograms => self.distribution(tokens, out),
            b'!' if self.options.form == Form::Auto && is_distribution(line) => self.distribution(tokens, out),
            _ => self.point(tokens, out),
        }
    }

    #[inline]
    fn point(&mut self, tokens: &mut Tokens<'_>, out: &mut BatchBuilder<'_>) -> Result<(), LineError> {
        let name = tokens.next()?.ok_or(LineError::Missing(A_NAME))?;
        let value = tokens.next()?.ok_or(LineError::Missing(A_VALUE))?;
        let value = parse_value(value.number()).ok_or_else(|| LineError::Value(quoted(value.raw)))?;
        let (timestamp, flags) = self.timestamp(tokens)?;
        let tags = tokens.rest();
        if self.options.limits.is_some()
            && let Err(violation) = validate_value(is_delta(&name), value)
        {
            return Err(self.blame(Kind::Point, violation, Some(name), tokens));
        }
        let alias = self.points.then(out.hash(name.raw)).then(out.hash(tags));
        let series = match self.recognise(alias, out) {
            Some(series) => series,
            None => self.first_sight(Kind::Point, alias, &name, tokens, out)?,
        };
        out.push(series, timestamp, Value::F64(value), flags);
        Ok(())
    }

    fn distribution(&mut self, tokens: &mut Tokens<'_>, out: &mut BatchBuilder<'_>) -> Result<(), LineError> {
        let bin = tokens.next()?.ok_or(LineError::Missing("!M, !H or !D"))?;
        self.scratch.granularity = match bin.number() {
            b"!M" => Granularity::Minute,
            b"!H" => Granularity::Hour,
            b"!D" => Granularity::Day,
            _ => return Err(LineError::Bin(quoted(bin.raw))),
        };
        let (timestamp, flags) = self.timestamp(tokens)?;
        self.centroids(tokens)?;
        if self.options.limits.is_some()
            && let Err(violation) = validate_centroids(&self.scratch.centroids)
        {
            return Err(self.blame(Kind::Distribution, violation, None, tokens));
        }
        let named = tokens.rest();
        let alias = self.distributions.then(out.hash(named));
        let series = if let Some(series) = self.recognise(alias, out) {
            series
        } else {
            let name = tokens.next()?.ok_or(LineError::Missing(A_NAME))?;
            self.first_sight(Kind::Distribution, alias, &name, tokens, out)?
        };
        let start = bin_start(timestamp, self.scratch.granularity);
        out.push(series, start, Value::Distribution(&self.scratch), flags);
        Ok(())
    }

    fn centroids(&mut self, tokens: &mut Tokens<'_>) -> Result<(), LineError> {
        self.scratch.centroids.clear();
        while tokens.take(b'#') {
            if self.scratch.centroids.len() == self.options.centroids_max {
                return Err(LineError::Centroids(self.options.centroids_max));
            }
            let count = tokens.next()?.ok_or(LineError::Missing("a centroid's count"))?;
            let count = std::str::from_utf8(count.number())
                .ok()
                .and_then(|count| count.parse().ok())
                .ok_or_else(|| LineError::CentroidCount(quoted(count.raw)))?;
            let mean = tokens.next()?.ok_or(LineError::Missing("a centroid's mean"))?;
            let mean = parse_value(mean.number()).ok_or_else(|| LineError::Value(quoted(mean.raw)))?;
            self.scratch.centroids.push(Centroid { count, mean });
        }
        if self.scratch.centroids.is_empty() { Err(LineError::NoCentroid(found(tokens.rest()))) } else { Ok(()) }
    }

    #[inline]
    fn timestamp(&self, tokens: &mut Tokens<'_>) -> Result<(TimestampNs, SampleFlags), LineError> {
        tokens.rest();
        let mut ahead = *tokens;
        match ahead.next()? {
            Some(token) if token.begins_with_digit() => {
                *tokens = ahead;
                let timestamp = parse_timestamp(token.number());
                let timestamp = timestamp.ok_or_else(|| LineError::Timestamp(quoted(token.raw)))?;
                Ok((timestamp, SampleFlags::NONE))
            }
            _ => Ok((self.options.now, SampleFlags::TIMESTAMP_IMPLICIT)),
        }
    }

    #[inline]
    fn recognise(&self, alias: AliasHash, out: &BatchBuilder<'_>) -> Option<SeriesId> {
        out.recognise(alias).or_else(|| out.recognise(alias.then(self.default_source)))
    }

    #[cold]
    fn first_sight<'a>(
        &self,
        kind: Kind,
        alias: AliasHash,
        name: &Token<'a>,
        tokens: &mut Tokens<'a>,
        out: &BatchBuilder<'_>,
    ) -> Result<SeriesId, LineError> {
        let (name, mut labels, named_source) = self.named(kind, name, tokens)?;
        let alias = if named_source.is_some() { alias } else { alias.then(self.default_source) };
        let source = named_source.unwrap_or_else(|| self.given_source());
        labels.push((Cow::from(SOURCE_LABEL), source));
        labels.retain(|(_, value)| !value.is_empty());
        Ok(out.define(alias, SeriesSpec { measurement: &name, field: None, labels, metadata: None })?)
    }

    /// Reads and judges what names a series: its name, its tags, and its source where the line tells one.
    fn named<'a>(&self, kind: Kind, name: &Token<'a>, tokens: &mut Tokens<'a>) -> Result<Named<'a>, LineError> {
        let name = name.text().ok_or(LineError::NotUtf8)?;
        if name.is_empty() {
            return Err(LineError::Empty(A_NAME));
        }
        let mut labels = parse_tags(tokens)?;
        if self.options.drops_blank_tags {
            labels.retain(|(key, value)| key == SOURCE_LABEL || !is_all_blank(value));
        }
        let source = take_source(&mut labels, self.options.source_tags);
        if let Some(limits) = &self.options.limits {
            validate_series(kind, &name, source.as_deref().unwrap_or(&self.given_source()), &labels, limits)?;
        }
        Ok((name, labels, source))
    }

    /// The source of a line that tells none.
    fn given_source<'a>(&self) -> Cow<'a, str>
    where
        'o: 'a,
    {
        Cow::from(self.options.default_source.unwrap_or(UNKNOWN_SOURCE))
    }

    /// What is wrong with a line whose value is: the proxy judges grammar, names and tags first.
    #[cold]
    fn blame<'a>(&self, kind: Kind, value: Violation, name: Option<Token<'a>>, tokens: &mut Tokens<'a>) -> LineError {
        let name = match name.map_or_else(|| tokens.next(), |name| Ok(Some(name))) {
            Ok(Some(name)) => name,
            Ok(None) => return LineError::Missing(A_NAME),
            Err(unmatched) => return unmatched.into(),
        };
        self.named(kind, &name, tokens).err().unwrap_or(LineError::Violation(value))
    }
}

/// What stands there instead of what was expected.
fn found(rest: &[u8]) -> String {
    if rest.is_empty() { "the end of the line".to_owned() } else { quoted(rest) }
}

/// Tags up to the end of the line; of a key that comes twice, the last value.
fn parse_tags<'a>(tokens: &mut Tokens<'a>) -> Result<Vec<Label<'a>>, LineError> {
    let mut tags: Vec<Label<'a>> = Vec::new();
    while let Some(key) = tokens.next()? {
        let key_text = key.text().ok_or(LineError::NotUtf8)?;
        if key_text.is_empty() {
            return Err(LineError::Empty("a tag key"));
        }
        if !tokens.take(b'=') {
            return Err(LineError::MissingEquals { key: quoted(key.raw), found: found(tokens.rest()) });
        }
        let value = tokens.next()?.ok_or(LineError::Missing("a tag value"))?;
        tags.push((key_text, value.text().ok_or(LineError::NotUtf8)?));
    }
    Ok(last_of_each_key(tags))
}

fn last_of_each_key(mut tags: Vec<Label<'_>>) -> Vec<Label<'_>> {
    tags.reverse();
    tags.sort_by(|(left, _), (right, _)| left.cmp(right));
    tags.dedup_by(|(later, _), (first, _)| later == first);
    tags
}

/// Takes the source out of the tags: `source`, else `host`, else a copy of the first of the source tags. A `host` beside a
/// `source` becomes `_host`, and `tag` becomes `_tag`.
fn take_source<'a>(tags: &mut Vec<Label<'a>>, source_tags: &[&str]) -> Option<Cow<'a, str>> {
    let source = take(tags, "source");
    let host = take(tags, "host");
    if let Some(value) = take(tags, "tag") {
        put(tags, "_tag", value);
    }
    match (source, host) {
        (Some(source), Some(host)) => {
            put(tags, "_host", host);
            Some(source)
        }
        (Some(source), None) | (None, Some(source)) => Some(source),
        (None, None) => {
            let mut found = source_tags.iter().filter_map(|wanted| tags.iter().find(|(key, _)| key == wanted));
            found.next().map(|(_, value)| value.clone())
        }
    }
}

fn take<'a>(tags: &mut Vec<Label<'a>>, key: &str) -> Option<Cow<'a, str>> {
    let at = tags.iter().position(|(other, _)| other == key)?;
    Some(tags.swap_remove(at).1)
}

fn put<'a>(tags: &mut Vec<Label<'a>>, key: &'static str, value: Cow<'a, str>) {
    take(tags, key);
    tags.push((Cow::from(key), value));
}

fn is_delta(name: &Token<'_>) -> bool {
    name.number().starts_with("∆".as_bytes()) || name.number().starts_with("Δ".as_bytes())
}

fn is_distribution(line: &[u8]) -> bool {
    matches!(line, [b'!', b'M' | b'H' | b'D', b' ', ..])
}

const fn kind_of_unsupported(first: u8) -> &'static str {
    match first {
        b'@' => "events and source tags",
        b'{' => "span logs",
        _ => "log arrays",
    }
}

/// The start of the minute, hour or day.
fn bin_start(timestamp: TimestampNs, granularity: Granularity) -> TimestampNs {
    const SECOND: i64 = 1_000_000_000;
    let width = match granularity {
        Granularity::Minute => 60 * SECOND,
        Granularity::Hour => 3_600 * SECOND,
        Granularity::Day => 86_400 * SECOND,
    };
    timestamp.saturating_sub(timestamp.rem_euclid(width))
}
