//! Addresses: where to listen, where to send.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// User and password.
pub(super) type Credentials = (String, Option<String>);

/// A URL to send to, its credentials taken out of it.
pub(super) struct Target {
    pub(super) url: Url,
    /// What the URL's authority held.
    pub(super) credentials: Option<Credentials>,
}

/// Reads `ADDRESS:PORT`. `:PORT` is every IPv4 address and `localhost` 127.0.0.1; other names are not resolved, so that
/// what is listened on never depends on a resolver.
pub(super) fn listen(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let known = match host {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        _ => return text.parse().ok(),
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    port.parse().ok().filter(|_| digits).map(|port| SocketAddr::new(known, port))
}

/// Reads a URL with one of the schemes and a host.
pub(super) fn target(text: &str, schemes: &[&str]) -> Result<Target, String> {
    let expected = |reason: String| format!("expected a URL with {}:// ({reason})", schemes.join(":// or "));
    let mut url = Url::parse(text).map_err(|error| expected(error.to_string()))?;
    if !schemes.contains(&url.scheme()) {
        return Err(expected(format!("the scheme is {}", url.scheme())));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(expected("there is no host".to_owned()));
    }
    if url.port() == Some(0) {
        return Err(expected("the port is 0".to_owned()));
    }
    if url.fragment().is_some() {
        return Err(expected("a fragment is never sent".to_owned()));
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = match (url.username(), url.password()) {
        ("", None) => None,
        (user, password) => Some((decode(user), password.map(decode))),
    };
    let is_sendable = |text: &str| !text.contains(char::is_control);
    if credentials
        .as_ref()
        .is_some_and(|(user, password)| !is_sendable(user) || !password.as_deref().is_none_or(is_sendable))
    {
        return Err("expected user and password without control characters".to_owned());
    }
    // Neither can fail: the URL has a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok(Target { url, credentials })
}

/// Reads a base URL, to which paths are appended: no query, and its text without a slash at the end.
pub(super) fn base(text: &str, schemes: &[&str]) -> Result<(String, Target), String> {
    let target = target(text, schemes)?;
    if target.url.query().is_some() {
        return Err("expected a URL without a query".to_owned());
    }
    Ok((target.url.as_str().trim_end_matches('/').to_owned(), target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_listen_addresses() {
        for (text, expected) in [
            ("127.0.0.1:8900", "127.0.0.1:8900"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[::1]:8900", "[::1]:8900"),
            (":8900", "0.0.0.0:8900"),
            ("localhost:8900", "127.0.0.1:8900"),
        ] {
            assert_eq!(listen(text).map(|address| address.to_string()).as_deref(), Some(expected), "{text}");
        }
        for text in
            ["", "8900", "127.0.0.1", "host:80", ":", ":x", ":65536", "localhost:", ":+1", "::1:80000", "http://a:1"]
        {
            assert_eq!(listen(text), None, "{text}");
        }
    }

    #[test]
    fn reads_urls_and_takes_their_credentials_out() {
        let target = target("http://us%40er:pa%3Ass@h:9090/api?x=1", &["http"]).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(target.url.as_str(), "http://h:9090/api?x=1");
        assert_eq!(target.credentials, Some(("us@er".to_owned(), Some("pa:ss".to_owned()))));
    }

    #[test]
    fn refuses_what_is_no_url() {
        for (text, expected) in [
            ("", "relative URL"),
            ("host:9090", "scheme is host"),
            ("ftp://h/", "scheme is ftp"),
            ("http://", "empty host"),
            ("http://h:99999/", "port"),
            ("http://h:0/", "port is 0"),
            ("http://h/#x", "fragment"),
            ("/path", "relative URL"),
            ("http://a%0ab@h/", "without control characters"),
        ] {
            let message = target(text, &["http", "https"]).map(|_| ()).unwrap_err();
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
