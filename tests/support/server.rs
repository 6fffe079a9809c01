//! Child programs under test: started on free loopback ports in a temporary folder, awaited by their own readiness
//! endpoint, ended by their process id.

use crate::support::http;
use sluicegate::clock;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// How long a server may take until it is ready, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a server may take to end after SIGTERM.
const END_WITHIN: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(50);
/// How much of a server's output is shown when its test fails.
const SHOWN_LINES: usize = 60;

/// Ports below those that the kernel hands to outgoing connections, so that a free one stays free.
const FIRST_PORT: u16 = 10_000;
const PORTS: u16 = 20_000;

/// Looks again and again until there is an answer; the last reason against it when the time is over.
pub(crate) fn eventually<T>(within: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let end = clock::monotonic() + within;
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(reason) => assert!(clock::monotonic() < end, "not within {within:?}: {reason}"),
        }
        thread::sleep(POLL);
    }
}

/// A loopback port that nothing listens on, by TCP or UDP, and that this process has not handed out before.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side begin at different places.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(PORTS)) as u16;
    for _ in 0..PORTS {
        let port = FIRST_PORT + start.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        if tcp.is_ok() && UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A running child; killed and its output shown (if the test failed) when it goes out of scope.
pub(crate) struct Server {
    name: &'static str,
    child: Child,
    output: PathBuf,
    port: u16,
    // Last, so that the folder outlives the process.
    dir: Option<TempDir>,
}

impl Server {
    /// Starts `command` (which listens on `port` and keeps its data in `dir`) and waits for `ready` to answer 2xx.
    pub(crate) fn start(name: &'static str, command: Command, port: u16, ready: &str, dir: TempDir) -> Self {
        let mut server = Self::launch(name, command, port, dir);
        server.await_ready(ready);
        server
    }

    /// Starts `command` and does not wait.
    pub(crate) fn launch(name: &'static str, mut command: Command, port: u16, dir: TempDir) -> Self {
        let output = dir.path().join("output.log");
        Self { name, child: Self::spawn(&mut command, &output), output, port, dir: Some(dir) }
    }

    fn spawn(command: &mut Command, output: &Path) -> Child {
        let file = File::options().append(true).create(true).open(output).expect("output file");
        let errors = file.try_clone().expect("second handle");
        let program = command.get_program().to_owned();
        command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()))
    }

    /// Waits until `path` answers 2xx.
    pub(crate) fn await_ready(&mut self, path: &str) {
        let url = self.url(path);
        eventually(READY_WITHIN, || {
            if let Some(status) = self.child.try_wait().expect("child state") {
                panic!("{} ended with {status} instead of getting ready", self.name);
            }
            match http::try_get(&url) {
                Ok(answer) if (200..300).contains(&answer.status) => Ok(()),
                Ok(answer) => Err(format!("{} answers {} at {path}: {}", self.name, answer.status, answer.text())),
                Err(error) => Err(format!("{} at {url}: {error}", self.name)),
            }
        });
    }

    /// The address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id, for /proc.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().expect("a server has its folder").path()
    }

    /// What it has written so far.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.output).unwrap_or_default()).into_owned()
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn ask_to_end(&self) {
        // The standard library can only kill; `kill` is in every base system.
        let sent = Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "SIGTERM reaches {}", self.name);
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        self.ask_to_end();
        eventually(END_WITHIN, || match self.child.try_wait().expect("child state") {
            Some(status) => Ok(status),
            None => Err(format!("{} still runs after SIGTERM", self.name)),
        })
    }

    /// Ends it at once, as a crash would.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Ends it at once and hands over its folder, to start another on the same data.
    pub(crate) fn crash(mut self) -> TempDir {
        self.kill();
        self.dir.take().expect("a server has its folder")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n");
            eprintln!("--- last output of {} (port {}):\n{shown}\n---", self.name, self.port);
        }
    }
}
