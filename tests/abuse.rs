//! Attacks on the built binary. Beside each of them a well-behaved client posts new series from an address of its own: all
//! its requests are answered 204 in time and all its samples arrive; the ledger balances at every look; memory stays within
//! its bound. `SLUICEGATE_LONG=1` makes the attacks larger.

#![allow(
    clippy::float_cmp,
    clippy::format_collect,
    clippy::format_push_string,
    reason = "counts pass through unchanged, and a test may allocate"
)]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod counting_sink;
    pub(crate) mod destination;
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod numbered;
    pub(crate) mod server;
    pub(crate) mod wavefront_line;
}

#[path = "abuse/http2.rs"]
mod http2;
#[path = "abuse/memory.rs"]
mod memory;

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use sluicegate::clock;
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use support::counting_sink::{CountingSink, Kind};
use support::gateway::{Gateway, Setup, gateway};
use support::http;
use support::numbered::{self, Speech};
use support::server::{eventually, free_port};

/// The client posts so often at least, however short the attack.
const REQUESTS_MIN: usize = 20;
/// Samples in a request of the client.
const PER_REQUEST: u64 = 20;
/// The client pauses between its requests.
const PAUSE: Duration = Duration::from_millis(10);
/// No request of the client may take longer, on a loaded machine with two cores.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// An attacker gives up waiting for the gateway.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Resident memory of a gateway with the defaults under any attack.
const RESIDENT_BYTES_MAX: u64 = 512 << 20;
/// What a bomb inflates to.
const BOMB_BYTES: usize = 1 << 30;

/// The first number, or the second in the long version.
fn size<T>(short: T, long: T) -> T {
    if std::env::var("SLUICEGATE_LONG").is_ok_and(|value| value == "1") { long } else { short }
}

/// What the client got and what it sent.
#[derive(Default)]
struct Client {
    /// Its requests that were acknowledged, as the clients of numbered samples.
    acknowledged: Vec<u64>,
    slowest: Duration,
    refused: Vec<String>,
}

impl Client {
    /// Posts until it is over, each request of another series than the one before.
    fn post_until(url: &str, over: &AtomicBool) -> Self {
        let mut client = Self::default();
        for (request, number) in (0..).filter(|number| Speech::of(*number) == Speech::InfluxLine).enumerate() {
            if request >= REQUESTS_MIN && over.load(Ordering::Relaxed) {
                break;
            }
            let (path, _, lines) = numbered::request(number, 0..PER_REQUEST);
            let begun = clock::monotonic();
            match http::try_send("POST", &format!("{url}{path}"), &[], &lines) {
                Ok(answer) if answer.status == 204 => client.acknowledged.push(number),
                Ok(answer) => client.refused.push(format!("{} {}", answer.status, answer.text())),
                Err(error) => client.refused.push(error),
            }
            client.slowest = client.slowest.max(begun.elapsed());
            thread::sleep(PAUSE);
        }
        client
    }
}

/// A gateway under attack, with its client and its destination.
struct Scene {
    gateway: Gateway,
    sink: CountingSink,
    resident_bytes_max: u64,
}

impl Scene {
    fn of(setup: Setup) -> Self {
        let sink = CountingSink::start(Kind::Influx);
        // What attackers get accepted is of no interest to the destination.
        let wanted = "write_relabel_configs: [{ source_labels: [__name__], regex: n, action: keep }]";
        let output = format!("{}\n    {wanted}", sink.block());
        Self { gateway: setup.output("sink", &output).start(), sink, resident_bytes_max: RESIDENT_BYTES_MAX }
    }

    fn within(self, resident_bytes_max: u64) -> Self {
        Self { resident_bytes_max, ..self }
    }

    /// Attacks while the client posts. The client must not notice.
    fn survives(self, attack: impl FnOnce(&Gateway) + Send) {
        let client = self.endures(attack);
        assert_eq!(client.refused, Vec::<String>::new(), "the client is served");
    }

    /// The same, where the client may be told to come again.
    fn endures(self, attack: impl FnOnce(&Gateway) + Send) -> Client {
        let Self { gateway, sink, resident_bytes_max } = self;
        let over = AtomicBool::new(false);
        let url = gateway.url("");
        let client = thread::scope(|scope| {
            let client = scope.spawn(|| Client::post_until(&url, &over));
            let attacking = scope.spawn(|| attack(&gateway));
            while !attacking.is_finished() {
                assert_eq!(gateway.status()["ledger"]["balanced"], true, "under attack");
                thread::sleep(PAUSE * 5);
            }
            let outcome = attacking.join();
            over.store(true, Ordering::Relaxed);
            let client = client.join().expect("the client");
            outcome.expect("the attack");
            client
        });
        assert!(client.slowest < ANSWERED_WITHIN, "a request took {:?}", client.slowest);
        gateway.drained();
        assert_eq!(sink.wrong(), Vec::<String>::new());
        let arrived = |number: u64| {
            let carried = |sample: &u64| Kind::Influx.carries(number, *sample);
            (0..PER_REQUEST).filter(carried).all(|sample| sink.times(number, sample) > 0)
        };
        assert!(client.acknowledged.iter().all(|number| arrived(*number)), "what was acknowledged has arrived");
        let resident = gateway.resident_bytes_max();
        eprintln!("{} MiB resident at most, slowest answer {:?}", resident >> 20, client.slowest);
        assert!(resident < resident_bytes_max, "{} MiB were resident", resident >> 20);
        client
    }
}

/// A connection from the attacker's address, which is not the client's.
fn connect(port: u16) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())?;
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into())?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(GIVE_UP))?;
    stream.set_write_timeout(Some(GIVE_UP))?;
    Ok(stream)
}

/// Sends one request and reads the status of its answer; none where the connection ends without one.
fn request(port: u16, head: &str, body: &[u8]) -> Option<u16> {
    let mut stream = connect(port).ok()?;
    let head = format!("{head}Host: g\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).ok()?;
    // It may be answered before all of it is read.
    let _ = stream.write_all(body);
    status(&mut stream)
}

fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    std::str::from_utf8(&head[9..]).ok()?.parse().ok()
}

/// Writes a piece again and again until the gateway has had enough or the time is over.
fn pour(stream: &mut TcpStream, piece: &[u8], time: Duration) -> u64 {
    let end = clock::monotonic() + time;
    let _ = stream.set_write_timeout(Some(time));
    let mut poured = 0;
    while clock::monotonic() < end {
        match stream.write(piece) {
            Ok(0) | Err(_) => break,
            Ok(written) => poured += written as u64,
        }
    }
    poured
}

/// How long attacks last that could go on for ever.
fn duration() -> Duration {
    Duration::from_secs(size(4, 60))
}

#[test]
fn a_thousand_slow_senders_disturb_nobody() {
    let (lines, wavefront) = (free_port(), free_port());
    let scene = Scene::of(gateway().listen("influx_tcp", lines).listen("wavefront", wavefront));
    scene.survives(|gateway| {
        let starts = [
            (gateway.port(), "POST /write?db=x HTTP/1.1\r\nHost: g\r\nContent-Length: 100000\r\n\r\n"),
            (gateway.port(), "POST /api/v1/write HTTP/1.1\r\nX-Slow: "),
            (wavefront, "slow"),
            (lines, "slow"),
        ];
        let mut senders = Vec::new();
        for at in 0..1000 {
            let (port, start) = starts[at % starts.len()];
            let mut stream = connect(port).expect("a connection");
            stream.write_all(start.as_bytes()).expect("sent");
            senders.push(stream);
        }
        eventually(GIVE_UP, || match gateway.metric("sluicegate_connections", &[]) {
            open if open >= 1000.0 => Ok(()),
            open => Err(format!("{open} connections are open")),
        });
        for _ in 0..size(4, 60) {
            for stream in &mut senders {
                stream.write_all(b"a").ok();
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
}

#[test]
fn connections_that_say_nothing_leave_room_for_others() {
    let limit = size(200, 4000);
    let scene = Scene::of(gateway().limits(&format!("max_connections: {limit}")));
    scene.survives(|gateway| {
        let mut held = Vec::new();
        for at in 0..limit * 2 {
            let mut stream = connect(gateway.port()).expect("the kernel accepts it");
            // Idle, half a head, or a request and then idle.
            let sent: &[u8] = [&b""[..], b"GET / HT", b"GET /ping HTTP/1.1\r\nHost: g\r\n\r\n"][at % 3];
            let _ = stream.write_all(sent);
            held.push(stream);
        }
        eventually(GIVE_UP, || match gateway.metric("sluicegate_connections_refused_total", &[]) {
            refused if refused >= limit as f64 => Ok(()),
            refused => Err(format!("{refused} connections were refused")),
        });
        let open = gateway.metric("sluicegate_connections", &[]);
        assert!(open >= limit as f64 / 2.0 && open < limit as f64 * 0.9, "{open} of {limit} are open");
        thread::sleep(duration() / 2);
        drop(held);
        eventually(GIVE_UP, || match gateway.metric("sluicegate_connections", &[]) {
            open if open < 10.0 => Ok(()),
            open => Err(format!("{open} connections are still counted")),
        });
    });
}

#[test]
fn connections_that_say_nothing_leave_files_for_the_log_and_the_outputs() {
    let small = &["sh", "-c", "ulimit -n 100 && exec \"$@\"", "sh"];
    let scene = Scene::of(gateway().through(small).log("max_bytes: 64MiB, segment_bytes: 16KiB"));
    scene.survives(|gateway| {
        let held: Vec<_> = (0..200).map(|_| connect(gateway.port()).expect("the kernel accepts it")).collect();
        eventually(GIVE_UP, || match gateway.metric("sluicegate_connections_refused_total", &[]) {
            refused if refused >= 100.0 => Ok(()),
            refused => Err(format!("{refused} connections were refused")),
        });
        // Segments begin, are delivered, and go.
        let first = || gateway.status()["log"]["first_seq"].as_u64().expect("a number");
        let reached = first();
        eventually(GIVE_UP, || if first() > reached { Ok(()) } else { Err(format!("the log begins at {reached}")) });
        drop(held);
    });
}

/// A bomb for each encoding.
fn bombs() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let piece = vec![b'\n'; 1 << 20];
    let fill = |into: &mut dyn Write| {
        for _ in 0..BOMB_BYTES / piece.len() {
            into.write_all(&piece).expect("memory");
        }
    };
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    fill(&mut gzip);
    let mut deflate = ZlibEncoder::new(Vec::new(), Compression::fast());
    fill(&mut deflate);
    let mut zstd = zstd::Encoder::new(Vec::new(), 1).expect("memory");
    fill(&mut zstd);
    let snappy = snap::raw::Encoder::new().compress_vec(&vec![b'\n'; 512 << 20]).expect("memory");
    vec![
        ("/write?db=x", "gzip", gzip.finish().expect("memory")),
        ("/api/v1/import/prometheus", "deflate", deflate.finish().expect("memory")),
        ("/api/v2/write?bucket=b", "zstd", zstd.finish().expect("memory")),
        ("/api/v1/write", "snappy", snappy),
        ("/api/v1/write", "zstd", zstd::encode_all(&vec![0x0a; 512 << 20][..], 1).expect("memory")),
    ]
}

#[test]
fn bombs_of_every_encoding_at_once_do_not_explode() {
    let bombs = bombs();
    Scene::of(gateway()).survives(|gateway| {
        thread::scope(|scope| {
            for (path, encoding, bomb) in bombs.iter().cycle().take(bombs.len() * 3) {
                scope.spawn(move || {
                    for _ in 0..size(2, 20) {
                        let head = format!("POST {path} HTTP/1.1\r\nContent-Encoding: {encoding}\r\n");
                        let status = request(gateway.port(), &head, bomb);
                        assert!(matches!(status, Some(413 | 503)), "{path} {encoding}: {status:?}");
                    }
                });
            }
        });
    });
}

#[test]
fn lines_and_bodies_without_end_are_cut() {
    let (lines, wavefront) = (free_port(), free_port());
    let scene = Scene::of(gateway().listen("influx_tcp", lines).listen("wavefront", wavefront));
    scene.survives(|gateway| {
        let mut chunk = b"10000\r\n".to_vec();
        chunk.resize(chunk.len() + 0x1_0000, b'#');
        chunk.extend_from_slice(b"\r\n");
        let chunked = "POST /write?db=x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n";
        let forever = [(lines, "", vec![b'x'; 1 << 16]), (wavefront, "x", vec![b'x'; 1 << 16])];
        let bodies = [(gateway.port(), chunked, chunk.clone()), (wavefront, chunked, chunk)];
        thread::scope(|scope| {
            for (port, start, piece) in forever.iter().chain(&bodies).cycle().take(16) {
                scope.spawn(move || {
                    let mut stream = connect(*port).expect("a connection");
                    stream.write_all(start.as_bytes()).expect("sent");
                    pour(&mut stream, piece, duration());
                });
            }
        });
        for input in ["influx_line", "wavefront"] {
            let labels = [("input", input), ("reason", "too_long")];
            assert!(gateway.metric("sluicegate_samples_rejected_total", &labels) > 0.0, "{input} counts them");
        }
    });
}

#[test]
fn a_flood_of_datagrams_drowns_nobody() {
    let port = free_port();
    Scene::of(gateway().listen("influx_udp", port)).survives(|gateway| {
        let end = clock::monotonic() + duration();
        let sent: u64 = thread::scope(|scope| {
            let flooding: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(move || {
                        let socket = UdpSocket::bind("127.0.0.2:0").expect("a socket");
                        let datagram = "flood value=1 1\n".repeat(80);
                        let mut sent = 0;
                        while clock::monotonic() < end {
                            sent += 80 * u64::from(socket.send_to(datagram.as_bytes(), ("127.0.0.1", port)).is_ok());
                        }
                        sent
                    })
                })
                .collect();
            flooding.into_iter().map(|flood| flood.join().expect("a flood")).sum()
        });
        // What the kernel drops, nobody counts; the rest is accepted in the flood's own name or refused.
        let status = gateway.status();
        let sources = status["sources"].as_array().expect("sources").iter();
        let taken: u64 = sources
            .filter(|source| source["address"] == "127.0.0.2")
            .map(|source| source["accepted"].as_u64().expect("a number"))
            .sum();
        let refused = gateway.metric("sluicegate_samples_rejected_total", &[("input", "influx_line")]);
        eprintln!("{sent} lines sent, {taken} accepted, {refused} counted as dropped");
        assert!(taken > 0 && taken as f64 + refused <= sent as f64);
    });
}

#[test]
fn a_flood_of_new_series_leaves_the_new_series_of_others_alone() {
    // 100 bytes a series and more: a tenth of the flood fills the table.
    let series = size(150_000, 1_500_000);
    let setup = gateway().limits("memory_limit: 256MiB");
    Scene::of(setup).within(256 << 20).survives(|gateway| {
        let mut told_to_slow_down = 0;
        for first in (0..series).step_by(1000) {
            let lines: String = (first..first + 1000)
                .map(|number| format!("flood_{number},host=h{number},path=/a/rather/long/value/{number} value=1\n"))
                .collect();
            let status = request(gateway.port(), "POST /write?db=x HTTP/1.1\r\n", lines.as_bytes());
            assert!(matches!(status, Some(204 | 400 | 429 | 503)), "{status:?}");
            told_to_slow_down += u32::from(status == Some(429));
        }
        assert!(told_to_slow_down > 0);
        let labels = [("input", "influx_line"), ("reason", "series_limit")];
        assert!(gateway.metric("sluicegate_samples_rejected_total", &labels) > 0.0);
        let status = gateway.status();
        let sources = status["sources"].as_array().expect("sources");
        let flooding = sources.iter().find(|source| source["address"] == "127.0.0.2").expect("the flooding source");
        eprintln!("{} series of the flood, {} in all", flooding["series"], status["series"]["known"]);
        assert!(flooding["series"].as_u64().is_some_and(|held| held > 1000), "{flooding}");
    });
}

#[test]
fn garbage_on_every_port_is_refused() {
    let (lines, wavefront, datagrams) = (free_port(), free_port(), free_port());
    let setup = gateway().listen("influx_tcp", lines).listen("wavefront", wavefront).listen("influx_udp", datagrams);
    Scene::of(setup).survives(|gateway| {
        let mut seed = 1_u64;
        let mut garbage = |bytes: usize| -> Vec<u8> {
            let next = |_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed as u8
            };
            (0..bytes).map(next).collect()
        };
        let tls_hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec();
        let udp = UdpSocket::bind("127.0.0.2:0").expect("a socket");
        for round in 0..size(50, 1000) {
            for port in [gateway.port(), lines, wavefront] {
                let mut stream = connect(port).expect("a connection");
                let bytes = if round % 5 == 0 { tls_hello.clone() } else { garbage(10 + round * 37 % 4000) };
                let _ = stream.write_all(&bytes);
            }
            let _ = udp.send_to(&garbage(round * 13 % 1400), ("127.0.0.1", datagrams));
        }
        eventually(GIVE_UP, || match gateway.metric("sluicegate_samples_rejected_total", &[]) {
            rejected if rejected > 50.0 => Ok(()),
            rejected => Err(format!("{rejected} counted")),
        });
    });
}

#[test]
fn clients_that_never_read_their_answers_hold_nothing_but_themselves() {
    Scene::of(gateway()).survives(|gateway| {
        let asked = b"GET /metrics HTTP/1.1\r\nHost: g\r\n\r\n".repeat(100);
        let mut deaf: Vec<_> = (0..size(50, 500)).map(|_| connect(gateway.port()).expect("a connection")).collect();
        let end = clock::monotonic() + duration();
        for stream in &deaf {
            stream.set_nonblocking(true).expect("a socket");
        }
        while clock::monotonic() < end {
            for stream in &mut deaf {
                if let Err(error) = stream.write_all(&asked) {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}");
                }
            }
            thread::sleep(PAUSE);
        }
    });
}
