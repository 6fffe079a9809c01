//! Remote write 1.0 and 2.0: `/api/v1/write`, `/api/v1/push`.
//!
//! The head decides before the body is looked at: `Content-Type` names the version (none is 1.0), `Content-Encoding` is
//! Snappy (none is, too), or zstd as vmagent sends it. Anything else is 415, so that a sender falls back. Version 2.0 is told
//! what was written, on success and on failure; version 1.0 must not be.
//!
//! Specifications: <https://prometheus.io/docs/specs/prw/remote_write_spec/> and `..._2_0/`.

use super::Gate;
use super::answer::{Answer, empty, refusals, text};
use super::decoder::{Decoder, Written};
use super::intake::{Delivery, IntakeError, Taken};
use super::parameters::{MediaType, text_of};
use super::prometheus::series_limit;
use crate::wire::compression::Encoding;
use hyper::body::Incoming;
use hyper::header::CONTENT_ENCODING;
use hyper::{HeaderMap, Request, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    fn decoder(self) -> Decoder {
        match self {
            Self::One => Decoder::RemoteWrite,
            Self::Two => Decoder::RemoteWrite2,
        }
    }
}

pub(super) async fn answer(gate: &Arc<Gate>, peer: IpAddr, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    // A message of neither version is counted as 1.0, which is what a request without a head is.
    let version = version(&head.headers);
    let counted = version.as_ref().unwrap_or(&Version::One).decoder().format();
    let (version, encoding) = match version.and_then(|version| Ok((version, encoding(&head.headers)?))) {
        Ok(negotiated) => negotiated,
        Err(message) => {
            gate.refuse(body, counted, IntakeError::UnknownEncoding { name: String::new() }).await;
            return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, &message);
        }
    };
    let result = gate.take(peer, body, Delivery::new(encoding, version.decoder())).await;
    let (answer, written) = match result {
        Ok(taken) => (phrase(&taken), taken.written),
        Err(error) => (error.answer(text), Written::default()),
    };
    if version == Version::Two { with_written(answer, written) } else { answer }
}

/// The version that a head names, or why it names none.
fn version(headers: &HeaderMap) -> Result<Version, String> {
    let media = MediaType::of(headers);
    match (media.essence.as_str(), media.parameter("proto")) {
        ("", _) | ("application/x-protobuf", None | Some("prometheus.WriteRequest")) => Ok(Version::One),
        ("application/x-protobuf", Some("io.prometheus.write.v2.Request")) => Ok(Version::Two),
        ("application/x-protobuf", Some(proto)) => Err(format!(
            "unknown message {proto:?}; known are prometheus.WriteRequest and io.prometheus.write.v2.Request"
        )),
        (other, _) => Err(format!("Content-Type {other:?} is not application/x-protobuf")),
    }
}

/// The encoding that a head names, or why it is not acceptable.
fn encoding(headers: &HeaderMap) -> Result<Encoding, String> {
    let name = text_of(headers, &CONTENT_ENCODING).map_or("", str::trim);
    match Encoding::from_header(name) {
        Some(encoding @ (Encoding::Snappy | Encoding::Zstd)) => Ok(encoding),
        Some(Encoding::Identity) if name.is_empty() => Ok(Encoding::Snappy),
        _ => Err(format!("Content-Encoding {name:?} is neither snappy nor zstd")),
    }
}

fn phrase(taken: &Taken) -> Answer {
    if taken.report.refused() == 0 {
        return empty(StatusCode::NO_CONTENT);
    }
    if let Some(limit) = taken.series_limit() {
        return series_limit(limit);
    }
    let message = format!(
        "{} refused, the rest is written\n{}",
        taken.report.refused(),
        refusals(&taken.report, "series").join("\n")
    );
    text(StatusCode::BAD_REQUEST, &message)
}

fn with_written(mut answer: Answer, written: Written) -> Answer {
    let headers = answer.headers_mut();
    headers.insert("x-prometheus-remote-write-samples-written", written.samples.into());
    headers.insert("x-prometheus-remote-write-histograms-written", written.histograms.into());
    headers.insert("x-prometheus-remote-write-exemplars-written", written.exemplars.into());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{CONTENT_TYPE, HeaderValue};

    #[test]
    fn the_head_chooses_version_and_encoding() {
        use Encoding::{Snappy, Zstd};
        use Version::{One, Two};
        let cases = [
            ("", "", Some((One, Snappy))),
            ("application/x-protobuf", "snappy", Some((One, Snappy))),
            ("application/x-protobuf;proto=prometheus.WriteRequest", "", Some((One, Snappy))),
            ("application/x-protobuf; proto=\"io.prometheus.write.v2.Request\"", "Snappy", Some((Two, Snappy))),
            ("Application/X-Protobuf ; Proto = io.prometheus.write.v2.Request", "snappy", Some((Two, Snappy))),
            ("application/x-protobuf", "zstd", Some((One, Zstd))),
            ("application/x-protobuf", "gzip", None),
            ("application/x-protobuf", "deflate", None),
            ("application/x-protobuf", "identity", None),
            ("application/x-protobuf;proto=io.prometheus.write.v3.Request", "snappy", None),
            ("application/json", "snappy", None),
            ("image/png", "snappy", None),
        ];
        for (media, compression, expected) in cases {
            let mut headers = HeaderMap::new();
            if !media.is_empty() {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
            }
            if !compression.is_empty() {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(compression));
            }
            assert_eq!(version(&headers).ok().zip(encoding(&headers).ok()), expected, "{media} {compression}");
        }
    }
}
