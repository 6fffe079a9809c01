//! `sluicegate translate`, on the built binary: every pair of formats, bounds of memory, pipes, messages, the dry run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::format_collect, clippy::format_push_string, reason = "a test may allocate")]

use prost::Message as _;
use sluicegate::wire::compression::{self, Encoding};
use sluicegate::wire::{remote_write, remote_write2};
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

const FORMATS: [&str; 6] =
    ["prometheus_text", "openmetrics", "remote_write", "remote_write2", "influx_line", "wavefront"];

/// The same attacks with bigger numbers.
fn is_long() -> bool {
    std::env::var_os("SLUICEGATE_LONG").is_some_and(|value| value == "1")
}

fn start(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .arg("translate")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

struct Ended {
    code: Option<i32>,
    out: Vec<u8>,
    err: String,
}

fn translate(arguments: &[&str], input: &[u8]) -> Ended {
    let mut child = start(arguments);
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Ended { code: output.status.code(), out: output.stdout, err: String::from_utf8(output.stderr).unwrap() }
}

fn pair(from: &str, to: &str, input: &[u8]) -> Ended {
    translate(&["--from", from, "--to", to], input)
}

const INFLUX: &str = "disk,host=db\\ 1,path=/ free=0.5,used=9007199254740993i,state=\"ok, \\\"so\nfar\\\"\",ok=true,n=3u 1700000000123456789\n\
    # a comment\nload,host=db\\ 1 value=0.25\nload,host=db\\ 1 value=-1e-300 1700000000000000000\n";
const TEXT: &str = "# HELP http_total Requests \\\\ all.\n# TYPE http_total counter\nhttp_total{code=\"200\",path=\"C:\\\\x \\\"y\\\"\\n\"} 3 1700000000000\n\
    # TYPE lat histogram\nlat_bucket{le=\"0.10\"} 1\nlat_bucket{le=\"+Inf\"} 2\nlat_sum 0.7\nlat_count 2\n\
    # TYPE q summary\nq{quantile=\"0.5\"} NaN\nq_sum 1\nq_count 1\nplain -0\nrest +Inf 5\n";
const OPENMETRICS: &str = "# TYPE jobs counter\n# HELP jobs Jobs.\njobs_total{q=\"a\"} 17 1700000000.5 # {trace_id=\"abc\"} 1 1700000000.25\njobs_created{q=\"a\"} 1600000000.000001\n\
    # TYPE temp_celsius gauge\n# UNIT temp_celsius celsius\ntemp_celsius 21.5 1700000000.000000001\n# TYPE build info\nbuild_info{v=\"1\"} 1\n# EOF\n";
const WAVEFRONT: &str = "\"jvm.memory\" 5 1700000000 source=\"a\" \"k\"=\"v\"\n\u{2206}hits 2 1700000000 source=b\n~sdk.x 1 1700000000 source=b\nnow 1.5 source=c\n\
    !M 1700000000 #2 1.5 #1 4 latency source=d\n";

/// An input of each format with the samples in it: what is special in the format, and for protobuf a native histogram
/// and a stale marker.
fn rich(format: &str) -> (Vec<u8>, u64) {
    match format {
        "influx_line" => (INFLUX.into(), 7),
        "prometheus_text" => (TEXT.into(), 10),
        "openmetrics" => (OPENMETRICS.into(), 3),
        "wavefront" => (WAVEFRONT.into(), 5),
        "remote_write" => {
            use remote_write::messages::{Label, Sample, TimeSeries, WriteRequest};
            let series = |name: &str, value, histograms| {
                let label = |name: &str, value: &str| Label { name: name.into(), value: value.into() };
                let labels = vec![label("__name__", name), label("a.b", "é")];
                TimeSeries { labels, samples: vec![Sample { value, timestamp: 1 }], exemplars: Vec::new(), histograms }
            };
            let native = remote_write::messages::Histogram::decode(&*native_histogram()).unwrap();
            let stale = f64::from_bits(sluicegate::model::STALE_MARKER_BITS);
            let timeseries = vec![series("up", stale, vec![]), series("lat", 1.0, vec![native])];
            (compression::snappy(&WriteRequest { timeseries, ..WriteRequest::default() }.encode_to_vec()), 3)
        }
        _ => {
            let (first, samples) = rich("remote_write");
            let second = pair("remote_write", "remote_write2", &first);
            assert_eq!(second.code, Some(0), "{}", second.err);
            (second.out, samples)
        }
    }
}

/// A native histogram of one observation in a bucket of schema 0, as a message of either version.
fn native_histogram() -> Vec<u8> {
    use remote_write::messages::{BucketSpan, Histogram, histogram};
    let histogram = Histogram {
        count: Some(histogram::Count::CountInt(1)),
        zero_count: Some(histogram::ZeroCount::ZeroCountInt(0)),
        zero_threshold: 0.001,
        sum: 1.5,
        positive_spans: vec![BucketSpan { offset: 1, length: 1 }],
        positive_deltas: vec![1],
        timestamp: 2,
        ..Histogram::default()
    };
    histogram.encode_to_vec()
}

/// Values in a body of that format, counted without our decoders: lines, fields, samples and histograms.
fn values(format: &str, body: &[u8]) -> u64 {
    let lines = |body: &[u8]| {
        let text = String::from_utf8(body.to_vec()).unwrap();
        text.lines().filter(|line| !line.starts_with('#') && !line.contains("_created")).count() as u64
    };
    let plain = |body: &[u8]| {
        let mut plain = Vec::new();
        compression::decompress(Encoding::Snappy, body, 1 << 30, &mut plain).unwrap();
        plain
    };
    match format {
        "influx_line" => {
            let text = String::from_utf8(body.to_vec()).unwrap();
            let rows = influxdb_line_protocol::parse_lines(&text).map(|row| row.unwrap().field_set.len() as u64);
            rows.sum()
        }
        "remote_write" => {
            let request = remote_write::messages::WriteRequest::decode(&*plain(body)).unwrap();
            request.timeseries.iter().map(|series| (series.samples.len() + series.histograms.len()) as u64).sum()
        }
        "remote_write2" => {
            let request = remote_write2::messages::Request::decode(&*plain(body)).unwrap();
            request.timeseries.iter().map(|series| (series.samples.len() + series.histograms.len()) as u64).sum()
        }
        _ => lines(body),
    }
}

/// What a sample is there besides one value: a native histogram its buckets, count and sum; a distribution count and sum.
fn expanded(from: &str, to: &str) -> u64 {
    match (from, to) {
        ("remote_write" | "remote_write2", "prometheus_text" | "openmetrics" | "influx_line" | "wavefront") => {
            // One bucket, `+Inf`, count and sum.
            3
        }
        ("wavefront", to) if to != "wavefront" => 1,
        _ => 0,
    }
}

/// The numbers in front of ` samples: ` behind a word.
fn told(err: &str, word: &str) -> u64 {
    let counts = err.lines().filter_map(|line| line.strip_prefix(word)?.trim_start().split_once(" samples: "));
    counts.map(|(count, _)| count.parse::<u64>().unwrap()).sum()
}

#[test]
fn every_sample_of_every_pair_is_written_or_dropped_by_name() {
    for from in FORMATS {
        let (input, samples) = rich(from);
        for to in FORMATS {
            let ended = pair(from, to, &input);
            let err = &ended.err;
            assert_eq!(ended.code, Some(0), "{from} to {to}: {err}");
            assert!(!err.contains("unknown") && told(err, "refused") == 0, "{from} to {to}: {err}");
            let dropped = told(err, "dropped");
            let written = values(to, &ended.out) - expanded(from, to);
            assert_eq!(samples, written + dropped, "{from} to {to}: {err}\n{}", String::from_utf8_lossy(&ended.out));
            let balance = format!("{samples} samples read, {written} written, {dropped} dropped; 0 refused\n");
            assert!(err.is_empty() && dropped == 0 || err.ends_with(&balance), "{from} to {to}: {err}");
        }
    }
}

#[test]
fn losses_have_their_first_lines() {
    let lines = "a s=\"x\" 1000000\nb f=1 1000000\nc s=\"y\nz\",t=\"w\" 1000000\n# comment\nd s=\"x\" 1000000\ne f=1i 1\nf s=\"x\" 1000000\n";
    let ended = pair("influx_line", "prometheus_text", lines.as_bytes());
    let expected = "dropped 5 samples: string_value (<stdin>:1, <stdin>:3, <stdin>:6, ...)\n\
        altered 1 samples: timestamp_truncated (<stdin>:7)\naltered 1 samples: field_type (<stdin>:7)\n\
        7 samples read, 2 written, 5 dropped; 0 refused\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), expected));
    let ended = pair("influx_line", "remote_write2", lines.as_bytes());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), expected));

    let open = "# TYPE a counter\na_total 1 # {t=\"x\"} 1\na_created 5\n# TYPE b gauge\nb NaN\n# EOF\n";
    let ended = pair("openmetrics", "influx_line", open.as_bytes());
    let expected = "dropped 1 samples: non_finite (<stdin>:5)\naltered 1 samples: metadata (<stdin>:2)\n\
        altered 1 samples: exemplar (<stdin>:2)\naltered 1 samples: start_timestamp (<stdin>:2)\n\
        2 samples read, 1 written, 1 dropped; 0 refused\n";
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), expected));
}

#[test]
fn refused_lines_are_shown_with_a_caret_under_the_fault() {
    let cases = [
        (
            "influx_line",
            "ok f=1\ncpu,host=a usage=1.2.3\n",
            "<stdin>:2:18: expected a number in range, found \"1.2.3\"\n    cpu,host=a usage=1.2.3\n                     ^\n",
        ),
        ("influx_line", "m\tx\n", "<stdin>:1:2: expected a comma or a space, found \"\\tx\"\n    m x\n     ^\n"),
        (
            "prometheus_text",
            "  a{b=c} 1\n",
            "<stdin>:1:7: expected a label value in double quotes, found \"c} 1\"\n      a{b=c} 1\n          ^\n",
        ),
        ("prometheus_text", "é{} 1\n", "<stdin>:1:1: "),
        ("prometheus_text", "a{b=\"é\"} x\n", "    a{b=\"é\"} x\n             ^\n"),
        ("openmetrics", "a 1\n", "<stdin>:2:1: expected `# EOF`, found the end of the body\n"),
        ("wavefront", "a 1 source=s\n b x source=s\n", "<stdin>:2:4: "),
        ("wavefront", "a 1 source=s\n b x source=s\n", "     b x source=s\n       ^\n"),
    ];
    for (from, input, shown) in cases {
        let ended = pair(from, "influx_line", input.as_bytes());
        assert_eq!(ended.code, Some(1), "{from} {input:?}");
        assert!(ended.err.contains(shown), "{from} {input:?}: {}", ended.err);
    }

    let long = format!("{}m,t={} f=1,g=x,h={}\n", "ok f=1\n".repeat(3), "a".repeat(500), "b".repeat(500));
    let err = pair("influx_line", "influx_line", long.as_bytes()).err;
    let lines: Vec<&str> = err.lines().collect();
    assert!(
        lines[0].starts_with("<stdin>:4:512: expected a number, a boolean or a quoted string, found \"x,h=bbb"),
        "{err}"
    );
    assert_eq!(lines[1].chars().count(), 99, "{err}");
    assert!(lines[1].starts_with("    …aaa") && lines[1].ends_with("bbb…"), "{err}");
    let caret = lines[2].find('^').unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('x'), "{err}");

    let many = format!("{}m f=\n", "bad\n".repeat(30));
    let err = pair("influx_line", "influx_line", many.as_bytes()).err;
    assert_eq!(err.matches("found the end of the line").count(), 5, "{err}");
    let end = "refused 1 samples: invalid_value\nrefused 30 samples: no_value (the first 5 shown)\n\
        0 samples read, 0 written, 0 dropped; 31 refused\n";
    assert!(err.ends_with(end), "{err}");
}

#[test]
fn a_dry_run_shows_what_each_output_would_lose() {
    let lines = "m,host=h a=1,b=2i,c=\"s\",e=18446744073709551615u 1700000000123456789\n\"open\nm,host=h a=1e300\n";
    let ended = translate(&["--from", "influx_line", "--dry-run"], lines.as_bytes());
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    let out = String::from_utf8(ended.out).unwrap();
    let rows: Vec<Vec<&str>> =
        out.lines().map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect();
    assert_eq!(out.lines().next(), Some("5 samples read, 1 refused"));
    let outputs =
        ["remote_write", "remote_write2", "influxdb 1", "influxdb 2, 3", "wavefront", "prometheus_text", "openmetrics"];
    assert_eq!(rows[2], outputs, "{out}");
    let row = |name: &str| {
        let row = rows.iter().find(|row| row.first() == Some(&name));
        row.unwrap_or_else(|| panic!("no {name} in {out}"))[1..].to_vec()
    };
    assert_eq!(row("written"), ["4", "4", "5", "5", "4", "4", "4"], "{out}");
    assert_eq!(row("dropped"), ["1", "1", "-", "-", "1", "1", "1"], "{out}");
    assert_eq!(row("string_value"), ["1", "1", "-", "-", "1", "1", "1"], "{out}");
    assert_eq!(row("timestamp_truncated"), ["3", "3", "-", "-", "3", "3", "-"], "{out}");
    assert_eq!(row("integer_rounded"), ["1", "1", "1", "-", "1", "-", "-"], "{out}");
    // The dry run tells the same as the run.
    for (at, to) in [
        (0, "remote_write"),
        (1, "remote_write2"),
        (3, "influx_line"),
        (4, "wavefront"),
        (5, "prometheus_text"),
        (6, "openmetrics"),
    ] {
        let err = pair("influx_line", to, lines.as_bytes()).err;
        let losses =
            rows.iter().filter(|row| row.len() == 8 && !["written", "dropped"].contains(&row[0]) && row[at + 1] != "-");
        for row in losses {
            assert!(err.contains(&format!(" {} samples: {}", row[at + 1], row[0])), "{to} {row:?}: {err}");
        }
    }
}

/// Lines of 100 series, with every kind of value.
fn lines(range: std::ops::Range<usize>) -> impl Iterator<Item = String> {
    range.map(|at| {
        let (host, time) = (at % 100, 1_700_000_000_000_000_000 + at * 1_000_000);
        format!("cpu,host=host-{host:03},region=eu usage={at}.5,idle={at}i,state=\"busy, \n{at}\" {time}\n")
    })
}

/// Largest resident memory until the end, in KiB, and the exit code.
fn peak(child: &mut Child) -> (u64, Option<i32>) {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let now = line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse().unwrap());
        peak = peak.max(now);
        if let Some(ended) = child.try_wait().unwrap() {
            return (peak, ended.code());
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_does_not_grow_with_the_input() {
    for (to, megabytes, bound) in [("influx_line", 32, 40_000), ("wavefront", 32, 40_000), ("openmetrics", 24, 180_000)]
    {
        let megabytes = if is_long() { 1024 } else { megabytes };
        let mut child = start(&["--from", "influx_line", "--to", to]);
        let mut out = child.stdout.take().unwrap();
        let reader = thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()).unwrap());
        let mut stdin = child.stdin.take().unwrap();
        let (mut written, mut at) = (0, 0);
        while written < megabytes << 20 {
            let block: String = lines(at..at + 1000).collect();
            stdin.write_all(block.as_bytes()).unwrap();
            (written, at) = (written + block.len(), at + 1000);
        }
        drop(stdin);
        let (peak, code) = peak(&mut child);
        assert!(reader.join().unwrap() > megabytes as u64 * 300_000, "{to}");
        assert_eq!(code, Some(0), "{to}");
        assert!(peak < bound, "{to}: {peak} KiB after {megabytes} MB");
        println!("{to}: {peak} KiB");
    }
}

#[test]
fn a_line_is_translated_while_the_pipe_stays_open() {
    let mut child = start(&["--from", "influx_line", "--to", "wavefront"]);
    let mut stdin = child.stdin.take().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    for value in ["1.0", "2.0"] {
        stdin.write_all(format!("m,source=s v={value} 1000000000\nm,sour").as_bytes()).unwrap();
        stdin.flush().unwrap();
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, format!("\"m.v\" {value} 1 source=\"s\"\n"));
        stdin.write_all(b"ce=x v=3 1\n").unwrap();
        line.clear();
        out.read_line(&mut line).unwrap();
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_closed_output_ends_it_quietly() {
    let mut child = start(&["--from", "influx_line", "--to", "prometheus_text"]);
    let mut out = child.stdout.take().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Its input never ends: only the closed output can end it.
    let writer = thread::spawn(move || lines(0..usize::MAX).try_for_each(|line| stdin.write_all(line.as_bytes())));
    out.read_exact(&mut [0; 1000]).unwrap();
    drop(out);
    assert_eq!(child.wait().unwrap().code(), Some(141), "as a shell reports SIGPIPE");
    assert!(writer.join().unwrap().is_err());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
}

#[test]
fn a_slow_reader_holds_the_writer() {
    let mut child = start(&["--from", "influx_line", "--to", "influx_line"]);
    let mut stdin = child.stdin.take().unwrap();
    let (sender, written) = std::sync::mpsc::channel();
    let block: String = lines(0..1000).collect();
    let writer = thread::spawn(move || {
        let mut total = 0;
        while total < 64 << 20 && stdin.write_all(block.as_bytes()).is_ok() {
            total += block.len();
            sender.send(total).unwrap();
        }
    });
    // Nobody reads: what is taken is what fits the pipes and the chunks on their way.
    let mut taken = 0;
    while let Ok(total) = written.recv_timeout(Duration::from_secs(2)) {
        taken = total;
    }
    assert!((1..16 << 20).contains(&taken), "{taken} bytes were taken");
    let mut out = child.stdout.take().unwrap();
    assert!(std::io::copy(&mut out, &mut std::io::sink()).unwrap() > 60 << 20);
    writer.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn families_of_a_long_exposition_stay_whole() {
    let mut text = String::new();
    for family in 0..40 {
        text.push_str(&format!("# HELP f{family:02}_total h\n# TYPE f{family:02}_total counter\n"));
        for at in 0..400 {
            text.push_str(&format!(
                "f{family:02}_total{{host=\"host-{at:03}\",padding=\"{}\"}} {at}\n",
                "x".repeat(30)
            ));
        }
    }
    assert!(text.len() > 1 << 20, "longer than a chunk");
    let open = pair("prometheus_text", "openmetrics", text.as_bytes());
    assert_eq!((open.code, open.err.as_str()), (Some(0), ""));
    let back = pair("openmetrics", "prometheus_text", &open.out);
    assert_eq!((back.code, back.err.as_str()), (Some(0), ""));
    assert!(String::from_utf8(back.out).unwrap() == text, "the same text comes back");
}

#[test]
fn a_long_exposition_declares_each_family_once() {
    let count = if is_long() { 3_000_000 } else { 230_000 };
    // The last one comes first in the last group.
    let row = |at| {
        let (family, series) = match at % 3 {
            _ if at == count - 1 => ("\"a 3\"", "{\"a 3\"}"),
            0 => ("\"a 1\"", "{\"a 1\"}"),
            1 => ("\"a 2\"", "{\"a 2\"}"),
            _ => ("a0", "a0"),
        };
        format!("# TYPE {family} gauge\n{series} {at} {at}\n")
    };
    let ended = pair("prometheus_text", "openmetrics", (0..count).map(row).collect::<String>().as_bytes());
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let open = String::from_utf8(ended.out).unwrap();
    let declarations: Vec<&str> = open.lines().filter(|line| line.starts_with('#')).collect();
    let all = ["# TYPE \"a 1\" gauge", "# TYPE \"a 2\" gauge", "# TYPE a0 gauge", "# TYPE \"a 3\" gauge", "# EOF"];
    assert_eq!(declarations, all);
    assert!(open.ends_with("# EOF\n"));
    assert_eq!(values("openmetrics", open.as_bytes()), count);
}

#[test]
fn messages_are_split_into_files_and_read_from_several() {
    let folder = TempDir::new().unwrap();
    let input: String = lines(0..30_000).collect();
    for version in ["remote_write", "remote_write2"] {
        let dir = folder.path().join(version);
        let to = dir.to_str().unwrap();
        let ended = translate(&["--from", "influx_line", "--to", version, "--split", to], input.as_bytes());
        assert_eq!((ended.code, ended.out.len()), (Some(0), 0), "{}", ended.err);
        let mut files: Vec<String> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path().to_str().unwrap().to_owned()).collect();
        files.sort();
        assert!(files.len() > 2 && files[0].ends_with("/00000001.snappy"), "{files:?}");
        assert_eq!(files.iter().map(|file| values(version, &fs::read(file).unwrap())).sum::<u64>(), 60_000);
        let mut arguments = vec!["--from", version, "--to", "influx_line"];
        arguments.extend(files.iter().map(String::as_str));
        let back = translate(&arguments, b"");
        assert_eq!((back.code, back.err.as_str(), values("influx_line", &back.out)), (Some(0), "", 60_000));
    }
}

#[test]
fn a_series_of_several_files_stands_once_in_the_message() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let first = file("first", "# TYPE a gauge\na 1 1\n");
    let second = file("second", "# TYPE b gauge\nb 1 1\n# TYPE a gauge\na 2 2\n");
    let third = file("third", "# TYPE a gauge\na 3 3\n");
    for version in ["remote_write", "remote_write2"] {
        let ended = translate(&["--from", "prometheus_text", "--to", version, &first, &second, &third], b"");
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
        let back = pair(version, "prometheus_text", &ended.out);
        let text = "# TYPE a gauge\na 1 1\na 2 2\na 3 3\n# TYPE b gauge\nb 1 1\n";
        assert_eq!(String::from_utf8(back.out).unwrap(), text, "{version}");
        let mut plain = Vec::new();
        compression::decompress(Encoding::Snappy, &ended.out, 1 << 20, &mut plain).unwrap();
        let series = match version {
            "remote_write" => remote_write::messages::WriteRequest::decode(&*plain).unwrap().timeseries.len(),
            _ => remote_write2::messages::Request::decode(&*plain).unwrap().timeseries.len(),
        };
        assert_eq!(series, 2, "{version}");
    }
}

#[test]
fn files_are_named_in_messages() {
    let folder = TempDir::new().unwrap();
    let [first, second] = ["a.lp", "b.lp"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    fs::write(&first, "m f=1").unwrap();
    fs::write(&second, "n f=2\nbad\n").unwrap();
    let ended = translate(&["--from", "influx_line", "--to", "influx_line", &first, &second], b"");
    assert_eq!((ended.code, String::from_utf8(ended.out).unwrap().as_str()), (Some(1), "m f=1\nn f=2\n"));
    assert!(ended.err.starts_with(&format!("{second}:2:4: ")), "{}", ended.err);
    let junk = translate(&["--from", "remote_write", "--to", "influx_line", &first], b"");
    assert!(
        junk.code == Some(1) && junk.err.contains(&format!("{first}: the body is not valid Snappy")),
        "{}",
        junk.err
    );
}

#[test]
fn meters_of_a_configuration_are_known() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.yaml");
    fs::write(&file, "micrometer: { meters: [{ name: my.body, kind: summary, unit: bytes }] }\n").unwrap();
    let config = file.to_str().unwrap();
    let input = b"my_body,metric_type=histogram sum=46,count=2,mean=23,upper=34 1700000000000000000\n";
    let lines = |more: &[&str]| {
        let ended = translate(&[&["--from", "influx_line", "--to", "prometheus_text"], more].concat(), input);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let text = String::from_utf8(ended.out).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(lines(&[]).contains(&"my_body_seconds_sum 0.046 1700000000000".to_owned()), "a timer: {:?}", lines(&[]));
    let known = lines(&["--config", config]);
    assert!(known.contains(&"my_body_bytes_sum 46 1700000000000".to_owned()), "{known:?}");
    let never = lines(&["--config", config, "--micrometer", "never"]);
    assert!(never.iter().any(|line| line.starts_with("my_body_sum{metric_type=")), "{never:?}");
    fs::write(&file, "micrometer: { meter: [] }\n").unwrap();
    let ended = translate(&["--from", "influx_line", "--to", "prometheus_text", "--config", config], input);
    assert!(ended.code == Some(1) && ended.out.is_empty() && ended.err.contains("micrometer.meter"), "{}", ended.err);
}

#[test]
fn wrong_usage_is_2() {
    let cases: [&[&str]; 6] = [
        &["--from", "influx_line"],
        &["--to", "influx_line"],
        &["--from", "influx", "--to", "influx_line"],
        &["--from", "influx_line", "--to", "wavefront", "--split", "x"],
        &["--from", "influx_line", "--to", "wavefront", "--dry-run"],
        &["--from", "influx_line", "--to", "wavefront", "--unknown"],
    ];
    for arguments in cases {
        let ended = translate(arguments, b"m f=1\n");
        assert!(ended.code == Some(2) && ended.out.is_empty() && !ended.err.is_empty(), "{arguments:?}: {}", ended.err);
    }
}
