//! The dead letters of an output, for people.

use super::{Done, print_samples, print_to};
use crate::clock;
use crate::log::LogError;
use crate::model::{Batch, BatchBuilder, Format, SeriesTable};
use crate::output::dead_letters::{self, Letter};
use crate::wire::{influx_line, remote_write, remote_write2, wavefront};
use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

/// Prints a line for each output that has letters.
pub(super) fn list(out: &mut dyn Write, dir: &Path) -> Result<(), LogError> {
    for (name, summary) in dead_letters::list(dir)? {
        let dead_letters::Summary { letters, samples, queued, unreadable } = summary;
        let mut text =
            format!("dead letters {name}: {letters} letters, {samples} samples, {queued} more queued for replay");
        if unreadable > 0 {
            let _ = write!(text, ", {unreadable} lines cannot be read");
        }
        print_to(out, &text);
    }
    Ok(())
}

/// Prints each letter with its samples behind it, one a line.
pub(super) fn show(out: &mut dyn Write, dir: &Path, output: &str) -> Done {
    known(dir, output)?;
    let mut sound = true;
    for letter in dead_letters::letters(dir, output) {
        let letter = match letter {
            Ok(letter) => letter,
            Err(error) => {
                sound = false;
                print_to(out, &format_args!("a letter that cannot be read: {error}"));
                continue;
            }
        };
        let Letter { time, status, words, samples, format, note, .. } = &letter;
        let note = note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
        let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        print_to(out, &format_args!("{time} {format}, {samples} samples{note}: {status} {}", words.escape_debug()));
        let table = SeriesTable::default();
        match samples_of(&letter, &table) {
            Some(batch) => print_samples(out, &batch, &table),
            None => print_to(out, &"  its samples cannot be read"),
        }
    }
    Ok(sound)
}

/// Queues all letters for the next start of the gateway.
pub(super) fn queue(out: &mut dyn Write, dir: &Path, output: &str) -> Done {
    known(dir, output)?;
    let samples = dead_letters::queue_replay(dir, output)?;
    print_to(out, &format_args!("{samples} samples will be sent to {output} when the gateway starts"));
    Ok(true)
}

fn known(dir: &Path, output: &str) -> Result<(), String> {
    let known = dead_letters::list(dir).map_err(|error| error.to_string())?;
    if known.contains_key(output) {
        return Ok(());
    }
    let names = known.into_keys().collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "none".to_owned() } else { names };
    Err(format!("no dead letters of {output:?}; there is {names}"))
}

/// The letter's samples. None if they cannot be read.
fn samples_of(letter: &Letter, table: &SeriesTable) -> Option<Batch> {
    let (format, (_, body)) = (letter.format()?, letter.body()?);
    let bytes = body.part(0, body.cuts.len());
    let mut builder = BatchBuilder::new(table, format, Vec::new());
    let now = clock::now();
    match format {
        Format::InfluxLine => {
            let options = influx_line::decode::Options { now, ..influx_line::decode::Options::default() };
            influx_line::decode::decode(&bytes, &options, &mut builder);
        }
        Format::Wavefront => {
            wavefront::decode::decode(&bytes, &wavefront::decode::Options::at(now), &mut builder);
        }
        Format::RemoteWrite => {
            let options = remote_write::decode::Options::default();
            remote_write::decode::decode(&bytes, &options, &mut builder).ok()?;
        }
        Format::RemoteWrite2 => {
            let options = remote_write2::decode::Options::default();
            remote_write2::decode::decode(&bytes, &options, &mut builder).ok()?;
        }
        Format::PrometheusText | Format::OpenMetrics => return None,
    }
    Some(builder.finish())
}
