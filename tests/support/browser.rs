//! A headless Chromium, driven as the W3C WebDriver protocol says, through Debian's chromedriver.

use crate::support::http;
use crate::support::server::{Server, eventually, free_port};
use serde_json::{Value, json};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// How long the page may take to show what is looked for.
const WITHIN: Duration = Duration::from_secs(30);
/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser with one window.
pub(crate) struct Browser {
    driver: Server,
    session: String,
}

impl Browser {
    pub(crate) fn start() -> Self {
        let (port, dir) = (free_port(), TempDir::new().expect("temporary folder"));
        let profile = dir.path().join("profile").display().to_string();
        let mut command = Command::new("chromedriver");
        command.arg(format!("--port={port}")).env("HOME", dir.path());
        let driver = Server::start("chromedriver", command, port, "/status", dir);
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-proxy-server",
            "--window-size=1400,1000",
        ];
        let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
        arguments.push(format!("--user-data-dir={profile}"));
        let options = json!({ "args": arguments });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let mut browser = Self { driver, session: String::new() };
        let answer = browser.ask("POST", "", &wanted);
        browser.session = format!("/{}", answer["sessionId"].as_str().expect("a session"));
        browser
    }

    /// One command; what it answers.
    fn try_ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let url = self.driver.url(&format!("/session{}{path}", self.session));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = http::send(method, &url, &[("Content-Type", "application/json")], body.as_bytes());
        let value = answer.json()["value"].take();
        if answer.status == 200 { Ok(value) } else { Err(format!("{method} {path}: {value}")) }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        self.try_ask(method, path, body).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Goes to an address.
    pub(crate) fn open(&self, url: &str) {
        self.ask("POST", "/url", &json!({ "url": url }));
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.ask("GET", "/url", &Value::Null).as_str().expect("an address").to_owned()
    }

    /// What a function in the page returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.ask("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until the page has an element that is shown, by XPath, and clicks it as a person would.
    pub(crate) fn click(&self, xpath: &str) {
        let wanted = json!({ "using": "xpath", "value": xpath });
        eventually(WITHIN, || {
            let element = self.try_ask("POST", "/element", &wanted)?;
            let name = element[ELEMENT].as_str().ok_or("no element")?;
            self.try_ask("POST", &format!("/element/{name}/click"), &json!({})).map(drop)
        });
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; its driver goes with the server.
        let url = self.driver.url(&format!("/session{}", self.session));
        let _ = http::try_send("DELETE", &url, &[], b"");
    }
}
