//! The gateway as its users run it: the built binary, a configuration file, its HTTP port.

#![allow(clippy::format_push_string, reason = "a test may allocate")]

use crate::support::http;
use crate::support::server::{Server, eventually, free_port};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::Duration;
use tempfile::TempDir;

/// How long everything accepted may take to reach every output.
const DRAINED_WITHIN: Duration = Duration::from_secs(90);

/// A gateway to be started.
pub(crate) struct Setup {
    listen: String,
    limits: String,
    log: String,
    log_dir: Option<PathBuf>,
    blocks: String,
    outputs: Vec<(&'static str, String)>,
    through: &'static [&'static str],
}

/// A gateway without outputs.
pub(crate) fn gateway() -> Setup {
    Setup {
        listen: String::new(),
        limits: String::new(),
        log: "max_bytes: 1GiB".to_owned(),
        log_dir: None,
        blocks: String::new(),
        outputs: Vec::new(),
        through: &[],
    }
}

impl Setup {
    /// Opens another listener, named as in the configuration.
    pub(crate) fn listen(mut self, kind: &str, port: u16) -> Self {
        self.listen += &format!("  {kind}: 127.0.0.1:{port}\n");
        self
    }

    /// The settings of the log, beside its folder, in YAML.
    pub(crate) fn log(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.log);
        self
    }

    /// The limits, in YAML.
    pub(crate) fn limits(mut self, settings: &str) -> Self {
        self.limits = format!("limits: {{ {settings} }}\n");
        self
    }

    /// Adds a block of the configuration, in YAML.
    pub(crate) fn block(mut self, block: &str) -> Self {
        self.blocks += &format!("{block}\n");
        self
    }

    /// Keeps the log there instead of beside the configuration.
    pub(crate) fn log_dir(mut self, dir: PathBuf) -> Self {
        self.log_dir = Some(dir);
        self
    }

    /// Starts it, the first time, by this program, which runs what stands behind its arguments.
    pub(crate) fn through(self, program: &'static [&'static str]) -> Self {
        Self { through: program, ..self }
    }

    /// Adds an output: its name and its block in YAML.
    pub(crate) fn output(mut self, name: &'static str, block: &str) -> Self {
        self.outputs.push((name, block.to_owned()));
        self
    }

    /// Adds a remote-write output named `prom`.
    pub(crate) fn with_prometheus(self, url: &str) -> Self {
        self.output("prom", &format!("prometheus_remote_write: {{ url: \"{url}\" }}"))
    }

    /// Adds an InfluxDB 1.x output named `influx`.
    pub(crate) fn with_influxdb(self, url: &str, database: &str) -> Self {
        self.output("influx", &format!("influxdb: {{ url: \"{url}\", database: {database} }}"))
    }

    /// Adds a Wavefront output named `wf`.
    pub(crate) fn with_wavefront(self, url: &str) -> Self {
        self.output("wf", &format!("wavefront: {{ url: \"{url}\", source: my-gateway }}"))
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn start(self) -> Gateway {
        self.start_in(TempDir::new().expect("temporary folder"))
    }

    fn start_in(self, dir: TempDir) -> Gateway {
        let port = free_port();
        let log = self.log_dir.unwrap_or_else(|| dir.path().join("log"));
        let mut config = format!(
            "listen:\n  http: 127.0.0.1:{port}\n{}{}{}log: {{ dir: \"{}\", {} }}\n",
            self.listen,
            self.limits,
            self.blocks,
            log.display(),
            self.log
        );
        for (at, (name, block)) in self.outputs.iter().enumerate() {
            config += if at == 0 { "outputs:\n" } else { "" };
            config += &format!("  - name: {name}\n    {block}\n");
        }
        fs::write(dir.path().join("sluicegate.yml"), config).expect("configuration written");
        let outputs = self.outputs.into_iter().map(|(name, _)| name).collect();
        let mut server = launch(dir, port, self.through);
        server.await_ready(READY);
        Gateway { server, outputs }
    }
}

const READY: &str = "/-/ready";

fn run(dir: TempDir, port: u16) -> Server {
    let mut server = launch(dir, port, &[]);
    server.await_ready(READY);
    server
}

fn launch(dir: TempDir, port: u16, through: &[&str]) -> Server {
    let mut words = through.iter().copied().chain([env!("CARGO_BIN_EXE_sluicegate")]);
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).arg("run").arg("--config").arg(dir.path().join("sluicegate.yml")).current_dir(dir.path());
    Server::launch("sluicegate", command, port, dir)
}

/// A running gateway.
pub(crate) struct Gateway {
    server: Server,
    outputs: Vec<&'static str>,
}

impl Gateway {
    /// The address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        self.server.url(path)
    }

    /// Its HTTP port.
    pub(crate) fn port(&self) -> u16 {
        self.server.port()
    }

    /// The child under test.
    pub(crate) fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        self.server.output()
    }

    /// The folder of its log, unless it was put elsewhere.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.server.dir().join("log")
    }

    /// What stands on `/scrape`.
    pub(crate) fn scraped(&self) -> Exposition {
        Exposition::read(&self.url("/scrape"))
    }

    /// Its own metrics.
    pub(crate) fn metrics(&self) -> Exposition {
        Exposition::read(&self.url("/metrics"))
    }

    /// One of its own metrics, summed over the series that have these labels; 0 where there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// The status API.
    pub(crate) fn status(&self) -> Value {
        http::get(&self.url("/api/v1/status")).json()
    }

    /// Waits until every output has acknowledged or dropped everything accepted, and checks the ledger of each.
    pub(crate) fn drained(&self) {
        eventually(DRAINED_WITHIN, || {
            let metrics = self.metrics();
            for output in &self.outputs {
                let pending = metrics.sum("sluicegate_samples_pending", &[("output", output)]);
                if pending != 0.0 {
                    return Err(format!("{pending} samples pending for {output}"));
                }
            }
            Ok(())
        });
        self.balanced();
    }

    /// Checks that for each output: accepted = delivered + dropped + pending.
    pub(crate) fn balanced(&self) {
        let metrics = self.metrics();
        let accepted = metrics.sum("sluicegate_samples_accepted_total", &[]);
        for output in &self.outputs {
            let of = |name: &str| metrics.sum(name, &[("output", output)]);
            let (delivered, dropped, pending) = (
                of("sluicegate_samples_delivered_total"),
                of("sluicegate_samples_dropped_total"),
                of("sluicegate_samples_pending"),
            );
            let explained = delivered + dropped + pending;
            assert!(
                explained == accepted,
                "{output}: {accepted} accepted, {delivered} delivered, {dropped} dropped, {pending} pending"
            );
        }
    }

    /// Samples that an output dropped, by reason, without the reasons that have none.
    pub(crate) fn dropped(&self, output: &str) -> Vec<(String, f64)> {
        let metrics = self.metrics();
        let labels = [("output", output)];
        let mut dropped: Vec<(String, f64)> = metrics
            .select("sluicegate_samples_dropped_total", &labels)
            .filter(|(_, value)| *value > 0.0)
            .map(|(labels, value)| (labels.get("reason").map_or("none", String::as_str).to_owned(), value))
            .collect();
        dropped.sort_by(|left, right| left.0.cmp(&right.0));
        dropped
    }

    /// Sends SIGTERM; the exit status and everything it wrote.
    pub(crate) fn terminate(mut self) -> (ExitStatus, String) {
        (self.server.terminate(), self.server.output())
    }

    /// Ends it as a crash would and starts another on the same log and ports.
    pub(crate) fn crash_and_restart(self) -> Self {
        let port = self.server.port();
        Self { server: run(self.server.crash(), port), outputs: self.outputs }
    }

    /// Ends it as a crash would and starts another, set up differently, on the same log.
    #[allow(dead_code, reason = "not every test program changes the configuration")]
    pub(crate) fn crash_and_restart_as(self, setup: Setup) -> Self {
        setup.start_in(self.server.crash())
    }

    /// Ends it as a crash would; [`Stopped::start`] starts another on the same log and ports.
    pub(crate) fn crash(self) -> Stopped {
        let port = self.server.port();
        Stopped { dir: self.server.crash(), port, outputs: self.outputs }
    }

    /// Ends it in good order; [`Stopped::start`] starts another on the same log and ports.
    pub(crate) fn stop(mut self) -> Stopped {
        let status = self.server.terminate();
        assert!(status.success(), "{status}: {}", self.server.output());
        self.crash()
    }

    /// Whether it calls itself healthy, and its words.
    pub(crate) fn health(&self) -> (u16, String) {
        let answer = http::send("GET", &self.url("/-/healthy"), &[], b"");
        (answer.status, answer.text())
    }

    /// Seconds of processor time used so far.
    pub(crate) fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.server.pid())).expect("the gateway runs");
        // Behind the name in brackets: user and system time are fields 14 and 15 of proc(5), in hundredths of a second.
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        fields[11..13].iter().map(|ticks| ticks.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
    }

    /// The most memory that was ever resident, in bytes.
    pub(crate) fn resident_bytes_max(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.server.pid())).expect("the gateway runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
        kibibytes * 1024
    }
}

/// A gateway that does not run, with all that it left behind.
pub(crate) struct Stopped {
    dir: TempDir,
    port: u16,
    outputs: Vec<&'static str>,
}
impl Stopped {
    /// The folder of its log.
    pub(crate) fn log_dir(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Starts it again.
    pub(crate) fn start(self) -> Gateway {
        Gateway { server: run(self.dir, self.port), outputs: self.outputs }
    }

    /// Starts it again and does not wait until it is ready.
    pub(crate) fn launch(self) -> Gateway {
        Gateway { server: launch(self.dir, self.port, &[]), outputs: self.outputs }
    }
}

/// A page in the text exposition format, read by this file alone: the crates that read it stumble over quotes and equals
/// signs in label values.
pub(crate) struct Exposition(Vec<Line>);

struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Exposition {
    pub(crate) fn read(url: &str) -> Self {
        Self::parse(&http::get(url).text())
    }

    /// The samples of a page.
    #[allow(dead_code, reason = "not every test program has pages of its own")]
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(samples.map(|line| Line::parse(line).unwrap_or_else(|| panic!("{line:?} in {text}"))).collect())
    }

    /// All samples: name, labels, value.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>, f64)> {
        self.0.iter().map(|line| (line.name.as_str(), &line.labels, line.value))
    }

    /// The labels and values of the samples with this name and at least these labels.
    pub(crate) fn select<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = (&'a BTreeMap<String, String>, f64)> {
        let wanted = move |line: &&Line| {
            line.name == name && labels.iter().all(|(key, value)| line.labels.get(*key).is_some_and(|got| got == value))
        };
        self.0.iter().filter(wanted).map(|line| (&line.labels, line.value))
    }

    /// The sum of those values.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.select(name, labels).map(|(_, value)| value).sum()
    }

    /// The one value; the reason where there is not exactly one.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64, String> {
        let values: Vec<f64> = self.select(name, labels).map(|(_, value)| value).collect();
        match values.as_slice() {
            [value] => Ok(*value),
            other => Err(format!("{name}{labels:?} has values {other:?}")),
        }
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let name_end = line.find(['{', ' '])?;
        let (name, mut rest) = line.split_at(name_end);
        let mut labels = BTreeMap::new();
        if let Some(block) = rest.strip_prefix('{') {
            rest = block;
            while !rest.starts_with('}') {
                let (key, quoted) = rest.split_once("=\"")?;
                let (value, behind) = unquoted(quoted)?;
                labels.insert(key.to_owned(), value);
                rest = behind.strip_prefix(',').unwrap_or(behind);
            }
            rest = &rest[1..];
        }
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name: name.to_owned(), labels, value })
    }
}

/// A quoted value without its escapes, and what stands behind its closing quote.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            plain => value.push(plain),
        }
    }
    None
}
