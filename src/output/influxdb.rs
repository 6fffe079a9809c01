//! InfluxDB as a destination: write URLs of versions 1, 2 and 3, and the meaning of their answers.

use super::search::{Named, Pieces};
use super::verdict::{Answer, Refused, Verdict};
use crate::config;
use crate::wire::Body;
use memchr::memmem;
use std::collections::{BTreeSet, HashSet};

/// The write endpoint with its query, timestamps in nanoseconds.
pub fn write_url(base: &str, api: &config::InfluxApi) -> String {
    let base = base.trim_end_matches('/');
    let mut query = form_urlencoded::Serializer::new(String::new());
    let path = match api {
        config::InfluxApi::V1 { database, retention_policy, consistency } => {
            query.append_pair("db", database).append_pair("precision", "ns");
            if let Some(policy) = retention_policy {
                query.append_pair("rp", policy);
            }
            if let Some(consistency) = consistency {
                query.append_pair("consistency", consistency);
            }
            "/write"
        }
        config::InfluxApi::V2 { org, bucket, .. } => {
            query.append_pair("org", org).append_pair("bucket", bucket).append_pair("precision", "ns");
            "/api/v2/write"
        }
        config::InfluxApi::V3 { database, .. } => {
            query
                .append_pair("db", database)
                .append_pair("precision", "nanosecond")
                .append_pair("accept_partial", "true");
            "/api/v3/write_lp"
        }
    };
    format!("{base}{path}?{}", query.finish())
}

/// What an answer means.
///
/// * A 400 or 422 that speaks of a partial write says how many lines it dropped for one reason of perhaps several (versions 1
///   and 2), or which lines, and kept every other (version 3); any other stored nothing. What is not told is searched.
/// * 401, 403 and 404 are mistakes of configuration (token, database), as everywhere.
pub fn verdict(answer: &Answer) -> Verdict {
    match answer.status {
        400 | 422 => partial_write(&answer.body).map_or(Verdict::Suspect, Verdict::Refused),
        _ => Verdict::in_general(answer),
    }
}

/// The sentence in an answer: `error` of versions 1 and 3, `message` of version 2.
fn sentence(json: &serde_json::Value) -> Option<&str> {
    json.get("error").or_else(|| json.get("message"))?.as_str()
}

/// What a partial write dropped, in any of the three dialects. With `dropped=0` version 1 says that lines did not parse: it
/// quotes each of them. The number stands at the end: before it, the text may quote a line.
fn partial_write(body: &str) -> Option<Refused> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = sentence(&json)?;
    let text = text.strip_prefix("failure writing points to database: ").unwrap_or(text);
    if !text.starts_with("partial write") {
        return None;
    }
    if let Some(lines) = json.get("data").and_then(serde_json::Value::as_array) {
        let numbers = lines.iter().map(|line| line.get("line_number")?.as_u64()).collect::<Option<Vec<_>>>()?;
        return (!numbers.is_empty()).then_some(Refused::LineNumbers(numbers));
    }
    let (_, dropped) = text.trim_end().rsplit_once("dropped=")?;
    dropped.parse().ok().map(|dropped| if dropped == 0 { Refused::Quoted } else { Refused::Lines(dropped) })
}

/// What stands before each line that a server could not read.
const QUOTES: &str = "unable to parse '";

/// The lines of a request that the text of its answer fits: those it quotes as unreadable, or those with the field whose
/// type it complains of.
pub fn named(body: &Body, pieces: &Pieces, answer: &Answer) -> Named {
    let Ok(json) = serde_json::from_str::<serde_json::Value>(&answer.body) else { return Named::default() };
    let text = sentence(&json).unwrap_or_default();
    let line = |piece: usize| body.run(piece..piece + 1).trim_ascii_end();
    if text.contains(QUOTES) {
        let mut quoted = BTreeSet::new();
        let mut rest = text.as_bytes();
        while let Some(at) = memmem::find(rest, QUOTES.as_bytes()) {
            rest = &rest[at + QUOTES.len()..];
            let stands_here =
                |piece: &usize| rest.strip_prefix(line(*piece)).is_some_and(|rest| rest.starts_with(b"'"));
            let here: Vec<_> = pieces.iter().filter(stands_here).collect();
            // A line may have such words in a string; they quote nothing.
            rest = &rest[here.iter().map(|piece| line(*piece).len()).max().unwrap_or(0)..];
            quoted.extend(here);
        }
        return Named { pieces: quoted.into_iter().collect(), quoted: true, ..Named::default() };
    }
    let conflicts: HashSet<_> = text.split("input field \"").skip(1).filter_map(Conflict::parse).collect();
    if conflicts.is_empty() {
        return Named::default();
    }
    let (fitting, _) = pieces.partition(|piece| conflicts.iter().any(|conflict| conflict.fits(line(piece))));
    Named { pieces: fitting, ..Named::default() }
}

/// `field type conflict: input field "v" on measurement "m" is type float, already exists as type integer`
#[derive(Debug, PartialEq, Eq, Hash)]
struct Conflict {
    /// Escaped as in a line.
    measurement: Vec<u8>,
    field: Vec<u8>,
    kind: String,
}

impl Conflict {
    /// From what follows `input field "`.
    fn parse(text: &str) -> Option<Self> {
        let (field, rest) = text.split_once("\" on measurement \"")?;
        let (measurement, rest) = rest.split_once("\" is type ")?;
        let kind = rest.split([',', ' ']).next()?.to_owned();
        let escaped = |name: &str, which: &[char]| {
            name.chars()
                .flat_map(|character| which.contains(&character).then_some('\\').into_iter().chain([character]))
                .collect()
        };
        let [measurement, field]: [String; 2] = [escaped(measurement, &[',', ' ']), escaped(field, &[',', '=', ' '])];
        Some(Self { measurement: measurement.into(), field: field.into(), kind })
    }

    fn fits(&self, line: &[u8]) -> bool {
        let Some(rest) = line.strip_prefix(self.measurement.as_slice()) else { return false };
        if !matches!(rest.first(), Some(b',' | b' ')) {
            return false;
        }
        // Behind the tags: fields, of which the value may be a string with anything in it.
        let mut rest = rest.get(end_of(rest, b" ") + 1..).unwrap_or_default();
        while !rest.is_empty() {
            let (key, value) = rest.split_at(end_of(rest, b"="));
            let value = value.get(1..).unwrap_or_default();
            let (value, behind) = value.split_at(end_of_value(value));
            if key == self.field.as_slice() && self.kind == kind_of(value) {
                return true;
            }
            if behind.first() != Some(&b',') {
                return false;
            }
            rest = &behind[1..];
        }
        false
    }
}

/// Where the first of these bytes stands that has no backslash before it, or the end.
fn end_of(text: &[u8], ends: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().position(|byte| {
        let found = !escaped && ends.contains(byte);
        escaped = !escaped && *byte == b'\\';
        found
    });
    end.unwrap_or(text.len())
}

/// Where a field's value ends.
fn end_of_value(text: &[u8]) -> usize {
    match text.strip_prefix(b"\"") {
        Some(string) => (end_of(string, b"\"") + 2).min(text.len()),
        None => end_of(text, b", "),
    }
}

/// The type of a field's value, in the server's words.
fn kind_of(value: &[u8]) -> &'static str {
    match (value.first(), value.last()) {
        (Some(b'"'), _) => "string",
        (Some(b't' | b'T' | b'f' | b'F'), _) => "boolean",
        (_, Some(b'i')) => "integer",
        (_, Some(b'u')) => "unsigned",
        _ => "float",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                400 | 409 | 422 => Verdict::Suspect,
                413 => Verdict::TooLarge,
                408 | 425 | 429 | 500..=599 => Verdict::Retry { after: None },
                _ => Verdict::Misconfigured { after: None },
            };
            assert_eq!(verdict(&Answer::status(status)), expected, "{status}");
        }
    }

    #[test]
    fn partial_writes_tell_their_number() {
        let cases = [
            (
                r#"{"error":"partial write: field type conflict: input field \"v\" ... dropped=3"}"#,
                Some(Refused::Lines(3)),
            ),
            (
                r#"{"error":"partial write: unable to parse 'm dropped=7': missing fields dropped=0"}"#,
                Some(Refused::Quoted),
            ),
            (
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=2"}"#,
                Some(Refused::Lines(2)),
            ),
            (
                r#"{"error":"partial write of line protocol occurred","data":[{"error_message":"x","line_number":2},{"line_number":3}]}"#,
                Some(Refused::LineNumbers(vec![2, 3])),
            ),
            (r#"{"error":"partial write of line protocol occurred","data":[]}"#, None),
            (r#"{"error":"partial write of line protocol occurred","data":[{"line_number":2},{}]}"#, None),
            (r#"{"error":"unable to parse 'partial write dropped=1'"}"#, None),
            (r#"{"error":"database not found"}"#, None),
            ("not JSON", None),
        ];
        for (body, expected) in cases {
            assert_eq!(partial_write(body), expected, "{body}");
            for status in [400, 422] {
                let answer = Answer { body: body.to_owned(), ..Answer::status(status) };
                assert_eq!(verdict(&answer), expected.clone().map_or(Verdict::Suspect, Verdict::Refused), "{body}");
            }
        }
    }

    #[test]
    fn the_text_of_an_answer_fits_the_lines_it_speaks_of() {
        let lines = [
            "cpu,host=a v=1 1",
            "cpu,host=b v=2i 1",
            "cpu v=\"x\",w=\",v=1.5 \" 1",
            "cpu2 v=1 1",
            "my\\ m,a\\ b=c\\,\\ v=1 w=1i,the\\ v=t 1",
            "cpu w=1",
            "cpu w=1u",
            "cpu s=\"unable to parse 'cpu2 v=1 1'\" 1",
        ];
        let mut body = Body::default();
        for line in lines {
            body.bytes.extend_from_slice(format!("{line}\n").as_bytes());
            body.cut(1);
        }
        let conflict = |field: &str, measurement: &str, kind: &str| {
            let text = format!(
                "partial write: field type conflict: input field \"{field}\" on measurement \"{measurement}\" is type {kind}, already exists as type x dropped=1"
            );
            serde_json::json!({ "error": text }).to_string()
        };
        let quoted =
            |line: &str| serde_json::json!({ "message": format!("unable to parse '{line}': bad") }).to_string();
        let cases = [
            (conflict("v", "cpu", "float"), vec![0], false),
            (conflict("v", "cpu", "integer"), vec![1], false),
            (conflict("v", "cpu", "string"), vec![2], false),
            (conflict("w", "cpu", "string"), vec![2], false),
            (conflict("w", "cpu", "float"), vec![5], false),
            (conflict("w", "cpu", "unsigned"), vec![6], false),
            (conflict("the v", "my m", "boolean"), vec![4], false),
            (conflict("v", "my", "float"), vec![], false),
            (quoted("cpu2 v=1 1"), vec![3], true),
            (quoted("cpu2 v=1"), vec![], true),
            (quoted("cpu s=\"unable to parse 'cpu2 v=1 1'\" 1"), vec![7], true),
            (quoted("cpu w=1': bad\nunable to parse 'cpu2 v=1 1"), vec![3, 5], true),
            (serde_json::json!({ "error": "timeout" }).to_string(), vec![], false),
            ("not JSON".to_owned(), vec![], false),
        ];
        for (text, expected, is_quoted) in cases {
            let answer = Answer { body: text.clone(), ..Answer::status(400) };
            let Named { pieces, quoted, .. } = named(&body, &Pieces::all(&body), &answer);
            assert_eq!((pieces.iter().collect::<Vec<_>>(), quoted), (expected, is_quoted), "{text}");
        }
    }

    #[test]
    fn write_urls_carry_names_of_any_characters() {
        let v1 =
            config::InfluxApi::V1 { database: "my db".into(), retention_policy: Some("a&b".into()), consistency: None };
        assert_eq!(write_url("http://h:8086/", &v1), "http://h:8086/write?db=my+db&precision=ns&rp=a%26b");
        let v1 =
            config::InfluxApi::V1 { database: "d".into(), retention_policy: None, consistency: Some("all".into()) };
        assert_eq!(write_url("http://h:8086", &v1), "http://h:8086/write?db=d&precision=ns&consistency=all");
    }
}
