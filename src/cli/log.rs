//! `sluicegate log`: looks into the log, and sends from it again, while the gateway is down.

mod letters;

use super::print_to;
use crate::log::{
    CursorFile, CursorState, Inspected, Record, SegmentReport, Seq, VerifyReport, inspect, repair, replay,
    rfc3339 as time, verify,
};
use crate::model::{Batch, Sample, Series, SeriesTable, Value};
use std::collections::HashSet;
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Lists the segments, the cursors and the dead letters
    Ls(Arguments),
    /// Checks every record and cursor, and tells what is damaged; exit code 1 when something is
    Verify(VerifyArguments),
    /// Prints a line for each record, the samples of one, or what a destination refused
    Inspect(InspectArguments),
    /// Moves an output's cursor back, so that the output sends again, or queues its dead letters
    ///
    /// Everything from that record on is pending again and will be sent again. The account stays even: as many samples are
    /// taken off what is counted as delivered; what was dropped stays counted, and counts again if it is dropped again.
    ///
    /// Dead letters are sent when the gateway starts, beside everything else, and outside of the account.
    Replay(ReplayArguments),
}

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The log's directory, `log.dir` of the configuration
    #[arg(long, value_name = "DIR", default_value = "sluicegate-data")]
    dir: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    log: Arguments,
    /// Mends what can be mended, as the gateway does when it starts: cuts off a torn end, sets aside files that cannot be
    /// read, and writes half-damaged cursor files anew
    #[arg(long)]
    repair: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct InspectArguments {
    #[command(flatten)]
    log: Arguments,
    /// Prints the samples of this record
    #[arg(long, value_name = "SEQ", conflicts_with = "dead_letters")]
    seq: Option<Seq>,
    /// Prints what the destination of this output refused, with its words
    #[arg(long, value_name = "OUTPUT")]
    dead_letters: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    log: Arguments,
    /// The output's name
    #[arg(long, value_name = "NAME", requires = "from", required_unless_present = "dead_letters")]
    cursor: Option<String>,
    /// The first record to be sent again
    #[arg(long, value_name = "SEQ", requires = "cursor")]
    from: Option<Seq>,
    /// Queues the dead letters of this output instead
    #[arg(long, value_name = "OUTPUT", conflicts_with = "cursor")]
    dead_letters: Option<String>,
}

/// Does what was asked for. Exit code 1 when it cannot be done, or when something is damaged.
pub(super) fn log(command: &Command) -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match command {
        Command::Ls(arguments) => list(&mut out, &arguments.dir),
        Command::Verify(arguments) => check(&mut out, arguments),
        Command::Inspect(InspectArguments { log, dead_letters: Some(output), .. }) => {
            letters::show(&mut out, &log.dir, output)
        }
        Command::Inspect(arguments) => show(&mut out, &arguments.log.dir, arguments.seq),
        Command::Replay(ReplayArguments { log, dead_letters: Some(output), .. }) => {
            letters::queue(&mut out, &log.dir, output)
        }
        Command::Replay(ReplayArguments { log, cursor: Some(cursor), from: Some(from), .. }) => {
            move_back(&mut out, &log.dir, cursor, *from)
        }
        Command::Replay(_) => Err("give --cursor and --from, or --dead-letters".into()),
    };
    // Nobody is left to be told when the reader is gone.
    let _ = out.flush();
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::complain(&format_args!("sluicegate log: {error}")),
    }
}

/// Whether all is well.
type Done = Result<bool, Box<dyn Error>>;

fn list(out: &mut dyn Write, dir: &Path) -> Done {
    let report = verify(dir)?;
    for segment in &report.segments {
        print_segment(out, segment);
    }
    for cursor in &report.cursors {
        print_cursor(out, cursor);
    }
    print_set_aside(out, &report);
    letters::list(out, dir)?;
    Ok(true)
}

fn check(out: &mut dyn Write, VerifyArguments { log: Arguments { dir }, repair: mend }: &VerifyArguments) -> Done {
    let report = verify(dir)?;
    for segment in &report.segments {
        print_segment(out, segment);
        if segment.newer {
            print_to(out, &"  written by a later version: it is set aside when the gateway starts, and never deleted");
        } else if segment.damaged_bytes > 0 {
            print_to(out, &format_args!("  damaged: {} bytes", segment.damaged_bytes));
        }
    }
    for gap in &report.gaps {
        print_to(out, gap);
    }
    if report.lost_records > 0 {
        let (records, samples) = (report.lost_records, report.lost_samples);
        print_to(
            out,
            &format_args!(
                "{records} records with {samples} samples cannot be read: outputs that have not passed them count them as \
                 dropped (log_damaged) and get all others"
            ),
        );
    }
    if report.torn_bytes > 0 {
        let bytes = report.torn_bytes;
        print_to(
            out,
            &format_args!("{bytes} bytes at the end were never acknowledged: cut off when the gateway starts"),
        );
    }
    for cursor in report.cursors.iter().filter(|cursor| !cursor.sound) {
        print_cursor(out, cursor);
    }
    print_set_aside(out, &report);
    if *mend {
        print_repair(out, dir)?;
    }
    Ok(report.sound())
}

fn print_repair(out: &mut dyn Write, dir: &Path) -> Result<(), Box<dyn Error>> {
    let repaired = repair(dir)?;
    if repaired.damage.torn_bytes > 0 {
        print_to(out, &format_args!("repaired: {} bytes cut off the end", repaired.damage.torn_bytes));
    }
    for path in &repaired.damage.set_aside {
        print_to(out, &format_args!("repaired: {} set aside", path.display()));
    }
    for cursor in &repaired.cursors {
        print_to(out, &format_args!("repaired: the file of cursor {cursor}"));
    }
    Ok(())
}

fn print_set_aside(out: &mut dyn Write, report: &VerifyReport) {
    for file in &report.set_aside {
        print_to(out, &format_args!("set aside: {file}"));
    }
}

fn print_segment(out: &mut dyn Write, segment: &SegmentReport) {
    let SegmentReport { name, bytes, records, samples, first, .. } = segment;
    print_to(
        out,
        &format_args!("{name} {bytes} bytes, {records} records, {samples} samples from record {}", first.seq),
    );
}

fn print_cursor(out: &mut dyn Write, cursor: &CursorFile) {
    let name = &cursor.name;
    match &cursor.state {
        Ok(state) => {
            let note = if cursor.sound { "" } else { " (damaged in part, or of an older version; it is written anew)" };
            print_to(out, &format_args!("cursor {name}: {}{note}", standing(state)));
        }
        Err(why) => print_to(
            out,
            &format_args!(
                "cursor {name}: {}, it is set aside when the gateway starts; the output then sends again from the oldest \
                 record on, and counts what lies before as dropped (cursor_damaged)",
                why.as_str()
            ),
        ),
    }
}

fn standing(state: &CursorState) -> String {
    let mut text = format!("before record {}, {} samples delivered", state.seq, state.delivered);
    for (reason, samples) in &state.dropped {
        let _ = write!(text, ", {samples} dropped as {reason}");
    }
    text
}

fn show(out: &mut dyn Write, dir: &Path, seq: Option<Seq>) -> Done {
    let range = seq.map_or(0..=Seq::MAX, |seq| seq..=seq);
    let (mut found, mut sound) = (false, true);
    inspect(dir, range, |inspected| {
        found = true;
        match inspected {
            Inspected::Record(record, table) if seq.is_some() => print_samples(out, &record.batch, table),
            Inspected::Record(record, _) => print_record(out, record),
            Inspected::Damaged(gap) => {
                sound = false;
                print_to(out, gap);
            }
        }
        ControlFlow::Continue(())
    })?;
    match seq {
        Some(seq) if !found => Err(format!("there is no record {seq}; `log ls` tells what there is").into()),
        _ => Ok(sound),
    }
}

fn print_record(out: &mut dyn Write, record: &Record) {
    let batch = &record.batch;
    let series: HashSet<_> = batch.samples.iter().map(|sample| sample.series).collect();
    let (time, format) = (time(record.appended_at), batch.format.as_str());
    let (seq, series, samples) = (record.seq, series.len(), batch.samples.len());
    print_to(out, &format_args!("{seq} {time} {format}, {series} series, {samples} samples"));
}

fn print_samples(out: &mut dyn Write, batch: &Batch, table: &SeriesTable) {
    for (index, sample) in batch.samples.iter().enumerate() {
        let Some(series) = batch.series(sample.series, table) else { continue };
        let mut text = time(sample.timestamp);
        let _ = write!(text, " {}", sample_text(&series, batch, sample));
        if let Some(start) = batch.start_of(index) {
            let _ = write!(text, " since {}", time(start));
        }
        print_to(out, &text);
    }
}

/// `name{label="value"} 1`, or `measurement{tag="value"} field=1` for what came as a field of a row. Control characters are
/// escaped, so that a sample stays on its line.
fn sample_text(series: &Series, batch: &Batch, sample: &Sample) -> String {
    let mut text = series.name.measurement().escape_debug().to_string();
    for (at, pair) in series.labels.iter().enumerate() {
        let before = if at == 0 { '{' } else { ',' };
        let _ = write!(text, "{before}{}={:?}", pair.name.escape_debug(), pair.value);
    }
    text.push_str(if series.labels.is_empty() { " " } else { "} " });
    if let Some(field) = series.name.field_key() {
        let _ = write!(text, "{}=", field.escape_debug());
    }
    let _ = match batch.value(sample) {
        Value::F64(value) => write!(text, "{value:?}"),
        Value::I64(value) => write!(text, "{value}i"),
        Value::U64(value) => write!(text, "{value}u"),
        Value::Bool(value) => write!(text, "{value}"),
        Value::Str(value) => write!(text, "{value:?}"),
        Value::Histogram(value) => write!(text, "{value:?}"),
        Value::Distribution(value) => write!(text, "{value:?}"),
    };
    text
}

fn move_back(out: &mut dyn Write, dir: &Path, cursor: &str, from: Seq) -> Done {
    let (before, after) = replay(dir, cursor, from)?;
    print_to(out, &format_args!("was: {}", standing(&before)));
    print_to(out, &format_args!("is:  {}", standing(&after)));
    print_to(out, &format_args!("{} samples will be sent again", before.ordinal - after.ordinal));
    Ok(true)
}
