//! Query strings and header values, as requests carry them.

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HeaderName};

/// The parameters of a query string or a form, in their order, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Those of `a=b&c=d`.
    pub(super) fn parse(query: &[u8]) -> Self {
        Self(form_urlencoded::parse(query).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The first value of that name, unless it is empty.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// Every value of that name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter says true; none when it says something else.
    pub(super) fn truth(&self, name: &str, default: bool) -> Option<bool> {
        match self.first(name) {
            None => Some(default),
            Some("true" | "1") => Some(true),
            Some("false" | "0") => Some(false),
            Some(_) => None,
        }
    }
}

/// A media type with its parameters: `application/x-protobuf; proto="a.B"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MediaType {
    /// Type and subtype in lower case, or empty when there is no such header.
    pub(super) essence: String,
    parameters: Vec<(String, String)>,
}

impl MediaType {
    /// The request's `Content-Type`.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self::parse(text_of(headers, &CONTENT_TYPE).unwrap_or_default())
    }

    fn parse(value: &str) -> Self {
        let mut parts = value.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let parameters = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').trim().to_owned()))
            .collect();
        Self { essence, parameters }
    }

    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A header's value, when it is text; one that is not reads as `?`, so that it matches nothing.
pub(super) fn text_of<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name).map(|value| value.to_str().unwrap_or("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_and_repeat() {
        let parameters = Parameters::parse(b"db=my+db&extra_label=a%3Db&extra_label=c=d&empty=&no_sync=true&odd=yes");
        assert_eq!(parameters.first("db"), Some("my db"));
        assert_eq!(parameters.all("extra_label").collect::<Vec<_>>(), ["a=b", "c=d"]);
        assert_eq!(parameters.first("empty"), None);
        assert_eq!(parameters.truth("no_sync", false), Some(true));
        assert_eq!(parameters.truth("absent", true), Some(true));
        assert_eq!(parameters.truth("odd", true), None);
    }

    #[test]
    fn media_types_are_read_with_spaces_quotes_and_case() {
        for value in ["Application/X-Protobuf;proto=a.B", "application/x-protobuf ; Proto = \"a.B\" ; x=y"] {
            let media = MediaType::parse(value);
            assert_eq!(media.essence, "application/x-protobuf");
            assert_eq!(media.parameter("proto"), Some("a.B"));
        }
        assert_eq!(MediaType::parse(""), MediaType::default());
    }
}
