//! Lines that begin with `#` to what they declare of a family.

use super::words::{token, trim_start};
use crate::model::{MetricType, Refusal};
use crate::wire::prometheus_text::families::Declaration;
use crate::wire::prometheus_text::grammar::{self, Fault};
use std::borrow::Cow;

pub(super) type Metadata<'b> = (Cow<'b, str>, Declaration<'b>);

/// `# HELP name text` or `# TYPE name type`; anything else behind `#` is a comment.
pub(super) fn text_metadata(line: &[u8]) -> Result<Option<Metadata<'_>>, Fault<'_>> {
    let body = trim_start(&line[1..]);
    let (keyword, rest) = token(body);
    let is_type = keyword == b"TYPE";
    if body.len() + 1 == line.len() || !(is_type || keyword == b"HELP") || rest.is_empty() {
        return Ok(None);
    }
    let (rest, name) = grammar::declared_name(trim_start(rest))?;
    // As Prometheus: one blank is cut, further ones belong to the text, and nothing but blanks is no text.
    let text = rest.get(1..).filter(|text| !trim_start(text).is_empty()).unwrap_or_default();
    let declaration = match text {
        b"counter" if is_type => Declaration::Type(MetricType::Counter),
        b"gauge" if is_type => Declaration::Type(MetricType::Gauge),
        b"histogram" if is_type => Declaration::Type(MetricType::Histogram),
        b"summary" if is_type => Declaration::Type(MetricType::Summary),
        b"untyped" if is_type => Declaration::Type(MetricType::Unknown),
        _ if is_type => return Err(Fault::new(rest, Refusal::InvalidMetadata, "a metric type of text 0.0.4")),
        text => Declaration::Help(help(rest, text)?),
    };
    Ok(declared(name, declaration))
}

/// `# HELP name text`, `# TYPE name type` or `# UNIT name unit`; there are no comments.
pub(super) fn openmetrics_metadata(line: &[u8]) -> Result<Option<Metadata<'_>>, Fault<'_>> {
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
    Ok(declared(name, declaration))
}

/// Prometheus takes a declaration of `""`, which no family can have as its name: it declares nothing.
fn declared<'b>(name: Cow<'b, str>, declaration: Declaration<'b>) -> Option<Metadata<'b>> {
    if name.is_empty() { None } else { Some((name, declaration)) }
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
