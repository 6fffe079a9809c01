//! YAML text to a tree of values that know their place in the file.
//!
//! * Scalars stay text: what a key means decides how its text is read, so `version: 1.10` is never a number by accident.
//! * The tree is bounded in depth ([`DEPTH_MAX`]) and in values ([`VALUES_MAX`]), copies made by aliases included; so
//!   alias bombs and deep nesting are refused before they cost anything, and walking the tree may recurse.
//! * A repeated key is a mistake, and the first value counts; the walk goes on to find further mistakes.
//!
//! One document, no merge keys (`<<`), no tags but `!!str`.

use super::mistakes::{Mistake, quoted};
use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Tag};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Levels of nesting a file may have.
const DEPTH_MAX: usize = 32;
/// Values a file may have, copies made by aliases included.
const VALUES_MAX: usize = 100_000;
/// Characters of a key that a path shows.
const KEY_SHOWN_MAX: usize = 64;

/// Line and column from 1; both 0 for the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl From<Marker> for Place {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// One key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// Values in the tree and its levels.
    fn size(&self) -> (usize, usize) {
        let add = |(values, levels): (usize, usize), child: &Node| {
            let (more, below) = child.size();
            (values + more, levels.max(below + 1))
        };
        match &self.value {
            Value::Null | Value::Text(_) => (1, 1),
            Value::List(items) => items.iter().fold((1, 1), add),
            Value::Mapping(entries) => entries.iter().map(|entry| &entry.node).fold((1, 1), add),
        }
    }
}

/// Reads the one document of a file; `None` for an empty file. Mistakes that leave a tree to walk are pushed to
/// `mistakes`, an error is one that leaves none.
pub(super) fn parse(text: &str, mistakes: &mut Vec<Mistake>) -> Result<Option<Node>, Mistake> {
    // A byte order mark would become part of the first key.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder { mistakes, stack: Vec::new(), anchors: HashMap::new(), values: 0, root: None };
    let mut parser = Parser::new_from_str(text);
    // Events are pulled one by one: the parser's own loader recurses once per level, before anything could refuse.
    while let Some(event) = parser.next_event() {
        let (event, span) =
            event.map_err(|error| Mistake::at((*error.marker()).into(), "", format!("not YAML: {}", error.info())))?;
        builder.take(event, span.start.into())?;
    }
    Ok(builder.root)
}

/// A list or mapping not yet ended.
struct Open {
    place: Place,
    anchor: usize,
    kind: OpenKind,
}

enum OpenKind {
    List(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: HashMap<String, Place>, key: Option<(String, Place)> },
}

struct Builder<'a> {
    mistakes: &'a mut Vec<Mistake>,
    stack: Vec<Open>,
    anchors: HashMap<usize, Node>,
    values: usize,
    root: Option<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Mistake> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(Mistake::at(place, "", "expected one YAML document, found a second".to_owned()))
            }
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::StreamEnd => {
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text_wanted = self.is_text_tag(tag.as_deref(), place);
                let value = scalar(text, style, text_wanted);
                self.count(1, place)?;
                self.add(Node { place, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), place);
                self.open(place, anchor, OpenKind::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.is_text_tag(tag.as_deref(), place);
                self.open(place, anchor, OpenKind::Mapping { entries: Vec::new(), seen: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, place),
        }
    }

    fn is_text_tag(&mut self, tag: Option<&Tag>, place: Place) -> bool {
        let Some(tag) = tag else { return false };
        if tag.is_yaml_core_schema() {
            return tag.suffix == "str";
        }
        self.mistakes.push(Mistake::at(
            place,
            "",
            format!("YAML tags are not supported, found {}", quoted(&tag.suffix)),
        ));
        false
    }

    fn count(&mut self, values: usize, place: Place) -> Result<(), Mistake> {
        self.values += values;
        if self.values > VALUES_MAX {
            return Err(Mistake::at(place, "", format!("more than {VALUES_MAX} values (aliases count as copies)")));
        }
        Ok(())
    }

    fn open(&mut self, place: Place, anchor: usize, kind: OpenKind) -> Result<(), Mistake> {
        if self.stack.len() >= DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.count(1, place)?;
        self.stack.push(Open { place, anchor, kind });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Mistake> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.kind {
            OpenKind::List(items) => Value::List(items),
            OpenKind::Mapping { entries, .. } => Value::Mapping(entries),
        };
        self.add(Node { place: open.place, value }, open.anchor)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Mistake> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Mistake::at(place, "", "an alias inside the value it names".to_owned()));
        };
        let (values, levels) = node.size();
        if self.stack.len() + levels > DEPTH_MAX {
            return Err(too_deep(place));
        }
        self.count(values, place)?;
        if let Some(node) = self.anchors.get(&anchor).cloned() {
            self.add(node, 0)?;
        }
        Ok(())
    }

    /// Puts a finished value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Mistake> {
        if anchor != 0 {
            self.count(node.size().0, node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        let Some(Open { kind, .. }) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match kind {
            OpenKind::List(items) => items.push(node),
            OpenKind::Mapping { key: key @ None, seen, .. } => {
                let (name, place) = self::key(node, self.mistakes);
                let first = seen.get(&name).copied();
                *key = Some((name, place));
                if let Some(first) = first {
                    let message = format!("given twice, first in line {}", first.line);
                    let path = self.path();
                    self.mistakes.push(Mistake::at(place, &path, message));
                }
            }
            OpenKind::Mapping { entries, seen, key } => {
                if let Some((name, place)) = key.take()
                    && !seen.contains_key(&name)
                {
                    seen.insert(name.clone(), place);
                    entries.push(Entry { key: name, place, node });
                }
            }
        }
        Ok(())
    }

    /// The path of the value being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match &open.kind {
                OpenKind::List(items) => {
                    let _ = write!(path, "[{}]", items.len());
                }
                OpenKind::Mapping { key: Some((name, _)), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.extend(name.chars().take(KEY_SHOWN_MAX));
                }
                OpenKind::Mapping { key: None, .. } => {}
            }
        }
        path
    }
}

fn key(node: Node, mistakes: &mut Vec<Mistake>) -> (String, Place) {
    match node.value {
        Value::Text(text) => (text, node.place),
        Value::Null => ("null".to_owned(), node.place),
        Value::List(_) | Value::Mapping(_) => {
            mistakes.push(Mistake::at(node.place, "", "expected a key, found a list or mapping".to_owned()));
            (String::new(), node.place)
        }
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, text_wanted: bool) -> Value {
    let plain = style == ScalarStyle::Plain && !text_wanted;
    if plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Text(text.into_owned())
}

fn too_deep(place: Place) -> Mistake {
    Mistake::at(place, "", format!("nested more than {DEPTH_MAX} levels deep"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Option<Node>, Mistake> {
        parse(text, &mut Vec::new())
    }

    #[test]
    fn knows_the_place_of_keys_and_values() {
        let Some(Node { value: Value::Mapping(entries), .. }) = parsed("a: 1\nb:\n  c:  x\n").unwrap() else {
            panic!()
        };
        assert_eq!(entries[1].place, Place { line: 2, column: 1 });
        let Value::Mapping(inner) = &entries[1].node.value else { panic!() };
        assert_eq!((inner[0].place, inner[0].node.place), (Place { line: 3, column: 3 }, Place { line: 3, column: 7 }));
    }

    #[test]
    fn keeps_scalars_as_written() {
        for (yaml, expected) in [("1.10", Some("1.10")), ("'~'", Some("~")), ("~", None), ("!!str null", Some("null"))]
        {
            let node = parsed(yaml).unwrap().unwrap();
            match (node.value, expected) {
                (Value::Text(text), Some(expected)) => assert_eq!(text, expected),
                (Value::Null, None) => {}
                other => panic!("{yaml}: {other:?}"),
            }
        }
    }

    #[test]
    fn reports_every_repeated_key() {
        let mut mistakes = Vec::new();
        parse("a: 1\na: 2\nb: [0, {c: 1, c: 2}]\n", &mut mistakes).unwrap();
        let found: Vec<_> = mistakes.iter().map(|mistake| (mistake.place.line, mistake.key.as_str())).collect();
        assert_eq!(found, [(2, "a"), (3, "b[1].c")]);
    }

    #[test]
    fn refuses_what_would_grow_without_bound() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..20 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            writeln!(bomb, "a{level}: &a{level} [{items}]").unwrap();
        }
        let mut tower = "a0: &a0 [x]\n".to_owned();
        for level in 1..100 {
            writeln!(tower, "a{level}: &a{level} [*a{}]", level - 1).unwrap();
        }
        for (text, expected) in [
            (bomb, "more than"),
            (tower, "nested"),
            ("[".repeat(DEPTH_MAX + 1), "nested"),
            ("[".repeat(100_000), "recursion limit"),
            ("- ".repeat(100_000), "nested"),
            ("? ".repeat(100_000), "nested"),
            (format!("[{}]", "1,".repeat(200_000)), "more than"),
            ("a: &a [*a]".to_owned(), "alias inside"),
            ("a: 1\n---\nb: 2\n".to_owned(), "second"),
            ("a: [1".to_owned(), "not YAML"),
        ] {
            let message = parsed(&text).unwrap_err().message;
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn takes_an_empty_file_as_nothing() {
        assert!(parsed("").unwrap().is_none());
        assert!(parsed("# only a comment\n").unwrap().is_none());
    }

    proptest! {
        #[test]
        fn never_panics(text in "[a-z0-9 :\\-\\[\\]{}&*!?|>'\"#,%@`\n\t~<.$\u{feff}é]{0,80}") {
            let _ = parsed(&text);
        }
    }
}
