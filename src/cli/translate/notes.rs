//! What standard error is told: refused lines as they happen, at the end every reason with its count and first places.
//!
//! ```text
//! cpu.lp:2:9: expected a number in range, found "1.2.3"
//!     m,a=b f=1.2.3
//!             ^
//! ```

use super::account::{Account, PLACES_MAX};
use super::decode::Decoded;
use crate::model::{Loss, Refusal};
use crate::wire::Refused;
use std::io::{self, Write};

/// Refused lines shown for each reason.
const SHOWN_MAX: usize = 5;
/// Columns where standard error is no terminal.
const WIDTH: usize = 100;
/// Columns of the table of a dry run.
const REASON_WIDTH: usize = 25;
const CELL_WIDTH: usize = 9;
/// In front of a quoted line.
const INDENT: &str = "    ";

/// Refusals so far.
pub(super) struct Refusals {
    samples: [u64; Refusal::COUNT],
    shown: [usize; Refusal::COUNT],
    width: usize,
}

impl Refusals {
    /// None yet.
    pub(super) fn new() -> Self {
        let width = console::Term::stderr().size_checked().map_or(WIDTH, |(_, columns)| usize::from(columns));
        Self { samples: [0; Refusal::COUNT], shown: [0; Refusal::COUNT], width: width.max(INDENT.len() + 20) }
    }

    /// Samples refused.
    pub(super) fn samples(&self) -> u64 {
        self.samples.iter().sum()
    }

    /// Counts what was refused in a chunk and shows the first of each reason.
    pub(super) fn add(&mut self, input: &Decoded, to: &mut impl Write) -> io::Result<()> {
        for (reason, samples) in input.report.reasons() {
            self.samples[reason as usize] += samples;
        }
        for refused in &input.report.first {
            let shown = &mut self.shown[refused.reason as usize];
            if *shown < SHOWN_MAX {
                *shown += 1;
                self.show(input, refused, to)?;
            }
        }
        Ok(())
    }

    fn show(&self, input: &Decoded, refused: &Refused, to: &mut impl Write) -> io::Result<()> {
        let Refused { line, column, message, .. } = refused;
        let place = input.place(*line);
        let Some(at) = column.checked_sub(1) else { return writeln!(to, "{place}: {message}") };
        writeln!(to, "{place}:{column}: {message}")?;
        let Some(line) = input.line(*line) else { return Ok(()) };
        let (line, caret) = window(&line, at, self.width - INDENT.len() - 1);
        writeln!(to, "{INDENT}{line}\n{INDENT}{:caret$}^", "")
    }

    /// What was refused, a line for each reason.
    pub(super) fn summarise(&self, to: &mut impl Write) -> io::Result<()> {
        for reason in Refusal::ALL.iter().filter(|reason| self.samples[**reason as usize] > 0) {
            let (samples, shown) = (self.samples[*reason as usize], self.shown[*reason as usize]);
            let shown = if shown == SHOWN_MAX { format!(" (the first {shown} shown)") } else { String::new() };
            writeln!(to, "refused {samples} samples: {}{shown}", reason.as_str())?;
        }
        Ok(())
    }
}

/// The part of a line around a byte that fits a width, and the caret's column in it. A control character is shown as a
/// space, so that the caret stands under its place.
fn window(line: &str, at: usize, width: usize) -> (String, usize) {
    const CUT: char = '…';
    let characters: Vec<char> = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let fault = line.char_indices().take_while(|(byte, _)| *byte < at).count();
    // Two thirds of what is shown stand in front of the fault.
    let from = if characters.len() <= width { 0 } else { fault.saturating_sub(width * 2 / 3) };
    let to = (from + width).min(characters.len());
    let mut shown = characters[from..to].to_vec();
    if from > 0 {
        shown[0] = CUT;
    }
    if to < characters.len()
        && let Some(last) = shown.last_mut()
    {
        *last = CUT;
    }
    let before: String = shown[..(fault - from).min(shown.len())].iter().collect();
    (shown.iter().collect(), console::measure_text_width(&before))
}

/// What was lost, a line for each reason, and the balance. Nothing where nothing was lost or refused.
pub(super) fn summarise(refusals: &Refusals, account: &Account, to: &mut impl Write) -> io::Result<()> {
    refusals.summarise(to)?;
    for (verb, losses) in [("dropped", &account.dropped), ("altered", &account.altered)] {
        for (loss, samples) in losses.iter() {
            writeln!(to, "{verb} {samples} samples: {}{}", loss.as_str(), places(account.places(loss), samples))?;
        }
    }
    let (read, dropped) = (account.taken, account.dropped.total());
    if refusals.samples() + dropped + account.altered.total() > 0 {
        let written = read - dropped;
        writeln!(to, "{read} samples read, {written} written, {dropped} dropped; {} refused", refusals.samples())?;
    }
    Ok(())
}

fn places(first: &[String], samples: u64) -> String {
    let more = if first.len() == PLACES_MAX && samples > PLACES_MAX as u64 { ", ..." } else { "" };
    if first.is_empty() { String::new() } else { format!(" ({}{more})", first.join(", ")) }
}

/// What each kind of output would lose, by reason, as a table.
pub(super) fn table(outputs: &[(&str, &Account)], to: &mut impl Write) -> io::Result<()> {
    let mut row = |head: &str, cell: &dyn Fn(&str, &Account) -> String| {
        write!(to, "{head:REASON_WIDTH$}")?;
        for (name, account) in outputs {
            let width = name.len().max(CELL_WIDTH) + 2;
            write!(to, "{:>width$}", cell(name, account))?;
        }
        writeln!(to)
    };
    row("", &|name, _| name.to_owned())?;
    row("written", &|_, account| shown(account.taken - account.dropped.total()))?;
    row("dropped", &|_, account| shown(account.dropped.total()))?;
    for loss in Loss::ALL.iter().filter(|loss| outputs.iter().any(|(_, account)| account.dropped.get(**loss) > 0)) {
        row(&format!("  {}", loss.as_str()), &|_, account| shown(account.dropped.get(*loss)))?;
    }
    row("altered", &|_, _| String::new())?;
    for loss in Loss::ALL.iter().filter(|loss| outputs.iter().any(|(_, account)| account.altered.get(**loss) > 0)) {
        row(&format!("  {}", loss.as_str()), &|_, account| shown(account.altered.get(*loss)))?;
    }
    Ok(())
}

fn shown(count: u64) -> String {
    if count == 0 { "-".to_owned() } else { count.to_string() }
}
