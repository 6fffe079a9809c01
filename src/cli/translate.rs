//! `sluicegate translate`: one format in, another out, as a filter; losses and refused lines on standard error.
//!
//! ```text
//! files --chunks--> decode --batches--> target --> standard output
//!          (a thread of its own)          +------> account: what was lost, where
//! ```
//!
//! Memory is constant: chunks, the series table, an exposition's group and the queue between the threads are bounded. What
//! is not is the one message that protobuf formats are; it ends with an error at 1 GiB, and `--split` avoids it. A reader
//! that is slow holds the writer, a writer that is slow holds the reader, through the bounded queue.

mod account;
mod chunks;
mod decode;
mod notes;
mod styles;
mod target;

use crate::clock;
use crate::micrometer::{Mode, Profile};
use crate::model::{Format, Losses, TimestampNs};
use crate::wire::style::one_of;
use crate::wire::{Report, influx_line};
use account::Account;
use chunks::{Chunks, is_standard_input};
use decode::{Decoded, Decoder};
use indicatif::{ProgressBar, ProgressStyle};
use notes::Refusals;
use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
pub use styles::Styles;
use target::{Pieces, Target};

/// Batches between the two threads.
const WAITING_MAX: usize = 2;
/// What a shell reports of a program that SIGPIPE ended: 128 + 13.
const CLOSED_PIPE: u8 = 141;
/// Wrong usage, as the argument parser ends.
const USAGE: u8 = 2;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What is read
    #[arg(long, value_name = "FORMAT", value_parser = format_of)]
    from: Format,
    /// What is written
    #[arg(long, value_name = "FORMAT", value_parser = format_of, required_unless_present = "dry_run")]
    to: Option<Format>,
    /// Write nothing; show as a table what each kind of output would lose
    #[arg(long, conflicts_with = "to")]
    dry_run: bool,
    /// Name and shape series as that program does: telegraf_v1, telegraf_v2, vmagent or vector
    #[arg(long, value_name = "PROGRAM", conflicts_with = "dry_run")]
    preset: Option<String>,
    /// Set an option of outputs by its key in the configuration, whatever the preset says; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "dry_run")]
    set: Vec<String>,
    /// When series are taken for meters of Micrometer, which leave as it writes them: auto, always or never [default: that of
    /// the configuration, or auto]
    #[arg(long, value_name = "MODE", value_parser = mode_of)]
    micrometer: Option<Mode>,
    /// A configuration file; what it says of `micrometer` holds here as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write remote-write messages of about 10000 samples to numbered files in DIR instead of one to standard output
    #[arg(long, value_name = "DIR", conflicts_with = "dry_run")]
    split: Option<PathBuf>,
    /// Read instead of standard input, which is `-`, too; a remote-write message each
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(super) fn format_of(name: &str) -> Result<Format, String> {
    Format::from_name(name).ok_or_else(|| format!("expected one of {}", Format::ALL.map(Format::as_str).join(", ")))
}

fn mode_of(name: &str) -> Result<Mode, String> {
    one_of(&Mode::SPELLINGS, name)
}

/// Reads the files or standard input, writes standard output. Exit code 1 when anything was refused.
pub(super) fn translate(arguments: &Arguments) -> ExitCode {
    let is_message = |format| matches!(format, Format::RemoteWrite | Format::RemoteWrite2);
    if arguments.split.is_some() && !arguments.to.is_some_and(is_message) {
        complain(&"`--split` goes with `--to remote_write` or `--to remote_write2`");
        return ExitCode::from(USAGE);
    }
    let meters = match arguments.config.as_deref().map(super::load).transpose() {
        Ok(config) => config.map(|config| config.micrometer).unwrap_or_default(),
        Err(mistakes) => return super::complain(&mistakes),
    };
    let meters = Profile { mode: arguments.micrometer.unwrap_or(meters.mode), ..meters };
    let styles = match arguments.to.map(|to| Styles::of(to, arguments.preset.as_deref(), &arguments.set)).transpose() {
        Ok(styles) => styles.unwrap_or_default().with_meters(meters),
        Err(message) => {
            complain(&message);
            return ExitCode::from(USAGE);
        }
    };
    let mut files = arguments.files.clone();
    if files.is_empty() {
        files.push(PathBuf::from("-"));
    }
    let progress = progress(&files, arguments.to.is_some() && arguments.split.is_none());
    let decoder = Decoder::new(arguments.from, &styles);
    let batches = decode_in_thread(decoder, files, progress.clone());
    let mut run = Run { batches, progress, refusals: Refusals::new() };
    let ended = match (arguments.to, &arguments.split) {
        (None, _) => run.compare(&styles),
        (Some(to), None) => run.filter(to, &styles),
        (Some(to), Some(dir)) => run.split(to, &styles, dir),
    };
    run.progress.finish_and_clear();
    match ended {
        Ok(()) if run.refusals.samples() > 0 => ExitCode::FAILURE,
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(CLOSED_PIPE),
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn complain(what: &dyn std::fmt::Display) {
    let _ = writeln!(io::stderr(), "sluicegate translate: {what}");
}

/// A bar on standard error, where that is a terminal which the output does not go to as well.
fn progress(files: &[PathBuf], writes: bool) -> ProgressBar {
    if !io::stderr().is_terminal() || writes && io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    match files.iter().map(|file| size(file)).sum::<Option<u64>>() {
        Some(total) => {
            let bar = "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
            ProgressBar::new(total).with_style(style(bar))
        }
        None => ProgressBar::no_length().with_style(style("{spinner} {bytes}, {bytes_per_sec}")),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// The size of a regular file.
fn size(file: &Path) -> Option<u64> {
    let metadata = if is_standard_input(file) {
        File::from(io::stdin().as_fd().try_clone_to_owned().ok()?).metadata()
    } else {
        fs::metadata(file)
    };
    metadata.ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

/// Reads and decodes ahead of the writer. The thread is not waited for: it may be reading from a pipe that never ends.
fn decode_in_thread(mut decoder: Decoder, files: Vec<PathBuf>, progress: ProgressBar) -> Receiver<io::Result<Decoded>> {
    let (sender, receiver) = mpsc::sync_channel(WAITING_MAX);
    thread::spawn(move || {
        let mut chunks = Chunks::new(decoder.format(), files, progress);
        loop {
            let decoded = match chunks.next() {
                Ok(None) => return,
                Ok(Some(chunk)) => {
                    let name = Arc::clone(&chunk.name);
                    decoder.decode(chunk, now()).map_err(|error| io::Error::other(format!("{name}: {error}")))
                }
                Err(error) => Err(error),
            };
            let failed = decoded.is_err();
            if sender.send(decoded).is_err() || failed {
                return;
            }
        }
    });
    receiver
}

/// The time for samples that came without one, in a resolution that every format has: it is no loss that it ends there.
fn now() -> TimestampNs {
    const MILLISECOND: TimestampNs = 1_000_000;
    clock::now() / MILLISECOND * MILLISECOND
}

struct Run {
    batches: Receiver<io::Result<Decoded>>,
    progress: ProgressBar,
    refusals: Refusals,
}

impl Run {
    fn filter(&mut self, to: Format, styles: &Styles) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.translate(&mut [target::filter(to, styles, Pieces::Message)], &mut |bytes| {
            out.write_all(bytes)?;
            out.flush()
        })
    }

    fn split(&mut self, to: Format, styles: &Styles, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let mut number = 0;
        self.translate(&mut [target::filter(to, styles, Pieces::Messages)], &mut |message| {
            number += 1;
            let path = dir.join(format!("{number:08}.snappy"));
            fs::write(&path, message).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        })
    }

    /// Hands every batch to the target, its pieces to the sink, and what is to be said to standard error.
    fn translate(&mut self, targets: &mut [Box<dyn Target>; 1], sink: &mut target::Sink<'_>) -> io::Result<()> {
        self.feed(targets, sink)?;
        self.progress.finish_and_clear();
        let _ = notes::summarise(&self.refusals, targets[0].account(), &mut io::stderr().lock());
        Ok(())
    }

    fn feed(&mut self, targets: &mut [Box<dyn Target>], sink: &mut target::Sink<'_>) -> io::Result<()> {
        for input in &self.batches {
            let input = Arc::new(input?);
            let mut told = Vec::new();
            self.refusals.add(&input, &mut told)?;
            if !told.is_empty() {
                self.progress.suspend(|| drop(io::stderr().write_all(&told)));
            }
            for target in &mut *targets {
                target.take(&input, sink)?;
            }
        }
        targets.iter_mut().try_for_each(|target| target.end(sink))
    }

    /// Translates for every kind of output and shows what each would lose.
    fn compare(&mut self, styles: &Styles) -> io::Result<()> {
        let (names, mut targets): (Vec<_>, Vec<_>) = outputs(styles).into_iter().unzip();
        self.feed(&mut targets, &mut |_| Ok(()))?;
        self.progress.finish_and_clear();
        let _ = self.refusals.summarise(&mut io::stderr().lock());
        let accounts: Vec<_> = names.into_iter().zip(targets.iter().map(|target| target.account())).collect();
        let read = accounts.first().map_or(0, |(_, account)| account.taken);
        let mut out = io::stdout().lock();
        writeln!(out, "{read} samples read, {} refused\n", self.refusals.samples())?;
        notes::table(&accounts, &mut out)?;
        out.flush()
    }
}

/// What the gateway can write, each as its outputs do.
fn outputs(styles: &Styles) -> Vec<(&'static str, Box<dyn Target>)> {
    let influx_line = |unsigned| {
        let options = influx_line::encode::Options { unsigned, ..Default::default() };
        target::influx_line(options, &styles.micrometer)
    };
    let other = |format| target::filter(format, styles, Pieces::Messages);
    vec![
        ("remote_write", other(Format::RemoteWrite)),
        ("remote_write2", other(Format::RemoteWrite2)),
        ("influxdb 1", influx_line(false)),
        ("influxdb 2, 3", influx_line(true)),
        ("wavefront", other(Format::Wavefront)),
        ("prometheus_text", other(Format::PrometheusText)),
        ("openmetrics", other(Format::OpenMetrics)),
    ]
}

/// The result of a translation in memory.
#[derive(Debug)]
pub struct Translation {
    /// The other format.
    pub bytes: Vec<u8>,
    /// What the decoder took and refused.
    pub report: Report,
    /// Samples that arrived altered.
    pub losses: Losses,
    /// Samples that did not arrive.
    pub dropped: Losses,
}

/// Translates an input in memory, as the command does. Remote write is read and written as one Snappy block. The error is a
/// sentence about an input that is no message at all.
pub fn translation(from: Format, to: Format, input: &[u8], now: TimestampNs) -> Result<Translation, String> {
    translation_as(from, to, &Styles::default(), input, now)
}

/// The same in other styles.
pub fn translation_as(
    from: Format,
    to: Format,
    styles: &Styles,
    input: &[u8],
    now: TimestampNs,
) -> Result<Translation, String> {
    let mut chunks = Chunks::of(from, input.to_vec());
    let mut decoder = Decoder::new(from, styles);
    let mut target = target::filter(to, styles, Pieces::Message);
    let (mut bytes, mut report) = (Vec::new(), Report::default());
    let mut sink = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    let sentence = |error: io::Error| error.to_string();
    while let Some(chunk) = chunks.next().map_err(sentence)? {
        let decoded = Arc::new(decoder.decode(chunk, now)?);
        report.merge(&decoded.report, decoded.chunk.first_line - 1);
        target.take(&decoded, &mut sink).map_err(sentence)?;
    }
    target.end(&mut sink).map_err(sentence)?;
    let Account { dropped, altered, .. } = target.account();
    let (losses, dropped) = (altered.clone(), dropped.clone());
    drop(target);
    Ok(Translation { bytes, report, losses, dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(from: Format, to: Format, input: &str) -> String {
        String::from_utf8(translation(from, to, input.as_bytes(), 1_700_000_000_000_000_000).unwrap().bytes).unwrap()
    }

    #[test]
    fn a_line_becomes_prometheus_text_and_comes_back() {
        let line = "cpu,host=a usage=1.5 1700000000000000000\n";
        let exposition = text(Format::InfluxLine, Format::PrometheusText, line);
        assert!(exposition.contains("cpu_usage{host=\"a\"} 1.5 1700000000000"), "{exposition}");
        let back = text(Format::PrometheusText, Format::InfluxLine, "cpu_usage{host=\"a\"} 1.5 1700000000000\n");
        assert_eq!(back, "cpu_usage,host=a value=1.5 1700000000000000000\n");
    }

    #[test]
    fn a_sample_without_a_timestamp_stays_without() {
        let line = "cpu,host=a usage=1.5,n=2i\n";
        assert_eq!(text(Format::InfluxLine, Format::InfluxLine, line), line);
        assert_eq!(text(Format::PrometheusText, Format::PrometheusText, "a 1\n"), "a 1\n");
        assert_eq!(text(Format::PrometheusText, Format::InfluxLine, "a 1\n"), "a value=1\n");
        let point = "\"a\" 1.0 source=\"s\"\n";
        assert_eq!(text(Format::Wavefront, Format::Wavefront, point), point);
        assert_eq!(text(Format::Wavefront, Format::PrometheusText, point), "a{source=\"s\"} 1\n");
    }

    #[test]
    fn metadata_of_1_0_is_lost_only_where_no_series_is_of_its_family() {
        use crate::model::Loss;
        use crate::wire::compression;
        use crate::wire::remote_write::messages::{Label, MetricMetadata, Sample, TimeSeries, WriteRequest};
        use prost::Message;
        let label = |name: &str, value: &str| Label { name: name.to_owned(), value: value.to_owned() };
        let series = TimeSeries {
            labels: vec![label("__name__", "c_total")],
            samples: vec![Sample { value: 1.0, timestamp: 1 }],
            ..TimeSeries::default()
        };
        let family = |name: &str| MetricMetadata {
            r#type: 1,
            metric_family_name: name.to_owned(),
            help: "h".to_owned(),
            ..MetricMetadata::default()
        };
        let metadata = vec![family("c_total"), family("elsewhere")];
        let input = compression::snappy(&WriteRequest { timeseries: vec![series], metadata }.encode_to_vec());
        let there = translation(Format::RemoteWrite, Format::RemoteWrite2, &input, 0).unwrap();
        assert_eq!(there.losses.iter().collect::<Vec<_>>(), [(Loss::Metadata, 1)]);
        let text = translation(Format::RemoteWrite2, Format::PrometheusText, &there.bytes, 0).unwrap().bytes;
        assert_eq!(String::from_utf8(text).unwrap(), "# HELP c_total h\n# TYPE c_total counter\nc_total 1 1\n");
        let back = translation(Format::RemoteWrite, Format::RemoteWrite, &input, 0).unwrap();
        assert_eq!(back.losses.total(), 0, "1.0 says it apart");
    }

    #[test]
    fn every_sample_of_a_series_arrives() {
        let lines = "m v=1 1000000\nm v=2 2000000\n";
        for middle in Format::ALL {
            let there = translation(Format::InfluxLine, middle, lines.as_bytes(), 0).unwrap();
            assert_eq!((there.dropped.total(), there.report.accepted), (0, 2), "{middle:?}");
            let onward = translation(middle, Format::PrometheusText, &there.bytes, 0).unwrap();
            assert_eq!(onward.report.accepted, 2, "{middle:?}");
        }
    }

    #[test]
    fn types_survive_remote_write() {
        let body = "# HELP a_total h\n# TYPE a_total counter\na_total 1 1\n";
        for middle in [Format::RemoteWrite, Format::RemoteWrite2] {
            let there = translation(Format::PrometheusText, middle, body.as_bytes(), 0).unwrap();
            let back = translation(middle, Format::PrometheusText, &there.bytes, 0).unwrap();
            assert_eq!(String::from_utf8(back.bytes).unwrap(), body, "{middle:?}");
        }
    }

    #[test]
    fn exemplars_stay_with_their_samples() {
        let body = "# TYPE c counter\nc_total 1 1 # {t=\"a\"} 1\nc_total 2 2 # {t=\"b\"} 2\n# EOF\n";
        assert_eq!(text(Format::OpenMetrics, Format::OpenMetrics, body), body);
    }

    #[test]
    fn meters_of_micrometer_leave_as_it_writes_them() {
        let exposition = "# TYPE send_seconds summary\nsend_seconds_count{application_guid=\"t\"} 2 60000\n\
            send_seconds_sum{application_guid=\"t\"} 0.046 60000\nsend_seconds_max{application_guid=\"t\"} 0.034 60000\n\
            send_seconds_count{application_guid=\"t\"} 3 120000\nsend_seconds_sum{application_guid=\"t\"} 0.05 120000\n";
        let rows = "send,application_guid=t,metric_type=histogram count=2,sum=46,upper=34,mean=23 60000000000\n\
            send,application_guid=t,metric_type=histogram count=1,sum=4,mean=4 120000000000\n";
        let written = text(Format::PrometheusText, Format::InfluxLine, exposition);
        assert_eq!(written.replace("4.0000000000000036", "4"), rows, "but for how 0.05 - 0.046 is rounded");
        let back = text(Format::InfluxLine, Format::OpenMetrics, rows);
        let expected = "# TYPE send_seconds summary\nsend_seconds_count{application_guid=\"t\"} 2 60\n\
            send_seconds_sum{application_guid=\"t\"} 0.046 60\nsend_seconds_created{application_guid=\"t\"} 0 60\n\
            send_seconds_count{application_guid=\"t\"} 3 120\nsend_seconds_sum{application_guid=\"t\"} 0.05 120\n\
            send_seconds_created{application_guid=\"t\"} 0 120\n# TYPE send_seconds_max gauge\n\
            send_seconds_max{application_guid=\"t\"} 0.034 60\n# EOF\n";
        assert_eq!(back, expected);
        let points = "\"send.count\" 2.0 60 source=\"unknown\" \"application.guid\"=\"t\"\n\
            \"send.sum\" 0.046 60 source=\"unknown\" \"application.guid\"=\"t\"\n\
            \"send.max\" 0.034 60 source=\"unknown\" \"application.guid\"=\"t\"\n";
        assert!(text(Format::PrometheusText, Format::Wavefront, exposition).starts_with(points));
        let row = "m,metric_type=counter value=1 1\n";
        assert_eq!(text(Format::InfluxLine, Format::InfluxLine, row), row);
    }

    #[test]
    fn what_meters_lose_is_told() {
        use crate::model::Loss;
        let rows = "send,metric_type=histogram sum=46,count=2,mean=23,upper=34 120000000000\n\
            send,metric_type=histogram count=2 60000000000\nm,metric_type=gauge,a.b=1,a-b=2 value=1 1\n";
        for to in Format::ALL.into_iter().filter(|to| to.dialect() == crate::model::Dialect::Prometheus) {
            let there = translation(Format::InfluxLine, to, rows.as_bytes(), 0).unwrap();
            let dropped: Vec<_> = there.dropped.iter().collect();
            assert_eq!(dropped, [(Loss::Derived, 1), (Loss::LateDelta, 1)], "{to:?}");
            let altered = [Loss::UnitConverted, Loss::TemporalityConverted, Loss::LabelDropped];
            assert_eq!(altered.map(|loss| there.losses.get(loss)), [2, 2, 1], "{to:?}");
            assert_eq!(there.report.accepted - there.dropped.total(), 4);
        }
        let never = Styles::default().with_meters(Profile { mode: Mode::Never, ..Profile::default() });
        let there = translation_as(Format::InfluxLine, Format::PrometheusText, &never, rows.as_bytes(), 0).unwrap();
        assert_eq!(there.dropped.total(), 0);
        assert!(String::from_utf8(there.bytes).unwrap().contains("send_upper{metric_type=\"histogram\"} 34 120000\n"));
    }

    #[test]
    fn every_pair_of_formats_carries_a_gauge() {
        let line = "m,source=s v=2 1700000000000000000\n";
        for middle in Format::ALL {
            let there = translation(Format::InfluxLine, middle, line.as_bytes(), 0).unwrap();
            assert_eq!(there.dropped.total(), 0, "{middle:?}");
            for to in Format::ALL {
                let onward = translation(middle, to, &there.bytes, 0).unwrap();
                assert_eq!(onward.report.refused(), 0, "{middle:?}: {:?}", onward.report.first);
                assert_eq!(onward.report.accepted, 1, "{middle:?} to {to:?}");
                assert_eq!(onward.dropped.total(), 0, "{middle:?} to {to:?}");
            }
        }
    }
}
