//! A destination that only counts: takes remote write 1 and 2, line protocol and Wavefront lines over HTTP, adds every
//! sample to a [`Digest`] and keeps nothing.
//!
//! | path | what |
//! |---|---|
//! | `POST /api/v1/write`, `/api/v1/push` | remote write, by Content-Type |
//! | `POST /write`, `/api/v2/write`, `/api/v3/write_lp` | line protocol, nanoseconds |
//! | `POST /report` | Wavefront lines |
//! | `GET /digest` | what has arrived, as JSON |
//! | any other `GET`, `POST /query` | 204, so that gateways that look at their destination first are content |
//!
//! A body that cannot be read is answered with 400 and counted; the first such error is kept.

use super::arrivals;
use super::digest::Digest;
use crate::model::Format;
use crate::wire::compression::{self, Encoding};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Connections at a time; further ones wait in the kernel.
const CONNECTIONS_MAX: usize = 4096;
/// Bytes of a body as sent, and after decompression.
const BODY_BYTES_MAX: usize = 64 << 20;
const PLAIN_BYTES_MAX: usize = 512 << 20;
/// Protocols that are told apart; beyond, none is added.
const PROTOCOLS_MAX: usize = 16;

/// What has arrived so far.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Arrived {
    /// Samples.
    pub samples: u64,
    /// Their checksum, to be compared with a load's.
    pub checksum: String,
    /// Requests with samples.
    pub requests: u64,
    /// Bytes of their bodies, as sent.
    pub body_bytes: u64,
    /// Formats and content encodings seen, as `remote_write snappy`.
    pub protocols: BTreeSet<String>,
    /// Bodies that could not be read.
    pub unreadable: u64,
    /// The first reason for that.
    pub error: Option<String>,
}

#[derive(Default)]
struct State {
    digest: Mutex<Digest>,
    arrived: Mutex<Arrived>,
}

/// A listening sink. It ends when it is dropped.
pub struct Sink {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Sink {
    /// Listens there; port 0 is a free one.
    pub async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let (address, state) = (listener.local_addr()?, Arc::<State>::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Samples that have arrived.
    pub fn samples(&self) -> u64 {
        self.state.digest.lock().samples()
    }

    /// The digest of all that has arrived.
    pub fn digest(&self) -> Digest {
        self.state.digest.lock().clone()
    }

    /// What has arrived.
    pub fn arrived(&self) -> Arrived {
        self.state.arrived()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn arrived(&self) -> Arrived {
        let (samples, checksum) = {
            let digest = self.digest.lock();
            (digest.samples(), format!("{:016x}", digest.checksum()))
        };
        Arrived { samples, checksum, ..self.arrived.lock().clone() }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) {
        let mut arrived = self.arrived.lock();
        arrived.unreadable += 1;
        arrived.error.get_or_insert_with(|| error.to_string());
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Connections end with their peers: a sink outlives the gateways that it serves, not the process.
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            serve(stream, state).await;
            drop(place);
        });
    }
}

/// Buffers of a connection, whose requests come one after the other.
#[derive(Default)]
struct Scratch {
    plain: Vec<u8>,
    digest: Digest,
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    // An answer is one small write; a delayed one costs the gateway 40 ms.
    let _ = stream.set_nodelay(true);
    let scratch = Arc::<Mutex<Scratch>>::default();
    let service = service_fn(move |request| {
        let (state, scratch) = (Arc::clone(&state), Arc::clone(&scratch));
        async move { Ok::<_, Infallible>(answer(request, &state, &scratch).await) }
    });
    // Fails when the peer goes away, which is its right.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: &State, scratch: &Mutex<Scratch>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let header = |name| head.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("");
    let format = match (&head.method, head.uri.path()) {
        (&Method::GET, "/digest") => {
            let json = serde_json::to_vec(&state.arrived()).unwrap_or_default();
            return response(StatusCode::OK, json);
        }
        (&Method::POST, "/api/v1/write" | "/api/v1/push") if header(CONTENT_TYPE).contains("write.v2") => {
            Format::RemoteWrite2
        }
        (&Method::POST, "/api/v1/write" | "/api/v1/push") => Format::RemoteWrite,
        (&Method::POST, "/write" | "/api/v2/write" | "/api/v3/write_lp") => Format::InfluxLine,
        (&Method::POST, "/report") => Format::Wavefront,
        (&Method::POST, path) if path != "/query" => return response(StatusCode::NOT_FOUND, Vec::new()),
        _ => return response(StatusCode::NO_CONTENT, Vec::new()),
    };
    let body = match Limited::new(body, BODY_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            state.unreadable(&error);
            return response(StatusCode::PAYLOAD_TOO_LARGE, error.to_string().into_bytes());
        }
    };
    match take(format, &head.headers, &body, state, &mut scratch.lock()) {
        Ok(samples) => {
            let mut answer = response(StatusCode::NO_CONTENT, Vec::new());
            if format == Format::RemoteWrite2 {
                let written = HeaderName::from_static("x-prometheus-remote-write-samples-written");
                answer.headers_mut().insert(written, HeaderValue::from(samples));
            }
            answer
        }
        Err(error) => {
            state.unreadable(&error);
            response(StatusCode::BAD_REQUEST, error.into_bytes())
        }
    }
}

/// Adds the samples of a body to the digest; their number.
fn take(format: Format, headers: &HeaderMap, body: &[u8], state: &State, scratch: &mut Scratch) -> Result<u64, String> {
    let named = headers.get(CONTENT_ENCODING).map_or(Ok("identity"), HeaderValue::to_str);
    let named = named.map_err(|error| error.to_string())?;
    let encoding = Encoding::from_header(named).ok_or_else(|| format!("Content-Encoding {named} is not known"))?;
    let Scratch { plain, digest } = scratch;
    digest.clear();
    compression::decompress(encoding, body, PLAIN_BYTES_MAX, plain).map_err(|error| error.to_string())?;
    arrivals::read(format, plain, digest).map_err(|error| error.to_string())?;
    let mut arrived = state.arrived.lock();
    arrived.requests += 1;
    arrived.body_bytes += body.len() as u64;
    if arrived.protocols.len() < PROTOCOLS_MAX {
        arrived.protocols.insert(format!("{} {named}", format.as_str()));
    }
    drop(arrived);
    state.digest.lock().merge(digest);
    Ok(digest.samples())
}

fn response(status: StatusCode, body: Vec<u8>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response
}
