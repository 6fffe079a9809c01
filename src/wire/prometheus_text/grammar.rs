//! The grammar of a series as written, `name{label="value"}` or `{"quoted name", label="value"}`, parsed at first sight.
//!
//! Text 0.0.4 allows blanks between tokens, OpenMetrics does not. A line holds no line end, so neither does a quoted value.

use crate::model::{Label, Refusal};
use nom::branch::alt;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{map, opt, recognize};
use nom::error::{ErrorKind, ParseError};
use nom::multi::separated_list1;
use nom::sequence::{delimited, pair, preceded, terminated};
use nom::{Err, IResult, Parser};
use std::borrow::Cow;

/// Which of the two text formats is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Text exposition 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Where a line is wrong (what is left of it from there), and why.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault<'a> {
    pub(crate) at: &'a [u8],
    pub(crate) reason: Refusal,
    pub(crate) expected: &'static str,
}

impl<'a> Fault<'a> {
    pub(crate) fn new(at: &'a [u8], reason: Refusal, expected: &'static str) -> Self {
        Self { at, reason, expected }
    }
}

impl<'a> ParseError<&'a [u8]> for Fault<'a> {
    fn from_error_kind(at: &'a [u8], _: ErrorKind) -> Self {
        Self::new(at, Refusal::Syntax, "a series")
    }

    fn append(_: &'a [u8], _: ErrorKind, first: Self) -> Self {
        first
    }
}

type Parsed<'a, T> = IResult<&'a [u8], T, Fault<'a>>;

/// A series as written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SeriesText<'a> {
    /// The metric name.
    pub(crate) name: Cow<'a, str>,
    /// Distinct and without empty values.
    pub(crate) labels: Vec<Label<'a>>,
}

enum Item<'a> {
    Name(&'a [u8], Cow<'a, str>),
    Label(&'a [u8], Label<'a>),
}

/// Parses the series at the start of a line; gives what is behind it.
pub(crate) fn series(line: &[u8], flavour: Flavour) -> Result<(&[u8], SeriesText<'_>), Fault<'_>> {
    let blank = move |input| blank(input, flavour);
    let block = preceded(blank, move |input| label_block(input, flavour));
    let (rest, (bare, items)) = pair(opt(metric_name), opt(block)).parse(line).map_err(fault)?;
    if bare.is_none() && items.is_none() {
        return Err(Fault::new(line, Refusal::InvalidName, "a metric name or `{`"));
    }
    let (name, labels) = sort_items(line, bare, items.unwrap_or_default(), Some("__name__"))?;
    Ok((rest, SeriesText { name, labels }))
}

/// Parses the labels of an exemplar, braces included.
pub(crate) fn exemplar_labels(input: &[u8]) -> Result<(&[u8], Vec<Label<'_>>), Fault<'_>> {
    let (rest, items) = label_block(input, Flavour::OpenMetrics).map_err(fault)?;
    let (_, labels) = sort_items(input, Some(b"exemplar"), items, None)?;
    Ok((rest, labels))
}

/// Parses a metric name, quoted or not, as metadata lines have it.
pub(crate) fn declared_name(input: &[u8]) -> Result<(&[u8], Cow<'_, str>), Fault<'_>> {
    let quoted_name = |input| quoted(input, Refusal::InvalidName);
    alt((map(metric_name, ascii), quoted_name)).parse(input).map_err(|error| match error {
        Err::Error(_) => Fault::new(input, Refusal::InvalidMetadata, "a metric name"),
        other => fault(other),
    })
}

/// The name of the metric and the labels, of which `reserved` says the name over again.
fn sort_items<'a>(
    line: &'a [u8],
    bare: Option<&'a [u8]>,
    items: Vec<Item<'a>>,
    reserved: Option<&str>,
) -> Result<(Cow<'a, str>, Vec<Label<'a>>), Fault<'a>> {
    let mut name = bare.map(ascii);
    let mut labels: Vec<Label<'a>> = Vec::with_capacity(items.len());
    for item in items {
        match item {
            Item::Name(at, _) if name.is_some() => {
                return Err(Fault::new(at, Refusal::Syntax, "`=` behind a label name, or one metric name only"));
            }
            Item::Name(at, quoted) if quoted.is_empty() => {
                return Err(Fault::new(at, Refusal::MissingName, "a metric name that is not empty"));
            }
            Item::Name(_, quoted) => name = Some(quoted),
            Item::Label(at, (label, _)) if label.is_empty() => {
                return Err(Fault::new(at, Refusal::InvalidLabel, "a label name that is not empty"));
            }
            Item::Label(at, (label, _)) if Some(&*label) == reserved => {
                return Err(Fault::new(at, Refusal::DuplicateLabel, "the metric name in front, not as a label too"));
            }
            Item::Label(_, label) => labels.push(label),
        }
    }
    let Some(name) = name else { return Err(Fault::new(line, Refusal::MissingName, "a metric name")) };
    labels.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
    if labels.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(Fault::new(line, Refusal::DuplicateLabel, "each label name once"));
    }
    labels.retain(|(_, value)| !value.is_empty());
    Ok((name, labels))
}

fn label_block(input: &[u8], flavour: Flavour) -> Parsed<'_, Vec<Item<'_>>> {
    let blank = move |input| blank(input, flavour);
    let comma = move |input| delimited(blank, char(','), blank).parse(input);
    let items = terminated(separated_list1(comma, move |input| item(input, flavour)), opt(comma));
    let close = must(preceded(blank, char('}')), Refusal::Syntax, "a label, `,` or `}`");
    let (rest, items) = delimited(pair(char('{'), blank), opt(items), close).parse(input)?;
    Ok((rest, items.unwrap_or_default()))
}

fn item(input: &[u8], flavour: Flavour) -> Parsed<'_, Item<'_>> {
    let blank = move |input| blank(input, flavour);
    let quoted_name = |input| quoted(input, Refusal::InvalidLabel);
    let (rest, name) = alt((map(label_name, ascii), quoted_name)).parse(input)?;
    let label_value =
        must(|input| quoted(input, Refusal::InvalidUtf8), Refusal::InvalidLabel, "a label value in double quotes");
    let (rest, value) = opt(preceded((blank, char('='), blank), label_value)).parse(rest)?;
    match value {
        Some(value) => Ok((rest, Item::Label(input, (name, value)))),
        // A quoted string without a value is the metric name.
        None if input[0] == b'"' => Ok((rest, Item::Name(input, name))),
        None => Err(Err::Failure(Fault::new(rest, Refusal::InvalidLabel, "`=` behind a label name"))),
    }
}

fn metric_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    let first = take_while1(|byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':');
    recognize(pair(first, take_while(|byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')))
        .parse(input)
}

fn label_name(input: &[u8]) -> Parsed<'_, &[u8]> {
    let first = take_while1(|byte: u8| byte.is_ascii_alphabetic() || byte == b'_');
    recognize(pair(first, take_while(|byte: u8| byte.is_ascii_alphanumeric() || byte == b'_'))).parse(input)
}

fn blank(input: &[u8], flavour: Flavour) -> Parsed<'_, &[u8]> {
    take_while(move |byte: u8| flavour == Flavour::Text && matches!(byte, b' ' | b'\t')).parse(input)
}

/// A string in double quotes, unescaped.
fn quoted(input: &[u8], invalid_utf8: Refusal) -> Parsed<'_, Cow<'_, str>> {
    let (inside, _) = char('"').parse(input)?;
    let mut end = 0;
    loop {
        match memchr::memchr2(b'"', b'\\', &inside[end.min(inside.len())..]) {
            Some(at) if inside[end + at] == b'"' => {
                end += at;
                break;
            }
            Some(at) => end += at + 2,
            None => return Err(Err::Failure(Fault::new(input, Refusal::Syntax, "a closing double quote"))),
        }
    }
    let text = std::str::from_utf8(&inside[..end])
        .map_err(|_| Err::Failure(Fault::new(input, invalid_utf8, "text in UTF-8")))?;
    Ok((&inside[end + 1..], unescape(text, true)))
}

/// Replaces `\\`, `\n` and, except in help texts of 0.0.4, `\"`; any other escape stays as it is.
pub(crate) fn unescape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::from(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let (replacement, length) = match rest.as_bytes().get(at + 1) {
            Some(b'\\') => ("\\", 2),
            Some(b'n') => ("\n", 2),
            Some(b'"') if quotes => ("\"", 2),
            _ => ("\\", 1),
        };
        plain.push_str(replacement);
        rest = &rest[at + length..];
    }
    plain.push_str(rest);
    Cow::from(plain)
}

/// Names of the plain alphabet are ASCII.
fn ascii(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}

/// What a parser must find here, or the line is wrong.
fn must<'a, T>(
    mut parser: impl Parser<&'a [u8], Output = T, Error = Fault<'a>>,
    reason: Refusal,
    expected: &'static str,
) -> impl FnMut(&'a [u8]) -> Parsed<'a, T> {
    move |input| {
        parser.parse(input).map_err(|error| match error {
            Err::Error(fault) => Err::Failure(Fault::new(fault.at, reason, expected)),
            other => other,
        })
    }
}

fn fault(error: Err<Fault<'_>>) -> Fault<'_> {
    match error {
        Err::Error(fault) | Err::Failure(fault) => fault,
        Err::Incomplete(_) => Fault::new(b"", Refusal::Syntax, "the rest of the line"),
    }
}
