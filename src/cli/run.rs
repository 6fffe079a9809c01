//! `sluicegate run`: the gateway until SIGTERM or SIGINT; SIGHUP reloads.

use crate::config::Config;
use crate::gateway::Gateway;
use crate::telemetry::Status;
use crate::ui::{Pages, Reload};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Longest that a file operation may take to finish once everything else has ended.
const BLOCKING_DRAIN_MAX: Duration = Duration::from_secs(1);

/// Runs the gateway. Exit code 0 after a drain, 1 when it could not start.
pub(super) fn run(config: Config, config_file: Option<PathBuf>) -> ExitCode {
    start_logging();
    for note in &config.notes {
        tracing::warn!("{note}");
    }
    // Kept as read, for `/-/reload` to compare with; it was readable a moment ago.
    let config_file = config_file.and_then(|path| Some((path.clone(), std::fs::read_to_string(path).ok()?)));
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot start the runtime");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(async {
        let gateway = match Gateway::build(config, config_file).await {
            Ok(gateway) => gateway,
            Err(error) => {
                tracing::error!(%error, "cannot start");
                return ExitCode::FAILURE;
            }
        };
        let stop = CancellationToken::new();
        if let Err(error) = stop_on_signal(stop.clone()) {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
        if let Err(error) = reload_on_signal(gateway.pages()) {
            tracing::error!(%error, "cannot listen for signals");
            return ExitCode::FAILURE;
        }
        match gateway.http_address() {
            Ok(address) => tracing::info!("listening on http://{address}"),
            Err(error) => tracing::warn!(%error, "listening on an unknown address"),
        }
        report(&gateway.run(stop).await);
        ExitCode::SUCCESS
    });
    // The log is closed. What may block is not waited for: a lookup of a name can take minutes.
    runtime.shutdown_timeout(BLOCKING_DRAIN_MAX);
    code
}

/// Structured logs on standard error: `RUST_LOG` filters them, `SLUICEGATE_LOG_FORMAT=json` makes each line JSON.
fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    if std::env::var("SLUICEGATE_LOG_FORMAT").is_ok_and(|format| format == "json") {
        logs.json().init();
    } else {
        logs.with_ansi(std::io::stderr().is_terminal()).init();
    }
}

/// The first signal drains, the second ends at once.
fn stop_on_signal(stop: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for again in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if again {
                tracing::warn!("stopping at once; what is not delivered stays in the log");
                std::process::exit(1);
            }
            tracing::info!("stopping: no new samples, sending what is there");
            stop.cancel();
        }
    });
    Ok(())
}

/// SIGHUP is `/-/reload`, as in Prometheus; it must not end the gateway.
fn reload_on_signal(pages: Arc<Pages>) -> std::io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match pages.reload() {
                Reload::Mistaken(mistakes) => tracing::error!("SIGHUP: {mistakes}"),
                outcome @ Reload::NeedsRestart => tracing::warn!("SIGHUP: {outcome}"),
                outcome @ (Reload::NoFile | Reload::Unchanged) => tracing::info!("SIGHUP: {outcome}"),
            }
        }
    });
    Ok(())
}

/// The exit report: what became of every sample.
fn report(status: &Status) {
    for input in status.inputs.iter().filter(|input| input.accepted > 0 || !input.rejected.is_empty()) {
        tracing::info!(format = input.format, accepted = input.accepted, rejected = ?input.rejected, "exit report: input");
    }
    for output in &status.outputs {
        tracing::info!(
            output = output.name,
            delivered = output.delivered,
            dropped = ?output.dropped,
            pending = output.pending,
            "exit report: output"
        );
    }
    tracing::info!(accepted = status.ledger.accepted, balanced = status.ledger.balanced, "exit report: ledger");
}
