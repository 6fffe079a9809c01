//! Applications that are scraped over the connection they made: the RSocket of PyPI in the place of Micrometer's client, over
//! every transport, and raw bytes in the place of broken ones. Micrometer's own client is driven by the tests of the dialects.

use crate::support::component::{client, needs, python};
use crate::support::destinations;
use crate::support::gateway::{Exposition, Gateway, Setup, gateway};
use crate::support::http;
use crate::support::server::{eventually, free_port};
use sluicegate::clock;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);
/// SETUP as Micrometer's client sends it, with its length.
const SETUP: &[u8] =
    b"\0\0\x38\0\0\0\0\x04\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x12application/binary\x12application/binary";

/// An application.
struct Application {
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    /// Bytes of its key, and seconds until it had it.
    key: (usize, f64),
}

impl Application {
    fn start(address: &str, guid: &str, manner: &str) -> Self {
        Self::trusting(address, guid, manner, Path::new("none"))
    }

    fn trusting(address: &str, guid: &str, manner: &str, certificate: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/rsocket_application.py");
        let mut command = Command::new(python());
        command.args(["-W", "ignore"]).arg(script).args([address, guid, manner]).arg(certificate);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python starts");
        let (commands, answers) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let mut application = Self { child, commands, answers: BufReader::new(answers), key: (0, 0.0) };
        let said = application.answer();
        let words: Vec<_> = said.split(' ').collect();
        let ["key", bytes, seconds] = words[..] else { panic!("{guid} got no key: {said:?}") };
        application.key = (bytes.parse().expect("bytes"), seconds.parse().expect("seconds"));
        application
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an application that speaks");
        line.trim_end().to_owned()
    }

    /// What it answers to a command.
    fn does(&mut self, command: &str) -> String {
        writeln!(self.commands, "{command}").expect("an application that listens");
        self.answer()
    }

    /// Ends it in order.
    fn leave(mut self) {
        assert_eq!(self.does("leave"), "closed");
    }

    /// Ends it as a crash would.
    fn crash(mut self) {
        self.child.kill().expect("it runs");
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway that takes applications over TCP and WebSocket, and both addresses.
fn proxy(setup: Setup, settings: &str) -> (Gateway, [String; 2], u16) {
    let (tcp, websocket) = (free_port(), free_port());
    let setup = setup.listen("rsocket_tcp", tcp).listen("rsocket_websocket", websocket);
    let gateway = setup.block(&format!("rsocket: {{ {settings} }}\n")).start();
    (gateway, [format!("tcp://127.0.0.1:{tcp}"), format!("ws://127.0.0.1:{websocket}/any/path")], tcp)
}

fn connected(gateway: &Gateway) -> Exposition {
    Exposition::read(&gateway.url("/metrics/connected"))
}

fn counted(gateway: &Gateway, name: &str, labels: &[(&str, &str)]) -> f64 {
    Exposition::read(&gateway.url("/metrics/proxy")).sum(name, labels)
}

/// Waits until as many applications are connected.
fn has_connected(gateway: &Gateway, expected: f64) {
    eventually(SOON, || match counted(gateway, "prometheus_proxy_scrape_active_connections", &[]) {
        got if got == expected => Ok(()),
        got => Err(format!("{got} are connected, not {expected}")),
    });
}

/// The text of one application, as it is shown when it stands alone.
fn text_of(guid: &str, value: u64) -> String {
    let labels = format!("application_guid=\"{guid}\",application_name=\"py\",stream_name=\"s\"");
    format!(
        "# TYPE py_load gauge\npy_load{{{labels}}} 123456789.125\n\
         # HELP py_requests_total Requests.\n# TYPE py_requests_total counter\npy_requests_total{{{labels}}} {value}\n\
         # HELP py_seconds Time.\n# TYPE py_seconds summary\npy_seconds_count{{{labels}}} {value}\n\
         py_seconds_sum{{{labels}}} 0.5\n"
    )
}

#[test]
fn applications_give_their_text_over_every_transport() {
    needs!("applications_give_their_text_over_every_transport", "python");
    let (gateway, addresses, _) = proxy(gateway(), "scrape_interval: 1h");
    for (address, manner) in addresses.iter().zip(["well", "well"]).chain([(&addresses[0], "fragments")]) {
        let mut application = Application::start(address, "g1", manner);
        let (bytes, seconds) = application.key;
        assert!(bytes == 294 && seconds < 5.0, "a key of {bytes} bytes after {seconds} s over {address}");
        for value in [1, 5] {
            application.does(&format!("set {value}"));
            let answer = http::get(&gateway.url("/metrics/connected"));
            assert_eq!(answer.text(), text_of("g1", value), "{address} {manner}");
        }
        assert_eq!(application.does("alive"), "alive", "{address} {manner}");
        application.leave();
        has_connected(&gateway, 0.0);
    }
    let status = gateway.status();
    assert_eq!(status["applications"]["scrapes"], 6);
}

#[test]
fn families_of_all_applications_stand_together_in_the_format_asked_for() {
    needs!("families_of_all_applications_stand_together_in_the_format_asked_for", "python");
    let (gateway, [tcp, websocket], _) = proxy(gateway(), "scrape_interval: 1h");
    let empty = http::get(&gateway.url("/metrics/connected"));
    assert_eq!((empty.status, empty.text().as_str()), (200, ""));
    let _first = Application::start(&tcp, "g1", "well");
    let mut second = Application::start(&websocket, "g2", "well");
    second.does("set 7");
    // The same series as the first has: shown once, with the value of the first to connect.
    let mut third = Application::start(&tcp, "g1", "well");
    third.does("set 9");
    let page = http::get(&gateway.url("/metrics/connected")).text();
    assert_eq!(page.matches("# TYPE py_requests_total counter\n").count(), 1, "{page}");
    let lines: Vec<_> = page.lines().filter(|line| line.starts_with("py_requests_total")).collect();
    assert!(lines.len() == 2 && lines[0].ends_with(" 1") && lines[1].ends_with(" 7"), "{lines:?}");
    assert_eq!(counted(&gateway, "prometheus_proxy_duplicate_samples_total", &[]), 4.0);
    let open = [("Accept", "application/openmetrics-text;version=1.0.0")];
    let answer = http::send("GET", &gateway.url("/metrics/connected"), &open, b"");
    assert!(answer.text().contains("# TYPE py_requests counter\n") && answer.text().ends_with("# EOF\n"));
}

#[test]
fn plain_text_is_sent_as_it_is_and_still_pushed() {
    needs!("plain_text_is_sent_as_it_is_and_still_pushed", "python");
    let (gateway, [tcp, _], _) = proxy(gateway(), "scrape_interval: 1h, encryption: plaintext");
    let mut application = Application::start(&tcp, "g1", "well");
    assert_eq!(application.key.0, 294, "the key for what it pushes");
    assert_eq!(http::get(&gateway.url("/metrics/connected")).text(), text_of("g1", 1));
    application.does("set 3");
    assert_eq!(application.does("push"), "pushed 0");
    application.leave();
    has_connected(&gateway, 0.0);
    assert_eq!(http::get(&gateway.url("/metrics/connected")).text(), text_of("g1", 3));
}

#[test]
fn last_words_reach_the_log_and_every_scraper() {
    needs!("last_words_reach_the_log_and_every_scraper", "python");
    let (gateway, addresses, _) = proxy(gateway(), "scrape_interval: 1h");
    for (guid, command, answer) in [("g1", "push", "pushed 0"), ("g2", "tell", "told")] {
        for (transport, address) in ["tcp", "ws"].iter().zip(&addresses) {
            let guid = format!("{guid}-{transport}");
            let mut application = Application::start(address, &guid, "well");
            application.does("set 6");
            assert_eq!(application.does(command), answer);
            application.leave();
            let labels = [("application_guid", guid.as_str())];
            eventually(SOON, || match gateway.scraped().value("py_requests_total", &labels) {
                Ok(6.0) => Ok(()),
                other => Err(format!("/scrape shows {other:?}")),
            });
        }
    }
    has_connected(&gateway, 0.0);
    for _scraper in 0..3 {
        let page = connected(&gateway);
        assert_eq!(page.select("py_requests_total", &[]).count(), 4);
    }
    assert_eq!(counted(&gateway, "prometheus_proxy_pushes_total", &[("outcome", "success")]), 4.0);
    let mut wrong = Application::start(&addresses[0], "g5", "well");
    let refused = wrong.does("fail");
    assert!(refused.contains("expected an AES key wrapped with the gateway's public key"), "{refused}");
    assert_eq!(wrong.does("push"), "pushed 0", "the link survived");
}

#[test]
fn the_gateway_pulls_by_itself_and_ends_what_is_gone() {
    needs!("the_gateway_pulls_by_itself_and_ends_what_is_gone", "python", "prometheus");
    let prometheus = destinations::prometheus_receiver();
    let setup = gateway().with_prometheus(&prometheus.url("/api/v1/write"));
    let (gateway, [tcp, _], _) = proxy(setup, "scrape_interval: 1s");
    let shows = |query: &str, expected: Option<f64>| {
        eventually(SOON, || match destinations::promql_value(&prometheus, query).ok() {
            got if got == expected => Ok(()),
            got => Err(format!("{query} is {got:?}, not {expected:?}")),
        });
    };
    let mut stays = Application::start(&tcp, "stays", "well");
    let leaves = Application::start(&tcp, "leaves", "well");
    stays.does("set 4");
    shows("py_requests_total{application_guid='stays'}", Some(4.0));
    shows("py_requests_total{application_guid='leaves'}", Some(1.0));
    leaves.crash();
    shows("py_requests_total{application_guid='leaves'}", None);
    stays.does("add");
    shows("py_extra", Some(1.0));
    stays.does("push");
    shows("py_requests_total{application_guid='stays'}", Some(4.0));
    assert_eq!(gateway.status()["applications"]["connected"], 1);
    gateway.balanced();
}

#[test]
fn a_broken_application_costs_its_own_scrape_and_is_named() {
    needs!("a_broken_application_costs_its_own_scrape_and_is_named", "python");
    let (gateway, [tcp, websocket], _) = proxy(gateway(), "scrape_interval: 1h, scrape_timeout: 1s");
    let _good = Application::start(&tcp, "good", "well");
    let broken = [
        ("slow", "timeout"),
        ("silent", "timeout"),
        ("unwrapped", "sealed"),
        ("garbled", "sealed"),
        ("bomb", "text"),
        ("prose", "no_line"),
    ];
    let manners = broken.iter().zip([&tcp, &websocket].into_iter().cycle());
    let broken_ones: Vec<_> =
        manners.map(|((manner, _), address)| Application::start(address, manner, manner)).collect();
    let began = clock::monotonic();
    assert_eq!(http::get(&gateway.url("/metrics/connected")).text(), text_of("good", 1));
    assert!(began.elapsed() < Duration::from_secs(8), "nobody waits for a stuck application");
    for (_, exception) in broken {
        let labels = [("exception", exception)];
        assert!(counted(&gateway, "prometheus_proxy_scrape_seconds_count", &labels) >= 1.0, "{exception}");
    }
    let output = gateway.output();
    for why in ["found none", "wrapped with the gateway's public key", "padding", "Snappy", "text exposition"] {
        let named = output.lines().any(|line| line.contains("127.0.0.1:") && line.contains(why));
        assert!(named, "{why}: {output}");
    }
    // The slow one answers at last, and is asked again; the silent one owes an answer.
    eventually(SOON, || {
        let page = connected(&gateway);
        let stuck = counted(&gateway, "prometheus_proxy_scrape_seconds_count", &[("exception", "stuck")]);
        if stuck >= 1.0 { Ok(page) } else { Err("nobody is known to be stuck".to_owned()) }
    });
    has_connected(&gateway, 7.0);
    drop(broken_ones);
}

#[test]
fn a_scrape_ends_before_its_scraper_gives_up() {
    needs!("a_scrape_ends_before_its_scraper_gives_up", "python");
    let (gateway, [tcp, _], _) = proxy(gateway(), "scrape_interval: 1h, scrape_timeout: 1m");
    let _good = Application::start(&tcp, "good", "well");
    let _silent = Application::start(&tcp, "silent", "silent");
    let began = clock::monotonic();
    let waits = [("X-Prometheus-Scrape-Timeout-Seconds", "2")];
    let url = gateway.url("/metrics/connected");
    let answers: Vec<_> = thread::scope(|scope| {
        let scrapers: Vec<_> = (0..4).map(|_| scope.spawn(|| http::send("GET", &url, &waits, b""))).collect();
        scrapers.into_iter().map(|scraper| scraper.join().expect("an answer")).collect()
    });
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (200, text_of("good", 1)));
    }
    let scrapes = counted(&gateway, "prometheus_proxy_scrape_seconds_count", &[("outcome", "success")]);
    assert_eq!(scrapes, 1.0, "scrapers that come together share what is pulled");
}

#[test]
fn tls_is_spoken_where_it_is_configured() {
    needs!("tls_is_spoken_where_it_is_configured", "python");
    let folder = TempDir::new().expect("temporary folder");
    client("certificate.py", &[&folder.path().display().to_string()]);
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let tls = format!("tls: {{ cert_file: {}, key_file: {} }}", cert.display(), key.display());
    let (gateway, [tcp, _], port) = proxy(gateway(), &tls);
    let address = tcp.replace("tcp://", "tls://");
    let _application = Application::trusting(&address, "g1", "well", &cert);
    assert_eq!(http::get(&gateway.url("/metrics/connected")).text(), text_of("g1", 1));
    let mut plain = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    plain.write_all(SETUP).expect("it takes bytes");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    let labels = [("exception", "handshake"), ("transport", "TCP")];
    eventually(SOON, || match counted(&gateway, "prometheus_proxy_connection_error_total", &labels) {
        1.0 => Ok(()),
        other => Err(format!("{other} handshakes failed")),
    });
}

/// Sends bytes and reads what comes until the gateway closes.
fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.set_read_timeout(Some(SOON)).expect("a timeout");
    stream.write_all(bytes).expect("it takes bytes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the gateway closes");
    answer
}

#[test]
fn malformed_frames_cost_their_connection_and_nobody_elses() {
    needs!("malformed_frames_cost_their_connection_and_nobody_elses", "python");
    let (gateway, [tcp, _], port) = proxy(gateway(), "scrape_interval: 1h");
    let mut application = Application::start(&tcp, "g1", "well");
    let mut resumes = SETUP.to_vec();
    resumes[8] = 0x80;
    let after_setup = |frame: &[u8]| [SETUP, &(frame.len() as u32).to_be_bytes()[1..], frame].concat();
    let cases: [(Vec<u8>, &str, &[u8]); 6] = [
        (
            b"GET / HTTP/1.1\r\n\r\nHTTP spoken to RSocket, and a lot of it".to_vec(),
            "setup",
            b"\0\0\0\x01expected SETUP",
        ),
        (resumes, "setup", b"\0\0\0\x02resume is not supported"),
        (b"\0\0\x06\0\0\0\0\x34\0".to_vec(), "resume", b"\0\0\0\x04resume not supported"),
        (b"\0\0\x01\0".to_vec(), "malformed", b"\0\0\x01\x01expected a frame of 6 bytes"),
        (after_setup(b"\0\0\0\0\x0c\0\0"), "malformed", b"\0\0\x01\x01expected KEEPALIVE of 8 bytes"),
        (after_setup(b"\0\0\0\x02\x14\0"), "malformed", b"\0\0\x01\x01expected requests of a client on odd"),
    ];
    // What HTTP begins with is the length of a frame that never comes: its beginning is enough to refuse it.
    for (bytes, exception, expected) in cases {
        let labels = [("exception", exception), ("transport", "TCP")];
        let before = counted(&gateway, "prometheus_proxy_connection_error_total", &labels);
        let answer = exchange(port, &bytes);
        let error = [b"\0\0\0\0\x2c\0", expected].concat();
        let shown = String::from_utf8_lossy(&answer);
        assert!(answer.windows(error.len()).any(|window| window == error), "{exception}: {shown:?}");
        let after = counted(&gateway, "prometheus_proxy_connection_error_total", &labels);
        assert_eq!(after, before + 1.0, "{exception}");
    }
    assert_eq!(application.does("alive"), "alive");
    assert_eq!(http::get(&gateway.url("/metrics/connected")).text(), text_of("g1", 1));
    has_connected(&gateway, 1.0);
    assert!(gateway.output().contains("127.0.0.1:"), "it is named");
}

#[test]
fn a_storm_of_connections_keeps_nobody_from_being_scraped() {
    const STORMS: usize = 4;
    const CONNECTIONS: usize = 500;
    needs!("a_storm_of_connections_keeps_nobody_from_being_scraped", "python");
    let (gateway, [tcp, _], port) = proxy(gateway(), "scrape_interval: 1h, scrape_timeout: 2s");
    let _application = Application::start(&tcp, "g1", "well");
    let fault = [SETUP, b"\0\0\x06\0\0\0\x02\x14\0"].concat();
    thread::scope(|scope| {
        let storms: Vec<_> = (0..STORMS)
            .map(|storm| {
                let fault = &fault;
                scope.spawn(move || {
                    for at in 0..CONNECTIONS {
                        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
                        let bytes = if (storm + at) % 2 == 0 { SETUP } else { fault };
                        stream.write_all(bytes).expect("it takes bytes");
                        // The key, so that the connection was spoken on; then it is dropped.
                        let mut key = [0; 300];
                        stream.set_read_timeout(Some(SOON)).expect("a timeout");
                        stream.read_exact(&mut key).expect("the key");
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                })
            })
            .collect();
        while storms.iter().any(|storm| !storm.is_finished()) {
            let page = connected(&gateway);
            assert_eq!(page.select("py_requests_total", &[]).count(), 1, "scraped amid the storm");
        }
    });
    has_connected(&gateway, 1.0);
    let lines = gateway.output().lines().filter(|line| line.contains("is disconnected")).count();
    assert!(lines < 100, "{lines} lines about {} faults", STORMS * CONNECTIONS / 2);
}

#[test]
fn large_and_endless_frames_do_not_add_up() {
    const LINKS: usize = 24;
    const FRAME: usize = 16 << 20;
    // 131 MiB of it for all that is being received.
    let setup = gateway().limits("memory_limit: 1GiB, max_body_bytes: 17MiB, max_connections: 100");
    let (gateway, _, port) = proxy(setup, "scrape_interval: 1h");
    let head = [SETUP, &(FRAME as u32 - 1).to_be_bytes()[1..], b"\0\0\0\x01\x14\0"].concat();
    let (part, all) = (vec![7; 1 << 20], Barrier::new(LINKS));
    thread::scope(|scope| {
        for _ in 0..LINKS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
                stream.set_write_timeout(Some(SOON)).expect("a timeout");
                stream.write_all(&head).expect("it takes bytes");
                for _ in 0..FRAME / part.len() - 1 {
                    stream.write_all(&part).expect("what there is no room for is passed over");
                }
                // None of them closes before all have sent what they have.
                all.wait();
            });
        }
    });
    let resident = gateway.resident_bytes_max();
    assert!(resident < 300 << 20, "{} MiB", resident >> 20);
    assert_eq!(http::get(&gateway.url("/metrics/connected")).status, 200);
}

#[test]
fn a_prometheus_scrapes_both_pages() {
    needs!("a_prometheus_scrapes_both_pages", "python", "prometheus");
    let (gateway, [tcp, _], _) = proxy(gateway(), "scrape_interval: 1h");
    let mut application = Application::start(&tcp, "g1", "well");
    let target = format!("127.0.0.1:{}", gateway.port());
    for (page, query, expected) in [
        ("/metrics/connected", "py_requests_total{application_guid='g1'}", 1.0),
        ("/metrics/proxy", "prometheus_proxy_scrape_active_connections", 1.0),
        ("/metrics/connected", "py_requests_total{application_guid='g1'}", 2.0),
    ] {
        application.does(&format!("set {expected}"));
        let prometheus = destinations::prometheus_scraping(&target, page);
        eventually(SOON, || match destinations::promql_value(&prometheus, query) {
            Ok(got) if got == expected => Ok(()),
            other => Err(format!("{query} is {other:?}")),
        });
        assert_eq!(destinations::promql_value(&prometheus, "up"), Ok(1.0));
    }
}
