//! The keys of an HTTP client, as in Prometheus's `remote_write` block.

use super::address::{self, Credentials, Target};
use super::walk::{Key, Section};
use super::{Authorization, BasicAuth, HttpClient, Secret, Tls};
use hyper::header::{HeaderName, HeaderValue};
use std::time::Duration;

/// Headers that sluicegate sets itself, or that belong to the connection.
const RESERVED_HEADERS: [&str; 17] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "retry-attempt",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "www-authenticate",
    "x-prometheus-remote-write-version",
];

/// Headers of a destination.
const HEADERS_MAX: usize = 100;

/// The keys read here, for destinations that have no HTTP.
pub(super) const KEYS: [&str; 6] =
    ["basic_auth", "authorization", "headers", "tls_config", "remote_timeout", "proxy_url"];

/// Reads the client's keys. `credentials` are those of the URL.
pub(super) fn client(section: &Section<'_>, credentials: Option<Credentials>) -> HttpClient {
    let basic = section.key("basic_auth");
    let bearer = section.key("authorization");
    if basic.is_given() && bearer.is_given() {
        bearer.mistake("cannot be given together with basic_auth");
    }
    if credentials.is_some() && (basic.is_given() || bearer.is_given()) {
        section.key("url").mistake("has a user in it, which cannot go together with basic_auth or authorization");
    }
    let from_url =
        credentials.map(|(username, password)| BasicAuth { username, password: Secret(password.unwrap_or_default()) });
    HttpClient {
        basic_auth: basic.section().and_then(basic_auth).or(from_url),
        authorization: bearer.section().and_then(authorization),
        headers: section.key("headers").section().map(|headers| self::headers(&headers)).unwrap_or_default(),
        tls: section.key("tls_config").section().map(tls).unwrap_or_default(),
        timeout: section.key("remote_timeout").duration(Duration::from_millis(1)).unwrap_or(HttpClient::TIMEOUT),
        proxy_url: proxy(&section.key("proxy_url")),
    }
}

fn basic_auth(section: Section<'_>) -> Option<BasicAuth> {
    let username = one_of_two(&section, "username", "username_file", true);
    let password = one_of_two(&section, "password", "password_file", false);
    section.finish();
    Some(BasicAuth { username: username?, password: Secret(password.unwrap_or_default()) })
}

fn authorization(section: Section<'_>) -> Option<Authorization> {
    let kind = section.key("type");
    let spelling = "a scheme such as Bearer; Basic is what basic_auth is for";
    let is_scheme = |text: &str| HeaderName::from_bytes(text.as_bytes()).is_ok() && !text.eq_ignore_ascii_case("basic");
    let kind = kind.read(spelling, |text| is_scheme(text).then(|| text.to_owned()));
    let credentials = one_of_two(&section, "credentials", "credentials_file", true);
    if credentials.as_ref().is_some_and(|text| HeaderValue::from_str(text).is_err()) {
        section.mistake("the credentials hold a character that no header can");
    }
    section.finish();
    Some(Authorization { kind: kind.unwrap_or_else(|| "Bearer".to_owned()), credentials: Secret(credentials?) })
}

/// A value given itself or as the name of a file that holds it.
fn one_of_two(section: &Section<'_>, name: &'static str, file_name: &'static str, is_required: bool) -> Option<String> {
    let (inline, file) = (section.key(name), section.key(file_name));
    match (inline.is_given(), file.is_given()) {
        (true, true) => file.mistake(format!("cannot be given together with {name}")),
        (false, false) if is_required => section.mistake(format!("expected {name} or {file_name}")),
        _ => {}
    }
    if file.is_given() { file.file_contents() } else { inline.text() }
}

fn headers(section: &Section<'_>) -> Vec<(String, String)> {
    if section.all().count() > HEADERS_MAX {
        section.mistake(format!("expected at most {HEADERS_MAX} headers"));
        return Vec::new();
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, key) in section.all() {
        let lower = name.to_ascii_lowercase();
        if HeaderName::from_bytes(name.as_bytes()).is_err() {
            key.mistake("expected the name of a header");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            key.mistake("is set by sluicegate itself and cannot be given");
        } else if headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
            key.mistake("given twice, upper and lower case are the same");
        }
        let value = key.required().read("the value of a header, without control characters", |text| {
            HeaderValue::from_str(text).is_ok().then(|| text.to_owned())
        });
        headers.push((name.to_owned(), value.unwrap_or_default()));
    }
    headers
}

fn tls(section: Section<'_>) -> Tls {
    let (cert, key) = (section.key("cert_file"), section.key("key_file"));
    match (cert.is_given(), key.is_given()) {
        (true, false) => cert.mistake("needs key_file beside it"),
        (false, true) => key.mistake("needs cert_file beside it"),
        _ => {}
    }
    let server_name = section.key("server_name");
    if server_name.is_given() {
        server_name.note("has no effect yet: the name in the certificate must be the one in the URL");
    }
    let tls = Tls {
        ca_file: section.key("ca_file").file(),
        cert_file: cert.file(),
        key_file: key.file(),
        server_name: server_name.filled_text(),
        insecure_skip_verify: section.key("insecure_skip_verify").boolean().unwrap_or(false),
    };
    section.finish();
    tls
}

fn proxy(key: &Key<'_>) -> Option<String> {
    key.try_read(|text| {
        // A proxy's credentials stay in its URL: that is where clients look for them.
        address::target(text, &["http", "https"]).map(|Target { .. }| text.to_owned())
    })
}
