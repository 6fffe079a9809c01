//! A destination that understands just enough: numbered samples in line protocol over HTTP, as
//! `n,client=<client> value=<number> <time>`.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

#[derive(Debug, Default)]
struct State {
    arrived: Mutex<BTreeSet<(u64, u64)>>,
    requests: AtomicU64,
    refuse_every: AtomicU64,
}

/// A listening sink; its threads end with the test program.
pub(crate) struct Sink {
    port: u16,
    state: Arc<State>,
}

impl Sink {
    /// Listens on a free port.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State { refuse_every: AtomicU64::new(u64::MAX), ..State::default() });
        let for_threads = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&for_threads);
                thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { port, state }
    }

    /// Where it takes requests.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers every so many-th request with 503 and forgets what it brought.
    pub(crate) fn refuse_every(&self, requests: u64) {
        self.state.refuse_every.store(requests, Ordering::Relaxed);
    }

    /// Forgets what has arrived.
    pub(crate) fn forget(&self) {
        self.state.arrived.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The samples taken so far, as (client, number).
    pub(crate) fn arrived(&self) -> BTreeSet<(u64, u64)> {
        self.state.arrived.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Answers the requests of a connection, one after the other, until it ends.
fn serve(stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let request = 1 + state.requests.fetch_add(1, Ordering::Relaxed);
        let status = if request.is_multiple_of(state.refuse_every.load(Ordering::Relaxed)) {
            "503 Service Unavailable"
        } else {
            take(&String::from_utf8_lossy(&body), state);
            "204 No Content"
        };
        let mut stream = stream;
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").ok()?;
    }
}

fn take(body: &str, state: &State) {
    let mut arrived = state.arrived.lock().unwrap_or_else(PoisonError::into_inner);
    for line in body.lines().filter(|line| !line.is_empty()) {
        arrived.insert(read(line).unwrap_or_else(|| panic!("not a numbered sample: {line}")));
    }
}

fn read(line: &str) -> Option<(u64, u64)> {
    let (client, rest) = line.strip_prefix("n,client=")?.split_once(" value=")?;
    let (number, _) = rest.split_once(' ')?;
    Some((client.parse().ok()?, number.parse::<f64>().ok()? as u64))
}
