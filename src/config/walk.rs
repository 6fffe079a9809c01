//! Walking the tree by key: every read either gives a value or records a mistake, and the walk goes on.
//!
//! A [`Section`] knows which keys were asked for; whatever else it holds is unknown. So the code that reads the keys is the
//! only list of them.

use super::document::{Entry, Node, Place, Value};
use super::expand::expand;
use super::mistakes::{Mistake, quoted};
use super::units;
use crate::wire::style;
use hyper::header::HeaderValue;
use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Keys longer than this are not compared with the known ones.
const SUGGESTED_KEY_MAX: usize = 64;
/// Bytes of a file that holds a secret.
const SECRET_FILE_MAX: usize = 64 << 10;
/// Items of a list: outputs, rules, labels.
const ITEMS_MAX: usize = 1000;

/// What all sections share: where values come from and where mistakes go.
pub(super) struct Context<'a> {
    /// Environment variables.
    pub(super) env: &'a dyn Fn(&str) -> Option<String>,
    /// The configuration file's folder.
    pub(super) folder: &'a Path,
    pub(super) mistakes: RefCell<Vec<Mistake>>,
    pub(super) notes: RefCell<Vec<String>>,
}

impl Context<'_> {
    fn mistake(&self, place: Place, key: &str, message: String) {
        self.mistakes.borrow_mut().push(Mistake::at(place, key, message));
    }
}

/// A mapping being read.
pub(super) struct Section<'a> {
    context: &'a Context<'a>,
    path: String,
    place: Place,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

impl<'a> Section<'a> {
    /// The file as a whole; `None` with a mistake when it is not a mapping.
    pub(super) fn root(context: &'a Context<'a>, node: Option<&'a Node>) -> Option<Self> {
        let key = Key { context, path: String::new(), place: Place { line: 1, column: 1 }, node };
        match key.given() {
            None => Some(key.section_of(&[])),
            Some(_) => key.section(),
        }
    }

    /// The key of that name, there or not.
    pub(super) fn key(&self, name: &'static str) -> Key<'a> {
        self.asked.borrow_mut().push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name);
        let place = entry.map_or(self.place, |entry| entry.place);
        Key { context: self.context, path: self.path_of(name), place, node: entry.map(|entry| &entry.node) }
    }

    /// Every key, for a mapping whose keys are names chosen by the user.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, Key<'a>)> {
        self.entries.iter().map(|entry| {
            let path = self.path_of(&entry.key);
            (entry.key.as_str(), Key { context: self.context, path, place: entry.place, node: Some(&entry.node) })
        })
    }

    /// Reports the keys nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.borrow();
        for entry in self.entries.iter().filter(|entry| !asked.contains(&entry.key.as_str())) {
            let path = self.path_of(&quoted_key(&entry.key));
            self.context.mistake(entry.place, &path, format!("unknown key, {}", suggestion(&entry.key, &asked)));
        }
    }

    /// A mistake of the section as a whole.
    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.context.mistake(self.place, &self.path, message.into());
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// A key of a section, or an item of a list, being read.
pub(super) struct Key<'a> {
    context: &'a Context<'a>,
    path: String,
    place: Place,
    node: Option<&'a Node>,
}

impl<'a> Key<'a> {
    /// Whether it has a value; `null` is none.
    pub(super) fn is_given(&self) -> bool {
        self.given().is_some()
    }

    /// A mistake of this key.
    pub(super) fn mistake(&self, message: impl Into<String>) {
        self.context.mistake(self.place, &self.path, message.into());
    }

    /// Something worth knowing that is no mistake.
    pub(super) fn note(&self, message: &str) {
        let note = format!("line {}: {}: {message}", self.place.line, self.path);
        self.context.notes.borrow_mut().push(note);
    }

    /// Records a mistake when there is no value.
    pub(super) fn required(self) -> Self {
        if !self.is_given() {
            self.mistake("missing");
        }
        self
    }

    /// The text, expanded.
    pub(super) fn text(&self) -> Option<String> {
        self.read("text", |text| Some(text.to_owned()))
    }

    /// The text, expanded and not empty.
    pub(super) fn filled_text(&self) -> Option<String> {
        self.read("text that is not empty", |text| (!text.is_empty()).then(|| text.to_owned()))
    }

    /// The text, expanded, not empty and fit for the value of a header.
    pub(super) fn header_value(&self) -> Option<String> {
        self.read("text that a header can carry, without control characters", |text| {
            (!text.is_empty() && HeaderValue::from_str(text).is_ok()).then(|| text.to_owned())
        })
    }

    /// What `parse` makes of the text.
    pub(super) fn read<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        self.try_read(|text| parse(text).ok_or_else(|| format!("expected {expected}")))
    }

    /// What `parse` makes of the text; its error says what was expected.
    pub(super) fn try_read<T>(&self, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let node = self.given()?;
        let written = match &node.value {
            Value::Text(text) => text,
            other => {
                let message = format!("expected one value, found {}", kind(other));
                self.context.mistake(node.place, &self.path, message);
                return None;
            }
        };
        let parsed = expand(written, self.context.env).and_then(|text| {
            // Only what the file says is quoted: a variable may hold a secret.
            let found = if text == *written { quoted(&text) } else { format!("what {} expands to", quoted(written)) };
            parse(&text).map_err(|expected| format!("{expected}, found {found}"))
        });
        parsed.map_err(|message| self.context.mistake(node.place, &self.path, message)).ok()
    }

    /// One of the spellings.
    pub(super) fn one_of<T: Copy>(&self, spellings: &[(&str, T)]) -> Option<T> {
        self.try_read(|text| style::one_of(spellings, text))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Option<bool> {
        self.read("true or false", |text| match text {
            "true" | "True" | "TRUE" => Some(true),
            "false" | "False" | "FALSE" => Some(false),
            _ => None,
        })
    }

    /// A whole number within the range.
    pub(super) fn number(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(&expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A size within the range.
    pub(super) fn size(&self, range: &RangeInclusive<u64>) -> Option<u64> {
        self.try_read(|text| {
            let size = units::size(text).ok_or_else(|| format!("expected {}", units::SIZE))?;
            if range.contains(&size) {
                return Ok(size);
            }
            Err(format!("expected a size from {} to {} bytes", range.start(), range.end()))
        })
    }

    /// A duration, not shorter than that.
    pub(super) fn duration(&self, min: Duration) -> Option<Duration> {
        self.try_read(|text| {
            let duration = units::duration(text).ok_or_else(|| format!("expected {}", units::DURATION))?;
            if duration >= min { Ok(duration) } else { Err(format!("expected a duration of at least {min:?}")) }
        })
    }

    /// The path of a file that can be read; relative ones start at the configuration file.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.try_read(|text| {
            let path = self.context.folder.join(text);
            match std::fs::File::open(&path).and_then(|file| file.metadata()) {
                Ok(metadata) if metadata.is_file() => Ok(path),
                Ok(_) => Err("expected a file".to_owned()),
                Err(error) => Err(format!("expected a file that can be read ({error})")),
            }
        })
    }

    /// What is in the file named, without white space at its ends.
    pub(super) fn file_contents(&self) -> Option<String> {
        let path = self.file()?;
        match super::read_bounded(&path, SECRET_FILE_MAX) {
            Ok(text) => Some(text.trim().to_owned()),
            Err(reason) => {
                self.mistake(reason);
                None
            }
        }
    }

    /// The mapping; a mistake for anything else.
    pub(super) fn section(&self) -> Option<Section<'a>> {
        let node = self.given()?;
        match &node.value {
            Value::Mapping(entries) => Some(self.section_of(entries)),
            other => {
                self.context.mistake(node.place, &self.path, format!("expected a mapping, found {}", kind(other)));
                None
            }
        }
    }

    fn section_of(&self, entries: &'a [Entry]) -> Section<'a> {
        let (context, path) = (self.context, self.path.clone());
        Section { context, path, place: self.place, entries, asked: RefCell::default() }
    }

    /// The items of a list; a mistake for anything else, none when there is no value.
    pub(super) fn items(&self) -> Vec<Key<'a>> {
        let Some(node) = self.given() else { return Vec::new() };
        let Value::List(items) = &node.value else {
            self.context.mistake(node.place, &self.path, format!("expected a list, found {}", kind(&node.value)));
            return Vec::new();
        };
        if items.len() > ITEMS_MAX {
            self.mistake(format!("expected at most {ITEMS_MAX} items, found {}", items.len()));
            return Vec::new();
        }
        let item = |(index, node): (usize, &'a Node)| {
            let path = format!("{}[{index}]", self.path);
            Key { context: self.context, path, place: start(node), node: Some(node) }
        };
        items.iter().enumerate().map(item).collect()
    }

    /// The texts of a list.
    pub(super) fn texts(&self) -> Vec<String> {
        self.items().into_iter().filter_map(|item| item.required().filled_text()).collect()
    }

    fn given(&self) -> Option<&'a Node> {
        self.node.filter(|node| !matches!(node.value, Value::Null))
    }
}

/// Where a value begins, for a reader: a mapping at its first key.
fn start(node: &Node) -> Place {
    match &node.value {
        Value::Mapping(entries) => entries.first().map_or(node.place, |entry| entry.place),
        _ => node.place,
    }
}

fn kind(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Text(text) => quoted(text),
        Value::List(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
    }
}

/// A key of the file, short enough for a path.
fn quoted_key(key: &str) -> String {
    if key.len() <= SUGGESTED_KEY_MAX && !key.contains(char::is_control) { key.to_owned() } else { quoted(key) }
}

fn suggestion(key: &str, known: &[&'static str]) -> String {
    let folded = key.to_ascii_lowercase().replace('-', "_");
    let near = known
        .iter()
        .filter(|_| key.len() <= SUGGESTED_KEY_MAX)
        .map(|name| (strsim::damerau_levenshtein(&folded, name), name))
        .filter(|(distance, name)| *distance <= name.len().div_ceil(3))
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((_, name)) => format!("did you mean {name}?"),
        None => format!("expected one of {}", known.join(", ")),
    }
}
