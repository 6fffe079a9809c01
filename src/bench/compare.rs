//! Compares gateways: the same load through each, in alternating rounds, to sinks that verify every sample.
//!
//! A round starts the gateway anew, sends every series once so that it knows them, waits until the sinks have all of it,
//! and then measures: from the first request until the last sample has arrived. CPU time is that of the gateway's process
//! alone, read from outside. Then the load goes on at half of the speed that the gateway has just shown: the latencies of
//! that part, counted from when each request was due, are those of a gateway that is not overrun. A round in which a sample
//! is missing, altered or arrives twice is an error, not a number.
//!
//! Of several numbers of series or connections every combination is a [`Point`] of a curve, measured in each round.
//!
//! Load, sinks and gateway share the machine: samples a second is what it does with all of them, CPU time is the measure.

use super::contender::{Contender, ContenderError, Destination, Running};
use super::digest::Digest;
use super::load::{Bound, Latency, Load, LoadError, Options};
use super::machine::Machine;
use super::shape::Shape;
use super::sink::Sink;
use crate::clock;
use crate::model::Format;
use hyper::Uri;
use serde::Serialize;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::sleep;

/// Rounds of a path and contender.
pub const ROUNDS_MAX: usize = 100;
/// Samples measured in a round.
pub const SAMPLES_MAX: u64 = 10_000_000_000;
/// How long no sample may arrive before the rest counts as missing.
const SILENCE_MAX: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);
/// How long the part at half speed is to take at most.
const HALF_SPEED_SECONDS: f64 = 15.0;
/// Points of a curve.
pub const POINTS_MAX: usize = 64;

/// The inputs of the comparison.
pub const INPUTS: [Format; 3] = [Format::RemoteWrite, Format::InfluxLine, Format::PrometheusText];
/// One output, and three at once.
pub const OUTPUTS: [&[Format]; 2] =
    [&[Format::RemoteWrite], &[Format::RemoteWrite, Format::InfluxLine, Format::Wavefront]];

/// What is compared.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The gateways; those that are not installed are left out and named.
    pub contenders: Vec<Contender>,
    /// The inputs, of [`INPUTS`].
    pub inputs: Vec<Format>,
    /// How many outputs, as [`OUTPUTS`] have.
    pub outputs: Vec<usize>,
    /// Rounds of each.
    pub rounds: usize,
    /// Numbers of active series.
    pub series: Vec<usize>,
    /// Samples measured in a round, at least; whole passes are sent.
    pub samples: u64,
    /// Samples of a request.
    pub samples_per_request: usize,
    /// Numbers of connections of the load.
    pub connections: Vec<usize>,
    /// Samples a second, or at full speed.
    pub rate: Option<f64>,
    /// What decides labels and values.
    pub seed: u64,
}

/// How large a load is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// Active series.
    pub series: usize,
    /// Connections.
    pub connections: usize,
}

/// Why a comparison has no result.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A number beyond its bounds.
    #[error("{0} must be 1 to {1}")]
    OutOfBounds(&'static str, u64),
    /// The gateway failed.
    #[error(transparent)]
    Contender(#[from] ContenderError),
    /// The load failed.
    #[error("{0}: {1}")]
    Load(&'static str, LoadError),
    /// A load that cannot be made.
    #[error("{} series over {} connections: {error}", .point.series, .point.connections)]
    Point {
        /// Its size.
        point: Point,
        /// Why not.
        error: LoadError,
    },
    /// No sink.
    #[error("cannot start a sink: {0}")]
    Sink(#[from] io::Error),
    /// What arrived is not what was sent.
    #[error("{contender}, {input} to {output}: of {sent} samples {arrived} arrived: {difference}{unreadable}")]
    Unequal {
        /// The gateway.
        contender: &'static str,
        /// Into it.
        input: &'static str,
        /// Out of it.
        output: &'static str,
        /// Samples answered with success.
        sent: u64,
        /// Samples at the sink.
        arrived: u64,
        /// In which way they differ.
        difference: super::digest::Difference,
        /// What the sink could not read.
        unreadable: String,
    },
}

/// One round of one gateway on one path.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// The gateway.
    pub contender: Contender,
    /// Into it.
    pub input: &'static str,
    /// Out of it.
    pub outputs: Vec<&'static str>,
    /// The size of the load.
    #[serde(flatten)]
    pub point: Point,
    /// Samples measured.
    pub samples: u64,
    /// CPU seconds of the gateway's process by million samples.
    pub cpu_seconds_per_million: f64,
    /// Samples by the seconds until the last one had arrived.
    pub samples_per_second: f64,
    /// The most memory of the gateway that was ever resident.
    pub resident_bytes_max: u64,
    /// Bytes of bodies by sample, one number for each output.
    pub bytes_per_sample: Vec<f64>,
    /// Bytes of request bodies by sample, into the gateway.
    pub bytes_per_sample_in: f64,
    /// How long the gateway took to answer requests, at full speed or at the rate that was asked for.
    pub latency: Latency,
    /// The same at half of that full speed, where no rate was asked for.
    pub half_speed: Option<HalfSpeed>,
    /// What load and sinks used of the CPU by million samples.
    pub harness_cpu_seconds_per_million: f64,
    /// What the load alone took to bring a sample up to date.
    pub generator_ns_per_sample: f64,
}

/// The part of a round at half of the samples a second that the gateway did before.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HalfSpeed {
    /// Samples a second.
    pub rate: f64,
    /// How long requests took from when they were due.
    pub latency: Latency,
}

impl Round {
    /// The latency of which a table tells: that of requests with a due time.
    pub fn paced(&self) -> Latency {
        self.half_speed.map_or(self.latency, |half| half.latency)
    }
}

/// The result of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// Where it was measured.
    pub machine: Machine,
    /// Names and versions of the gateways.
    pub contenders: Vec<(Contender, String)>,
    /// Gateways asked for that are not installed.
    pub absent: Vec<Contender>,
    /// Samples of a request.
    pub samples_per_request: usize,
    /// Samples a second, or at full speed.
    pub rate: Option<f64>,
    /// What arrived at sinks, by gateway: formats and content encodings.
    pub protocols: BTreeSet<(String, String)>,
    /// Every round, in the order in which they ran.
    pub rounds: Vec<Round>,
}

/// A path from a format to one or more, with those who can serve it.
struct Course {
    input: Format,
    outputs: &'static [Format],
    contenders: Vec<(Contender, PathBuf)>,
}

/// Runs a comparison. `progress` is told what begins, with the share of all rounds that is done.
pub async fn compare(plan: &Plan, progress: &mut dyn FnMut(&str, f64)) -> Result<Comparison, CompareError> {
    if !(1..=ROUNDS_MAX).contains(&plan.rounds) {
        return Err(CompareError::OutOfBounds("rounds", ROUNDS_MAX as u64));
    }
    if !(1..=SAMPLES_MAX).contains(&plan.samples) {
        return Err(CompareError::OutOfBounds("samples", SAMPLES_MAX));
    }
    let points = plan.points()?;
    let installed: Vec<_> = plan.contenders.iter().filter_map(|one| Some((*one, one.program()?))).collect();
    let mut comparison = Comparison {
        machine: Machine::here(),
        contenders: installed.iter().map(|(one, program)| (*one, one.version(program))).collect(),
        absent: plan.contenders.iter().filter(|one| one.program().is_none()).copied().collect(),
        samples_per_request: plan.samples_per_request,
        rate: plan.rate,
        protocols: BTreeSet::new(),
        rounds: Vec::new(),
    };
    let mut courses = Vec::new();
    let outputs = OUTPUTS.into_iter().filter(|outputs| plan.outputs.contains(&outputs.len()));
    for (outputs, input) in outputs.flat_map(|outputs| plan.inputs.iter().map(move |input| (outputs, *input))) {
        let able = installed.iter().filter(|(one, _)| one.serves(input, outputs)).cloned();
        courses.push(Course { input, outputs, contenders: able.collect() });
    }
    let all = plan.rounds * points.len() * courses.iter().map(|course| course.contenders.len()).sum::<usize>();
    for round in 0..plan.rounds {
        for (course, point) in courses.iter().flat_map(|course| points.iter().map(move |point| (course, *point))) {
            // Who goes first changes from round to round, so that a drift of the machine hurts all alike.
            for turn in 0..course.contenders.len() {
                let (contender, program) = &course.contenders[(turn + round) % course.contenders.len()];
                let (who, input, Point { series, connections }) = (contender.as_str(), course.input.as_str(), point);
                let what =
                    format!("{who} from {input}, {series} series, {connections} connections, round {}", round + 1);
                progress(&what, comparison.rounds.len() as f64 / all as f64);
                let done = run(plan, course, point, *contender, program, &mut comparison.protocols).await?;
                comparison.rounds.push(done);
            }
        }
    }
    Ok(comparison)
}

async fn run(
    plan: &Plan,
    course: &Course,
    point: Point,
    contender: Contender,
    program: &Path,
    protocols: &mut BTreeSet<(String, String)>,
) -> Result<Round, CompareError> {
    let mut sinks = Vec::new();
    for format in course.outputs {
        sinks.push((*format, Sink::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?));
    }
    let to: Vec<_> =
        sinks.iter().map(|(format, sink)| Destination { format: *format, address: sink.address() }).collect();
    let gateway = Running::start(contender, program, &to, point).await?;
    let failed = |error| CompareError::Load(contender.as_str(), error);
    let options = plan.options(gateway.url(contender.path(course.input)), course.input, point);
    let mut load = Load::try_new(options, false).map_err(failed)?;

    load.run(Bound::Requests(load.requests_per_pass())).await.map_err(failed)?;
    await_all(contender, course, &sinks, load.sent()).await?;

    let (harness, before) = (harness_cpu_seconds()?, gateway.usage()?);
    let bytes_before: Vec<_> = sinks.iter().map(|(_, sink)| sink.arrived().body_bytes).collect();
    let start = clock::monotonic();
    let passes = plan.samples.div_ceil(point.series as u64);
    let report = load.run(Bound::Requests(load.requests_per_pass() * passes)).await.map_err(failed)?;
    await_all(contender, course, &sinks, load.sent()).await?;
    let seconds = start.elapsed().as_secs_f64();
    let (after, harness_after) = (gateway.usage()?, harness_cpu_seconds()?);
    let sent: Vec<_> =
        sinks.iter().zip(bytes_before).map(|((_, sink), before)| sink.arrived().body_bytes - before).collect();

    let samples = report.samples as f64;
    let mut half_speed = None;
    if plan.rate.is_none() {
        let rate = samples / seconds / 2.0;
        load.set_rate(rate);
        let requests = (HALF_SPEED_SECONDS * rate / plan.samples_per_request as f64) as u64;
        let requests = requests.min(report.requests / 2).max(point.connections as u64);
        let latency = load.run(Bound::Requests(requests)).await.map_err(failed)?.latency;
        await_all(contender, course, &sinks, load.sent()).await?;
        half_speed = Some(HalfSpeed { rate, latency });
    }
    for (_, sink) in &sinks {
        let seen = sink.arrived().protocols.into_iter();
        protocols.extend(seen.map(|protocol| (contender.as_str().to_owned(), protocol)));
    }
    Ok(Round {
        contender,
        input: course.input.as_str(),
        outputs: course.outputs.iter().map(|format| format.as_str()).collect(),
        point,
        samples: report.samples,
        cpu_seconds_per_million: (after.cpu_seconds - before.cpu_seconds) / samples * 1e6,
        samples_per_second: samples / seconds,
        resident_bytes_max: after.resident_bytes_max,
        bytes_per_sample: sent.iter().map(|bytes| *bytes as f64 / samples).collect(),
        bytes_per_sample_in: report.body_bytes as f64 / samples,
        latency: report.latency,
        half_speed,
        harness_cpu_seconds_per_million: (harness_after - harness) / samples * 1e6,
        generator_ns_per_sample: report.generator_ns_per_sample,
    })
}

impl Plan {
    /// Every combination of series and connections, each of which a load can have.
    fn points(&self) -> Result<Vec<Point>, CompareError> {
        let of =
            |series: usize| self.connections.iter().map(move |connections| Point { series, connections: *connections });
        let points: Vec<Point> = self.series.iter().flat_map(|series| of(*series)).collect();
        if !(1..=POINTS_MAX).contains(&points.len()) {
            return Err(CompareError::OutOfBounds("numbers of series times numbers of connections", POINTS_MAX as u64));
        }
        for point in &points {
            let options = self.options(Uri::default(), Format::RemoteWrite, *point);
            options.check().map_err(|error| CompareError::Point { point: *point, error })?;
        }
        Ok(points)
    }

    fn options(&self, target: Uri, format: Format, point: Point) -> Options {
        Options {
            target,
            format,
            shape: if format == Format::InfluxLine { Shape::Telegraf } else { Shape::Kubernetes },
            seed: self.seed,
            series: point.series,
            samples_per_request: self.samples_per_request,
            connections: point.connections,
            churn: 0.0,
            rate: self.rate,
        }
    }
}

fn harness_cpu_seconds() -> io::Result<f64> {
    Ok(super::process::usage(std::process::id())?.cpu_seconds)
}

/// Waits until every sink has as many samples as were sent, then compares the checksums.
async fn await_all(
    contender: Contender,
    course: &Course,
    sinks: &[(Format, Sink)],
    sent: &Digest,
) -> Result<(), CompareError> {
    for (format, sink) in sinks {
        let (mut before, mut since) = (sink.samples(), clock::monotonic());
        while sink.samples() < sent.samples() && since.elapsed() < SILENCE_MAX {
            sleep(POLL).await;
            if sink.samples() != before {
                (before, since) = (sink.samples(), clock::monotonic());
            }
        }
        let difference = Digest::difference(&sink.digest(), sent);
        let arrived = sink.arrived();
        if !difference.is_none() || arrived.unreadable > 0 {
            return Err(CompareError::Unequal {
                contender: contender.as_str(),
                input: course.input.as_str(),
                output: format.as_str(),
                sent: sent.samples(),
                arrived: arrived.samples,
                difference,
                unreadable: arrived
                    .error
                    .map(|error| format!("; {} bodies could not be read: {error}", arrived.unreadable))
                    .unwrap_or_default(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(series: Vec<usize>, connections: Vec<usize>) -> Plan {
        Plan {
            contenders: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            rounds: 1,
            series,
            samples: 100,
            samples_per_request: 10,
            connections,
            rate: None,
            seed: 7,
        }
    }

    #[tokio::test]
    async fn a_sample_that_comes_twice_fails_the_round() {
        let sink = Sink::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let target = format!("http://{}", sink.address()).parse().unwrap();
        let options =
            plan(Vec::new(), Vec::new()).options(target, Format::RemoteWrite, Point { series: 100, connections: 2 });
        let mut load = Load::try_new(options, false).unwrap();
        load.run(Bound::Requests(10)).await.unwrap();
        let course = Course { input: Format::RemoteWrite, outputs: OUTPUTS[0], contenders: Vec::new() };
        let (sinks, first) = ([(Format::RemoteWrite, sink)], load.sent().clone());
        await_all(Contender::Vmagent, &course, &sinks, &first).await.unwrap();
        load.run(Bound::Requests(10)).await.unwrap();
        let error = await_all(Contender::Vmagent, &course, &sinks, &first).await.unwrap_err().to_string();
        assert!(error.contains("of 100 samples 200 arrived: at least 0 samples missing, 100 extra"), "{error}");
    }

    #[tokio::test]
    async fn a_curve_with_a_point_that_no_load_can_have_does_not_begin() {
        for (series, connections, expected) in [
            (
                vec![1000, 100],
                vec![4, 20],
                "100 series over 20 connections: 20 connections, but only 10 requests a pass",
            ),
            (vec![1000], vec![0], "1000 series over 0 connections: connections must be 1 to"),
            (vec![100; 9], vec![4; 9], "numbers of series times numbers of connections must be 1 to 64"),
            (vec![], vec![4], "numbers of series times numbers of connections must be 1 to 64"),
        ] {
            let mut begun = 0;
            let error = compare(&plan(series, connections), &mut |_, _| begun += 1).await.unwrap_err().to_string();
            assert!(error.contains(expected) && begun == 0, "{error}");
        }
    }
}
