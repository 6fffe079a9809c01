//! The decoder once more, slow and obvious: the judge of the fast one in property tests.

use super::is_control;

/// A line as text: measurement, tags sorted, fields in order with their values as `Value` prints them, timestamp.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Point {
    pub measurement: String,
    pub tags: Vec<(String, String)>,
    pub fields: Vec<(String, String)>,
    pub timestamp: Option<i64>,
}

/// All good lines of a body, and how many bad ones there are.
pub(super) fn parse(body: &[u8]) -> (Vec<Point>, usize) {
    let (mut points, mut bad) = (Vec::new(), 0);
    let mut input = Input { body, at: 0 };
    while input.at < body.len() {
        if let Some(point) = input.line() {
            points.extend(point);
        } else {
            bad += 1;
            while input.next().is_some_and(|byte| byte != b'\n') {}
        }
    }
    (points, bad)
}

struct Input<'b> {
    body: &'b [u8],
    at: usize,
}

impl Input<'_> {
    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        self.at += 1;
        self.body.get(self.at - 1).copied()
    }

    fn eat(&mut self, text: &[u8]) -> bool {
        let there = self.body.get(self.at..).is_some_and(|rest| rest.starts_with(text));
        self.at += if there { text.len() } else { 0 };
        there
    }

    fn spaces(&mut self) {
        while self.eat(b" ") {}
    }

    fn end_of_line(&mut self) -> bool {
        self.eat(b"\r\n")
            || self.eat(b"\n")
            || self.body.get(self.at..) == Some(b"\r") && self.eat(b"\r")
            || self.peek().is_none()
    }

    /// None: the line is bad. Some(None): it is empty or a comment.
    #[expect(clippy::option_option, reason = "three outcomes, one caller")]
    fn line(&mut self) -> Option<Option<Point>> {
        self.spaces();
        if self.end_of_line() {
            return Some(None);
        }
        if self.peek() == Some(b'#') {
            while self.peek().is_some_and(|byte| !is_control(byte)) {
                self.next();
            }
            return self.end_of_line().then_some(None);
        }
        let measurement = self.name(b", ")?;
        let mut tags = Vec::new();
        while self.eat(b",") {
            let key = self.name(b",= ")?;
            let value = self.eat(b"=").then(|| self.name(b",= "))??;
            tags.push((key, value));
        }
        tags.sort();
        if tags.windows(2).any(|pair| pair[0].0 == pair[1].0) || self.peek() != Some(b' ') {
            return None;
        }
        self.spaces();
        let mut fields = Vec::new();
        loop {
            let key = self.name(b",= ")?;
            let value = self.eat(b"=").then(|| self.value())??;
            fields.push((key, value));
            if !self.eat(b",") {
                break;
            }
        }
        if !matches!(self.peek(), None | Some(b' ' | b'\r' | b'\n')) {
            return None;
        }
        self.spaces();
        if self.end_of_line() {
            return Some(Some(Point { measurement, tags, fields, timestamp: None }));
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| byte == b'-' || byte.is_ascii_digit()) {
            self.next();
        }
        let timestamp = std::str::from_utf8(&self.body[start..self.at]).ok()?.parse().ok()?;
        self.spaces();
        self.end_of_line().then_some(Some(Point { measurement, tags, fields, timestamp: Some(timestamp) }))
    }

    /// A name up to a control character or one of `special`, which a backslash makes ordinary.
    fn name(&mut self, special: &[u8]) -> Option<String> {
        let mut name = Vec::new();
        while let Some(byte) = self.peek() {
            let escaped = self.body.get(self.at + 1).copied().filter(|next| byte == b'\\' && special.contains(next));
            if escaped.is_none() && (is_control(byte) || special.contains(&byte)) {
                break;
            }
            name.push(escaped.unwrap_or(byte));
            self.at += if escaped.is_some() { 2 } else { 1 };
        }
        String::from_utf8(name).ok().filter(|name| !name.is_empty())
    }

    fn value(&mut self) -> Option<String> {
        if self.eat(b"\"") {
            return self.string();
        }
        let start = self.at;
        while self.peek().is_some_and(|byte| !b", \r\n".contains(&byte)) {
            self.next();
        }
        let text = std::str::from_utf8(&self.body[start..self.at]).ok()?;
        match text {
            "t" | "T" | "true" | "True" | "TRUE" => return Some("Bool(true)".into()),
            "f" | "F" | "false" | "False" | "FALSE" => return Some("Bool(false)".into()),
            _ => {}
        }
        if text.starts_with('+') || !text.chars().all(|c| "0123456789.eE+-iu".contains(c)) {
            None
        } else if let Some(digits) = text.strip_suffix('i') {
            Some(format!("I64({})", digits.parse::<i64>().ok()?))
        } else if let Some(digits) = text.strip_suffix('u') {
            Some(format!("U64({})", digits.parse::<u64>().ok()?))
        } else {
            let first = text.chars().next().filter(|c| *c != 'e' && *c != 'E');
            let value = first.and_then(|_| text.parse::<f64>().ok()).filter(|value| value.is_finite())?;
            Some(format!("F64({value:?})"))
        }
    }

    fn string(&mut self) -> Option<String> {
        let mut string = Vec::new();
        loop {
            match self.next()? {
                b'"' => return Some(format!("Str({:?})", String::from_utf8(string).ok()?)),
                b'\\' => match self.peek() {
                    Some(byte @ (b'"' | b'\\')) => string.extend(self.next().map(|_| byte)),
                    Some(b'n') => string.extend(self.next().map(|_| b'\n')),
                    Some(b'r') => string.extend(self.next().map(|_| b'\r')),
                    Some(b't') => string.extend(self.next().map(|_| b'\t')),
                    _ => string.push(b'\\'),
                },
                byte => string.push(byte),
            }
        }
    }
}
