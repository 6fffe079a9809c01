//! InfluxDB's write endpoints: `/write` of 1.x, `/api/v2/write`, `/api/v3/write_lp`, and the pages clients look at first.
//!
//! All three take line protocol and keep the good lines of a body (3.x can be asked not to). They differ in how a unit of
//! time is spelled and in how a refusal is phrased; clients parse both. Database, bucket, organisation and retention policy
//! are checked for presence only where InfluxDB would miss them: the gateway stores nothing, outputs name their own.

use super::Gate;
use super::answer::{Answer, COME_AGAIN, come_again, empty, json, refusals};
use super::decoder::Decoder;
use super::intake::{Delivery, IntakeError, Taken};
use super::parameters::Parameters;
use super::prometheus::text_encoding;
use crate::model::Format;
use crate::wire::influx_line::decode::Precision;
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request, StatusCode};
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

/// The version clients are told: they parse it, and choose 1.x's ways by it.
const INFLUXDB_VERSION: &str = "1.8.10";
const X_INFLUXDB_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const X_INFLUXDB_BUILD: HeaderName = HeaderName::from_static("x-influxdb-build");
const X_INFLUXDB_ERROR: HeaderName = HeaderName::from_static("x-influxdb-error");

/// `/ping`: how clients find out that an InfluxDB is there, and which.
pub(super) fn answer_ping(request: &Request<Incoming>) -> Answer {
    let parameters = Parameters::parse(request.uri().query().unwrap_or_default().as_bytes());
    branded(match parameters.truth("verbose", false) {
        Some(true) => json(StatusCode::OK, &json!({ "version": INFLUXDB_VERSION })),
        _ => empty(StatusCode::NO_CONTENT),
    })
}

/// `/health` of 2.x.
pub(super) fn answer_health() -> Answer {
    branded(json(
        StatusCode::OK,
        &json!({
            "name": "influxdb",
            "message": "ready for queries and writes",
            "status": "pass",
            "checks": [],
            "version": INFLUXDB_VERSION,
        }),
    ))
}

/// `/write` of 1.x.
pub(super) async fn answer_v1(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let phrase = |status, message: &str| v1_error(status, message);
    let parameters = parameters(&head);
    if parameters.first("db").is_none() {
        gate.refuse(body, Format::InfluxLine, IntakeError::Corrupt(String::new())).await;
        return v1_error(StatusCode::BAD_REQUEST, "database is required");
    }
    let delivery = match delivery(&head, &parameters, Precision::Nanoseconds, Precision::from_v1, "n, u, ms, s, m or h")
    {
        Ok(delivery) => delivery,
        Err(error) => return gate.refuse(body, Format::InfluxLine, error).await.answer(phrase),
    };
    match gate.take(peer, body, delivery).await {
        Ok(taken) => branded(phrase_v1(&taken)),
        Err(error) => error.answer(phrase),
    }
}

fn phrase_v1(taken: &Taken) -> Answer {
    let report = &taken.report;
    if report.refused() == 0 {
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(limit) = taken.series_limit() {
        return come_again(v1_error(StatusCode::TOO_MANY_REQUESTS, limit), COME_AGAIN);
    }
    v1_error(StatusCode::BAD_REQUEST, &format!("{} dropped={}", unable(taken), report.refused()))
}

/// What could not be read, with the lines themselves: who reads this in the log of an application never saw its body.
fn unable(taken: &Taken) -> String {
    let report = &taken.report;
    let what = if report.accepted > 0 { "partial write: unable to parse" } else { "unable to parse" };
    let mut quotes = taken.quotes.iter();
    let lines = refusals(report, "line").into_iter().map(|refused| match quotes.next() {
        Some(line) => format!("{refused}: '{line}'"),
        None => refused,
    });
    format!("{what} {}", lines.collect::<Vec<_>>().join("; "))
}

/// A refusal as 1.x phrases it: in the body and in a header.
pub(super) fn v1_error(status: StatusCode, message: &str) -> Answer {
    let mut answer = branded(json(status, &json!({ "error": message })));
    let visible: String = message.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if let Ok(value) = HeaderValue::from_str(&visible) {
        answer.headers_mut().insert(X_INFLUXDB_ERROR, value);
    }
    answer
}

/// `/api/v2/write`.
pub(super) async fn answer_v2(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let delivery =
        match delivery(&head, &parameters(&head), Precision::Nanoseconds, Precision::from_v2, "ns, us, ms or s") {
            Ok(delivery) => delivery,
            Err(error) => return gate.refuse(body, Format::InfluxLine, error).await.answer(v2_error),
        };
    match gate.take(peer, body, delivery).await {
        Ok(taken) => phrase_v2(&taken),
        Err(error) => error.answer(v2_error),
    }
}

fn phrase_v2(taken: &Taken) -> Answer {
    let report = &taken.report;
    if report.refused() == 0 {
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(limit) = taken.series_limit() {
        return come_again(v2_error(StatusCode::TOO_MANY_REQUESTS, limit), COME_AGAIN);
    }
    v2_error(StatusCode::BAD_REQUEST, &unable(taken))
}

fn v2_error(status: StatusCode, message: &str) -> Answer {
    let code = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "request too large",
        StatusCode::TOO_MANY_REQUESTS => "too many requests",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "unsupported media type",
        _ => "invalid",
    };
    json(status, &json!({ "code": code, "message": message }))
}

/// `/api/v3/write_lp`. `no_sync` is accepted and makes no difference: the log decides when a sample is safe.
pub(super) async fn answer_v3(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let parameters = parameters(&head);
    let delivery = v3_delivery(&head, &parameters);
    let delivery = match delivery {
        Ok(delivery) => delivery,
        Err(error) => return gate.refuse(body, Format::InfluxLine, error).await.answer(v3_error),
    };
    let all_or_nothing = delivery.all_or_nothing;
    match gate.take(peer, body, delivery).await {
        Ok(taken) => phrase_v3(&taken, all_or_nothing),
        Err(error) => error.answer(v3_error),
    }
}

fn v3_delivery(head: &Parts, parameters: &Parameters) -> Result<Delivery, IntakeError> {
    if parameters.first("db").is_none() {
        return Err(IntakeError::Corrupt("missing query parameter 'db'".to_owned()));
    }
    let truth = |name, default| {
        let meant = parameters.truth(name, default);
        meant.ok_or_else(|| IntakeError::Corrupt(format!("query parameter '{name}' is neither true nor false")))
    };
    truth("no_sync", false)?;
    let units = "auto, nanosecond, microsecond, millisecond or second";
    let mut delivery = delivery(head, parameters, Precision::Auto, Precision::from_v3, units)?;
    delivery.all_or_nothing = !truth("accept_partial", true)?;
    Ok(delivery)
}

fn phrase_v3(taken: &Taken, all_or_nothing: bool) -> Answer {
    let report = &taken.report;
    if report.refused() == 0 {
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(limit) = taken.series_limit() {
        return come_again(v3_error(StatusCode::TOO_MANY_REQUESTS, limit), COME_AGAIN);
    }
    let lines: Vec<_> = report
        .first
        .iter()
        .zip(&taken.quotes)
        .map(|(refused, line)| {
            json!({ "error_message": refused.message, "line_number": refused.line, "original_line": line })
        })
        .collect();
    // InfluxDB 3 stops at the first bad line when it may keep none, and its data is that one line then.
    let body = match lines.first() {
        Some(first) if all_or_nothing => json!({ "error": "parsing failed for write_lp endpoint", "data": first }),
        _ => json!({ "error": "partial write of line protocol occurred", "data": lines }),
    };
    json(StatusCode::BAD_REQUEST, &body)
}

fn v3_error(status: StatusCode, message: &str) -> Answer {
    json(status, &json!({ "error": message }))
}

fn parameters(head: &Parts) -> Parameters {
    Parameters::parse(head.uri.query().unwrap_or_default().as_bytes())
}

fn delivery(
    head: &Parts,
    parameters: &Parameters,
    default: Precision,
    parse: fn(&str) -> Option<Precision>,
    units: &str,
) -> Result<Delivery, IntakeError> {
    let precision = match parameters.first("precision") {
        None => default,
        Some(unit) => {
            parse(unit).ok_or_else(|| IntakeError::Corrupt(format!("invalid precision {unit:?} (use {units})")))?
        }
    };
    let mut delivery = Delivery::new(text_encoding(&head.headers)?, Decoder::InfluxLine { precision });
    delivery.quote = true;
    Ok(delivery)
}

/// The headers by which 1.x clients recognise an InfluxDB.
pub(super) fn branded(mut answer: Answer) -> Answer {
    let headers = answer.headers_mut();
    headers.insert(X_INFLUXDB_VERSION, HeaderValue::from_static(INFLUXDB_VERSION));
    headers.insert(X_INFLUXDB_BUILD, HeaderValue::from_static("sluicegate"));
    answer
}
