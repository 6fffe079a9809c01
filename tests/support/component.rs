//! What a test needs besides the gateway: real servers and Python clients, and what happens where one is missing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python of the virtual environment that `scripts/test` makes.
pub(crate) fn python() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python")
}

/// Where `scripts/micrometer` builds the program of `tests/micrometer`.
pub(crate) fn micrometer() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/micrometer")
}

/// Whether everything named is installed. A missing one skips the calling test, said aloud and written where
/// `scripts/test` finds it; with `CI=true` it fails the test.
pub(crate) fn installed(test: &str, components: &[&str]) -> bool {
    let missing: Vec<&str> = components.iter().copied().filter(|component| !exists(component)).collect();
    if !missing.is_empty() {
        skipped(test, &missing.join(", "));
    }
    missing.is_empty()
}

/// Says that a test cannot run for want of something; fails it with `CI=true`.
pub(crate) fn skipped(test: &str, missing: &str) {
    let line = format!("{test}: needs {missing}\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "with CI=true nothing may be missing: {line}");
    // The test harness swallows what print! writes, and a skipped test must be seen.
    let _ = write!(std::io::stderr(), "skipped: {line}");
    if let Some(list) = std::env::var_os("SLUICEGATE_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(list);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the list of skipped tests is writable");
    }
}

fn exists(component: &str) -> bool {
    if component == "python" {
        return python().exists();
    }
    if component == "micrometer" {
        return micrometer().join("built").exists();
    }
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(component).is_file())
}

/// Runs one of `tests/clients/*.py` and returns what it printed.
pub(crate) fn client(script: &str, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(script);
    let mut command = Command::new(python());
    command.args(["-W", "ignore"]).arg(path).args(arguments).stdin(Stdio::null());
    let output = command.output().expect("python starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{script} failed ({}):\n{stdout}\n{stderr}", output.status);
    stdout.into_owned()
}

/// Runs the body of a test only where its components are installed.
macro_rules! needs {
    ($test:literal, $($component:literal),+) => {
        if !$crate::support::component::installed($test, &[$($component),+]) {
            return;
        }
    };
}
pub(crate) use needs;
