//! The pages of the gateway about itself: web page, status API, own metrics, `/scrape`, health and readiness.
//!
//! Static assets are part of the binary; the web page is plain HTML that polls the status API. Everything that comes from senders
//! is put into it as text, and its policy lets a browser load nothing from elsewhere.

mod boards;
mod streams;

use crate::clock;
use crate::config::{Config, Dashboards, Mistakes};
use crate::output::scrape::Exposition;
use crate::telemetry::{self, Telemetry};
use crate::wire::prometheus_names::Alphabet;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Method, Response, StatusCode};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use streams::Listed;

/// The pages, and what they are made from.
#[derive(Debug)]
pub struct Pages {
    telemetry: Arc<Telemetry>,
    /// The configuration file as it was read, for `/-/reload`.
    config: Option<(PathBuf, String)>,
    dashboards: Option<Dashboards>,
    draining: AtomicBool,
}

const HTML: &str = "text/html; charset=utf-8";
/// Nothing from elsewhere, nothing inline, and in no other page.
const POLICY: &str = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const TEXT: &str = "text/plain; charset=utf-8";

impl Pages {
    /// The pages of a running gateway.
    pub fn new(telemetry: Arc<Telemetry>, config: Option<(PathBuf, String)>, dashboards: Option<Dashboards>) -> Self {
        Self { telemetry, config, dashboards, draining: AtomicBool::new(false) }
    }

    /// From now on the gateway is not ready.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        let reads = [Method::GET, Method::HEAD];
        let allowed: &[Method] = match path {
            "/" | "/metrics" | "/scrape" | "/api/v1/status" | "/api/v1/streams" | "/-/healthy" | "/-/ready" => &reads,
            "/-/reload" => &[Method::POST, Method::PUT],
            _ if path.starts_with("/assets/") => &reads,
            _ => return None,
        };
        if !allowed.contains(method) {
            let mut response = answer(StatusCode::METHOD_NOT_ALLOWED, TEXT, "method not allowed\n");
            let names: Vec<_> = allowed.iter().map(Method::as_str).collect();
            if let Ok(names) = HeaderValue::from_str(&names.join(", ")) {
                response.headers_mut().insert(ALLOW, names);
            }
            return Some(response);
        }
        Some(match path {
            "/" => {
                let mut page = answer(StatusCode::OK, HTML, include_str!("ui/assets/index.html"));
                page.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
                page
            }
            "/assets/app.js" => {
                answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("ui/assets/app.js"))
            }
            "/assets/streams.js" => {
                answer(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("ui/assets/streams.js"))
            }
            "/assets/style.css" => {
                answer(StatusCode::OK, "text/css; charset=utf-8", include_str!("ui/assets/style.css"))
            }
            "/assets/icon.svg" => answer(StatusCode::OK, "image/svg+xml", include_str!("ui/assets/icon.svg")),
            "/metrics" => {
                let page = telemetry::metrics(&self.telemetry.status());
                answer(StatusCode::OK, Exposition::PrometheusText(Alphabet::Legacy).content_type(), page)
            }
            "/scrape" => {
                let exposition = Exposition::negotiated(headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()));
                let page = self.telemetry.latest.expose(exposition, &self.telemetry.table, clock::now());
                answer(StatusCode::OK, exposition.content_type(), page)
            }
            "/api/v1/status" => json(&self.telemetry.status()),
            "/api/v1/streams" => {
                let (instances, omitted) = self.telemetry.latest.instances(clock::now());
                json(&Listed::of(&instances, omitted, self.dashboards.as_ref()))
            }
            "/-/healthy" => match self.telemetry.log.healthy() {
                // Not red: a full log passes when outputs deliver, and a restart would not help.
                Ok(()) => match self.telemetry.log.full() {
                    Some(why) => {
                        let words = format!("sluicegate is healthy, and senders are told to wait: {why}.\n");
                        answer(StatusCode::OK, TEXT, words)
                    }
                    None => answer(StatusCode::OK, TEXT, "sluicegate is healthy.\n"),
                },
                Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the log stopped: {reason}\n")),
            },
            "/-/ready" => match self.telemetry.log.healthy() {
                Ok(()) if !self.draining.load(Ordering::Relaxed) => {
                    answer(StatusCode::OK, TEXT, "sluicegate is ready.\n")
                }
                Ok(()) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n"),
                Err(reason) => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("the log stopped: {reason}\n")),
            },
            "/-/reload" => {
                let outcome = self.reload();
                answer(outcome.status(), TEXT, format!("{outcome}\n"))
            }
            _ => answer(StatusCode::NOT_FOUND, TEXT, "not found\n"),
        })
    }

    /// Reads the configuration file again. This version applies changes only by a restart, and says so.
    pub fn reload(&self) -> Reload {
        let Some((path, running)) = &self.config else { return Reload::NoFile };
        if let Err(mistakes) = Config::load(path, &|name| std::env::var(name).ok()) {
            return Reload::Mistaken(mistakes);
        }
        let is_running = std::fs::read_to_string(path).is_ok_and(|now| now == *running);
        if is_running { Reload::Unchanged } else { Reload::NeedsRestart }
    }
}

/// What became of a wish to reload the configuration.
#[derive(Debug, thiserror::Error)]
pub enum Reload {
    /// There is nothing to reload.
    #[error("there is no configuration file to reload")]
    NoFile,
    /// The file says what runs already.
    #[error("the configuration has not changed")]
    Unchanged,
    /// The file is good and says something else.
    #[error("the new configuration is valid; this version applies it only after a restart")]
    NeedsRestart,
    /// The file is not good; what runs goes on.
    #[error(transparent)]
    Mistaken(#[from] Mistakes),
}

impl Reload {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoFile | Self::Unchanged => StatusCode::OK,
            Self::NeedsRestart => StatusCode::NOT_IMPLEMENTED,
            Self::Mistaken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl crate::ingest::Pages for Pages {
    fn page(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response<Full<Bytes>>> {
        self.answer(method, path, headers)
    }

    fn is_large(&self, path: &str) -> bool {
        path == "/scrape"
    }
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(json) => answer(StatusCode::OK, "application/json", json),
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
    }
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
