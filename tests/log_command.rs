//! `sluicegate log`, on the built binary and a log that a gateway left behind.

#![allow(
    clippy::float_cmp,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
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

use std::fs;
use std::path::Path;
use std::process::Command;
use support::counting_sink::{CountingSink, Kind};
use support::gateway::{Gateway, Stopped, gateway};
use support::http;
use support::numbered::{Fate, post};

/// A client that posts line protocol.
const CLIENT: u64 = 2;

/// Exit code, standard output and standard error of `sluicegate log`.
fn log(dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let (subcommand, rest) = arguments.split_first().expect("a subcommand");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    let output = command.args(["log", subcommand, "--dir"]).arg(dir).args(rest).output().expect("it runs");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn sink() -> CountingSink {
    CountingSink::start(Kind::Influx)
}

fn to(sink: &CountingSink) -> Gateway {
    gateway().output("my.sink", &sink.block()).start()
}

/// How often each of the six samples came.
fn times(sink: &CountingSink) -> [u16; 6] {
    assert_eq!((sink.wrong(), sink.distinct()), (vec![], 6));
    std::array::from_fn(|number| sink.times(CLIENT, number as u64))
}

/// The log of a gateway that took three records of 1, 2 and 3 samples, and delivered them.
fn delivered(sink: &CountingSink) -> Stopped {
    let gateway = to(sink);
    for numbers in [0..1, 1..3, 3..6] {
        assert_eq!(post(&gateway.url(""), CLIENT, numbers), Fate::Acknowledged);
    }
    gateway.drained();
    let mut gateway = gateway;
    assert_eq!(gateway.server().terminate().code(), Some(0));
    gateway.crash()
}

#[test]
fn lists_and_inspects_what_is_there() {
    let gateway = gateway().start();
    let row = "m\\ x,a=b\\ \"c\" f=1.5,g=-3i,h=7u,i=true,j=\"a\\\"b\" 1700000000000000001\n";
    assert_eq!(http::post(&gateway.url("/write?db=x"), row).status, 204);
    let text = "up{job=\"a\"} 1 1700000000000\nup{job=\"b\"} NaN 1700000000000\n";
    assert_eq!(http::post(&gateway.url("/api/v1/import/prometheus"), text).status, 204);
    let stopped = gateway.crash();
    let dir = stopped.log_dir();

    let (code, out, err) = log(&dir, &["ls"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(
        out.starts_with("00000000000000000000.log ") && out.ends_with("2 records, 7 samples from record 0\n"),
        "{out}"
    );
    assert_eq!(log(&dir, &["verify"]), (Some(0), out, String::new()));

    let (code, out, err) = log(&dir, &["inspect"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let lines: Vec<_> = out.lines().map(|line| line.split_once(' ').expect("a number")).collect();
    assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["0", "1"]);
    assert!(lines[0].1.ends_with("Z influx_line, 5 series, 5 samples"), "{out}");
    assert!(lines[1].1.ends_with("Z prometheus_text, 2 series, 2 samples"), "{out}");

    let (_, out, _) = log(&dir, &["inspect", "--seq", "0"]);
    let at = "2023-11-14T22:13:20.000000001Z m x{a=\"b \\\"c\\\"\"}";
    let fields = ["f=1.5", "g=-3i", "h=7u", "i=true", "j=\"a\\\"b\""];
    assert_eq!(out, fields.map(|field| format!("{at} {field}\n")).concat());
    let (_, out, _) = log(&dir, &["inspect", "--seq", "1"]);
    let at = "2023-11-14T22:13:20Z up";
    assert_eq!(out, format!("{at}{{job=\"a\"}} 1.0\n{at}{{job=\"b\"}} NaN\n"));
    let (code, out, err) = log(&dir, &["inspect", "--seq", "2"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.contains("no record 2"), "{err}");
}

#[test]
fn replay_sends_again_and_the_ledger_stays_even() {
    let sink = sink();
    let stopped = delivered(&sink);
    let dir = stopped.log_dir();
    assert_eq!(times(&sink), [1, 1, 1, 1, 1, 1]);
    let (_, out, _) = log(&dir, &["ls"]);
    assert!(out.contains("cursor my.sink: before record 3, 6 samples delivered\n"), "{out}");

    for (from, why) in [("4", "cannot be replayed"), ("x", "invalid")] {
        let (code, _, err) = log(&dir, &["replay", "--cursor", "my.sink", "--from", from]);
        assert!(code != Some(0) && err.contains(why), "{err}");
    }
    let (code, _, err) = log(&dir, &["replay", "--cursor", "sink", "--from", "0"]);
    assert!(code == Some(1) && err.contains("there is my.sink"), "{err}");

    let (code, out, err) = log(&dir, &["replay", "--cursor", "my.sink", "--from", "1"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let expected = "was: before record 3, 6 samples delivered\nis:  before record 1, 1 samples delivered\n\
                    5 samples will be sent again\n";
    assert_eq!(out, expected);

    let gateway = stopped.start();
    let (code, _, err) = log(&dir, &["replay", "--cursor", "my.sink", "--from", "0"]);
    assert!(code == Some(1) && err.contains("in use by another process"), "{err}");
    gateway.drained();
    assert_eq!(times(&sink), [1, 2, 2, 2, 2, 2]);
    assert_eq!(gateway.metric("sluicegate_samples_delivered_total", &[("output", "my.sink")]), 6.0);
}

#[test]
fn damage_is_named_and_not_replayed_from() {
    let sink = sink();
    let stopped = delivered(&sink);
    let dir = stopped.log_dir();
    let segment = dir.join("segments/00000000000000000000.log");
    let bytes = fs::read(&segment).expect("the segment");
    // Record 1 begins with the only header that holds two samples: damage its header.
    let magic = b"SGL\xa7\x02\x03";
    let headers: Vec<_> = bytes.windows(magic.len()).enumerate().filter(|(_, window)| window == magic).collect();
    assert_eq!(headers.len(), 3);
    let mut damaged = bytes.clone();
    damaged[headers[1].0 + 20] ^= 1;
    fs::write(&segment, damaged).expect("the segment");

    let (code, out, _) = log(&dir, &["verify"]);
    assert!(code == Some(1) && out.contains("\nrecords 1 to 1 damaged, 2 samples, appended at 20"), "{out}");
    assert!(out.contains("\n1 records with 2 samples cannot be read: "), "{out}");
    let (code, out, _) = log(&dir, &["inspect"]);
    assert_eq!(code, Some(1));
    let lines: Vec<_> = out.lines().collect();
    assert!(lines.len() == 3 && lines[1].starts_with("records 1 to 1 damaged, 2 samples, appended at 20"), "{out}");
    let (_, appended) = lines[1].rsplit_once(' ').expect("a time");
    assert_eq!(log(&dir, &["inspect", "--seq", "1"]).0, Some(1));
    let (code, out, _) = log(&dir, &["inspect", "--seq", "2"]);
    assert_eq!((code, out.lines().count()), (Some(0), 3));

    let (code, out, err) = log(&dir, &["replay", "--cursor", "my.sink", "--from", "0"]);
    assert_eq!(code, Some(0), "{out}{err}");
    let mut gateway = stopped.start();
    gateway.drained();
    assert_eq!(times(&sink), [2, 1, 1, 2, 2, 2]);
    assert_eq!(gateway.dropped("my.sink"), [("log_damaged".to_owned(), 2.0)]);
    let shown = &gateway.status()["log"]["damage"];
    let expected = serde_json::json!([{
        "first_seq": 1, "next_seq": 2, "samples": 2, "appended_from": appended, "appended_until": appended,
    }]);
    assert_eq!(*shown, expected);
    let said = gateway.server().output();
    assert!(said.lines().any(|line| line.contains("log_damaged") && line.contains(appended)), "{said}");
}

#[test]
fn repair_does_what_the_gateway_would_do_and_says_so() {
    let sink = sink();
    let stopped = delivered(&sink);
    let dir = stopped.log_dir();
    let (segment, cursors) = (dir.join("segments/00000000000000000000.log"), dir.join("cursors"));
    let cursor = cursors.join("my%2Esink.json");
    let (sound, lines) = (fs::read(&segment).expect("the segment"), fs::read_to_string(&cursor).expect("the cursor"));
    assert_eq!(log(&dir, &["verify"]).0, Some(0));

    fs::write(&segment, [&sound[..], b"torn"].concat()).expect("the segment");
    fs::write(&cursor, lines.replacen("\"seq\":3", "\"seq\":2", 1)).expect("the cursor");
    fs::write(cursors.join("other.json"), "{").expect("another cursor");
    let (code, out, _) = log(&dir, &["verify"]);
    assert!(code == Some(1) && out.contains("4 bytes at the end were never acknowledged"), "{out}");
    assert!(out.contains("cursor my.sink: before record 3, 6 samples delivered (damaged in part"), "{out}");
    assert!(out.contains("cursor other: damaged, it is set aside"), "{out}");

    let (code, out, err) = log(&dir, &["verify", "--repair"]);
    assert_eq!((code, err.as_str()), (Some(1), ""), "{out}");
    assert!(out.contains("repaired: 4 bytes cut off the end\n"), "{out}");
    assert!(out.contains("repaired: the file of cursor my.sink\nrepaired: the file of cursor other\n"), "{out}");
    assert_eq!(fs::read(&segment).expect("the segment"), sound);
    assert_eq!(fs::read_to_string(&cursor).expect("the cursor"), lines);
    assert_eq!(fs::read_to_string(cursors.join("other.json.damaged")).expect("kept"), "{");
    let (code, out, _) = log(&dir, &["verify"]);
    assert!(code == Some(0) && out.ends_with("set aside: other.json.damaged\n"), "{out}");

    let gateway = stopped.start();
    gateway.drained();
    gateway.balanced();
    assert_eq!(times(&sink), [1, 1, 1, 1, 1, 1], "nothing is sent again");
    let (code, _, err) = log(&dir, &["verify", "--repair"]);
    assert!(code == Some(1) && err.contains("in use by another process"), "{err}");
}

#[test]
fn a_folder_without_a_log_is_named() {
    let dir = tempfile::TempDir::new().expect("temporary folder");
    let absent = dir.path().join("absent");
    for arguments in
        [&["ls"][..], &["verify"], &["verify", "--repair"], &["inspect"], &["replay", "--cursor", "a", "--from", "0"]]
    {
        let (code, out, err) = log(&absent, arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(err.contains("absent"), "{err}");
        assert!(!absent.exists(), "and nothing is created");
    }
}
