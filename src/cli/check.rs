//! `sluicegate check`: every mistake of a file at once, or a line that says what the file would do.

use super::{complain, load, print_to};
use crate::config::Config;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn check(arguments: &Arguments) -> ExitCode {
    let config = match load(&arguments.config) {
        Ok(config) => config,
        Err(mistakes) => return complain(&mistakes),
    };
    let mut out = io::stdout().lock();
    print_to(&mut out, &format_args!("{}: {}", arguments.config.display(), summary(&config)));
    for note in &config.notes {
        print_to(&mut out, &format_args!("note: {note}"));
    }
    ExitCode::SUCCESS
}

fn summary(config: &Config) -> String {
    let outputs: Vec<_> =
        config.outputs.iter().map(|output| format!("{} ({})", output.name, output.destination.key())).collect();
    let number = match outputs.len() {
        0 => "no outputs".to_owned(),
        1 => format!("1 output: {}", outputs[0]),
        more => format!("{more} outputs: {}", outputs.join(", ")),
    };
    let meters = match config.micrometer.meters.own() {
        0 => String::new(),
        1 => ", 1 meter of Micrometer added".to_owned(),
        more => format!(", {more} meters of Micrometer added"),
    };
    format!("good, HTTP on {}, {number}{meters}", config.listen.http.0)
}
