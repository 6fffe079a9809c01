//! The HTTP port, without sockets: whatever arrives on a connection is answered in order, with a status that says whose
//! fault it is, and nothing stays charged for it.

use crate::config::Limits;
use crate::ingest::{Gate, serve_bytes};
use crate::ledger::Ledger;
use crate::log::{Ack, Log, LogConfig};
use crate::model::{SeriesTable, TableBounds};
use crate::wire::compression::{gzip, snappy};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

/// Bytes on their way in one direction.
const PIPE_BYTES: usize = 1 << 20;
const DECOMPRESSED_BYTES_MAX: usize = 64 << 10;

/// A gate before a small log, used by all inputs of a thread.
struct Port {
    runtime: Runtime,
    gate: Arc<Gate>,
    dir: PathBuf,
}

thread_local! {
    static PORT: Port = Port::open();
}

/// The first byte says what the rest is: a connection's bytes, or a head, an empty line and a body that is sent as it is
/// or compressed.
///
/// # Panics
/// When the port breaks a promise.
pub fn http(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else { return };
    let bytes = match kind % 5 {
        0 => rest.to_vec(),
        1 => request(rest, <[u8]>::to_vec),
        2 => request(rest, gzip),
        3 => request(rest, snappy),
        _ => request(rest, |body| zstd::encode_all(body, 1).unwrap_or_default()),
    };
    PORT.with(|port| port.answers(&bytes));
}

fn request(data: &[u8], compress: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let end = memchr::memmem::find(data, b"\n\n").unwrap_or(data.len());
    let (head, body) = (&data[..end], compress(data.get(end + 2..).unwrap_or_default()));
    let tail = format!("\nHost: x\nContent-Length: {}\n\n", body.len());
    [head, tail.as_bytes(), &body].concat()
}

impl Port {
    fn open() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let dir = std::env::temp_dir().join(format!("sluicegate-fuzz-{}-{thread}", std::process::id()));
        let table = Arc::new(SeriesTable::new(TableBounds { bytes_max: 16 << 20, ..TableBounds::default() }));
        let config = LogConfig { bytes_max: 8 << 20, ack: Ack::Memory, ..LogConfig::new(&dir) };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let (Ok(runtime), Ok(log)) = (runtime, Log::open(config, Arc::clone(&table))) else {
            panic!("no runtime, or no log in {}", dir.display())
        };
        let limits = Limits {
            decompressed_bytes_max: DECOMPRESSED_BYTES_MAX,
            read_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(1),
            ..Limits::default()
        };
        let gate = Gate::new(table, Arc::new(log), Arc::new(Ledger::new(Vec::new())), limits);
        Self { runtime, gate: Arc::new(gate), dir }
    }

    fn answers(&self, bytes: &[u8]) {
        let mut answer = Vec::new();
        self.runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(PIPE_BYTES);
            let talk = async {
                // The port may close before it has read everything.
                let _ = client.write_all(bytes).await;
                let _ = client.shutdown().await;
                let _ = client.read_to_end(&mut answer).await;
            };
            tokio::join!(talk, serve_bytes(server, Arc::clone(&self.gate)));
        });
        let last = answer.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&answer);
        if let Some(rest) = last.strip_prefix(b"HTTP/1.") {
            let status = rest.get(2..5).unwrap_or_default();
            assert!(matches!(status[0], b'2' | b'4') || status == b"503", "{}", String::from_utf8_lossy(&answer));
        }
        assert!(self.gate.is_free(), "memory stays charged");
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn holds_for_requests_of_each_ecosystem() {
        let requests: &[&[u8]] = &[
            b"\x00GET /ping HTTP/1.1\r\nHost: x\r\n\r\n",
            b"\x00POST /write?db=d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nm v=1\r\n0\r\n\r\n",
            b"\x00PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
            b"\x01POST /write?db=d&precision=ms HTTP/1.1\n\nm v=1 5\nm v=",
            b"\x02POST /api/v2/write?bucket=b HTTP/1.1\nContent-Encoding: gzip\n\nm v=1",
            b"\x03POST /api/v1/write HTTP/1.1\nContent-Encoding: snappy\nContent-Type: application/x-protobuf\n\n\x0a\x00",
            b"\x04POST /api/v1/import/prometheus?extra_label=a=b&timestamp=5 HTTP/1.1\nContent-Encoding: zstd\n\na 1\n",
            b"\x01PUT /metrics/job/j/a@base64/Yg HTTP/1.1\n\na 1\n",
            b"\x01POST /report?f=histogram HTTP/1.1\n\n!M #1 1 m source=s\n",
            b"\x01GET /query?q=SHOW+DATABASES HTTP/1.1\n\n",
        ];
        for request in requests {
            super::http(request);
        }
    }
}
