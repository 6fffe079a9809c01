//! InfluxDB as a destination: write URLs of versions 1, 2 and 3, and the meaning of their answers.

use super::verdict::{Answer, Refused, Verdict};
use crate::config;

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
/// * A 400 or 422 that speaks of a partial write kept every other line and says how many it dropped (versions 1 and 2) or
///   which (version 3); any other is searched by halves.
/// * 401, 403 and 404 are mistakes of configuration (token, database): the samples wait in the log until it is mended.
pub fn verdict(answer: &Answer) -> Verdict {
    match answer.status {
        400 | 422 => partial_write(&answer.body).map_or(Verdict::Suspect, Verdict::PartlyRefused),
        401 | 403 | 404 => Verdict::Retry { after: answer.retry_after },
        _ => Verdict::in_general(answer),
    }
}

/// What a partial write dropped, in any of the three dialects. `dropped=0` is what version 1 says when a line did not
/// parse: nothing useful, so the halves have to show it. The number stands at the end: before it, the text may quote a line.
fn partial_write(body: &str) -> Option<Refused> {
    let json: serde_json::Value = serde_json::from_str(body).ok()?;
    let text = json.get("error").or_else(|| json.get("message"))?.as_str()?;
    let text = text.strip_prefix("failure writing points to database: ").unwrap_or(text);
    if !text.starts_with("partial write") {
        return None;
    }
    if let Some(lines) = json.get("data").and_then(serde_json::Value::as_array) {
        let numbers = lines.iter().map(|line| line.get("line_number")?.as_u64()).collect::<Option<Vec<_>>>()?;
        return (!numbers.is_empty()).then_some(Refused::LineNumbers(numbers));
    }
    let (_, dropped) = text.trim_end().rsplit_once("dropped=")?;
    dropped.parse().ok().filter(|dropped| *dropped > 0).map(Refused::Lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_one_meaning() {
        for status in 100..=599 {
            let expected = match status {
                200..=299 => Verdict::Delivered,
                400 | 422 => Verdict::Suspect,
                413 => Verdict::TooLarge,
                300..=399 | 401 | 403 | 404 | 408 | 425 | 429 | 500..=599 => Verdict::Retry { after: None },
                _ => Verdict::Refused,
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
            (r#"{"error":"partial write: unable to parse 'm dropped=7': missing fields dropped=0"}"#, None),
            (
                r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: points beyond retention policy dropped=2"}"#,
                Some(Refused::Lines(2)),
            ),
            (
                r#"{"error":"partial write of line protocol occurred","data":[{"error_message":"x","line_number":2},{"line_number":3}]}"#,
                Some(Refused::LineNumbers(vec![2, 3])),
            ),
            (r#"{"error":"unable to parse 'partial write dropped=1'"}"#, None),
            (r#"{"error":"database not found"}"#, None),
            ("not JSON", None),
        ];
        for (body, expected) in cases {
            assert_eq!(partial_write(body), expected, "{body}");
        }
    }

    #[test]
    fn write_urls_carry_names_of_any_characters() {
        let v1 =
            config::InfluxApi::V1 { database: "my db".into(), retention_policy: Some("a&b".into()), consistency: None };
        assert_eq!(write_url("http://h:8086/", &v1), "http://h:8086/write?db=my+db&precision=ns&rp=a%26b");
    }
}
