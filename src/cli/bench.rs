//! `sluicegate bench`: loads, sinks and comparisons ([`crate::bench`]). Results go to standard output, progress to a
//! terminal's standard error.

use crate::bench::compare::{self, INPUTS, OUTPUTS};
use crate::bench::contender::Contender;
use crate::bench::load::{Bound, DURATION_MAX, Load, Options, Report};
use crate::bench::process::{self, Usage};
use crate::bench::shape::Shape;
use crate::bench::sink::{Arrived, Sink};
use crate::bench::table;
use crate::clock;
use crate::config::units;
use crate::model::Format;
use hyper::Uri;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use std::error::Error;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep};

/// How often progress is shown and a sink looks at what it has.
const TICK: Duration = Duration::from_millis(100);
const SERIES: usize = 100_000;
const CONNECTIONS: usize = 4;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Sends a generated load to a URL and reports speed and latencies as JSON
    Load(LoadArguments),
    /// Takes remote write, line protocol and Wavefront lines, counts and sums them up, keeps nothing
    Sink(SinkArguments),
    /// Compares sluicegate with vmagent and Telegraf, where they are installed
    Compare(CompareArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct LoadArguments {
    /// http://host:port, or with a path other than the format's usual one
    #[arg(long, value_name = "URL")]
    target: Uri,
    /// What is sent
    #[arg(long, value_name = "FORMAT", value_parser = super::translate::format_of)]
    format: Format,
    /// How the series look
    #[arg(long, value_enum, default_value_t = Shape::Kubernetes)]
    shape: Shape,
    #[command(flatten)]
    common: Common,
    /// Active series
    #[arg(long, value_name = "N", default_value_t = SERIES)]
    series: usize,
    /// Connections, each with one request at a time
    #[arg(long, value_name = "N", default_value_t = CONNECTIONS)]
    connections: usize,
    /// The part of the series that is new in each pass, 0 to 1
    #[arg(long, value_name = "PART", default_value_t = 0.0)]
    churn: f64,
    /// Ends after that time: 30s, 5m
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10s", conflicts_with = "requests")]
    duration: Duration,
    /// Ends after so many requests
    #[arg(long, value_name = "N")]
    requests: Option<u64>,
    /// Reports CPU and memory of that process, too
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// Permits a target on another machine, for which a load at full speed may be an attack
    #[arg(long)]
    allow_remote: bool,
}

/// What loads and comparisons have in common.
#[derive(Debug, clap::Args)]
struct Common {
    /// Decides labels and values
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Samples of a request
    #[arg(long, value_name = "N", default_value_t = 2000)]
    samples_per_request: usize,
    /// Samples a second; at full speed unless given
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,
}

#[derive(Debug, clap::Args)]
pub(super) struct SinkArguments {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8999")]
    listen: SocketAddr,
    /// Ends after that time
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1h")]
    duration: Duration,
    /// Ends when so many samples have arrived
    #[arg(long, value_name = "N")]
    samples: Option<u64>,
    /// Permits to listen on addresses that other machines reach: whatever they send is read
    #[arg(long)]
    allow_remote: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CompareArguments {
    /// The gateways
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Contender::Vmagent, Contender::Telegraf, Contender::Sluicegate]
    )]
    gateways: Vec<Contender>,
    /// The inputs
    #[arg(long, value_name = "FORMAT", value_delimiter = ',', value_parser = input, default_values = INPUTS.map(Format::as_str))]
    inputs: Vec<Format>,
    /// How many outputs at once: 1 or 3
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = outputs, default_values_t = OUTPUTS.map(<[Format]>::len))]
    outputs: Vec<usize>,
    /// Rounds of each gateway and path
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Samples measured in a round
    #[arg(long, value_name = "N", default_value_t = 5_000_000)]
    samples: u64,
    #[command(flatten)]
    common: Common,
    /// Active series; of several numbers, a curve
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [SERIES])]
    series: Vec<usize>,
    /// Connections, each with one request at a time; of several numbers, a curve
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [CONNECTIONS])]
    connections: Vec<usize>,
    /// Writes the result there as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let bounded = units::duration(text).filter(|duration| !duration.is_zero() && *duration <= DURATION_MAX);
    bounded.ok_or_else(|| format!("expected {}, up to {DURATION_MAX:?}", units::DURATION))
}

fn rate(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|rate| (1.0..=1e12).contains(rate)).ok_or_else(|| "expected 1 to 1e12".to_owned())
}

fn input(text: &str) -> Result<Format, String> {
    let expected = || format!("expected {}", INPUTS.map(Format::as_str).join(", "));
    Format::from_name(text).filter(|format| INPUTS.contains(format)).ok_or_else(expected)
}

fn outputs(text: &str) -> Result<usize, String> {
    let known = |count: &usize| OUTPUTS.iter().any(|outputs| outputs.len() == *count);
    text.parse()
        .ok()
        .filter(known)
        .ok_or_else(|| format!("expected {}", OUTPUTS.map(|it| it.len().to_string()).join(" or ")))
}

type Outcome = Result<(), Box<dyn Error>>;

/// Runs a command. Exit code 1 when it failed, or when samples did not arrive as they were sent.
pub(super) fn bench(command: Command) -> ExitCode {
    // Every connection of a load is an open file, and gateways that are started inherit the limit.
    crate::open_files::raise();
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        runtime.block_on(async {
            let (mut interrupted, mut terminated) =
                (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
            // What runs is dropped when a signal comes, and gateways that were started end with it.
            tokio::select! {
                outcome = run(command) => outcome,
                _ = interrupted.recv() => Err("interrupted".into()),
                _ = terminated.recv() => Err("terminated".into()),
            }
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => super::complain(&format_args!("sluicegate bench: {error}")),
    }
}

async fn run(command: Command) -> Outcome {
    match command {
        Command::Load(arguments) => load(arguments).await,
        Command::Sink(arguments) => sink(arguments).await,
        Command::Compare(arguments) => compare(arguments).await,
    }
}

/// What `load` reports.
#[derive(Serialize)]
struct Loaded {
    #[serde(flatten)]
    report: Report,
    /// CPU seconds that the load itself took by million samples.
    own_cpu_seconds_per_million: f64,
    process: Option<ProcessUsage>,
}

/// What a process used while the load ran.
#[derive(Serialize)]
struct ProcessUsage {
    pid: u32,
    cpu_seconds_per_million: f64,
    resident_bytes: u64,
    resident_bytes_max: u64,
}

async fn load(arguments: LoadArguments) -> Outcome {
    let Common { seed, samples_per_request, rate } = arguments.common;
    let LoadArguments { target, format, shape, series, connections, churn, .. } = arguments;
    let options = Options { target, format, shape, seed, series, samples_per_request, connections, churn, rate };
    let mut load = Load::try_new(options, arguments.allow_remote)?;
    let own = std::process::id();
    let usage = || -> std::io::Result<(Usage, Option<Usage>)> {
        Ok((process::usage(own)?, arguments.pid.map(process::usage).transpose()?))
    };
    let before = usage()?;
    let bound = arguments.requests.map_or(Bound::Duration(arguments.duration), Bound::Requests);
    let (samples, bar) = (load.progress(), bar("{elapsed} {msg}"));
    let report = {
        let run = load.run(bound);
        tokio::pin!(run);
        let mut ticks = interval(TICK);
        loop {
            tokio::select! {
                report = &mut run => break report?,
                _ = ticks.tick() => bar.set_message(format!("{} samples", samples.load(Ordering::Relaxed))),
            }
        }
    };
    bar.finish_and_clear();
    let after = usage()?;
    let per_million =
        |before: Usage, after: Usage| (after.cpu_seconds - before.cpu_seconds) / report.samples.max(1) as f64 * 1e6;
    let own_cpu_seconds_per_million = per_million(before.0, after.0);
    let process = arguments.pid.zip(before.1.zip(after.1)).map(|(pid, (before, after))| ProcessUsage {
        pid,
        cpu_seconds_per_million: per_million(before, after),
        resident_bytes: after.resident_bytes,
        resident_bytes_max: after.resident_bytes_max,
    });
    print_json(&Loaded { report, own_cpu_seconds_per_million, process })
}

async fn sink(arguments: SinkArguments) -> Outcome {
    if !arguments.listen.ip().is_loopback() && !arguments.allow_remote {
        return Err(format!(
            "{} can be reached from other machines: --allow-remote says that it is meant",
            arguments.listen
        )
        .into());
    }
    let sink = Sink::listen(arguments.listen).await?;
    super::print_to(&mut std::io::stderr().lock(), &format_args!("sink at http://{}", sink.address()));
    let (start, bar) = (clock::monotonic(), bar("{elapsed} {msg}"));
    while start.elapsed() < arguments.duration && arguments.samples.is_none_or(|samples| sink.samples() < samples) {
        bar.set_message(format!("{} samples", sink.samples()));
        sleep(TICK).await;
    }
    bar.finish_and_clear();
    let arrived: Arrived = sink.arrived();
    print_json(&arrived)?;
    match arrived.error {
        Some(error) => Err(format!("{} bodies could not be read: {error}", arrived.unreadable).into()),
        None => Ok(()),
    }
}

async fn compare(arguments: CompareArguments) -> Outcome {
    let Common { seed, samples_per_request, rate } = arguments.common;
    let plan = compare::Plan {
        contenders: arguments.gateways,
        inputs: arguments.inputs,
        outputs: arguments.outputs,
        rounds: arguments.rounds,
        series: arguments.series,
        samples: arguments.samples,
        samples_per_request,
        connections: arguments.connections,
        rate,
        seed,
    };
    let bar = bar("{elapsed} {bar:30} {msg}");
    bar.set_length(1000);
    let mut show = |what: &str, done: f64| {
        bar.set_position((done * 1000.0) as u64);
        bar.set_message(what.to_owned());
    };
    let comparison = compare::compare(&plan, &mut show).await?;
    bar.finish_and_clear();
    super::print_to(&mut std::io::stdout().lock(), &table::markdown(&comparison));
    if let Some(path) = arguments.json {
        let written = serde_json::to_vec_pretty(&comparison).map_err(std::io::Error::other);
        written.and_then(|json| std::fs::write(&path, json)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

fn print_json(what: &impl Serialize) -> Outcome {
    super::print_to(&mut std::io::stdout().lock(), &serde_json::to_string_pretty(what)?);
    Ok(())
}

/// A progress bar on a terminal, nothing elsewhere.
fn bar(template: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new_spinner().with_style(style);
    bar.enable_steady_tick(TICK);
    bar
}
