//! The closed set of destinations: how a body is packed, where it is sent and what the answer means.

use super::remote_write::{self, Fallback, Version};
use super::search::{Named, Pieces};
use super::shipment::Purpose;
use super::transport::{ClientError, HttpClient, LineSocket, SendError};
use super::verdict::{Answer, Verdict};
use super::{influxdb, wavefront};
use crate::config;
use crate::model::{Databases, Format};
use crate::wire::{Body, compression};
use bytes::Bytes;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A destination, ready to be sent to.
#[derive(Debug)]
pub enum Destination {
    /// A remote-write receiver.
    RemoteWrite {
        /// The client.
        client: HttpClient,
        /// The receiver's URL.
        url: String,
        /// The version spoken.
        version: Version,
        /// Whether an older one may follow.
        fallback: Fallback,
        /// Whether it has told once what it wrote: a receiver of 2.0.
        counts: AtomicBool,
        /// Whether 429 is repeated.
        retry_on_429: bool,
    },
    /// An InfluxDB server.
    Influx {
        /// The client.
        client: HttpClient,
        /// The write URL.
        url: String,
        /// Whether bodies are compressed.
        gzip: bool,
        /// The database that is created when it is missing, and how, when asked to.
        created: Option<Creation>,
    },
    /// A Wavefront proxy over HTTP.
    Wavefront {
        /// The client.
        client: HttpClient,
        /// Where points go.
        points_url: String,
        /// Where distributions go.
        distributions_url: String,
    },
    /// A Wavefront proxy's line socket.
    WavefrontLines(LineSocket),
}

/// How a missing database of an InfluxDB 1 is created.
#[derive(Debug)]
pub struct Creation {
    query_url: String,
    database: String,
    /// What clients said of it.
    databases: Arc<Databases>,
}

impl Creation {
    fn url(&self) -> String {
        let statement = self.databases.statement(&self.database);
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("q", &statement).finish();
        format!("{}?{query}", self.query_url)
    }
}

impl Destination {
    /// A remote-write destination.
    pub fn remote_write(
        config: &config::RemoteWrite,
        version: Version,
        fallback: Fallback,
    ) -> Result<Self, ClientError> {
        let client = HttpClient::try_new(&config.http)?;
        Ok(Self::RemoteWrite {
            client,
            url: config.url.clone(),
            version,
            fallback,
            counts: AtomicBool::new(false),
            retry_on_429: config.retry_on_http_429,
        })
    }

    /// An InfluxDB destination.
    pub fn influx(config: &config::Influx, databases: &Arc<Databases>) -> Result<Self, ClientError> {
        let mut http = config.http.clone();
        let token = match &config.api {
            config::InfluxApi::V1 { .. } => None,
            config::InfluxApi::V2 { token, .. } => Some(("Token", token.clone())),
            config::InfluxApi::V3 { token, .. } => token.clone().map(|token| ("Bearer", token)),
        };
        if let Some((kind, credentials)) = token {
            http.authorization = Some(config::Authorization { kind: kind.to_owned(), credentials });
        }
        let created = match &config.api {
            config::InfluxApi::V1 { database, .. } if config.create_database => Some(Creation {
                query_url: format!("{}/query", config.url.trim_end_matches('/')),
                database: database.clone(),
                databases: Arc::clone(databases),
            }),
            _ => None,
        };
        let url = influxdb::write_url(&config.url, &config.api);
        Ok(Self::Influx { client: HttpClient::try_new(&http)?, url, gzip: config.gzip, created })
    }

    /// A Wavefront destination.
    pub fn wavefront(config: &config::Wavefront) -> Result<Self, ClientError> {
        Ok(match &config.target {
            config::WavefrontTarget::Http { url } => Self::Wavefront {
                client: HttpClient::try_new(&config.http)?,
                points_url: wavefront::report_url(url, false),
                distributions_url: wavefront::report_url(url, true),
            },
            config::WavefrontTarget::Tcp { host, port } => {
                Self::WavefrontLines(LineSocket::new(host.clone(), *port, config.http.timeout))
            }
        })
    }

    /// Pieces of a body as they go over the wire.
    pub fn pack(&self, body: &Body, pieces: &Pieces) -> Bytes {
        let bytes = || pieces.bytes(body);
        match self {
            Self::RemoteWrite { .. } if pieces.len() == body.cuts.len() => body.snappy(),
            Self::RemoteWrite { .. } => compression::snappy(&bytes()).into(),
            Self::Influx { gzip: true, .. } | Self::Wavefront { .. } if pieces.len() == body.cuts.len() => body.gzip(),
            Self::Influx { gzip: true, .. } | Self::Wavefront { .. } => compression::gzip(&bytes()).into(),
            Self::Influx { gzip: false, .. } | Self::WavefrontLines(_) => bytes().into_owned().into(),
        }
    }

    /// Sends a packed body. `attempt` counts from 0.
    pub async fn send(&self, purpose: Purpose, attempt: u32, body: Bytes) -> Result<Answer, SendError> {
        match self {
            Self::RemoteWrite { client, url, version, .. } => {
                let mut headers = remote_write::headers(*version);
                if attempt > 0 {
                    headers.insert(HeaderName::from_static("retry-attempt"), HeaderValue::from(attempt));
                }
                client.post(url, &headers, body).await
            }
            Self::Influx { client, url, gzip, created } => {
                let headers = line_headers("text/plain; charset=utf-8", *gzip);
                let answer = client.post(url, &headers, body.clone()).await?;
                if let (404, Some(creation)) = (answer.status, created) {
                    let created = client.post(&creation.url(), &HeaderMap::new(), Bytes::new()).await?;
                    if created.status == 200 {
                        return client.post(url, &headers, body).await;
                    }
                }
                Ok(answer)
            }
            Self::Wavefront { client, points_url, distributions_url } => {
                let url = if purpose == Purpose::Distributions { distributions_url } else { points_url };
                client.post(url, &line_headers("application/octet-stream", true), body).await
            }
            Self::WavefrontLines(socket) => {
                socket.write(&body).await?;
                Ok(Answer::status(202))
            }
        }
    }

    /// What bodies for it are encoded in.
    pub fn format(&self) -> Format {
        match self {
            Self::RemoteWrite { version: Version::V1, .. } => Format::RemoteWrite,
            Self::RemoteWrite { version: Version::V2, .. } => Format::RemoteWrite2,
            Self::Influx { .. } => Format::InfluxLine,
            Self::Wavefront { .. } | Self::WavefrontLines(_) => Format::Wavefront,
        }
    }

    /// The pieces of a request that the text of its answer fits.
    pub fn named(&self, body: &Body, pieces: &Pieces, answer: &Answer) -> Named {
        match self {
            Self::RemoteWrite { version, .. } => remote_write::series::named(*version, body, pieces, &answer.body),
            Self::Influx { .. } => influxdb::named(body, pieces, answer),
            Self::Wavefront { .. } | Self::WavefrontLines(_) => Named::default(),
        }
    }

    /// The one piece as a body of smaller pieces, where the format has some.
    pub fn finer(&self, body: &Body, piece: usize) -> Option<Body> {
        match self {
            Self::RemoteWrite { version, .. } => remote_write::series::by_sample(*version, body, piece),
            _ => None,
        }
    }

    /// What an answer means for a request in which the destination counts that many samples.
    pub fn verdict(&self, on_wire: u64, answer: &Answer) -> Verdict {
        match self {
            Self::RemoteWrite { version, fallback, counts, retry_on_429, .. } => {
                counts.fetch_or(answer.written.is_some(), Ordering::Relaxed);
                // What a proxy in between refuses is no reason to send to a receiver of 2.0 again what it has, as 1.0.
                let proxied = answer.status == 400 && counts.load(Ordering::Relaxed);
                let fallback = if proxied { Fallback::Forbidden } else { *fallback };
                remote_write::verdict(*version, fallback, on_wire, *retry_on_429, answer)
            }
            Self::Influx { .. } => influxdb::verdict(answer),
            Self::Wavefront { .. } | Self::WavefrontLines(_) => wavefront::verdict(answer),
        }
    }
}

fn line_headers(content_type: &'static str, gzip: bool) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
    if gzip {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::prometheus_names;

    #[test]
    fn a_receiver_that_has_counted_once_is_not_spoken_to_in_1_0_for_a_stray_400() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = config::RemoteWrite {
            url: "http://127.0.0.1/".to_owned(),
            version: config::Version::Auto,
            http: config::HttpClient::default(),
            style: prometheus_names::Style::default(),
            retry_on_http_429: true,
        };
        let destination = Destination::remote_write(&config, Version::V2, Fallback::Allowed).unwrap();
        let stray = Answer::status(400);
        assert_eq!(destination.verdict(5, &stray), Verdict::OlderVersion);
        let counted = Answer { written: Some(5), ..Answer::status(204) };
        assert_eq!(destination.verdict(5, &counted), Verdict::Delivered);
        assert_eq!(destination.verdict(5, &stray), Verdict::Suspect);
        assert_eq!(
            destination.verdict(5, &Answer::status(415)),
            Verdict::OlderVersion,
            "it may have become an older one"
        );
    }
}
