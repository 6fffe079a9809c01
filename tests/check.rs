//! `sluicegate check`, on the built binary.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output};

fn check(config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluicegate"))
        .args(["check", "--config"])
        .arg(config)
        .env("SLUICEGATE_TEST_SET", "7")
        .env_remove("SLUICEGATE_TEST_UNSET")
        .output()
        .unwrap()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn passes_the_example() {
    let output = check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sluicegate.example.yaml"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 1, "{out}");
    assert!(out.contains("4 outputs: prom (prometheus_remote_write)"), "{out}");
}

#[test]
fn prints_every_mistake_with_its_place() {
    let file = file("log:\n  ack: maybe\n  dir: ${SLUICEGATE_TEST_UNSET}\nlisten:\n  htp: :1\n");
    let output = check(file.path());
    let err = text(&output.stderr);
    assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(1), ""));
    let places: Vec<_> = err.lines().filter_map(|line| line.strip_prefix(&file.path().display().to_string())).collect();
    assert_eq!(places.len(), 3, "{err}");
    for (line, expected) in places.iter().zip([":2:8: log.ack: ", ":3:8: log.dir: ", ":5:3: listen.htp: "]) {
        assert!(line.starts_with(expected), "{line}");
    }
}

#[test]
fn prints_notes_of_a_good_file() {
    let file = file(
        "outputs:\n  - name: a\n    wavefront: { url: 'http://h' }\n    queue_config: { capacity: '${SLUICEGATE_TEST_SET}' }\n",
    );
    let output = check(file.path());
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        out.contains("1 output: a (wavefront)") && out.contains("note: line 4: outputs[0].queue_config.capacity"),
        "{out}"
    );
}

#[test]
fn fails_for_a_file_that_is_not_there() {
    let output = check(Path::new("no-such-file.yaml"));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("no-such-file.yaml: cannot be read"));
}

#[test]
fn run_stops_at_a_mistake() {
    let file = file("nonsense: 1\n");
    let output = Command::new(env!("CARGO_BIN_EXE_sluicegate")).arg("--config").arg(file.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(":1:1: nonsense: unknown key"));
}
