//! A strict, slow and independent reading of one Wavefront line, character by character, with the proxy's verdict.
//!
//! It shares nothing with the library: it judges what the library writes (the stand-in proxy of the end-to-end tests) and
//! what it reads (the twin of the decoder).

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::BTreeMap;

/// What a point may be, in UTF-16 code units.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// Longest metric name.
    pub(crate) name: usize,
    /// Longest source.
    pub(crate) source: usize,
    /// Most tags.
    pub(crate) tags: usize,
    /// Longest key.
    pub(crate) key: usize,
    /// Longest value.
    pub(crate) value: usize,
}

/// A proxy that its backend told nothing.
pub(crate) const PROXY: Rules = Rules { name: 1023, source: 1023, tags: 100, key: 253, value: 255 };
/// A proxy of the vendor's service.
pub(crate) const SAAS: Rules = Rules { name: 256, source: 128, tags: 20, key: 64, value: 255 };

/// An accepted line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// The name, marks included.
    pub(crate) name: String,
    /// The source.
    pub(crate) source: String,
    /// The tags.
    pub(crate) tags: BTreeMap<String, String>,
    /// The value of a point; NaN for a distribution.
    pub(crate) value: f64,
    /// Milliseconds, if the line told a time.
    pub(crate) timestamp_ms: Option<i64>,
    /// `M`, `H` or `D` of a distribution.
    pub(crate) bin: Option<char>,
    /// Counts and means of a distribution.
    pub(crate) centroids: Vec<(i32, f64)>,
}

#[derive(Clone, PartialEq)]
struct Token {
    text: String,
    quoted: bool,
}

fn tokens(line: &str) -> Result<Vec<Token>, &'static str> {
    let characters: Vec<char> = line.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let first = characters[at];
        if is_white(first) {
            at += 1;
        } else if first == '"' || first == '\'' {
            let mut text = String::new();
            at += 1;
            loop {
                match characters.get(at) {
                    None => return Err("WF-300"),
                    Some('\\') if characters.get(at + 1) == Some(&first) => {
                        text.push(first);
                        at += 2;
                    }
                    Some(c) if *c == first => break,
                    Some(c) => {
                        text.push(*c);
                        at += 1;
                    }
                }
            }
            at += 1;
            tokens.push(Token { text, quoted: true });
        } else {
            let mut text = String::from(first);
            at += 1;
            while first != '=' && first != '#' && at < characters.len() && !" \t=".contains(characters[at]) {
                text.push(characters[at]);
                at += 1;
            }
            tokens.push(Token { text, quoted: false });
        }
    }
    Ok(tokens)
}

fn is_white(c: char) -> bool {
    c.is_whitespace() && !"\u{a0}\u{2007}\u{202f}\u{85}".contains(c) || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn number(text: &str) -> Result<f64, &'static str> {
    let text = text.trim_matches(|c| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = if text.starts_with('-') { -1.0 } else { 1.0 };
    match unsigned {
        "NaN" => return Ok(f64::NAN),
        "Infinity" => return Ok(sign * f64::INFINITY),
        _ => {}
    }
    let digits = unsigned.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(unsigned);
    if digits.chars().all(|c| c.is_ascii_digit() || "eE+-.".contains(c)) && !digits.starts_with(['+', '-']) {
        return digits.parse::<f64>().map(|value| sign * value).map_err(|_| "WF-300");
    }
    Err("WF-300")
}

fn milliseconds(text: &str) -> Result<i64, &'static str> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds = if whole.chars().chain(fraction.chars()).all(|c| c.is_ascii_digit()) {
        let whole: i128 = whole.parse().map_err(|_| "WF-300")?;
        let fraction: i128 = format!("{fraction:0<9}")[..9].parse().map_err(|_| "WF-300")?;
        (whole * 1_000_000_000 + fraction) * unit(whole) / 1_000_000_000
    } else {
        let value = number(text)?;
        (value * unit(value as i128) as f64) as i128
    };
    i64::try_from(nanoseconds).map(|nanoseconds| nanoseconds / 1_000_000).map_err(|_| "WF-402")
}

fn unit(whole: i128) -> i128 {
    let units = [(1_000_000_000_000, 1_000_000_000), (10_000_000_000_000, 1_000_000), (10_000_000_000_000_000, 1_000)];
    units.iter().find(|(below, _)| whole < *below).map_or(1, |(_, unit)| *unit)
}

/// Reads one line as the proxy does. The error is the proxy's code.
pub(crate) fn read(line: &str, rules: &Rules, default_source: &str) -> Result<Line, &'static str> {
    let line = line.trim_matches(|c| c <= ' ');
    let is_distribution = ["!M ", "!H ", "!D "].iter().any(|bin| line.starts_with(bin));
    let mut tokens = tokens(line)?.into_iter().peekable();
    let mut bin = None;
    let mut name = tokens.next().ok_or("WF-300")?.text;
    let mut value = f64::NAN;
    if is_distribution {
        bin = name.chars().nth(1);
    } else {
        value = number(&tokens.next().ok_or("WF-300")?.text)?;
    }
    let time = tokens.next_if(|token| token.text.starts_with(|c: char| c.is_ascii_digit()));
    let timestamp_ms = time.map(|token| milliseconds(&token.text)).transpose()?;
    let mut centroids = Vec::new();
    if is_distribution {
        while tokens.next_if(|token| !token.quoted && token.text == "#").is_some() {
            let count = tokens.next().ok_or("WF-300")?.text.parse().map_err(|_| "WF-300")?;
            centroids.push((count, number(&tokens.next().ok_or("WF-300")?.text)?));
        }
        if centroids.is_empty() || centroids.len() > 100 {
            return Err("WF-300");
        }
        name = tokens.next().ok_or("WF-300")?.text;
    }
    if name.is_empty() {
        return Err("WF-300");
    }
    let mut tags = BTreeMap::new();
    while let Some(key) = tokens.next() {
        let equals = tokens.next().ok_or("WF-300")?;
        let value = tokens.next().ok_or("WF-300")?;
        if key.text.is_empty() || equals.quoted || equals.text != "=" {
            return Err("WF-300");
        }
        tags.insert(key.text, value.text);
    }
    let (source, host) = (tags.remove("source"), tags.remove("host"));
    if let Some(tag) = tags.remove("tag") {
        tags.insert("_tag".into(), tag);
    }
    if let (Some(_), Some(host)) = (&source, &host) {
        tags.insert("_host".into(), host.clone());
    }
    let source = source.or(host).or_else(|| tags.get("fqdn").cloned()).unwrap_or_else(|| default_source.into());
    let line = Line { name, source, tags, value, timestamp_ms, bin, centroids };
    judge(&line, rules)?;
    Ok(line)
}

fn judge(line: &Line, rules: &Rules) -> Result<(), &'static str> {
    let length = |text: &str| text.encode_utf16().count();
    let blank = |text: &str| text.chars().all(is_white);
    let tag = |key: &String, value: &String| -> Result<(), &'static str> {
        let checks = [
            (blank(value), "WF-414"),
            (!legal(key), "WF-401"),
            (length(key) + length(value) >= 255, "WF-411"),
            (length(key) > rules.key, "WF-412"),
            (length(value) > rules.value, "WF-413"),
        ];
        checks.iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, code)| Err(code))
    };
    let delta = line.name.starts_with(['\u{2206}', '\u{394}']);
    let checks = [
        (blank(&line.source), "WF-406"),
        (length(&line.source) > rules.source, "WF-407"),
        (length(&line.name) > rules.name, if line.bin.is_some() { "WF-409" } else { "WF-408" }),
        (!legal(&line.name), "WF-400"),
        (line.tags.len() > rules.tags, "WF-410"),
    ];
    if let Some((_, code)) = checks.iter().find(|(broken, _)| *broken) {
        return Err(code);
    }
    line.tags.iter().try_for_each(|(key, value)| tag(key, value))?;
    if delta && line.value <= 0.0 {
        return Err("WF-404");
    }
    if line.bin.is_some() && line.centroids.iter().all(|(count, _)| *count == 0) {
        return Err("WF-405");
    }
    Ok(())
}

fn legal(name: &str) -> bool {
    let mut rest: Vec<char> = name.chars().collect();
    if matches!(rest.first(), Some('\u{2206}' | '\u{394}')) {
        rest.remove(0);
    }
    let mark = rest.first() == Some(&'~');
    if mark {
        rest.remove(0);
    }
    (mark || !rest.is_empty()) && rest.iter().all(|c| c.is_ascii_alphanumeric() || ",-./_".contains(*c))
}
