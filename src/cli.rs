//! The command line: one file a command.

mod bench;
mod check;
mod log;
mod run;
pub mod translate;

use crate::config::{Config, Mistakes};
use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A metrics gateway and format translator.
#[derive(Debug, Parser)]
#[command(name = "sluicegate", version, about, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the gateway; what happens without a command, too
    Run(RunArguments),
    /// Reports every mistake of a configuration file
    Check(check::Arguments),
    /// Translates standard input (or FILE) to standard output
    Translate(translate::Arguments),
    /// Generates loads, counts what arrives, compares gateways
    #[command(subcommand)]
    Bench(bench::Command),
    /// Looks into the log while the gateway is down
    #[command(subcommand)]
    Log(log::Command),
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// The configuration file; without one, listens on 127.0.0.1:8900 and sends nowhere
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(arguments) => match arguments.config.as_deref().map_or_else(|| Ok(Config::default()), load) {
            Ok(config) => run::run(config, arguments.config),
            Err(mistakes) => complain(&mistakes),
        },
        Command::Check(arguments) => check::check(&arguments),
        Command::Translate(arguments) => translate::translate(&arguments),
        Command::Bench(command) => bench::bench(command),
        Command::Log(command) => log::log(&command),
    }
}

fn load(path: &Path) -> Result<Config, Mistakes> {
    Config::load(path, &|name| std::env::var(name).ok())
}

/// Prints what went wrong.
fn complain(what: &dyn std::fmt::Display) -> ExitCode {
    print_to(&mut std::io::stderr().lock(), what);
    ExitCode::FAILURE
}

/// Prints a line. Nobody is left to be told when the reader is gone.
fn print_to(writer: &mut dyn std::io::Write, what: &dyn std::fmt::Display) {
    let _ = writeln!(writer, "{what}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn is_a_consistent_command_line() {
        Cli::command().debug_assert();
    }

    #[test]
    fn runs_without_a_command() {
        for arguments in [&["sluicegate", "--config", "x"][..], &["sluicegate", "run", "--config", "x"]] {
            let cli = Cli::try_parse_from(arguments).unwrap();
            let Command::Run(run) = cli.command.unwrap_or(Command::Run(cli.run)) else { panic!("{arguments:?}") };
            assert_eq!(run.config, Some(PathBuf::from("x")));
        }
        assert!(Cli::try_parse_from(["sluicegate"]).unwrap().run.config.is_none());
        assert!(Cli::try_parse_from(["sluicegate", "check"]).is_err());
    }
}
