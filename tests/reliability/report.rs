//! What was inflicted and what it cost, one line a fault, for the table that `scripts/reliability` prints.

use crate::support::counting_sink::CountingSink;
use crate::support::load::Load;
use sluicegate::clock;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Whether the long version of the attacks was asked for.
pub(crate) fn long() -> bool {
    std::env::var("SLUICEGATE_LONG").as_deref() == Ok("1")
}

/// The first number, or the second in the long version.
pub(crate) fn scaled<T>(short: T, long_version: T) -> T {
    if long() { long_version } else { short }
}

/// Random moments. `SLUICEGATE_SEED` repeats those of a run that failed.
pub(crate) fn random(test: &str) -> fastrand::Rng {
    let seed =
        std::env::var("SLUICEGATE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: SLUICEGATE_SEED={seed}");
    fastrand::Rng::with_seed(seed)
}

/// A fault that is being inflicted.
pub(crate) struct Attack {
    test: &'static str,
    fault: String,
    since: Instant,
}

impl Attack {
    /// `test` is the name under which `cargo test --test reliability` runs it.
    pub(crate) fn begin(test: &'static str, fault: impl Into<String>) -> Self {
        Self { test, fault: fault.into(), since: clock::monotonic() }
    }

    /// It was inflicted so often; counts what it cost. Samples are lost when they were acknowledged and missing at any sink.
    pub(crate) fn end(self, inflicted: u64, load: &Load, sinks: &[&CountingSink]) {
        let lost = sinks.iter().map(|sink| load.missing(sink).len() as u64).sum();
        let duplicates = sinks.iter().map(|sink| sink.duplicates()).sum();
        self.end_with(inflicted, load.acknowledged(), lost, duplicates);
    }

    /// [`Attack::end`] with numbers counted otherwise.
    pub(crate) fn end_with(self, inflicted: u64, acknowledged: u64, lost: u64, duplicates: u64) {
        let Self { test, fault, since } = self;
        let seconds = (clock::monotonic() - since).as_secs_f64();
        let line = format!("{fault}\t{inflicted}\t{acknowledged}\t{lost}\t{duplicates}\t{seconds:.1}\t{test}\n");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-report");
        fs::create_dir_all(&folder).expect("the folder of reports");
        let file = fs::File::options().append(true).create(true).open(folder.join("reliability.tsv"));
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the report is writable");
        print!("{line}");
    }
}
