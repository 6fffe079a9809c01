//! What users, scripts and clients rely on, on the built binary: the command line, every path with its answers, the pages.
//! One test an area, as tables; what becomes of the samples at destinations is the business of the end-to-end tests.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::float_cmp, reason = "counts are whole numbers")]

#[path = "support"]
#[expect(dead_code, reason = "each program uses its part")]
mod support {
    pub(crate) mod gateway;
    pub(crate) mod http;
    pub(crate) mod server;
}

use prost::Message as _;
use sluicegate::wire::{compression, remote_write, remote_write2};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use support::gateway::gateway;
use support::server::{eventually, free_port};
use tempfile::TempDir;

const WITHIN: Duration = Duration::from_secs(30);

/// Sends bytes and reads to the end of the connection.
fn exchange(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// An answer: status, head in lower case, body.
fn ask(port: u16, method: &str, path: &str, headers: &[&str], body: &[u8]) -> (u16, String, String) {
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").into_bytes();
    for header in headers {
        request.extend_from_slice(header.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    request.extend_from_slice(body);
    let answer = exchange(port, &request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), head.to_ascii_lowercase(), body.to_owned())
}

/// Method, path, body, expected status, text expected in the answer (head in lower case, then body).
type Case<'a> = (&'a str, &'a str, &'a str, u16, &'a str);

fn answers(port: u16, cases: &[Case<'_>]) {
    for (method, path, body, status, contained) in cases {
        let (got, head, answered) = ask(port, method, path, &[], body.as_bytes());
        assert_eq!(got, *status, "{method} {path} {body:?}: {answered}");
        assert!(format!("{head}\n{answered}").contains(contained), "{method} {path} {body:?}: {head}\n{answered}");
    }
}

fn sluicegate(arguments: &[&str], input: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A process that stops at its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn translate_is_a_filter_that_tells_what_it_lost() {
    let line = "m,host=h a=1,b=2i,c=\"s\",d=true,e=3u 1700000000123456789\n";
    let text = "# HELP a_total h\n# TYPE a_total counter\na_total{x=\"y\"} 1 1700000000000\na_total{x=\"y\"} 2 1700000015000\nb 3\n";
    let cases = [
        ("influx_line", "influx_line", line, line, 0, ""),
        ("influx_line", "influx_line", "m v=1\n", "m v=1\n", 0, ""),
        ("influx_line", "influx_line", "m v=1\nbad\n", "m v=1\n", 1, "<stdin>:2:4: "),
        (
            "influx_line",
            "prometheus_text",
            line,
            "m_a{host=\"h\"} 1 1700000000123\nm_b{host=\"h\"} 2 1700000000123\nm_d{host=\"h\"} 1 1700000000123\nm_e{host=\"h\"} 3 1700000000123\n",
            0,
            "dropped 1 samples: string_value",
        ),
        ("prometheus_text", "prometheus_text", text, text, 0, ""),
        (
            "prometheus_text",
            "openmetrics",
            text,
            "# HELP a h\n# TYPE a counter\na_total{x=\"y\"} 1 1700000000\na_total{x=\"y\"} 2 1700000015\nb 3\n# EOF\n",
            0,
            "",
        ),
        ("openmetrics", "prometheus_text", "a 1\n", "a 1\n", 1, "`# EOF`"),
        ("prometheus_text", "influx_line", "a NaN\nb 1 5\n", "b value=1 5000000\n", 0, "dropped 1 samples: non_finite"),
        (
            "wavefront",
            "wavefront",
            "a 1 source=s k=v\n@Event 1\n",
            "\"a\" 1.0 source=\"s\" \"k\"=\"v\"\n",
            1,
            "<stdin>:2:1: ",
        ),
        ("prometheus_text", "influx_line", "", "", 0, ""),
    ];
    for (from, to, input, output, code, told) in cases {
        let (status, out, err) = sluicegate(&["translate", "--from", from, "--to", to], input.as_bytes());
        assert_eq!((String::from_utf8(out).unwrap().as_str(), status), (output, Some(code)), "{from} {to}: {err}");
        assert!(if told.is_empty() { err.is_empty() } else { err.contains(told) }, "{from} {to}: {err}");
    }
    for version in ["remote_write", "remote_write2"] {
        let (status, there, _) =
            sluicegate(&["translate", "--from", "prometheus_text", "--to", version], text.as_bytes());
        assert_eq!(status, Some(0));
        let (status, back, err) = sluicegate(&["translate", "--from", version, "--to", "prometheus_text", "-"], &there);
        assert_eq!(status, Some(0), "{err}");
        assert!(text.starts_with(String::from_utf8(back).unwrap().split("b 3").next().unwrap()));
    }
    assert_eq!(sluicegate(&["translate", "--from", "remote_write", "--to", "influx_line"], b"junk").0, Some(1));
    let (status, _, err) = sluicegate(&["translate", "--from", "influx_line", "--to", "influx_line", "absent"], b"");
    assert!(status == Some(1) && err.contains("absent: "), "{err}");
}

/// A gateway of its own configuration, to be ended by the test.
fn run_in(dir: &Path, config: &str) -> Child {
    let file = dir.join(format!("{}.yml", free_port()));
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("--config").arg(file).current_dir(dir).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

fn ready(port: u16) {
    eventually(WITHIN, || {
        TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        let (status, ..) = ask(port, "GET", "/-/ready", &[], b"");
        (status == 200).then_some(()).ok_or_else(|| status.to_string())
    });
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn ended(child: Child) -> (ExitStatus, String) {
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn says_why_it_cannot_start() {
    let dir = TempDir::new().unwrap();
    let (port, other) = (free_port(), free_port());
    let first = run_in(dir.path(), &format!("listen: {{ http: '127.0.0.1:{port}' }}\nlog: {{ dir: one }}\n"));
    ready(port);
    std::fs::write(dir.path().join("file"), "").unwrap();
    let cases = [
        (port, "two", "listen.http"),
        (other, "one", "in use by another process"),
        (other, "file", "log.dir"),
        (other, "/proc/nowhere", "/proc/nowhere"),
    ];
    for (port, log, told) in cases {
        let config = format!("listen: {{ http: '127.0.0.1:{port}' }}\nlog: {{ dir: {log} }}\n");
        let (status, err) = ended(run_in(dir.path(), &config));
        assert_eq!(status.code(), Some(1), "{err}");
        assert!(err.contains(told), "{told}: {err}");
    }
    signal(&first, "TERM");
    assert_eq!(ended(first).0.code(), Some(0));
}

#[test]
fn signals_drain_or_reload() {
    for ending in ["TERM", "INT"] {
        let dir = TempDir::new().unwrap();
        let port = free_port();
        let child = run_in(dir.path(), &format!("listen: {{ http: '127.0.0.1:{port}' }}\nlog: {{ dir: d }}\n"));
        ready(port);
        signal(&child, "HUP");
        answers(port, &[("POST", "/write?db=x", "cpu v=1", 204, ""), ("POST", "/-/reload", "", 200, "not changed")]);
        signal(&child, ending);
        let (status, err) = ended(child);
        assert_eq!(status.code(), Some(0), "SIG{ending}: {err}");
        assert!(err.contains("SIGHUP: the configuration has not changed"), "{err}");
        assert!(err.contains("exit report") && err.contains("accepted=1"), "{err}");
    }
}

#[test]
fn influx_clients_get_the_answers_they_know() {
    let gateway = gateway().start();
    let port = gateway.port();
    for unit in ["n", "ns", "u", "us", "ms", "s", "m", "h"] {
        answers(port, &[("POST", &format!("/write?db=x&precision={unit}"), "t v=1 1", 204, "x-influxdb-version: ")]);
    }
    for unit in ["ns", "us", "ms", "s"] {
        answers(port, &[("POST", &format!("/api/v2/write?org=o&bucket=b&precision={unit}"), "t v=1 1", 204, "")]);
    }
    for unit in ["auto", "nanosecond", "microsecond", "millisecond", "second"] {
        answers(port, &[("POST", &format!("/api/v3/write_lp?db=x&precision={unit}"), "t v=1 1", 204, "")]);
    }
    answers(
        port,
        &[
            ("POST", "/write", "t v=1", 400, "{\"error\":\"database is required\"}"),
            ("POST", "/write?db=x&precision=day", "t v=1", 400, "x-influxdb-error: invalid precision"),
            ("POST", "/write?db=x&rp=r&consistency=any&u=u&p=p", "t v=1", 204, ""),
            ("POST", "/write?db=x", "", 204, ""),
            ("POST", "/write?db=x", "a v=1\nbad\nb v=1", 400, "{\"error\":\"partial write: unable to parse line 2"),
            ("POST", "/write?db=x", "bad", 400, "{\"error\":\"unable to parse line 1"),
            ("PUT", "/write?db=x", "a v=1", 405, "allow: post"),
            ("POST", "/api/v2/write?bucket=b&precision=h", "t v=1", 400, "\"code\":\"invalid\""),
            ("POST", "/api/v2/write?bucket=b", "c v=1\nbad", 400, "\"code\":\"invalid\""),
            ("POST", "/api/v3/write_lp", "t v=1", 400, "'db'"),
            ("POST", "/api/v3/write_lp?db=x", "d v=1\nbad", 400, "\"line_number\":2,\"original_line\":\"bad\""),
            ("POST", "/api/v3/write_lp?db=x&accept_partial=false", "never v=1\nbad", 400, "\"line_number\":2"),
            ("POST", "/api/v3/write_lp?db=x&no_sync=true", "e v=1", 204, ""),
            ("GET", "/ping", "", 204, "x-influxdb-version: "),
            ("HEAD", "/ping", "", 204, "x-influxdb-version: "),
            ("GET", "/ping?verbose=true", "", 200, "\"version\""),
            ("GET", "/health", "", 200, "\"status\":\"pass\""),
            ("GET", "/query?q=CREATE+DATABASE+one", "", 200, "{\"results\":[{\"statement_id\":0}]}"),
            ("POST", "/query?q=create+database+%22two%22%3B+SHOW+DATABASES", "", 200, "[[\"one\"],[\"two\"]]"),
            ("GET", "/query", "", 400, "missing required parameter"),
        ],
    );
    let form = ["Content-Type: application/x-www-form-urlencoded"];
    let (status, _, body) = ask(port, "POST", "/query", &form, b"q=SHOW+DATABASES");
    assert!(status == 200 && body.contains("\"columns\":[\"name\"]"), "{body}");
    let (status, ..) = ask(port, "POST", "/write?db=x", &["Content-Encoding: br"], b"a v=1");
    assert_eq!(status, 415);
    eventually(WITHIN, || {
        let (_, _, page) = ask(port, "GET", "/scrape", &[], b"");
        let all = ["a_v", "b_v", "c_v", "d_v", "e_v"].iter().all(|name| page.contains(&format!("{name} 1\n")));
        (all && !page.contains("never")).then_some(()).ok_or(page)
    });
}

#[test]
fn prometheus_clients_push_text() {
    let gateway = gateway().start();
    let port = gateway.port();
    let import = "/api/v1/import/prometheus";
    answers(
        port,
        &[
            ("POST", import, "a 1 1700000000000\nb 2", 204, ""),
            ("POST", import, "c 1\nd{ 2\n", 400, "line 2 column 4"),
            ("POST", &format!("{import}?timestamp=5&extra_label=job=x&extra_label=e=a=b"), "f{job=\"y\"} 1", 204, ""),
            ("POST", &format!("{import}?timestamp=now"), "a 1", 400, "timestamp"),
            ("POST", &format!("{import}?extra_label=job"), "a 1", 400, "extra_label"),
            ("POST", "/metrics/job/j/instance/i", "g 1\nh 1\n", 200, ""),
            ("PUT", "/metrics/job/j/instance/i", "g 2\n", 200, ""),
            ("POST", "/metrics/job@base64/YS9i/path@base64/L3Zhcg", "k 1\n", 200, ""),
            ("POST", "/metrics/job/j", "good 1\nbad{ 2\n", 400, "line 2"),
            ("POST", "/metrics/job/j/instance", "g 1\n", 400, "odd number of components"),
            ("POST", "/metrics/job/j/a-b/c", "g 1\n", 400, "improper label name"),
            ("POST", "/metrics/job@base64/=", "g 1\n", 400, "job name is required"),
            ("DELETE", "/metrics/job/never", "", 202, ""),
            ("GET", "/metrics/job/j", "", 405, "allow: post, put, delete"),
        ],
    );
    let open = ["Content-Type: application/openmetrics-text; version=1.0.0"];
    assert_eq!(ask(port, "POST", import, &open, b"# TYPE o counter\no_total 1\n# EOF\n").0, 204);
    assert_eq!(ask(port, "POST", import, &open, b"o_total 1\n").0, 400);
    let expected = [
        "a 1 1700000000000\n",
        "b 2\n",
        "c 1\n",
        "f{e=\"a=b\",job=\"x\"} 1\n",
        "g{instance=\"i\",job=\"j\"} 2\n",
        "k{instance=\"\",job=\"a/b\",path=\"/var\"} 1\n",
        "# TYPE o_total counter\no_total 1\n",
    ];
    eventually(WITHIN, || {
        let (_, _, page) = ask(port, "GET", "/scrape", &[], b"");
        let complete = expected.iter().all(|line| page.contains(line));
        (complete && !page.contains("h{") && !page.contains("good")).then_some(()).ok_or(page)
    });
    let accept = ["Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.5"];
    let (_, head, page) = ask(port, "GET", "/scrape", &accept, b"");
    assert!(head.contains("application/openmetrics-text") && page.ends_with("# EOF\n"), "{head}\n{page}");
    assert!(page.contains("# TYPE o counter\no_total 1\n"), "{page}");
}

#[test]
fn remote_write_versions_are_negotiated_by_content_type() {
    let gateway = gateway().start();
    let port = gateway.port();
    let two = "Content-Type: application/x-protobuf;proto=io.prometheus.write.v2.Request";
    let sample = remote_write::messages::Sample { value: 1.0, timestamp: 1_700_000_000_000 };
    let label = |name: &str, value: &str| remote_write::messages::Label { name: name.into(), value: value.into() };
    let series = |labels| remote_write::messages::TimeSeries { labels, samples: vec![sample], ..Default::default() };
    let first = remote_write::messages::WriteRequest {
        timeseries: vec![series(vec![label("__name__", "one")]), series(vec![label("nameless", "x")])],
        ..Default::default()
    };
    let sample = remote_write2::messages::Sample { value: 1.0, timestamp: 1_700_000_000_000, start_timestamp: 0 };
    let series =
        |labels_refs| remote_write2::messages::TimeSeries { labels_refs, samples: vec![sample], ..Default::default() };
    let second = remote_write2::messages::Request {
        symbols: ["", "__name__", "two", "b"].map(str::to_owned).to_vec(),
        timeseries: vec![series(vec![1, 2]), series(vec![1, 9]), series(vec![3, 2])],
    };
    let (first, second) = (compression::snappy(&first.encode_to_vec()), compression::snappy(&second.encode_to_vec()));
    let empty = compression::snappy(b"");
    let none = "x-none: x";
    let cases: [(&[&str], &[u8], u16); 10] = [
        (&["Content-Type: application/x-protobuf", "Content-Encoding: snappy"], &empty, 204),
        (&["Content-Type: application/x-protobuf;proto=prometheus.WriteRequest"], &empty, 204),
        (&[none], &empty, 204),
        (&[none], &first, 400),
        (&[two, "Content-Encoding: snappy"], &empty, 204),
        (&[two], &second, 400),
        (&[two, "Content-Encoding: gzip"], b"x", 415),
        (&["Content-Type: application/json"], b"{}", 415),
        (&["Content-Type: application/x-protobuf;proto=other"], &empty, 415),
        (&[two], b"\xff\xff\xff\xff\xff\xff", 400),
    ];
    for path in ["/api/v1/write", "/api/v1/push"] {
        for (headers, body, expected) in cases {
            let (status, head, body) = ask(port, "POST", path, headers, body);
            assert_eq!(status, expected, "{headers:?}: {body}");
            let is_told = head.contains("x-prometheus-remote-write-samples-written: ");
            assert_eq!(is_told, headers[0] == two && status != 415, "{headers:?}: {head}");
            assert_eq!(status == 204, body.is_empty(), "{headers:?}: {body}");
        }
        let (_, head, body) = ask(port, "POST", path, &[two], &second);
        for (of, written) in [("samples", 1), ("histograms", 0), ("exemplars", 0)] {
            assert!(head.contains(&format!("x-prometheus-remote-write-{of}-written: {written}")), "{head}");
        }
        assert!(body.contains("series 1: ") && body.contains("series 2: "), "{body}");
    }
    assert_eq!(gateway.metric("sluicegate_samples_accepted_total", &[("input", "remote_write")]), 2.0);
    assert_eq!(gateway.metric("sluicegate_samples_accepted_total", &[("input", "remote_write2")]), 4.0);
}

#[test]
fn wavefront_senders_are_never_turned_away() {
    let own = free_port();
    let gateway = gateway().listen("wavefront", own).start();
    for port in [gateway.port(), own] {
        answers(
            port,
            &[
                ("POST", "/report", "w.a 1 source=s\n", 202, ""),
                ("POST", "/report?f=wavefront", "w.b 1 source=s\nbad\n!M #1 1 h source=s\n", 202, ""),
                ("POST", "/report?f=histogram", "w.never 1 source=s\n!M 1533529977000 #20 30.0 h source=s\n", 202, ""),
                ("POST", "/report?f=trace", "anything\n", 202, ""),
                ("POST", "/report", "", 202, ""),
            ],
        );
    }
    answers(
        own,
        &[("POST", "/any", "w.c 1 source=s", 202, ""), ("GET", "/", "", 202, ""), ("OPTIONS", "/", "", 204, "")],
    );
    assert_eq!(exchange_lines(own, "w.d 1 source=s\nbad\nGETS.e 1 source=s\n"), "");
    eventually(WITHIN, || {
        let (_, _, page) = ask(gateway.port(), "GET", "/scrape", &[], b"");
        let complete = ["w_a", "w_b", "w_c", "w_d", "GETS_e"].iter().all(|name| page.contains(&format!("{name}{{")));
        (complete && page.contains("h_count{") && !page.contains("never")).then_some(()).ok_or(page)
    });
}

/// Sends lines, says so with a FIN, and returns what came back.
fn exchange_lines(port: u16, lines: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(WITHIN)).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn scrapers_that_read_quotes_get_names_as_they_are() {
    let gateway = gateway().start();
    let port = gateway.port();
    let sent = "{\"a.b\",\"x.y\"=\"1\"} 3\n";
    assert_eq!(ask(port, "POST", "/api/v1/import/prometheus", &[], sent.as_bytes()).0, 204);
    let cases = [
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            sent,
        ),
        (
            "text/plain;version=0.0.4;escaping=underscores",
            "text/plain; version=0.0.4; charset=utf-8",
            "a_b{x_y=\"1\"} 3\n",
        ),
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "a_b{x_y=\"1\"} 3\n"),
    ];
    for (accept, content_type, expected) in cases {
        eventually(WITHIN, || {
            let (_, head, page) = ask(port, "GET", "/scrape", &[&format!("Accept: {accept}")], b"");
            let told = head.contains(&format!("content-type: {content_type}\r\n"));
            (told && page == expected).then_some(()).ok_or_else(|| format!("{accept}: {head} {page}"))
        });
    }
}

#[test]
fn pages_and_own_metrics_are_there() {
    let gateway = gateway().with_prometheus("http://127.0.0.1:1/").start();
    let port = gateway.port();
    answers(
        port,
        &[
            ("POST", "/write?db=x", "a v=\"text\"", 204, ""),
            ("GET", "/", "", 200, "content-type: text/html"),
            ("GET", "/assets/app.js", "", 200, "javascript"),
            ("GET", "/metrics", "", 200, "content-type: text/plain; version=0.0.4"),
            ("HEAD", "/metrics", "", 200, "content-length"),
            ("GET", "/metrics/connected", "", 200, "content-type: text/plain; version=0.0.4"),
            ("GET", "/metrics/proxy", "", 200, "prometheus_proxy_scrape_active_connections 0"),
            ("POST", "/metrics/connected", "a 1", 405, "allow: get, head"),
            ("GET", "/-/healthy", "", 200, "healthy"),
            ("GET", "/-/ready", "", 200, "ready"),
            ("GET", "/-/reload", "", 405, "allow: post"),
            ("POST", "/metrics", "a 1", 405, "allow: get"),
            ("GET", "/nowhere", "", 404, ""),
            ("GET", "/api/v1/write", "", 405, "allow: post"),
        ],
    );
    eventually(WITHIN, || {
        let dropped = gateway.metric("sluicegate_samples_dropped_total", &[("reason", "string_value")]);
        (dropped == 1.0).then_some(()).ok_or_else(|| dropped.to_string())
    });
    let (_, _, page) = ask(port, "GET", "/metrics", &[], b"");
    for name in [
        "sluicegate_samples_accepted_total{input=\"influx_line\"} 1",
        "sluicegate_samples_delivered_total{output=\"prom\"} 0",
        "sluicegate_samples_dropped_total{output=\"prom\",reason=\"string_value\"} 1",
        "sluicegate_samples_pending{output=\"prom\"} 0",
        "sluicegate_translation_losses_total{output=\"prom\",reason=\"string_value\"} 1",
        "sluicegate_series ",
        "sluicegate_log_bytes ",
        "sluicegate_output_lag_seconds{output=\"prom\"} ",
        "sluicegate_build_info{version=\"",
        "# TYPE sluicegate_samples_rejected_total counter",
    ] {
        assert!(page.contains(&format!("\n{name}")), "{name} in {page}");
    }
    let status = gateway.status();
    for key in ["build", "inputs", "outputs", "ledger", "log", "series", "sources"] {
        assert!(!status[key].is_null(), "{key} in {status}");
    }
    assert_eq!(status["ledger"]["balanced"], true);
}

#[test]
fn every_kind_of_http_client_is_understood() {
    let gateway = gateway().start();
    let port = gateway.port();
    let cases: [(&str, &str); 5] = [
        ("POST /write?db=x HTTP/1.0\r\nContent-Length: 7\r\n\r\ncpu v=1", "HTTP/1.0 204"),
        (
            "POST /write?db=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ncpu \r\n3\r\nv=2\r\n0\r\n\r\n",
            "HTTP/1.1 204",
        ),
        (
            "POST /write?db=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 7\r\n\r\ncpu v=3",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204",
        ),
        ("\0\0\0\r\n\r\n", "HTTP/1.1 400"),
        ("GET http://x/-/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "HTTP/1.1 200"),
    ];
    for (request, answer) in cases {
        let got = exchange(port, request.as_bytes());
        assert!(got.starts_with(answer), "{request:?}: {got}");
    }
    // One connection, an error in the middle.
    let one = "POST /write?db=x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\ncpu v=1";
    let lost = "POST /nowhere HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\ncpu v=1";
    let last = "POST /write?db=x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 7\r\n\r\ncpu v=1";
    let got = exchange(port, [one, lost, last].concat().as_bytes());
    assert_eq!((got.matches(" 204 ").count(), got.matches(" 404 ").count()), (2, 1), "{got}");
}
