//! `/api/v1/import/prometheus`: text exposition or OpenMetrics in one body, as VictoriaMetrics takes it.
//!
//! `Content-Type` chooses the format (`application/openmetrics-text`, anything else is text 0.0.4). `timestamp=` gives
//! milliseconds to samples that have none; each `extra_label=name=value` is added to every series and wins over its own.
//! Where VictoriaMetrics answers 204 to a body with bad lines, this says 400 and which; the good lines are kept.

use super::Gate;
use super::answer::{Answer, COME_AGAIN, come_again, empty, refusals, text};
use super::decoder::Decoder;
use super::intake::{Delivery, IntakeError, Taken};
use super::parameters::{MediaType, Parameters, text_of};
use crate::model::TimestampNs;
use crate::wire::compression::Encoding;
use hyper::body::Incoming;
use hyper::header::CONTENT_ENCODING;
use hyper::{HeaderMap, Request, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;

/// Labels that one request may add.
const EXTRA_LABELS_MAX: usize = 64;

pub(super) async fn answer(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let parameters = Parameters::parse(head.uri.query().unwrap_or_default().as_bytes());
    let delivery = match delivery(&head.headers, &parameters) {
        Ok(delivery) => delivery,
        Err(error) => {
            let format = text_decoder(&head.headers, None).format();
            return gate.refuse(body, format, error).await.answer(text);
        }
    };
    match gate.take(peer, body, delivery).await {
        Ok(taken) => phrase(&taken),
        Err(error) => error.answer(text),
    }
}

fn delivery(headers: &HeaderMap, parameters: &Parameters) -> Result<Delivery, IntakeError> {
    let timestamp = parameters.first("timestamp").map(parse_timestamp).transpose()?;
    let encoding = text_encoding(headers)?;
    let mut delivery = Delivery::new(encoding, text_decoder(headers, timestamp));
    for label in parameters.all("extra_label") {
        let (name, value) = label
            .split_once('=')
            .filter(|(name, _)| is_label_name(name))
            .ok_or_else(|| IntakeError::Corrupt(format!("extra_label {label:?} is not name=value")))?;
        delivery.extra_labels.retain(|(known, _)| known != name);
        delivery.extra_labels.push((name.to_owned(), value.to_owned()));
    }
    if delivery.extra_labels.len() > EXTRA_LABELS_MAX {
        return Err(IntakeError::Corrupt(format!("more than {EXTRA_LABELS_MAX} extra_label parameters")));
    }
    Ok(delivery)
}

fn parse_timestamp(milliseconds: &str) -> Result<TimestampNs, IntakeError> {
    let parsed = milliseconds.parse::<i64>().ok().and_then(|milliseconds| milliseconds.checked_mul(1_000_000));
    parsed.ok_or_else(|| IntakeError::Corrupt(format!("timestamp {milliseconds:?} is not a number of milliseconds")))
}

/// The decoder of the text format that `Content-Type` names.
pub(super) fn text_decoder(headers: &HeaderMap, timestamp: Option<TimestampNs>) -> Decoder {
    match MediaType::of(headers).essence.as_str() {
        "application/openmetrics-text" => Decoder::OpenMetrics { timestamp },
        _ => Decoder::PrometheusText { timestamp },
    }
}

/// The `Content-Encoding` of a text format: everything but Snappy, which belongs to remote write.
pub(super) fn text_encoding(headers: &HeaderMap) -> Result<Encoding, IntakeError> {
    let name = text_of(headers, &CONTENT_ENCODING).unwrap_or_default();
    match Encoding::from_header(name) {
        None | Some(Encoding::Snappy) => Err(IntakeError::UnknownEncoding { name: name.to_owned() }),
        Some(encoding) => Ok(encoding),
    }
}

/// Whether a label of an address has a name that every output can carry, and none that Prometheus reserves.
pub(super) fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.starts_with("__")
}

/// 204, or 400 with the refused lines, or 429 when new series have no place.
fn phrase(taken: &Taken) -> Answer {
    if taken.report.refused() == 0 {
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(limit) = taken.series_limit() {
        return series_limit(limit);
    }
    text(StatusCode::BAD_REQUEST, &refusals(&taken.report, "line").join("\n"))
}

/// 429 where no series could be added.
pub(super) fn series_limit(limit: &str) -> Answer {
    come_again(text(StatusCode::TOO_MANY_REQUESTS, limit), COME_AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Delivery, String> {
        delivery(&HeaderMap::new(), &Parameters::parse(query.as_bytes())).map_err(|error| error.to_string())
    }

    #[test]
    fn parameters_become_labels_and_a_timestamp() {
        let delivery = read("timestamp=1700000000123&extra_label=a=1&extra_label=b=x%3Dy&extra_label=a=2").unwrap();
        assert!(matches!(delivery.decoder, Decoder::PrometheusText { timestamp: Some(1_700_000_000_123_000_000) }));
        assert_eq!(delivery.extra_labels, [("b".into(), "x=y".into()), ("a".into(), "2".into())]);
    }

    #[test]
    fn refuses_parameters_that_mean_nothing() {
        for query in
            ["timestamp=x", "timestamp=9223372036854775807", "extra_label=a", "extra_label=1a=b", "extra_label=__a=b"]
        {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
