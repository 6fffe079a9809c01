//! The real Micrometer: the program of `tests/micrometer`, and what it says itself of the meters it sends.

use crate::support::component;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// Rounds of a run that is not told how many.
const ROUNDS: usize = 6;

/// A program that runs: its registries are connected. It does nothing until it is told to go on.
pub(crate) struct Program {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    said: Said,
}

/// What a program wrote.
pub(crate) struct Said {
    dir: TempDir,
    /// What the Influx registry was answered that is no success.
    pub(crate) refusals: Vec<String>,
}

/// Starts the program with these arguments, which `tests/micrometer/src/Main.java` tells, and waits until it is connected.
pub(crate) fn launch(arguments: &[&str]) -> Program {
    let dir = TempDir::new().expect("temporary folder");
    let built = component::micrometer();
    let mut child = Command::new("java")
        // It lives for a second: compiling well does not pay.
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"])
        .arg(format!("{0}/classes:{0}/lib/*", built.display()))
        .args(["Main", "drive=stdin"])
        .arg(format!("out={}", dir.path().display()))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(fs::File::create(dir.path().join("stderr")).expect("a file"))
        .spawn()
        .expect("java starts");
    let input = child.stdin.take().expect("piped");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut program = Program { child, input, output, said: Said { dir, refusals: Vec::new() } };
    program.await_line("started");
    program
}

/// Runs it to its end.
pub(crate) fn run(arguments: &[&str]) -> Said {
    let mut program = launch(arguments);
    let rounds = arguments.iter().find_map(|argument| argument.strip_prefix("rounds="));
    for _ in 0..rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number")) {
        program.round();
    }
    program.end()
}

impl Program {
    /// Lets it go through one round; returns when everything of it is sent.
    pub(crate) fn round(&mut self) {
        self.go_on();
        self.await_line("round ");
    }

    /// Lets it go through a last round and close its registries.
    pub(crate) fn end(mut self) -> Said {
        self.go_on();
        self.await_line("ended");
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}: {}", self.said.errors());
        let nothing = Said { dir: TempDir::new().expect("temporary folder"), refusals: Vec::new() };
        std::mem::replace(&mut self.said, nothing)
    }

    /// What it wrote so far.
    pub(crate) fn said(&self) -> &Said {
        &self.said
    }

    fn go_on(&mut self) {
        self.input.write_all(b"\n").expect("it reads");
    }

    fn await_line(&mut self, begin: &str) {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended before {begin:?}: {}", self.said.errors());
            if line.starts_with(begin) {
                return;
            }
            if line.starts_with("answered ") {
                self.said.refusals.push(line);
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// The pages of a Prometheus registry, `simpleclient` or `client1`, of all applications, in the order of their times in
    /// milliseconds.
    pub(crate) fn pages(&self, generation: &str) -> Vec<(i64, String)> {
        let entries = fs::read_dir(self.dir.path().join(generation)).expect("pages");
        let mut pages: Vec<_> = entries.map(|entry| Self::page(&entry.expect("an entry").path())).collect();
        pages.sort();
        pages
    }

    fn page(path: &Path) -> (i64, String) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let time = name.split('.').next().and_then(|time| time.parse().ok()).expect("milliseconds");
        (time, fs::read_to_string(path).expect("a page"))
    }

    /// The last page of the only application.
    pub(crate) fn last_page(&self, generation: &str) -> String {
        self.pages(generation).pop().expect("a page").1
    }

    /// All lines that the Influx registry sent.
    pub(crate) fn lines(&self) -> String {
        fs::read_to_string(self.dir.path().join("influx.lp")).expect("lines")
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }
}
