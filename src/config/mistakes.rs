//! What is wrong with a configuration file: all of it, each with its place.

use super::document::Place;
use std::fmt;

/// Mistakes listed; further ones are only counted.
const LISTED_MAX: usize = 200;
/// Characters of a found text that a message quotes.
const QUOTED_MAX: usize = 80;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub(super) place: Place,
    pub(super) key: String,
    pub(super) message: String,
}

impl Mistake {
    pub(super) fn at(place: Place, key: &str, message: String) -> Self {
        Self { place, key: key.to_owned(), message }
    }

    /// A mistake of the file as a whole: it cannot be read.
    pub(super) fn of_file(message: String) -> Self {
        Self::at(Place::default(), "", message)
    }

    /// Line from 1; 0 when it is the file as a whole.
    pub fn line(&self) -> usize {
        self.place.line
    }

    /// Column from 1, in characters; 0 when it is the file as a whole.
    pub fn column(&self) -> usize {
        self.place.column
    }

    /// The path of the key (`outputs[1].influxdb.url`), empty where there is none.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What was expected and what was found.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// Every mistake of a file, by place. Displayed one a line as `FILE:LINE:COLUMN: key.path: message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: String,
    list: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: String, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(|mistake| mistake.place);
        Self { file, list }
    }

    /// The mistakes, by place.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, mistake) in self.list.iter().take(LISTED_MAX).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", self.file)?;
            if mistake.line() > 0 {
                write!(f, ":{}:{}", mistake.line(), mistake.column())?;
            }
            if !mistake.key.is_empty() {
                write!(f, ": {}", mistake.key)?;
            }
            write!(f, ": {}", mistake.message)?;
        }
        match self.list.len().saturating_sub(LISTED_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.file),
        }
    }
}

impl std::error::Error for Mistakes {}

/// Text of the file, short enough for a message and on one line.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        Some((cut, _)) => format!("{:?}...", &text[..cut]),
        None => format!("{text:?}"),
    }
}
